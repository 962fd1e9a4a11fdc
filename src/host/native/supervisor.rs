//! The supervisor's task: drives the pure engine of [`crate::supervision`], starts and kills the
//! tasks of agents, and answers what is asked about them. It decides nothing itself.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::agent::{self, Birth, Factory, Task};
use super::clock;
use super::shared::Shared;
use crate::agent::{AgentConfig, AgentId};
use crate::config::SupervisionConfig;
use crate::message::{
    AgentEvent, AgentPage, AgentStatus, AgentSummary, ErrorCode, NodeSummary, Spawned, Stopped,
    WireError,
};
use crate::node::{log_failure, AllStopped, Roster, StopAll, TreeCommand, TreeDone};
use crate::supervision::{
    Input, LastWord, Now, Output, PreviousFailure, Supervisor, SupervisorSpec,
};
use crate::time::Instant;

/// What a supervisor begins with.
#[derive(Clone)]
pub(super) struct SupervisorStart {
    pub(super) max_agents: u32,
    pub(super) types: Vec<(String, Factory)>,
    /// The declared trees: each supervisor starts them, also one that takes the place of another.
    pub(super) trees: Vec<SupervisorSpec>,
    pub(super) supervision: SupervisionConfig,
}

/// What the supervisor is told.
pub(super) enum SupervisorMail {
    /// A fact about an agent of the supervisor of that number.
    Fact { epoch: u64, input: Input },
    /// Somebody wants to know or to have something.
    Ask(Ask),
    /// It is to panic, for the tests of what happens then.
    #[cfg(test)]
    Panic,
}

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, WireError>>;

/// What is asked of the supervisor.
pub(super) enum Ask {
    /// Answered when the agent has a task.
    Spawn {
        config: Box<AgentConfig>,
        declared: bool,
        answer: Answer<Spawned>,
    },
    /// Answered when the agent was told.
    Stop {
        id: AgentId,
        answer: Answer<Stopped>,
    },
    Status {
        answer: Answer<NodeSummary>,
    },
    Agent {
        id: AgentId,
        answer: Answer<AgentSummary>,
    },
    List {
        after: Option<AgentId>,
        limit: usize,
        answer: Answer<AgentPage>,
    },
    Tree {
        command: Box<TreeCommand>,
        answer: Answer<TreeDone>,
    },
    Drain {
        answer: Answer<()>,
    },
    /// Answered when no agent is left.
    StopAll {
        grace: Duration,
        answer: Answer<AllStopped>,
    },
    /// The stop that is under way is to take only so long more.
    Hurry {
        grace: Duration,
    },
}

/// A task that was killed may take so long to end: it ends at its next `await`. After that it counts as
/// dead whatever it does.
const TO_END: Duration = Duration::from_millis(100);

/// The part's work, until nobody is left who could say anything.
pub(super) async fn run(
    shared: Arc<Shared>,
    start: SupervisorStart,
    epoch: u64,
    mails: &mut mpsc::UnboundedReceiver<SupervisorMail>,
) {
    let mut host = Host::new(shared, start, epoch);
    loop {
        let deadline = host.work();
        let timer = clock::until(deadline);
        tokio::select! {
            biased;
            // Facts that have come go before the time: an answer is not late because nobody looked.
            mail = mails.recv() => match mail {
                Some(mail) => host.mail(mail),
                None => return,
            },
            () = timer => host.tick(),
        }
    }
}

/// A task of an agent, as the supervisor knows it.
struct Child {
    task: Task,
    incarnation: u64,
}

/// A task that was killed and has not said that it ended.
struct Dying {
    id: AgentId,
    incarnation: u64,
    killed_at: Instant,
}

struct Host {
    shared: Arc<Shared>,
    epoch: u64,
    factories: HashMap<String, Factory>,
    roster: Roster,
    children: HashMap<AgentId, Child>,
    /// Those killed within [`TO_END`], the earliest first.
    dying: Vec<Dying>,
    /// Those that have not ended since, which hold a thread each until they do.
    stuck: Vec<Dying>,
    /// Who waits for the outcome of a first start.
    spawning: HashMap<AgentId, Answer<Spawned>>,
    stopping: Option<StopAll<Answer<AllStopped>>>,
}

