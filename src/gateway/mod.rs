//! What NATS brings to a node, as a machine: commands about agents on `agent.command`, and about the
//! node on `system.control`. It asks whoever knows, and answers. It waits for nobody: a slow agent
//! delays its own answer alone.
//!
//! A host tells it what happened with [`Gateway::handle_input`], and does what
//! [`Gateway::poll_output`] says until that is [`Output::Wait`].
//!
//! Several nodes are one system. A command that names an agent comes to any one node, by
//! `agent.command`; where that node has no such agent, it looks for the one that has:
//!
//! ```text
//! asker ── Stop a ──▶ n1 (agent.command)           n1 has no agent a
//!                     n1 ── Locate a ──▶ all nodes (agent.command.all)
//!                     n1 ◀── a is on n2 ── n2      the others are silent
//!                     n1 ── Stop a ──▶ n2 (agent.command.n2)
//! asker ◀── Ok ────── n1 ◀── Ok ────── n2
//! ```
//!
//! Nothing is forwarded twice: what came by `agent.command.all` or `agent.command.<node_id>` stays
//! where it is. An agent is looked for before the command is sent, so that a command is done by one
//! node at the most, and the silence that means "unknown" has nothing to do with how long an agent
//! takes. The answer goes back by the node that forwards, since only that one is told by NATS if the
//! owner has ended meanwhile: so who asks is answered in any case.

mod bad_input;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use crate::agent::{AgentConfig, AgentId, Context};
use crate::message::{
    encode_error, encode_error_as, AgentCommand, Content, ErrorCode, Pong, Subject, SubjectKind,
    SystemMessage, WireError,
};
use crate::time::Instant;

use bad_input::BadInput;

/// The subjects that lead to a node's gateway, with their queue groups.
pub fn subscriptions(node_id: &str) -> [(String, Option<&'static str>); 5] {
    [
        (Subject::agent_command(), Some("nodes")),
        (Subject::agent_command_node(node_id), None),
        (Subject::agent_command_all().to_owned(), None),
        (Subject::system_control(), None),
        (Subject::system_control_node(node_id), None),
    ]
}

/// A fact from outside.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A message came on one of the [`subscriptions`].
    Message {
        /// The subject that it came on.
        subject: &'a str,
        /// Where its answer goes, if one is wanted.
        reply: Option<&'a str>,
        /// What it says.
        body: &'a [u8],
    },
    /// The supervisor did what it was asked to by [`Output::Supervisor`].
    Done {
        /// Under which tag.
        tag: u64,
        /// Its answer, as JSON.
        json: &'a [u8],
    },
    /// An agent has answered [`Output::Agent`].
    Answered {
        /// Under which tag.
        tag: u64,
        /// The payload of its answer.
        payload: &'a Value,
    },
    /// The supervisor or an agent was asked, and said no.
    Refused {
        /// Under which tag.
        tag: u64,
        /// The code of the wire contract.
        code: &'a str,
        /// What is wrong.
        message: &'a str,
    },
    /// The supervisor or an agent could not even be asked. That there is no such agent here is
    /// [`ErrorCode::UnknownAgent`]: then the other nodes are asked.
    NotAsked {
        /// Under which tag.
        tag: u64,
        /// Why not.
        error: &'a WireError,
        /// What came with [`Output::Agent`]; nothing for the supervisor.
        command: Vec<u8>,
    },
    /// An agent that was asked has ended, and all that it said before was told.
    Gone {
        /// Under which tag.
        tag: u64,
        /// Whether it is started again.
        comes_back: bool,
    },
    /// Something came on the reply subject of [`Output::Request`]. There can be several.
    Reply {
        /// Under which tag.
        tag: u64,
        /// What it says.
        body: &'a [u8],
    },
    /// Nobody listens where a request went: NATS says so.
    NoResponders {
        /// Under which tag.
        tag: u64,
    },
    /// No (further) reply can come to a request: the connection broke, or NATS does not permit it.
    NoReply {
        /// Under which tag.
        tag: u64,
    },
    /// A body was refused elsewhere in the node. It counts here.
    BadInput {
        /// The subject that it came on.
        subject: &'a str,
        /// Why.
        error: &'a WireError,
    },
    /// It may be time: see [`Output::Wait`].
    Tick,
    /// The node ends soon: what other nodes were given has to be answered by then.
    Finish,
}

