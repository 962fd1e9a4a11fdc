//! The task of one agent: takes its mail, runs the handler, answers its supervisor.
//!
//! What goes wrong in it stays in it: each poll is caught, and so is the drop of what is left. What
//! cannot be caught is in the [module's](super) table.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::clock;
use super::logger;
use super::mailbox::{Letter, Mail, Mailbox, Receiver};
use super::panics;
use super::ports::NativePorts;
use super::shared::Shared;
use crate::agent::{
    cut_report, Agent, AgentConfig, AgentId, AgentState, Context, MemoryBackendType, ReplyTo,
    Vitals,
};
use crate::error::{Error, RequestError, Result, SendError};
use crate::memory::{InMemoryBackend, MemoryBackend};
use crate::message::{
    parse_agent_input, ErrorCode, Message, MessageIds, NatsMessage, Subject, WireError,
};
use crate::supervision::{Figures, Input, LastWord, PreviousFailure};
use crate::time::Instant;

/// Makes an agent of a registered type.
pub(super) type Factory = fn() -> Box<dyn Agent>;

/// A life that is to begin.
pub(super) struct Birth {
    pub(super) config: AgentConfig,
    pub(super) incarnation: u64,
    pub(super) previous: Option<PreviousFailure>,
    pub(super) factory: Factory,
    /// Which of the node's supervisors it belongs to.
    pub(super) epoch: u64,
    pub(super) shared: Arc<Shared>,
}

/// A life, as its supervisor knows it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) abort: AbortHandle,
}

/// Starts the task. It can be sent to at once: what comes before it has begun waits.
pub(super) fn spawn(birth: Birth) -> Task {
    let Birth { config, incarnation, previous, factory, epoch, shared } = birth;
    let (mailbox, receiver) = Mailbox::new(shared.mailbox_limits);
    let id = Arc::new(config.id.clone());
    let life = Life {
        id: Arc::clone(&id),
        incarnation,
        epoch,
        mailbox: Arc::clone(&mailbox),
        shared: Arc::clone(&shared),
    };
    shared.directory.insert(&id, Arc::clone(&mailbox));
    let runtime = shared.agents.clone();
    let teller = life.clone();
    let running = async move {
        // Here, so that what a type's `default` does wrong is a death like any other.
        let running = Running::new(config, teller, receiver, factory());
        running.run(previous).await
    };
    let contained = Contained { running: Some(Box::pin(running)), life };
    Task { mailbox, abort: runtime.spawn(contained).abort_handle() }
}

/// What is known of a life from its begin to its end.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) id: Arc<AgentId>,
    incarnation: u64,
    epoch: u64,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) shared: Arc<Shared>,
}

impl Life {
    fn tell(&self, input: Input) {
        self.shared.tell_supervisor(self.epoch, input);
    }

    fn say(&self, word: LastWord) {
        let (id, incarnation) = (self.id.as_ref().clone(), self.incarnation);
        self.tell(Input::LastWord { id, incarnation, word });
    }
}

/// How a life ended by itself.
enum End {
    /// It was told to stop.
    Stopped,
    /// It could not begin.
    NotBegun(String),
}

/// An agent's future, and what happens around each look at it.
struct Contained<F: Future<Output = End>> {
    running: Option<Pin<Box<F>>>,
    life: Life,
}

impl<F: Future<Output = End>> Future for Contained<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(running) = this.running.as_mut() else { return Poll::Ready(()) };
        let polled =
            logger::as_agent(&this.life.id, || panics::catch(|| running.as_mut().poll(cx)));
        let word = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(End::Stopped)) => Some(LastWord::Farewell),
            Ok(Poll::Ready(End::NotBegun(message))) => {
                Some(LastWord::Panic { message, place: None })
            }
            Err(word) => Some(word),
        };
        this.end(word);
        Poll::Ready(())
    }
}

impl<F: Future<Output = End>> Contained<F> {
    /// The life is over. `word` is what it said, if anything.
    fn end(&mut self, word: Option<LastWord>) {
        let Some(running) = self.running.take() else { return };
        // Whoever waits for an answer learns it before the supervisor acts.
        drop(self.life.mailbox.close());
        // What the agent's own `Drop` does wrong is a death like any other, unless there was another.
        let dropped = logger::as_agent(&self.life.id, || panics::catch(|| drop(running)));
        let word = match (word, dropped) {
            (Some(LastWord::Farewell) | None, Err(panic)) => Some(panic),
            (word, _) => word,
        };
        let farewell = word == Some(LastWord::Farewell);
        if let Some(word) = word {
            self.life.say(word);
        }
        if !farewell {
            let (id, incarnation) = (self.life.id.as_ref().clone(), self.life.incarnation);
            self.life.tell(Input::Died { id, incarnation });
        }
    }
}

