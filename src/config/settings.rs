//! The settings of one value each: where each can be said, what is allowed, and what it changes.
//! The file, the environment, `--check-config` and the tests all go by this one table.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use serde_json::{json, Value};

use super::{InvalidSetting, NatsUrls, NodeConfig};
use crate::agent::AgentId;
use crate::log_line::LogFormat;
use crate::message::Subject;
use crate::supervision::{
    DetectionConfig, FailureSeverity, Intensity, SpawnLimits, SupervisorConfig,
};

/// A setting of one value.
pub(super) struct Setting {
    /// Its key in the file, with its section: `nats.url`.
    pub(super) key: &'static str,
    /// Its variables; the first one that is set counts.
    pub(super) env: &'static [&'static str],
    kind: Kind,
    /// The value as it is shown.
    pub(super) show: fn(&NodeConfig) -> Value,
}

enum Kind {
    Text(fn(&mut NodeConfig, &str) -> Result<(), Wrong>),
    Whole(RangeInclusive<u64>, fn(&mut NodeConfig, u64)),
    Float(RangeInclusive<f64>, fn(&mut NodeConfig, f64)),
    Switch(fn(&mut NodeConfig, bool)),
}

/// Why a text is refused.
enum Wrong {
    /// What would be allowed.
    Allowed(String),
    /// It names the value itself, which may have a secret in it.
    Because(String),
}

