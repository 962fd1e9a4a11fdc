//! What can be wrong: one small type per operation. A caller's mistake is never the same type as a
//! peer's fault.

use thiserror::Error;

use super::auth::AuthError;
use super::certificates::CertificateError;
use super::server_error::PermissionViolation;
use super::websocket::UpgradeHeaderError;
pub(crate) use crate::error::shown_bytes;
use crate::message::InvalidSubject;

/// A publish that [`Outbox`](super::Outbox) refuses. Nothing of it is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutboxError {
    /// The subject or the reply subject breaks a rule.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// The server would end the connection.
    #[error("payload and headers are {len} bytes, and the server takes at most {max}")]
    TooLarge {
        /// Payload and headers, in bytes.
        len: usize,
        /// The server's `max_payload`.
        max: usize,
    },
    /// It does not fit behind what waits already: take the batch first.
    #[error("the outbox holds {held} bytes, and {len} more would exceed its {max}")]
    Full {
        /// What waits.
        held: usize,
        /// What the refused publish needs at least.
        len: usize,
        /// The outbox's bound.
        max: usize,
    },
}

/// Input that is not the NATS protocol, or more of it than is allowed. It ends the connection: where
/// the next operation starts is not known any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// A control line is longer than 128 KiB.
    #[error("a control line is longer than {max} bytes")]
    LineTooLong {
        /// The bound.
        max: usize,
    },
    /// A message is larger than the decoder takes.
    #[error("a message of {len} bytes exceeds the limit of {max}")]
    MessageTooLarge {
        /// What the server announced.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// More was fed before what is there had been taken out.
    #[error("{buffered} bytes wait to be decoded, more than the limit of {max}")]
    Backlog {
        /// What waits.
        buffered: usize,
        /// The bound.
        max: usize,
    },
    /// A line starts with none of the server's verbs.
    #[error("{0} is not an operation of a NATS server")]
    UnknownOperation(String),
    /// `MSG` or `HMSG` with a wrong number of arguments, or a figure that is none.
    #[error("{0} is not a MSG or HMSG line")]
    MessageLine(String),
    /// A payload is not followed by a line end: its length was wrong.
    #[error("a payload of {len} bytes is not followed by a line end")]
    PayloadEnd {
        /// The announced length.
        len: usize,
    },
    /// The JSON of an `INFO`.
    #[error("the server's INFO cannot be read: {0}")]
    Info(String),
}

/// A subscription that [`Session`](super::Session) refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubscribeError {
    /// The table is full.
    #[error("there are {max} subscriptions already, which is the limit")]
    TooMany {
        /// `max_subscriptions`.
        max: usize,
    },
    /// The number given by the caller is in use, or 0.
    #[error("the subscription id {0} is in use or zero")]
    SidTaken(u64),
    /// The session drains: it takes nothing new.
    #[error("the connection drains, and takes no new subscription")]
    Draining,
    /// The session was closed.
    #[error("the connection is closed")]
    Closed,
}

/// A batch of publishes that [`Session`](super::Session) refuses, all of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// It does not fit behind what waits already.
    #[error(
        "{waiting_messages} messages ({waiting_bytes} bytes) wait to be sent, and {messages} more \
         ({bytes} bytes) exceed the limit of {max_messages} messages or {max_bytes} bytes"
    )]
    BufferFull {
        /// Messages in the refused batch.
        messages: u64,
        /// Bytes in the refused batch.
        bytes: usize,
        /// Messages that wait.
        waiting_messages: u64,
        /// Bytes that wait.
        waiting_bytes: usize,
        /// The limit in messages.
        max_messages: u64,
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// The session drains: its subscriptions have ended, and it closes as soon as the server has what
    /// was published before.
    #[error("the connection drains, and takes no new message")]
    Draining,
    /// The session was closed.
    #[error("the connection is closed")]
    Closed,
}

