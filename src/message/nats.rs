//! What comes on a NATS subject.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

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
    source: Arc<Source>,
    /// Which of its messages. (All of a message moves with it, and a move of more than 32 bytes is a
    /// call into the runtime.)
    at: u32,
}

/// The buffer that messages came in, and where they are.
#[derive(Debug)]
pub(crate) struct Source {
    bytes: Bytes,
    layout: Layout,
}

/// Where the parts of messages are.
#[derive(Clone, Copy, Debug)]
enum Layout {
    /// There is one message.
    One(MessageParts),
    /// There are several, whose [`MessageParts`] lie from `start` on, each in [`MessageParts::LEN`]
    /// bytes; what they point into begins at `base`.
    #[cfg_attr(not(feature = "nats-core"), allow(dead_code, reason = "none comes together"))]
    Index { start: u32, base: u32 },
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
    const LEN: usize = 8;

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.range()).unwrap_or_default()
    }

    #[cfg_attr(not(feature = "nats-core"), allow(dead_code, reason = "the client's"))]
    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    #[cfg_attr(not(feature = "nats-core"), allow(dead_code, reason = "the client's"))]
    fn encode(self, base: u32) -> [u8; Self::LEN] {
        let (start, end) = (u64::from(self.start + base), u64::from(self.end + base));
        (start | end << 32).to_le_bytes()
    }

    fn decode(bytes: [u8; Self::LEN], base: u32) -> Self {
        let both = u64::from_le_bytes(bytes);
        let (start, end) = (both as u32, (both >> 32) as u32);
        Self { start: start.saturating_add(base), end: end.saturating_add(base) }
    }
}

impl MessageParts {
    pub(crate) const LEN: usize = 4 * Part::LEN;

    fn parts(&self) -> [Part; 4] {
        [self.subject, self.reply, self.headers, self.payload]
    }

    /// As an index has them, for a message that is put at `base`.
    #[cfg(feature = "nats-core")]
    #[allow(dead_code, reason = "for a host whose reader passes messages on to other processes")]
    pub(crate) fn encode(&self, base: u32) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (parts, _) = bytes.as_chunks_mut::<{ Part::LEN }>();
        parts.iter_mut().zip(self.parts()).for_each(|(bytes, part)| *bytes = part.encode(base));
        bytes
    }

    /// Whether subject and reply subject are text.
    #[cfg_attr(not(feature = "nats-core"), allow(dead_code, reason = "the client's"))]
    pub(crate) fn are_text(&self, bytes: &[u8]) -> bool {
        utf8(self.subject.of(bytes)).is_some()
            && (self.reply.is_empty() || utf8(self.reply.of(bytes)).is_some())
    }
}

impl Source {
    /// Several messages: their index at `start`, and behind its `messages` entries what it points into.
    /// `None` if the index is not all there.
    #[cfg(feature = "nats-core")]
    #[allow(dead_code, reason = "for a host whose reader passes messages on to other processes")]
    pub(crate) fn indexed(bytes: Vec<u8>, start: usize, messages: usize) -> Option<Arc<Self>> {
        let base = messages.checked_mul(MessageParts::LEN)?.checked_add(start)?;
        bytes.get(..base)?;
        let (start, base) = (u32::try_from(start).ok()?, u32::try_from(base).ok()?);
        Some(Arc::new(Self { bytes: bytes.into(), layout: Layout::Index { start, base } }))
    }

    fn part(&self, at: u32, which: usize) -> Part {
        match &self.layout {
            Layout::One(parts) => parts.parts().get(which).copied().unwrap_or_default(),
            &Layout::Index { start, base } => {
                let start = start as usize + at as usize * MessageParts::LEN + which * Part::LEN;
                let bytes = self.bytes.get(start..).and_then(<[u8]>::first_chunk);
                bytes.map_or(Part::default(), |&bytes| Part::decode(bytes, base))
            }
        }
    }
}

const SUBJECT: usize = 0;
const REPLY: usize = 1;
const HEADERS: usize = 2;
const PAYLOAD: usize = 3;

impl NatsMessage {
    /// A message that did not come from a server: for hosts with another client, and for tests.
    pub fn new(subject: &str, reply: Option<&str>, headers: &Headers, payload: &[u8]) -> Self {
        let mut block = Vec::new();
        if !headers.is_empty() {
            headers.encode(&mut block);
        }
        Self::with_header_block(subject, reply, &block, payload)
    }

    /// The same with headers as they stand on the wire, status and all; none if it is empty.
    pub(crate) fn with_header_block(
        subject: &str,
        reply: Option<&str>,
        headers: &[u8],
        payload: &[u8],
    ) -> Self {
        let len = subject.len() + reply.map_or(0, str::len) + headers.len() + payload.len();
        let mut bytes = Vec::with_capacity(len);
        let mut part = |content: &[u8]| {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(content);
            Part { start, end: bytes.len() as u32 }
        };
        let parts = MessageParts {
            subject: part(subject.as_bytes()),
            reply: part(reply.unwrap_or_default().as_bytes()),
            headers: part(headers),
            payload: part(payload),
        };
        Self::of(bytes.into(), parts)
    }

