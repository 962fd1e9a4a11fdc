//! Ids for messages.

/// Ids for messages: twelve random characters of who makes them and ten that count, as NATS's NUIDs.
#[derive(Clone, Debug)]
pub struct MessageIds {
    text: [u8; Self::LEN],
}

impl MessageIds {
    const LEN: usize = 22;
    /// How many random bytes it is made of.
    pub const RANDOM: usize = 12;
    const DIGITS: &'static [u8; 62] =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    /// Ids that begin with what those random bytes make.
    pub fn new(random: [u8; Self::RANDOM]) -> Self {
        let mut text = [b'0'; Self::LEN];
        for (digit, byte) in text.iter_mut().zip(random) {
            // 256 is no multiple of 62: the first eight digits are a little likelier, which does
            // not matter for an id that is no secret.
            *digit = Self::DIGITS[usize::from(byte) % Self::DIGITS.len()];
        }
        Self { text }
    }

    /// The next id.
    pub fn next_id(&mut self) -> String {
        for digit in self.text[Self::RANDOM..].iter_mut().rev() {
            *digit = match *digit {
                b'z' => b'0',
                b'9' => b'A',
                b'Z' => b'a',
                other => other + 1,
            };
            if *digit != b'0' {
                break;
            }
        }
        // Made of base62 characters only.
        crate::text::utf8(&self.text).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_of_base62_count_up_and_differ() {
        let mut ids = MessageIds::new([7; 12]);
        let made: Vec<String> = (0..10_000).map(|_| ids.next_id()).collect();
        assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len());
        assert!(made.is_sorted(), "those digits are in the order of ASCII");
        assert_eq!(made[0], format!("{}0000000001", "7".repeat(12)));
        assert!(made.iter().all(|id| id.bytes().all(|b| b.is_ascii_alphanumeric())));
        assert_ne!(MessageIds::new([8; 12]).next_id(), made[0]);
    }
}
