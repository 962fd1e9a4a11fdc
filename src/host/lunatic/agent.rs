//! The process of one agent: waits for mail, runs the handler, answers its supervisor.

use std::future::Future;
use std::pin::Pin;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use serde_json::Value;

use super::client::{self, Client, ForHandler};
use super::clock;
use super::deaths;
use super::delivery::{self, Deliveries};
use super::gateway;
use super::local::{self, LocalSender};
use super::logger;
use super::mail::{self, AgentMail, AgentStart, Answer, LocalMessage, SupervisorMail, Waiter};
use super::store::StoreMailbox;
use super::sys::{self, Pid, Received};
use crate::agent::Echo;
use crate::agent::{
    run_ready, Agent, AgentConfig, AgentId, AgentState, Context, MemoryBackendType, Port, Ports,
    ReplyTo,
};
use crate::error::{Error, RequestError, Result, SendError};
use crate::log_line::Speaker;
use crate::memory::{ClientBackend, InMemoryBackend, MemoryBackend};
use crate::message::{
    decode_payload, encode_error, parse_agent_input, ErrorCode, Headers, Message, NatsMessage,
    Subject, WireError,
};
use crate::node::read_remote_answer;
use crate::supervision::{FailureType, Figures, HandlingTimes, PreviousFailure};
use crate::time::Instant;

/// Makes an agent of a registered type.
pub(crate) type Factory = fn() -> Box<dyn Agent>;

/// The process's entry.
pub(super) fn process() {
    let start: AgentStart = mail::first();
    let config: AgentConfig =
        serde_json::from_str(&start.config).expect("the supervisor of this node checked it");
    let supervisor = Pid(start.supervisor);
    deaths::install(supervisor, config.id.as_str(), start.incarnation);
    logger::install(start.log_level, Speaker::Agent(config.id.as_str()));
    // SAFETY: the number is a `Factory` of this module that the node's builder registered, and a
    // function pointer is the same index into the table in every process of the module.
    let factory: Factory = unsafe { std::mem::transmute(start.factory as usize) };
    let previous = start.previous.as_deref().map(|previous| {
        serde_json::from_str(previous).expect("the supervisor of this node wrote it")
    });
    Running::new(config, start.incarnation, supervisor, factory()).run(previous.as_ref());
}

/// For a process that waits to become an agent: what a start does first takes longer where the
/// memory has not been touched yet, so it is touched now.
pub(super) fn warm_up() {
    let config = AgentConfig { id: AgentId::external(), ..AgentConfig::default() };
    let written = serde_json::to_string(&config).unwrap_or_default();
    if let Ok(config) = serde_json::from_str(&written) {
        drop(Running::new(config, 1, sys::this(), Box::new(Echo)));
    }
}

struct Running {
    id: AgentId,
    incarnation: u64,
    supervisor: Pid,
    agent: Box<dyn Agent>,
    ctx: Context,
    figures: Figures,
    times: HandlingTimes,
    /// When the supervisor heard of it last; and whether it was unasked.
    heard: (Instant, bool),
    /// How many more errors of its handlers are reported one by one until the next ping.
    reports: u32,
}

impl Running {
    fn new(config: AgentConfig, incarnation: u64, supervisor: Pid, agent: Box<dyn Agent>) -> Self {
        let id = config.id.clone();
        let backend: Box<dyn MemoryBackend> = match config.memory_backend_type {
            MemoryBackendType::InMemory => Box::new(InMemoryBackend::new()),
            // `Kv` does not come this far: a config that asks for it is refused.
            MemoryBackendType::File | MemoryBackendType::Kv => {
                Box::new(ClientBackend::new(id.clone(), StoreMailbox))
            }
        };
        let state = AgentState::new(id.clone(), backend);
        let ports = LunaticPorts::new(id.clone(), config.nats_enabled);
        let ctx = Context::new(config, incarnation, state, Box::new(ports));
        let figures = Figures::default();
        let reports = MAX_REPORTS;
        let now = clock::now();
        let (times, heard) = (HandlingTimes::new(now), (now, false));
        Self { id, incarnation, supervisor, agent, ctx, figures, times, heard, reports }
    }

