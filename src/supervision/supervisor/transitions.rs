//! What each fact, and each deadline, changes.

use super::Supervisor;
use crate::agent::{AgentId, RestartType};
use crate::message::{AgentEvent, AgentStatus};
use crate::supervision::child::{Child, Phase};
use crate::supervision::death::{diagnose, Cause, Diagnosis, MissedDeadline};
use crate::supervision::health::{Finding, Monitor};
use crate::supervision::port::{Figures, LastWord, Now, Output};
use crate::supervision::{
    FailureContext, FailureSeverity, FailureType, HealthMetrics, HealthStatus, LifecycleEvent,
};

impl Supervisor {
    pub(super) fn started(&mut self, now: Now, id: &AgentId, incarnation: u64) {
        let random = [self.random(), self.random()];
        let Some(child) = self.children.present(id, incarnation) else {
            return;
        };
        if !matches!(child.phase, Phase::Starting { .. }) {
            return;
        }
        let monitor = Monitor::new(now, child.config.timeout(), &self.config, random);
        child.phase = Phase::Running(Box::new(monitor));
        let first = !std::mem::replace(&mut child.ran, true);
        let recovered = child.down_since.take().map(|since| now.at - since);
        if recovered.is_some() {
            child.restarts += 1;
            self.restarts += 1;
        }
        self.out.runs(now, id, child, first, recovered);
        self.out.health(now, id, HealthStatus::Healthy, HealthMetrics::default());
        self.rearm(id);
        self.declared_started(now, id);
    }

    pub(super) fn spawn_refused(
        &mut self,
        now: Now,
        id: &AgentId,
        incarnation: u64,
        reason: String,
    ) {
        let Some(child) = self.children.present(id, incarnation) else {
            return;
        };
        let reason = cut(reason);
        let missed = match child.phase {
            Phase::Starting { .. } => None,
            Phase::Killing { missed, .. } => Some(missed),
            Phase::Stopping { .. } => return self.remove(id, reason, false),
            _ => return,
        };
        if matches!(missed, Some(MissedDeadline::Answer(_))) {
            return;
        }
        if child.down_since.is_some() || child.place.is_some() {
            return self.ended(now, id, Cause::Refused(reason));
        }
        let refused = diagnose(Cause::Refused(reason.clone()), &child.config);
        self.out.failure(now, id, incarnation, refused, FailureSeverity::High);
        self.out.push(Output::StartRefused { id: id.clone(), incarnation, reason: reason.clone() });
        self.forget(id, reason);
    }

    pub(super) fn last_word(&mut self, now: Now, id: &AgentId, incarnation: u64, word: LastWord) {
        let Some(child) = self.children.present(id, incarnation) else {
            return;
        };
        let farewell = word == LastWord::Farewell;
        child.remember(match word {
            LastWord::Panic { message, place } => {
                LastWord::Panic { message: cut(message), place: place.map(cut) }
            }
            word => word,
        });
        if farewell {
            self.died(now, id, incarnation);
        }
    }

    pub(super) fn died(&mut self, now: Now, id: &AgentId, incarnation: u64) {
        if let Some(child) = self.children.present(id, incarnation) {
            let cause = child.cause_of_death();
            self.ended(now, id, cause);
        }
    }

    pub(super) fn pong(
        &mut self,
        now: Now,
        id: &AgentId,
        incarnation: u64,
        seq: u64,
        figures: Figures,
    ) {
        let Some(child) = self.children.present(id, incarnation) else {
            return;
        };
        child.clear_suspicion();
        let Phase::Running(monitor) = &mut child.phase else {
            return;
        };
        if monitor.pong(now, seq, figures) {
            let (status, metrics) = (monitor.status().clone(), monitor.metrics().clone());
            self.out.health(now, id, status, metrics);
        }
        self.rearm(id);
    }

