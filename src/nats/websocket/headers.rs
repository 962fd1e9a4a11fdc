//! Headers of one's own in the upgrade request, which proxies ask for.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::shown;
use crate::secret::Secret;

/// Headers of one's own in the upgrade request. Their values are never shown: they can be secrets.
///
/// Worst case in memory: [`Self::MAX_LEN`] bytes, and 100 bytes each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeHeaders(Vec<(String, Secret)>);

/// A header that the upgrade request cannot have. Does not show its value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UpgradeHeaderError {
    /// A name that HTTP does not have.
    #[error("an upgrade header's name {name} must be 1 or more of A-Z a-z 0-9 ! # $ % & ' * + - . ^ _ ` | ~")]
    Name {
        /// The name.
        name: String,
    },
    /// A header that belongs to the handshake itself.
    #[error("the upgrade header {name} is the handshake's own")]
    Reserved {
        /// The name.
        name: String,
    },
    /// A value that would be more than a value.
    #[error("the value of the upgrade header {name} must be visible ASCII, with blanks and tabs between")]
    Value {
        /// The header's name.
        name: String,
    },
    /// Too many, or too long.
    #[error(
        "there are more than {} upgrade headers or {} bytes of them",
        UpgradeHeaders::MAX,
        UpgradeHeaders::MAX_LEN
    )]
    TooLarge,
}

/// What the handshake says itself, and what would say that a body follows.
const RESERVED: [&str; 6] =
    ["host", "upgrade", "connection", "content-length", "transfer-encoding", "te"];

impl UpgradeHeaders {
    /// The most that there can be.
    pub const MAX: usize = 64;
    /// The most bytes of all names and values: servers take about 8 KiB for a whole request.
    pub const MAX_LEN: usize = 8 * 1024;

    /// Checks all of `headers`, in whose order they are sent; a name may be repeated.
    pub fn new(headers: Vec<(String, Secret)>) -> Result<Self, UpgradeHeaderError> {
        let mut len = 0;
        for (name, value) in &headers {
            check(name, value.expose())?;
            len += name.len() + value.expose().len();
        }
        match headers.len() <= Self::MAX && len <= Self::MAX_LEN {
            true => Ok(Self(headers)),
            false => Err(UpgradeHeaderError::TooLarge),
        }
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = &(String, Secret)> {
        self.0.iter()
    }
}

fn check(name: &str, value: &str) -> Result<(), UpgradeHeaderError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(UpgradeHeaderError::Name { name: shown(name) });
    }
    let lower = name.to_ascii_lowercase();
    if RESERVED.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
        return Err(UpgradeHeaderError::Reserved { name: shown(name) });
    }
    let is_text = |byte: u8| matches!(byte, b' ' | b'\t' | 0x21..=0x7E);
    match value.bytes().all(is_text) && value.trim() == value {
        true => Ok(()),
        false => Err(UpgradeHeaderError::Value { name: shown(name) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<UpgradeHeaders, UpgradeHeaderError> {
        UpgradeHeaders::new(vec![(name.to_owned(), value.into())])
    }

    #[test]
    fn what_http_has_is_taken_and_never_shown() {
        let headers = one("Authorization", "Bearer geheim==").expect("a header");
        assert!(!format!("{headers:?}").contains("geheim"));
        assert!(one("X-1", "").is_ok());
        assert_eq!(headers.iter().next().map(|(name, _)| name.as_str()), Some("Authorization"));
    }

    #[test]
    fn what_would_be_another_line_is_refused() {
        for name in ["", "a b", "a:", "a\r\nb", "ä", "(x)"] {
            assert!(matches!(one(name, "x"), Err(UpgradeHeaderError::Name { .. })), "{name:?}");
        }
        for name in ["Host", "UPGRADE", "connection", "Sec-WebSocket-Key", "Content-Length"] {
            assert!(matches!(one(name, "x"), Err(UpgradeHeaderError::Reserved { .. })), "{name}");
        }
        for value in ["geheim\r\nX: y", "geheim\n", " geheim", "geheim\0", "geheimä"] {
            let error = one("X", value).expect_err(value);
            assert!(matches!(error, UpgradeHeaderError::Value { .. }));
            assert!(!format!("{error} {error:?}").contains("geheim"));
        }
    }

    #[test]
    fn there_are_bounds() {
        let many = |count| UpgradeHeaders::new(vec![("X".to_owned(), "y".into()); count]);
        assert!(many(UpgradeHeaders::MAX).is_ok());
        assert_eq!(many(UpgradeHeaders::MAX + 1), Err(UpgradeHeaderError::TooLarge));
        assert!(one("X", &"y".repeat(UpgradeHeaders::MAX_LEN - 1)).is_ok());
        let long = one("X", &"y".repeat(UpgradeHeaders::MAX_LEN));
        assert_eq!(long, Err(UpgradeHeaderError::TooLarge));
    }
}
