//! What the tests share: a node of their own.

use std::path::PathBuf;
use std::time::Duration;

use rust_wasm_lunatic_nats::{AgentId, Node, NodeBuilder, NodeConfig, NodeHandle};

pub(crate) use crate::agents::*;
pub(crate) use crate::watching::*;
pub(crate) use core::prelude::v1::test as host_test;
pub(crate) use rust_wasm_lunatic_nats::sleep;

/// The deaths that end an agent alone.
pub(crate) const DEATHS: &[&str] = &["panic", "loop", "hang"];

/// Agents share one memory.
pub(crate) const MEASURES_MEMORY: bool = false;

/// A node without NATS, with the agent types of these tests, watched.
pub(crate) fn node(test: &str) -> NodeHandle {
    node_with(test, |_| {})
}

pub(crate) fn node_with(test: &str, change: impl FnOnce(&mut NodeConfig)) -> NodeHandle {
    let mut config = node_config(test);
    change(&mut config);
    let _alone = crate::alone();
    let mut node = builder().start(&config).unwrap();
    node.watch().unwrap();
    node
}

pub(crate) fn node_config(test: &str) -> NodeConfig {
    let mut config = NodeConfig::new(AgentId("test".to_owned()));
    config.nats = None;
    config.data_dir = data_dir(test);
    config.log_level = log::LevelFilter::Off;
    config
}

pub(crate) fn builder() -> NodeBuilder {
    Node::builder()
        .agent_type::<Probe>("probe")
        .agent_type::<Forward>("forward")
        .agent_type::<Keeper>("keeper")
}

pub(crate) fn data_dir(test: &str) -> PathBuf {
    let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    base.join(format!("{}-{}", std::process::id(), test))
}

/// Waits, in an agent.
pub(crate) async fn pause(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// An agent with `mark_stop` was told to stop. Here nobody waits for that.
pub(crate) fn stop_began(_: &AgentId) {}
