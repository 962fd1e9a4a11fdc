// Messages on both layers: to an agent of this node, and to whoever listens on NATS. The third usage
// example of the README that this project grew from.

use std::time::Duration;

use rust_wasm_lunatic_nats::{
    send_message_to_agent, shutdown_agent, spawn_single_agent, AgentConfig, AgentId, Message,
};

pub async fn hybrid_messaging_example(url: &str) -> Result<(), Box<dyn std::error::Error>> {
    let local_config = AgentConfig {
        id: AgentId("local_agent".to_string()),
        agent_type: "echo".to_string(),
        ..Default::default()
    };
    let local_message = Message {
        id: "msg_1".to_string(),
        from: AgentId("main".to_string()),
        to: AgentId("local_agent".to_string()),
        payload: serde_json::json!({"task": "process_data"}),
        timestamp: chrono::Utc::now().timestamp() as u64,
    };
    let distributed_message = r#"{"from":"local_agent","task":"done"}"#;

    // A build without NATS has no use for it.
    let _ = url;

    // Local communication (fast)
    let local_agent = spawn_single_agent(local_config)?;
    send_message_to_agent(&local_agent, local_message);

    // Distributed NATS communication (across nodes)
    #[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
    {
        use rust_wasm_lunatic_nats::{NatsConfig, NatsConnection};

        let nats_config = NatsConfig { url: url.to_string(), ..Default::default() };
        let nats = NatsConnection::new(nats_config).await?;
        nats.publish("global.events", distributed_message.as_bytes()).await?;
        // What is published waits for a server; this waits until one has it.
        nats.flush(Duration::from_secs(5)).await?;
    }

    // WebSocket NATS for WASM environments
    #[cfg(all(feature = "wasm-nats", target_os = "wasi"))]
    {
        use rust_wasm_lunatic_nats::wasm_nats::{WasmNatsConfig, WasmNatsConnection};

        let wasm_config = WasmNatsConfig { websocket_url: url.to_string(), ..Default::default() };
        let wasm_nats = WasmNatsConnection::new(wasm_config).await?;
        wasm_nats.publish("wasm.events", distributed_message.as_bytes()).await?;
        wasm_nats.flush(Duration::from_secs(5)).await?;
    }

    // What is asked after it is answered after it.
    let answer = local_agent.request(&"done?".into(), Duration::from_secs(5))?;
    println!("{local_agent} answers {answer}");
    println!("published: {distributed_message}");
    shutdown_agent(&local_agent);
    Ok(())
}

#[cfg(not(target_os = "wasi"))]
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_URL").unwrap_or("nats://localhost:4222".to_string());
    tokio::runtime::Runtime::new()?.block_on(hybrid_messaging_example(&url))
}

#[cfg(target_os = "wasi")]
pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("NATS_WEBSOCKET_URL").unwrap_or("ws://localhost:8080".to_string());
    rust_wasm_lunatic_nats::agent::run_ready(hybrid_messaging_example(&url))?
}
