//! The node of this runtime, for those who have none in their hands.

use std::cell::RefCell;

use super::mail::{self, AgentMail};
use super::names::{self, Lookup};
use super::node::{Node, NodeHandle};
use crate::agent::AgentId;
use crate::config::{NodeConfig, NodeFlags};
use crate::error::{Error, Result, SendError};
use crate::host::program;

thread_local! {
    /// This process's handle to the node.
    static NODE: RefCell<Option<NodeHandle>> = const { RefCell::new(None) };
}

/// Does something with the node, which is started if there is none.
pub(in crate::host) fn with_node<T>(call: impl FnOnce(&mut NodeHandle) -> Result<T>) -> Result<T> {
    NODE.with_borrow_mut(|node| match node {
        Some(node) => call(node),
        None => call(node.insert(join_or_start()?)),
    })
}

/// Hands a body to an agent as the reader does, whole as it is.
pub(in crate::host) fn deliver(to: &AgentId, body: Vec<u8>) -> Result<(), SendError> {
    match names::look_up(&names::agent(to.as_str())) {
        Lookup::Runs(pid) => {
            mail::send(pid, &AgentMail::Input { body: &body });
            Ok(())
        }
        Lookup::Dead => Err(SendError::AgentRestarting(to.clone())),
        Lookup::Unknown => Err(SendError::UnknownAgent(to.clone())),
    }
}

fn join_or_start() -> Result<NodeHandle> {
    if names::look_up(names::SUPERVISOR) != Lookup::Unknown {
        // Only the supervisor is asked, so that it does not matter what else the node has.
        let config = NodeConfig { nats: None, ..NodeConfig::new(AgentId::external()) };
        return NodeHandle::attach(&config);
    }
    let loaded = program::load(&NodeFlags::default()).map_err(Error::Node)?;
    Node::builder().start(&loaded.config)
}
