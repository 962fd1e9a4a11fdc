//! What is remembered of each agent: in which windows it stands, and how fast it used to answer.

use std::time::Duration;

use super::window::Windows;
use crate::agent::AgentId;
use crate::time::Instant;

/// The agents that were heard of, each in a slot that does not move.
///
/// Bound: [`Agents::MAX`]. Worst case: about 300 bytes each with the longest ids, 5 MB in all.
#[derive(Debug, Default)]
pub(super) struct Agents {
    /// The slots in the order of their ids. A new agent moves 64 KB of it at most, which takes a
    /// microsecond; a tree would be 8 KB of code.
    by_id: Vec<u32>,
    slots: Vec<Agent>,
    free: Vec<u32>,
    next_sweep: Instant,
    scan: u32,
    /// How many are slow now.
    pub(super) slow: u32,
    /// How often there was no room for one.
    pub(super) untracked: u64,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) id: AgentId,
    /// How many entries of each window are its own.
    pub(super) in_window: [u16; Windows::COUNT],
    /// It has ended for good; its slot is free once no window knows it, unless it comes back.
    is_gone: bool,
    heard: Instant,
    scanned: u32,
    pub(super) pace: Pace,
}

/// How fast an agent answers its health checks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The last three answers in ms, the newest last.
    recent: [f32; 3],
    /// What came before those: an average that forgets.
    usual: f32,
    /// How many answers there were, those in `recent` included.
    samples: u16,
    /// It missed a health check, so that it is slow whatever it measured before.
    is_late: bool,
    pub(super) is_slow: bool,
}

impl Agents {
    /// More agents than one node can have, so that who watches several nodes has room.
    pub(super) const MAX: usize = 16_384;
    /// When there is no room, those are forgotten that were not heard for so long: 20 reports.
    const FORGET: Duration = Duration::from_secs(600);
    /// A sweep looks at all of them, so it is not done for each that finds no room.
    const SWEEP: Duration = Duration::from_secs(60);

