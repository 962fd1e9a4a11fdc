//! A node from a TOML file: its agents, what is refused and where, what the settings do, and the
//! log as JSON.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, NatsServer, Node, SOON, until, wasm_local};
use tempfile::TempDir;

/// A run that ends by itself takes as long as the runtime takes to compile the program.
const PATIENCE: Duration = Duration::from_secs(60);

const TYPES: [&str; 4] = ["chaos", "echo", "state", "text"];

/// A directory with this in its `n.toml`.
fn dir_with(toml: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("n.toml"), toml).expect("a file");
    dir
}

fn toml_of(server: &NatsServer, more: &str) -> String {
    format!("[nats]\nurl = \"{}\"\n\n{more}", server.websocket_url())
}

/// 200 agents of four types, each in a table of four lines and an empty one.
fn two_hundred() -> String {
    let mut toml = String::new();
    for n in 0..200 {
        let agent_type = TYPES[n % TYPES.len()];
        writeln!(
            toml,
            "[[agents]]\nid = \"{agent_type}-{n}\"\nagent_type = \"{agent_type}\"\nmax_memory_mb = 16\n"
        )
        .expect("a text");
    }
    toml
}

async fn start(dir: &Path, client: &Client) -> Node {
    Node::builder("n1").dir(dir).words(&["--config", "n.toml"]).start(client).await
}

#[tokio::test]
async fn two_hundred_agents_of_four_types_run_and_answer() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let dir = dir_with(&toml_of(&server, &two_hundred()));
    let node = start(dir.path(), &client).await;
    let page = client.command(json!({"List": {"limit": 1000}})).await;
    assert_eq!(page["agents"].as_array().map(Vec::len), Some(200));
    for n in 0..200 {
        let agent_type = TYPES[n % TYPES.len()];
        let (asked, answer) = match agent_type {
            "state" => (json!({"Store": {"key": "k", "value": n}}), json!(null)),
            "text" => (json!("a b a"), json!({"words": 3, "counts": {"a": 2, "b": 1}})),
            _ => (json!({"n": n}), json!({"n": n})),
        };
        assert_eq!(client.input(&format!("{agent_type}-{n}"), asked).await, answer, "{n}");
    }
    assert_eq!(node.shut_down(&client).await, "result: ok stopped=200 killed=0 flushed=true");
}

#[tokio::test]
async fn a_wrong_agent_among_two_hundred_is_refused_with_its_line_before_any_is_started() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let events = client.watch("supervision.>").await;
    let good = toml_of(&server, &two_hundred());
    // Behind the four lines about NATS, the 138th.
    let first = 4 + 137 * 5;
    let cases = [
        (
            "agent_type = \"echo\"",
            "agent_type = \"ecko\"",
            first + 2,
            "there is no agent type \"ecko\"; registered are chaos, echo, state, text",
        ),
        (
            "id = \"echo-137\"",
            "id = \"echo.137\"",
            first + 1,
            "agents.id is \"echo.137\", and must be 1 to 128 characters of A-Z a-z 0-9 _ -",
        ),
        ("id = \"echo-137\"", "id = \"echo-1\"", first + 1, "there is an agent \"echo-1\" already"),
        (
            "max_memory_mb = 16",
            "max_memory_mb = 0",
            first + 3,
            "agents.max_memory_mb is 0, and must be a whole number from 1 to 4096",
        ),
        ("max_memory_mb = 16", "max_memory = 16", first + 3, "no field \"max_memory\""),
        ("max_memory_mb = 16", "max_memory_mb 16", first + 3, ""),
    ];
    for (right, wrong, line, reason) in cases {
        let (before, from) = good.split_at(good.find("id = \"echo-137\"").expect("it is there"));
        let dir = dir_with(&format!("{before}{}", from.replacen(right, wrong, 1)));
        let mut run = Node::builder("n1").dir(dir.path()).words(&["--config", "n.toml"]).run();
        let result = run.result(PATIENCE).await;
        let told = format!("result: failed n.toml:{line}: ");
        assert!(result.starts_with(&told) && result.contains(reason), "{wrong}: {result}");
        assert!(run.output().lines_with("ready:").is_empty());
        assert!(!dir.path().join("data").exists(), "nothing was started");
    }
    assert!(events.all().is_empty(), "nor told: {:?}", events.all());
}

