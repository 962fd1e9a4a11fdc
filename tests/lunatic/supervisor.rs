//! What only a sandbox can do about a death.

use rust_wasm_lunatic_nats::{AgentConfig, Error, SpawnError};
use serde_json::{json, Value};

use crate::support::*;

#[lunatic::test]
fn an_exit_with_zero_is_a_death_like_any_other() {
    let mut node = node("exit_0");
    node.spawn(&config("a", "probe")).unwrap();
    node.send(&id("a"), &json!({ "exit_0": 1 })).unwrap();
    let failed = event(&mut node, failure);
    assert_eq!(failed["context"]["message"], "it called exit", "{failed}");
    assert_eq!(event(&mut node, recovery)["incarnation"], 2);
}

#[lunatic::test]
fn exhausted_fuel_is_a_resource_exhaustion_with_its_candidates() {
    let mut node = node("fuel");
    let fuel = AgentConfig { max_fuel: Some(2_000), timeout_ms: 20_000, ..config("a", "chaos") };
    node.spawn(&fuel).unwrap();
    node.send(&id("a"), &json!({ "die": "loop" })).unwrap();
    let failed = event(&mut node, failure);
    assert_eq!(failed["failure_type"], "ResourceExhaustion", "{failed}");
    assert_eq!(failed["context"]["candidates"][0], "fuel", "{failed}");
}

#[lunatic::test]
fn an_allocation_that_was_refused_and_survived_is_not_what_it_dies_of_later() {
    let mut node = node("survived");
    node.spawn(&config("a", "probe")).unwrap();
    assert_eq!(ask(&mut node, "a", json!({ "try_reserve": 1 })).unwrap(), json!(true));
    // It answers a health check in between, which it does at least twice a second.
    let healthy = |event: &Value| event.get("Health").map(|_| ());
    event(&mut node, healthy);
    assert_eq!(ask(&mut node, "a", json!({ "who": 1 })).unwrap()["incarnation"], 1);
}

#[lunatic::test]
fn a_refused_process_is_an_error_and_the_supervisor_lives() {
    let mut node = node("refused");
    // The module's own data and stack do not fit into one MiB.
    let tiny = AgentConfig { max_memory_mb: 1, ..config("tiny", "echo") };
    match node.spawn(&tiny) {
        Err(Error::Spawn(SpawnError::Capacity(text))) => {
            assert!(text.contains("the runtime refused"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(node.agent(&id("tiny")).is_err());
    node.spawn(&config("a", "echo")).unwrap();
    assert_eq!(ask(&mut node, "a", json!(1)).unwrap(), json!(1));
}

#[lunatic::test]
fn what_nothing_can_wake_is_a_violation_of_the_protocol() {
    let mut node = node("wait");
    node.spawn(&config("a", "probe")).unwrap();
    let error = ask(&mut node, "a", json!({ "wait": 1 })).unwrap_err();
    assert!(error.to_string().contains("nothing on this host can wake"), "{error}");
    assert_eq!(event(&mut node, failure)["failure_type"], "ProtocolViolation");
    assert_eq!(ask(&mut node, "a", json!({ "who": 1 })).unwrap()["incarnation"], 1);
}
