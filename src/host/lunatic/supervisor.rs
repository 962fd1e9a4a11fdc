//! The agent supervisor's process: drives the pure engine of [`crate::supervision`], spawns and
//! kills, and answers what is asked about agents. It decides nothing itself.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::agent;
use super::clock;
use super::connection;
use super::logger;
use super::mail::{
    self, AgentMail, AgentStart, Answer, Ask, EventsMail, SupervisorMail, TreeCommand, Waiter, Word,
};
use super::names::{self, Part};
use super::observed::Observed;
use super::spares::{self, Spares};
use super::sys::{self, Permissions, Pid, Received};
use super::timer::Timer;
use crate::agent::{AgentConfig, AgentId};
use crate::config::{unknown_type, SupervisionConfig};
use crate::message::{
    AgentCommand, AgentEvent, AgentStatus, ErrorCode, NodeCounters, NodeSummary, Spawned, Stopped,
    WireError,
};
use crate::supervision::{
    FailureSeverity, Input, LastWord, Now, Output, PreviousFailure, StartError, SupervisionEvent,
    Supervisor, SupervisorSpec, TreeError,
};
use crate::time::Instant;

/// What the supervisor is told first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SupervisorStart {
    pub(super) node_id: String,
    pub(super) max_agents: u32,
    /// The registered types: name, and the function that makes one.
    pub(super) types: Vec<(String, u32)>,
    /// The declared trees: they are started by each process of the
    /// supervisor, also by one that takes the place of another.
    pub(super) trees: Vec<SupervisorSpec>,
    pub(super) supervision: SupervisionConfig,
    pub(super) log_level: u8,
}

/// The process's entry.
pub(super) fn process() {
    let start: SupervisorStart = mail::first();
    logger::install_part(start.log_level, "agents");
    sys::trap_link_deaths();
    let mut host = SupervisorHost::new(start);
    let mut buffer = Vec::new();
    loop {
        host.work();
        match sys::receive(&[], None) {
            Received::Message => {
                sys::read_message(&mut buffer);
                host.mail(&buffer);
            }
            Received::LinkDied(tag) => host.link_died(tag),
            Received::ProcessDied(_) | Received::TimedOut => {}
        }
    }
}

/// A process of an agent, as the supervisor knows it.
struct Child {
    pid: Pid,
    incarnation: u64,
    link: i64,
    /// Whether it was to be killed and did not exist any more.
    is_gone: bool,
}

struct SupervisorHost {
    start: SupervisorStart,
    types: HashMap<String, u32>,
    engine: Supervisor,
    children: HashMap<AgentId, Child>,
    /// Whose death a link's tag tells of.
    links: HashMap<i64, (AgentId, u64)>,
    spares: Spares,
    /// Who waits for the outcome of a first spawn.
    spawning: HashMap<AgentId, Waiter>,
    /// Who waits until there is no agent left.
    stopping: Option<Stopping>,
    draining: bool,
    /// The events process, if anybody listens to it.
    listened: Part,
    connection: Part,
    timer: Timer,
    started_at: Instant,
}

/// The stop of all agents.
struct Stopping {
    /// At most [`Self::MAX_WAITERS`].
    waiters: Vec<Waiter>,
    grace: Duration,
    /// When it is answered in any case.
    deadline: Instant,
    stopped: u64,
    killed: BTreeSet<AgentId>,
}

impl Stopping {
    /// Who stops a node is one process, and at most a few more that attached themselves.
    const MAX_WAITERS: usize = 16;
    /// How long the dead may take to be noticed when the grace is over. Between a kill and the
    /// death lies a yield of the process; what takes time is to tell of thousands of them.
    const TO_DIE: Duration = Duration::from_secs(5);
}

/// How the agents of a node ended: the answer to [`Ask::StopAll`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AllStopped {
    /// Agents that stopped within the grace.
    pub(super) stopped: u64,
    /// Agents that had to be killed.
    pub(super) killed: u64,
    /// The first of those, in the order of their ids: at most [`Self::MAX_NAMED`].
    pub(super) killed_agents: Vec<AgentId>,
}

