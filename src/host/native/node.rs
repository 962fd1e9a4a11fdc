//! A node, as the program that starts it sees it: registered types, and handles to talk to the agents
//! from outside of the tree.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};

use super::agent::{read_answer, Factory};
use super::block;
use super::chaos::Chaos;
use super::clock;
use super::events::{self, EventsMail, EventsStart, Watcher};
use super::gateway::{self, GatewayMail};
use super::logger;
use super::mailbox::{Mail, MailboxLimits, Responder};
use super::nats::NatsConfig;
use super::panics;
use super::parts::Parts;
use super::shared::{Ends, Made, Shared};
use super::signals;
use super::store::Store;
use super::supervisor::{self, Answer, Ask, SupervisorStart};
use super::surroundings;
use super::wire::Wire;
use crate::agent::{Agent, AgentConfig, AgentId, Echo, State, Text};
use crate::config::NodeConfig;
use crate::error::{Error, RequestError, Result, SendError, SpawnError};
use crate::message::{
    AgentPage, AgentSummary, ErrorCode, NodeSummary, Spawned, SystemMessage, WireError,
};
use crate::node::{AllStopped, TreeCommand, TreeDone};
use crate::supervision::{ChildCounts, ChildSpec, SupervisorSpec};

pub use crate::node::{NodeEvent, Stopped, Ticket};

/// Where a node begins.
pub struct Node;

impl Node {
    /// A node with the built-in agent types: `echo`, `state`, `text`, `chaos`.
    pub fn builder() -> NodeBuilder {
        let builder = NodeBuilder { types: Vec::new(), mailbox: MailboxLimits::default() };
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
    mailbox: MailboxLimits,
}

impl NodeBuilder {
    /// Lets agents of type `T` be spawned under a name. The last one under a name counts.
    #[must_use]
    pub fn agent_type<T: Agent + Default + 'static>(mut self, name: &str) -> Self {
        self.types.retain(|(known, _)| known != name);
        self.types.push((name.to_owned(), make::<T>));
        self
    }

    /// How much may wait in the mailbox of each agent.
    #[must_use]
    pub fn mailbox(mut self, limits: MailboxLimits) -> Self {
        self.mailbox = limits;
        self
    }

