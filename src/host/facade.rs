//! Agents without a node in one's hands: the calls that take a config and give an agent, and those
//! that take an agent. They are thin layers over [`Node`] and [`NodeHandle`].
//!
//! # Which node
//! A runtime has one node. The first call that needs it looks whether it runs, and joins it; if not,
//! it starts one: with the built-in agent types, as the environment configures it (`--help` of the
//! program has the variables). So NATS is looked for where `NATS_WEBSOCKET_URL` says, at
//! `ws://localhost:8080` if that is not set, and not at all if it is set to nothing; without a server
//! the node works locally and connects when one appears. It ends with the process that started it.
//!
//! For agent types of one's own, start the node first, with [`Node::builder`]; what is here joins it.
//!
//! # Functions and methods
//! The functions are fire and forget, as a mailbox is: what they cannot do is a warning in the log.
//! The methods of [`AgentProcess`] do the same and say why not.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::here::{clock, deliver, sleep, with_node, NodeHandle};
use crate::agent::{AgentConfig, AgentId, Context};
use crate::error::{Error, Result, SendError, SpawnError};
use crate::memory::StateAction;
use crate::message::{parse_agent_input, AgentSummary, Message, PayloadError};

/// Starts an agent under the node's supervisor. With an empty id, one is made up.
///
/// It runs `on_start` when this returns; what is sent to it before it is done waits for it.
pub fn spawn_single_agent(config: AgentConfig) -> Result<AgentProcess> {
    let spawned = with_node(|node| node.spawn(&config))?;
    Ok(AgentProcess { id: spawned.agent_id })
}

/// Starts agents under the node's supervisor: all of them, or none. Every config is checked before
/// the first one is started; if the node then refuses one (it has an agent of that id, does not know
/// the type, is full), those that were started are stopped again, and the error is that one's.
pub fn spawn_agent_supervisor(configs: Vec<AgentConfig>) -> Result<AgentSupervisor> {
    let configs = checked(configs)?;
    let mut supervisor = AgentSupervisor { agents: Vec::new() };
    for config in configs {
        match spawn_single_agent(config) {
            Ok(agent) => supervisor.agents.push(agent),
            Err(error) => {
                if let Err(left) = supervisor.shutdown() {
                    log::warn!("spawn_agent_supervisor: not everything was stopped: {left}");
                }
                return Err(error);
            }
        }
    }
    Ok(supervisor)
}

/// Sends a message to an agent; see [`AgentProcess::send`], which also says what went wrong.
pub fn send_message_to_agent(agent: &AgentProcess, message: Message) {
    told("send_message_to_agent", agent, agent.send(&message));
}

/// Has an agent of type `state` store, forget or read something, without looking at the answer; see
/// [`AgentProcess::state_action`], which gives it.
pub fn send_state_action_to_agent(agent: &AgentProcess, action: StateAction) {
    told("send_state_action_to_agent", agent, agent.send_state_action(&action));
}

/// Everything that an agent of type `state` remembers. Empty, too, if it cannot be had; see
/// [`AgentProcess::state`], which says why.
pub fn get_agent_state(agent: &AgentProcess) -> HashMap<String, Value> {
    told("get_agent_state", agent, agent.state())
}

/// Stops an agent for good; see [`AgentProcess::shutdown`], which also says what went wrong.
pub fn shutdown_agent(agent: &AgentProcess) {
    told("shutdown_agent", agent, agent.shutdown());
}

fn told<T: Default>(call: &str, agent: &AgentProcess, result: Result<T>) -> T {
    result.unwrap_or_else(|error| {
        log::warn!(to = agent.id().as_str(), call; "{error}");
        T::default()
    })
}

/// An agent that was started, known by its id: so this is still the agent after a crash has given
/// it another process. To drop it does not stop the agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentProcess {
    id: AgentId,
}

impl AgentProcess {
    /// How long an agent has to answer about its state: 10 s for each value.
    pub const STATE_TIMEOUT: Duration = Duration::from_secs(10);

    /// One that was started already.
    pub(super) fn of(id: AgentId) -> Self {
        Self { id }
    }

    /// The agent's id.
    pub fn id(&self) -> &AgentId {
        &self.id
    }

    /// Sends a message, at most once; it arrives with the id, sender and time that it has here. Its
    /// `to` must be this agent. Together it may have [`Context::MAX_PAYLOAD`] bytes as JSON, and 126
    /// arrays and objects inside each other.
    pub fn send(&self, message: &Message) -> Result<()> {
        if message.to != self.id {
            let (to, agent) = (message.to.clone(), self.id.clone());
            return Err(SendError::WrongAgent { to, agent }.into());
        }
        message.from.validate()?;
        let body = serde_json::to_vec(message)?;
        let (bytes, max) = (body.len(), Context::MAX_PAYLOAD);
        if bytes > max {
            return Err(SendError::TooLarge { bytes, max }.into());
        }
        // By the agent's own rule: what it would refuse is refused here, where it can be told. All
        // but the depth was looked at already.
        parse_agent_input(&body, max, &self.id, String::new, 0)
            .map_err(|_| SendError::Payload(PayloadError::TooDeep))?;
        // As the reader delivers what NATS brings: so the message stays as it is.
        Ok(deliver(&self.id, body)?)
    }

