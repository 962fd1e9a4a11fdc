//! What the supervisor does about each death, and in which order it tells.

use rust_wasm_lunatic_nats::{AgentConfig, RestartType};
use serde_json::{json, Value};

use crate::support::*;

#[host_test]
fn a_panic_is_told_in_order_and_the_replacement_answers() {
    let mut node = node("panic");
    node.spawn(&config("a", "chaos")).unwrap();
    assert_eq!(ask(&mut node, "a", json!(1)).unwrap(), json!(1));
    node.send(&id("a"), &json!({ "die": "panic" })).unwrap();
    let restarted = |event: &Value| (line_of(event) == "lifecycle ChildRestarted").then_some(());
    let (events, ()) = events_until(&mut node, restarted);
    let of_a: Vec<String> =
        log(&events).into_iter().filter(|line| !line.contains("SupervisorStarted")).collect();
    assert_eq!(
        of_a,
        [
            "spawned a",
            "a Starting -> Running",
            "lifecycle ChildStarted",
            "health a Healthy",
            "failure a/1 ProcessCrash High",
            "a Running -> Restarting",
            "recovery a/2",
            "a Restarting -> Running",
            "lifecycle ChildRestarted",
        ]
    );
    assert_eq!(ask(&mut node, "a", json!(2)).unwrap(), json!(2));
    let failed = events.iter().find_map(failure).unwrap();
    assert_eq!(failed["context"]["message"], "told to panic");
    assert!(failed["context"]["place"].as_str().unwrap().contains("chaos.rs"), "{failed}");
}

#[host_test]
fn each_death_is_known_for_what_it_is() {
    let mut node = node("deaths");
    let cases: [(&str, &str, &str, Value); 6] = [
        ("panic", "ProcessCrash", "message", json!("told to panic")),
        ("memory", "ResourceExhaustion", "limit", json!("memory")),
        ("stack", "ProcessCrash", "candidates", json!(["stack", "killed"])),
        ("exit", "ProcessCrash", "message", json!("it called exit")),
        ("loop", "TimeoutFailure", "deadline_ms", json!(1_000)),
        ("hang", "TimeoutFailure", "deadline_ms", json!(1_000)),
    ];
    for (death, failure_type, field, value) in cases {
        if !DEATHS.contains(&death) {
            continue;
        }
        node.spawn(&config(death, "chaos")).unwrap();
        node.send(&id(death), &json!({ "die": death })).unwrap();
        let failed = event(&mut node, failure);
        assert_eq!(failed["agent_id"], death, "{failed}");
        assert_eq!(failed["failure_type"], failure_type, "{failed}");
        assert_eq!(failed["context"][field], value, "{failed}");
        assert_eq!((&failed["incarnation"], &failed["severity"]), (&json!(1), &json!("High")));
        let recovered = event(&mut node, recovery);
        assert_eq!((&recovered["agent_id"], &recovered["incarnation"]), (&json!(death), &json!(2)));
        assert_eq!(ask_until_it_answers(&mut node, death, &json!("you?")), json!("you?"));
    }
}

#[host_test]
fn an_agent_that_fails_on_its_way_out_takes_nobody_with_it() {
    let mut node = node("way_out");
    node.spawn(&config("sibling", "probe")).unwrap();
    node.spawn(&config("a", "probe")).unwrap();
    ask(&mut node, "a", json!({ "bomb": 1 })).unwrap();
    node.stop(&id("a")).unwrap();
    event(&mut node, |event| event.get("Terminated").map(|_| ()));
    assert_eq!(ask(&mut node, "sibling", json!({ "who": 1 })).unwrap()["incarnation"], 1);
    assert!(node.agent(&id("a")).is_err());
}

#[host_test]
fn an_agent_that_fails_at_every_message_is_sampled_and_does_not_drown_the_supervisor() {
    let mut node = node("sampled");
    node.spawn(&config("sibling", "probe")).unwrap();
    // What it gets may be a backlog of seconds on a busy machine, which is not what is looked at.
    node.spawn(&AgentConfig { timeout_ms: 20_000, ..config("a", "probe") }).unwrap();
    for _ in 0..10_000 {
        node.send(&id("a"), &json!({ "fail": "again" })).unwrap();
    }
    ask(&mut node, "a", json!({ "who": 1 })).unwrap();
    node.stop(&id("a")).unwrap();
    let (events, ()) = events_until(&mut node, |event| event.get("Terminated").map(|_| ()));
    let told = events.iter().filter_map(failure).count();
    assert!((1..2_000).contains(&told), "{told} of 10,000 were told one by one");
    assert_eq!(ask(&mut node, "sibling", json!({ "who": 1 })).unwrap()["incarnation"], 1);
}

