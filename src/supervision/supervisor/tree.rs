//! Declared trees: supervisors with an order and a strategy, below the supervisor of the dynamic
//! agents. Each of them decides by its [`Group`]; here its decisions are carried out, and what
//! becomes of it is told to its parent.
//!
//! A tree's top is to the node what a dynamic agent is: it is restarted within the intensity of the
//! node's own supervisor, and beyond that it has failed and is only listed, whatever happens to the
//! others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use thiserror::Error;

use super::{StartError, StopError, Supervisor};
use crate::agent::{AgentConfig, AgentId, RestartType};
use crate::message::{AgentEvent, AgentStatus};
use crate::supervision::child::{Child, Phase, Place};
use crate::supervision::death::Diagnosis;
use crate::supervision::group::{End, Exit, Group, Key, Refused, Rules, Step, Verdict};
use crate::supervision::intensity::RestartHistory;
use crate::supervision::port::{Now, Output};
use crate::supervision::schedule::Schedule;
use crate::supervision::{
    ChildCounts, ChildSpec, FailureSeverity, HealthMetrics, HealthStatus, InvalidSupervisorConfig,
    LifecycleEvent, Shutdown, SupervisorSpec,
};
use crate::time::Instant;

/// The supervisors of the declared trees.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    schedule: Schedule<String>,
    /// Those with steps to be done.
    busy: VecDeque<String>,
}

#[derive(Debug)]
struct Node {
    /// Its supervisor; nothing for the top of a tree.
    parent: Option<String>,
    shutdown: Shutdown,
    group: Group,
    /// When all below it is killed that still runs; since it was told to stop.
    stop_by: Option<Instant>,
    /// Of the top of a tree: its restarts, and when the next one is due.
    history: RestartHistory,
    restart_at: Option<Instant>,
    /// Whether it is to be forgotten when it has stopped.
    leaves: bool,
    /// What is set in the schedule.
    scheduled: Option<Instant>,
}

impl Node {
    fn due(&self) -> Option<Instant> {
        [self.group.due(), self.restart_at].into_iter().flatten().min()
    }
}

impl Tree {
    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Sees to it that the steps of a supervisor are done, and that it has its turn in time.
    fn touched(&mut self, id: &str) {
        if !self.busy.iter().any(|busy| busy == id) {
            self.busy.push_back(id.to_owned());
        }
        if let Some(node) = self.nodes.get_mut(id) {
            let due = node.due();
            let key = id.to_owned();
            self.schedule.set(&key, node.scheduled, due);
            node.scheduled = due;
        }
    }

    /// The supervisors and agents below one, in the order of their start; without itself.
    fn below(&self, id: &str) -> (Vec<String>, Vec<AgentId>) {
        let (mut supervisors, mut agents) = (Vec::new(), Vec::new());
        let Some(node) = self.nodes.get(id) else { return (supervisors, agents) };
        for key in node.group.keys() {
            match key {
                Key::Agent(agent) => agents.push(agent.clone()),
                Key::Supervisor(inner) => {
                    let (more, of_them) = self.below(inner);
                    supervisors.push(inner.clone());
                    supervisors.extend(more);
                    agents.extend(of_them);
                }
            }
        }
        (supervisors, agents)
    }
}

/// The names in what is being checked.
#[derive(Default)]
struct Names {
    supervisors: BTreeSet<String>,
    agents: BTreeSet<AgentId>,
    /// How many agents there are of each limited type.
    of_types: Vec<u32>,
}

