//! The program, as far as it is the same on each host that has one: `demo` and `node`.

mod demo;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::here::program as host;
use super::here::{clock, Node, NodeBuilder, NodeEvent, NodeHandle, Stopped};
use crate::agent::AgentId;
use crate::cli::{Command, HELP, NODE_HELP, VERSION};
use crate::config::{ConfigFile, LoadedConfig, NodeConfig, NodeFlags, Sources};
use crate::error::{Error, Result};
use crate::message::{AgentStatus, NodeSummary};

/// The program's entry. Its exit status is in `--help`; under `lunatic run` it is 0 whatever this
/// returns, and what counts is the last line.
pub(in crate::host) fn main() -> ExitCode {
    // A panic here would end everything without a last line.
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
        Ok(Command::Node { check_config, json, flags }) => {
            node(Node::builder(), &flags, check_config, json)
        }
        Ok(Command::Bench { names, flags, .. }) => {
            with_config(&flags, |config| host::bench(config, &names))
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
        Err(Failure::Forced) => ExitCode::from(3),
    }
}

enum Failure {
    /// What the user said makes no sense.
    Usage(String),
    /// It did not work.
    Failed(Error),
    /// A node ended as it was told, which its last line says; but agents had to be killed, or not
    /// everything that was published has reached the server.
    Forced,
}

fn with_config(
    flags: &NodeFlags,
    run: impl FnOnce(&NodeConfig) -> Result<()>,
) -> Result<(), Failure> {
    let loaded = load(flags).map_err(Failure::Usage)?;
    run(&loaded.config).map_err(Failure::Failed)
}

/// The config from the file, the environment and the flags.
pub(super) fn load(flags: &NodeFlags) -> Result<LoadedConfig, String> {
    let text = flags.config.as_deref().map(read_file).transpose()?;
    let file = text.as_ref().map(|(name, text)| ConfigFile { name, text });
    let env = |name: &str| std::env::var(name).ok();
    let sources = Sources { file, env: &env, flags, nats: host::NATS };
    NodeConfig::load(sources, clock::random()).map_err(|error| error.to_string())
}

/// The file's name, and what is in it: one byte more than it may have, if it has.
fn read_file(path: &Path) -> Result<(String, String), String> {
    let name = path.to_string_lossy().into_owned();
    let mut bytes = Vec::new();
    let most = ConfigFile::MAX_BYTES as u64 + 1;
    if let Err(error) = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        return Err(format!("--config {name:?}: {error}{}; --help tells more", host::ABOUT_FILES));
    }
    // One that is too large may be cut within a character, and is refused for its size.
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.as_bytes().len() as u64 == most => {
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }
        Err(_) => return Err(format!("--config {name:?}: it is not UTF-8; --help tells more")),
    };
    Ok((name, text))
}

/// `node`: checks everything, then runs, or only tells what would run.
fn node(
    builder: NodeBuilder,
    flags: &NodeFlags,
    check_config: bool,
    json: bool,
) -> Result<(), Failure> {
    let loaded = load(flags).map_err(Failure::Usage)?;
    let types = builder.agent_types();
    loaded.check_types(&types).map_err(|error| Failure::Usage(error.to_string()))?;
    if !check_config {
        let stopped = serve(builder, &loaded.config, json).map_err(Failure::Failed)?;
        return if stopped.killed == 0 && stopped.flushed { Ok(()) } else { Err(Failure::Forced) };
    }
    let agents = loaded.config.agents.len();
    if json {
        println!("{}", loaded.report_json());
        println!("{}", json!({ "type": "result", "ok": true, "agents": agents }));
    } else {
        print!("{}", loaded.report());
        println!("result: ok agents={agents}");
    }
    Ok(())
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
    /// A whole `main` for a program with agent types of its own: a node as its command line, the
    /// environment and a file configure it (see [`NODE_HELP`]), until it is told to stop.
    ///
    /// ```sh
    /// lunatic run mine.wasm -- --config mine.toml
    /// ```
    ///
    /// On the native host it starts its own runtime, and ends on SIGINT and SIGTERM as well; a second
    /// one ends it at once.
    ///
    /// An error is returned for `main` to show, and told in the last line on standard output, since
    /// `lunatic run` exits with 0 whatever `main` returns.
    pub fn run(self) -> Result<()> {
        let done = match Command::parse_node(std::env::args_os().skip(1)) {
            Ok(Command::Node { check_config, json, flags }) => {
                node(self, &flags, check_config, json)
            }
            Ok(Command::Version) => {
                println!("{VERSION}");
                Ok(())
            }
            // There are no other commands there.
            Ok(_) => {
                print!("{NODE_HELP}");
                Ok(())
            }
            Err(error) => Err(Failure::Usage(error.to_string())),
        };
        let error = match done {
            // Its last line says how it ended.
            Ok(()) | Err(Failure::Forced) => return Ok(()),
            Err(Failure::Usage(text)) => Error::Node(text),
            Err(Failure::Failed(error)) => error,
        };
        println!("result: failed {}", one_line(&error.to_string()));
        Err(error)
    }
}

/// `node`: runs until it is told to stop.
fn serve(builder: NodeBuilder, config: &NodeConfig, json: bool) -> Result<Stopped> {
    let mut node = builder.start(config)?;
    host::stop_on_signals(&node, config);
    announce(&node, config, json);
    let stopped = wait_for_the_end(&mut node).and_then(|grace| node.shutdown(grace))?;
    println!("{}", result_line(&stopped, json));
    Ok(stopped)
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
