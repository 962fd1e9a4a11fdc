//! Bytes into operations.
//!
//! A peer that breaks the protocol ends the connection, with an error that says how. A *publisher*
//! that sends nonsense through a sound server does not: odd subjects and headers are delivered as
//! they are, and a message whose subject is not text is left out and counted.

use std::ops::Range;

use bytes::{Buf, BytesMut};

use super::message::{MessageView, ServerMessage};
use super::{ControlOp, ServerOp};
use crate::message::{MessageParts, NatsMessage, Part};
use crate::nats::error::{shown_bytes, DecodeError};
use crate::nats::server_error::ServerError;
use crate::text::same;

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
    /// How much of it was given out as a view, and goes with the next call.
    viewed: usize,
    state: State,
    /// Of the message that was found, or whose rest is waited for.
    head: Head,
    /// The line that `head` was read from: a busy connection often brings the same one again.
    line: Vec<u8>,
    max_message: usize,
    malformed: u64,
}

#[derive(Debug)]
enum State {
    /// Looking for the end of a control line, from `scanned` on.
    Line { scanned: usize },
    /// Waiting for the rest of a message.
    Message,
    /// Where the next operation starts is not known any more.
    Failed(DecodeError),
}

/// A `MSG` or `HMSG` line, with the places of the message's parts in the operation that it starts.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    sid: u64,
    parts: MessageParts,
}

impl Head {
    /// Where the operation ends, its line end included.
    fn end(&self) -> usize {
        (self.parts.payload.end as usize).saturating_add(2)
    }
}

/// What was found at the start of the buffer.
enum Found {
    /// Nothing that is there as a whole.
    Nothing,
    /// Something that is of no use; it is gone.
    Skipped,
    /// A message, with its head where the decoder keeps it.
    Message,
    /// Another operation, which is taken out of the buffer.
    Control(ControlOp),
}

/// As [`ServerOp`], with a message that lies in the receive buffer.
#[derive(Debug)]
pub enum OpView<'a> {
    /// A message for a subscription: to whoever delivers.
    Message(MessageView<'a>),
    /// Everything else: to the session.
    Control(ControlOp),
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_MESSAGE_BYTES)
    }
}

impl Decoder {
    /// The largest limit of a message: 1 GiB.
    const MAX_MAX_MESSAGE: usize = 1 << 30;

