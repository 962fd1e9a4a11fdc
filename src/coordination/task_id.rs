//! The name of a task.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::shown;
use crate::message::Subject;

/// The name of a task: 1–128 characters of `A-Z a-z 0-9 _ -`, since its outcome comes on
/// `coordination.results.<task_id>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

/// A text that breaks the rule of [`TaskId`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{shown} is not a task id: 1 to 128 characters of A-Z a-z 0-9 _ -")]
pub struct InvalidTaskId {
    shown: String,
}

impl TaskId {
    /// Takes `id` if it keeps the rule.
    pub fn parse(id: impl Into<String>) -> Result<Self, InvalidTaskId> {
        let id = id.into();
        if Subject::is_token(&id) {
            Ok(Self(id))
        } else {
            Err(InvalidTaskId { shown: shown(&id) })
        }
    }

    /// An id made from 16 random bytes: a UUID v4.
    pub fn from_random(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::parse(id)
    }
}

impl TryFrom<String> for TaskId {
    type Error = InvalidTaskId;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::parse(id)
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_kept_in_text_and_in_json() {
        assert_eq!(TaskId::parse("t-1_A").expect("a task id").as_str(), "t-1_A");
        for bad in ["", "a.b", "*", "a b", &"x".repeat(129)] {
            assert!(TaskId::parse(bad).is_err(), "{bad:?}");
            let json = serde_json::to_string(bad).expect("a text");
            assert!(serde_json::from_str::<TaskId>(&json).is_err(), "{bad:?}");
        }
        let error = TaskId::parse("a.b").expect_err("a dot").to_string();
        assert_eq!(error, "\"a.b\" is not a task id: 1 to 128 characters of A-Z a-z 0-9 _ -");
        let error = TaskId::parse("x".repeat(4096)).expect_err("too long").to_string();
        assert!(error.len() < 200 && error.contains("4096 bytes"), "{error}");
    }

    #[test]
    fn a_made_up_id_is_a_version_4_uuid() {
        let id = TaskId::from_random([7; 16]);
        assert_eq!(id.as_str(), "07070707-0707-4707-8707-070707070707");
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
