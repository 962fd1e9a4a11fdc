//! What a node finds in its own events: on NATS, in its log, and not where it is told not to look.

use std::path::Path;

use serde_json::{Value, json};
use support::{Client, NatsServer, Node, SOON, Seen, Watch, supervision};
use tempfile::TempDir;

support::on_each_host! {
    a_burst_of_crashes_is_a_failure_spike_and_an_alert,
    an_agent_that_is_given_up_is_an_alert_and_memory_that_runs_out_a_pattern: native cannot "a task has no memory of its own that could be limited",
    thresholds_are_what_the_file_says_and_both_can_be_off,
}

/// A directory with this in its `n.toml`.
fn dir_with(server: &NatsServer, toml: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let nats = format!("[nats]\nurl = \"{}\"\n", server.websocket_url());
    std::fs::write(dir.path().join("n.toml"), nats + toml).expect("a file");
    dir
}

async fn start(id: &str, dir: &Path, client: &Client) -> Node {
    Node::builder(id).dir(dir).words(&["--config", "n.toml"]).start(client).await
}

async fn chaos(client: &Client, count: usize) -> Vec<String> {
    let ids: Vec<_> = (0..count).map(|number| format!("c{number}")).collect();
    for id in &ids {
        client.spawn(json!({"id": id, "agent_type": "chaos", "max_memory_mb": 16})).await;
    }
    ids
}

async fn all_die(client: &Client, ids: &[String], of: &str) {
    for id in ids {
        client.publish(&format!("agent.input.{id}"), format!(r#"{{"die":"{of}"}}"#)).await;
    }
}

/// The first finding of a kind that a test wants: its subject, its envelope, and its fields.
async fn first(
    watch: &Watch,
    kind: &'static str,
    wanted: fn(&Value) -> bool,
) -> (String, Value, Value) {
    let is_it = move |seen: &Seen| {
        let (found, fields) = seen.event();
        found == kind && wanted(&fields)
    };
    let seen = watch.find(kind, SOON, is_it).await;
    (seen.subject.clone(), seen.json(), seen.event().1)
}

async fn a_burst_of_crashes_is_a_failure_spike_and_an_alert() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let patterns = client.watch("supervision.patterns.*").await;
    let alerts = client.watch("supervision.alerts.*").await;
    let node = Node::on(&server, &client, "n1").await;
    let ids = chaos(&client, 12).await;
    let recoveries = client.watch("supervision.recovery.*").await;
    all_die(&client, &ids, "panic").await;
    for id in &ids {
        recoveries.wait("Recovery", id, 1, SOON).await;
    }

    let (subject, envelope, spike) = first(&patterns, "DetectedPattern", |_| true).await;
    assert_eq!(subject, "supervision.patterns.failure_spike");
    supervision(&envelope, "n1", Some("High"));
    assert_eq!((&spike["pattern"], &spike["severity"]), (&json!("FailureSpike"), &json!("High")));
    assert_eq!((&spike["count"], &spike["threshold"]), (&json!(10), &json!(10)), "{spike}");
    assert_eq!((&spike["agent_count"], &spike["window_ms"]), (&json!(10), &json!(10_000)));
    assert_eq!(spike["confidence"], 0.667, "{spike}");
    let agents = spike["agents"].as_array().expect("a list");
    assert!(agents.len() == 10 && agents.iter().all(|id| ids.iter().any(|one| id == one)));

    let (subject, envelope, alert) = first(&alerts, "Alert", |_| true).await;
    assert_eq!(subject, "supervision.alerts.high");
    supervision(&envelope, "n1", Some("High"));
    assert_eq!((&alert["key"], &alert["state"]), (&json!("failure_spike"), &json!("Firing")));
    assert_eq!((&alert["count"], &alert["agents"]), (&json!(1), &spike["agents"]));
    let line = node.says("alert=failure_spike", SOON).await;
    assert!(line.contains(" warn ") && line.contains("10 deaths of 10 agents"), "{line}");
    // The other two deaths are of the same spike, which was told.
    assert_eq!((patterns.all().len(), alerts.all().len()), (1, 1));
}

async fn an_agent_that_is_given_up_is_an_alert_and_memory_that_runs_out_a_pattern() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let findings = client.watch("supervision.>").await;
    // Four restarts, however long this machine takes for them.
    let dir = dir_with(&server, "[supervision]\nmax_restarts = 4\nperiod_ms = 60000\n");
    let _node = start("n1", dir.path(), &client).await;
    let ids = chaos(&client, 1).await;
    for death in 1..=5 {
        all_die(&client, &ids, "memory").await;
        findings.wait("Failure", "c0", death, SOON).await;
        if death < 5 {
            findings.wait("Recovery", "c0", death, SOON).await;
        }
    }
    let (subject, envelope, alert) =
        first(&findings, "Alert", |alert| alert["key"] == "agent_failed.c0").await;
    assert_eq!(subject, "supervision.alerts.critical");
    supervision(&envelope, "n1", Some("Critical"));
    let message = alert["message"].as_str().expect("a text");
    assert!(message.starts_with("agent c0 was given up: "), "{message}");
    let (subject, _, exhaustion) = first(&findings, "DetectedPattern", |_| true).await;
    assert_eq!(subject, "supervision.patterns.resource_exhaustion");
    let found = json!([exhaustion["count"], exhaustion["agent_count"], exhaustion["agents"]]);
    assert_eq!(found, json!([5, 1, ["c0"]]));
}

async fn thresholds_are_what_the_file_says_and_both_can_be_off() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let events = client.watch("supervision.>").await;
    let agents = |id: &str| {
        format!(
            "[[agents]]\nid = \"{id}\"\ncount = 12\nagent_type = \"chaos\"\nmax_memory_mb = 16\n"
        )
    };
    let three = "[supervision.detection]\nspike_failures = 3\nrepeat_ms = 86400000\n\
        [supervision.alerts]\nmin_severity = \"critical\"\n";
    let off = "[supervision.detection]\nenabled = false\n[supervision.alerts]\nenabled = false\n";
    let (one, two) = (
        dir_with(&server, &(three.to_owned() + &agents("a"))),
        dir_with(&server, &(off.to_owned() + &agents("b"))),
    );
    let (one, two) =
        (start("n1", one.path(), &client).await, start("n2", two.path(), &client).await);
    for of in ["b", "a"] {
        let ids: Vec<_> = (1..=12).map(|number| format!("{of}-{number}")).collect();
        all_die(&client, &ids, "panic").await;
        for id in &ids {
            events.wait("Recovery", id, 1, SOON).await;
        }
    }
    for node in [one, two] {
        let last = node.shut_down(&client).await;
        assert!(last.starts_with("result: ok") && last.ends_with("flushed=true"), "{last}");
    }
    // What a node has told is there before it says goodbye.
    let found: Vec<_> = events
        .all()
        .iter()
        .filter(|seen| matches!(seen.event().0.as_str(), "DetectedPattern" | "Alert"))
        .map(|seen| (seen.json()["source"].clone(), seen.event().1["count"].clone()))
        .collect();
    assert_eq!(found, [(json!("n1"), json!(3))], "12 are not yet five times as many");
}
