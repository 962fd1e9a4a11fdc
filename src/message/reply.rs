//! Answers to commands: what went well, or what went wrong.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::AgentStatus;
use crate::agent::{AgentId, InvalidAgentConfig, InvalidAgentId};
use crate::supervision::Quantiles;

/// An answer on the wire: `{"Ok":…}` or `{"Err":{"code","message"}}`, which is how serde writes a
/// `Result`.
pub type Reply<T> = Result<T, WireError>;

/// Why something was refused; the same on every way into a node.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{code}: {message}")]
pub struct WireError {
    /// What kind of mistake it was, for programs.
    pub code: ErrorCode,
    /// A sentence that names the value and the rule, for people; at most about 400 bytes.
    pub message: String,
}

/// The kinds of mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The body is not JSON.
    BadJson,
    /// The body is JSON, and not of the shape that is asked for.
    BadShape,
    /// An agent id breaks its rule.
    BadId,
    /// There is no such agent on the node that was asked, or on any where all were.
    UnknownAgent,
    /// There is no such type of agent on this node.
    UnknownType,
    /// There is an agent with this id already.
    Exists,
    /// The node has no room for another agent.
    Capacity,
    /// This build cannot do it.
    Unsupported,
    /// There was no answer in time.
    Timeout,
    /// The agent died and its replacement does not run yet.
    AgentRestarting,
    /// The body, or the answer, is larger than allowed.
    TooLarge,
    /// The agent's handler returned an error.
    HandlerFailed,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::BadJson,
        Self::BadShape,
        Self::BadId,
        Self::UnknownAgent,
        Self::UnknownType,
        Self::Exists,
        Self::Capacity,
        Self::Unsupported,
        Self::Timeout,
        Self::AgentRestarting,
        Self::TooLarge,
        Self::HandlerFailed,
    ];

    /// The code as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadShape => "bad_shape",
            Self::BadId => "bad_id",
            Self::UnknownAgent => "unknown_agent",
            Self::UnknownType => "unknown_type",
            Self::Exists => "exists",
            Self::Capacity => "capacity",
            Self::Unsupported => "unsupported",
            Self::Timeout => "timeout",
            Self::AgentRestarting => "agent_restarting",
            Self::TooLarge => "too_large",
            Self::HandlerFailed => "handler_failed",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl WireError {
    /// What was refused is repeated in the message; it must not come back as half a megabyte.
    const MAX_MESSAGE: usize = 400;

    /// An error with a message, cut where it is too long.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(Self::MAX_MESSAGE));
            message.push('…');
        }
        Self { code, message }
    }

    /// A wrong shape.
    pub fn bad_shape(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadShape, message)
    }

    /// There is no agent `agent_id` on this node.
    pub fn unknown_agent(agent_id: &AgentId) -> Self {
        Self::new(ErrorCode::UnknownAgent, format!("there is no agent {agent_id} on this node"))
    }
}

impl From<InvalidAgentId> for WireError {
    fn from(error: InvalidAgentId) -> Self {
        Self::new(ErrorCode::BadId, error.to_string())
    }
}

impl From<InvalidAgentConfig> for WireError {
    fn from(error: InvalidAgentConfig) -> Self {
        let code = match error {
            InvalidAgentConfig::Id(_) => ErrorCode::BadId,
            InvalidAgentConfig::OutOfRange { .. } => ErrorCode::BadShape,
            InvalidAgentConfig::KvUnsupported => ErrorCode::Unsupported,
        };
        Self::new(code, error.to_string())
    }
}

/// Writes an answer as JSON. A value that JSON cannot hold becomes a `handler_failed`.
pub fn encode_reply<T: Serialize>(reply: &Reply<T>) -> Vec<u8> {
    serde_json::to_vec(reply).unwrap_or_else(|error| {
        encode_error(&WireError::new(
            ErrorCode::HandlerFailed,
            format!("the answer cannot be written as JSON: {error}"),
        ))
    })
}

/// Writes `{"Err":{"code","message"}}`.
pub fn encode_error(error: &WireError) -> Vec<u8> {
    encode_error_as(error.code.as_str(), &error.message)
}

/// The same for an error whose code came as text, from another process of the node.
pub fn encode_error_as(code: &str, message: &str) -> Vec<u8> {
    serde_json::json!({ "Err": { "code": code, "message": message } }).to_string().into_bytes()
}

/// The answer to `Spawn`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawned {
    /// The agent, also where its id was made up.
    pub agent_id: AgentId,
    /// The node that it runs on.
    pub node_id: String,
    /// Its first life.
    pub incarnation: u64,
}

/// The answer to `Stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The agent that was stopped.
    pub agent_id: AgentId,
}

/// The answer to `Locate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The agent.
    pub agent_id: AgentId,
    /// The node that it is on.
    pub node_id: String,
}

