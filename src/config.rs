//! How a node is set up: defaults, then the environment, then flags.
//!
//! The environment comes in as a function, so that nothing here reads it.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use log::LevelFilter;
use thiserror::Error;

use crate::agent::AgentId;

/// How a node is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// The node's name, with the rule of an agent's. Default: `node-` and 8 random hex digits.
    pub node_id: AgentId,
    /// Where NATS is; none for a node without it. Default: `ws://localhost:8080`.
    pub nats: Option<NatsUrls>,
    /// What it shows to NATS. Default: nothing.
    pub nats_auth: NatsAuth,
    /// Where file-backed agents keep their files. Default: `data`.
    pub data_dir: PathBuf,
    /// The most agents that it runs, 1 to [`Self::MAX_AGENTS`]. Default: 8,000.
    pub max_agents: u32,
    /// What is logged. Default: `info`.
    pub log_level: LevelFilter,
    /// Whether supervision events are published. Default: true.
    pub supervision: bool,
}

/// The flags that stand over the environment; what is none was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFlags {
    /// `--nats` or `--no-nats`.
    pub nats: Option<NatsFlag>,
    /// `--node-id`.
    pub node_id: Option<AgentId>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--max-agents`.
    pub max_agents: Option<u32>,
}

/// What the flags say about NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsFlag {
    /// `--no-nats`.
    Off,
    /// `--nats URL`.
    At(NatsUrls),
}

/// What a node shows to NATS. What stands in a URL is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NatsAuth {
    /// Nothing.
    #[default]
    Anonymous,
    /// `NATS_TOKEN`.
    Token(Secret),
    /// `NATS_USER` and `NATS_PASSWORD`.
    User {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// Something that is never shown: `Debug` and `Display` say `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// The URLs of NATS servers as they were given, separated by commas; not parsed yet. As a user
/// name and a password can stand in them, `Debug` and `Display` leave those out.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrls(String);

/// A setting that is refused. None of these shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidSetting {
    /// A value that is not allowed.
    #[error("{name} is {value}, and must be {allowed}; --help tells more")]
    Value {
        /// The flag or variable.
        name: &'static str,
        /// What it is, quoted.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two settings that exclude each other.
    #[error("{one} and {other} are both set, and exclude each other; --help tells more")]
    Both {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A setting that is nothing without another.
    #[error("{one} is set without {missing}, and needs it; --help tells more")]
    Without {
        /// The one.
        one: &'static str,
        /// The one that is not set.
        missing: &'static str,
    },
}

impl InvalidSetting {
    pub(crate) fn value(name: &'static str, value: &str, allowed: impl Into<String>) -> Self {
        let mut shown: String = value.chars().take(40).collect();
        shown = if shown.len() < value.len() {
            format!("{shown:?}… ({} bytes)", value.len())
        } else {
            format!("{shown:?}")
        };
        Self::Value { name, value: shown, allowed: allowed.into() }
    }
}

impl NodeConfig {
    /// The most agents that a node can be told to run. `vm.max_map_count` is 65,530 by default
    /// and a Lunatic process takes 7 mappings, which is enough for about 9,400 processes; the
    /// node's own are among them.
    pub const MAX_AGENTS: u32 = 9_000;

    /// Where NATS is looked for by default.
    pub const DEFAULT_NATS: &'static str = "ws://localhost:8080";

    /// The defaults.
    pub fn new(node_id: AgentId) -> Self {
        Self {
            node_id,
            nats: Some(NatsUrls(Self::DEFAULT_NATS.to_owned())),
            nats_auth: NatsAuth::Anonymous,
            data_dir: PathBuf::from("data"),
            max_agents: 8_000,
            log_level: LevelFilter::Info,
            supervision: true,
        }
    }

    /// The defaults, the environment (`env` gives a variable's value) over them, and `flags` over
    /// both; `random` makes up a name if none is given.
    ///
    /// A variable that is set to nothing counts as not set, but for `NATS_WEBSOCKET_URL`, which
    /// then means no NATS. A variable that a flag stands over is not looked at.
    pub fn load(
        env: &dyn Fn(&str) -> Option<String>,
        flags: &NodeFlags,
        random: [u8; 4],
    ) -> Result<Self, InvalidSetting> {
        let set = |name| env(name).filter(|value| !value.is_empty());
        let node_id = match (&flags.node_id, set("NODE_ID")) {
            (Some(flag), _) => flag.clone(),
            (None, Some(id)) => parse_node_id("NODE_ID", &id)?,
            (None, None) => random_node_id(random),
        };
        let mut config = Self::new(node_id);
        match (&flags.nats, env("NATS_WEBSOCKET_URL")) {
            (Some(NatsFlag::Off), _) => config.nats = None,
            (Some(NatsFlag::At(urls)), _) => config.nats = Some(urls.clone()),
            (None, Some(urls)) => config.nats = NatsUrls::new(urls),
            (None, None) => {}
        }
        config.nats_auth = NatsAuth::load(&set)?;
        if let Some(dir) = &flags.data_dir {
            config.data_dir.clone_from(dir);
        }
        if let Some(max_agents) = flags.max_agents {
            config.max_agents = max_agents;
        }
        if let Some(directives) = set("RUST_LOG") {
            config.log_level = parse_log_level(&directives)?;
        }
        if let Some(switch) = set("ENABLE_SUPERVISION") {
            config.supervision = parse_switch("ENABLE_SUPERVISION", &switch)?;
        }
        Ok(config)
    }
}

impl NatsAuth {
    fn load(set: &dyn Fn(&'static str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let (token, user, password) = (set("NATS_TOKEN"), set("NATS_USER"), set("NATS_PASSWORD"));
        let both = |one, other| Err(InvalidSetting::Both { one, other });
        let without = |one, missing| Err(InvalidSetting::Without { one, missing });
        match (token, user, password) {
            (None, None, None) => Ok(Self::Anonymous),
            (Some(token), None, None) => Ok(Self::Token(Secret(token))),
            (Some(_), Some(_), _) => both("NATS_TOKEN", "NATS_USER"),
            (Some(_), None, Some(_)) => both("NATS_TOKEN", "NATS_PASSWORD"),
            (None, Some(user), Some(password)) => {
                Ok(Self::User { user, password: Secret(password) })
            }
            (None, Some(_), None) => without("NATS_USER", "NATS_PASSWORD"),
            (None, None, Some(_)) => without("NATS_PASSWORD", "NATS_USER"),
        }
    }
}

impl Secret {
    /// Hides `secret`.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// What it is: for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl NatsUrls {
    /// The URLs in `urls`; none if it is empty or blank.
    pub fn new(urls: impl Into<String>) -> Option<Self> {
        let urls = urls.into();
        (!urls.trim().is_empty()).then_some(Self(urls))
    }

    /// As they were given, with what is secret in them: for the one place that parses them.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NatsUrls {
    /// Leaves out whatever could be part of a password, which in a list is all up to the last one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((before, host)) = self.0.rsplit_once('@') else {
            return f.write_str(&self.0);
        };
        match before.split_once("://") {
            Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_lowercase()) => {
                write!(f, "{scheme}://***@{host}")
            }
            _ => write!(f, "***@{host}"),
        }
    }
}

