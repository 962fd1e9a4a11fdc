//! What is told of supervision: the events on `supervision.>`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Quantiles;
use crate::agent::AgentId;
use crate::message::Subject;
use crate::time::Timestamp;

/// Something that happened to an agent or to a supervisor. Externally tagged on the wire:
/// `{"Failure":{…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SupervisionEvent {
    /// How an agent does: when it starts to run, when that changes, and every 30 s.
    Health {
        /// The agent.
        agent_id: AgentId,
        /// How it does.
        status: HealthStatus,
        /// What was measured.
        metrics: HealthMetrics,
        /// When.
        timestamp: Timestamp,
    },
    /// A failure. Exactly one for each death, with the dead incarnation.
    Failure {
        /// The agent.
        agent_id: AgentId,
        /// Which of its lives failed.
        incarnation: u64,
        /// What kind of failure it was.
        failure_type: FailureType,
        /// How bad it is.
        severity: FailureSeverity,
        /// What is known of it.
        context: FailureContext,
        /// When it was noticed.
        detection_time: Timestamp,
    },
    /// A replacement runs. Exactly one for each, with the new incarnation.
    Recovery {
        /// The agent.
        agent_id: AgentId,
        /// The life that began.
        incarnation: u64,
        /// What was done.
        recovery_action: RecoveryAction,
        /// How many restarts there were in the supervisor's window, this one included.
        attempt: u32,
        /// How it went.
        outcome: RecoveryOutcome,
        /// From the notice of the death to the running replacement, in µs.
        downtime_us: u64,
        /// Who did it: the supervisor's id.
        initiator: String,
        /// When the replacement ran.
        timestamp: Timestamp,
    },
    /// A supervisor gave up and handed on to the one above it.
    Escalation {
        /// Who gave up.
        supervisor_id: String,
        /// How many supervisors have given up so far: 1 for the first.
        level: u32,
        /// Why.
        reason: String,
        /// Whose agents they were.
        affected_agents: Vec<AgentId>,
        /// When.
        timestamp: Timestamp,
    },
    /// A step in the life of a supervisor or of its children.
    SupervisorLifecycle {
        /// The supervisor.
        supervisor_id: String,
        /// The step.
        event_type: LifecycleEvent,
        /// The children that it concerns.
        affected_agents: Vec<AgentId>,
    },
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureType {
    /// The process died: a panic, an exit, or without a word.
    ProcessCrash,
    /// It hit a limit, or was refused a process.
    ResourceExhaustion,
    /// It missed a deadline.
    TimeoutFailure,
    /// It could not reach others.
    NetworkPartition,
    /// It broke the rules of the host or of a protocol.
    ProtocolViolation,
    /// Its handler returned an error.
    DependencyFailure,
    /// Its memory grows without end.
    MemoryLeak,
}

/// How bad a failure is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureSeverity {
    /// A handler returned an error and the agent lives.
    Low,
    /// The agent is degraded or missed one health check.
    Medium,
    /// The agent died.
    High,
    /// Its supervisor gave up.
    Critical,
}

impl FailureSeverity {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The severity as a token of a subject: `low`, `medium`, `high`, `critical`.
    pub const fn as_subject_token(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity that a token of a subject names, if it names one.
    pub fn from_subject_token(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_subject_token() == token)
    }
}

/// How an agent does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum HealthStatus {
    /// It answers in time.
    #[default]
    Healthy,
    /// It is late, and may still answer.
    Degraded {
        /// In what respect.
        reason: String,
        /// How many health checks in a row it missed.
        missed: u32,
    },
    /// It does not run, and nothing will start it again.
    Unhealthy {
        /// Why.
        reason: String,
    },
    /// It missed its deadline and was killed.
    Unresponsive {
        /// When it last answered, or else started.
        last_seen: Timestamp,
    },
}

/// What was measured. What a host cannot measure is `null`, never made up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthMetrics {
    /// The share of a core, 0 to 1.
    pub cpu_usage: Option<f64>,
    /// Bytes of memory.
    pub memory_usage: Option<u64>,
    /// How long the last health check took, behind whatever waited in the mailbox, in ms.
    pub response_time_ms: Option<f64>,
    /// Errors per message handled since the last answer, 0 to 1; `null` if there was none.
    pub error_rate: Option<f64>,
    /// Messages handled per second since the last answer.
    pub throughput: Option<f64>,
    /// Messages handled in this life.
    pub handled: Option<u64>,
    /// Handlers that returned an error in this life.
    pub errors: Option<u64>,
    /// How long its handlers took of late.
    pub handling_us: Option<Quantiles>,
    /// How long the last health check waited for its turn in the mailbox, in µs: the age of the
    /// backlog.
    pub mailbox_delay_us: Option<u64>,
}

