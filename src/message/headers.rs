//! Message headers (ADR-4): names with their case kept, repeated as often as one likes, and a
//! status that the server puts into the first line.

use std::fmt;

use thiserror::Error;

use crate::error::{shown, shown_bytes};

const VERSION: &[u8] = b"NATS/1.0";

/// A header that is refused, or a block of headers that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// A name is made of visible ASCII characters without `:`.
    #[error("{0} is not a header name: 1 to 1024 visible ASCII characters other than a colon")]
    Name(String),
    /// A value could end its line.
    #[error("the value of the header {0} has a line break or another control character")]
    Value(String),
    /// The block does not start with `NATS/1.0`.
    #[error("headers start with NATS/1.0, these start with {0}")]
    Version(String),
    /// What follows `NATS/1.0` is not three digits and a text.
    #[error("{0} is not a status line: three digits and a text follow NATS/1.0")]
    Status(String),
    /// A line has no colon.
    #[error("the header line {0} has no name before a colon")]
    Line(String),
}

/// The headers of a message, in their order. Names are compared as they are written: `Id` and `id`
/// are two names.
///
/// What is in here has been checked: no name has a colon, no value a line break.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    status: Option<(StatusCode, String)>,
    fields: Vec<(String, String)>,
}

/// The status in the first line of a message's headers, 0 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusCode(u16);

impl StatusCode {
    /// Nobody subscribes to the subject of a request.
    pub const NO_RESPONDERS: Self = Self(503);

    /// The three digits as a number.
    pub const fn as_u16(self) -> u16 {
        self.0
    }

    /// Reads the status out of a block of headers without looking at the rest.
    pub(crate) fn peek(block: &[u8]) -> Option<Self> {
        match block.strip_prefix(VERSION)? {
            [b' ', a, b, c, b' ' | b'\r', ..] => Self::from_digits([*a, *b, *c]),
            _ => None,
        }
    }

    fn from_digits(digits: [u8; 3]) -> Option<Self> {
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| Self(digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'))))
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}

impl Headers {
    /// The longest name, in bytes.
    pub const MAX_NAME_LEN: usize = 1024;

    /// No headers. Allocates nothing.
    pub const fn new() -> Self {
        Self { status: None, fields: Vec::new() }
    }

    /// No headers, for calls that want some.
    pub fn none() -> &'static Self {
        static NONE: Headers = Headers::new();
        &NONE
    }

    /// Adds a field, after those of the same name.
    pub fn append(
        &mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), HeaderError> {
        let (name, value) = (name.into(), value.into());
        let name_is_fine = (1..=Self::MAX_NAME_LEN).contains(&name.len())
            && name.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b':');
        if !name_is_fine {
            return Err(HeaderError::Name(shown(&name)));
        }
        // A tab is the one control character that is text.
        if value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(HeaderError::Value(shown(&name)));
        }
        self.fields.push((name, value));
        Ok(())
    }

    /// Sets a field, in place of all of the same name.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), HeaderError> {
        let name = name.into();
        let before = self.fields.len();
        self.append(name.as_str(), value)?;
        let mut at = 0;
        self.fields.retain(|(other, _)| {
            at += 1;
            at > before || *other != name
        });
        Ok(())
    }

    /// The first value of `name`.
    pub fn value(&self, name: &str) -> Option<&str> {
        let (_, value) = self.iter().find(|(other, _)| *other == name)?;
        Some(value)
    }

    /// All values of `name`, in their order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.iter().filter_map(move |(other, value)| (other == name).then_some(value))
    }

    /// All fields, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The status that the server put into the first line, if any.
    pub fn status(&self) -> Option<StatusCode> {
        self.status.as_ref().map(|(code, _)| *code)
    }

    /// The text after the status; empty if there is none.
    pub fn status_text(&self) -> &str {
        self.status.as_ref().map_or("", |(_, text)| text)
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The length of the block that [`Headers::encode`] writes.
    #[cfg_attr(not(feature = "nats-core"), allow(dead_code, reason = "the client's"))]
    pub(crate) fn encoded_len(&self) -> usize {
        let lines: usize = self.fields.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        VERSION.len() + 2 + lines + 2
    }

    /// Writes the block, up to and with the empty line. A status is the server's alone, and is left
    /// out.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(VERSION);
        into.extend_from_slice(b"\r\n");
        for (name, value) in &self.fields {
            into.extend_from_slice(name.as_bytes());
            into.extend_from_slice(b": ");
            into.extend_from_slice(value.as_bytes());
            into.extend_from_slice(b"\r\n");
        }
        into.extend_from_slice(b"\r\n");
    }

    /// Reads a block as it comes with a message. The server passes on what a publisher sent without
    /// looking, so that this may be anything; a value that is not UTF-8 gets replacement characters.
    pub fn parse(block: &[u8]) -> Result<Self, HeaderError> {
        let mut lines = block.split(|&b| b == b'\n').map(|line| {
            // A value may not have a carriage return, so that none is lost here.
            line.strip_suffix(b"\r").unwrap_or(line)
        });
        let first = lines.next().unwrap_or_default();
        let status =
            first.strip_prefix(VERSION).ok_or_else(|| HeaderError::Version(shown_bytes(first)))?;
        let mut headers = Self { status: parse_status(status)?, fields: Vec::new() };
        for line in lines.filter(|line| !line.is_empty()) {
            let colon = line.iter().position(|&b| b == b':').filter(|&at| at > 0);
            let (name, value) = colon
                .and_then(|at| Some((line.get(..at)?, line.get(at + 1..)?)))
                .ok_or_else(|| HeaderError::Line(shown_bytes(line)))?;
            let value = String::from_utf8_lossy(value.trim_ascii()).into_owned();
            headers.append(String::from_utf8_lossy(name), value)?;
        }
        Ok(headers)
    }
}

