//! Everything that travels but messages between agents, as one type.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body::{parse_payload, wrong_kind};
use super::envelope::{agent_metadata, coordination_metadata, supervision_metadata};
use super::variant::{only_entry, unknown};
use super::{AgentCommand, AgentEvent, MessageEnvelope, SubjectKind, SystemMessage, WireError};
use crate::coordination::CoordinationMessage;
use crate::supervision::{SupervisionEvent, SupervisionFinding};
use crate::time::Timestamp;

/// A command, an event or a message of coordination: whatever travels but [`Message`]s between
/// agents, for who watches or keeps all of it.
///
/// By itself it is tagged with its type: `{"SupervisionEvent":{"Failure":{…}}}`. On a subject of
/// the wire contract that tag is left out, since the subject says it: read that with
/// [`MessageType::parse_on`], write it with [`MessageType::envelope`].
///
/// [`Message`]: super::Message
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
#[non_exhaustive]
pub enum MessageType {
    /// A command about agents.
    AgentCommand(AgentCommand),
    /// Something that happened to an agent.
    AgentEvent(AgentEvent),
    /// A command about a node.
    SystemMessage(SystemMessage),
    /// An event of supervision.
    SupervisionEvent(SupervisionEvent),
    /// What was found in events of supervision: a pattern or an alert.
    SupervisionFinding(SupervisionFinding),
    /// A message of coordination.
    CoordinationMessage(CoordinationMessage),
}

