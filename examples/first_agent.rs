// A first agent: a type with a handler, a node that knows it, and somebody who asks.

use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::{
    Agent, AgentConfig, AgentId, Context, Message, Node, NodeConfig, Result,
};
use serde_json::json;

/// Greets, and counts whom: each agent has its own count.
#[derive(Default)]
struct Greeter {
    greeted: u64,
}

#[async_trait]
impl Agent for Greeter {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        self.greeted += 1;
        let answer = json!({ "hello": message.payload["name"], "n": self.greeted });
        ctx.reply(&message, answer).await
    }
}

pub fn main() -> Result<()> {
    let config = NodeConfig { nats: None, ..NodeConfig::new(AgentId("n1".to_owned())) };
    let mut node = Node::builder().agent_type::<Greeter>("greeter").start(&config)?;

    let ann = AgentId("ann".to_owned());
    let agent_type = "greeter".to_owned();
    node.spawn(&AgentConfig { id: ann.clone(), agent_type, ..Default::default() })?;
    for name in ["Bob", "Eve"] {
        let answer = node.request(&ann, &json!({ "name": name }), Duration::from_secs(5))?;
        println!("{answer}");
    }

    node.shutdown(Duration::from_secs(5))?;
    Ok(())
}
