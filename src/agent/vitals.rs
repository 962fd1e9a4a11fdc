//! What an agent knows of how it does, and when its supervisor is to hear of it.

use std::time::Duration;

use crate::supervision::{Figures, HandlingTimes};
use crate::time::Instant;

/// How an agent does in its present life, for the host that runs it.
///
/// Its supervisor asks now and then, behind what waits in the mailbox, and takes an agent that does
/// not answer in time for stuck. One that is only busy says so unasked.
#[derive(Debug)]
pub struct Vitals {
    figures: Figures,
    times: HandlingTimes,
    timeout: Duration,
    /// When the supervisor heard of it last; and whether it was unasked.
    heard: (Instant, bool),
    /// How many more errors of its handlers are reported one by one until the next question.
    reports: u32,
}

impl Vitals {
    /// So many errors of an agent's handlers are reported one by one between two questions; beyond it
    /// they are only counted, so that one failing agent cannot fill the supervisor's mailbox.
    pub const MAX_REPORTS: u32 = 32;
    /// The text of such a report is cut to this many bytes.
    pub const MAX_REPORT: usize = 1024;

    /// A life begins, of an agent that has that long to answer.
    pub fn new(now: Instant, timeout: Duration) -> Self {
        Self {
            figures: Figures::default(),
            times: HandlingTimes::new(now),
            timeout,
            heard: (now, false),
            reports: Self::MAX_REPORTS,
        }
    }

    /// Whether it is to be measured how long the next message takes.
    pub fn measures_next(&mut self) -> bool {
        self.times.is_next()
    }

    /// A message was handled.
    pub fn handled(&mut self) {
        self.figures.handled += 1;
    }

    /// A message that was begun at `started` is done. What its supervisor is to be told unasked, if it
    /// is time for that.
    pub fn took(&mut self, started: Instant, now: Instant) -> Option<Figures> {
        self.times.took(now, now - started);
        // Who is asked in time answers twice in its timeout, and has nothing to say between.
        let (at, unasked) = self.heard;
        let silence = self.timeout / if unasked { 4 } else { 2 };
        (now - at > silence).then(|| {
            self.heard = (now, true);
            self.figures
        })
    }

    /// A handler returned an error. Whether that is to be reported by itself.
    pub fn failed(&mut self) -> bool {
        self.figures.errors += 1;
        let is_reported = self.reports > 0;
        self.reports -= u32::from(is_reported);
        is_reported
    }

    /// The answer to the supervisor's question, which waited so long for its turn. `memory_bytes` are
    /// none where the host cannot measure them.
    pub fn answer(
        &mut self,
        now: Instant,
        memory_bytes: Option<u64>,
        mailbox_delay: Duration,
    ) -> Figures {
        self.heard = (now, false);
        self.reports = Self::MAX_REPORTS;
        self.figures.memory_bytes = memory_bytes;
        self.figures.handling_us = self.times.quantiles(now);
        let mailbox_delay_us = u64::try_from(mailbox_delay.as_micros()).ok();
        Figures { mailbox_delay_us, ..self.figures }
    }
}

/// The text of a report, cut.
pub fn cut_report(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(Vitals::MAX_REPORT));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn who_is_busy_says_so_unasked_after_half_of_its_timeout_and_then_each_quarter() {
        let mut vitals = Vitals::new(at(0), SECOND);
        let mut told = Vec::new();
        for ms in (10..=2_000).step_by(10) {
            vitals.handled();
            if vitals.took(at(ms - 10), at(ms)).is_some() {
                told.push(ms);
            }
        }
        assert_eq!(told, [510, 770, 1_030, 1_290, 1_550, 1_810]);
        vitals.answer(at(2_000), None, Duration::ZERO);
        assert!(vitals.took(at(2_000), at(2_500)).is_none(), "it was asked just now");
    }

    #[test]
    fn thirty_two_errors_are_reported_between_two_questions() {
        let mut vitals = Vitals::new(at(0), SECOND);
        let reported = |vitals: &mut Vitals| (0..100).filter(|_| vitals.failed()).count();
        assert_eq!((reported(&mut vitals), reported(&mut vitals)), (32, 0));
        let figures = vitals.answer(at(1), Some(7), Duration::from_micros(5));
        assert_eq!((figures.errors, figures.memory_bytes), (200, Some(7)));
        assert_eq!(figures.mailbox_delay_us, Some(5));
        assert_eq!(reported(&mut vitals), 32);
    }

    #[test]
    fn a_report_is_cut_at_a_character() {
        assert_eq!(cut_report("ä".repeat(1_000)).len(), 1_024);
        let odd = format!("x{}", "ä".repeat(1_000));
        assert_eq!(cut_report(odd).len(), 1_023);
    }
}
