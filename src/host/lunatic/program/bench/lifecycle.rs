//! The lives of agents: their start, their restart, what one costs.

use std::time::Duration;

use serde_json::json;

use super::{
    before, builder, env_number, median, pairs, show_phase, spawn, spawn_bare, spawn_with_timeout,
    start_node, wait_until_connected, wait_until_measured, TIMEOUT,
};
use crate::agent::AgentId;
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::host::lunatic::clock;
use crate::host::lunatic::mail::{self, MainMail};
use crate::host::lunatic::names::{self, Lookup};
use crate::host::lunatic::sys::{self, Pid, Received};
use crate::host::lunatic::{Node, NodeEvent, NodeHandle};
use crate::message::Subject;

/// Starts a node, asks an agent, and says so: the end of what `scripts/bench start` measures.
pub(super) fn first_answer(config: &NodeConfig) -> Result<()> {
    let mut node = Node::builder().start(config)?;
    spawn(&mut node, "first", "echo")?;
    let answer = node.request(&AgentId("first".to_owned()), &json!("hello"), TIMEOUT)?;
    println!("{}", json!({ "answer": answer }));
    Ok(())
}

/// Agents started per second, until each has answered, against bare processes that do so.
pub(super) fn spawn_rate(config: &NodeConfig) -> Result<()> {
    const PROCESSES: usize = 500;
    let mut node = start_node(config)?;
    pairs(
        "spawn",
        "agents/s",
        "bare Lunatic processes that each answer once",
        &mut || {
            let started = clock::now();
            let ids = spawn_agents(&mut node, PROCESSES)?;
            let seconds = (clock::now() - started).as_secs_f64();
            stop_agents(&mut node, &ids)?;
            Ok(PROCESSES as f64 / seconds)
        },
        &mut || {
            let started = clock::now();
            let processes = spawn_answering(PROCESSES)?;
            let seconds = (clock::now() - started).as_secs_f64();
            kill_all(&processes)?;
            Ok(PROCESSES as f64 / seconds)
        },
    )
}

/// From the kill of an agent to the answer of its replacement, against the kill and respawn of a
/// bare process by the one that asks it; each value is the median over many.
pub(super) fn restart(config: &NodeConfig) -> Result<()> {
    let mut node = start_node(config)?;
    node.watch()?;
    pairs(
        "restart",
        "us",
        "a bare process, killed and spawned again by the process that asks it",
        &mut || Ok(median(restart_agents(&mut node, await_recovery)?)),
        &mut || {
            let times: Result<Vec<f64>> = (0..RESTARTED).map(|_| restart_bare()).collect();
            Ok(median(times?))
        },
    )
}

/// Fresh ones for each value, as an agent may restart only a few times in a short while.
const RESTARTED: usize = 100;

/// How it is found out that the replacement is there, of the agent with this id and that process.
type Await = fn(&mut NodeHandle, &AgentId, Pid) -> Result<()>;

/// How many µs each of so many agents took, one after the other.
fn restart_agents(node: &mut NodeHandle, wait: Await) -> Result<Vec<f64>> {
    let ids = spawn_agents(node, RESTARTED)?;
    let times: Result<Vec<f64>> = ids.iter().map(|id| restart_agent(node, id, wait)).collect();
    stop_agents(node, &ids)?;
    times
}

/// For `scripts/bench restart_vs_erlang`: of so many restarts that the slowest of a hundred can be
/// told. The event that tells of the replacement is waited for.
pub(super) fn restart_times_told(config: &NodeConfig) -> Result<()> {
    let mut node = start_node(config)?;
    node.watch()?;
    restart_times(&mut node, await_recovery)
}

/// The same, where the agent's name is looked up until it is that of another process.
pub(super) fn restart_times_polled(config: &NodeConfig) -> Result<()> {
    restart_times(&mut start_node(config)?, poll_for_replacement)
}

