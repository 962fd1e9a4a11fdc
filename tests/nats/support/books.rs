//! Who was told what about which message, and what became of it. The rules, for every fault:
//!
//! - What arrives was published, arrives as it was sent, in its order, and once.
//! - Its order is that of its connection. What a broken one took with it, the server may still have before
//!   it, and read after what came by the next one: so one whose flush failed may be late.
//! - A publish that was refused at the call does not arrive.
//! - A publish whose flush succeeded has arrived.
//! - One whose flush failed may have arrived or be lost: that is what its publisher was told.

use rust_wasm_lunatic_nats::nats::FlushError;

use crate::{Client, PublishRefused};

/// What one publisher was told.
#[derive(Debug, Default)]
pub struct Books {
    told: Vec<Told>,
    /// Up to here nothing is open.
    flushed: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// An error at the call.
    Refused,
    /// Taken, and not yet flushed.
    Taken,
    /// The server has it.
    Confirmed,
    /// The flush failed.
    Unknown,
}

/// How many publishes ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// With an error at the call.
    pub refused: usize,
    /// With a flush that said that the server has it.
    pub confirmed: usize,
    /// With a flush that failed; those of them that arrived, and those that did
    /// not.
    pub unknown_arrived: usize,
    /// See there.
    pub unknown_lost: usize,
}

impl Books {
    /// Publishes the next message.
    pub fn publish(&mut self, client: &Client, subject: &str) -> Result<(), PublishRefused> {
        let sent = client.publish(subject, &body(self.told.len()));
        self.told.push(match sent {
            Ok(()) => Told::Taken,
            Err(_) => Told::Refused,
        });
        sent
    }

    /// Flushes, and notes for what that holds.
    pub fn flush(&mut self, client: &Client) -> Result<(), FlushError> {
        let flushed = client.flush();
        for told in &mut self.told[self.flushed..] {
            if *told == Told::Taken {
                *told = if flushed.is_ok() { Told::Confirmed } else { Told::Unknown };
            }
        }
        self.flushed = self.told.len();
        flushed
    }

    /// Notes what arrived by one connection or another.
    #[track_caller]
    pub fn note(&self, arrivals: &mut Arrivals, payload: &[u8]) {
        let number = number(payload);
        match arrivals.numbers.binary_search(&number) {
            Err(at) if at < arrivals.count() && self.told.get(number) == Some(&Told::Unknown) => {
                arrivals.numbers.insert(at, number);
            }
            _ => arrivals.note(payload),
        }
    }

    /// Holds what arrived against it. Everything has to be flushed.
    #[track_caller]
    pub fn check(&self, arrivals: &Arrivals) -> Sum {
        assert_eq!(self.flushed, self.told.len(), "everything is flushed");
        let mut sum = Sum::default();
        let mut arrived = arrivals.numbers.iter().copied().peekable();
        for (number, told) in self.told.iter().enumerate() {
            let came = arrived.next_if_eq(&number).is_some();
            match (told, came) {
                (Told::Refused, false) => sum.refused += 1,
                (Told::Refused, true) => panic!("{number} was refused, and came"),
                (Told::Confirmed, true) => sum.confirmed += 1,
                (Told::Confirmed, false) => panic!("{number} was confirmed, and is lost"),
                (Told::Unknown, true) => sum.unknown_arrived += 1,
                (Told::Unknown, false) => sum.unknown_lost += 1,
                (Told::Taken, _) => panic!("{number} is open"),
            }
        }
        assert_eq!(arrived.next(), None, "nobody published that");
        sum
    }
}

/// What arrived, in its order.
#[derive(Debug, Default)]
pub struct Arrivals {
    numbers: Vec<usize>,
}

impl Arrivals {
    /// Notes a payload, which has to be a whole one and later than all before it.
    #[track_caller]
    pub fn note(&mut self, payload: &[u8]) {
        let number = number(payload);
        if let Some(last) = self.numbers.last() {
            assert!(number > *last, "{number} came after {last}: twice, or out of order");
        }
        self.numbers.push(number);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// The last one.
    pub fn last(&self) -> Option<usize> {
        self.numbers.last().copied()
    }

    /// Whether `range` has arrived as a whole, at the end.
    #[track_caller]
    pub fn assert_ends_with(&self, range: std::ops::Range<usize>) {
        let tail = &self.numbers[self.numbers.len().saturating_sub(range.len())..];
        assert!(tail.iter().copied().eq(range.clone()), "{tail:?} and not {range:?}");
    }
}

/// The payload of a message: its number, and bytes of every value that follow from it, some with
/// line ends and words of the protocol in them.
pub fn body(number: usize) -> Vec<u8> {
    let mut body = format!("{number}\r\nMSG a 1 1\r\n").into_bytes();
    body.extend((0..number * 31 % 257).map(|at| (number + at) as u8));
    body
}

/// The number of a message, which has to be as it was sent.
#[track_caller]
fn number(payload: &[u8]) -> usize {
    let digits = payload.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0usize, |number, digit| number * 10 + usize::from(digit - b'0'));
    assert!(payload == body(number), "message {number} came with another payload");
    number
}
