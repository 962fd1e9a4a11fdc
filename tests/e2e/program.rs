//! The program itself: its command line, its size, and what it keeps to itself.

use std::time::Duration;

use async_nats::ConnectOptions;
use serde_json::json;
use support::{Client, NatsServer, Node, SOON, until, wasm, wasm_local};

/// A run that ends by itself takes as long as the runtime takes to compile the program.
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that the program logs; the runtime, which reads the same variable, would drown it.
const LOUD: &str = "info,rust_wasm_lunatic_nats=trace";

/// The variables of one run.
type Env<'a> = &'a [(&'a str, &'a str)];

#[test]
fn the_program_has_at_most_one_and_a_half_megabytes() {
    for path in [wasm(), wasm_local()] {
        let bytes = std::fs::metadata(&path).expect("the program").len();
        println!("{}: {bytes} bytes", path.display());
        assert!(bytes <= 1_500_000, "{}: {bytes} bytes", path.display());
    }
}

#[tokio::test]
async fn help_and_version_are_told() {
    let help = Node::program(&["--help"]).wasm(wasm_local()).run();
    for text in ["USAGE", "demo", "node", "bench", "--nats", "NATS_TOKEN", "EXIT STATUS"] {
        help.says(text, PATIENCE).await;
    }
    let version = Node::program(&["--version"]).run();
    version.says("rust-wasm-lunatic-nats 0.1.0", PATIENCE).await;
}

#[tokio::test]
async fn what_makes_no_sense_is_named_in_the_last_line() {
    let cases: [(&[&str], Env<'_>, &[&str]); 6] = [
        (&["dance"], &[], &["\"dance\"", "demo, node or bench"]),
        (&["node", "--max-agents", "many"], &[], &["--max-agents", "\"many\"", "1 to 9000"]),
        (&["node", "--nodeid", "x"], &[], &["--nodeid"]),
        (&["node", "--nats", "nats://u:hush@h:4222"], &[], &["nats://", "ws://"]),
        (&["node"], &[("NATS_TOKEN", "hush"), ("NATS_USER", "u")], &["NATS_TOKEN", "NATS_USER"]),
        (&["node", "--node-id", "a.b"], &[], &["--node-id", "\"a.b\"", "A-Z a-z 0-9 _ -"]),
    ];
    for (words, env, named) in cases {
        // The one without NATS is compiled sooner, and all but the URL is the same in both.
        let wasm = if words.contains(&"--nats") { wasm() } else { wasm_local() };
        let mut builder = Node::program(words).wasm(wasm);
        for (name, value) in env {
            builder = builder.env(name, value);
        }
        let mut run = builder.run();
        let result = run.result(PATIENCE).await;
        assert!(result.starts_with("result: failed "), "{words:?}: {result}");
        for text in named {
            assert!(result.contains(text), "{words:?}: {result}");
        }
        assert_eq!(run.output().lines_with("error: ").len(), 1, "{words:?}: told on stderr too");
        assert!(!run.output().all().contains("hush"), "{words:?}: no secret is shown");
    }
}

fn ann(password: &str) -> ConnectOptions {
    ConnectOptions::with_user_and_password("ann".into(), password.into())
}

/// Runs a node with credentials, looks at everything that can be seen of it, and finds no secret.
async fn keeps_to_itself(
    server: &NatsServer,
    client: &Client,
    url: &str,
    env: Env<'_>,
    secrets: &[&str],
) {
    let events = client.watch("supervision.>").await;
    let lives = client.watch("agent.>").await;
    let mut builder = Node::builder("n1").words(&["--nats", url]).env("RUST_LOG", LOUD);
    for (name, value) in env {
        builder = builder.env(name, value);
    }
    let mut node = builder.start(client).await;
    client.spawn(json!({"id": "c", "agent_type": "chaos"})).await;
    client.publish("agent.input.c", r#"{"die":"panic"}"#).await;
    events.wait("Recovery", "c", 1, SOON).await;
    let status = client.command(json!("Status")).await.to_string();
    client.ok("system.control.n1", json!({"Shutdown": {"grace_ms": 1000}})).await;
    assert!(node.result(SOON).await.starts_with("result: ok"));
    let seen = events.all().into_iter().chain(lives.all()).map(|seen| seen.text);
    let everything = [node.output().all(), status, seen.collect()].concat();
    for secret in secrets {
        assert!(!everything.contains(secret), "{secret} is shown with {url}");
    }
    assert!(
        everything.contains(&server.websocket_url()["ws://".len()..]),
        "but where it connects is"
    );
}

#[tokio::test]
async fn a_token_opens_the_server_and_is_never_shown() {
    let server = NatsServer::with("authorization { token: \"hush-token-77\" }").await;
    let client = server.client_with(&ConnectOptions::with_token("hush-token-77".into())).await;
    let (token, plain) = ("hush-token-77", server.websocket_url());
    keeps_to_itself(&server, &client, &plain, &[("NATS_TOKEN", token)], &[token]).await;
    let url = server.websocket_url_as(token);
    keeps_to_itself(&server, &client, &url, &[], &[token]).await;
}

#[tokio::test]
async fn a_password_opens_the_server_and_is_never_shown() {
    let server = NatsServer::with("authorization { user: \"ann\", password: \"hu/sh@77\" }").await;
    let client = server.client_with(&ann("hu/sh@77")).await;
    let secrets = ["hu/sh@77", "hu%2Fsh%4077", "hu%2fsh"];
    let url = server.websocket_url_as("ann:hu%2Fsh%4077");
    keeps_to_itself(&server, &client, &url, &[], &secrets).await;
    let env = [("NATS_USER", "ann"), ("NATS_PASSWORD", "hu/sh@77")];
    keeps_to_itself(&server, &client, &server.websocket_url(), &env, &secrets).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_and_tried_again() {
    let mut server = NatsServer::with("authorization { user: ann, password: right-77 }").await;
    let url = server.websocket_url_as("ann:wrong-77");
    let mut node =
        Node::builder("n1").words(&["--nats", &url]).env("RUST_LOG", LOUD).start_alone().await;
    let output = node.output().clone();
    let refusals = || output.lines_with("uthorization").len();
    until("it tries again", SOON, || (refusals() >= 3).then_some(())).await;
    assert!(node.is_running());
    assert!(!output.all().contains("wrong-77"), "what is wrong is often nearly right");
    // The password becomes the right one.
    server.kill();
    server.set("authorization { user: ann, password: wrong-77 }");
    server.run().await;
    let client = server.client_with(&ann("wrong-77")).await;
    node.answers(&client, Duration::from_secs(10)).await;
}