fn restart_times(node: &mut NodeHandle, wait: Await) -> Result<()> {
    // Once, not counted.
    restart_agents(node, wait)?;
    let (mut times, wanted) = (Vec::new(), env_number("BENCH_RESTARTS", 2_000) as usize);
    while times.len() < wanted {
        times.append(&mut restart_agents(node, wait)?);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times.get((times.len() as f64 * share) as usize);
    println!("{}", json!({ "median_us": at(0.5), "p99_us": at(0.99), "restarts": times.len() }));
    Ok(())
}

/// Replacements per second of agents that were all killed at once, with NATS if the config has one.
pub(super) fn restart_rate(config: &NodeConfig) -> Result<()> {
    const AGENTS: usize = 500;
    let mut node = builder().start(config)?;
    if config.nats.is_some() {
        wait_until_connected(&node)?;
    }
    node.watch()?;
    let mut rates = Vec::new();
    // The first is not counted.
    for _ in 0..=env_number("BENCH_ROUNDS", 4) {
        let ids = spawn_agents(&mut node, AGENTS)?;
        let processes: Result<Vec<Pid>> = ids.iter().map(process_of).collect();
        let killed = clock::now();
        processes?.into_iter().for_each(sys::kill);
        wait_for_recoveries(&mut node, AGENTS)?;
        rates.push(AGENTS as f64 / (clock::now() - killed).as_secs_f64());
        stop_agents(&mut node, &ids)?;
    }
    let rate = median(rates.split_off(1));
    println!("{}", json!({ "restarts_per_sec": rate }));
    Ok(())
}

fn wait_for_recoveries(node: &mut NodeHandle, mut missing: usize) -> Result<()> {
    while missing > 0 {
        match node.next(Some(TIMEOUT)) {
            Some(NodeEvent::Event { subject, .. })
                if subject.starts_with("supervision.recovery.") =>
            {
                missing -= 1;
            }
            Some(_) => {}
            None => return Err(Error::Node(format!("{missing} agents were not restarted"))),
        }
    }
    Ok(())
}

/// Shows `scripts/bench` a node with as many agents as there may be, while they only have their
/// health checked, every 10 s; and says what becomes of one more.
pub(super) fn all_agents(config: &NodeConfig) -> Result<()> {
    /// A ping goes out in half of that.
    const TIMEOUT_MS: u64 = 20_000;
    let most = env_number("BENCH_AGENTS", NodeConfig::MAX_AGENTS.into()) as u32;
    let config = NodeConfig { nats: None, max_agents: most, ..config.clone() };
    let mut node = builder().start(&config)?;
    show_phase("before", 0);
    wait_until_measured("before")?;
    let mut ids = Vec::new();
    for number in 0..most {
        let id = AgentId(format!("bench-{number}"));
        spawn_with_timeout(&mut node, id.as_str(), "echo", TIMEOUT_MS)?;
        ids.push(id);
        if ids.len() % 1_000 == 0 {
            eprintln!("{} agents run", ids.len());
        }
    }
    ask_all(&mut node, &ids)?;
    show_phase("after", most.into());
    wait_until_measured("after")?;
    // All are still there, and none is a replacement.
    ask_all(&mut node, &ids)?;
    let restarts = node.status()?.counters.restarts;
    match spawn(&mut node, "one-more", "echo") {
        Ok(()) => Err(Error::Node(format!("an agent beyond the {most} was started"))),
        Err(error) => {
            println!("{}", json!({ "refused": error.to_string(), "restarts": restarts }));
            Ok(())
        }
    }
}

/// Shows `scripts/bench` a node before and after it has started agents that each answered.
pub(super) fn memory_agents(config: &NodeConfig) -> Result<()> {
    let mut node = start_node(config)?;
    show_memory(|processes| spawn_agents(&mut node, processes).map(drop))
}

/// The same with bare processes.
pub(super) fn memory_bare(_: &NodeConfig) -> Result<()> {
    show_memory(|processes| spawn_answering(processes).map(drop))
}

/// Shows the runtime's process before and after something was started.
fn show_memory(grow: impl FnOnce(usize) -> Result<()>) -> Result<()> {
    const PROCESSES: usize = 5_000;
    show_phase("before", 0);
    wait_until_measured("before")?;
    grow(PROCESSES)?;
    show_phase("after", PROCESSES as u64);
    wait_until_measured("after")
}

/// Starts agents, asks each, and waits for all answers.
fn spawn_agents(node: &mut NodeHandle, agents: usize) -> Result<Vec<AgentId>> {
    let mut ids = Vec::new();
    for number in 0..agents {
        let id = AgentId(format!("bench-{number}"));
        spawn(node, id.as_str(), "echo")?;
        node.ask(&id, &json!(1))?;
        ids.push(id);
    }
    wait_for_answers(node, agents)?;
    Ok(ids)
}

fn ask_all(node: &mut NodeHandle, ids: &[AgentId]) -> Result<()> {
    for id in ids {
        node.ask(id, &json!(1))?;
    }
    wait_for_answers(node, ids.len())
}

fn wait_for_answers(node: &mut NodeHandle, mut waiting: usize) -> Result<()> {
    while waiting > 0 {
        match node.next(Some(TIMEOUT)) {
            Some(NodeEvent::Answer { answer, .. }) => {
                answer.map_err(Error::Node)?;
                waiting -= 1;
            }
            Some(_) => {}
            None => return Err(Error::Node(format!("{waiting} agents did not answer"))),
        }
    }
    Ok(())
}

fn stop_agents(node: &mut NodeHandle, ids: &[AgentId]) -> Result<()> {
    let all = node.status()?.agents;
    for id in ids {
        node.stop(id)?;
    }
    let deadline = clock::now() + TIMEOUT;
    while node.status()?.agents > all.saturating_sub(ids.len() as u64) {
        before(deadline, "the agents to stop")?;
        sys::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Kills the agent's process, and says after how many µs its replacement has answered.
fn restart_agent(node: &mut NodeHandle, id: &AgentId, wait: Await) -> Result<f64> {
    let process = process_of(id)?;
    let killed = clock::now();
    sys::kill(process);
    wait(node, id, process)?;
    node.request(id, &json!(1), TIMEOUT)?;
    Ok((clock::now() - killed).as_secs_f64() * 1e6)
}

/// Waits for the event that tells of the replacement.
fn await_recovery(_: &mut NodeHandle, id: &AgentId, _: Pid) -> Result<()> {
    let recovery = Subject::supervision_recovery(id);
    let mut buffer = Vec::new();
    loop {
        if sys::receive(&[], Some(TIMEOUT)) != Received::Message {
            return Err(Error::Node(format!("agent {id} was not restarted")));
        }
        sys::read_message(&mut buffer);
        match postcard::from_bytes(&buffer) {
            Ok(MainMail::Event { subject, .. }) if subject == recovery => return Ok(()),
            _ => {}
        }
    }
}

/// Looks again and again. The process that is to die may have been put last on the thread that is
/// busy looking, so this measures itself, too.
fn poll_for_replacement(_: &mut NodeHandle, id: &AgentId, dead: Pid) -> Result<()> {
    let (name, deadline) = (names::agent(id.as_str()), clock::now() + TIMEOUT);
    loop {
        match names::look_up(&name) {
            Lookup::Runs(process) if process != dead => return Ok(()),
            _ => before(deadline, "an agent's replacement")?,
        }
    }
}

fn process_of(id: &AgentId) -> Result<Pid> {
    match names::look_up(&names::agent(id.as_str())) {
        Lookup::Runs(process) => Ok(process),
        _ => Err(Error::Node(format!("agent {id} does not run"))),
    }
}

/// The same for a bare process, whose death is noticed by its link.
fn restart_bare() -> Result<f64> {
    let link = mail::new_tag();
    let first = spawn_bare(Some(link), bare_answerer)?;
    ask_bare(first)?;
    let killed = clock::now();
    sys::kill(first);
    wait_for_death(link)?;
    let second = spawn_bare(Some(link), bare_answerer)?;
    ask_bare(second)?;
    let micros = (clock::now() - killed).as_secs_f64() * 1e6;
    sys::kill(second);
    wait_for_death(link)?;
    Ok(micros)
}

fn wait_for_death(link: i64) -> Result<()> {
    match sys::receive(&[link], Some(TIMEOUT)) {
        Received::LinkDied(_) => Ok(()),
        _ => Err(Error::Node("a bare process did not die".to_owned())),
    }
}

/// Starts bare processes, asks each, and waits for all answers.
fn spawn_answering(processes: usize) -> Result<Vec<Pid>> {
    let tag = mail::new_tag();
    let mut spawned = Vec::new();
    for _ in 0..processes {
        let process = spawn_bare(None, bare_answerer)?;
        sys::send(process, 0, &question(tag));
        spawned.push(process);
    }
    for _ in 0..processes {
        if sys::receive(&[tag], Some(TIMEOUT)) != Received::Message {
            return Err(Error::Node("a bare process did not answer".to_owned()));
        }
    }
    Ok(spawned)
}

/// Kills them and waits until they are gone, so that their end is no burden on what is measured next.
fn kill_all(processes: &[Pid]) -> Result<()> {
    processes.iter().copied().for_each(sys::kill);
    let deadline = clock::now() + TIMEOUT;
    while processes.iter().any(|&process| sys::exists(process)) {
        before(deadline, "the bare processes to end")?;
        sys::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn ask_bare(process: Pid) -> Result<()> {
    let tag = mail::new_tag();
    sys::send(process, 0, &question(tag));
    match sys::receive(&[tag], Some(TIMEOUT)) {
        Received::Message => Ok(()),
        _ => Err(Error::Node("a bare process did not answer".to_owned())),
    }
}

/// Who asks, and the tag of the answer.
fn question(tag: i64) -> [u8; 16] {
    let mut question = [0; 16];
    question[..8].copy_from_slice(&sys::this().0.to_le_bytes());
    question[8..].copy_from_slice(&tag.to_le_bytes());
    question
}

/// Answers each question.
fn bare_answerer() {
    let mut buffer = Vec::new();
    loop {
        sys::receive(&[], None);
        sys::read_message(&mut buffer);
        if let ([asker, tag], []) = buffer.as_chunks::<8>() {
            sys::send(Pid(u64::from_le_bytes(*asker)), i64::from_le_bytes(*tag), b"1");
        }
    }
}
