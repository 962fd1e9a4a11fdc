// An agent with NATS subjects of its own: thermostats answer sensors, whichever of them is free.

use std::time::Duration;

use async_trait::async_trait;
use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::config::NatsUrls;
use rust_wasm_lunatic_nats::wasm_nats::{NatsError, WasmNatsConfig, WasmNatsConnection};
use rust_wasm_lunatic_nats::{
    sleep, Agent, AgentConfig, AgentId, Context, Message, NatsMessage, Node, NodeConfig, Result,
};

/// Decides about the heating.
#[derive(Default)]
struct Thermostat;

#[async_trait]
impl Agent for Thermostat {
    /// In each life: what the one before had subscribed to ended with it.
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        ctx.subscribe("sensors.*.temperature", Some("thermostats")).await
    }

    async fn on_nats_message(&mut self, ctx: &mut Context, message: NatsMessage) -> Result<()> {
        let room = message.subject().split('.').nth(1).unwrap_or_default();
        let degrees: i32 = serde_json::from_slice(message.payload())?;
        let heating = if degrees < 20 { "on" } else { "off" };
        let decision = format!("{room}: {degrees} degrees, heating {heating}");
        match message.reply() {
            Some(reply) => ctx.publish(reply, decision.as_bytes()).await,
            None => ctx.publish("heating", decision.as_bytes()).await,
        }
    }

    async fn handle(&mut self, _: &mut Context, _: Message) -> Result<()> {
        Ok(())
    }
}

/// A sensor somewhere: a connection of its own, which knows nothing of the node.
async fn sensor(url: &str) -> Result<(), NatsError> {
    let config = WasmNatsConfig { websocket_url: url.to_owned(), ..Default::default() };
    let nats = WasmNatsConnection::new(config).await?;
    for (room, degrees) in [("kitchen", "17"), ("bath", "23")] {
        let subject = format!("sensors.{room}.temperature");
        let answer = loop {
            match nats.request(&subject, degrees.as_bytes(), Duration::from_secs(5)).await {
                // The thermostats are still on their way to the server.
                Err(NatsError::NoResponders { .. }) => sleep(Duration::from_millis(20)),
                answer => break answer?,
            }
        };
        println!("{}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_WEBSOCKET_URL").unwrap_or("ws://localhost:8080".to_owned());
    let nats = NatsUrls::new(url.as_str());
    let config = NodeConfig { nats, ..NodeConfig::new(AgentId("n1".to_owned())) };
    let mut node = Node::builder().agent_type::<Thermostat>("thermostat").start(&config)?;
    for name in ["one", "two"] {
        let (id, agent_type) = (AgentId(name.to_owned()), "thermostat".to_owned());
        node.spawn(&AgentConfig { id, agent_type, ..Default::default() })?;
    }
    run_ready(sensor(&url))??;
    node.shutdown(Duration::from_secs(5))?;
    Ok(())
}
