//! Payloads between the processes of one node. JSON is for the wire: to write it, look for what is
//! to be escaped, and read it again takes longer than all the rest of a mailbox send. So a value
//! travels as what it is: a tag, a length where there is one, and its bytes.

use serde_json::{Map, Number, Value};
use thiserror::Error;

use crate::text::utf8;

/// How deep a payload may be: as deep as JSON may be that `serde_json` reads.
const MAX_DEPTH: usize = 127;

/// A payload that cannot travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// It is too deep.
    #[error("a payload has at most 127 arrays and objects inside each other")]
    TooDeep,
    /// A text or a list in it is longer than can be said.
    #[error("a text or a list of a payload has at most 4294967295 bytes or entries")]
    TooLong,
    /// The bytes are not what this library writes.
    #[error("the bytes of the payload are not what was written")]
    Garbled,
}

/// Appends what a payload is to `out`; what an error leaves there is to be dropped.
pub fn encode_payload(payload: &Value, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    write(payload, out, MAX_DEPTH)
}

/// Reads a payload.
pub fn decode_payload(bytes: &[u8]) -> Result<Value, PayloadError> {
    let mut reader = Reader { rest: bytes };
    let value = reader.value(MAX_DEPTH)?;
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(PayloadError::Garbled)
    }
}

/// How many bytes [`encode_payload`] would write, for a host whose payloads travel as they are and are
/// bounded all the same.
pub fn payload_size(payload: &Value) -> Result<usize, PayloadError> {
    size(payload, MAX_DEPTH)
}

fn size(value: &Value, depth: usize) -> Result<usize, PayloadError> {
    /// A tag and a length.
    const HEAD: usize = 5;
    Ok(match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(_) => 9,
        Value::String(text) => HEAD + text.len(),
        Value::Array(values) => {
            let depth = depth.checked_sub(1).ok_or(PayloadError::TooDeep)?;
            let mut sum = HEAD;
            for value in values {
                sum += size(value, depth)?;
            }
            sum
        }
        Value::Object(fields) => {
            let depth = depth.checked_sub(1).ok_or(PayloadError::TooDeep)?;
            let mut sum = HEAD;
            for (name, value) in fields {
                sum += HEAD + name.len() + size(value, depth)?;
            }
            sum
        }
    })
}

