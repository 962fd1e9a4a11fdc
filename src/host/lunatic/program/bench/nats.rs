//! Messages between two agents by way of NATS. `scripts/bench` has the same done by a native client
//! on the same server in turn with it (`benches/peers`).

use std::cell::RefCell;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{json, Value};

use super::local::ask_source;
use super::{
    builder, env_number, median, pairs, show_phase, spawn, wait_until_connected,
    wait_until_measured, TIMEOUT,
};
use crate::agent::{Agent, AgentId, Context};
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::host::lunatic::clock;
use crate::host::lunatic::{NodeEvent, NodeHandle};
use crate::message::{Message, NatsMessage};

/// What is measured; the peers' has as many letters.
const SUBJECT: &str = "bench.ours";
/// The agent that gets it.
const SINK: &str = "nats-sink";
/// How long a round of messages may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// From an agent through NATS to an agent; prints the rate alone.
pub(super) fn one_way(config: &NodeConfig) -> Result<()> {
    let mut node = start_pair(config)?;
    let (messages, rounds) = (env_number("BENCH_MESSAGES", 200_000), env_number("BENCH_ROUNDS", 1));
    let task = task("publish", messages);
    // The first round fills caches and buffers.
    ask_source(&mut node, &task)?;
    let mut seconds = 0.0;
    for _ in 0..rounds {
        seconds += ask_source(&mut node, &task)?;
    }
    println!("{}", json!({ "msgs_per_sec": (messages * rounds) as f64 / seconds }));
    Ok(())
}

/// Has an agent that answers requests, until the process is ended.
pub(super) fn responder(config: &NodeConfig) -> Result<()> {
    let mut node = start(config)?;
    start_sink(&mut node)?;
    show_phase("ready", 0);
    loop {
        if let Some(NodeEvent::GaveUp { part }) = node.next(None) {
            return Err(Error::Node(format!("{part} died too often")));
        }
    }
}

/// From an agent's request to the answer of an agent of another node, one after the other; prints
/// the median alone.
pub(super) fn requests(config: &NodeConfig) -> Result<()> {
    let mut node = start(config)?;
    spawn(&mut node, "source", "bench_nats_source")?;
    let requests = env_number("BENCH_REQUESTS", 10_000);
    // The first tenth fills caches and buffers.
    ask_source(&mut node, &task("request", requests / 10 + 1))?;
    let seconds = ask_source(&mut node, &task("request", requests))?;
    println!("{}", json!({ "median_us": seconds * 1e6 }));
    Ok(())
}

/// The rate to one of a thousand subscriptions of a node, against that to the only one.
pub(super) fn thousand_subscriptions(config: &NodeConfig) -> Result<()> {
    /// With the sink, which has the one that is measured besides.
    const AGENTS: u64 = 27;
    /// What each of them has: 27 * 37 + 1 = 1000.
    const OTHERS: u64 = 37;
    let node = RefCell::new(start_pair(config)?);
    for number in 1..AGENTS {
        spawn(&mut node.borrow_mut(), &format!("other-{number}"), "bench_nats_sink")?;
    }
    let messages = env_number("BENCH_MESSAGES", 200_000);
    let task = task("publish", messages);
    let rate_beside = |others: u64| {
        let node = &mut *node.borrow_mut();
        for number in 1..AGENTS {
            let id = AgentId(format!("other-{number}"));
            node.request(&id, &json!({ "others": others }), TIMEOUT)?;
        }
        // Last, so that the one that is measured is not the first that is looked at anywhere.
        subscribe_sink(node, others)?;
        Ok(messages as f64 / ask_source(node, &task)?)
    };
    let name = "nats_1000_subscriptions";
    let (ours, only) = (&mut || rate_beside(OTHERS), &mut || rate_beside(0));
    pairs(name, "msg/s", "the only subscription", ours, only)
}

