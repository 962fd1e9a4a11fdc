//! A declared tree, and the supervisor that it hangs on.

use std::time::Instant;

use rust_wasm_lunatic_nats::host::lunatic::sys;
use rust_wasm_lunatic_nats::supervision::SupervisorSpec;
use serde_json::json;

use crate::support::*;

#[lunatic::test]
fn a_declared_tree_is_there_again_after_the_death_of_the_agents_supervisor() {
    let mut node = node_with("tree_again", |config| {
        let children = vec![crate::support::config("a", "probe").into()];
        let id = "top".to_owned();
        config.supervisors.push(SupervisorSpec { id, children, ..Default::default() });
    });
    ask_until_it_answers(&mut node, "a", &json!(1));
    let before = sys::lookup("agent/a").unwrap();
    sys::kill(sys::lookup("node/agents").unwrap());
    let started = Instant::now();
    while !sys::lookup("agent/a").is_some_and(|pid| pid != before && sys::exists(pid)) {
        assert!(started.elapsed() < DEADLINE, "there is no other one");
        sleep(std::time::Duration::from_millis(2));
    }
    ask_until_it_answers(&mut node, "a", &json!(1));
}
