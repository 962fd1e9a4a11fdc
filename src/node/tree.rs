//! What can be done by hand with declared trees.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::AgentConfig;
use crate::supervision::{ChildCounts, ChildSpec, SupervisorSpec};

/// Something to be done with declared trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TreeCommand {
    /// Start a tree beside the others.
    StartSupervisor {
        /// The tree.
        spec: SupervisorSpec,
    },
    /// Stop a tree and forget it.
    StopSupervisor {
        /// Its top.
        id: String,
        /// What has not stopped after that is killed.
        grace: Duration,
    },
    /// Add a child behind the others, and start it.
    StartChild {
        /// The child's supervisor.
        supervisor: String,
        /// The child.
        child: ChildSpec,
    },
    /// Stop a child, which keeps its place.
    TerminateChild {
        /// The child's supervisor.
        supervisor: String,
        /// The child.
        child: String,
    },
    /// Start a child that does not run.
    RestartChild {
        /// The child's supervisor.
        supervisor: String,
        /// The child.
        child: String,
    },
    /// Forget a child that does not run.
    DeleteChild {
        /// The child's supervisor.
        supervisor: String,
        /// The child.
        child: String,
    },
    /// Count the children.
    CountChildren {
        /// Whose.
        supervisor: String,
    },
}

/// What came of a [`TreeCommand`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeDone {
    /// It is done, or has begun.
    Done,
    /// The answer to [`TreeCommand::CountChildren`].
    Counts(ChildCounts),
}

impl TreeCommand {
    /// The agents that it brings along.
    pub fn agents(&self) -> Vec<&AgentConfig> {
        match self {
            Self::StartSupervisor { spec } => spec.agents(),
            Self::StartChild { child, .. } => child.agents(),
            _ => Vec::new(),
        }
    }

    /// Whether agents run after it that did not before.
    pub fn starts_agents(&self) -> bool {
        matches!(
            self,
            Self::StartSupervisor { .. } | Self::StartChild { .. } | Self::RestartChild { .. }
        )
    }
}
