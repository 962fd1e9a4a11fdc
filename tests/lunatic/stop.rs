//! The end of a node: who is told, who is refused, and what dies on the way.

use std::time::Duration;

use rust_wasm_lunatic_nats::host::lunatic::{sys, NodeHandle, Stopped};
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
