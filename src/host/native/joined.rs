//! The node of this process, for those who have none in their hands.

use std::sync::{Mutex, PoisonError};

use super::node::{is_there_one, Node, NodeHandle};
use crate::agent::AgentId;
use crate::config::{NodeConfig, NodeFlags};
use crate::error::{Error, Result, SendError};
use crate::host::program;

/// The node that was started since there was none. It runs until the process ends.
static STARTED: Mutex<Option<NodeHandle>> = Mutex::new(None);

/// Does something with the node, which is started if there is none.
pub(in crate::host) fn with_node<T>(call: impl FnOnce(&mut NodeHandle) -> Result<T>) -> Result<T> {
    call(&mut join_or_start()?)
}

/// Hands a body to an agent as NATS would, whole as it is.
pub(in crate::host) fn deliver(to: &AgentId, body: Vec<u8>) -> Result<(), SendError> {
    match NodeHandle::attach(&NodeConfig::new(AgentId::external())) {
        Ok(node) => node.client().deliver(to, body),
        // There is no node any more.
        Err(_) => Err(SendError::UnknownAgent(to.clone())),
    }
}

fn join_or_start() -> Result<NodeHandle> {
    // Of two that find none, one starts it.
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_there_one() {
        let loaded = program::load(&NodeFlags::default()).map_err(Error::Node)?;
        *started = Some(Node::builder().start(&loaded.config)?);
    }
    NodeHandle::attach(&NodeConfig::new(AgentId::external()))
}