/// What a host is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Ask the supervisor, and tell its answer under this tag. If nothing awaits the tag, it is not
    /// listened to.
    Supervisor {
        /// The tag.
        tag: u64,
        /// What.
        ask: Ask,
    },
    /// Ask an agent of this node, and tell its answer under this tag. If it cannot be asked, that is
    /// told at once.
    Agent {
        /// The tag.
        tag: u64,
        /// The agent.
        agent_id: AgentId,
        /// What.
        payload: Value,
        /// To be given back with [`Input::NotAsked`], and to be forgotten otherwise.
        command: Vec<u8>,
    },
    /// Publish.
    Publish {
        /// The subject.
        subject: String,
        /// The reply subject.
        reply: Option<String>,
        /// What.
        body: Vec<u8>,
    },
    /// Publish with a reply subject of the host's, and tell every reply under this tag.
    Request {
        /// The tag.
        tag: u64,
        /// The subject.
        subject: String,
        /// What.
        body: Vec<u8>,
    },
    /// End the node.
    Shutdown {
        /// How long the agents have for it.
        grace_ms: u64,
    },
    /// End the node when its last agent has ended.
    Drain,
    /// Nothing more for now: wait for a fact, or until then.
    Wait(Option<Instant>),
}

/// What the supervisor is asked; its answers are those of the wire contract.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Start an agent.
    Spawn {
        /// What it is made of; its id is empty if one is to be made up.
        config: AgentConfig,
    },
    /// End an agent for good.
    Stop {
        /// The agent.
        agent_id: AgentId,
    },
    /// Show the node, or one agent.
    Status {
        /// The agent; none for the node.
        agent_id: Option<AgentId>,
    },
    /// Show a page of agents.
    List {
        /// Those that come after this id.
        after: Option<AgentId>,
        /// How many at most.
        limit: usize,
    },
    /// Start no more agents. Answered with the node's id.
    Drain,
}

/// Takes commands, asks, and answers.
#[derive(Debug)]
pub struct Gateway {
    node_id: String,
    host: &'static str,
    pending: HashMap<u64, Pending>,
    /// The deadlines of `pending`, the nearest first. Most are put in at the end, and there are few.
    deadlines: Vec<(Instant, u64)>,
    last_tag: u64,
    /// The bytes of commands whose agents are looked for.
    held: usize,
    /// How many answered to this node's name.
    namesakes: u32,
    outputs: VecDeque<Output>,
    bad_input: BadInput,
}

/// Something that was asked, and whom its answer is for.
#[derive(Debug)]
struct Pending {
    asker: Asker,
    deadline: Instant,
    question: Question,
}

/// Where a command came from.
#[derive(Debug)]
struct Asker {
    way: Way,
    reply: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To any one node: what this one does not have may be on another.
    Any,
    /// To this node.
    Node,
    /// To all nodes: who has the agent answers, and the others are silent.
    All,
    /// By `system.control`.
    Control,
}