impl AllStopped {
    /// More names than that would make the node's last line one that nobody can read: all of them
    /// are in the log.
    pub(super) const MAX_NAMED: usize = 100;
}

impl SupervisorHost {
    fn new(start: SupervisorStart) -> Self {
        let config = start.supervision.supervisor(start.max_agents);
        let now = clock::now();
        let mut host = Self {
            types: start.types.iter().cloned().collect(),
            engine: Supervisor::new(config, u64::from_le_bytes(clock::random()))
                .unwrap_or_else(|error| panic!("{error}")),
            children: HashMap::new(),
            links: HashMap::new(),
            spares: Spares::default(),
            spawning: HashMap::new(),
            stopping: None,
            draining: false,
            listened: Part::new(names::LISTENED),
            connection: Part::new(names::CONNECTION),
            timer: Timer::default(),
            started_at: now,
            start,
        };
        // After a death of this process its agents are gone with it, and so is their input.
        host.tell_connection(&connection::Mail::ForgetAgents);
        for tree in std::mem::take(&mut host.start.trees) {
            // The config was checked as a whole before anything was started.
            if let Err(error) = host.engine.start_supervisor(clock::both(), tree) {
                log::error!("a declared tree is not started: {error}");
            }
        }
        host
    }

    /// Does what the engine decided.
    fn work(&mut self) {
        loop {
            match self.engine.poll_output() {
                Output::Spawn { id, incarnation, config, is_new, previous } => {
                    if self.spawn(&id, incarnation, &config, previous.as_ref())
                        && is_new
                        && config.nats_enabled
                    {
                        self.subscribe(&id);
                    }
                    self.answer_spawned(&id, incarnation);
                }
                Output::Stop { id, incarnation } => {
                    // First, so that who asks from now on learns at once that nobody is there.
                    self.tell_connection(&connection::Mail::UnsubscribeAgent { id: id.as_str() });
                    self.tell(&id, incarnation, &AgentMail::Stop);
                }
                Output::Kill { id, incarnation } => self.kill(&id, incarnation),
                Output::Ping { id, incarnation, seq } => {
                    let sent_us = clock::wall_us();
                    self.tell(&id, incarnation, &AgentMail::Ping { seq, sent_us });
                }
                Output::Event(event) => {
                    self.log_failure(&event);
                    self.publish_supervision(&event);
                }
                Output::AgentEvent(event) => {
                    self.publish_agent(&event);
                    self.hide_if_over(&event);
                }
                Output::StartRefused { id, reason, .. } => self.start_refused(&id, &reason),
                Output::Removed { id, killed, .. } => self.removed(&id, killed),
                Output::Wait(deadline) => {
                    let stop = self.stopping.as_ref().map(|stopping| stopping.deadline);
                    let next = [deadline, stop].into_iter().flatten().min();
                    self.timer.arm(next, || SupervisorMail::Tick);
                    return;
                }
            }
        }
    }

    fn mail(&mut self, bytes: &[u8]) {
        if bytes.first() == Some(&mail::REPLY) {
            return;
        }
        let mail = match postcard::from_bytes(bytes) {
            Ok(mail) => mail,
            Err(error) => return log::error!("a mail cannot be read: {error}"),
        };
        let now = clock::both();
        let id = |id: &str| AgentId(id.to_owned());
        match mail {
            SupervisorMail::Reply => {}
            SupervisorMail::Started { id: agent, incarnation } => {
                self.engine.handle(now, Input::Started { id: id(agent), incarnation });
            }
            SupervisorMail::LastWord { id: agent, incarnation, word } => {
                let word = last_word(word);
                if word == LastWord::Farewell {
                    // A normal return is silent on links: this is all that comes.
                    self.forget(&id(agent), incarnation);
                }
                self.engine.handle(now, Input::LastWord { id: id(agent), incarnation, word });
            }
            SupervisorMail::Pong { id: agent, incarnation, seq, figures } => {
                self.engine.handle(now, Input::Pong { id: id(agent), incarnation, seq, figures });
            }
            SupervisorMail::HandlerFailed { id: agent, incarnation, failure_type, message } => {
                let message = message.to_owned();
                let failed =
                    Input::HandlerFailed { id: id(agent), incarnation, failure_type, message };
                self.engine.handle(now, failed);
            }
            SupervisorMail::Ask { waiter, ask } => self.ask(now, waiter, ask),
            SupervisorMail::ConnectionStarted => self.subscribe_all(),
            SupervisorMail::Tick => {
                self.timer.fired(now.at);
                self.engine.handle(now, Input::Tick);
                self.end_of_grace(now.at);
            }
            SupervisorMail::Spare { pid, memory_mb } => self.spares.ready(Pid(pid), memory_mb),
            SupervisorMail::NoSpare { memory_mb } => self.spares.refused(memory_mb),
        }
    }

