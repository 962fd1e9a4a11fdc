//! What an agent can do while it handles a message.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use serde_json::Value;

use super::{AgentConfig, AgentId, AgentState};
use crate::error::{Error, RequestError, Result, SendError};
use crate::memory::StateAction;
use crate::message::{encode_payload, payload_size, Headers, Message, WireError};

/// What a call to a host comes to.
///
/// On Lunatic all is done when the call returns: to wait suspends the process, not the future. There
/// a boxed future would be a tenth of what a whole request costs.
pub enum Port<'a, T> {
    /// It is done. Awaited, it is none.
    Done(Option<T>),
    /// It is under way.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<T> Port<'_, T> {
    /// It is done, and this came of it.
    pub fn done(outcome: T) -> Self {
        Self::Done(Some(outcome))
    }
}

impl<T: Unpin> Future for Port<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<T> {
        match self.get_mut() {
            // As with any other future: who polls it again after its end waits for ever.
            Self::Done(outcome) => outcome.take().map_or(Poll::Pending, Poll::Ready),
            Self::Later(future) => future.as_mut().poll(cx),
        }
    }
}

/// What a host does for an agent. The context keeps the rules; a host only carries.
pub trait Ports: Send {
    /// Passes a payload to the agent `to`, wherever it lives. `None` if that is done; a host may wait
    /// for room in the agent's mailbox.
    fn send<'a>(
        &'a mut self,
        to: &'a AgentId,
        payload: Value,
    ) -> Option<Port<'a, Result<(), SendError>>>;

    /// Passes a payload to the agent `to` and waits for its answer.
    fn request<'a>(
        &'a mut self,
        to: &'a AgentId,
        payload: Value,
        timeout: Duration,
    ) -> Port<'a, Result<Value, RequestError>>;

    /// Answers whoever sent the message that is being handled.
    fn reply(&mut self, to: &ReplyTo, payload: Value) -> Result<(), SendError>;

    /// Publishes on a NATS subject. `None` if that is done. (Most are, and to move an outcome that
    /// could have been an error is a tenth of what a short one costs.)
    fn publish<'a>(
        &'a mut self,
        subject: &'a str,
        reply: Option<&'a str>,
        headers: &'a Headers,
        payload: &'a [u8],
    ) -> Option<Port<'a, Result<()>>>;

    /// Asks on a NATS subject and waits for the first answer.
    fn nats_request<'a>(
        &'a mut self,
        subject: &'a str,
        payload: &'a [u8],
        timeout: Duration,
    ) -> Port<'a, Result<Vec<u8>>>;

    /// Has the agent's `on_nats_message` called for what comes on a NATS subject.
    fn subscribe<'a>(
        &'a mut self,
        subject: &'a str,
        queue_group: Option<&'a str>,
    ) -> Port<'a, Result<()>> {
        let _ = queue_group;
        let text = format!("this host cannot subscribe an agent to {subject}");
        Port::done(Err(Error::Nats(text)))
    }

    /// Ends that; whether there was such a subscription.
    fn unsubscribe<'a>(
        &'a mut self,
        subject: &'a str,
        queue_group: Option<&'a str>,
    ) -> Port<'a, Result<bool>> {
        let _ = (subject, queue_group);
        Port::done(Ok(false))
    }

    /// Tells whoever sent the message that is being handled that there is no answer, and why.
    fn refuse(&mut self, to: &ReplyTo, error: &WireError);

    /// Called when a handler has returned: what was held back until then goes out.
    fn handled(&mut self) -> Result<()>;
}

/// Where the answer to a message goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// A process of this host, which waits for a tag.
    Process {
        /// The process.
        id: u64,
        /// What its answer is known by.
        tag: i64,
    },
    /// A NATS subject.
    Subject {
        /// The subject.
        subject: String,
        /// Who asked, as far as one knows.
        asker: AgentId,
    },
}

/// What an agent can do while it handles a message: answer it, send others, ask, remember.
///
/// On Lunatic each of these is done when the call returns; to wait suspends only the agent's own
/// process.
pub struct Context {
    config: AgentConfig,
    incarnation: u64,
    state: AgentState,
    ports: Box<dyn Ports>,
    handling: Option<Handling>,
}

/// The message that is being handled, if somebody waits for its answer.
struct Handling {
    message: Fingerprint,
    to: ReplyTo,
}

/// By what a message is known again: 64 bits made of its id. They are there to catch a mistake, and
/// cost a fifth of keeping the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint(u64);

