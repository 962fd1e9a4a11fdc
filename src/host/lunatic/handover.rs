//! What a process hands over to its connection: ready-made publishes, and who wants to know of them.
//! By far the most mails of a connection are these, so that they are written by hand.

use bytes::Bytes;

use super::mail::Waiter;
use super::sys::{self, Pid};

/// The first byte; no mail enum has so many variants.
const KIND: u8 = 0xFB;

const HEAD: usize = 1 + 4 + 8 + 8 + 8 + 2;

/// Everything about the publishes but their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handover<'a> {
    /// How many there are.
    pub(super) ops: u32,
    /// Who publishes.
    pub(super) from: Pid,
    /// Under which tag it wants to know whether they were taken; 0 if not.
    pub(super) tag: i64,
    /// The request that is the last one of them.
    pub(super) request: Option<Request<'a>>,
}

/// A request, to be told if no answer can come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// Its number, never 0.
    pub(super) number: u64,
    /// What was asked.
    pub(super) subject: &'a str,
}

impl<'a> Handover<'a> {
    pub(super) fn send(&self, to: Pid, bytes: &[u8]) {
        let Request { number, subject } =
            self.request.unwrap_or(Request { number: 0, subject: "" });
        let mut head = [0; HEAD];
        head[0] = KIND;
        head[1..5].copy_from_slice(&self.ops.to_le_bytes());
        head[5..13].copy_from_slice(&self.from.0.to_le_bytes());
        head[13..21].copy_from_slice(&self.tag.to_le_bytes());
        head[21..29].copy_from_slice(&number.to_le_bytes());
        // A longer subject than the server takes is none that it would complain of.
        let subject = subject.as_bytes();
        let subject = subject.get(..usize::from(u16::MAX)).unwrap_or(subject);
        head[29..].copy_from_slice(&(subject.len() as u16).to_le_bytes());
        sys::send_parts(to, 0, &[&head, subject, bytes]);
    }

    /// Whether a mail is one of these.
    pub(super) fn is_one(mail: &[u8]) -> bool {
        mail.first() == Some(&KIND)
    }

    /// Reads one, and gives the publishes, which stay where they are.
    pub(super) fn read(mail: &'a Bytes) -> Option<(Self, Bytes)> {
        let (head, rest) = mail.split_first_chunk::<HEAD>()?;
        let number = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let ops = u32::from_le_bytes(head.get(1..5)?.try_into().ok()?);
        let len = usize::from(u16::from_le_bytes(head.get(29..31)?.try_into().ok()?));
        let (subject, publishes) = rest.split_at_checked(len)?;
        // A cut in the middle of a character is not worth a mail.
        let subject = std::str::from_utf8(subject).unwrap_or_default();
        let request = match number(21)? {
            0 => None,
            number => Some(Request { number, subject }),
        };
        let (from, tag) = (Pid(number(5)?), number(13)? as i64);
        Some((Self { ops, from, tag, request }, mail.slice_ref(publishes)))
    }

    /// Who waits to know whether they were taken.
    pub(super) fn waiter(&self) -> Option<Waiter> {
        (self.tag != 0).then_some(Waiter { pid: self.from.0, tag: self.tag })
    }
}
