// An agent that keeps its state through a crash: its own memory is gone, what it stored in files is
// there again.

use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::{
    Agent, AgentConfig, AgentId, Context, MemoryBackendType, Message, Node, NodeConfig, NodeEvent,
    Result, StateAction,
};
use serde_json::json;

/// Counts twice: in its own memory, and in its state.
#[derive(Default)]
struct Counter {
    in_memory: u64,
}

#[async_trait]
impl Agent for Counter {
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        // The files would survive the node as well. Here, each run starts anew.
        if ctx.incarnation() == 1 {
            ctx.handle_state_action(StateAction::Clear).await?;
        }
        Ok(())
    }

    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        if message.payload == "crash" {
            panic!("told to crash");
        }
        let key = || "count".to_owned();
        let stored = ctx.handle_state_action(StateAction::Get { key: key() }).await?;
        let stored = stored.as_u64().unwrap_or_default() + 1;
        let store = StateAction::Store { key: key(), value: stored.into() };
        ctx.handle_state_action(store).await?;
        self.in_memory += 1;
        let (life, in_memory) = (ctx.incarnation(), self.in_memory);
        ctx.reply(&message, json!({ "life": life, "in_memory": in_memory, "stored": stored })).await
    }
}

pub fn main() -> Result<()> {
    let config = NodeConfig { nats: None, ..NodeConfig::new(AgentId("n1".to_owned())) };
    let mut node = Node::builder().agent_type::<Counter>("counter").start(&config)?;
    node.watch()?;

    let id = AgentId("counter".to_owned());
    node.spawn(&AgentConfig {
        id: id.clone(),
        agent_type: "counter".to_owned(),
        memory_backend_type: MemoryBackendType::File,
        ..Default::default()
    })?;
    let patience = Duration::from_secs(5);
    println!("{}", node.request(&id, &json!("count"), patience)?);
    println!("{}", node.request(&id, &json!("count"), patience)?);

    node.send(&id, &json!("crash"))?;
    // The supervisor tells when the next life has begun.
    while let Some(event) = node.next(Some(patience)) {
        match event {
            NodeEvent::Event { subject, .. } if subject == "supervision.recovery.counter" => break,
            _ => {}
        }
    }
    println!("{}", node.request(&id, &json!("count"), patience)?);

    node.shutdown(patience)?;
    Ok(())
}
