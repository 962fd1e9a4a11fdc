//! Whose turn it is to be dialed, and when: as our own client does it. async-nats asks before each
//! attempt; by itself it knows no jitter, and tries a server that refuses us for ever.

use std::collections::VecDeque;
use std::time::Duration;

use crate::nats::rng::Rng;
use crate::nats::session::outage::Outage;
use crate::nats::ReconnectDelays;
use crate::time::Instant;

/// How many servers that others told of are tried.
const MAX_ADVERTISED: usize = 64;

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Dial this one after so long.
    Dial {
        /// Its URL, which is its name here.
        server: String,
        /// Which attempt of this outage, from 1.
        attempt: u32,
        after: Duration,
    },
    /// The config allows no further attempt.
    GiveUp {
        /// How many failed in a row.
        attempts: u32,
    },
}

/// The servers, and how the outage goes.
#[derive(Debug)]
pub(super) struct Dialing {
    /// In the order of their turns: the first one is next, the last one was dialed last.
    turns: VecDeque<String>,
    configured: usize,
    delays: ReconnectDelays,
    max_reconnects: Option<u32>,
    retries_at_start: bool,
    rng: Rng,
    outage: Outage,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing was dialed yet.
    New,
    /// Dialed; `again` if there has been a connection before.
    Dialed { again: bool },
    /// Connected since then.
    Up { since: Instant },
}

impl Dialing {
    pub(super) fn new(
        mut servers: Vec<String>,
        shuffle: bool,
        delays: ReconnectDelays,
        max_reconnects: Option<u32>,
        retries_at_start: bool,
        seed: u64,
    ) -> Self {
        let mut rng = Rng::new(seed);
        if shuffle {
            rng.shuffle(&mut servers);
        }
        Self {
            configured: servers.len(),
            turns: servers.into(),
            delays,
            max_reconnects,
            retries_at_start,
            rng,
            outage: Outage::new(Instant::START),
            phase: Phase::New,
        }
    }

