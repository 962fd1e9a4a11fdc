//! What whoever started a node sees of it.

use std::time::Duration;

use serde_json::Value;

use super::AllStopped;
use crate::agent::AgentId;

/// What whoever started a node gets to know.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeEvent {
    /// The answer to `NodeHandle::ask`, or why there is none.
    Answer {
        /// What `ask` gave.
        ticket: Ticket,
        /// The answer.
        answer: Result<Value, String>,
    },
    /// Something happened to an agent or a supervisor; see `NodeHandle::watch`.
    Event {
        /// The subject on which it is published.
        subject: String,
        /// Its payload.
        payload: Value,
    },
    /// `system.control` asks for the end of the node.
    ShutdownAsked {
        /// How long the agents have to stop.
        grace: Duration,
    },
    /// `system.control` asks for no new agents, and the end once there are none.
    DrainAsked,
    /// A part of the node died too often, and the node with it.
    GaveUp {
        /// Which one.
        part: String,
    },
}

/// One request that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(crate) i64);

/// How a node ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Agents that ended within the grace.
    pub stopped: u64,
    /// Agents that did not, and were killed; or that went with their supervisor, if that died.
    pub killed: u64,
    /// Which ones: the first [`Stopped::MAX_NAMED`] in the order of their ids. The log names all.
    pub killed_agents: Vec<AgentId>,
    /// Whether everything that was published has reached the server; true where there is no NATS.
    pub flushed: bool,
}

impl Stopped {
    /// The most agents that are named.
    pub const MAX_NAMED: usize = AllStopped::MAX_NAMED;
}