    /// The slot of an agent; none if there is no room.
    pub(super) fn slot(&mut self, now: Instant, id: &AgentId) -> Option<u32> {
        if let Some(slot) = self.find(id).ok().and_then(|at| self.by_id.get(at).copied()) {
            if let Some(agent) = self.get(slot) {
                agent.heard = now;
                agent.is_gone = false;
            }
            return Some(slot);
        }
        if self.by_id.len() >= Self::MAX {
            self.sweep(now);
        }
        let agent = Agent {
            id: id.clone(),
            in_window: [0; Windows::COUNT],
            is_gone: false,
            heard: now,
            scanned: 0,
            pace: Pace::default(),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                *self.slots.get_mut(slot as usize)? = agent;
                slot
            }
            None if self.slots.len() >= Self::MAX => {
                self.untracked += 1;
                return None;
            }
            None => {
                self.slots.push(agent);
                self.slots.len() as u32 - 1
            }
        };
        let at = self.find(id).unwrap_or_else(|at| at);
        self.by_id.insert(at, slot);
        Some(slot)
    }

    /// Where an agent stands in the order, or would stand.
    fn find(&self, id: &AgentId) -> Result<usize, usize> {
        self.by_id.binary_search_by(|&slot| {
            let agent = self.slots.get(slot as usize);
            agent.map_or("", |agent| agent.id.as_str()).cmp(id.as_str())
        })
    }

    pub(super) fn get(&mut self, slot: u32) -> Option<&mut Agent> {
        self.slots.get_mut(slot as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The agent has ended for good.
    pub(super) fn forget(&mut self, id: &AgentId) {
        let Some(&slot) = self.find(id).ok().and_then(|at| self.by_id.get(at)) else { return };
        let Some(agent) = self.slots.get_mut(slot as usize) else { return };
        self.slow -= u32::from(agent.pace.is_slow);
        agent.pace = Pace::default();
        agent.is_gone = true;
        self.free_if_unknown(slot);
    }

    /// An entry of the agent has left a window; true if it was the last one there.
    pub(super) fn left(&mut self, slot: u32, window: usize) -> bool {
        let Some(agent) = self.slots.get_mut(slot as usize) else { return false };
        agent.in_window[window] = agent.in_window[window].saturating_sub(1);
        let is_out = agent.in_window[window] == 0;
        if is_out && agent.is_gone {
            self.free_if_unknown(slot);
        }
        is_out
    }

    fn free_if_unknown(&mut self, slot: u32) {
        let Some(agent) = self.slots.get(slot as usize) else { return };
        if agent.is_gone && agent.in_window == [0; Windows::COUNT] {
            if let Ok(at) = self.find(&agent.id) {
                self.by_id.remove(at);
                self.free.push(slot);
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + Self::SWEEP;
        let is_old = |agent: &&Agent| !agent.is_gone && now - agent.heard > Self::FORGET;
        let old: Vec<AgentId> =
            self.slots.iter().filter(is_old).map(|agent| agent.id.clone()).collect();
        old.iter().for_each(|id| self.forget(id));
    }

    /// Begins to look through a window: nobody has been seen yet.
    pub(super) fn begin_scan(&mut self) {
        self.scan = self.scan.wrapping_add(1);
        if self.scan == 0 {
            // Once in four thousand million scans, the marks of old ones could be taken for new.
            self.slots.iter_mut().for_each(|agent| agent.scanned = 0);
            self.scan = 1;
        }
    }

    /// The agent, if it is seen for the first time since the scan began.
    pub(super) fn first_time(&mut self, slot: u32) -> Option<&AgentId> {
        let scan = self.scan;
        let agent = self.get(slot)?;
        if agent.scanned == scan {
            return None;
        }
        agent.scanned = scan;
        Some(&agent.id)
    }

    /// Changes what is known of an agent's pace, and keeps the count of the slow ones.
    pub(super) fn change_pace(&mut self, slot: u32, change: impl FnOnce(&mut Pace)) {
        let Some(agent) = self.slots.get_mut(slot as usize) else { return };
        let before = agent.pace.is_slow;
        change(&mut agent.pace);
        let after = agent.pace.is_slow;
        self.slow = self.slow + u32::from(after) - u32::from(before);
    }

    /// The slow ones, and the average of how many times slower than usual they are, where that is
    /// known. It looks at all agents: only for what is told.
    pub(super) fn slow_ones(&self, most: usize) -> (Vec<AgentId>, Option<f64>) {
        let (mut ids, mut sum, mut known) = (Vec::new(), 0.0, 0.0);
        for agent in self.slots.iter().filter(|agent| agent.pace.is_slow) {
            if ids.len() < most {
                ids.push(agent.id.clone());
            }
            if let Some(slowdown) = agent.pace.slowdown() {
                sum += slowdown;
                known += 1.0;
            }
        }
        (ids, (known > 0.0).then(|| sum / known))
    }
}

impl Pace {
    /// The share of a new answer in what is usual.
    const SHARE: f32 = 1.0 / 8.0;
    /// The same while it is slow, so that what is wrong does not soon become usual.
    const SHARE_SLOW: f32 = 1.0 / 64.0;

    /// An answer that took so many ms.
    pub(super) fn answered(&mut self, ms: f32, slow_samples: u32, factor: f32, min_ms: f32) {
        self.is_late = false;
        // A report that has nothing new repeats the last answer: one is one.
        if self.samples > 0 && ms == self.recent[2] {
            return self.judge(slow_samples, factor, min_ms);
        }
        let [oldest, b, c] = self.recent;
        self.recent = [b, c, ms];
        self.samples = self.samples.saturating_add(1);
        if let Some(earlier) = self.earlier() {
            let share = if self.is_slow { Self::SHARE_SLOW } else { Self::SHARE };
            let share = share.max(1.0 / f32::from(earlier));
            // One that took very long is no reason to expect that from now on.
            let taken = if earlier > 1 { oldest.min(self.usual * factor) } else { oldest };
            self.usual += (taken - self.usual) * share;
        }
        self.judge(slow_samples, factor, min_ms);
    }

    fn judge(&mut self, slow_samples: u32, factor: f32, min_ms: f32) {
        let known = self.earlier().is_some_and(|earlier| u32::from(earlier) >= slow_samples);
        let limit = (self.usual * factor).max(min_ms);
        self.is_slow = self.is_late || (known && self.median() >= limit);
    }

    /// It missed a health check.
    pub(super) fn late(&mut self) {
        self.is_late = true;
        self.is_slow = true;
    }

    /// This life is over; what the next one is used to is still what this one was.
    pub(super) fn ended(&mut self) {
        self.is_late = false;
        self.is_slow = false;
        self.recent = [self.usual; 3];
    }

    /// How many answers are in `usual`.
    fn earlier(&self) -> Option<u16> {
        self.samples.checked_sub(3).filter(|&earlier| earlier > 0)
    }

    fn median(&self) -> f32 {
        let [a, b, c] = self.recent;
        a.max(b).min(c).max(a.min(b))
    }

    fn slowdown(&self) -> Option<f64> {
        let known = self.earlier().is_some() && !self.is_late && self.usual > 0.0;
        known.then(|| f64::from(self.median()) / f64::from(self.usual))
    }
}
