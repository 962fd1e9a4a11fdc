//! The gateway: `agent.command` and `system.control`. Takes what NATS brings, asks whoever knows,
//! and answers. It waits for nobody: a slow agent delays its own answer alone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{json, Value};

use super::client::Client;
use super::clock;
use super::delivery::{Deliveries, DELIVERIES};
use super::local::LocalSender;
use super::logger;
use super::mail::{self, Answer, Ask, MainMail, SupervisorMail, Waiter};
use super::names::{self, Lookup, Part};
use super::sys::{self, Pid, Received};
use super::timer::Timer;
use crate::agent::{AgentId, Context};
use crate::error::SendError;
use crate::log_line::OnceAMinute;
use crate::message::{
    decode_payload, encode_error, encode_error_as, AgentCommand, Content, ErrorCode, NatsMessage,
    Pong, Subject, SubjectKind, SystemMessage, WireError,
};
use crate::time::Instant;

/// What the gateway is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GatewayStart {
    pub(super) node_id: String,
    /// The process that started the node.
    pub(super) main: u64,
    pub(super) log_level: u8,
}

#[cfg_attr(not(feature = "wasm-nats"), allow(dead_code))]
/// The subjects that lead here, with their queue groups.
pub(super) fn subjects(node_id: &str) -> [(String, Option<&'static str>); 4] {
    [
        (Subject::agent_command(), Some("nodes")),
        (Subject::agent_command_node(node_id), None),
        (Subject::system_control(), None),
        (Subject::system_control_node(node_id), None),
    ]
}

/// The process's entry.
pub(super) fn process() {
    let start: GatewayStart = mail::first();
    logger::install_part(start.log_level, "gateway");
    let mut gateway = Gateway::new(start);
    let mut buffer = Vec::new();
    loop {
        gateway.rest();
        if sys::receive(&[], None) != Received::Message {
            continue;
        }
        sys::read_message(&mut buffer);
        if let Some(answer) = mail::decode_answer(&buffer) {
            gateway.answered(sys::message_tag(), answer);
            continue;
        }
        if buffer.first() == Some(&DELIVERIES) {
            let deliveries = Deliveries::read(std::mem::take(&mut buffer));
            deliveries.into_iter().flatten().for_each(|message| gateway.deliver(&message));
        } else {
            gateway.mail(&buffer);
        }
    }
}

/// What the gateway is told by others than NATS.
#[derive(Debug, Serialize, Deserialize)]
enum GatewayMail<'a> {
    /// Never sent: see [`mail::REPLY`].
    Reply,
    /// It is time to look at the clock.
    Tick,
    /// A body was refused elsewhere, and counts here.
    BadInput { subject: &'a str, error: WireError },
    /// The node ends: answer what is open, and then the waiter.
    Finish { waiter: Waiter },
}

/// Has the gateway answer what is open, at the end of the node; false if it has not in time.
pub(super) fn finish(timeout: Duration) -> bool {
    match names::look_up(names::GATEWAY) {
        Lookup::Runs(gateway) => {
            mail::request(gateway, Some(timeout), |waiter| GatewayMail::Finish { waiter }).is_ok()
        }
        _ => false,
    }
}

/// Tells the gateway of a body that was refused: it counts those of the whole node, and logs them.
pub(super) fn count_bad_input(subject: &str, error: &WireError) {
    if let Lookup::Runs(gateway) = names::look_up(names::GATEWAY) {
        mail::send(gateway, &GatewayMail::BadInput { subject, error: error.clone() });
    }
}

struct Gateway {
    start: GatewayStart,
    client: Client,
    local: LocalSender,
    supervisor: Part,
    pending: HashMap<i64, Pending>,
    /// The deadlines of `pending`, the nearest first.
    deadlines: BTreeMap<(Instant, i64), ()>,
    /// When to look next whether the agents that were asked still live; none if none was asked.
    look_at: Option<Instant>,
    /// Who waits until nothing is open.
    finishing: Option<Waiter>,
    timer: Timer,
    bad_input: BadInput,
}

/// Something that was asked within the node, and whom its answer is for.
struct Pending {
    reply: Option<String>,
    deadline: Instant,
    question: Question,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Question {
    /// The answer goes out as it is.
    Supervisor,
    /// The answer is the node's summary, to which the gateway adds what it counted.
    Summary,
    /// The answer is the node's summary, and only the number of agents is wanted.
    Ping,
    /// What an agent answers. `gone` once its process was found dead.
    Agent { id: AgentId, pid: Pid, gone: bool },
}

impl Gateway {
    /// The most questions that are open at once. Worst case some 1.2 KB each, with the longest
    /// reply subjects; one more is refused with `capacity`.
    const MAX_PENDING: usize = 10_000;
    /// How long the supervisor may take.
    const SUPERVISOR_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long an agent may take to answer an `Input`.
    const AGENT_TIMEOUT: Duration = Duration::from_secs(30);
    /// How often it looks whether the agents that were asked still live. An agent that died is
    /// told at the second look, so that an answer it gave just before is not overtaken.
    const LOOK: Duration = Duration::from_millis(150);

    fn new(start: GatewayStart) -> Self {
        Self {
            start,
            client: Client::new(),
            local: LocalSender::new(AgentId::external()),
            supervisor: Part::new(names::SUPERVISOR),
            pending: HashMap::new(),
            deadlines: BTreeMap::new(),
            look_at: None,
            finishing: None,
            timer: Timer::default(),
            bad_input: BadInput::default(),
        }
    }

    /// Before the next mail: what is to go out goes out, and the nearest deadline is armed.
    fn rest(&mut self) {
        self.local.turn();
        let finished = self.finishing.take_if(|_| self.pending.is_empty());
        if let Err(error) = self.client.flush() {
            log::warn!("answers are lost: {error}");
        }
        if let Some(waiter) = finished {
            mail::answer(waiter, &Answer::Ok(&[]));
        }
        let deadline = self.deadlines.first_key_value().map(|(&(deadline, _), ())| deadline);
        let next = [deadline, self.look_at].into_iter().flatten().min();
        self.timer.arm(next, || GatewayMail::Tick);
    }

    fn mail(&mut self, bytes: &[u8]) {
        match postcard::from_bytes(bytes) {
            Ok(GatewayMail::Reply) => {}
            Ok(GatewayMail::Tick) => self.tick(clock::now()),
            Ok(GatewayMail::BadInput { subject, error }) => {
                self.bad_input.count(clock::now(), subject, &error);
            }
            Ok(GatewayMail::Finish { waiter }) => self.finish(waiter),
            Err(error) => log::error!("a mail cannot be read: {error}"),
        }
    }

    fn deliver(&mut self, message: &NatsMessage) {
        let (subject, reply, body) = (message.subject(), message.reply(), message.payload());
        let handled = match SubjectKind::parse(subject) {
            Some(SubjectKind::AgentCommand(_)) => AgentCommand::parse(body, Context::MAX_PAYLOAD)
                .and_then(|command| self.command(command, reply)),
            Some(SubjectKind::SystemControl(_)) => SystemMessage::parse(body, Context::MAX_PAYLOAD)
                .and_then(|message| self.system(message, reply)),
            // A server can be told to deliver under another subject than was subscribed to.
            _ => Err(WireError::bad_shape(format!(
                "no command comes on {:?}: agent.command and system.control take them",
                subject
            ))),
        };
        if let Err(error) = handled {
            self.bad_input.count(clock::now(), subject, &error);
            self.reply(reply, &encode_error(&error));
        }
    }

    fn command(&mut self, command: AgentCommand, reply: Option<&str>) -> Result<(), WireError> {
        match command {
            AgentCommand::Spawn { config } => {
                let config = serde_json::to_string(&config)
                    .map_err(|error| WireError::bad_shape(error.to_string()))?;
                self.ask(
                    Question::Supervisor,
                    reply,
                    Ask::Spawn { config: &config, declared: false },
                )
            }
            AgentCommand::Stop { agent_id } => {
                self.ask(Question::Supervisor, reply, Ask::Stop { id: agent_id.as_str() })
            }
            AgentCommand::Status { agent_id: None } => {
                self.ask(Question::Summary, reply, Ask::Status { id: None })
            }
            AgentCommand::Status { agent_id: Some(id) } => {
                self.ask(Question::Supervisor, reply, Ask::Status { id: Some(id.as_str()) })
            }
            AgentCommand::List { after, limit } => {
                let (after, limit) = (after.as_ref().map(AgentId::as_str), limit as u32);
                self.ask(Question::Supervisor, reply, Ask::List { after, limit })
            }
            AgentCommand::Input { agent_id, message } => self.input(agent_id, message, reply),
        }
    }

    fn system(&mut self, message: SystemMessage, reply: Option<&str>) -> Result<(), WireError> {
        let main = Pid(self.start.main);
        match message {
            SystemMessage::Ping => self.ask(Question::Ping, reply, Ask::Status { id: None }),
            SystemMessage::Shutdown { grace_ms } => {
                // What comes after the answer finds a node that takes no new agents. Nobody waits
                // for what the supervisor says to it.
                if let Some(supervisor) = self.supervisor.pid() {
                    let waiter = Waiter { pid: sys::this().0, tag: mail::new_tag() };
                    mail::send(supervisor, &SupervisorMail::Ask { waiter, ask: Ask::Drain });
                }
                self.reply_ok(reply, &json!({ "node_id": self.start.node_id }));
                mail::send(main, &MainMail::Shutdown { grace_ms });
                Ok(())
            }
            SystemMessage::Drain => {
                mail::send(main, &MainMail::Drain);
                self.ask(Question::Supervisor, reply, Ask::Drain)
            }
        }
    }

    /// Asks the supervisor; the answer is for `reply`.
    fn ask(
        &mut self,
        question: Question,
        reply: Option<&str>,
        ask: Ask<'_>,
    ) -> Result<(), WireError> {
        let Some(supervisor) = self.supervisor.pid() else {
            let text = "the agent supervisor is being restarted; try again";
            return Err(WireError::new(ErrorCode::AgentRestarting, text));
        };
        let tag = self.expect(question, reply, Self::SUPERVISOR_TIMEOUT)?;
        let waiter = Waiter { pid: sys::this().0, tag };
        mail::send(supervisor, &SupervisorMail::Ask { waiter, ask });
        Ok(())
    }

    fn input(
        &mut self,
        id: AgentId,
        content: Content,
        reply: Option<&str>,
    ) -> Result<(), WireError> {
        let payload = match content {
            Content::Message(message) => message.payload,
            Content::Bare(payload) => payload,
        };
        let pid = self.local.find(&id).map_err(|error| send_error(&id, &error))?;
        let question = Question::Agent { id: id.clone(), pid, gone: false };
        let tag = self.expect(question, reply, Self::AGENT_TIMEOUT)?;
        self.look_at.get_or_insert_with(|| clock::now() + Self::LOOK);
        self.local.start_request(&id, &payload, tag).map_err(|error| {
            self.forget(tag);
            send_error(&id, &error)
        })
    }

    fn expect(
        &mut self,
        question: Question,
        reply: Option<&str>,
        timeout: Duration,
    ) -> Result<i64, WireError> {
        if self.pending.len() >= Self::MAX_PENDING {
            let text = format!("{} commands wait for their answers already", Self::MAX_PENDING);
            return Err(WireError::new(ErrorCode::Capacity, text));
        }
        let (tag, deadline) = (mail::new_tag(), clock::now() + timeout);
        let reply = reply.map(str::to_owned);
        self.pending.insert(tag, Pending { reply, deadline, question });
        self.deadlines.insert((deadline, tag), ());
        Ok(tag)
    }

    fn forget(&mut self, tag: i64) -> Option<Pending> {
        let pending = self.pending.remove(&tag)?;
        self.deadlines.remove(&(pending.deadline, tag));
        Some(pending)
    }

    fn answered(&mut self, tag: i64, answer: Answer<'_>) {
        // An answer that came after its deadline was answered for already.
        let Some(Pending { reply, question, .. }) = self.forget(tag) else { return };
        let reply = reply.as_deref();
        let bytes = match answer {
            Answer::Ok(bytes) => bytes,
            Answer::Err { code, message } => {
                if code == ErrorCode::UnknownAgent.as_str() {
                    let error = WireError::new(ErrorCode::UnknownAgent, message);
                    self.bad_input.count(clock::now(), &Subject::agent_command(), &error);
                }
                return self.reply(reply, &encode_error_as(code, message));
            }
        };
        match question {
            Question::Agent { .. } => match decode_payload(bytes) {
                Ok(value) => self.reply_ok(reply, &value),
                Err(error) => log::error!("an agent's answer cannot be read: {error}"),
            },
            Question::Supervisor => match serde_json::from_slice::<&RawValue>(bytes) {
                Ok(value) => self.reply_ok(reply, value),
                Err(error) => log::error!("an answer is not JSON: {error}"),
            },
            Question::Summary => {
                let mut summary: Value = serde_json::from_slice(bytes).unwrap_or_default();
                summary["counters"]["bad_input"] = self.bad_input.total.into();
                self.reply_ok(reply, &summary);
            }
            Question::Ping => {
                let summary: Value = serde_json::from_slice(bytes).unwrap_or_default();
                let pong = Pong {
                    node_id: self.start.node_id.clone(),
                    host: "lunatic".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    agents: summary["agents"].as_u64().unwrap_or_default(),
                };
                self.reply_ok(reply, &pong);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.timer.fired(now);
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_after_agents();
            let asked =
                self.pending.values().any(|one| matches!(one.question, Question::Agent { .. }));
            self.look_at = asked.then_some(now + Self::LOOK);
        }
        while let Some((&(deadline, tag), ())) = self.deadlines.first_key_value() {
            if deadline > now {
                break;
            }
            if let Some(Pending { reply, question, .. }) = self.forget(tag) {
                let text = match question {
                    Question::Agent { id, .. } => format!("agent {id} did not answer within 30 s"),
                    _ => "the agent supervisor did not answer within 10 s".to_owned(),
                };
                let error = WireError::new(ErrorCode::Timeout, text);
                self.reply(reply.as_deref(), &encode_error(&error));
            }
        }
    }

    /// Answers for agents that died before they could.
    fn look_after_agents(&mut self) {
        let mut silent = Vec::new();
        for (&tag, pending) in &mut self.pending {
            if let Question::Agent { pid, gone, .. } = &mut pending.question {
                if *gone {
                    silent.push(tag);
                }
                *gone = !sys::exists(*pid);
            }
        }
        silent.into_iter().for_each(|tag| self.answer_for_agent(tag));
    }

    fn answer_for_agent(&mut self, tag: i64) {
        let Some(Pending { reply, question: Question::Agent { id, .. }, .. }) = self.forget(tag)
        else {
            return;
        };
        let (code, text) = match names::look_up(&names::agent(id.as_str())) {
            Lookup::Unknown => (ErrorCode::UnknownAgent, "ended before it answered"),
            _ => (ErrorCode::AgentRestarting, "died before it answered and is started again"),
        };
        let error = WireError::new(code, format!("agent {id} {text}"));
        self.reply(reply.as_deref(), &encode_error(&error));
    }

    /// No agent is left: who asked one, and has no answer yet, gets none.
    fn finish(&mut self, waiter: Waiter) {
        let of_agent = |(_, one): &(&i64, &Pending)| matches!(one.question, Question::Agent { .. });
        let tags: Vec<i64> = self.pending.iter().filter(of_agent).map(|(&tag, _)| tag).collect();
        tags.into_iter().for_each(|tag| self.answer_for_agent(tag));
        self.finishing = Some(waiter);
    }

    fn reply_ok<T: Serialize + ?Sized>(&mut self, reply: Option<&str>, value: &T) {
        #[derive(Serialize)]
        struct Ok<'a, T: ?Sized> {
            #[serde(rename = "Ok")]
            value: &'a T,
        }
        match serde_json::to_vec(&Ok { value }) {
            Result::Ok(body) => self.reply(reply, &body),
            Err(error) => log::error!("an answer cannot be written: {error}"),
        }
    }

    fn reply(&mut self, reply: Option<&str>, body: &[u8]) {
        let Some(reply) = reply else { return };
        if let Err(error) = self.client.publish(reply, None, body) {
            log::warn!("an answer is lost: {error}");
        }
    }
}

fn send_error(id: &AgentId, error: &SendError) -> WireError {
    match error {
        SendError::UnknownAgent(_) => WireError::unknown_agent(id),
        SendError::AgentRestarting(_) => {
            WireError::new(ErrorCode::AgentRestarting, error.to_string())
        }
        SendError::TooLarge { .. } => WireError::new(ErrorCode::TooLarge, error.to_string()),
        _ => WireError::new(ErrorCode::Unsupported, error.to_string()),
    }
}

/// Counts bodies that were refused, and logs them: once per kind and minute.
#[derive(Default)]
pub(super) struct BadInput {
    total: u64,
    /// When each kind was told, and how many there were since.
    logged: HashMap<ErrorCode, (OnceAMinute, u64)>,
}

impl BadInput {
    pub(super) fn count(&mut self, now: Instant, subject: &str, error: &WireError) {
        self.total += 1;
        let (told, since) = self.logged.entry(error.code).or_default();
        if told.is_due(now) {
            let (code, message) = (error.code.as_str(), &error.message);
            log::warn!(subject, code, more = *since; "bad input: {message}");
            *since = 0;
        }
        *since += 1;
    }
}
