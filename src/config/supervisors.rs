//! The supervisors of the file: `[[supervisors]]`, and which agents and supervisors are whose. The
//! children of one are started in the order in which they stand in the file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::file::{self, Entry, Parsed};
use super::{InvalidSetting, SupervisionConfig};
use crate::agent::RestartType;
use crate::message::Subject;
use crate::supervision::{ChildSpec, Intensity, Shutdown, Strategy, Supervisor, SupervisorSpec};

/// The fields of a supervisor, and what an error says is allowed in each.
const FIELDS: [(&str, &str); 11] = [
    ("id", "1 to 128 characters of A-Z a-z 0-9 _ -"),
    ("supervisor", "the id of another one of [[supervisors]]"),
    ("strategy", "\"one_for_one\", \"one_for_all\" or \"rest_for_one\""),
    ("max_restarts", "a whole number from 0 to 1000"),
    ("period_ms", "a whole number from 1 to 86400000"),
    ("backoff_min_ms", "a whole number from 0 to 86400000"),
    ("backoff_max_ms", "a whole number from 0 to 86400000"),
    ("backoff_factor", "a number from 1 to 1000"),
    ("backoff_jitter", "a number from 0 to 1"),
    ("restart", "\"Permanent\", \"Transient\" or \"Temporary\""),
    (STOP_GRACE, STOP_GRACE_ALLOWED),
];

/// Also a field of an agent that has a supervisor.
pub(super) const SUPERVISOR: &str = "supervisor";
/// Likewise.
pub(super) const STOP_GRACE: &str = "stop_grace_ms";
pub(super) const STOP_GRACE_ALLOWED: &str =
    "a whole number from 0 (killed at once) to 86400000, in ms";

const DAY_MS: u64 = 86_400_000;

/// A child, where it begins, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) line: usize,
    pub(super) supervisor: String,
    pub(super) child: ChildSpec,
}

/// What is read of one `[[supervisors]]`.
struct Block {
    line: usize,
    parent: Option<(usize, String)>,
    spec: SupervisorSpec,
}

/// Reads the trees; `members` are the agents that have a supervisor.
pub(super) fn read(
    file: &Parsed<'_>,
    defaults: &SupervisionConfig,
    members: Vec<Member>,
) -> Result<Vec<SupervisorSpec>, InvalidSetting> {
    let mut blocks: BTreeMap<String, Block> = BTreeMap::new();
    for (line, table) in file.tables("supervisors")? {
        let block = read_block(file, defaults, line, table)?;
        let place = || format!("{}: supervisors", file.place(line));
        if block.spec.id.is_empty() {
            return Err(InvalidSetting::refused(place(), "a supervisor needs an id"));
        }
        block
            .spec
            .validate()
            .map_err(|error| InvalidSetting::refused(place(), error.to_string()))?;
        if let Some(first) = blocks.get(&block.spec.id) {
            let reason = format!(
                "there is a supervisor {:?} already, at {}",
                block.spec.id,
                file.place(first.line)
            );
            return Err(InvalidSetting::refused(place(), reason));
        }
        if blocks.len() == Supervisor::MAX_SUPERVISORS {
            let reason = format!("there can be {} supervisors", Supervisor::MAX_SUPERVISORS);
            return Err(InvalidSetting::refused(place(), reason));
        }
        blocks.insert(block.spec.id.clone(), block);
    }
    build(file, blocks, members)
}

fn build(
    file: &Parsed<'_>,
    blocks: BTreeMap<String, Block>,
    members: Vec<Member>,
) -> Result<Vec<SupervisorSpec>, InvalidSetting> {
    let unknown = |line: usize, section: &str, parent: &str| {
        let name = format!("{}: {section}.{SUPERVISOR}", file.place(line));
        let known: Vec<&str> = blocks.keys().map(String::as_str).collect();
        let reason = match known.is_empty() {
            true => format!("there is no supervisor {parent:?}, and no [[supervisors]] at all"),
            false => format!("there is no supervisor {parent:?}; there are {}", known.join(", ")),
        };
        InvalidSetting::refused(name, reason)
    };
    let mut children: BTreeMap<String, Vec<(usize, Item)>> = BTreeMap::new();
    for Member { line, supervisor, child } in members {
        if !blocks.contains_key(&supervisor) {
            return Err(unknown(line, "agents", &supervisor));
        }
        children.entry(supervisor).or_default().push((line, Item::Agent(child)));
    }
    let mut tops = Vec::new();
    for (id, block) in &blocks {
        match &block.parent {
            None => tops.push((block.line, id.clone())),
            Some((line, parent)) if !blocks.contains_key(parent) => {
                return Err(unknown(*line, "supervisors", parent));
            }
            Some((_, parent)) => {
                let item = (block.line, Item::Supervisor(id.clone()));
                children.entry(parent.clone()).or_default().push(item);
            }
        }
    }
    tops.sort_unstable();
    let mut blocks = blocks;
    let trees = tops.into_iter().filter_map(|(_, id)| take(&id, &mut blocks, &mut children));
    let trees: Vec<SupervisorSpec> = trees.collect();
    // What no top leads to leads to itself.
    if let Some((id, block)) = blocks.first_key_value() {
        let name = format!("{}: supervisors.{SUPERVISOR}", file.place(block.line));
        let reason = format!("supervisor {id:?} is below itself");
        return Err(InvalidSetting::refused(name, reason));
    }
    Ok(trees)
}

