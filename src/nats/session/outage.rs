//! When to try again.

use std::time::Duration;

use crate::nats::config::ReconnectDelays;
use crate::nats::rng::Rng;
use crate::time::Instant;

/// The time without a connection, from its loss (or the session's start) until one has lasted.
#[derive(Debug)]
pub(crate) struct Outage {
    since: Instant,
    /// Attempts that were started.
    pub(crate) attempts: u32,
    /// Attempts that failed since a connection was up.
    pub(crate) failed: u32,
}

impl Outage {
    /// How long a connection has to last for the outage before it to be over: a server that takes
    /// us and throws us out again must not be asked at full speed.
    pub(crate) const OVER_AFTER: Duration = Duration::from_secs(1);

    pub(crate) fn new(since: Instant) -> Self {
        Self { since, attempts: 0, failed: 0 }
    }

    /// The time until the next attempt, with `servers` of them to try in turn. Without jitter it is
    /// `first` × 2ⁿ, where n is the number of rounds that failed after the first.
    pub(crate) fn delay(
        &self,
        now: Instant,
        servers: usize,
        delays: &ReconnectDelays,
        rng: &mut Rng,
    ) -> Duration {
        let servers = u32::try_from(servers.max(1)).unwrap_or(u32::MAX);
        let rounds = self.attempts / servers;
        let Some(doublings) = rounds.checked_sub(1) else {
            return Duration::ZERO;
        };
        let early = now - self.since < delays.cap_for;
        let cap = if early { delays.cap } else { delays.late_cap };
        let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let whole = delays.first.saturating_mul(factor).min(cap);
        // A half for sure, and a random part of the other.
        let half = whole / 2;
        let micros = u64::try_from((whole - half).as_micros()).unwrap_or(u64::MAX);
        half + Duration::from_micros(rng.below(micros.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bounds of the delay before each attempt, in ms.
    fn bounds(attempts: u32, servers: usize, elapsed: u64) -> (u128, u128) {
        let outage = Outage { attempts, ..Outage::new(Instant::START) };
        let now = Instant::from_start(Duration::from_secs(elapsed));
        let mut rng = Rng::new(1);
        let mut drawn: Vec<_> = (0..2000)
            .map(|_| outage.delay(now, servers, &ReconnectDelays::default(), &mut rng))
            .map(|delay| delay.as_millis())
            .collect();
        drawn.sort_unstable();
        (drawn[0], drawn[drawn.len() - 1])
    }

    #[test]
    fn the_table() {
        // (attempts so far, servers, seconds of outage, longest in ms)
        for (attempts, servers, elapsed, longest) in [
            (0, 1, 0, 0),
            (1, 1, 0, 50),
            (2, 1, 0, 100),
            (3, 1, 0, 200),
            (4, 1, 0, 400),
            (5, 1, 0, 500),
            (60, 1, 29, 500),
            (60, 1, 30, 4000),
            (u32::MAX, 1, 1_000_000, 4000),
            (5, 1, 30, 800),
            (2, 3, 0, 0),
            (3, 3, 0, 50),
            (5, 3, 0, 50),
            (6, 3, 0, 100),
        ] {
            let (low, high) = bounds(attempts, servers, elapsed);
            assert!(
                high <= longest && high * 100 >= longest * 95,
                "{attempts} {servers} {elapsed}: {high} of {longest}"
            );
            assert!(
                low * 2 >= longest.saturating_sub(2) && low * 100 <= longest * 55,
                "{attempts} {servers} {elapsed}: {low} of {longest}"
            );
        }
    }
}
