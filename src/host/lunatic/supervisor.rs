//! The agent supervisor's process: drives the pure engine of [`crate::supervision`], spawns and
//! kills, and answers what is asked about agents. It decides nothing itself.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::agent;
use super::clock;
use super::connection;
use super::logger;
use super::mail::{
    self, AgentMail, AgentStart, Answer, Ask, EventsMail, SupervisorMail, Waiter, Word,
};
use super::names::{self, Part};
use super::observed::Observed;
use super::spares::{self, Spares};
use super::sys::{self, Permissions, Pid, Received};
use super::timer::Timer;
use crate::agent::{AgentConfig, AgentId};
use crate::config::SupervisionConfig;
use crate::message::{AgentEvent, AgentStatus, ErrorCode, Spawned, WireError};
use crate::node::{log_failure, Roster, StopAll, TreeDone};
use crate::supervision::{
    Input, LastWord, Now, Output, PreviousFailure, SupervisionEvent, Supervisor, SupervisorSpec,
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
    roster: Roster,
    children: HashMap<AgentId, Child>,
    /// Whose death a link's tag tells of.
    links: HashMap<i64, (AgentId, u64)>,
    spares: Spares,
    /// Who waits for the outcome of a first spawn.
    spawning: HashMap<AgentId, Waiter>,
    /// Who waits until there is no agent left.
    stopping: Option<StopAll<Waiter>>,
    /// The events process, if anybody listens to it.
    listened: Part,
    connection: Part,
    timer: Timer,
}

impl SupervisorHost {
    fn new(start: SupervisorStart) -> Self {
        let config = start.supervision.supervisor(start.max_agents);
        let engine = Supervisor::new(config, u64::from_le_bytes(clock::random()))
            .unwrap_or_else(|error| panic!("{error}"));
        let names = start.types.iter().map(|(name, _)| name.clone()).collect();
        let node_id = start.node_id.as_str();
        let mut host = Self {
            roster: Roster::new(node_id, "lunatic", names, engine, clock::now()),
            types: start.types.iter().cloned().collect(),
            children: HashMap::new(),
            links: HashMap::new(),
            spares: Spares::default(),
            spawning: HashMap::new(),
            stopping: None,
            listened: Part::new(names::LISTENED),
            connection: Part::new(names::CONNECTION),
            timer: Timer::default(),
            start,
        };
        // After a death of this process its agents are gone with it, and so is their input.
        host.tell_connection(&connection::Mail::ForgetAgents);
        for tree in std::mem::take(&mut host.start.trees) {
            // The config was checked as a whole before anything was started.
            if let Err(error) = host.roster.engine().start_supervisor(clock::both(), tree) {
                log::error!("a declared tree is not started: {error}");
            }
        }
        host
    }

