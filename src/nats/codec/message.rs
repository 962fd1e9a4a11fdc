//! A message as it came: one piece of the receive buffer, and where its parts are.

use std::fmt;
use std::ops::Deref;

use crate::message::{MessageParts, NatsMessage, StatusCode};
use crate::text::utf8;

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
    pub(super) wire_len: usize,
    pub(super) message: NatsMessage,
}

impl ServerMessage {
    /// The subscription that it is for.
    pub fn sid(&self) -> u64 {
        self.sid
    }

    /// How many bytes it was on the wire.
    pub fn wire_len(&self) -> usize {
        self.wire_len
    }

    /// The message, without for whom it is.
    pub fn into_message(self) -> NatsMessage {
        self.message
    }
}

impl Deref for ServerMessage {
    type Target = NatsMessage;

    fn deref(&self) -> &NatsMessage {
        &self.message
    }
}

impl fmt::Debug for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMessage")
            .field("sid", &self.sid)
            .field("message", &self.message)
            .finish()
    }
}

/// A message where it lies in the receive buffer: for who hands it on before reading the next one.
#[derive(Clone, Copy)]
pub struct MessageView<'a> {
    pub(super) sid: u64,
    /// The whole operation: control line, headers, payload, line end.
    pub(super) op: &'a [u8],
    pub(super) parts: &'a MessageParts,
}

impl<'a> MessageView<'a> {
    /// The subscription that it is for.
    pub fn sid(&self) -> u64 {
        self.sid
    }

    /// The subject that it was published to.
    pub fn subject(&self) -> &'a str {
        text(self.parts.subject.of(self.op))
    }

    /// Where an answer is expected.
    pub fn reply(&self) -> Option<&'a str> {
        Some(text(self.parts.reply.of(self.op))).filter(|reply| !reply.is_empty())
    }

    /// What it says.
    pub fn payload(&self) -> &'a [u8] {
        self.parts.payload.of(self.op)
    }

    /// The headers as they came, unread.
    pub fn header_block(&self) -> Option<&'a [u8]> {
        Some(self.parts.headers.of(self.op)).filter(|block| !block.is_empty())
    }

    /// The status in the first line of the headers, if any.
    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::peek(self.parts.headers.of(self.op))
    }

    /// All of it as it came.
    pub fn wire(&self) -> &'a [u8] {
        self.op
    }

    /// Where its parts are in that.
    #[allow(dead_code, reason = "for a host whose reader passes it on to another process")]
    pub(crate) fn parts(&self) -> &'a MessageParts {
        self.parts
    }
}

/// The decoder has checked that it is UTF-8.
fn text(bytes: &[u8]) -> &str {
    utf8(bytes).unwrap_or_default()
}

impl fmt::Debug for MessageView<'_> {
    /// Without what it says, which is other people's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageView")
            .field("sid", &self.sid)
            .field("subject", &self.subject())
            .field("reply", &self.reply())
            .field("payload_len", &self.payload().len())
            .finish()
    }
}
