//! A node, as the process that starts it sees it: registered types, and a handle to talk to the
//! agents from outside of the tree.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::agent::Factory;
use super::chaos::Chaos;
use super::clock;
use super::connection::{self, ConnectionStart};
use super::gateway;
use super::local::LocalSender;
use super::logger;
use super::mail::{self, Answer, Ask, EventsMail, MainMail, NoAnswer, SupervisorMail, Waiter};
use super::names::{self, Lookup};
use super::root::{self, RootStart};
use super::surroundings;
use super::sys::{self, Permissions, Pid, Received};
use crate::agent::{Agent, AgentConfig, AgentId, Echo, State, Text};
use crate::config::NodeConfig;
use crate::error::{Error, Result, SendError, SpawnError};
use crate::log_line::Speaker;
use crate::message::{
    decode_payload, AgentPage, AgentSummary, NodeSummary, Spawned, SystemMessage,
};
use crate::node::{AllStopped, TreeCommand};
use crate::supervision::{ChildCounts, ChildSpec, SupervisorSpec};
use crate::time::Instant;

pub use crate::node::{NodeEvent, Stopped, Ticket};

/// Where a node begins.
pub struct Node;

impl Node {
    /// A node with the built-in agent types: `echo`, `state`, `text`, `chaos`.
    pub fn builder() -> NodeBuilder {
        let builder = NodeBuilder { types: Vec::new() };
        builder
            .agent_type::<Echo>("echo")
            .agent_type::<State>("state")
            .agent_type::<Text>("text")
            .agent_type::<Chaos>("chaos")
    }
}

/// A node that is not yet started.
pub struct NodeBuilder {
    types: Vec<(String, Factory)>,
}

impl NodeBuilder {
    /// Lets agents of type `T` be spawned under a name. The last one under a name counts.
    #[must_use]
    pub fn agent_type<T: Agent + Default + 'static>(mut self, name: &str) -> Self {
        self.types.retain(|(known, _)| known != name);
        self.types.push((name.to_owned(), make::<T>));
        self
    }

    /// The names of the registered types.
    pub fn agent_types(&self) -> Vec<&str> {
        self.types.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Starts the node and its agents: the tree runs when this returns, connected to NATS or not,
    /// and each agent of the config has a process. What is wrong in the config is refused before
    /// anything is started. One node per runtime.
    pub fn start(self, config: &NodeConfig) -> Result<NodeHandle> {
        config.check(&self.agent_types()).map_err(Error::Node)?;
        logger::install(logger::settings(config), Speaker::Part("main"));
        let data_dir = data_dir(&config.data_dir)?;
        surroundings::warn(config);
        sys::trap_link_deaths();
        let start = RootStart {
            node_id: config.node_id.to_string(),
            main: sys::this().0,
            data_dir,
            max_agents: config.max_agents,
            types: self.numbered(),
            trees: config.supervisors.clone(),
            nats: ConnectionStart::new(config)?,
            supervision: config.supervision.clone(),
            detection: config.detection.clone(),
            alerts: config.alerts.clone(),
            log_level: logger::level(),
        };
        let permissions = Permissions::none().map(Permissions::may_spawn);
        let permissions = permissions
            .ok_or_else(|| Error::Node("this process may not spawn others".to_owned()))?;
        let root = sys::spawn(&permissions, Some(mail::new_tag()), root::process)
            .map_err(|error| Error::Node(format!("the root supervisor: {error}")))?;
        mail::start(root, &start);
        let mut node = NodeHandle {
            node_id: config.node_id.to_string(),
            root: Some(root),
            local: LocalSender::new(AgentId::external()),
            has_nats: start.nats.is_some(),
            buffer: Vec::new(),
        };
        node.wait_until_up()?;
        // The root starts its keeper, and goes on: what the first agent asks of it is not to fail.
        NodeHandle::wait_for(names::STORE)?;
        for agent in &config.agents {
            node.spawn_agent(agent, true)?;
        }
        Ok(node)
    }

    /// A function pointer is an index into the module's table, the same in every process: so a
    /// registry travels as numbers.
    fn numbered(&self) -> Vec<(String, u32)> {
        self.types.iter().map(|(name, make)| (name.clone(), *make as usize as u32)).collect()
    }
}

