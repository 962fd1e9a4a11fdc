//! What happens to a connection, and what it counts.

use std::fmt;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};

use crate::nats::PermissionViolation;

/// Something that happened to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is done: subscriptions are there again, and what waited is on its way.
    Connected {
        /// The server's URL, without credentials.
        server: String,
        /// How many connections there were before this one.
        reconnects: u64,
    },
    /// A connection that was up is not any more.
    Disconnected {
        /// The server's URL, without credentials.
        server: String,
    },
    /// An attempt to connect failed.
    AttemptFailed {
        /// The server's URL, without credentials.
        server: String,
        /// Which attempt of this outage, from 1.
        attempt: u32,
        /// Why, in the words of async-nats, of the system or of the server.
        reason: String,
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
        /// How many subscriptions have ended by it.
        subscriptions: usize,
    },
    /// The server is about to go, and will end the connection (lame duck mode). If another is known,
    /// the connection goes there first.
    LameDuck {
        /// The server's URL, without credentials.
        server: String,
    },
    /// A subscriber was too slow, and messages for it were dropped: told when that begins, and not
    /// again before it has kept up. [`ConnectionStats`] has the counts.
    SlowConsumer {
        /// What it is subscribed to.
        subject: String,
    },
    /// There will be no more connection. The last event.
    Closed {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Event {
    /// A line for a log: what happened, and `key=value`s.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected { server, reconnects } => {
                write!(f, "connected server={server} reconnects={reconnects}")
            }
            Self::Disconnected { server } => write!(f, "disconnected server={server}"),
            Self::AttemptFailed { server, attempt, reason } => {
                write!(f, "attempt failed server={server} attempt={attempt} reason={reason:?}")
            }
            Self::Reconnecting { attempt, after } => {
                write!(f, "reconnecting attempt={attempt} after_ms={}", after.as_millis())
            }
            Self::ServerError { error } => write!(f, "server error error={error:?}"),
            Self::PermissionViolation { violation, subscriptions } => write!(
                f,
                "permission denied operation={:?} subject={:?} subscriptions_ended={subscriptions}",
                violation.operation, violation.subject
            ),
            Self::LameDuck { server } => write!(f, "the server is about to go server={server}"),
            Self::SlowConsumer { subject } => write!(f, "slow consumer subject={subject}"),
            Self::Closed { reason } => write!(f, "closed reason={reason:?}"),
        }
    }
}

/// How many events wait for one who watches; of more, the oldest go. Some ten come with each attempt
/// to connect.
pub(super) const MAX_EVENTS: usize = 1024;

/// What happens to a connection from [`events`](super::NatsConnection::events) on.
#[derive(Debug)]
pub struct NatsEvents {
    events: broadcast::Receiver<Event>,
    missed: u64,
}

impl NatsEvents {
    pub(super) fn new(events: broadcast::Receiver<Event>) -> Self {
        Self { events, missed: 0 }
    }

    /// The next event; waits for it. `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(missed)) => self.missed += missed,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// The next event, if one is here.
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Lagged(missed)) => self.missed += missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }

    /// How many were dropped, since 1,024 others waited already.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectionState {
    /// There has been no connection yet.
    #[default]
    Connecting,
    /// Up.
    Connected,
    /// It broke, and the next one is being made.
    Reconnecting,
    /// Over.
    Closed,
}

/// What a connection counts, from its start and over all its reconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Where it stands.
    pub state: ConnectionState,
    /// Messages that came.
    pub in_messages: u64,
    /// Bytes that came: all that was read, after TLS and WebSocket.
    pub in_bytes: u64,
    /// Messages that were written.
    pub out_messages: u64,
    /// Their bytes, as async-nats counts them: payloads, subjects and reply subjects.
    pub out_bytes: u64,
    /// Connections that came up after the first.
    pub reconnects: u64,
    /// Attempts to connect that failed.
    pub failed_attempts: u64,
    /// Requests that were taken. Their messages are among those in and out.
    pub requests: u64,
    /// Messages that were dropped, since their subscriber was too slow.
    pub dropped_messages: u64,
    /// Their bytes, as far as they are known.
    pub dropped_bytes: u64,
    /// Messages that were refused with an error, since too much waits.
    pub refused_messages: u64,
    /// Answers that came too late, or that nobody asked for.
    pub unmatched_messages: u64,
    /// `-ERR`s of the server.
    pub server_errors: u64,
    /// Messages that wait to be written now.
    pub pending_messages: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Subscriptions that there are now.
    pub subscriptions: u64,
}