/// What follows the version: nothing, or ` 503`, or ` 409 Consumer Deleted`.
fn parse_status(rest: &[u8]) -> Result<Option<(StatusCode, String)>, HeaderError> {
    let rest = rest.trim_ascii();
    if rest.is_empty() {
        return Ok(None);
    }
    let refused = || HeaderError::Status(shown_bytes(rest));
    let (digits, text) = rest.split_first_chunk::<3>().ok_or_else(refused)?;
    let code = StatusCode::from_digits(*digits).ok_or_else(refused)?;
    if !text.is_empty() && !text.starts_with(b" ") {
        return Err(refused());
    }
    let text = String::from_utf8_lossy(text.trim_ascii()).into_owned();
    Ok(Some((code, text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(headers: &Headers) -> Vec<u8> {
        let mut block = Vec::new();
        headers.encode(&mut block);
        assert_eq!(block.len(), headers.encoded_len());
        block
    }

    #[test]
    fn names_keep_their_case_and_repeat() {
        let mut headers = Headers::new();
        assert!(headers.is_empty());
        for (name, value) in [("Id", "1"), ("id", "2"), ("Id", "3")] {
            headers.append(name, value).expect("a header");
        }
        assert_eq!(headers.values("Id").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(headers.value("id"), Some("2"));
        assert_eq!(headers.value("ID"), None);
        let block = encoded(&headers);
        assert_eq!(block, b"NATS/1.0\r\nId: 1\r\nid: 2\r\nId: 3\r\n\r\n");
        assert_eq!(Headers::parse(&block), Ok(headers.clone()));
        headers.insert("Id", "4").expect("a header");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("id", "2"), ("Id", "4")]);
        headers.insert("Id", "a\nb").expect_err("refused");
        assert_eq!(headers.value("Id"), Some("4"), "and nothing changed");
    }

    #[test]
    fn what_could_end_a_line_is_refused() {
        let mut headers = Headers::new();
        for name in ["", "a:b", "a b", "a\r\n", "a\n", "ä", "a\0", &"n".repeat(1025)] {
            let error = headers.append(name, "v").expect_err("a bad name");
            assert!(matches!(error, HeaderError::Name(_)), "{name:?}");
        }
        for value in ["a\rb", "a\nb", "a\r\nEvil: 1", "\0"] {
            let error = headers.append("Name", value).expect_err("a bad value");
            assert!(matches!(error, HeaderError::Value(_)), "{value:?}");
        }
        assert!(headers.is_empty());
    }

    #[test]
    fn a_status_as_the_server_writes_it() {
        for (block, code, text) in [
            (&b"NATS/1.0 503\r\n\r\n"[..], 503, ""),
            (b"NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n", 100, "Idle Heartbeat"),
            (b"NATS/1.0 409 Consumer Deleted\r\n\r\n", 409, "Consumer Deleted"),
        ] {
            let headers = Headers::parse(block).expect("a block");
            assert_eq!(headers.status().map(StatusCode::as_u16), Some(code));
            assert_eq!(headers.status_text(), text);
            assert_eq!(StatusCode::peek(block), headers.status());
        }
        assert_eq!(StatusCode::peek(b"NATS/1.0\r\n\r\n"), None);
    }

    #[test]
    fn what_is_no_block_is_said() {
        type Expected = fn(&HeaderError) -> bool;
        let table: &[(&[u8], Expected)] = &[
            (b"", |e| matches!(e, HeaderError::Version(_))),
            (b"HTTP/1.1 200\r\n\r\n", |e| matches!(e, HeaderError::Version(_))),
            (b"NATS/1.0 5x3\r\n\r\n", |e| matches!(e, HeaderError::Status(_))),
            (b"NATS/1.0 5033\r\n\r\n", |e| matches!(e, HeaderError::Status(_))),
            (b"NATS/1.0\r\nnope\r\n\r\n", |e| matches!(e, HeaderError::Line(_))),
            (b"NATS/1.0\r\n: v\r\n\r\n", |e| matches!(e, HeaderError::Line(_))),
        ];
        for (block, expected) in table {
            let error = Headers::parse(block).expect_err("no block");
            assert!(expected(&error), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_headers_or_an_error(tail in proptest::collection::vec(any::<u8>(), 0..80)) {
            let block = [VERSION, b"\r\n", &tail].concat();
            for input in [&tail, &block] {
                if let Ok(headers) = Headers::parse(input) {
                    prop_assert_eq!(Headers::parse(&encoded(&headers)).map(|h| h.fields), Ok(headers.fields));
                }
            }
        }
    }
}