    pub(super) fn handler_failed(
        &mut self,
        now: Now,
        id: &AgentId,
        incarnation: u64,
        failure_type: FailureType,
        message: String,
    ) {
        let Some(child) = self.children.present(id, incarnation) else {
            return;
        };
        child.clear_suspicion();
        let message = cut(message);
        let diagnosis = Diagnosis {
            normal: false,
            failure_type,
            context: FailureContext { message: Some(message.clone()), ..Default::default() },
        };
        self.out.failure(now, id, incarnation, diagnosis, FailureSeverity::Low);
        self.out.push(Output::AgentEvent(AgentEvent::Error {
            agent_id: id.clone(),
            incarnation,
            error: message,
        }));
    }

    /// The present process of a child is no more.
    fn ended(&mut self, now: Now, id: &AgentId, cause: Cause) {
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let silent = cause == Cause::Silent;
        // A word is what it did itself, be it in the moment of the kill.
        let said = matches!(cause, Cause::Said(_));
        let diagnosis = diagnose(cause, &child.config);
        if let Phase::Stopping { killed, .. } = child.phase {
            // What dies without a word while it is told to end has done as it was told.
            if !silent && !diagnosis.normal {
                let incarnation = child.incarnation;
                self.out.failure(now, id, incarnation, diagnosis, FailureSeverity::High);
            }
            let killed = killed && !said;
            if child.place.is_some() {
                return self.declared_stopped(now, id, killed);
            }
            let reason = match killed {
                true => "it was killed, since it did not stop",
                false => "it was stopped",
            };
            return self.remove(id, reason.to_owned(), killed);
        }
        if child.place.is_some() {
            return self.declared_ended(now, id, diagnosis);
        }
        let again = match child.config.restart {
            RestartType::Permanent => true,
            RestartType::Transient => !diagnosis.normal,
            RestartType::Temporary => false,
        };
        if !again {
            let reason = diagnosis.reason();
            if !diagnosis.normal {
                let incarnation = child.incarnation;
                self.out.failure(now, id, incarnation, diagnosis, FailureSeverity::High);
            }
            return self.remove(id, reason, false);
        }
        match child.history.next_attempt(now.at, self.config.intensity) {
            Some(attempt) => self.restart(now, id, attempt, diagnosis),
            None => self.give_up(now, id, diagnosis),
        }
    }

    fn restart(&mut self, now: Now, id: &AgentId, attempt: u32, diagnosis: Diagnosis) {
        let random = self.random();
        let delay = self.config.backoff.delay(attempt, random);
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let dead = child.incarnation;
        child.remember_failure(&diagnosis);
        child.attempt = attempt;
        child.down_since.get_or_insert(now.at);
        let until = now.at + delay;
        child.phase = Phase::Waiting { until };
        // The replacement first, what is told of it afterwards: that is the shorter downtime.
        if delay.is_zero() {
            self.respawn(now, id);
        }
        if !diagnosis.normal {
            self.out.failure(now, id, dead, diagnosis, FailureSeverity::High);
        }
        if let Some(child) = self.children.get_mut(id) {
            self.out.status_of(id, dead, &mut child.status, AgentStatus::Restarting);
        }
        self.rearm(id);
    }

    pub(super) fn respawn(&mut self, now: Now, id: &AgentId) {
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        if child.place.is_none() {
            child.history.record(now.at, self.config.intensity);
        }
        let is_new = matches!(
            child.status,
            AgentStatus::Created | AgentStatus::Terminated | AgentStatus::Failed
        );
        child.incarnation += 1;
        let deadline = now.at + self.config.start_deadline_of(&child.config);
        child.phase = Phase::Starting { deadline };
        self.out.push(Output::Spawn {
            id: id.clone(),
            incarnation: child.incarnation,
            config: child.config.clone(),
            is_new,
            previous: child.previous.take().map(|previous| *previous),
        });
        if is_new {
            self.out.status(id, child, AgentStatus::Starting);
        }
        self.rearm(id);
    }