impl<F: Future<Output = End>> Drop for Contained<F> {
    /// It was killed.
    fn drop(&mut self) {
        self.end(None);
    }
}

struct Running {
    life: Life,
    receiver: Receiver,
    agent: Box<dyn Agent>,
    ctx: Context,
    vitals: Vitals,
    ids: MessageIds,
    /// The number of the last request.
    requests: i64,
}

impl Running {
    fn new(config: AgentConfig, life: Life, receiver: Receiver, agent: Box<dyn Agent>) -> Self {
        let incarnation = life.incarnation;
        let id = config.id.clone();
        let backend: Box<dyn MemoryBackend> = match config.memory_backend_type {
            MemoryBackendType::InMemory => Box::new(InMemoryBackend::new()),
            // `Kv` does not come this far: a config that asks for it is refused.
            MemoryBackendType::File | MemoryBackendType::Kv => {
                life.shared.store.backend(id.clone())
            }
        };
        let vitals = Vitals::new(clock::now(), config.timeout());
        let state = AgentState::new(id.clone(), backend);
        let ports = NativePorts::new(life.clone(), config.nats_enabled);
        let ctx = Context::new(config, incarnation, state, Box::new(ports));
        let ids = MessageIds::new(clock::random());
        Self { life, receiver, agent, ctx, vitals, ids, requests: 0 }
    }

    async fn run(mut self, previous: Option<PreviousFailure>) -> End {
        let in_memory = self.ctx.config().memory_backend_type == MemoryBackendType::InMemory;
        if in_memory && previous.is_some() {
            log::info!(incarnation = self.life.incarnation; "restarted with an empty state");
        }
        let (hook, begun) = match &previous {
            None => ("on_start", self.agent.on_start(&mut self.ctx).await),
            Some(failure) => ("on_restart", self.agent.on_restart(&mut self.ctx, failure).await),
        };
        if let Err(error) = begun {
            return End::NotBegun(format!("{hook} failed: {error}"));
        }
        self.turn_over();
        let (id, incarnation) = (self.life.id.as_ref().clone(), self.life.incarnation);
        self.life.tell(Input::Started { id, incarnation });
        loop {
            // An agent that always has mail gives way to the others all the same, and can be killed.
            tokio::task::coop::consume_budget().await;
            match self.receiver.next().await {
                Mail::Letter(letter) => self.letter(letter).await,
                Mail::Input { body, reply } => self.input(&body, reply).await,
                Mail::Nats(message) => self.nats_message(message).await,
                Mail::SubscriptionEnded { subject, why } => {
                    let text = format!("the subscription to {subject} has ended: {why}");
                    self.failed(&Error::Nats(text), None);
                }
                Mail::Ping { seq, sent } => self.pong(seq, sent),
                Mail::Stop => {
                    self.stop().await;
                    return End::Stopped;
                }
            }
        }
    }

    async fn letter(&mut self, letter: Letter) {
        let Letter { from, payload, timestamp, reply, .. } = letter;
        let reply_to = reply.map(|responder| {
            self.life.mailbox.answer_for(responder);
            self.requests += 1;
            ReplyTo::Process { id: 0, tag: self.requests }
        });
        let (id, to) = (self.ids.next_id(), self.life.id.as_ref().clone());
        self.handle(Message { id, from, to, payload, timestamp }, reply_to).await;
    }

    async fn input(&mut self, body: &[u8], reply: Option<String>) {
        let ids = &mut self.ids;
        let fresh_id = || ids.next_id();
        let now = clock::unix_seconds();
        let parsed = parse_agent_input(body, Context::MAX_PAYLOAD, &self.life.id, fresh_id, now);
        let to = |asker| reply.map(|subject| ReplyTo::Subject { subject, asker });
        match parsed {
            Ok(message) => {
                let reply_to = to(message.from.clone());
                self.handle(message, reply_to).await;
            }
            Err(error) => {
                self.life.shared.count_bad_input(&Subject::agent_input(&self.life.id), &error);
                self.refuse(to(AgentId::external()), &error);
                self.turn_over();
            }
        }
    }

