//! How many agents there may be, of all types and of one, and how quickly they may be started.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::death::Diagnosis;
use super::{FailureContext, FailureType, StartError};
use crate::time::Instant;

/// How many agents of a type there may be, and how many may be started in a second. Restarts are
/// not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnLimits {
    /// The most agents of a type, by its name, those that have failed among them: at most
    /// [`Self::MAX_TYPES`] types, and at most 1,000,000 agents each; 0 if there may be none. Types
    /// that are not named have no limit of their own. Default: none.
    pub max_agents_per_type: Vec<(String, u32)>,
    /// The most agents that are started in a second, in the long run, up to
    /// [`Self::MAX_PER_SECOND`]; 0 for no limit. Default: 0.
    pub max_spawns_per_second: u32,
    /// How many may be started at once if none was for long enough, 1 to 1,000,000. Default: 100.
    pub spawn_burst: u32,
}

impl SpawnLimits {
    /// The most types that have a limit of their own: each start looks through them.
    pub const MAX_TYPES: usize = 64;
    /// The largest `max_spawns_per_second`, which is more than any host can start.
    pub const MAX_PER_SECOND: u32 = 100_000;

    /// Where the limit of a type stands, and what it is.
    pub(crate) fn of_type(&self, agent_type: &str) -> Option<(usize, u32)> {
        let limits = &self.max_agents_per_type;
        let at = limits.iter().position(|(name, _)| name == agent_type)?;
        Some((at, limits.get(at)?.1))
    }
}

impl Default for SpawnLimits {
    fn default() -> Self {
        Self { max_agents_per_type: Vec::new(), max_spawns_per_second: 0, spawn_burst: 100 }
    }
}

/// Keeps to them.
#[derive(Debug)]
pub(super) struct Limiter {
    max_agents: usize,
    limits: SpawnLimits,
    /// How many agents there are of each of the limited types.
    counts: Vec<u32>,
    /// A token bucket: when it will be full again. Each start moves that by what one token takes.
    full_at: Instant,
    /// When the present second began, and how many starts were wanted in it.
    second: (Instant, u64),
    refused: u64,
    /// When a refusal was told last, and how many there were since.
    told: Option<(Instant, u64)>,
}

/// An agent that is to be started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applicant<'a> {
    pub(super) agent_type: &'a str,
    /// The type of the failed agent whose place it takes.
    pub(super) replaces: Option<&'a str>,
    /// How many agents there are, that one among them.
    pub(super) agents: usize,
    /// Whether the rate counts: not for what the node's own config declares.
    pub(super) is_counted: bool,
}

impl Limiter {
    /// Refusals are told at most that often; those between are only counted.
    const TELL_EVERY: Duration = Duration::from_secs(1);

    pub(super) fn new(max_agents: usize, limits: SpawnLimits) -> Self {
        Self {
            max_agents,
            counts: vec![0; limits.max_agents_per_type.len()],
            limits,
            full_at: Instant::START,
            second: (Instant::START, 0),
            refused: 0,
            told: None,
        }
    }