    /// The names of the registered types.
    pub fn agent_types(&self) -> Vec<&str> {
        self.types.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Starts the node and its agents, on threads of its own: the tree runs when this returns,
    /// connected to NATS or not, and each agent of the config has a task. What is wrong in the config
    /// is refused before anything is started.
    ///
    /// The calls of the handle block. A program that has a runtime takes
    /// [`start_async`](Self::start_async).
    pub fn start(self, config: &NodeConfig) -> Result<NodeHandle> {
        self.check(config)?;
        let mut agents = runtime::Builder::new_multi_thread();
        let agents = agents.enable_all().thread_name("agents").build();
        let agents =
            agents.map_err(|error| Error::Node(format!("the agents' threads: {error}")))?;
        let (parts, on) = (parts_runtime()?, agents.handle().clone());
        let handle = parts.handle().clone();
        let runtimes = Runtimes { owned: vec![agents, parts] };
        let node = block::on(&handle, self.start_on(config, on, handle.clone(), runtimes))?;
        Ok(NodeHandle { node, runtime: handle })
    }

    /// The same in a program that has a runtime of tokio: the agents run there, and only the node's
    /// own parts on a thread of their own, so that agents which do not await cannot keep it from
    /// looking after them.
    pub async fn start_async(self, config: &NodeConfig) -> Result<AsyncNode> {
        self.check(config)?;
        let parts = parts_runtime()?;
        let handle = parts.handle().clone();
        let runtimes = Runtimes { owned: vec![parts] };
        self.start_on(config, Handle::current(), handle, runtimes).await
    }

    fn check(&self, config: &NodeConfig) -> Result<()> {
        config.check(&self.agent_types()).map_err(Error::Node)
    }

    /// With agents on one runtime and parts on another, or on the same.
    pub(super) async fn start_on(
        self,
        config: &NodeConfig,
        agents: Handle,
        parts: Handle,
        runtimes: Runtimes,
    ) -> Result<AsyncNode> {
        logger::install(config);
        panics::install();
        surroundings::warn(config);
        let store = Store::open(&config.data_dir)
            .map_err(|error| Error::Node(format!("the data directory: {error}")))?;
        let (node_id, mailbox_limits) = (config.node_id.clone(), self.mailbox);
        let nats = NatsConfig::of_node(config).map_err(|error| Error::Node(error.to_string()))?;
        let wire = match nats {
            Some(nats) => {
                let wire = Wire::connect(nats, parts.clone()).await;
                Some(wire.map_err(|error| Error::Node(format!("NATS: {error}")))?)
            }
            None => None,
        };
        let has_nats = wire.is_some();
        let parts_on = parts.clone();
        let made = Made { node_id, agents, parts: parts_on, mailbox_limits, store, wire };
        let (shared, Ends { supervisor: to_supervisor, events: to_events, gateway: to_gateway }) =
            Shared::new(made);
        let inbox = Inbox::new();
        let give_up = inbox.sender.clone();
        let mut kept = Parts::new(parts, move |part| {
            drop(give_up.send(NodeEvent::GaveUp { part: part.to_owned() }));
        });
        let start = EventsStart {
            detection: config.detection.clone(),
            alerts: config.alerts.clone(),
            publishes: has_nats && config.supervision.enabled,
        };
        if start.publishes {
            shared.listen();
        }
        // Each life of a part has what came for it, also while there was none.
        let (of, mails) = (Arc::clone(&shared), Arc::new(tokio::sync::Mutex::new(to_events)));
        kept.start("events", move |_| {
            let (of, start, mails) = (Arc::clone(&of), start.clone(), Arc::clone(&mails));
            async move { events::run(of, start, &mut *mails.lock().await).await }
        });
        let start = SupervisorStart {
            max_agents: config.max_agents,
            types: self.types,
            trees: config.supervisors.clone(),
            supervision: config.supervision.clone(),
        };
        let (of, mails) = (Arc::clone(&shared), Arc::new(tokio::sync::Mutex::new(to_supervisor)));
        kept.start("agents", move |life| {
            let (of, start, mails) = (Arc::clone(&of), start.clone(), Arc::clone(&mails));
            async move { supervisor::run(of, start, life, &mut *mails.lock().await).await }
        });
        if let Some(wire) = &shared.wire {
            let connection = wire.connection().clone();
            kept.start("connection", move |_| Wire::log_events(connection.clone()));
            let (of, mails) = (Arc::clone(&shared), Arc::new(tokio::sync::Mutex::new(to_gateway)));
            let (told, itself) = (inbox.sender.clone(), shared.to_gateway());
            kept.start("gateway", move |_| {
                let (of, mails) = (Arc::clone(&of), Arc::clone(&mails));
                let (told, itself) = (told.clone(), itself.clone());
                async move { gateway::run(of, told, itself, &mut *mails.lock().await).await }
            });
        }
        let running = Arc::new(Running { shared: Arc::clone(&shared), _parts: kept, runtimes });
        remember(&running);
        let client = NodeClient { shared };
        let node = AsyncNode { client, inbox, running: Some(running) };
        for agent in &config.agents {
            node.client.spawn_agent(agent, true).await?;
        }
        Ok(node)
    }
}

/// One thread, which no agent runs on.
fn parts_runtime() -> Result<Runtime> {
    let mut parts = runtime::Builder::new_multi_thread();
    let parts = parts.worker_threads(1).enable_all().thread_name("node").build();
    parts.map_err(|error| Error::Node(format!("the node's thread: {error}")))
}

fn make<T: Agent + Default + 'static>() -> Box<dyn Agent> {
    Box::new(T::default())
}

/// Runtimes that end with the node. They do not wait for a task that does not end.
pub(super) struct Runtimes {
    pub(super) owned: Vec<Runtime>,
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        self.owned.drain(..).for_each(Runtime::shutdown_background);
    }
}

/// A node that runs, for as long as somebody has started it.
struct Running {
    shared: Arc<Shared>,
    /// Before the runtimes: their tasks end with this.
    _parts: Parts,
    #[allow(dead_code, reason = "it is dropped")]
    runtimes: Runtimes,
}

/// The nodes of this process, the first one first.
static NODES: Mutex<Vec<Weak<Running>>> = Mutex::new(Vec::new());

