//! What a person should look at: patterns and critical failures, each told once and not each time.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::detector::check_time;
use super::{
    DetectedPattern, DetectionConfig, FailureSeverity, InvalidDetectionConfig, Now,
    SupervisionEvent,
};
use crate::agent::AgentId;
use crate::message::Subject;
use crate::time::{Instant, Timestamp};

/// When alerts are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertConfig {
    /// Whether there are alerts. Default: true.
    pub enabled: bool,
    /// What is less bad is no alert. Default: `Medium`.
    pub min_severity: FailureSeverity,
    /// How long the same thing is not told again, unless it gets worse, 1 s to 1 day.
    /// Default: 5 min.
    pub cooldown: Duration,
    /// What was not seen for so long is over, 1 s to 1 day: more than the detection's `repeat`, after
    /// which it is seen again if it lasts. Default: 3 min.
    pub resolve: Duration,
}

impl Default for AlertConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            min_severity: FailureSeverity::Medium,
            cooldown: Duration::from_secs(300),
            resolve: Duration::from_secs(180),
        }
    }
}

impl AlertConfig {
    /// Checks every value.
    pub fn validate(&self) -> Result<(), InvalidDetectionConfig> {
        check_time("alerts.cooldown", self.cooldown, &DetectionConfig::REPEAT_MS)?;
        check_time("alerts.resolve", self.resolve, &DetectionConfig::REPEAT_MS)
    }
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What it is about: a pattern (`failure_spike`), or `agent_failed.<agent_id>`,
    /// `escalation.<supervisor_id>`, or `more_alerts`. Alerts with the same key are about the same
    /// thing.
    pub key: String,
    /// Whether it is so, or no longer.
    pub state: AlertState,
    /// How bad it is, or was.
    pub severity: FailureSeverity,
    /// What it is, for people.
    pub message: String,
    /// Agents that it concerns, at most [`DetectedPattern::MAX_AGENTS`].
    pub agents: Vec<AgentId>,
    /// How often it was seen since it began.
    pub count: u64,
    /// How often it was seen since it was last told: what the cool-down kept back.
    pub suppressed: u64,
    /// Since when it is so.
    pub since: Timestamp,
    /// When this was told.
    pub timestamp: Timestamp,
}

/// Whether what an alert tells is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AlertState {
    /// It is so.
    Firing,
    /// It is no longer so. Only patterns end by themselves.
    Resolved,
}

impl Alert {
    /// The subject that it is published on.
    pub fn subject(&self) -> String {
        Subject::supervision_alert(self.severity)
    }

    /// Whether it says no more than one event that was told already, and which its key names.
    pub fn is_single_event(&self) -> bool {
        self.key.contains('.')
    }
}

/// What became of what was raised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertCounters {
    /// Alerts that were told, also those that say that it is over.
    pub told: u64,
    /// Raised again within the cool-down.
    pub suppressed: u64,
    /// Less bad than the least severity.
    pub below: u64,
    /// Raised while there were too many alerts, and told together as `more_alerts`.
    pub overflowed: u64,
    /// Told, and taken by nobody before there were too many.
    pub dropped: u64,
}

/// Tells what is new or worse, and keeps back what was told lately: what it is about in
/// ([`AlertManager::pattern`], [`AlertManager::event`]), alerts out ([`AlertManager::poll_alert`]).
///
/// Worst case: 257 alerts that are remembered, about 3 KB each with the longest ids, and as many
/// that wait to be taken.
#[derive(Debug)]
pub struct AlertManager {
    config: AlertConfig,
    active: Vec<Active>,
    waiting: VecDeque<Alert>,
    counters: AlertCounters,
}

#[derive(Debug)]
struct Active {
    alert: Alert,
    told: Instant,
    seen: Instant,
    /// Whether it is over once it is not seen any more; else it is only forgotten.
    ends: bool,
}

/// What is raised.
struct Raised<'a> {
    key: String,
    severity: FailureSeverity,
    message: String,
    agents: &'a [AgentId],
    ends: bool,
}

impl AlertManager {
    /// The most things that it remembers. What is raised beyond that is told as one more, whose key
    /// is `more_alerts`.
    pub const MAX_ACTIVE: usize = 256;
    const MORE: &'static str = "more_alerts";

    /// A manager that knows of nothing.
    pub fn new(config: AlertConfig) -> Self {
        let counters = AlertCounters::default();
        Self { config, active: Vec::new(), waiting: VecDeque::new(), counters }
    }

