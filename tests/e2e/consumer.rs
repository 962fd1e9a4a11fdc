//! A user's package does what the README says, and is what the README shows.

use serde_json::{Value, json};
use support::{Client, NatsServer, Node, SOON, consumer, project_file, readme_blocks};

const SECTION: &str = "Write an agent";

#[test]
fn the_readme_shows_the_package_as_it_is() {
    let code = readme_blocks(SECTION, "rust");
    assert_eq!(code, [project_file("tests/consumer/src/main.rs")]);
    let manifest = project_file("tests/consumer/Cargo.toml");
    let shown = readme_blocks(SECTION, "toml").concat();
    for line in shown.lines() {
        let line = line.replace("path = \"…\"", "path = \"../..\"");
        assert!(manifest.lines().any(|real| real == line), "{line} is not in the manifest");
    }
}

/// What `nats req SUBJECT 'BODY'` in the README is answered with: the line below it.
async fn ask(client: &Client, lines: &[&str]) -> Vec<Value> {
    let mut answers = Vec::new();
    for pair in lines.chunks(2) {
        let [command, answer] = pair else { panic!("a command without an answer: {pair:?}") };
        let words = command.strip_prefix("$ nats req ").expect("a request");
        let (subject, body) = words.split_once(' ').expect("a subject and a body");
        let got = client.try_request(subject, body.trim_matches('\''), SOON).await;
        let got = got.unwrap_or_else(|error| panic!("{command}: {error:?}"));
        let mut shown: Value = serde_json::from_str(answer).expect("an answer is JSON");
        for field in ["id", "timestamp"] {
            // Different each time, but there.
            if let (Some(shown), Some(real)) = (shown.get_mut(field), got.get(field)) {
                *shown = real.clone();
            }
        }
        assert_eq!(got, shown, "{command}");
        answers.push(got);
    }
    answers
}

#[tokio::test]
async fn the_package_answers_as_the_readme_shows() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let mut greeter = Node::program(&[])
        .wasm(consumer("greeter"))
        .env("NODE_ID", "n1")
        .env("NATS_WEBSOCKET_URL", &server.websocket_url())
        .run();
    greeter.says("ready: node=n1 ", SOON * 3).await;
    greeter.says("nats: connected", SOON).await;
    let probe = json!({"Status": {}}).to_string();
    while client.try_request("agent.command", probe.as_str(), SOON).await.is_err() {}

    let shown = readme_blocks(SECTION, "console").concat();
    let lines: Vec<_> = shown.lines().collect();
    let answers = ask(&client, &lines).await;
    assert_eq!(answers.len(), 4, "{answers:?}");
    assert_eq!(greeter.result(SOON).await, "result: ok stopped=1 killed=0 flushed=true");
}