/// The directory for state, which has to be there before the store's process is granted it.
fn data_dir(path: &Path) -> Result<String> {
    const WHERE: &str = "under Lunatic it has to lie below the current directory, or below one \
        that `lunatic run --dir` names";
    let wrong = |reason: String| Error::Node(format!("the data directory {path:?}: {reason}"));
    // An absolute path that is below none of them is taken as one below the current directory, but
    // only by WASI: the runtime, which grants it to the store, takes it as it is.
    let granted = || sys::granted_directories().iter().any(|dir| path.starts_with(dir));
    if path.is_absolute() && !granted() {
        return Err(wrong(format!("it is not granted to this program; {WHERE}")));
    }
    std::fs::create_dir_all(path).map_err(|error| wrong(format!("{error}; {WHERE}")))?;
    path.to_str().map(str::to_owned).ok_or_else(|| wrong("it is not UTF-8".to_owned()))
}

fn make<T: Agent + Default + 'static>() -> Box<dyn Agent> {
    Box::new(T::default())
}

/// A running node, for the process that started it. Its calls wait; that process is none of the
/// tree, and nobody supervises it.
pub struct NodeHandle {
    node_id: String,
    root: Option<Pid>,
    local: LocalSender,
    has_nats: bool,
    buffer: Vec<u8>,
}

impl NodeHandle {
    /// How long the supervisor has to answer.
    const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long the tree has to come up.
    const START_TIMEOUT: Duration = Duration::from_secs(10);
    /// The longest grace of a stop, one day: a longer one is cut to it.
    pub const MAX_GRACE: Duration = Duration::from_millis(SystemMessage::MAX_GRACE_MS);
    /// How long the supervisor may take beyond the grace to say how its agents ended.
    const STOP_TIMEOUT: Duration = Duration::from_secs(6);
    /// How long the parts have, when the agents have ended, to answer and publish what is left.
    const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
    /// The same while there is no connection to a server: it may come back any moment.
    const OFFLINE_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
    /// How often it is looked whether the supervisor still lives.
    const LOOK: Duration = Duration::from_millis(150);

    /// A further handle to the node that runs in this runtime already.
    pub fn attach(config: &NodeConfig) -> Result<Self> {
        let mut node = Self {
            node_id: config.node_id.to_string(),
            root: None,
            local: LocalSender::new(AgentId::external()),
            has_nats: config.nats.is_some(),
            buffer: Vec::new(),
        };
        node.wait_until_up()?;
        Ok(node)
    }

    /// The node's name.
    pub fn node_id(&self) -> &str {
        &self.node_id
    }

    /// Starts an agent. With an empty id, one is made up.
    pub fn spawn(&mut self, config: &AgentConfig) -> Result<Spawned> {
        self.spawn_agent(config, false)
    }

