//! The rules that NATS has for subjects, in one place: for what is published to and for what is
//! subscribed to.

use thiserror::Error;

use super::Subject;
use crate::error::shown;

/// The rule that a subject, a pattern or a queue group breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SubjectRule {
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It has more than [`Subject::MAX_LEN`] bytes.
    #[error("it is longer than 1024 bytes")]
    TooLong,
    /// It starts or ends with a dot, or has two in a row.
    #[error("a token is empty")]
    EmptyToken,
    /// White space or a control character, which could end a line of the protocol.
    #[error("it has white space or a control character")]
    Unprintable,
    /// `*` or `>` where one publishes, or not as a whole token, or `>` before the end.
    #[error(
        "a wildcard stands where it may not: * and > are whole tokens of a subscription's \
         subject, > only the last"
    )]
    Wildcard,
}

/// A subject, reply subject, pattern or queue group that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{shown} is not a {what}: {rule}")]
pub struct InvalidSubject {
    what: &'static str,
    shown: String,
    rule: SubjectRule,
}

impl InvalidSubject {
    pub(super) fn new(what: &'static str, refused: &str, rule: SubjectRule) -> Self {
        let shown = shown(refused);
        Self { what, shown, rule }
    }

    /// The rule that it breaks.
    pub fn rule(&self) -> SubjectRule {
        self.rule
    }
}

/// The rule, in one pass over the bytes. `foo*` would be an ordinary token for a server; it is
/// refused, since who writes it means a wildcard.
pub(super) fn check(subject: &str, wildcards: bool) -> Result<(), SubjectRule> {
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
