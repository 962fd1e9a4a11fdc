//! What a supervisor is told to keep to.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Backoff, Intensity, SpawnLimits};
use crate::agent::{AgentConfig, RestartType};
use crate::message::Subject;
use crate::time::Instant;

/// What a supervisor keeps to.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisorConfig {
    /// Its name, one token of a subject. Default: `agents`.
    pub id: String,
    /// The most agents, also those that have failed and are only listed, 1 to 1,000,000.
    /// Default: 8,000, which is below what one Lunatic runtime holds (about 9,400 processes).
    ///
    /// Worst case: about 1 KB for each, and what its config takes.
    pub max_agents: usize,
    /// How many agents of a type there may be, and how many may be started in a second.
    pub limits: SpawnLimits,
    /// How many restarts of one agent are too many. Default: more than 5 in 5 s.
    pub intensity: Intensity,
    /// The delay before a restart.
    pub backoff: Backoff,
    /// How often the health of each agent is told when nothing changes, 100 ms to
    /// 1 day.
    /// Default: 30 s.
    pub health_interval: Duration,
    /// In how many parts of its timeout an agent is looked after, 1 to 10: it is asked once in each,
    /// `Degraded` from the first one that goes by without an answer, and killed after the last one.
    /// Default: 2.
    pub failure_detection_threshold: u32,
    /// How long an agent that was told to stop may take before it is killed; also how often a
    /// kill that has no effect is repeated, at least 10 ms. Default: 5 s.
    pub stop_grace: Duration,
    /// How long a process may take until it says that it runs; an agent's `timeout_ms`, where
    /// that is longer. Default: 10 s.
    pub start_deadline: Duration,
}

/// Which children are restarted when one of them ended; the terms and meanings are those of OTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// That one.
    #[default]
    OneForOne,
    /// All of them: the others are stopped in reverse order, and all are started in order.
    OneForAll,
    /// That one and those that were started after it.
    RestForOne,
}

/// How a child is stopped; OTP's `shutdown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    /// It is killed at once.
    Kill,
    /// It is told to stop, and killed after so long.
    Grace(Duration),
    /// It is told to stop, however long that takes. For supervisors: what bounds it are the graces
    /// of its agents. An agent that does not end then keeps its siblings waiting for ever.
    Infinity,
}

impl Shutdown {
    /// OTP's default for workers: 5 s.
    pub const AGENT: Self = Self::Grace(Duration::from_secs(5));

    /// When a child that is stopped now is killed; nothing for one that may take its time.
    pub(super) fn kill_at(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Kill => Some(now),
            Self::Grace(grace) => Some(now + grace),
            Self::Infinity => None,
        }
    }
}

/// A supervisor of a declared tree. Unlike the dynamic agents of a node, which are restarted and
/// given up each by itself, its children share one intensity, and a strategy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorSpec {
    /// Its name, one token of a subject, unique within the node.
    pub id: String,
    /// Which children are restarted when one ended. Default: [`Strategy::OneForOne`].
    pub strategy: Strategy,
    /// How many restarts of its children together are too many. Default: more than 5 in 5 s.
    pub intensity: Intensity,
    /// The delay before a restart.
    pub backoff: Backoff,
    /// When its parent starts it again. Default: [`RestartType::Permanent`].
    pub restart: RestartType,
    /// How its parent stops it. Default: [`Shutdown::Infinity`].
    pub shutdown: Shutdown,
    /// Its children, in the order of their start.
    pub children: Vec<ChildSpec>,
}

impl Default for SupervisorSpec {
    fn default() -> Self {
        Self {
            id: String::new(),
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            restart: RestartType::default(),
            shutdown: Shutdown::Infinity,
            children: Vec::new(),
        }
    }
}

/// A child of a declared supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant)] // There are as many as agents, and those are large.
pub enum ChildSpec {
    /// An agent, with an id of its own choice.
    Agent {
        /// What it is made of; its `restart` is its supervisor's business.
        #[serde(with = "as_json")]
        config: AgentConfig,
        /// How it is stopped.
        shutdown: Shutdown,
    },
    /// A supervisor.
    Supervisor(SupervisorSpec),
}