    /// Sends a payload and waits for the answer, at most for `timeout`.
    pub fn request(&self, payload: &Value, timeout: Duration) -> Result<Value> {
        with_node(|node| node.request(&self.id, payload, timeout))
    }

    /// Has the agent store, forget or read something, and gives its answer. Agents of type `state`
    /// can do that, and those of a user whose handler takes a [`StateAction`].
    pub fn state_action(&self, action: &StateAction) -> Result<Value> {
        self.request(&serde_json::to_value(action)?, Self::STATE_TIMEOUT)
    }

    fn send_state_action(&self, action: &StateAction) -> Result<()> {
        let payload = serde_json::to_value(action)?;
        with_node(|node| node.send(&self.id, &payload))
    }

    /// Everything that the agent remembers; for agents that take a [`StateAction`]. Value by value,
    /// each as it is when it is read; what was sent to the agent before this is done by then. At
    /// worst as large as its memory can get (64 MiB), here.
    pub fn state(&self) -> Result<HashMap<String, Value>> {
        let keys: Vec<String> = serde_json::from_value(self.state_action(&StateAction::List)?)?;
        let value = |key: String| {
            let value = self.state_action(&StateAction::Get { key: key.clone() })?;
            Ok((key, value))
        };
        keys.into_iter().map(value).collect()
    }

    /// Stops the agent for good, and waits until it is gone: it handles what was sent to it before
    /// this, then its `on_stop` is called. One that takes longer than its supervisor's grace is
    /// killed. An agent that is gone already is an error.
    pub fn shutdown(&self) -> Result<()> {
        with_node(|node| {
            node.stop(&self.id)?;
            await_end(node, &self.id)
        })
    }
}

impl fmt::Display for AgentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id.as_str())
    }
}

/// Agents that were started together. Each is under the node's supervisor by itself: a crash of one
/// does not touch the others. To drop it stops none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSupervisor {
    agents: Vec<AgentProcess>,
}

impl AgentSupervisor {
    /// The agents, in the order of their configs.
    pub fn agents(&self) -> &[AgentProcess] {
        &self.agents
    }

    /// The agent of that id, if it was started with these.
    pub fn agent(&self, id: &AgentId) -> Option<&AgentProcess> {
        self.agents.iter().find(|agent| agent.id == *id)
    }

    /// Stops all of them for good, and waits until they are gone. Those that are gone already are
    /// passed over.
    pub fn shutdown(self) -> Result<()> {
        with_node(|node| {
            for AgentProcess { id } in &self.agents {
                ended(node.stop(id))?;
            }
            self.agents.iter().try_for_each(|agent| await_end(node, &agent.id))
        })
    }
}

/// Configs of which each is right by itself and has an id of its own.
fn checked(configs: Vec<AgentConfig>) -> Result<Vec<AgentConfig>> {
    let mut ids = HashSet::new();
    let check = |mut config: AgentConfig| {
        if config.id.as_str().is_empty() {
            config.id = AgentId::new();
        }
        config.validate().map_err(SpawnError::Invalid)?;
        match ids.insert(config.id.clone()) {
            true => Ok(config),
            false => Err(SpawnError::Exists(config.id).into()),
        }
    };
    configs.into_iter().map(check).collect()
}

/// Waits until an agent that was told to stop is gone.
fn await_end(node: &mut NodeHandle, id: &AgentId) -> Result<()> {
    /// The supervisor kills one that has not stopped long before that.
    const TIMEOUT: Duration = Duration::from_secs(30);
    const LOOK: Duration = Duration::from_millis(1);
    let deadline = clock::now() + TIMEOUT;
    while ended(node.agent(id))?.is_some() {
        if clock::now() > deadline {
            let seconds = TIMEOUT.as_secs();
            return Err(Error::Node(format!("agent {id} has not stopped within {seconds} s")));
        }
        sleep(LOOK);
    }
    Ok(())
}

/// One agent, as its supervisor sees it.
pub(super) fn summary(id: &AgentId) -> Result<AgentSummary> {
    with_node(|node| node.agent(id))
}

/// That there is no such agent is what is wanted.
pub(super) fn ended<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Send(SendError::UnknownAgent(_))) => Ok(None),
        Err(error) => Err(error),
    }
}
