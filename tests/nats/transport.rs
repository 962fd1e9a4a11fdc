//! Supervision over NATS with a real server, and the example that uses both layers of messages.

use std::time::Duration;

use futures_util::StreamExt;
use on_threads::{SOON, Server};
use rust_wasm_lunatic_nats::supervision::{
    DetectionConfig, FailureContext, FailureSeverity, FailureType, HealthMetrics, HealthStatus,
    SupervisionEvent,
};
use rust_wasm_lunatic_nats::time::Timestamp;
use rust_wasm_lunatic_nats::{AgentId, NatsConfig, Transport};
use serde_json::{Value, json};
use support::until;

// Formatted with the examples, which are of another edition.
#[rustfmt::skip]
#[path = "../../examples/seed_hybrid.rs"]
#[allow(dead_code, unreachable_pub, reason = "its main is for who runs it")]
mod seed_hybrid;

fn config(server: &Server) -> NatsConfig {
    NatsConfig { url: server.tcp_url(), name: Some("monitor".into()), ..NatsConfig::default() }
}

fn id(text: &str) -> AgentId {
    AgentId(text.to_owned())
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_epoch(Duration::from_secs(1_800_000_000 + second))
}

fn health(agent: &str, second: u64) -> SupervisionEvent {
    SupervisionEvent::Health {
        agent_id: id(agent),
        status: HealthStatus::Healthy,
        metrics: HealthMetrics::default(),
        timestamp: at(second),
    }
}

fn failure(agent: &str, severity: FailureSeverity, second: u64) -> SupervisionEvent {
    SupervisionEvent::Failure {
        agent_id: id(agent),
        incarnation: second,
        failure_type: FailureType::ProcessCrash,
        severity,
        context: FailureContext { message: Some("it fell".into()), ..FailureContext::default() },
        detection_time: at(second),
    }
}

/// A subscription of the other side; the server knows of it on return.
async fn subscribed(peer: &async_nats::Client, subject: &'static str) -> async_nats::Subscriber {
    let subscriber = peer.subscribe(subject).await.expect("it subscribes");
    // A flush is to the socket; this is to the server.
    peer.request("nobody", "".into()).await.expect_err("nobody is there");
    subscriber
}

async fn next(subscriber: &mut async_nats::Subscriber) -> (String, Value) {
    let message = tokio::time::timeout(SOON, subscriber.next()).await.expect("in time");
    let message = message.expect("a message");
    let body = serde_json::from_slice(&message.payload).expect("JSON");
    (message.subject.to_string(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_published_in_its_envelope_and_processed_by_who_monitors() {
    let server = Server::start();
    let peer = async_nats::connect(server.tcp_url()).await.expect("it connects");
    let mut seen = subscribed(&peer, "supervision.>").await;
    let mut transport = Transport::new(config(&server)).await.expect("it connects");
    assert!(transport.supervision_processor().is_none());
    for _ in 0..2 {
        transport.enable_supervision().await.expect("it subscribes");
    }
    let stats = transport.connection().get_stats();
    assert_eq!(stats.subscriptions, 5, "to enable it twice changes nothing");
    let supervision = transport.supervision_processor().expect("it is enabled");
    assert!(supervision.register_agent_for_monitoring(&id("w1")));
    let monitoring = {
        let supervision = supervision.clone();
        tokio::spawn(async move { supervision.start_monitoring().await })
    };
    // What is no event changes nothing.
    transport.connection().publish("supervision.health.w1", b"{}").await.expect("it publishes");
    let event = health("w1", 1);
    assert!(!supervision.event_was_processed(&event));
    transport.publish_supervision_event(&event).await.expect("it publishes");
    until("it was processed", SOON, || supervision.event_was_processed(&event).then_some(())).await;
    assert_eq!(next(&mut seen).await.1, json!({}));
    let (subject, envelope) = next(&mut seen).await;
    assert_eq!(subject, "supervision.health.w1");
    assert_eq!(
        (&envelope["source"], &envelope["payload"]["Health"]["agent_id"]),
        (&json!("monitor"), &json!("w1"))
    );
    assert_eq!(envelope["metadata"]["event_category"], "supervision");

    // One that another node told of, and that is an alert.
    let critical = failure("w2", FailureSeverity::Critical, 2);
    transport.publish_supervision_event(&critical).await.expect("it publishes");
    assert_eq!(next(&mut seen).await.0, "supervision.failures.critical");
    let (subject, alert) = next(&mut seen).await;
    assert_eq!(subject, "supervision.alerts.critical", "{alert}");
    assert_eq!(supervision.critical_failures(), [critical]);

    assert_eq!(transport.client().server_info().port, server.tcp_port());
    transport.shutdown(SOON).await.expect("the server answers");
    tokio::time::timeout(SOON, monitoring).await.expect("in time").expect("it ends by itself");
    assert!(!peer.server_info().server_id.is_empty(), "others are not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_in_the_failures_of_many_is_found_and_told() {
    let server = Server::start();
    let peer = async_nats::connect(server.tcp_url()).await.expect("it connects");
    let mut patterns = subscribed(&peer, "supervision.patterns.*").await;
    let mut transport = Transport::new(config(&server)).await.expect("it connects");
    let wrong = DetectionConfig { cascade_agents: 0, ..DetectionConfig::default() };
    let refused = transport.enable_supervision_with(wrong, Default::default()).await;
    refused.expect_err("a value that is not allowed");
    transport.enable_supervision().await.expect("it subscribes");
    let supervision = transport.supervision_processor().expect("it is enabled");
    // What comes before somebody monitors waits.
    for n in 0..50 {
        let event = failure(&format!("w{}", n % 10), FailureSeverity::High, n);
        transport.publish_supervision_event(&event).await.expect("it publishes");
    }
    let monitoring = tokio::spawn(async move { supervision.start_monitoring().await });
    let (_, pattern) = next(&mut patterns).await;
    assert!(pattern["payload"]["DetectedPattern"].is_object(), "{pattern}");
    // Without a word, too, the monitoring ends with the transport.
    drop(transport);
    tokio::time::timeout(SOON, monitoring).await.expect("in time").expect("it ends by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_with_both_layers_reaches_the_agent_and_nats() {
    let server = Server::start();
    let peer = async_nats::connect(server.tcp_url()).await.expect("it connects");
    let mut events = subscribed(&peer, "global.events").await;
    let url = server.tcp_url();
    seed_hybrid::hybrid_messaging_example(&url).await.expect("it works");
    let (_, event) = next(&mut events).await;
    assert_eq!(event, json!({"from": "local_agent", "task": "done"}));
    // Without a server it says so.
    drop(server);
    let error = seed_hybrid::hybrid_messaging_example(&url).await.expect_err("no server");
    assert!(error.to_string().contains("no answer from the flush"), "{error}");
}
