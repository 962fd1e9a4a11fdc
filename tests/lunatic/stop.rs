//! The end of a node: who is told, who is refused, and what dies on the way.

use std::time::Duration;

use rust_wasm_lunatic_nats::host::lunatic::{sys, NodeEvent, NodeHandle, Stopped};
use rust_wasm_lunatic_nats::{AgentConfig, MemoryBackendType, NodeConfig};
use serde_json::{json, Value};

use crate::support::*;

/// Far longer than a test may take: who waits for it fails.
const LONG: Duration = Duration::from_secs(3_600);

/// A config with something in its `args`.
fn with(mut config: AgentConfig, name: &str, value: Value) -> AgentConfig {
    config.args.insert(name.to_owned(), value);
    config
}

/// An agent that does not stop, and one that tells when it is told to.
fn spawn_stuck_and_marker(node: &mut NodeHandle) {
    node.spawn(&with(config("stuck", "chaos"), "on_stop", json!("hang"))).unwrap();
    node.spawn(&with(config("marker", "probe"), "mark_stop", json!(true))).unwrap();
    ask(node, "stuck", json!(1)).unwrap();
    ask(node, "marker", json!(1)).unwrap();
}

#[lunatic::test]
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

#[lunatic::test]
fn a_supervisor_that_dies_in_the_stop_takes_its_agents_and_no_time() {
    fn killer() {
        await_stop();
        sys::kill(sys::lookup("node/agents").unwrap());
    }
    let mut node = node("stop_without_supervisor");
    spawn_stuck_and_marker(&mut node);
    spawn(killer);
    let stopped = node.shutdown(LONG).unwrap();
    let expected = Stopped { killed: 2, flushed: true, ..Stopped::default() };
    assert_eq!(stopped, expected, "nobody knows better than that both are gone");
}

#[lunatic::test]
fn the_store_and_the_events_can_die_in_the_stop() {
    fn killer() {
        await_stop();
        for part in ["node/store", "node/events"] {
            sys::kill(sys::lookup(part).unwrap());
        }
    }
    let mut node = node("stop_without_parts");
    node.spawn(&with(config("marker", "probe"), "mark_stop", json!(true))).unwrap();
    let file = AgentConfig { memory_backend_type: MemoryBackendType::File, ..config("f", "chaos") };
    node.spawn(&with(file, "on_stop", json!("store"))).unwrap();
    node.spawn(&with(config("stuck", "chaos"), "on_stop", json!("hang"))).unwrap();
    spawn(killer);
    let stopped = node.shutdown(Duration::from_millis(500)).unwrap();
    assert_eq!((stopped.stopped, stopped.killed), (2, 1), "{stopped:?}");
}

#[lunatic::test]
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

#[lunatic::test]
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

#[lunatic::test]
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

#[lunatic::test]
fn more_than_sixteen_that_wait_for_the_end_are_refused() {
    fn stopper() {
        let mut config = NodeConfig::new(id("test"));
        config.nats = None;
        let error = NodeHandle::attach(&config).unwrap().shutdown(LONG).unwrap_err().to_string();
        assert!(error.contains("16 processes wait for it already"), "{error}");
        sys::register("test/stop_refused", sys::this());
        sys::receive(&[1], None);
    }
    let mut node = node("waiters");
    spawn_stuck_and_marker(&mut node);
    for _ in 0..17 {
        spawn(stopper);
    }
    await_name("test/stop_refused");
    assert!(node.status().unwrap().draining);
}
