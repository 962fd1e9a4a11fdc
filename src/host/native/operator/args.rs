//! The operator's command line.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde_json::{json, Map, Value};

use super::failure::Failure;
use super::paint::When;
use crate::agent::AgentId;
use crate::message::AgentCommand;

/// What operators say to nodes.
#[derive(Debug, Parser)]
#[command(
    name = "rust-wasm-lunatic-nats",
    bin_name = "rust-wasm-lunatic-nats",
    version,
    about = "Supervised, sandboxed agents on NATS: what operators say to nodes, of any host",
    after_help = EXIT_STATUS,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub(super) struct Operator {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Operation,
}

/// The exit statuses as the help has them; [`super::failure::Exit`] has the same.
const EXIT_STATUS: &str = "\
Exit status: 0 it went well; 1 a node or an agent answered with an error; 2 the command line makes \
no sense; 3 no NATS server, or it does not let us in; 4 no node answers, or none has the agent; \
5 no answer in time.";

/// What every command takes.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Common {
    /// Where NATS is, or several servers of one cluster [default: NATS_URL, or else
    /// nats://localhost:4222]
    #[arg(long, global = true, value_name = "URL[,URL...]", help_heading = COMMON)]
    pub(super) nats: Option<String>,
    /// How long to wait for an answer, in ms [default: 5000, and 35000 for send]
    #[arg(long, global = true, value_name = "MS", help_heading = COMMON,
        value_parser = clap::value_parser!(u64).range(1..=DAY_MS))]
    pub(super) timeout_ms: Option<u64>,
    /// How long to wait for one more node after the last one that answered, in ms
    #[arg(long, global = true, value_name = "MS", default_value_t = 300, help_heading = COMMON,
        value_parser = clap::value_parser!(u64).range(1..=DAY_MS))]
    pub(super) gather_ms: u64,
    /// Print JSON, for programs: one document, or with watch and top one a line
    #[arg(long, global = true, help_heading = COMMON)]
    pub(super) json: bool,
    /// When to use colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = When::Auto,
        help_heading = COMMON)]
    pub(super) color: When,
}

const COMMON: &str = "Options of every command";
const DAY_MS: u64 = 86_400_000;

impl Common {
    const TIMEOUT: Duration = Duration::from_secs(5);

    /// How long to wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout_ms.map_or(Self::TIMEOUT, Duration::from_millis)
    }

    /// How long to wait for one more node.
    pub(super) fn gather(&self) -> Duration {
        Duration::from_millis(self.gather_ms)
    }
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(super) enum Operation {
    /// Show the nodes, or one agent
    #[command(after_help = EXIT_STATUS)]
    Status(Status),
    /// List agents
    #[command(after_help = EXIT_STATUS)]
    Agents(Agents),
    /// Start an agent
    #[command(after_help = EXIT_STATUS)]
    Spawn(Spawn),
    /// End agents for good
    #[command(after_help = EXIT_STATUS)]
    Stop(Stop),
    /// Send a message to an agent and show its answer
    #[command(after_help = EXIT_STATUS)]
    Send(Send),
    /// Show what happens, as it happens
    #[command(after_help = EXIT_STATUS)]
    Watch(Watch),
    /// Show nodes and agents in a table that keeps itself up to date
    #[command(after_help = EXIT_STATUS)]
    Top(Top),
    /// Print a script that completes these commands in a shell
    Completions(Completions),
}

/// Of `status`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Status {
    /// The agent; without it, the nodes
    #[arg(value_parser = agent_id)]
    pub(super) agent: Option<AgentId>,
    /// Only this node
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(super) node: Option<AgentId>,
}

/// Of `agents`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Agents {
    /// Only those of this node
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(super) node: Option<AgentId>,
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) agent_type: Option<String>,
    /// Only those in this status
    #[arg(long, value_enum, ignore_case = true)]
    pub(super) status: Option<Shown>,
    /// The most agents to show, 1 to 100000
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) limit: u32,
}

/// The statuses of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shown {
    Created,
    Starting,
    Running,
    Stopping,
    Restarting,
    Terminated,
    Failed,
}