/// What is known of a failure; what is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailureContext {
    /// What was said: by the panic, by the handler's error, or by the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where the panic was: `file:line:column`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The limit that was hit: `memory` (bytes), `answer` or `backlog_age` (ms: it did nothing since
    /// it was asked, or handled what waited before that), `agents`, `agents_of_type`, `spawn_rate`
    /// (agents, and a second), or `processes` if the host refused to start one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// That limit's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_value: Option<u64>,
    /// What it came to, in the same unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<u64>,
    /// The size of the allocation that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_bytes: Option<u64>,
    /// The deadline that was missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Messages that it handled since it was asked for the answer that it did not give, as far as
    /// it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled_meanwhile: Option<u64>,
    /// The fuel that it had for its life, where that may have been its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fuel: Option<u64>,
    /// How many more failures of this kind there were since the last one that was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<u64>,
    /// How many restarts are allowed in the window, where the supervisor gave up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restarts: Option<u32>,
    /// The length of that window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// What it can have been, where that cannot be told: `fuel`, `stack`, `killed`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// Whether a mailbox went with it: what waited there is gone, and who asked is told that the agent
    /// is being restarted. How much it was, nobody can know.
    #[serde(skip_serializing_if = "is_false")]
    pub mailbox_lost: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_false(value: &bool) -> bool {
    !value
}

impl fmt::Display for FailureContext {
    /// What went wrong, for people: the limit, the deadline, or what was said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(deadline_ms) = self.deadline_ms {
            write!(f, "it did not answer for {deadline_ms} ms")?;
            match self.handled_meanwhile {
                Some(handled @ 1..) => write!(f, "; it handled {handled} messages meanwhile"),
                _ => Ok(()),
            }
        } else if let Some(limit) = &self.limit {
            write!(f, "its {limit} limit was hit")
        } else if let Some(message) = &self.message {
            f.write_str(message)
        } else {
            f.write_str("it left no word: a stack overflow, or a kill")
        }
    }
}

/// What was done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RecoveryAction {
    /// The agent was started again.
    Restart,
}

/// How a recovery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RecoveryOutcome {
    /// The replacement runs. One that does not come up is a failure of its own.
    Succeeded,
}

/// A step in the life of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LifecycleEvent {
    /// The supervisor runs.
    SupervisorStarted,
    /// A child runs for the first time.
    ChildStarted,
    /// A replacement of a child runs.
    ChildRestarted,
    /// A child has ended for good.
    ChildStopped,
    /// The supervisor will not start a child again.
    GaveUp,
}

impl SupervisionEvent {
    /// The subject that it is published on.
    pub fn subject(&self) -> String {
        match self {
            Self::Health { agent_id, .. } => Subject::supervision_health_check(agent_id),
            Self::Failure { severity, .. } => Subject::supervision_failure(*severity),
            Self::Recovery { agent_id, .. } => Subject::supervision_recovery(agent_id),
            Self::Escalation { level, .. } => Subject::supervision_escalation(*level),
            Self::SupervisorLifecycle { supervisor_id, .. } => {
                Subject::supervision_lifecycle(supervisor_id)
            }
        }
    }