enum Item {
    Agent(ChildSpec),
    Supervisor(String),
}

/// A supervisor with all below it. Each is taken once, so that this ends.
fn take(
    id: &str,
    blocks: &mut BTreeMap<String, Block>,
    children: &mut BTreeMap<String, Vec<(usize, Item)>>,
) -> Option<SupervisorSpec> {
    let mut spec = blocks.remove(id)?.spec;
    let mut items = children.remove(id).unwrap_or_default();
    items.sort_by_key(|(line, _)| *line);
    for (_, item) in items {
        match item {
            Item::Agent(child) => spec.children.push(child),
            Item::Supervisor(inner) => {
                spec.children.extend(take(&inner, blocks, children).map(ChildSpec::from));
            }
        }
    }
    Some(spec)
}

fn read_block(
    file: &Parsed<'_>,
    defaults: &SupervisionConfig,
    line: usize,
    table: &toml::de::DeTable<'_>,
) -> Result<Block, InvalidSetting> {
    let spec = SupervisorSpec {
        intensity: defaults.intensity,
        backoff: defaults.backoff,
        ..SupervisorSpec::default()
    };
    let mut block = Block { line, parent: None, spec };
    for entry in file.entries(table) {
        let Some((_, allowed)) = FIELDS.iter().find(|(name, _)| *name == entry.key) else {
            let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            let shown: String = entry.key.chars().take(60).collect();
            let known = known.join(", ");
            let reason = format!("a supervisor has no field {shown:?}; there are {known}");
            return Err(InvalidSetting::refused(file.place(entry.line), reason));
        };
        set(&mut block, &entry).ok_or_else(|| {
            let name = file.name_of(&entry, "supervisors.");
            file::raw(entry.value).refused(&name, allowed)
        })?;
    }
    Ok(block)
}

/// Sets one field; nothing if the value is not allowed.
fn set(block: &mut Block, entry: &Entry<'_, '_>) -> Option<()> {
    let value = file::json(entry.value)?;
    let spec = &mut block.spec;
    match entry.key {
        "id" => spec.id = token(&value)?,
        SUPERVISOR => block.parent = Some((entry.line, token(&value)?)),
        "strategy" => spec.strategy = serde_json::from_value::<Strategy>(value).ok()?,
        "max_restarts" => {
            spec.intensity.max_restarts = whole(&value, 0, Intensity::MAX.into())? as u32;
        }
        "period_ms" => spec.intensity.period = millis(&value, 1)?,
        "backoff_min_ms" => spec.backoff.min = millis(&value, 0)?,
        "backoff_max_ms" => spec.backoff.max = millis(&value, 0)?,
        "backoff_factor" => spec.backoff.factor = float(&value, 1.0, 1000.0)?,
        "backoff_jitter" => spec.backoff.jitter = float(&value, 0.0, 1.0)?,
        "restart" => spec.restart = serde_json::from_value::<RestartType>(value).ok()?,
        STOP_GRACE => spec.shutdown = shutdown(&value)?,
        _ => return None,
    }
    Some(())
}

/// How long a child has to stop, as it is written: 0 is a kill at once.
pub(super) fn shutdown(value: &Value) -> Option<Shutdown> {
    Some(match whole(value, 0, DAY_MS)? {
        0 => Shutdown::Kill,
        ms => Shutdown::Grace(Duration::from_millis(ms)),
    })
}

/// A name of a supervisor.
pub(super) fn token(value: &Value) -> Option<String> {
    value.as_str().filter(|text| Subject::is_token(text)).map(str::to_owned)
}

fn whole(value: &Value, least: u64, most: u64) -> Option<u64> {
    value.as_u64().filter(|number| (least..=most).contains(number))
}

fn millis(value: &Value, least: u64) -> Option<Duration> {
    whole(value, least, DAY_MS).map(Duration::from_millis)
}

fn float(value: &Value, least: f64, most: f64) -> Option<f64> {
    value.as_f64().filter(|number| (least..=most).contains(number))
}