    /// A decoder for one connection that takes messages of at most `max_message_bytes`, headers and
    /// payload; of 1 GiB, if that is less.
    pub fn new(max_message_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            viewed: 0,
            state: State::Line { scanned: 0 },
            head: Head::default(),
            line: Vec::new(),
            max_message: max_message_bytes.min(Self::MAX_MAX_MESSAGE),
            malformed: 0,
        }
    }

    /// Takes what has arrived. Then call [`Decoder::next_op`] or [`Decoder::next_view`] until there
    /// is nothing more: who feeds without decoding gets [`DecodeError::Backlog`].
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), DecodeError> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        self.forget_viewed();
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
        Ok(match self.find()? {
            Found::Nothing | Found::Skipped => None,
            Found::Control(op) => Some(ServerOp::Control(op)),
            Found::Message => {
                let Head { sid, parts } = self.head;
                let op = self.take(self.head.end()).freeze();
                let wire_len = op.len();
                // `find` has seen that the text is text.
                let message = NatsMessage::from_parts(op, &parts);
                message.map(|message| ServerOp::Message(ServerMessage { sid, wire_len, message }))
            }
        })
    }

    /// As [`Decoder::next_op`], but a message stays where it is until the next call: some four times
    /// as quick.
    pub fn next_view(&mut self) -> Result<Option<OpView<'_>>, DecodeError> {
        Ok(match self.find()? {
            Found::Nothing | Found::Skipped => None,
            Found::Control(op) => Some(OpView::Control(op)),
            Found::Message => {
                self.viewed = self.head.end();
                self.state = State::Line { scanned: 0 };
                let op = self.buffer.get(..self.viewed).unwrap_or_default();
                let Head { sid, parts } = &self.head;
                Some(OpView::Message(MessageView { sid: *sid, op, parts }))
            }
        })
    }

    /// How many bytes wait for the rest of their operation.
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.viewed
    }

    /// How many messages were left out since their subject is not text.
    pub fn malformed_messages(&self) -> u64 {
        self.malformed
    }

    /// Looks for the next operation. A message is left where it is.
    fn find(&mut self) -> Result<Found, DecodeError> {
        self.forget_viewed();
        loop {
            let at_line = matches!(self.state, State::Line { scanned: 0 });
            let step = if at_line && self.plain_msg() {
                self.message()
            } else {
                match &mut self.state {
                    State::Failed(error) => return Err(error.clone()),
                    State::Line { scanned } => match find_line_end(&self.buffer, scanned) {
                        Ok(Some(end)) => self.line(end),
                        Ok(None) => Ok(Found::Nothing),
                        Err(error) => Err(error),
                    },
                    State::Message => self.message(),
                }
            };
            match step {
                Ok(Found::Skipped) => {}
                Ok(found) => return Ok(found),
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Whether a message begins here with a line as most have it; then `head` is what it says.
    fn plain_msg(&mut self) -> bool {
        let start = self.buffer.get(..self.line.len()).unwrap_or_default();
        if !start.is_empty() && same(start, &self.line) {
            return true;
        }
        self.line.clear();
        if !parse_plain_msg(&self.buffer, self.max_message, &mut self.head) {
            return false;
        }
        let line = self.buffer.get(..self.head.parts.payload.start as usize);
        self.line.extend_from_slice(line.unwrap_or_default());
        true
    }

    /// Handles the control line that ends (with its line end) at `end`.
    fn line(&mut self, end: usize) -> Result<Found, DecodeError> {
        let line = self.buffer.get(..end.saturating_sub(2)).unwrap_or_default();
        let (verb, rest) = match line.iter().position(|b| matches!(b, b' ' | b'\t')) {
            Some(at) => line.split_at(at),
            None => (line, &[][..]),
        };
        let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
        let op = if is(b"MSG") || is(b"HMSG") {
            self.head = parse_head(line, end, is(b"HMSG"), self.max_message)?;
            self.line.clear();
            return self.message();
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
        Ok(Found::Control(op))
    }

    /// Looks whether the message of the present head is there as a whole, and checks it.
    fn message(&mut self) -> Result<Found, DecodeError> {
        let (head, end) = (&self.head, self.head.end());
        let Some(op) = self.buffer.get(..end) else {
            self.state = State::Message;
            return Ok(Found::Nothing);
        };
        if !op.ends_with(b"\r\n") {
            let len = head.parts.payload.of(op).len();
            return Err(DecodeError::PayloadEnd { len });
        }
        if !head.parts.are_text(op) {
            self.malformed += 1;
            self.take(end);
            return Ok(Found::Skipped);
        }
        Ok(Found::Message)
    }

    /// Takes the operation that ends at `end`, which the callers have seen to be there.
    fn take(&mut self, end: usize) -> BytesMut {
        self.state = State::Line { scanned: 0 };
        self.buffer.split_to(end.min(self.buffer.len()))
    }

    fn forget_viewed(&mut self) {
        if self.viewed > 0 {
            self.buffer.advance(self.viewed.min(self.buffer.len()));
            self.viewed = 0;
        }
    }

    fn fail<T>(&mut self, error: DecodeError) -> Result<T, DecodeError> {
        self.buffer = BytesMut::new();
        self.viewed = 0;
        self.state = State::Failed(error.clone());
        Err(error)
    }
}

/// The line of a message without headers, as servers write it: single spaces, and all of it there
/// within a few hundred bytes. Anything else is for [`parse_head`], which also says what is wrong.
/// (Nearly all that a busy connection brings is of this form, and one pass over it takes a third of
/// the time.)
fn parse_plain_msg(buffer: &[u8], max_message: usize, head: &mut Head) -> bool {
    read_plain_msg(buffer, max_message, head).is_some()
}

fn read_plain_msg(buffer: &[u8], max_message: usize, head: &mut Head) -> Option<()> {
    const LONGEST: usize = 512;
    let rest = buffer.strip_prefix(b"MSG ")?;
    // Where the words after the verb start.
    let (mut starts, mut words) = ([0_u32; 4], 1);
    let (mut at, mut number, mut sid) = (0_u32, Some(0_u64), None);
    for &byte in rest.get(..LONGEST).unwrap_or(rest) {
        match byte {
            b'0'..=b'9' => {
                number = number
                    .filter(|&number| number < u64::MAX / 16)
                    .map(|number| number * 10 + u64::from(byte - b'0'));
            }
            b' ' => {
                // No empty word, and no fifth.
                if starts[words - 1] == at || words == 4 {
                    return None;
                }
                if words == 2 {
                    sid = number;
                }
                starts[words] = at + 1;
                words += 1;
                number = Some(0);
            }
            b'\r' => break,
            b'\t' | b'\n' => return None,
            _ => number = None,
        }
        at += 1;
    }
    if words < 3 || starts[words - 1] == at || !rest.get(at as usize..)?.starts_with(b"\r\n") {
        return None;
    }
    let len = number.filter(|&len| len <= max_message as u64)? as u32;
    let verb = 4;
    let part = |start: u32, end: u32| Part { start: start + verb, end: end + verb };
    let reply = if words == 4 { part(starts[2], starts[3] - 1) } else { Part::default() };
    let start = at + 2;
    head.sid = sid?;
    head.parts.subject = part(0, starts[1] - 1);
    head.parts.reply = reply;
    head.parts.headers = Part::default();
    head.parts.payload = part(start, start + len);
    Some(())
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
    // Below a line of 128 KiB and a limit of 1 GiB: they fit into 32 bits.
    let part = |range: Range<usize>| Part { start: range.start as u32, end: range.end as u32 };
    let body = line_end + header_len;
    Ok(Head {
        sid: number(2)?,
        parts: MessageParts {
            subject: part(word(1)),
            reply: part(reply.unwrap_or_default()),
            headers: part(line_end..body),
            payload: part(body..line_end + len),
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