fn remember(node: &Arc<Running>) {
    let mut nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    nodes.retain(|node| node.strong_count() > 0);
    nodes.push(Arc::downgrade(node));
}

/// Whether a node runs in this process.
pub(super) fn is_there_one() -> bool {
    running().is_some()
}

fn running() -> Option<Arc<Shared>> {
    let nodes = NODES.lock().unwrap_or_else(PoisonError::into_inner);
    nodes.iter().find_map(|node| node.upgrade().map(|node| Arc::clone(&node.shared)))
}

/// What comes for one handle.
struct Inbox {
    sender: mpsc::UnboundedSender<NodeEvent>,
    receiver: mpsc::UnboundedReceiver<NodeEvent>,
    /// Events that wait in it.
    waiting: Arc<AtomicUsize>,
    /// Requests whose answers have not come.
    open: Arc<AtomicUsize>,
    last_ticket: AtomicI64,
}

impl Inbox {
    /// The most requests of one handle that are under way.
    const MAX_OPEN: usize = 65_536;

    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (waiting, open, last_ticket) = (Arc::default(), Arc::default(), AtomicI64::new(0));
        Self { sender, receiver, waiting, open, last_ticket }
    }

    fn watcher(&self) -> Watcher {
        Watcher::new(self.sender.clone(), Arc::clone(&self.waiting))
    }

    fn ticket(&self) -> Result<(Ticket, Responder)> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= Self::MAX_OPEN {
            self.open.fetch_sub(1, Ordering::Relaxed);
            let most = Self::MAX_OPEN;
            return Err(Error::Node(format!("{most} requests wait for their answers already")));
        }
        let ticket = Ticket(self.last_ticket.fetch_add(1, Ordering::Relaxed) + 1);
        let (inbox, open) = (self.sender.clone(), Arc::clone(&self.open));
        let holder = TicketHolder { ticket, inbox, open };
        Ok((ticket, Responder::Ticket(holder)))
    }

    async fn next(&mut self) -> Option<NodeEvent> {
        let event = self.receiver.recv().await;
        if matches!(event, Some(NodeEvent::Event { .. })) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        event
    }
}

/// A request whose answer comes as an event.
#[derive(Debug)]
pub(super) struct TicketHolder {
    ticket: Ticket,
    inbox: mpsc::UnboundedSender<NodeEvent>,
    open: Arc<AtomicUsize>,
}

impl TicketHolder {
    pub(super) fn answer(self, answer: Result<Value, String>) {
        let ticket = self.ticket;
        // Who has gone does not wait for it.
        drop(self.inbox.send(NodeEvent::Answer { ticket, answer }));
    }
}

impl Drop for TicketHolder {
    /// It is answered, or the agent died over it and no answer comes, as on the other hosts.
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running node, for any task and thread that wants to ask it something. It can be cloned, and does
/// not keep the node running: when that has ended, each call is an error.
#[derive(Clone)]
pub struct NodeClient {
    shared: Arc<Shared>,
}

impl NodeClient {
    /// How long the supervisor has to answer.
    const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);

    /// The node's name.
    pub fn node_id(&self) -> &str {
        self.shared.node_id.as_str()
    }

    /// Starts an agent. With an empty id, one is made up.
    pub async fn spawn(&self, config: &AgentConfig) -> Result<Spawned> {
        self.spawn_agent(config, false).await
    }

    async fn spawn_agent(&self, config: &AgentConfig, declared: bool) -> Result<Spawned> {
        if !config.id.as_str().is_empty() {
            config.validate()?;
        }
        let boxed = Box::new(config.clone());
        let answer = self.ask(|answer| Ask::Spawn { config: boxed, declared, answer }).await;
        answer.map_err(|error| match error {
            NoAnswer::Refused(error) => match error.code {
                ErrorCode::Exists => SpawnError::Exists(config.id.clone()).into(),
                ErrorCode::UnknownType => SpawnError::UnknownType(error.message).into(),
                ErrorCode::Capacity => SpawnError::Capacity(error.message).into(),
                _ => SpawnError::Refused(error.message).into(),
            },
            NoAnswer::Silence => SpawnError::Timeout(Self::SUPERVISOR_TIMEOUT).into(),
        })
    }

