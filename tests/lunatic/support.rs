//! What the tests share: a node of their own, agents that tell, and waiting for events.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rust_wasm_lunatic_nats::host::lunatic::sys::{self, Permissions, Pid};
use rust_wasm_lunatic_nats::host::lunatic::{Node, NodeHandle};
#[cfg(not(feature = "wasm-nats"))]
use rust_wasm_lunatic_nats::Error;
use rust_wasm_lunatic_nats::{Agent, AgentId, Context, Message, NodeConfig, Result};
use serde_json::Value;

pub(crate) use crate::agents::*;
pub(crate) use crate::watching::*;
pub(crate) use lunatic::test as host_test;
pub(crate) use sys::sleep;

/// The deaths that end an agent alone: all of them.
pub(crate) const DEATHS: &[&str] = &["panic", "memory", "loop", "stack", "exit", "hang"];

/// Each agent has a memory of its own, which can be measured.
pub(crate) const MEASURES_MEMORY: bool = true;

/// Waits, in an agent.
pub(crate) async fn pause(duration: Duration) {
    sys::sleep(duration);
}

/// An agent with `mark_stop` was told to stop.
pub(crate) fn stop_began(_: &AgentId) {
    sys::register(STOP_BEGAN, sys::this());
}

/// A node without NATS, with the agent types of these tests, watched.
pub(crate) fn node(test: &str) -> NodeHandle {
    node_with(test, |_| {})
}

pub(crate) fn node_with(test: &str, change: impl FnOnce(&mut NodeConfig)) -> NodeHandle {
    let mut config = NodeConfig::new(AgentId("test".to_owned()));
    config.nats = None;
    config.data_dir = data_dir(test);
    change(&mut config);
    let builder = Node::builder()
        .agent_type::<Probe>("probe")
        .agent_type::<Forward>("forward")
        .agent_type::<Keeper>("keeper")
        .agent_type::<Subscriber>("nats");
    let mut node = builder.start(&config).unwrap();
    node.watch().unwrap();
    node
}

/// What an agent with `mark_stop` is registered under when it is told to stop.
pub(crate) const STOP_BEGAN: &str = "test/stop_began";

/// Waits until a process that lives has a name.
pub(crate) fn await_name(name: &str) -> Pid {
    let started = Instant::now();
    loop {
        match sys::lookup(name) {
            Some(pid) if sys::exists(pid) => return pid,
            _ => assert!(started.elapsed() < DEADLINE, "nobody is registered as {name}"),
        }
        sys::sleep(Duration::from_millis(1));
    }
}

/// Waits until the agent with `mark_stop` was told to stop; it may have ended since then.
pub(crate) fn await_stop() {
    let started = Instant::now();
    while sys::lookup(STOP_BEGAN).is_none() {
        assert!(started.elapsed() < DEADLINE, "nobody was told to stop");
        sys::sleep(Duration::from_millis(1));
    }
}

/// Starts a process beside the tree.
pub(crate) fn spawn(entry: fn()) -> Pid {
    sys::spawn(&Permissions::none().unwrap(), None, entry).unwrap()
}

pub(crate) fn data_dir(test: &str) -> PathBuf {
    let base = std::env::var("TEST_TMPDIR").unwrap_or_else(|_| "target/tmp".to_owned());
    PathBuf::from(base).join(test)
}

/// Subscribes as it is told.
#[derive(Default)]
pub(crate) struct Subscriber;

#[async_trait]
impl Agent for Subscriber {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = |field: &str| message.payload[field].as_str();
        let answer = if let Some(subject) = told("subscribe") {
            ctx.subscribe(subject, None).await?;
            Value::Null
        } else if let Some(subject) = told("unsubscribe") {
            ctx.unsubscribe(subject, None).await?.into()
        } else {
            own_connection(told("own").unwrap_or_default())?
        };
        ctx.reply(&message, answer).await
    }
}

#[cfg(feature = "wasm-nats")]
fn own_connection(url: &str) -> Result<Value> {
    use rust_wasm_lunatic_nats::agent::run_ready;
    use rust_wasm_lunatic_nats::wasm_nats::{WasmNatsConfig, WasmNatsConnection};
    let config = WasmNatsConfig { websocket_url: url.to_owned(), ..Default::default() };
    run_ready(WasmNatsConnection::new(config)).unwrap()?;
    Ok(Value::Null)
}

#[cfg(not(feature = "wasm-nats"))]
fn own_connection(_: &str) -> Result<Value> {
    Err(Error::handler("this build has no connections"))
}
