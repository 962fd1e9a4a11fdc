//! An agent's data, without an agent: the same on every target. The fourth usage example of the
//! README that this project grew from.

use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::{AgentId, AgentState, InMemoryBackend, Result, StateAction};

async fn state_management_example() -> Result<()> {
    let backend = Box::new(InMemoryBackend::new());
    let mut agent_state = AgentState::new(AgentId("stateful_agent".to_string()), backend);

    // Store persistent data
    let store_action = StateAction::Store {
        key: "user_preferences".to_string(),
        value: serde_json::json!({
            "theme": "dark",
            "notifications": true,
            "language": "en"
        }),
    };

    agent_state.handle_state_action(store_action).await?;

    // Retrieve data
    let get_action = StateAction::Get { key: "user_preferences".to_string() };

    let preferences = agent_state.handle_state_action(get_action).await?;
    println!("{preferences}");

    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    // Nothing in here has to wait.
    Ok(run_ready(state_management_example())??)
}