/// Of `spawn`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Spawn {
    /// The type: echo, state, text, chaos, or one that the node's program registers
    #[arg(value_name = "TYPE")]
    pub(super) agent_type: String,
    /// Its id [default: one is made up]
    #[arg(long, value_parser = agent_id)]
    pub(super) id: Option<AgentId>,
    /// On this node [default: any]
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(super) node: Option<AgentId>,
    /// The most memory that it can have, in MiB, 1 to 4096 [node's default: 64]
    #[arg(long, value_name = "MIB")]
    pub(super) max_memory_mb: Option<u32>,
    /// The fuel for its whole life; 1 is about 100,000 instructions [node's default: no limit]
    #[arg(long, value_name = "N")]
    pub(super) max_fuel: Option<u64>,
    /// How long it may go without an answer to its supervisor, in ms [node's default: 30000]
    #[arg(long, value_name = "MS")]
    pub(super) stuck_after_ms: Option<u64>,
    /// When it is started again [node's default: permanent]
    #[arg(long, value_enum)]
    pub(super) restart: Option<Restart>,
    /// Where it keeps its state [node's default: memory]
    #[arg(long, value_enum)]
    pub(super) state: Option<State>,
    /// NATS does not reach it, nor it NATS
    #[arg(long)]
    pub(super) no_nats: bool,
    /// What it says that it can do; can be given several times
    #[arg(long = "capability", value_name = "TEXT")]
    pub(super) capabilities: Vec<String>,
    /// Whatever its type wants to know: a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    pub(super) args: Option<Map<String, Value>>,
}

/// When an agent is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Restart {
    /// Always
    Permanent,
    /// If it did not end normally
    Transient,
    /// Never
    Temporary,
}

/// Where an agent keeps its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    /// In its own memory: gone with it
    Memory,
    /// In files of its node: there again in its next life
    File,
}

impl Spawn {
    /// The command for the node. What is not said is not in it, so that the node's defaults hold.
    ///
    /// # Errors
    /// What the node would refuse for its value.
    pub(super) fn command(&self) -> Result<Value, Failure> {
        let mut config = json!({ "agent_type": self.agent_type });
        let mut set = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                config[field] = value;
            }
        };
        set("id", self.id.as_ref().map(|id| id.as_str().into()));
        set("max_memory_mb", self.max_memory_mb.map(Value::from));
        set("max_fuel", self.max_fuel.map(Value::from));
        set("timeout_ms", self.stuck_after_ms.map(Value::from));
        set("restart", self.restart.map(|restart| format!("{restart:?}").into()));
        set(
            "memory_backend_type",
            self.state.map(|state| match state {
                State::Memory => "InMemory".into(),
                State::File => "File".into(),
            }),
        );
        set("nats_enabled", self.no_nats.then_some(false.into()));
        let named = !self.capabilities.is_empty();
        set("capabilities", named.then(|| self.capabilities.clone().into()));
        set("args", self.args.clone().map(Value::Object));
        let command = json!({"Spawn": {"config": config}});
        match AgentCommand::try_from(command.clone()) {
            Ok(_) => Ok(command),
            Err(error) => Err(Failure::usage(error.message)),
        }
    }
}

/// Of `stop`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Stop {
    /// The agents
    #[arg(required = true, num_args = 1..=1000, value_name = "AGENT", value_parser = agent_id)]
    pub(super) agents: Vec<AgentId>,
    /// Only on this node
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(super) node: Option<AgentId>,
}

/// Of `send`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Send {
    /// The agent
    #[arg(value_parser = agent_id)]
    pub(super) agent: AgentId,
    /// What to say: JSON; - reads it from standard input
    #[arg(allow_hyphen_values = true)]
    pub(super) payload: String,
    /// It is a text, not JSON
    #[arg(long)]
    pub(super) text: bool,
    /// The one on this node [default: the nodes find out who has it]
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(super) node: Option<AgentId>,
}

impl Send {
    /// How long to wait, if nothing is said: an agent has 30 s for an answer.
    const TIMEOUT: Duration = Duration::from_secs(35);

    /// The largest payload, in bytes: what a node takes.
    pub(super) const MAX_PAYLOAD: usize = crate::message::DEFAULT_MAX_BODY_BYTES;

    /// How long to wait for the answer.
    pub(super) fn timeout(common: &Common) -> Duration {
        common.timeout_ms.map_or(Self::TIMEOUT, Duration::from_millis)
    }

    /// The payload of these bytes.
    ///
    /// # Errors
    /// It is too large, not UTF-8, or not JSON.
    pub(super) fn value(&self, bytes: &[u8]) -> Result<Value, Failure> {
        let most = Self::MAX_PAYLOAD;
        if bytes.len() > most {
            return Err(Failure::usage(format!("the payload has more than {most} bytes")));
        }
        if self.text {
            let text = std::str::from_utf8(bytes);
            let text = text.map_err(|_| Failure::usage("the payload is not UTF-8"))?;
            return Ok(text.into());
        }
        serde_json::from_slice(bytes).map_err(|error| {
            let text = "sends it as a text, and '\"…\"' is a text in JSON";
            Failure::usage(format!("the payload is not JSON ({error}); --text {text}"))
        })
    }
}