    /// Stops an agent for good.
    pub async fn stop(&self, id: &AgentId) -> Result<()> {
        let answer = self.ask(|answer| Ask::Stop { id: id.clone(), answer }).await;
        answer.map(drop).map_err(|error| error.about(id))
    }

    /// Does something with the declared trees.
    pub async fn tree(&self, command: TreeCommand) -> Result<TreeDone> {
        let command = Box::new(command);
        let answer = self.ask(|answer| Ask::Tree { command, answer }).await;
        answer.map_err(NoAnswer::into_error)
    }

    /// The node at a glance.
    pub async fn status(&self) -> Result<NodeSummary> {
        self.ask(|answer| Ask::Status { answer }).await.map_err(NoAnswer::into_error)
    }

    /// One agent.
    pub async fn agent(&self, id: &AgentId) -> Result<AgentSummary> {
        let answer = self.ask(|answer| Ask::Agent { id: id.clone(), answer }).await;
        answer.map_err(|error| error.about(id))
    }

    /// At most `limit` agents, those after an id, in the order of their ids.
    pub async fn list(&self, after: Option<&AgentId>, limit: u32) -> Result<AgentPage> {
        let (after, limit) = (after.cloned(), limit as usize);
        let answer = self.ask(|answer| Ask::List { after, limit, answer }).await;
        answer.map_err(NoAnswer::into_error)
    }

    /// Sends a payload to an agent of this node. A mailbox that is full is an error.
    pub fn send(&self, to: &AgentId, payload: impl Into<Value>) -> Result<()> {
        let sent = self.shared.directory.send(to, payload.into(), None);
        sent.map_err(Error::from)
    }

    /// Sends a payload to an agent of this node and waits for its answer.
    pub async fn request(
        &self,
        to: &AgentId,
        payload: impl Into<Value>,
        timeout: Duration,
    ) -> Result<Value> {
        let (asker, answer) = oneshot::channel();
        let reply = Some(Responder::Asker(asker));
        let sent = self.shared.directory.send(to, payload.into(), reply);
        sent.map_err(RequestError::from)?;
        Ok(read_answer(to, timeout, answer).await?)
    }

    /// Whether the node is connected to NATS now.
    pub fn is_connected(&self) -> bool {
        self.shared.wire.as_ref().is_some_and(Wire::is_online)
    }

    /// From now on the node takes no new agents.
    pub async fn drain(&self) -> Result<()> {
        self.ask(|answer| Ask::Drain { answer }).await.map_err(NoAnswer::into_error)
    }

    /// Hands a body to an agent as NATS would, whole as it is.
    pub(super) fn deliver(&self, to: &AgentId, body: Vec<u8>) -> Result<(), SendError> {
        let mailbox = self.shared.directory.find(to)?;
        let mail = Mail::Input { body: body.into(), reply: None };
        mailbox.push(mail).map_err(|error| super::directory::not_taken(&mailbox, to, &error))
    }

    async fn ask<T>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> Result<T, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        if !self.shared.ask_supervisor(ask(answer)) {
            return Err(NoAnswer::Silence);
        }
        match tokio::time::timeout(Self::SUPERVISOR_TIMEOUT, answered).await {
            Ok(Ok(answer)) => answer.map_err(NoAnswer::Refused),
            // It died over it, or has more to do than it can.
            Ok(Err(_)) | Err(_) => Err(NoAnswer::Silence),
        }
    }
}

/// Why a question to the supervisor has no answer.
enum NoAnswer {
    Refused(WireError),
    Silence,
}

impl NoAnswer {
    fn into_error(self) -> Error {
        match self {
            Self::Refused(error) => Error::Node(error.message),
            Self::Silence => Error::Node("the agent supervisor did not answer".to_owned()),
        }
    }

    fn about(self, id: &AgentId) -> Error {
        match self {
            Self::Refused(error) if error.code == ErrorCode::UnknownAgent => {
                SendError::UnknownAgent(id.clone()).into()
            }
            other => other.into_error(),
        }
    }
}

/// A running node, for the program that started it and has a runtime. What is asked of its agents goes
/// through its [`client`](Self::client). Dropped, it ends without a word to the agents.
pub struct AsyncNode {
    client: NodeClient,
    inbox: Inbox,
    /// None for a handle that was attached.
    #[allow(dead_code, reason = "it is held")]
    running: Option<Arc<Running>>,
}

