//! What the program is told on its command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::Arg;
use thiserror::Error;

use crate::config::{parse_flag, parse_number, InvalidSetting, NatsFlag, NodeFlags};

/// What the program is told to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Count the words of files with agents some of which are made to fail.
    Demo {
        /// The files and directories.
        paths: Vec<PathBuf>,
        /// How many worker agents, 1 to [`Command::MAX_WORKERS`].
        workers: u32,
        /// Whether to print JSON.
        json: bool,
        /// How the node is set up.
        flags: NodeFlags,
    },
    /// Run a node until it is told to stop.
    Node {
        /// Whether to only print what would run.
        check_config: bool,
        /// Whether to print JSON.
        json: bool,
        /// How the node is set up.
        flags: NodeFlags,
    },
    /// Run benchmarks.
    Bench {
        /// Which ones; all of them if empty.
        names: Vec<String>,
        /// Whether to print JSON.
        json: bool,
        /// How the node is set up.
        flags: NodeFlags,
    },
    /// Print [`HELP`].
    Help,
    /// Print [`VERSION`].
    Version,
}

/// A command line that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidUsage {
    /// The first word is no command.
    #[error("{word:?} is not a command: demo, node or bench; --help tells more")]
    UnknownCommand {
        /// The word.
        word: String,
    },
    /// There is no such flag.
    #[error("there is no flag {flag}; --help lists them")]
    UnknownFlag {
        /// The flag.
        flag: String,
    },
    /// A flag belongs to another command.
    #[error("{flag} has no meaning for {command}; --help tells more")]
    WrongCommand {
        /// The flag.
        flag: &'static str,
        /// The command.
        command: &'static str,
    },
    /// A flag stands without its value.
    #[error("{flag} needs a value, as in {flag} {example}; --help tells more")]
    MissingValue {
        /// The flag.
        flag: &'static str,
        /// What it could be.
        example: &'static str,
    },
    /// A flag that takes no value has one.
    #[error("{flag} takes no value, and was given {value:?}; --help tells more")]
    ExtraValue {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
    },
    /// A word that nothing is known about.
    #[error("{command} takes no words, and was given {word:?}; --help tells more")]
    ExtraWord {
        /// The command.
        command: &'static str,
        /// The word.
        word: String,
    },
    /// A word that has to be text is not.
    #[error("{what} is not UTF-8; --help tells more")]
    NotText {
        /// The flag, or what the word is.
        what: &'static str,
    },
    /// The value of a flag is not allowed.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
}

/// The program's name and version.
pub const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// What `--help` prints.
pub const HELP: &str = concat!(
    include_str!("cli/help.txt"),
    include_str!("cli/help_demo.txt"),
    include_str!("cli/help_node.txt"),
    include_str!("cli/help_end.txt")
);

/// What `--help` prints in a program with agent types of its own, which is a node and nothing else.
pub const NODE_HELP: &str = concat!(
    include_str!("cli/help_own.txt"),
    include_str!("cli/help_node.txt"),
    include_str!("cli/help_end.txt")
);

impl Command {
    /// The most workers of the demo.
    pub const MAX_WORKERS: u32 = 1_000;

    /// The workers of the demo if nothing is said.
    pub const DEFAULT_WORKERS: u32 = 32;

