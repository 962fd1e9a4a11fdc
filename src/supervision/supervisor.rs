//! The decisions of one supervisor with dynamic children.

mod transitions;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use super::child::{Child, Phase};
use super::children::Children;
use super::limits::{Applicant, Limiter};
use super::outbox::Outbox;
use super::port::{Input, Now, Output};
use super::schedule::Schedule;
use super::{FailureSeverity, InvalidSupervisorConfig, LifecycleEvent, SupervisorConfig};
use crate::agent::{AgentConfig, AgentId, InvalidAgentConfig};
use crate::message::{AgentPage, AgentStatus, AgentSummary};
use crate::time::Instant;
use tree::Tree;
pub use tree::TreeError;

/// Decides what happens to agents that start, answer, fail and stop. It does nothing itself: a
/// host feeds it facts and does what comes out.
///
/// ```text
/// start ─ Spawn ─▶ Starting ─ Started ─▶ Running ─ stop ─▶ Stopping ─ Died ─▶ (removed)
///                     ▲                    │ Died
///                     └──── Restarting ◀───┤
///                                          └─ too often ─▶ Failed ─ stop ─▶ (removed)
/// ```
///
/// | ended by | `Permanent` | `Transient` | `Temporary` |
/// | --- | --- | --- | --- |
/// | normal return | restarted, no `Failure` | removed | removed |
/// | any other death | restarted | restarted | removed |
/// | [`Supervisor::stop`] | removed | removed | removed |
///
/// A normal return of a permanent agent counts like a death, so that one which does nothing but
/// return is given up too. Beyond the intensity the agent is `Failed`, its siblings are untouched,
/// and it stays listed until it is stopped, or started anew under the same id.
///
/// Each death has exactly one `Failure` (none for a normal return or a stop), and each replacement
/// exactly one `Recovery`, once it runs.
///
/// # Use
/// After every [`start`](Self::start), [`stop`](Self::stop) and [`handle`](Self::handle), call
/// [`poll_output`](Self::poll_output) and do what it says until it says [`Output::Wait`]. Facts
/// that have arrived go in before a [`Input::Tick`], so that an answer is not taken for late only
/// because nobody looked.
#[derive(Debug)]
pub struct Supervisor {
    config: SupervisorConfig,
    limiter: Limiter,
    children: Children,
    /// The declared supervisors, and whose children they are.
    tree: Tree,
    /// By their numbers first: many are due together, and numbers are compared sooner than ids.
    schedule: Schedule<(u64, AgentId)>,
    out: Outbox,
    /// The state of the generator that spreads deadlines.
    random: u64,
    restarts: u64,
    /// The highest incarnation of those that were removed. New agents begin above it, so that no
    /// late notice can be taken for one of a new agent of the same name.
    retired: u64,
}

/// Why an agent cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// Its config is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidAgentConfig),
    /// There is one with this id, and it has not failed.
    #[error("there is an agent {id} already: it is {status}")]
    Exists {
        /// The id.
        id: AgentId,
        /// What the agent there is doing.
        status: AgentStatus,
    },
    /// There is no room.
    #[error("max_agents is {max_agents}, and there are as many; try again when one has ended")]
    Capacity {
        /// The most agents that the supervisor takes.
        max_agents: usize,
    },
    /// There is no room for one of its type.
    #[error(
        "max_agents_per_type is {max_agents} for {agent_type:?}, and there are as many; try again \
         when one has ended"
    )]
    TypeCapacity {
        /// The type.
        agent_type: String,
        /// The most agents of it that the supervisor takes.
        max_agents: u32,
    },
    /// Too many were started of late.
    #[error(
        "max_spawns_per_second is {max_per_second}, and spawn_burst {burst}; try again in {} ms",
        retry_after.as_nanos().div_ceil(1_000_000)
    )]
    SpawnRate {
        /// How many may be started in a second.
        max_per_second: u32,
        /// How many at once.
        burst: u32,
        /// After that there will be room for one.
        retry_after: Duration,
    },
}

/// Why an agent cannot be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StopError {
    /// There is no agent with this id.
    #[error("there is no agent {0}")]
    UnknownAgent(AgentId),
    /// Its supervisor is on its way down and back, and starts all of its children when it is back.
    #[error("agent {0} is being restarted with its supervisor; try again")]
    Restarting(AgentId),
}

impl Supervisor {
    /// The most children whose time has come that are seen to at once; then facts get their turn.
    const BATCH: usize = 256;