impl AsyncNode {
    /// The longest grace of a stop, one day: a longer one is cut to it.
    pub const MAX_GRACE: Duration = Duration::from_millis(SystemMessage::MAX_GRACE_MS);
    /// How long the supervisor may take beyond the grace to say how its agents ended.
    const STOP_TIMEOUT: Duration = Duration::from_secs(6);
    /// How long the parts have, when the agents have ended, to tell what is left.
    const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
    /// The same while there is no connection to a server: it may come back any moment.
    const OFFLINE_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

    /// A further handle to the node of this process: the one that was started first and still runs.
    pub fn attach() -> Result<Self> {
        let shared = running().ok_or_else(|| Error::Node("no node runs in this process".into()))?;
        Ok(Self { client: NodeClient { shared }, inbox: Inbox::new(), running: None })
    }

    /// For any task and thread that wants to ask it something.
    pub fn client(&self) -> &NodeClient {
        &self.client
    }

    /// From now on every event of this node's agents and supervisors comes as a
    /// [`NodeEvent::Event`] as well. At most 16 handles watch; one more is an error. Events beyond
    /// 65,536 that this one has not taken are left out.
    pub fn watch(&self) -> Result<()> {
        self.client.shared.watch(self.inbox.watcher()).map_err(Error::Node)
    }

    /// Sends a payload to an agent of this node; its answer comes as a [`NodeEvent::Answer`], or
    /// never, if the agent dies.
    pub fn ask(&self, to: &AgentId, payload: impl Into<Value>) -> Result<Ticket> {
        let (ticket, responder) = self.inbox.ticket()?;
        let sent = self.client.shared.directory.send(to, payload.into(), Some(responder));
        sent.map(|()| ticket).map_err(Error::from)
    }

    /// Waits for what comes next.
    pub async fn next(&mut self) -> Option<NodeEvent> {
        self.inbox.next().await
    }

    /// Ends the node: every agent's `on_stop`, for which they have `grace` together, a kill for those
    /// that take longer, and then everything that is still to be told. A `Shutdown` that comes
    /// meanwhile can shorten the grace. A handle that was attached stops the agents likewise; the node
    /// without agents is left to who started it.
    ///
    /// It takes at most `grace` and 11 s, whatever dies on the way.
    pub async fn shutdown(mut self, grace: Duration) -> Result<Stopped> {
        let AllStopped { stopped, killed, killed_agents } =
            self.stop_agents(grace.min(Self::MAX_GRACE)).await?;
        let flushed = self.flush().await;
        Ok(Stopped { stopped, killed, killed_agents, flushed })
    }

    async fn stop_agents(&mut self, grace: Duration) -> Result<AllStopped> {
        let agents = self.client.status().await.map_or(0, |status| status.agents);
        let (mut lost, mut end) = (0, clock::now() + grace);
        let mut asked = self.ask_to_stop(grace)?;
        loop {
            let most = clock::timer(end + Self::STOP_TIMEOUT);
            tokio::select! {
                answer = &mut asked => match answer {
                    Ok(Ok(done)) => return Ok(AllStopped { killed: done.killed + lost, ..done }),
                    Ok(Err(error)) => return Err(Error::Node(error.message)),
                    Err(_) => {
                        log::error!("the agent supervisor died in the stop, and its agents with it");
                        // Some of them may have ended well before; nobody is left who knows.
                        lost = agents;
                        asked = self.ask_to_stop(end - clock::now())?;
                    }
                },
                event = self.inbox.next() => match event {
                    Some(NodeEvent::ShutdownAsked { grace }) if clock::now() + grace < end => {
                        end = clock::now() + grace;
                        self.client.shared.ask_supervisor(Ask::Hurry { grace });
                    }
                    Some(NodeEvent::GaveUp { part }) => {
                        let text = format!("{part} died too often; the node is down");
                        return Err(Error::Node(text));
                    }
                    _ => {}
                },
                () = tokio::time::sleep_until(most) => {
                    log::error!("the agent supervisor does not say how its agents ended");
                    return Ok(AllStopped { killed: agents, ..AllStopped::default() });
                }
            }
        }
    }

