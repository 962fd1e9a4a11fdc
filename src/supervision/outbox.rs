//! What a supervisor has to say, in order; and how many children are in which status, since a
//! change of status is something to say.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::child::Child;
use super::death::Diagnosis;
use super::port::{Now, Output};
use super::{
    FailureSeverity, HealthMetrics, HealthStatus, LifecycleEvent, RecoveryAction, RecoveryOutcome,
    SupervisionEvent,
};
use crate::agent::AgentId;
use crate::message::{AgentEvent, AgentStatus};

/// Work that waits for the host. It is bounded by what is done at once: at most 8 pieces for a
/// fact, 3 for each of the children whose time has come (768), and 4 for each agent when all are
/// stopped.
#[derive(Debug)]
pub(super) struct Outbox {
    supervisor_id: String,
    work: VecDeque<Output>,
    counts: BTreeMap<AgentStatus, u64>,
}

impl Outbox {
    pub(super) fn new(supervisor_id: String) -> Self {
        Self { supervisor_id, work: VecDeque::new(), counts: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, output: Output) {
        self.work.push_back(output);
    }

    pub(super) fn pop(&mut self) -> Option<Output> {
        self.work.pop_front()
    }

    /// One more child is in `status`.
    pub(super) fn count(&mut self, status: AgentStatus) {
        *self.counts.entry(status).or_default() += 1;
    }

    pub(super) fn counts(&self) -> BTreeMap<AgentStatus, u64> {
        self.counts.clone()
    }

    /// Changes a child's status and tells of it.
    pub(super) fn status(&mut self, id: &AgentId, child: &mut Child, new: AgentStatus) {
        self.status_of(id, child.incarnation, &mut child.status, new);
    }

    /// As [`Outbox::status`], where the incarnation to tell of is not the present one.
    pub(super) fn status_of(
        &mut self,
        id: &AgentId,
        incarnation: u64,
        status: &mut AgentStatus,
        new: AgentStatus,
    ) {
        if *status == new {
            return;
        }
        debug_assert!(status.can_become(new), "{id} cannot become {new}: it is {status}");
        let old = std::mem::replace(status, new);
        self.uncount(old);
        self.count(new);
        self.push(Output::AgentEvent(AgentEvent::StateChanged {
            agent_id: id.clone(),
            incarnation,
            old_state: old,
            new_state: new,
        }));
    }

    /// A child runs: for the first time, or after having been down for so long. It is both if
    /// its first process died before it ran.
    pub(super) fn runs(
        &mut self,
        now: Now,
        id: &AgentId,
        child: &mut Child,
        first: bool,
        down: Option<Duration>,
    ) {
        if first {
            self.push(Output::AgentEvent(AgentEvent::Spawned {
                agent_id: id.clone(),
                incarnation: child.incarnation,
                config: child.config.clone(),
            }));
        }
        if let Some(down) = down {
            self.push(Output::Event(SupervisionEvent::Recovery {
                agent_id: id.clone(),
                incarnation: child.incarnation,
                recovery_action: RecoveryAction::Restart,
                attempt: child.attempt,
                outcome: RecoveryOutcome::Succeeded,
                downtime_us: u64::try_from(down.as_micros()).unwrap_or(u64::MAX),
                initiator: self.supervisor_of(child).to_owned(),
                timestamp: now.wall,
            }));
        }
        self.status(id, child, AgentStatus::Running);
        let step =
            if first { LifecycleEvent::ChildStarted } else { LifecycleEvent::ChildRestarted };
        self.step_of(child, step, id);
    }

    /// A step in the life of a child, told of by its supervisor.
    pub(super) fn step_of(&mut self, child: &Child, event_type: LifecycleEvent, id: &AgentId) {
        let supervisor = self.supervisor_of(child).to_owned();
        self.lifecycle_of(supervisor, event_type, vec![id.clone()]);
    }

    fn supervisor_of<'a>(&'a self, child: &'a Child) -> &'a str {
        child.place.as_ref().map_or(&self.supervisor_id, |place| &place.supervisor)
    }

    /// A child that is no longer there has ended for good.
    pub(super) fn terminated(&mut self, id: &AgentId, child: &mut Child, reason: String) {
        self.status(id, child, AgentStatus::Terminated);
        self.uncount(AgentStatus::Terminated);
        self.push(Output::AgentEvent(AgentEvent::Terminated {
            agent_id: id.clone(),
            incarnation: child.incarnation,
            reason,
        }));
    }

    pub(super) fn failure(
        &mut self,
        now: Now,
        id: &AgentId,
        incarnation: u64,
        diagnosis: Diagnosis,
        severity: FailureSeverity,
    ) {
        self.push(Output::Event(SupervisionEvent::Failure {
            agent_id: id.clone(),
            incarnation,
            failure_type: diagnosis.failure_type,
            severity,
            context: diagnosis.context,
            detection_time: now.wall,
        }));
    }

    pub(super) fn health(
        &mut self,
        now: Now,
        id: &AgentId,
        status: HealthStatus,
        metrics: HealthMetrics,
    ) {
        self.push(Output::Event(SupervisionEvent::Health {
            agent_id: id.clone(),
            status,
            metrics,
            timestamp: now.wall,
        }));
    }

    pub(super) fn lifecycle(&mut self, event_type: LifecycleEvent, id: Option<&AgentId>) {
        let affected = id.into_iter().cloned().collect();
        self.lifecycle_of(self.supervisor_id.clone(), event_type, affected);
    }

    pub(super) fn lifecycle_of(
        &mut self,
        supervisor_id: String,
        event_type: LifecycleEvent,
        affected_agents: Vec<AgentId>,
    ) {
        self.push(Output::Event(SupervisionEvent::SupervisorLifecycle {
            supervisor_id,
            event_type,
            affected_agents,
        }));
    }

    pub(super) fn escalation(
        &mut self,
        now: Now,
        supervisor_id: String,
        level: u32,
        reason: String,
        affected_agents: Vec<AgentId>,
    ) {
        self.push(Output::Event(SupervisionEvent::Escalation {
            supervisor_id,
            level,
            reason,
            affected_agents,
            timestamp: now.wall,
        }));
    }

    fn uncount(&mut self, status: AgentStatus) {
        if let Some(count) = self.counts.get_mut(&status) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&status);
            }
        }
    }
}
