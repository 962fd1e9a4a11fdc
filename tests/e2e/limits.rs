//! What a node refuses to start: too many agents of a type, and too many in a second.

use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, NatsServer, Node, SOON};
use tempfile::TempDir;

support::on_each_host! {
    a_limited_type_is_refused_by_name_until_one_of_it_has_ended,
    starts_by_command_have_a_rate_and_the_files_agents_have_none,
}

/// A node with this in its file.
async fn node_with(server: &NatsServer, client: &Client, toml: &str) -> (Node, TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = format!("{toml}\n[nats]\nurl = \"{}\"\n", server.websocket_url());
    std::fs::write(dir.path().join("n.toml"), toml).expect("a file");
    let node = Node::builder("n1").dir(dir.path()).words(&["--config", "n.toml"]);
    (node.start(client).await, dir)
}

/// Asks for an agent; the text of the refusal, if it is refused.
async fn refused(client: &Client, id: &str, agent_type: &str) -> Option<String> {
    let config = json!({"id": id, "agent_type": agent_type, "max_memory_mb": 16});
    let answer = client.request("agent.command", json!({"Spawn": {"config": config}})).await;
    let error = answer.get("Err")?;
    assert_eq!(error["code"], "capacity", "{answer}");
    error["message"].as_str().map(str::to_owned)
}

async fn refused_starts(client: &Client) -> Value {
    client.command(json!({"Status": {}})).await["counters"]["refused_starts"].clone()
}

async fn a_limited_type_is_refused_by_name_until_one_of_it_has_ended() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let failures = client.watch("supervision.failures.low").await;
    let recoveries = client.watch("supervision.recovery.c1").await;
    let toml = "[limits]\nmax_agents_per_type = { chaos = 2 }\n[[agents]]\nid = \"c0\"\nagent_type = \"chaos\"";
    let (_node, _dir) = node_with(&server, &client, toml).await;
    assert_eq!(refused(&client, "c1", "chaos").await, None);
    let expected = "max_agents_per_type is 2 for \"chaos\", and there are as many; try again when one has ended";
    assert_eq!(refused(&client, "c2", "chaos").await.as_deref(), Some(expected));
    assert_eq!(refused(&client, "e", "echo").await, None, "another type");
    let failure = failures.wait("Failure", "c2", 1, SOON).await.remove(0);
    assert_eq!(
        (&failure["failure_type"], &failure["incarnation"]),
        (&json!("ResourceExhaustion"), &json!(0))
    );
    assert_eq!(
        failure["context"],
        json!({"message": expected, "limit": "agents_of_type", "limit_value": 2, "reached": 2})
    );
    assert_eq!(refused_starts(&client).await, 1);
    // One that dies keeps its place; one that is stopped gives it away.
    client.publish("agent.input.c1", r#"{"die":"panic"}"#).await;
    recoveries.wait("Recovery", "c1", 1, SOON).await;
    assert!(refused(&client, "c2", "chaos").await.is_some());
    client.command(json!({"Stop": {"agent_id": "c0"}})).await;
    let deadline = tokio::time::Instant::now() + SOON;
    while refused(&client, "c2", "chaos").await.is_some() {
        assert!(tokio::time::Instant::now() < deadline, "c0 has left no room");
    }
}

async fn starts_by_command_have_a_rate_and_the_files_agents_have_none() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let failures = client.watch("supervision.failures.low").await;
    let toml = "[limits]\nmax_spawns_per_second = 1\nspawn_burst = 5\n\
                [[agents]]\nid = \"e\"\nagent_type = \"echo\"\ncount = 20";
    let (_node, _dir) = node_with(&server, &client, toml).await;
    assert_eq!(client.command(json!({"Status": {}})).await["agents"], 20);
    let (mut started, mut refusal) = (0, None);
    while refusal.is_none() {
        refusal = refused(&client, &format!("s{started}"), "echo").await;
        started += u32::from(refusal.is_none());
        assert!(started < 100, "nothing is refused");
    }
    assert!(started >= 5, "a burst of 5, and not {started}");
    let refusal = refusal.expect("the loop ended with it");
    let ms = refusal.strip_prefix("max_spawns_per_second is 1, and spawn_burst 5; try again in ");
    let ms = ms.and_then(|rest| rest.strip_suffix(" ms")).and_then(|ms| ms.parse::<u64>().ok());
    let ms = ms.unwrap_or_else(|| panic!("{refusal}"));
    assert!((1..=1000).contains(&ms), "{refusal}");
    let failure = failures.wait("Failure", &format!("s{started}"), 1, SOON).await.remove(0);
    assert_eq!(
        (&failure["context"]["limit"], &failure["context"]["limit_value"]),
        (&json!("spawn_rate"), &json!(1))
    );
    tokio::time::sleep(Duration::from_millis(ms)).await;
    assert_eq!(refused(&client, "later", "echo").await, None, "when it was told to come back");
    assert_eq!(refused_starts(&client).await, 1);
}
