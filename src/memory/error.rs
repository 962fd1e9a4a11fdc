//! What can go wrong with an agent's memory.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why an agent's memory could not do what was asked.
///
/// Plain data, since on Lunatic it travels from the store's process to the agent's: paths and
/// the system's own errors are text in it.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum MemoryError {
    /// The key is empty or too long.
    #[error("a key of {len} bytes cannot be kept: a key has 1 to {max}")]
    KeyLength {
        /// What it has, in bytes.
        len: usize,
        /// What it can have.
        max: usize,
    },
    /// The value is too large.
    #[error("the value of key {} takes more than {max} bytes as JSON", Short(.key))]
    ValueTooLarge {
        /// Where it was to be kept.
        key: String,
        /// What it can have, in bytes of JSON.
        max: usize,
    },
    /// The value would not come back as it is.
    #[error("the value of key {} cannot be kept: {reason}", Short(.key))]
    InvalidValue {
        /// Where it was to be kept, or was.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The agent has as many keys as it can have.
    #[error("key {} cannot be added: an agent has at most {max} keys", Short(.key))]
    TooManyKeys {
        /// The one that was too many.
        key: String,
        /// How many it can have.
        max: usize,
    },
    /// The agent's keys and values take as much room as they can.
    #[error("key {} cannot be stored: an agent's keys and values have {max} bytes", Short(.key))]
    Full {
        /// The one that does not fit.
        key: String,
        /// How many bytes all of them can have.
        max: usize,
    },
    /// The agent's name breaks its rule.
    #[error("{reason}")]
    InvalidAgent {
        /// The rule and the name.
        reason: String,
    },
    /// A file is not what was written. It is never overwritten: it was moved to where an operator
    /// can look at it, and from now on its key is absent.
    #[error("{path} is corrupt: {reason}; {}", SetAside(.set_aside))]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// Where it is now; none if the agent has too many such files already, so that it was
        /// left in its place.
        set_aside: Option<String>,
    },
    /// A file is whole, but of a version of the format that this program does not know. It was
    /// left as it is.
    #[error("{path} has the format's version {version}, this program knows {known}")]
    UnknownFormat {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
        /// Ours.
        known: u32,
    },
    /// The system refused.
    #[error("cannot {operation} {path}: {reason}")]
    Io {
        /// What was tried.
        operation: FileOperation,
        /// On what.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The place where the memory is kept cannot be reached, or makes no sense.
    #[error("the agent's memory cannot be reached: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// What was tried with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileOperation {
    /// Making a directory or a file.
    Create,
    /// Listing a directory.
    List,
    /// Reading a file.
    Read,
    /// Writing a file.
    Write,
    /// Bringing a file or a directory to the disk.
    Sync,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
}

impl fmt::Display for FileOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Remove => "remove",
        })
    }
}

/// A key as an error shows it: quoted, and its first 40 characters.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(40).collect();
        write!(f, "{shown:?}")?;
        if shown.len() < self.0.len() {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

struct SetAside<'a>(&'a Option<String>);

impl fmt::Display for SetAside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "it was set aside as {path}"),
            None => f.write_str(
                "it was left there, since its directory holds as many corrupt files as are kept: \
                 look at them and remove them",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_names_the_value_and_the_rule() {
        let key = || "k".repeat(50);
        let cases = [
            (
                MemoryError::KeyLength { len: 0, max: 512 },
                "0 bytes cannot be kept: a key has 1 to 512",
            ),
            (
                MemoryError::ValueTooLarge { key: "a\n".into(), max: 9 },
                "key \"a\\n\" takes more than 9 bytes",
            ),
            (
                MemoryError::TooManyKeys { key: key(), max: 2 },
                "kkkk\"… (50 bytes) cannot be added: an agent has at most 2 keys",
            ),
            (MemoryError::Full { key: key(), max: 7 }, "have 7 bytes"),
            (
                MemoryError::InvalidValue { key: "a".into(), reason: "so".into() },
                "\"a\" cannot be kept: so",
            ),
            (
                MemoryError::Corrupt {
                    path: "d/k.a".into(),
                    reason: "torn".into(),
                    set_aside: Some("d/k.a.corrupt-0".into()),
                },
                "d/k.a is corrupt: torn; it was set aside as d/k.a.corrupt-0",
            ),
            (
                MemoryError::Corrupt {
                    path: "d/k.a".into(),
                    reason: "torn".into(),
                    set_aside: None,
                },
                "left there",
            ),
            (
                MemoryError::UnknownFormat { path: "d/k.a".into(), version: 7, known: 1 },
                "version 7, this program knows 1",
            ),
            (
                MemoryError::Io {
                    operation: FileOperation::Rename,
                    path: "d".into(),
                    reason: "no".into(),
                },
                "cannot rename d: no",
            ),
        ];
        for (error, expected) in cases {
            let text = error.to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