    /// How bad it is; nothing for what is not bad. It is the `severity` of the envelope.
    pub fn severity(&self) -> Option<FailureSeverity> {
        match self {
            Self::Health { status, .. } => match status {
                HealthStatus::Healthy => None,
                HealthStatus::Degraded { .. } => Some(FailureSeverity::Medium),
                HealthStatus::Unresponsive { .. } => Some(FailureSeverity::High),
                HealthStatus::Unhealthy { .. } => Some(FailureSeverity::Critical),
            },
            Self::Failure { severity, .. } => Some(*severity),
            Self::Recovery { .. } => None,
            Self::Escalation { .. } => Some(FailureSeverity::Critical),
            Self::SupervisorLifecycle { event_type, .. } => match event_type {
                LifecycleEvent::GaveUp => Some(FailureSeverity::Critical),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{json, Value};

    use super::*;

    fn agent() -> AgentId {
        AgentId("a".into())
    }

    fn moment() -> Timestamp {
        Timestamp::from_epoch(Duration::from_micros(1_795_294_200_123_456))
    }

    fn on_the_wire(event: &SupervisionEvent) -> Value {
        let json = serde_json::to_value(event).expect("an event serializes");
        let back: SupervisionEvent = serde_json::from_value(json.clone()).expect("and parses");
        assert_eq!(&back, event);
        json
    }

    #[test]
    fn health_on_the_wire_has_null_for_what_is_not_measured() {
        let event = SupervisionEvent::Health {
            agent_id: agent(),
            status: HealthStatus::Healthy,
            metrics: HealthMetrics { memory_usage: Some(65_536), ..Default::default() },
            timestamp: moment(),
        };
        assert_eq!(
            on_the_wire(&event),
            json!({"Health": {"agent_id": "a", "status": "Healthy", "metrics": {
                "cpu_usage": null, "memory_usage": 65_536, "response_time_ms": null,
                "error_rate": null, "throughput": null, "handled": null, "errors": null,
                "handling_us": null, "mailbox_delay_us": null},
                "timestamp": "2026-11-21T20:50:00.123456Z"}})
        );
        assert_eq!(event.subject(), "supervision.health.a");
        assert_eq!(event.severity(), None);
    }

    #[test]
    fn failure_on_the_wire_leaves_out_what_is_not_known() {
        let event = SupervisionEvent::Failure {
            agent_id: agent(),
            incarnation: 3,
            failure_type: FailureType::ProcessCrash,
            severity: FailureSeverity::High,
            context: FailureContext { message: Some("boom".into()), ..Default::default() },
            detection_time: moment(),
        };
        assert_eq!(
            on_the_wire(&event),
            json!({"Failure": {"agent_id": "a", "incarnation": 3, "failure_type": "ProcessCrash",
                "severity": "High", "context": {"message": "boom"},
                "detection_time": "2026-11-21T20:50:00.123456Z"}})
        );
        assert_eq!(event.subject(), "supervision.failures.high");
    }

    #[test]
    fn recovery_escalation_and_lifecycle_on_the_wire() {
        let recovery = SupervisionEvent::Recovery {
            agent_id: agent(),
            incarnation: 4,
            recovery_action: RecoveryAction::Restart,
            attempt: 1,
            outcome: RecoveryOutcome::Succeeded,
            downtime_us: 110,
            initiator: "agents".into(),
            timestamp: moment(),
        };
        assert_eq!(on_the_wire(&recovery)["Recovery"]["recovery_action"], json!("Restart"));
        assert_eq!(recovery.subject(), "supervision.recovery.a");
        let escalation = SupervisionEvent::Escalation {
            supervisor_id: "agents".into(),
            level: 1,
            reason: "5 restarts in 5000 ms".into(),
            affected_agents: vec![agent()],
            timestamp: moment(),
        };
        on_the_wire(&escalation);
        assert_eq!(escalation.subject(), "supervision.escalation.1");
        let lifecycle = SupervisionEvent::SupervisorLifecycle {
            supervisor_id: "agents".into(),
            event_type: LifecycleEvent::GaveUp,
            affected_agents: vec![agent()],
        };
        assert_eq!(
            on_the_wire(&lifecycle),
            json!({"SupervisorLifecycle": {"supervisor_id": "agents", "event_type": "GaveUp",
                "affected_agents": ["a"]}})
        );
        assert_eq!(lifecycle.subject(), "supervision.lifecycle.agents");
        assert_eq!(lifecycle.severity(), Some(FailureSeverity::Critical));
    }

    #[test]
    fn statuses_on_the_wire() {
        let cases = [
            (
                HealthStatus::Degraded { reason: "late".into(), missed: 1 },
                json!({"Degraded": {"reason": "late", "missed": 1}}),
            ),
            (
                HealthStatus::Unhealthy { reason: "gave up".into() },
                json!({"Unhealthy": {"reason": "gave up"}}),
            ),
            (
                HealthStatus::Unresponsive { last_seen: moment() },
                json!({"Unresponsive": {"last_seen": "2026-11-21T20:50:00.123456Z"}}),
            ),
        ];
        for (status, expected) in cases {
            assert_eq!(serde_json::to_value(&status).expect("serializes"), expected);
        }
    }

    #[test]
    fn severities_are_ordered_and_named_as_tokens() {
        let tokens = FailureSeverity::ALL.map(FailureSeverity::as_subject_token);
        assert_eq!(tokens, ["low", "medium", "high", "critical"]);
        assert!(FailureSeverity::ALL.is_sorted());
        let back = tokens.map(FailureSeverity::from_subject_token);
        assert_eq!(back, FailureSeverity::ALL.map(Some));
        assert_eq!(FailureSeverity::from_subject_token("High"), None);
    }
}
