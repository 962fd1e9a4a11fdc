//! The calls that need no node in one's hands.

use std::collections::HashMap;
use std::time::Duration;

use rust_wasm_lunatic_nats::{
    get_agent_state, send_message_to_agent, send_state_action_to_agent, shutdown_agent,
    spawn_agent_supervisor, spawn_single_agent, AgentConfig, AgentId, Context, Error, Message,
    SendError, SpawnError, StateAction,
};
use serde_json::{json, Value};

use crate::support::*;

fn message(to: &str, payload: Value) -> Message {
    Message { id: "msg_1".to_owned(), from: id("main"), to: id(to), payload, timestamp: 1_234 }
}

fn store(key: &str, value: Value) -> StateAction {
    StateAction::Store { key: key.to_owned(), value }
}

fn agents(node: &mut rust_wasm_lunatic_nats::NodeHandle) -> u64 {
    node.status().unwrap().agents
}

#[host_test]
fn an_agent_of_type_state_remembers_and_forgets() {
    let _node = node("facade_state");
    // Everything but the id has a default.
    let agent = spawn_single_agent(AgentConfig { id: id("a"), ..Default::default() }).unwrap();
    assert_eq!(agent.id(), &id("a"));
    assert_eq!(get_agent_state(&agent), HashMap::new());
    send_state_action_to_agent(&agent, store("x", json!({ "n": 1 })));
    send_state_action_to_agent(&agent, store("y", json!(null)));
    send_state_action_to_agent(&agent, store("z", json!(3)));
    send_state_action_to_agent(&agent, StateAction::Delete { key: "z".to_owned() });
    let expected =
        HashMap::from([("x".to_owned(), json!({ "n": 1 })), ("y".to_owned(), json!(null))]);
    assert_eq!(get_agent_state(&agent), expected);
    assert_eq!(agent.state_action(&StateAction::List).unwrap(), json!(["x", "y"]));
    shutdown_agent(&agent);
    assert_eq!(get_agent_state(&agent), HashMap::new(), "there is nobody to ask");
    assert!(matches!(agent.state(), Err(Error::Request(_))));
}

#[host_test]
fn a_message_arrives_with_the_id_the_sender_and_the_time_that_it_has() {
    let _node = node("facade_message");
    let agent = spawn_single_agent(config("a", "probe")).unwrap();
    send_message_to_agent(&agent, message("a", json!({ "keep": 1 })));
    let kept = agent.request(&json!({ "kept": 1 }), DEADLINE).unwrap();
    assert_eq!(kept, json!({ "id": "msg_1", "from": "main", "to": "a", "timestamp": 1_234 }));
}

#[host_test]
fn a_message_that_cannot_arrive_is_refused_with_the_rule() {
    let _node = node("facade_refused");
    let agent = spawn_single_agent(config("a", "probe")).unwrap();
    let refused = |message: Message| match agent.send(&message) {
        Err(error) => error.to_string(),
        Ok(()) => panic!("it was sent"),
    };
    let error = refused(message("b", json!(1)));
    assert_eq!(error, "the message is for agent b, and was given to agent a");
    let from_nobody = Message { from: AgentId("no.body".to_owned()), ..message("a", json!(1)) };
    assert!(refused(from_nobody).contains("no.body"));
    let large = "x".repeat(Context::MAX_PAYLOAD);
    assert!(refused(message("a", large.into())).contains("may have 524288"));
    let deep = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    assert!(refused(message("a", deep(127))).contains("inside each other"));
    agent.send(&message("a", deep(126))).unwrap();
    let seen = agent.request(&json!({ "seen": 1 }), DEADLINE).unwrap();
    assert_eq!(seen, json!([deep(126)]), "and nothing else came");
    agent.shutdown().unwrap();
    for error in [agent.send(&message("a", json!(1))), agent.shutdown()] {
        assert!(matches!(error, Err(Error::Send(SendError::UnknownAgent(_)))), "{error:?}");
    }
}

#[host_test]
fn what_was_sent_before_the_shutdown_is_handled_before_it() {
    let _node = node("facade_shutdown");
    let heir = spawn_single_agent(config("heir", "probe")).unwrap();
    let mut with_bye = config("a", "probe");
    with_bye.args.insert("bye_to".to_owned(), json!("heir"));
    let agent = spawn_single_agent(with_bye.clone()).unwrap();
    agent.shutdown().unwrap();
    // It is gone, and its id is free, when that returns.
    assert_eq!(heir.request(&json!({ "seen": 1 }), DEADLINE).unwrap(), json!(["bye"]));
    spawn_single_agent(with_bye).unwrap();
}

#[host_test]
fn agents_are_started_together_and_stopped_together() {
    let mut node = node("facade_supervisor");
    let unnamed = AgentConfig::default();
    let supervisor =
        spawn_agent_supervisor(vec![config("a", "probe"), config("b", "chaos"), unnamed]).unwrap();
    assert_eq!(supervisor.agents().len(), 3);
    assert_eq!(agents(&mut node), 3);
    let b = supervisor.agent(&id("b")).unwrap();
    // It is the same agent after a crash.
    node.send(b.id(), &json!({ "die": "panic" })).unwrap();
    event(&mut node, recovery);
    assert_eq!(b.request(&json!(1), DEADLINE).unwrap(), 1);
    assert_eq!(supervisor.agent(&id("c")), None);
    supervisor.agents()[0].shutdown().unwrap();
    supervisor.shutdown().unwrap();
    assert_eq!(agents(&mut node), 0);
    assert!(spawn_agent_supervisor(Vec::new()).unwrap().agents().is_empty());
}

#[host_test]
fn of_agents_that_cannot_all_be_started_none_is() {
    let mut node = node("facade_none");
    let there = spawn_single_agent(config("there", "probe")).unwrap();
    let invalid = AgentConfig { max_memory_mb: 0, ..config("b", "probe") };
    let dotted = AgentConfig { id: AgentId("b.c".to_owned()), ..config("b", "probe") };
    let cases = [
        (config("a", "probe"), "there is an agent a already"),
        (invalid, "max_memory_mb is 0"),
        (dotted, "\"b.c\" is not an agent id"),
        (config("b", "nonsense"), "there is no agent type \"nonsense\""),
        (config("there", "probe"), "there is an agent there already"),
    ];
    for (wrong, expected) in cases {
        let error = spawn_agent_supervisor(vec![config("a", "probe"), wrong]).unwrap_err();
        assert!(matches!(error, Error::Spawn(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(agents(&mut node), 1, "{expected}");
    }
    assert!(there.request(&json!({ "who": 1 }), DEADLINE).is_ok());
}

#[host_test]
fn a_full_node_takes_none_of_them() {
    let mut node = node_with("facade_full", |config| config.max_agents = 2);
    let configs = ["a", "b", "c"].map(|name| config(name, "probe"));
    let error = spawn_agent_supervisor(configs.to_vec()).unwrap_err();
    assert!(matches!(error, Error::Spawn(SpawnError::Capacity(_))), "{error:?}");
    assert_eq!(agents(&mut node), 0);
}

#[host_test]
fn an_agent_that_takes_no_state_actions_has_no_state_to_show() {
    let _node = node("facade_echo");
    let agent = spawn_single_agent(config("e", "echo")).unwrap();
    let error = agent.state().unwrap_err();
    assert!(matches!(error, Error::Json(_)), "{error:?}");
    assert!(get_agent_state(&agent).is_empty());
    let stuck = spawn_single_agent(config("h", "chaos")).unwrap();
    let error = stuck.request(&json!({ "die": "hang" }), Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::Request(_)), "{error:?}");
}
