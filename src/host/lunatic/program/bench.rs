//! `bench`: what this library costs, against bare processes of the same runtime. Both sides run in
//! turn in one process tree; a ratio is the median over the pairs. `scripts/bench` adds what has to
//! be measured from outside.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{json, Value};

use crate::agent::{Agent, AgentConfig, AgentId, Context};
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::host::lunatic::clock;
use crate::host::lunatic::mail;
use crate::host::lunatic::sys::{self, Permissions, Pid, Received};
use crate::host::lunatic::{Node, NodeHandle};
use crate::message::Message;

/// Prints its figures.
type Benchmark = fn(&NodeConfig) -> Result<()>;

/// The benchmarks by name.
const BENCHMARKS: [(&str, Benchmark); 5] = [
    ("local_one_way_128", local_one_way),
    ("local_one_way_128_object", local_one_way_object),
    ("local_round_trip", local_round_trip),
    ("nats-one-way", nats_one_way),
    ("first-answer", first_answer),
];

/// Those that are run when none is named: they need nothing but this process.
const DEFAULT: [&str; 3] = ["local_one_way_128", "local_one_way_128_object", "local_round_trip"];

/// Interleaved pairs per figure.
const PAIRS: usize = 9;
/// What a request waits for at the most, on both sides.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the benchmarks with these names.
pub(super) fn run(config: &NodeConfig, names: &[String]) -> Result<()> {
    let names: Vec<&str> = match names {
        [] => DEFAULT.into(),
        names => names.iter().map(String::as_str).collect(),
    };
    for name in names {
        let Some((_, run)) = BENCHMARKS.iter().find(|(known, _)| *known == name) else {
            let known = BENCHMARKS.map(|(name, _)| name).join(", ");
            return Err(Error::Node(format!("there is no benchmark {name:?}; there are {known}")));
        };
        run(config)?;
    }
    Ok(())
}

/// One way between two agents, against two bare processes that pass one ready-made buffer.
fn local_one_way(config: &NodeConfig) -> Result<()> {
    // With its quotes, 128 bytes of JSON.
    let payload = Value::from("x".repeat(126));
    one_way(config, "local_one_way_128", payload)
}

/// The same with an object of that size, which has to be taken apart by who gets it.
fn local_one_way_object(config: &NodeConfig) -> Result<()> {
    let filler = "x".repeat(60);
    let payload = json!({ "kind": "reading", "sensor": 17, "value": 21.5, "note": filler });
    one_way(config, "local_one_way_128_object", payload)
}

fn one_way(config: &NodeConfig, name: &str, payload: Value) -> Result<()> {
    const MESSAGES: u64 = 300_000;
    let mut node = start_pair(config)?;
    let body = serde_json::to_vec(&payload)?;
    let task = json!({ "send": MESSAGES, "payload": payload });
    pairs(
        name,
        "msg/s",
        "bare Lunatic processes, one pre-encoded buffer",
        || Ok(MESSAGES as f64 / ask_source(&mut node, &task)?),
        || bare_one_way(&body, MESSAGES),
    )
}

/// Request and reply between two agents, against two bare processes.
fn local_round_trip(config: &NodeConfig) -> Result<()> {
    const REQUESTS: u64 = 50_000;
    let mut node = start_pair(config)?;
    let payload = Value::from("x".repeat(126));
    let body = serde_json::to_vec(&payload)?;
    let task = json!({ "request": REQUESTS, "payload": payload });
    pairs(
        "local_round_trip",
        "us",
        "bare Lunatic processes, one pre-encoded buffer, the same timeout",
        || Ok(ask_source(&mut node, &task)? * 1e6 / REQUESTS as f64),
        || bare_round_trip(&body, REQUESTS),
    )
}

/// From an agent through NATS to an agent; prints the rate alone. `scripts/bench` runs a native
/// client on the same server in turn with it.
fn nats_one_way(config: &NodeConfig) -> Result<()> {
    let mut node = builder().start(config)?;
    wait_until_connected(&node)?;
    spawn(&mut node, "source", "bench_source")?;
    spawn(&mut node, "nats-sink", "bench_nats_sink")?;
    let size = env_number("BENCH_SIZE", 128);
    let messages = env_number("BENCH_MESSAGES", 200_000);
    let sink = AgentId("nats-sink".to_owned());
    let ready = node.ask(&sink, &json!({ "expect": messages }))?;
    // It subscribes before it waits; the server has seen that once it answers a flush.
    sys::sleep(Duration::from_millis(200));
    let task = json!({ "publish": messages, "subject": "bench.one_way", "size": size });
    let started = clock::now();
    let source = node.ask(&AgentId("source".to_owned()), &task)?;
    let mut waiting = vec![ready, source];
    while !waiting.is_empty() {
        match node.next(Some(Duration::from_secs(60))) {
            Some(crate::host::lunatic::NodeEvent::Answer { ticket, answer }) => {
                answer.map_err(Error::Node)?;
                waiting.retain(|known| *known != ticket);
            }
            Some(_) => {}
            None => return Err(Error::Node("the messages did not arrive in 60 s".to_owned())),
        }
    }
    let rate = messages as f64 / (clock::now() - started).as_secs_f64();
    println!("{}", json!({ "msgs_per_sec": rate, "size": size, "messages": messages }));
    Ok(())
}

