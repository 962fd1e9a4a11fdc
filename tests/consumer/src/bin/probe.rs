//! What the end-to-end tests look at NATS with, from the inside: `own`, a connection without a node,
//! and `node`, a node with agents that subscribe.

use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::host::lunatic::sys;
use rust_wasm_lunatic_nats::wasm_nats::{NatsError, WasmNatsConfig, WasmNatsConnection};
use rust_wasm_lunatic_nats::{Agent, Context, Message, NatsMessage, Node, Result};
use serde_json::{Value, json};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("own") => Ok(run_ready(own())??),
        _ => Ok(Node::builder().agent_type::<Listener>("listener").run()?),
    }
}

/// Says what comes on `probe.in`, and what is known of the connection, until it has ended for good.
async fn own() -> std::result::Result<(), NatsError> {
    let nats = WasmNatsConnection::new(WasmNatsConfig {
        websocket_url: std::env::var("NATS_WEBSOCKET_URL").unwrap_or_default(),
        max_reconnects: Some(3),
        reconnect_delay: Duration::from_secs(2),
        name: Some("probe".to_owned()),
        ..Default::default()
    })
    .await?;
    let mut subscription = nats.subscribe("probe.in").await?;
    nats.flush(Duration::from_secs(5)).await?;
    println!("ready");
    let mut was_connected = true;
    let ended = loop {
        match subscription.next_within(Duration::from_millis(20)).await {
            Ok(Some(message)) => {
                let answer = format!("{}!", String::from_utf8_lossy(message.payload()));
                if let Some(reply) = message.reply() {
                    nats.publish(reply, answer.as_bytes()).await?;
                }
                let stats = nats.get_stats();
                println!(
                    "{answer} in={}/{} out={}/{} reconnects={}",
                    stats.in_messages,
                    stats.in_bytes,
                    stats.out_messages,
                    stats.out_bytes,
                    stats.reconnects
                );
            }
            Ok(None) => {}
            Err(error) => break error,
        }
        if nats.is_connected() != was_connected {
            was_connected = !was_connected;
            println!("connected={was_connected}");
        }
    };
    println!("ended: {ended}");
    let is_closed = |result| matches!(result, Err(NatsError::Closed(_)));
    println!("next: {:?}", subscription.next().await);
    println!("publish closed={}", is_closed(nats.publish("a", b"").await));
    println!("subscribe closed={}", is_closed(nats.subscribe("a").await.map(drop)));
    println!("flush closed={}", is_closed(nats.flush(Duration::from_secs(5)).await));
    let (connected, stats) = (nats.is_connected(), nats.get_stats());
    println!("at last: connected={connected} failed_attempts={}", stats.failed_attempts);
    Ok(())
}

/// Subscribes to what its `args` name, and answers there; does as it is told by messages.
#[derive(Default)]
struct Listener {
    heard: Vec<Value>,
}

#[async_trait]
impl Agent for Listener {
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        let args = ctx.config().args.clone();
        let text = |field: &str| args.get(field).and_then(Value::as_str);
        match text("subject") {
            Some(subject) => ctx.subscribe(subject, text("queue_group")).await,
            None => Ok(()),
        }
    }

    async fn on_nats_message(&mut self, ctx: &mut Context, message: NatsMessage) -> Result<()> {
        let said = String::from_utf8_lossy(message.payload()).into_owned();
        assert_ne!(said, "panic", "told to panic");
        let heard = json!({
            "by": ctx.id(), "life": ctx.incarnation(), "subject": message.subject(), "said": said,
        });
        self.heard.push(heard.clone());
        match message.reply() {
            Some(reply) => ctx.publish(reply, heard.to_string().as_bytes()).await,
            None => Ok(()),
        }
    }

    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        if message.payload == "kill the connection" {
            sys::lookup("node/connection").into_iter().for_each(sys::kill);
        }
        if message.payload == "unsubscribe" {
            ctx.unsubscribe("probe.>", None).await?;
        }
        ctx.reply(&message, self.heard.clone()).await
    }
}
