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

/// Takes as many MiB as it is told.
#[derive(Default)]
struct Eater;

#[async_trait]
impl Agent for Eater {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let mib = message.payload.as_u64().unwrap_or_default() as usize;
        let mut taken = Vec::<u8>::new();
        let has_room = taken.try_reserve_exact(mib << 20).is_ok();
        ctx.reply(&message, json!(has_room)).await
    }
}

#[lunatic::test]
fn an_agent_has_its_own_memory_limit_also_in_a_process_that_was_made_beforehand() {
    let mut node_config = NodeConfig::new(AgentId("test".to_owned()));
    (node_config.nats, node_config.data_dir) = (None, data_dir("limits"));
    let mut node = Node::builder().agent_type::<Eater>("eater").start(&node_config).unwrap();
    // More limits than there are processes for beforehand, each of them again and again.
    for round in 0..4 {
        for limit in [8, 16, 24, 32, 40, 48_u32] {
            let name = format!("eats_{limit}_{round}");
            let mut config = config(&name, "eater");
            config.max_memory_mb = limit;
            node.spawn(&config).unwrap();
            assert_eq!(ask(&mut node, &name, json!(limit - 5)).unwrap(), json!(true), "{name}");
            assert_eq!(ask(&mut node, &name, json!(limit)).unwrap(), json!(false), "{name}");
        }
    }
}
