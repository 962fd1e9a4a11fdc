//! Where events of supervision go to be understood: the detector, the alerts, and handlers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Alert, AlertConfig, AlertManager, DetectedPattern, DetectionConfig, FailureContext,
    FailureSeverity, FailureType, HealthMetrics, HealthStatus, Now, PatternDetector,
    SupervisionEvent,
};
use crate::agent::AgentId;
use crate::message::{AgentStatus, SubjectPattern};
use crate::time::Instant;

/// What was found in events of supervision. Externally tagged on the wire, as those are:
/// `{"DetectedPattern":{…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SupervisionFinding {
    /// On `supervision.patterns.<pattern>`.
    DetectedPattern(DetectedPattern),
    /// On `supervision.alerts.<severity>`.
    Alert(Alert),
}

impl SupervisionFinding {
    /// The subject that it is published on.
    pub fn subject(&self) -> String {
        match self {
            Self::DetectedPattern(pattern) => pattern.subject(),
            Self::Alert(alert) => alert.subject(),
        }
    }

    /// How bad it is. It is the `severity` of the envelope.
    pub fn severity(&self) -> FailureSeverity {
        match self {
            Self::DetectedPattern(pattern) => pattern.severity,
            Self::Alert(alert) => alert.severity,
        }
    }
}

/// Is told of events on the subjects that it was registered for.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use rust_wasm_lunatic_nats::message::SubjectPattern;
/// use rust_wasm_lunatic_nats::supervision::{
///     SupervisionEvent, SupervisionEventHandler, SupervisionEventProcessor,
/// };
///
/// #[derive(Default)]
/// struct Recoveries(u64);
///
/// impl SupervisionEventHandler for Recoveries {
///     fn handle(&mut self, _subject: &str, _event: &SupervisionEvent) {
///         self.0 += 1;
///     }
/// }
///
/// let mut processor = SupervisionEventProcessor::default();
/// // Who wants to look at the handler later keeps a share of it.
/// let recoveries = Arc::new(Mutex::new(Recoveries::default()));
/// let pattern = SubjectPattern::parse("supervision.recovery.*")?;
/// processor.register_handler(pattern, Box::new(Arc::clone(&recoveries)))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait SupervisionEventHandler {
    /// An event came on `subject`.
    fn handle(&mut self, subject: &str, event: &SupervisionEvent);
}

impl<H: SupervisionEventHandler> SupervisionEventHandler for Arc<Mutex<H>> {
    fn handle(&mut self, subject: &str, event: &SupervisionEvent) {
        self.lock().unwrap_or_else(PoisonError::into_inner).handle(subject, event);
    }
}

/// Logs failures that are critical, and keeps the last of them. It is meant for
/// [`CriticalFailureHandler::SUBJECT`], and does nothing with what is less bad.
#[derive(Debug, Default)]
pub struct CriticalFailureHandler {
    last: VecDeque<SupervisionEvent>,
    count: u64,
}

impl CriticalFailureHandler {
    /// What it is registered for.
    pub const SUBJECT: &'static str = "supervision.failures.critical";
    /// The most failures that it keeps; older ones are only counted.
    pub const MAX_KEPT: usize = 100;

    /// The last critical failures, the oldest first.
    pub fn last(&self) -> impl Iterator<Item = &SupervisionEvent> {
        self.last.iter()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl SupervisionEventHandler for CriticalFailureHandler {
    fn handle(&mut self, _subject: &str, event: &SupervisionEvent) {
        let SupervisionEvent::Failure {
            agent_id,
            incarnation,
            severity: FailureSeverity::Critical,
            context,
            ..
        } = event
        else {
            return;
        };
        log::error!(agent = agent_id.as_str(), incarnation = *incarnation; "given up: {context}");
        self.count += 1;
        if self.last.len() == Self::MAX_KEPT {
            self.last.pop_front();
        }
        self.last.push_back(event.clone());
    }
}

/// Why a handler was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "there are {} handlers already, which is the limit",
    SupervisionEventProcessor::MAX_HANDLERS
)]
pub struct TooManyHandlers;

/// Feeds events of supervision to a [`PatternDetector`], an [`AlertManager`] and to handlers.
///
/// Events go in with [`handle`](Self::handle), what was found comes out with
/// [`poll_finding`](Self::poll_finding), until there is nothing; then [`tick`](Self::tick) is due at
/// [`next_deadline`](Self::next_deadline). A node does so with its own events; whoever watches
/// several nodes on `supervision.>` can do so with theirs.
///
/// Worst case: what the detector and the alerts keep, 64 handlers, and 8 KB to know events again.
#[derive(Default)]
pub struct SupervisionEventProcessor {
    detector: Option<PatternDetector>,
    alerts: Option<AlertManager>,
    handlers: Vec<(SubjectPattern, Box<dyn SupervisionEventHandler + Send>)>,
    findings: VecDeque<SupervisionFinding>,
    /// Fingerprints of the last events, a ring.
    processed: Vec<u64>,
    next: usize,
}

