use async_trait::async_trait;
use rust_wasm_lunatic_nats::{Agent, Context, Message, Node, Result};
use serde_json::json;

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

fn main() -> Result<()> {
    Node::builder().agent_type::<Greeter>("greeter").run()
}