#[derive(Debug)]
enum Question {
    /// The supervisor's answer goes out as it is.
    Supervisor,
    /// The same, for a command with nothing in it but the agent's id.
    Named { command: &'static str, agent_id: AgentId },
    /// The answer is the node's summary, to which is added what is counted here.
    Summary,
    /// The answer is the node's summary, and only the number of agents is wanted.
    Ping,
    /// What an agent answers.
    Agent { agent_id: AgentId },
    /// Which node has an agent. The command goes there; if it is empty, only the node is wanted.
    Owner { agent_id: AgentId, command: Vec<u8> },
    /// The node that has the agent was given the command: its answer goes out as it is.
    Forwarded { agent_id: AgentId, node_id: String },
}

const LOCATE: &str = "Locate";

impl Gateway {
    /// The most questions that are open at once, commands whose agents are looked for on other nodes
    /// among them. Worst case some 1.2 KB each, with the longest reply subjects; one more is refused
    /// with `capacity`.
    pub const MAX_PENDING: usize = 10_000;
    /// The most bytes of commands whose agents are looked for on other nodes: 8 MiB. A command beyond
    /// it is refused with `capacity`.
    pub const MAX_HELD_BYTES: usize = 8 << 20;
    /// How long the supervisor may take.
    pub const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long an agent may take to answer an `Input`.
    pub const AGENT_TIMEOUT: Duration = Duration::from_secs(30);
    /// How long the other nodes may take to say that they have an agent.
    pub const OWNER_TIMEOUT: Duration = Duration::from_millis(500);
    /// How long the node that has an agent may take for a command: longer than its own agents may.
    pub const FORWARD_TIMEOUT: Duration = Duration::from_secs(31);

    /// The tag of what nobody waits for.
    const NOBODY: u64 = 0;
    /// The tag of the question who has this node's name.
    const NAMESAKES: u64 = 1;
    /// The longest answer to that who has an agent: two ids and their braces.
    const MAX_LOCATED: usize = 512;

    /// The gateway of a node on a `host`: `lunatic` or `native`. Its first output is a request that asks
    /// who has this node's name: for a host that is connected, or keeps what it publishes until it is.
    pub fn new(node_id: impl Into<String>, host: &'static str) -> Self {
        let node_id = node_id.into();
        let ask_for_namesakes = Output::Request {
            tag: Self::NAMESAKES,
            subject: Subject::system_control_node(&node_id),
            body: br#""Ping""#.to_vec(),
        };
        Self {
            node_id,
            host,
            pending: HashMap::new(),
            deadlines: Vec::new(),
            last_tag: Self::NAMESAKES,
            held: 0,
            namesakes: 0,
            outputs: VecDeque::from([ask_for_namesakes]),
            bad_input: BadInput::default(),
        }
    }

    /// Whether everything is answered.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the answer of an agent is awaited under this tag.
    pub fn awaits_agent(&self, tag: u64) -> bool {
        let pending = self.pending.get(&tag);
        pending.is_some_and(|one| matches!(one.question, Question::Agent { .. }))
    }

    /// Takes a fact in.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Message { subject, reply, body } => self.message(now, subject, reply, body),
            Input::Done { tag, json } => self.done(tag, json),
            Input::Answered { tag, payload } => {
                if let Some(Pending { asker, .. }) = self.forget(tag) {
                    self.reply_json(asker, payload);
                }
            }
            Input::Refused { tag, code, message } => self.refused(now, tag, code, message),
            Input::NotAsked { tag, error, command } => self.not_asked(now, tag, error, command),
            Input::Gone { tag, comes_back } => self.gone(tag, comes_back),
            Input::Reply { tag, body } => self.replied(now, tag, body),
            Input::NoResponders { tag } => self.no_reply(now, tag, true),
            Input::NoReply { tag } => self.no_reply(now, tag, false),
            Input::BadInput { subject, error } => self.bad_input.count(now, subject, error),
            Input::Tick => self.tick(now),
            Input::Finish => self.finish(now),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Output {
        let nearest = || Output::Wait(self.deadlines.first().map(|(deadline, _)| *deadline));
        self.outputs.pop_front().unwrap_or_else(nearest)
    }