impl Host {
    fn new(shared: Arc<Shared>, start: SupervisorStart, epoch: u64) -> Self {
        let SupervisorStart { max_agents, types, trees, supervision } = start;
        let config = supervision.supervisor(max_agents);
        let engine = Supervisor::new(config, u64::from_le_bytes(clock::random()))
            .unwrap_or_else(|error| panic!("{error}"));
        let names = types.iter().map(|(name, _)| name.clone()).collect();
        let now = clock::both();
        let mut roster = Roster::new(shared.node_id.as_str(), "native", names, engine, now.at);
        for tree in trees {
            // The config was checked as a whole before anything was started.
            if let Err(error) = roster.engine().start_supervisor(now, tree) {
                log::error!("a declared tree is not started: {error}");
            }
        }
        Self {
            shared,
            epoch,
            factories: types.into_iter().collect(),
            roster,
            children: HashMap::new(),
            dying: Vec::new(),
            stuck: Vec::new(),
            spawning: HashMap::new(),
            stopping: None,
        }
    }

    /// Does what the engine decided, and says when to look at the clock.
    fn work(&mut self) -> Option<Instant> {
        loop {
            match self.roster.engine().poll_output() {
                Output::Spawn { id, incarnation, config, is_new, previous } => {
                    let is_on_nats = is_new && config.nats_enabled;
                    self.spawn(&id, incarnation, config, previous);
                    self.answer_spawned(&id, incarnation, is_on_nats);
                }
                Output::Stop { id, incarnation } => self.stop(&id, incarnation),
                Output::Kill { id, incarnation } => self.kill(&id, incarnation),
                Output::Ping { id, incarnation, seq } => {
                    if let Some(child) = self.child(&id, incarnation) {
                        let sent = clock::now();
                        // One that is closed is dead, and says so.
                        drop(child.task.mailbox.push(super::mailbox::Mail::Ping { seq, sent }));
                    }
                }
                Output::Event(event) => {
                    log_failure(&event, self.stopping.is_some());
                    if self.shared.is_listened() {
                        self.shared.tell_supervision(event);
                    }
                }
                Output::AgentEvent(event) => {
                    self.hide_if_over(&event);
                    if self.shared.is_listened() {
                        self.shared.tell_of_agent(event);
                    }
                }
                Output::StartRefused { id, reason, .. } => {
                    if let Some(answer) = self.spawning.remove(&id) {
                        let text = format!("agent {id} could not be started: {reason}");
                        drop(answer.send(Err(WireError::new(ErrorCode::Capacity, text))));
                    }
                }
                Output::Removed { id, killed, .. } => self.removed(&id, killed),
                Output::Wait(deadline) => {
                    let stop = self.stopping.as_ref().map(StopAll::deadline);
                    let end = self.dying.first().map(|dying| dying.killed_at + TO_END);
                    return [deadline, stop, end].into_iter().flatten().min();
                }
            }
        }
    }

    fn mail(&mut self, mail: SupervisorMail) {
        match mail {
            SupervisorMail::Fact { epoch, input } if epoch == self.epoch => self.fact(input),
            // Of an agent of a supervisor that has died, with which it is gone.
            SupervisorMail::Fact { .. } => {}
            SupervisorMail::Ask(ask) => self.ask(clock::both(), ask),
            #[cfg(test)]
            SupervisorMail::Panic => panic!("told to panic"),
        }
    }

    fn fact(&mut self, input: Input) {
        match &input {
            Input::Died { id, incarnation }
            | Input::LastWord { id, incarnation, word: LastWord::Farewell } => {
                self.forget(id, *incarnation);
                self.has_ended(id, *incarnation);
            }
            _ => {}
        }
        self.roster.engine().handle(clock::both(), input);
    }

    /// A task is gone.
    fn forget(&mut self, id: &AgentId, incarnation: u64) {
        if self.child(id, incarnation).is_some() {
            self.children.remove(id);
        }
        self.dying.retain(|dying| dying.id != *id || dying.incarnation != incarnation);
    }

    /// One that would not end has.
    fn has_ended(&mut self, id: &AgentId, incarnation: u64) {
        let is_it = |stuck: &Dying| stuck.id == *id && stuck.incarnation == incarnation;
        if let Some(at) = self.stuck.iter().position(is_it) {
            let after_ms = (clock::now() - self.stuck.swap_remove(at).killed_at).as_millis() as u64;
            self.shared.stuck.fetch_sub(1, Ordering::Relaxed);
            log::info!(agent = id.as_str(), incarnation, after_ms; "the killed task has ended");
        }
    }

