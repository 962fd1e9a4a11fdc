//! Publishes into bytes.

use crate::message::Headers;
use crate::message::Subject;
use crate::nats::error::OutboxError;
use crate::text::same;

/// The `max_payload` of a server that was not told otherwise: 1 MiB.
pub const DEFAULT_MAX_PAYLOAD: usize = 1 << 20;

/// How much an outbox holds unless told otherwise: 8 MiB.
const DEFAULT_MAX_BYTES: usize = 8 << 20;

/// What a publisher collects, ready for the wire, until it hands it over in one piece.
///
/// Everything is checked before anything is encoded: a refused publish leaves the outbox as it was.
///
/// ```
/// use rust_wasm_lunatic_nats::nats::{Headers, Outbox};
///
/// let mut outbox = Outbox::default();
/// outbox.publish("a.b", None, &Headers::new(), b"hello")?;
/// assert!(outbox.publish("a b", None, &Headers::new(), b"").is_err());
/// let batch = outbox.take();
/// assert_eq!((&batch.bytes[..], batch.ops), (&b"PUB a.b 5\r\nhello\r\n"[..], 1));
/// # Ok::<(), rust_wasm_lunatic_nats::nats::OutboxError>(())
/// ```
///
/// Worst case in memory: `max_bytes` (default 8 MiB), twice that while it grows.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    ops: u32,
    last: Head,
    max_payload: usize,
    max_bytes: usize,
}

/// The line of the last publish without headers and reply subject. Many publishes in a row go to one
/// subject, and to look at its characters and to write them again one by one was a third of what a
/// short message cost.
#[derive(Debug, Default)]
struct Head {
    /// `PUB <subject> <length>`, with the line end.
    line: Vec<u8>,
    subject_len: usize,
    payload_len: usize,
}

impl Head {
    const VERB: &'static [u8] = b"PUB ";

    fn subject(&self) -> Option<&[u8]> {
        let start = Self::VERB.len();
        self.line.get(start..start + self.subject_len)
    }

    /// Whether that is the subject, and so keeps the rule.
    fn is_for(&self, subject: &str) -> bool {
        self.subject().is_some_and(|last| same(last, subject.as_bytes()))
    }

    /// Makes it the line for a subject that keeps the rule, unless it is, and a length.
    fn set(&mut self, subject: Option<&str>, payload_len: usize) {
        if let Some(subject) = subject {
            self.line.clear();
            self.line.extend_from_slice(Self::VERB);
            self.line.extend_from_slice(subject.as_bytes());
            self.line.push(b' ');
            self.subject_len = subject.len();
        } else if self.payload_len == payload_len {
            return;
        }
        self.line.truncate(Self::VERB.len() + self.subject_len + 1);
        push_decimal(&mut self.line, payload_len as u64);
        self.line.extend_from_slice(b"\r\n");
        self.payload_len = payload_len;
    }
}

/// Whole operations, ready for the wire, and how many they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The operations.
    pub bytes: Vec<u8>,
    /// How many.
    pub ops: u32,
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_PAYLOAD)
    }
}

impl Outbox {
    /// An outbox for a server that takes `max_payload` bytes of headers and payload.
    pub fn new(max_payload: usize) -> Self {
        let (bytes, last) = (Vec::new(), Head::default());
        Self { bytes, ops: 0, last, max_payload, max_bytes: DEFAULT_MAX_BYTES }
    }

    /// The same, holding at most `max_bytes`. A publish that finds the outbox empty is always
    /// taken.
    pub fn with_max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// What the server takes now: it can change with each connection.
    pub fn set_max_payload(&mut self, max_payload: usize) {
        self.max_payload = max_payload;
    }

    /// Adds a publish: `PUB`, or `HPUB` if there are headers.
    pub fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        payload: &[u8],
    ) -> Result<(), OutboxError> {
        let is_last = self.last.is_for(subject);
        if !is_last {
            Subject::check(subject)?;
        }
        reply.map_or(Ok(()), Subject::check_reply)?;
        let header_len = if headers.is_empty() { 0 } else { headers.encoded_len() };
        let len = header_len.saturating_add(payload.len());
        if len > self.max_payload {
            let max = self.max_payload;
            return Err(OutboxError::TooLarge { len, max });
        }
        // The verb, two figures of at most 20 digits, spaces and line ends.
        let len = len + subject.len() + reply.map_or(0, str::len) + 56;
        let (held, max) = (self.bytes.len(), self.max_bytes);
        if held > 0 && held.saturating_add(len) > max {
            return Err(OutboxError::Full { held, len, max });
        }
        self.bytes.reserve(len);
        if reply.is_none() && header_len == 0 {
            self.last.set((!is_last).then_some(subject), payload.len());
            self.bytes.extend_from_slice(&self.last.line);
        } else {
            self.encode_line(subject, reply, headers, header_len, payload.len());
        }
        self.bytes.extend_from_slice(payload);
        self.bytes.extend_from_slice(b"\r\n");
        self.ops += 1;
        Ok(())
    }

    /// How many publishes wait.
    pub fn ops(&self) -> u32 {
        self.ops
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What waits, as whole operations.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what waits, and keeps up to 64 KiB of memory for what comes next.
    pub fn clear(&mut self) {
        const KEPT: usize = 64 << 10;
        self.ops = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// What waits, as whole operations; afterwards the outbox is empty.
    pub fn take(&mut self) -> Batch {
        Batch { bytes: std::mem::take(&mut self.bytes), ops: std::mem::take(&mut self.ops) }
    }

    /// The line and the headers of what [`Outbox::publish`] has checked.
    fn encode_line(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        header_len: usize,
        payload_len: usize,
    ) {
        let out = &mut self.bytes;
        let verb: &[u8] = if header_len > 0 { b"HPUB " } else { Head::VERB };
        out.extend_from_slice(verb);
        out.extend_from_slice(subject.as_bytes());
        out.push(b' ');
        if let Some(reply) = reply {
            out.extend_from_slice(reply.as_bytes());
            out.push(b' ');
        }
        if header_len > 0 {
            push_decimal(out, header_len as u64);
            out.push(b' ');
        }
        push_decimal(out, (header_len + payload_len) as u64);
        out.extend_from_slice(b"\r\n");
        if header_len > 0 {
            headers.encode(out);
        }
    }
}

/// Appends `value` in decimal, without the formatting machinery.
pub(crate) fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
