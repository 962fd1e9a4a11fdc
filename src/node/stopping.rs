//! The stop of all agents of a node: who waits for it, how long, and how the agents ended.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::agent::AgentId;
use crate::time::Instant;

/// How the agents of a node ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllStopped {
    /// Agents that stopped within the grace.
    pub stopped: u64,
    /// Agents that had to be killed.
    pub killed: u64,
    /// The first of those, in the order of their ids: at most [`Self::MAX_NAMED`].
    pub killed_agents: Vec<AgentId>,
}

impl AllStopped {
    /// More names than that would make the node's last line one that nobody can read: all of them
    /// are in the log.
    pub const MAX_NAMED: usize = 100;
}

/// So many wait for the end of a node, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the node is stopping, and {max} processes wait for it already")]
pub struct TooManyWait {
    max: usize,
}

/// A stop that is under way. `W` is how a host answers one who waits for its end.
#[derive(Debug)]
pub struct StopAll<W> {
    waiters: Vec<W>,
    grace: Duration,
    deadline: Instant,
    stopped: u64,
    killed: BTreeSet<AgentId>,
}

impl<W> StopAll<W> {
    /// Who stops a node is one, and at most a few more that attached themselves.
    pub const MAX_WAITERS: usize = 16;
    /// How long the dead may take to be noticed when the grace is over. Between a kill and the
    /// death lies a yield of the agent; what takes time is to tell of thousands of them.
    pub const TO_DIE: Duration = Duration::from_secs(5);

    /// It begins now.
    pub fn new(now: Instant, grace: Duration, waiter: W) -> Self {
        let deadline = now + grace + Self::TO_DIE;
        Self { waiters: vec![waiter], grace, deadline, stopped: 0, killed: BTreeSet::new() }
    }

    /// One more waits for the end; refused, it is given back.
    pub fn join(&mut self, waiter: W) -> Result<(), (W, TooManyWait)> {
        if self.waiters.len() >= Self::MAX_WAITERS {
            return Err((waiter, TooManyWait { max: Self::MAX_WAITERS }));
        }
        self.waiters.push(waiter);
        Ok(())
    }

    /// Those who wait.
    pub fn waiters(&self) -> &[W] {
        &self.waiters
    }

    /// The agents have only so long more. That can only be shorter than it was; whether it is.
    pub fn shorten(&mut self, now: Instant, grace: Duration) -> bool {
        let deadline = now + grace + Self::TO_DIE;
        let is_shorter = deadline < self.deadline;
        if is_shorter {
            (self.grace, self.deadline) = (grace, deadline);
        }
        is_shorter
    }

    /// When it is answered in any case.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long the agents have.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// An agent has ended as it was told.
    pub fn stopped(&mut self) {
        self.stopped += 1;
    }

    /// An agent did not end in time; whether that is news.
    pub fn overran(&mut self, id: &AgentId) -> bool {
        self.killed.insert(id.clone())
    }

    /// It is over: who waited, and what they are told.
    pub fn finish(self) -> (Vec<W>, AllStopped) {
        let killed = self.killed.len() as u64;
        let killed_agents = self.killed.into_iter().take(AllStopped::MAX_NAMED).collect();
        (self.waiters, AllStopped { stopped: self.stopped, killed, killed_agents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::from_start(SECOND * seconds as u32)
    }

    #[test]
    fn a_grace_can_only_get_shorter() {
        let mut stop = StopAll::new(at(0), 10 * SECOND, 1);
        assert_eq!(stop.deadline(), at(15));
        assert!(!stop.shorten(at(1), 20 * SECOND));
        assert_eq!((stop.grace(), stop.deadline()), (10 * SECOND, at(15)));
        assert!(stop.shorten(at(1), 2 * SECOND));
        assert_eq!((stop.grace(), stop.deadline()), (2 * SECOND, at(8)));
    }

    #[test]
    fn the_seventeenth_that_waits_is_refused() {
        let mut stop = StopAll::new(at(0), SECOND, 1);
        for waiter in 2..=16 {
            assert_eq!(stop.join(waiter), Ok(()), "{waiter}");
        }
        let (waiter, error) = stop.join(17).expect_err("too many");
        assert_eq!(waiter, 17);
        assert!(error.to_string().contains("16 processes wait for it already"), "{error}");
        assert_eq!(stop.waiters(), (1..=16).collect::<Vec<_>>());
        assert_eq!(stop.finish().0, (1..=16).collect::<Vec<_>>());
    }

    #[test]
    fn those_that_were_killed_are_counted_once_and_the_first_hundred_named() {
        let mut stop = StopAll::new(at(0), SECOND, ());
        stop.stopped();
        let names: Vec<_> = (0..103).map(|number| AgentId(format!("a-{number:03}"))).collect();
        for id in names.iter().rev() {
            assert!(stop.overran(id));
            assert!(!stop.overran(id), "that is known");
        }
        let (_, told) = stop.finish();
        assert_eq!((told.stopped, told.killed), (1, 103));
        assert_eq!(told.killed_agents, names[..100]);
    }
}