/// Of `watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(super) struct Watch {
    /// Only what is about this agent; can be given several times
    #[arg(long = "agent", value_name = "ID", value_parser = agent_id)]
    pub(super) agents: Vec<AgentId>,
    /// Only what this node says of supervision; an event of an agent (spawned, state, terminated,
    /// error) does not say on which node it was, and is left out
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(super) node: Option<AgentId>,
    /// Only these kinds, with commas between them or given several times
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',')]
    pub(super) only: Vec<Kind>,
    /// All but these kinds
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',', conflicts_with = "only")]
    pub(super) except: Vec<Kind>,
    /// Only what is at least so bad; most events are not bad at all
    #[arg(long, value_enum)]
    pub(super) severity: Option<Severity>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// End after so many ms
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=DAY_MS))]
    pub(super) for_ms: Option<u64>,
    /// The most lines for people in a second, 1 to 100000; what is beyond is counted. JSON has no
    /// such limit
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rate: u32,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// An agent failed
    Failure,
    /// Its replacement runs
    Recovery,
    /// How an agent does
    Health,
    /// A supervisor started, restarted or stopped a child, or gave up
    Lifecycle,
    /// A supervisor handed on to the one above it
    Escalation,
    /// What failures have in common
    Pattern,
    /// What a person should look at
    Alert,
    /// An agent runs for the first time
    Spawned,
    /// Its status changed
    State,
    /// It ended for good
    Terminated,
    /// Its handler returned an error
    Error,
    /// Whatever else comes
    Other,
}

/// How bad an event is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// Of `top`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Top {
    /// Only this node
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub(super) node: Option<AgentId>,
    /// How often the nodes are asked, in ms, 100 to 60000
    #[arg(long, value_name = "MS", default_value_t = 1000,
        value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub(super) interval_ms: u64,
    /// The most agents of a node that are asked for, 1 to 10000; those with the first ids
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) limit: u32,
    /// The column that the agents are sorted by
    #[arg(long, value_enum, default_value_t = Sort::Messages)]
    pub(super) sort: Sort,
    /// End after so many snapshots; only with --json
    #[arg(long, value_name = "N", requires = "json", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
}

/// The columns that the agents of `top` can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// The id
    Id,
    /// The status, the worst first
    Status,
    /// Restarts, the most first
    Restarts,
    /// Messages per second, the most first
    Messages,
    /// Latency, the longest first
    Latency,
    /// Memory, the most first
    Memory,
}

/// Of `completions`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

impl Operator {
    /// Whether these words, which are those behind the program's name, are for the operator's commands.
    /// The command is the first word that is not a flag of every command, nor the value of one.
    pub(super) fn is_meant(args: &[OsString]) -> bool {
        let operator = Self::command();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(word) = arg.to_str() else { return false };
            let Some(flag) = word.strip_prefix("--") else {
                return operator.find_subcommand(word).is_some();
            };
            let name = flag.split_once('=').map_or(flag, |(name, _)| name);
            let known = operator.get_arguments().find(|known| known.get_long() == Some(name));
            let Some(known) = known else { return false };
            if known.get_action().takes_values() && !flag.contains('=') && args.next().is_none() {
                return false;
            }
        }
        false
    }

    /// Whether these words ask for the help of the whole program: `--help`, `-h` or `help`, first.
    pub(super) fn is_help(args: &[OsString]) -> bool {
        let first = args.first().map(OsString::as_os_str).and_then(OsStr::to_str);
        matches!(first, Some("-h" | "--help" | "help"))
    }

    /// The commands with what they do, for the help of the whole program.
    pub(super) fn commands() -> Vec<(String, String)> {
        let commands = Self::command();
        let about = |command: &clap::Command| command.get_about().map(ToString::to_string);
        let listed = commands.get_subcommands();
        listed.map(|one| (one.get_name().to_owned(), about(one).unwrap_or_default())).collect()
    }
}

fn agent_id(text: &str) -> Result<AgentId, String> {
    AgentId::parse(text).map_err(|error| error.to_string())
}

fn node_id(text: &str) -> Result<AgentId, String> {
    if text == "all" {
        return Err("\"all\" is not a node id: agent.command.all is for all of them".to_owned());
    }
    // The rule of an agent's id, in other words.
    AgentId::parse(text)
        .map_err(|error| error.to_string().replace("not an agent id", "not a node id"))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("it is JSON, and not an object: {…}".to_owned()),
        Err(error) => Err(format!("it is not JSON: {error}")),
    }
}

#[cfg(test)]
mod tests;