impl Fingerprint {
    fn of(id: &str) -> Self {
        // As FxHash does it, eight bytes at a time; the length tells short ends apart.
        const FACTOR: u64 = 0xf135_7aea_2e62_a9c5;
        let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(26);
        let id = id.as_bytes();
        let hash = mix(0, id.len() as u64);
        let Some(last) = id.last_chunk::<8>() else {
            return Self(id.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte))));
        };
        let (words, _) = id.as_chunks::<8>();
        let hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        // What is behind the whole words is part of the last eight bytes.
        Self(mix(hash, u64::from_le_bytes(*last)))
    }
}

impl Context {
    /// The largest payload of a message: 512 KiB, as JSON on the wire, and between processes as
    /// [`encode_payload`] writes it.
    pub const MAX_PAYLOAD: usize = 512 * 1024;

    /// The most NATS subjects that an agent is subscribed to: 64.
    pub const MAX_SUBSCRIPTIONS: usize = 64;

    /// For a host: appends a payload to what is sent between processes, if it is not too large.
    pub fn encode_payload(payload: &Value, out: &mut Vec<u8>) -> Result<(), SendError> {
        let before = out.len();
        encode_payload(payload, out)?;
        let (bytes, max) = (out.len() - before, Self::MAX_PAYLOAD);
        if bytes > max {
            out.truncate(before);
            return Err(SendError::TooLarge { bytes, max });
        }
        Ok(())
    }

    /// For a host whose payloads travel as they are: how large a payload is, as [`encode_payload`]
    /// would write it, if it is not too large.
    pub fn check_payload(payload: &Value) -> Result<usize, SendError> {
        let (bytes, max) = (payload_size(payload)?, Self::MAX_PAYLOAD);
        match bytes <= max {
            true => Ok(bytes),
            false => Err(SendError::TooLarge { bytes, max }),
        }
    }

    /// For a host: what the agent of that config can do in this life.
    pub fn new(
        config: AgentConfig,
        incarnation: u64,
        state: AgentState,
        ports: Box<dyn Ports>,
    ) -> Self {
        Self { config, incarnation, state, ports, handling: None }
    }

    /// The agent's own id.
    pub fn id(&self) -> &AgentId {
        &self.config.id
    }

    /// What the agent was made from.
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// How many times an agent of this id was started, this time included: 1 for the first.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What the agent remembers.
    pub fn state(&mut self) -> &mut AgentState {
        &mut self.state
    }

    /// Stores, reads or removes a value of the agent's state.
    pub async fn handle_state_action(&mut self, action: StateAction) -> Result<Value> {
        Ok(self.state.handle_state_action(action).await?)
    }

    /// Sends `payload` to the agent `to`, on this node or another one. At most once: an agent that
    /// dies takes what waits in its mailbox with it. It leaves when the handler returns, waits,
    /// sends to somebody else, or has sent 32 KB.
    ///
    /// Errors: there is no agent `to` on this node, and no connection to NATS, by which another node
    /// could have it; it is being restarted. With a connection nobody learns that no node has it: who
    /// wants to know makes a [`Self::request`].
    pub async fn send(&mut self, to: &AgentId, payload: impl Into<Value>) -> Result<()> {
        to.validate()?;
        match self.ports.send(to, payload.into()) {
            None => Ok(()),
            Some(port) => Ok(port.await?),
        }
    }

    /// Sends `payload` to the agent `to` and waits for its answer, at most for `timeout`.
    ///
    /// The agent handles nothing else meanwhile; two agents that ask each other at once both wait
    /// until the time is up.
    ///
    /// Errors: those of [`Self::send`], and at once that no node has the agent (NATS says so); what its
    /// handler failed with. An agent of this node that dies of it is known to be restarted within
    /// 200 ms; one of another node does not answer until the time is up.
    pub async fn request(
        &mut self,
        to: &AgentId,
        payload: impl Into<Value>,
        timeout: Duration,
    ) -> Result<Value> {
        to.validate()?;
        Ok(self.ports.request(to, payload.into(), timeout).await?)
    }

    /// Answers `message`, which must be the one that is being handled. Only the first answer
    /// counts, and a message that was sent without asking for one takes none: both are errors.
    pub async fn reply(&mut self, message: &Message, payload: impl Into<Value>) -> Result<()> {
        let expected = || Error::from(SendError::NoReplyExpected(message.id.clone()));
        let of = Fingerprint::of(&message.id);
        let handling = self.handling.take_if(|handling| handling.message == of);
        Ok(self.ports.reply(&handling.ok_or_else(expected)?.to, payload.into())?)
    }

