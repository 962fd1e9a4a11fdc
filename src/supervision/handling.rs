//! How long an agent's handlers take: a histogram of fixed size, filled by a sample of its
//! messages.
//!
//! Reading a clock costs a third of what a short message does, so that not each is measured. Where
//! they come, or take, [`LONG`] or more, each is; where they come quicker it is one of two, of four,
//! and so on, up to one of [`MAX_STRIDE`]. How many are left out is random, so that what comes every
//! so often is not missed, and each measured message counts for those before it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Instant;

/// How long the handlers of an agent took, in µs. Each figure is the upper bound of a class of the
/// histogram: never too low, and at most a quarter too high.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of the messages took no longer.
    pub p50: u64,
    /// 90 of 100 messages took no longer.
    pub p90: u64,
    /// 99 of 100 messages took no longer.
    pub p99: u64,
}

/// The handling times of one life of an agent, the recent ones above all: what was counted counts
/// half after each minute.
///
/// 448 bytes of classes, whatever comes: four to an octave, from 1 µs to 2²⁸ µs (4.5 minutes);
/// what takes longer counts as that. It is for a host, which reads the clock for those messages that
/// it says, and is part of the [`Figures`](super::Figures) of an agent.
#[derive(Clone, Debug)]
pub struct HandlingTimes {
    counts: [u32; CLASSES],
    /// So many messages until one is measured.
    left: u32,
    /// So many messages the next measured one counts for.
    stands_for: u32,
    /// Of so many messages one is measured, in the mean.
    stride: u32,
    random: u32,
    halved_at: Instant,
    measured_at: Instant,
}

const CLASSES: usize = 28 * 4;
/// Beside this, two looks at the clock (0.4 µs) are nothing.
const LONG: Duration = Duration::from_micros(50);
/// With the shortest messages (0.7 µs) that is an effort of 1 %.
const MAX_STRIDE: u32 = 64;
const HALF_LIFE: Duration = Duration::from_secs(60);
/// What one message counts: a single one is remembered for four minutes.
const WEIGHT: u32 = 8;

impl HandlingTimes {
    /// Nothing was handled so far.
    pub fn new(now: Instant) -> Self {
        let (left, stands_for, stride) = (1, 1, 1);
        let (halved_at, measured_at) = (now, now);
        let counts = [0; CLASSES];
        Self { counts, left, stands_for, stride, random: 1, halved_at, measured_at }
    }

