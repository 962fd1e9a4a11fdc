//! A message as it came: one piece of the receive buffer, and where its parts are.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::nats::error::HeaderError;
use crate::nats::headers::{Headers, StatusCode};

/// A message for a subscription.
///
/// It shares the receive buffer instead of copying from it: cheap to clone, and it keeps the buffer
/// that it came in (a WebSocket frame, some 64 KiB) in memory for as long as it lives. What is to
/// be kept for long is better copied.
///
/// Subject and reply subject are what some publisher made them; only that they are UTF-8 without
/// white space is sure. To publish to the reply subject, check it as any other.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerMessage {
    pub(super) sid: u64,
    /// The whole operation: control line, headers, payload, line end.
    pub(super) op: Bytes,
    pub(super) parts: Parts,
}

/// Where the parts of a message are in its operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) subject: Range<usize>,
    pub(super) reply: Option<Range<usize>>,
    pub(super) headers: Option<Range<usize>>,
    pub(super) payload: Range<usize>,
}

impl ServerMessage {
    /// The subscription that it is for.
    pub fn sid(&self) -> u64 {
        self.sid
    }

    /// The subject that it was published to.
    pub fn subject(&self) -> &str {
        self.text(&self.parts.subject)
    }

    /// Where an answer is expected.
    pub fn reply(&self) -> Option<&str> {
        self.parts.reply.as_ref().map(|range| self.text(range))
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        self.slice(&self.parts.payload)
    }

    /// The payload, sharing the buffer.
    pub fn payload_bytes(&self) -> Bytes {
        self.op.slice_ref(self.payload())
    }

    /// The headers as they came, unread.
    pub fn header_block(&self) -> Option<&[u8]> {
        self.parts.headers.as_ref().map(|range| self.slice(range))
    }

    /// The headers; none of them if it came without. A publisher can send any bytes for headers,
    /// so that this can fail.
    pub fn headers(&self) -> Result<Headers, HeaderError> {
        self.header_block().map_or(Ok(Headers::new()), Headers::parse)
    }

    /// The status in the first line of the headers, if any: 503 says that nobody is there to answer.
    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::peek(self.header_block()?)
    }

    /// How many bytes it was on the wire.
    pub fn wire_len(&self) -> usize {
        self.op.len()
    }

    /// The ranges are the decoder's, which made them together with `op`.
    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.op.get(range.clone()).unwrap_or_default()
    }

    /// The decoder has checked that it is UTF-8.
    fn text(&self, range: &Range<usize>) -> &str {
        std::str::from_utf8(self.slice(range)).unwrap_or_default()
    }
}

impl fmt::Debug for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMessage")
            .field("sid", &self.sid)
            .field("subject", &self.subject())
            .field("reply", &self.reply())
            .field("status", &self.status())
            .field("payload_len", &self.payload().len())
            .finish()
    }
}