    fn run(mut self, previous: Option<&PreviousFailure>) {
        let mut buffer = Vec::new();
        let in_memory = self.ctx.config().memory_backend_type == MemoryBackendType::InMemory;
        if in_memory && previous.is_some() {
            log::info!(incarnation = self.incarnation; "restarted with an empty state");
        }
        let (hook, begun) = match previous {
            None => ("on_start", run(self.agent.on_start(&mut self.ctx))),
            Some(failure) => ("on_restart", run(self.agent.on_restart(&mut self.ctx, failure))),
        };
        if let Err(error) = begun {
            panic!("{hook} failed: {error}");
        }
        self.turn_over();
        let started =
            SupervisorMail::Started { id: self.id.as_str(), incarnation: self.incarnation };
        mail::send(self.supervisor, &started);
        loop {
            if buffer.capacity() > KEPT_BUFFER {
                buffer = Vec::new();
            }
            match sys::receive(&[], None) {
                Received::Message => {}
                Received::ProcessDied(_) => {
                    client::process_died();
                    continue;
                }
                _ => continue,
            }
            sys::read_message(&mut buffer);
            match buffer.first() {
                Some(&mail::MESSAGE) => {
                    self.local(&buffer);
                    continue;
                }
                Some(&sys::BATCH_KIND) => {
                    sys::parts(&buffer[1..]).for_each(|mail| self.local(mail));
                    continue;
                }
                // An answer that came after its request had timed out.
                Some(&mail::REPLY | &mail::REPLY_PAYLOAD) => continue,
                Some(&delivery::INPUTS) => {
                    let inputs = Deliveries::read(std::mem::take(&mut buffer));
                    inputs
                        .into_iter()
                        .flatten()
                        .for_each(|one| self.input(one.reply(), one.payload()));
                    continue;
                }
                Some(&(delivery::DELIVERIES | delivery::ENDED)) => {
                    self.came_from_nats(client::for_handler(
                        sys::message_tag(),
                        std::mem::take(&mut buffer),
                    ));
                    continue;
                }
                _ => {}
            }
            match postcard::from_bytes(&buffer) {
                Ok(AgentMail::Input { body }) => self.input(None, body),
                Ok(AgentMail::Ping { seq, sent_us }) => self.pong(seq, sent_us),
                Ok(AgentMail::Stop) => return self.stop(),
                Ok(AgentMail::Reply | AgentMail::Message) => {}
                Err(error) => log::error!("a mail cannot be read: {error}"),
            }
        }
    }

    fn local(&mut self, mail: &[u8]) {
        let Some(LocalMessage { from, payload, timestamp, waiter }) = LocalMessage::decode(mail)
        else {
            return log::error!("a message cannot be read");
        };
        let reply_to = waiter.map(|Waiter { pid, tag }| ReplyTo::Process { id: pid, tag });
        match decode_payload(payload) {
            Ok(payload) => {
                let (from, to) = (AgentId(from.to_owned()), self.id.clone());
                let id = local::fresh_id();
                self.handle(Message { id, from, to, payload, timestamp }, reply_to);
            }
            Err(error) => {
                self.refuse(reply_to, &WireError::new(ErrorCode::BadJson, error.to_string()));
            }
        }
    }

    fn input(&mut self, reply: Option<&str>, body: &[u8]) {
        let parsed = parse_agent_input(
            body,
            Context::MAX_PAYLOAD,
            &self.id,
            local::fresh_id,
            clock::unix_seconds(),
        );
        let to =
            |asker| reply.map(|subject| ReplyTo::Subject { subject: subject.to_owned(), asker });
        match parsed {
            Ok(message) => {
                let reply_to = to(message.from.clone());
                self.handle(message, reply_to);
            }
            Err(error) => {
                gateway::count_bad_input(&Subject::agent_input(&self.id), &error);
                self.refuse(to(AgentId::external()), &error);
                self.turn_over();
            }
        }
    }

