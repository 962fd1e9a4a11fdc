//! Messages on one node: from outside, and from agent to agent.

use std::time::Duration;

use rust_wasm_lunatic_nats::{Error, RequestError, SendError};
use serde_json::{json, Value};

use crate::support::*;

#[host_test]
fn what_is_sent_arrives_whole_and_in_order() {
    let mut node = node("order");
    node.spawn(&config("a", "probe")).unwrap();
    let sent: Vec<Value> = (0..1_000).map(|n| json!({ "n": n, "text": "ä\"\\\n" })).collect();
    for payload in &sent {
        node.send(&id("a"), payload).unwrap();
    }
    assert_eq!(ask(&mut node, "a", json!({ "seen": 1 })).unwrap(), Value::from(sent));
}

#[host_test]
fn a_message_says_from_whom_to_whom_and_when() {
    let mut node = node("who");
    node.spawn(&config("a", "probe")).unwrap();
    node.spawn(&config("f", "forward")).unwrap();
    let who = ask(&mut node, "a", json!({ "who": 1 })).unwrap();
    assert_eq!((&who["from"], &who["to"]), (&json!("external"), &json!("a")));
    assert!(who["timestamp"].as_u64().unwrap() > 1_700_000_000, "{who}");
    let forwarded = ask(&mut node, "f", json!({ "ask": "a", "payload": { "who": 1 } })).unwrap();
    assert_eq!(forwarded["answer"]["from"], "f");
    assert_ne!(forwarded["answer"]["id"], who["id"]);
}

#[host_test]
fn agents_send_to_each_other_and_ask_each_other() {
    let mut node = node("agents");
    node.spawn(&config("a", "probe")).unwrap();
    node.spawn(&config("e", "echo")).unwrap();
    node.spawn(&config("f", "forward")).unwrap();
    ask(&mut node, "f", json!({ "to": "a", "payload": [1, 2], "times": 3 })).unwrap();
    let seen = ask(&mut node, "a", json!({ "seen": 1 })).unwrap();
    assert_eq!(seen, json!([[1, 2], [1, 2], [1, 2]]));
    let answer = ask(&mut node, "f", json!({ "ask": "e", "payload": { "x": 1.5 } })).unwrap();
    assert_eq!(answer, json!({ "answer": { "x": 1.5 } }));
}

#[host_test]
fn nobody_an_agent_that_is_being_restarted_and_one_that_is_late_are_told_apart() {
    let mut node = node("errors");
    node.spawn(&config("f", "forward")).unwrap();
    node.spawn(&config("slow", "chaos")).unwrap();
    match node.send(&id("nobody"), &json!(1)) {
        Err(Error::Send(SendError::UnknownAgent(agent))) => assert_eq!(agent, id("nobody")),
        other => panic!("{other:?}"),
    }
    let error = ask(&mut node, "f", json!({ "ask": "nobody", "payload": 1 })).unwrap_err();
    assert!(error.to_string().contains("there is no agent nobody"), "{error}");
    match node.request(&id("slow"), &json!({ "die": "hang" }), Duration::from_millis(50)) {
        Err(Error::Request(RequestError::Timeout { agent, .. })) => assert_eq!(agent, id("slow")),
        other => panic!("{other:?}"),
    }
    // It is killed for that, twice, and the second restart waits.
    event(&mut node, recovery);
    node.send(&id("slow"), &json!({ "die": "panic" })).unwrap();
    event(&mut node, failure);
    let mut restarting = false;
    for _ in 0..1_000 {
        restarting |= matches!(
            node.send(&id("slow"), &json!(1)),
            Err(Error::Send(SendError::AgentRestarting(_)))
        );
    }
    assert!(restarting, "between a death and the replacement a message would be lost");
}

#[host_test]
fn a_late_answer_is_dropped_and_the_next_request_gets_its_own() {
    let mut node = node("late");
    node.spawn(&config("f", "forward")).unwrap();
    node.spawn(&config("g", "forward")).unwrap();
    node.spawn(&config("hang", "chaos")).unwrap();
    // f waits 20 ms for g, which waits 300 ms for who never answers, and then says so.
    let g = json!({ "ask": "hang", "payload": { "die": "hang" }, "timeout_ms": 300 });
    let f = json!({ "ask": "g", "payload": g, "timeout_ms": 20 });
    assert!(ask(&mut node, "f", f).unwrap_err().to_string().contains("within 20 ms"));
    for n in 0..100 {
        node.spawn(&config(&format!("e{n}"), "echo")).unwrap();
        let told = json!({ "ask": format!("e{n}"), "payload": n });
        assert_eq!(ask(&mut node, "f", told).unwrap(), json!({ "answer": n }));
    }
}

#[host_test]
fn a_request_to_an_agent_that_dies_of_it_fails_long_before_its_timeout() {
    let mut node = node("dies_of_it");
    node.spawn(&config("a", "chaos")).unwrap();
    let started = std::time::Instant::now();
    let error = ask(&mut node, "a", json!({ "die": "panic" })).unwrap_err();
    assert!(error.to_string().contains("being restarted"), "{error}");
    assert!(started.elapsed() < DEADLINE / 4);
}

#[host_test]
fn a_handler_that_returns_without_an_answer_does_not_keep_the_asker_waiting() {
    let mut node = node("silent");
    node.spawn(&config("a", "probe")).unwrap();
    let error = ask(&mut node, "a", json!({ "silent": 1 })).unwrap_err();
    assert!(error.to_string().contains("without an answer"), "{error}");
}

#[host_test]
fn a_payload_that_is_too_large_is_refused_before_it_is_sent() {
    let mut node = node("large");
    node.spawn(&config("a", "echo")).unwrap();
    let fits = Value::from("x".repeat(500 * 1024));
    assert_eq!(ask(&mut node, "a", fits.clone()).unwrap(), fits);
    let error = ask(&mut node, "a", Value::from("x".repeat(513 * 1024))).unwrap_err();
    assert!(error.to_string().contains("a message may have 524288"), "{error}");
}
