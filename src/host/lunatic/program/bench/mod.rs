//! `bench`: what this library costs, against bare processes of the same runtime. Both sides run in
//! turn in one process tree; a ratio is the median over the pairs. `scripts/bench` adds what has to
//! be measured from outside.

mod lifecycle;
mod local;
mod nats;

use std::time::Duration;

use serde_json::json;

use crate::agent::{AgentConfig, AgentId};
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::host::lunatic::clock;
use crate::host::lunatic::sys::{self, Permissions, Pid};
use crate::host::lunatic::{Node, NodeBuilder, NodeHandle};
use crate::time::Instant;

/// Prints its figures.
type Benchmark = fn(&NodeConfig) -> Result<()>;

/// The benchmarks by name.
const BENCHMARKS: [(&str, Benchmark); 17] = [
    ("local_one_way_128", local::one_way_text),
    ("local_one_way_128_object", local::one_way_object),
    ("local_round_trip", local::round_trip),
    ("spawn", lifecycle::spawn_rate),
    ("restart", lifecycle::restart),
    ("restart-times-told", lifecycle::restart_times_told),
    ("restart-times-polled", lifecycle::restart_times_polled),
    ("restart-rate", lifecycle::restart_rate),
    ("agents", lifecycle::all_agents),
    ("memory-agents", lifecycle::memory_agents),
    ("memory-bare", lifecycle::memory_bare),
    ("nats-one-way", nats::one_way),
    ("nats-requests", nats::requests),
    ("nats-responder", nats::responder),
    ("nats_1000_subscriptions", nats::thousand_subscriptions),
    ("nats-memory", nats::memory),
    ("first-answer", lifecycle::first_answer),
];

/// Those that are run when none is named: they need nothing but this process.
const DEFAULT: [&str; 5] =
    ["local_one_way_128", "local_one_way_128_object", "local_round_trip", "spawn", "restart"];

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

fn builder() -> NodeBuilder {
    Node::builder()
        .agent_type::<local::Source>("bench_source")
        .agent_type::<local::Sink>("bench_sink")
        .agent_type::<nats::NatsSource>("bench_nats_source")
        .agent_type::<nats::NatsSink>("bench_nats_sink")
}

/// The node of this run, without NATS: one node per process, so the benchmarks share it.
fn start_node(config: &NodeConfig) -> Result<NodeHandle> {
    thread_local! {
        static STARTED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }
    let local = NodeConfig { nats: None, ..config.clone() };
    if STARTED.replace(true) {
        return NodeHandle::attach(&local);
    }
    builder().start(&local)
}

fn spawn(node: &mut NodeHandle, id: &str, agent_type: &str) -> Result<()> {
    // A run of a benchmark is one message to it.
    spawn_with_timeout(node, id, agent_type, 600_000)
}

fn spawn_with_timeout(
    node: &mut NodeHandle,
    id: &str,
    agent_type: &str,
    timeout_ms: u64,
) -> Result<()> {
    let config = AgentConfig {
        id: AgentId(id.to_owned()),
        agent_type: agent_type.to_owned(),
        timeout_ms,
        ..AgentConfig::default()
    };
    node.spawn(&config).map(drop)
}

/// A process of the same module that nothing is wrapped around; with a tag it is linked.
fn spawn_bare(link: Option<i64>, entry: fn()) -> Result<Pid> {
    let permissions = Permissions::none().ok_or_else(|| Error::Node("no permission".to_owned()))?;
    sys::spawn(&permissions, link, entry).map_err(Error::Node)
}

/// Nobody in here can see what the runtime's process takes: this tells `scripts/bench` that there is
/// something to measure, and how many of it there are.
fn show_phase(phase: &str, count: u64) {
    println!("{}", json!({ "phase": phase, "count": count }));
}

/// Waits for the file that says that a phase was measured. It does not look often: what is measured
/// may be how little is done.
fn wait_until_measured(phase: &str) -> Result<()> {
    let name = format!("measured-{phase}");
    let deadline = clock::now() + Duration::from_secs(120);
    while !std::path::Path::new(&name).exists() {
        before(deadline, "the file that says what was measured")?;
        sys::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn before(deadline: Instant, what: &str) -> Result<()> {
    if clock::now() < deadline {
        Ok(())
    } else {
        Err(Error::Node(format!("waited too long for {what}")))
    }
}

/// Runs both sides in turn, and prints the medians and the median of the ratios. What a side calls
/// is found at run time, so that this is compiled once and not for each benchmark.
fn pairs(
    name: &str,
    unit: &str,
    baseline_name: &str,
    ours: &mut dyn FnMut() -> Result<f64>,
    bare: &mut dyn FnMut() -> Result<f64>,
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

/// A number that `scripts/bench` hands on.
fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Waits until the node is connected to NATS.
fn wait_until_connected(node: &NodeHandle) -> Result<()> {
    let deadline = clock::now() + TIMEOUT;
    while !node.is_connected() {
        before(deadline, "a connection to NATS")?;
        sys::sleep(Duration::from_millis(10));
    }
    Ok(())
}
