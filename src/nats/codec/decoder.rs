//! Bytes into operations.
//!
//! A peer that breaks the protocol ends the connection, with an error that says how. A *publisher*
//! that sends nonsense through a sound server does not: odd subjects and headers are delivered as
//! they are, and a message whose subject is not text is left out and counted.

use std::ops::Range;

use bytes::BytesMut;

use super::message::{Parts, ServerMessage};
use super::{ControlOp, ServerOp};
use crate::nats::error::{shown_bytes, DecodeError};
use crate::nats::server_error::ServerError;

/// How large a message is taken unless told otherwise, headers and payload: 8 MiB.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 8 << 20;

/// The longest control line: that of a client is 4 KiB, between servers 16 times that, and servers
/// lengthen subjects on the way; an INFO names each server of a cluster.
const MAX_LINE: usize = 128 << 10;

/// Turns a stream of bytes, cut in any way, into operations.
///
/// ```
/// use rust_wasm_lunatic_nats::nats::{Decoder, ServerOp};
///
/// let mut decoder = Decoder::default();
/// decoder.feed(b"MSG a.b 1 5\r\nhel")?;
/// assert_eq!(decoder.next_op()?, None);
/// decoder.feed(b"lo\r\nPING\r\n")?;
/// let Some(ServerOp::Message(message)) = decoder.next_op()? else { panic!("a message") };
/// assert_eq!((message.subject(), message.payload()), ("a.b", &b"hello"[..]));
/// # Ok::<(), rust_wasm_lunatic_nats::nats::DecodeError>(())
/// ```
///
/// Worst case in memory: one message of the largest size, 128 KiB, and the chunk that was fed last;
/// twice that while the buffer grows.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    state: State,
    max_message: usize,
    malformed: u64,
}

#[derive(Debug)]
enum State {
    /// Looking for the end of a control line, from `scanned` on.
    Line { scanned: usize },
    /// Waiting for the rest of a message.
    Message(Head),
    /// Where the next operation starts is not known any more.
    Failed(DecodeError),
}

/// A `MSG` or `HMSG` line, with ranges into the operation that it starts.
#[derive(Debug)]
struct Head {
    sid: u64,
    parts: Parts,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_MESSAGE_BYTES)
    }
}

impl Decoder {
    /// A decoder for one connection that takes messages of at most `max_message_bytes`, headers and
    /// payload.
    pub fn new(max_message_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            state: State::Line { scanned: 0 },
            max_message: max_message_bytes,
            malformed: 0,
        }
    }

    /// Takes what has arrived. Then call [`Decoder::next_op`] until there is nothing more: who
    /// feeds without decoding gets [`DecodeError::Backlog`].
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        // A line, a message, and its line end.
        let (buffered, max) = (self.buffer.len(), self.max_message.saturating_add(MAX_LINE + 2));
        if buffered > max {
            return self.fail(DecodeError::Backlog { buffered, max });
        }
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// The next operation, if all of it is there. An error ends the connection, and comes again.
    pub fn next_op(&mut self) -> Result<Option<ServerOp>, DecodeError> {
        loop {
            let step = match &mut self.state {
                State::Failed(error) => return Err(error.clone()),
                State::Line { scanned } => match find_line_end(&self.buffer, scanned) {
                    Ok(Some(end)) => self.line(end),
                    Ok(None) => return Ok(None),
                    Err(error) => Err(error),
                },
                State::Message(head) => {
                    let end = head.parts.payload.end.saturating_add(2);
                    if self.buffer.len() < end {
                        return Ok(None);
                    }
                    self.message(end)
                }
            };
            match step {
                Ok(None) => {}
                Ok(op) => return Ok(op),
                Err(error) => return self.fail(error),
            }
        }
    }

    /// How many bytes wait for the rest of their operation.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// How many messages were left out since their subject is not text.
    pub fn malformed_messages(&self) -> u64 {
        self.malformed
    }

    /// Handles the control line that ends (with its line end) at `end`. Nothing comes of it if a
    /// message starts there.
    fn line(&mut self, end: usize) -> Result<Option<ServerOp>, DecodeError> {
        let line = self.buffer.get(..end.saturating_sub(2)).unwrap_or_default();
        let (verb, rest) = match line.iter().position(|b| matches!(b, b' ' | b'\t')) {
            Some(at) => line.split_at(at),
            None => (line, &[][..]),
        };
        let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
        let op = if is(b"MSG") || is(b"HMSG") {
            let head = parse_head(line, end, is(b"HMSG"), self.max_message)?;
            self.state = State::Message(head);
            return Ok(None);
        } else if is(b"PING") {
            ControlOp::Ping
        } else if is(b"PONG") {
            ControlOp::Pong
        } else if is(b"+OK") {
            ControlOp::Ok
        } else if is(b"-ERR") {
            ControlOp::Err(ServerError::parse(rest))
        } else if is(b"INFO") {
            let info = serde_json::from_slice(rest);
            ControlOp::Info(info.map_err(|error| DecodeError::Info(error.to_string()))?)
        } else {
            return Err(DecodeError::UnknownOperation(shown_bytes(line)));
        };
        self.take(end);
        Ok(Some(ServerOp::Control(op)))
    }

    /// Takes the message that is there as a whole, up to `end`. Nothing comes of it if it is left
    /// out.
    fn message(&mut self, end: usize) -> Result<Option<ServerOp>, DecodeError> {
        let state = std::mem::replace(&mut self.state, State::Line { scanned: 0 });
        let State::Message(Head { sid, parts }) = state else {
            return Ok(None);
        };
        let op = self.take(end);
        if !op.ends_with(b"\r\n") {
            let len = parts.payload.len();
            return Err(DecodeError::PayloadEnd { len });
        }
        let is_text = |range: &Range<usize>| {
            let bytes = op.get(range.clone()).unwrap_or_default();
            bytes.is_ascii() || std::str::from_utf8(bytes).is_ok()
        };
        if !is_text(&parts.subject) || !parts.reply.as_ref().is_none_or(is_text) {
            self.malformed += 1;
            return Ok(None);
        }
        let op = op.freeze();
        Ok(Some(ServerOp::Message(ServerMessage { sid, op, parts })))
    }

    /// Takes the operation that ends at `end`, which both callers have seen to be there.
    fn take(&mut self, end: usize) -> BytesMut {
        self.state = State::Line { scanned: 0 };
        self.buffer.split_to(end.min(self.buffer.len()))
    }

    fn fail<T>(&mut self, error: DecodeError) -> Result<T, DecodeError> {
        self.buffer = BytesMut::new();
        self.state = State::Failed(error.clone());
        Err(error)
    }
}