    fn spawn_agent(&mut self, config: &AgentConfig, declared: bool) -> Result<Spawned> {
        if !config.id.as_str().is_empty() {
            config.validate()?;
        }
        let text = serde_json::to_string(config)?;
        let answer = self.ask_supervisor(Ask::Spawn { config: &text, declared }, Duration::ZERO);
        let bytes = answer.map_err(|error| spawn_error(config, error))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Stops an agent for good.
    pub fn stop(&mut self, id: &AgentId) -> Result<()> {
        let answer = self.ask_supervisor(Ask::Stop { id: id.as_str() }, Duration::ZERO);
        answer.map(|_| ()).map_err(|error| ask_error(id, error))
    }

    /// Starts a declared tree beside those of the config: its agents in order, each when the one
    /// before it runs. This returns when the tree is taken, or refused as a whole.
    pub fn start_supervisor(&mut self, spec: SupervisorSpec) -> Result<()> {
        self.tree(&TreeCommand::StartSupervisor { spec })
    }

    /// Stops a declared tree, in reverse order, and forgets it. What has not stopped after that grace
    /// is killed. This returns when that has begun.
    pub fn stop_supervisor(&mut self, id: &str, grace: Duration) -> Result<()> {
        self.tree(&TreeCommand::StopSupervisor { id: id.to_owned(), grace })
    }

    /// Adds a child to a supervisor, behind the others, and starts it; if it does not come up it is
    /// forgotten. This returns when it is taken, or refused.
    pub fn start_child(&mut self, supervisor: &str, child: ChildSpec) -> Result<()> {
        self.tree(&TreeCommand::StartChild { supervisor: supervisor.to_owned(), child })
    }

    /// Stops a child, which keeps its place. This returns when that has begun.
    pub fn terminate_child(&mut self, supervisor: &str, child: &str) -> Result<()> {
        let (supervisor, child) = (supervisor.to_owned(), child.to_owned());
        self.tree(&TreeCommand::TerminateChild { supervisor, child })
    }

    /// Starts a child that does not run. This returns when that has begun.
    pub fn restart_child(&mut self, supervisor: &str, child: &str) -> Result<()> {
        let (supervisor, child) = (supervisor.to_owned(), child.to_owned());
        self.tree(&TreeCommand::RestartChild { supervisor, child })
    }

    /// Forgets a child that does not run, and all below it.
    pub fn delete_child(&mut self, supervisor: &str, child: &str) -> Result<()> {
        let (supervisor, child) = (supervisor.to_owned(), child.to_owned());
        self.tree(&TreeCommand::DeleteChild { supervisor, child })
    }

    /// How many children a supervisor has.
    pub fn count_children(&mut self, supervisor: &str) -> Result<ChildCounts> {
        let command = TreeCommand::CountChildren { supervisor: supervisor.to_owned() };
        Ok(serde_json::from_slice(&self.ask_tree(&command)?)?)
    }

    fn tree(&mut self, command: &TreeCommand) -> Result<()> {
        self.ask_tree(command).map(|_| ())
    }

    fn ask_tree(&mut self, command: &TreeCommand) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        mail::encode(command, &mut bytes);
        let command = bytes.as_slice();
        let answer = self.ask_supervisor(Ask::Tree { command }, Duration::ZERO);
        answer.map_err(|error| Error::Node(describe(error)))
    }