impl fmt::Debug for NatsUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

fn random_node_id(random: [u8; 4]) -> AgentId {
    AgentId(format!("node-{:08x}", u32::from_be_bytes(random)))
}

/// A node's name from the setting `name`.
pub(crate) fn parse_node_id(name: &'static str, id: &str) -> Result<AgentId, InvalidSetting> {
    AgentId::parse(id).map_err(|_| {
        let allowed = format!("1 to {} characters of A-Z a-z 0-9 _ -", AgentId::MAX_LEN);
        InvalidSetting::value(name, id, allowed)
    })
}

/// A whole number from the setting `name`.
pub(crate) fn parse_number(
    name: &'static str,
    text: &str,
    range: RangeInclusive<u32>,
    why: &str,
) -> Result<u32, InvalidSetting> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(InvalidSetting::value(
            name,
            text,
            format!("a whole number from {} to {}{why}", range.start(), range.end()),
        )),
    }
}

fn parse_switch(name: &'static str, text: &str) -> Result<bool, InvalidSetting> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(InvalidSetting::value(name, text, "true or false")),
    }
}

/// The level that `RUST_LOG` has for this crate, else the one for everything; of several the
/// last. Levels of other crates and of single modules are checked and left to others.
fn parse_log_level(directives: &str) -> Result<LevelFilter, InvalidSetting> {
    let refused = || {
        InvalidSetting::value(
            "RUST_LOG",
            directives,
            "off, error, warn, info, debug or trace, or such levels for modules, as in \
             warn,rust_wasm_lunatic_nats=debug",
        )
    };
    let level = |text: &str| LevelFilter::from_str(text.trim()).map_err(|_| refused());
    let (mut bare, mut ours) = (None, None);
    for directive in directives.split(',').map(str::trim) {
        match directive.split_once('=') {
            None if directive.is_empty() => {}
            None if directive == CRATE => ours = Some(LevelFilter::Trace),
            None => bare = Some(level(directive)?),
            Some((module, text)) if module.trim() == CRATE => ours = Some(level(text)?),
            Some((_, text)) => drop(level(text)?),
        }
    }
    Ok(ours.or(bare).unwrap_or(LevelFilter::Info))
}

/// This crate in a `RUST_LOG`.
const CRATE: &str = env!("CARGO_CRATE_NAME");

#[cfg(test)]
mod tests;