    /// A pattern was found.
    pub fn pattern(&mut self, now: Now, pattern: &DetectedPattern) {
        self.raise(
            now,
            Raised {
                key: pattern.pattern.as_subject_token().to_owned(),
                severity: pattern.severity,
                message: format!("{}: {pattern}", pattern.pattern),
                agents: &pattern.agents,
                ends: true,
            },
        );
    }

    /// An event of supervision: a critical failure or an escalation is an alert by itself.
    pub fn event(&mut self, now: Now, event: &SupervisionEvent) {
        let raised = match event {
            SupervisionEvent::Failure {
                agent_id,
                severity: FailureSeverity::Critical,
                context,
                ..
            } => Raised {
                key: format!("agent_failed.{agent_id}"),
                severity: FailureSeverity::Critical,
                message: format!("agent {agent_id} was given up: {context}"),
                agents: std::slice::from_ref(agent_id),
                ends: false,
            },
            SupervisionEvent::Escalation { supervisor_id, reason, affected_agents, .. } => Raised {
                key: format!("escalation.{supervisor_id}"),
                severity: FailureSeverity::Critical,
                message: format!("supervisor {supervisor_id} gave up: {reason}"),
                agents: affected_agents,
                ends: false,
            },
            _ => return,
        };
        self.raise(now, raised);
    }

    /// Looks at the clock: what was not seen for long enough is over.
    pub fn tick(&mut self, now: Now) {
        let mut at = 0;
        while let Some(active) = self.active.get(at) {
            if now.at < self.end_of(active) {
                at += 1;
                continue;
            }
            let Active { alert, ends, .. } = self.active.swap_remove(at);
            if ends {
                let timestamp = now.wall;
                self.tell(Alert { state: AlertState::Resolved, timestamp, ..alert });
            }
        }
    }

    /// When [`AlertManager::tick`] will have something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.active.iter().map(|active| self.end_of(active)).min()
    }

    /// An alert that has not been taken yet.
    pub fn poll_alert(&mut self) -> Option<Alert> {
        self.waiting.pop_front()
    }

    /// What became of what was raised.
    pub fn counters(&self) -> AlertCounters {
        self.counters
    }

    /// What does not end by itself is remembered for the cool-down alone.
    fn end_of(&self, active: &Active) -> Instant {
        active.seen + if active.ends { self.config.resolve } else { self.config.cooldown }
    }

    fn raise(&mut self, now: Now, raised: Raised<'_>) {
        if raised.severity < self.config.min_severity {
            self.counters.below += 1;
            return;
        }
        self.tick(now);
        let cooldown = self.config.cooldown;
        let Some(at) = self.active.iter().position(|active| active.alert.key == raised.key) else {
            return self.begin(now, raised);
        };
        let Some(active) = self.active.get_mut(at) else { return };
        active.seen = now.at;
        let alert = &mut active.alert;
        alert.count += 1;
        if raised.severity <= alert.severity && now.at - active.told < cooldown {
            alert.suppressed += 1;
            self.counters.suppressed += 1;
            return;
        }
        alert.severity = alert.severity.max(raised.severity);
        alert.message = raised.message;
        alert.agents = named(raised.agents);
        alert.timestamp = now.wall;
        let told = alert.clone();
        alert.suppressed = 0;
        active.told = now.at;
        self.tell(told);
    }

    fn begin(&mut self, now: Now, raised: Raised<'_>) {
        if self.active.len() >= Self::MAX_ACTIVE && raised.key != Self::MORE {
            self.counters.overflowed += 1;
            let more = self.counters.overflowed;
            let message = format!(
                "more than {} alerts at once; {more} so far are told only as this one",
                Self::MAX_ACTIVE
            );
            let key = Self::MORE.to_owned();
            return self.raise(now, Raised { key, message, ends: true, ..raised });
        }
        let alert = Alert {
            key: raised.key,
            state: AlertState::Firing,
            severity: raised.severity,
            message: raised.message,
            agents: named(raised.agents),
            count: 1,
            suppressed: 0,
            since: now.wall,
            timestamp: now.wall,
        };
        self.tell(alert.clone());
        self.active.push(Active { alert, told: now.at, seen: now.at, ends: raised.ends });
    }

    fn tell(&mut self, alert: Alert) {
        if self.waiting.len() > Self::MAX_ACTIVE {
            self.waiting.pop_front();
            self.counters.dropped += 1;
        }
        self.counters.told += 1;
        self.waiting.push_back(alert);
    }
}

fn named(agents: &[AgentId]) -> Vec<AgentId> {
    agents.iter().take(DetectedPattern::MAX_AGENTS).cloned().collect()
}

#[cfg(test)]
mod tests;
