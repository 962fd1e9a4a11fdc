//! The agents of the file: `[agent_defaults]` and `[[agents]]`. Each is checked before anything is
//! started, and what is wrong is told with its line.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::file::{self, Entry, Parsed};
use super::settings::Raw;
use super::supervisors::{self, Member, STOP_GRACE, STOP_GRACE_ALLOWED, SUPERVISOR};
use super::{InvalidSetting, NodeConfig};
use crate::agent::{AgentConfig, AgentId};
use crate::supervision::{ChildSpec, Shutdown, SpawnLimits};

/// The fields of an agent, and what an error says is allowed in each.
const FIELDS: [(&str, &str); 10] = [
    ("id", "1 to 128 characters of A-Z a-z 0-9 _ -"),
    ("agent_type", "the name of a registered type, in quotes"),
    ("memory_backend_type", "\"InMemory\" or \"File\""),
    ("nats_enabled", "true or false"),
    ("max_memory_mb", "a whole number from 1 to 4096"),
    ("max_fuel", "a whole number of at least 1"),
    ("timeout_ms", "a whole number from 100 to 86400000"),
    ("restart", "\"Permanent\", \"Transient\" or \"Temporary\""),
    ("capabilities", "at most 64 texts of 1 to 128 bytes each"),
    ("args", "a table of at most 65536 bytes as JSON"),
];

/// Not a field of an agent: how many of it there are.
const COUNT: &str = "count";

/// The most that the `args` of all agents can have together, in bytes of JSON; the supervisor keeps
/// them for as long as the agents are there.
const MAX_ALL_ARGS: usize = 64 << 20;

/// What one `[[agents]]` became.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Where its type is said, or else where it begins.
    pub(super) type_place: String,
    pub(super) agent_type: String,
}

/// The agents that a file declares.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared {
    pub(super) agents: Vec<AgentConfig>,
    pub(super) blocks: Vec<Block>,
    /// Those that have a supervisor, which are none of `agents`.
    pub(super) members: Vec<Member>,
}

impl Declared {
    pub(super) fn read(
        file: &Parsed<'_>,
        max_agents: u32,
        limits: &SpawnLimits,
    ) -> Result<Self, InvalidSetting> {
        let mut of_types = vec![0_u64; limits.max_agents_per_type.len()];
        let defaults = read_defaults(file)?;
        let (mut declared, mut ids) = (Self::default(), HashMap::new());
        let mut all_args = 0_usize;
        for (line, table) in file.tables("agents")? {
            let Own { fields: own, count, supervisor, shutdown } = read_block(file, table)?;
            let place = format!("{}: agents", file.place(line));
            let mut fields = defaults.clone();
            let type_line = own.get("agent_type").map(|(line, _)| *line).unwrap_or(line);
            let id_line = own.get("id").map(|(line, _)| *line);
            fields.extend(own.into_iter().map(|(key, (_, value))| (key, value)));
            let config: AgentConfig = serde_json::from_value(Value::Object(fields))
                .map_err(|error| InvalidSetting::refused(&place, error.to_string()))?;
            let Some(id_line) = id_line else {
                return Err(InvalidSetting::refused(place, "an agent needs an id"));
            };
            let so_far =
                declared.agents.len() + declared.members.len() + count.unwrap_or(1) as usize;
            if so_far > max_agents as usize {
                let reason = format!("these make {so_far} agents, and max_agents is {max_agents}");
                return Err(InvalidSetting::refused(place, reason));
            }
            if let Some((at, most)) = limits.of_type(&config.agent_type) {
                of_types[at] += u64::from(count.unwrap_or(1));
                let (so_far, name) = (of_types[at], &config.agent_type);
                if so_far > u64::from(most) {
                    let reason = format!(
                        "these make {so_far} agents of type {name:?}, and max_agents_per_type is \
                         {most} for it"
                    );
                    return Err(InvalidSetting::refused(place, reason));
                }
            }
            let args = serde_json::to_vec(&config.args).map_or(usize::MAX, |json| json.len());
            all_args = all_args.saturating_add(args.saturating_mul(count.unwrap_or(1) as usize));
            if all_args > MAX_ALL_ARGS {
                let reason = format!(
                    "the args of all agents have {all_args} bytes, and may have {MAX_ALL_ARGS}"
                );
                return Err(InvalidSetting::refused(place, reason));
            }
            declared.blocks.push(Block {
                type_place: format!("{}: agents.agent_type", file.place(type_line)),
                agent_type: config.agent_type.clone(),
            });
            for id in numbered(&config.id, count) {
                let name = format!("{}: agents.id", file.place(id_line));
                let config = AgentConfig { id, ..config.clone() };
                // Each field was checked by itself; this is for an id that a number made too long.
                config
                    .validate()
                    .map_err(|error| InvalidSetting::refused(&name, error.to_string()))?;
                if let Some(first) = ids.insert(config.id.clone(), id_line) {
                    let (id, first) = (&config.id, file.place(first));
                    let reason = format!("there is an agent \"{id}\" already, at {first}");
                    return Err(InvalidSetting::refused(name, reason));
                }
                match &supervisor {
                    None => declared.agents.push(config),
                    Some(supervisor) => declared.members.push(Member {
                        line,
                        supervisor: supervisor.clone(),
                        child: ChildSpec::Agent { config, shutdown },
                    }),
                }
            }
        }
        Ok(declared)
    }
}

