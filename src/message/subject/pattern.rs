//! What one subscribes to, and what it matches.

use serde::{Deserialize, Serialize};

use super::Subject;

/// What one subscribes to: a [`Subject`] in which `*` and `>` may stand for tokens.
///
/// | pattern | matches | does not match |
/// | --- | --- | --- |
/// | `a.b` | `a.b` | `a`, `a.b.c`, `A.b` |
/// | `a.*` | `a.b` | `a`, `a.b.c` |
/// | `a.>` | `a.b`, `a.b.c` | `a` |
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubjectPattern(pub(super) String);

impl SubjectPattern {
    /// Whether a message published to `subject` is for this subscription.
    pub fn matches(&self, subject: impl AsRef<str>) -> bool {
        let mut tokens = subject.as_ref().split('.');
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

    /// Whether there is a subject that both match, so that one message could come on both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                // The other one has a token here too, and whatever follows it is taken.
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl From<Subject> for SubjectPattern {
    /// A subject is a pattern that matches itself.
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> SubjectPattern {
        SubjectPattern::parse(text).expect("a pattern")
    }

    #[test]
    fn matching_as_nats_documents_it() {
        for (wanted, subject, expected) in [
            // No wildcard: the same tokens, the same case.
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.b", "a", false),
            ("a", "a.b", false),
            ("a.b", "A.b", false),
            ("ab", "a", false),
            // * is exactly one token, wherever it stands.
            ("*", "a", true),
            ("*", "a.b", false),
            ("time.*.east", "time.us.east", true),
            ("time.*.east", "time.eu.east", true),
            ("time.*.east", "time.us.west", false),
            ("time.*.east", "time.us.east.atlanta", false),
            ("time.*.east", "time.east", false),
            ("*.east.*", "us.east.atlanta", true),
            ("*.*", "a", false),
            // > is one token or more.
            (">", "a", true),
            (">", "a.b.c", true),
            ("time.us.>", "time.us", false),
            ("time.us.>", "time.us.east", true),
            ("time.us.>", "time.us.east.atlanta", true),
            ("time.us.>", "time.eu.east", false),
            ("*.*.>", "a.b", false),
            ("*.*.>", "a.b.c", true),
            ("*.*.>", "a.b.c.d", true),
            ("$JS.API.>", "$JS.API.INFO", true),
            ("größe.*", "größe.日本", true),
        ] {
            assert_eq!(pattern(wanted).matches(subject), expected, "{wanted} on {subject}");
            let subject = Subject::parse(subject).expect("a subject");
            assert_eq!(pattern(wanted).matches(&subject), expected, "{wanted} on {subject}");
            // A subject is the pattern that matches it alone.
            assert_eq!(pattern(wanted).overlaps(&subject.into()), expected);
        }
    }

    #[test]
    fn overlap_as_a_table() {
        for (a, b, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "*.b", true),
            ("a.*", "b.*", false),
            ("a.>", "a.*.c", true),
            ("a.>", "a", false),
            (">", "*", true),
            ("a.>", "*.*.*", true),
            ("a.b.>", "a.*", false),
            ("*.b", "a.*.c", false),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), expected, "{a} and {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), expected, "{b} and {a}");
        }
    }

    /// What the rules say, word by word and without an eye on speed.
    fn takes(pattern: &[&str], subject: &[&str]) -> bool {
        match (pattern, subject) {
            ([], []) => true,
            ([">"], [_, ..]) => true,
            (["*", pattern @ ..], [_, subject @ ..]) => takes(pattern, subject),
            ([wanted, pattern @ ..], [token, subject @ ..]) => {
                wanted == token && takes(pattern, subject)
            }
            _ => false,
        }
    }

    /// All subjects of up to `len` tokens. The third token stands for all that no pattern names.
    fn all_subjects(len: usize) -> Vec<Vec<&'static str>> {
        let mut all: Vec<Vec<&str>> = vec![Vec::new()];
        let mut last = all.clone();
        for _ in 0..len {
            last = last
                .iter()
                .flat_map(|subject| {
                    ["a", "b", "other"].map(|token| [subject.as_slice(), &[token]].concat())
                })
                .collect();
            all.extend(last.clone());
        }
        all.retain(|subject| !subject.is_empty());
        all
    }

    fn patterns() -> impl Strategy<Value = String> {
        "(a|b|\\*)(\\.(a|b|\\*)){0,3}(\\.>)?|>"
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_plain_rules(
            wanted in patterns(),
            subject in "(a|b|c|ab)(\\.(a|b|c|ab)){0,4}",
        ) {
            let (tokens, found): (Vec<_>, Vec<_>) =
                (wanted.split('.').collect(), subject.split('.').collect());
            prop_assert_eq!(pattern(&wanted).matches(&subject), takes(&tokens, &found));
        }

        #[test]
        fn two_overlap_if_some_subject_is_for_both(a in patterns(), b in patterns()) {
            let (ours, theirs): (Vec<_>, Vec<_>) = (a.split('.').collect(), b.split('.').collect());
            let both = all_subjects(5)
                .iter()
                .any(|subject| takes(&ours, subject) && takes(&theirs, subject));
            prop_assert_eq!(pattern(&a).overlaps(&pattern(&b)), both, "{} and {}", a, b);
        }
    }
}
