//! What the end-to-end tests look at NATS with, from the inside: `node`, a node with agents that
//! subscribe, and that send to others, on either host; and `own`, a connection without a node, which
//! is about the client for Lunatic.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::{Agent, AgentId, Context, Message, NatsMessage, Node, Result};
use serde_json::{Value, json};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    #[cfg(target_family = "wasm")]
    if std::env::args().nth(1).as_deref() == Some("own") {
        return Ok(rust_wasm_lunatic_nats::agent::run_ready(own::own())??);
    }
    let node = Node::builder().agent_type::<Listener>("listener");
    Ok(node.agent_type::<Teller>("teller").agent_type::<Tally>("tally").run()?)
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
        #[cfg(target_family = "wasm")]
        if message.payload == "kill the connection" {
            use rust_wasm_lunatic_nats::host::lunatic::sys;
            sys::lookup("node/connection").into_iter().for_each(sys::kill);
        }
        if message.payload == "unsubscribe" {
            ctx.unsubscribe("probe.>", None).await?;
        }
        ctx.reply(&message, self.heard.clone()).await
    }
}

/// Counts how often each text came from each sender, and answers with that; with all of it to what is no
/// text.
#[derive(Default)]
struct Tally {
    came: BTreeMap<String, u64>,
}

#[async_trait]
impl Agent for Tally {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let answer = match message.payload.as_str() {
            Some(text) => {
                let came = self.came.entry(format!("{} {text}", message.from)).or_default();
                *came += 1;
                json!(came)
            }
            None => json!(self.came),
        };
        ctx.answer(&message, answer).await
    }
}

/// Sends to an agent, or asks it, and answers with what came of it.
#[derive(Default)]
struct Teller;

#[async_trait]
impl Agent for Teller {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = &message.payload;
        let agent = |field: &str| Some(AgentId(told[field].as_str()?.to_owned()));
        let done = match (agent("tell"), agent("ask")) {
            (Some(to), _) => ctx.send(&to, told["payload"].clone()).await.map(|()| Value::Null),
            (None, Some(to)) => {
                let timeout = Duration::from_millis(told["timeout_ms"].as_u64().unwrap_or(5_000));
                ctx.request(&to, told["payload"].clone(), timeout).await
            }
            (None, None) => Ok(Value::Null),
        };
        let answer = done.unwrap_or_else(|error| json!({ "error": error.to_string() }));
        ctx.reply(&message, answer).await
    }
}

#[cfg(target_family = "wasm")]
mod own {
    use std::time::Duration;

    use rust_wasm_lunatic_nats::wasm_nats::{NatsError, WasmNatsConfig, WasmNatsConnection};

    /// Says what comes on `probe.in`, and what is known of the connection, until it has ended for good.
    pub(crate) async fn own() -> std::result::Result<(), NatsError> {
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
}