    fn came_from_nats(&mut self, came: ForHandler) {
        match came {
            ForHandler::Messages(messages) => {
                messages.for_each(|message| self.nats_message(message));
            }
            ForHandler::Ended(subject, why) => {
                let text = format!("the subscription to {subject} has ended: {why}");
                self.failed(&Error::Nats(text), None);
            }
            ForHandler::Nothing => {}
        }
    }

    fn nats_message(&mut self, message: NatsMessage) {
        let started = self.times.is_next().then(clock::now);
        let result = run(self.agent.on_nats_message(&mut self.ctx, message));
        self.done(started);
        if let Err(error) = result {
            self.failed(&error, None);
        }
        self.turn_over();
    }

    fn handle(&mut self, message: Message, reply_to: Option<ReplyTo>) {
        self.ctx.begin(&message.id, reply_to);
        let started = self.times.is_next().then(clock::now);
        let result = run(self.agent.handle(&mut self.ctx, message));
        self.done(started);
        let unanswered = self.ctx.end();
        match result {
            Ok(()) if unanswered.is_none() => {}
            Ok(()) => {
                let text = format!("agent {} handled the message without an answer", self.id);
                self.refuse(unanswered, &WireError::new(ErrorCode::HandlerFailed, text));
            }
            Err(error) => self.failed(&error, unanswered),
        }
        self.turn_over();
    }

    /// A message was handled, and measured if it was that one's turn.
    fn done(&mut self, started: Option<Instant>) {
        self.figures.handled += 1;
        if let Some(started) = started {
            self.measured(started);
        }
    }

    fn measured(&mut self, started: Instant) {
        let now = clock::now();
        self.times.took(now, now - started);
        // Who is asked in time answers twice in its timeout, and has nothing to say between.
        let (at, unasked) = self.heard;
        let silence = self.ctx.config().timeout() / if unasked { 4 } else { 2 };
        if now - at > silence {
            self.heard = (now, true);
            self.tell_figures(0, None);
        }
    }

    fn failed(&mut self, error: &Error, unanswered: Option<ReplyTo>) {
        let mut message = error.to_string();
        self.figures.errors += 1;
        message.truncate(message.floor_char_boundary(MAX_REPORT));
        if self.reports == 0 {
            // Counted, and told by the next answer to a ping.
            return self.refuse(unanswered, &WireError::new(ErrorCode::HandlerFailed, message));
        }
        self.reports -= 1;
        let failed = SupervisorMail::HandlerFailed {
            id: self.id.as_str(),
            incarnation: self.incarnation,
            failure_type: error.failure_type(),
            message: &message,
        };
        mail::send(self.supervisor, &failed);
        self.refuse(unanswered, &WireError::new(ErrorCode::HandlerFailed, message.as_str()));
    }

    fn refuse(&mut self, to: Option<ReplyTo>, error: &WireError) {
        if let Some(to) = to {
            self.ctx.ports().refuse(&to, error);
        }
    }

    /// After a handler: what it published goes out, and a memory refusal was survived.
    fn turn_over(&mut self) {
        deaths::survived();
        if let Err(error) = self.ctx.ports().handled() {
            log::warn!("what it published is lost: {error}");
        }
    }

    fn pong(&mut self, seq: u64, sent_us: u64) {
        let now = clock::now();
        self.heard = (now, false);
        self.reports = MAX_REPORTS;
        self.figures.memory_bytes = Some(sys::memory_bytes());
        self.figures.handling_us = self.times.quantiles(now);
        self.tell_figures(seq, Some(clock::wall_us().saturating_sub(sent_us)));
    }

    fn tell_figures(&self, seq: u64, mailbox_delay_us: Option<u64>) {
        let figures = Figures { mailbox_delay_us, ..self.figures };
        let pong = SupervisorMail::Pong {
            id: self.id.as_str(),
            incarnation: self.incarnation,
            seq,
            figures,
        };
        mail::send(self.supervisor, &pong);
    }

    fn stop(mut self) {
        if let Err(error) = run(self.agent.on_stop(&mut self.ctx)) {
            log::warn!("on_stop failed: {error}");
            self.failed(&error, None);
        }
        self.refuse_the_rest();
        self.turn_over();
        // What the agent's own `Drop` does wrong is a death like any other, and the farewell is
        // the last thing that this process does.
        drop(self);
        deaths::farewell();
    }
}