    /// The node at a glance.
    pub fn status(&mut self) -> Result<NodeSummary> {
        let answer = self.ask_supervisor(Ask::Status { id: None }, Duration::ZERO);
        let bytes = answer.map_err(|error| Error::Node(describe(error)))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// One agent.
    pub fn agent(&mut self, id: &AgentId) -> Result<AgentSummary> {
        let answer = self.ask_supervisor(Ask::Status { id: Some(id.as_str()) }, Duration::ZERO);
        let bytes = answer.map_err(|error| ask_error(id, error))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// At most `limit` agents, those after an id, in the order of their ids.
    pub fn list(&mut self, after: Option<&AgentId>, limit: u32) -> Result<AgentPage> {
        let ask = Ask::List { after: after.map(AgentId::as_str), limit };
        let answer = self.ask_supervisor(ask, Duration::ZERO);
        let bytes = answer.map_err(|error| Error::Node(describe(error)))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Sends a payload to an agent of this node.
    pub fn send(&mut self, to: &AgentId, payload: &Value) -> Result<()> {
        self.local.turn();
        self.local.send(to, payload)?;
        sys::send_posted();
        Ok(())
    }

    /// Sends a payload to an agent of this node and waits for its answer.
    pub fn request(&mut self, to: &AgentId, payload: &Value, timeout: Duration) -> Result<Value> {
        self.local.turn();
        Ok(self.local.request(to, payload, timeout)?)
    }

    /// Sends a payload to an agent of this node; its answer comes as a [`NodeEvent::Answer`], or
    /// never, if the agent dies.
    pub fn ask(&mut self, to: &AgentId, payload: &Value) -> Result<Ticket> {
        self.local.turn();
        let tag = mail::new_tag();
        self.local.start_request(to, payload, tag)?;
        Ok(Ticket(tag))
    }

    /// From now on every event of this node's agents and supervisors comes as a
    /// [`NodeEvent::Event`] as well. Should the events process die of a fault, the one after it
    /// goes on; what happens in between is told to nobody.
    ///
    /// At most 16 processes watch; one more is an error.
    pub fn watch(&mut self) -> Result<()> {
        let deadline = clock::now() + Self::SUPERVISOR_TIMEOUT;
        loop {
            if let Lookup::Runs(events) = names::look_up(names::EVENTS) {
                let watch = |waiter| EventsMail::Watch { waiter };
                match mail::request(events, Some(deadline - clock::now()), watch) {
                    Ok(_) => return Ok(()),
                    Err(NoAnswer::Refused { message, .. }) => return Err(Error::Node(message)),
                    // It died over it; its replacement is on the way.
                    Err(_) => {}
                }
            }
            if clock::now() >= deadline {
                return Err(Error::Node("the events process does not answer".to_owned()));
            }
            sys::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for what comes next, at most for `timeout`.
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<NodeEvent> {
        loop {
            match sys::receive(&[], timeout) {
                Received::Message => {
                    sys::read_message(&mut self.buffer);
                    if let Some(event) = read_event(&self.buffer) {
                        return Some(event);
                    }
                }
                Received::LinkDied(_) => {
                    return Some(NodeEvent::GaveUp { part: "the root supervisor".to_owned() })
                }
                Received::ProcessDied(_) => {}
                Received::TimedOut => return None,
            }
        }
    }

    /// Whether the node is connected to NATS now.
    pub fn is_connected(&self) -> bool {
        matches!(names::look_up(names::ONLINE), Lookup::Runs(_))
    }

    /// From now on the node takes no new agents.
    pub fn drain(&mut self) -> Result<()> {
        let answer = self.ask_supervisor(Ask::Drain, Duration::ZERO);
        answer.map(|_| ()).map_err(|error| Error::Node(describe(error)))
    }

    /// Ends the node: every agent's `on_stop`, for which they have `grace` together, a kill for
    /// those that take longer, and then everything that is still to be published. A `Shutdown` on
    /// `system.control` that comes meanwhile can shorten the grace. A handle that was attached stops
    /// and flushes likewise; the node without agents is left to the process that started it.
    ///
    /// It takes at most `grace` and 12 s, whatever dies on the way.
    pub fn shutdown(mut self, grace: Duration) -> Result<Stopped> {
        let AllStopped { stopped, killed, killed_agents } =
            self.stop_agents(grace.min(Self::MAX_GRACE))?;
        let flushed = !self.has_nats || self.finish();
        // Its parts are linked to it, and go with it.
        self.root.into_iter().for_each(sys::kill);
        Ok(Stopped { stopped, killed, killed_agents, flushed })
    }

    fn stop_agents(&mut self, grace: Duration) -> Result<AllStopped> {
        let tag = mail::new_tag();
        let waiter = Waiter { pid: sys::this().0, tag };
        let end = clock::now() + grace;
        let mut stop =
            Stop { waiter, grace, end, asked: None, missing_since: None, agents: 0, lost: 0 };
        loop {
            let is_there = stop.ask_who_lives();
            let left = stop.end + Self::STOP_TIMEOUT - clock::now();
            if left.is_zero() || !is_there {
                log::error!("the agent supervisor does not say how its agents ended");
                return Ok(AllStopped { killed: stop.agents, ..AllStopped::default() });
            }
            match sys::receive(&[], Some(left.min(Self::LOOK))) {
                Received::Message => sys::read_message(&mut self.buffer),
                Received::LinkDied(_) => {
                    return Err(Error::Node("the root died while the node stopped".to_owned()));
                }
                Received::ProcessDied(_) | Received::TimedOut => continue,
            }
            if sys::message_tag() == tag {
                return match mail::decode_answer(&self.buffer) {
                    Some(Answer::Ok(bytes)) => {
                        let done: AllStopped = serde_json::from_slice(bytes)?;
                        Ok(AllStopped { killed: done.killed + stop.lost, ..done })
                    }
                    Some(Answer::Err { message, .. }) => Err(Error::Node(message.to_owned())),
                    None => Err(Error::Node(describe(NoAnswer::Garbled))),
                };
            }
            match read_event(&self.buffer) {
                Some(NodeEvent::ShutdownAsked { grace }) => stop.shorten(grace),
                Some(NodeEvent::GaveUp { part }) => {
                    return Err(Error::Node(format!("{part} died too often; the node is down")));
                }
                _ => {}
            }
        }
    }

    /// When the agents have ended: has every part answer and publish what it has, each for whom the
    /// next one is needed.
    fn finish(&self) -> bool {
        let online = self.is_connected();
        let timeout = if online { Self::FLUSH_TIMEOUT } else { Self::OFFLINE_FLUSH_TIMEOUT };
        let deadline = clock::now() + timeout;
        let step = || (deadline - clock::now()).min(timeout / 5);
        if self.root.is_some() {
            connection::stop_listening(step());
            if !gateway::finish(step()) {
                log::warn!("the gateway did not answer everything before the end");
            }
        }
        let told = match names::look_up(names::EVENTS) {
            Lookup::Runs(events) => {
                let flush = |waiter| EventsMail::Flush { waiter };
                mail::request(events, Some(step()), flush).is_ok()
            }
            _ => false,
        };
        if !told {
            log::warn!("the last events are not told");
        }
        connection::flush(deadline - clock::now()) && told
    }

    fn wait_until_up(&mut self) -> Result<()> {
        Self::wait_for(if self.has_nats { names::GATEWAY } else { names::SUPERVISOR })
    }

    fn wait_for(part: &str) -> Result<()> {
        let deadline = clock::now() + Self::START_TIMEOUT;
        while !matches!(names::look_up(part), Lookup::Runs(_)) {
            if clock::now() > deadline {
                return Err(Error::Node("the tree did not come up within 10 s".to_owned()));
            }
            sys::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn ask_supervisor(&mut self, ask: Ask<'_>, more: Duration) -> Result<Vec<u8>, NoAnswer> {
        let Lookup::Runs(supervisor) = names::look_up(names::SUPERVISOR) else {
            return Err(NoAnswer::TimedOut);
        };
        let timeout = Self::SUPERVISOR_TIMEOUT.saturating_add(more);
        mail::request(supervisor, Some(timeout), |waiter| SupervisorMail::Ask { waiter, ask })
    }
}

/// The stop of all agents, as who asked for it sees it.
struct Stop {
    waiter: Waiter,
    grace: Duration,
    /// When it is over.
    end: Instant,
    /// The supervisor that was asked.
    asked: Option<Pid>,
    /// Since when there is none.
    missing_since: Option<Instant>,
    /// How many agents there were when it was.
    agents: u64,
    /// How many of them went with a supervisor that died.
    lost: u64,
}

impl Stop {
    /// How long the supervisor may take to say how many agents there are.
    const TO_COUNT: Duration = Duration::from_secs(1);
    /// How long its successor may take to be there, if it has died: the root starts it at once.
    const TO_RETURN: Duration = Duration::from_secs(2);

    /// Asks the supervisor, and its successor if it has died; false if there is none any more.
    fn ask_who_lives(&mut self) -> bool {
        if self.asked.is_some_and(sys::exists) {
            return true;
        }
        let Lookup::Runs(supervisor) = names::look_up(names::SUPERVISOR) else {
            let since = *self.missing_since.get_or_insert_with(clock::now);
            return clock::now() - since < Self::TO_RETURN;
        };
        self.missing_since = None;
        let left = if self.asked.is_some() {
            log::error!("the agent supervisor died in the stop, and its agents with it");
            // Some of them may have ended well before; nobody is left who knows.
            self.lost = self.agents;
            self.end - clock::now()
        } else {
            let status = |waiter| SupervisorMail::Ask { waiter, ask: Ask::Status { id: None } };
            let summary = mail::request(supervisor, Some(Self::TO_COUNT), status).ok();
            let summary = summary.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            self.agents = summary.map_or(0, |summary: NodeSummary| summary.agents);
            self.grace
        };
        self.asked = Some(supervisor);
        self.ask(left);
        true
    }

    fn ask(&self, grace: Duration) {
        let Some(supervisor) = self.asked else { return };
        // Never longer than a day.
        let grace_ms = grace.as_millis() as u64;
        let ask = Ask::StopAll { grace_ms };
        mail::send(supervisor, &SupervisorMail::Ask { waiter: self.waiter, ask });
    }

    fn shorten(&mut self, grace: Duration) {
        let end = clock::now() + grace;
        if end < self.end {
            (self.grace, self.end) = (grace, end);
            self.ask(grace);
        }
    }
}

fn read_event(bytes: &[u8]) -> Option<NodeEvent> {
    if let Some(answer) = mail::decode_answer(bytes) {
        let ticket = Ticket(sys::message_tag());
        let answer = match answer {
            Answer::Ok(bytes) => decode_payload(bytes).map_err(|error| error.to_string()),
            Answer::Err { message, .. } => Err(message.to_owned()),
        };
        return Some(NodeEvent::Answer { ticket, answer });
    }
    match postcard::from_bytes(bytes).ok()? {
        MainMail::Reply => None,
        MainMail::Event { subject, payload } => Some(NodeEvent::Event {
            subject: subject.to_owned(),
            payload: serde_json::from_slice(payload).unwrap_or_default(),
        }),
        MainMail::Shutdown { grace_ms } => {
            Some(NodeEvent::ShutdownAsked { grace: Duration::from_millis(grace_ms) })
        }
        MainMail::Drain => Some(NodeEvent::DrainAsked),
        MainMail::RootGaveUp { part } => Some(NodeEvent::GaveUp { part: part.to_owned() }),
    }
}

fn spawn_error(config: &AgentConfig, error: NoAnswer) -> Error {
    match error {
        NoAnswer::Refused { code, message } => match code.as_str() {
            "exists" => SpawnError::Exists(config.id.clone()).into(),
            "unknown_type" => SpawnError::UnknownType(message).into(),
            "capacity" => SpawnError::Capacity(message).into(),
            _ => SpawnError::Refused(message).into(),
        },
        _ => SpawnError::Timeout(NodeHandle::SUPERVISOR_TIMEOUT).into(),
    }
}

fn ask_error(id: &AgentId, error: NoAnswer) -> Error {
    match error {
        NoAnswer::Refused { code, .. } if code == "unknown_agent" => {
            SendError::UnknownAgent(id.clone()).into()
        }
        other => Error::Node(describe(other)),
    }
}

fn describe(error: NoAnswer) -> String {
    match error {
        NoAnswer::TimedOut | NoAnswer::Died => "the agent supervisor did not answer".to_owned(),
        NoAnswer::Refused { message, .. } => message,
        NoAnswer::Garbled => "the agent supervisor's answer cannot be read".to_owned(),
    }
}
