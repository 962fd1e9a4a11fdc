//! What an agent remembers, through a crash.

use rust_wasm_lunatic_nats::{AgentConfig, MemoryBackendType};
use serde_json::{json, Value};

use crate::support::*;

#[host_test]
fn the_state_type_answers_as_the_contract_says() {
    let mut node = node("state");
    node.spawn(&config("s", "state")).unwrap();
    let mut say = |action: Value| ask(&mut node, "s", action).unwrap();
    let store = json!({ "Store": { "key": "k", "value": { "a": [1] } } });
    assert_eq!(say(store), Value::Null);
    assert_eq!(say(json!({ "Get": { "key": "k" } })), json!({ "a": [1] }));
    assert_eq!(say(json!({ "Get": { "key": "none" } })), Value::Null);
    assert_eq!(say(json!("List")), json!(["k"]));
    assert_eq!(say(json!({ "Delete": { "key": "k" } })), json!(true));
    assert_eq!(say(json!({ "Delete": { "key": "k" } })), json!(false));
    assert_eq!(say(json!({ "Clear": {} })), Value::Null);
    assert_eq!(say(json!({ "List": null })), json!([]));
}

#[host_test]
fn files_outlive_a_crash_and_memory_does_not() {
    let mut node = node("crash");
    for (name, backend) in [("file", MemoryBackendType::File), ("mem", MemoryBackendType::InMemory)]
    {
        let config = AgentConfig { memory_backend_type: backend, ..config(name, "keeper") };
        node.spawn(&config).unwrap();
        let store = json!({ "Store": { "key": "k", "value": name } });
        ask(&mut node, name, store).unwrap();
        node.send(&id(name), &json!({ "panic": 1 })).unwrap();
        event(&mut node, recovery);
    }
    let get = json!({ "Get": { "key": "k" } });
    assert_eq!(ask_until_it_answers(&mut node, "file", &get), json!("file"));
    assert_eq!(ask_until_it_answers(&mut node, "mem", &get), Value::Null);
}
