//! Bytes as text, quickly.

/// The bytes as text, if they are UTF-8.
///
/// `std` looks at eight bytes at a time on a 32-bit target, which for a short message takes longer
/// than all the rest of reading it. Most text is ASCII, and that is seen 32 bytes at a time.
pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    if is_ascii(bytes) {
        // SAFETY: each byte is below 128, and so each is a character.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let Some(last) = bytes.last_chunk::<8>() else { return bytes.is_ascii() };
    let (blocks, rest) = bytes.as_chunks::<32>();
    let mut seen = u64::from_le_bytes(*last);
    // Written out, since a loop that is optimized for size stays one.
    for [a, b, c, d] in blocks.iter().map(words) {
        seen |= a | b | c | d;
    }
    // What is behind its whole words is part of the last eight bytes.
    for word in rest.as_chunks::<8>().0 {
        seen |= u64::from_le_bytes(*word);
    }
    seen & HIGH == 0
}

/// The block as numbers.
fn words(block: &[u8; 32]) -> [u64; 4] {
    let (words, _) = block.as_chunks::<8>();
    [0, 1, 2, 3].map(|at| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_high_byte_is_seen_wherever_it_is() {
        for len in 1..100 {
            for at in 0..len {
                let mut bytes = vec![b'x'; len];
                assert_eq!(utf8(&bytes).map(str::len), Some(len));
                bytes[at] = 0x80;
                assert_eq!(utf8(&bytes), None, "{at} of {len}");
            }
        }
    }

    proptest! {
        #[test]
        fn as_std(bytes in prop::collection::vec(any::<u8>(), 0..80), text in any::<String>()) {
            prop_assert_eq!(utf8(&bytes), std::str::from_utf8(&bytes).ok());
            prop_assert_eq!(utf8(text.as_bytes()), Some(text.as_str()));
        }
    }
}
