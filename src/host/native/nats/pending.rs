//! What was published and is not written yet.
//!
//! async-nats bounds its queue by the number of commands alone: 65,536 messages of 1 MiB would be 64
//! GiB. So each payload that it gets counts itself until it is dropped there, which is when it has been
//! written to the socket's buffer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::nats::PublishError;

/// The bounds that hold just now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: usize,
    pub(super) messages: u64,
    /// Whether a message that finds nothing before it is taken even so.
    pub(super) takes_one: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) bytes: usize,
    pub(super) messages: u64,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Pending {
    load: Mutex<Load>,
    /// Told of each that does not wait any more.
    pub(super) freed: Notify,
}

/// A payload that counts until it is dropped.
struct Held {
    payload: Box<[u8]>,
    len: usize,
    pending: Arc<Pending>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut load = self.pending.lock();
        load.bytes -= self.len;
        load.messages -= 1;
        drop(load);
        self.pending.freed.notify_waiters();
    }
}

impl Pending {
    /// Counts a message of `len` bytes in all, if there is room for it.
    pub(super) fn hold(
        self: &Arc<Self>,
        payload: &[u8],
        len: usize,
        bounds: Bounds,
    ) -> Result<Bytes, PublishError> {
        let mut load = self.lock();
        let (bytes, messages) = (load.bytes.saturating_add(len), load.messages + 1);
        let is_full = bytes > bounds.bytes || messages > bounds.messages;
        if is_full && !(bounds.takes_one && load.messages == 0) {
            return Err(PublishError::BufferFull {
                messages: 1,
                bytes: len,
                waiting_messages: load.messages,
                waiting_bytes: load.bytes,
                max_messages: bounds.messages,
                max_bytes: bounds.bytes,
            });
        }
        *load = Load { bytes, messages };
        drop(load);
        let pending = Arc::clone(self);
        Ok(Bytes::from_owner(Held { payload: payload.into(), len, pending }))
    }

    pub(super) fn load(&self) -> Load {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        // Nothing panics while it is held.
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_what_is_dropped_makes_room() {
        let pending = Arc::new(Pending::default());
        let bounds = Bounds { bytes: 10, messages: 3, takes_one: false };
        let hold = |len| pending.hold(&vec![7; len], len, bounds);
        let first = hold(6).expect("it fits");
        assert_eq!(&first[..], [7; 6]);
        let error = hold(5).expect_err("11 bytes").to_string();
        assert!(error.contains("limit of 3 messages or 10 bytes"), "{error}");
        let rest = [hold(4).expect("it just fits"), hold(0).expect("so does nothing")];
        assert!(hold(0).is_err(), "the fourth message");
        let copy = first.clone();
        drop(first);
        assert_eq!(pending.load(), Load { bytes: 10, messages: 3 }, "one still has it");
        drop(copy);
        assert_eq!(pending.load(), Load { bytes: 4, messages: 2 });
        assert!(hold(6).is_ok());
        drop(rest);
        assert_eq!(pending.load(), Load::default());
    }

    #[test]
    fn one_that_is_too_large_goes_alone_or_not_at_all() {
        let pending = Arc::new(Pending::default());
        let connected = Bounds { bytes: 1, messages: 1, takes_one: true };
        let large = pending.hold(&[0; 100], 100, connected).expect("nothing is before it");
        assert!(pending.hold(b"", 0, connected).is_err());
        drop(large);
        let offline = Bounds { bytes: 0, messages: 0, takes_one: false };
        assert!(pending.hold(b"", 0, offline).is_err());
    }
}