    fn message(&mut self, now: Instant, subject: &str, reply: Option<&str>, body: &[u8]) {
        let (way, is_control) = match SubjectKind::parse(subject) {
            Some(SubjectKind::AgentCommand(None)) => (Way::Any, false),
            Some(SubjectKind::AgentCommand(Some(_))) => (Way::Node, false),
            Some(SubjectKind::AgentCommandAll) => (Way::All, false),
            Some(SubjectKind::SystemControl(_)) => (Way::Control, true),
            // A server can be told to deliver under another subject than was subscribed to.
            _ => {
                let text = format!(
                    "no command comes on {subject:?}: agent.command and system.control take them"
                );
                return self.refuse(now, subject, reply, &WireError::bad_shape(text));
            }
        };
        let asker = Asker { way, reply: reply.map(str::to_owned) };
        let handled = match is_control {
            true => SystemMessage::parse(body, Context::MAX_PAYLOAD)
                .and_then(|message| self.system(now, message, asker)),
            false => AgentCommand::parse(body, Context::MAX_PAYLOAD)
                .and_then(|command| self.command(now, command, asker, body)),
        };
        match handled {
            // It is not known whether this node would have been the one to answer.
            Err(error) if way == Way::All && error.code == ErrorCode::Capacity => {}
            Err(error) => self.refuse(now, subject, reply, &error),
            Ok(()) => {}
        }
    }

    fn command(
        &mut self,
        now: Instant,
        command: AgentCommand,
        asker: Asker,
        body: &[u8],
    ) -> Result<(), WireError> {
        let (question, ask) = match command {
            AgentCommand::Spawn { .. } if asker.way == Way::All => {
                return Err(WireError::bad_shape(
                    "Spawn is for one node: agent.command takes it, and agent.command.<node_id>",
                ));
            }
            AgentCommand::Spawn { config } => (Question::Supervisor, Ask::Spawn { config }),
            AgentCommand::List { after, limit } => {
                (Question::Supervisor, Ask::List { after, limit })
            }
            AgentCommand::Status { agent_id: None } => {
                (Question::Summary, Ask::Status { agent_id: None })
            }
            AgentCommand::Stop { agent_id } => {
                let question = Question::Named { command: "Stop", agent_id: agent_id.clone() };
                (question, Ask::Stop { agent_id })
            }
            AgentCommand::Status { agent_id: Some(agent_id) } => {
                let question = Question::Named { command: "Status", agent_id: agent_id.clone() };
                (question, Ask::Status { agent_id: Some(agent_id) })
            }
            AgentCommand::Locate { agent_id } => {
                let question = Question::Named { command: LOCATE, agent_id: agent_id.clone() };
                (question, Ask::Status { agent_id: Some(agent_id) })
            }
            AgentCommand::Input { agent_id, message } => {
                let payload = match message {
                    Content::Message(message) => message.payload,
                    Content::Bare(payload) => payload,
                };
                // Forwarded as it came: written anew, it could be longer than a body may be.
                let command = if asker.way == Way::Any { body.to_vec() } else { Vec::new() };
                let question = Question::Agent { agent_id: agent_id.clone() };
                let tag = self.expect(now, asker, question, Self::AGENT_TIMEOUT)?;
                self.outputs.push_back(Output::Agent { tag, agent_id, payload, command });
                return Ok(());
            }
        };
        self.ask(now, asker, question, ask)
    }