/// A request that [`Session`](super::Session) refuses; nothing of it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequestRefused {
    /// It could not be sent to any server: the subject, or its size.
    #[error(transparent)]
    Invalid(#[from] OutboxError),
    /// Too many are unanswered.
    #[error("{max} requests are unanswered, which is the limit")]
    TooMany {
        /// `max_requests`.
        max: usize,
    },
    /// The subscription for the answers cannot be made.
    #[error("no inbox for the answers: {0}")]
    Inbox(#[source] SubscribeError),
    /// There is no room for it, or the session drains or is closed.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why a request that was taken has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error, serde::Serialize, serde::Deserialize)]
pub enum RequestError {
    /// None came in time.
    #[error("no answer in time")]
    TimedOut,
    /// The server says that nobody listens (503).
    #[error("nobody listens on the subject")]
    NoResponders,
    /// The connection that it was sent on broke: whether somebody has it is not known.
    #[error("the connection broke before there was an answer")]
    Disconnected,
    /// The server does not let us publish there, or not subscribe to our inbox.
    #[error("{0}")]
    PermissionDenied(PermissionViolation),
    /// The session was closed.
    #[error("the connection is closed")]
    Closed,
}

/// A flush that cannot be answered as one hoped.
#[derive(Clone, Debug, PartialEq, Eq, Error, serde::Serialize, serde::Deserialize)]
pub enum FlushError {
    /// The transport broke before the answer, or since the last flush: whether the server has
    /// everything is not known.
    #[error("the connection broke before the server had answered")]
    Disconnected,
    /// Too many are unanswered.
    #[error("{max} flushes are unanswered, which is the limit")]
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The session was closed.
    #[error("the connection is closed")]
    Closed,
}

/// A URL that this client cannot use. Never repeats what stands before an `@`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// There is no `://`.
    #[error("{url} has no scheme: write ws://host:port or wss://host:port")]
    NoScheme {
        /// The URL, without its credentials.
        url: String,
    },
    /// Another transport's scheme.
    #[error("{scheme}:// is not for WebSocket, which this client speaks: write {instead}:// and the port of the server's websocket block, instead of {url}")]
    WrongScheme {
        /// What it was.
        scheme: String,
        /// What is likely meant.
        instead: &'static str,
        /// The URL, without its credentials.
        url: String,
    },
    /// The host is missing or has characters that no host has.
    #[error("the host in {url} is not a name, an IPv4 address or an IPv6 address in brackets")]
    Host {
        /// The URL, without its credentials.
        url: String,
    },
    /// The port is not 1 to 65535.
    #[error("the port in {url} is not a number from 1 to 65535")]
    Port {
        /// The URL, without its credentials.
        url: String,
    },
    /// Path or query has white space, non-ASCII, or a `#`.
    #[error("path and query in {url} must be visible ASCII characters without #")]
    Path {
        /// The URL, without its credentials.
        url: String,
    },
    /// User or password is empty or wrongly percent-encoded.
    #[error("the credentials in {url} are not user:password or a token, percent-encoded")]
    Credentials {
        /// The URL, without its credentials.
        url: String,
    },
    /// It is longer than any real one.
    #[error("a URL of {len} bytes is longer than the limit of 4096")]
    TooLong {
        /// Its length.
        len: usize,
    },
}

/// A value that [`Session::new`](super::Session::new) refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidConfig {
    /// There is nobody to connect to.
    #[error("servers is empty, and must name 1 to {max}")]
    NoServers {
        /// The most servers that a config can name.
        max: usize,
    },
    /// A value is out of its range.
    #[error("{field} is {value}, and must be {allowed}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it was.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A header that the upgrade request cannot have.
    #[error(transparent)]
    Header(#[from] UpgradeHeaderError),
    /// Text that has no certificates.
    #[error("the certificates of the CA: {0}")]
    Certificates(#[from] CertificateError),
    /// The credentials are damaged, or of another kind.
    #[error("auth cannot be used: {0}")]
    Auth(#[source] AuthError),
}
