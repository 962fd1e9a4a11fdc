//! Pools of agents.

use std::sync::{Arc, Mutex};

use rust_wasm_lunatic_nats::message::{AgentStatus, SubjectPattern};
use rust_wasm_lunatic_nats::supervision::{
    AlertConfig, DetectionConfig, HealthStatus, SupervisionEvent, SupervisionEventHandler,
    SupervisionEventProcessor,
};
use rust_wasm_lunatic_nats::{AgentConfig, AgentPool, Error, RestartType, SpawnError};
use serde_json::json;

use crate::support::*;

fn full(pool: &AgentPool) -> String {
    match pool.spawn_agent(config("one-more", "probe")) {
        Err(Error::Spawn(SpawnError::Capacity(text))) => text,
        other => panic!("{other:?}"),
    }
}

#[host_test]
fn a_pool_has_a_maximum_and_a_crash_keeps_its_place() {
    let mut node = node("pool_maximum");
    let pool = AgentPool::new(2);
    let a = pool.spawn_agent(config("a", "probe")).unwrap();
    pool.spawn_agent(config("b", "probe")).unwrap();
    assert_eq!(full(&pool), "the pool has room for 2 agents, and has as many");
    node.send(a.id(), &json!({ "panic": "boom" })).unwrap();
    event(&mut node, recovery);
    assert_eq!(pool.len().unwrap(), 2);
    assert_eq!(pool.get_agent_status(a.id()).unwrap(), AgentStatus::Running);
    full(&pool);
    pool.stop_agent(a.id()).unwrap();
    assert!(pool.get_agent(a.id()).unwrap().is_none());
    pool.spawn_agent(config("c", "probe")).unwrap();
    pool.shutdown().unwrap();
    assert!(pool.is_empty().unwrap());
    assert_eq!(node.status().unwrap().agents, 0);
}

#[host_test]
fn who_ends_for_good_leaves_the_pool() {
    let mut node = node("pool_end");
    let pool = AgentPool::new(1);
    let temporary = AgentConfig { restart: RestartType::Temporary, ..config("a", "probe") };
    pool.spawn_agent(temporary).unwrap();
    node.send(&id("a"), &json!({ "panic": "boom" })).unwrap();
    event(&mut node, |event| event.get("Terminated").map(|_| ()));
    let error = pool.get_agent_status(&id("a")).unwrap_err().to_string();
    assert!(error.contains("there is no agent a"), "{error}");
    pool.spawn_agent(config("b", "probe")).unwrap();
    // One that is not of the pool is not the pool's to stop.
    node.spawn(&config("other", "probe")).unwrap();
    assert!(pool.stop_agent(&id("other")).is_err());
}

#[derive(Default)]
struct Seen(Vec<SupervisionEvent>);

impl SupervisionEventHandler for Seen {
    fn handle(&mut self, _subject: &str, event: &SupervisionEvent) {
        self.0.push(event.clone());
    }
}

#[host_test]
fn a_processor_is_told_what_becomes_of_a_pools_agents() {
    let _node = node("pool_supervision");
    let pool = AgentPool::new(10);
    let detection = DetectionConfig::default();
    let mut processor = SupervisionEventProcessor::new(detection, AlertConfig::default());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let all = SubjectPattern::parse("supervision.>").unwrap();
    processor.register_handler(all, Box::new(Arc::clone(&seen))).unwrap();
    let agent = pool.spawn_agent_with_supervision(config("a", "probe"), Some(&mut processor));
    let agent = agent.unwrap();
    agent.request(&json!("there?"), DEADLINE).unwrap();
    pool.stop_agent_with_supervision(agent.id(), Some(&mut processor)).unwrap();
    // That it was stopped is no failure.
    for event in &seen.lock().unwrap().0 {
        let healthy = matches!(event,
            SupervisionEvent::Health { status: HealthStatus::Healthy, agent_id, .. }
                if agent_id == agent.id());
        assert!(healthy, "{event:?}");
    }
    let unsupervised = pool.spawn_agent_with_supervision(config("b", "probe"), None).unwrap();
    pool.stop_agent_with_supervision(unsupervised.id(), None).unwrap();
}