    fn link_died(&mut self, tag: i64) {
        if tag == sys::PARENT {
            sys::follow_parent();
        }
        // Not known any more: one that had said farewell, and was killed or failed on its way out.
        let Some((id, incarnation)) = self.links.remove(&tag) else {
            return self.spares.link_died(tag);
        };
        self.forget(&id, incarnation);
        self.engine.handle(clock::both(), Input::Died { id, incarnation });
    }

    /// A process is gone.
    fn forget(&mut self, id: &AgentId, incarnation: u64) {
        if self.child(id, incarnation).is_some() {
            if let Some(child) = self.children.remove(id) {
                self.links.remove(&child.link);
            }
        }
    }

    fn ask(&mut self, now: Now, waiter: Waiter, ask: Ask<'_>) {
        let answered = match ask {
            Ask::Spawn { config, declared } => match self.start(now, config, declared) {
                // Answered when the process is there.
                Ok(id) => {
                    self.spawning.insert(id, waiter);
                    return;
                }
                Err(error) => Err(error),
            },
            Ask::Stop { id } => {
                let stopped = self.stop(now, id);
                // The agent is told before who asked is: what that one sends it from now on is
                // behind the word to stop.
                self.work();
                stopped
            }
            Ask::Status { id: None } => Ok(to_json(&self.summary(now.at))),
            Ask::Status { id: Some(id) } => {
                let id = AgentId(id.to_owned());
                let summary = self.engine.summary(now.at, &id);
                summary.map(|s| to_json(&s)).ok_or_else(|| WireError::unknown_agent(&id))
            }
            Ask::List { after, limit } => {
                let after = after.map(|id| AgentId(id.to_owned()));
                let limit = (limit as usize).clamp(1, AgentCommand::MAX_PAGE);
                Ok(to_json(&self.engine.page(now.at, after.as_ref(), limit)))
            }
            Ask::Tree { command } => self.tree(now, command),
            Ask::Drain => {
                self.draining = true;
                Ok(to_json(&json!({ "node_id": self.start.node_id })))
            }
            Ask::StopAll { grace_ms } => return self.stop_all(now, waiter, grace_ms),
        };
        match answered {
            Ok(bytes) => mail::answer(waiter, &Answer::Ok(&bytes)),
            Err(error) => refuse(waiter, &error),
        }
    }

    fn start(&mut self, now: Now, config: &str, declared: bool) -> Result<AgentId, WireError> {
        let mut config: AgentConfig = serde_json::from_str(config)
            .map_err(|error| WireError::bad_shape(error.to_string()))?;
        self.takes_agents()?;
        if config.id.as_str().is_empty() {
            config.id = AgentId::new();
        }
        if !self.types.contains_key(&config.agent_type) {
            let error = self.unknown_type(&config.agent_type);
            return Err(error);
        }
        let id = config.id.clone();
        let started = match declared {
            true => self.engine.start_declared(now, config),
            false => self.engine.start(now, config),
        };
        started.map_err(start_error)?;
        Ok(id)
    }

