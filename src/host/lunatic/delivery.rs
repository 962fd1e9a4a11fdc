//! What NATS brought, on its way from the reader to whom it is for: a frame's worth in one mail, as
//! it came from the wire, with an index before it. Nobody copies a message on the way but the
//! mailbox.
//!
//! ```text
//! kind │ receipt wanted │ number of messages │ reader │ window │ messages, bytes until here
//! for each message: where subject, reply subject, headers and payload are (32 bytes)
//! the operations
//! ```
//!
//! The reader gives each receiver a *window*: what it has sent and was not told to be consumed. Now
//! and then a mail asks for a receipt, which says that it was consumed with all before it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::reader::ReaderMail;
use super::sys::{self, Pid};
use super::{mail, sys::Received};
use crate::message::{MessageParts, NatsMessage, Source};
use crate::nats::MessageView;

/// The first byte of a mail with messages for a subscription, or with answers. No mail enum has so
/// many variants.
pub(super) const DELIVERIES: u8 = 0xFF;

/// The first byte of a mail with messages for an agent, from `agent.input.<id>`.
pub(super) const INPUTS: u8 = 0xFA;

/// The first byte of a mail that says that nothing more will come.
pub(super) const ENDED: u8 = 0xFC;

/// The tag of all answers to requests; which one they answer is in their subject. With a tag each,
/// one that comes too late would stay in a mailbox that nobody reads through.
pub(super) const ANSWERS: i64 = 102;

/// Says to who waits for a request's answers, or for a subscription's messages, that it is over.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Ended {
    /// The request's number, or the subscription's id.
    pub(super) number: u64,
    pub(super) why: Why,
}

/// Why something is over.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum Why {
    /// The connection broke. For requests only, which are not made again.
    Disconnected,
    /// The server does not permit the subject; in its words.
    Denied(String),
    /// The connection has ended for good, and why.
    Closed(String),
}

impl Ended {
    pub(super) fn send(&self, to: Pid, tag: i64) {
        sys::send_with(to, tag, |buffer| {
            buffer.push(ENDED);
            mail::encode(self, buffer);
        });
    }

    pub(super) fn read(mail: &[u8]) -> Option<Self> {
        match mail.split_first() {
            Some((&ENDED, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        }
    }
}

const HEAD: usize = 1 + 1 + 4 + 4 * 8;

/// Messages for one receiver, as the reader collects them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    index: Vec<[u8; MessageParts::LEN]>,
    operations: Vec<u8>,
    messages: u32,
}

/// What the head of a mail says beside how many messages it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    /// Who is to be told that it was consumed.
    pub(super) reader: Pid,
    /// Which window of the reader's it belongs to.
    pub(super) window: u64,
    /// What was sent in that window, this mail included.
    pub(super) sent: Load,
    /// Whether a receipt is wanted.
    pub(super) receipt: bool,
}

/// So many messages with so many bytes on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Load {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Load {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    pub(super) fn add_all(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }

    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(earlier.messages),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    /// Whether either reaches its part of a limit: `share` of it, in quarters.
    pub(super) fn reaches(self, limit: Self, quarters: u64) -> bool {
        self.messages * 4 >= limit.messages * quarters || self.bytes * 4 >= limit.bytes * quarters
    }
}

impl Batch {
    /// A buffer that one large frame made larger than this is given back.
    const KEPT: usize = 256 * 1024;

    pub(super) fn push(&mut self, message: &MessageView<'_>) {
        // A frame's worth: far below 4 GiB.
        let base = self.operations.len() as u32;
        self.index.push(message.parts().encode(base));
        self.operations.extend_from_slice(message.wire());
        self.messages += 1;
    }

    pub(super) fn clear(&mut self) {
        self.messages = 0;
        if self.operations.capacity() > Self::KEPT {
            *self = Self::default();
        }
        self.index.clear();
        self.operations.clear();
    }

