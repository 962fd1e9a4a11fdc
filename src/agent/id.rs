//! The name of an agent, and the one rule that it has to keep.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{de, Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::error::shown;
use crate::message::Subject;

/// The name of an agent: 1–128 characters of `A-Z a-z 0-9 _ -`, so that it is always exactly one
/// token of a NATS subject and one safe file name.
///
/// The field is public, as users write `AgentId("my_agent".to_string())`; therefore every place
/// where an id enters the system calls [`AgentId::validate`]. What was parsed (from text or JSON)
/// is valid already.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AgentId(pub String);

/// An id that breaks the rule of [`AgentId`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{shown} is not an agent id: 1 to {} characters of A-Z a-z 0-9 _ -", AgentId::MAX_LEN)]
pub struct InvalidAgentId {
    shown: String,
}

impl AgentId {
    /// The longest id, in characters (each is one byte).
    pub const MAX_LEN: usize = 128;

    /// Takes `id` if it keeps the rule.
    pub fn parse(id: impl Into<String>) -> Result<Self, InvalidAgentId> {
        let id = Self(id.into());
        id.validate()?;
        Ok(id)
    }

    /// Checks the rule.
    pub fn validate(&self) -> Result<(), InvalidAgentId> {
        if Subject::is_token(&self.0) {
            Ok(())
        } else {
            Err(InvalidAgentId { shown: shown(&self.0) })
        }
    }

    /// An id made from 16 random bytes: a UUID v4. Outside of the core there is [`AgentId::new`].
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid().to_string())
    }

    /// The sender of what did not come from an agent.
    pub fn external() -> Self {
        Self("external".to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AgentId {
    type Err = InvalidAgentId;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::parse(id)
    }
}

impl Borrow<str> for AgentId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for AgentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        for good in ["a", "A-1_z", "0", &"x".repeat(128)] {
            assert!(AgentId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "a*", "a>", "ä", "a\r\n", &"x".repeat(129)] {
            assert!(AgentId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_the_value_but_never_repeats_four_kilobytes() {
        let error = AgentId::parse("a.b").expect_err("a dot").to_string();
        assert!(error.contains("\"a.b\"") && error.contains("128"), "{error}");
        let error = AgentId::parse("y".repeat(4096)).expect_err("too long").to_string();
        assert!(error.len() < 200 && error.contains("4096 bytes"), "{error}");
    }

    #[test]
    fn a_made_up_id_is_a_version_4_uuid_and_valid() {
        let id = AgentId::from_random([7; 16]);
        assert_eq!(id.as_str(), "07070707-0707-4707-8707-070707070707");
        assert!(id.validate().is_ok());
    }

    #[test]
    fn json_is_checked_too() {
        assert!(serde_json::from_str::<AgentId>("\"a.b\"").is_err());
        assert_eq!(serde_json::from_str::<AgentId>("\"ab\"").expect("fine"), AgentId("ab".into()));
    }
}