    /// Does what the engine decided.
    fn work(&mut self) {
        loop {
            match self.roster.engine().poll_output() {
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
                    log_failure(&event, self.stopping.is_some());
                    self.publish_supervision(&event);
                }
                Output::AgentEvent(event) => {
                    self.publish_agent(&event);
                    self.hide_if_over(&event);
                }
                Output::StartRefused { id, reason, .. } => self.start_refused(&id, &reason),
                Output::Removed { id, killed, .. } => self.removed(&id, killed),
                Output::Wait(deadline) => {
                    let stop = self.stopping.as_ref().map(StopAll::deadline);
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
                self.roster.engine().handle(now, Input::Started { id: id(agent), incarnation });
            }
            SupervisorMail::LastWord { id: agent, incarnation, word } => {
                let word = last_word(word);
                if word == LastWord::Farewell {
                    // A normal return is silent on links: this is all that comes.
                    self.forget(&id(agent), incarnation);
                }
                self.roster
                    .engine()
                    .handle(now, Input::LastWord { id: id(agent), incarnation, word });
            }
            SupervisorMail::Pong { id: agent, incarnation, seq, figures } => {
                self.roster
                    .engine()
                    .handle(now, Input::Pong { id: id(agent), incarnation, seq, figures });
            }
            SupervisorMail::HandlerFailed { id: agent, incarnation, failure_type, message } => {
                let message = message.to_owned();
                let failed =
                    Input::HandlerFailed { id: id(agent), incarnation, failure_type, message };
                self.roster.engine().handle(now, failed);
            }
            SupervisorMail::Ask { waiter, ask } => self.ask(now, waiter, ask),
            SupervisorMail::ConnectionStarted => self.subscribe_all(),
            SupervisorMail::Tick => {
                self.timer.fired(now.at);
                self.roster.engine().handle(now, Input::Tick);
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
        self.roster.engine().handle(clock::both(), Input::Died { id, incarnation });
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
                let stopped = self.roster.stop(now, &AgentId(id.to_owned()));
                // The agent is told before who asked is: what that one sends it from now on is
                // behind the word to stop.
                self.work();
                stopped.map(|stopped| to_json(&stopped))
            }
            Ask::Status { id: None } => Ok(to_json(&self.roster.summary(now.at))),
            Ask::Status { id: Some(id) } => {
                let summary = self.roster.agent(now.at, &AgentId(id.to_owned()));
                summary.map(|summary| to_json(&summary))
            }
            Ask::List { after, limit } => {
                let after = after.map(|id| AgentId(id.to_owned()));
                Ok(to_json(&self.roster.page(now.at, after.as_ref(), limit as usize)))
            }
            Ask::Tree { command } => self.tree(now, command),
            Ask::Drain => {
                self.roster.drain();
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
        let config = serde_json::from_str(config)
            .map_err(|error| WireError::bad_shape(error.to_string()))?;
        self.roster.start(now, config, declared, AgentId::new)
    }

    fn tree(&mut self, now: Now, command: &[u8]) -> Result<Vec<u8>, WireError> {
        let command = postcard::from_bytes(command)
            .map_err(|error| WireError::bad_shape(error.to_string()))?;
        Ok(match self.roster.tree(now, command)? {
            TreeDone::Done => to_json(&()),
            TreeDone::Counts(counts) => to_json(&counts),
        })
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
                self.roster.engine().handle(clock::both(), refused);
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
            stopping.stopped();
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
                self.roster.engine().handle(clock::both(), died);
            }
        }
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

    fn stop_all(&mut self, now: Now, waiter: Waiter, grace_ms: u64) {
        let grace = Duration::from_millis(grace_ms);
        match self.stopping.as_mut() {
            None => {
                self.roster.stopping();
                self.stopping = Some(StopAll::new(now.at, grace, waiter));
            }
            Some(stopping) => {
                if !stopping.waiters().contains(&waiter) {
                    if let Err((waiter, error)) = stopping.join(waiter) {
                        return refuse(
                            waiter,
                            &WireError::new(ErrorCode::Capacity, error.to_string()),
                        );
                    }
                }
                if stopping.shorten(now.at, grace) {
                    log::info!("the agents have only {grace_ms} ms more to stop");
                }
            }
        }
        self.roster.engine().stop_all(now, grace);
        // Those without a process are removed at once, and count.
        self.work();
        // A node without agents is stopped at once.
        self.all_stopped();
    }

    /// Nobody waits longer than that for a death that is not noticed.
    fn end_of_grace(&mut self, now: Instant) {
        if self.stopping.as_ref().is_none_or(|stopping| stopping.deadline() > now) {
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
        if self.stopping.is_some() && self.roster.decided().is_empty() {
            self.answer_stopping();
        }
    }

    fn answer_stopping(&mut self) {
        let Some(stopping) = self.stopping.take() else { return };
        let (waiters, done) = stopping.finish();
        let done = to_json(&done);
        for waiter in waiters {
            mail::answer(waiter, &Answer::Ok(&done));
        }
    }

    fn subscribe(&mut self, id: &AgentId) {
        self.tell_connection(&connection::Mail::SubscribeAgent { id: id.as_str() });
    }

    fn subscribe_all(&mut self) {
        let ids: Vec<AgentId> =
            self.roster.decided().ids().filter(|id| self.roster.takes_input(id)).cloned().collect();
        ids.iter().for_each(|id| self.subscribe(id));
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
    let mut permissions =
        Permissions::of_agent(config.max_memory_mb).ok_or("this process may not make configs")?;
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

fn unwritable(error: serde_json::Error) -> String {
    error.to_string()
}

/// Our own types can always be written as JSON.
fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
