//! What an agent measures of itself, and what a missed deadline tells.

use rust_wasm_lunatic_nats::message::AgentCounters;
use rust_wasm_lunatic_nats::AgentConfig;
use serde_json::{json, Value};

use crate::support::*;

/// Asks for the counters of an agent until they are as they should be.
fn counters_when(
    node: &mut rust_wasm_lunatic_nats::NodeHandle,
    name: &str,
    wanted: impl Fn(&AgentCounters) -> bool,
) -> AgentCounters {
    let started = std::time::Instant::now();
    loop {
        let counters = node.agent(&id(name)).unwrap().counters;
        if wanted(&counters) {
            return counters;
        }
        assert!(started.elapsed() < DEADLINE, "{counters:?}");
        sleep(std::time::Duration::from_millis(10));
    }
}

#[host_test]
fn quick_messages_and_slow_ones_are_told_apart() {
    let mut node = node("quantiles");
    node.spawn(&config("a", "probe")).unwrap();
    for n in 0..400 {
        let payload = if n % 10 == 9 { json!({ "sleep_ms": 20 }) } else { json!(1) };
        ask(&mut node, "a", payload).unwrap();
    }
    let counters = counters_when(&mut node, "a", |counters| counters.handled == 400);
    let handling = counters.handling_us.unwrap();
    assert!(handling.p99 >= 20_000, "{handling:?}");
    assert!(handling.p50 < 20_000, "{handling:?}");
    assert!(handling.p90 <= handling.p99 && handling.p50 <= handling.p90, "{handling:?}");
    assert_eq!(counters.errors, 0);
    assert_eq!(counters.memory_bytes.is_some(), MEASURES_MEMORY);
    assert!(counters.mailbox_delay_us.is_some());
    // A new life begins anew.
    assert!(ask(&mut node, "a", json!({ "panic": "boom" })).is_err());
    ask_until_it_answers(&mut node, "a", &json!(1));
    let counters = counters_when(&mut node, "a", |counters| counters.last_answer_ms.is_some());
    assert_eq!(counters.handled, 1);
}

#[host_test]
fn an_agent_that_has_handled_nothing_has_no_handling_times() {
    let mut node = node("no_quantiles");
    node.spawn(&config("a", "probe")).unwrap();
    assert_eq!(node.agent(&id("a")).unwrap().counters, AgentCounters::default());
    let counters = counters_when(&mut node, "a", |counters| counters.last_answer_ms.is_some());
    assert_eq!((counters.handled, counters.handling_us), (0, None));
}

#[host_test]
fn a_backlog_is_seen_in_the_mailboxs_delay_and_in_the_health_events() {
    let mut node = node_with("delay", |config| {
        config.supervision.health_check_interval = std::time::Duration::from_millis(100);
    });
    // The first health check comes after 2 to 4 s, and finds a backlog of 4.8 s. The answer is not as
    // late as the next check, which would take its place at once.
    node.spawn(&AgentConfig { timeout_ms: 8_000, ..config("a", "probe") }).unwrap();
    for _ in 0..80 {
        node.send(&id("a"), &json!({ "sleep_ms": 60 })).unwrap();
    }
    let metrics = event(&mut node, |event| {
        let metrics = &event.get("Health")?["metrics"];
        (metrics["mailbox_delay_us"].as_u64()? >= 60_000).then(|| metrics.clone())
    });
    assert!(metrics["response_time_ms"].as_f64().unwrap() >= 60.0, "{metrics}");
    assert!(metrics["handling_us"]["p50"].as_u64().unwrap() >= 60_000, "{metrics}");
    assert!(metrics["handled"].as_u64().unwrap() >= 1, "{metrics}");
    counters_when(&mut node, "a", |counters| {
        counters.handled == 80 && counters.mailbox_delay_us.is_some_and(|us| us < 60_000)
    });
}

#[host_test]
fn a_backlog_that_is_too_old_is_another_failure_than_an_agent_that_is_stuck() {
    let mut node = node("backlog");
    node.spawn(&config("behind", "probe")).unwrap();
    for _ in 0..100 {
        node.send(&id("behind"), &json!({ "sleep_ms": 60 })).unwrap();
    }
    let failed = event(&mut node, failure);
    assert_eq!(
        (&failed["agent_id"], &failed["failure_type"]),
        (&json!("behind"), &json!("TimeoutFailure"))
    );
    let context = &failed["context"];
    assert_eq!(
        (&context["limit"], &context["limit_value"]),
        (&json!("backlog_age"), &json!(1_000))
    );
    assert!(context["reached"].as_u64().unwrap() >= 1_000, "{context}");
    let handled = context["handled_meanwhile"].as_u64().unwrap();
    assert!((1..100).contains(&handled), "{context}");
    event(&mut node, recovery);

    node.spawn(&config("stuck", "probe")).unwrap();
    node.send(&id("stuck"), &json!({ "sleep_ms": 60_000 })).unwrap();
    let failed = event(&mut node, failure);
    assert_eq!(failed["agent_id"], "stuck");
    let context = &failed["context"];
    assert_eq!((&context["limit"], &context["handled_meanwhile"]), (&json!("answer"), &json!(0)));
    assert_eq!(ask_until_it_answers(&mut node, "stuck", &json!(1)), Value::Null);
}

#[host_test]
fn each_missed_check_counts_up_until_the_last() {
    let mut node = node_with("threshold", |config| {
        config.supervision.failure_detection_threshold = 5;
    });
    node.spawn(&AgentConfig { timeout_ms: 500, ..config("a", "chaos") }).unwrap();
    node.send(&id("a"), &json!({ "die": "hang" })).unwrap();
    let (events, _) = events_until(&mut node, failure);
    let missed: Vec<u64> = events
        .iter()
        .filter_map(|event| event.get("Health")?["status"]["Degraded"]["missed"].as_u64())
        .collect();
    // One that was held up may see two at once, but no check twice, and never the last.
    assert!(!missed.is_empty() && missed.is_sorted_by(|a, b| a < b), "{missed:?}");
    assert!(missed.iter().all(|missed| (1..5).contains(missed)), "{missed:?}");
}
