//! Many answers to one request (ADR-47): when there will be no more of them.

use std::time::Duration;

use super::headers::StatusCode;
use crate::time::Instant;

/// How long a request with many answers takes them: until the first of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestMany {
    /// The whole time, from the request on. Default: 5 s.
    pub total: Duration,
    /// The longest time between two answers. It starts with the first one: until then there is only
    /// `total`. Default: none.
    pub stall: Option<Duration>,
    /// How many answers are enough; 0 takes none. Default: 10,000. Each is handed on as it comes;
    /// who collects them holds this many times the server's `max_payload` (1 MiB) at the worst.
    pub max_messages: u32,
    /// Whether an answer without a payload says that it was the last; it is no answer itself.
    /// Default: false.
    pub sentinel: bool,
}

impl Default for RequestMany {
    fn default() -> Self {
        Self { total: Duration::from_secs(5), stall: None, max_messages: 10_000, sentinel: false }
    }
}

/// One request with many answers, as a machine: it is told of each answer and of the time, and says
/// whether to go on. For whoever reads the answers; see [`RequestMany`] for the rules.
///
/// ```
/// use std::time::Duration;
/// use rust_wasm_lunatic_nats::nats::{Gather, GatherEnd, Gathering, RequestMany};
/// use rust_wasm_lunatic_nats::time::Instant;
///
/// let at = |ms| Instant::from_start(Duration::from_millis(ms));
/// let many = RequestMany { stall: Some(Duration::from_millis(100)), ..RequestMany::default() };
/// let mut gather = Gather::new(at(0), &many);
/// assert_eq!(gather.tick(at(0)), Gathering::Continue { until: at(5000) });
/// assert!(gather.reply(at(700), None, 3), "an answer of three bytes");
/// assert_eq!(gather.tick(at(700)), Gathering::Continue { until: at(800) });
/// assert_eq!(gather.tick(at(800)), Gathering::Done(GatherEnd::Stalled));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    deadline: Instant,
    stall: Option<Duration>,
    /// When the next answer has to be there, once there was one.
    stalls_at: Option<Instant>,
    left: u32,
    sentinel: bool,
    end: Option<GatherEnd>,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gathering {
    /// Wait for another answer, at most until then; if there is none, call [`Gather::tick`].
    Continue {
        /// Until when.
        until: Instant,
    },
    /// That was all.
    Done(GatherEnd),
}

/// Why there are no more answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatherEnd {
    /// The whole time is over.
    TotalTime,
    /// Nothing came for too long after an answer.
    Stalled,
    /// There are as many as were asked for.
    Count,
    /// An answer without a payload said so.
    Sentinel,
    /// The server says that nobody listens (503).
    NoResponders,
}

impl Gather {
    /// A request that is sent at `now`.
    pub fn new(now: Instant, many: &RequestMany) -> Self {
        Self {
            deadline: now + many.total,
            stall: many.stall,
            stalls_at: None,
            left: many.max_messages,
            sentinel: many.sentinel,
            end: (many.max_messages == 0).then_some(GatherEnd::Count),
        }
    }

    /// An answer came: says whether it is one to hand on. Then ask [`Gather::tick`] whether to wait
    /// for more.
    ///
    /// What was there before anybody looked is not late by `stall`, which is about waiting: so an
    /// owner that takes its time between two answers loses none. `total` holds for them, too.
    pub fn reply(&mut self, now: Instant, status: Option<StatusCode>, payload_len: usize) -> bool {
        if self.end.is_some() {
            return false;
        }
        self.end = if now >= self.deadline {
            Some(GatherEnd::TotalTime)
        } else if status == Some(StatusCode::NO_RESPONDERS) && payload_len == 0 {
            Some(GatherEnd::NoResponders)
        } else if self.sentinel && payload_len == 0 {
            Some(GatherEnd::Sentinel)
        } else {
            None
        };
        if self.end.is_some() {
            return false;
        }
        self.stalls_at = self.stall.map(|stall| now + stall);
        self.left -= 1;
        if self.left == 0 {
            self.end = Some(GatherEnd::Count);
        }
        true
    }