    fn tick(&mut self) {
        let now = clock::both();
        while self.dying.first().is_some_and(|dying| dying.killed_at + TO_END <= now.at) {
            let dying = self.dying.remove(0);
            self.does_not_end(now, dying);
        }
        self.roster.engine().handle(now, Input::Tick);
        if self.stopping.as_ref().is_some_and(|stopping| stopping.deadline() <= now.at) {
            self.work();
            self.end_of_grace();
        }
    }

    /// A task was killed and runs on, since its code does not come to an `await`. Nothing can end it
    /// but itself; all that can be done is to do without it.
    fn does_not_end(&mut self, now: Now, dying: Dying) {
        let (id, incarnation) = (dying.id.clone(), dying.incarnation);
        log::error!(
            agent = id.as_str(), incarnation;
            "it was killed and runs on, since it does not await: it holds a thread of the node until \
             it does, and is cut off from everybody"
        );
        self.shared.stuck.fetch_add(1, Ordering::Relaxed);
        self.stuck.push(dying);
        self.forget(&id, incarnation);
        self.roster.engine().handle(now, Input::Died { id, incarnation });
    }

    fn ask(&mut self, now: Now, ask: Ask) {
        match ask {
            Ask::Spawn { config, declared, answer } => {
                match self.roster.start(now, *config, declared, AgentId::new) {
                    // Answered when the task is there.
                    Ok(id) => drop(self.spawning.insert(id, answer)),
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
            Ask::Stop { id, answer } => {
                let stopped = self.roster.stop(now, &id);
                // The agent is told before who asked is: what that one sends it from now on is behind
                // the word to stop.
                self.work();
                drop(answer.send(stopped));
            }
            Ask::Status { answer } => drop(answer.send(Ok(self.summary(now.at)))),
            Ask::Agent { id, answer } => drop(answer.send(self.roster.agent(now.at, &id))),
            Ask::List { after, limit, answer } => {
                drop(answer.send(Ok(self.roster.page(now.at, after.as_ref(), limit))));
            }
            Ask::Tree { command, answer } => {
                drop(answer.send(self.roster.tree(now, *command)));
            }
            Ask::Drain { answer } => {
                self.roster.drain();
                drop(answer.send(Ok(())));
            }
            Ask::StopAll { grace, answer } => self.stop_all(now, grace, Some(answer)),
            Ask::Hurry { grace } => self.stop_all(now, grace, None),
        }
    }

    fn summary(&self, now: Instant) -> NodeSummary {
        let mut summary = self.roster.summary(now);
        let stuck = self.shared.stuck.load(Ordering::Relaxed);
        if stuck > 0 {
            summary.counters.other.insert("stuck_tasks".to_owned(), stuck);
        }
        summary
    }

    fn spawn(
        &mut self,
        id: &AgentId,
        incarnation: u64,
        config: AgentConfig,
        previous: Option<PreviousFailure>,
    ) {
        let Some(&factory) = self.factories.get(&config.agent_type) else {
            // It was looked at before; a tree that was declared by hand may have another opinion.
            let reason = "its type is not registered".to_owned();
            let refused = Input::SpawnRefused { id: id.clone(), incarnation, reason };
            return self.roster.engine().handle(clock::both(), refused);
        };
        let (epoch, shared) = (self.epoch, Arc::clone(&self.shared));
        let birth = Birth { config, incarnation, previous, factory, epoch, shared };
        let task = agent::spawn(birth);
        log::debug!(agent = id.as_str(), incarnation; "spawned");
        self.children.insert(id.clone(), Child { task, incarnation });
    }

    /// Answers who waits for the first task of an agent, once it is there and NATS can reach it: who
    /// has the answer may send to it there.
    fn answer_spawned(&mut self, id: &AgentId, incarnation: u64, is_on_nats: bool) {
        if self.child(id, incarnation).is_none() {
            return;
        }
        let answer = self.spawning.remove(id);
        let (agent_id, node_id) = (id.clone(), self.shared.node_id.to_string());
        let told = move || {
            if let Some(answer) = answer {
                drop(answer.send(Ok(Spawned { agent_id, node_id, incarnation })));
            }
        };
        match &self.shared.wire {
            Some(wire) if is_on_nats => wire.subscribe_agent(&self.shared, id, told),
            _ => told(),
        }
    }

    fn unsubscribe(&self, id: &AgentId) {
        if let Some(wire) = &self.shared.wire {
            wire.unsubscribe_agent(id);
        }
    }

    fn stop(&mut self, id: &AgentId, incarnation: u64) {
        // First, so that who asks from now on learns at once that nobody is there.
        self.unsubscribe(id);
        if let Some(child) = self.child(id, incarnation) {
            drop(child.task.mailbox.push(super::mailbox::Mail::Stop));
        }
    }

    fn kill(&mut self, id: &AgentId, incarnation: u64) {
        let Some(child) = self.child(id, incarnation) else {
            // Its death was told before the engine wanted it dead.
            let died = Input::Died { id: id.clone(), incarnation };
            return self.roster.engine().handle(clock::both(), died);
        };
        // Who waits for an answer of it learns at once that there will be none.
        drop(child.task.mailbox.close());
        child.task.abort.abort();
        if !self.dying.iter().any(|dying| dying.id == *id && dying.incarnation == incarnation) {
            let (id, killed_at) = (id.clone(), clock::now());
            self.dying.push(Dying { id, incarnation, killed_at });
        }
    }

    /// An agent that has failed, or a declared one that has ended, is listed, but nobody can reach it:
    /// with its name still there it would look as if it were being restarted, for ever.
    fn hide_if_over(&mut self, event: &AgentEvent) {
        use AgentStatus::{Failed, Terminated};
        if let AgentEvent::StateChanged { agent_id, new_state: Failed | Terminated, .. } = event {
            self.shared.directory.remove(agent_id);
            self.unsubscribe(agent_id);
        }
    }

    fn removed(&mut self, id: &AgentId, killed: bool) {
        if killed {
            self.overran(id);
        } else if let Some(stopping) = self.stopping.as_mut() {
            stopping.stopped();
        }
        self.all_stopped();
    }

    fn child(&self, id: &AgentId, incarnation: u64) -> Option<&Child> {
        self.children.get(id).filter(|child| child.incarnation == incarnation)
    }

    /// While all are being stopped: an agent did not in time.
    fn overran(&mut self, id: &AgentId) {
        let Some(stopping) = self.stopping.as_mut() else { return };
        if stopping.overran(id) {
            let grace = stopping.grace().as_millis();
            log::warn!(agent = id.as_str(); "did not stop within {grace} ms and was killed");
        }
    }

    fn stop_all(&mut self, now: Now, grace: Duration, answer: Option<Answer<AllStopped>>) {
        match (self.stopping.as_mut(), answer) {
            (None, Some(answer)) => {
                self.roster.stopping();
                self.stopping = Some(StopAll::new(now.at, grace, answer));
            }
            // There is nothing to hurry.
            (None, None) => return,
            (Some(stopping), answer) => {
                if let Some(Err((answer, error))) = answer.map(|answer| stopping.join(answer)) {
                    let error = WireError::new(ErrorCode::Capacity, error.to_string());
                    return drop(answer.send(Err(error)));
                }
                if stopping.shorten(now.at, grace) {
                    log::info!("the agents have only {} ms more to stop", grace.as_millis());
                }
            }
        }
        self.roster.engine().stop_all(now, grace);
        // Those without a task are removed at once, and count.
        self.work();
        // A node without agents is stopped at once.
        self.all_stopped();
    }

    /// Nobody waits longer than that for a death that is not noticed.
    fn end_of_grace(&mut self) {
        let left: Vec<AgentId> = self.children.keys().cloned().collect();
        for id in left {
            self.overran(&id);
        }
        self.children.values().for_each(|child| child.task.abort.abort());
        self.answer_stopping();
    }

    fn all_stopped(&mut self) {
        if self.stopping.is_some() && self.roster.decided().is_empty() {
            self.answer_stopping();
        }
    }

    fn answer_stopping(&mut self) {
        let Some(stopping) = self.stopping.take() else { return };
        let (waiters, told) = stopping.finish();
        for waiter in waiters {
            drop(waiter.send(Ok(told.clone())));
        }
    }
}

impl Drop for Host {
    /// Agents share the fate of their supervisor.
    fn drop(&mut self) {
        for child in self.children.values() {
            drop(child.task.mailbox.close());
            child.task.abort.abort();
        }
        self.shared.stuck.fetch_sub(self.stuck.len() as u64, Ordering::Relaxed);
        self.shared.directory.clear();
        if let Some(wire) = &self.shared.wire {
            wire.unsubscribe_agents();
        }
    }
}