/// Why something cannot be done in a declared tree.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TreeError {
    /// An agent of it cannot be started.
    #[error("agent {id} of supervisor {supervisor}: {error}")]
    Agent {
        /// The supervisor.
        supervisor: String,
        /// The agent.
        id: AgentId,
        /// Why not.
        error: StartError,
    },
    /// A value of a supervisor is not valid.
    #[error("supervisor {id:?}: {error}")]
    Invalid {
        /// The supervisor.
        id: String,
        /// What is wrong.
        error: InvalidSupervisorConfig,
    },
    /// There is one with this id, or its parent has another child of that name.
    #[error("there is a child or a supervisor {0} already")]
    Exists(String),
    /// There are too many supervisors.
    #[error("there is room for {} supervisors on a node", Supervisor::MAX_SUPERVISORS)]
    TooMany,
    /// Supervisors are nested too deeply.
    #[error("supervisors can be nested {} deep, and {id} is below that", Supervisor::MAX_DEPTH)]
    TooDeep {
        /// The supervisor.
        id: String,
    },
    /// There is no supervisor of that name.
    #[error("there is no supervisor {0}")]
    UnknownSupervisor(String),
    /// The supervisor does not run, or is about to end.
    #[error("supervisor {0} does not run")]
    NotRunning(String),
    /// The supervisor has no such child.
    #[error("supervisor {supervisor} has no child {child}")]
    UnknownChild {
        /// The supervisor.
        supervisor: String,
        /// The child.
        child: String,
    },
    /// The child runs.
    #[error("child {0} runs: terminate it first")]
    Running(String),
    /// The child, or all of its supervisor's, are being restarted.
    #[error("child {0} is being started or restarted: try again later")]
    Restarting(String),
}

impl Supervisor {
    /// The most supervisors of declared trees.
    ///
    /// Worst case: about 1 KB for each.
    pub const MAX_SUPERVISORS: usize = 1000;
    /// How deep supervisors can be nested.
    pub const MAX_DEPTH: usize = 16;
    /// The most agents that an event names as affected; it goes to NATS.
    const MAX_AFFECTED: usize = 1000;

    /// Takes a tree and starts it: its agents in order, each when the one before it runs. Nothing
    /// is changed if a part of it is refused.
    pub fn start_supervisor(&mut self, now: Now, spec: SupervisorSpec) -> Result<(), TreeError> {
        self.check_tree(&spec, 1, &mut Names::default())?;
        let id = spec.id.clone();
        self.declare(None, spec);
        self.start_group(now, &id);
        self.settle(now);
        Ok(())
    }

    /// Stops a tree, in reverse order, and forgets it.
    pub fn stop_supervisor(
        &mut self,
        now: Now,
        id: &str,
        grace: Duration,
    ) -> Result<(), TreeError> {
        let node = self.tree.nodes.get(id).filter(|node| node.parent.is_none());
        node.ok_or_else(|| TreeError::UnknownSupervisor(id.to_owned()))?;
        self.leave(now, id, grace);
        self.settle(now);
        Ok(())
    }

    /// Adds a child to a supervisor that runs, behind the others, and starts it: OTP's
    /// `start_child`. If it does not come up it is forgotten. Unlike with OTP it is still there
    /// when its supervisor has been restarted.
    pub fn start_child(
        &mut self,
        now: Now,
        supervisor: &str,
        child: ChildSpec,
    ) -> Result<(), TreeError> {
        let node = self.node(supervisor)?;
        if !node.group.takes_children() {
            return Err(TreeError::NotRunning(supervisor.to_owned()));
        }
        let name = child.name().to_owned();
        if node.group.keys().any(|key| key.name() == name) {
            return Err(TreeError::Exists(name));
        }
        let depth = self.depth(supervisor);
        self.check_child(supervisor, &child, depth, &mut Names::default())?;
        let (key, restart) = (child.key(), child.restart());
        self.declare_child(supervisor, child);
        if let Some(node) = self.tree.nodes.get_mut(supervisor) {
            node.group.add(now.at, key, restart);
        }
        self.tree.touched(supervisor);
        self.settle(now);
        Ok(())
    }

    /// Stops a child, which keeps its place: OTP's `terminate_child`.
    pub fn terminate_child(
        &mut self,
        now: Now,
        supervisor: &str,
        child: &str,
    ) -> Result<(), TreeError> {
        self.with_child(now, supervisor, child, |group, now, key| group.terminate_child(now, key))?;
        Ok(())
    }

