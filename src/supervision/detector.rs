//! Finds patterns in events of supervision: what many failures have in common that none of them
//! says by itself. The rules, and how well they do, are in `docs/DETECTION.md`.
//!
//! ```text
//! SupervisionEvent ──▶ windows of failures ─┐
//!                      pace of each agent ──┴─▶ rule: count ≥ threshold + factor × usual
//!                                                     └──▶ DetectedPattern
//! ```

mod agents;
mod config;
mod window;

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{FailureSeverity, FailureType, HealthStatus, LifecycleEvent, Now, SupervisionEvent};
use crate::agent::AgentId;
use crate::message::Subject;
use crate::time::{Instant, Timestamp};
use agents::Agents;
use window::{Entry, Window, Windows, NOBODY};

pub use config::{DetectionConfig, InvalidDetectionConfig};

pub(crate) use config::check_time;

/// What can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Pattern {
    /// Many more deaths than usual.
    FailureSpike,
    /// An agent died, and others that depend on it fail after it.
    CascadingFailure,
    /// Several agents answer much later than they used to.
    PerformanceDegradation,
    /// Failures for want of a resource.
    ResourceExhaustion,
    /// Several agents cannot reach others.
    NetworkPartition,
}

impl Pattern {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FailureSpike,
        Self::CascadingFailure,
        Self::PerformanceDegradation,
        Self::ResourceExhaustion,
        Self::NetworkPartition,
    ];

    /// The pattern as a token of a subject: `failure_spike` and so on.
    pub const fn as_subject_token(self) -> &'static str {
        match self {
            Self::FailureSpike => "failure_spike",
            Self::CascadingFailure => "cascading_failure",
            Self::PerformanceDegradation => "performance_degradation",
            Self::ResourceExhaustion => "resource_exhaustion",
            Self::NetworkPartition => "network_partition",
        }
    }

    /// How bad it is, where it only just is one.
    const fn least_severity(self) -> FailureSeverity {
        match self {
            Self::PerformanceDegradation => FailureSeverity::Medium,
            _ => FailureSeverity::High,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_subject_token())
    }
}

/// A pattern that was found, with what speaks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectedPattern {
    /// Which one.
    pub pattern: Pattern,
    /// How bad it is: one more than the least of this pattern, if there is five times as much as
    /// it takes.
    pub severity: FailureSeverity,
    /// How sure it is, 0 to 1: what is not usual of the count, as a share, times
    /// `count / (count + threshold / 2)`; for slow agents, times `1 - slow_factor / (2 slowdown)`.
    pub confidence: f64,
    /// What there is of it in the window: failures, or agents.
    pub count: u32,
    /// So many are a pattern, where nothing is usual.
    pub threshold: u32,
    /// So many are usual in such a window: the average of the last hundred of them or so.
    pub usual: f64,
    /// How far back this looks. Slow agents are slow now.
    pub window_ms: u64,
    /// How many agents are concerned, as far as it is known.
    pub agent_count: u32,
    /// The first of them, at most [`DetectedPattern::MAX_AGENTS`].
    pub agents: Vec<AgentId>,
    /// How many times slower than usual the slow agents are on average, where that is the pattern.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<f64>,
    /// Since when the pattern has been seen without a pause of a window's length.
    pub since: Timestamp,
    /// When it was found.
    pub timestamp: Timestamp,
}

impl DetectedPattern {
    /// The most agents that are named.
    pub const MAX_AGENTS: usize = 16;

    /// The subject that it is published on.
    pub fn subject(&self) -> String {
        Subject::supervision_pattern(self.pattern.as_subject_token())
    }
}

impl fmt::Display for DetectedPattern {
    /// For people: what, how much, and whom it concerns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, count, agent_count, window_ms, .. } = self;
        match pattern {
            Pattern::FailureSpike => {
                write!(f, "{count} deaths of {agent_count} agents in {window_ms} ms")
            }
            Pattern::CascadingFailure => {
                write!(f, "{count} agents failed after another one in {window_ms} ms")
            }
            Pattern::PerformanceDegradation => {
                write!(f, "{count} agents answer later than usual")?;
                self.slowdown.map_or(Ok(()), |times| write!(f, ", by {times} times on average"))
            }
            Pattern::ResourceExhaustion => {
                write!(f, "{count} failures for want of a resource in {window_ms} ms")
            }
            Pattern::NetworkPartition => {
                write!(f, "{count} agents could not reach others in {window_ms} ms")
            }
        }?;
        if let Some(first) = self.agents.first() {
            let more = if self.agents.len() > 1 { ", …" } else { "" };
            write!(f, " ({first}{more})")?;
        }
        Ok(())
    }
}

