//! How long to wait before a restart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The delay before a restart, by its number in the window of [`Intensity`](super::Intensity):
/// none before the first, `min` before the second, then `factor` times as much each, up to `max`.
/// When old restarts leave the window, the delay shrinks again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// The delay before the second restart. Default: 100 ms.
    pub min: Duration,
    /// The longest delay, jitter included. Default: 10 s.
    pub max: Duration,
    /// What the delay grows by, at least 1. Default: 2.
    pub factor: f64,
    /// The share of the delay by which it varies in both directions, 0 to 1, so that those that
    /// died together do not come back together. Default: 0.1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(100),
            max: Duration::from_secs(10),
            factor: 2.0,
            jitter: 0.1,
        }
    }
}

impl Backoff {
    /// The delay before the restart number `attempt` (from 1); `random` is between 0 and 1.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        if attempt < 2 {
            return Duration::ZERO;
        }
        let exponent = i32::try_from(attempt - 2).unwrap_or(i32::MAX);
        let grown = self.min.as_secs_f64() * self.factor.powi(exponent);
        let jittered = grown.min(self.max.as_secs_f64())
            * (1.0 + self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0));
        Duration::try_from_secs_f64(jittered).unwrap_or(self.max).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        let backoff = Backoff::default();
        let ms = |attempt, random| backoff.delay(attempt, random).as_millis();
        let cases = [
            (0, 0),
            (1, 0),
            (2, 100),
            (3, 200),
            (4, 400),
            (5, 800),
            (8, 6_400),
            (9, 10_000),
            (1_000, 10_000),
            (u32::MAX, 10_000),
        ];
        for (attempt, expected) in cases {
            assert_eq!(ms(attempt, 0.5), expected, "attempt {attempt}");
        }
    }

    #[test]
    fn jitter_varies_the_delay_and_never_exceeds_the_maximum() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(2, 0.0), Duration::from_millis(90));
        assert_eq!(backoff.delay(2, 1.0), Duration::from_millis(110));
        assert_eq!(backoff.delay(2, 7.0), Duration::from_millis(110));
        assert_eq!(backoff.delay(50, 1.0), backoff.max);
        assert_eq!(backoff.delay(50, 0.0), Duration::from_secs(9));
    }

    #[test]
    fn nonsense_is_held_at_the_maximum() {
        let backoff = Backoff { factor: f64::NAN, ..Default::default() };
        assert!(backoff.delay(9, 0.5) <= backoff.max);
    }
}