    /// Answers `message` if somebody waits for it: for agents that take messages of both kinds.
    pub async fn answer(&mut self, message: &Message, payload: impl Into<Value>) -> Result<()> {
        if self.wants_reply() {
            self.reply(message, payload).await
        } else {
            Ok(())
        }
    }

    /// Whether an answer to the message that is being handled is waited for.
    pub fn wants_reply(&self) -> bool {
        self.handling.is_some()
    }

    /// Publishes `payload` on a NATS subject; it leaves when the handler returns, waits, or has
    /// published 32 KB.
    pub async fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<()> {
        self.publish_message(subject, None, Headers::none(), payload).await
    }

    /// Publishes with headers, and says where answers are expected, which come as any message of a
    /// subject that the agent subscribed to.
    pub async fn publish_message(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<()> {
        self.may_use_nats()?;
        match self.ports.publish(subject, reply, headers, payload) {
            None => Ok(()),
            Some(port) => port.await,
        }
    }

    /// Asks on a NATS subject and waits for the first answer, at most for `timeout`.
    pub async fn nats_request(
        &mut self,
        subject: &str,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>> {
        self.may_use_nats()?;
        self.ports.nats_request(subject, payload, timeout).await
    }

    /// From now on [`Agent::on_nats_message`](super::Agent::on_nats_message) is called for what comes
    /// on a NATS subject, which may have wildcards; with a queue group, each message goes to one of
    /// the group. It holds while there is no server and after each reconnect, and ends with this
    /// life of the agent: so subscribe in `on_start`. To subscribe to the same again changes nothing.
    ///
    /// An agent has at most [`Self::MAX_SUBSCRIPTIONS`]; what comes waits in its mailbox, and counts
    /// for its health check as any message.
    pub async fn subscribe(&mut self, subject: &str, queue_group: Option<&str>) -> Result<()> {
        self.may_use_nats()?;
        self.ports.subscribe(subject, queue_group).await
    }

    /// Ends what [`Self::subscribe`] began; whether there was such a subscription.
    pub async fn unsubscribe(&mut self, subject: &str, queue_group: Option<&str>) -> Result<bool> {
        self.ports.unsubscribe(subject, queue_group).await
    }

    fn may_use_nats(&self) -> Result<()> {
        if self.config.nats_enabled {
            Ok(())
        } else {
            Err(Error::Nats(format!("agent {} has nats_enabled false", self.config.id)))
        }
    }

    /// For a host: its own part.
    pub fn ports(&mut self) -> &mut dyn Ports {
        self.ports.as_mut()
    }

    /// For a host: before it hands a message to the agent.
    pub fn begin(&mut self, message_id: &str, reply_to: Option<ReplyTo>) {
        self.handling = reply_to.map(|to| Handling { message: Fingerprint::of(message_id), to });
    }

    /// For a host: after the handler returned. What is left is where an error goes.
    pub fn end(&mut self) -> Option<ReplyTo> {
        self.handling.take().map(|handling| handling.to)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::*;
    use crate::agent::run_ready;
    use crate::memory::InMemoryBackend;

    /// A host that writes down what it is told.
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl Recorder {
        fn note(&self, what: String) {
            self.0.lock().expect("one thread").push(what);
        }
    }

    impl Ports for Recorder {
        fn send<'a>(
            &'a mut self,
            to: &'a AgentId,
            payload: Value,
        ) -> Option<Port<'a, Result<(), SendError>>> {
            self.note(format!("send {to} {payload}"));
            None
        }

        fn request<'a>(
            &'a mut self,
            to: &'a AgentId,
            payload: Value,
            timeout: Duration,
        ) -> Port<'a, Result<Value, RequestError>> {
            self.note(format!("request {to} {payload}"));
            Port::done(Err(RequestError::Timeout { agent: to.clone(), timeout }))
        }

        fn reply(&mut self, to: &ReplyTo, payload: Value) -> Result<(), SendError> {
            self.note(format!("reply {to:?} {payload}"));
            Ok(())
        }

