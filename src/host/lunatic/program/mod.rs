//! The program on Lunatic: `demo`, `node`, `bench`.

mod bench;
mod demo;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::clock;
use super::node::{Node, NodeBuilder, NodeEvent, NodeHandle, Stopped};
use crate::agent::AgentId;
use crate::cli::{Command, HELP, VERSION};
use crate::config::{NodeConfig, NodeFlags};
use crate::error::{Error, Result};
use crate::message::{AgentStatus, NodeSummary};

/// The program's entry. `lunatic run` says 0 whatever this returns: what counts is the last line.
pub fn main() -> ExitCode {
    // A panic here would end everything with a trap and the runtime's own words.
    let done = match Command::parse(std::env::args_os().skip(1)) {
        Err(error) => return wrong_usage(&error.to_string()),
        Ok(Command::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("{VERSION}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Demo { paths, workers, json, flags }) => {
            with_config(&flags, |config| demo::run(config, paths, workers, json))
        }
        Ok(Command::Node { json, flags }) => {
            with_config(&flags, |config| serve(Node::builder(), config, json))
        }
        Ok(Command::Bench { names, flags, .. }) => {
            with_config(&flags, |config| bench::run(config, &names))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => wrong_usage(&text),
        Err(Failure::Failed(error)) => {
            eprintln!("error: {error}");
            println!("result: failed {}", one_line(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    /// What the user said makes no sense.
    Usage(String),
    /// It did not work.
    Failed(Error),
}

fn with_config(
    flags: &NodeFlags,
    run: impl FnOnce(&NodeConfig) -> Result<()>,
) -> Result<(), Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let config = NodeConfig::load(&env, flags, clock::random())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    run(&config).map_err(Failure::Failed)
}

fn wrong_usage(text: &str) -> ExitCode {
    eprintln!("error: {text}");
    println!("result: failed {}", one_line(text));
    ExitCode::from(2)
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

impl NodeBuilder {
    /// A whole `main` for a program with agent types of its own: a node as the environment
    /// configures it (see [`HELP`]), until it is told to stop.
    pub fn run(self) -> Result<()> {
        let env = |name: &str| std::env::var(name).ok();
        let config = NodeConfig::load(&env, &NodeFlags::default(), clock::random())
            .map_err(|error| Error::Node(error.to_string()))?;
        serve(self, &config, false)
    }
}

/// `node`: runs until it is told to stop.
fn serve(builder: NodeBuilder, config: &NodeConfig, json: bool) -> Result<()> {
    let mut node = builder.start(config)?;
    announce(&node, config, json);
    let stopped = wait_for_the_end(&mut node).and_then(|grace| node.shutdown(grace))?;
    println!("{}", result_line(&stopped, json));
    Ok(())
}

/// The last line of a node that ended as it was told; those that had to be killed are named.
fn result_line(stopped: &Stopped, json: bool) -> String {
    let Stopped { stopped, killed, killed_agents, flushed } = stopped;
    if json {
        return json!({ "type": "result", "ok": true, "stopped": stopped, "killed": killed,
            "killed_agents": killed_agents, "flushed": flushed })
        .to_string();
    }
    let mut line = format!("result: ok stopped={stopped} killed={killed} flushed={flushed}");
    if !killed_agents.is_empty() {
        let names: Vec<&str> = killed_agents.iter().map(AgentId::as_str).collect();
        line.push_str(" killed_agents=");
        line.push_str(&names.join(","));
        if *killed > names.len() as u64 {
            line.push_str(",...");
        }
    }
    line
}

fn announce(node: &NodeHandle, config: &NodeConfig, json: bool) {
    let nats = config.nats.as_ref().map(ToString::to_string);
    if json {
        println!(
            "{}",
            json!({ "type": "ready", "node_id": node.node_id(), "nats": nats, "max_agents": config.max_agents, "version": env!("CARGO_PKG_VERSION") })
        );
        return;
    }
    let (id, max_agents) = (node.node_id(), config.max_agents);
    let Some(nats) = nats else {
        return println!("ready: node={id} max_agents={max_agents} nats=none: it works locally");
    };
    println!("ready: node={id} max_agents={max_agents} nats={nats}");
    println!("try:   nats req agent.command '{{\"Status\":{{}}}}'");
    println!("stop:  nats req system.control.{} '{{\"Shutdown\":{{}}}}'", node.node_id());
}

/// Waits until the node is told to stop, and says how long its agents have.
fn wait_for_the_end(node: &mut NodeHandle) -> Result<Duration> {
    /// How often a node that is being drained looks whether an agent is left.
    const LOOK: Duration = Duration::from_millis(200);
    let mut look = None;
    loop {
        match node.next(look) {
            Some(NodeEvent::ShutdownAsked { grace }) => return Ok(grace),
            Some(NodeEvent::DrainAsked) => {
                log::info!("node: it takes no new agents, and ends with the last one");
                look = Some(LOOK);
            }
            Some(NodeEvent::GaveUp { part }) => {
                return Err(Error::Node(format!("{part} died too often; the node is down")));
            }
            Some(NodeEvent::Answer { .. } | NodeEvent::Event { .. }) => {}
            // Said again each time, since a supervisor that was restarted does not know of it.
            None => match node.drain().and_then(|()| node.status()) {
                Ok(status) if all_ended(&status) => return Ok(Duration::ZERO),
                Ok(_) => {}
                // It is on its way back; then one looks again.
                Err(error) => log::warn!("node: it cannot be seen what is left: {error}"),
            },
        }
    }
}

/// Whether no agent is left but such as have failed, which will not end by themselves.
fn all_ended(node: &NodeSummary) -> bool {
    node.by_status.keys().all(|&status| status == AgentStatus::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_names_those_that_were_killed() {
        let killed_agents = vec![AgentId("a".to_owned()), AgentId("b".to_owned())];
        let mut stopped = Stopped { stopped: 3, killed: 2, killed_agents, flushed: true };
        let line = "result: ok stopped=3 killed=2 flushed=true killed_agents=a,b";
        assert_eq!(result_line(&stopped, false), line);
        stopped.killed = 101;
        assert!(
            result_line(&stopped, false).ends_with("killed=101 flushed=true killed_agents=a,b,...")
        );
        let parsed: serde_json::Value =
            serde_json::from_str(&result_line(&stopped, true)).expect("JSON");
        assert_eq!(parsed["killed_agents"], json!(["a", "b"]));
        assert_eq!(
            result_line(&Stopped::default(), false),
            "result: ok stopped=0 killed=0 flushed=false"
        );
    }
}
