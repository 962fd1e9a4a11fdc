//! What a supervisor knows of one agent.

use super::death::{Cause, Diagnosis, MissedDeadline};
use super::health::Monitor;
use super::intensity::RestartHistory;
use super::port::{LastWord, PreviousFailure};
use super::Shutdown;
use crate::agent::{AgentConfig, AgentId};
use crate::message::{AgentCounters, AgentStatus, AgentSummary};
use crate::time::Instant;

#[derive(Debug)]
pub(super) struct Child {
    pub(super) config: AgentConfig,
    pub(super) incarnation: u64,
    pub(super) status: AgentStatus,
    pub(super) phase: Phase,
    /// What its last life ended with, until its next one begins.
    pub(super) previous: Option<Box<PreviousFailure>>,
    /// What this incarnation said that it may die of.
    pub(super) word: Option<LastWord>,
    /// Whether any of its processes ever said hello.
    pub(super) ran: bool,
    /// Since when it does not run, from its death to its replacement.
    pub(super) down_since: Option<Instant>,
    /// The number, in the window, of the restart that is on its way or was last.
    pub(super) attempt: u32,
    pub(super) history: RestartHistory,
    /// Replacements that ran.
    pub(super) restarts: u64,
    /// What no other agent of the supervisor has or had.
    pub(super) number: u64,
    /// What is set in the schedule.
    pub(super) scheduled: Option<Instant>,
    /// Where it stands in a declared tree; nothing for a dynamic agent.
    pub(super) place: Option<Place>,
}

/// An agent's place in a declared tree.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its supervisor.
    pub(super) supervisor: String,
    pub(super) shutdown: Shutdown,
    /// Whether its last process did not stop as it was told, and was killed.
    pub(super) killed: bool,
}

/// Where a child is; its status is what is shown of that.
#[derive(Debug)]
pub(super) enum Phase {
    /// A process was asked for and has not said hello.
    Starting { deadline: Instant },
    /// It runs.
    Running(Box<Monitor>),
    /// It was killed for a missed deadline, and its death has not been noticed yet.
    Killing { missed: MissedDeadline, again_at: Instant },
    /// It was told to end for good.
    Stopping {
        /// Nothing for one that may take as long as it wants.
        kill_at: Option<Instant>,
        killed: bool,
        /// If it was being killed for that when it was told to end.
        missed: Option<MissedDeadline>,
    },
    /// It waits for its turn to be started again.
    Waiting { until: Instant },
    /// It died too often.
    Failed,
    /// It does not run, and its supervisor knows whether it will again: a declared agent's.
    Down,
}

impl Child {
    pub(super) fn new(config: AgentConfig, incarnation: u64, deadline: Instant) -> Self {
        Self {
            config,
            incarnation,
            status: AgentStatus::Starting,
            phase: Phase::Starting { deadline },
            previous: None,
            word: None,
            ran: false,
            down_since: None,
            attempt: 0,
            history: RestartHistory::default(),
            restarts: 0,
            number: 0,
            scheduled: None,
            place: None,
        }
    }

    /// A declared agent, before its first start.
    pub(super) fn declared(config: AgentConfig, incarnation: u64, place: Place) -> Self {
        Self {
            status: AgentStatus::Created,
            phase: Phase::Down,
            place: Some(place),
            ..Self::new(config, incarnation, Instant::START)
        }
    }

    /// Whether there is a process, or soon will be.
    pub(super) fn has_process(&self) -> bool {
        !matches!(self.phase, Phase::Waiting { .. } | Phase::Failed | Phase::Down)
    }

    /// When something is to be done without a fact from outside.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Starting { deadline } => Some(*deadline),
            Phase::Running(monitor) => Some(monitor.due()),
            Phase::Killing { again_at, .. } => Some(*again_at),
            Phase::Stopping { kill_at, .. } => *kill_at,
            Phase::Waiting { until } => Some(*until),
            Phase::Failed | Phase::Down => None,
        }
    }

    /// What its next life is told of this one.
    pub(super) fn remember_failure(&mut self, diagnosis: &Diagnosis) {
        self.previous = (!diagnosis.normal).then(|| {
            Box::new(PreviousFailure {
                incarnation: self.incarnation,
                failure_type: diagnosis.failure_type,
                context: diagnosis.context.clone(),
            })
        });
    }

    /// Remembers a word. A suspicion never replaces what is certain.
    pub(super) fn remember(&mut self, word: LastWord) {
        let suspicion = matches!(word, LastWord::AllocationRefused { .. });
        if self.word.is_none() || (!suspicion && self.is_suspected()) {
            self.word = Some(word);
        }
    }

    /// It has shown that it lives: a refused allocation was not its end.
    pub(super) fn clear_suspicion(&mut self) {
        if self.is_suspected() {
            self.word = None;
        }
    }

    /// Why it died, from all that is known now.
    pub(super) fn cause_of_death(&mut self) -> Cause {
        let missed = match self.phase {
            Phase::Killing { missed, .. } => Some(missed),
            Phase::Stopping { missed, .. } => missed,
            _ => None,
        };
        match (self.word.take(), missed) {
            // A suspicion is less than a kill that we know of.
            (Some(LastWord::AllocationRefused { .. }) | None, Some(missed)) => {
                Cause::Missed(missed)
            }
            (Some(word), _) => Cause::Said(word),
            (None, None) => Cause::Silent,
        }
    }

    /// `root` is the supervisor of those that have no place in a tree.
    pub(super) fn summary(&self, id: &AgentId, root: &str, now: Instant) -> AgentSummary {
        let counters = match &self.phase {
            Phase::Running(monitor) => monitor.counters(now),
            _ => AgentCounters::default(),
        };
        AgentSummary {
            agent_id: id.clone(),
            agent_type: self.config.agent_type.clone(),
            supervisor: self.place.as_ref().map_or(root, |place| &place.supervisor).to_owned(),
            status: self.status,
            incarnation: self.incarnation,
            restarts: self.restarts,
            counters,
        }
    }

    fn is_suspected(&self) -> bool {
        matches!(self.word, Some(LastWord::AllocationRefused { .. }))
    }
}
