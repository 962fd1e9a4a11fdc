//! What a config says is what runs.

use std::time::Duration;

use rust_wasm_lunatic_nats::{AgentId, Node, NodeConfig};
use serde_json::json;

use crate::support::{ask, config, data_dir, event, host_test, id, node_with};

#[host_test]
fn the_agents_of_a_config_run_when_the_node_has_started() {
    let mut node = node_with("declared", |node| {
        node.agents = (1..=20).map(|n| config(&format!("e-{n}"), "echo")).collect();
    });
    assert_eq!(node.status().unwrap().agents, 20);
    for n in 1..=20 {
        assert_eq!(ask(&mut node, &format!("e-{n}"), json!(n)).unwrap(), json!(n));
    }
    node.stop(&id("e-20")).unwrap();
    event(&mut node, |event| event.get("Terminated").map(|_| ()));
    assert_eq!(node.shutdown(Duration::from_secs(5)).unwrap().stopped, 19);
}

#[host_test]
fn a_wrong_agent_is_refused_before_anything_is_started() {
    let mut node = NodeConfig::new(AgentId("test".to_owned()));
    node.nats = None;
    node.data_dir = data_dir("wrong_agent");
    node.agents = vec![config("a", "echo"), config("b", "ecko")];
    let error = Node::builder().start(&node).map(|_| ()).unwrap_err().to_string();
    let expected =
        "agents[1]: there is no agent type \"ecko\"; registered are chaos, echo, state, text";
    assert_eq!(error, expected);
    assert!(!node.data_dir.exists());
    // The one node of this runtime is still to be had.
    node.agents.pop();
    let mut node = Node::builder().start(&node).unwrap();
    assert_eq!(ask(&mut node, "a", json!(1)).unwrap(), json!(1));
}