fn write(value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), PayloadError> {
    match value {
        Value::Null => out.push(b'n'),
        Value::Bool(true) => out.push(b't'),
        Value::Bool(false) => out.push(b'f'),
        Value::Number(number) => write_number(number, out),
        Value::String(text) => {
            write_head(b's', text.len(), out)?;
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(values) => {
            let depth = depth.checked_sub(1).ok_or(PayloadError::TooDeep)?;
            write_head(b'a', values.len(), out)?;
            for value in values {
                write(value, out, depth)?;
            }
        }
        Value::Object(fields) => {
            let depth = depth.checked_sub(1).ok_or(PayloadError::TooDeep)?;
            write_head(b'o', fields.len(), out)?;
            for (name, value) in fields {
                write_head(b's', name.len(), out)?;
                out.extend_from_slice(name.as_bytes());
                write(value, out, depth)?;
            }
        }
    }
    Ok(())
}

fn write_number(number: &Number, out: &mut Vec<u8>) {
    let (tag, bytes) = if let Some(number) = number.as_u64() {
        (b'u', number.to_le_bytes())
    } else if let Some(number) = number.as_i64() {
        (b'i', number.to_le_bytes())
    } else {
        // The only kind that is left.
        (b'd', number.as_f64().unwrap_or_default().to_le_bytes())
    };
    out.push(tag);
    out.extend_from_slice(&bytes);
}

fn write_head(tag: u8, len: usize, out: &mut Vec<u8>) -> Result<(), PayloadError> {
    let len = u32::try_from(len).map_err(|_| PayloadError::TooLong)?;
    let [a, b, c, d] = len.to_le_bytes();
    out.extend_from_slice(&[tag, a, b, c, d]);
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, PayloadError> {
        Ok(match self.array::<1>()? {
            [b'n'] => Value::Null,
            [b't'] => Value::Bool(true),
            [b'f'] => Value::Bool(false),
            [b'u'] => u64::from_le_bytes(self.array()?).into(),
            [b'i'] => i64::from_le_bytes(self.array()?).into(),
            [b'd'] => {
                let number = Number::from_f64(f64::from_le_bytes(self.array()?));
                Value::Number(number.ok_or(PayloadError::Garbled)?)
            }
            [b's'] => Value::String(self.text()?.to_owned()),
            [b'a'] => {
                let depth = depth.checked_sub(1).ok_or(PayloadError::TooDeep)?;
                let len = self.len()?;
                let mut values = Vec::with_capacity(len);
                for _ in 0..len {
                    values.push(self.value(depth)?);
                }
                Value::Array(values)
            }
            [b'o'] => {
                let depth = depth.checked_sub(1).ok_or(PayloadError::TooDeep)?;
                let mut fields = Map::new();
                for _ in 0..self.len()? {
                    if self.array()? != *b"s" {
                        return Err(PayloadError::Garbled);
                    }
                    let name = self.text()?.to_owned();
                    fields.insert(name, self.value(depth)?);
                }
                Value::Object(fields)
            }
            _ => return Err(PayloadError::Garbled),
        })
    }

    fn text(&mut self) -> Result<&'a str, PayloadError> {
        let len = self.len()?;
        let (text, rest) = self.rest.split_at_checked(len).ok_or(PayloadError::Garbled)?;
        self.rest = rest;
        utf8(text).ok_or(PayloadError::Garbled)
    }

    /// A length. Each byte or entry takes at least one byte of what is left, so that nothing is
    /// reserved for more than is there.
    fn len(&mut self) -> Result<usize, PayloadError> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        if len <= self.rest.len() {
            Ok(len)
        } else {
            Err(PayloadError::Garbled)
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PayloadError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or(PayloadError::Garbled)?;
        self.rest = rest;
        Ok(*array)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn there_and_back(value: &Value) -> Result<Value, PayloadError> {
        let mut out = b"before".to_vec();
        encode_payload(value, &mut out)?;
        decode_payload(&out[6..])
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let value = json!([
            null, true, false, 0, u64::MAX, -1, i64::MIN, 0.5, -0.0, "", "ä\"\\\n€",
            [], {}, {"a": {"b": [1, "c"]}, "": null}
        ]);
        assert_eq!(there_and_back(&value), Ok(value));
    }

    #[test]
    fn depth_is_bounded_both_ways() {
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert_eq!(there_and_back(&nested(127)), Ok(nested(127)));
        assert_eq!(there_and_back(&nested(128)), Err(PayloadError::TooDeep));
        assert_eq!(payload_size(&nested(127)), Ok(127 * 5 + 1));
        assert_eq!(payload_size(&nested(128)), Err(PayloadError::TooDeep));
        let forged: Vec<u8> = b"a\x01\0\0\0".iter().copied().cycle().take(5 * 100_000).collect();
        assert_eq!(decode_payload(&forged), Err(PayloadError::TooDeep));
    }

    #[test]
    fn a_length_that_is_not_there_reserves_nothing() {
        for forged in [&b"s\xff\xff\xff\xff"[..], b"a\xff\xff\xff\xffn", b"o\x01\0\0\0", b"", b"x"]
        {
            assert_eq!(decode_payload(forged), Err(PayloadError::Garbled), "{forged:?}");
        }
        assert_eq!(decode_payload(b"nn"), Err(PayloadError::Garbled), "something is left");
        assert_eq!(decode_payload(b"d\0\0\0\0\0\0\xf8\x7f"), Err(PayloadError::Garbled), "NaN");
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_value_comes_back(value in values()) {
            let mut out = Vec::new();
            encode_payload(&value, &mut out).expect("not deep");
            prop_assert_eq!(payload_size(&value), Ok(out.len()));
            prop_assert_eq!(there_and_back(&value), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = decode_payload(&bytes) {
                prop_assert_eq!(there_and_back(&value), Ok(value));
            }
        }

        #[test]
        fn a_cut_payload_is_refused(value in values(), cut in any::<prop::sample::Index>()) {
            let mut out = Vec::new();
            encode_payload(&value, &mut out).expect("not deep");
            out.truncate(cut.index(out.len()));
            prop_assert_eq!(decode_payload(&out), Err(PayloadError::Garbled));
        }
    }
}
