//! What is in a value's file.
//!
//! ```text
//! offset  0  "AKV\n"
//!         4  version of the format, u32
//!         8  CRC-32 of everything but the first 4 bytes and itself, u32
//!        12  length of the key, u32
//!        16  length of the value, u32
//!        20  the key, UTF-8
//!         …  the value, JSON
//! ```
//! Integers are little-endian. The first 12 bytes, and what the checksum covers, are the same in
//! every version, so that a file of a newer one is told from a corrupt one.

use super::super::MAX_KEY_BYTES;

/// The version that this program writes.
pub(super) const VERSION: u32 = 1;

/// The largest value that is read, whatever the limit for new ones: 16 MiB.
pub(super) const MAX_READ_VALUE: usize = 16 << 20;

/// The longest file that can be whole.
pub(super) const MAX_FILE: usize = HEADER + MAX_KEY_BYTES + MAX_READ_VALUE;

const MAGIC: [u8; 4] = *b"AKV\n";
const HEADER: usize = 20;

/// A file that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a [u8],
}

/// Why a file cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not what was written.
    Corrupt(&'static str),
    /// It is whole, and of this version of the format.
    UnknownVersion(u32),
}

/// The file for `value` under `key`.
pub(super) fn encode(key: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + key.len() + value.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    for len in [key.len(), value.len()] {
        // Keys and values that are stored are far below 4 GiB.
        bytes.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
    }
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(value);
    let checksum = checksum(&bytes).to_le_bytes();
    bytes[8..12].copy_from_slice(&checksum);
    bytes
}

/// What the file with these bytes holds. Longer ones than [`MAX_FILE`] can be cut there.
pub(super) fn decode(bytes: &[u8]) -> Result<Record<'_>, Unreadable> {
    use Unreadable::Corrupt;

    let [version, stored_checksum, key_len, value_len] =
        header(bytes).ok_or(Corrupt("it is shorter than a header"))?;
    if !bytes.starts_with(&MAGIC) {
        return Err(Corrupt("it does not begin as a value's file does"));
    }
    if checksum(bytes) != stored_checksum {
        return Err(Corrupt("its checksum does not match: it is torn or was changed"));
    }
    if version != VERSION {
        return Err(Unreadable::UnknownVersion(version));
    }
    let (key_len, value_len) = (key_len as usize, value_len as usize);
    let body = &bytes[HEADER..];
    if key_len > MAX_KEY_BYTES || body.len().checked_sub(key_len) != Some(value_len) {
        return Err(Corrupt("its lengths do not add up"));
    }
    let (key, value) = body.split_at(key_len);
    let key = std::str::from_utf8(key).map_err(|_| Corrupt("its key is not UTF-8"))?;
    Ok(Record { key, value })
}

/// The four integers of the header, if it is all there.
fn header(bytes: &[u8]) -> Option<[u32; 4]> {
    let header = bytes.get(4..HEADER)?;
    let mut fields = [0; 4];
    for (field, bytes) in fields.iter_mut().zip(header.chunks_exact(4)) {
        *field = u32::from_le_bytes(bytes.try_into().ok()?);
    }
    Some(fields)
}

/// The checksum of a file of at least a header.
fn checksum(bytes: &[u8]) -> u32 {
    let version = bytes.get(4..8).unwrap_or_default();
    let rest = bytes.get(12..).unwrap_or_default();
    !crc32(crc32(!0, version), rest)
}

/// CRC-32 as in gzip and PNG, before its last inversion, so that it can go on.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| CRC_TABLE[usize::from((crc as u8) ^ byte)] ^ (crc >> 8))
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1));
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(!crc32(!0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(!0, b"1234"), b"56789"), crc32(!0, b"123456789"));
    }

    #[test]
    fn the_bytes_are_as_documented() {
        let bytes = encode("kä", b"[1]");
        assert_eq!(&bytes[..8], b"AKV\n\x01\0\0\0");
        assert_eq!(&bytes[12..], b"\x03\0\0\0\x03\0\0\0k\xc3\xa4[1]");
        let crc = !crc32(crc32(!0, &bytes[4..8]), &bytes[12..]);
        assert_eq!(bytes[8..12], crc.to_le_bytes());
    }

    #[test]
    fn torn_at_any_length_and_longer_than_it_was() {
        let bytes = encode("key", b"{\"a\":1}");
        for len in 0..bytes.len() {
            assert!(matches!(decode(&bytes[..len]), Err(Unreadable::Corrupt(_))), "{len}");
        }
        for tail in [&b"\0"[..], b"x", &bytes] {
            let longer = [&bytes[..], tail].concat();
            assert!(matches!(decode(&longer), Err(Unreadable::Corrupt(_))));
        }
        assert!(decode(&vec![0; bytes.len()]).is_err(), "a hole where data should be");
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = encode("key", b"{\"a\":1}");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&flipped), Err(Unreadable::Corrupt(_))), "bit {bit}");
        }
    }

    /// With a checksum that fits, so that what is behind it is reached.
    fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = encode("key", b"1");
        change(&mut bytes);
        let checksum = checksum(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&checksum);
        bytes
    }

    #[test]
    fn a_newer_version_is_not_corrupt_and_wrong_lengths_are() {
        let newer = resealed(|bytes| bytes[4] = 2);
        assert_eq!(decode(&newer), Err(Unreadable::UnknownVersion(2)));
        type Change = fn(&mut Vec<u8>);
        let cases: [(&str, Change); 4] = [
            ("lengths", |bytes| bytes[12] = 5),
            ("lengths", |bytes| bytes[12..20].fill(0xff)),
            ("lengths", |bytes| bytes[16] = 0),
            ("UTF-8", |bytes| bytes[20] = 0xff),
        ];
        for (expected, change) in cases {
            match decode(&resealed(change)) {
                Err(Unreadable::Corrupt(reason)) => assert!(reason.contains(expected), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(key in "\\PC{1,100}", value in any::<Vec<u8>>()) {
            let bytes = encode(&key, &value);
            prop_assert_eq!(decode(&bytes), Ok(Record { key: &key, value: &value }));
        }

        #[test]
        fn any_bytes_can_be_decoded(bytes in any::<Vec<u8>>()) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