/// What the detector could not keep, and what it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DetectorCounters {
    /// Agents that it remembers.
    pub agents: u64,
    /// Events of agents for which there was no room. Their failures count, but in no count of
    /// agents.
    pub untracked: u64,
    /// Failures that left a window early, since it was full.
    pub left_early: u64,
    /// Patterns that nobody took before there were too many.
    pub dropped: u64,
}

/// Finds patterns: events in ([`PatternDetector::handle`]), patterns out
/// ([`PatternDetector::poll_pattern`]). It needs no timer: what is found is found with an event.
///
/// An event takes O(log n) for n agents, amortised. Worst case: 16,384 agents in 5 MB, four windows
/// of 4,096 failures in 512 KB, 64 patterns that wait.
#[derive(Debug)]
pub struct PatternDetector {
    config: DetectionConfig,
    agents: Agents,
    deaths: Window,
    failures: Window,
    exhaustions: Window,
    partitions: Window,
    /// Before this nobody looks through a window for a cascade again.
    next_scan: Instant,
    episodes: [Option<Episode>; Pattern::ALL.len()],
    found: VecDeque<DetectedPattern>,
    dropped: u64,
}

/// A pattern that lasts.
#[derive(Clone, Copy, Debug)]
struct Episode {
    since: Timestamp,
    seen: Instant,
    told: Instant,
    severity: FailureSeverity,
}

/// What a rule has found.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    count: u32,
    threshold: u32,
    usual: f64,
    window: std::time::Duration,
    agent_count: u32,
}

impl PatternDetector {
    /// The most patterns that wait to be taken; of more the oldest are dropped, and counted. An
    /// event brings three at most.
    pub const MAX_WAITING: usize = 64;
    /// What makes a pattern worse than it is at least: so many times the threshold.
    const WORSE: u32 = 5;
    /// A window is looked through for a cascade at most so many times in its length.
    const SCANS: u32 = 20;

    /// A detector that has seen nothing. Values out of their range are for
    /// [`DetectionConfig::validate`] to refuse.
    pub fn new(config: DetectionConfig) -> Self {
        let DetectionConfig { window, long_window, .. } = config;
        Self {
            config,
            agents: Agents::default(),
            deaths: Window::new(Windows::Deaths, window, false),
            failures: Window::new(Windows::Failures, window, true),
            exhaustions: Window::new(Windows::Exhaustions, long_window, false),
            partitions: Window::new(Windows::Partitions, long_window, true),
            next_scan: Instant::START,
            episodes: [None; Pattern::ALL.len()],
            found: VecDeque::new(),
            dropped: 0,
        }
    }

    /// Takes an event that happened about now. Events come in the order of `now`.
    pub fn handle(&mut self, now: Now, event: &SupervisionEvent) {
        match event {
            SupervisionEvent::Failure { agent_id, failure_type, severity, .. } => {
                self.failed(now, agent_id, *failure_type, *severity);
            }
            SupervisionEvent::Health { agent_id, status, metrics, .. } => {
                self.health(now, agent_id, status, metrics.response_time_ms);
            }
            SupervisionEvent::Escalation { affected_agents, .. } => {
                self.escalated(now, affected_agents);
            }
            SupervisionEvent::SupervisorLifecycle { event_type, affected_agents, .. } => {
                if *event_type == LifecycleEvent::ChildStopped {
                    affected_agents.iter().for_each(|id| self.agents.forget(id));
                }
            }
            SupervisionEvent::Recovery { .. } => {}
        }
    }

    /// A pattern that was found and has not been taken yet.
    pub fn poll_pattern(&mut self) -> Option<DetectedPattern> {
        self.found.pop_front()
    }

    /// Remembers an agent of which nothing has been told yet. False if there is no room.
    pub fn register(&mut self, now: Instant, agent_id: &AgentId) -> bool {
        self.agents.slot(now, agent_id).is_some()
    }

    /// What it keeps and could not keep.
    pub fn counters(&self) -> DetectorCounters {
        let windows = [&self.deaths, &self.failures, &self.exhaustions, &self.partitions];
        DetectorCounters {
            agents: self.agents.len() as u64,
            untracked: self.agents.untracked,
            left_early: windows.iter().map(|window| window.left_early).sum(),
            dropped: self.dropped,
        }
    }