/// The answer to `Ping`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The node.
    pub node_id: String,
    /// What it runs on: `lunatic`, `native` or `browser`.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// How many agents it has.
    pub agents: u64,
}

/// The answer to `Status` without an agent: what the node has, and apart from it what it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// The node.
    pub node_id: String,
    /// What it runs on: `lunatic`, `native` or `browser`.
    pub host: String,
    /// The program's version.
    pub version: String,
    /// How many agents it has.
    pub agents: u64,
    /// How many of them are in each status; statuses without an agent are absent.
    pub by_status: BTreeMap<AgentStatus, u64>,
    /// Whether it takes no new agents, and ends when the last one has; absent while it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// What moves by itself, or with each piece of bad input.
    pub counters: NodeCounters,
}

/// What a node counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounters {
    /// Since the node's start.
    pub uptime_ms: u64,
    /// Restarts of all agents since the node's start.
    pub restarts: u64,
    /// Starts of agents that were refused for a limit, since the node's start.
    #[serde(default)]
    pub refused_starts: u64,
    /// Bodies that were refused.
    pub bad_input: u64,
    /// Whatever else this host counts, by name.
    #[serde(flatten)]
    pub other: BTreeMap<String, u64>,
}

/// One agent, as `Status` and `List` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSummary {
    /// The agent.
    pub agent_id: AgentId,
    /// The registered type that it is an instance of.
    pub agent_type: String,
    /// The supervisor that it is a child of: `agents` for a dynamic one.
    pub supervisor: String,
    /// Where it is in its life.
    pub status: AgentStatus,
    /// Which of its lives that is.
    pub incarnation: u64,
    /// How often it was replaced.
    pub restarts: u64,
    /// What moves by itself.
    pub counters: AgentCounters,
}

/// What an agent counts, as of its last answer to a health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCounters {
    /// Messages handled in this life.
    pub handled: u64,
    /// Handlers that returned an error in this life.
    pub errors: u64,
    /// Its memory, if it has answered yet.
    pub memory_bytes: Option<u64>,
    /// How long its handlers took of late.
    pub handling_us: Option<Quantiles>,
    /// How long the last health check waited for its turn in the mailbox, in µs.
    pub mailbox_delay_us: Option<u64>,
    /// How long ago it answered last, if it has.
    pub last_answer_ms: Option<u64>,
}

/// The answer to `List`: agents in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPage {
    /// The agents.
    pub agents: Vec<AgentSummary>,
    /// What to give as `after` for the next page; nothing if this was the last.
    pub next: Option<AgentId>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replies_on_the_wire() {
        let ok: Reply<Stopped> = Ok(Stopped { agent_id: AgentId("a".into()) });
        assert_eq!(encode_reply(&ok), br#"{"Ok":{"agent_id":"a"}}"#);
        let error = WireError::unknown_agent(&AgentId("a".into()));
        let written = encode_reply::<()>(&Err(error.clone()));
        assert_eq!(
            String::from_utf8(written).expect("UTF-8"),
            r#"{"Err":{"code":"unknown_agent","message":"there is no agent a on this node"}}"#
        );
        assert_eq!(encode_error(&error), encode_reply::<()>(&Err(error)));
    }

    #[test]
    fn what_json_cannot_hold_is_an_error_too() {
        let no_json = BTreeMap::from([((1, 2), 3)]);
        let written = String::from_utf8(encode_reply(&Ok(no_json))).expect("UTF-8");
        assert!(written.starts_with(r#"{"Err":{"code":"handler_failed""#), "{written}");
    }

    #[test]
    fn codes_are_the_same_as_text_and_as_json() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).expect("serializes"), json!(code.as_str()));
        }
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let error = WireError::bad_shape("ä".repeat(100_000));
        assert!(error.message.len() <= WireError::MAX_MESSAGE + '…'.len_utf8());
        assert!(error.message.ends_with("ä…"));
    }

    #[test]
    fn a_node_shows_what_moves_apart_from_the_rest() {
        let summary = NodeSummary {
            node_id: "n".into(),
            agents: 2,
            by_status: BTreeMap::from([(AgentStatus::Running, 2)]),
            counters: NodeCounters {
                uptime_ms: 5,
                other: BTreeMap::from([("events_dropped".to_owned(), 1)]),
                ..Default::default()
            },
            ..Default::default()
        };
        let json = serde_json::to_value(&summary).expect("serializes");
        assert_eq!(json["by_status"], json!({"Running": 2}));
        assert_eq!(json.get("draining"), None, "as long as it is not");
        assert_eq!(
            json["counters"],
            json!({"uptime_ms": 5, "restarts": 0, "refused_starts": 0, "bad_input": 0,
                "events_dropped": 1})
        );
        assert_eq!(serde_json::from_value::<NodeSummary>(json).expect("and parses"), summary);
    }
}