    /// Whether the next message is to be measured; what it took is then given to
    /// [`Self::took`].
    pub fn is_next(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// How long the message took that was measured and is done now.
    pub fn took(&mut self, now: Instant, time: Duration) {
        if let Some(count) = self.counts.get_mut(class(time)) {
            *count = count.saturating_add(self.stands_for * WEIGHT);
        }
        let is_slow = now - self.measured_at >= LONG * self.stands_for;
        self.stride = if is_slow { 1 } else { (self.stride * 2).min(MAX_STRIDE) };
        self.measured_at = now;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        // From 1 to 2 strides less 1: the mean is the stride.
        self.left = 1 + self.random % (2 * self.stride - 1);
        self.stands_for = self.left;
    }

    /// What is known now; nothing if no message was handled of late.
    pub fn quantiles(&mut self, now: Instant) -> Option<Quantiles> {
        let half_lives = (now - self.halved_at).as_secs() / HALF_LIFE.as_secs();
        let half_lives = u32::try_from(half_lives).unwrap_or(u32::MAX);
        if half_lives > 0 {
            self.halved_at = self.halved_at + HALF_LIFE.saturating_mul(half_lives);
            for count in &mut self.counts {
                *count = count.checked_shr(half_lives).unwrap_or(0);
            }
        }
        let total: u64 = self.counts.iter().map(|&count| u64::from(count)).sum();
        if total == 0 {
            return None;
        }
        let quantile = |percent: u64| {
            let rank = (total * percent).div_ceil(100);
            let mut seen = 0;
            let is_there = |&count: &u32| {
                seen += u64::from(count);
                seen >= rank
            };
            upper_bound(self.counts.iter().position(is_there).unwrap_or(CLASSES - 1))
        };
        Some(Quantiles { p50: quantile(50), p90: quantile(90), p99: quantile(99) })
    }
}

/// The octave of a time in µs, and which quarter of it.
fn class(time: Duration) -> usize {
    let us = time.as_nanos().div_ceil(1000).clamp(1, 1 << 28) as u64;
    let octave = us.ilog2();
    let quarter = (us << 2 >> octave) & 3;
    (octave as usize * 4 + quarter as usize).min(CLASSES - 1)
}

/// The most µs that fall into a class, or the next whole number.
fn upper_bound(class: usize) -> u64 {
    let (octave, quarter) = (class / 4, class as u64 % 4);
    (5 + quarter) << octave >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// Handles messages that take so long, one after the other, and tells how many were measured.
    fn handle(times: &mut HandlingTimes, messages: impl Iterator<Item = Duration>) -> u32 {
        let (mut measured, mut now) = (0, times.measured_at);
        for time in messages {
            now = now + time;
            if times.is_next() {
                measured += 1;
                times.took(now, time);
            }
        }
        measured
    }

    #[test]
    fn a_class_is_never_below_what_is_in_it_and_at_most_a_quarter_above() {
        let mut time = 1;
        while time < 1 << 28 {
            let bound = upper_bound(class(us(time)));
            assert!(bound >= time && bound <= time + time / 4, "{time}: {bound}");
            time += 1 + time / 37;
        }
        assert_eq!(upper_bound(class(Duration::ZERO)), 1);
        assert_eq!(upper_bound(class(Duration::from_nanos(20_000_001))), 20_480);
        assert_eq!(upper_bound(class(Duration::MAX)), 1 << 28, "the last class");
    }

    #[test]
    fn long_or_rare_messages_are_all_measured_and_a_flood_of_short_ones_by_the_sixty_fourth() {
        let mut times = HandlingTimes::new(at(0));
        assert_eq!(times.quantiles(at(0)), None);
        assert_eq!(handle(&mut times, (0..1000).map(|_| us(50))), 1000);
        let measured = handle(&mut times, (0..64_000).map(|_| us(1)));
        assert!((900..1100).contains(&measured), "{measured}");
        // Short ones that come one by one: the first of them ends the flood.
        let mut now = times.measured_at;
        let mut measured = 0;
        for _ in 0..1000 {
            now = now + Duration::from_millis(1);
            if times.is_next() {
                measured += 1;
                times.took(now, us(1));
            }
        }
        assert!(measured >= 1000 - 2 * MAX_STRIDE, "{measured}");
    }

    #[test]
    fn what_comes_seldom_or_regularly_is_counted_for_what_it_is() {
        // One in 50 takes 20 ms: by chance, and then each fiftieth.
        let mut random = 9_u32;
        let by_chance = (0..200_000).map(move |_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if (random >> 16).is_multiple_of(50) {
                20_000
            } else {
                3
            }
        });
        let each_fiftieth = (0..200_000).map(|n| if n % 50 == 0 { 20_000 } else { 3 });
        let cases: [Box<dyn Iterator<Item = u64>>; 2] =
            [Box::new(by_chance), Box::new(each_fiftieth)];
        for messages in cases {
            let mut times = HandlingTimes::new(at(0));
            handle(&mut times, messages.map(us));
            let quantiles = times.quantiles(at(0)).expect("messages were handled");
            assert_eq!(quantiles, Quantiles { p50: 3, p90: 3, p99: 20_480 });
            let total: u32 = times.counts.iter().sum();
            let slow = f64::from(times.counts[class(us(20_000))]) / f64::from(total);
            assert!((0.015..0.025).contains(&slow), "{slow}");
        }
    }

    #[test]
    fn the_past_counts_half_each_minute_and_a_single_message_for_four() {
        let mut times = HandlingTimes::new(at(0));
        handle(&mut times, std::iter::once(us(700)));
        for minute in 0..4 {
            let quantiles = times.quantiles(at(60 * minute)).expect("still known");
            assert_eq!(quantiles.p50, 768);
        }
        assert_eq!(times.quantiles(at(240)), None);
        // What is long ago does not hide what is now.
        handle(&mut times, (0..100).map(|_| us(100)));
        times.quantiles(at(600));
        handle(&mut times, (0..3).map(|_| us(5_000)));
        assert_eq!(times.quantiles(at(600)).expect("known").p50, 5_120);
        assert_eq!(times.quantiles(at(u64::MAX / 2)), None, "however long it was");
    }
}
