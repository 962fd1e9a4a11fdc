//! Agents that do what they are told.

use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::supervision::{FailureType, PreviousFailure};
use rust_wasm_lunatic_nats::{Agent, AgentId, Context, Error, Message, Result, StateAction};
use serde_json::{json, Value};

use crate::support::{pause, stop_began};

/// Does what it is told: fails, waits for what never comes, remembers what it was told.
#[derive(Default)]
pub(crate) struct Probe {
    seen: Vec<Value>,
    kept: Option<Message>,
    bomb: Option<Bomb>,
    previous: Value,
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the agent's own drop failed");
    }
}

#[async_trait]
impl Agent for Probe {
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        if ctx.config().args.get("fail_on_start").is_some() {
            return Err(Error::handler("told to fail on start"));
        }
        Ok(())
    }

    async fn on_restart(&mut self, ctx: &mut Context, previous: &PreviousFailure) -> Result<()> {
        self.previous = serde_json::to_value(previous)?;
        self.on_start(ctx).await
    }

    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = &message.payload;
        if let Some(text) = told.get("panic").and_then(Value::as_str) {
            panic!("{text}");
        }
        if told.get("previous").is_some() {
            return ctx.reply(&message, self.previous.clone()).await;
        }
        if let Some(text) = told.get("fail").and_then(Value::as_str) {
            return Err(Error::handler(text));
        }
        if told.get("exit_0").is_some() {
            std::process::exit(0);
        }
        if told.get("bomb").is_some() {
            self.bomb = Some(Bomb);
            return ctx.reply(&message, Value::Null).await;
        }
        if told.get("leak").is_some() {
            return Err(Error::failure(FailureType::MemoryLeak, "it grows"));
        }
        if told.get("wait").is_some() {
            std::future::pending::<()>().await;
        }
        if let Some(ms) = told.get("sleep_ms").and_then(Value::as_u64) {
            pause(Duration::from_millis(ms)).await;
            return ctx.answer(&message, Value::Null).await;
        }
        if told.get("silent").is_some() {
            return Ok(());
        }
        if told.get("try_reserve").is_some() {
            let refused = Vec::<u8>::new().try_reserve(512 << 20).is_err();
            return ctx.reply(&message, refused).await;
        }
        if told.get("seen").is_some() {
            let seen = std::mem::take(&mut self.seen);
            return ctx.reply(&message, seen).await;
        }
        if told.get("keep").is_some() {
            self.kept = Some(message);
            return Ok(());
        }
        if told.get("kept").is_some() {
            let Some(Message { id, from, to, timestamp, .. }) = self.kept.take() else {
                return ctx.reply(&message, Value::Null).await;
            };
            let kept = json!({ "id": id, "from": from, "to": to, "timestamp": timestamp });
            return ctx.reply(&message, kept).await;
        }
        if told.get("who").is_some() {
            let who = json!({ "from": message.from, "to": message.to, "id": message.id,
                "timestamp": message.timestamp, "incarnation": ctx.incarnation() });
            return ctx.reply(&message, who).await;
        }
        self.seen.push(message.payload.clone());
        ctx.answer(&message, Value::Null).await
    }

    async fn on_stop(&mut self, ctx: &mut Context) -> Result<()> {
        if ctx.config().args.get("mark_stop").is_some() {
            stop_began(ctx.id());
        }
        if let Some(to) = ctx.config().args.get("bye_to").and_then(Value::as_str) {
            let to = AgentId(to.to_owned());
            ctx.send(&to, "bye").await?;
        }
        Ok(())
    }
}

/// Passes on: `{"to", "payload"}` one way, `{"ask", "payload", "timeout_ms"}` with the answer.
#[derive(Default)]
pub(crate) struct Forward;

#[async_trait]
impl Agent for Forward {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = message.payload.clone();
        let name = |field: &str| told[field].as_str().map(|name| AgentId(name.to_owned()));
        if let Some(to) = name("to") {
            for _ in 0..told["times"].as_u64().unwrap_or(1) {
                ctx.send(&to, told["payload"].clone()).await?;
            }
            return ctx.reply(&message, Value::Null).await;
        }
        let to = name("ask").ok_or_else(|| Error::handler("neither to nor ask"))?;
        let timeout = Duration::from_millis(told["timeout_ms"].as_u64().unwrap_or(5_000));
        let answer = ctx.request(&to, told["payload"].clone(), timeout).await?;
        ctx.reply(&message, json!({ "answer": answer })).await
    }
}

/// As the type `state`, and panics when it is told to.
#[derive(Default)]
pub(crate) struct Keeper;

#[async_trait]
impl Agent for Keeper {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        assert!(message.payload.get("panic").is_none(), "told to panic");
        let action: StateAction = serde_json::from_value(message.payload.clone())?;
        let done = ctx.handle_state_action(action).await?;
        ctx.answer(&message, done).await
    }
}