/// A config as a text of JSON in whatever format the tree is written in: its `args` are of any shape,
/// which a format that does not describe itself cannot carry.
mod as_json {
    use serde::{de, ser, Deserialize, Deserializer, Serializer};

    use crate::agent::AgentConfig;

    pub(super) fn serialize<S: Serializer>(config: &AgentConfig, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&serde_json::to_string(config).map_err(ser::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<AgentConfig, D::Error> {
        serde_json::from_str(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

impl ChildSpec {
    /// The agent, or those of the whole tree.
    pub fn agents(&self) -> Vec<&AgentConfig> {
        match self {
            Self::Agent { config, .. } => vec![config],
            Self::Supervisor(spec) => spec.agents(),
        }
    }
}

impl From<AgentConfig> for ChildSpec {
    /// An agent that has 5 s to stop.
    fn from(config: AgentConfig) -> Self {
        Self::Agent { config, shutdown: Shutdown::AGENT }
    }
}

impl From<SupervisorSpec> for ChildSpec {
    fn from(spec: SupervisorSpec) -> Self {
        Self::Supervisor(spec)
    }
}

/// How many children a supervisor has; OTP's `count_children`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildCounts {
    /// All of them, whether they run or not.
    pub specs: u64,
    /// Those that run.
    pub active: u64,
    /// Those that are supervisors.
    pub supervisors: u64,
    /// Those that are agents.
    pub workers: u64,
}

/// A value that [`SupervisorConfig::validate`] refuses.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{field} of the supervisor is {value}, and must be {allowed}")]
pub struct InvalidSupervisorConfig {
    field: &'static str,
    value: String,
    allowed: &'static str,
}

impl Default for SupervisorConfig {
    fn default() -> Self {
        Self {
            id: "agents".to_owned(),
            max_agents: 8_000,
            limits: SpawnLimits::default(),
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            health_interval: Duration::from_secs(30),
            failure_detection_threshold: 2,
            stop_grace: Duration::from_secs(5),
            start_deadline: Duration::from_secs(10),
        }
    }
}

fn check(
    ok: bool,
    field: &'static str,
    value: &dyn std::fmt::Debug,
    allowed: &'static str,
) -> Result<(), InvalidSupervisorConfig> {
    if ok {
        return Ok(());
    }
    Err(InvalidSupervisorConfig { field, value: format!("{value:?}"), allowed })
}

/// What holds for every supervisor.
fn check_rules(
    id: &str,
    intensity: Intensity,
    backoff: Backoff,
) -> Result<(), InvalidSupervisorConfig> {
    let Backoff { min, max, factor, jitter } = backoff;
    check(Subject::is_token(id), "id", &id, "1 to 128 characters of A-Z a-z 0-9 _ -")?;
    check(
        intensity.max_restarts <= Intensity::MAX,
        "intensity",
        &intensity.max_restarts,
        "0 to 1000",
    )?;
    check(min <= max, "backoff.min", &min, "at most backoff.max")?;
    check(factor.is_finite() && factor >= 1.0, "backoff.factor", &factor, "at least 1")?;
    check((0.0..=1.0).contains(&jitter), "backoff.jitter", &jitter, "0 to 1")
}

impl SupervisorSpec {
    /// The agents of the whole tree, in the order of their start.
    pub fn agents(&self) -> Vec<&AgentConfig> {
        self.children.iter().flat_map(ChildSpec::agents).collect()
    }

    /// Checks its own values; those of its children are theirs.
    pub fn validate(&self) -> Result<(), InvalidSupervisorConfig> {
        check_rules(&self.id, self.intensity, self.backoff)
    }
}

impl SupervisorConfig {
    /// The largest `failure_detection_threshold`: at the shortest timeout a check each 10 ms.
    pub const MAX_THRESHOLD: u32 = 10;

    /// How long a process with that config may take until it says that it runs.
    pub(super) fn start_deadline_of(&self, config: &AgentConfig) -> Duration {
        self.start_deadline.max(config.timeout())
    }

    /// Checks every value.
    pub fn validate(&self) -> Result<(), InvalidSupervisorConfig> {
        check_rules(&self.id, self.intensity, self.backoff)?;
        check(
            (1..=1_000_000).contains(&self.max_agents),
            "max_agents",
            &self.max_agents,
            "1 to 1000000",
        )?;
        let SpawnLimits { max_agents_per_type, max_spawns_per_second, spawn_burst } = &self.limits;
        check(
            max_agents_per_type.len() <= SpawnLimits::MAX_TYPES,
            "max_agents_per_type",
            &max_agents_per_type.len(),
            "of at most 64 types",
        )?;
        for (_, most) in max_agents_per_type {
            check(*most <= 1_000_000, "max_agents_per_type", most, "0 to 1000000")?;
        }
        check(
            *max_spawns_per_second <= SpawnLimits::MAX_PER_SECOND,
            "max_spawns_per_second",
            max_spawns_per_second,
            "0 to 100000",
        )?;
        check((1..=1_000_000).contains(spawn_burst), "spawn_burst", spawn_burst, "1 to 1000000")?;
        check(
            (Duration::from_millis(100)..=Duration::from_secs(86_400))
                .contains(&self.health_interval),
            "health_interval",
            &self.health_interval,
            "100 ms to 1 day",
        )?;
        check(
            (1..=Self::MAX_THRESHOLD).contains(&self.failure_detection_threshold),
            "failure_detection_threshold",
            &self.failure_detection_threshold,
            "1 to 10",
        )?;
        check(
            self.stop_grace >= Duration::from_millis(10),
            "stop_grace",
            &self.stop_grace,
            "at least 10 ms",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_kept_and_named() {
        let base = SupervisorConfig::default;
        assert_eq!(base().validate(), Ok(()));
        let backoff = |change: fn(&mut Backoff)| {
            let mut config = base();
            change(&mut config.backoff);
            config
        };
        let mut cases = vec![
            ("backoff.min", backoff(|b| b.min = Duration::from_secs(11))),
            ("backoff.factor", backoff(|b| b.factor = 0.5)),
            ("backoff.factor", backoff(|b| b.factor = f64::NAN)),
            ("backoff.jitter", backoff(|b| b.jitter = 1.5)),
        ];
        let types = |count: usize| (0..count).map(|n| (n.to_string(), 1)).collect::<Vec<_>>();
        let mut most = base();
        most.limits.max_agents_per_type = types(SpawnLimits::MAX_TYPES);
        assert_eq!(most.validate(), Ok(()));
        most.limits.max_agents_per_type = types(SpawnLimits::MAX_TYPES + 1);
        cases.push(("max_agents_per_type", most));
        let mut with = |field, change: fn(&mut SupervisorConfig)| {
            let mut config = base();
            change(&mut config);
            cases.push((field, config));
        };
        with("id", |c| c.id = "a.b".into());
        with("max_agents", |c| c.max_agents = 0);
        with("max_agents_per_type", |c| {
            c.limits.max_agents_per_type = vec![("a".into(), 1_000_001)];
        });
        with("max_spawns_per_second", |c| c.limits.max_spawns_per_second = 100_001);
        with("spawn_burst", |c| c.limits.spawn_burst = 0);
        with("intensity", |c| c.intensity.max_restarts = 1001);
        with("health_interval", |c| c.health_interval = Duration::ZERO);
        with("health_interval", |c| c.health_interval = Duration::MAX);
        with("failure_detection_threshold", |c| c.failure_detection_threshold = 0);
        with("failure_detection_threshold", |c| c.failure_detection_threshold = 11);
        with("stop_grace", |c| c.stop_grace = Duration::ZERO);
        for (field, config) in cases {
            let error = config.validate().expect_err(field).to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
