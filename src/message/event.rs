//! What is told of an agent on `agent.events.<agent_id>`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::agent::{AgentConfig, AgentId};

/// Where an agent is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AgentStatus {
    /// It has been asked for.
    Created,
    /// Its first process is being started.
    Starting,
    /// It handles messages.
    Running,
    /// It has been told to end.
    Stopping,
    /// It died, and a replacement is on its way or waits for its turn.
    Restarting,
    /// It has ended and will not come back by itself.
    Terminated,
    /// It died too often, and its supervisor gave it up.
    Failed,
}

impl AgentStatus {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Restarting,
        Self::Terminated,
        Self::Failed,
    ];

    /// Whether an agent in this status can be in that one next. A supervisor goes no other way.
    ///
    /// | from | to |
    /// | --- | --- |
    /// | `Created` | `Starting`; `Terminated` or `Failed` if its supervisor ends before its turn |
    /// | `Starting` | `Running`, `Stopping`, `Restarting`, `Terminated`, `Failed` |
    /// | `Running` | `Stopping`, `Restarting`, `Terminated`, `Failed` |
    /// | `Stopping` | `Terminated`; `Restarting` if it is stopped for a restart of its siblings |
    /// | `Restarting` | `Running`, `Stopping`, `Terminated`, `Failed` |
    /// | `Terminated` | `Starting` if it is declared; `Failed` if its tree is given up |
    /// | `Failed` | `Starting`, `Terminated` |
    pub const fn can_become(self, next: Self) -> bool {
        use AgentStatus::{Created, Failed, Restarting, Running, Starting, Stopping, Terminated};
        match self {
            Created => matches!(next, Starting | Terminated | Failed),
            Starting => matches!(next, Running | Stopping | Restarting | Terminated | Failed),
            Running => matches!(next, Stopping | Restarting | Terminated | Failed),
            Stopping => matches!(next, Terminated | Restarting),
            Restarting => matches!(next, Running | Stopping | Terminated | Failed),
            Terminated => matches!(next, Starting | Failed),
            Failed => matches!(next, Starting | Terminated),
        }
    }
}

impl fmt::Display for AgentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AgentEvent {
    /// It runs for the first time.
    Spawned {
        /// The agent.
        agent_id: AgentId,
        /// Its first life.
        incarnation: u64,
        /// What it is made of.
        config: AgentConfig,
    },
    /// Its status changed.
    StateChanged {
        /// The agent.
        agent_id: AgentId,
        /// Which of its lives it is in, or was in last.
        incarnation: u64,
        /// What it was.
        old_state: AgentStatus,
        /// What it is.
        new_state: AgentStatus,
    },
    /// It ended for good.
    Terminated {
        /// The agent.
        agent_id: AgentId,
        /// Its last life.
        incarnation: u64,
        /// Why.
        reason: String,
    },
    /// Its handler returned an error, and it lives.
    Error {
        /// The agent.
        agent_id: AgentId,
        /// The life in which that was.
        incarnation: u64,
        /// What the handler said.
        error: String,
    },
}

impl AgentEvent {
    /// The agent that it is about.
    pub fn agent_id(&self) -> &AgentId {
        match self {
            Self::Spawned { agent_id, .. }
            | Self::StateChanged { agent_id, .. }
            | Self::Terminated { agent_id, .. }
            | Self::Error { agent_id, .. } => agent_id,
        }
    }

    /// The subject that it is published on.
    pub fn subject(&self) -> String {
        Subject::agent_events(self.agent_id())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_on_the_wire() {
        let a = AgentId("a".into());
        let changed = AgentEvent::StateChanged {
            agent_id: a.clone(),
            incarnation: 2,
            old_state: AgentStatus::Restarting,
            new_state: AgentStatus::Running,
        };
        assert_eq!(changed.subject(), "agent.events.a");
        assert_eq!(
            serde_json::to_value(&changed).expect("serializes"),
            json!({"StateChanged": {"agent_id": "a", "incarnation": 2,
                "old_state": "Restarting", "new_state": "Running"}})
        );
        let spawned = AgentEvent::Spawned {
            agent_id: a.clone(),
            incarnation: 1,
            config: AgentConfig { id: a, ..Default::default() },
        };
        let json = serde_json::to_value(&spawned).expect("serializes");
        assert_eq!(json["Spawned"]["config"]["timeout_ms"], json!(30_000));
        let back: AgentEvent = serde_json::from_value(json).expect("and parses");
        assert_eq!(back, spawned);
    }
}
