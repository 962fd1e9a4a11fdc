//! What the tests share: a node of their own, agents that tell, and waiting for events.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rust_wasm_lunatic_nats::host::lunatic::sys::{self, Permissions, Pid};
use rust_wasm_lunatic_nats::host::lunatic::{Node, NodeEvent, NodeHandle};
use rust_wasm_lunatic_nats::supervision::{FailureType, PreviousFailure};
use rust_wasm_lunatic_nats::{
    Agent, AgentConfig, AgentId, Context, Error, Message, NodeConfig, Result,
};
use serde_json::{json, Value};

/// No test waits longer than this for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A node without NATS, with the agent types of these tests, watched.
pub(crate) fn node(test: &str) -> NodeHandle {
    node_with(test, |_| {})
}

pub(crate) fn node_with(test: &str, change: impl FnOnce(&mut NodeConfig)) -> NodeHandle {
    let mut config = NodeConfig::new(AgentId("test".to_owned()));
    config.nats = None;
    config.data_dir = data_dir(test);
    change(&mut config);
    let builder = Node::builder()
        .agent_type::<Probe>("probe")
        .agent_type::<Forward>("forward")
        .agent_type::<Subscriber>("nats");
    let mut node = builder.start(&config).unwrap();
    node.watch().unwrap();
    node
}

/// What an agent with `mark_stop` is registered under when it is told to stop.
pub(crate) const STOP_BEGAN: &str = "test/stop_began";

/// Waits until a process that lives has a name.
pub(crate) fn await_name(name: &str) -> Pid {
    let started = Instant::now();
    loop {
        match sys::lookup(name) {
            Some(pid) if sys::exists(pid) => return pid,
            _ => assert!(started.elapsed() < DEADLINE, "nobody is registered as {name}"),
        }
        sys::sleep(Duration::from_millis(1));
    }
}

/// Waits until the agent with `mark_stop` was told to stop; it may have ended since then.
pub(crate) fn await_stop() {
    let started = Instant::now();
    while sys::lookup(STOP_BEGAN).is_none() {
        assert!(started.elapsed() < DEADLINE, "nobody was told to stop");
        sys::sleep(Duration::from_millis(1));
    }
}

/// Starts a process beside the tree.
pub(crate) fn spawn(entry: fn()) -> Pid {
    sys::spawn(&Permissions::none().unwrap(), None, entry).unwrap()
}

pub(crate) fn data_dir(test: &str) -> PathBuf {
    let base = std::env::var("TEST_TMPDIR").unwrap_or_else(|_| "target/tmp".to_owned());
    PathBuf::from(base).join(test)
}

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
            Err(_) => rust_wasm_lunatic_nats::host::lunatic::sys::sleep(Duration::from_millis(5)),
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

/// Does what it is told: fails, waits for what never comes, remembers what it was told.
#[derive(Default)]
pub(crate) struct Probe {
    seen: Vec<Value>,
    kept: Option<Message>,
    bomb: Option<Bomb>,
    previous: Value,
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the agent's own drop failed");
    }
}