    fn ask_to_stop(
        &self,
        grace: Duration,
    ) -> Result<oneshot::Receiver<Result<AllStopped, WireError>>> {
        let (answer, answered) = oneshot::channel();
        match self.client.shared.ask_supervisor(Ask::StopAll { grace, answer }) {
            true => Ok(answered),
            false => Err(Error::Node("the node has ended already".to_owned())),
        }
    }

    /// When the agents have ended: has every part answer and tell what it has.
    async fn flush(&self) -> bool {
        let shared = &self.client.shared;
        let is_online = shared.wire.as_ref().is_some_and(Wire::is_online);
        let may_come_back = shared.wire.is_some() && !is_online;
        let timeout = if may_come_back { Self::OFFLINE_FLUSH_TIMEOUT } else { Self::FLUSH_TIMEOUT };
        let deadline = clock::now() + timeout;
        let step = || (deadline - clock::now()).min(timeout / 4);
        let (done, is_done) = oneshot::channel();
        if shared.wire.is_some() {
            let finish = async {
                let asked = shared.to_gateway().send(GatewayMail::Finish(done)).await.is_ok();
                asked && is_done.await.is_ok()
            };
            if !tokio::time::timeout(step(), finish).await.unwrap_or(false) {
                log::warn!("the gateway did not answer everything before the end");
            }
        }
        let (done, is_done) = oneshot::channel();
        let told = shared.ask_events(EventsMail::Flush(done));
        let told = async { told.await && is_done.await.is_ok() };
        let told = tokio::time::timeout(step(), told).await.unwrap_or(false);
        if !told {
            log::warn!("the last events are not told");
        }
        match &shared.wire {
            // The node without agents is left to who started it.
            Some(wire) if self.running.is_none() => {
                wire.connection().flush(deadline - clock::now()).await.is_ok() && told
            }
            Some(wire) => wire.finish(deadline - clock::now()).await && told,
            None => told,
        }
    }
}

/// A running node, for the program that started it. Its calls block the thread; a program that has a
/// runtime takes [`AsyncNode`]. Dropped, the node ends without a word to the agents.
pub struct NodeHandle {
    node: AsyncNode,
    runtime: Handle,
}

impl NodeHandle {
    /// The longest grace of a stop, one day: a longer one is cut to it.
    pub const MAX_GRACE: Duration = AsyncNode::MAX_GRACE;

    /// A further handle to the node of this process: the one that was started first and still runs. The
    /// config is not looked at.
    pub fn attach(_: &NodeConfig) -> Result<Self> {
        let node = AsyncNode::attach()?;
        let runtime = node.client.shared.parts.clone();
        Ok(Self { node, runtime })
    }

    /// For tasks and threads beside this one.
    pub fn client(&self) -> &NodeClient {
        self.node.client()
    }

    /// The node's name.
    pub fn node_id(&self) -> &str {
        self.node.client.node_id()
    }

    /// Starts an agent. With an empty id, one is made up.
    pub fn spawn(&mut self, config: &AgentConfig) -> Result<Spawned> {
        block::on(&self.runtime, self.node.client.spawn(config))
    }

    /// Stops an agent for good.
    pub fn stop(&mut self, id: &AgentId) -> Result<()> {
        block::on(&self.runtime, self.node.client.stop(id))
    }

    /// Starts a declared tree beside those of the config: its agents in order, each when the one
    /// before it runs. This returns when the tree is taken, or refused as a whole.
    pub fn start_supervisor(&mut self, spec: SupervisorSpec) -> Result<()> {
        self.tree(TreeCommand::StartSupervisor { spec }).map(drop)
    }

    /// Stops a declared tree, in reverse order, and forgets it. What has not stopped after that grace
    /// is killed. This returns when that has begun.
    pub fn stop_supervisor(&mut self, id: &str, grace: Duration) -> Result<()> {
        self.tree(TreeCommand::StopSupervisor { id: id.to_owned(), grace }).map(drop)
    }

    /// Adds a child to a supervisor, behind the others, and starts it; if it does not come up it is
    /// forgotten. This returns when it is taken, or refused.
    pub fn start_child(&mut self, supervisor: &str, child: ChildSpec) -> Result<()> {
        self.tree(TreeCommand::StartChild { supervisor: supervisor.to_owned(), child }).map(drop)
    }