#[host_test]
fn six_deaths_in_five_seconds_are_too_many_and_siblings_do_not_notice() {
    let mut node = node("intensity");
    node.spawn(&config("sibling", "probe")).unwrap();
    node.spawn(&config("a", "chaos")).unwrap();
    for incarnation in 1..=6 {
        // Behind its restart, in its mailbox.
        let started = std::time::Instant::now();
        while node.send(&id("a"), &json!({ "die": "panic" })).is_err() {
            assert!(started.elapsed() < DEADLINE);
            sleep(std::time::Duration::from_millis(1));
        }
        let failed = event(&mut node, failure);
        let severity = if incarnation == 6 { "Critical" } else { "High" };
        assert_eq!(failed["incarnation"], incarnation, "{failed}");
        assert_eq!(failed["severity"], severity, "{failed}");
        if incarnation < 6 {
            event(&mut node, recovery);
        }
    }
    event(&mut node, |event| (line_of(event) == "lifecycle GaveUp").then_some(()));
    assert_eq!(serde_json::to_value(node.agent(&id("a")).unwrap()).unwrap()["status"], "Failed");
    assert_eq!(ask(&mut node, "sibling", json!({ "who": 1 })).unwrap()["incarnation"], 1);
    node.spawn(&config("a", "chaos")).unwrap();
    assert_eq!(ask(&mut node, "a", json!("again")).unwrap(), json!("again"));
}

#[host_test]
fn temporary_and_transient_agents_stay_away_as_otp_has_it() {
    let mut node = node("restart_types");
    let temporary = AgentConfig { restart: RestartType::Temporary, ..config("temp", "chaos") };
    node.spawn(&temporary).unwrap();
    node.send(&id("temp"), &json!({ "die": "panic" })).unwrap();
    event(&mut node, |event| event.get("Terminated").map(|_| ()));
    assert!(node.agent(&id("temp")).is_err());
    let transient = AgentConfig { restart: RestartType::Transient, ..config("trans", "chaos") };
    node.spawn(&transient).unwrap();
    node.send(&id("trans"), &json!({ "die": "panic" })).unwrap();
    assert_eq!(event(&mut node, recovery)["agent_id"], "trans");
}

#[host_test]
fn a_handlers_error_is_low_and_the_agent_lives() {
    let mut node = node("handler");
    node.spawn(&config("a", "probe")).unwrap();
    let error = ask(&mut node, "a", json!({ "fail": "no luck" })).unwrap_err();
    assert!(error.to_string().contains("no luck"), "{error}");
    let failed = event(&mut node, failure);
    assert_eq!(failed["failure_type"], "DependencyFailure", "{failed}");
    assert_eq!(failed["severity"], "Low", "{failed}");
    ask(&mut node, "a", json!({ "leak": 1 })).unwrap_err();
    assert_eq!(event(&mut node, failure)["failure_type"], "MemoryLeak");
    assert_eq!(ask(&mut node, "a", json!({ "who": 1 })).unwrap()["incarnation"], 1);
}

#[host_test]
fn what_cannot_be_started_is_refused_with_its_reason() {
    let mut node = node_with("start", |config| config.max_agents = 2);
    node.spawn(&config("a", "echo")).unwrap();
    let refused = |result: rust_wasm_lunatic_nats::Result<_>| match result {
        Err(error) => error.to_string(),
        Ok(spawned) => panic!("{spawned:?}"),
    };
    assert!(refused(node.spawn(&config("a", "echo"))).contains("already"));
    assert!(refused(node.spawn(&config("b", "nothing"))).contains("\"nothing\""));
    assert!(refused(node.spawn(&config("b.c", "echo"))).contains("b.c"));
    node.spawn(&AgentConfig { id: id(""), ..config("", "echo") }).unwrap();
    assert!(refused(node.spawn(&config("c", "echo"))).contains("max_agents is 2"));
}

#[host_test]
fn an_agent_that_fails_on_start_ends_up_failed() {
    let mut node = node("on_start");
    let mut failing = config("a", "probe");
    failing.args.insert("fail_on_start".to_owned(), json!(true));
    node.spawn(&failing).unwrap();
    let last = event(&mut node, |event| failure(event).filter(|f| f["severity"] == "Critical"));
    assert!(last["context"]["message"].as_str().unwrap().contains("told to fail on start"));
}

fn line_of(event: &Value) -> String {
    log(std::slice::from_ref(event)).pop().unwrap_or_default()
}
