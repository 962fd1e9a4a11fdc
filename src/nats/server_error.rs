//! `-ERR`: what the server complains about.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest text of the server that is kept, in bytes; a subject of 1,024 fits.
const MAX_TEXT: usize = 4096;

/// What a `-ERR` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerError {
    /// One subject may not be used. The connection stays.
    PermissionViolation(PermissionViolation),
    /// The credentials are wrong, expired or revoked, or came too late. The connection ends.
    Authorization(String),
    /// The server missed our answers to its PINGs. The connection ends.
    StaleConnection,
    /// Anything else, in the server's words. If it is fatal, the server ends the connection.
    Other(String),
}

/// A subject that may not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermissionViolation {
    /// What was tried.
    pub operation: Operation,
    /// On which subject.
    pub subject: String,
    /// In which queue group, if the server names one.
    pub queue: Option<String>,
}

/// What one can do with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Publish to it, or name it as the reply subject of a publish.
    Publish,
    /// Subscribe to it.
    Subscribe,
}

impl ServerError {
    /// Reads what follows `-ERR `, with or without its quotes.
    pub(crate) fn parse(line: &[u8]) -> Self {
        let line = line.trim_ascii();
        let line = line.get(..MAX_TEXT).unwrap_or(line);
        let line = line.strip_prefix(b"'").unwrap_or(line);
        let line = line.strip_suffix(b"'").unwrap_or(line);
        let text = String::from_utf8_lossy(line).into_owned();
        let lower = text.to_ascii_lowercase();
        if let Some(violation) = PermissionViolation::parse(&text, &lower) {
            return Self::PermissionViolation(violation);
        }
        if lower == "stale connection" {
            return Self::StaleConnection;
        }
        // "Authorization Violation", "Authorization Timeout", "Authentication Timeout",
        // "User Authentication Expired", "User Authentication Revoked",
        // "Account Authentication Expired", …
        if lower.contains("authorization") || lower.contains("authentication") {
            return Self::Authorization(text);
        }
        Self::Other(text)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PermissionViolation(violation) => violation.fmt(f),
            Self::Authorization(text) | Self::Other(text) => f.write_str(text),
            Self::StaleConnection => f.write_str("Stale Connection"),
        }
    }
}

impl PermissionViolation {
    /// `Permissions Violation for Subscription to "x" using queue "q"`, `… for Publish to "x"`,
    /// `… for Publish with Reply of "x"`.
    fn parse(text: &str, lower: &str) -> Option<Self> {
        let rest = lower.strip_prefix("permissions violation for ")?;
        let operation = match rest {
            rest if rest.starts_with("subscription") => Operation::Subscribe,
            rest if rest.starts_with("publish") => Operation::Publish,
            _ => return None,
        };
        let mut quoted = text.split('"').skip(1).step_by(2);
        let subject = quoted.next()?.to_owned();
        let queue = quoted.next().map(str::to_owned);
        Some(Self { operation, subject, queue })
    }
}

impl fmt::Display for PermissionViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Publish => "publish to",
            Operation::Subscribe => "subscribe to",
        };
        write!(f, "no permission to {operation} {:?}", self.subject)?;
        match &self.queue {
            Some(queue) => write!(f, " in queue group {queue:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_words() {
        let violation = |operation, subject: &str, queue: Option<&str>| {
            ServerError::PermissionViolation(PermissionViolation {
                operation,
                subject: subject.into(),
                queue: queue.map(Into::into),
            })
        };
        let auth = |text: &str| ServerError::Authorization(text.into());
        let other = |text: &str| ServerError::Other(text.into());
        for (line, expected) in [
            (
                "'Permissions Violation for Subscription to \"a.>\"'",
                violation(Operation::Subscribe, "a.>", None),
            ),
            (
                "'Permissions Violation for Subscription to \"a\" using queue \"q\"'",
                violation(Operation::Subscribe, "a", Some("q")),
            ),
            (
                "'Permissions Violation for Publish to \"a.b\"'",
                violation(Operation::Publish, "a.b", None),
            ),
            (
                "'Permissions Violation for Publish with Reply of \"r\"'",
                violation(Operation::Publish, "r", None),
            ),
            ("'permissions violation for publish'", other("permissions violation for publish")),
            ("'Authorization Violation'", auth("Authorization Violation")),
            ("'User Authentication Expired'", auth("User Authentication Expired")),
            ("'Authentication Timeout'", auth("Authentication Timeout")),
            ("'Stale Connection'", ServerError::StaleConnection),
            ("'Maximum Payload Violation'", other("Maximum Payload Violation")),
            ("Unquoted", other("Unquoted")),
            ("'", other("")),
            ("", other("")),
        ] {
            assert_eq!(ServerError::parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn a_text_is_cut_and_need_not_be_utf_8() {
        let ServerError::Other(text) = ServerError::parse(&[b'x'; 10_000]) else { panic!("other") };
        assert_eq!(text.len(), MAX_TEXT);
        assert_eq!(ServerError::parse(b"'\xff'"), ServerError::Other("\u{fffd}".into()));
    }
}
