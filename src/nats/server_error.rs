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
    /// Anything else, in the server's words. [`ServerError::is_fatal`] says whether the server ends
    /// the connection by it.
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
    /// Which of our subscriptions, if the server says so: it does when it takes a permission away
    /// from one that there was.
    pub sid: Option<u64>,
}

/// What one can do with a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Publish to it, or name it as the reply subject of a publish.
    Publish,
    /// Subscribe to it.
    Subscribe,
}

/// What the server says before it ends a connection, in lower case, as nats-server 2.9 to 2.14 have
/// it. Everything else leaves the connection as it is: an invalid subject, one subscription too many.
const FATAL: [&str; 15] = [
    "maximum connections exceeded",
    "maximum account active connections exceeded",
    "connection throttling is active",
    "maximum payload violation",
    "maximum control line exceeded",
    "unknown protocol operation",
    "parser error",
    "invalid client protocol",
    "no responders requires headers support",
    "message headers not supported",
    "failed account registration",
    "secure connection - tls required",
    "attempted to connect to",
    "slow consumer",
    "server shutdown",
];

impl ServerError {
    /// Whether the server ends the connection after it.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::PermissionViolation(_) => false,
            Self::Authorization(_) | Self::StaleConnection => true,
            Self::Other(text) => {
                let starts = |fatal: &str| {
                    text.get(..fatal.len()).is_some_and(|head| head.eq_ignore_ascii_case(fatal))
                };
                FATAL.iter().any(|fatal| starts(fatal))
            }
        }
    }

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
        // "Account Authentication Expired", "credentials have been revoked", "account expired".
        let is_auth = ["authorization", "authentication", "credentials", "account expired"]
            .iter()
            .any(|word| lower.contains(word));
        if is_auth {
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
    /// `Permissions Violation for Subscription to "x" using queue "q"`, `… to "x" (sid "7")`,
    /// `… for Publish to "x"`, `… for Publish with Reply of "x"`.
    fn parse(text: &str, lower: &str) -> Option<Self> {
        let rest = lower.strip_prefix("permissions violation for ")?;
        let operation = match rest {
            rest if rest.starts_with("subscription") => Operation::Subscribe,
            rest if rest.starts_with("publish") => Operation::Publish,
            _ => return None,
        };
        let mut parts = text.split('"').skip(1);
        let subject = parts.next()?.to_owned();
        let (mut queue, mut sid) = (None, None);
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            match name.trim_matches([' ', ',', '(', ')']) {
                "using queue" => queue = Some(value.to_owned()),
                "sid" => sid = value.parse().ok(),
                _ => {}
            }
        }
        Some(Self { operation, subject, queue, sid })
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
                sid: None,
            })
        };
        let of_sid = |queue: Option<&str>| {
            ServerError::PermissionViolation(PermissionViolation {
                operation: Operation::Subscribe,
                subject: "a".into(),
                queue: queue.map(Into::into),
                sid: Some(7),
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
            (
                "'Permissions Violation for Subscription to \"a\", too many tokens'",
                violation(Operation::Subscribe, "a", None),
            ),
            // A permission that is taken away while a subscription is there.
            ("'Permissions Violation for Subscription to \"a\" (sid \"7\")'", of_sid(None)),
            (
                "'Permissions Violation for Subscription to \"a\" using queue \"q\" (sid \"7\")'",
                of_sid(Some("q")),
            ),
            ("'permissions violation for publish'", other("permissions violation for publish")),
            ("'Authorization Violation'", auth("Authorization Violation")),
            ("'User Authentication Expired'", auth("User Authentication Expired")),
            ("'Authentication Timeout'", auth("Authentication Timeout")),
            ("'Authorization Timeout'", auth("Authorization Timeout")),
            ("'Authentication Expired'", auth("Authentication Expired")),
            ("'User Authentication Revoked'", auth("User Authentication Revoked")),
            ("'Account Authentication Expired'", auth("Account Authentication Expired")),
            ("'credentials have been revoked'", auth("credentials have been revoked")),
            ("'account expired'", auth("account expired")),
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
    fn what_ends_a_connection_and_what_does_not() {
        for (line, fatal) in [
            ("Authorization Violation", true),
            ("Stale Connection", true),
            ("maximum connections exceeded", true),
            ("Maximum Connections Exceeded", true),
            ("maximum account active connections exceeded", true),
            ("Connection throttling is active. Please try again later.", true),
            ("Maximum Payload Violation", true),
            ("maximum control line exceeded", true),
            ("Unknown Protocol Operation", true),
            ("Parser Error", true),
            ("invalid client protocol", true),
            ("no responders requires headers support", true),
            ("message headers not supported", true),
            ("Failed Account Registration", true),
            ("Secure Connection - TLS Required", true),
            ("attempted to connect to leaf node port", true),
            ("Slow Consumer", true),
            ("Server Shutdown", true),
            ("Invalid Subject", false),
            ("Invalid Publish Subject", false),
            ("maximum subscriptions exceeded", false),
            ("Permissions Violation for Publish to \"a\"", false),
            ("what a later server says", false),
            ("", false),
        ] {
            assert_eq!(ServerError::parse(line.as_bytes()).is_fatal(), fatal, "{line}");
        }
    }

    #[test]
    fn a_text_is_cut_and_need_not_be_utf_8() {
        let ServerError::Other(text) = ServerError::parse(&[b'x'; 10_000]) else { panic!("other") };
        assert_eq!(text.len(), MAX_TEXT);
        assert_eq!(ServerError::parse(b"'\xff'"), ServerError::Other("\u{fffd}".into()));
    }
}