    fn tree(&mut self, now: Now, command: &[u8]) -> Result<Vec<u8>, WireError> {
        let command: TreeCommand = postcard::from_bytes(command)
            .map_err(|error| WireError::bad_shape(error.to_string()))?;
        let agents = match &command {
            TreeCommand::StartSupervisor { spec } => spec.agents(),
            TreeCommand::StartChild { child, .. } => child.agents(),
            _ => Vec::new(),
        };
        if let Some(agent) = agents.iter().find(|agent| !self.types.contains_key(&agent.agent_type))
        {
            return Err(self.unknown_type(&agent.agent_type));
        }
        let starts = matches!(
            command,
            TreeCommand::StartSupervisor { .. }
                | TreeCommand::StartChild { .. }
                | TreeCommand::RestartChild { .. }
        );
        if starts {
            self.takes_agents()?;
        }
        let engine = &mut self.engine;
        let done = match command {
            TreeCommand::StartSupervisor { spec } => engine.start_supervisor(now, spec),
            TreeCommand::StopSupervisor { id, grace } => engine.stop_supervisor(now, &id, grace),
            TreeCommand::StartChild { supervisor, child } => {
                engine.start_child(now, &supervisor, child)
            }
            TreeCommand::TerminateChild { supervisor, child } => {
                engine.terminate_child(now, &supervisor, &child)
            }
            TreeCommand::RestartChild { supervisor, child } => {
                engine.restart_child(now, &supervisor, &child)
            }
            TreeCommand::DeleteChild { supervisor, child } => {
                engine.delete_child(now, &supervisor, &child)
            }
            TreeCommand::CountChildren { supervisor } => {
                let counts = engine.count_children(&supervisor).map_err(tree_error)?;
                return Ok(to_json(&counts));
            }
        };
        done.map_err(tree_error)?;
        Ok(to_json(&()))
    }

    fn takes_agents(&self) -> Result<(), WireError> {
        if !self.draining {
            return Ok(());
        }
        let doing = if self.stopping.is_some() { "stopping" } else { "draining" };
        let text = format!("the node is {doing} and takes no new agents");
        Err(WireError::new(ErrorCode::Capacity, text))
    }

    fn unknown_type(&self, name: &str) -> WireError {
        let known: Vec<&str> = self.types.keys().map(String::as_str).collect();
        WireError::new(ErrorCode::UnknownType, unknown_type(name, &known))
    }

    fn stop(&mut self, now: Now, id: &str) -> Result<Vec<u8>, WireError> {
        let id = AgentId(id.to_owned());
        self.engine.stop(now, &id).map_err(|_| WireError::unknown_agent(&id))?;
        Ok(to_json(&Stopped { agent_id: id }))
    }

    fn summary(&self, now: Instant) -> NodeSummary {
        NodeSummary {
            node_id: self.start.node_id.clone(),
            host: "lunatic".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            agents: self.engine.len() as u64,
            by_status: self.engine.by_status(),
            draining: self.draining,
            counters: NodeCounters {
                uptime_ms: (now - self.started_at).as_millis() as u64,
                restarts: self.engine.restarts(),
                refused_starts: self.engine.refused_starts(),
                ..NodeCounters::default()
            },
        }
    }

    /// Whether there is a process now.
    fn spawn(
        &mut self,
        id: &AgentId,
        incarnation: u64,
        config: &AgentConfig,
        previous: Option<&PreviousFailure>,
    ) -> bool {
        match self.spawn_process(id, incarnation, config, previous) {
            Ok(child) => {
                self.links.insert(child.link, (id.clone(), incarnation));
                self.children.insert(id.clone(), child);
                true
            }
            Err(reason) => {
                let refused = Input::SpawnRefused { id: id.clone(), incarnation, reason };
                self.engine.handle(clock::both(), refused);
                false
            }
        }
    }

    /// Answers who waits for the first process of an agent, once it is there.
    fn answer_spawned(&mut self, id: &AgentId, incarnation: u64) {
        if self.child(id, incarnation).is_none() {
            return;
        }
        let Some(waiter) = self.spawning.remove(id) else { return };
        let spawned =
            Spawned { agent_id: id.clone(), node_id: self.start.node_id.clone(), incarnation };
        mail::answer(waiter, &Answer::Ok(&to_json(&spawned)));
    }