    fn system(
        &mut self,
        now: Instant,
        message: SystemMessage,
        asker: Asker,
    ) -> Result<(), WireError> {
        match message {
            SystemMessage::Ping => {
                self.ask(now, asker, Question::Ping, Ask::Status { agent_id: None })
            }
            SystemMessage::Shutdown { grace_ms } => {
                // What comes after the answer finds a node that takes no new agents. Nobody waits
                // for what the supervisor says to it.
                let (tag, ask) = (Self::NOBODY, Ask::Drain);
                self.outputs.push_back(Output::Supervisor { tag, ask });
                let json = format!(r#"{{"node_id":"{}"}}"#, self.node_id);
                self.reply_ok(asker, json.as_bytes());
                self.outputs.push_back(Output::Shutdown { grace_ms });
                Ok(())
            }
            SystemMessage::Drain => {
                self.outputs.push_back(Output::Drain);
                self.ask(now, asker, Question::Supervisor, Ask::Drain)
            }
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        asker: Asker,
        question: Question,
        ask: Ask,
    ) -> Result<(), WireError> {
        let tag = self.expect(now, asker, question, Self::SUPERVISOR_TIMEOUT)?;
        self.outputs.push_back(Output::Supervisor { tag, ask });
        Ok(())
    }

    fn expect(
        &mut self,
        now: Instant,
        asker: Asker,
        question: Question,
        timeout: Duration,
    ) -> Result<u64, WireError> {
        if self.pending.len() >= Self::MAX_PENDING {
            let text = format!("{} commands wait for their answers already", Self::MAX_PENDING);
            return Err(WireError::new(ErrorCode::Capacity, text));
        }
        self.last_tag += 1;
        self.insert(self.last_tag, asker, question, now + timeout);
        Ok(self.last_tag)
    }

    fn insert(&mut self, tag: u64, asker: Asker, question: Question, deadline: Instant) {
        self.pending.insert(tag, Pending { asker, deadline, question });
        let at = self.deadlines.partition_point(|one| *one < (deadline, tag));
        self.deadlines.insert(at, (deadline, tag));
    }

    fn forget(&mut self, tag: u64) -> Option<Pending> {
        let pending = self.pending.remove(&tag)?;
        if let Ok(at) = self.deadlines.binary_search(&(pending.deadline, tag)) {
            self.deadlines.remove(at);
        }
        if let Question::Owner { command, .. } = &pending.question {
            self.held -= command.len();
        }
        Some(pending)
    }

    fn done(&mut self, tag: u64, json: &[u8]) {
        // An answer that came after its deadline was answered for already.
        let Some(Pending { asker, question, .. }) = self.forget(tag) else { return };
        let summary = || serde_json::from_slice::<Value>(json).unwrap_or_default();
        match question {
            Question::Named { command: LOCATE, agent_id } => {
                let here = located(&agent_id, &self.node_id);
                self.reply_ok(asker, here.as_bytes());
            }
            Question::Summary => {
                let mut summary = summary();
                summary["counters"]["bad_input"] = self.bad_input.total().into();
                self.reply_json(asker, &summary);
            }
            Question::Ping => {
                let pong = Pong {
                    node_id: self.node_id.clone(),
                    host: self.host.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    agents: summary()["agents"].as_u64().unwrap_or_default(),
                };
                // Texts and a number can be written as JSON.
                self.reply_ok(asker, &serde_json::to_vec(&pong).unwrap_or_default());
            }
            _ => self.reply_ok(asker, json),
        }
    }

    fn refused(&mut self, now: Instant, tag: u64, code: &str, message: &str) {
        let Some(pending) = self.forget(tag) else { return };
        if code == ErrorCode::UnknownAgent.as_str() {
            if let Question::Named { .. } = pending.question {
                match pending.asker.way {
                    Way::Any => return self.look_for_owner(now, pending, Vec::new()),
                    Way::All => return,
                    Way::Node | Way::Control => {}
                }
            }
            let error = WireError::new(ErrorCode::UnknownAgent, message);
            self.bad_input.count(now, &self.subject(pending.asker.way), &error);
        }
        self.reply(pending.asker.reply, encode_error_as(code, message));
    }

    fn not_asked(&mut self, now: Instant, tag: u64, error: &WireError, command: Vec<u8>) {
        let Some(pending) = self.forget(tag) else { return };
        let is_unknown = error.code == ErrorCode::UnknownAgent;
        match pending.asker.way {
            Way::Any if is_unknown => return self.look_for_owner(now, pending, command),
            // Without its supervisor a node does not know whether the agent is its own.
            Way::All if is_unknown || matches!(pending.question, Question::Named { .. }) => return,
            _ => {}
        }
        let Asker { way, reply } = pending.asker;
        self.refuse(now, &self.subject(way), reply.as_deref(), error);
    }

    fn gone(&mut self, tag: u64, comes_back: bool) {
        if !self.awaits_agent(tag) {
            return;
        }
        let Some(Pending { asker, question: Question::Agent { agent_id }, .. }) = self.forget(tag)
        else {
            return;
        };
        let (code, text) = match comes_back {
            false => (ErrorCode::UnknownAgent, "ended before it answered"),
            true => (ErrorCode::AgentRestarting, "died before it answered and is started again"),
        };
        let error = WireError::new(code, format!("agent {agent_id} {text}"));
        self.reply(asker.reply, encode_error(&error));
    }

    /// This node has no such agent: asks all of them.
    fn look_for_owner(&mut self, now: Instant, pending: Pending, command: Vec<u8>) {
        let Pending { asker: Asker { way, reply }, question, .. } = pending;
        let (agent_id, command) = match question {
            Question::Named { command: LOCATE, agent_id } => (agent_id, Vec::new()),
            Question::Named { command, agent_id } => {
                let command = named(command, &agent_id);
                (agent_id, command)
            }
            Question::Agent { agent_id } => (agent_id, command),
            _ => return,
        };
        let bytes = command.len();
        if self.held + bytes > Self::MAX_HELD_BYTES {
            let text = format!(
                "agents are looked for on other nodes for {} bytes of commands, and may be for {}; \
                 try again",
                self.held,
                Self::MAX_HELD_BYTES
            );
            let error = WireError::new(ErrorCode::Capacity, text);
            return self.refuse(now, &self.subject(way), reply.as_deref(), &error);
        }
        let body = named(LOCATE, &agent_id);
        let (asker, question) = (Asker { way, reply }, Question::Owner { agent_id, command });
        // There is room: what this comes from was just forgotten.
        let Ok(tag) = self.expect(now, asker, question, Self::OWNER_TIMEOUT) else { return };
        self.held += bytes;
        let subject = Subject::agent_command_all().to_owned();
        self.outputs.push_back(Output::Request { tag, subject, body });
    }

    fn replied(&mut self, now: Instant, tag: u64, body: &[u8]) {
        if tag == Self::NAMESAKES {
            self.namesakes += 1;
            if self.namesakes == 2 {
                let node_id = self.node_id.as_str();
                log::error!(
                    "there is another node {node_id} on NATS: a node_id is for one node, and what \
                     is sent to {node_id} goes to both"
                );
            }
            return;
        }
        let owner = match self.pending.get(&tag).map(|pending| &pending.question) {
            Some(Question::Owner { agent_id, .. }) => match read_owner(agent_id, body) {
                // This node was looked at first. It may know an agent that has failed, and runs on
                // another.
                Some(node_id) if node_id != self.node_id => node_id,
                // Not the answer of a node that has it: that one's may still come.
                _ => return,
            },
            Some(Question::Forwarded { .. }) => String::new(),
            _ => return,
        };
        let Some(Pending { asker, question, .. }) = self.forget(tag) else { return };
        match question {
            Question::Owner { agent_id, command } if command.is_empty() => {
                self.reply_ok(asker, located(&agent_id, &owner).as_bytes());
            }
            Question::Owner { agent_id, command } => {
                self.forward(now, asker, agent_id, owner, command);
            }
            _ => self.reply(asker.reply, body.to_vec()),
        }
    }

    fn forward(
        &mut self,
        now: Instant,
        asker: Asker,
        agent_id: AgentId,
        node_id: String,
        body: Vec<u8>,
    ) {
        let subject = Subject::agent_command_node(&node_id);
        if asker.reply.is_none() {
            return self.outputs.push_back(Output::Publish { subject, reply: None, body });
        }
        let question = Question::Forwarded { agent_id, node_id };
        // There is room: what this comes from was just forgotten.
        let Ok(tag) = self.expect(now, asker, question, Self::FORWARD_TIMEOUT) else { return };
        self.outputs.push_back(Output::Request { tag, subject, body });
    }

    /// What was asked of other nodes is not answered, and will not be.
    fn no_reply(&mut self, now: Instant, tag: u64, nobody_listens: bool) {
        let question = self.pending.get(&tag).map(|pending| &pending.question);
        let error = match question {
            Some(Question::Owner { .. }) => return self.give_up(now, tag),
            Some(Question::Forwarded { agent_id, node_id }) => match nobody_listens {
                true => {
                    let text = format!("agent {agent_id} was on node {node_id}, which has ended");
                    WireError::new(ErrorCode::UnknownAgent, text)
                }
                false => {
                    let text = format!("NATS was lost before node {node_id} answered");
                    WireError::new(ErrorCode::Timeout, text)
                }
            },
            _ => return,
        };
        if let Some(Pending { asker, .. }) = self.forget(tag) {
            self.reply(asker.reply, encode_error(&error));
        }
    }

    fn finish(&mut self, now: Instant) {
        let is_forwarded =
            |(_, one): &(&u64, &Pending)| matches!(one.question, Question::Forwarded { .. });
        let tags: Vec<u64> =
            self.pending.iter().filter(is_forwarded).map(|(&tag, _)| tag).collect();
        for tag in tags {
            if let Some(Pending { asker, question, deadline }) = self.forget(tag) {
                self.insert(tag, asker, question, deadline.min(now + Self::OWNER_TIMEOUT));
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        while let Some(&(deadline, tag)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.give_up(now, tag);
        }
    }

    /// There is no answer, and none is waited for any more.
    fn give_up(&mut self, now: Instant, tag: u64) {
        let Some(Pending { asker: Asker { way, reply }, question, .. }) = self.forget(tag) else {
            return;
        };
        let text = match question {
            Question::Owner { agent_id, .. } => {
                let text = format!("there is no agent {agent_id} on any node that answers");
                let error = WireError::new(ErrorCode::UnknownAgent, text);
                return self.refuse(now, &self.subject(way), reply.as_deref(), &error);
            }
            Question::Named { .. } if way == Way::All => return,
            Question::Agent { agent_id } => format!("agent {agent_id} did not answer within 30 s"),
            Question::Forwarded { agent_id, node_id } => {
                format!("node {node_id} did not answer in time for agent {agent_id}")
            }
            _ => "the agent supervisor did not answer within 10 s".to_owned(),
        };
        self.reply(reply, encode_error(&WireError::new(ErrorCode::Timeout, text)));
    }

    fn subject(&self, way: Way) -> String {
        match way {
            Way::Any => Subject::agent_command(),
            Way::Node => Subject::agent_command_node(&self.node_id),
            Way::All => Subject::agent_command_all().to_owned(),
            Way::Control => Subject::system_control(),
        }
    }

    fn refuse(&mut self, now: Instant, subject: &str, reply: Option<&str>, error: &WireError) {
        self.bad_input.count(now, subject, error);
        self.reply(reply.map(str::to_owned), encode_error(error));
    }

    fn reply_json(&mut self, asker: Asker, value: &Value) {
        // A value that was read from JSON, or from another process, can be written as JSON.
        self.reply_ok(asker, &serde_json::to_vec(value).unwrap_or_default());
    }

    fn reply_ok(&mut self, asker: Asker, json: &[u8]) {
        self.reply(asker.reply, [br#"{"Ok":"#, json, b"}"].concat());
    }

    fn reply(&mut self, reply: Option<String>, body: Vec<u8>) {
        if let Some(subject) = reply {
            self.outputs.push_back(Output::Publish { subject, reply: None, body });
        }
    }
}

/// A command with nothing in it but an agent's id, in which there is nothing to escape.
fn named(command: &str, agent_id: &AgentId) -> Vec<u8> {
    format!(r#"{{"{command}":{{"agent_id":"{agent_id}"}}}}"#).into_bytes()
}

/// A [`Located`](crate::message::Located) as JSON.
fn located(agent_id: &AgentId, node_id: &str) -> String {
    format!(r#"{{"agent_id":"{agent_id}","node_id":"{node_id}"}}"#)
}

/// The node that says that it has an agent.
fn read_owner(agent_id: &AgentId, body: &[u8]) -> Option<String> {
    let short = body.get(..body.len().min(Gateway::MAX_LOCATED))?;
    let answer: Value = serde_json::from_slice(short).ok()?;
    let said = |field| answer.get("Ok")?.get(field)?.as_str();
    // What becomes a part of a subject is what an id may be.
    let node_id = AgentId::parse(said("node_id")?).ok()?;
    (said("agent_id")? == agent_id.as_str()).then_some(node_id.0)
}
