//! Bytes as text, quickly.

/// The bytes as text, if they are UTF-8.
///
/// Most text is ASCII. To see that takes half as long as `std`'s check of UTF-8 does on WebAssembly,
/// which was the largest single part of what a short message costs. (Measured; with 32 bytes a turn
/// instead of 8 it takes twice as long again.)
pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    if is_ascii(bytes) {
        // SAFETY: each byte is below 128, and so each is a character.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

/// Whether two short texts are the same. On WebAssembly `==` is a call and a turn per byte, which for
/// a subject is as much as what is decided by it.
#[cfg_attr(not(feature = "nats-core"), allow(dead_code, reason = "the client's"))]
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (Some(last_a), Some(last_b)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) else {
        return a == b;
    };
    // What is behind the whole words is part of the last eight bytes.
    let ((a, _), (b, _)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let differ = |seen, (a, b)| seen | (word(a) ^ word(b));
    a.iter().zip(b).fold(word(last_a) ^ word(last_b), differ) == 0
}

fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let Some(last) = bytes.last_chunk::<8>() else { return bytes.is_ascii() };
    // What is behind the whole words is part of the last eight bytes.
    let (words, _) = bytes.as_chunks::<8>();
    let of = |seen, word: &[u8; 8]| seen | u64::from_le_bytes(*word);
    words.iter().fold(of(0, last), of) & HIGH == 0
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

    #[test]
    fn one_other_byte_is_seen_wherever_it_is() {
        for len in 1..100 {
            let text = vec![b'x'; len];
            assert!(same(&text, &text.clone()));
            assert!(!same(&text, &text[1..]));
            for at in 0..len {
                let mut other = text.clone();
                other[at] = b'y';
                assert!(!same(&text, &other), "{at} of {len}");
            }
        }
        assert!(same(b"", b""));
    }

    proptest! {
        #[test]
        fn as_std(bytes in prop::collection::vec(any::<u8>(), 0..80), text in any::<String>()) {
            prop_assert_eq!(utf8(&bytes), std::str::from_utf8(&bytes).ok());
            prop_assert_eq!(utf8(text.as_bytes()), Some(text.as_str()));
        }
    }
}