    fn spawn_process(
        &mut self,
        id: &AgentId,
        incarnation: u64,
        config: &AgentConfig,
        previous: Option<&PreviousFailure>,
    ) -> Result<Child, String> {
        let factory = *self.types.get(&config.agent_type).ok_or("its type is not registered")?;
        let (pid, link) = match self.spare(config) {
            Some(pid) => (pid, spares::link_tag(pid)),
            None => fresh_process(config)?,
        };
        let start = AgentStart {
            config: serde_json::to_string(config).map_err(unwritable)?,
            incarnation,
            previous: previous.map(serde_json::to_string).transpose().map_err(unwritable)?,
            supervisor: sys::this().0,
            factory,
            log_level: self.start.log_level,
        };
        // Before it starts: what `on_start` sends may be answered by its name.
        sys::register_for(&names::agent(id.as_str()), pid, sys::this());
        mail::start(pid, &start);
        log::debug!(agent = id.as_str(), incarnation, process = pid.0; "spawned");
        Ok(Child { pid, incarnation, link, is_gone: false })
    }

    /// A process that was made beforehand, if one waits.
    fn spare(&mut self, config: &AgentConfig) -> Option<Pid> {
        config.max_fuel.is_none().then(|| self.spares.take(config.max_memory_mb)).flatten()
    }

    fn start_refused(&mut self, id: &AgentId, reason: &str) {
        if let Some(waiter) = self.spawning.remove(id) {
            let text = format!("the runtime refused the process of agent {id}: {reason}");
            refuse(waiter, &WireError::new(ErrorCode::Capacity, text));
        }
    }

    /// An agent that has failed, or a declared one that has ended, is listed, but nobody can reach
    /// it: with its name still there it would look as if it were being restarted, for ever.
    fn hide_if_over(&mut self, event: &AgentEvent) {
        use AgentStatus::{Failed, Terminated};
        if let AgentEvent::StateChanged { agent_id, new_state: Failed | Terminated, .. } = event {
            self.hide(agent_id);
        }
    }

    fn hide(&mut self, id: &AgentId) {
        sys::unregister(&names::agent(id.as_str()));
        self.tell_connection(&connection::Mail::UnsubscribeAgent { id: id.as_str() });
    }

    fn removed(&mut self, id: &AgentId, killed: bool) {
        if killed {
            self.overran(id);
        } else if let Some(stopping) = self.stopping.as_mut() {
            stopping.stopped += 1;
        }
        self.all_stopped();
    }

    fn tell(&self, id: &AgentId, incarnation: u64, mail: &AgentMail<'_>) {
        if let Some(child) = self.child(id, incarnation) {
            mail::send(child.pid, mail);
        }
    }

    fn kill(&mut self, id: &AgentId, incarnation: u64) {
        let child = self.children.get_mut(id).filter(|child| child.incarnation == incarnation);
        match child {
            Some(child) if sys::exists(child.pid) => sys::kill(child.pid),
            // It is gone already, and what it said last is in the mailbox: that is why it died.
            Some(child) if !child.is_gone => child.is_gone = true,
            // Its death was told before the engine wanted it dead, or never will be.
            _ => {
                self.forget(id, incarnation);
                let died = Input::Died { id: id.clone(), incarnation };
                self.engine.handle(clock::both(), died);
            }
        }
    }

    fn child(&self, id: &AgentId, incarnation: u64) -> Option<&Child> {
        self.children.get(id).filter(|child| child.incarnation == incarnation)
    }

    /// While all are being stopped: an agent did not in time.
    fn overran(&mut self, id: &AgentId) {
        let Some(stopping) = self.stopping.as_mut() else { return };
        if stopping.killed.insert(id.clone()) {
            let grace = stopping.grace.as_millis();
            log::warn!(agent = id.as_str(); "did not stop within {grace} ms and was killed");
        }
    }