    /// A supervisor without children. `seed` spreads deadlines and delays.
    pub fn new(config: SupervisorConfig, seed: u64) -> Result<Self, InvalidSupervisorConfig> {
        config.validate()?;
        let mut out = Outbox::new(config.id.clone());
        out.lifecycle(LifecycleEvent::SupervisorStarted, None);
        let limiter = Limiter::new(config.max_agents, config.limits.clone());
        Ok(Self {
            config,
            limiter,
            children: Children::default(),
            tree: Tree::default(),
            schedule: Schedule::default(),
            out,
            random: seed,
            restarts: 0,
            retired: 0,
        })
    }

    /// Starts an agent and gives its incarnation. An agent that has failed gives way to it. One that
    /// is refused for a limit is told of as a failure of incarnation 0, at most once a second.
    pub fn start(&mut self, now: Now, config: AgentConfig) -> Result<u64, StartError> {
        self.start_one(now, config, true)
    }

    /// As [`Supervisor::start`], but not held up by the rate: for agents that the node's own config
    /// declares.
    pub fn start_declared(&mut self, now: Now, config: AgentConfig) -> Result<u64, StartError> {
        self.start_one(now, config, false)
    }

    fn start_one(
        &mut self,
        now: Now,
        config: AgentConfig,
        is_counted: bool,
    ) -> Result<u64, StartError> {
        config.validate()?;
        let old = self.children.get(&config.id);
        if old.is_none_or(|old| old.place.is_none() && matches!(old.phase, Phase::Failed)) {
            let applicant = Applicant {
                agent_type: &config.agent_type,
                replaces: old.map(|old| old.config.agent_type.as_str()),
                agents: self.children.len(),
                is_counted,
            };
            if let Err(error) = self.limiter.admit(now.at, applicant) {
                if let Some(told) = self.limiter.tell(now.at, &error) {
                    self.out.failure(now, &config.id, 0, told, FailureSeverity::Low);
                }
                return Err(error);
            }
        }
        let id = config.id.clone();
        let deadline = now.at + self.config.start_deadline_of(&config);
        let incarnation = match self.children.get_mut(&id) {
            Some(old) if old.place.is_none() && matches!(old.phase, Phase::Failed) => {
                let incarnation = old.incarnation + 1;
                self.out.status(&id, old, AgentStatus::Starting);
                *old = Child {
                    number: old.number,
                    ..Child::new(config.clone(), incarnation, deadline)
                };
                incarnation
            }
            Some(child) => {
                let status = child.status;
                return Err(StartError::Exists { id, status });
            }
            None => {
                let incarnation = self.retired + 1;
                let child = Child::new(config.clone(), incarnation, deadline);
                self.out.count(child.status);
                self.children.insert(id.clone(), child);
                incarnation
            }
        };
        let (is_new, previous) = (true, None);
        self.out.push(Output::Spawn { id: id.clone(), incarnation, config, is_new, previous });
        self.rearm(&id);
        Ok(incarnation)
    }

    /// Ends an agent for good: it is told to stop, and killed when its grace is over. One without
    /// a process is removed at once. Another `stop` can only shorten the grace.
    ///
    /// One of a declared tree keeps its place, as with [`Supervisor::terminate_child`]; it is refused
    /// while its supervisor is being restarted, which would start it again.
    pub fn stop(&mut self, now: Now, id: &AgentId) -> Result<(), StopError> {
        self.stop_within(now, id, self.config.stop_grace)
    }

    /// As [`Supervisor::stop`], with a grace of its own.
    pub fn stop_within(
        &mut self,
        now: Now,
        id: &AgentId,
        grace: Duration,
    ) -> Result<(), StopError> {
        let Some(child) = self.children.get(id) else {
            return Err(StopError::UnknownAgent(id.clone()));
        };
        let until = now.at + grace;
        match (&child.phase, &child.place) {
            (_, Some(_)) => {
                self.terminate_agent(now, id)?;
                self.hurry(id, until);
            }
            (Phase::Stopping { .. }, None) => self.hurry(id, until),
            (Phase::Waiting { .. } | Phase::Failed | Phase::Down, None) => {
                self.remove(id, "it was stopped".to_owned(), false);
            }
            _ => self.tell_to_stop(id, Some(until)),
        }
        Ok(())
    }

    /// Who is in a hurry now was not when it was told first; never the other way round.
    fn hurry(&mut self, id: &AgentId, until: Instant) {
        let phase = self.children.get_mut(id).map(|child| &mut child.phase);
        if let Some(Phase::Stopping { kill_at, .. }) = phase {
            *kill_at = Some(kill_at.map_or(until, |at| at.min(until)));
            self.rearm(id);
        }
    }

