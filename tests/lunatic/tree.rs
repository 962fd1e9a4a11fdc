//! The tree around the agents: parts die, agents stay; and the end of it all.

use std::time::{Duration, Instant};

use rust_wasm_lunatic_nats::host::lunatic::{sys, NodeEvent, NodeHandle, Stopped};
use rust_wasm_lunatic_nats::{AgentConfig, MemoryBackendType, NodeConfig};
use serde_json::json;

use crate::support::*;

fn as_attached() -> NodeHandle {
    let mut config = NodeConfig::new(id("test"));
    config.nats = None;
    NodeHandle::attach(&config).unwrap()
}

#[lunatic::test]
fn more_than_sixteen_watchers_are_refused_until_one_has_ended() {
    fn watcher() {
        // What an earlier one has left behind does not count.
        match as_attached().watch() {
            Ok(()) => loop {
                sys::receive(&[1], None);
            },
            Err(error) => {
                assert!(error.to_string().contains("16 processes watch already"), "{error}");
                sys::register("test/refused", sys::this());
                sys::receive(&[1], None);
            }
        }
    }
    let mut node = node("watchers");
    // With the one that this test is.
    for number in 1..16 {
        spawn(watcher);
        await_name(&format!("node/watcher/{number}"));
    }
    spawn(watcher);
    await_name("test/refused");
    node.watch().expect("it watches already");
    let first = await_name("node/watcher/1");
    sys::kill(first);
    while sys::exists(first) {
        sys::sleep(Duration::from_millis(1));
    }
    let next = spawn(watcher);
    assert_eq!(await_name("node/watcher/1"), next);
}

fn kill_part(name: &str) {
    let old = sys::lookup(name).unwrap();
    sys::kill(old);
    let started = Instant::now();
    while !sys::lookup(name).is_some_and(|pid| pid != old && sys::exists(pid)) {
        assert!(started.elapsed() < DEADLINE, "{name} did not come back");
        sys::sleep(Duration::from_millis(1));
    }
}

fn incarnation(node: &mut NodeHandle, name: &str) -> u64 {
    ask(node, name, json!({ "who": 1 })).unwrap()["incarnation"].as_u64().unwrap()
}

#[lunatic::test]
fn the_death_of_the_store_or_of_events_touches_no_agent() {
    let mut node = node("parts");
    node.spawn(&config("a", "probe")).unwrap();
    let file = MemoryBackendType::File;
    node.spawn(&AgentConfig { memory_backend_type: file, ..config("s", "state") }).unwrap();
    ask(&mut node, "s", json!({ "Store": { "key": "k", "value": 7 } })).unwrap();
    kill_part("node/store");
    assert_eq!(ask(&mut node, "s", json!({ "Get": { "key": "k" } })).unwrap(), json!(7));
    kill_part("node/events");
    assert_eq!(incarnation(&mut node, "a"), 1);
    // Who watched the process before it goes on watching.
    ask(&mut node, "a", json!({ "fail": "x" })).unwrap_err();
    assert_eq!(event(&mut node, failure)["agent_id"], "a");
}

#[lunatic::test]
fn agents_share_the_fate_of_their_own_supervisor() {
    let mut node = node("supervisor_dies");
    node.spawn(&config("a", "probe")).unwrap();
    let agent = sys::lookup("agent/a").unwrap();
    kill_part("node/agents");
    let started = Instant::now();
    while sys::exists(agent) {
        assert!(started.elapsed() < DEADLINE, "an agent without a supervisor lives on");
        sys::sleep(Duration::from_millis(1));
    }
    assert_eq!(node.status().unwrap().agents, 0);
    // Nobody starts it again, so it is not "being restarted".
    let error = node.send(&id("a"), &json!(1)).unwrap_err();
    assert!(error.to_string().contains("there is no agent a"), "{error}");
    node.spawn(&config("a", "probe")).unwrap();
    // Nothing of the one before is known any more.
    assert_eq!(incarnation(&mut node, "a"), 1);
}

#[lunatic::test]
fn a_part_that_dies_again_and_again_takes_the_node_down_and_says_so() {
    let mut node = node("gives_up");
    for _ in 0..5 {
        kill_part("node/events");
    }
    sys::kill(sys::lookup("node/events").unwrap());
    let started = Instant::now();
    loop {
        match node.next(Some(Duration::from_secs(1))) {
            Some(NodeEvent::GaveUp { part }) => {
                assert_eq!(part, "node/events");
                break;
            }
            _ => assert!(started.elapsed() < DEADLINE),
        }
    }
}

#[lunatic::test]
fn a_graceful_stop_runs_on_stop_and_counts_who_had_to_be_killed() {
    let mut node = node("shutdown");
    node.spawn(&config("last", "probe")).unwrap();
    let mut polite = config("polite", "probe");
    polite.args.insert("bye_to".to_owned(), json!("last"));
    node.spawn(&polite).unwrap();
    node.stop(&id("polite")).unwrap();
    event(&mut node, |event| event.get("Terminated").map(|_| ()));
    assert_eq!(ask(&mut node, "last", json!({ "seen": 1 })).unwrap(), json!(["bye"]));
    node.spawn(&AgentConfig { timeout_ms: 60_000, ..config("stuck", "chaos") }).unwrap();
    node.send(&id("stuck"), &json!({ "die": "hang" })).unwrap();
    let stopped = node.shutdown(Duration::from_millis(300)).unwrap();
    let killed_agents = vec![id("stuck")];
    assert_eq!(stopped, Stopped { stopped: 1, killed: 1, killed_agents, flushed: true });
    assert!(sys::lookup("agent/stuck").is_none_or(|pid| !sys::exists(pid)));
}

#[lunatic::test]
fn a_data_directory_that_is_gone_ends_no_agent_and_no_node() {
    let mut node = node("gone");
    node.spawn(&config("a", "probe")).unwrap();
    let file = MemoryBackendType::File;
    node.spawn(&AgentConfig { memory_backend_type: file, ..config("s", "state") }).unwrap();
    ask(&mut node, "s", json!({ "Store": { "key": "k", "value": 7 } })).unwrap();
    std::fs::remove_dir_all(data_dir("gone")).unwrap();
    // Each of these fails, and each start of a store does: granting a directory that is not there
    // traps whoever grants it.
    let store = json!({ "Store": { "key": "k", "value": 8 } });
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        seen.insert(ask(&mut node, "s", store.clone()).unwrap_err().to_string());
        sys::sleep(Duration::from_millis(10));
    }
    let seen: Vec<_> = seen.into_iter().collect();
    assert!(seen.iter().any(|error| error.contains("cannot create")), "{seen:?}");
    assert!(seen.iter().any(|error| error.contains("being restarted")), "{seen:?}");
    std::fs::create_dir_all(data_dir("gone")).unwrap();
    assert_eq!(ask_until_it_answers(&mut node, "s", &store), json!(null));
    assert_eq!(ask(&mut node, "s", json!({ "Get": { "key": "k" } })).unwrap(), json!(8));
    // Nobody else noticed.
    assert_eq!(incarnation(&mut node, "a"), 1);
    assert_eq!(node.agent(&id("s")).unwrap().incarnation, 1);
}
