//! A setting that is refused.

use thiserror::Error;

/// A setting that is refused. None of these shows a secret.
///
/// A `name` says where the setting stands: a flag (`--node-id`), a variable (`NODE_ID`), or file,
/// line and key (`node.toml:3: node_id`).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidSetting {
    /// A value that is not allowed.
    #[error("{name} is {value}, and must be {allowed}; --help tells more")]
    Value {
        /// The setting.
        name: String,
        /// What it is, quoted if it is text.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value that is refused for a reason of its own.
    #[error("{name}: {reason}; --help tells more")]
    Refused {
        /// The setting, or the place in the file.
        name: String,
        /// Why.
        reason: String,
    },
    /// Two settings that exclude each other.
    #[error("{one} and {other} are both set, and exclude each other; --help tells more")]
    Both {
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// A setting that is nothing without another.
    #[error("{one} is set without {missing}, and needs it; --help tells more")]
    Without {
        /// The one.
        one: String,
        /// The one that is not set.
        missing: String,
    },
    /// What this build cannot do yet.
    #[error("{name} is set, and is not supported by this build yet; --help tells what is")]
    Unsupported {
        /// The setting.
        name: String,
    },
}

impl InvalidSetting {
    /// The most characters of a refused value that are repeated.
    const SHOWN: usize = 40;

    pub(crate) fn value(name: impl Into<String>, value: &str, allowed: impl Into<String>) -> Self {
        let mut shown: String = value.chars().take(Self::SHOWN).collect();
        shown = if shown.len() < value.len() {
            format!("{shown:?}… ({} bytes)", value.len())
        } else {
            format!("{shown:?}")
        };
        Self::bare_value(name, shown, allowed)
    }

    /// A value that is shown as it is: a number, or what kind of thing it is.
    pub(super) fn bare_value(
        name: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Value { name: name.into(), value: value.into(), allowed: allowed.into() }
    }

    pub(super) fn refused(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused { name: name.into(), reason: reason.into() }
    }
}