impl fmt::Debug for SupervisionEventProcessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisionEventProcessor")
            .field("detector", &self.detector)
            .field("alerts", &self.alerts)
            .field("handlers", &self.handlers.len())
            .finish_non_exhaustive()
    }
}

impl SupervisionEventProcessor {
    /// The most handlers.
    pub const MAX_HANDLERS: usize = 64;
    /// The last so many events are known again.
    pub const MAX_PROCESSED: usize = 1024;

    /// A processor without handlers. What is not enabled in a config is left out; one without either
    /// is [`SupervisionEventProcessor::default`].
    pub fn new(detection: DetectionConfig, alerts: AlertConfig) -> Self {
        Self {
            detector: detection.enabled.then(|| PatternDetector::new(detection)),
            alerts: alerts.enabled.then(|| AlertManager::new(alerts)),
            ..Self::default()
        }
    }

    /// From now on `handler` is told of each event on a subject that `pattern` matches.
    pub fn register_handler(
        &mut self,
        pattern: SubjectPattern,
        handler: Box<dyn SupervisionEventHandler + Send>,
    ) -> Result<(), TooManyHandlers> {
        if self.handlers.len() >= Self::MAX_HANDLERS {
            return Err(TooManyHandlers);
        }
        self.handlers.push((pattern, handler));
        Ok(())
    }

    /// Whether anybody here wants to know of an event on this subject: who has it as bytes need not
    /// read it otherwise.
    pub fn wants(&self, subject: &str) -> bool {
        let kind = subject.strip_prefix("supervision.").unwrap_or_default();
        let is_for = |kinds: &[&str]| kinds.iter().any(|wanted| kind.starts_with(wanted));
        (self.detector.is_some() && is_for(&["health.", "failures.", "escalation.", "lifecycle."]))
            || (self.alerts.is_some() && is_for(&["failures.critical", "escalation."]))
            || self.handlers.iter().any(|(pattern, _)| pattern.matches(subject))
    }

    /// Takes an event that came on `subject` about now.
    pub fn handle(&mut self, now: Now, subject: &str, event: &SupervisionEvent) {
        for (pattern, handler) in &mut self.handlers {
            if pattern.matches(subject) {
                handler.handle(subject, event);
            }
        }
        if let Some(detector) = self.detector.as_mut() {
            detector.handle(now, event);
        }
        if let Some(alerts) = self.alerts.as_mut() {
            alerts.event(now, event);
        }
        self.remember(fingerprint(event));
        self.collect(now);
    }

    /// What was found and has not been taken yet, the oldest first. Who does not take it loses the
    /// oldest beyond [`PatternDetector::MAX_WAITING`] patterns and [`AlertManager::MAX_ACTIVE`]
    /// alerts.
    pub fn poll_finding(&mut self) -> Option<SupervisionFinding> {
        self.findings.pop_front()
    }

    /// Looks at the clock: alerts end when their cause is not seen any more.
    pub fn tick(&mut self, now: Now) {
        if let Some(alerts) = self.alerts.as_mut() {
            alerts.tick(now);
        }
        self.collect(now);
    }

