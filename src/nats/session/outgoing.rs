//! What waits to be written, in its order.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::requests::RequestId;

/// From this size on, what follows goes into the next frame.
const FRAME: usize = 64 << 10;

/// What waits to be written. It outlives a connection: what belongs to one (subscriptions, PINGs)
/// is forgotten with it, publishes stay.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Piece>,
    /// Publishes that wait.
    pub(super) messages: u64,
    /// Their bytes.
    pub(super) bytes: usize,
    /// Publishes that were handed out on this connection behind the last flush; requests are told
    /// by themselves.
    pub(super) unflushed: u64,
}

#[derive(Debug)]
enum Piece {
    /// Operations of this connection.
    Control(Vec<u8>),
    /// PING, and who asked for it.
    Ping(Ping),
    /// Publishes, ready for the wire.
    Publish { bytes: Bytes, messages: u64, request: Option<RequestId> },
}

/// A PING that the server has to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ping {
    /// To see whether the server is there.
    KeepAlive,
    /// Somebody's flush.
    Flush(u64),
    /// What was on its way for this subscription has come.
    Drain(u64),
    /// The same for all of them.
    DrainAll,
    /// The server has everything, and the session closes.
    DrainEnd,
    /// The server has everything, and the session goes to another. Nothing is written behind it.
    Move,
}

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// Publishes in it.
    pub(super) messages: u64,
    /// Their bytes.
    pub(super) message_bytes: usize,
    /// The PINGs in it, in their order.
    pub(super) pings: Vec<Ping>,
    /// The requests in it.
    pub(super) requests: Vec<RequestId>,
}

impl Outgoing {
    pub(super) fn push_control(&mut self, operations: Vec<u8>) {
        self.pieces.push_back(Piece::Control(operations));
    }

    pub(super) fn push_ping(&mut self, ping: Ping) {
        self.pieces.push_back(Piece::Ping(ping));
    }

    pub(super) fn push_publish(&mut self, bytes: Bytes, messages: u64, request: Option<RequestId>) {
        self.messages += messages;
        self.bytes += bytes.len();
        self.pieces.push_back(Piece::Publish { bytes, messages, request });
    }

    /// Takes back the requests that nobody waits for any more.
    pub(super) fn retain_requests(&mut self, is_wanted: impl Fn(RequestId) -> bool) {
        let (taken_messages, taken_bytes) = (&mut self.messages, &mut self.bytes);
        self.pieces.retain(|piece| match piece {
            Piece::Publish { bytes, messages, request: Some(request) } if !is_wanted(*request) => {
                *taken_messages -= messages;
                *taken_bytes -= bytes.len();
                false
            }
            _ => true,
        });
    }

    /// Puts the operations before everything that waits.
    pub(super) fn put_first(&mut self, operations: Vec<Vec<u8>>) {
        for piece in operations.into_iter().rev() {
            self.pieces.push_front(Piece::Control(piece));
        }
    }

