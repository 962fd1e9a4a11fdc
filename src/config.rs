//! How a node is set up: defaults, then a TOML file, then the environment, then flags.
//!
//! The environment comes in as a function and the file as its text, so that nothing here reads
//! either. What can be said in which source is one table, in `settings.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use log::LevelFilter;

use crate::agent::{AgentConfig, AgentId};
use crate::log_line::LogFormat;
use crate::message::Subject;
use crate::secret::Secret;
use crate::supervision::{AlertConfig, DetectionConfig, Now, Supervisor, SupervisorSpec};

mod agents;
mod error;
mod file;
mod nats;
mod report;
mod settings;
mod supervision;
mod supervisors;

pub use error::InvalidSetting;
pub use file::ConfigFile;
pub use nats::{NatsAuth, NatsClient, NatsFlag, NatsOptions, NatsUrls};
pub use supervision::SupervisionConfig;

pub(crate) use settings::{parse_flag, parse_number};

use agents::Declared;
use file::{Parsed, PER_TYPE};
use nats::Credentials;
use settings::{parse_switch, Raw, SETTINGS, UNSUPPORTED};

/// How a node is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// The node's name, with the rule of an agent's. Default: `node-` and 8 random hex digits.
    pub node_id: AgentId,
    /// Where NATS is; none for a node without it. Default: `ws://localhost:8080` for our own client,
    /// `nats://localhost:4222` for one over TCP.
    pub nats: Option<NatsUrls>,
    /// What it shows to NATS. Default: nothing.
    pub nats_auth: NatsAuth,
    /// The PEM file with the certificates of the CAs that a `wss://` server's own may come from,
    /// which is read anew for each connection; none for those that browsers know. Default: none.
    pub nats_ca: Option<PathBuf>,
    /// Headers of the WebSocket's upgrade request, which proxies ask for. Default: none.
    pub nats_headers: Vec<(String, Secret)>,
    /// How the connection to NATS behaves.
    pub nats_options: NatsOptions,
    /// Where file-backed agents keep their files. Default: `data`.
    pub data_dir: PathBuf,
    /// The most agents that it runs, 1 to [`Self::MAX_AGENTS`]. Default: 8,000.
    pub max_agents: u32,
    /// What is logged. Default: `info`.
    pub log_level: LevelFilter,
    /// How it is logged. Default: [`LogFormat::Text`].
    pub log_format: LogFormat,
    /// How its agents are supervised.
    pub supervision: SupervisionConfig,
    /// Which patterns are looked for in the events of supervision.
    pub detection: DetectionConfig,
    /// Which of them, and of the failures, are alerts.
    pub alerts: AlertConfig,
    /// The agents that are started with it, each with an id, and each restarted by itself.
    /// Default: none.
    pub agents: Vec<AgentConfig>,
    /// The declared trees that are started with it, before those. Default: none.
    pub supervisors: Vec<SupervisorSpec>,
}

/// The flags that stand over the environment; what is none was not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFlags {
    /// `--config`: the file, which the host reads.
    pub config: Option<PathBuf>,
    /// `--nats` or `--no-nats`.
    pub nats: Option<NatsFlag>,
    /// `--node-id`.
    pub node_id: Option<AgentId>,
    /// `--data-dir`.
    pub data_dir: Option<PathBuf>,
    /// `--max-agents`.
    pub max_agents: Option<u32>,
    /// `--log-level`.
    pub log_level: Option<LevelFilter>,
    /// `--log-format`.
    pub log_format: Option<LogFormat>,
}

/// Where settings come from, but for the defaults.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The file, if there is one.
    pub file: Option<ConfigFile<'a>>,
    /// The value of a variable of the environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The flags.
    pub flags: &'a NodeFlags,
    /// The host's NATS client.
    pub nats: NatsClient,
}