    fn failed(
        &mut self,
        now: Now,
        id: &AgentId,
        failure_type: FailureType,
        severity: FailureSeverity,
    ) {
        use FailureType::{
            DependencyFailure, MemoryLeak, NetworkPartition, ResourceExhaustion, TimeoutFailure,
        };
        let slot = self.agents.slot(now.at, id).unwrap_or(NOBODY);
        let entry = Entry {
            at: now.at,
            slot,
            is_death: severity >= FailureSeverity::High,
            is_dependent: matches!(failure_type, DependencyFailure | TimeoutFailure),
        };
        self.failures.push(&mut self.agents, entry);
        if entry.is_death {
            self.agents.change_pace(slot, |pace| pace.ended());
            self.deaths.push(&mut self.agents, entry);
            self.look_for_spike(now);
        }
        self.look_for_cascade(now);
        match failure_type {
            ResourceExhaustion | MemoryLeak => {
                self.exhaustions.push(&mut self.agents, entry);
                self.look_for_exhaustion(now);
            }
            NetworkPartition => {
                self.partitions.push(&mut self.agents, entry);
                self.look_for_partition(now);
            }
            _ => {}
        }
    }

    /// A supervisor gave up: that is a death, and its agents went down with it.
    fn escalated(&mut self, now: Now, affected: &[AgentId]) {
        let root = Entry { at: now.at, slot: NOBODY, is_death: true, is_dependent: false };
        self.failures.push(&mut self.agents, root);
        for id in affected.iter().take(Window::MAX - 1) {
            let slot = self.agents.slot(now.at, id).unwrap_or(NOBODY);
            let entry = Entry { slot, is_death: false, is_dependent: true, ..root };
            self.failures.push(&mut self.agents, entry);
        }
        self.look_for_cascade(now);
    }

    fn health(&mut self, now: Now, id: &AgentId, status: &HealthStatus, took_ms: Option<f64>) {
        let Some(slot) = self.agents.slot(now.at, id) else { return };
        let DetectionConfig { slow_factor, slow_min, slow_samples, .. } = self.config;
        let (factor, min_ms) = (slow_factor as f32, slow_min.as_secs_f32() * 1e3);
        self.agents.change_pace(slot, |pace| match (status, took_ms) {
            (HealthStatus::Healthy, Some(ms)) if ms.is_finite() && ms >= 0.0 => {
                pace.answered(ms as f32, slow_samples, factor, min_ms);
            }
            (HealthStatus::Healthy, _) => {}
            (HealthStatus::Degraded { .. }, _) => pace.late(),
            (HealthStatus::Unhealthy { .. } | HealthStatus::Unresponsive { .. }, _) => pace.ended(),
        });
        self.look_for_degradation(now);
    }

    fn look_for_spike(&mut self, now: Now) {
        let threshold = self.config.spike_failures;
        let evidence = of_window(&self.deaths, threshold);
        if self.is_unusual(evidence) {
            self.seen(now, Pattern::FailureSpike, evidence, None);
        }
    }

    fn look_for_exhaustion(&mut self, now: Now) {
        let evidence = of_window(&self.exhaustions, self.config.exhaustion_failures);
        if self.is_unusual(evidence) {
            self.seen(now, Pattern::ResourceExhaustion, evidence, None);
        }
    }

    fn look_for_partition(&mut self, now: Now) {
        let evidence = of_window(&self.partitions, self.config.partition_agents);
        if self.is_unusual(evidence) {
            self.seen(now, Pattern::NetworkPartition, evidence, None);
        }
    }

    fn look_for_degradation(&mut self, now: Now) {
        let slow = self.agents.slow;
        if slow < self.config.slow_agents {
            return;
        }
        let evidence = Evidence {
            count: slow,
            threshold: self.config.slow_agents,
            usual: 0.0,
            window: self.config.long_window,
            agent_count: slow,
        };
        self.seen(now, Pattern::PerformanceDegradation, evidence, None);
    }

    /// What the counts say comes first, since a scan looks at the whole window.
    fn look_for_cascade(&mut self, now: Now) {
        let least = self.config.cascade_agents;
        let window = &self.failures;
        let can_be = window.agents() >= least
            && window.deaths() > 0
            && window.dependent() * 2 >= least
            && now.at >= self.next_scan;
        if !can_be {
            return;
        }
        self.next_scan = now.at + window.length() / Self::SCANS;
        let (root, followers, dependent, named) = self.followers();
        let evidence = Evidence {
            count: followers,
            threshold: least,
            usual: self.failures.usual(),
            window: self.failures.length(),
            agent_count: followers + u32::from(root != NOBODY),
        };
        if dependent * 2 >= followers && self.is_unusual(evidence) {
            self.seen(now, Pattern::CascadingFailure, evidence, Some(named));
        }
    }

