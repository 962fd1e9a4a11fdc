//! What an agent cannot do.

use async_trait::async_trait;
use rust_wasm_lunatic_nats::host::lunatic::sys::{self, Permissions};
use rust_wasm_lunatic_nats::host::lunatic::Node;
use rust_wasm_lunatic_nats::{Agent, AgentId, Context, Message, NodeConfig, Result};
use serde_json::json;

use crate::support::*;

/// Tries what it may not do, and tells.
#[derive(Default)]
struct Curious;

#[async_trait]
impl Agent for Curious {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let found = json!({
            "environment": std::env::vars().count(),
            "arguments": std::env::args().count(),
            "directory": std::fs::read_dir(".").is_ok(),
            "file": std::fs::read("Cargo.toml").is_ok(),
            "configs": Permissions::none().is_some(),
        });
        ctx.reply(&message, found).await
    }
}

#[lunatic::test]
fn an_agent_sees_no_file_no_environment_and_makes_no_process() {
    let mut config = NodeConfig::new(AgentId("test".to_owned()));
    (config.nats, config.data_dir) = (None, data_dir("sandbox"));
    let mut node = Node::builder().agent_type::<Curious>("curious").start(&config).unwrap();
    node.spawn(&crate::support::config("c", "curious")).unwrap();
    let found = ask(&mut node, "c", json!(1)).unwrap();
    let nothing = json!({ "environment": 0, "arguments": 0, "directory": false, "file": false,
        "configs": false });
    assert_eq!(found, nothing);
    assert!(sys::exists(sys::this()));
}
