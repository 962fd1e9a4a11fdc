//! The rules for keys and values, the same for every backend.

use std::fmt;
use std::io::{self, Write};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::MemoryError;

/// The longest key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 512;

/// The largest value by default, in bytes of JSON: 1 MiB.
pub const MAX_VALUE_BYTES: usize = 1 << 20;

/// How deeply arrays and objects can be nested in a value: what serde_json can read back.
pub const MAX_DEPTH: usize = 127;

/// Checks the rule for keys: 1 to [`MAX_KEY_BYTES`] bytes.
pub fn check_key(key: &str) -> Result<(), MemoryError> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(());
    }
    Err(MemoryError::KeyLength { len: key.len(), max: MAX_KEY_BYTES })
}

/// `value` as JSON, if it can be read back and takes at most `max` bytes. Needs no more memory
/// than that, however large the value is.
pub fn encode_value(key: &str, value: &Value, max: usize) -> Result<Vec<u8>, MemoryError> {
    if !nests_at_most(value, MAX_DEPTH) {
        return Err(MemoryError::InvalidValue {
            key: key.to_owned(),
            reason: format!("it is nested more than {MAX_DEPTH} levels deep"),
        });
    }
    let mut bounded = Bounded { bytes: Vec::new(), max };
    // JSON's only other error is the writer's: a `Value` has text as keys and no NaN.
    serde_json::to_writer(&mut bounded, value)
        .map_err(|_| MemoryError::ValueTooLarge { key: key.to_owned(), max })?;
    Ok(bounded.bytes)
}

/// The value that [`encode_value`] made `json` of.
pub fn decode_value(key: &str, json: &[u8]) -> Result<Value, MemoryError> {
    serde_json::from_slice(json).map_err(|error| MemoryError::InvalidValue {
        key: key.to_owned(),
        reason: error.to_string(),
    })
}

/// Checks that `json` is something that [`decode_value`] can read, without keeping it.
#[cfg_attr(all(target_arch = "wasm32", target_os = "unknown"), allow(dead_code))]
pub(super) fn check_json(key: &str, json: &[u8], max: usize) -> Result<(), MemoryError> {
    if json.len() > max {
        return Err(MemoryError::ValueTooLarge { key: key.to_owned(), max });
    }
    match serde_json::from_slice::<Checked>(json) {
        Ok(Checked) => Ok(()),
        Err(error) => {
            Err(MemoryError::InvalidValue { key: key.to_owned(), reason: error.to_string() })
        }
    }
}

/// Looks no deeper than `levels`, so that it needs no more stack than that.
fn nests_at_most(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(values) => {
            levels > 0 && values.iter().all(|value| nests_at_most(value, levels - 1))
        }
        Value::Object(fields) => {
            levels > 0 && fields.values().all(|value| nests_at_most(value, levels - 1))
        }
        _ => true,
    }
}

/// A writer that refuses what would be more than `max` bytes.
struct Bounded {
    bytes: Vec<u8>,
    max: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.max - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Any JSON, read the way a `Value` is (with the same limits) and dropped at once. serde's
/// `IgnoredAny` would not do: serde_json skips it without a limit of depth.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, level| {
            if level % 2 == 0 {
                json!([inner])
            } else {
                json!({ "a": inner })
            }
        })
    }

    #[test]
    fn keys_have_1_to_512_bytes() {
        for good in ["a", " ", "\0", &"k".repeat(512), &"é".repeat(256)] {
            assert_eq!(check_key(good), Ok(()), "{good:?}");
        }
        for bad in ["", &"k".repeat(513), &"é".repeat(257)] {
            assert!(check_key(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_value_and_one_byte_more() {
        let json = encode_value("k", &json!("123456"), 8).expect("8 bytes fit");
        assert_eq!(decode_value("k", &json), Ok(json!("123456")));
        assert_eq!(check_json("k", &json, 8), Ok(()));
        let too_large = Err(MemoryError::ValueTooLarge { key: "k".into(), max: 7 });
        assert_eq!(encode_value("k", &json!("123456"), 7), too_large);
        assert_eq!(check_json("k", &json, 7), too_large.map(drop));
    }

    #[test]
    fn the_deepest_value_comes_back_and_a_deeper_one_is_refused() {
        let deepest = nested(MAX_DEPTH);
        let json = encode_value("k", &deepest, 9999).expect("127 levels");
        assert_eq!(check_json("k", &json, 9999), Ok(()));
        assert_eq!(decode_value("k", &json), Ok(deepest));

        let deeper = nested(MAX_DEPTH + 1);
        let error = encode_value("k", &deeper, 9999).expect_err("128 levels");
        assert!(error.to_string().contains("more than 127 levels"), "{error}");
        let json = deeper.to_string();
        assert!(check_json("k", json.as_bytes(), 9999).is_err());
        assert!(decode_value("k", json.as_bytes()).is_err());
    }

    #[test]
    fn the_check_refuses_what_decoding_refuses() {
        let cases = [
            "",
            "nul",
            "1 2",
            "[1,]",
            "{\"a\":}",
            "{1:2}",
            "1e999",
            "\"\u{1}\"",
            "\"\\ud800\"",
            "null",
            "true",
            "-1",
            "1.5",
            "18446744073709551616",
            "\"\\u00e9\"",
            "[[],{}]",
            "{\"a\":1,\"a\":2}",
            " 1 ",
        ];
        for json in cases {
            assert_eq!(
                check_json("k", json.as_bytes(), 99).is_ok(),
                decode_value("k", json.as_bytes()).is_ok(),
                "{json}"
            );
        }
        assert!(check_json("k", b"\"\xff\"", 99).is_err());
    }
}
