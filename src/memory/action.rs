//! What an agent's state is asked.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A request to an agent's state. What has no fields is taken as `{"Clear":{}}`, `{"Clear":null}`
/// and `"Clear"`; unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum StateAction {
    /// Keep a value under a key; answered with `null`.
    Store {
        /// The key.
        key: String,
        /// The value; `null` is one.
        value: Value,
    },
    /// What is kept under a key; answered with it, or `null`.
    Get {
        /// The key.
        key: String,
    },
    /// Forget a key; answered with whether it was there.
    Delete {
        /// The key.
        key: String,
    },
    /// Forget everything; answered with `null`.
    Clear,
    /// All keys; answered with them, sorted.
    List,
}

/// The tagged form.
#[derive(Deserialize)]
#[serde(rename = "StateAction", deny_unknown_fields)]
enum Tagged {
    Store { key: String, value: Value },
    Get { key: String },
    Delete { key: String },
    Clear(Nothing),
    List(Nothing),
}

/// `null` or an object without fields.
struct Nothing;

impl<'de> Deserialize<'de> for StateAction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ActionVisitor)
    }
}

struct ActionVisitor;

impl<'de> Visitor<'de> for ActionVisitor {
    type Value = StateAction;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a state action: one of Store, Get, Delete, Clear, List")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<StateAction, E> {
        match name {
            "Clear" => Ok(StateAction::Clear),
            "List" => Ok(StateAction::List),
            "Store" => Err(E::missing_field("key")),
            "Get" | "Delete" => Err(E::missing_field("key")),
            other => Err(E::unknown_variant(other, &["Store", "Get", "Delete", "Clear", "List"])),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StateAction, A::Error> {
        Ok(match Tagged::deserialize(MapAccessDeserializer::new(map))? {
            Tagged::Store { key, value } => StateAction::Store { key, value },
            Tagged::Get { key } => StateAction::Get { key },
            Tagged::Delete { key } => StateAction::Delete { key },
            Tagged::Clear(Nothing) => StateAction::Clear,
            Tagged::List(Nothing) => StateAction::List,
        })
    }
}

impl<'de> Deserialize<'de> for Nothing {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NothingVisitor;

        impl<'de> Visitor<'de> for NothingVisitor {
            type Value = Nothing;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("null or {}")
            }

            fn visit_unit<E: de::Error>(self) -> Result<Nothing, E> {
                Ok(Nothing)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Nothing, A::Error> {
                match map.next_entry::<String, IgnoredAny>()? {
                    None => Ok(Nothing),
                    Some((field, _)) => Err(de::Error::unknown_field(&field, &[])),
                }
            }
        }

        deserializer.deserialize_any(NothingVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> String {
        "k".to_owned()
    }

    #[test]
    fn every_form_from_text_and_from_a_value() {
        let store = |value| StateAction::Store { key: key(), value };
        let cases = [
            (json!({"Store": {"key": "k", "value": {"a": [1]}}}), store(json!({"a": [1]}))),
            (json!({"Store": {"key": "k", "value": null}}), store(Value::Null)),
            (json!({"Get": {"key": "k"}}), StateAction::Get { key: key() }),
            (json!({"Delete": {"key": "k"}}), StateAction::Delete { key: key() }),
            (json!({"Clear": {}}), StateAction::Clear),
            (json!({"Clear": null}), StateAction::Clear),
            (json!("Clear"), StateAction::Clear),
            (json!({"List": {}}), StateAction::List),
            (json!({"List": null}), StateAction::List),
            (json!("List"), StateAction::List),
        ];
        for (wire, action) in cases {
            let text = wire.to_string();
            let from_text: StateAction = serde_json::from_str(&text).expect(&text);
            assert_eq!(from_text, action, "{text}");
            let from_value: StateAction = serde_json::from_value(wire).expect(&text);
            assert_eq!(from_value, action, "{text}");
            let again = serde_json::to_string(&action).expect("an action is JSON");
            assert_eq!(serde_json::from_str::<StateAction>(&again).expect(&again), action);
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        let cases = [
            (json!({"Store": {"key": "k"}}), "missing field `value`"),
            (json!({"Store": {"value": 1}}), "missing field `key`"),
            (json!({"Store": {"key": "k", "value": 1, "ttl": 2}}), "unknown field `ttl`"),
            (json!({"Get": {"key": "k", "value": 1}}), "unknown field `value`"),
            (json!({"Get": {"key": 1}}), "expected a string"),
            (json!({"Get": null}), "expected struct variant"),
            (json!({"Clear": {"all": true}}), "unknown field `all`"),
            (json!({"Clear": 1}), "expected null or {}"),
            (json!({"List": []}), "expected null or {}"),
            (json!({"Drop": {}}), "unknown variant `Drop`"),
            (json!("Drop"), "unknown variant `Drop`"),
            (json!("Get"), "missing field `key`"),
            (json!({"Clear": {}, "List": {}}), ""),
            (json!({}), ""),
            (json!([]), "expected a state action: one of Store, Get, Delete, Clear, List"),
            (json!(null), "expected a state action"),
        ];
        for (wire, expected) in cases {
            for result in [
                serde_json::from_str::<StateAction>(&wire.to_string()),
                serde_json::from_value(wire.clone()),
            ] {
                let error = result.expect_err(&wire.to_string()).to_string();
                assert!(error.contains(expected), "{wire}: {error}");
            }
        }
    }
}
