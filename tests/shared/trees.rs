//! Declared trees, as they run: each death under each strategy, escalation over three levels, and
//! children that come and go by hand.

use std::time::{Duration, Instant};

use rust_wasm_lunatic_nats::message::AgentStatus;
use rust_wasm_lunatic_nats::supervision::{
    Backoff, ChildCounts, ChildSpec, Intensity, Shutdown, Strategy, SupervisorSpec,
};
use rust_wasm_lunatic_nats::{AgentConfig, NodeHandle};
use serde_json::{json, Value};

use crate::support::*;

const AT_ONCE: Backoff =
    Backoff { min: Duration::ZERO, max: Duration::ZERO, factor: 1.0, jitter: 0.0 };

fn tree(name: &str, strategy: Strategy, children: Vec<ChildSpec>) -> SupervisorSpec {
    let intensity = Intensity { max_restarts: 100, period: Duration::from_secs(60) };
    let id = name.to_owned();
    SupervisorSpec { id, strategy, intensity, backoff: AT_ONCE, children, ..Default::default() }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "{what}");
        sleep(Duration::from_millis(2));
    }
}

fn incarnation(node: &mut NodeHandle, name: &str) -> u64 {
    ask_until_it_answers(node, name, &json!({ "who": 1 }))["incarnation"].as_u64().unwrap()
}

fn status(node: &mut NodeHandle, name: &str) -> Option<AgentStatus> {
    node.agent(&id(name)).ok().map(|agent| agent.status)
}

#[host_test]
fn each_death_restarts_what_its_strategy_says() {
    let mut node = node("strategies");
    let strategies = [
        (Strategy::OneForOne, [1, 2, 1]),
        (Strategy::OneForAll, [2, 2, 2]),
        (Strategy::RestForOne, [1, 2, 2]),
    ];
    for &death in DEATHS {
        for (strategy, expected) in strategies {
            let name = |which: &str| format!("{death}-{which}-{}", expected[0] * 10 + expected[2]);
            let (before, victim, after) = (name("a"), name("v"), name("z"));
            // One that loops is ended by its fuel, where there is any; one that hangs by its deadline.
            let max_fuel = (death == "loop").then_some(2_000);
            let chaos = AgentConfig { max_fuel, timeout_ms: 500, ..config(&victim, "chaos") };
            let children =
                vec![config(&before, "probe").into(), chaos.into(), config(&after, "probe").into()];
            let top = name("t");
            node.start_supervisor(tree(&top, strategy, children)).unwrap();
            await_that("the tree runs", || status(&mut node, &after) == Some(AgentStatus::Running));
            node.send(&id(&victim), &json!({ "die": death })).unwrap();
            for (agent, incarnation) in [&before, &victim, &after].into_iter().zip(expected) {
                await_that(&format!("{agent} is in its life {incarnation}"), || {
                    node.agent(&id(agent)).is_ok_and(|agent| {
                        agent.status == AgentStatus::Running && agent.restarts == incarnation - 1
                    })
                });
            }
            node.stop_supervisor(&top, Duration::from_secs(2)).unwrap();
            await_that("the tree is gone", || status(&mut node, &before).is_none());
        }
    }
}

