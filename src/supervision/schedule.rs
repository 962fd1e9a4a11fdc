//! When whose turn is.

use std::collections::BTreeSet;

use crate::time::Instant;

/// At most one instant for each child. Everything takes O(log n), so that ten thousand idle
/// agents cost nothing.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    due: BTreeSet<(Instant, K)>,
    /// How often a child was moved: what a test counts the work by.
    #[cfg(test)]
    pub(super) moves: u64,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            due: BTreeSet::new(),
            #[cfg(test)]
            moves: 0,
        }
    }
}

impl<K: Ord + Clone> Schedule<K> {
    /// Moves a child from `old`, which is what was set last, to `new`.
    pub(super) fn set(&mut self, id: &K, old: Option<Instant>, new: Option<Instant>) {
        if old == new {
            return;
        }
        #[cfg(test)]
        {
            self.moves += 1;
        }
        if let Some(old) = old {
            self.due.remove(&(old, id.clone()));
        }
        if let Some(new) = new {
            self.due.insert((new, id.clone()));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A child that is due; it stays where it is until it is set anew.
    pub(super) fn due(&self, now: Instant) -> Option<K> {
        let (at, id) = self.due.first()?;
        (*at <= now).then(|| id.clone())
    }
}
