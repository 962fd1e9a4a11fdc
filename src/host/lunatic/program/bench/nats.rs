//! Messages between two agents by way of NATS.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;

use super::{before, builder, spawn, TIMEOUT};
use crate::agent::{Agent, AgentId, Context};
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::host::lunatic::clock;
use crate::host::lunatic::sys;
use crate::host::lunatic::{NodeEvent, NodeHandle};
use crate::message::Message;

/// From an agent through NATS to an agent; prints the rate alone. `scripts/bench` runs a native
/// client on the same server in turn with it.
pub(super) fn one_way(config: &NodeConfig) -> Result<()> {
    let mut node = builder().start(config)?;
    wait_until_connected(&node)?;
    spawn(&mut node, "source", "bench_source")?;
    spawn(&mut node, "nats-sink", "bench_nats_sink")?;
    let size = env_number("BENCH_SIZE", 128);
    let messages = env_number("BENCH_MESSAGES", 200_000);
    let sink = AgentId("nats-sink".to_owned());
    let ready = node.ask(&sink, &json!({ "expect": messages }))?;
    // It subscribes before it waits; the server has seen that once it answers a flush.
    sys::sleep(Duration::from_millis(200));
    let task = json!({ "publish": messages, "subject": "bench.one_way", "size": size });
    let started = clock::now();
    let source = node.ask(&AgentId("source".to_owned()), &task)?;
    let mut waiting = vec![ready, source];
    while !waiting.is_empty() {
        match node.next(Some(Duration::from_secs(60))) {
            Some(NodeEvent::Answer { ticket, answer }) => {
                answer.map_err(Error::Node)?;
                waiting.retain(|known| *known != ticket);
            }
            Some(_) => {}
            None => return Err(Error::Node("the messages did not arrive in 60 s".to_owned())),
        }
    }
    let rate = messages as f64 / (clock::now() - started).as_secs_f64();
    println!("{}", json!({ "msgs_per_sec": rate, "size": size, "messages": messages }));
    Ok(())
}

fn wait_until_connected(node: &NodeHandle) -> Result<()> {
    let deadline = clock::now() + TIMEOUT;
    while !node.is_connected() {
        before(deadline, "a connection to NATS")?;
        sys::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Subscribes, and answers when it has got what it expects.
#[derive(Default)]
pub(super) struct NatsSink;

#[async_trait]
impl Agent for NatsSink {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let expected = message.payload["expect"].as_u64().unwrap_or_default();
        let got = receive(expected)?;
        ctx.reply(&message, got).await
    }
}

#[cfg(feature = "wasm-nats")]
fn receive(expected: u64) -> Result<u64> {
    let mut client = crate::host::lunatic::NatsClient::new();
    let mut subscription = client.subscribe("bench.one_way", None)?;
    for got in 0..expected {
        if subscription.next(Some(TIMEOUT)).is_none() {
            return Err(Error::handler(format!("{got} of {expected} messages arrived")));
        }
    }
    Ok(expected)
}

#[cfg(not(feature = "wasm-nats"))]
fn receive(_: u64) -> Result<u64> {
    Err(Error::Nats("this build is without the feature wasm-nats".to_owned()))
}