/// Where the first line of `buffer` ends, behind its line end. `scanned` keeps what has been looked
/// at, so that a line that arrives byte by byte is not searched again and again.
fn find_line_end(buffer: &[u8], scanned: &mut usize) -> Result<Option<usize>, DecodeError> {
    let window = buffer.get(..MAX_LINE).unwrap_or(buffer);
    let mut from = *scanned;
    while let Some(at) = window.get(from..).and_then(|rest| rest.iter().position(|&b| b == b'\n')) {
        from += at + 1;
        if window.get(..from).is_some_and(|line| line.ends_with(b"\r\n")) {
            return Ok(Some(from));
        }
    }
    *scanned = window.len();
    if window.len() == MAX_LINE {
        return Err(DecodeError::LineTooLong { max: MAX_LINE });
    }
    Ok(None)
}

/// `MSG <subject> <sid> [reply] <len>` or `HMSG <subject> <sid> [reply] <header len> <len>`.
fn parse_head(
    line: &[u8],
    line_end: usize,
    with_headers: bool,
    max_message: usize,
) -> Result<Head, DecodeError> {
    let wrong = || DecodeError::MessageLine(shown_bytes(line));
    let (words, count) = split_words(line).ok_or_else(wrong)?;
    let word = |at: usize| words.get(at).cloned().unwrap_or_default();
    let number = |at: usize| parse_number(line.get(word(at)).unwrap_or_default()).ok_or_else(wrong);
    // The figures at the end: one, and one more with headers.
    let figures = if with_headers { 2 } else { 1 };
    let reply = match count.checked_sub(figures) {
        Some(3) => None,
        Some(4) => Some(word(3)),
        _ => return Err(wrong()),
    };
    let len = usize::try_from(number(count - 1)?).unwrap_or(usize::MAX);
    if len > max_message {
        let max = max_message;
        return Err(DecodeError::MessageTooLarge { len, max });
    }
    let header_len = match with_headers {
        true => usize::try_from(number(count - 2)?).unwrap_or(usize::MAX),
        false => 0,
    };
    if header_len > len {
        return Err(wrong());
    }
    // Below a line of 128 KiB and `max_message`, unless that is close to the address space.
    let payload = line_end.saturating_add(header_len)..line_end.saturating_add(len);
    Ok(Head {
        sid: number(2)?,
        parts: Parts {
            subject: word(1),
            reply,
            headers: with_headers.then_some(line_end..payload.start),
            payload,
        },
    })
}

/// The words of a line, at most six.
fn split_words(line: &[u8]) -> Option<([Range<usize>; 6], usize)> {
    let mut words: [Range<usize>; 6] = Default::default();
    let (mut count, mut at) = (0, 0);
    let is_space = |b: &u8| matches!(b, b' ' | b'\t');
    while let Some(rest) = line.get(at..).filter(|rest| !rest.is_empty()) {
        let len = rest.iter().position(is_space).unwrap_or(rest.len());
        if len > 0 {
            *words.get_mut(count)? = at..at + len;
            count += 1;
        }
        at += len + 1;
    }
    Some((words, count))
}

/// Digits only, and no more than fit.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}