impl Running {
    /// Who asked too late, behind the word to stop, learns so, and does not wait for nothing.
    fn refuse_the_rest(&mut self) {
        let error = WireError::new(
            ErrorCode::UnknownAgent,
            format!("agent {} was stopped before it saw the message", self.id),
        );
        // What waits is what lies before a mail that is sent now.
        let mut buffer = Vec::new();
        let end = mail::new_tag();
        sys::send(sys::this(), end, &[]);
        loop {
            if sys::receive(&[], None) != Received::Message {
                continue;
            }
            if sys::message_tag() == end {
                return;
            }
            sys::read_message(&mut buffer);
            // What was posted in a batch was sent one way, and nobody waits.
            if let Some(Waiter { pid, tag }) =
                LocalMessage::decode(&buffer).and_then(|message| message.waiter)
            {
                self.refuse(Some(ReplyTo::Process { id: pid, tag }), &error);
            } else if buffer.first() == Some(&delivery::INPUTS) {
                let inputs = Deliveries::read(std::mem::take(&mut buffer));
                for input in inputs.into_iter().flatten() {
                    let asker = AgentId::external();
                    let to = input.reply().map(str::to_owned);
                    self.refuse(to.map(|subject| ReplyTo::Subject { subject, asker }), &error);
                }
            }
        }
    }
}

/// So many errors of an agent's handlers are reported one by one between two pings; beyond it they
/// are only counted, so that one failing agent cannot fill the supervisor's mailbox.
const MAX_REPORTS: u32 = 32;
/// The text of such a report is cut to this many bytes.
const MAX_REPORT: usize = 1024;

/// A buffer that one large message made larger than this is given back.
const KEPT_BUFFER: usize = 64 * 1024;

/// Runs what a handler returned.
fn run(mut handler: Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>) -> Result<()> {
    // Nearly all are done at the first look, and well: that is not moved about as what could be an
    // error is.
    match handler.as_mut().poll(&mut task::Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => Ok(()),
        Poll::Ready(Err(error)) => Err(error),
        Poll::Pending => run_ready(handler).unwrap_or_else(|never| {
            Err(Error::failure(FailureType::ProtocolViolation, never.to_string()))
        }),
    }
}

/// What this host does for an agent.
struct LunaticPorts {
    id: AgentId,
    local: LocalSender,
    client: Client,
    nats_enabled: bool,
}

impl LunaticPorts {
    fn new(id: AgentId, nats_enabled: bool) -> Self {
        let local = LocalSender::new(id.clone());
        Self { id, local, client: Client::new(), nats_enabled }
    }

    /// A message as it goes to another node.
    fn remote(&mut self, to: &AgentId, payload: &Value) -> Result<Vec<u8>, SendError> {
        let message = Message {
            id: local::fresh_id(),
            from: self.id.clone(),
            to: to.clone(),
            payload: payload.clone(),
            timestamp: clock::unix_seconds(),
        };
        serde_json::to_vec(&message).map_err(|error| SendError::Nats(error.to_string()))
    }

    fn send_remote(&mut self, to: &AgentId, payload: &Value) -> Result<(), SendError> {
        let body = self.remote(to, payload)?;
        let published = self.client.publish(&Subject::agent_input(to), None, &body);
        published.map_err(|error| SendError::Nats(error.to_string()))
    }

    fn request_remote(
        &mut self,
        to: &AgentId,
        payload: &Value,
        timeout: Duration,
    ) -> Result<Value, RequestError> {
        let body = self.remote(to, payload)?;
        let answer = self.client.request(&Subject::agent_input(to), &body, timeout);
        remote_answer(to, timeout, answer)
    }

    /// Whether an agent that is not on this node is looked for on others.
    fn goes_remote(&mut self, error: &SendError) -> bool {
        matches!(error, SendError::UnknownAgent(_)) && self.nats_enabled && self.client.is_online()
    }
}