    fn of(bytes: Bytes, parts: MessageParts) -> Self {
        Self { source: Arc::new(Source { bytes, layout: Layout::One(parts) }), at: 0 }
    }

    /// A message whose parts are somewhere in `bytes`. `None` if one that has to be text is none.
    #[cfg(feature = "nats-core")]
    pub(crate) fn from_parts(bytes: Bytes, parts: &MessageParts) -> Option<Self> {
        parts.are_text(&bytes).then(|| Self::of(bytes, *parts))
    }

    /// A message that came with others. Who put them together has seen that what has to be text is;
    /// where it is none, it is empty.
    #[cfg(feature = "nats-core")]
    #[allow(dead_code, reason = "for a host whose reader passes messages on to other processes")]
    pub(crate) fn from_source(source: &Arc<Source>, at: u32) -> Self {
        Self { source: Arc::clone(source), at }
    }

    fn slice(&self, which: usize) -> &[u8] {
        self.source.part(self.at, which).of(&self.source.bytes)
    }

    /// The subject that it was published to.
    pub fn subject(&self) -> &str {
        utf8(self.slice(SUBJECT)).unwrap_or_default()
    }

    /// Where an answer is expected.
    pub fn reply(&self) -> Option<&str> {
        utf8(self.slice(REPLY)).filter(|reply| !reply.is_empty())
    }

    /// What it says.
    pub fn payload(&self) -> &[u8] {
        self.slice(PAYLOAD)
    }

    /// What it says, sharing the buffer.
    pub fn payload_bytes(&self) -> Bytes {
        self.source.bytes.slice_ref(self.payload())
    }

    /// The headers as they came, unread.
    pub fn header_block(&self) -> Option<&[u8]> {
        Some(self.slice(HEADERS)).filter(|block| !block.is_empty())
    }

    /// The headers; none of them if it came without. A publisher can send any bytes for headers, so
    /// that this can fail.
    pub fn headers(&self) -> Result<Headers, HeaderError> {
        self.header_block().map_or(Ok(Headers::new()), Headers::parse)
    }

    /// The status in the first line of the headers, if any: 503 says that nobody is there to answer.
    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::peek(self.slice(HEADERS))
    }

    /// Whether the server says with it, in place of an answer, that nobody is there to give one.
    pub fn is_no_responders(&self) -> bool {
        self.status() == Some(StatusCode::NO_RESPONDERS) && self.payload().is_empty()
    }
}

impl PartialEq for NatsMessage {
    /// Whether they say the same, wherever they came from.
    fn eq(&self, other: &Self) -> bool {
        [SUBJECT, REPLY, HEADERS, PAYLOAD].iter().all(|&part| self.slice(part) == other.slice(part))
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

    #[cfg(feature = "nats-core")]
    #[test]
    fn several_share_a_buffer() {
        let mut bytes = b"head".to_vec();
        let part = |start, end| Part { start, end };
        let first = MessageParts { subject: part(0, 1), payload: part(1, 3), ..Default::default() };
        let second = MessageParts { subject: part(0, 1), reply: part(1, 2), ..Default::default() };
        bytes.extend(first.encode(0));
        bytes.extend(second.encode(3));
        let index_only = Source::indexed(bytes.clone(), 4, 2).expect("an index");
        assert_eq!(NatsMessage::from_source(&index_only, 0).subject(), "");
        assert!(Source::indexed(bytes.clone(), 4, 3).is_none());
        assert!(Source::indexed(bytes.clone(), 4, usize::MAX).is_none());
        bytes.extend(b"axybr");
        let source = Source::indexed(bytes, 4, 2).expect("an index");
        let message = |at| NatsMessage::from_source(&source, at);
        assert_eq!((message(0).subject(), message(0).payload()), ("a", &b"xy"[..]));
        assert_eq!((message(1).subject(), message(1).reply()), ("b", Some("r")));
        assert_eq!(message(7).subject(), "", "no message, and no panic");
    }

    #[cfg(feature = "nats-core")]
    #[test]
    fn parts_that_lie_elsewhere_are_empty_and_no_text_is_no_message() {
        let part = |start, end| Part { start, end };
        let parts = MessageParts { subject: part(2, 9), reply: part(5, 3), ..Default::default() };
        let message = NatsMessage::from_parts(Bytes::from_static(b"abc"), &parts).expect("empty");
        assert_eq!((message.subject(), message.reply()), ("", None));
        let parts = MessageParts { subject: part(0, 1), ..Default::default() };
        assert_eq!(NatsMessage::from_parts(Bytes::from_static(b"\xff"), &parts), None);
    }
}