        fn publish<'a>(
            &'a mut self,
            subject: &'a str,
            _: Option<&'a str>,
            _: &'a Headers,
            _: &'a [u8],
        ) -> Option<Port<'a, Result<()>>> {
            self.note(format!("publish {subject}"));
            Some(Port::Later(Box::pin(std::future::ready(Ok(())))))
        }

        fn nats_request<'a>(
            &'a mut self,
            _: &'a str,
            _: &'a [u8],
            _: Duration,
        ) -> Port<'a, Result<Vec<u8>>> {
            Port::done(Ok(Vec::new()))
        }

        fn refuse(&mut self, to: &ReplyTo, error: &WireError) {
            self.note(format!("refuse {to:?} {error}"));
        }

        fn handled(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn context(config: AgentConfig) -> (Context, Arc<Mutex<Vec<String>>>) {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let state = AgentState::new(config.id.clone(), Box::new(InMemoryBackend::new()));
        let ctx = Context::new(config, 1, state, Box::new(Recorder(notes.clone())));
        (ctx, notes)
    }

    fn config() -> AgentConfig {
        AgentConfig { id: AgentId("me".into()), ..AgentConfig::default() }
    }

    fn message(id: &str) -> Message {
        let (from, to) = (AgentId("you".into()), AgentId("me".into()));
        Message { id: id.into(), from, to, payload: Value::Null, timestamp: 0 }
    }

    #[test]
    fn only_the_first_reply_to_the_message_that_is_handled_counts() {
        let (mut ctx, notes) = context(config());
        let to = ReplyTo::Process { id: 7, tag: 9 };
        ctx.begin("m1", Some(to));
        let refused = run_ready(ctx.reply(&message("m0"), 1)).expect("ready");
        assert!(refused.expect_err("another message").to_string().contains("m0"));
        run_ready(ctx.reply(&message("m1"), json!({"a": 1}))).expect("ready").expect("the first");
        assert!(run_ready(ctx.reply(&message("m1"), 2)).expect("ready").is_err(), "the second");
        assert_eq!(
            *notes.lock().expect("one thread"),
            ["reply Process { id: 7, tag: 9 } {\"a\":1}"]
        );
        assert_eq!(ctx.end(), None);
    }

    #[test]
    fn ids_are_told_apart_by_their_fingerprints() {
        let mut ids: Vec<String> = (0..10_000).map(|n| format!("Zk3jqP0aW7tR{n:010}")).collect();
        ids.extend((0..100).map(|len| "x".repeat(len)));
        ids.extend(["a", "a\0", "\0a", "b", "ab", "ba"].map(str::to_owned));
        let mut seen: Vec<u64> = ids.iter().map(|id| Fingerprint::of(id).0).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), ids.len());
    }

    #[test]
    fn what_is_done_and_what_is_under_way_are_both_awaited() {
        let (mut ctx, notes) = context(config());
        run_ready(ctx.publish("a.b", b"")).expect("ready").expect("published");
        let asked = run_ready(ctx.request(&AgentId("you".into()), 1, Duration::from_millis(7)));
        assert!(asked.expect("ready").is_err());
        assert_eq!(*notes.lock().expect("one thread"), ["publish a.b", "request you 1"]);
    }

    #[test]
    fn an_answer_is_given_only_to_who_waits() {
        let (mut ctx, notes) = context(config());
        ctx.begin("m1", None);
        assert!(!ctx.wants_reply());
        run_ready(ctx.answer(&message("m1"), 1)).expect("ready").expect("nobody waits");
        assert!(run_ready(ctx.reply(&message("m1"), 1)).expect("ready").is_err());
        assert!(notes.lock().expect("one thread").is_empty());
    }

    #[test]
    fn a_payload_is_bounded_and_what_was_before_it_stays() {
        let mut out = b"head".to_vec();
        let text = Value::from("x".repeat(Context::MAX_PAYLOAD - 4));
        let error = Context::encode_payload(&text, &mut out).expect_err("one byte too many");
        assert!(error.to_string().contains("524289 bytes"), "{error}");
        assert_eq!(out, b"head");
        let text = Value::from("x".repeat(Context::MAX_PAYLOAD - 5));
        assert!(Context::encode_payload(&text, &mut out).is_ok());
        assert_eq!(out.len(), 4 + Context::MAX_PAYLOAD);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_it_is() {
        let (mut ctx, notes) = context(AgentConfig { nats_enabled: false, ..config() });
        let error = run_ready(ctx.send(&AgentId("y.ou".into()), 1)).expect("ready");
        assert!(error.expect_err("no id").to_string().contains("y.ou"));
        let error = run_ready(ctx.publish("a.b", b"")).expect("ready");
        assert!(error.expect_err("no NATS").to_string().contains("nats_enabled"));
        let error = run_ready(ctx.subscribe("a.b", None)).expect("ready");
        assert!(error.expect_err("no NATS").to_string().contains("nats_enabled"));
        assert!(notes.lock().expect("one thread").is_empty());
    }
}
