//! The NATS client of a process: encodes here, and hands over to the connection when a handler
//! returns, waits for an answer, or 32 KB are full; never later than that.

use std::cell::Cell;
use std::time::Duration;

use thiserror::Error;

use super::clock;
use super::connection::{self, Greeting, Mail, Report};
use super::delivery::{self, Deliveries, Ended, Why, ANSWERS};
use super::handover::{Handover, Request};
use super::mail::{self, NoAnswer};
use super::names::{self, Part};
use super::sys::{self, Pid};
use crate::error::Error;
use crate::message::Headers;
pub use crate::message::NatsMessage;
use crate::nats::{
    Gather, GatherEnd, Gathering, Inbox, InvalidConfig, Outbox, OutboxError, RequestMany, UrlError,
};
use crate::time::Instant;

pub(super) use super::subscription::{
    for_handler, process_died, subscribe_handler, unsubscribe_handler, ForHandler,
};
pub use super::subscription::{SubscribeOptions, Subscription};

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
    /// The server does not permit the subject; in its words.
    #[error("{0}")]
    PermissionDenied(String),
    /// The connection broke before the answer was there. Whether the request arrived is not known.
    #[error("the connection broke before {subject} was answered")]
    Disconnected {
        /// The subject.
        subject: String,
    },
    /// The server takes what is published slower than it comes, and the publisher chose
    /// [`WhenBusy::Error`]. The message was not taken.
    #[error(
        "the server is slower than this publisher, and the message was not taken: try again later"
    )]
    Busy,
    /// A subscription is over, and why.
    #[error("the subscription has ended: {0}")]
    SubscriptionEnded(String),
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

impl From<serde_json::Error> for NatsError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

impl From<NatsError> for Error {
    fn from(error: NatsError) -> Self {
        let text = error.to_string();
        match error {
            NatsError::NoConnection
            | NatsError::Refused(_)
            | NatsError::Closed(_)
            | NatsError::Connect(_)
            | NatsError::Disconnected { .. } => Self::NatsUnreachable(text),
            _ => Self::Nats(text),
        }
    }
}

/// What a publish does when the server takes less than is published: when 256 KB of this process
/// are on their way to the socket already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenBusy {
    /// It waits until there is room.
    #[default]
    Wait,
    /// It is [`NatsError::Busy`], and the message is not taken.
    Error,
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
    fn pid(&mut self) -> Result<Pid, NatsError> {
        match self {
            Self::Node(part) => part.pid().ok_or(NatsError::NoConnection),
            Self::Own { pid, .. } if sys::exists(*pid) => Ok(*pid),
            Self::Own { .. } => Err(process_ended()),
        }
    }

    /// What the server takes at most, if there is one now.
    fn max_payload(&self) -> Option<usize> {
        names::online(match self {
            Self::Node(_) => names::ONLINE,
            Self::Own { online, .. } => online,
        })
    }
}