    /// Stops a child, which keeps its place. This returns when that has begun.
    pub fn terminate_child(&mut self, supervisor: &str, child: &str) -> Result<()> {
        let (supervisor, child) = (supervisor.to_owned(), child.to_owned());
        self.tree(TreeCommand::TerminateChild { supervisor, child }).map(drop)
    }

    /// Starts a child that does not run. This returns when that has begun.
    pub fn restart_child(&mut self, supervisor: &str, child: &str) -> Result<()> {
        let (supervisor, child) = (supervisor.to_owned(), child.to_owned());
        self.tree(TreeCommand::RestartChild { supervisor, child }).map(drop)
    }

    /// Forgets a child that does not run, and all below it.
    pub fn delete_child(&mut self, supervisor: &str, child: &str) -> Result<()> {
        let (supervisor, child) = (supervisor.to_owned(), child.to_owned());
        self.tree(TreeCommand::DeleteChild { supervisor, child }).map(drop)
    }

    /// How many children a supervisor has.
    pub fn count_children(&mut self, supervisor: &str) -> Result<ChildCounts> {
        let supervisor = supervisor.to_owned();
        match self.tree(TreeCommand::CountChildren { supervisor })? {
            TreeDone::Counts(counts) => Ok(counts),
            TreeDone::Done => Err(Error::Node("the agent supervisor did not count".to_owned())),
        }
    }

    fn tree(&mut self, command: TreeCommand) -> Result<TreeDone> {
        block::on(&self.runtime, self.node.client.tree(command))
    }

    /// The node at a glance.
    pub fn status(&mut self) -> Result<NodeSummary> {
        block::on(&self.runtime, self.node.client.status())
    }

    /// One agent.
    pub fn agent(&mut self, id: &AgentId) -> Result<AgentSummary> {
        block::on(&self.runtime, self.node.client.agent(id))
    }

    /// At most `limit` agents, those after an id, in the order of their ids.
    pub fn list(&mut self, after: Option<&AgentId>, limit: u32) -> Result<AgentPage> {
        block::on(&self.runtime, self.node.client.list(after, limit))
    }

    /// Sends a payload to an agent of this node. A mailbox that is full is an error.
    pub fn send(&mut self, to: &AgentId, payload: &Value) -> Result<()> {
        self.node.client.send(to, payload.clone())
    }

    /// Sends a payload to an agent of this node and waits for its answer.
    pub fn request(&mut self, to: &AgentId, payload: &Value, timeout: Duration) -> Result<Value> {
        block::on(&self.runtime, self.node.client.request(to, payload.clone(), timeout))
    }

    /// Sends a payload to an agent of this node; its answer comes as a [`NodeEvent::Answer`], or
    /// never, if the agent dies.
    pub fn ask(&mut self, to: &AgentId, payload: &Value) -> Result<Ticket> {
        self.node.ask(to, payload.clone())
    }

    /// From now on every event of this node's agents and supervisors comes as a [`NodeEvent::Event`]
    /// as well; see [`AsyncNode::watch`].
    pub fn watch(&mut self) -> Result<()> {
        self.node.watch()
    }

    /// Waits for what comes next, at most for `timeout`.
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<NodeEvent> {
        let next = self.node.next();
        block::on(&self.runtime, async {
            match timeout {
                Some(timeout) => tokio::time::timeout(timeout, next).await.ok().flatten(),
                None => next.await,
            }
        })
    }

    /// Whether the node is connected to NATS now.
    pub fn is_connected(&self) -> bool {
        self.node.client.is_connected()
    }

    /// Has it told as an event when the program gets SIGINT or SIGTERM, so that it can stop the node;
    /// the second one ends the program at once, with 128 and the signal's number.
    pub fn shutdown_on_signals(&self, grace: Duration) {
        signals::watch(&self.runtime, self.node.inbox.sender.clone(), grace);
    }

    /// From now on the node takes no new agents.
    pub fn drain(&mut self) -> Result<()> {
        block::on(&self.runtime, self.node.client.drain())
    }

