//! What an agent is made of and what it may use.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{AgentId, InvalidAgentId};

/// Where an agent keeps its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MemoryBackendType {
    /// In the agent's own memory: fast, and empty after a crash.
    #[default]
    InMemory,
    /// In files of the node: there again after a crash.
    File,
    /// In a NATS key-value bucket. Refused as `unsupported` until that is built.
    Kv,
}

/// When a child that ended is started again; the terms and meanings are those of OTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RestartType {
    /// Always.
    #[default]
    Permanent,
    /// Only if it did not end normally.
    Transient,
    /// Never.
    Temporary,
}

/// What an agent is made of and what it may use. There is no directory and no environment in it:
/// neither can be had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// The agent's name. Default: empty, which means that one is made up when it is spawned.
    #[serde(deserialize_with = "id_or_empty", skip_serializing_if = "is_empty")]
    pub id: AgentId,
    /// The registered type that it is an instance of. Default: `state`.
    pub agent_type: String,
    /// Where it keeps its state. Default: [`MemoryBackendType::InMemory`].
    pub memory_backend_type: MemoryBackendType,
    /// Whether it can be reached by NATS and publish there. Default: true.
    pub nats_enabled: bool,
    /// The most memory that it can have, in MiB, 1 to 4096. Default: 64.
    pub max_memory_mb: u32,
    /// The fuel for its whole life (1 is about 100,000 WebAssembly instructions), or none.
    /// Default: none, since it would end an agent that lives long.
    pub max_fuel: Option<u64>,
    /// How long it may go without answering its supervisor, in ms, 100 to 86,400,000.
    /// Default: 30,000.
    pub timeout_ms: u64,
    /// When it is started again. Default: [`RestartType::Permanent`].
    pub restart: RestartType,
    /// What it says that it can do; at most 64, each 1 to 128 bytes. Default: nothing.
    pub capabilities: Vec<String>,
    /// Whatever its type wants to know; at most 64 KiB as JSON, since the supervisor keeps it for
    /// as long as the agent is there. Default: nothing.
    pub args: Map<String, Value>,
}

/// A value that [`AgentConfig::validate`] refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidAgentConfig {
    /// The id breaks its rule.
    #[error(transparent)]
    Id(#[from] InvalidAgentId),
    /// A figure is out of its range.
    #[error("{field} is {value}, and must be {allowed}")]
    OutOfRange {
        /// The field's name on the wire.
        field: &'static str,
        /// What it was.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// It asks for what this build does not have.
    #[error("memory_backend_type Kv is not supported yet; InMemory and File are")]
    KvUnsupported,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            id: AgentId(String::new()),
            agent_type: "state".to_owned(),
            memory_backend_type: MemoryBackendType::default(),
            nats_enabled: true,
            max_memory_mb: 64,
            max_fuel: None,
            timeout_ms: 30_000,
            restart: RestartType::default(),
            capabilities: Vec::new(),
            args: Map::new(),
        }
    }
}

impl AgentConfig {
    /// The most capabilities that an agent can name.
    pub const MAX_CAPABILITIES: usize = 64;

    /// The longest name of a capability, in bytes.
    pub const MAX_CAPABILITY: usize = 128;

    /// The largest `args`, in bytes of JSON.
    pub const MAX_ARGS: usize = 64 * 1024;

    /// How long the agent may go without answering its supervisor.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Checks every value. An empty id is refused here: who spawns makes one up first.
    pub fn validate(&self) -> Result<(), InvalidAgentConfig> {
        let range = |field, value: u64, ok: bool, allowed| {
            if ok {
                Ok(())
            } else {
                Err(InvalidAgentConfig::OutOfRange { field, value, allowed })
            }
        };
        self.id.validate()?;
        let memory = u64::from(self.max_memory_mb);
        range("max_memory_mb", memory, (1..=4096).contains(&memory), "1 to 4096")?;
        range(
            "timeout_ms",
            self.timeout_ms,
            (100..=86_400_000).contains(&self.timeout_ms),
            "100 to 86400000",
        )?;
        let fuel = self.max_fuel.unwrap_or(1);
        range("max_fuel", fuel, fuel > 0, "null or at least 1")?;
        let type_len = self.agent_type.len();
        range("agent_type's length", type_len as u64, (1..=128).contains(&type_len), "1 to 128")?;
        let named = self.capabilities.len();
        range("capabilities' length", named as u64, named <= Self::MAX_CAPABILITIES, "0 to 64")?;
        for capability in &self.capabilities {
            let len = capability.len();
            let ok = (1..=Self::MAX_CAPABILITY).contains(&len);
            range("a capability's length", len as u64, ok, "1 to 128")?;
        }
        // Arguments that cannot be counted cannot be sent either.
        let args = serde_json::to_vec(&self.args).map_or(usize::MAX, |json| json.len());
        range("args' length", args as u64, args <= Self::MAX_ARGS, "0 to 65536 bytes of JSON")?;
        if self.memory_backend_type == MemoryBackendType::Kv {
            return Err(InvalidAgentConfig::KvUnsupported);
        }
        Ok(())
    }
}

fn is_empty(id: &AgentId) -> bool {
    id.0.is_empty()
}

/// An absent or null id is made up later; one that is there has to keep the rule.
fn id_or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<AgentId, D::Error> {
    let id = Option::<AgentId>::deserialize(deserializer)?;
    Ok(id.unwrap_or_else(|| AgentId(String::new())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> AgentConfig {
        AgentConfig { id: AgentId("a".into()), ..Default::default() }
    }

    #[test]
    fn the_defaults_of_the_wire() {
        let config: AgentConfig = serde_json::from_str("{}").expect("everything has a default");
        assert_eq!(config, AgentConfig::default());
        assert_eq!((config.max_memory_mb, config.timeout_ms), (64, 30_000));
        assert!(config.nats_enabled && config.max_fuel.is_none());
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = serde_json::from_str::<AgentConfig>(r#"{"max_memory": 3}"#)
            .expect_err("a config is strict")
            .to_string();
        assert!(error.contains("max_memory"), "{error}");
    }

    #[test]
    fn each_bound_is_kept_and_named() {
        assert_eq!(named().validate(), Ok(()));
        let large = [("a".to_owned(), Value::from("x".repeat(AgentConfig::MAX_ARGS)))];
        let cases: [(&str, AgentConfig); 8] = [
            ("args' length is 65544", AgentConfig { args: large.into_iter().collect(), ..named() }),
            ("max_memory_mb is 0", AgentConfig { max_memory_mb: 0, ..named() }),
            ("max_memory_mb is 4097", AgentConfig { max_memory_mb: 4097, ..named() }),
            ("timeout_ms is 99", AgentConfig { timeout_ms: 99, ..named() }),
            ("max_fuel is 0", AgentConfig { max_fuel: Some(0), ..named() }),
            ("capabilities' length is 65", {
                AgentConfig { capabilities: vec!["c".into(); 65], ..named() }
            }),
            ("Kv", AgentConfig { memory_backend_type: MemoryBackendType::Kv, ..named() }),
            ("is not an agent id", AgentConfig { id: AgentId("a.b".into()), ..named() }),
        ];
        for (expected, config) in cases {
            let error = config.validate().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