    /// Starts a child that does not run: OTP's `restart_child`. If it does not come up it stays as
    /// it was.
    pub fn restart_child(
        &mut self,
        now: Now,
        supervisor: &str,
        child: &str,
    ) -> Result<(), TreeError> {
        self.with_child(now, supervisor, child, |group, now, key| group.restart_child(now, key))?;
        Ok(())
    }

    /// Forgets a child that does not run: OTP's `delete_child`, but for good.
    pub fn delete_child(
        &mut self,
        now: Now,
        supervisor: &str,
        child: &str,
    ) -> Result<(), TreeError> {
        let key =
            self.with_child(now, supervisor, child, |group, _, key| group.delete_child(key))?;
        self.forget_child(&key, "it was deleted");
        Ok(())
    }

    /// How many children a supervisor has: OTP's `count_children`.
    pub fn count_children(&self, supervisor: &str) -> Result<ChildCounts, TreeError> {
        let mut counts = ChildCounts::default();
        for (key, runs) in self.node(supervisor)?.group.places() {
            counts.specs += 1;
            counts.active += u64::from(runs);
            match key {
                Key::Agent(_) => counts.workers += 1,
                Key::Supervisor(_) => counts.supervisors += 1,
            }
        }
        Ok(counts)
    }

    /// The supervisors of the declared trees, in the order of their ids.
    pub fn supervisors(&self) -> impl Iterator<Item = &str> {
        self.tree.nodes.keys().map(String::as_str)
    }

    /// The supervisor of a declared agent; nothing for a dynamic one.
    pub fn supervisor_of(&self, id: &AgentId) -> Option<&str> {
        let place = self.children.get(id)?.place.as_ref()?;
        Some(&place.supervisor)
    }

