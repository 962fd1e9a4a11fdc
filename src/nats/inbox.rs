//! Where replies go: a subject of one's own that says by itself who asked.

use std::fmt;

use crate::message::SubjectPattern;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The reply subjects of one connection: `_INBOX.<22 characters>.<process>.<tag>`.
///
/// Process and tag are in the subject, so that whoever reads a reply routes it without a table,
/// and a request that times out leaves nothing behind. A reply is addressed to whom it names by
/// whoever knows the subject: the receiver checks that it asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Inbox {
    /// With the dot that follows it.
    prefix: String,
}

impl Inbox {
    /// An inbox with a name made from 16 random bytes, which nobody can guess.
    pub fn from_random(random: [u8; 16]) -> Self {
        let mut prefix = String::from("_INBOX.");
        let mut rest = u128::from_le_bytes(random);
        for _ in 0..22 {
            prefix.push(char::from(BASE62[(rest % 62) as usize]));
            rest /= 62;
        }
        prefix.push('.');
        Self { prefix }
    }

    /// `_INBOX.` and 22 characters.
    pub fn prefix(&self) -> &str {
        self.prefix.trim_end_matches('.')
    }

    /// What the connection subscribes to, once, to get every reply.
    pub fn pattern(&self) -> SubjectPattern {
        // A prefix of base-62 characters and two wildcards keep the rule of a pattern.
        SubjectPattern::parse(format!("{}*.*", self.prefix)).expect("the prefix is valid")
    }

    /// The subject of the reply to the request `tag` of `process`.
    pub fn reply_subject(&self, process: u64, tag: i64) -> String {
        let mut subject = String::with_capacity(self.prefix.len() + 27);
        subject.push_str(&self.prefix);
        push_base36(&mut subject, process);
        subject.push('.');
        // As the 64 bits that it is, so that negative tags survive.
        push_base36(&mut subject, tag as u64);
        subject
    }

    /// Who asked, and which request it was; nothing if `subject` is none of this inbox.
    pub fn parse(&self, subject: &str) -> Option<(u64, i64)> {
        let (process, tag) = subject.strip_prefix(self.prefix.as_str())?.split_once('.')?;
        Some((parse_base36(process)?, parse_base36(tag)? as i64))
    }
}

impl fmt::Debug for Inbox {
    /// Without the name: who knows it can forge replies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox(_INBOX.…)")
    }
}

fn push_base36(text: &mut String, mut value: u64) {
    // 36¹³ > 2⁶⁴.
    let mut digits = [0u8; 13];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = match (value % 36) as u8 {
            digit @ 0..=9 => b'0' + digit,
            digit => b'a' + digit - 10,
        };
        value /= 36;
        if value == 0 {
            break;
        }
    }
    text.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

/// The one spelling of a number only: no sign, no capitals, no leading zero.
fn parse_base36(text: &str) -> Option<u64> {
    if text.is_empty() || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.bytes().try_fold(0u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        value.checked_mul(36)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Subject;
    use proptest::prelude::*;

    #[test]
    fn the_shape() {
        let inbox = Inbox::from_random([0xff; 16]);
        assert_eq!(inbox.prefix().len(), "_INBOX.".len() + 22);
        assert_eq!(inbox.pattern().as_str(), format!("{}.*.*", inbox.prefix()));
        assert_eq!(inbox.reply_subject(36, 0), format!("{}.10.0", inbox.prefix()));
        assert_ne!(inbox, Inbox::from_random([0xfe; 16]));
        assert!(!format!("{inbox:?}").contains(inbox.prefix()));
    }

    #[test]
    fn what_is_none_of_ours_is_refused() {
        let inbox = Inbox::from_random([3; 16]);
        let prefix = inbox.prefix();
        for bad in [
            String::new(),
            "_INBOX.x.1.1".into(),
            prefix.into(),
            format!("{prefix}."),
            format!("{prefix}.1"),
            format!("{prefix}.1."),
            format!("{prefix}..1"),
            format!("{prefix}.1.2.3"),
            format!("{prefix}.01.2"),
            format!("{prefix}.+1.2"),
            format!("{prefix}.A.2"),
            format!("{prefix}.zzzzzzzzzzzzz.2"),
            format!("{prefix}.3w5e11264sgsg.2"),
        ] {
            assert_eq!(inbox.parse(&bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_reply_finds_back(random: [u8; 16], process: u64, tag: i64) {
            let inbox = Inbox::from_random(random);
            let subject = inbox.reply_subject(process, tag);
            prop_assert!(Subject::check(&subject).is_ok());
            prop_assert!(inbox.pattern().matches(&subject));
            prop_assert_eq!(inbox.parse(&subject), Some((process, tag)));
        }
    }
}
