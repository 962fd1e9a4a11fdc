//! The end of a node: who is told, and who is refused.

use std::time::Duration;

use rust_wasm_lunatic_nats::{AgentConfig, NodeEvent};
use serde_json::{json, Value};

use crate::support::*;

/// A config with something in its `args`.
fn with(mut config: AgentConfig, name: &str, value: Value) -> AgentConfig {
    config.args.insert(name.to_owned(), value);
    config
}

#[host_test]
fn those_that_overrun_are_counted_and_the_first_hundred_named() {
    let mut node = node("overrun");
    for number in 0..103 {
        let name = format!("stuck-{number:03}");
        node.spawn(&with(config(&name, "chaos"), "on_stop", json!("hang"))).unwrap();
    }
    node.spawn(&config("polite", "probe")).unwrap();
    let stopped = node.shutdown(Duration::from_millis(200)).unwrap();
    assert_eq!((stopped.stopped, stopped.killed), (1, 103));
    let expected: Vec<_> = (0..100).map(|number| id(&format!("stuck-{number:03}"))).collect();
    assert_eq!(stopped.killed_agents, expected);
}

#[host_test]
fn what_fails_in_on_stop_is_told() {
    let mut node = node("on_stop");
    node.spawn(&with(config("fails", "chaos"), "on_stop", json!("fail"))).unwrap();
    node.stop(&id("fails")).unwrap();
    let failed = event(&mut node, failure);
    assert_eq!((&failed["agent_id"], &failed["severity"]), (&json!("fails"), &json!("Low")));
    assert!(failed["context"]["message"].as_str().unwrap().contains("on stop"), "{failed}");
    node.spawn(&with(config("dies", "chaos"), "on_stop", json!(["store", "panic"]))).unwrap();
    node.stop(&id("dies")).unwrap();
    let failed = event(&mut node, failure);
    assert_eq!((&failed["agent_id"], &failed["severity"]), (&json!("dies"), &json!("High")));
    let terminated = event(&mut node, |event| event.get("Terminated").cloned());
    assert_eq!(terminated["agent_id"], "dies", "and is not started again");
    node.spawn(&with(config("odd", "chaos"), "on_stop", json!("dance"))).unwrap();
    let failed = event(&mut node, failure);
    let message = failed["context"]["message"].as_str().unwrap();
    assert!(message.contains("\"dance\", and must be publish, store, fail, panic"), "{message}");
}

#[host_test]
fn who_asks_an_agent_that_was_told_to_stop_is_refused() {
    let mut node = node("too_late");
    let patient = AgentConfig { timeout_ms: 60_000, ..config("silent", "chaos") };
    node.spawn(&patient).unwrap();
    node.send(&id("silent"), &json!({ "die": "hang" })).unwrap();
    node.spawn(&config("busy", "forward")).unwrap();
    // It waits for what never comes; behind that the word to stop, and behind that a question.
    let busy = json!({ "ask": "silent", "payload": 1, "timeout_ms": 300 });
    let first = node.ask(&id("busy"), &busy).unwrap();
    node.stop(&id("busy")).unwrap();
    let second = node.ask(&id("busy"), &json!({ "to": "silent", "payload": 1 })).unwrap();
    let mut answers = Vec::new();
    while answers.len() < 2 {
        match node.next(Some(DEADLINE)).expect("both are answered") {
            NodeEvent::Answer { ticket, answer } => answers.push((ticket, answer.unwrap_err())),
            _ => continue,
        }
    }
    assert_eq!((answers[0].0, answers[1].0), (first, second));
    assert!(answers[0].1.contains("silent"), "{answers:?}");
    assert_eq!(answers[1].1, "agent busy was stopped before it saw the message");
}

#[host_test]
fn a_node_that_drains_shows_it_and_takes_no_new_agents() {
    let mut node = node("drain");
    node.spawn(&config("a", "echo")).unwrap();
    assert!(!node.status().unwrap().draining);
    node.drain().unwrap();
    assert!(node.status().unwrap().draining);
    let refused = node.spawn(&config("b", "echo")).unwrap_err().to_string();
    assert!(refused.contains("the node is draining and takes no new agents"), "{refused}");
    assert_eq!(ask(&mut node, "a", json!(1)).unwrap(), json!(1), "who is there works on");
}
