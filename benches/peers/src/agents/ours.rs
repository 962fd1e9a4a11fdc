//! Two agents of a native node.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use rust_wasm_lunatic_nats::{
    Agent, AgentConfig, AgentId, Context, Error, MailboxLimits, Message, Node, NodeConfig,
};
use serde_json::json;

use super::{MAILBOX, TIMEOUT, Work, check, payload};
use crate::Result;

pub(super) async fn measure(work: Work, rounds: usize) -> Result<Duration> {
    let mut config = NodeConfig::new(AgentId("bench".to_owned()));
    config.nats = None;
    config.log_level = log::LevelFilter::Warn;
    let node = Node::builder()
        .agent_type::<Source>("source")
        .agent_type::<Sink>("sink")
        .mailbox(MailboxLimits { messages: MAILBOX, ..MailboxLimits::default() })
        .start_async(&config)
        .await?;
    for name in ["source", "sink"] {
        let (id, agent_type) = (AgentId(name.to_owned()), name.to_owned());
        // A round is one message to the source, which is not stuck all that time.
        let config = AgentConfig { id, agent_type, timeout_ms: 600_000, ..AgentConfig::default() };
        node.client().spawn(&config).await?;
    }
    let task = match work {
        Work::Send(messages) => json!({ "send": messages }),
        Work::Request(requests) => json!({ "request": requests }),
    };
    let source = AgentId("source".to_owned());
    let mut took = Duration::ZERO;
    // The first round fills caches and buffers.
    for round in 0..=rounds {
        let answer = node.client().request(&source, task.clone(), TIMEOUT).await?;
        let nanos = answer.as_u64().ok_or_else(|| format!("the source said {answer}"))?;
        if round > 0 {
            took += Duration::from_nanos(nanos);
        }
    }
    node.shutdown(Duration::from_secs(1)).await?;
    Ok(took)
}

/// Sends what it is told to, and says how many ns that took.
#[derive(Default)]
struct Source;

#[async_trait]
impl Agent for Source {
    async fn handle(
        &mut self,
        ctx: &mut Context,
        message: Message,
    ) -> rust_wasm_lunatic_nats::Result<()> {
        let sink = AgentId("sink".to_owned());
        let payload = payload();
        let started = Instant::now();
        if let Some(messages) = message.payload["send"].as_u64() {
            for _ in 0..messages {
                ctx.send(&sink, payload.clone()).await?;
            }
            // Answered when everything before it was handled.
            let handled = ctx.request(&sink, "handled?", TIMEOUT).await?;
            check(handled.as_u64().unwrap_or_default(), messages)
                .map_err(|error| Error::handler(error.to_string()))?;
        } else if let Some(requests) = message.payload["request"].as_u64() {
            for _ in 0..requests {
                ctx.request(&sink, payload.clone(), TIMEOUT).await?;
            }
        }
        ctx.reply(&message, started.elapsed().as_nanos() as u64).await
    }
}

/// Counts what it gets, and tells; answers a request with what it says.
#[derive(Default)]
struct Sink {
    handled: u64,
}

#[async_trait]
impl Agent for Sink {
    async fn handle(
        &mut self,
        ctx: &mut Context,
        mut message: Message,
    ) -> rust_wasm_lunatic_nats::Result<()> {
        if !ctx.wants_reply() {
            self.handled += 1;
            return Ok(());
        }
        if message.payload == "handled?" {
            return ctx.reply(&message, std::mem::take(&mut self.handled)).await;
        }
        let payload = message.payload.take();
        ctx.reply(&message, payload).await
    }
}