    /// When [`SupervisionEventProcessor::tick`] will have something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.alerts.as_ref().and_then(AlertManager::next_deadline)
    }

    /// The detector knows this agent from now on, before anything is told of it. False if there is
    /// no room for it, or no detector.
    pub fn register_agent_for_monitoring(&mut self, now: Now, agent_id: &AgentId) -> bool {
        self.detector.as_mut().is_some_and(|detector| detector.register(now.at, agent_id))
    }

    /// For who sees an agent's status and has no supervisor that tells: makes the event that a change
    /// of it amounts to, takes it, and returns it, to be published. Nothing for a change that is
    /// neither a failure nor a start.
    ///
    /// | from | to | is |
    /// | --- | --- | --- |
    /// | any but `Running` | `Running` | `Health`, healthy, with nothing measured |
    /// | `Starting`, `Running` | `Restarting`, `Terminated` | a `Failure`: `ProcessCrash`, `High` |
    /// | any but `Failed` | `Failed` | a `Failure`: `ProcessCrash`, `Critical` |
    pub fn handle_agent_state_change(
        &mut self,
        now: Now,
        agent_id: &AgentId,
        incarnation: u64,
        old: AgentStatus,
        new: AgentStatus,
    ) -> Option<SupervisionEvent> {
        use AgentStatus::{Failed, Restarting, Running, Starting, Terminated};
        let severity = match (old, new) {
            (Running, Running) | (Failed, Failed) => return None,
            (_, Running) => None,
            (_, Failed) => Some(FailureSeverity::Critical),
            (Starting | Running, Restarting | Terminated) => Some(FailureSeverity::High),
            _ => return None,
        };
        let agent_id = agent_id.clone();
        let event = match severity {
            None => SupervisionEvent::Health {
                agent_id,
                status: HealthStatus::Healthy,
                metrics: HealthMetrics::default(),
                timestamp: now.wall,
            },
            Some(severity) => SupervisionEvent::Failure {
                agent_id,
                incarnation,
                failure_type: FailureType::ProcessCrash,
                severity,
                context: FailureContext {
                    message: Some(format!("it went from {old:?} to {new:?}")),
                    ..FailureContext::default()
                },
                detection_time: now.wall,
            },
        };
        self.handle(now, &event.subject(), &event);
        Some(event)
    }

    /// Whether this event, or one that says the same of the same moment, is among the last
    /// [`SupervisionEventProcessor::MAX_PROCESSED`]. It looks through them: for tests, and for who
    /// hears the same event twice.
    pub fn event_was_processed(&self, event: &SupervisionEvent) -> bool {
        self.processed.contains(&fingerprint(event))
    }

    /// The detector, unless it is off.
    pub fn detector(&self) -> Option<&PatternDetector> {
        self.detector.as_ref()
    }

    /// The alerts, unless they are off.
    pub fn alerts(&self) -> Option<&AlertManager> {
        self.alerts.as_ref()
    }

    /// A pattern comes before the alert that it raises.
    fn collect(&mut self, now: Now) {
        const MAX: usize = PatternDetector::MAX_WAITING + AlertManager::MAX_ACTIVE;
        if let Some(detector) = self.detector.as_mut() {
            while let Some(pattern) = detector.poll_pattern() {
                if let Some(alerts) = self.alerts.as_mut() {
                    alerts.pattern(now, &pattern);
                }
                self.findings.push_back(SupervisionFinding::DetectedPattern(pattern));
            }
        }
        if let Some(alerts) = self.alerts.as_mut() {
            while let Some(alert) = alerts.poll_alert() {
                self.findings.push_back(SupervisionFinding::Alert(alert));
            }
        }
        let beyond = self.findings.len().saturating_sub(MAX);
        self.findings.drain(..beyond);
    }

    fn remember(&mut self, fingerprint: u64) {
        if self.processed.len() < Self::MAX_PROCESSED {
            self.processed.push(fingerprint);
        } else if let Some(oldest) = self.processed.get_mut(self.next) {
            *oldest = fingerprint;
            self.next = (self.next + 1) % Self::MAX_PROCESSED;
        }
    }
}

/// A hash of what tells an event from others: FNV-1a over its kind, whom it is about, and when.
fn fingerprint(event: &SupervisionEvent) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    match event {
        SupervisionEvent::Health { agent_id, timestamp, .. } => {
            hash.text("H", agent_id.as_str()).number(timestamp.unix_micros());
        }
        SupervisionEvent::Failure { agent_id, incarnation, severity, detection_time, .. } => {
            hash.text("F", agent_id.as_str());
            hash.number(*incarnation).number(*severity as u64).number(detection_time.unix_micros());
        }
        SupervisionEvent::Recovery { agent_id, incarnation, timestamp, .. } => {
            hash.text("R", agent_id.as_str());
            hash.number(*incarnation).number(timestamp.unix_micros());
        }
        SupervisionEvent::Escalation { supervisor_id, level, timestamp, .. } => {
            hash.text("E", supervisor_id);
            hash.number(u64::from(*level)).number(timestamp.unix_micros());
        }
        SupervisionEvent::SupervisorLifecycle { supervisor_id, event_type, affected_agents } => {
            hash.text("L", supervisor_id).number(*event_type as u64);
            affected_agents.iter().for_each(|id| {
                hash.text("", id.as_str());
            });
        }
    }
    hash.0
}

struct Fnv(u64);

impl Fnv {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// 0xFF ends a text: it is in none.
    fn text(&mut self, kind: &str, text: &str) -> &mut Self {
        self.bytes(kind.as_bytes()).bytes(text.as_bytes()).bytes(&[0xFF])
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }
}

#[cfg(test)]
mod tests;