    /// Tells an agent that has a process to end.
    fn tell_to_stop(&mut self, id: &AgentId, kill_at: Option<Instant>) {
        let Some(child) = self.children.get_mut(id) else { return };
        let missed = match &child.phase {
            Phase::Killing { missed, .. } => Some(*missed),
            _ => None,
        };
        child.phase = Phase::Stopping { kill_at, killed: missed.is_some(), missed };
        if missed.is_none() {
            self.out.push(Output::Stop { id: id.clone(), incarnation: child.incarnation });
        }
        self.out.status(id, child, AgentStatus::Stopping);
        self.rearm(id);
    }

    /// Stops all agents, each with this grace; gives how many there were. As with one, a further
    /// call can only shorten it.
    pub fn stop_all(&mut self, now: Now, grace: Duration) -> usize {
        let count = self.children.len();
        let dynamic = self.children.after(None).filter(|(_, child)| child.place.is_none());
        let ids: Vec<AgentId> = dynamic.map(|(id, _)| id.clone()).collect();
        for id in &ids {
            // It is there: it was found above.
            let _ = self.stop_within(now, id, grace);
        }
        self.stop_supervisors(now, grace);
        count
    }

    /// Takes a fact, and then sees to those whose time has come.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Started { id, incarnation } => self.started(now, &id, incarnation),
            Input::SpawnRefused { id, incarnation, reason } => {
                self.spawn_refused(now, &id, incarnation, reason)
            }
            Input::LastWord { id, incarnation, word } => {
                self.last_word(now, &id, incarnation, word)
            }
            Input::Died { id, incarnation } => self.died(now, &id, incarnation),
            Input::Pong { id, incarnation, seq, figures } => {
                self.pong(now, &id, incarnation, seq, figures)
            }
            Input::HandlerFailed { id, incarnation, failure_type, message } => {
                self.handler_failed(now, &id, incarnation, failure_type, message)
            }
            Input::Tick => {}
        }
        for _ in 0..Self::BATCH {
            let Some((_, id)) = self.schedule.due(now.at) else {
                break;
            };
            self.turn(now, &id);
        }
        self.tick_supervisors(now);
    }

    /// The next piece of work; [`Output::Wait`] when there is none.
    pub fn poll_output(&mut self) -> Output {
        self.out.pop().unwrap_or_else(|| {
            let next = [self.schedule.next(), self.tree.next()];
            Output::Wait(next.into_iter().flatten().min())
        })
    }

    /// Whether there is no agent and no supervisor of a tree.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty() && self.tree.is_empty()
    }

    /// How many agents there are, in whatever status.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// How many agents are in each status; statuses without an agent are absent.
    pub fn by_status(&self) -> BTreeMap<AgentStatus, u64> {
        self.out.counts()
    }

    /// How many replacements ran, of all agents there ever were.
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// How many starts were refused for a limit.
    pub fn refused_starts(&self) -> u64 {
        self.limiter.refused()
    }

    #[cfg(test)]
    pub(super) fn schedule_moves(&self) -> u64 {
        self.schedule.moves
    }

    /// The agents, in the order of their ids.
    pub fn ids(&self) -> impl Iterator<Item = &AgentId> {
        self.children.ids()
    }

    /// An agent's config.
    pub fn agent_config(&self, id: &AgentId) -> Option<&AgentConfig> {
        self.children.get(id).map(|child| &child.config)
    }

    /// An agent's status and incarnation.
    pub fn status(&self, id: &AgentId) -> Option<(AgentStatus, u64)> {
        let child = self.children.get(id)?;
        Some((child.status, child.incarnation))
    }

    /// One agent, as `Status` shows it.
    pub fn summary(&self, now: Instant, id: &AgentId) -> Option<AgentSummary> {
        Some(self.children.get(id)?.summary(id, &self.config.id, now))
    }

    /// The agents that come after an id, which need not exist, in the order of their ids; at most
    /// `limit` of them.
    pub fn page(&self, now: Instant, after: Option<&AgentId>, limit: usize) -> AgentPage {
        let mut rest = self.children.after(after);
        let agents: Vec<_> = rest
            .by_ref()
            .take(limit)
            .map(|(id, child)| child.summary(id, &self.config.id, now))
            .collect();
        let next = match (agents.last(), rest.next()) {
            (Some(last), Some(_)) => Some(last.agent_id.clone()),
            _ => None,
        };
        AgentPage { agents, next }
    }
}