/// What a message says, without the tag of its type.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Untagged<'a> {
    AgentCommand(&'a AgentCommand),
    AgentEvent(&'a AgentEvent),
    SystemMessage(&'a SystemMessage),
    SupervisionEvent(&'a SupervisionEvent),
    SupervisionFinding(&'a SupervisionFinding),
    CoordinationMessage(&'a CoordinationMessage),
}

impl MessageType {
    /// Parses a tagged body, in an envelope or bare.
    ///
    /// Errors: `too_large` beyond `max_bytes`, `bad_json`, `bad_shape`, `bad_id`, and what the type
    /// that it names says of its content.
    pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, WireError> {
        parse_payload(bytes, max_bytes)?.try_into()
    }

    /// Parses what came on a subject of the wire contract, in an envelope or bare. Errors as for
    /// [`MessageType::parse`]; `bad_shape` also for a subject on which something else travels.
    pub fn parse_on(
        subject: &SubjectKind,
        bytes: &[u8],
        max_bytes: usize,
    ) -> Result<Self, WireError> {
        use SubjectKind as On;
        let content = parse_payload(bytes, max_bytes)?;
        match subject {
            On::AgentCommand(_) | On::AgentCommandAll => agent_command(content),
            On::AgentEvents(_) => agent_event(content),
            On::SystemControl(_) => system_message(content),
            On::SupervisionEvents
            | On::SupervisionHealth(_)
            | On::SupervisionFailure(_)
            | On::SupervisionRecovery(_)
            | On::SupervisionEscalation(_)
            | On::SupervisionLifecycle(_) => supervision_event(content),
            On::SupervisionPattern(_) | On::SupervisionAlert(_) => supervision_finding(content),
            On::CoordinationTask(_)
            | On::CoordinationTaskAssignment(_)
            | On::CoordinationTaskBroadcast
            | On::CoordinationTaskResult(_)
            | On::CoordinationResource(_)
            | On::CoordinationElection(_)
            | On::CoordinationBarrier(_) => coordination_message(content),
            On::AgentInput(_) => Err(WireError::bad_shape(format!(
                "what comes on {subject} is no command, event or message of coordination"
            ))),
        }
    }

    /// The subject that it is published on, where it says so itself. A command goes to any node or
    /// to one, and a task to a type of task, an agent or all: that is for the sender to say.
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::AgentCommand(_) | Self::SystemMessage(_) => None,
            Self::AgentEvent(event) => Some(event.subject()),
            Self::SupervisionEvent(event) => Some(event.subject()),
            Self::SupervisionFinding(finding) => Some(finding.subject()),
            Self::CoordinationMessage(message) => message.subject(),
        }
    }

    /// What its envelope says of it; nothing for a command.
    pub fn metadata(&self) -> Map<String, Value> {
        match self {
            Self::AgentCommand(_) | Self::SystemMessage(_) => Map::new(),
            Self::AgentEvent(_) => agent_metadata(),
            Self::SupervisionEvent(event) => supervision_metadata(event.severity()),
            Self::SupervisionFinding(finding) => supervision_metadata(Some(finding.severity())),
            Self::CoordinationMessage(message) => {
                coordination_metadata(message.coordination_type())
            }
        }
    }

    /// Its envelope, as it is published on a subject of the wire contract: without the tag of its
    /// type. The envelope's id is made from 16 random bytes.
    pub fn envelope(
        &self,
        random: [u8; 16],
        source: impl Into<String>,
        timestamp: Timestamp,
    ) -> MessageEnvelope<impl Serialize + '_> {
        let payload = match self {
            Self::AgentCommand(command) => Untagged::AgentCommand(command),
            Self::AgentEvent(event) => Untagged::AgentEvent(event),
            Self::SystemMessage(message) => Untagged::SystemMessage(message),
            Self::SupervisionEvent(event) => Untagged::SupervisionEvent(event),
            Self::SupervisionFinding(finding) => Untagged::SupervisionFinding(finding),
            Self::CoordinationMessage(message) => Untagged::CoordinationMessage(message),
        };
        let envelope = MessageEnvelope::new(random, source, timestamp, payload);
        MessageEnvelope { metadata: self.metadata(), ..envelope }
    }
}

impl TryFrom<Value> for MessageType {
    type Error = WireError;

    /// As [`MessageType::parse`], for a payload that is JSON already.
    fn try_from(payload: Value) -> Result<Self, WireError> {
        let (name, content) = match payload {
            Value::Object(map) => only_entry(map)?,
            other => return Err(wrong_kind("the body", &other, "an object")),
        };
        match name.as_str() {
            "AgentCommand" => agent_command(content),
            "AgentEvent" => agent_event(content),
            "SystemMessage" => system_message(content),
            "SupervisionEvent" => supervision_event(content),
            "SupervisionFinding" => supervision_finding(content),
            "CoordinationMessage" => coordination_message(content),
            _ => Err(unknown(
                "message type",
                &name,
                "AgentCommand, AgentEvent, SystemMessage, SupervisionEvent, SupervisionFinding or \
                 CoordinationMessage",
            )),
        }
    }
}

fn agent_command(content: Value) -> Result<MessageType, WireError> {
    AgentCommand::try_from(content).map(MessageType::AgentCommand)
}

fn system_message(content: Value) -> Result<MessageType, WireError> {
    SystemMessage::try_from(content).map(MessageType::SystemMessage)
}

fn coordination_message(content: Value) -> Result<MessageType, WireError> {
    CoordinationMessage::try_from(content).map(MessageType::CoordinationMessage)
}

fn agent_event(content: Value) -> Result<MessageType, WireError> {
    let event = serde_json::from_value(content)
        .map_err(|error| WireError::bad_shape(format!("an agent's event: {error}")))?;
    Ok(MessageType::AgentEvent(event))
}

fn supervision_event(content: Value) -> Result<MessageType, WireError> {
    let event = serde_json::from_value(content)
        .map_err(|error| WireError::bad_shape(format!("an event of supervision: {error}")))?;
    Ok(MessageType::SupervisionEvent(event))
}

fn supervision_finding(content: Value) -> Result<MessageType, WireError> {
    let finding = serde_json::from_value(content)
        .map_err(|error| WireError::bad_shape(format!("a finding of supervision: {error}")))?;
    Ok(MessageType::SupervisionFinding(finding))
}

impl From<AgentCommand> for MessageType {
    fn from(command: AgentCommand) -> Self {
        Self::AgentCommand(command)
    }
}

impl From<AgentEvent> for MessageType {
    fn from(event: AgentEvent) -> Self {
        Self::AgentEvent(event)
    }
}

impl From<SystemMessage> for MessageType {
    fn from(message: SystemMessage) -> Self {
        Self::SystemMessage(message)
    }
}

impl From<SupervisionEvent> for MessageType {
    fn from(event: SupervisionEvent) -> Self {
        Self::SupervisionEvent(event)
    }
}

impl From<SupervisionFinding> for MessageType {
    fn from(finding: SupervisionFinding) -> Self {
        Self::SupervisionFinding(finding)
    }
}

impl From<CoordinationMessage> for MessageType {
    fn from(message: CoordinationMessage) -> Self {
        Self::CoordinationMessage(message)
    }
}

#[cfg(test)]
mod tests;