    /// The next frame: what waits, up to some 64 KiB, in one. A batch that comes alone is not
    /// copied.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        let mut frame = Frame {
            bytes: Bytes::new(),
            messages: 0,
            message_bytes: 0,
            pings: Vec::new(),
            requests: Vec::new(),
        };
        let mut joined = BytesMut::new();
        while frame.bytes.len() + joined.len() < FRAME && frame.pings.last() != Some(&Ping::Move) {
            let Some(piece) = self.pieces.pop_front() else {
                break;
            };
            let bytes = self.account(piece, &mut frame);
            if frame.bytes.is_empty() && joined.is_empty() {
                frame.bytes = bytes;
            } else {
                if joined.is_empty() {
                    joined.extend_from_slice(&std::mem::take(&mut frame.bytes));
                }
                joined.extend_from_slice(&bytes);
            }
        }
        if !joined.is_empty() {
            frame.bytes = joined.freeze();
        }
        (!frame.bytes.is_empty()).then_some(frame)
    }

    fn account(&mut self, piece: Piece, frame: &mut Frame) -> Bytes {
        match piece {
            Piece::Control(operations) => operations.into(),
            Piece::Ping(ping) => {
                if matches!(ping, Ping::Flush(_)) {
                    self.unflushed = 0;
                }
                frame.pings.push(ping);
                Bytes::from_static(b"PING\r\n")
            }
            Piece::Publish { bytes, messages, request } => {
                self.unflushed += if request.is_none() { messages } else { 0 };
                frame.requests.extend(request);
                self.messages -= messages;
                self.bytes -= bytes.len();
                frame.messages += messages;
                frame.message_bytes += bytes.len();
                bytes
            }
        }
    }

    /// Forgets what belongs to the connection that broke, and says whose PINGs these were.
    pub(super) fn forget_connection(&mut self) -> Vec<Ping> {
        let mut pings = Vec::new();
        self.pieces.retain(|piece| {
            if let Piece::Ping(ping) = piece {
                pings.push(*ping);
            }
            matches!(piece, Piece::Publish { .. })
        });
        pings
    }

    /// Forgets everything; the publishes in it are lost.
    pub(super) fn clear(&mut self) -> Vec<Ping> {
        let pings = self.forget_connection();
        *self = Self::default();
        pings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_goes_out_together_and_a_batch_alone_is_not_copied() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.next_frame().is_none());
        let alone = Bytes::from(vec![b'x'; 100]);
        outgoing.push_publish(alone.clone(), 3, None);
        let frame = outgoing.next_frame().expect("a frame");
        assert_eq!(frame.bytes.as_ptr(), alone.as_ptr());
        assert_eq!((frame.messages, frame.message_bytes), (3, 100));

        outgoing.push_control(b"SUB a 1\r\n".to_vec());
        outgoing.push_publish(Bytes::from_static(b"PUB b 0\r\n\r\n"), 1, None);
        outgoing.push_ping(Ping::Flush(7));
        outgoing.put_first(vec![b"1".to_vec(), b"2".to_vec()]);
        assert_eq!((outgoing.messages, outgoing.bytes), (1, 11));
        let frame = outgoing.next_frame().expect("a frame");
        assert_eq!(&frame.bytes[..], b"12SUB a 1\r\nPUB b 0\r\n\r\nPING\r\n");
        assert_eq!((frame.messages, frame.pings), (1, vec![Ping::Flush(7)]));
        assert_eq!((outgoing.messages, outgoing.bytes), (0, 0));
    }

    #[test]
    fn a_frame_ends_behind_64_kib() {
        let mut outgoing = Outgoing::default();
        for _ in 0..10 {
            outgoing.push_publish(Bytes::from(vec![b'x'; 20_000]), 1, None);
        }
        let sizes: Vec<_> =
            std::iter::from_fn(|| outgoing.next_frame()).map(|frame| frame.bytes.len()).collect();
        assert_eq!(sizes, [80_000, 80_000, 40_000]);
    }

    #[test]
    fn publishes_outlive_a_connection() {
        let mut outgoing = Outgoing::default();
        outgoing.push_control(b"PONG\r\n".to_vec());
        outgoing.push_ping(Ping::KeepAlive);
        outgoing.push_publish(Bytes::from_static(b"PUB b 0\r\n\r\n"), 1, None);
        outgoing.push_ping(Ping::Flush(7));
        assert_eq!(outgoing.forget_connection(), [Ping::KeepAlive, Ping::Flush(7)]);
        assert_eq!(outgoing.messages, 1);
        let frame = outgoing.next_frame().expect("a frame");
        assert_eq!(&frame.bytes[..], b"PUB b 0\r\n\r\n");
        outgoing.push_publish(Bytes::from_static(b"PUB b 0\r\n\r\n"), 1, None);
        assert!(outgoing.clear().is_empty());
        assert_eq!((outgoing.messages, outgoing.bytes), (0, 0));
        assert!(outgoing.next_frame().is_none());
    }
}
