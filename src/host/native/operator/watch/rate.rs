//! So many lines in a second, and no more.

use crate::time::Instant;

/// Counts what is shown in each second, and what is not.
#[derive(Debug)]
pub(super) struct Rate {
    most: u32,
    second: u64,
    shown: u32,
    hidden: u64,
}

impl Rate {
    pub(super) fn new(most: u32) -> Self {
        Self { most, second: 0, shown: 0, hidden: 0 }
    }

    /// Whether one more is shown, and how many were not in a second that has ended since.
    pub(super) fn take(&mut self, now: Instant) -> (bool, u64) {
        let second = now.since_start().as_secs();
        let mut hidden = 0;
        if second != self.second {
            hidden = std::mem::take(&mut self.hidden);
            (self.second, self.shown) = (second, 0);
        }
        if self.shown < self.most {
            self.shown += 1;
            (true, hidden)
        } else {
            self.hidden += 1;
            (false, hidden)
        }
    }

    /// How many were not shown, and not told of yet.
    pub(super) fn left(&mut self) -> u64 {
        std::mem::take(&mut self.hidden)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_beyond_is_counted_and_told_in_the_next_second() {
        let mut rate = Rate::new(2);
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let taken = [0, 10, 20, 999, 1000, 1001, 1002, 5000].map(|ms| rate.take(at(ms)));
        let expected = [
            (true, 0),
            (true, 0),
            (false, 0),
            (false, 0),
            (true, 2),
            (true, 0),
            (false, 0),
            (true, 1),
        ];
        assert_eq!(taken, expected);
        assert_eq!((rate.left(), rate.left()), (0, 0));
    }
}