    async fn nats_message(&mut self, message: NatsMessage) {
        let started = self.vitals.measures_next().then(clock::now);
        let result = self.agent.on_nats_message(&mut self.ctx, message).await;
        self.done(started);
        if let Err(error) = result {
            self.failed(&error, None);
        }
        self.turn_over();
    }

    async fn handle(&mut self, message: Message, reply_to: Option<ReplyTo>) {
        self.ctx.begin(&message.id, reply_to);
        let started = self.vitals.measures_next().then(clock::now);
        let result = self.agent.handle(&mut self.ctx, message).await;
        self.done(started);
        let unanswered = self.ctx.end();
        match result {
            Ok(()) if unanswered.is_none() => {}
            Ok(()) => {
                let id = &self.life.id;
                let text = format!("agent {id} handled the message without an answer");
                self.refuse(unanswered, &WireError::new(ErrorCode::HandlerFailed, text));
            }
            Err(error) => self.failed(&error, unanswered),
        }
        self.turn_over();
    }

    /// A message was handled, and measured if it was that one's turn.
    fn done(&mut self, started: Option<Instant>) {
        self.vitals.handled();
        let unasked = started.and_then(|started| self.vitals.took(started, clock::now()));
        if let Some(figures) = unasked {
            self.tell_figures(0, figures);
        }
    }

    fn failed(&mut self, error: &Error, unanswered: Option<ReplyTo>) {
        let message = cut_report(error.to_string());
        // Otherwise it is counted, and told by the next answer to a ping.
        if self.vitals.failed() {
            let (id, incarnation) = (self.life.id.as_ref().clone(), self.life.incarnation);
            let (failure_type, message) = (error.failure_type(), message.clone());
            self.life.tell(Input::HandlerFailed { id, incarnation, failure_type, message });
        }
        self.refuse(unanswered, &WireError::new(ErrorCode::HandlerFailed, message));
    }

    fn refuse(&mut self, to: Option<ReplyTo>, error: &WireError) {
        if let Some(to) = to {
            self.ctx.ports().refuse(&to, error);
        }
    }

    /// After a handler.
    fn turn_over(&mut self) {
        if let Err(error) = self.ctx.ports().handled() {
            log::warn!("what it published is lost: {error}");
        }
    }

    fn pong(&mut self, seq: u64, sent: Instant) {
        let now = clock::now();
        // What a task takes of the process's memory, nobody can say.
        let figures = self.vitals.answer(now, None, now - sent);
        self.tell_figures(seq, figures);
    }

    fn tell_figures(&self, seq: u64, figures: Figures) {
        let (id, incarnation) = (self.life.id.as_ref().clone(), self.life.incarnation);
        self.life.tell(Input::Pong { id, incarnation, seq, figures });
    }

    async fn stop(&mut self) {
        if let Err(error) = self.agent.on_stop(&mut self.ctx).await {
            log::warn!("on_stop failed: {error}");
            self.failed(&error, None);
        }
        self.refuse_the_rest();
        self.turn_over();
    }

    /// Who asked too late, behind the word to stop, learns so, and does not wait for nothing.
    fn refuse_the_rest(&mut self) {
        let text = format!("agent {} was stopped before it saw the message", self.life.id);
        let error = WireError::new(ErrorCode::UnknownAgent, text);
        for mail in self.receiver.close() {
            match mail {
                Mail::Letter(Letter { reply: Some(responder), .. }) => {
                    responder.answer(Err(error.clone()));
                }
                Mail::Input { reply: Some(subject), .. } => {
                    let asker = AgentId::external();
                    self.refuse(Some(ReplyTo::Subject { subject, asker }), &error);
                }
                _ => {}
            }
        }
    }
}

/// Waits for what a request is answered with.
pub(super) async fn read_answer(
    agent: &AgentId,
    timeout: Duration,
    answer: oneshot::Receiver<Result<Value, WireError>>,
) -> Result<Value, RequestError> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(Ok(Ok(payload))) => Ok(payload),
        Ok(Ok(Err(error))) => {
            Err(RequestError::Failed { agent: agent.clone(), message: error.message })
        }
        // It was dropped with who should have answered.
        Ok(Err(_)) => Err(SendError::AgentRestarting(agent.clone()).into()),
        Err(_) => Err(RequestError::Timeout { agent: agent.clone(), timeout }),
    }
}
