//! What is subscribed to, so that it can be again.

use std::collections::BTreeMap;

use crate::message::{QueueGroup, SubjectPattern};
use crate::nats::codec::push_decimal;
use crate::nats::error::SubscribeError;
use crate::nats::server_error::{Operation, PermissionViolation};

/// The subscriptions by their ids.
#[derive(Debug)]
pub(super) struct Subscriptions {
    by_sid: BTreeMap<u64, Subscription>,
    last_sid: u64,
    max: usize,
}

#[derive(Debug)]
pub(super) struct Subscription {
    pattern: SubjectPattern,
    queue: Option<QueueGroup>,
    /// How many messages came for it.
    received: u64,
    /// How many of them before this connection.
    received_before: u64,
    /// After how many it ends.
    ends_after: Option<u64>,
    /// Whether the server was told that it ends, and what is on its way is still taken.
    draining: bool,
}

impl Subscriptions {
    pub(super) fn new(max: usize) -> Self {
        Self { by_sid: BTreeMap::new(), last_sid: 0, max }
    }

    /// Adds one, with the given id or one that was never used.
    pub(super) fn add(
        &mut self,
        sid: Option<u64>,
        pattern: SubjectPattern,
        queue: Option<QueueGroup>,
    ) -> Result<u64, SubscribeError> {
        let max = self.max;
        if self.by_sid.len() >= max {
            return Err(SubscribeError::TooMany { max });
        }
        let sid = match sid {
            Some(sid) if sid == 0 || self.by_sid.contains_key(&sid) => {
                return Err(SubscribeError::SidTaken(sid));
            }
            Some(sid) => sid,
            // 2⁶⁴ are not used up, unless a caller starts at the end.
            None => self.last_sid.checked_add(1).ok_or(SubscribeError::SidTaken(u64::MAX))?,
        };
        self.last_sid = self.last_sid.max(sid);
        let subscription = Subscription {
            pattern,
            queue,
            received: 0,
            received_before: 0,
            ends_after: None,
            draining: false,
        };
        self.by_sid.insert(sid, subscription);
        Ok(sid)
    }

    /// Ends one, now or after so many messages in all. If it existed, says after how many messages
    /// on this connection that is, or nothing for now.
    pub(super) fn end(&mut self, sid: u64, after: Option<u64>) -> Option<Option<u64>> {
        let subscription = self.by_sid.get_mut(&sid)?;
        subscription.ends_after = after;
        match after {
            Some(max) if max > subscription.received => {
                Some(Some(max - subscription.received_before))
            }
            _ => {
                self.by_sid.remove(&sid);
                Some(None)
            }
        }
    }

    /// Counts what came for one, which may end by it. Says whether it existed.
    pub(super) fn received(&mut self, sid: u64, messages: u64) -> bool {
        let Some(subscription) = self.by_sid.get_mut(&sid) else {
            return false;
        };
        subscription.received = subscription.received.saturating_add(messages);
        if subscription.left() == Some(0) {
            self.by_sid.remove(&sid);
        }
        true
    }

    /// Removes those that the server refuses.
    pub(super) fn refuse(&mut self, violation: &PermissionViolation) -> Vec<u64> {
        if violation.operation != Operation::Subscribe {
            return Vec::new();
        }
        let refused = |subscription: &Subscription| {
            let queue = subscription.queue.as_ref().map(QueueGroup::as_str);
            subscription.pattern.as_str() == violation.subject
                && (violation.queue.is_none() || violation.queue.as_deref() == queue)
        };
        let only = violation.sid;
        self.take(|sid, subscription| only.is_none_or(|only| only == sid) && refused(subscription))
    }

    /// From now on takes only what is on its way. Says whether that is news.
    pub(super) fn drain(&mut self, sid: u64) -> bool {
        let Some(subscription) = self.by_sid.get_mut(&sid) else {
            return false;
        };
        !std::mem::replace(&mut subscription.draining, true)
    }

    /// Removes one that drains.
    pub(super) fn drained(&mut self, sid: u64) {
        if self.by_sid.get(&sid).is_some_and(|subscription| subscription.draining) {
            self.by_sid.remove(&sid);
        }
    }

    /// Removes all that drain.
    pub(super) fn take_draining(&mut self) -> Vec<u64> {
        self.take(|_, subscription| subscription.draining)
    }

    /// The ids of all of them.
    pub(super) fn sids(&self) -> Vec<u64> {
        self.by_sid.keys().copied().collect()
    }

    /// What one is subscribed to.
    pub(super) fn subject(&self, sid: u64) -> Option<&str> {
        Some(self.by_sid.get(&sid)?.pattern.as_str())
    }

    fn take(&mut self, is_over: impl Fn(u64, &Subscription) -> bool) -> Vec<u64> {
        let over = self.by_sid.iter().filter(|(&sid, subscription)| is_over(sid, subscription));
        let sids: Vec<u64> = over.map(|(&sid, _)| sid).collect();
        for sid in &sids {
            self.by_sid.remove(sid);
        }
        sids
    }

    pub(super) fn len(&self) -> usize {
        self.by_sid.len()
    }

    /// The operations that make one of them.
    pub(super) fn encode(&mut self, sid: u64, out: &mut Vec<u8>) {
        if let Some(subscription) = self.by_sid.get_mut(&sid) {
            subscription.encode(sid, out);
        }
    }

    /// The operations that make all of them, in pieces of about 64 KiB.
    pub(super) fn encode_all(&mut self) -> Vec<Vec<u8>> {
        let mut pieces = vec![Vec::new()];
        for (&sid, subscription) in &mut self.by_sid {
            if let Some(piece) = pieces.last_mut() {
                subscription.encode(sid, piece);
                if piece.len() >= 64 << 10 {
                    pieces.push(Vec::new());
                }
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

impl Subscription {
    /// How many more messages it takes.
    fn left(&self) -> Option<u64> {
        self.ends_after.map(|max| max.saturating_sub(self.received))
    }

    /// The server counts from here on.
    fn encode(&mut self, sid: u64, out: &mut Vec<u8>) {
        self.received_before = self.received;
        out.extend_from_slice(b"SUB ");
        out.extend_from_slice(self.pattern.as_str().as_bytes());
        if let Some(queue) = &self.queue {
            out.push(b' ');
            out.extend_from_slice(queue.as_str().as_bytes());
        }
        out.push(b' ');
        push_decimal(out, sid);
        out.extend_from_slice(b"\r\n");
        if let Some(left) = self.left() {
            encode_unsub(sid, Some(left), out);
        }
    }
}

/// `UNSUB <sid> [max]`.
pub(super) fn encode_unsub(sid: u64, max: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"UNSUB ");
    push_decimal(out, sid);
    if let Some(max) = max {
        out.push(b' ');
        push_decimal(out, max);
    }
    out.extend_from_slice(b"\r\n");
}