    /// What `args` say, which are those behind the program's name.
    pub fn parse<I>(args: I) -> Result<Self, InvalidUsage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self::parse_with(args, Given::default())
    }

    /// The same for a program that is a node and nothing else: the word `node` may be left out.
    pub fn parse_node<I>(args: I) -> Result<Self, InvalidUsage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self::parse_with(args, Given { only_node: true, ..Given::default() })
    }

    fn parse_with<I>(args: I, mut given: Given) -> Result<Self, InvalidUsage>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next().map_err(refused)? {
            match arg {
                Arg::Short('h') | Arg::Long("help") => return Ok(Self::Help),
                Arg::Short('V') | Arg::Long("version") => return Ok(Self::Version),
                Arg::Value(word) if given.kind.is_none() => match word.to_str() {
                    Some("node") => given.kind = Some(Kind::Node),
                    Some("help") => return Ok(Self::Help),
                    Some("version") => return Ok(Self::Version),
                    _ if given.only_node => given.words.push(word),
                    Some("demo") => given.kind = Some(Kind::Demo),
                    Some("bench") => given.kind = Some(Kind::Bench),
                    _ => {
                        let word = word.to_string_lossy().into_owned();
                        return Err(InvalidUsage::UnknownCommand { word });
                    }
                },
                Arg::Value(word) => given.words.push(word),
                Arg::Long(name) => {
                    let name = name.to_owned();
                    given.take_flag(&name, &mut parser)?;
                }
                Arg::Short(_) => return Err(refused(arg.unexpected())),
            }
        }
        given.into_command()
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Demo,
    Node,
    Bench,
}

/// What was read so far.
#[derive(Default)]
struct Given {
    kind: Option<Kind>,
    words: Vec<OsString>,
    workers: Option<u32>,
    json: bool,
    check_config: bool,
    no_nats: bool,
    /// Whether there is no other command than `node`.
    only_node: bool,
    flags: NodeFlags,
}

impl Given {
    /// The flag `--name`, and its value if it has one.
    fn take_flag(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), InvalidUsage> {
        match name {
            "json" => self.json = true,
            "no-nats" => self.no_nats = true,
            "check-config" => self.check_config = true,
            "config" => {
                let path = value(parser, "--config", "node.toml")?;
                if path.is_empty() {
                    return Err(InvalidSetting::value("--config", "", "a TOML file").into());
                }
                self.flags.config = Some(path.into());
            }
            "nats" => {
                let urls = text_value(parser, "--nats", "ws://localhost:8080")?;
                let allowed = "a URL, or several with commas between them; --no-nats is for none";
                let at = parse_flag("nats.url", "--nats", &urls, |config| config.nats)?
                    .ok_or_else(|| InvalidSetting::value("--nats", &urls, allowed))?;
                self.flags.nats = Some(NatsFlag::At(at));
            }
            "node-id" => {
                let id = text_value(parser, "--node-id", "n1")?;
                let id = parse_flag("node_id", "--node-id", &id, |config| config.node_id)?;
                self.flags.node_id = Some(id);
            }
            "data-dir" => {
                let dir = value(parser, "--data-dir", "data")?;
                if dir.is_empty() {
                    return Err(InvalidSetting::value("--data-dir", "", "a directory").into());
                }
                self.flags.data_dir = Some(dir.into());
            }
            "max-agents" => {
                let number = text_value(parser, "--max-agents", "8000")?;
                let number =
                    parse_flag("max_agents", "--max-agents", &number, |config| config.max_agents)?;
                self.flags.max_agents = Some(number);
            }
            "log-level" => {
                let level = text_value(parser, "--log-level", "debug")?;
                let level =
                    parse_flag("log.level", "--log-level", &level, |config| config.log_level)?;
                self.flags.log_level = Some(level);
            }
            "log-format" => {
                let format = text_value(parser, "--log-format", "json")?;
                let format =
                    parse_flag("log.format", "--log-format", &format, |config| config.log_format)?;
                self.flags.log_format = Some(format);
            }
            "workers" => {
                let number = text_value(parser, "--workers", "32")?;
                let range = 1..=Command::MAX_WORKERS;
                self.workers = Some(parse_number("--workers", &number, range)?);
            }
            unknown => return Err(InvalidUsage::UnknownFlag { flag: format!("--{unknown}") }),
        }
        Ok(())
    }

