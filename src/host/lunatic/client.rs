//! The NATS client of a process: encodes here, and hands over to the connection when a handler
//! returns, waits for an answer, or 32 KB are full; never later than that.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use thiserror::Error;

use super::clock;
use super::connection::{self, Greeting, Mail, Report};
use super::mail::{self, NoAnswer};
use super::names::{self, Part};
use super::sys::{self, Pid, Received};
use crate::agent::Context;
use crate::error::Error;
pub use crate::message::NatsMessage;
use crate::nats::{Headers, Inbox, InvalidConfig, Outbox, OutboxError, UrlError};

/// Why NATS did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The node has no NATS, or its connection is being restarted.
    #[error("there is no connection to NATS on this node")]
    NoConnection,
    /// A subject or a payload breaks a rule. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] OutboxError),
    /// The connection did not take it: there is no server, and the buffer is full.
    #[error("{0}")]
    Refused(String),
    /// The connection has ended for good: it was closed, or has tried as often as it may.
    #[error("the connection has ended: {0}")]
    Closed(String),
    /// No server could be reached at the start.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// A server's URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The config has a value that is not allowed.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// The runtime refused the connection's process.
    #[error("a connection of its own needs a process: {0}")]
    Process(String),
    /// What was to be published cannot be written as JSON.
    #[error("it cannot be written as JSON: {0}")]
    Json(String),
    /// An agent subscribes to too many subjects.
    #[error("the agent has {max} subscriptions already, which is the limit")]
    TooManySubscriptions {
        /// The limit.
        max: usize,
    },
    /// Nobody subscribed to the subject.
    #[error("nobody listens on {subject}")]
    NoResponders {
        /// The subject.
        subject: String,
    },
    /// No answer came in time.
    #[error("no answer from {subject} within {} ms", timeout.as_millis())]
    TimedOut {
        /// The subject.
        subject: String,
        /// How long was waited.
        timeout: Duration,
    },
}

impl From<NatsError> for Error {
    fn from(error: NatsError) -> Self {
        Self::Nats(error.to_string())
    }
}

/// The connection that a client uses.
#[derive(Debug)]
enum Line {
    /// The node's, wherever its present process is.
    Node(Part),
    /// One of this process's own.
    Own { pid: Pid, online: String },
}

impl Line {
    fn pid(&mut self) -> Option<Pid> {
        match self {
            Self::Node(part) => part.pid(),
            Self::Own { pid, .. } => Some(*pid).filter(|&pid| sys::exists(pid)),
        }
    }

    fn is_online(&self) -> bool {
        let name = match self {
            Self::Node(_) => names::ONLINE,
            Self::Own { online, .. } => online,
        };
        sys::lookup(name).is_some_and(sys::exists)
    }
}

/// A client of the node's connection, for the process that made it.
///
/// What it publishes is kept back until 32 KB are full, or until `flush`; an agent's is flushed
/// for it when its handler returns.
#[derive(Debug)]
pub struct Client {
    connection: Line,
    outbox: Outbox,
    greeting: Option<(Pid, Inbox)>,
    /// How much was handed over since the connection last said that it had taken everything.
    unchecked: usize,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// At so many bytes the outbox is handed over.
    const FULL: usize = 32 * 1024;
    /// After so many bytes the connection is asked whether it has taken them: what one process has
    /// under way is at most this, and a process that outruns the server is slowed down.
    const WINDOW: usize = 256 * 1024;
    /// How long the connection may take to answer: longer than it may write.
    const TIMEOUT: Duration = Duration::from_secs(15);

    /// A client.
    pub fn new() -> Self {
        Self::of(Line::Node(Part::new(names::CONNECTION)))
    }

    /// A client of a connection of this process's own.
    pub(super) fn of_own(pid: Pid) -> Self {
        Self::of(Line::Own { pid, online: names::own_online(pid) })
    }

    fn of(connection: Line) -> Self {
        Self { connection, outbox: Outbox::default(), greeting: None, unchecked: 0 }
    }

    /// Whether the node is connected now.
    pub fn is_online(&mut self) -> bool {
        self.connection.is_online()
    }

