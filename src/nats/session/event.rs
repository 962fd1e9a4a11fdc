//! What goes into a session and what comes out of it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::requests::RequestId;
use crate::nats::codec::{ControlOp, ServerMessage};
use crate::nats::error::{FlushError, RequestError};
use crate::nats::request_many::GatherEnd;
use crate::nats::server_error::PermissionViolation;
use crate::nats::url::ServerUrl;
use crate::time::Instant;

/// A fact from outside. `dial` is the number of the [`Output::Dial`] that the transport came from;
/// what comes from an earlier one is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The transport is there (TCP, TLS and the WebSocket upgrade). May come after the first
    /// operation that was read from it, or not at all.
    Opened {
        /// Whose.
        dial: u64,
    },
    /// The transport could not be made.
    DialFailed {
        /// Whose.
        dial: u64,
        /// Why, for events and errors.
        reason: String,
    },
    /// The server said something.
    Control {
        /// On which transport.
        dial: u64,
        /// What.
        op: ControlOp,
    },
    /// A message came, and the session is to say whether it is delivered. Not for hosts whose reader
    /// delivers by itself.
    Message {
        /// On which transport.
        dial: u64,
        /// The message.
        message: ServerMessage,
    },
    /// A reader delivered messages by itself: for the statistics, and for what is left of an
    /// `unsubscribe` after so many.
    Received {
        /// For which subscription.
        sid: u64,
        /// How many.
        messages: u64,
        /// Their bytes on the wire.
        bytes: u64,
    },
    /// A reader that delivers by itself dropped messages, since their subscriber was too slow.
    SlowConsumer {
        /// For which subscription.
        sid: u64,
        /// How many it dropped since the last report.
        dropped_messages: u64,
        /// Their bytes on the wire.
        dropped_bytes: u64,
        /// Whether these are the first since the subscriber had kept up: once per such transition
        /// there is an [`Event::SlowConsumer`].
        began: bool,
    },
    /// The transport ended, or what came from it could not be decoded.
    Closed {
        /// Which.
        dial: u64,
        /// Why, for events and errors.
        reason: String,
    },
    /// Nothing but that time has passed.
    Tick,
}

/// What is to be done. In this order, until [`Output::Wait`].
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Make a transport to this server; then say [`Input::Opened`] or [`Input::DialFailed`]. Anything
    /// left of an earlier dial can be dropped. Until the server's first INFO is handed in, the
    /// credentials for it can be replaced: [`Session::set_auth`](super::Session::set_auth).
    Dial {
        /// The number that everything from this transport carries.
        dial: u64,
        /// Where to.
        server: ServerUrl,
        /// Which attempt of this outage, from 1.
        attempt: u32,
        /// When the session gives this attempt up, handshake included.
        deadline: Instant,
    },
    /// Write this to the present transport: whole operations, in one frame.
    Write(Bytes),
    /// End this transport, or the attempt to make it. The session has done with it already.
    Disconnect {
        /// Which.
        dial: u64,
        /// Why.
        reason: DisconnectReason,
    },
    /// Something happened that somebody may want to know.
    Event(Event),
    /// A message for a subscription that exists.
    Deliver(ServerMessage),
    /// The answer to a flush.
    Flushed {
        /// The token that was given with it.
        token: u64,
        /// Whether the server has everything that was published before it.
        result: Result<(), FlushError>,
    },
    /// An answer to a request, or that there is none. Of [`Session::request`](super::Session::request)
    /// there is exactly one; of `request_many` any number of answers, and then an error or
    /// [`Output::Gathered`].
    Response {
        /// Which request.
        request: RequestId,
        /// The answer.
        result: Result<ServerMessage, RequestError>,
    },
    /// A request with many answers got its last one.
    Gathered {
        /// Which request.
        request: RequestId,
        /// Why there are no more.
        end: GatherEnd,
    },
    /// A subscription was drained: all that the server had sent for it came before this, and it is
    /// gone.
    Drained {
        /// Which.
        sid: u64,
    },
    /// There is nothing more to do until the next input, which is a [`Input::Tick`] at this instant
    /// if nothing else comes before.
    Wait(Option<Instant>),
}

