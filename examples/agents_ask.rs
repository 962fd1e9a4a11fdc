// A request between agents: a cook asks the larder, and answers with what came of it.

use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::{
    Agent, AgentConfig, AgentId, Context, Error, Message, Node, NodeConfig, Result,
};
use serde_json::json;

/// Gives out eggs, as long as there are some.
struct Larder {
    eggs: u64,
}

impl Default for Larder {
    fn default() -> Self {
        Self { eggs: 5 }
    }
}

#[async_trait]
impl Agent for Larder {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let wanted = message.payload["eggs"].as_u64().unwrap_or_default();
        // An error is the answer, too: the one who asks gets it.
        let left = self.eggs.checked_sub(wanted);
        self.eggs = left.ok_or_else(|| Error::handler(format!("{} eggs left", self.eggs)))?;
        ctx.reply(&message, wanted).await
    }
}

/// Makes omelettes, of three eggs each.
#[derive(Default)]
struct Cook;

#[async_trait]
impl Agent for Cook {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let larder = AgentId("larder".to_owned());
        // While it waits, only this agent does: the rest of the node goes on.
        let got = ctx.request(&larder, json!({ "eggs": 3 }), Duration::from_secs(5)).await;
        let answer = match got {
            Ok(eggs) => format!("an omelette of {eggs} eggs"),
            Err(error) => format!("sorry: {error}"),
        };
        ctx.reply(&message, answer).await
    }
}

pub fn main() -> Result<()> {
    let config = NodeConfig { nats: None, ..NodeConfig::new(AgentId("n1".to_owned())) };
    let builder = Node::builder().agent_type::<Larder>("larder").agent_type::<Cook>("cook");
    let mut node = builder.start(&config)?;

    for name in ["larder", "cook"] {
        let (id, agent_type) = (AgentId(name.to_owned()), name.to_owned());
        node.spawn(&AgentConfig { id, agent_type, ..Default::default() })?;
    }
    for guest in 1..=2 {
        let cook = AgentId("cook".to_owned());
        let answer = node.request(&cook, &json!("an omelette, please"), Duration::from_secs(10))?;
        println!("guest {guest}: {answer}");
    }

    node.shutdown(Duration::from_secs(5))?;
    Ok(())
}