    /// Whether to wait for another answer, and until when. To be asked when none is there.
    pub fn tick(&mut self, now: Instant) -> Gathering {
        let until = self.stalls_at.map_or(self.deadline, |stall| stall.min(self.deadline));
        if self.end.is_none() && now >= until {
            let is_total = now >= self.deadline;
            self.end = Some(if is_total { GatherEnd::TotalTime } else { GatherEnd::Stalled });
        }
        self.end.map_or(Gathering::Continue { until }, Gathering::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn gather(change: impl FnOnce(&mut RequestMany)) -> Gather {
        let mut many = RequestMany { total: Duration::from_millis(1000), ..Default::default() };
        change(&mut many);
        Gather::new(at(0), &many)
    }

    fn stall(ms: u64) -> impl FnOnce(&mut RequestMany) {
        move |many| many.stall = Some(Duration::from_millis(ms))
    }

    const NOT_FOUND: &[u8] = b"NATS/1.0 404 No Messages\r\n\r\n";

    #[test]
    fn the_whole_time_ends_it_and_the_last_answer_has_to_be_within() {
        let mut gather = gather(|_| {});
        assert!(gather.reply(at(999), None, 1));
        assert_eq!(gather.tick(at(999)), Gathering::Continue { until: at(1000) });
        assert!(!gather.reply(at(1000), None, 1));
        for _ in 0..2 {
            assert_eq!(gather.tick(at(1000)), Gathering::Done(GatherEnd::TotalTime));
            assert!(!gather.reply(at(1), None, 1), "an end is for good");
        }
    }

    #[test]
    fn a_stall_counts_from_the_first_answer_on() {
        let mut quiet = gather(stall(100));
        assert_eq!(quiet.tick(at(999)), Gathering::Continue { until: at(1000) });
        assert_eq!(quiet.tick(at(1000)), Gathering::Done(GatherEnd::TotalTime));

        let mut some = gather(stall(100));
        assert!(some.reply(at(300), None, 1) && some.reply(at(399), None, 1));
        assert_eq!(some.tick(at(498)), Gathering::Continue { until: at(499) });
        assert_eq!(some.tick(at(499)), Gathering::Done(GatherEnd::Stalled));

        // What waited while its owner did something else is not lost, the whole time holds.
        let mut slow = gather(stall(100));
        assert!(slow.reply(at(300), None, 1) && slow.reply(at(950), None, 1));
        assert_eq!(slow.tick(at(950)), Gathering::Continue { until: at(1000) });
        assert_eq!(slow.tick(at(1200)), Gathering::Done(GatherEnd::TotalTime));
    }

    #[test]
    fn so_many_are_enough() {
        let mut two = gather(|many| many.max_messages = 2);
        assert!(two.reply(at(1), None, 0) && two.reply(at(2), None, 0));
        assert_eq!(two.tick(at(2)), Gathering::Done(GatherEnd::Count));
        assert!(!two.reply(at(3), None, 1));
        let mut none = gather(|many| many.max_messages = 0);
        assert_eq!(none.tick(at(0)), Gathering::Done(GatherEnd::Count));
        assert!(!none.reply(at(0), None, 1));
        // The default is a bound, too.
        let mut gather = Gather::new(at(0), &RequestMany::default());
        assert_eq!((0..20_000).filter(|_| gather.reply(at(0), None, 1)).count(), 10_000);
    }

    #[test]
    fn an_empty_answer_is_the_last_if_that_was_agreed() {
        let mut agreed = gather(|many| many.sentinel = true);
        assert!(agreed.reply(at(1), None, 1));
        assert!(!agreed.reply(at(2), None, 0));
        assert_eq!(agreed.tick(at(2)), Gathering::Done(GatherEnd::Sentinel));
        assert!(gather(|_| {}).reply(at(1), None, 0), "otherwise it is an answer");
    }

    #[test]
    fn nobody_there_is_known_at_once_and_another_status_is_an_answer() {
        for sentinel in [false, true] {
            let mut gather = gather(|many| many.sentinel = sentinel);
            assert!(!gather.reply(at(1), Some(StatusCode::NO_RESPONDERS), 0));
            assert_eq!(gather.tick(at(1)), Gathering::Done(GatherEnd::NoResponders));
        }
        let mut gather = gather(|_| {});
        assert!(gather.reply(at(1), StatusCode::peek(NOT_FOUND), 0));
        // A responder that says 503 itself, with a payload, is there.
        assert!(gather.reply(at(1), Some(StatusCode::NO_RESPONDERS), 4));
    }

    #[test]
    fn never_can_be_written_as_the_longest_time() {
        let many = RequestMany {
            total: Duration::MAX,
            stall: Some(Duration::MAX),
            ..RequestMany::default()
        };
        let mut gather = Gather::new(at(5), &many);
        assert!(gather.reply(at(6), None, 1));
        let until = Instant::from_start(Duration::MAX);
        assert_eq!(gather.tick(at(1 << 40)), Gathering::Continue { until });
    }
}