impl fmt::Debug for Output {
    /// Without the bytes to write: the first ones have the credentials in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial { dial, server, attempt, deadline } => f
                .debug_struct("Dial")
                .field("dial", dial)
                .field("server", server)
                .field("attempt", attempt)
                .field("deadline", deadline)
                .finish(),
            Self::Write(bytes) => write!(f, "Write({} bytes)", bytes.len()),
            Self::Disconnect { dial, reason } => {
                f.debug_struct("Disconnect").field("dial", dial).field("reason", reason).finish()
            }
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
            Self::Deliver(message) => f.debug_tuple("Deliver").field(message).finish(),
            Self::Flushed { token, result } => {
                f.debug_struct("Flushed").field("token", token).field("result", result).finish()
            }
            Self::Response { request, result } => f
                .debug_struct("Response")
                .field("request", request)
                .field("result", result)
                .finish(),
            Self::Gathered { request, end } => {
                f.debug_struct("Gathered").field("request", request).field("end", end).finish()
            }
            Self::Drained { sid } => f.debug_struct("Drained").field("sid", sid).finish(),
            Self::Wait(until) => f.debug_tuple("Wait").field(until).finish(),
        }
    }
}

/// Something that happened to the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The handshake is done: subscriptions are there again, and what waited is on its way.
    Connected {
        /// The server's URL, without credentials.
        server: String,
        /// The name that it has given itself.
        server_name: String,
        /// Its version.
        version: String,
        /// What it takes at most, payload and headers, in bytes.
        max_payload: u64,
        /// How many connections there were before this one.
        reconnects: u64,
    },
    /// A connection that was up is not any more.
    Disconnected {
        /// The server's URL, without credentials.
        server: String,
        /// Why.
        reason: DisconnectReason,
    },
    /// An attempt to connect failed.
    AttemptFailed {
        /// The server's URL, without credentials.
        server: String,
        /// Which attempt of this outage, from 1.
        attempt: u32,
        /// Why.
        reason: DisconnectReason,
    },
    /// The next attempt is decided upon.
    Reconnecting {
        /// Which attempt of this outage, from 1.
        attempt: u32,
        /// How long until it starts.
        after: Duration,
    },
    /// The server complained, and nothing else came of it.
    ServerError {
        /// What it said.
        error: String,
    },
    /// A subject may not be used.
    PermissionViolation {
        /// Which, and for what.
        violation: PermissionViolation,
        /// The subscriptions that have ended by it; they are not made again.
        sids: Vec<u64>,
    },
    /// The server is about to go, and will end the connection (lame duck mode). If another is known,
    /// the session goes there first: see [`DisconnectReason::LameDuck`].
    LameDuck {
        /// The server's URL, without credentials.
        server: String,
    },
    /// The server told of others, which are tried from now on.
    DiscoveredServers {
        /// Those that were not known, without credentials.
        servers: Vec<String>,
        /// How many more there were that could not be read or exceed the limit of 64.
        ignored: usize,
    },
    /// A subscriber was too slow, and messages for it were dropped: told when that begins, and not
    /// again before it has kept up. [`Stats`] has the counts.
    SlowConsumer {
        /// The subscription.
        sid: u64,
        /// What it is subscribed to.
        subject: String,
        /// How many were dropped until this was told.
        dropped_messages: u64,
    },
    /// There will be no more connection. The last event.
    Closed {
        /// Why.
        reason: CloseReason,
        /// How many messages had been taken and were never sent.
        unsent_messages: u64,
    },
}

impl DisconnectReason {
    /// Whether it is about who we are.
    pub(super) fn is_auth(&self) -> bool {
        matches!(self, Self::Authorization(_) | Self::Credentials(_))
    }
}

impl fmt::Display for Event {
    /// A line for a log: what happened, and `key=value`s.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { server, server_name, version, max_payload, reconnects } => write!(
                f,
                "connected server={server} name={server_name} version={version} \
                 max_payload={max_payload} reconnects={reconnects}"
            ),
            Self::Disconnected { server, reason } => {
                write!(f, "disconnected server={server} reason={:?}", reason.to_string())
            }
            Self::AttemptFailed { server, attempt, reason } => write!(
                f,
                "attempt failed server={server} attempt={attempt} reason={:?}",
                reason.to_string()
            ),
            Self::Reconnecting { attempt, after } => {
                write!(f, "reconnecting attempt={attempt} after_ms={}", after.as_millis())
            }
            Self::ServerError { error } => write!(f, "server error error={error:?}"),
            Self::PermissionViolation { violation, sids } => {
                let PermissionViolation { operation, subject, .. } = violation;
                write!(
                    f,
                    "permission denied operation={operation:?} subject={subject:?} \
                     subscriptions_ended={}",
                    sids.len()
                )
            }
            Self::LameDuck { server } => write!(f, "the server is about to go server={server}"),
            Self::DiscoveredServers { servers, ignored } => {
                write!(f, "discovered servers={} ignored={ignored}", servers.join(","))
            }
            Self::SlowConsumer { sid, subject, dropped_messages } => {
                write!(f, "slow consumer sid={sid} subject={subject} dropped={dropped_messages}")
            }
            Self::Closed { reason, unsent_messages } => {
                write!(f, "closed reason={reason:?} unsent_messages={unsent_messages}")
            }
        }
    }
}