    /// What an operator without NATS has to know: an agent died, or was given up.
    fn log_failure(&self, event: &SupervisionEvent) {
        if let SupervisionEvent::Escalation { supervisor_id, reason, .. } = event {
            return log::error!(supervisor = supervisor_id.as_str(); "gave up: {reason}");
        }
        let SupervisionEvent::Failure { agent_id, incarnation, severity, context, .. } = event
        else {
            return;
        };
        let (agent, incarnation) = (agent_id.as_str(), *incarnation);
        match severity {
            FailureSeverity::Low | FailureSeverity::Medium => {}
            FailureSeverity::Critical => {
                log::error!(agent, incarnation; "given up: {context}");
            }
            // The node's last line counts it with those that ended as they were told.
            FailureSeverity::High if self.stopping.is_some() => {
                log::warn!(agent, incarnation; "died while it was stopped: {context}");
            }
            FailureSeverity::High => log::warn!(agent, incarnation; "died: {context}"),
        }
    }

    fn stop_all(&mut self, now: Now, waiter: Waiter, grace_ms: u64) {
        let grace = Duration::from_millis(grace_ms);
        let deadline = now.at + grace + Stopping::TO_DIE;
        match self.stopping.as_mut() {
            None => {
                self.draining = true;
                let (waiters, killed) = (vec![waiter], BTreeSet::new());
                self.stopping = Some(Stopping { waiters, grace, deadline, stopped: 0, killed });
            }
            Some(stopping) => {
                if !stopping.waiters.contains(&waiter) {
                    if stopping.waiters.len() >= Stopping::MAX_WAITERS {
                        let text = format!(
                            "the node is stopping, and {} processes wait for it already",
                            Stopping::MAX_WAITERS
                        );
                        return refuse(waiter, &WireError::new(ErrorCode::Capacity, text));
                    }
                    stopping.waiters.push(waiter);
                }
                if deadline < stopping.deadline {
                    log::info!("the agents have only {grace_ms} ms more to stop");
                    (stopping.grace, stopping.deadline) = (grace, deadline);
                }
            }
        }
        self.engine.stop_all(now, grace);
        // Those without a process are removed at once, and count.
        self.work();
        // A node without agents is stopped at once.
        self.all_stopped();
    }

    /// Nobody waits longer than that for a death that is not noticed.
    fn end_of_grace(&mut self, now: Instant) {
        if self.stopping.as_ref().is_none_or(|stopping| stopping.deadline > now) {
            return;
        }
        let left: Vec<_> =
            self.children.iter().map(|(id, child)| (id.clone(), child.pid)).collect();
        for (id, pid) in left {
            self.overran(&id);
            sys::kill(pid);
        }
        self.answer_stopping();
    }

    fn all_stopped(&mut self) {
        if self.stopping.is_some() && self.engine.is_empty() {
            self.answer_stopping();
        }
    }

    fn answer_stopping(&mut self) {
        let Some(Stopping { waiters, stopped, killed, .. }) = self.stopping.take() else { return };
        let count = killed.len() as u64;
        let killed_agents = killed.into_iter().take(AllStopped::MAX_NAMED).collect();
        let done = to_json(&AllStopped { stopped, killed: count, killed_agents });
        for waiter in waiters {
            mail::answer(waiter, &Answer::Ok(&done));
        }
    }

    fn subscribe(&mut self, id: &AgentId) {
        self.tell_connection(&connection::Mail::SubscribeAgent { id: id.as_str() });
    }

    fn subscribe_all(&mut self) {
        let ids: Vec<AgentId> =
            self.engine.ids().filter(|id| self.takes_input(id)).cloned().collect();
        ids.iter().for_each(|id| self.subscribe(id));
    }

    /// Whether NATS is to reach an agent: not one that has failed, or was told to stop.
    fn takes_input(&self, id: &AgentId) -> bool {
        use AgentStatus::{Created, Failed, Stopping, Terminated};
        let enabled = self.engine.agent_config(id).is_some_and(|config| config.nats_enabled);
        let ends =
            matches!(self.engine.status(id), Some((Created | Stopping | Terminated | Failed, _)));
        enabled && !ends
    }

