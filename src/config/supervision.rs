//! What an operator can say about supervision.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::supervision::{Backoff, Intensity, SpawnLimits, SupervisorConfig};

/// How the agents of a node are supervised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisionConfig {
    /// Whether supervision events are published. Default: true.
    pub enabled: bool,
    /// How often the health of each agent is told when nothing changes, 100 ms to 1 day. How often
    /// it is *checked* follows from the agent's `timeout_ms`. Default: 30 s.
    pub health_check_interval: Duration,
    /// How many agents of a type there may be, and how many may be started in a second. In the file
    /// it is a section of its own, `[limits]`.
    pub limits: SpawnLimits,
    /// How many restarts of one agent are too many. Default: more than 5 in 5 s.
    pub intensity: Intensity,
    /// The delay before a restart. Default: none before the first, then 100 ms to 10 s.
    pub backoff: Backoff,
    /// In how many parts of its `timeout_ms` an agent is looked after, 1 to 10: it is asked once in
    /// each, degraded from the first that goes by without an answer, and killed after the last.
    /// Default: 2.
    pub failure_detection_threshold: u32,
    /// How long an agent that was told to stop may take before it is killed, at least 10 ms.
    /// Default: 5 s.
    pub stop_grace: Duration,
    /// How long an agent may take until it runs; its `timeout_ms`, where that is longer.
    /// Default: 10 s.
    pub start_deadline: Duration,
}

impl Default for SupervisionConfig {
    /// What a supervisor keeps to by itself.
    fn default() -> Self {
        let SupervisorConfig {
            limits,
            intensity,
            backoff,
            health_interval,
            failure_detection_threshold,
            stop_grace,
            start_deadline,
            ..
        } = SupervisorConfig::default();
        Self {
            enabled: true,
            health_check_interval: health_interval,
            failure_detection_threshold,
            limits,
            intensity,
            backoff,
            stop_grace,
            start_deadline,
        }
    }
}

impl SupervisionConfig {
    /// What the supervisor of the agents is told.
    pub fn supervisor(&self, max_agents: u32) -> SupervisorConfig {
        SupervisorConfig {
            max_agents: max_agents as usize,
            limits: self.limits.clone(),
            intensity: self.intensity,
            backoff: self.backoff,
            health_interval: self.health_check_interval,
            failure_detection_threshold: self.failure_detection_threshold,
            stop_grace: self.stop_grace,
            start_deadline: self.start_deadline,
            ..SupervisorConfig::default()
        }
    }
}