    /// Publishes. While there is no connection to a server, the node keeps what is published up to
    /// its bound; beyond it this is an error, at this call.
    pub fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        payload: &[u8],
    ) -> Result<(), NatsError> {
        if payload.len() > Self::FULL {
            // Large ones are checked against what the server takes now: it would end the
            // connection of the whole node.
            self.greet()?;
        }
        self.outbox.publish(subject, reply, &Headers::new(), payload)?;
        if self.outbox.len() >= Self::FULL || !self.is_online_cheaply() {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands over what was published.
    pub fn flush(&mut self) -> Result<(), NatsError> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let Some(connection) = self.connection.pid() else {
            self.outbox.take();
            return Err(NatsError::NoConnection);
        };
        let batch = self.outbox.take();
        let (ops, bytes) = (batch.ops, batch.bytes.as_slice());
        self.unchecked += bytes.len();
        if self.unchecked < Self::WINDOW && self.is_online() {
            mail::send(connection, &Mail::Publish { ops, bytes, waiter: None });
            return Ok(());
        }
        self.unchecked = 0;
        let taken = mail::request(connection, Some(Self::TIMEOUT), |waiter| Mail::Publish {
            ops,
            bytes,
            waiter: Some(waiter),
        });
        taken.map(|_| ()).map_err(refused)
    }

    /// Publishes, and waits for the first answer.
    pub fn request(
        &mut self,
        subject: &str,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, NatsError> {
        let tag = mail::new_tag();
        let reply = self.inbox()?.reply_subject(sys::this().0, tag);
        self.publish(subject, Some(&reply), payload)?;
        self.flush()?;
        let subject = || subject.to_owned();
        match receive_deliveries(tag, Some(timeout)).and_then(|mut got| got.pop_front()) {
            Some(NatsMessage { status: Some(503), .. }) => {
                Err(NatsError::NoResponders { subject: subject() })
            }
            Some(message) => Ok(message.payload),
            None => Err(NatsError::TimedOut { subject: subject(), timeout }),
        }
    }

    /// Subscribes this process to a subject, with wildcards if it has any, alone or as one of a
    /// queue group.
    pub fn subscribe(
        &mut self,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Subscription, NatsError> {
        let connection = self.connection.pid().ok_or(NatsError::NoConnection)?;
        let tag = mail::new_tag();
        let (subject, queue) = (subject.to_owned(), queue.map(str::to_owned));
        KEPT.with_borrow_mut(|kept| kept.insert(tag, VecDeque::new()));
        let sid = subscribe(connection, &subject, queue.as_deref(), tag).inspect_err(|_| {
            KEPT.with_borrow_mut(|kept| kept.remove(&tag));
        })?;
        let own = matches!(self.connection, Line::Own { .. });
        let (over, waiting) = (None, VecDeque::new());
        Ok(Subscription { subject, queue, connection, own, over, sid, tag, waiting })
    }

    /// Waits until the server has everything that this process published.
    pub fn flush_to_server(&mut self, timeout: Duration) -> Result<(), NatsError> {
        self.flush()?;
        let connection = self.connection.pid().ok_or(NatsError::NoConnection)?;
        let answer = mail::request(connection, Some(timeout), |waiter| Mail::Flush { waiter });
        answer.map(|_| ()).map_err(refused)
    }

    fn inbox(&mut self) -> Result<&Inbox, NatsError> {
        let connection = self.connection.pid().ok_or(NatsError::NoConnection)?;
        if self.greeting.as_ref().is_none_or(|(known, _)| *known != connection) {
            self.greet()?;
        }
        self.greeting.as_ref().map(|(_, inbox)| inbox).ok_or(NatsError::NoConnection)
    }

    /// Asks the connection who it is, and what the server takes.
    fn greet(&mut self) -> Result<(), NatsError> {
        let connection = self.connection.pid().ok_or(NatsError::NoConnection)?;
        let hello = |waiter| Mail::Hello { waiter };
        let bytes = mail::request(connection, Some(Self::TIMEOUT), hello).map_err(refused)?;
        let greeting: Greeting =
            postcard::from_bytes(&bytes).map_err(|error| NatsError::Refused(error.to_string()))?;
        self.outbox.set_max_payload(usize::try_from(greeting.max_payload).unwrap_or(usize::MAX));
        self.greeting = Some((connection, Inbox::from_random(greeting.inbox)));
        Ok(())
    }

    /// Asked for each publish, so asked of the registry only for the first one in the outbox.
    fn is_online_cheaply(&mut self) -> bool {
        self.outbox.ops() > 1 || self.is_online()
    }
}

/// Asks a connection how it is.
pub(super) fn report(connection: Pid) -> Result<Report, NatsError> {
    let ask = |waiter| Mail::Report { waiter };
    let bytes = mail::request(connection, Some(Client::TIMEOUT), ask).map_err(refused)?;
    postcard::from_bytes(&bytes).map_err(|error| NatsError::Refused(error.to_string()))
}

pub(super) fn refused(error: NoAnswer) -> NatsError {
    match error {
        NoAnswer::Refused { code, message } if code == connection::CLOSED => {
            NatsError::Closed(message)
        }
        NoAnswer::Refused { message, .. } => NatsError::Refused(message),
        NoAnswer::Died => NatsError::NoConnection,
        NoAnswer::TimedOut => NatsError::Refused("the connection did not answer".to_owned()),
        NoAnswer::Garbled => NatsError::Refused("the connection's answer is garbled".to_owned()),
    }
}

fn subscribe(
    connection: Pid,
    subject: &str,
    queue: Option<&str>,
    tag: i64,
) -> Result<u64, NatsError> {
    let pid = sys::this().0;
    let answer = mail::request(connection, Some(Client::TIMEOUT), |waiter| Mail::Subscribe {
        subject,
        queue,
        pid,
        tag,
        waiter,
    });
    let bytes = answer.map_err(refused)?;
    let sid: [u8; 8] = bytes.try_into().map_err(|_| refused(NoAnswer::Garbled))?;
    Ok(u64::from_le_bytes(sid))
}

/// What comes on a subject, for the process that subscribed. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    subject: String,
    queue: Option<String>,
    connection: Pid,
    /// Whether that is a connection of this process's own, which has no successor.
    own: bool,
    /// Why nothing will come any more, if so.
    over: Option<String>,
    sid: u64,
    tag: i64,
    waiting: VecDeque<NatsMessage>,
}

impl Subscription {
    /// While it waits, it looks this often whether the connection's process still lives.
    const LOOK: Duration = Duration::from_secs(1);

    /// The next message. `None` if none came within `timeout`, or if none will come any more, which
    /// is so only for a connection of this process's own that has ended.
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<NatsMessage> {
        let deadline = timeout.map(|timeout| clock::now() + timeout);
        loop {
            if let Some(message) = self.take_waiting() {
                return Some(message);
            }
            let left = deadline.map(|deadline| deadline - clock::now());
            if self.over.is_some() || left == Some(Duration::ZERO) {
                return None;
            }
            let slice = left.map_or(Self::LOOK, |left| left.min(Self::LOOK));
            match receive_deliveries(self.tag, Some(slice)) {
                Some(messages) => self.waiting.extend(messages),
                None => self.follow_connection(),
            }
        }
    }

    /// The next message, if one is here.
    pub fn try_next(&mut self) -> Option<NatsMessage> {
        if let Some(message) = self.take_waiting() {
            return Some(message);
        }
        // No shorter wait can be had: a timer tick of the runtime, up to a millisecond.
        match receive_deliveries(self.tag, Some(Duration::ZERO)) {
            Some(messages) => self.waiting.extend(messages),
            None => self.follow_connection(),
        }
        self.take_waiting()
    }

    fn take_waiting(&mut self) -> Option<NatsMessage> {
        if self.waiting.is_empty() {
            self.waiting = kept(self.tag);
        }
        self.waiting.pop_front()
    }

    /// Why nothing will come any more, if so; what has come is still there.
    pub(super) fn over(&self) -> Option<&str> {
        self.over.as_deref()
    }

    fn follow_own(&mut self) {
        self.over = match report(self.connection) {
            Ok(report) => report.closed,
            // It is late: it may be in the middle of a write.
            Err(_) if sys::exists(self.connection) => None,
            Err(_) => Some("its process has ended".to_owned()),
        };
        if self.over.is_some() {
            // What came before the end, and after the last look.
            self.waiting
                .extend(receive_deliveries(self.tag, Some(Duration::ZERO)).unwrap_or_default());
        }
    }

    /// Looks whether something can still come. The node's connection may have died: its successor
    /// knows nothing of this subscription.
    fn follow_connection(&mut self) {
        if self.own {
            return self.follow_own();
        }
        if sys::exists(self.connection) {
            return;
        }
        let Some(connection) = Part::new(names::CONNECTION).pid() else { return };
        match subscribe(connection, &self.subject, self.queue.as_deref(), self.tag) {
            Ok(sid) => (self.connection, self.sid) = (connection, sid),
            Err(error) => {
                log::warn!(subject = self.subject.as_str(); "subscription refused, tried again: {error}")
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        mail::send(self.connection, &Mail::Unsubscribe { sid: self.sid });
        KEPT.with_borrow_mut(|kept| kept.remove(&self.tag));
    }
}

thread_local! {
    /// What came for subscriptions of this process while it waited for something else.
    static KEPT: RefCell<HashMap<i64, VecDeque<NatsMessage>>> = RefCell::new(HashMap::new());
}

/// At most so many messages are kept for a subscription that nobody looks at; the oldest go first.
/// They count against the process's own memory limit.
const MAX_KEPT: usize = 1024;

/// What an agent has its handler called for, by `ctx.subscribe`.
#[derive(Default)]
struct HandlerSubscriptions {
    all: Vec<Subscription>,
    /// The connection whose death is told to this process.
    watched: Option<Pid>,
}

thread_local! {
    static HANDLER: RefCell<HandlerSubscriptions> = RefCell::default();
}

/// The tag of the mail with which an agent reminds itself to look for the connection's successor.
const FOLLOW: i64 = 101;

impl HandlerSubscriptions {
    /// How soon it looks again for a connection that is not back yet.
    const LOOK_AGAIN: Duration = Duration::from_millis(50);

    fn position(&self, subject: &str, queue: Option<&str>) -> Option<usize> {
        self.all.iter().position(|one| one.subject == subject && one.queue.as_deref() == queue)
    }

    /// Watches the connection that the subscriptions are at; where it has died, they move to its
    /// successor, now or soon.
    fn follow(&mut self) {
        self.all.iter_mut().for_each(Subscription::follow_connection);
        if self.all.iter().any(|one| !sys::exists(one.connection)) {
            self.watched = None;
            sys::send_after(sys::this(), FOLLOW, &[mail::DELIVERIES], Self::LOOK_AGAIN);
            return;
        }
        let Some(connection) = self.all.first().map(|one| one.connection) else { return };
        if self.watched != Some(connection) {
            self.watched = Some(connection);
            sys::monitor(connection);
            // A monitor on a process that has died already never fires.
            if !sys::exists(connection) {
                self.follow();
            }
        }
    }
}

/// Has the agent of this process called for what comes on a subject. To do it again changes nothing.
pub(super) fn subscribe_handler(
    client: &mut Client,
    subject: &str,
    queue: Option<&str>,
) -> Result<(), NatsError> {
    HANDLER.with_borrow_mut(|handler| {
        if handler.position(subject, queue).is_some() {
            return Ok(());
        }
        let max = Context::MAX_SUBSCRIPTIONS;
        if handler.all.len() >= max {
            return Err(NatsError::TooManySubscriptions { max });
        }
        let subscription = client.subscribe(subject, queue)?;
        // What comes for it is handed on at once.
        KEPT.with_borrow_mut(|kept| kept.remove(&subscription.tag));
        handler.all.push(subscription);
        handler.follow();
        Ok(())
    })
}

/// Ends it again; whether there was such a subscription.
pub(super) fn unsubscribe_handler(subject: &str, queue: Option<&str>) -> bool {
    HANDLER.with_borrow_mut(|handler| match handler.position(subject, queue) {
        Some(at) => {
            drop(handler.all.swap_remove(at));
            true
        }
        None => false,
    })
}

/// What came for the agent's handler. What came for a subscription that the agent looks at by
/// itself is kept for that.
pub(super) fn for_handler(tag: i64, bytes: &[u8]) -> VecDeque<NatsMessage> {
    let is_handlers = HANDLER.with_borrow_mut(|handler| {
        if tag == FOLLOW {
            handler.follow();
        }
        handler.all.iter().any(|one| one.tag == tag)
    });
    if is_handlers {
        return owned(bytes);
    }
    keep(tag, bytes);
    VecDeque::new()
}

/// A process that this one watches has died: the connection, if any.
pub(super) fn process_died() {
    HANDLER.with_borrow_mut(HandlerSubscriptions::follow);
}

/// Keeps deliveries that came while the process waited for something else.
fn keep(tag: i64, bytes: &[u8]) {
    KEPT.with_borrow_mut(|kept| {
        // Without an entry it is the late answer to a request, or for a subscription that is over.
        let Some(queue) = kept.get_mut(&tag) else { return };
        let was_full = queue.len() >= MAX_KEPT;
        queue.extend(owned(bytes));
        let excess = queue.len().saturating_sub(MAX_KEPT);
        queue.drain(..excess);
        if excess > 0 && !was_full {
            log::warn!("a subscription that nobody reads is full: its oldest messages are dropped");
        }
    });
}

fn kept(tag: i64) -> VecDeque<NatsMessage> {
    KEPT.with_borrow_mut(|kept| kept.get_mut(&tag).map(std::mem::take)).unwrap_or_default()
}

fn receive_deliveries(tag: i64, timeout: Option<Duration>) -> Option<VecDeque<NatsMessage>> {
    match sys::receive(&[tag], timeout) {
        Received::Message => {
            let mut buffer = Vec::new();
            sys::read_message(&mut buffer);
            Some(owned(&buffer))
        }
        _ => None,
    }
}

fn owned(bytes: &[u8]) -> VecDeque<NatsMessage> {
    let deliveries = mail::decode_deliveries(bytes).unwrap_or_default();
    let owned = deliveries.into_iter().map(|delivery| NatsMessage {
        subject: delivery.subject.to_owned(),
        reply: delivery.reply.map(str::to_owned),
        status: (delivery.status != 0).then_some(delivery.status),
        payload: delivery.payload.to_vec(),
    });
    owned.collect()
}
