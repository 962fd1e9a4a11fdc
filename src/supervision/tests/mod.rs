//! The supervisor on a virtual clock. What comes out is written down in short lines, so that a
//! test is a transcript.

mod deadlines;
mod histories;
mod limits;
mod load;
mod rules;
mod tree;

use std::time::Duration;

use super::*;
use crate::agent::{AgentConfig, AgentId, RestartType};
use crate::message::{AgentEvent, AgentStatus};
use crate::time::{Instant, Timestamp};

pub(super) fn id(name: &str) -> AgentId {
    AgentId(name.to_owned())
}

pub(super) fn agent(name: &str) -> AgentConfig {
    AgentConfig { id: id(name), timeout_ms: 1000, ..Default::default() }
}

pub(super) fn with(restart: RestartType) -> AgentConfig {
    AgentConfig { restart, ..agent("a") }
}

/// A supervisor, and the time.
pub(super) struct Sim {
    pub(super) supervisor: Supervisor,
    pub(super) elapsed: Duration,
}

impl Sim {
    pub(super) fn new(config: SupervisorConfig) -> Self {
        let supervisor = Supervisor::new(config, 7).expect("a valid config");
        let elapsed = Duration::ZERO;
        let mut sim = Self { supervisor, elapsed };
        assert_eq!(sim.lines(), ["SupervisorStarted"]);
        sim
    }

    /// With an agent that runs.
    pub(super) fn running(config: SupervisorConfig, agent: AgentConfig) -> Self {
        let mut sim = Self::new(config);
        let id = agent.id.clone();
        let incarnation = sim.start(agent).expect("there is room");
        sim.supervisor.handle(sim.now(), Input::Started { id, incarnation });
        sim.outputs();
        sim
    }

    pub(super) fn now(&self) -> Now {
        Now { at: Instant::from_start(self.elapsed), wall: Timestamp::from_epoch(self.elapsed) }
    }

    pub(super) fn start(&mut self, config: AgentConfig) -> Result<u64, StartError> {
        let now = self.now();
        self.supervisor.start(now, config)
    }

    pub(super) fn stop(&mut self, name: &str) -> Vec<String> {
        let now = self.now();
        self.supervisor.stop(now, &id(name)).expect("it is there");
        self.lines()
    }

    /// Hands in a fact and writes down what comes of it.
    pub(super) fn tell(&mut self, input: Input) -> Vec<String> {
        let now = self.now();
        self.supervisor.handle(now, input);
        self.lines()
    }

    pub(super) fn started(&mut self, name: &str, incarnation: u64) -> Vec<String> {
        let id = id(name);
        self.tell(Input::Started { id, incarnation })
    }

    pub(super) fn died(&mut self, name: &str, incarnation: u64) -> Vec<String> {
        let id = id(name);
        self.tell(Input::Died { id, incarnation })
    }

    pub(super) fn said(&mut self, name: &str, incarnation: u64, word: LastWord) -> Vec<String> {
        let id = id(name);
        self.tell(Input::LastWord { id, incarnation, word })
    }

    pub(super) fn pong(&mut self, name: &str, incarnation: u64, seq: u64) -> Vec<String> {
        let id = id(name);
        let figures = Figures::default();
        self.tell(Input::Pong { id, incarnation, seq, figures })
    }

    /// Lets time pass until the supervisor wants to be asked again, and asks it.
    pub(super) fn wait(&mut self) -> Vec<String> {
        self.elapsed = self.due().expect("something is scheduled").since_start();
        self.tell(Input::Tick)
    }

    pub(super) fn pass(&mut self, ms: u64) -> Vec<String> {
        self.elapsed += Duration::from_millis(ms);
        self.tell(Input::Tick)
    }

    pub(super) fn due(&mut self) -> Option<Instant> {
        match self.supervisor.poll_output() {
            Output::Wait(due) => due,
            other => panic!("not drained: {other:?}"),
        }
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        loop {
            match self.supervisor.poll_output() {
                Output::Wait(_) => return outputs,
                output => outputs.push(output),
            }
        }
    }

    pub(super) fn lines(&mut self) -> Vec<String> {
        self.outputs().iter().map(line).collect()
    }
}

fn line(output: &Output) -> String {
    match output {
        Output::Spawn { id, incarnation, .. } => format!("Spawn {id}{incarnation}"),
        Output::Stop { id, incarnation } => format!("Stop {id}{incarnation}"),
        Output::Kill { id, incarnation } => format!("Kill {id}{incarnation}"),
        Output::Ping { id, incarnation, seq } => format!("Ping {id}{incarnation} {seq}"),
        Output::StartRefused { id, reason, .. } => format!("StartRefused {id}: {reason}"),
        Output::Removed { id, reason, .. } => format!("Removed {id}: {reason}"),
        Output::Wait(_) => "Wait".to_owned(),
        Output::AgentEvent(event) => agent_line(event),
        Output::Event(event) => event_line(event),
    }
}

fn agent_line(event: &AgentEvent) -> String {
    match event {
        AgentEvent::Spawned { agent_id, incarnation, .. } => {
            format!("Spawned {agent_id}{incarnation}")
        }
        AgentEvent::StateChanged { agent_id, incarnation, old_state, new_state } => {
            format!("{agent_id}{incarnation} {old_state}→{new_state}")
        }
        AgentEvent::Terminated { agent_id, .. } => format!("Terminated {agent_id}"),
        AgentEvent::Error { agent_id, error, .. } => format!("Error {agent_id}: {error}"),
    }
}

fn event_line(event: &SupervisionEvent) -> String {
    match event {
        SupervisionEvent::Health { agent_id, status, .. } => {
            let status = format!("{status:?}");
            let name = status.split(' ').next().unwrap_or_default();
            format!("Health {agent_id} {name}")
        }
        SupervisionEvent::Failure { agent_id, incarnation, failure_type, severity, .. } => {
            format!("Failure {agent_id}{incarnation} {failure_type:?} {severity:?}")
        }
        SupervisionEvent::Recovery { agent_id, incarnation, attempt, downtime_us, .. } => {
            format!("Recovery {agent_id}{incarnation} try {attempt} after {downtime_us} us")
        }
        SupervisionEvent::Escalation { level, .. } => format!("Escalation {level}"),
        SupervisionEvent::SupervisorLifecycle { event_type, affected_agents, .. } => {
            match affected_agents.first() {
                Some(id) => format!("{event_type:?} {id}"),
                None => format!("{event_type:?}"),
            }
        }
    }
}
