// A NATS connection of one's own, over WebSocket and without a node. The second usage example of
// the README that this project grew from.

use std::time::Duration;

use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::wasm_nats::{WasmNatsConfig, WasmNatsConnection, WasmNatsPublisher};

async fn wasm_nats_example() -> Result<(), Box<dyn std::error::Error>> {
    // Configure WebSocket NATS
    let config = WasmNatsConfig {
        websocket_url: std::env::var("NATS_WEBSOCKET_URL")
            .unwrap_or("ws://localhost:8080".to_string()),
        timeout: Duration::from_secs(10),
        max_reconnects: Some(5),
        reconnect_delay: Duration::from_secs(2),
        ..Default::default()
    };

    // Connect to NATS via WebSocket
    let nats_conn = WasmNatsConnection::new(config).await?;
    println!("connected: {}", nats_conn.is_connected());

    // Publish JSON message
    let message = serde_json::json!({
        "type": "agent_communication",
        "from": "wasm_agent_1",
        "to": "agent_2",
        "payload": {"task": "data_processing", "priority": "high"}
    });

    nats_conn.publish_json("agent.messages", &message).await?;

    // Subscribe and process messages
    let mut receiver = nats_conn.subscribe("system.events").await?;

    // Somebody publishes one; when the server has it, it is on its way here.
    nats_conn.publish("system.events", b"the first event").await?;
    nats_conn.flush(Duration::from_secs(5)).await?;

    // In real application, this would be an event loop
    if let Some(msg) = receiver.try_next()? {
        println!("Received: {:?}", String::from_utf8_lossy(msg.payload()));
    }

    let stats = nats_conn.get_stats();
    println!("messages out: {}, in: {}", stats.out_messages, stats.in_messages);
    Ok(())
}

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    run_ready(wasm_nats_example())?
}