/// A value as it came.
#[derive(Clone, Copy, Debug)]
pub(super) enum Raw<'a> {
    /// From the environment, where all is text.
    Variable(&'a str),
    /// The others are from the file, with their types.
    Text(&'a str),
    /// A whole number, if it is one that fits; and as it is written.
    Whole(Option<u64>, &'a str),
    Float(f64, &'a str),
    Switch(bool),
    /// What no setting is: a date, a list, a table.
    Other(&'static str),
}

const DAY_MS: u64 = 86_400_000;

fn ms(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// All of them, in the order in which `--check-config` shows them.
#[rustfmt::skip] // One to a row or two: this is a table.
pub(super) const SETTINGS: &[Setting] = &[
    Setting { key: "node_id", env: &["NODE_ID"], show: |c| json!(c.node_id),
        kind: Kind::Text(|c, text| node_id(text).map(|value| c.node_id = value)) },
    Setting { key: "data_dir", env: &[], show: |c| json!(c.data_dir.to_string_lossy()),
        kind: Kind::Text(|c, text| data_dir(text).map(|value| c.data_dir = value)) },
    Setting { key: "max_agents", env: &[], show: |c| json!(c.max_agents),
        kind: Kind::Whole(1..=NodeConfig::MAX_AGENTS as u64, |c, n| c.max_agents = n as u32) },

    Setting { key: "limits.max_spawns_per_second", env: &[], show: |c| json!(c.supervision.limits.max_spawns_per_second),
        kind: Kind::Whole(0..=SpawnLimits::MAX_PER_SECOND as u64, |c, n| c.supervision.limits.max_spawns_per_second = n as u32) },
    Setting { key: "limits.spawn_burst", env: &[], show: |c| json!(c.supervision.limits.spawn_burst),
        kind: Kind::Whole(1..=NodeConfig::MAX_AGENTS as u64, |c, n| c.supervision.limits.spawn_burst = n as u32) },

    Setting { key: "nats.url", env: &["NATS_WEBSOCKET_URL", "NATS_URL"], show: |c| json!(c.nats.as_ref().map_or_else(String::new, ToString::to_string)),
        kind: Kind::Text(|c, text| nats_urls(text).map(|value| c.nats = value)) },
    Setting { key: "nats.ca", env: &["NATS_CA"], show: |c| json!(c.nats_ca.as_ref().map_or_else(String::new, |path| path.to_string_lossy().into_owned())),
        kind: Kind::Text(|c, text| certificates_path(text).map(|value| c.nats_ca = value)) },
    Setting { key: "nats.connect_timeout_ms", env: &[], show: |c| ms(c.nats_options.connect_timeout),
        kind: Kind::Whole(1..=DAY_MS, |c, n| c.nats_options.connect_timeout = Duration::from_millis(n)) },
    Setting { key: "nats.ping_interval_ms", env: &[], show: |c| ms(c.nats_options.ping_interval),
        kind: Kind::Whole(1..=DAY_MS, |c, n| c.nats_options.ping_interval = Duration::from_millis(n)) },
    Setting { key: "nats.max_pings_out", env: &[], show: |c| json!(c.nats_options.max_pings_out),
        kind: Kind::Whole(1..=1000, |c, n| c.nats_options.max_pings_out = n as u32) },
    Setting { key: "nats.reconnect_first_ms", env: &[], show: |c| ms(c.nats_options.reconnect_first),
        kind: Kind::Whole(1..=DAY_MS, |c, n| c.nats_options.reconnect_first = Duration::from_millis(n)) },
    Setting { key: "nats.reconnect_cap_ms", env: &[], show: |c| ms(c.nats_options.reconnect_cap),
        kind: Kind::Whole(1..=DAY_MS, |c, n| c.nats_options.reconnect_cap = Duration::from_millis(n)) },
    Setting { key: "nats.reconnect_late_cap_ms", env: &[], show: |c| ms(c.nats_options.reconnect_late_cap),
        kind: Kind::Whole(1..=DAY_MS, |c, n| c.nats_options.reconnect_late_cap = Duration::from_millis(n)) },
    Setting { key: "nats.shuffle_servers", env: &[], show: |c| json!(c.nats_options.shuffle_servers),
        kind: Kind::Switch(|c, on| c.nats_options.shuffle_servers = on) },
    Setting { key: "nats.use_advertised", env: &[], show: |c| json!(c.nats_options.use_advertised),
        kind: Kind::Switch(|c, on| c.nats_options.use_advertised = on) },
    Setting { key: "nats.max_pending_bytes", env: &[], show: |c| json!(c.nats_options.max_pending_bytes),
        kind: Kind::Whole(0..=256 << 20, |c, n| c.nats_options.max_pending_bytes = n as usize) },
    Setting { key: "nats.max_pending_messages", env: &[], show: |c| json!(c.nats_options.max_pending_messages),
        kind: Kind::Whole(0..=1_000_000, |c, n| c.nats_options.max_pending_messages = n) },

    Setting { key: "log.level", env: &["RUST_LOG"], show: |c| json!(c.log_level.as_str().to_ascii_lowercase()),
        kind: Kind::Text(|c, text| log_level(text).map(|value| c.log_level = value)) },
    Setting { key: "log.format", env: &["LOG_FORMAT"], show: |c| json!(c.log_format.as_str()),
        kind: Kind::Text(|c, text| log_format(text).map(|value| c.log_format = value)) },

    Setting { key: "supervision.enabled", env: &["ENABLE_SUPERVISION"], show: |c| json!(c.supervision.enabled),
        kind: Kind::Switch(|c, on| c.supervision.enabled = on) },
    Setting { key: "supervision.health_check_interval_ms", env: &[], show: |c| ms(c.supervision.health_check_interval),
        kind: Kind::Whole(100..=DAY_MS, |c, n| c.supervision.health_check_interval = Duration::from_millis(n)) },
    Setting { key: "supervision.failure_detection_threshold", env: &[], show: |c| json!(c.supervision.failure_detection_threshold),
        kind: Kind::Whole(1..=SupervisorConfig::MAX_THRESHOLD as u64, |c, n| c.supervision.failure_detection_threshold = n as u32) },
    Setting { key: "supervision.max_restarts", env: &[], show: |c| json!(c.supervision.intensity.max_restarts),
        kind: Kind::Whole(0..=Intensity::MAX as u64, |c, n| c.supervision.intensity.max_restarts = n as u32) },
    Setting { key: "supervision.period_ms", env: &[], show: |c| ms(c.supervision.intensity.period),
        kind: Kind::Whole(1..=DAY_MS, |c, n| c.supervision.intensity.period = Duration::from_millis(n)) },
    Setting { key: "supervision.backoff_min_ms", env: &[], show: |c| ms(c.supervision.backoff.min),
        kind: Kind::Whole(0..=DAY_MS, |c, n| c.supervision.backoff.min = Duration::from_millis(n)) },
    Setting { key: "supervision.backoff_max_ms", env: &[], show: |c| ms(c.supervision.backoff.max),
        kind: Kind::Whole(0..=DAY_MS, |c, n| c.supervision.backoff.max = Duration::from_millis(n)) },
    Setting { key: "supervision.backoff_factor", env: &[], show: |c| json!(c.supervision.backoff.factor),
        kind: Kind::Float(1.0..=1000.0, |c, x| c.supervision.backoff.factor = x) },
    Setting { key: "supervision.backoff_jitter", env: &[], show: |c| json!(c.supervision.backoff.jitter),
        kind: Kind::Float(0.0..=1.0, |c, x| c.supervision.backoff.jitter = x) },
    Setting { key: "supervision.stop_grace_ms", env: &[], show: |c| ms(c.supervision.stop_grace),
        kind: Kind::Whole(10..=DAY_MS, |c, n| c.supervision.stop_grace = Duration::from_millis(n)) },
    Setting { key: "supervision.start_deadline_ms", env: &[], show: |c| ms(c.supervision.start_deadline),
        kind: Kind::Whole(100..=DAY_MS, |c, n| c.supervision.start_deadline = Duration::from_millis(n)) },

    Setting { key: "supervision.detection.enabled", env: &[], show: |c| json!(c.detection.enabled),
        kind: Kind::Switch(|c, on| c.detection.enabled = on) },
    Setting { key: "supervision.detection.window_ms", env: &[], show: |c| ms(c.detection.window),
        kind: Kind::Whole(DetectionConfig::WINDOW_MS, |c, n| c.detection.window = Duration::from_millis(n)) },
    Setting { key: "supervision.detection.long_window_ms", env: &[], show: |c| ms(c.detection.long_window),
        kind: Kind::Whole(DetectionConfig::WINDOW_MS, |c, n| c.detection.long_window = Duration::from_millis(n)) },
    Setting { key: "supervision.detection.baseline_factor", env: &[], show: |c| json!(c.detection.baseline_factor),
        kind: Kind::Float(DetectionConfig::FACTOR, |c, x| c.detection.baseline_factor = x) },
    Setting { key: "supervision.detection.spike_failures", env: &[], show: |c| json!(c.detection.spike_failures),
        kind: Kind::Whole(DetectionConfig::COUNT, |c, n| c.detection.spike_failures = n as u32) },
    Setting { key: "supervision.detection.cascade_agents", env: &[], show: |c| json!(c.detection.cascade_agents),
        kind: Kind::Whole(DetectionConfig::COUNT, |c, n| c.detection.cascade_agents = n as u32) },
    Setting { key: "supervision.detection.exhaustion_failures", env: &[], show: |c| json!(c.detection.exhaustion_failures),
        kind: Kind::Whole(DetectionConfig::COUNT, |c, n| c.detection.exhaustion_failures = n as u32) },
    Setting { key: "supervision.detection.partition_agents", env: &[], show: |c| json!(c.detection.partition_agents),
        kind: Kind::Whole(DetectionConfig::COUNT, |c, n| c.detection.partition_agents = n as u32) },
    Setting { key: "supervision.detection.slow_agents", env: &[], show: |c| json!(c.detection.slow_agents),
        kind: Kind::Whole(DetectionConfig::SLOW_AGENTS, |c, n| c.detection.slow_agents = n as u32) },
    Setting { key: "supervision.detection.slow_factor", env: &[], show: |c| json!(c.detection.slow_factor),
        kind: Kind::Float(DetectionConfig::FACTOR, |c, x| c.detection.slow_factor = x) },
    Setting { key: "supervision.detection.slow_min_ms", env: &[], show: |c| ms(c.detection.slow_min),
        kind: Kind::Whole(DetectionConfig::SLOW_MIN_MS, |c, n| c.detection.slow_min = Duration::from_millis(n)) },
    Setting { key: "supervision.detection.slow_samples", env: &[], show: |c| json!(c.detection.slow_samples),
        kind: Kind::Whole(DetectionConfig::SLOW_SAMPLES, |c, n| c.detection.slow_samples = n as u32) },
    Setting { key: "supervision.detection.repeat_ms", env: &[], show: |c| ms(c.detection.repeat),
        kind: Kind::Whole(DetectionConfig::REPEAT_MS, |c, n| c.detection.repeat = Duration::from_millis(n)) },

    Setting { key: "supervision.alerts.enabled", env: &[], show: |c| json!(c.alerts.enabled),
        kind: Kind::Switch(|c, on| c.alerts.enabled = on) },
    Setting { key: "supervision.alerts.min_severity", env: &[], show: |c| json!(c.alerts.min_severity.as_subject_token()),
        kind: Kind::Text(|c, text| severity(text).map(|value| c.alerts.min_severity = value)) },
    Setting { key: "supervision.alerts.cooldown_ms", env: &[], show: |c| ms(c.alerts.cooldown),
        kind: Kind::Whole(DetectionConfig::REPEAT_MS, |c, n| c.alerts.cooldown = Duration::from_millis(n)) },
    Setting { key: "supervision.alerts.resolve_ms", env: &[], show: |c| ms(c.alerts.resolve),
        kind: Kind::Whole(DetectionConfig::REPEAT_MS, |c, n| c.alerts.resolve = Duration::from_millis(n)) },
];

/// Switches of what is not built yet. They may be off.
pub(super) const UNSUPPORTED: &[&str] = &["ENABLE_COORDINATION", "ENABLE_ADVANCED_ROUTING"];

impl Setting {
    /// Sets it. `name` is what an error calls it.
    pub(super) fn apply(
        &self,
        config: &mut NodeConfig,
        name: &str,
        raw: Raw<'_>,
    ) -> Result<(), InvalidSetting> {
        match &self.kind {
            Kind::Text(set) => match raw {
                Raw::Variable(text) | Raw::Text(text) => {
                    set(config, text).map_err(|wrong| match wrong {
                        Wrong::Allowed(allowed) => InvalidSetting::value(name, text, allowed),
                        Wrong::Because(reason) => InvalidSetting::refused(name, reason),
                    })
                }
                _ => Err(raw.refused(name, "a text in quotes")),
            },
            Kind::Whole(range, set) => {
                let number = match raw {
                    Raw::Variable(text) => text.parse().ok(),
                    Raw::Whole(number, _) => number,
                    _ => None,
                };
                let number = number.filter(|number| range.contains(number));
                let refused = || raw.refused(name, &whole(range, self.why()));
                number.map(|number| set(config, number)).ok_or_else(refused)
            }
            Kind::Float(range, set) => {
                let number = match raw {
                    Raw::Variable(text) => text.parse().ok(),
                    Raw::Float(number, _) => Some(number),
                    // Far below where a float would be inexact.
                    Raw::Whole(number, _) => number.map(|number| number as f64),
                    _ => None,
                };
                let number = number.filter(|number| range.contains(number));
                let refused = || {
                    let (least, most) = (range.start(), range.end());
                    raw.refused(name, &format!("a number from {least} to {most}"))
                };
                number.map(|number| set(config, number)).ok_or_else(refused)
            }
            Kind::Switch(set) => {
                let on = match raw {
                    Raw::Variable(text) => parse_switch(text),
                    Raw::Switch(on) => Some(on),
                    _ => None,
                };
                on.map(|on| set(config, on)).ok_or_else(|| raw.refused(name, "true or false"))
            }
        }
    }

    fn why(&self) -> &'static str {
        match self.key {
            "max_agents" => NodeConfig::WHY_MAX_AGENTS,
            _ => "",
        }
    }
}

impl Raw<'_> {
    pub(super) fn refused(&self, name: &str, allowed: &str) -> InvalidSetting {
        let bare = |value: &str| InvalidSetting::bare_value(name, value, allowed);
        match self {
            Self::Variable(text) | Self::Text(text) => InvalidSetting::value(name, text, allowed),
            Self::Whole(_, written) | Self::Float(_, written) => bare(written),
            Self::Switch(on) => bare(&on.to_string()),
            Self::Other(what) => bare(what),
        }
    }
}

fn whole(range: &RangeInclusive<u64>, why: &str) -> String {
    format!("a whole number from {} to {}{why}", range.start(), range.end())
}

fn node_id(text: &str) -> Result<AgentId, Wrong> {
    if text == Subject::ALL_NODES {
        return Err(Wrong::Allowed("another: agent.command.all is for all nodes".to_owned()));
    }
    AgentId::parse(text).map_err(|_| {
        Wrong::Allowed(format!("1 to {} characters of A-Z a-z 0-9 _ -", AgentId::MAX_LEN))
    })
}

fn data_dir(text: &str) -> Result<PathBuf, Wrong> {
    match text {
        "" => Err(Wrong::Allowed("a directory".to_owned())),
        text => Ok(text.into()),
    }
}

fn nats_urls(text: &str) -> Result<Option<NatsUrls>, Wrong> {
    // Whether the host's client takes them is asked when it is known which client that is.
    Ok(NatsUrls::new(text))
}

fn certificates_path(text: &str) -> Result<Option<PathBuf>, Wrong> {
    match text {
        "" => Ok(None),
        text if text.contains(['\n', '\0']) || text.contains("-----BEGIN") => {
            Err(Wrong::Because("it must be the path of a PEM file".to_owned()))
        }
        text => Ok(Some(text.into())),
    }
}

fn severity(text: &str) -> Result<FailureSeverity, Wrong> {
    FailureSeverity::from_subject_token(text)
        .ok_or_else(|| Wrong::Allowed("low, medium, high or critical".to_owned()))
}

fn log_format(text: &str) -> Result<LogFormat, Wrong> {
    LogFormat::parse(text).ok_or_else(|| Wrong::Allowed("text or json".to_owned()))
}

fn log_level(directives: &str) -> Result<LevelFilter, Wrong> {
    let allowed = || {
        "off, error, warn, info, debug or trace, or such levels for modules, as in \
         warn,rust_wasm_lunatic_nats=debug"
    };
    parse_directives(directives).ok_or_else(|| Wrong::Allowed(allowed().to_owned()))
}

/// The level that `RUST_LOG` has for this crate, else the one for everything; of several the
/// last. Levels of other crates and of single modules are checked and left to others.
fn parse_directives(directives: &str) -> Option<LevelFilter> {
    let level = |text: &str| LevelFilter::from_str(text.trim()).ok();
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
    Some(ours.or(bare).unwrap_or(LevelFilter::Info))
}

/// This crate in a `RUST_LOG`.
const CRATE: &str = env!("CARGO_CRATE_NAME");

pub(super) fn parse_switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A flag's text, for the setting of that key.
pub(crate) fn parse_flag<T>(
    key: &str,
    flag: &str,
    text: &str,
    read: impl FnOnce(NodeConfig) -> T,
) -> Result<T, InvalidSetting> {
    // Any config will do: the value is taken out of it again.
    let mut config = NodeConfig::new(AgentId(String::new()));
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
        setting.apply(&mut config, flag, Raw::Variable(text))?;
    }
    Ok(read(config))
}

/// A whole number from the flag `name`.
pub(crate) fn parse_number(
    name: &str,
    text: &str,
    range: RangeInclusive<u32>,
) -> Result<u32, InvalidSetting> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    let range = u64::from(*range.start())..=u64::from(*range.end());
    number.ok_or_else(|| InvalidSetting::value(name, text, whole(&range, "")))
}
