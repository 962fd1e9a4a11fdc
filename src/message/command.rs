//! Commands to a node: about agents on `agent.command`, about the node itself on `system.control`.

use serde::{ser, Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::body::{body_from_value, parse_payload, take_id, wrong_kind};
use super::variant::{strict_fields, Variant};
use super::{Content, ErrorCode, WireError};
use crate::agent::{AgentConfig, AgentId};

/// A command about agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub enum AgentCommand {
    /// Start an agent.
    Spawn {
        /// What it is made of, every value checked; its id is empty if one is to be made up.
        #[serde(serialize_with = "without_empty_id")]
        config: AgentConfig,
    },
    /// End an agent for good.
    Stop {
        /// The agent.
        agent_id: AgentId,
    },
    /// Show the node, or one agent.
    Status {
        /// The agent; none for the node.
        #[serde(skip_serializing_if = "Option::is_none")]
        agent_id: Option<AgentId>,
    },
    /// Say which node an agent is on.
    Locate {
        /// The agent.
        agent_id: AgentId,
    },
    /// Show a page of agents in the order of their ids.
    List {
        /// Show those that come after this id, which need not exist.
        #[serde(skip_serializing_if = "Option::is_none")]
        after: Option<AgentId>,
        /// How many at most, 1 to 1000. Default: 1000.
        limit: usize,
    },
    /// Hand a message to an agent and answer with its answer.
    Input {
        /// The agent.
        agent_id: AgentId,
        /// A message for it, or a bare payload.
        message: Content,
    },
}

impl AgentCommand {
    /// The most agents on one page; also the default.
    pub const MAX_PAGE: usize = 1000;

    /// Parses a body, in an envelope or bare.
    ///
    /// Errors: `too_large` beyond `max_bytes`, `bad_json`, `bad_shape` (with the field's name),
    /// `bad_id`, and `unsupported` for a config that asks for what is not built.
    pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, WireError> {
        parse_payload(bytes, max_bytes)?.try_into()
    }
}

impl TryFrom<Value> for AgentCommand {
    type Error = WireError;

    /// As [`AgentCommand::parse`], for a payload that is JSON already.
    fn try_from(payload: Value) -> Result<Self, WireError> {
        let mut variant = Variant::from_value(payload)?;
        let command = match variant.name.as_str() {
            "Spawn" => Self::Spawn { config: config(variant.required("config")?)? },
            "Stop" => Self::Stop { agent_id: take_id(&mut variant.fields, "agent_id")? },
            "Status" => Self::Status { agent_id: variant.optional_id("agent_id")? },
            "Locate" => Self::Locate { agent_id: take_id(&mut variant.fields, "agent_id")? },
            "List" => {
                Self::List { after: variant.optional_id("after")?, limit: limit(&mut variant)? }
            }
            "Input" => {
                let agent_id = take_id(&mut variant.fields, "agent_id")?;
                let message = variant.required("message")?;
                Self::Input {
                    message: body_from_value(message, Some(&agent_id))?.content,
                    agent_id,
                }
            }
            _ => {
                return Err(variant.unknown("command", "Spawn, Stop, Status, Locate, List or Input"))
            }
        };
        variant.nothing_left()?;
        Ok(command)
    }
}

/// A command about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
pub enum SystemMessage {
    /// Say who you are.
    Ping,
    /// End, and give the agents so long to end first.
    Shutdown {
        /// 0 to 86,400,000. Default: 5,000.
        grace_ms: u64,
    },
    /// Take no new agents, and end when the last one has ended.
    Drain,
}

impl SystemMessage {
    /// What `Shutdown` gives the agents if it does not say.
    pub const DEFAULT_GRACE_MS: u64 = 5_000;
    /// The most that it can give them: one day.
    pub const MAX_GRACE_MS: u64 = 86_400_000;

    /// Parses a body, in an envelope or bare. Errors as for [`AgentCommand::parse`].
    pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, WireError> {
        parse_payload(bytes, max_bytes)?.try_into()
    }
}

impl TryFrom<Value> for SystemMessage {
    type Error = WireError;

    /// As [`SystemMessage::parse`], for a payload that is JSON already.
    fn try_from(payload: Value) -> Result<Self, WireError> {
        let mut variant = Variant::from_value(payload)?;
        let message = match variant.name.as_str() {
            "Ping" => Self::Ping,
            "Shutdown" => Self::Shutdown {
                grace_ms: variant.number(
                    "grace_ms",
                    0..=Self::MAX_GRACE_MS,
                    Self::DEFAULT_GRACE_MS,
                )?,
            },
            "Drain" => Self::Drain,
            _ => return Err(variant.unknown("command", "Ping, Shutdown or Drain")),
        };
        variant.nothing_left()?;
        Ok(message)
    }
}