    fn tell_connection(&mut self, mail: &connection::Mail<'_>) {
        if let Some(connection) = self.connection.pid() {
            mail::send(connection, mail);
        }
    }

    fn publish_supervision(&mut self, event: &SupervisionEvent) {
        let listener = self.listener();
        if listener.is_none() && !log::log_enabled!(log::Level::Debug) {
            return;
        }
        let subject = event.subject();
        let (severity, payload) = (event.severity(), &to_json(event));
        log::debug!(subject = subject.as_str(); "{}", String::from_utf8_lossy(payload));
        let source = None;
        let (subject, observed) = (subject.as_str(), Observed::of(event));
        let publish = EventsMail::Publish { subject, source, severity, payload, observed };
        if let Some(events) = listener {
            mail::post(events, &publish);
        }
    }

    fn publish_agent(&mut self, event: &AgentEvent) {
        let Some(events) = self.listener() else { return };
        let (subject, payload) = (&event.subject(), &to_json(event));
        let source = Some(event.agent_id().as_str());
        let (severity, observed) = (None, None);
        let publish = EventsMail::Publish { subject, source, severity, payload, observed };
        mail::post(events, &publish);
    }

    /// Who is told of events. Where nobody listens they are not written, which is a quarter of what
    /// it takes to start an agent.
    fn listener(&mut self) -> Option<Pid> {
        self.listened.pid()
    }
}

/// A process that is made now, and the tag of its link.
fn fresh_process(config: &AgentConfig) -> Result<(Pid, i64), String> {
    const MIB: u64 = 1 << 20;
    let permissions = Permissions::none().ok_or("this process may not make configs")?;
    let mut permissions = permissions.max_memory(u64::from(config.max_memory_mb) * MIB);
    if let Some(fuel) = config.max_fuel {
        permissions = permissions.max_fuel(fuel);
    }
    let link = mail::new_tag();
    Ok((sys::spawn(&permissions, Some(link), agent::process)?, link))
}

fn refuse(waiter: Waiter, error: &WireError) {
    let (code, message) = (error.code.as_str(), error.message.as_str());
    mail::answer(waiter, &Answer::Err { code, message });
}

fn last_word(word: Word<'_>) -> LastWord {
    match word {
        Word::Panic { message, place } => {
            LastWord::Panic { message: message.to_owned(), place: place.map(str::to_owned) }
        }
        Word::AllocationRefused { bytes } => LastWord::AllocationRefused { bytes },
        Word::Exit => LastWord::Exit,
        Word::Farewell => LastWord::Farewell,
    }
}

fn start_error(error: StartError) -> WireError {
    let code = match &error {
        StartError::Exists { .. } => ErrorCode::Exists,
        StartError::Capacity { .. }
        | StartError::TypeCapacity { .. }
        | StartError::SpawnRate { .. } => ErrorCode::Capacity,
        StartError::Invalid(invalid) => return invalid.clone().into(),
    };
    WireError::new(code, error.to_string())
}

fn unwritable(error: serde_json::Error) -> String {
    error.to_string()
}

fn tree_error(error: TreeError) -> WireError {
    let code = match &error {
        TreeError::Agent { error: start, .. } => start_error(start.clone()).code,
        TreeError::Exists(_) | TreeError::Running(_) => ErrorCode::Exists,
        TreeError::TooMany | TreeError::TooDeep { .. } => ErrorCode::Capacity,
        TreeError::UnknownSupervisor(_) | TreeError::UnknownChild { .. } => ErrorCode::UnknownAgent,
        TreeError::NotRunning(_) | TreeError::Restarting(_) => ErrorCode::AgentRestarting,
        TreeError::Invalid { .. } => ErrorCode::BadShape,
    };
    WireError::new(code, error.to_string())
}

/// Our own types can always be written as JSON.
fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
