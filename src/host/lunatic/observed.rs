//! What the detection of patterns looks at in an event, beside the event's JSON. To read that again
//! would take ten times as long for each event, and 40 KB of code, which every start compiles.

use serde::{Deserialize, Serialize};

use crate::agent::AgentId;
use crate::supervision::{
    FailureContext, FailureSeverity, FailureType, HealthMetrics, HealthStatus, LifecycleEvent,
    SupervisionEvent,
};
use crate::time::Timestamp;

/// As much of an event as the detector and the alerts look at; of others there is none.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Observed<'a> {
    Failure {
        agent: &'a str,
        incarnation: u64,
        failure_type: FailureType,
        severity: FailureSeverity,
        /// For the alert: only of a critical one.
        why: Option<String>,
    },
    Health {
        agent: &'a str,
        state: State,
        response_time_ms: Option<f64>,
    },
    Escalation {
        supervisor: &'a str,
        level: u32,
        reason: &'a str,
        agents: Vec<&'a str>,
    },
    /// These have ended for good.
    Stopped {
        supervisor: &'a str,
        agents: Vec<&'a str>,
    },
}

/// How an agent does, without the figures.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum State {
    Healthy,
    Degraded,
    Unhealthy,
    Unresponsive,
}

impl<'a> Observed<'a> {
    pub(super) fn of(event: &'a SupervisionEvent) -> Option<Self> {
        let names = |ids: &'a [AgentId]| ids.iter().map(AgentId::as_str).collect();
        Some(match event {
            SupervisionEvent::Failure {
                agent_id,
                incarnation,
                failure_type,
                severity,
                context,
                ..
            } => Self::Failure {
                agent: agent_id.as_str(),
                incarnation: *incarnation,
                failure_type: *failure_type,
                severity: *severity,
                why: (*severity == FailureSeverity::Critical).then(|| context.to_string()),
            },
            SupervisionEvent::Health { agent_id, status, metrics, .. } => Self::Health {
                agent: agent_id.as_str(),
                state: match status {
                    HealthStatus::Healthy => State::Healthy,
                    HealthStatus::Degraded { .. } => State::Degraded,
                    HealthStatus::Unhealthy { .. } => State::Unhealthy,
                    HealthStatus::Unresponsive { .. } => State::Unresponsive,
                },
                response_time_ms: metrics.response_time_ms,
            },
            SupervisionEvent::Escalation {
                supervisor_id, level, reason, affected_agents, ..
            } => Self::Escalation {
                supervisor: supervisor_id,
                level: *level,
                reason,
                agents: names(affected_agents),
            },
            SupervisionEvent::SupervisorLifecycle {
                supervisor_id,
                event_type: LifecycleEvent::ChildStopped,
                affected_agents,
            } => Self::Stopped { supervisor: supervisor_id, agents: names(affected_agents) },
            SupervisionEvent::SupervisorLifecycle { .. } | SupervisionEvent::Recovery { .. } => {
                return None;
            }
        })
    }

    /// The event again, as far as it goes; `timestamp` is when it was told.
    pub(super) fn event(&self, timestamp: Timestamp) -> SupervisionEvent {
        let id = |name: &str| AgentId(name.to_owned());
        let ids = |names: &[&str]| names.iter().map(|name| id(name)).collect();
        match self {
            Self::Failure { agent, incarnation, failure_type, severity, why } => {
                SupervisionEvent::Failure {
                    agent_id: id(agent),
                    incarnation: *incarnation,
                    failure_type: *failure_type,
                    severity: *severity,
                    context: FailureContext { message: why.clone(), ..FailureContext::default() },
                    detection_time: timestamp,
                }
            }
            Self::Health { agent, state, response_time_ms } => SupervisionEvent::Health {
                agent_id: id(agent),
                status: match state {
                    State::Healthy => HealthStatus::Healthy,
                    State::Degraded => HealthStatus::Degraded { reason: String::new(), missed: 1 },
                    State::Unhealthy => HealthStatus::Unhealthy { reason: String::new() },
                    State::Unresponsive => HealthStatus::Unresponsive { last_seen: timestamp },
                },
                metrics: HealthMetrics {
                    response_time_ms: *response_time_ms,
                    ..HealthMetrics::default()
                },
                timestamp,
            },
            Self::Escalation { supervisor, level, reason, agents } => {
                SupervisionEvent::Escalation {
                    supervisor_id: (*supervisor).to_owned(),
                    level: *level,
                    reason: (*reason).to_owned(),
                    affected_agents: ids(agents),
                    timestamp,
                }
            }
            Self::Stopped { supervisor, agents } => SupervisionEvent::SupervisorLifecycle {
                supervisor_id: (*supervisor).to_owned(),
                event_type: LifecycleEvent::ChildStopped,
                affected_agents: ids(agents),
            },
        }
    }
}
