//! To ask agents, and to watch what happens to them.

use std::time::{Duration, Instant};

use rust_wasm_lunatic_nats::{AgentConfig, AgentId, NodeEvent, NodeHandle, Result};
use serde_json::Value;

use crate::support::sleep;

/// No test waits longer than this for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn id(name: &str) -> AgentId {
    AgentId(name.to_owned())
}

/// An agent that is watched closely and may not have much.
pub(crate) fn config(name: &str, agent_type: &str) -> AgentConfig {
    AgentConfig {
        id: id(name),
        agent_type: agent_type.to_owned(),
        timeout_ms: 1_000,
        max_memory_mb: 16,
        ..AgentConfig::default()
    }
}

pub(crate) fn ask(node: &mut NodeHandle, name: &str, payload: Value) -> Result<Value> {
    node.request(&id(name), &payload, DEADLINE)
}

/// Asks again while the agent is being restarted.
pub(crate) fn ask_until_it_answers(node: &mut NodeHandle, name: &str, payload: &Value) -> Value {
    let started = Instant::now();
    loop {
        match node.request(&id(name), payload, Duration::from_secs(2)) {
            Ok(answer) => return answer,
            Err(error) if started.elapsed() > DEADLINE => panic!("{name}: {error}"),
            Err(_) => sleep(Duration::from_millis(5)),
        }
    }
}

/// The next event for which `wanted` gives something.
pub(crate) fn event<T>(node: &mut NodeHandle, wanted: impl Fn(&Value) -> Option<T>) -> T {
    events_until(node, wanted).1
}

/// All events until one for which `wanted` gives something, that one included.
pub(crate) fn events_until<T>(
    node: &mut NodeHandle,
    wanted: impl Fn(&Value) -> Option<T>,
) -> (Vec<Value>, T) {
    let mut seen = Vec::new();
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if let Some(NodeEvent::Event { payload, .. }) = node.next(Some(Duration::from_secs(1))) {
            seen.push(payload);
            if let Some(found) = seen.last().and_then(&wanted) {
                return (seen, found);
            }
        }
    }
    panic!("the event did not come; there were {seen:#?}");
}

pub(crate) fn failure(event: &Value) -> Option<Value> {
    event.get("Failure").cloned()
}

pub(crate) fn recovery(event: &Value) -> Option<Value> {
    event.get("Recovery").cloned()
}

/// What happened, in few words, in the order in which it did.
pub(crate) fn log(events: &[Value]) -> Vec<String> {
    events.iter().filter_map(line).collect()
}

fn line(event: &Value) -> Option<String> {
    let (kind, body) = event.as_object()?.iter().next()?;
    let text = |field: &str| match &body[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(match kind.as_str() {
        "Spawned" => format!("spawned {}", text("agent_id")),
        "StateChanged" => {
            format!("{} {} -> {}", text("agent_id"), text("old_state"), text("new_state"))
        }
        "Terminated" => format!("terminated {}", text("agent_id")),
        "Error" => format!("error {}", text("agent_id")),
        "Failure" => format!(
            "failure {}/{} {} {}",
            text("agent_id"),
            text("incarnation"),
            text("failure_type"),
            text("severity")
        ),
        "Recovery" => format!("recovery {}/{}", text("agent_id"), text("incarnation")),
        "Health" => format!("health {} {}", text("agent_id"), text("status")),
        "SupervisorLifecycle" => format!("lifecycle {}", text("event_type")),
        _ => return None,
    })
}