    fn into_command(self) -> Result<Command, InvalidUsage> {
        let Self { kind, words, workers, json, check_config, no_nats, only_node, mut flags } = self;
        if no_nats {
            if flags.nats.is_some() {
                let (one, other) = ("--nats".to_owned(), "--no-nats".to_owned());
                return Err(InvalidSetting::Both { one, other }.into());
            }
            flags.nats = Some(NatsFlag::Off);
        }
        let no_workers = |command| match workers {
            Some(_) => Err(InvalidUsage::WrongCommand { flag: "--workers", command }),
            None => Ok(()),
        };
        let kind = kind.unwrap_or(if only_node { Kind::Node } else { Kind::Demo });
        // What a file says is for a node that stays.
        let no_file = |command| match (&flags.config, check_config) {
            (Some(_), _) => Err(InvalidUsage::WrongCommand { flag: "--config", command }),
            (None, true) => Err(InvalidUsage::WrongCommand { flag: "--check-config", command }),
            (None, false) => Ok(()),
        };
        match kind {
            Kind::Demo => no_file("demo")?,
            Kind::Bench => no_file("bench")?,
            Kind::Node => {}
        }
        match kind {
            Kind::Demo => Ok(Command::Demo {
                paths: words.into_iter().map(PathBuf::from).collect(),
                workers: demo_workers(workers, &flags)?,
                json,
                flags,
            }),
            Kind::Node => {
                no_workers("node")?;
                match words.first() {
                    None => Ok(Command::Node { check_config, json, flags }),
                    Some(word) => Err(InvalidUsage::ExtraWord {
                        command: "node",
                        word: word.to_string_lossy().into_owned(),
                    }),
                }
            }
            Kind::Bench => {
                no_workers("bench")?;
                Ok(Command::Bench {
                    names: words
                        .into_iter()
                        .map(|word| text("a benchmark's name", word))
                        .collect::<Result<_, _>>()?,
                    json,
                    flags,
                })
            }
        }
    }
}

/// The workers have to fit into the node; those by default are cut down to that.
fn demo_workers(given: Option<u32>, flags: &NodeFlags) -> Result<u32, InvalidSetting> {
    let most = flags.max_agents.unwrap_or(Command::MAX_WORKERS);
    match given {
        None => Ok(Command::DEFAULT_WORKERS.min(most)),
        Some(workers) if workers <= most => Ok(workers),
        Some(workers) => Err(InvalidSetting::value(
            "--workers",
            &workers.to_string(),
            format!("at most --max-agents, which is {most}"),
        )),
    }
}

/// The value of `flag`. What begins with `--` is one only behind a `=`, since it is far more often
/// the next flag.
fn value(
    parser: &mut lexopt::Parser,
    flag: &'static str,
    example: &'static str,
) -> Result<OsString, InvalidUsage> {
    if let Some(attached) = parser.optional_value() {
        return Ok(attached);
    }
    match parser.value() {
        Ok(value) if !value.as_encoded_bytes().starts_with(b"--") => Ok(value),
        _ => Err(InvalidUsage::MissingValue { flag, example }),
    }
}

/// A word as text. The error does not repeat it: it may have a password in it.
fn text(what: &'static str, word: OsString) -> Result<String, InvalidUsage> {
    word.into_string().map_err(|_| InvalidUsage::NotText { what })
}

/// The value of `flag`, which has to be text.
fn text_value(
    parser: &mut lexopt::Parser,
    flag: &'static str,
    example: &'static str,
) -> Result<String, InvalidUsage> {
    text(flag, value(parser, flag, example)?)
}

fn refused(error: lexopt::Error) -> InvalidUsage {
    match error {
        lexopt::Error::UnexpectedValue { option, value } => {
            InvalidUsage::ExtraValue { flag: option, value: value.to_string_lossy().into_owned() }
        }
        lexopt::Error::UnexpectedOption(flag) => InvalidUsage::UnknownFlag { flag },
        // The others come from methods that are not called here.
        other => InvalidUsage::UnknownFlag { flag: other.to_string() },
    }
}

#[cfg(test)]
mod tests;
