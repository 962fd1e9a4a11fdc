//! The connection in a build without `wasm-nats`: the same face, and nothing behind it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::NodeConfig;
use crate::error::Result;

/// There is never one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum ConnectionStart {}

impl ConnectionStart {
    pub(super) fn new(config: &NodeConfig) -> Result<Option<Self>> {
        if config.nats.is_some() {
            log::info!("this build is without wasm-nats: the node works locally");
        }
        Ok(None)
    }
}

/// What a connection would be told about agents.
#[derive(Serialize, Deserialize)]
pub(super) enum Mail<'a> {
    SubscribeAgent { id: &'a str },
    UnsubscribeAgent { id: &'a str },
    ForgetAgents,
}

/// Never spawned, since there is never a [`ConnectionStart`].
pub(super) fn process() {}

/// Nothing comes in.
pub(super) fn stop_listening(_: Duration) {}

/// There is nothing to wait for.
pub(super) fn flush(_: Duration) -> bool {
    true
}
