//! The examples print what the README says that they print.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use support::{NatsServer, Node, NodeBuilder, example, project_file, readme_blocks};

/// A run takes as long as the runtime takes to compile the program.
const PATIENCE: Duration = Duration::from_secs(90);

/// What each example prints, from the README: lines after `$ name`.
fn outputs() -> BTreeMap<String, Vec<String>> {
    let mut outputs = BTreeMap::<String, Vec<String>>::new();
    let mut last = None;
    for line in readme_blocks("Examples", "console").iter().flat_map(|block| block.lines()) {
        match line.strip_prefix("$ ") {
            Some(name) => last = Some(outputs.entry(name.to_owned()).or_default()),
            None => last.as_mut().expect("a name comes first").push(line.to_owned()),
        }
    }
    outputs
}

fn run(name: &str) -> NodeBuilder {
    Node::program(&[]).wasm(example(name)).env("NODE_ID", "n1")
}

async fn prints_what_the_readme_says(name: &str, builder: NodeBuilder) {
    let outputs = outputs();
    let expected: Vec<_> = outputs[name].iter().map(String::as_str).collect();
    assert!(!expected.is_empty(), "{name} prints something");
    builder.run().prints(&expected, PATIENCE).await;
}

#[test]
fn the_readme_has_the_output_of_every_example() {
    let manifest = project_file("Cargo.toml");
    let named = manifest.split("[[example]]\nname = \"").skip(1);
    let mut names: Vec<_> = named.filter_map(|rest| rest.split('"').next()).collect();
    names.sort_unstable();
    assert_eq!(outputs().keys().collect::<Vec<_>>(), names);
    let readme = project_file("README.md");
    for name in names {
        assert!(readme.contains(&format!("(examples/{name}.rs)")), "it links to {name}");
    }
}

#[tokio::test]
async fn those_that_need_no_server_run_without_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // The last one twice in one directory: what it leaves there does not change the second run.
    for name in ["seed_state", "first_agent", "agents_ask", "state_survives", "state_survives"] {
        prints_what_the_readme_says(name, run(name).dir(dir.path())).await;
    }
}

#[tokio::test]
async fn a_call_starts_a_node_as_the_environment_says() {
    let server = NatsServer::start().await;
    let url = server.websocket_url();
    let builder = run("seed_supervisor").env("NATS_WEBSOCKET_URL", &url);
    prints_what_the_readme_says("seed_supervisor", builder).await;
    let builder = run("seed_supervisor").env("NATS_WEBSOCKET_URL", "");
    prints_what_the_readme_says("seed_supervisor", builder).await;
    let wrong = run("seed_supervisor").env("ENABLE_SUPERVISION", "perhaps").run();
    wrong.says("ENABLE_SUPERVISION is \\\"perhaps\\\"", PATIENCE).await;
    assert!(wrong.output().stdout().is_empty(), "and nothing was started");
}

#[tokio::test]
async fn a_connection_of_ones_own_says_what_it_is_told_to_the_last_message() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let messages = client.watch("agent.messages").await;
    let events = client.watch("system.events").await;
    let builder = run("seed_wasm_nats").env("NATS_WEBSOCKET_URL", &server.websocket_url());
    prints_what_the_readme_says("seed_wasm_nats", builder).await;
    let sent = messages.find("its message", PATIENCE, |_| true).await.json();
    assert_eq!(sent["payload"], json!({"task": "data_processing", "priority": "high"}));
    assert_eq!(messages.all().len(), 1);
    events.find("its event", PATIENCE, |seen| seen.text == "the first event").await;
}

#[tokio::test]
async fn both_layers_of_messages_in_one_program() {
    let server = NatsServer::start().await;
    let events = server.client().await.watch("wasm.events").await;
    let builder = run("seed_hybrid").env("NATS_WEBSOCKET_URL", &server.websocket_url());
    prints_what_the_readme_says("seed_hybrid", builder).await;
    let sent = events.find("its message", PATIENCE, |_| true).await.json();
    assert_eq!(sent, json!({"from": "local_agent", "task": "done"}));
}

#[tokio::test]
async fn agents_with_subjects_of_their_own_answer_on_them() {
    let server = NatsServer::start().await;
    let builder = run("nats_subjects").env("NATS_WEBSOCKET_URL", &server.websocket_url());
    prints_what_the_readme_says("nats_subjects", builder).await;
}