/// Why a connection or an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DisconnectReason {
    /// The transport ended; in the host's words.
    #[error("the transport ended: {0}")]
    Transport(String),
    /// There was no transport; in the host's words.
    #[error("could not connect: {0}")]
    Dial(String),
    /// The handshake took longer than `connect_timeout`.
    #[error("no connection within {} ms", .0.as_millis())]
    ConnectTimeout(Duration),
    /// The server did not answer `max_pings_out` PINGs: what other clients call a stale connection.
    /// There is no other event for it than [`Event::Disconnected`] with this reason.
    #[error("stale: {0} PINGs were not answered")]
    Stale(u32),
    /// The server does not take the credentials, or not any more; in its words.
    #[error("not authorized: {0}")]
    Authorization(String),
    /// Our credentials cannot be used, or not for what this server asks. Nothing was sent.
    #[error("the credentials cannot be used: {0}")]
    Credentials(String),
    /// The server is about to go, and another one is known: we left in good order. All that was
    /// written before has reached it, what was published since goes to the next.
    #[error("the server is about to go")]
    LameDuck,
    /// The owner asked for another connection.
    #[error("a new connection was asked for")]
    Forced,
    /// The server ends or refuses the connection for another reason; in its words.
    #[error("the server says: {0}")]
    Server(String),
    /// The session was closed by its owner.
    #[error("closed")]
    Closed,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CloseReason {
    /// Its owner closed it.
    #[error("closed")]
    ByOwner,
    /// Its config allows no further attempt.
    #[error("gave up after {attempts} attempts, at last since: {last}")]
    GaveUp {
        /// How many attempts failed in a row.
        attempts: u32,
        /// Why the last one failed.
        last: DisconnectReason,
    },
    /// Servers refused the credentials as often as `max_auth_failures` allows.
    #[error("refused {refusals} times, at last since: {last}")]
    AuthenticationFailed {
        /// How often in a row, for the same reason.
        refusals: u32,
        /// The reason.
        last: DisconnectReason,
    },
    /// Its owner drained it: the server has everything that was published.
    #[error("drained")]
    Drained,
    /// Its owner drained it, and a connection broke meanwhile: what was on its way may be missing.
    #[error("drained, but a connection broke meanwhile")]
    DrainInterrupted,
    /// Its owner drained it, and that took longer than it was to: something may be missing.
    #[error("closed before all was drained")]
    DrainTimedOut,
}

/// Where a session stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Between attempts.
    Waiting {
        /// The attempt that comes, from 1.
        attempt: u32,
    },
    /// A dial or a handshake is under way.
    Connecting {
        /// Which attempt of this outage, from 1.
        attempt: u32,
        /// The server's URL, without credentials.
        server: String,
    },
    /// Up.
    Connected {
        /// The server's URL, without credentials.
        server: String,
    },
    /// Over.
    Closed,
}

/// Counts since the session's start, over all its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Messages that came for a subscription.
    pub in_messages: u64,
    /// Their bytes on the wire.
    pub in_bytes: u64,
    /// Messages that were handed out to be written.
    pub out_messages: u64,
    /// Their bytes on the wire.
    pub out_bytes: u64,
    /// Connections that came up after the first.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub failed_attempts: u64,
    /// Requests that were taken. Their messages are among those in and out.
    pub requests: u64,
    /// Messages that were dropped, since their subscriber was too slow.
    pub dropped_messages: u64,
    /// Their bytes on the wire.
    pub dropped_bytes: u64,
    /// Messages that were refused with an error, since a buffer was full.
    pub refused_messages: u64,
    /// Messages that had been taken and were never sent, since the session ended.
    pub unsent_messages: u64,
    /// Messages that came for no subscription, a few after each `unsubscribe` are natural; and answers
    /// that came too late.
    pub unmatched_messages: u64,
    /// `-ERR`s of the server.
    pub server_errors: u64,
}