impl Ports for LunaticPorts {
    fn send<'a>(
        &'a mut self,
        to: &'a AgentId,
        payload: Value,
    ) -> Option<Port<'a, Result<(), SendError>>> {
        let sent = match self.local.send(to, &payload) {
            Err(error) if self.goes_remote(&error) => self.send_remote(to, &payload),
            result => result,
        };
        sent.err().map(|error| Port::done(Err(error)))
    }

    fn request<'a>(
        &'a mut self,
        to: &'a AgentId,
        payload: Value,
        timeout: Duration,
    ) -> Port<'a, Result<Value, RequestError>> {
        // What was published before must not wait for the answer.
        if let Err(error) = self.client.flush() {
            return Port::done(Err(SendError::Nats(error.to_string()).into()));
        }
        Port::done(match self.local.request(to, &payload, timeout) {
            Err(RequestError::Send(error)) if self.goes_remote(&error) => {
                self.request_remote(to, &payload, timeout)
            }
            result => result,
        })
    }

    fn reply(&mut self, to: &ReplyTo, payload: Value) -> Result<(), SendError> {
        match to {
            ReplyTo::Process { id, tag } => local::reply(Waiter { pid: *id, tag: *tag }, &payload),
            ReplyTo::Subject { subject, asker } => {
                let body = self.remote(asker, &payload)?;
                let published = self.client.publish(subject, None, &body);
                published.map_err(|error| SendError::Nats(error.to_string()))
            }
        }
    }

    fn publish<'a>(
        &'a mut self,
        subject: &'a str,
        reply: Option<&'a str>,
        headers: &'a Headers,
        payload: &'a [u8],
    ) -> Option<Port<'a, Result<()>>> {
        let published = self.client.publish_with_headers(subject, reply, headers, payload);
        published.err().map(|error| Port::done(Err(error.into())))
    }

    fn nats_request<'a>(
        &'a mut self,
        subject: &'a str,
        payload: &'a [u8],
        timeout: Duration,
    ) -> Port<'a, Result<Vec<u8>>> {
        Port::done(self.client.request(subject, payload, timeout).map_err(Error::from))
    }

    fn subscribe<'a>(
        &'a mut self,
        subject: &'a str,
        queue_group: Option<&'a str>,
    ) -> Port<'a, Result<()>> {
        let subscribed = client::subscribe_handler(&mut self.client, subject, queue_group);
        Port::done(subscribed.map_err(Error::from))
    }

    fn unsubscribe<'a>(
        &'a mut self,
        subject: &'a str,
        queue_group: Option<&'a str>,
    ) -> Port<'a, Result<bool>> {
        Port::done(Ok(client::unsubscribe_handler(subject, queue_group)))
    }

    fn refuse(&mut self, to: &ReplyTo, error: &WireError) {
        match to {
            ReplyTo::Process { id, tag } => {
                let (code, message) = (error.code.as_str(), error.message.as_str());
                mail::answer(Waiter { pid: *id, tag: *tag }, &Answer::Err { code, message });
            }
            ReplyTo::Subject { subject, .. } => {
                if let Err(error) = self.client.publish(subject, None, &encode_error(error)) {
                    log::warn!("an answer is lost: {error}");
                }
            }
        }
    }

    fn handled(&mut self) -> Result<()> {
        self.local.turn();
        Ok(self.client.flush()?)
    }
}

/// Reads what another node answered: a `Message`, or `{"Err": …}`.
fn remote_answer(
    agent: &AgentId,
    timeout: Duration,
    answer: Result<Vec<u8>, super::client::NatsError>,
) -> Result<Value, RequestError> {
    use super::client::NatsError;
    let agent = agent.clone();
    let body = match answer {
        Ok(body) => body,
        Err(NatsError::NoResponders { .. }) => return Err(SendError::UnknownAgent(agent).into()),
        Err(NatsError::TimedOut { .. }) => return Err(RequestError::Timeout { agent, timeout }),
        Err(error) => return Err(SendError::Nats(error.to_string()).into()),
    };
    read_remote_answer(&agent, &body)
}
