//! Sliding windows over failures, and what is usual in them.

use std::collections::VecDeque;
use std::time::Duration;

use super::agents::Agents;
use crate::time::Instant;

/// Which of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Windows {
    /// Deaths.
    Deaths,
    /// Failures of any severity.
    Failures,
    /// Failures for want of a resource.
    Exhaustions,
    /// Failures to reach others.
    Partitions,
}

impl Windows {
    pub(super) const COUNT: usize = 4;
}

/// A failure in a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) at: Instant,
    /// Its agent, or [`NOBODY`].
    pub(super) slot: u32,
    pub(super) is_death: bool,
    /// Whether it is of a kind that others can cause.
    pub(super) is_dependent: bool,
}

/// The slot of an agent for which there is no room, and of no agent at all.
pub(super) const NOBODY: u32 = u32::MAX;

/// The failures of the last while.
///
/// Bound: [`Window::MAX`] entries, 32 bytes each, 128 KB a window. Beyond it the oldest leaves
/// early, so that a count says "at least".
#[derive(Debug)]
pub(super) struct Window {
    number: usize,
    length: Duration,
    entries: VecDeque<Entry>,
    /// How many agents have an entry.
    agents: u32,
    /// Whether agents are counted, or failures.
    counts_agents: bool,
    dependent: u32,
    deaths: u32,
    /// The average of what was in the window at the end of each of its lengths, but for the last.
    usual: f64,
    lengths: u32,
    /// What was in it at the end of the last length: it may be there now, and what there is now is
    /// not to be compared with itself.
    last: f64,
    next_sample: Instant,
    pub(super) left_early: u64,
}

impl Window {
    pub(super) const MAX: usize = 4096;
    /// How many lengths back the average goes.
    const MEMORY: u32 = 60;
    /// The average begins as if so many quiet lengths had been before: what a node starts with is
    /// not yet usual.
    const QUIET: u32 = 6;

    pub(super) fn new(number: Windows, length: Duration, counts_agents: bool) -> Self {
        Self {
            number: number as usize,
            length,
            entries: VecDeque::new(),
            agents: 0,
            counts_agents,
            dependent: 0,
            deaths: 0,
            usual: 0.0,
            lengths: 0,
            last: 0.0,
            next_sample: Instant::START + length,
            left_early: 0,
        }
    }

    /// Adds what happened now.
    pub(super) fn push(&mut self, agents: &mut Agents, entry: Entry) {
        self.advance(agents, entry.at);
        if self.entries.len() >= Self::MAX {
            self.left_early += 1;
            self.pop(agents);
        }
        if let Some(agent) = agents.get(entry.slot) {
            let own = &mut agent.in_window[self.number];
            self.agents += u32::from(*own == 0);
            *own += 1;
        }
        self.dependent += u32::from(entry.is_dependent);
        self.deaths += u32::from(entry.is_death);
        self.entries.push_back(entry);
    }

    /// Lets go of what is older than the window. One that is exactly as old still counts.
    pub(super) fn advance(&mut self, agents: &mut Agents, now: Instant) {
        while self.next_sample <= now {
            let then = self.next_sample;
            self.expire(agents, then);
            if self.entries.is_empty() {
                // Nothing came since: all the lengths up to now were quiet.
                let length = self.length.as_nanos().max(1);
                let quiet = u32::try_from((now - then).as_nanos() / length).unwrap_or(u32::MAX - 1);
                for _ in 0..=quiet.min(Self::MEMORY * 16) {
                    self.sample(0.0);
                }
                self.next_sample = then + self.length.saturating_mul(quiet.saturating_add(1));
            } else {
                self.sample(f64::from(self.count()));
                self.next_sample = then + self.length;
            }
        }
        self.expire(agents, now);
    }

    fn sample(&mut self, count: f64) {
        self.lengths = self.lengths.saturating_add(1);
        let share = 1.0 / f64::from((self.lengths.saturating_add(Self::QUIET)).min(Self::MEMORY));
        self.usual += (self.last - self.usual) * share;
        self.last = count;
    }

    fn expire(&mut self, agents: &mut Agents, now: Instant) {
        while self.entries.front().is_some_and(|entry| now - entry.at > self.length) {
            self.pop(agents);
        }
    }

    fn pop(&mut self, agents: &mut Agents) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.agents -= u32::from(agents.left(entry.slot, self.number));
        self.dependent -= u32::from(entry.is_dependent);
        self.deaths -= u32::from(entry.is_death);
    }

    /// What the window counts: failures, or agents.
    pub(super) fn count(&self) -> u32 {
        if self.counts_agents {
            self.agents
        } else {
            self.entries.len() as u32
        }
    }

    pub(super) fn agents(&self) -> u32 {
        self.agents
    }

    pub(super) fn dependent(&self) -> u32 {
        self.dependent
    }

    pub(super) fn deaths(&self) -> u32 {
        self.deaths
    }

    pub(super) fn usual(&self) -> f64 {
        self.usual
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// The oldest first.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}
