//! What travels: messages between agents, envelopes around events, commands to a node, and the
//! subjects that they travel on.

mod body;
mod command;
mod envelope;
mod event;
mod headers;
mod ids;
mod nats;
#[cfg(test)]
mod page;
mod payload;
mod reply;
mod subject;
mod types;
mod variant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::AgentId;

pub use body::{
    parse_agent_input, parse_body, Body, Content, EnvelopeHead, DEFAULT_MAX_BODY_BYTES,
};
pub use command::{AgentCommand, SystemMessage};
pub use envelope::{write_event, MessageEnvelope};
pub use event::{AgentEvent, AgentStatus};
pub use headers::{HeaderError, Headers, StatusCode};
pub use ids::MessageIds;
pub use nats::NatsMessage;
#[cfg(feature = "nats-core")]
#[allow(unused_imports, reason = "`Source` is for a host whose reader passes messages on")]
pub(crate) use nats::{MessageParts, Part, Source};
pub use payload::{decode_payload, encode_payload, payload_size, PayloadError};
pub use reply::{
    encode_error, encode_error_as, encode_reply, AgentCounters, AgentPage, AgentSummary, ErrorCode,
    Located, NodeCounters, NodeSummary, Pong, Reply, Spawned, Stopped, WireError,
};
pub use subject::{InvalidSubject, QueueGroup, Subject, SubjectKind, SubjectPattern, SubjectRule};
pub use types::MessageType;

pub(crate) use body::{parse_payload, take_id, wrong_kind};
pub(crate) use variant::{strict_fields, Variant};

/// A message from one agent to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// A text that tells this message from others; unique where this library made it.
    pub id: String,
    /// Who sent it: an agent, or `external`.
    pub from: AgentId,
    /// Whom it is for.
    pub to: AgentId,
    /// What it says.
    pub payload: Value,
    /// When it was made, in whole seconds since 1970-01-01T00:00:00Z.
    pub timestamp: u64,
}
