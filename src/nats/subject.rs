//! Subjects: what one publishes to, what one subscribes to, and who shares the work.
//!
//! ```text
//! orders.eu.new     a subject: tokens between dots
//! orders.*.new      a pattern: * is exactly one token
//! orders.>          a pattern: > is one token or more, and stands last
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{InvalidSubject, SubjectRule};

/// What one publishes to: no empty token, no white space or control character, no wildcard, 1 to
/// 1,024 bytes. Made from user input it can never become a second line of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

/// What one subscribes to: a [`Subject`] in which `*` and `>` may stand for tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectPattern(String);

/// A group of subscribers of which each message reaches one; named by the rule of [`Subject`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueGroup(String);

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
}

impl SubjectPattern {
    /// Whether a message published to `subject` is for this subscription.
    pub fn matches(&self, subject: &str) -> bool {
        let mut tokens = subject.split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(token)) if literal == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl From<Subject> for SubjectPattern {
    /// A subject is a pattern that matches itself.
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

/// The rule, in one pass over the bytes.
fn check(subject: &str, wildcards: bool) -> Result<(), SubjectRule> {
    if subject.is_empty() {
        return Err(SubjectRule::Empty);
    }
    if subject.len() > Subject::MAX_LEN {
        return Err(SubjectRule::TooLong);
    }
    let unprintable = |c: char| c.is_whitespace() || c.is_control();
    let ascii_is_fine = subject.bytes().all(|b| matches!(b, 0x21..=0x7e));
    if !ascii_is_fine && subject.chars().any(unprintable) {
        return Err(SubjectRule::Unprintable);
    }
    let mut ended = false;
    for token in subject.split('.') {
        if token.is_empty() {
            return Err(SubjectRule::EmptyToken);
        }
        let wild = token.bytes().any(|b| matches!(b, b'*' | b'>'));
        if ended || (wild && (!wildcards || token.len() > 1)) {
            return Err(SubjectRule::Wildcard);
        }
        ended = token == ">";
    }
    Ok(())
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
    fn matching_as_a_table() {
        for (pattern, subject, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c.d", true),
            ("a.>", "b.c", false),
            ("*.*.>", "a.b", false),
            ("*.*.>", "a.b.c", true),
        ] {
            let parsed = SubjectPattern::parse(pattern).expect("a pattern");
            assert_eq!(parsed.matches(subject), expected, "{pattern} on {subject}");
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

    proptest! {
        #[test]
        fn what_is_taken_stays_on_its_line(text in "\\PC*|[a-c.*> \\r\\n\\t]{0,12}") {
            if let Ok(pattern) = SubjectPattern::parse(text.as_str()) {
                prop_assert!(!text.contains(|c: char| c.is_whitespace() || c.is_control()));
                prop_assert!(!text.split('.').any(str::is_empty));
                // A subject matches itself, and > matches everything.
                prop_assert!(pattern.matches(&text));
                prop_assert!(SubjectPattern(">".into()).matches(&text));
            }
        }
    }
}
