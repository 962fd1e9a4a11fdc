// An agent without a node in one's hands: the first call starts a node, with NATS where
// NATS_WEBSOCKET_URL says. The first usage example of the README that this project grew from.

use std::time::Duration;

use rust_wasm_lunatic_nats::{
    send_message_to_agent, shutdown_agent, spawn_single_agent, AgentConfig, AgentId,
    MemoryBackendType, Message,
};

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let agent_config = AgentConfig {
        id: AgentId("my_agent".to_string()),
        // The default, `state`, takes nothing but state actions.
        agent_type: "echo".to_string(),
        memory_backend_type: MemoryBackendType::InMemory,
        nats_enabled: true,
        ..Default::default()
    };

    // Spawn agent in Lunatic supervisor
    let agent_process = spawn_single_agent(agent_config)?;

    // Send message via Lunatic mailbox
    let message = Message {
        id: "msg_1".to_string(),
        from: AgentId("main".to_string()),
        to: AgentId("my_agent".to_string()),
        payload: serde_json::json!({"task": "process_data"}),
        timestamp: chrono::Utc::now().timestamp() as u64,
    };

    send_message_to_agent(&agent_process, message);

    // What is asked after it is answered after it.
    let answer = agent_process.request(&"done?".into(), Duration::from_secs(5))?;
    println!("{agent_process} answers {answer}");
    shutdown_agent(&agent_process);

    Ok(())
}