    /// There is a connection. To say it twice changes nothing.
    pub(super) fn connected(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Up { .. }) {
            self.phase = Phase::Up { since: now };
            self.outage.failed = 0;
        }
    }

    /// There is no connection: what now? `known` are the servers that there are by now, those of the
    /// config and those that servers told of.
    pub(super) fn next(&mut self, now: Instant, known: &[&str]) -> Turn {
        self.learn(known);
        let is_first = matches!(self.phase, Phase::New);
        let again = match self.phase {
            Phase::New => {
                self.outage = Outage::new(now);
                false
            }
            Phase::Dialed { again } => {
                self.outage.failed = self.outage.failed.saturating_add(1);
                again
            }
            Phase::Up { since } => {
                if now - since >= Outage::OVER_AFTER {
                    self.outage = Outage::new(now);
                }
                true
            }
        };
        let limit = match again || self.retries_at_start {
            true => self.max_reconnects,
            // Each is tried once.
            false => u32::try_from(self.configured).ok(),
        };
        let attempts = self.outage.failed;
        let gives_up = !is_first && limit.is_some_and(|limit| attempts >= limit);
        let Some(server) = self.turns.pop_front().filter(|_| !gives_up) else {
            return Turn::GiveUp { attempts };
        };
        self.turns.push_back(server.clone());
        let after = self.outage.delay(now, self.turns.len(), &self.delays, &mut self.rng);
        self.outage.attempts = self.outage.attempts.saturating_add(1);
        self.phase = Phase::Dialed { again };
        Turn::Dial { server, attempt: self.outage.attempts, after }
    }

    /// Servers that are new come before the one that was dialed last; those that are gone, go.
    fn learn(&mut self, known: &[&str]) {
        self.turns.retain(|server| known.contains(&server.as_str()));
        for server in known {
            let is_known = self.turns.iter().any(|turn| turn == server);
            if !is_known && self.turns.len() < self.configured + MAX_ADVERTISED {
                self.turns.insert(self.turns.len().saturating_sub(1), (*server).to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn dialing(servers: &[&str], max_reconnects: Option<u32>, retries_at_start: bool) -> Dialing {
        let servers = servers.iter().map(|server| server.to_string()).collect();
        let delays = ReconnectDelays::default();
        Dialing::new(servers, false, delays, max_reconnects, retries_at_start, 7)
    }

    #[track_caller]
    fn dials(dialing: &mut Dialing, now: Instant, known: &[&str]) -> (String, u32, Duration) {
        match dialing.next(now, known) {
            Turn::Dial { server, attempt, after } => (server, attempt, after),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everyone_in_turn_the_first_round_at_once_and_then_slower() {
        let known = ["a", "b"];
        let mut dialing = dialing(&known, None, true);
        for (expected, longest) in
            [("a", 0), ("b", 0), ("a", 50), ("b", 50), ("a", 100), ("b", 100), ("a", 200)]
        {
            let (server, _, after) = dials(&mut dialing, at(0), &known);
            assert_eq!(server, expected);
            let longest = Duration::from_millis(longest);
            assert!(after <= longest && after >= longest / 2, "{after:?} of {longest:?}");
        }
    }

    #[test]
    fn the_one_that_was_lost_comes_last_and_a_short_connection_ends_no_outage() {
        let known = ["a", "b"];
        let mut dialing = dialing(&known, None, true);
        assert_eq!(dials(&mut dialing, at(0), &known).0, "a");
        dialing.connected(at(10));
        dialing.connected(at(900));
        let (server, attempt, after) = dials(&mut dialing, at(1010), &known);
        assert_eq!((server.as_str(), attempt, after), ("b", 1, Duration::ZERO), "it has lasted");
        dialing.connected(at(1020));
        let (server, attempt, _) = dials(&mut dialing, at(1100), &known);
        assert_eq!((server.as_str(), attempt), ("a", 2), "it has not");
    }

    #[test]
    fn servers_that_are_told_of_are_tried_and_go_again() {
        let mut dialing = dialing(&["a"], None, true);
        assert_eq!(dials(&mut dialing, at(0), &["a"]).0, "a");
        dialing.connected(at(1));
        assert_eq!(dials(&mut dialing, at(2000), &["a", "b", "c"]).0, "b");
        assert_eq!(dials(&mut dialing, at(2000), &["a", "b", "c"]).0, "c");
        assert_eq!(dials(&mut dialing, at(2000), &["a", "b", "c"]).0, "a");
        assert_eq!(dials(&mut dialing, at(2000), &["a", "c"]).0, "c");
        let many: Vec<String> = (0..100).map(|n| format!("s{n}")).collect();
        let many: Vec<&str> = std::iter::once("a").chain(many.iter().map(String::as_str)).collect();
        dials(&mut dialing, at(2000), &many);
        assert_eq!(dialing.turns.len(), 65);
    }

    #[test]
    fn at_the_start_each_is_tried_once_or_for_ever() {
        let known = ["a", "b"];
        let mut impatient = dialing(&known, None, false);
        assert_eq!(dials(&mut impatient, at(0), &known).0, "a");
        assert_eq!(dials(&mut impatient, at(0), &known).0, "b");
        assert_eq!(impatient.next(at(0), &known), Turn::GiveUp { attempts: 2 });
        let mut connected = dialing(&known, None, false);
        dials(&mut connected, at(0), &known);
        connected.connected(at(1));
        for _ in 0..100 {
            dials(&mut connected, at(5000), &known);
        }
    }

    #[test]
    fn it_gives_up_after_so_many_failures_in_a_row() {
        let known = ["a"];
        let mut dialing = dialing(&known, Some(3), true);
        dials(&mut dialing, at(0), &known);
        dials(&mut dialing, at(0), &known);
        dialing.connected(at(1));
        for _ in 0..3 {
            dials(&mut dialing, at(5000), &known);
        }
        assert_eq!(dialing.next(at(5000), &known), Turn::GiveUp { attempts: 3 });
    }
}
