//! What can go wrong.

use std::time::Duration;

use thiserror::Error;

use crate::error::Error;
use crate::message::HeaderError;
use crate::nats::{InvalidConfig, OutboxError, PublishError};

/// Why NATS did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// A subject or a payload breaks a rule. Nothing was sent.
    #[error(transparent)]
    Invalid(#[from] OutboxError),
    /// A header that a message cannot have. Nothing was sent.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// There is no server now, and what waits for one has reached its bound. It was not taken.
    #[error(transparent)]
    Refused(#[from] PublishError),
    /// The server takes what is published slower than it comes, and the publisher chose
    /// [`WhenBusy::Error`](super::WhenBusy::Error). The message was not taken.
    #[error(
        "the server is slower than this publisher, and the message was not taken: try again later"
    )]
    Busy,
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
    /// A file of the config cannot be used.
    #[error("{what} {path}: {reason}")]
    File {
        /// What it is to have in it.
        what: &'static str,
        /// Where it is.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// What was to be published cannot be written as JSON.
    #[error("it cannot be written as JSON: {0}")]
    Json(String),
    /// The server does not permit the subject; in its words.
    #[error("{0}")]
    PermissionDenied(String),
    /// The connection broke before the answer was there, or since the last flush. Whether what was
    /// sent has arrived is not known.
    #[error("the connection broke before {subject} was answered")]
    Disconnected {
        /// The subject.
        subject: String,
    },
    /// Too many requests are unanswered.
    #[error("{max} requests are unanswered, which is the limit")]
    TooManyRequests {
        /// [`NatsConfig::max_requests`](super::NatsConfig::max_requests).
        max: usize,
    },
    /// There are too many subscriptions.
    #[error("there are {max} subscriptions already, which is the limit")]
    TooManySubscriptions {
        /// The limit.
        max: usize,
    },
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
        /// The subject; or what was waited for.
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
            NatsError::Refused(_)
            | NatsError::Closed(_)
            | NatsError::Connect(_)
            | NatsError::Disconnected { .. } => Self::NatsUnreachable(text),
            _ => Self::Nats(text),
        }
    }
}

/// A URL that this client cannot use. Never repeats what stands before an `@`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// There is no `://`.
    #[error("{url} has no scheme: write nats://host:port, or tls://, ws:// or wss://")]
    NoScheme {
        /// The URL, without its credentials.
        url: String,
    },
    /// A scheme that no NATS server has.
    #[error("{scheme}:// is none of nats://, tls://, ws:// and wss://, in {url}")]
    Scheme {
        /// What it was.
        scheme: String,
        /// The URL, without its credentials.
        url: String,
    },
    /// A path or a query, which is WebSocket's.
    #[error("{url} has a path or a query, which only ws:// and wss:// can have")]
    Path {
        /// The URL, without its credentials.
        url: String,
    },
    /// No server, or too many of them.
    #[error("there are {servers} servers, and must be 1 to {max}")]
    Count {
        /// How many there are.
        servers: usize,
        /// The most.
        max: usize,
    },
    /// The rest is the same for every client.
    #[error(transparent)]
    Other(#[from] crate::nats::UrlError),
}
