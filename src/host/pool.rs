//! A number of agents with a maximum of their own, below the node's.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::facade::{self, AgentProcess};
use super::here::clock;
use crate::agent::{AgentConfig, AgentId};
use crate::error::{Result, SendError, SpawnError};
use crate::message::AgentStatus;
use crate::supervision::SupervisionEventProcessor;

/// Agents that are started together and have a maximum. Each is under the node's supervisor by itself,
/// and keeps its place in the pool through its crashes; it leaves it when it has ended for good: it was
/// stopped, by whomever, or was not to be started again. To drop the pool stops none.
///
/// The node is the one of [`spawn_single_agent`](super::root::spawn_single_agent).
#[derive(Debug)]
pub struct AgentPool {
    max_agents: usize,
    agents: Mutex<BTreeSet<AgentId>>,
}

impl AgentPool {
    /// A pool for at most so many agents. What the node takes may be less.
    pub fn new(max_agents: usize) -> Self {
        Self { max_agents, agents: Mutex::default() }
    }

    /// The most agents.
    pub fn max_agents(&self) -> usize {
        self.max_agents
    }

    /// How many agents are in it.
    pub fn len(&self) -> Result<usize> {
        self.agents().map(|agents| agents.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Its agents, in the order of their ids.
    pub fn agents(&self) -> Result<Vec<AgentProcess>> {
        let ids: Vec<AgentId> = self.known().iter().cloned().collect();
        let mut agents = Vec::with_capacity(ids.len());
        for id in ids {
            agents.extend(self.get_agent(&id)?);
        }
        Ok(agents)
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<AgentId>> {
        // Nothing panics in between.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an agent. With an empty id, one is made up. A pool that is full is a
    /// [`SpawnError::Capacity`].
    pub fn spawn_agent(&self, config: AgentConfig) -> Result<AgentProcess> {
        // Those that have ended are looked for only when their places are needed.
        if self.known().len() >= self.max_agents && self.len()? >= self.max_agents {
            let text = format!("the pool has room for {} agents, and has as many", self.max_agents);
            return Err(SpawnError::Capacity(text).into());
        }
        let agent = facade::spawn_single_agent(config)?;
        self.known().insert(agent.id().clone());
        Ok(agent)
    }

    /// As [`AgentPool::spawn_agent`]; the processor knows the agent from then on, and is told that it
    /// has begun, for who has no events of the node's supervisor to feed it with.
    pub fn spawn_agent_with_supervision(
        &self,
        config: AgentConfig,
        processor: Option<&mut SupervisionEventProcessor>,
    ) -> Result<AgentProcess> {
        let agent = self.spawn_agent(config)?;
        if let Some(processor) = processor {
            let (now, id) = (clock::both(), agent.id());
            let summary = facade::summary(id)?;
            processor.register_agent_for_monitoring(now, id);
            let (old, new) = (AgentStatus::Created, summary.status);
            processor.handle_agent_state_change(now, id, summary.incarnation, old, new);
        }
        Ok(agent)
    }

    /// Stops an agent of the pool for good, and waits until it is gone.
    pub fn stop_agent(&self, id: &AgentId) -> Result<()> {
        let agent = self.get_agent(id)?.ok_or_else(|| SendError::UnknownAgent(id.clone()))?;
        agent.shutdown()?;
        self.known().remove(id);
        Ok(())
    }

    /// As [`AgentPool::stop_agent`]; the processor is told of its end, which is no failure, or of
    /// what had become of it before.
    pub fn stop_agent_with_supervision(
        &self,
        id: &AgentId,
        processor: Option<&mut SupervisionEventProcessor>,
    ) -> Result<()> {
        let before = facade::summary(id)?;
        self.stop_agent(id)?;
        if let Some(processor) = processor {
            let old = match before.status {
                AgentStatus::Failed => AgentStatus::Failed,
                _ => AgentStatus::Stopping,
            };
            let (now, new) = (clock::both(), AgentStatus::Terminated);
            processor.handle_agent_state_change(now, id, before.incarnation, old, new);
        }
        Ok(())
    }

    /// An agent, if it is in the pool.
    pub fn get_agent(&self, id: &AgentId) -> Result<Option<AgentProcess>> {
        if !self.known().contains(id) {
            return Ok(None);
        }
        match facade::ended(facade::summary(id))? {
            Some(_) => Ok(Some(AgentProcess::of(id.clone()))),
            None => {
                self.known().remove(id);
                Ok(None)
            }
        }
    }

    /// Where an agent of the pool is in its life. One that is not in it, or has ended, is unknown.
    pub fn get_agent_status(&self, id: &AgentId) -> Result<AgentStatus> {
        match self.get_agent(id)? {
            Some(_) => Ok(facade::summary(id)?.status),
            None => Err(SendError::UnknownAgent(id.clone()).into()),
        }
    }

    /// Stops all its agents for good, one after the other, and waits until they are gone.
    pub fn shutdown(&self) -> Result<()> {
        for agent in self.agents()? {
            facade::ended(agent.shutdown())?;
            self.known().remove(agent.id());
        }
        Ok(())
    }
}
