//! Agents and NATS, with a real server: subjects of their own, and agents of another node.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rust_wasm_lunatic_nats::config::NatsUrls;
use rust_wasm_lunatic_nats::{
    Agent, AgentId, Context, Error, Message, NatsConfig, NatsConnection, NatsError, NatsMessage,
    NodeConfig, NodeHandle, Result,
};
use serde_json::{json, Value};

use crate::support::*;

/// A nats-server of one's own, killed when this is dropped.
struct Server {
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// One that does not run yet.
    fn stopped() -> Self {
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        Self { port: free.local_addr().unwrap().port(), child: None }
    }

    fn start() -> Self {
        let mut server = Self::stopped();
        server.run();
        server
    }

    fn run(&mut self) {
        let program = std::env::var("NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let child = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("nats-server can be started (or set NATS_SERVER)"));
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn config(&self, node_id: &str, test: &str) -> NodeConfig {
        let node_id = AgentId(node_id.to_owned());
        NodeConfig { node_id, nats: NatsUrls::new(self.url()), ..node_config(test) }
    }

    /// A node that is connected.
    fn node(&self, node_id: &str, test: &str) -> NodeHandle {
        let builder = builder().agent_type::<Listener>("listener");
        let mut node = builder.start(&self.config(node_id, test)).unwrap();
        node.watch().unwrap();
        connected(&node);
        node
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn connected(node: &NodeHandle) {
    let started = Instant::now();
    while !node.is_connected() {
        assert!(started.elapsed() < DEADLINE, "it does not connect");
        sleep(Duration::from_millis(5));
    }
}

async fn client(server: &Server) -> NatsConnection {
    let client = NatsConnection::new(NatsConfig { url: server.url(), ..Default::default() });
    let client = client.await.unwrap();
    client.wait_connected().await.unwrap();
    client
}

/// Asks until somebody listens there. A node tells its own program of a new life before the server knows
/// what that subscribed to: what is asked just then comes to the life before, and is lost with it.
async fn ask_on(client: &NatsConnection, subject: &str, body: &str) -> String {
    let started = Instant::now();
    loop {
        match client.request(subject, body.as_bytes(), Duration::from_secs(1)).await {
            Ok(answer) => return String::from_utf8(answer).unwrap(),
            Err(NatsError::NoResponders { .. }) if started.elapsed() < DEADLINE => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(NatsError::TimedOut { .. }) if started.elapsed() < DEADLINE => {}
            Err(error) => panic!("{subject}: {error}"),
        }
    }
}

/// Answers what comes on its subject with its life, and does on NATS what it is told.
#[derive(Default)]
struct Listener;

#[async_trait]
impl Agent for Listener {
    async fn on_start(&mut self, ctx: &mut Context) -> Result<()> {
        let subject = format!("test.{}.*", ctx.id());
        ctx.subscribe(&subject, None).await?;
        // Again it changes nothing.
        ctx.subscribe(&subject, None).await
    }

    async fn on_nats_message(&mut self, ctx: &mut Context, message: NatsMessage) -> Result<()> {
        let body = String::from_utf8_lossy(message.payload()).into_owned();
        assert!(body != "panic", "told to panic");
        let reply = message.reply().ok_or_else(|| Error::handler("nobody asks"))?.to_owned();
        let answer = format!("{} {body} in life {}", message.subject(), ctx.incarnation());
        ctx.publish(&reply, answer.as_bytes()).await
    }

    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let told = |field: &str| message.payload[field].as_str();
        let answer: Value = if let Some(subject) = told("ask") {
            let answer = ctx.nats_request(subject, b"hello", DEADLINE).await?;
            String::from_utf8_lossy(&answer).into_owned().into()
        } else if let Some(subject) = told("subscribe") {
            ctx.subscribe(subject, Some("group")).await?;
            true.into()
        } else {
            let subject = told("unsubscribe").unwrap_or_default();
            ctx.unsubscribe(subject, Some("group")).await?.into()
        };
        ctx.answer(&message, answer).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_answers_on_its_subjects_and_each_life_has_its_own() {
    let server = Server::start();
    let mut node = server.node("n1", "nats_subjects");
    let client = client(&server).await;
    node.spawn(&config("a", "listener")).unwrap();
    node.spawn(&config("b", "listener")).unwrap();
    assert_eq!(ask_on(&client, "test.a.x", "hi").await, "test.a.x hi in life 1");
    assert_eq!(ask_on(&client, "test.b.x", "hi").await, "test.b.x hi in life 1");
    let asked = ask(&mut node, "b", json!({ "ask": "test.a.y" })).unwrap();
    assert_eq!(asked, "test.a.y hello in life 1");
    client.publish("test.a.z", b"panic").await.unwrap();
    event(&mut node, recovery);
    assert_eq!(ask_on(&client, "test.a.x", "hi").await, "test.a.x hi in life 2");
    // One that comes and goes.
    assert_eq!(ask(&mut node, "a", json!({ "subscribe": "more.*" })).unwrap(), json!(true));
    assert_eq!(ask_on(&client, "more.1", "hi").await, "more.1 hi in life 2");
    assert_eq!(ask(&mut node, "a", json!({ "unsubscribe": "more.*" })).unwrap(), json!(true));
    assert_eq!(ask(&mut node, "a", json!({ "unsubscribe": "more.*" })).unwrap(), json!(false));
    // What its handler fails with is told, and there is nobody to tell it to but the supervisor.
    client.publish("test.a.x", b"no reply").await.unwrap();
    let failed = event(&mut node, |event| failure(event).filter(|f| f["severity"] == "Low"));
    assert_eq!(failed["context"]["message"], "nobody asks", "{failed}");
    node.stop(&id("a")).unwrap();
    event(&mut node, |event| event.get("Terminated").map(|_| ()));
    let started = Instant::now();
    while !matches!(
        client.request("test.a.x", b"hi", Duration::from_millis(200)).await,
        Err(NatsError::NoResponders { .. })
    ) {
        assert!(started.elapsed() < DEADLINE, "its subscription outlives it");
    }
    assert!(node.shutdown(DEADLINE).unwrap().flushed);
}

#[test]
fn an_agent_has_at_most_so_many_subscriptions() {
    let server = Server::start();
    let mut node = server.node("n1", "nats_many");
    node.spawn(&config("a", "listener")).unwrap();
    // It has one already.
    for n in 1..Context::MAX_SUBSCRIPTIONS {
        ask(&mut node, "a", json!({ "subscribe": format!("many.{n}") })).unwrap();
    }
    let error = ask(&mut node, "a", json!({ "subscribe": "one.too.many" })).unwrap_err();
    assert!(error.to_string().contains("there are 64 subscriptions already"), "{error}");
    ask(&mut node, "a", json!({ "unsubscribe": "many.1" })).unwrap();
    ask(&mut node, "a", json!({ "subscribe": "one.more" })).unwrap();
}

#[test]
fn agents_of_two_nodes_talk_to_each_other() {
    let server = Server::start();
    let (mut one, mut other) = (server.node("n1", "nats_one"), server.node("n2", "nats_other"));
    one.spawn(&config("f", "forward")).unwrap();
    for (name, agent_type) in [("there", "probe"), ("deadly", "chaos")] {
        other.spawn(&config(name, agent_type)).unwrap();
    }
    // The server may hear of them, by the other connection, after it has heard the first question.
    ask_until_it_answers(&mut one, "f", &json!({ "ask": "deadly", "payload": "there?" }));
    let who = json!({ "ask": "there", "payload": { "who": 1 } });
    let who = ask_until_it_answers(&mut one, "f", &who);
    assert_eq!((&who["answer"]["from"], &who["answer"]["to"]), (&json!("f"), &json!("there")));
    ask(&mut one, "f", json!({ "to": "there", "payload": 7, "times": 3 })).unwrap();
    let started = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        assert!(started.elapsed() < DEADLINE, "{seen:?}");
        let more = ask(&mut other, "there", json!({ "seen": 1 })).unwrap();
        seen.extend(more.as_array().unwrap().clone());
    }
    assert_eq!(seen, [7, 7, 7]);
    let refused = |one: &mut NodeHandle, told| ask(one, "f", told).unwrap_err().to_string();
    let error = refused(&mut one, json!({ "ask": "nobody", "payload": 1 }));
    assert!(error.contains("there is no agent nobody"), "{error}");
    let error = refused(&mut one, json!({ "ask": "there", "payload": { "fail": "no luck" } }));
    assert!(error.contains("no luck"), "{error}");
    let late = json!({ "ask": "deadly", "payload": { "die": "panic" }, "timeout_ms": 300 });
    let error = refused(&mut one, late);
    assert!(error.contains("within 300 ms"), "of another node nobody knows: {error}");
}

#[test]
fn a_node_works_without_a_server_and_connects_when_one_appears() {
    let mut server = Server::stopped();
    let config = server.config("n1", "nats_later");
    let mut node = builder().agent_type::<Listener>("listener").start(&config).unwrap();
    node.spawn(&crate::support::config("a", "echo")).unwrap();
    node.spawn(&crate::support::config("l", "listener")).unwrap();
    node.spawn(&crate::support::config("f", "forward")).unwrap();
    assert_eq!(ask(&mut node, "a", json!(1)).unwrap(), json!(1));
    let told = json!({ "ask": "elsewhere", "payload": 1 });
    let error = ask(&mut node, "f", told).unwrap_err().to_string();
    assert!(error.contains("there is no agent elsewhere"), "{error}");
    server.run();
    connected(&node);
    // What it subscribed to before is there.
    assert_eq!(
        ask(&mut node, "l", json!({ "ask": "agent.input.a" })).unwrap().as_str().map(|_| ()),
        Some(())
    );
    let stopped = node.shutdown(DEADLINE).unwrap();
    assert_eq!((stopped.stopped, stopped.flushed), (3, true));
}