/// A connection of one's own has no successor.
pub(super) fn process_ended() -> NatsError {
    NatsError::Closed("its process has ended".to_owned())
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
    /// How much was handed over since the connection was last asked whether it has taken it.
    unasked: usize,
    /// Whom that was asked, and the tag of its answer.
    asked: Option<(Pid, i64)>,
    when_busy: WhenBusy,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// At so many bytes the outbox is handed over.
    const FULL: usize = 32 * 1024;
    /// What one process has on its way to the socket is at most this and one outbox. After half of
    /// it the connection is asked whether it has taken all until then, and after the other half its
    /// answer is waited for: a process that outruns the server is slowed down, and one that does not
    /// never waits.
    const WINDOW: usize = 256 * 1024;
    /// How long the connection may take to answer: longer than it may write.
    const TIMEOUT: Duration = Duration::from_secs(15);
    /// While it waits for an answer, it looks this often whether the connection's process still lives.
    const LOOK: Duration = Duration::from_secs(1);

    /// A client.
    pub fn new() -> Self {
        Self::of(Line::Node(Part::new(names::CONNECTION)))
    }

    /// A client of a connection of this process's own.
    pub(super) fn of_own(pid: Pid) -> Self {
        Self::of(Line::Own { pid, online: names::own_online(pid) })
    }

    fn of(connection: Line) -> Self {
        Self {
            connection,
            outbox: Outbox::default(),
            greeting: None,
            unasked: 0,
            asked: None,
            when_busy: WhenBusy::Wait,
        }
    }

    /// Whether the node is connected now.
    pub fn is_online(&mut self) -> bool {
        self.connection.max_payload().is_some()
    }

    /// What publishes do from now on when the server does not keep up.
    pub fn set_when_busy(&mut self, when_busy: WhenBusy) {
        self.when_busy = when_busy;
    }

    /// Publishes. While there is no connection to a server, the node keeps what is published up to
    /// its bound; beyond it this is an error, at this call. An error can also tell of what this
    /// process published before.
    pub fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        payload: &[u8],
    ) -> Result<(), NatsError> {
        self.publish_with_headers(subject, reply, Headers::none(), payload)
    }

    /// Publishes with headers.
    pub fn publish_with_headers(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<(), NatsError> {
        if self.is_busy()? {
            return Err(NatsError::Busy);
        }
        let is_online = self.encode(subject, reply, headers, payload)?;
        if self.outbox.len() >= Self::FULL || !is_online {
            self.hand_over(None)?;
        }
        Ok(())
    }

    /// Hands over what was published.
    pub fn flush(&mut self) -> Result<(), NatsError> {
        self.hand_over(None)?;
        // Who looks into its mailbox next must not find an answer there that this waits for.
        self.settle()
    }

    /// As [`Self::flush`], for a process whose mailbox nobody else reads: it waits only if what it has
    /// on its way is too much, and with [`WhenBusy::Error`] not even then.
    pub(super) fn hand_over_all(&mut self) -> Result<(), NatsError> {
        self.hand_over(None)
    }

    /// Says whether there is a server, as far as that was looked up.
    fn encode(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<bool, NatsError> {
        if payload.len() > Self::FULL {
            // A large one goes by itself: with others before it, it might not fit.
            self.hand_over(None)?;
        }
        // Asked for each publish, so asked of the registry only for the first one in the outbox.
        let mut is_online = true;
        if self.outbox.is_empty() {
            let max_payload = self.connection.max_payload();
            is_online = max_payload.is_some();
            // Without a server, what the last one took.
            max_payload.into_iter().for_each(|max| self.outbox.set_max_payload(max));
        }
        self.outbox.publish(subject, reply, headers, payload)?;
        Ok(is_online)
    }

    fn hand_over(&mut self, request: Option<Request<'_>>) -> Result<(), NatsError> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let connection = self.connection.pid().inspect_err(|_| {
            self.outbox.clear();
            self.asked = None;
        })?;
        // Without a server each is answered before anything else happens: a full buffer is an error
        // at the call.
        let is_online = self.is_online();
        let mut ask = !is_online || self.unasked + self.outbox.len() >= Self::WINDOW / 2;
        if ask && is_online && self.when_busy == WhenBusy::Error {
            // Who does not want to wait is refused from now on, until there is an answer.
            ask = self.has_answered().inspect_err(|_| self.outbox.clear())?;
        } else if ask {
            self.settle().inspect_err(|_| self.outbox.clear())?;
        }
        let (ops, bytes) = (self.outbox.ops(), self.outbox.as_bytes());
        let tag = if ask { mail::new_tag() } else { 0 };
        Handover { ops, from: sys::this(), tag, request }.send(connection, bytes);
        self.unasked += bytes.len();
        self.outbox.clear();
        if ask {
            self.unasked = 0;
            self.asked = Some((connection, tag));
        }
        if is_online {
            return Ok(());
        }
        self.settle()
    }

    /// Waits for the connection's word that it has taken what it was asked about.
    fn settle(&mut self) -> Result<(), NatsError> {
        let Some((connection, tag)) = self.asked.take() else { return Ok(()) };
        mail::await_answer(connection, tag, Some(Self::TIMEOUT)).map_err(refused)?;
        Ok(())
    }

    /// Whether a publisher that does not want to wait would have to.
    fn is_busy(&mut self) -> Result<bool, NatsError> {
        let is_full = self.unasked + self.outbox.len() >= Self::WINDOW / 2;
        Ok(self.when_busy == WhenBusy::Error && is_full && !self.has_answered()?)
    }

    /// Whether the connection has taken what it was asked about; does not wait for it.
    fn has_answered(&mut self) -> Result<bool, NatsError> {
        let Some((connection, tag)) = self.asked else { return Ok(true) };
        match mail::await_answer(connection, tag, Some(Duration::ZERO)) {
            Err(NoAnswer::TimedOut) => Ok(false),
            answer => {
                self.asked = None;
                answer.map(|_| true).map_err(refused)
            }
        }
    }

    /// Publishes, and waits for the first answer.
    pub fn request(
        &mut self,
        subject: &str,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, NatsError> {
        let answer = self.request_with_headers(subject, Headers::none(), payload, timeout)?;
        Ok(answer.payload().to_vec())
    }

    /// Publishes with headers, and waits for the first answer.
    pub fn request_with_headers(
        &mut self,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<NatsMessage, NatsError> {
        let mut answers = self.ask(subject, headers, payload)?;
        match answers.next(clock::now() + timeout)? {
            Some(answer) if answer.is_no_responders() => {
                Err(NatsError::NoResponders { subject: subject.to_owned() })
            }
            Some(answer) => Ok(answer),
            None => Err(NatsError::TimedOut { subject: subject.to_owned(), timeout }),
        }
    }

    /// Publishes, and waits for as many answers as `many` says (ADR-47); an answer that is late is no
    /// error here.
    pub fn request_many(
        &mut self,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
        many: &RequestMany,
    ) -> Result<Vec<NatsMessage>, NatsError> {
        let mut gather = Gather::new(clock::now(), many);
        let mut answers = self.ask(subject, headers, payload)?;
        let mut got = Vec::new();
        loop {
            let until = match gather.tick(clock::now()) {
                Gathering::Continue { until } => until,
                Gathering::Done(GatherEnd::NoResponders) => {
                    return Err(NatsError::NoResponders { subject: subject.to_owned() });
                }
                Gathering::Done(_) => return Ok(got),
            };
            if let Some(answer) = answers.next(until)? {
                let (status, len) = (answer.status(), answer.payload().len());
                if gather.reply(clock::now(), status, len) {
                    got.push(answer);
                }
            }
        }
    }

    fn ask<'a>(
        &mut self,
        subject: &'a str,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<Answers<'a>, NatsError> {
        thread_local! {
            // Memory is per process, and so are its requests.
            static LAST: Cell<u64> = const { Cell::new(0) };
        }
        let number = LAST.get() + 1;
        LAST.set(number);
        self.start_request(number, subject, headers, payload)?;
        let (connection, inbox) = self.inbox()?;
        Ok(Answers { subject, number, connection, inbox: inbox.clone(), here: None })
    }

    /// Publishes a request under a number of the caller's, and waits for nothing: its answers, and
    /// their end, come as mails under [`ANSWERS`]. For a process that asks in no other way.
    pub(super) fn start_request(
        &mut self,
        number: u64,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<(), NatsError> {
        let (_, inbox) = self.inbox()?;
        let reply = inbox.reply_subject(sys::this().0, number as i64);
        self.encode(subject, Some(&reply), headers, payload)?;
        self.hand_over(Some(Request { number, subject }))
    }

    /// The number of the request that this answers. That nobody listens is no answer.
    pub(super) fn answered_request(&self, message: &NatsMessage) -> Option<(u64, bool)> {
        let (_, inbox) = self.greeting.as_ref()?;
        let (_, number) = inbox.parse(message.subject())?;
        Some((number as u64, !message.is_no_responders()))
    }

    /// Subscribes this process to a subject, with wildcards if it has any, alone or as one of a
    /// queue group.
    pub fn subscribe(
        &mut self,
        subject: &str,
        queue: Option<&str>,
    ) -> Result<Subscription, NatsError> {
        let queue_group = queue.map(str::to_owned);
        self.subscribe_with(subject, SubscribeOptions { queue_group, ..Default::default() })
    }

    /// Subscribes this process to a subject, with limits of its own.
    pub fn subscribe_with(
        &mut self,
        subject: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, NatsError> {
        let connection = self.connection.pid()?;
        let own = matches!(self.connection, Line::Own { .. });
        Subscription::new(connection, own, subject, options)
    }

    /// Waits until the server has everything that this process published.
    pub fn flush_to_server(&mut self, timeout: Duration) -> Result<(), NatsError> {
        self.flush()?;
        let connection = self.connection.pid()?;
        let answer = mail::request(connection, Some(timeout), |waiter| Mail::Flush { waiter });
        answer.map(|_| ()).map_err(refused)
    }

    /// From now on what happens to the connection comes as events, none of which is dropped.
    pub fn events(&mut self) -> Result<Events, NatsError> {
        let connection = self.connection.pid()?;
        let tag = mail::new_tag();
        mail::send(connection, &Mail::Watch { pid: sys::this().0, tag });
        Ok(Events { connection, tag })
    }

    fn inbox(&mut self) -> Result<(Pid, &Inbox), NatsError> {
        let connection = self.connection.pid()?;
        if self.greeting.as_ref().is_none_or(|(known, _)| *known != connection) {
            self.greet()?;
        }
        let greeting = self.greeting.as_ref().ok_or(NatsError::NoConnection)?;
        Ok((greeting.0, &greeting.1))
    }

    /// Asks the connection who it is.
    fn greet(&mut self) -> Result<(), NatsError> {
        let connection = self.connection.pid()?;
        let hello = |waiter| Mail::Hello { waiter };
        let bytes = mail::request(connection, Some(Self::TIMEOUT), hello).map_err(refused)?;
        let greeting: Greeting =
            postcard::from_bytes(&bytes).map_err(|error| NatsError::Refused(error.to_string()))?;
        self.greeting = Some((connection, Inbox::from_random(greeting.inbox)));
        Ok(())
    }
}

/// The answers to one request. Those to others that came too late go as they are met.
struct Answers<'a> {
    subject: &'a str,
    number: u64,
    connection: Pid,
    inbox: Inbox,
    here: Option<Deliveries>,
}

impl Answers<'_> {
    /// The next one, if it comes in time.
    fn next(&mut self, until: Instant) -> Result<Option<NatsMessage>, NatsError> {
        loop {
            for message in self.here.iter_mut().flatten() {
                let to = self.inbox.parse(message.subject());
                if to.is_some_and(|(_, number)| number as u64 == self.number) {
                    return Ok(Some(message));
                }
            }
            let left = until - clock::now();
            self.here = None;
            match delivery::receive(ANSWERS, Some(left.min(Client::LOOK))) {
                None if left.is_zero() => return Ok(None),
                None if !sys::exists(self.connection) => return Err(self.disconnected()),
                None => {}
                Some(mail) => match Ended::read(&mail) {
                    Some(Ended { number, why }) if number == self.number => {
                        return Err(match why {
                            Why::Denied(text) => NatsError::PermissionDenied(text),
                            Why::Disconnected => self.disconnected(),
                            Why::Closed(text) => NatsError::Closed(text),
                        });
                    }
                    Some(_) => {}
                    None => self.here = Deliveries::read(mail),
                },
            }
        }
    }

    fn disconnected(&self) -> NatsError {
        NatsError::Disconnected { subject: self.subject.to_owned() }
    }
}

/// What happens to a connection, for the process that asked for it. They wait in its mailbox until
/// they are looked at; there are few: at most some ten per attempt to connect.
#[derive(Debug)]
pub struct Events {
    connection: Pid,
    tag: i64,
}

impl Events {
    /// The next event. `None` if there was none within `timeout`, or if the connection's process has
    /// ended.
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<crate::nats::Event> {
        let answer = mail::await_answer(self.connection, self.tag, timeout).ok()?;
        postcard::from_bytes(&answer).ok()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        mail::send(self.connection, &Mail::Unwatch { pid: sys::this().0, tag: self.tag });
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