fn numbered(id: &AgentId, count: Option<u32>) -> Vec<AgentId> {
    match count {
        None => vec![id.clone()],
        Some(count) => (1..=count).map(|n| AgentId(format!("{id}-{n}"))).collect(),
    }
}

fn read_defaults(file: &Parsed<'_>) -> Result<Map<String, Value>, InvalidSetting> {
    let Some(table) = file.table("agent_defaults")? else { return Ok(Map::new()) };
    let section = "agent_defaults.";
    file.entries(table)
        .map(|entry| match entry.key {
            "id" | COUNT | SUPERVISOR | STOP_GRACE => {
                let name = file.name_of(&entry, section);
                Err(InvalidSetting::refused(name, "it belongs to one agent, below [[agents]]"))
            }
            _ => Ok((entry.key.to_owned(), field(file, &entry, section)?)),
        })
        .collect()
}

/// The fields that stand in an `[[agents]]`, with their lines; and how many agents it stands for.
type Fields = HashMap<String, (usize, Value)>;

/// What stands in an `[[agents]]`.
struct Own {
    fields: Fields,
    count: Option<u32>,
    supervisor: Option<String>,
    shutdown: Shutdown,
}

fn read_block(file: &Parsed<'_>, table: &toml::de::DeTable<'_>) -> Result<Own, InvalidSetting> {
    let (mut fields, mut count, mut supervisor, mut grace) = (Fields::new(), None, None, None);
    for entry in file.entries(table) {
        let refused = |allowed: &str| {
            file::raw(entry.value).refused(&file.name_of(&entry, "agents."), allowed)
        };
        if entry.key == SUPERVISOR {
            let id = file::json(entry.value).and_then(|value| supervisors::token(&value));
            let allowed = "the id of one of [[supervisors]]";
            supervisor = Some(id.ok_or_else(|| refused(allowed))?);
        } else if entry.key == STOP_GRACE {
            let shutdown = file::json(entry.value).and_then(|value| supervisors::shutdown(&value));
            grace = Some((entry.line, shutdown.ok_or_else(|| refused(STOP_GRACE_ALLOWED))?));
        } else if entry.key == COUNT {
            let number = match file::raw(entry.value) {
                Raw::Whole(Some(number), _) => u32::try_from(number).ok(),
                _ => None,
            };
            count = number.filter(|number| (1..=NodeConfig::MAX_AGENTS).contains(number));
            if count.is_none() {
                let allowed = format!("a whole number from 1 to {}", NodeConfig::MAX_AGENTS);
                return Err(refused(&allowed));
            }
        } else {
            let value = field(file, &entry, "agents.")?;
            fields.insert(entry.key.to_owned(), (entry.line, value));
        }
    }
    if let (None, Some((line, _))) = (&supervisor, grace) {
        let name = format!("{}: agents.{STOP_GRACE}", file.place(line));
        let reason =
            "it belongs to an agent with a supervisor; others have supervision.stop_grace_ms";
        return Err(InvalidSetting::refused(name, reason));
    }
    let shutdown = grace.map_or(Shutdown::AGENT, |(_, shutdown)| shutdown);
    Ok(Own { fields, count, supervisor, shutdown })
}

/// A field of an agent, checked by itself: the fields of a config do not depend on each other.
fn field(file: &Parsed<'_>, entry: &Entry<'_, '_>, section: &str) -> Result<Value, InvalidSetting> {
    let Some((_, allowed)) = FIELDS.iter().find(|(name, _)| *name == entry.key) else {
        let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        let shown: String = entry.key.chars().take(60).collect();
        let known = known.join(", ");
        let reason = format!("an agent has no field {shown:?}; there are {known}, {COUNT}, {SUPERVISOR}, {STOP_GRACE}");
        return Err(InvalidSetting::refused(file.place(entry.line), reason));
    };
    let value = file::json(entry.value).filter(|value| is_valid(entry.key, value));
    value.ok_or_else(|| {
        let name = file.name_of(entry, section);
        match entry.key {
            // What an agent is told may be a secret.
            "args" => InvalidSetting::refused(name, format!("it must be {allowed}")),
            _ => file::raw(entry.value).refused(&name, allowed),
        }
    })
}

fn is_valid(key: &str, value: &Value) -> bool {
    let alone = [(key.to_owned(), value.clone())].into_iter().collect();
    let config = serde_json::from_value::<AgentConfig>(Value::Object(alone));
    config.is_ok_and(|mut config| {
        if key != "id" {
            config.id = AgentId::external();
        }
        config.validate().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_an_agent_config() {
        let config = AgentConfig { id: AgentId("a".into()), ..AgentConfig::default() };
        let json = serde_json::to_value(config).expect("a config serializes");
        let mut fields: Vec<&str> =
            json.as_object().expect("as an object").keys().map(String::as_str).collect();
        let mut known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        fields.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, fields);
    }
}
