//! What goes into a supervisor and what comes out of it.

use serde::{Deserialize, Serialize};

use super::{FailureContext, FailureType, Quantiles, SupervisionEvent};
use crate::agent::{AgentConfig, AgentId};
use crate::message::AgentEvent;
use crate::time::{Instant, Timestamp};

/// The present moment on both of the host's clocks: deadlines go by the one, what is told by the
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the monotonic clock.
    pub at: Instant,
    /// On the wall clock.
    pub wall: Timestamp,
}

impl Now {
    /// When nothing has happened yet.
    pub(crate) const START: Self = Self { at: Instant::START, wall: Timestamp::EPOCH };
}

/// A fact from the host. One of another incarnation than the present one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The process runs and has said hello.
    Started {
        /// Its agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// The host could not start a process.
    SpawnRefused {
        /// The agent.
        id: AgentId,
        /// The incarnation that will not be.
        incarnation: u64,
        /// What the host said.
        reason: String,
    },
    /// The process said something that it may die of.
    LastWord {
        /// Its agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
        /// What it said.
        word: LastWord,
    },
    /// The process is dead. The host says so for every process that it was told to kill, also
    /// where it was gone already.
    Died {
        /// Its agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// The answer to a ping.
    Pong {
        /// The agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
        /// The ping's number; 0 if there was none, and the agent only says that it is busy.
        seq: u64,
        /// How it does.
        figures: Figures,
    },
    /// The agent's handler returned an error. The agent lives.
    HandlerFailed {
        /// The agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
        /// What kind of failure it is; [`FailureType::DependencyFailure`] unless the agent says.
        failure_type: FailureType,
        /// What the handler said.
        message: String,
    },
    /// Nothing but the time has changed.
    Tick,
}

/// What a process says before it dies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LastWord {
    /// It panicked.
    Panic {
        /// What the panic said.
        message: String,
        /// `file:line:column`.
        place: Option<String>,
    },
    /// An allocation was refused. Only a suspicion: if it answers a ping afterwards, it lives.
    AllocationRefused {
        /// The size that was asked for.
        bytes: u64,
    },
    /// It called `exit`.
    Exit,
    /// It returned normally. This *is* its end: no `Died` has to follow.
    Farewell,
}

/// What an agent knows of itself, since its present life began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Messages handled.
    pub handled: u64,
    /// Handlers that returned an error.
    pub errors: u64,
    /// Its memory, where the host can measure it.
    pub memory_bytes: Option<u64>,
    /// How long its handlers took of late, where the host measures it and any did.
    pub handling_us: Option<Quantiles>,
    /// How long the ping waited for its turn behind what was in the mailbox, in µs, where the host
    /// can measure it.
    pub mailbox_delay_us: Option<u64>,
}

/// What an agent's life before this one ended with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousFailure {
    /// That life.
    pub incarnation: u64,
    /// What kind of failure it was.
    pub failure_type: FailureType,
    /// What is known of it.
    pub context: FailureContext,
}

/// Work for the host, in the order in which it is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Start a process. The host answers with `Started` when it runs, or with `SpawnRefused`.
    Spawn {
        /// The agent.
        id: AgentId,
        /// The incarnation to be.
        incarnation: u64,
        /// What it is made of.
        config: AgentConfig,
        /// Whether nobody can know of it, so that the host has to make it known: it is new, or had
        /// ended for good.
        is_new: bool,
        /// What its last life ended with, where that was a failure.
        previous: Option<PreviousFailure>,
    },
    /// Tell the process to end.
    Stop {
        /// The agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// Kill the process; then say `Died`, also if it was gone already. What it said before, and
    /// what is known of its death, goes in first.
    Kill {
        /// The agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
    },
    /// Send a ping, behind whatever waits in the mailbox.
    Ping {
        /// The agent.
        id: AgentId,
        /// Its incarnation.
        incarnation: u64,
        /// The ping's number, to be repeated in the answer.
        seq: u64,
    },
    /// Tell of supervision.
    Event(SupervisionEvent),
    /// Tell of an agent.
    AgentEvent(AgentEvent),
    /// The agent could not be started for the first time, and is no longer known.
    StartRefused {
        /// The agent.
        id: AgentId,
        /// The incarnation that will not be.
        incarnation: u64,
        /// What the host said.
        reason: String,
    },
    /// The agent has ended for good and is no longer known.
    Removed {
        /// The agent.
        id: AgentId,
        /// Its last incarnation.
        incarnation: u64,
        /// Why.
        reason: String,
        /// Whether it did not stop as it was told, and was killed.
        killed: bool,
    },
    /// Nothing more to do: wait for a fact, or until then, and then say `Tick`.
    Wait(Option<Instant>),
}