    /// Sends what was collected, and is empty again.
    pub(super) fn send(&mut self, to: Pid, tag: i64, kind: u8, label: &Label) {
        let mut head = [0; HEAD];
        head[0] = kind;
        head[1] = u8::from(label.receipt);
        head[2..6].copy_from_slice(&self.messages.to_le_bytes());
        let numbers = [label.reader.0, label.window, label.sent.messages, label.sent.bytes];
        for (number, at) in numbers.into_iter().zip([6, 14, 22, 30]) {
            head[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        sys::send_parts(to, tag, &[&head, self.index.as_flattened(), &self.operations]);
        self.clear();
    }
}

/// The messages of one mail, in their order. When it is dropped all of them count as consumed.
#[derive(Debug)]
pub(super) struct Deliveries {
    source: Arc<Source>,
    next: u32,
    messages: u32,
    label: Label,
}

impl Deliveries {
    /// Reads a mail, if it is one of these.
    pub(super) fn read(mail: Vec<u8>) -> Option<Self> {
        let head = mail.first_chunk::<HEAD>()?;
        if !matches!(head[0], DELIVERIES | INPUTS) {
            return None;
        }
        let number = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let messages = u32::from_le_bytes(head.get(2..6)?.try_into().ok()?);
        let label = Label {
            reader: Pid(number(6)?),
            window: number(14)?,
            sent: Load { messages: number(22)?, bytes: number(30)? },
            receipt: head[1] != 0,
        };
        let source = Source::indexed(mail, HEAD, messages as usize)?;
        Some(Self { source, next: 0, messages, label })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.messages
    }
}

impl Iterator for Deliveries {
    type Item = NatsMessage;

    fn next(&mut self) -> Option<NatsMessage> {
        if self.is_empty() {
            return None;
        }
        let at = self.next;
        self.next += 1;
        Some(NatsMessage::from_source(&self.source, at))
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        if let Label { reader, window, sent, receipt: true } = self.label {
            mail::send(reader, &ReaderMail::Consumed { window, sent });
        }
    }
}

/// Mails with messages that nobody has looked at yet, in the order in which they were sent.
///
/// That is not always the one in which they are received: a receive whose time is over at the moment
/// when a message comes puts that one behind those that follow it. But each says how much was sent in
/// its window before it, so that one that is missing is waited for.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    mails: VecDeque<Deliveries>,
    /// From which reader the last one was, and up to where all are here.
    here: Option<(Pid, u64)>,
    /// Those behind one that is missing.
    early: Vec<Deliveries>,
}

impl Waiting {
    pub(super) fn push(&mut self, deliveries: Deliveries) {
        let reader = deliveries.label.reader;
        if self.here.is_none_or(|(known, _)| known != reader) {
            // What is missing went with the connection before this one.
            self.miss_nothing();
            self.here = Some((reader, 0));
        }
        self.early.push(deliveries);
        while let Some(at) = self.early.iter().position(|mail| self.is_next(mail)) {
            let next = self.early.swap_remove(at);
            self.here = Some((reader, next.label.sent.messages));
            self.mails.push_back(next);
        }
    }

    fn is_next(&self, mail: &Deliveries) -> bool {
        let before = mail.label.sent.messages.saturating_sub(u64::from(mail.messages));
        self.here.is_none_or(|(_, here)| before <= here)
    }

    /// Whether one is missing that was sent before others that are here.
    pub(super) fn misses_one(&self) -> bool {
        !self.early.is_empty()
    }

    /// What is missing will not come.
    pub(super) fn miss_nothing(&mut self) {
        self.early.sort_unstable_by_key(|mail| mail.label.sent.messages);
        if let Some(last) = self.early.last() {
            self.here = Some((last.label.reader, last.label.sent.messages));
        }
        self.mails.extend(self.early.drain(..));
    }

    pub(super) fn pop(&mut self) -> Option<NatsMessage> {
        loop {
            if let Some(message) = self.mails.front_mut()?.next() {
                return Some(message);
            }
            self.mails.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }
}

/// Waits for a mail with a tag, and reads it.
pub(super) fn receive(tag: i64, timeout: Option<std::time::Duration>) -> Option<Vec<u8>> {
    match sys::receive(&[tag], timeout) {
        Received::Message => {
            let mut buffer = Vec::new();
            sys::read_message(&mut buffer);
            Some(buffer)
        }
        _ => None,
    }
}
