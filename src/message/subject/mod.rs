//! Subjects: what one publishes to, what one subscribes to, and who shares the work.
//!
//! ```text
//! orders.eu.new     a subject: tokens between dots
//! orders.*.new      a pattern: * is exactly one token
//! orders.>          a pattern: > is one token or more, and stands last
//! ```
//!
//! Those of the wire contract are built by [`Subject`]'s functions, and read by [`SubjectKind`].

mod builders;
mod kind;
mod pattern;
mod rule;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::agent::AgentId;
use rule::check;

pub use kind::SubjectKind;
pub use pattern::SubjectPattern;
pub use rule::{InvalidSubject, SubjectRule};

/// What one publishes to: no empty token, no white space or control character, no wildcard, 1 to
/// 1,024 bytes. Made from user input it can never become a second line of the protocol.
///
/// Its functions without `self` build the subjects of the wire contract, as text. What goes into
/// one is one token: an [`AgentId`] is by its rule; who hands in another name has checked it with
/// [`Subject::is_token`] where it entered.
///
/// ```
/// use rust_wasm_lunatic_nats::message::{Subject, SubjectKind, SubjectPattern};
/// use rust_wasm_lunatic_nats::AgentId;
///
/// let subject = Subject::parse("supervision.health.a1")?;
/// assert!(SubjectPattern::parse("supervision.>")?.matches(&subject));
/// assert_eq!(subject.kind(), Some(SubjectKind::SupervisionHealth(AgentId::parse("a1")?)));
/// assert!(Subject::parse("supervision..a1").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

/// A group of subscribers of which each message reaches one; named by the rule of [`Subject`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueGroup(String);

/// Whether a byte may stand in a token of ours. A table, since every send asks it of every byte.
const IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric() || matches!(character, b'_' | b'-');
        byte += 1;
    }
    table
};

impl Subject {
    /// The longest subject, in bytes. Two of them and the figures of a publish fit the server's
    /// `max_control_line` of 4,096.
    pub const MAX_LEN: usize = 1024;

    /// Checks `subject` without keeping it: what the way to the wire uses.
    pub fn check(subject: &str) -> Result<(), InvalidSubject> {
        check(subject, false).map_err(|rule| InvalidSubject::new("subject", subject, rule))
    }

    /// Checks a reply subject, which keeps the same rule.
    pub fn check_reply(reply: &str) -> Result<(), InvalidSubject> {
        check(reply, false).map_err(|rule| InvalidSubject::new("reply subject", reply, rule))
    }

    /// Whether `name` can stand as one token in the subjects of the wire contract, which is the
    /// rule of [`AgentId`]: 1 to 128 characters of `A-Z a-z 0-9 _ -`.
    pub fn is_token(name: &str) -> bool {
        (1..=AgentId::MAX_LEN).contains(&name.len())
            && name.bytes().all(|byte| IN_TOKEN[usize::from(byte)])
    }

    /// What it is in the wire contract; none if it is not of it.
    pub fn kind(&self) -> Option<SubjectKind> {
        SubjectKind::parse(&self.0)
    }
}

macro_rules! text_type {
    ($name:ident, $what:literal, wildcards: $wildcards:literal) => {
        impl $name {
            /// Takes `text` if it keeps the rule.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidSubject> {
                let text = text.into();
                match check(&text, $wildcards) {
                    Ok(()) => Ok(Self(text)),
                    Err(rule) => Err(InvalidSubject::new($what, &text, rule)),
                }
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidSubject;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidSubject;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_type!(Subject, "subject", wildcards: false);
text_type!(SubjectPattern, "subject to subscribe to", wildcards: true);
text_type!(QueueGroup, "queue group", wildcards: false);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rule_as_a_table() {
        use SubjectRule::*;
        let long = "x".repeat(1025);
        // (text, as a subject, as a pattern)
        let table: &[(&str, Option<SubjectRule>, Option<SubjectRule>)] = &[
            ("a", None, None),
            ("a.b-c_d.$JS.1", None, None),
            ("größe.日本", None, None),
            (&long[..1024], None, None),
            (&long, Some(TooLong), Some(TooLong)),
            ("", Some(Empty), Some(Empty)),
            (".", Some(EmptyToken), Some(EmptyToken)),
            (".a", Some(EmptyToken), Some(EmptyToken)),
            ("a.", Some(EmptyToken), Some(EmptyToken)),
            ("a..b", Some(EmptyToken), Some(EmptyToken)),
            ("*", Some(Wildcard), None),
            (">", Some(Wildcard), None),
            ("a.*.b", Some(Wildcard), None),
            ("a.>", Some(Wildcard), None),
            ("*.*.>", Some(Wildcard), None),
            ("a*", Some(Wildcard), Some(Wildcard)),
            ("a.b>", Some(Wildcard), Some(Wildcard)),
            ("**", Some(Wildcard), Some(Wildcard)),
            (">.a", Some(Wildcard), Some(Wildcard)),
            ("a.>.b", Some(Wildcard), Some(Wildcard)),
            ("a b", Some(Unprintable), Some(Unprintable)),
            ("a\tb", Some(Unprintable), Some(Unprintable)),
            ("a\r\nPUB b 0\r\n", Some(Unprintable), Some(Unprintable)),
            ("a\n", Some(Unprintable), Some(Unprintable)),
            ("a\0", Some(Unprintable), Some(Unprintable)),
            ("a\u{7f}", Some(Unprintable), Some(Unprintable)),
            ("a\u{85}b", Some(Unprintable), Some(Unprintable)),
            ("a\u{a0}b", Some(Unprintable), Some(Unprintable)),
            ("a\u{2028}b", Some(Unprintable), Some(Unprintable)),
        ];
        for (text, subject, pattern) in table {
            let rule = |result: Result<(), InvalidSubject>| result.err().map(|e| e.rule());
            assert_eq!(rule(Subject::parse(*text).map(drop)), *subject, "{text:?}");
            assert_eq!(rule(Subject::check(text)), *subject, "{text:?}");
            assert_eq!(rule(QueueGroup::parse(*text).map(drop)), *subject, "{text:?}");
            assert_eq!(rule(SubjectPattern::parse(*text).map(drop)), *pattern, "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_value_and_the_rule() {
        let error = Subject::parse("a..b").expect_err("an empty token").to_string();
        assert_eq!(error, "\"a..b\" is not a subject: a token is empty");
        let error = Subject::check_reply("a\r\n").expect_err("a line end").to_string();
        assert!(error.contains("\"a\\r\\n\" is not a reply subject"), "{error}");
        assert!(serde_json::from_str::<SubjectPattern>("\"a b\"").is_err());
    }

    #[test]
    fn a_token_has_no_dot_space_or_wildcard() {
        assert!(Subject::is_token("node-1_A"));
        assert!(Subject::is_token(&"x".repeat(128)));
        for bad in ["", "a.b", "a b", "*", ">", "a\r\nPUB x", "ä", &"x".repeat(129)] {
            assert!(!Subject::is_token(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_stays_on_its_line(text in "\\PC*|[a-c.*> \\r\\n\\t]{0,12}") {
            if let Ok(pattern) = SubjectPattern::parse(text.as_str()) {
                prop_assert!(!text.contains(|c: char| c.is_whitespace() || c.is_control()));
                prop_assert!(!text.split('.').any(str::is_empty));
                // A subject matches itself, and > matches everything.
                prop_assert!(pattern.matches(&text));
                prop_assert!(SubjectPattern::parse(">").expect("a pattern").matches(&text));
            }
        }
    }
}
