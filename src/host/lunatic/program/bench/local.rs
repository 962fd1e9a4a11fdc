//! Messages between two agents of a node.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{json, Value};

use super::{pairs, spawn_bare, start_node, TIMEOUT};
use crate::agent::{Agent, AgentId, Context};
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::host::lunatic::clock;
use crate::host::lunatic::mail;
use crate::host::lunatic::names::{self, Lookup};
use crate::host::lunatic::sys::{self, Pid, Received};
use crate::host::lunatic::NodeHandle;
use crate::message::Message;

/// One way between two agents, against two bare processes that pass one ready-made buffer.
pub(super) fn one_way_text(config: &NodeConfig) -> Result<()> {
    // With its quotes, 128 bytes of JSON.
    let payload = Value::from("x".repeat(126));
    one_way(config, "local_one_way_128", payload)
}

/// The same with an object of that size, which has to be taken apart by who gets it.
pub(super) fn one_way_object(config: &NodeConfig) -> Result<()> {
    let filler = "x".repeat(60);
    let payload = json!({ "kind": "reading", "sensor": 17, "value": 21.5, "note": filler });
    one_way(config, "local_one_way_128_object", payload)
}

fn one_way(config: &NodeConfig, name: &str, payload: Value) -> Result<()> {
    const MESSAGES: u64 = 300_000;
    let mut node = start_pair(config)?;
    let body = serde_json::to_vec(&payload)?;
    let task = json!({ "send": MESSAGES, "payload": payload });
    pairs(
        name,
        "msg/s",
        "bare Lunatic processes, one pre-encoded buffer",
        &mut || Ok(MESSAGES as f64 / ask_source(&mut node, &task)?),
        &mut || bare_one_way(&body, MESSAGES),
    )
}

/// Request and reply between two agents, against two bare processes.
pub(super) fn round_trip(config: &NodeConfig) -> Result<()> {
    const REQUESTS: u64 = 50_000;
    let mut node = start_pair(config)?;
    let payload = Value::from("x".repeat(126));
    let body = serde_json::to_vec(&payload)?;
    let task = json!({ "request": REQUESTS, "payload": payload });
    pairs(
        "local_round_trip",
        "us",
        "bare Lunatic processes, one pre-encoded buffer, the same timeout",
        &mut || Ok(ask_source(&mut node, &task)? * 1e6 / REQUESTS as f64),
        &mut || bare_round_trip(&body, REQUESTS),
    )
}

/// A node of its own, with an agent that sends and one that gets.
fn start_pair(config: &NodeConfig) -> Result<NodeHandle> {
    let mut node = start_node(config)?;
    for (id, agent_type) in [("source", "bench_source"), ("sink", "bench_sink")] {
        // They are there if another benchmark of this run has had them started.
        if names::look_up(&names::agent(id)) == Lookup::Unknown {
            super::spawn(&mut node, id, agent_type)?;
        }
    }
    Ok(node)
}

/// Has the source do a task, and says how many seconds it took.
pub(super) fn ask_source(node: &mut NodeHandle, task: &Value) -> Result<f64> {
    let answer = node.request(&AgentId("source".to_owned()), task, Duration::from_secs(120))?;
    answer["seconds"].as_f64().ok_or_else(|| Error::Node(format!("the source said {answer}")))
}

/// Sends what it is told to, through the public API, and says how long that took.
#[derive(Default)]
pub(super) struct Source;

#[async_trait]
impl Agent for Source {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let sink = AgentId("sink".to_owned());
        let task = &message.payload;
        let payload = task["payload"].clone();
        let started = clock::now();
        if let Some(messages) = task["send"].as_u64() {
            for _ in 0..messages {
                ctx.send(&sink, payload.clone()).await?;
            }
            // Answered when everything before it was handled.
            let handled = ctx.request(&sink, json!({ "handled": true }), TIMEOUT).await?;
            if handled.as_u64() != Some(messages) {
                return Err(Error::handler(format!("{handled} of {messages} were handled")));
            }
        } else if let Some(requests) = task["request"].as_u64() {
            for _ in 0..requests {
                ctx.request(&sink, payload.clone(), TIMEOUT).await?;
            }
        }
        let seconds = (clock::now() - started).as_secs_f64();
        ctx.reply(&message, json!({ "seconds": seconds })).await
    }
}

/// Counts what it gets, and tells.
#[derive(Default)]
pub(super) struct Sink {
    handled: u64,
}

#[async_trait]
impl Agent for Sink {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        if !ctx.wants_reply() {
            self.handled += 1;
            return Ok(());
        }
        if message.payload.get("handled").is_some() {
            return ctx.reply(&message, std::mem::take(&mut self.handled)).await;
        }
        let payload = message.payload.clone();
        ctx.reply(&message, payload).await
    }
}

// The bare side: two processes that know each other, and one buffer.

/// Rate in messages per second.
fn bare_one_way(body: &[u8], messages: u64) -> Result<f64> {
    let receiver = spawn_bare(None, bare_receiver)?;
    let started = clock::now();
    for _ in 0..messages {
        sys::send(receiver, 0, body);
    }
    let tag = mail::new_tag();
    let me = sys::this().0;
    let Ok(done) = sys::request_with(receiver, tag, Some(TIMEOUT), |buffer| {
        // Told apart from the bodies by its length.
        buffer.extend_from_slice(&me.to_le_bytes());
        buffer.extend_from_slice(&tag.to_le_bytes());
        Ok::<(), Infallible>(())
    });
    let elapsed = clock::now() - started;
    sys::kill(receiver);
    match done {
        Received::Message => Ok(messages as f64 / elapsed.as_secs_f64()),
        _ => Err(Error::Node("the bare receiver did not answer".to_owned())),
    }
}

/// Microseconds for a request and its reply.
fn bare_round_trip(body: &[u8], requests: u64) -> Result<f64> {
    let receiver = spawn_bare(None, bare_receiver)?;
    let mut buffer = Vec::new();
    let mut request = sys::this().0.to_le_bytes().to_vec();
    request.extend_from_slice(&0_i64.to_le_bytes());
    request.extend_from_slice(body);
    let started = clock::now();
    for _ in 0..requests {
        let tag = mail::new_tag();
        request[8..16].copy_from_slice(&tag.to_le_bytes());
        let Ok(got) = sys::request_with(receiver, tag, Some(TIMEOUT), |out| {
            out.extend_from_slice(&request);
            Ok::<(), Infallible>(())
        });
        if got != Received::Message {
            return Err(Error::Node("the bare receiver did not answer".to_owned()));
        }
        sys::read_message(&mut buffer);
    }
    let elapsed = clock::now() - started;
    sys::kill(receiver);
    Ok(elapsed.as_secs_f64() * 1e6 / requests as f64)
}

/// Reads, and echoes what names a process and a tag and is not exactly as long as a body.
fn bare_receiver() {
    const BODY: std::ops::RangeInclusive<usize> = 100..=140;
    let mut buffer = Vec::new();
    loop {
        sys::receive(&[], None);
        sys::read_message(&mut buffer);
        if BODY.contains(&buffer.len()) {
            continue;
        }
        let number = |at: usize| buffer.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        if let (Some(pid), Some(tag)) = (number(0), number(8)) {
            sys::send(Pid(pid), tag as i64, &buffer[16..]);
        }
    }
}
