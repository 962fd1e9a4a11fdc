//! How many restarts are too many.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// The most restarts in any window of a length; one more, and the supervisor gives up.
///
/// The terms and the meaning are those of OTP (`intensity` and `period`): five restarts in five
/// seconds are allowed, the death that would need a sixth is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    /// The most restarts in the window, at most [`Intensity::MAX`]. Default: 5.
    ///
    /// Worst case: 16 bytes per restart and child, 16 KB per child at the maximum.
    pub max_restarts: u32,
    /// The window's length. Default: 5 s.
    pub period: Duration,
}

impl Intensity {
    /// The largest `max_restarts`.
    pub const MAX: u32 = 1000;
}

impl Default for Intensity {
    fn default() -> Self {
        Self { max_restarts: 5, period: Duration::from_secs(5) }
    }
}

/// The restarts that lie in the window which ends now: a true sliding window, which remembers
/// each restart, and not a counter that is reset from time to time.
#[derive(Clone, Debug, Default)]
pub struct RestartHistory {
    restarts: VecDeque<Instant>,
}

impl RestartHistory {
    /// The number of the next restart in the window, from 1; nothing if it would be one too many.
    pub fn next_attempt(&mut self, now: Instant, intensity: Intensity) -> Option<u32> {
        self.next_attempt_beside(now, intensity, 0)
    }

    /// As [`RestartHistory::next_attempt`], where so many others are decided on and not yet done.
    pub fn next_attempt_beside(
        &mut self,
        now: Instant,
        intensity: Intensity,
        decided: u32,
    ) -> Option<u32> {
        self.forget(now, intensity.period);
        let done = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        let attempt = done.saturating_add(decided).saturating_add(1);
        (attempt <= intensity.max_restarts).then_some(attempt)
    }

    /// Remembers a restart. Restarts are counted when they are done and not when they are decided
    /// on, so that a delay between the two cannot push six of them into one window.
    pub fn record(&mut self, now: Instant, intensity: Intensity) {
        self.forget(now, intensity.period);
        self.restarts.push_back(now);
    }

    /// A restart that is exactly one period old still counts.
    fn forget(&mut self, now: Instant, period: Duration) {
        while self.restarts.front().is_some_and(|at| now - *at > period) {
            self.restarts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn the_sixth_in_the_window_is_one_too_many() {
        let five = Intensity::default();
        let mut history = RestartHistory::default();
        for n in 0..5 {
            assert_eq!(history.next_attempt(at(n * 1000), five), Some(n as u32 + 1));
            history.record(at(n * 1000), five);
        }
        assert_eq!(history.next_attempt(at(5000), five), None, "0 to 5 s");
        assert_eq!(history.next_attempt(at(5001), five), Some(5), "0 is out");
    }

    #[test]
    fn none_allowed_is_none_at_all() {
        let none = Intensity { max_restarts: 0, ..Default::default() };
        assert_eq!(RestartHistory::default().next_attempt(at(0), none), None);
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_allowed(
            gaps in prop::collection::vec(0u64..3000, 1..200),
            max_restarts in 0u32..8,
            period_ms in 1u64..6000,
        ) {
            let period = Duration::from_millis(period_ms);
            let intensity = Intensity { max_restarts, period };
            let mut history = RestartHistory::default();
            let (mut now, mut done) = (at(0), Vec::new());
            for gap in gaps {
                now = now + Duration::from_millis(gap);
                if history.next_attempt(now, intensity).is_some() {
                    history.record(now, intensity);
                    done.push(now);
                }
            }
            for (i, first) in done.iter().enumerate() {
                let within = done[i..].iter().filter(|at| **at - *first <= period).count();
                prop_assert!(within <= max_restarts as usize);
            }
        }
    }
}
