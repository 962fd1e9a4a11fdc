//! What NATS brings, in a build without `wasm-nats`: nothing.

use crate::message::NatsMessage;

/// Never sent here.
pub(super) const DELIVERIES: u8 = 0xFF;
/// Never sent here.
pub(super) const INPUTS: u8 = 0xFA;
/// Never sent here.
pub(super) const ENDED: u8 = 0xFC;

/// The tag of nothing here.
pub(super) const ANSWERS: i64 = 102;

/// Never sent here.
pub(super) struct Ended {
    /// Of nothing.
    pub(super) number: u64,
}

impl Ended {
    /// Never one.
    pub(super) fn read(_: &[u8]) -> Option<Self> {
        None
    }
}

/// There are none.
#[derive(Debug)]
pub(super) enum Deliveries {}

impl Deliveries {
    /// Never one.
    pub(super) fn read(_: Vec<u8>) -> Option<Self> {
        None
    }
}

impl Iterator for Deliveries {
    type Item = NatsMessage;

    fn next(&mut self) -> Option<NatsMessage> {
        match *self {}
    }
}