    /// Stops a declared agent, if it is not stopped already: one of a tree that has failed is, and one
    /// of a supervisor that does not run and will not by itself.
    pub(super) fn terminate_agent(&mut self, now: Now, id: &AgentId) -> Result<(), StopError> {
        let Some(supervisor) = self.supervisor_of(id).map(str::to_owned) else { return Ok(()) };
        if self.children.get(id).is_some_and(|child| matches!(child.phase, Phase::Failed)) {
            return Ok(());
        }
        match self.terminate_child(now, &supervisor, id.as_str()) {
            Err(TreeError::NotRunning(_)) if self.returns(&supervisor) => {
                Err(StopError::Restarting(id.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a supervisor that does not run, or is about to end, is started again by itself.
    fn returns(&self, id: &str) -> bool {
        let Some(node) = self.tree.nodes.get(id) else { return false };
        let Some(parent) = &node.parent else {
            return !node.leaves && (node.restart_at.is_some() || !node.group.is_down());
        };
        let Some(above) = self.tree.nodes.get(parent) else { return false };
        // One that is started again starts all of its children.
        match above.group.takes_children() {
            true => above.group.will_start(&Key::Supervisor(id.to_owned())),
            false => self.returns(parent),
        }
    }

    /// An agent runs; of a declared one its supervisor is told.
    pub(super) fn declared_started(&mut self, now: Now, id: &AgentId) {
        let Some(supervisor) = self.supervisor_of(id).map(str::to_owned) else { return };
        if let Some(node) = self.tree.nodes.get_mut(&supervisor) {
            node.group.started(now.at, &Key::Agent(id.clone()));
        }
        self.tree.touched(&supervisor);
        self.settle(now);
    }

    /// A declared agent has ended otherwise than by a stop.
    pub(super) fn declared_ended(&mut self, now: Now, id: &AgentId, mut diagnosis: Diagnosis) {
        let random = self.random();
        let Some(child) = self.children.get_mut(id) else { return };
        let Some(supervisor) = child.place.as_ref().map(|place| place.supervisor.clone()) else {
            return;
        };
        let Some(node) = self.tree.nodes.get_mut(&supervisor) else { return };
        let dead = child.incarnation;
        child.phase = Phase::Down;
        child.remember_failure(&diagnosis);
        let key = Key::Agent(id.clone());
        let exit = if diagnosis.normal { Exit::Normal } else { Exit::Failed };
        let verdict = node.group.ended(now.at, &key, exit, random);
        let returns = verdict != Verdict::Nothing || node.group.may_return(&key);
        child.attempt = node.group.attempt();
        if returns {
            child.down_since.get_or_insert(now.at);
        }
        let severity = match verdict {
            Verdict::GaveUp => FailureSeverity::Critical,
            Verdict::Nothing | Verdict::Restart => FailureSeverity::High,
        };
        if verdict == Verdict::GaveUp {
            let intensity = node.group.rules.intensity;
            diagnosis.context.max_restarts = Some(intensity.max_restarts);
            diagnosis.context.window_ms = u64::try_from(intensity.period.as_millis()).ok();
        }
        let reason = diagnosis.reason();
        self.rearm(id);
        self.tree.touched(&supervisor);
        // The replacement first, what is told of it afterwards: that is the shorter downtime.
        if verdict == Verdict::Restart {
            self.settle(now);
        }
        if !diagnosis.normal || verdict == Verdict::GaveUp {
            self.out.failure(now, id, dead, diagnosis, severity);
        }
        if let Some(child) = self.children.get_mut(id) {
            if matches!(child.status, AgentStatus::Terminated | AgentStatus::Failed) {
                // It was stopped by hand meanwhile, or the whole tree was given up.
            } else if returns {
                self.out.status_of(id, dead, &mut child.status, AgentStatus::Restarting);
            } else {
                self.rests(id, &reason);
            }
        }
        self.settle(now);
    }

    /// A declared agent was stopped.
    pub(super) fn declared_stopped(&mut self, now: Now, id: &AgentId, killed: bool) {
        let Some(child) = self.children.get_mut(id) else { return };
        let Some(place) = child.place.as_mut() else { return };
        place.killed = killed;
        let supervisor = place.supervisor.clone();
        child.phase = Phase::Down;
        let key = Key::Agent(id.clone());
        if let Some(node) = self.tree.nodes.get_mut(&supervisor) {
            node.group.ended(now.at, &key, Exit::Normal, 0.5);
            if node.group.may_return(&key) || node.group.is_down() {
                child.down_since.get_or_insert(now.at);
                self.out.status(id, child, AgentStatus::Restarting);
            } else {
                let reason = match killed {
                    true => "it was killed, since it did not stop",
                    false => "it was stopped",
                };
                self.rests(id, reason);
            }
        }
        self.rearm(id);
        self.tree.touched(&supervisor);
        self.settle(now);
    }

    /// Those supervisors whose time has come.
    pub(super) fn tick_supervisors(&mut self, now: Now) {
        while let Some(id) = self.tree.schedule.due(now.at) {
            let Some(node) = self.tree.nodes.get_mut(&id) else { return };
            if node.restart_at.is_some_and(|at| at <= now.at) {
                node.restart_at = None;
                node.history.record(now.at, self.config.intensity);
                self.start_group(now, &id);
            } else {
                node.group.tick(now.at);
                self.tree.touched(&id);
            }
            self.settle(now);
        }
    }

    /// Stops all trees; each has so long.
    pub(super) fn stop_supervisors(&mut self, now: Now, grace: Duration) {
        let tops = self.tree.nodes.iter().filter(|(_, node)| node.parent.is_none());
        let tops: Vec<String> = tops.map(|(id, _)| id.clone()).collect();
        for top in tops {
            self.leave(now, &top, grace);
        }
        self.settle(now);
    }

    /// Stops the tree below a top, which is to be forgotten then.
    fn leave(&mut self, now: Now, top: &str, grace: Duration) {
        let until = now.at + grace;
        if let Some(node) = self.tree.nodes.get_mut(top) {
            node.leaves = true;
        }
        let down = self.tree.nodes.get(top).is_some_and(|node| node.group.is_down());
        if down {
            return self.forget_tree(top, "it was stopped");
        }
        // Who was told already may be in more of a hurry now.
        let (_, agents) = self.tree.below(top);
        agents.iter().for_each(|id| self.hurry(id, until));
        self.stop_group(now, top, Some(until));
    }

    /// Does what the supervisors have decided, until they wait for something.
    fn settle(&mut self, now: Now) {
        while let Some(id) = self.tree.busy.pop_front() {
            while let Some(step) = self.tree.nodes.get_mut(&id).and_then(|n| n.group.next_step()) {
                self.step(now, &id, step);
            }
        }
    }

    fn step(&mut self, now: Now, supervisor: &str, step: Step) {
        match step {
            Step::Start(Key::Agent(id)) => self.respawn(now, &id),
            Step::Start(Key::Supervisor(id)) => self.start_group(now, &id),
            Step::Stop(Key::Agent(id)) => self.stop_declared(now, supervisor, &id),
            Step::Stop(Key::Supervisor(id)) => {
                let above = self.tree.nodes.get(supervisor).and_then(|node| node.stop_by);
                self.stop_group(now, &id, above);
            }
            Step::Refuse(key) => self.forget_child(&key, "it did not start"),
            Step::Up => {
                let parent = self.tree.nodes.get(supervisor).and_then(|n| n.parent.clone());
                if let Some(parent) = parent {
                    let key = Key::Supervisor(supervisor.to_owned());
                    if let Some(node) = self.tree.nodes.get_mut(&parent) {
                        node.group.started(now.at, &key);
                    }
                    self.tree.touched(&parent);
                }
            }
            Step::Rest => {
                let node = self.tree.nodes.get(supervisor);
                let resting: Vec<Key> =
                    node.map_or_else(Vec::new, |node| node.group.resting().cloned().collect());
                for key in resting {
                    match key {
                        Key::Agent(id) => self.rests(&id, "it was stopped"),
                        Key::Supervisor(id) => self.tree_rests(&id, "its supervisor ended"),
                    }
                }
            }
            Step::GiveUp { child, level } => self.gave_up(now, supervisor, &child, level),
            Step::Down(end) => self.group_ended(now, supervisor, end),
        }
        self.tree.touched(supervisor);
    }

    fn start_group(&mut self, now: Now, id: &str) {
        if let Some(node) = self.tree.nodes.get_mut(id) {
            node.stop_by = None;
            self.out.lifecycle_of(id.to_owned(), LifecycleEvent::SupervisorStarted, Vec::new());
            node.group.start(now.at);
        }
        self.tree.touched(id);
    }

    /// Stops what is below a supervisor, at the latest when its own parent wants it.
    fn stop_group(&mut self, now: Now, id: &str, above: Option<Instant>) {
        if let Some(node) = self.tree.nodes.get_mut(id) {
            let own = node.shutdown.kill_at(now.at);
            let earlier = node.stop_by;
            node.stop_by = [own, above, earlier].into_iter().flatten().min();
            let stop_by = node.stop_by;
            node.restart_at = None;
            node.group.stop(now.at);
            // What is being stopped below it already may have less time now.
            if let Some(stop_by) = stop_by {
                let (supervisors, agents) = self.tree.below(id);
                for inner in supervisors {
                    if let Some(node) = self.tree.nodes.get_mut(&inner) {
                        node.stop_by = Some(node.stop_by.map_or(stop_by, |at| at.min(stop_by)));
                    }
                }
                agents.iter().for_each(|agent| self.hurry(agent, stop_by));
            }
        }
        self.tree.touched(id);
    }

    fn stop_declared(&mut self, now: Now, supervisor: &str, id: &AgentId) {
        let stop_by = self.tree.nodes.get(supervisor).and_then(|node| node.stop_by);
        let Some(child) = self.children.get_mut(id) else { return };
        let shutdown = child.place.as_ref().map_or(Shutdown::AGENT, |place| place.shutdown);
        let kill_at = [shutdown.kill_at(now.at), stop_by].into_iter().flatten().min();
        if kill_at.is_some_and(|at| at <= now.at) {
            let again_at = Some(now.at + self.config.stop_grace);
            // Killed as it was declared, which is not the same as for having been slow.
            let killed = shutdown != Shutdown::Kill;
            child.phase = Phase::Stopping { kill_at: again_at, killed, missed: None };
            self.out.push(Output::Kill { id: id.clone(), incarnation: child.incarnation });
            self.out.status(id, child, AgentStatus::Stopping);
            return self.rearm(id);
        }
        self.tell_to_stop(id, kill_at);
    }

    /// Tells that a supervisor has given up, and why.
    fn gave_up(&mut self, now: Now, supervisor: &str, child: &Key, level: u32) {
        let (_, mut agents) = self.tree.below(supervisor);
        agents.truncate(Self::MAX_AFFECTED);
        let Some(node) = self.tree.nodes.get(supervisor) else { return };
        let intensity = node.group.rules.intensity;
        let reason = format!(
            "more than {} restarts in {} ms, the last for {}",
            intensity.max_restarts,
            intensity.period.as_millis(),
            child.name()
        );
        let id = supervisor.to_owned();
        self.out.lifecycle_of(id.clone(), LifecycleEvent::GaveUp, agents.clone());
        self.out.escalation(now, id, level, reason, agents);
    }

    /// Nothing runs any more below a supervisor.
    fn group_ended(&mut self, now: Now, id: &str, end: End) {
        let random = self.random();
        let exit = match &end {
            End::Stopped => Exit::Normal,
            End::GaveUp { level } => Exit::GaveUp { level: *level },
            End::NotStarted => Exit::Failed,
        };
        let Some(node) = self.tree.nodes.get_mut(id) else { return };
        if let Some(parent) = node.parent.clone() {
            let key = Key::Supervisor(id.to_owned());
            let Some(above) = self.tree.nodes.get_mut(&parent) else { return };
            let verdict = above.group.ended(now.at, &key, exit, random);
            let rests = verdict == Verdict::Nothing
                && !above.group.may_return(&key)
                && !above.group.is_down();
            if rests {
                self.tree_rests(id, "its supervisor ended");
            }
            return self.tree.touched(&parent);
        }
        if node.leaves {
            return self.forget_tree(id, "it was stopped");
        }
        let level = match end {
            End::Stopped => return,
            End::GaveUp { level } => level + 1,
            End::NotStarted => 1,
        };
        match node.history.next_attempt(now.at, self.config.intensity) {
            Some(attempt) => {
                node.restart_at = Some(now.at + self.config.backoff.delay(attempt, random));
                self.tree.touched(id);
                self.tick_supervisors(now);
            }
            None => self.tree_failed(now, id, level),
        }
    }

    /// A tree is given up for good.
    fn tree_failed(&mut self, now: Now, id: &str, level: u32) {
        let intensity = self.config.intensity;
        let reason = format!(
            "more than {} restarts of supervisor {id} in {} ms",
            intensity.max_restarts,
            intensity.period.as_millis()
        );
        let (_, agents) = self.tree.below(id);
        for agent in &agents {
            let Some(child) = self.children.get_mut(agent) else { continue };
            child.phase = Phase::Failed;
            self.out.status(agent, child, AgentStatus::Failed);
            let unhealthy = HealthStatus::Unhealthy { reason: reason.clone() };
            self.out.health(now, agent, unhealthy, HealthMetrics::default());
        }
        let affected: Vec<_> = agents.into_iter().take(Self::MAX_AFFECTED).collect();
        self.out.lifecycle_of(self.config.id.clone(), LifecycleEvent::GaveUp, affected.clone());
        self.out.escalation(now, self.config.id.clone(), level, reason, affected);
    }

    /// A declared agent has ended, keeps its place, and will not be started by itself.
    fn rests(&mut self, id: &AgentId, reason: &str) {
        let Some(child) = self.children.get_mut(id) else { return };
        if child.status == AgentStatus::Terminated {
            return;
        }
        child.down_since = None;
        self.out.status(id, child, AgentStatus::Terminated);
        self.out.push(Output::AgentEvent(AgentEvent::Terminated {
            agent_id: id.clone(),
            incarnation: child.incarnation,
            reason: reason.to_owned(),
        }));
        self.out.step_of(child, LifecycleEvent::ChildStopped, id);
    }

    fn tree_rests(&mut self, id: &str, reason: &str) {
        let (_, agents) = self.tree.below(id);
        agents.iter().for_each(|agent| self.rests(agent, reason));
    }

    fn forget_child(&mut self, key: &Key, reason: &str) {
        match key {
            Key::Agent(id) => {
                let killed = self.children.get(id).and_then(|child| child.place.as_ref());
                let killed = killed.is_some_and(|place| place.killed);
                self.remove(id, reason.to_owned(), killed);
            }
            Key::Supervisor(id) => self.forget_tree(id, reason),
        }
    }

    /// Forgets a supervisor and all below it.
    fn forget_tree(&mut self, id: &str, reason: &str) {
        let (supervisors, agents) = self.tree.below(id);
        for agent in agents {
            self.forget_child(&Key::Agent(agent), reason);
        }
        for gone in supervisors.iter().map(String::as_str).chain([id]) {
            if let Some(node) = self.tree.nodes.remove(gone) {
                self.tree.schedule.set(&gone.to_owned(), node.scheduled, None);
            }
        }
    }

    fn node(&self, id: &str) -> Result<&Node, TreeError> {
        self.tree.nodes.get(id).ok_or_else(|| TreeError::UnknownSupervisor(id.to_owned()))
    }

    fn key_of(&self, supervisor: &str, child: &str) -> Result<Key, TreeError> {
        let mut keys = self.node(supervisor)?.group.keys();
        keys.find(|key| key.name() == child).cloned().ok_or_else(|| TreeError::UnknownChild {
            supervisor: supervisor.to_owned(),
            child: child.to_owned(),
        })
    }

    /// Does something with a child of a supervisor that runs.
    fn with_child(
        &mut self,
        now: Now,
        supervisor: &str,
        child: &str,
        act: impl FnOnce(&mut Group, Instant, &Key) -> Result<(), Refused>,
    ) -> Result<Key, TreeError> {
        // What one that does not run was asked for would be done when it is started again.
        if !self.node(supervisor)?.group.takes_children() {
            return Err(TreeError::NotRunning(supervisor.to_owned()));
        }
        let key = self.key_of(supervisor, child)?;
        let Some(node) = self.tree.nodes.get_mut(supervisor) else { return Ok(key) };
        let done = act(&mut node.group, now.at, &key).map_err(|refused| match refused {
            Refused::Unknown => TreeError::UnknownChild {
                supervisor: supervisor.to_owned(),
                child: child.to_owned(),
            },
            Refused::Running => TreeError::Running(child.to_owned()),
            Refused::Restarting => TreeError::Restarting(child.to_owned()),
        });
        self.tree.touched(supervisor);
        self.settle(now);
        done.map(|()| key)
    }

    /// Checks a tree before anything of it is taken; `seen` has the names so far.
    fn check_tree(
        &self,
        spec: &SupervisorSpec,
        depth: usize,
        seen: &mut Names,
    ) -> Result<(), TreeError> {
        let id = spec.id.clone();
        spec.validate().map_err(|error| TreeError::Invalid { id: id.clone(), error })?;
        if depth > Self::MAX_DEPTH {
            return Err(TreeError::TooDeep { id });
        }
        if self.tree.nodes.contains_key(&id) || id == self.config.id {
            return Err(TreeError::Exists(id));
        }
        if !seen.supervisors.insert(id.clone()) {
            return Err(TreeError::Exists(id));
        }
        if self.tree.nodes.len() + seen.supervisors.len() > Self::MAX_SUPERVISORS {
            return Err(TreeError::TooMany);
        }
        let mut names = BTreeSet::new();
        for child in &spec.children {
            let name = child.name();
            if !names.insert(name) {
                return Err(TreeError::Exists(name.to_owned()));
            }
            self.check_child(&id, child, depth, seen)?;
        }
        Ok(())
    }

    fn check_child(
        &self,
        supervisor: &str,
        child: &ChildSpec,
        depth: usize,
        seen: &mut Names,
    ) -> Result<(), TreeError> {
        let ChildSpec::Agent { config, .. } = child else {
            let ChildSpec::Supervisor(spec) = child else { return Ok(()) };
            return self.check_tree(spec, depth + 1, seen);
        };
        let id = config.id.clone();
        let max_agents = self.config.max_agents;
        let error = if let Err(error) = config.validate() {
            StartError::Invalid(error)
        } else if let Some(child) = self.children.get(&id) {
            StartError::Exists { id: id.clone(), status: child.status }
        } else if !seen.agents.insert(id.clone()) {
            StartError::Exists { id: id.clone(), status: AgentStatus::Created }
        } else if self.children.len() + seen.agents.len() > max_agents {
            StartError::Capacity { max_agents }
        } else if let Err(error) = self.limiter.check(&config.agent_type, &mut seen.of_types) {
            error
        } else {
            return Ok(());
        };
        Err(TreeError::Agent { supervisor: supervisor.to_owned(), id, error })
    }

    fn depth(&self, id: &str) -> usize {
        let mut depth = 1;
        let mut node = self.tree.nodes.get(id);
        while let Some(parent) = node.and_then(|node| node.parent.as_ref()) {
            depth += 1;
            node = self.tree.nodes.get(parent);
        }
        depth
    }

    /// Takes what was checked.
    fn declare(&mut self, parent: Option<String>, spec: SupervisorSpec) {
        let SupervisorSpec { id, strategy, intensity, backoff, shutdown, children, .. } = spec;
        let mut group = Group::new(Rules { strategy, intensity, backoff });
        for child in &children {
            group.declare(child.key(), child.restart());
        }
        let node = Node {
            parent,
            shutdown,
            group,
            stop_by: None,
            history: RestartHistory::default(),
            restart_at: None,
            leaves: false,
            scheduled: None,
        };
        self.tree.nodes.insert(id.clone(), node);
        for child in children {
            self.declare_child(&id, child);
        }
    }

    fn declare_child(&mut self, supervisor: &str, child: ChildSpec) {
        match child {
            ChildSpec::Agent { config, shutdown } => {
                let id = config.id.clone();
                self.limiter.joined(&config.agent_type);
                let supervisor = supervisor.to_owned();
                let place = Place { supervisor, shutdown, killed: false };
                let child = Child::declared(config, self.retired, place);
                self.out.count(child.status);
                self.children.insert(id, child);
            }
            ChildSpec::Supervisor(spec) => self.declare(Some(supervisor.to_owned()), spec),
        }
    }
}

impl ChildSpec {
    fn name(&self) -> &str {
        match self {
            Self::Agent { config, .. } => config.id.as_str(),
            Self::Supervisor(spec) => &spec.id,
        }
    }

    fn key(&self) -> Key {
        match self {
            Self::Agent { config: AgentConfig { id, .. }, .. } => Key::Agent(id.clone()),
            Self::Supervisor(spec) => Key::Supervisor(spec.id.clone()),
        }
    }

    fn restart(&self) -> RestartType {
        match self {
            Self::Agent { config, .. } => config.restart,
            Self::Supervisor(spec) => spec.restart,
        }
    }
}
