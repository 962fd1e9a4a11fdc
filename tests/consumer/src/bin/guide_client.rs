use std::error::Error;
use std::time::Duration;

use rust_wasm_lunatic_nats::config::NatsUrls;
use rust_wasm_lunatic_nats::host::lunatic::NatsClient;
use rust_wasm_lunatic_nats::{AgentConfig, AgentId, Node, NodeConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("NATS_WEBSOCKET_URL").unwrap_or("ws://localhost:8080".to_owned());
    let config =
        NodeConfig { nats: NatsUrls::new(url), ..NodeConfig::new(AgentId("n2".to_owned())) };
    let mut node = Node::builder().start(&config)?;
    node.spawn(&AgentConfig {
        id: AgentId("echo".to_owned()),
        agent_type: "echo".to_owned(),
        ..Default::default()
    })?;

    let mut nats = NatsClient::new();
    let mut notes = nats.subscribe("notes", None)?;
    nats.publish("notes", None, b"\"by the node's connection\"")?;
    nats.flush_to_server(Duration::from_secs(5))?;
    let note = notes.next(Some(Duration::from_secs(5))).ok_or("no note")?;
    println!("{}", String::from_utf8_lossy(note.payload()));
    let answer = nats.request("agent.input.echo", b"7", Duration::from_secs(5))?;
    println!("{}", String::from_utf8_lossy(&answer));
    node.shutdown(Duration::from_secs(5))?;
    Ok(())
}
