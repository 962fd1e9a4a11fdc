//! What the files in an agent's directory are called.
//!
//! | name | what it is |
//! | --- | --- |
//! | `k.<key>` | a value; the key with all but `a-z 0-9 _ -` as `%` and two hex digits a byte |
//! | `h.<hash>` | a value whose key would make a name of more than 200 bytes; its SHA-256 |
//! | `<name>.corrupt-<n>` | a file that was set aside |
//! | `tmp-<n>` | a value being written |
//!
//! No name has an upper-case letter, a name that Windows reserves, or more than 222 bytes, so
//! that keys stay apart on any file system.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The longest name of a value's file.
const MAX_NAME: usize = 200;

/// A file's name, as far as it is one of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FileName {
    /// Holds the value of this key.
    Key(String),
    /// Holds the value of the key that it names itself.
    Hashed,
    /// Was set aside under this number.
    SetAside(u32),
    /// Was never finished.
    Temporary,
    /// Is none of ours, and left alone.
    Foreign,
}

/// The name of the file that holds the value of `key`.
pub(super) fn of_key(key: &str) -> String {
    let mut name = String::from("k.");
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => name.push(char::from(byte)),
            _ => push_hex(&mut name, "%", byte),
        }
    }
    if name.len() <= MAX_NAME {
        return name;
    }
    let mut name = String::from("h.");
    for byte in Sha256::digest(key) {
        push_hex(&mut name, "", byte);
    }
    name
}

/// The name of the file called `name` once it is set aside.
pub(super) fn set_aside(name: &str, number: u32) -> String {
    format!("{name}.corrupt-{number}")
}

/// The name of a file that is being written.
pub(super) fn temporary(number: u32) -> String {
    format!("tmp-{number}")
}

/// What the file called `name` is.
pub(super) fn parse(name: &str) -> FileName {
    if let Some(number) = name.strip_prefix("tmp-") {
        return number_of(number).map_or(FileName::Foreign, |_| FileName::Temporary);
    }
    if let Some((of, number)) = name.rsplit_once(".corrupt-") {
        let ours = matches!(parse(of), FileName::Key(_) | FileName::Hashed);
        return match number_of(number) {
            Some(number) if ours => FileName::SetAside(number),
            _ => FileName::Foreign,
        };
    }
    if let Some(hash) = name.strip_prefix("h.") {
        let is_hash = hash.len() == 64 && hash.bytes().all(|b| hex_digit(b).is_some());
        return if is_hash { FileName::Hashed } else { FileName::Foreign };
    }
    match name.strip_prefix("k.").and_then(unescape) {
        // One key has one name: what is spelt otherwise was not written by us.
        Some(key) if of_key(&key) == name => FileName::Key(key),
        _ => FileName::Foreign,
    }
}

fn push_hex(name: &mut String, before: &str, byte: u8) {
    // Writing to a `String` does not fail.
    let _infallible = write!(name, "{before}{byte:02x}");
}

fn unescape(escaped: &str) -> Option<String> {
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.bytes();
    while let Some(byte) = bytes.next() {
        key.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(key).ok().filter(|key| !key.is_empty())
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A number as we write it: digits, no sign, no leading zero.
fn number_of(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::testing::awkward_keys;

    #[test]
    fn names_are_as_documented() {
        let cases = [
            ("user_preferences", "k.user_preferences"),
            ("Ab/c", "k.%41b%2fc"),
            ("..", "k.%2e%2e"),
            ("con", "k.con"),
            ("é", "k.%c3%a9"),
            (&"l".repeat(198), &format!("k.{}", "l".repeat(198))),
            (&"a".repeat(512), &format!("h.{}", sha256(&"a".repeat(512)))),
        ];
        for (key, name) in cases {
            assert_eq!(of_key(key), name);
        }
        assert_eq!(
            sha256("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    fn sha256(text: &str) -> String {
        let mut hex = String::new();
        for byte in Sha256::digest(text) {
            push_hex(&mut hex, "", byte);
        }
        hex
    }

    #[test]
    fn awkward_keys_have_names_of_their_own() {
        let keys = awkward_keys();
        let names: HashSet<_> = keys.iter().map(|key| of_key(key)).collect();
        assert_eq!(names.len(), keys.len());
    }

    #[test]
    fn what_is_not_ours_is_foreign() {
        let foreign = [
            "",
            "k",
            "k.",
            "h.",
            "k.A",
            "k.%",
            "k.%4",
            "k.%4g",
            "k.%61",
            "k.%C3%A9",
            "k.%ff",
            "k.a.b",
            "h.00",
            "tmp",
            "tmp-",
            "tmp-x",
            "tmp-+1",
            "tmp-01",
            "k.a.corrupt-",
            "k.a.corrupt-1.corrupt-2",
            "x.corrupt-1",
            "k.a.corrupt--1",
            ".DS_Store",
            "K.a",
            "k.a.corrupt-4294967296",
        ];
        for name in foreign {
            assert_eq!(parse(name), FileName::Foreign, "{name}");
        }
        assert_eq!(parse(&format!("k.{}", "l".repeat(199))), FileName::Foreign);
        assert_eq!(parse("tmp-0"), FileName::Temporary);
        assert_eq!(parse("k.a.corrupt-17"), FileName::SetAside(17));
    }

    proptest! {
        #[test]
        fn a_name_gives_its_key_back(key in any::<String>().prop_filter("not empty", |key| !key.is_empty())) {
            let name = of_key(&key);
            prop_assert!(name.len() <= MAX_NAME);
            prop_assert!(name.bytes().all(|b| b"abcdefghijklmnopqrstuvwxyz0123456789_-.%".contains(&b)));
            match parse(&name) {
                FileName::Key(parsed) => prop_assert_eq!(parsed, key),
                parsed => prop_assert_eq!(parsed, FileName::Hashed),
            }
            prop_assert_eq!(parse(&set_aside(&name, 3)), FileName::SetAside(3));
        }

        #[test]
        fn any_name_can_be_parsed(name in "\\PC*|[kh]\\.[%0-9a-z.]*(\\.corrupt-[0-9]*)?") {
            if let FileName::Key(key) = parse(&name) {
                prop_assert_eq!(of_key(&key), name);
            }
        }
    }
}