#[tokio::test]
async fn check_config_tells_what_would_run_and_starts_nothing() {
    let toml =
        "node_id = \"file\"\nmax_agents = 300\n[nats]\nuser = \"ann\"\n[log]\nlevel = \"warn\"\n";
    let dir = dir_with(&format!("{toml}{}", two_hundred()));
    let run = |words: &[&str]| {
        let words = [&["node", "--config", "n.toml", "--check-config"], words].concat();
        let builder = Node::program(&words).wasm(wasm_local()).dir(dir.path());
        builder.env("NODE_ID", "env").env("NATS_PASSWORD", "hush").env("RUST_LOG", "error").run()
    };
    let mut text = run(&["--log-level", "debug"]);
    assert_eq!(text.result(PATIENCE).await, "result: ok agents=200");
    for (line, origin) in [
        ("node_id = \"env\"", "# NODE_ID"),
        ("max_agents = 300", "# n.toml:2"),
        ("user = \"ann\"", "# n.toml:4"),
        ("password = \"***\"", "# NATS_PASSWORD"),
        ("level = \"debug\"", "# --log-level"),
        ("format = \"text\"", ""),
        ("#       50 chaos", ""),
    ] {
        let said = text.output().lines_with(line).pop().unwrap_or_else(|| panic!("{line}"));
        assert!(said.ends_with(origin), "{said}");
    }
    let mut as_json = run(&["--json", "--no-nats"]);
    assert!(as_json.result(PATIENCE).await.contains("\"ok\":true"));
    let config: Value =
        serde_json::from_str(&as_json.output().stdout()[0]).expect("one object a line");
    assert_eq!(config["settings"]["nats.url"], json!({"value": "", "origin": "--no-nats"}));
    assert_eq!(config["settings"]["nats.password"]["value"], "***");
    assert_eq!(
        config["agents"],
        json!({"total": 200,
        "by_type": {"chaos": 50, "echo": 50, "state": 50, "text": 50}})
    );
    for run in [text, as_json] {
        assert!(
            !run.output().all().contains("hush") && run.output().lines_with("ready:").is_empty()
        );
    }
    assert!(!dir.path().join("data").exists());
}

#[tokio::test]
async fn what_the_file_says_about_supervision_holds() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let health = client.watch("supervision.health.>").await;
    let toml = "[supervision]\nhealth_check_interval_ms = 100\nmax_restarts = 1\n\
        [agent_defaults]\nagent_type = \"chaos\"\ntimeout_ms = 500\n\
        [[agents]]\nid = \"c\"\ncount = 2\n";
    let dir = dir_with(&toml_of(&server, toml));
    let _node = start(dir.path(), &client).await;
    // One at the start, and the next after 30 s: so it would be by default.
    health.wait("Health", "c-1", 5, SOON).await;
    let failures = client.watch("supervision.failures.>").await;
    client.publish("agent.input.c-2", r#"{"die":"hang"}"#).await;
    let failure = &failures.wait("Failure", "c-2", 1, SOON).await[0];
    assert_eq!(failure["failure_type"], "TimeoutFailure", "not after 30 s: {failure}");
    // One restart was allowed; a second death in the same 5 s is one too many.
    client.agent_is("c-2", "Running", SOON).await;
    client.publish("agent.input.c-2", r#"{"die":"panic"}"#).await;
    client.agent_is("c-2", "Failed", SOON).await;
    assert_eq!(client.input("c-1", json!(1)).await, 1);
}

#[tokio::test]
async fn the_log_is_one_json_object_a_line_with_who_says_it() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let toml = "[log]\nformat = \"json\"\n[[agents]]\nid = \"c\"\nagent_type = \"chaos\"\n";
    let dir = dir_with(&toml_of(&server, toml));
    // The runtime logs by the same variable, in its own way; scripts/run keeps it quiet too.
    let node = Node::builder("n1").dir(dir.path()).words(&["--config", "n.toml"]);
    let mut node = node.env("RUST_LOG", "off,rust_wasm_lunatic_nats=debug").start(&client).await;
    client.publish("agent.input.c", r#"{"die":"panic"}"#).await;
    // Whose id nobody asked to put there: the agent's own process does.
    let line = node.says("restarted with an empty state", SOON).await;
    let restarted: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(restarted["agent"], "c", "{line}");
    assert_eq!((&restarted["level"], &restarted["incarnation"]), (&json!("info"), &json!(2)));
    client.publish("agent.command", "x\n2026-11-22T01:02:03.456Z error agent=b forged").await;
    node.says("bad input", SOON).await;
    let control = "system.control.n1";
    client.ok(control, json!({"Shutdown": {"grace_ms": 1000}})).await;
    node.result(SOON).await;
    let output = node.output().clone();
    let lines = until("lines of several", SOON, || {
        let lines = output.stderr();
        (lines.len() > 10).then_some(lines)
    })
    .await;
    for line in &lines {
        let parsed: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |field: &str| parsed[field].as_str().map(str::to_owned);
        let time = text("ts").expect("a time");
        assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        let level = text("level").expect("a level");
        assert!(["error", "warn", "info", "debug"].contains(&level.as_str()), "{line}");
        assert!(text("part").is_some() || text("agent").is_some(), "{line}");
        assert!(text("msg").is_some_and(|message| !message.is_empty()), "{line}");
    }
    for part in ["agents", "connection", "gateway"] {
        let of_part = format!("\"part\":\"{part}\"");
        assert!(lines.iter().any(|line| line.contains(&of_part)), "{part}");
    }
}