#[host_test]
fn three_levels_escalate_and_begin_anew_from_the_top() {
    let mut node = node("escalation");
    let once = Intensity { max_restarts: 1, period: Duration::from_secs(60) };
    let never = Intensity { max_restarts: 0, ..once };
    let child = |name: &str| ChildSpec::from(config(name, "chaos"));
    let inner = SupervisorSpec {
        intensity: never,
        ..tree("inner", Strategy::OneForAll, vec![child("c"), child("d")])
    };
    let middle = SupervisorSpec {
        intensity: once,
        ..tree("middle", Strategy::RestForOne, vec![child("b"), inner.into()])
    };
    let top = tree("top", Strategy::OneForOne, vec![child("a"), middle.into()]);
    node.start_supervisor(top).unwrap();
    let restarts = |node: &mut NodeHandle| {
        ["a", "b", "c", "d"].map(|name| node.agent(&id(name)).map_or(0, |agent| agent.restarts))
    };
    let escalation = |event: &Value| event.get("Escalation").cloned();
    await_that("it runs", || status(&mut node, "d") == Some(AgentStatus::Running));
    node.send(&id("c"), &json!({ "die": "panic" })).unwrap();
    let told = event(&mut node, escalation);
    assert_eq!((&told["supervisor_id"], &told["level"]), (&json!("inner"), &json!(1)), "{told}");
    await_that("the inner one begins anew", || restarts(&mut node) == [0, 0, 1, 1]);
    node.send(&id("d"), &json!({ "die": "panic" })).unwrap();
    assert_eq!(event(&mut node, escalation)["supervisor_id"], "inner");
    let told = event(&mut node, escalation);
    assert_eq!((&told["supervisor_id"], &told["level"]), (&json!("middle"), &json!(2)), "{told}");
    assert_eq!(told["affected_agents"], json!(["b", "c", "d"]));
    await_that("then the middle one", || restarts(&mut node) == [0, 1, 2, 2]);
}

#[host_test]
fn children_of_a_declared_supervisor_come_and_go_by_hand() {
    let mut node = node_with("by_hand", |config| {
        let children = vec![crate::support::config("a", "probe").into()];
        config.supervisors.push(tree("top", Strategy::OneForAll, children));
    });
    assert_eq!(incarnation(&mut node, "a"), 1);
    let deaf = AgentConfig {
        args: serde_json::from_value(json!({ "on_stop": "hang" })).unwrap(),
        ..config("b", "chaos")
    };
    let shutdown = Shutdown::Grace(Duration::from_millis(100));
    node.start_child("top", ChildSpec::Agent { config: deaf, shutdown }).unwrap();
    await_that("b runs", || status(&mut node, "b") == Some(AgentStatus::Running));
    let counts = ChildCounts { specs: 2, active: 2, supervisors: 0, workers: 2 };
    assert_eq!(node.count_children("top").unwrap(), counts);
    node.terminate_child("top", "b").unwrap();
    await_that("b is killed", || status(&mut node, "b") == Some(AgentStatus::Terminated));
    assert_eq!(node.count_children("top").unwrap(), ChildCounts { active: 1, ..counts });
    let error = ask(&mut node, "b", json!("anybody?")).unwrap_err().to_string();
    assert!(error.contains("there is no agent b"), "{error}");
    node.restart_child("top", "b").unwrap();
    assert_eq!(ask_until_it_answers(&mut node, "b", &json!("again")), json!("again"));
    let error = node.delete_child("top", "b").unwrap_err().to_string();
    assert!(error.contains("terminate it first"), "{error}");
    let error = node.start_child("top", config("c", "nonsense").into()).unwrap_err().to_string();
    assert!(error.contains("no agent type \"nonsense\""), "{error}");
    let error = node.start_child("nobody", config("c", "probe").into()).unwrap_err().to_string();
    assert!(error.contains("there is no supervisor nobody"), "{error}");
    node.stop(&id("b")).unwrap();
    await_that("b is stopped", || status(&mut node, "b") == Some(AgentStatus::Terminated));
    node.delete_child("top", "b").unwrap();
    assert_eq!(status(&mut node, "b"), None);
    assert_eq!(incarnation(&mut node, "a"), 1, "all that did not touch it");
}

#[host_test]
fn a_life_after_a_failure_is_told_of_it() {
    let mut node = node("on_restart");
    node.spawn(&config("a", "probe")).unwrap();
    assert_eq!(ask(&mut node, "a", json!({ "previous": 1 })).unwrap(), Value::Null);
    node.send(&id("a"), &json!({ "panic": "boom" })).unwrap();
    event(&mut node, recovery);
    let previous = ask(&mut node, "a", json!({ "previous": 1 })).unwrap();
    assert_eq!(previous["incarnation"], 1, "{previous}");
    assert_eq!(previous["failure_type"], "ProcessCrash");
    assert_eq!(previous["context"]["message"], "boom");
}