    /// Ends the node; see [`AsyncNode::shutdown`].
    pub fn shutdown(self, grace: Duration) -> Result<Stopped> {
        let Self { node, runtime } = self;
        block::on(&runtime, node.shutdown(grace))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn config(test: &str) -> NodeConfig {
        let name = format!("native-node-{}-{test}", std::process::id());
        NodeConfig {
            nats: None,
            data_dir: std::env::temp_dir().join(name),
            log_level: log::LevelFilter::Off,
            ..NodeConfig::new(AgentId("test".to_owned()))
        }
    }

    fn echo(id: &str) -> AgentConfig {
        let (id, agent_type) = (AgentId(id.to_owned()), "echo".to_owned());
        AgentConfig { id, agent_type, ..AgentConfig::default() }
    }

    /// On the runtime of a test, whose clock may be paused.
    async fn start(config: &NodeConfig) -> AsyncNode {
        let here = Handle::current();
        let runtimes = Runtimes { owned: Vec::new() };
        let node = Node::builder().start_on(config, here.clone(), here, runtimes).await;
        node.expect("it starts")
    }

    #[tokio::test]
    async fn agents_share_the_fate_of_their_supervisor_and_its_successor_takes_new_ones() {
        let mut config = config("fate");
        config.supervisors.push(SupervisorSpec {
            id: "top".to_owned(),
            children: vec![echo("declared").into()],
            ..SupervisorSpec::default()
        });
        let node = start(&config).await;
        let client = node.client().clone();
        let a = client.spawn(&echo("a")).await.expect("there is room").agent_id;
        assert_eq!(client.request(&a, 1, DEADLINE).await.expect("it echoes"), json!(1));
        client.shared.panic_supervisor();
        // What is asked of it next is answered by the one after it.
        assert!(client.agent(&a).await.is_err(), "nobody knows of it any more");
        let error = client.request(&a, 1, DEADLINE).await.expect_err("it is gone").to_string();
        assert!(error.contains("there is no agent a"), "{error}");
        let again = client.spawn(&echo("a")).await.expect("there is room");
        assert_eq!(again.incarnation, 1, "nothing of the one before is known");
        assert_eq!(client.request(&a, 2, DEADLINE).await.expect("it echoes"), json!(2));
        let declared = AgentId("declared".to_owned());
        assert_eq!(client.request(&declared, 3, DEADLINE).await.expect("it echoes"), json!(3));
        let stopped = node.shutdown(DEADLINE).await.expect("it stops");
        assert_eq!((stopped.stopped, stopped.killed), (2, 0));
        std::fs::remove_dir_all(&config.data_dir).expect("it is there");
    }

    #[tokio::test]
    async fn a_part_that_dies_again_and_again_takes_the_node_down_and_says_so() {
        let config = config("gives-up");
        let mut node = start(&config).await;
        for _ in 0..6 {
            node.client.shared.panic_supervisor();
        }
        let part = "agents".to_owned();
        assert_eq!(node.next().await, Some(NodeEvent::GaveUp { part }));
        std::fs::remove_dir_all(&config.data_dir).expect("it is there");
    }

    /// Hours pass at once, and each deadline is kept to the millisecond.
    #[tokio::test(start_paused = true)]
    async fn deadlines_are_kept_on_the_runtime_s_own_clock() {
        let config = config("clock");
        let mut node = start(&config).await;
        node.watch().expect("there is room");
        let chaos =
            AgentConfig { agent_type: "chaos".to_owned(), timeout_ms: 3_600_000, ..echo("slow") };
        node.client().spawn(&chaos).await.expect("there is room");
        let began = clock::now();
        let asked = node.client().request(&chaos.id, json!({ "die": "hang" }), Duration::MAX).await;
        assert!(asked.is_err(), "{asked:?}");
        let hours = (clock::now() - began).as_secs() / 3_600;
        assert!((1..=2).contains(&hours), "{hours}");
        loop {
            let Some(NodeEvent::Event { payload, .. }) = node.next().await else { continue };
            let Some(failure) = payload.get("Failure") else { continue };
            assert_eq!(failure["failure_type"], "TimeoutFailure", "{failure}");
            assert_eq!(failure["context"]["limit_value"], 3_600_000, "{failure}");
            break;
        }
        std::fs::remove_dir_all(&config.data_dir).expect("it is there");
    }
}