/// A config, and where each of its settings comes from.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The config.
    pub config: NodeConfig,
    origins: Origins,
    declared: Vec<agents::Block>,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    File { name: String, line: usize },
    Variable(&'static str),
    Flag(&'static str),
}

/// By the key of a setting; what is not in here has its default.
type Origins = BTreeMap<&'static str, Origin>;

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Origin {
    /// What an error calls the setting of that key, from here.
    fn name_of(&self, key: &str) -> String {
        match self {
            Self::File { .. } => format!("{self}: {key}"),
            _ => self.to_string(),
        }
    }

    /// What another setting of the section `nats` is called in the same source.
    fn sibling(&self, name: &str) -> String {
        match self {
            Self::File { .. } => format!("nats.{name}"),
            _ => format!("NATS_{}", name.to_ascii_uppercase()),
        }
    }
}

impl NodeConfig {
    /// The most agents that a node can be told to run. `vm.max_map_count` is 65,530 by default
    /// and a Lunatic process takes 7 mappings, which is enough for about 9,400 processes; the
    /// node's own are among them.
    pub const MAX_AGENTS: u32 = 9_000;

    const WHY_MAX_AGENTS: &'static str = ": vm.max_map_count is enough for no more";

    /// The defaults, with our own NATS client.
    pub fn new(node_id: AgentId) -> Self {
        Self::with_client(node_id, &NatsClient::WEBSOCKET)
    }

    /// The defaults, with the host's NATS client.
    pub fn with_client(node_id: AgentId, client: &NatsClient) -> Self {
        Self {
            node_id,
            nats: NatsUrls::new(client.default_url),
            nats_auth: NatsAuth::Anonymous,
            nats_ca: None,
            nats_headers: Vec::new(),
            nats_options: NatsOptions::default(),
            data_dir: PathBuf::from("data"),
            max_agents: 8_000,
            log_level: LevelFilter::Info,
            log_format: LogFormat::Text,
            supervision: SupervisionConfig::default(),
            detection: DetectionConfig::default(),
            alerts: AlertConfig::default(),
            agents: Vec::new(),
            supervisors: Vec::new(),
        }
    }

    /// The defaults, the file over them, the environment over both, and the flags over all;
    /// `random` makes up a name if none is given.
    ///
    /// A variable that is set to nothing counts as not set, but for the first of the client's
    /// [`variables`](NatsClient::variables), which then means no NATS. A variable that a flag stands over is not looked at; a file is always
    /// checked as a whole.
    pub fn load(sources: Sources<'_>, random: [u8; 4]) -> Result<LoadedConfig, InvalidSetting> {
        let node_id = AgentId(format!("node-{:08x}", u32::from_be_bytes(random)));
        let client = &sources.nats;
        let (mut config, mut origins) = (Self::with_client(node_id, client), Origins::new());
        let file = sources.file.map(Parsed::parse).transpose()?;
        let in_file = match &file {
            Some(file) => file.apply(&mut config, &mut origins)?,
            None => Credentials::default(),
        };
        config.check_nats(client, &origins)?;
        sources.flags.apply(&mut config, &mut origins);
        apply_variables(sources.env, client, &mut config, &mut origins)?;
        config.check_nats(client, &origins)?;
        let credentials = Credentials::from_env(sources.env)?.over(in_file);
        config.nats_auth = credentials.auth()?;
        credentials.tell_origins(&mut origins);
        config.check_backoff(&origins)?;
        let declared = match &file {
            Some(file) => Declared::read(file, config.max_agents, &config.supervision.limits)?,
            None => Declared::default(),
        };
        if let Some(file) = &file {
            config.supervisors = supervisors::read(file, &config.supervision, declared.members)?;
        }
        config.agents = declared.agents;
        Ok(LoadedConfig { config, origins, declared: declared.blocks })
    }

    /// The agents of the declared trees.
    fn tree_agents(&self) -> Vec<&AgentConfig> {
        self.supervisors.iter().flat_map(SupervisorSpec::agents).collect()
    }

    /// Whether the client takes the URL that was given last.
    fn check_nats(&self, client: &NatsClient, origins: &Origins) -> Result<(), InvalidSetting> {
        let (Some(urls), Some(origin)) = (&self.nats, origins.get("nats.url")) else {
            return Ok(());
        };
        (client.check)(urls)
            .map_err(|reason| InvalidSetting::refused(origin.name_of("nats.url"), reason))
    }

    /// The only two settings that have to fit each other.
    fn check_backoff(&self, origins: &Origins) -> Result<(), InvalidSetting> {
        let (min, max) = (self.supervision.backoff.min, self.supervision.backoff.max);
        if min <= max {
            return Ok(());
        }
        let (min, max) = (min.as_millis(), max.as_millis());
        let name = |key: &str| origins.get(key).map_or_else(|| key.to_owned(), |o| o.name_of(key));
        Err(InvalidSetting::bare_value(
            name("supervision.backoff_min_ms"),
            min.to_string(),
            format!("at most supervision.backoff_max_ms, which is {max}"),
        ))
    }

    /// Checks what has not been read from anywhere but made by a program: that the node's id is not
    /// that of all nodes, the agents, their ids and their number, and what the supervisor is told. `types` are the registered ones.
    pub fn check(&self, types: &[&str]) -> Result<(), String> {
        if self.node_id.as_str() == Subject::ALL_NODES {
            return Err("node_id is \"all\": agent.command.all is for all nodes".to_owned());
        }
        let supervisor = self.supervision.supervisor(self.max_agents);
        let mut trial = Supervisor::new(supervisor, 0).map_err(|error| error.to_string())?;
        self.detection.validate().map_err(|error| error.to_string())?;
        self.alerts.validate().map_err(|error| error.to_string())?;
        for spec in &self.supervisors {
            trial.start_supervisor(Now::START, spec.clone()).map_err(|error| error.to_string())?;
        }
        let of_trees: Vec<&AgentConfig> = self.tree_agents();
        if let Some(agent) = of_trees.iter().find(|c| !types.contains(&c.agent_type.as_str())) {
            let (id, reason) = (&agent.id, unknown_type(&agent.agent_type, types));
            return Err(format!("agent {id}: {reason}"));
        }
        let agents = self.agents.len() + of_trees.len();
        if agents > self.max_agents as usize {
            let most = self.max_agents;
            return Err(format!("there are {agents} agents, and max_agents is {most}"));
        }
        let limits = &self.supervision.limits;
        for (name, most) in &limits.max_agents_per_type {
            let wrong = |reason: String| format!("max_agents_per_type: {reason}");
            if !types.contains(&name.as_str()) {
                return Err(wrong(unknown_type(name, types)));
            }
            let count = self
                .agents
                .iter()
                .chain(of_trees.iter().copied())
                .filter(|agent| agent.agent_type == *name)
                .count();
            if count > *most as usize {
                return Err(wrong(format!("it is {most} for {name:?}, and there are {count}")));
            }
        }
        let mut ids: std::collections::HashSet<&AgentId> =
            of_trees.iter().map(|agent| &agent.id).collect();
        for (at, agent) in self.agents.iter().enumerate() {
            let wrong = |reason: String| format!("agents[{at}]: {reason}");
            agent.validate().map_err(|error| wrong(error.to_string()))?;
            if !types.contains(&agent.agent_type.as_str()) {
                return Err(wrong(unknown_type(&agent.agent_type, types)));
            }
            if !ids.insert(&agent.id) {
                return Err(wrong(format!("there is an agent \"{}\" already", agent.id)));
            }
        }
        Ok(())
    }
}

impl LoadedConfig {
    /// Checks that the types of the file, of its agents and of its limits, are registered.
    pub fn check_types(&self, types: &[&str]) -> Result<(), InvalidSetting> {
        let limits = &self.config.supervision.limits.max_agents_per_type;
        if let Some((name, _)) = limits.iter().find(|(name, _)| !types.contains(&name.as_str())) {
            let place = self.origins.get(PER_TYPE).map(|origin| origin.name_of(PER_TYPE));
            let place = place.unwrap_or_else(|| PER_TYPE.to_owned());
            return Err(InvalidSetting::refused(place, unknown_type(name, types)));
        }
        let unknown = |block: &&agents::Block| !types.contains(&block.agent_type.as_str());
        match self.declared.iter().find(unknown) {
            None => Ok(()),
            Some(block) => {
                let reason = unknown_type(&block.agent_type, types);
                Err(InvalidSetting::refused(&block.type_place, reason))
            }
        }
    }
}

/// Why a type is refused, with those that there are.
pub(crate) fn unknown_type(name: &str, types: &[&str]) -> String {
    let mut known = types.to_vec();
    known.sort_unstable();
    format!("there is no agent type {name:?}; registered are {}", known.join(", "))
}

impl NodeFlags {
    fn apply(&self, config: &mut NodeConfig, origins: &mut Origins) {
        let mut from = |key, flag| origins.insert(key, Origin::Flag(flag));
        match &self.nats {
            Some(NatsFlag::Off) => {
                config.nats = None;
                from("nats.url", "--no-nats");
            }
            Some(NatsFlag::At(urls)) => {
                config.nats = Some(urls.clone());
                from("nats.url", "--nats");
            }
            None => {}
        }
        if let Some(node_id) = &self.node_id {
            config.node_id.clone_from(node_id);
            from("node_id", "--node-id");
        }
        if let Some(data_dir) = &self.data_dir {
            config.data_dir.clone_from(data_dir);
            from("data_dir", "--data-dir");
        }
        if let Some(max_agents) = self.max_agents {
            config.max_agents = max_agents;
            from("max_agents", "--max-agents");
        }
        if let Some(level) = self.log_level {
            config.log_level = level;
            from("log.level", "--log-level");
        }
        if let Some(format) = self.log_format {
            config.log_format = format;
            from("log.format", "--log-format");
        }
    }
}

/// Sets what the environment says, but for what a flag has set.
fn apply_variables(
    env: &dyn Fn(&str) -> Option<String>,
    client: &NatsClient,
    config: &mut NodeConfig,
    origins: &mut Origins,
) -> Result<(), InvalidSetting> {
    for &name in UNSUPPORTED {
        let Some(value) = env(name).filter(|value| !value.is_empty()) else { continue };
        if parse_switch(&value) != Some(false) {
            return Err(InvalidSetting::Unsupported { name: name.to_owned() });
        }
    }
    for setting in SETTINGS {
        if matches!(origins.get(setting.key), Some(Origin::Flag(_))) {
            continue;
        }
        let is_url = setting.key == "nats.url";
        let names = if is_url { &client.variables } else { setting.env };
        for (at, &name) in names.iter().enumerate() {
            // Set to nothing, it turns NATS off; each other is as good as not set.
            let Some(value) = env(name).filter(|v| !v.is_empty() || (is_url && at == 0)) else {
                continue;
            };
            setting.apply(config, name, Raw::Variable(&value))?;
            origins.insert(setting.key, Origin::Variable(name));
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