    /// Lets an agent in and counts it, or says why not.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        applicant: Applicant<'_>,
    ) -> Result<(), StartError> {
        let admitted = self.try_admit(now, applicant);
        self.refused += u64::from(admitted.is_err());
        admitted
    }

    fn try_admit(&mut self, now: Instant, applicant: Applicant<'_>) -> Result<(), StartError> {
        let Applicant { agent_type, replaces, agents, is_counted } = applicant;
        let max_agents = self.max_agents;
        if replaces.is_none() && agents >= max_agents {
            return Err(StartError::Capacity { max_agents });
        }
        let at = self.limits.of_type(agent_type);
        if let Some((at, max_agents)) = at.filter(|_| replaces != Some(agent_type)) {
            if self.counts[at] >= max_agents {
                let agent_type = agent_type.to_owned();
                return Err(StartError::TypeCapacity { agent_type, max_agents });
            }
        }
        if is_counted {
            self.take_token(now)?;
        }
        if let Some(old) = replaces {
            self.left(old);
        }
        self.joined(agent_type);
        Ok(())
    }

    /// Whether there is room for one more of that type, where others come with it: `with_it` counts
    /// them, and this one.
    pub(super) fn check(&self, agent_type: &str, with_it: &mut Vec<u32>) -> Result<(), StartError> {
        let Some((at, max_agents)) = self.limits.of_type(agent_type) else { return Ok(()) };
        with_it.resize(self.counts.len(), 0);
        with_it[at] += 1;
        if self.counts[at] + with_it[at] > max_agents {
            let agent_type = agent_type.to_owned();
            return Err(StartError::TypeCapacity { agent_type, max_agents });
        }
        Ok(())
    }

    /// One more agent of that type is there.
    pub(super) fn joined(&mut self, agent_type: &str) {
        if let Some((at, _)) = self.limits.of_type(agent_type) {
            self.counts[at] += 1;
        }
    }

    /// An agent of that type is no longer there.
    pub(super) fn left(&mut self, agent_type: &str) {
        if let Some((at, _)) = self.limits.of_type(agent_type) {
            self.counts[at] = self.counts[at].saturating_sub(1);
        }
    }

    /// How many starts were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// What is to be told of a refusal; nothing if the last one was told a moment ago.
    pub(super) fn tell(&mut self, now: Instant, error: &StartError) -> Option<Diagnosis> {
        let (limit, value, reached) = match error {
            StartError::Capacity { max_agents } => {
                ("agents", *max_agents as u64, *max_agents as u64)
            }
            StartError::TypeCapacity { agent_type, max_agents } => {
                let count = self.limits.of_type(agent_type).map_or(0, |(at, _)| self.counts[at]);
                ("agents_of_type", u64::from(*max_agents), u64::from(count))
            }
            StartError::SpawnRate { max_per_second, .. } => {
                ("spawn_rate", u64::from(*max_per_second), self.second.1)
            }
            StartError::Invalid(_) | StartError::Exists { .. } => return None,
        };
        let suppressed = match &mut self.told {
            Some((at, since)) if now - *at < Self::TELL_EVERY => {
                *since += 1;
                return None;
            }
            told => told.replace((now, 0)).map(|(_, since)| since).filter(|&since| since > 0),
        };
        let context = FailureContext {
            message: Some(error.to_string()),
            limit: Some(limit.to_owned()),
            limit_value: Some(value),
            reached: Some(reached),
            suppressed,
            ..FailureContext::default()
        };
        let failure_type = FailureType::ResourceExhaustion;
        Some(Diagnosis { normal: false, failure_type, context })
    }

    fn take_token(&mut self, now: Instant) -> Result<(), StartError> {
        let SpawnLimits { max_spawns_per_second: max_per_second, spawn_burst: burst, .. } =
            self.limits;
        if max_per_second == 0 {
            return Ok(());
        }
        if now - self.second.0 >= Duration::from_secs(1) {
            self.second = (now, 0);
        }
        self.second.1 += 1;
        let token = Duration::from_secs(1) / max_per_second;
        let full_at = self.full_at.max(now) + token;
        // It holds `burst` tokens, so that it is never longer from full than they take to come.
        let until = full_at - now;
        let most = token.saturating_mul(burst);
        if until > most {
            let retry_after = until - most;
            return Err(StartError::SpawnRate { max_per_second, burst, retry_after });
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn limiter(per_second: u32, burst: u32) -> Limiter {
        let limits = SpawnLimits {
            max_agents_per_type: vec![("chaos".into(), 2), ("never".into(), 0)],
            max_spawns_per_second: per_second,
            spawn_burst: burst,
        };
        Limiter::new(5, limits)
    }

    fn one(agent_type: &str) -> Applicant<'_> {
        Applicant { agent_type, replaces: None, agents: 0, is_counted: true }
    }

    fn retry_ms(refused: Result<(), StartError>) -> u128 {
        match refused {
            Err(StartError::SpawnRate { retry_after, .. }) => retry_after.as_millis(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_burst_then_the_rate_and_what_is_refused_costs_nothing() {
        let mut limiter = limiter(10, 3);
        for _ in 0..3 {
            assert_eq!(limiter.admit(at(0), one("echo")), Ok(()));
        }
        for ms in [0, 40, 99] {
            assert_eq!(retry_ms(limiter.admit(at(ms), one("echo"))), u128::from(100 - ms));
        }
        assert_eq!(limiter.admit(at(100), one("echo")), Ok(()), "when it said");
        assert_eq!(retry_ms(limiter.admit(at(100), one("echo"))), 100);
        // In each of the next ten seconds there are ten, and then a burst again.
        let mut admitted = 0;
        for ms in 101..10_101 {
            admitted += u32::from(limiter.admit(at(ms), one("echo")).is_ok());
        }
        assert_eq!(admitted, 100);
        let burst = (0..10).filter(|_| limiter.admit(at(60_000), one("echo")).is_ok()).count();
        assert_eq!(burst, 3, "never more");
    }

    #[test]
    fn each_type_has_its_own_room() {
        let mut limiter = limiter(0, 1);
        let full = Err(StartError::TypeCapacity { agent_type: "chaos".into(), max_agents: 2 });
        assert_eq!(limiter.admit(at(0), one("chaos")), Ok(()));
        assert_eq!(limiter.admit(at(0), one("chaos")), Ok(()));
        assert_eq!(limiter.admit(at(0), one("chaos")), full);
        assert_eq!(limiter.admit(at(0), one("echo")), Ok(()), "no other type is touched");
        assert!(limiter.admit(at(0), one("never")).is_err());
        let replaces =
            |agent_type, old| Applicant { replaces: Some(old), agents: 5, ..one(agent_type) };
        assert_eq!(limiter.admit(at(0), replaces("chaos", "chaos")), Ok(()), "for a failed one");
        assert_eq!(limiter.admit(at(0), replaces("chaos", "echo")), full);
        assert_eq!(limiter.admit(at(0), replaces("echo", "chaos")), Ok(()));
        assert_eq!(limiter.admit(at(0), one("chaos")), Ok(()), "there is one less");
        assert_eq!(limiter.admit(at(0), one("chaos")), full);
        limiter.left("chaos");
        assert_eq!(limiter.admit(at(0), one("chaos")), Ok(()));
        let full = Err(StartError::Capacity { max_agents: 5 });
        assert_eq!(limiter.admit(at(0), Applicant { agents: 5, ..one("echo") }), full);
    }

    #[test]
    fn what_the_config_declares_is_not_held_up() {
        let mut limiter = limiter(1, 1);
        for _ in 0..100 {
            let declared = Applicant { is_counted: false, ..one("echo") };
            assert_eq!(limiter.admit(at(0), declared), Ok(()));
        }
        assert_eq!(limiter.admit(at(0), one("echo")), Ok(()), "and takes no token");
        retry_ms(limiter.admit(at(0), one("echo")));
    }

    #[test]
    fn refusals_are_told_once_a_second_with_those_that_were_not() {
        let mut limiter = limiter(1, 1);
        assert_eq!(limiter.admit(at(5), one("echo")), Ok(()));
        let mut told = Vec::new();
        for ms in (10..2_500).step_by(10) {
            if let Err(error) = limiter.admit(at(ms), one("never")) {
                let diagnosis = limiter.tell(at(ms), &error);
                told.extend(diagnosis.map(|diagnosis| (ms, diagnosis.context.suppressed)));
            }
        }
        assert_eq!(told, [(10, None), (1_010, Some(99)), (2_010, Some(99))]);
        assert_eq!(limiter.refused(), 249);
        limiter.admit(at(5_000), one("echo")).expect("a token");
        let error = limiter.admit(at(5_000), one("echo")).expect_err("no token");
        let context = limiter.tell(at(5_000), &error).expect("told").context;
        assert_eq!(context.limit.as_deref(), Some("spawn_rate"));
        assert_eq!((context.limit_value, context.reached), (Some(1), Some(2)));
        assert_eq!(context.suppressed, Some(48));
        let message = context.message.expect("a message");
        assert!(message.ends_with("try again in 1000 ms"), "{message}");
    }
}
