//! What comes on a NATS subject.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use super::headers::{HeaderError, Headers, StatusCode};
use crate::text::utf8;

/// A message from NATS, for who subscribed to its subject.
///
/// It shares the buffer that it came in, with what came together with it: nothing is copied, and
/// the buffer (at most some 128 KiB, unless one message is larger) stays in memory for as long as
/// one message of it lives. What is to be kept for long is better copied out of it.
///
/// Subject and reply subject are what some publisher made them; only that they are UTF-8 without
/// white space is sure.
#[derive(Clone)]
pub struct NatsMessage {
    bytes: Bytes,
    parts: MessageParts,
}

/// Where the parts of a message are in its bytes. An empty one is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MessageParts {
    pub(crate) subject: Part,
    pub(crate) reply: Part,
    pub(crate) headers: Part,
    pub(crate) payload: Part,
}

/// A range of bytes. Messages are far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Part {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

impl MessageParts {
    /// Whether subject and reply subject are text.
    pub(crate) fn are_text(&self, bytes: &[u8]) -> bool {
        utf8(self.subject.of(bytes)).is_some()
            && (self.reply.is_empty() || utf8(self.reply.of(bytes)).is_some())
    }

    pub(crate) fn subject<'a>(&self, bytes: &'a [u8]) -> &'a str {
        // Checked where the message was taken in.
        utf8(self.subject.of(bytes)).unwrap_or_default()
    }

    pub(crate) fn reply<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        if self.reply.is_empty() {
            return None;
        }
        utf8(self.reply.of(bytes))
    }

    pub(crate) fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.payload.of(bytes)
    }

    pub(crate) fn status(&self, bytes: &[u8]) -> Option<StatusCode> {
        StatusCode::peek(self.headers.of(bytes))
    }
}

impl NatsMessage {
    /// A message that did not come from a server: for hosts with another client, and for tests.
    pub fn new(subject: &str, reply: Option<&str>, headers: &Headers, payload: &[u8]) -> Self {
        let mut bytes = Vec::new();
        let mut part = |write: &mut dyn FnMut(&mut Vec<u8>)| {
            let start = bytes.len() as u32;
            write(&mut bytes);
            Part { start, end: bytes.len() as u32 }
        };
        let parts = MessageParts {
            subject: part(&mut |bytes| bytes.extend_from_slice(subject.as_bytes())),
            reply: part(&mut |bytes| {
                bytes.extend_from_slice(reply.unwrap_or_default().as_bytes());
            }),
            headers: part(&mut |bytes| {
                if !headers.is_empty() {
                    headers.encode(bytes);
                }
            }),
            payload: part(&mut |bytes| bytes.extend_from_slice(payload)),
        };
        Self { bytes: bytes.into(), parts }
    }

    /// A message whose parts are somewhere in `bytes`. `None` if one that has to be text is none.
    pub(crate) fn from_parts(bytes: Bytes, parts: MessageParts) -> Option<Self> {
        parts.are_text(&bytes).then_some(Self { bytes, parts })
    }

    /// The subject that it was published to.
    pub fn subject(&self) -> &str {
        self.parts.subject(&self.bytes)
    }

    /// Where an answer is expected.
    pub fn reply(&self) -> Option<&str> {
        self.parts.reply(&self.bytes)
    }

    /// What it says.
    pub fn payload(&self) -> &[u8] {
        self.parts.payload(&self.bytes)
    }

    /// What it says, sharing the buffer.
    pub fn payload_bytes(&self) -> Bytes {
        self.bytes.slice_ref(self.payload())
    }

    /// The headers as they came, unread.
    pub fn header_block(&self) -> Option<&[u8]> {
        Some(self.parts.headers.of(&self.bytes)).filter(|block| !block.is_empty())
    }

    /// The headers; none of them if it came without. A publisher can send any bytes for headers, so
    /// that this can fail.
    pub fn headers(&self) -> Result<Headers, HeaderError> {
        self.header_block().map_or(Ok(Headers::new()), Headers::parse)
    }

    /// The status in the first line of the headers, if any: 503 says that nobody is there to answer.
    pub fn status(&self) -> Option<StatusCode> {
        self.parts.status(&self.bytes)
    }
}

impl PartialEq for NatsMessage {
    /// Whether they say the same, wherever they came from.
    fn eq(&self, other: &Self) -> bool {
        let parts = |m: &Self| [m.parts.subject, m.parts.reply, m.parts.headers, m.parts.payload];
        let (mine, theirs) = (parts(self), parts(other));
        mine.iter().zip(theirs).all(|(a, b)| a.of(&self.bytes) == b.of(&other.bytes))
    }
}

impl Eq for NatsMessage {}

impl fmt::Debug for NatsMessage {
    /// Without what it says, which is other people's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsMessage")
            .field("subject", &self.subject())
            .field("reply", &self.reply())
            .field("status", &self.status())
            .field("payload_len", &self.payload().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_what_they_were_made_of() {
        let mut headers = Headers::new();
        headers.append("Id", "7").expect("a header");
        let message = NatsMessage::new("a.b", Some("r"), &headers, b"hello");
        assert_eq!((message.subject(), message.reply()), ("a.b", Some("r")));
        assert_eq!(message.headers(), Ok(headers));
        assert_eq!(
            (message.payload(), &message.payload_bytes()[..]),
            (&b"hello"[..], &b"hello"[..])
        );
        assert_eq!(message, message.clone());
        let plain = NatsMessage::new("a.b", None, &Headers::new(), b"");
        assert_eq!((plain.reply(), plain.header_block(), plain.payload()), (None, None, &b""[..]));
        assert_ne!(message, plain);
        assert!(!format!("{message:?}").contains("hello"));
    }

    #[test]
    fn parts_that_lie_elsewhere_are_empty_and_no_text_is_no_message() {
        let part = |start, end| Part { start, end };
        let parts = MessageParts { subject: part(2, 9), reply: part(5, 3), ..Default::default() };
        let message = NatsMessage::from_parts(Bytes::from_static(b"abc"), parts).expect("empty");
        assert_eq!((message.subject(), message.reply()), ("", None));
        let parts = MessageParts { subject: part(0, 1), ..Default::default() };
        assert_eq!(NatsMessage::from_parts(Bytes::from_static(b"\xff"), parts), None);
    }
}
