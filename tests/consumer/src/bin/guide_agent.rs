use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::{Agent, Context, Headers, Message, NatsMessage, Node, Result};
use serde_json::json;

#[derive(Default)]
struct Clerk;

#[async_trait]
impl Agent for Clerk {
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        ctx.subscribe("orders.*", Some("clerks")).await
    }

    async fn on_nats_message(&mut self, ctx: &mut Context, order: NatsMessage) -> Result<()> {
        let price = ctx.nats_request("prices", order.payload(), Duration::from_secs(5)).await?;
        let mut headers = Headers::default();
        headers.insert("Clerk", ctx.id().as_str())?;
        let to = order.reply().unwrap_or("orders");
        ctx.publish_message(to, None, &headers, &price).await
    }

    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        ctx.publish("notes", message.payload.to_string().as_bytes()).await?;
        ctx.answer(&message, json!("noted")).await
    }
}

fn main() -> Result<()> {
    Node::builder().agent_type::<Clerk>("clerk").run()
}
