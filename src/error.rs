//! The library's own error, for what a user's agent returns and what the node's calls answer.
//! Where one operation can fail in its own ways, that operation has its own enum.

use std::time::Duration;

use thiserror::Error;

use crate::agent::{AgentId, InvalidAgentConfig, InvalidAgentId};
use crate::memory::MemoryError;
use crate::message::{HeaderError, PayloadError};
use crate::supervision::FailureType;

/// A result whose error is [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The longest piece of a refused value that an error repeats, in characters.
pub(crate) const SHOWN: usize = 60;

/// `text` quoted, escaped and cut, for an error.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() {
        format!("{cut:?}… ({} bytes)", text.len())
    } else {
        format!("{cut:?}")
    }
}

/// As [`shown`], for bytes that need not be text.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    // Four bytes a character is the most that UTF-8 takes.
    let cut = bytes.get(..SHOWN * 4 + 4).unwrap_or(bytes);
    shown(&String::from_utf8_lossy(cut))
}

/// Why a call of this library, or a handler of an agent, failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// An id breaks its rule.
    #[error(transparent)]
    InvalidId(#[from] InvalidAgentId),
    /// A config has a value that is not allowed.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidAgentConfig),
    /// A message could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A request was not answered.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An agent could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// An agent's state could not be read or written.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A payload is not what was expected.
    #[error("the payload does not fit: {0}")]
    Json(#[from] serde_json::Error),
    /// A header that a message to NATS cannot have.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A NATS subject or message was refused, or there is no NATS here.
    #[error("NATS: {0}")]
    Nats(String),
    /// NATS cannot be reached, or was lost before the answer came.
    #[error("NATS: {0}")]
    NatsUnreachable(String),
    /// The node could not be set up.
    #[error("{0}")]
    Node(String),
    /// What an agent's own code calls a failure, with the kind that it gives it.
    #[error("{message}")]
    Handler {
        /// The kind under which it is published.
        failure_type: FailureType,
        /// What went wrong.
        message: String,
    },
}

impl Error {
    /// A failure of an agent's handler that is nobody's protocol error: `DependencyFailure`.
    pub fn handler(message: impl Into<String>) -> Self {
        Self::failure(FailureType::DependencyFailure, message)
    }

    /// A failure of an agent's handler, of a kind that the agent names.
    pub fn failure(failure_type: FailureType, message: impl Into<String>) -> Self {
        Self::Handler { failure_type, message: message.into() }
    }

    /// The kind under which a handler that returned this error is published.
    pub fn failure_type(&self) -> FailureType {
        match self {
            Self::Handler { failure_type, .. } => *failure_type,
            Self::InvalidId(_) | Self::InvalidConfig(_) | Self::Json(_) => {
                FailureType::ProtocolViolation
            }
            Self::NatsUnreachable(_) => FailureType::NetworkPartition,
            _ => FailureType::DependencyFailure,
        }
    }
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody has this name.
    #[error("there is no agent {0}")]
    UnknownAgent(AgentId),
    /// The agent died and its replacement does not run yet. What is sent now would be lost.
    #[error("agent {0} is being restarted; try again")]
    AgentRestarting(AgentId),
    /// More waits in the agent's mailbox than it may hold, and did so for as long as one waited for
    /// room. (A host without such a bound never says so.)
    #[error(
        "the mailbox of agent {agent} is full: {max} messages or {max_bytes} bytes wait there"
    )]
    MailboxFull {
        /// Whose mailbox it is.
        agent: AgentId,
        /// The most messages that may wait there.
        max: usize,
        /// The most bytes that they may have together.
        max_bytes: usize,
    },
    /// A message that is for another agent than the one that it was given to.
    #[error("the message is for agent {to}, and was given to agent {agent}")]
    WrongAgent {
        /// Whom it is for.
        to: AgentId,
        /// Whom it was given to.
        agent: AgentId,
    },
    /// There was nothing to reply to.
    #[error("message {0} asked for no answer, or is not the one being handled")]
    NoReplyExpected(String),
    /// The payload is larger than a message may be.
    #[error("the payload has {bytes} bytes; a message may have {max}")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// The payload cannot travel.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// It would have gone by NATS, and NATS did not take it.
    #[error("NATS did not take it: {0}")]
    Nats(String),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It could not be sent.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No answer came in time.
    #[error("agent {agent} did not answer within {} ms", timeout.as_millis())]
    Timeout {
        /// Who was asked.
        agent: AgentId,
        /// How long was waited.
        timeout: Duration,
    },
    /// The agent's handler returned an error.
    #[error("agent {agent} failed: {message}")]
    Failed {
        /// Who was asked.
        agent: AgentId,
        /// What its handler said.
        message: String,
    },
}

/// Why an agent was not started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// Somebody has this id already.
    #[error("there is an agent {0} already")]
    Exists(AgentId),
    /// No type of this name is registered.
    #[error("{0}")]
    UnknownType(String),
    /// The node is full, or is stopping.
    #[error("{0}")]
    Capacity(String),
    /// The config has a value that is not allowed.
    #[error(transparent)]
    Invalid(#[from] InvalidAgentConfig),
    /// The runtime refused another process.
    #[error("the runtime refused the process: {0}")]
    Refused(String),
    /// The supervisor did not answer.
    #[error("the supervisor did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}