/// Starts a node, asks an agent, and says so: the end of what `scripts/bench start` measures.
fn first_answer(config: &NodeConfig) -> Result<()> {
    let mut node = Node::builder().start(config)?;
    spawn(&mut node, "first", "echo")?;
    let answer = node.request(&AgentId("first".to_owned()), &json!("hello"), TIMEOUT)?;
    println!("{}", json!({ "answer": answer }));
    Ok(())
}

fn builder() -> crate::host::lunatic::NodeBuilder {
    Node::builder()
        .agent_type::<Source>("bench_source")
        .agent_type::<Sink>("bench_sink")
        .agent_type::<NatsSink>("bench_nats_sink")
}

fn start_pair(config: &NodeConfig) -> Result<NodeHandle> {
    thread_local! {
        // One node per process: the benchmarks share it.
        static STARTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    let local = NodeConfig { nats: None, ..config.clone() };
    if STARTED.replace(true) {
        return NodeHandle::attach(&local);
    }
    let mut node = builder().start(&local)?;
    spawn(&mut node, "source", "bench_source")?;
    spawn(&mut node, "sink", "bench_sink")?;
    Ok(node)
}

fn spawn(node: &mut NodeHandle, id: &str, agent_type: &str) -> Result<()> {
    let config = AgentConfig {
        id: AgentId(id.to_owned()),
        agent_type: agent_type.to_owned(),
        // A run of a benchmark is one message to it.
        timeout_ms: 600_000,
        ..AgentConfig::default()
    };
    node.spawn(&config).map(drop)
}

fn wait_until_connected(node: &NodeHandle) -> Result<()> {
    let deadline = clock::now() + Duration::from_secs(10);
    while !node.is_connected() {
        if clock::now() > deadline {
            return Err(Error::Node("no connection to NATS within 10 s".to_owned()));
        }
        sys::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Has the source do a task, and says how many seconds it took.
fn ask_source(node: &mut NodeHandle, task: &Value) -> Result<f64> {
    let answer = node.request(&AgentId("source".to_owned()), task, Duration::from_secs(120))?;
    answer["seconds"].as_f64().ok_or_else(|| Error::Node(format!("the source said {answer}")))
}

/// Sends what it is told to, through the public API, and says how long that took.
#[derive(Default)]
struct Source;

#[async_trait]
impl Agent for Source {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let sink = AgentId("sink".to_owned());
        let task = &message.payload;
        let payload = task["payload"].clone();
        let started = clock::now();
        if let Some(messages) = task["send"].as_u64() {
            for _ in 0..messages {
                ctx.send(&sink, payload.clone()).await?;
            }
            // Answered when everything before it was handled.
            let handled = ctx.request(&sink, json!({ "handled": true }), TIMEOUT).await?;
            if handled.as_u64() != Some(messages) {
                return Err(Error::handler(format!("{handled} of {messages} were handled")));
            }
        } else if let Some(requests) = task["request"].as_u64() {
            for _ in 0..requests {
                ctx.request(&sink, payload.clone(), TIMEOUT).await?;
            }
        } else if let Some(messages) = task["publish"].as_u64() {
            let subject = task["subject"].as_str().unwrap_or_default().to_owned();
            let body = vec![b'x'; task["size"].as_u64().unwrap_or_default() as usize];
            for _ in 0..messages {
                ctx.publish(&subject, &body).await?;
            }
        }
        let seconds = (clock::now() - started).as_secs_f64();
        ctx.reply(&message, json!({ "seconds": seconds })).await
    }
}

/// Counts what it gets, and tells.
#[derive(Default)]
struct Sink {
    handled: u64,
}

#[async_trait]
impl Agent for Sink {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        if !ctx.wants_reply() {
            self.handled += 1;
            return Ok(());
        }
        if message.payload.get("handled").is_some() {
            return ctx.reply(&message, std::mem::take(&mut self.handled)).await;
        }
        let payload = message.payload.clone();
        ctx.reply(&message, payload).await
    }
}

/// Subscribes, and answers when it has got what it expects.
#[derive(Default)]
struct NatsSink;

#[async_trait]
impl Agent for NatsSink {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let expected = message.payload["expect"].as_u64().unwrap_or_default();
        let got = receive(expected)?;
        ctx.reply(&message, got).await
    }
}