/// Shows `scripts/bench` a node that was sent so many messages, and a node that was sent ten times
/// as many.
pub(super) fn memory(config: &NodeConfig) -> Result<()> {
    let mut node = start_pair(config)?;
    let all = env_number("BENCH_MESSAGES", 20_000_000);
    let round = (all / 100).max(1);
    let task = task("publish", round);
    let mut sent = 0;
    for (phase, mark) in [("before", all / 10), ("after", all)] {
        while sent < mark {
            ask_source(&mut node, &task)?;
            sent += round;
        }
        eprintln!("{sent} messages came through");
        show_phase(phase, sent);
        wait_until_measured(phase)?;
    }
    Ok(())
}

/// So much for the source to do, with payloads of `BENCH_SIZE` bytes.
fn task(what: &str, count: u64) -> Value {
    json!({ "do": what, "count": count, "size": env_number("BENCH_SIZE", 128) })
}

/// A node with an agent that publishes and one that has subscribed.
fn start_pair(config: &NodeConfig) -> Result<NodeHandle> {
    let mut node = start(config)?;
    spawn(&mut node, "source", "bench_nats_source")?;
    start_sink(&mut node)?;
    Ok(node)
}

/// A connected node.
fn start(config: &NodeConfig) -> Result<NodeHandle> {
    let node = builder().start(config)?;
    wait_until_connected(&node)?;
    Ok(node)
}

fn start_sink(node: &mut NodeHandle) -> Result<()> {
    spawn(node, SINK, "bench_nats_sink")?;
    subscribe_sink(node, 0)
}

fn subscribe_sink(node: &mut NodeHandle, others: u64) -> Result<()> {
    let task = json!({ "others": others, "subject": SUBJECT });
    node.request(&AgentId(SINK.to_owned()), &task, TIMEOUT).map(drop)
}

/// Publishes or asks what it is told to, through the public API, and says how long that took.
#[derive(Default)]
pub(super) struct NatsSource;

#[async_trait]
impl Agent for NatsSource {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let number = |name: &str| message.payload[name].as_u64().unwrap_or_default();
        let (count, body) = (number("count"), vec![b'x'; number("size") as usize]);
        let mut last = clock::now();
        let (asked, requests, expected) = if message.payload["do"] == "publish" {
            for _ in 0..count {
                ctx.publish(SUBJECT, &body).await?;
            }
            // Comes behind them, and is answered with how many have come before it.
            (&[][..], 1, count.to_string().into_bytes())
        } else {
            (&body[..], count, body.clone())
        };
        let mut times = Vec::new();
        for _ in 0..requests {
            let answer = ctx.nats_request(SUBJECT, asked, PATIENCE).await?;
            let now = clock::now();
            times.push((now - last).as_secs_f64());
            last = now;
            if answer != expected {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                return Err(Error::handler(format!("of {count} it got: {answer}")));
            }
        }
        ctx.reply(&message, json!({ "seconds": median(times) })).await
    }
}

/// Counts what it gets. A request is answered with what it says, or with the count if it says
/// nothing.
#[derive(Default)]
pub(super) struct NatsSink {
    arrived: u64,
    others: u64,
}

#[async_trait]
impl Agent for NatsSink {
    /// Has so many subscriptions to which nothing is sent, and after those the one that is measured.
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let others = message.payload["others"].as_u64().unwrap_or_default();
        let id = ctx.id().clone();
        let other = |number: u64| format!("bench.{id}.{number}");
        let subject = message.payload["subject"].as_str();
        if let Some(subject) = subject {
            ctx.unsubscribe(subject, None).await?;
        }
        for number in others..self.others {
            ctx.unsubscribe(&other(number), None).await?;
        }
        for number in self.others..others {
            ctx.subscribe(&other(number), None).await?;
        }
        self.others = others;
        if let Some(subject) = subject {
            ctx.subscribe(subject, None).await?;
        }
        ctx.reply(&message, others).await
    }

    async fn on_nats_message(&mut self, ctx: &mut Context, message: NatsMessage) -> Result<()> {
        let Some(reply) = message.reply() else {
            self.arrived += 1;
            return Ok(());
        };
        if message.payload().is_empty() {
            let arrived = std::mem::take(&mut self.arrived).to_string();
            return ctx.publish(reply, arrived.as_bytes()).await;
        }
        ctx.publish(reply, message.payload()).await
    }
}