    /// Who died first in the window; how many others failed after that and not before, how many of
    /// those in a way that others can cause; and their names.
    fn followers(&mut self) -> (u32, u32, u32, Vec<AgentId>) {
        let (mut root, mut named) = (None, Vec::new());
        let (mut followers, mut dependent) = (0, 0);
        self.agents.begin_scan();
        for entry in self.failures.entries() {
            let is_root = root.is_none() && entry.is_death;
            if is_root {
                root = Some(entry.slot);
            }
            let Some(id) = self.agents.first_time(entry.slot) else { continue };
            if root.is_some() && named.len() < DetectedPattern::MAX_AGENTS {
                named.push(id.clone());
            }
            if root.is_some() && !is_root {
                followers += 1;
                dependent += u32::from(entry.is_dependent);
            }
        }
        (root.unwrap_or(NOBODY), followers, dependent, named)
    }

    fn is_unusual(&self, evidence: Evidence) -> bool {
        let unusual = f64::from(evidence.threshold) + self.config.baseline_factor * evidence.usual;
        f64::from(evidence.count) >= unusual
    }

    /// A rule holds: tells of it when that begins, when it gets worse, and from time to time.
    fn seen(
        &mut self,
        now: Now,
        pattern: Pattern,
        evidence: Evidence,
        named: Option<Vec<AgentId>>,
    ) {
        let least = pattern.least_severity();
        let is_worse = evidence.count >= evidence.threshold.saturating_mul(Self::WORSE);
        let severity = match least {
            FailureSeverity::Medium if is_worse => FailureSeverity::High,
            _ if is_worse => FailureSeverity::Critical,
            least => least,
        };
        let repeat = self.config.repeat;
        // Slow agents are seen with each report, and those come every 30 s.
        let pause = evidence.window.max(self.config.long_window.min(repeat));
        let episode = &mut self.episodes[pattern as usize];
        let lasting = episode.as_mut().filter(|episode| now.at - episode.seen <= pause);
        let since = match lasting {
            Some(episode) => {
                episode.seen = now.at;
                if severity <= episode.severity && now.at - episode.told < repeat {
                    return;
                }
                episode.told = now.at;
                episode.severity = episode.severity.max(severity);
                episode.since
            }
            None => {
                let since = now.wall;
                *episode = Some(Episode { since, seen: now.at, told: now.at, severity });
                since
            }
        };
        self.tell(now, pattern, severity, evidence, named, since);
    }

    fn tell(
        &mut self,
        now: Now,
        pattern: Pattern,
        severity: FailureSeverity,
        evidence: Evidence,
        named: Option<Vec<AgentId>>,
        since: Timestamp,
    ) {
        let Evidence { count, threshold, usual, window, agent_count } = evidence;
        let mut confidence = confidence(count, usual, threshold);
        let (agents, slowdown) = match (pattern, named) {
            (_, Some(named)) => (named, None),
            (Pattern::PerformanceDegradation, None) => {
                let (agents, slowdown) = self.agents.slow_ones(DetectedPattern::MAX_AGENTS);
                // Where all that is known is that they missed a check, that is half of it.
                let times = slowdown.unwrap_or(self.config.slow_factor).max(1.0);
                confidence *= (1.0 - self.config.slow_factor / (2.0 * times)).clamp(0.0, 1.0);
                (agents, slowdown.map(round))
            }
            _ => (self.latest_agents(pattern), None),
        };
        if self.found.len() >= Self::MAX_WAITING {
            self.found.pop_front();
            self.dropped += 1;
        }
        self.found.push_back(DetectedPattern {
            pattern,
            severity,
            confidence: round(confidence),
            count,
            threshold,
            usual: round(usual),
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            agent_count,
            agents,
            slowdown,
            since,
            timestamp: now.wall,
        });
    }

    /// The agents in a pattern's window, those that failed last first.
    fn latest_agents(&mut self, pattern: Pattern) -> Vec<AgentId> {
        let window = match pattern {
            Pattern::ResourceExhaustion => &self.exhaustions,
            Pattern::NetworkPartition => &self.partitions,
            _ => &self.deaths,
        };
        let mut latest = Vec::new();
        self.agents.begin_scan();
        for entry in window.entries().rev() {
            if let Some(id) = self.agents.first_time(entry.slot) {
                latest.push(id.clone());
                if latest.len() == DetectedPattern::MAX_AGENTS {
                    break;
                }
            }
        }
        latest
    }
}

fn of_window(window: &Window, threshold: u32) -> Evidence {
    Evidence {
        count: window.count(),
        threshold,
        usual: window.usual(),
        window: window.length(),
        agent_count: window.agents(),
    }
}

/// The share of the count that is not usual, times how far it is beyond half of what it takes.
fn confidence(count: u32, usual: f64, threshold: u32) -> f64 {
    let (count, threshold) = (f64::from(count.max(1)), f64::from(threshold));
    let unusual = (1.0 - usual / count).clamp(0.0, 1.0);
    unusual * count / (count + threshold / 2.0)
}

/// To three digits: more would look like more than is known.
fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