fn limit(list: &mut Variant) -> Result<usize, WireError> {
    let most = AgentCommand::MAX_PAGE as u64;
    let limit = list.number("limit", 1..=most, most)?;
    Ok(usize::try_from(limit).unwrap_or(AgentCommand::MAX_PAGE))
}

/// An empty id is none, and on the wire that is an absent one.
fn without_empty_id<S: Serializer>(config: &AgentConfig, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(config).map_err(ser::Error::custom)?;
    if let (true, Some(fields)) = (config.id.as_str().is_empty(), value.as_object_mut()) {
        fields.remove("id");
    }
    value.serialize(serializer)
}

/// A config from the wire, every value checked; an absent id stays empty.
fn config(value: Value) -> Result<AgentConfig, WireError> {
    let mut map = match value {
        Value::Object(map) => map,
        other => return Err(wrong_kind("config", &other, "an object")),
    };
    let id = match map.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(
            AgentId::parse(id)
                .map_err(|error| WireError::new(ErrorCode::BadId, format!("config.id: {error}")))?,
        ),
        Some(other) => return Err(wrong_kind("config.id", &other, "a string or null")),
    };
    let mut config: AgentConfig = strict_fields(map, "config")?;
    config.id = AgentId::external();
    config.validate()?;
    config.id = id.unwrap_or_else(|| AgentId(String::new()));
    Ok(config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::agent::MemoryBackendType;
    use ErrorCode::{BadId, BadJson, BadShape, TooLarge, Unsupported};

    fn command(body: &Value) -> Result<AgentCommand, WireError> {
        AgentCommand::parse(body.to_string().as_bytes(), 10_000)
    }

    fn system(body: &Value) -> Result<SystemMessage, WireError> {
        SystemMessage::parse(body.to_string().as_bytes(), 10_000)
    }

    fn envelope(payload: &Value) -> Value {
        json!({"id": "e", "source": "s", "metadata": {}, "timestamp": "2026-11-21T20:50:00Z",
            "payload": payload})
    }

    fn a() -> AgentId {
        AgentId("a".into())
    }

    #[test]
    fn the_commands() {
        let cases = [
            (json!({"Stop": {"agent_id": "a"}}), AgentCommand::Stop { agent_id: a() }),
            (json!({"Status": {"agent_id": "a"}}), AgentCommand::Status { agent_id: Some(a()) }),
            (json!({"Locate": {"agent_id": "a"}}), AgentCommand::Locate { agent_id: a() }),
            (
                json!({"List": {"after": "a", "limit": 2}}),
                AgentCommand::List { after: Some(a()), limit: 2 },
            ),
            (
                json!({"List": {"after": null, "limit": 1000}}),
                AgentCommand::List { after: None, limit: 1000 },
            ),
            (
                json!({"Input": {"agent_id": "a", "message": {"x": 1}}}),
                AgentCommand::Input { agent_id: a(), message: Content::Bare(json!({"x": 1})) },
            ),
            (
                json!({"Spawn": {"config": {}}}),
                AgentCommand::Spawn { config: AgentConfig::default() },
            ),
            (
                json!({"Spawn": {"config": {"id": "a", "memory_backend_type": "File"}}}),
                AgentCommand::Spawn {
                    config: AgentConfig {
                        id: a(),
                        memory_backend_type: MemoryBackendType::File,
                        ..Default::default()
                    },
                },
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(command(&body).expect("a command"), expected);
            assert_eq!(command(&envelope(&body)).expect("in an envelope"), expected);
            let written = serde_json::to_value(&expected).expect("serializes");
            assert_eq!(command(&written).expect("and is taken again"), expected);
        }
    }

    #[test]
    fn what_needs_no_field_is_taken_in_three_forms() {
        for name in ["Status", "List", "Ping", "Drain", "Shutdown"] {
            for body in [json!({name: {}}), json!({name: null}), json!(name)] {
                assert!(
                    command(&body).is_ok() != system(&body).is_ok(),
                    "{body} is for one of the two"
                );
            }
        }
        assert_eq!(system(&json!("Ping")), Ok(SystemMessage::Ping));
        assert_eq!(
            system(&json!({"Shutdown": {"grace_ms": 7}})),
            Ok(SystemMessage::Shutdown { grace_ms: 7 })
        );
        assert_eq!(system(&json!("Shutdown")), Ok(SystemMessage::Shutdown { grace_ms: 5_000 }));
        assert_eq!(command(&json!("List")), Ok(AgentCommand::List { after: None, limit: 1000 }));
    }

    #[test]
    fn mistakes_are_told_apart_and_named() {
        let spawn = |config: Value| json!({"Spawn": {"config": config}});
        let message = json!({"id": "m", "from": "b", "to": "c", "payload": 1, "timestamp": 7});
        let cases = [
            (json!([]), BadShape, "an array"),
            (json!({}), BadShape, "0 fields"),
            (json!({"Stop": {"agent_id": "a"}, "x": 1}), BadShape, "2 fields"),
            (json!({"Dance": {}}), BadShape, "Dance"),
            (json!({"Stop": "a"}), BadShape, "Stop"),
            (json!("Stop"), BadShape, "agent_id"),
            (json!({"Stop": {"agent_id": 5}}), BadShape, "agent_id"),
            (json!({"Stop": {"agent_id": "a", "now": 1}}), BadShape, "now"),
            (json!({"Stop": {"agent_id": "a.b"}}), BadId, "a.b"),
            (json!("Locate"), BadShape, "agent_id"),
            (json!({"Locate": {"agent_id": "a", "node_id": "n"}}), BadShape, "node_id"),
            (json!({"Status": {"agent_id": ""}}), BadId, "agent_id"),
            (json!({"List": {"after": "a b"}}), BadId, "after"),
            (json!({"List": {"limit": 0}}), BadShape, "limit is 0"),
            (json!({"List": {"limit": 1001}}), BadShape, "1 to 1000"),
            (json!({"List": {"limit": "9"}}), BadShape, "limit"),
            (json!({"Input": {"agent_id": "a"}}), BadShape, "message"),
            (json!({"Input": {"agent_id": "*", "message": 1}}), BadId, "*"),
            (json!({"Input": {"agent_id": "a", "message": message}}), BadShape, "\"c\""),
            (json!("Spawn"), BadShape, "config"),
            (spawn(json!(7)), BadShape, "config"),
            (spawn(json!({"id": "a.b"})), BadId, "a.b"),
            (spawn(json!({"id": ""})), BadId, "config.id"),
            (spawn(json!({"id": 3})), BadShape, "config.id"),
            (spawn(json!({"max_memory": 3})), BadShape, "max_memory"),
            (spawn(json!({"timeout_ms": "x"})), BadShape, "timeout_ms"),
            (spawn(json!({"timeout_ms": -1})), BadShape, "timeout_ms"),
            (spawn(json!({"timeout_ms": 1})), BadShape, "timeout_ms is 1"),
            (spawn(json!({"max_memory_mb": 0})), BadShape, "max_memory_mb"),
            (spawn(json!({"restart": "Never"})), BadShape, "restart"),
            (spawn(json!({"memory_backend_type": "Kv"})), Unsupported, "Kv"),
        ];
        for (body, code, named) in cases {
            let error = command(&body).expect_err(named);
            assert_eq!(error.code, code, "{body}: {error}");
            assert!(error.message.contains(named), "{body}: {error}");
        }
        let longest = json!({"Shutdown": {"grace_ms": SystemMessage::MAX_GRACE_MS}});
        assert!(system(&longest).is_ok());
        let error = system(&json!({"Shutdown": {"grace_ms": 86_400_001_u64}})).expect_err("long");
        assert_eq!(error.code, BadShape, "{error}");
        assert!(error.message.contains("86400001, and must be 0 to 86400000"), "{error}");
    }

    #[test]
    fn what_is_not_json_or_too_large() {
        let parse = |body: &str| AgentCommand::parse(body.as_bytes(), 100).expect_err("refused");
        assert_eq!(parse("{\"Status\"").code, BadJson);
        assert_eq!(parse(&" ".repeat(101)).code, TooLarge);
    }

    #[test]
    fn a_huge_name_does_not_come_back_whole() {
        let name = "x".repeat(400_000);
        for body in [
            json!({ name.as_str(): {} }),
            json!({"Spawn": {"config": {name.as_str(): 1}}}),
            json!({"Stop": {"agent_id": "a", name.as_str(): 1}}),
        ] {
            let error = AgentCommand::parse(body.to_string().as_bytes(), 1_000_000)
                .expect_err("no such thing");
            assert!(error.message.len() < 500, "{}", error.message.len());
        }
    }
}