    fn give_up(&mut self, now: Now, id: &AgentId, mut diagnosis: Diagnosis) {
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let intensity = self.config.intensity;
        let reason = format!(
            "more than {} restarts in {} ms",
            intensity.max_restarts,
            intensity.period.as_millis()
        );
        diagnosis.context.max_restarts = Some(intensity.max_restarts);
        diagnosis.context.window_ms = u64::try_from(intensity.period.as_millis()).ok();
        child.phase = Phase::Failed;
        let incarnation = child.incarnation;
        self.out.failure(now, id, incarnation, diagnosis, FailureSeverity::Critical);
        self.out.status(id, child, AgentStatus::Failed);
        let unhealthy = HealthStatus::Unhealthy { reason };
        self.out.health(now, id, unhealthy, HealthMetrics::default());
        self.out.lifecycle(LifecycleEvent::GaveUp, Some(id));
        self.rearm(id);
    }

    /// A child's time has come.
    pub(super) fn turn(&mut self, now: Now, id: &AgentId) {
        let again_at = now.at + self.config.stop_grace;
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let incarnation = child.incarnation;
        match &mut child.phase {
            Phase::Running(_) => return self.check(now, id),
            Phase::Waiting { .. } => return self.respawn(now, id),
            Phase::Failed | Phase::Down => return,
            Phase::Starting { .. } => {
                let deadline = self.config.start_deadline_of(&child.config);
                child.phase = Phase::Killing { missed: MissedDeadline::Start(deadline), again_at };
            }
            Phase::Killing { again_at: at, .. } => *at = again_at,
            Phase::Stopping { kill_at, killed, .. } => {
                *kill_at = Some(again_at);
                *killed = true;
            }
        }
        self.out.push(Output::Kill { id: id.clone(), incarnation });
        self.rearm(id);
    }

    /// Looks after the health of a running child.
    fn check(&mut self, now: Now, id: &AgentId) {
        let again_at = now.at + self.config.stop_grace;
        let Some(child) = self.children.get_mut(id) else {
            return;
        };
        let incarnation = child.incarnation;
        let Phase::Running(monitor) = &mut child.phase else {
            return;
        };
        match monitor.poll(now.at) {
            Some(Finding::Ping { seq }) => {
                self.out.push(Output::Ping { id: id.clone(), incarnation, seq })
            }
            Some(Finding::Report) => {
                let (status, metrics) = (monitor.status().clone(), monitor.metrics().clone());
                self.out.health(now, id, status, metrics);
            }
            Some(Finding::Unresponsive) => {
                let last_seen = monitor.last_seen();
                let metrics = monitor.metrics().clone();
                let missed = MissedDeadline::Answer(monitor.unanswered(now.at));
                child.phase = Phase::Killing { missed, again_at };
                self.out.push(Output::Kill { id: id.clone(), incarnation });
                let unresponsive = HealthStatus::Unresponsive { last_seen };
                self.out.health(now, id, unresponsive, metrics);
            }
            None => {}
        }
        self.rearm(id);
    }

    /// Removes a child that was known to others.
    pub(super) fn remove(&mut self, id: &AgentId, reason: String, killed: bool) {
        if let Some(child) = self.forget(id, reason.clone()) {
            self.out.step_of(&child, LifecycleEvent::ChildStopped, id);
            self.out.push(Output::Removed {
                id: id.clone(),
                incarnation: child.incarnation,
                reason,
                killed,
            });
        }
    }

    pub(super) fn forget(&mut self, id: &AgentId, reason: String) -> Option<Child> {
        let mut child = self.children.remove(id)?;
        self.limiter.left(&child.config.agent_type);
        self.schedule.set(&(child.number, id.clone()), child.scheduled, None);
        self.retired = self.retired.max(child.incarnation);
        self.out.terminated(id, &mut child, reason);
        Some(child)
    }

    pub(super) fn rearm(&mut self, id: &AgentId) {
        if let Some(child) = self.children.get_mut(id) {
            let due = child.due();
            if due != child.scheduled {
                self.schedule.set(&(child.number, id.clone()), child.scheduled, due);
                child.scheduled = due;
            }
        }
    }

    /// A number from 0 to 1 (SplitMix64).
    pub(super) fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
/// What a process said can be as large as its memory; what is told of it is not.
fn cut(mut text: String) -> String {
    const MOST: usize = 1024;
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.shrink_to_fit();
        text.push('…');
    }
    text
}