#[async_trait]
impl Agent for Probe {
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        if ctx.config().args.get("fail_on_start").is_some() {
            return Err(Error::handler("told to fail on start"));
        }
        Ok(())
    }

    async fn on_restart(&mut self, ctx: &mut Context, previous: &PreviousFailure) -> Result<()> {
        self.previous = serde_json::to_value(previous)?;
        self.on_start(ctx).await
    }

    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = &message.payload;
        if let Some(text) = told.get("panic").and_then(Value::as_str) {
            panic!("{text}");
        }
        if told.get("previous").is_some() {
            return ctx.reply(&message, self.previous.clone()).await;
        }
        if let Some(text) = told.get("fail").and_then(Value::as_str) {
            return Err(Error::handler(text));
        }
        if told.get("exit_0").is_some() {
            std::process::exit(0);
        }
        if told.get("bomb").is_some() {
            self.bomb = Some(Bomb);
            return ctx.reply(&message, Value::Null).await;
        }
        if told.get("leak").is_some() {
            return Err(Error::failure(FailureType::MemoryLeak, "it grows"));
        }
        if told.get("wait").is_some() {
            std::future::pending::<()>().await;
        }
        if let Some(ms) = told.get("sleep_ms").and_then(Value::as_u64) {
            sys::sleep(Duration::from_millis(ms));
            return ctx.answer(&message, Value::Null).await;
        }
        if told.get("silent").is_some() {
            return Ok(());
        }
        if told.get("try_reserve").is_some() {
            let refused = Vec::<u8>::new().try_reserve(512 << 20).is_err();
            return ctx.reply(&message, refused).await;
        }
        if told.get("seen").is_some() {
            let seen = std::mem::take(&mut self.seen);
            return ctx.reply(&message, seen).await;
        }
        if told.get("keep").is_some() {
            self.kept = Some(message);
            return Ok(());
        }
        if told.get("kept").is_some() {
            let Some(Message { id, from, to, timestamp, .. }) = self.kept.take() else {
                return ctx.reply(&message, Value::Null).await;
            };
            let kept = json!({ "id": id, "from": from, "to": to, "timestamp": timestamp });
            return ctx.reply(&message, kept).await;
        }
        if told.get("who").is_some() {
            let who = json!({ "from": message.from, "to": message.to, "id": message.id,
                "timestamp": message.timestamp, "incarnation": ctx.incarnation() });
            return ctx.reply(&message, who).await;
        }
        self.seen.push(message.payload.clone());
        ctx.answer(&message, Value::Null).await
    }

    async fn on_stop(&mut self, ctx: &mut Context) -> Result<()> {
        if ctx.config().args.get("mark_stop").is_some() {
            sys::register(STOP_BEGAN, sys::this());
        }
        if let Some(to) = ctx.config().args.get("bye_to").and_then(Value::as_str) {
            let to = AgentId(to.to_owned());
            ctx.send(&to, "bye").await?;
        }
        Ok(())
    }
}

/// Passes on: `{"to", "payload"}` one way, `{"ask", "payload", "timeout_ms"}` with the answer.
#[derive(Default)]
pub(crate) struct Forward;

#[async_trait]
impl Agent for Forward {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = message.payload.clone();
        let name = |field: &str| told[field].as_str().map(|name| AgentId(name.to_owned()));
        if let Some(to) = name("to") {
            for _ in 0..told["times"].as_u64().unwrap_or(1) {
                ctx.send(&to, told["payload"].clone()).await?;
            }
            return ctx.reply(&message, Value::Null).await;
        }
        let to = name("ask").ok_or_else(|| Error::handler("neither to nor ask"))?;
        let timeout = Duration::from_millis(told["timeout_ms"].as_u64().unwrap_or(5_000));
        let answer = ctx.request(&to, told["payload"].clone(), timeout).await?;
        ctx.reply(&message, json!({ "answer": answer })).await
    }
}

/// Subscribes as it is told.
#[derive(Default)]
pub(crate) struct Subscriber;

#[async_trait]
impl Agent for Subscriber {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = |field: &str| message.payload[field].as_str();
        let answer = if let Some(subject) = told("subscribe") {
            ctx.subscribe(subject, None).await?;
            Value::Null
        } else if let Some(subject) = told("unsubscribe") {
            ctx.unsubscribe(subject, None).await?.into()
        } else {
            own_connection(told("own").unwrap_or_default())?
        };
        ctx.reply(&message, answer).await
    }
}

#[cfg(feature = "wasm-nats")]
fn own_connection(url: &str) -> Result<Value> {
    use rust_wasm_lunatic_nats::agent::run_ready;
    use rust_wasm_lunatic_nats::wasm_nats::{WasmNatsConfig, WasmNatsConnection};
    let config = WasmNatsConfig { websocket_url: url.to_owned(), ..Default::default() };
    run_ready(WasmNatsConnection::new(config)).unwrap()?;
    Ok(Value::Null)
}

#[cfg(not(feature = "wasm-nats"))]
fn own_connection(_: &str) -> Result<Value> {
    Err(Error::handler("this build has no connections"))
}