#[cfg(feature = "wasm-nats")]
fn receive(expected: u64) -> Result<u64> {
    let mut client = crate::host::lunatic::NatsClient::new();
    let mut subscription = client.subscribe("bench.one_way", None)?;
    for got in 0..expected {
        if subscription.next(Some(TIMEOUT)).is_none() {
            return Err(Error::handler(format!("{got} of {expected} messages arrived")));
        }
    }
    Ok(expected)
}

#[cfg(not(feature = "wasm-nats"))]
fn receive(_: u64) -> Result<u64> {
    Err(Error::Nats("this build is without the feature wasm-nats".to_owned()))
}

// The bare side: two processes that know each other, and one buffer.

/// Rate in messages per second.
fn bare_one_way(body: &[u8], messages: u64) -> Result<f64> {
    let receiver = spawn_bare(bare_receiver)?;
    let started = clock::now();
    for _ in 0..messages {
        sys::send(receiver, 0, body);
    }
    let tag = mail::new_tag();
    let me = sys::this().0;
    let Ok(done) = sys::request_with(receiver, tag, Some(TIMEOUT), |buffer| {
        // Told apart from the bodies by its length.
        buffer.extend_from_slice(&me.to_le_bytes());
        buffer.extend_from_slice(&tag.to_le_bytes());
        Ok::<(), Infallible>(())
    });
    let elapsed = clock::now() - started;
    sys::kill(receiver);
    match done {
        Received::Message => Ok(messages as f64 / elapsed.as_secs_f64()),
        _ => Err(Error::Node("the bare receiver did not answer".to_owned())),
    }
}

/// Microseconds for a request and its reply.
fn bare_round_trip(body: &[u8], requests: u64) -> Result<f64> {
    let receiver = spawn_bare(bare_receiver)?;
    let mut buffer = Vec::new();
    let mut request = sys::this().0.to_le_bytes().to_vec();
    request.extend_from_slice(&0_i64.to_le_bytes());
    request.extend_from_slice(body);
    let started = clock::now();
    for _ in 0..requests {
        let tag = mail::new_tag();
        request[8..16].copy_from_slice(&tag.to_le_bytes());
        let Ok(got) = sys::request_with(receiver, tag, Some(TIMEOUT), |out| {
            out.extend_from_slice(&request);
            Ok::<(), Infallible>(())
        });
        if got != Received::Message {
            return Err(Error::Node("the bare receiver did not answer".to_owned()));
        }
        sys::read_message(&mut buffer);
    }
    let elapsed = clock::now() - started;
    sys::kill(receiver);
    Ok(elapsed.as_secs_f64() * 1e6 / requests as f64)
}

/// Reads, and echoes what names a process and a tag and is not exactly as long as a body.
fn bare_receiver() {
    const BODY: std::ops::RangeInclusive<usize> = 100..=140;
    let mut buffer = Vec::new();
    loop {
        sys::receive(&[], None);
        sys::read_message(&mut buffer);
        if BODY.contains(&buffer.len()) {
            continue;
        }
        let number = |at: usize| buffer.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        if let (Some(pid), Some(tag)) = (number(0), number(8)) {
            sys::send(Pid(pid), tag as i64, &buffer[16..]);
        }
    }
}

fn spawn_bare(entry: fn()) -> Result<Pid> {
    let permissions = Permissions::none().ok_or_else(|| Error::Node("no permission".to_owned()))?;
    sys::spawn(&permissions, None, entry).map_err(Error::Node)
}

/// Runs both sides in turn, and prints the medians and the median of the ratios.
fn pairs(
    name: &str,
    unit: &str,
    baseline_name: &str,
    mut ours: impl FnMut() -> Result<f64>,
    mut bare: impl FnMut() -> Result<f64>,
) -> Result<()> {
    // Once each, not counted.
    ours()?;
    bare()?;
    let (mut values, mut baselines, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        let (value, baseline) = (ours()?, bare()?);
        eprintln!("{name}: pair {pair} of {PAIRS}: {value:.3} against {baseline:.3} {unit}");
        values.push(value);
        baselines.push(baseline);
        ratios.push(value / baseline);
    }
    let figures = json!({
        "name": name, "unit": unit, "value": median(values), "baseline": median(baselines),
        "baseline_name": baseline_name, "ratio": median(ratios),
    });
    println!("{figures}");
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
