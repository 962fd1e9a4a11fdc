//! What `--check-config` prints: what would run, and where each value comes from. No secret is in
//! it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{json, Map, Value};

use super::file::{HEADERS, PER_TYPE};
use super::settings::SETTINGS;
use super::{LoadedConfig, NatsAuth};

impl LoadedConfig {
    /// The config as TOML, with the origin of whatever is not a default behind it.
    pub fn report(&self) -> String {
        let mut text =
            "# What would run. Behind each value that is not the default: where it is set.\n"
                .to_owned();
        let mut section = "";
        for (key, value, origin) in self.values() {
            let (of, name) = key.rsplit_once('.').unwrap_or(("", key));
            if of != section {
                section = of;
                let _ = writeln!(text, "\n[{section}]");
            }
            let mut line = |line: String| match &origin {
                // Writing to a `String` cannot fail.
                Some(origin) => drop(writeln!(text, "{line:<40}  # {origin}")),
                None => drop(writeln!(text, "{line}")),
            };
            match value {
                Value::Object(table) => {
                    for (key, value) in table {
                        line(format!("{name}.{} = {value}", Value::from(key)));
                    }
                }
                value => line(format!("{name} = {value}")),
            }
        }
        if self.config.nats.is_none() {
            text.push_str("\n# Without NATS: it works locally.\n");
        }
        let (agents, most) = (self.agent_count(), self.config.max_agents);
        let _ = writeln!(text, "\n# Starts with {agents} agents, of at most {most}.");
        for (agent_type, count) in self.agents_by_type() {
            let _ = writeln!(text, "#   {count:>6} {agent_type}");
        }
        text
    }

    /// The same as JSON, on one line.
    pub fn report_json(&self) -> Value {
        let mut settings = Map::new();
        for (key, value, origin) in self.values() {
            let origin = origin.unwrap_or_else(|| "default".to_owned());
            settings.insert(key.to_owned(), json!({ "value": value, "origin": origin }));
        }
        json!({
            "type": "config",
            "settings": settings,
            "agents": { "total": self.agent_count(), "by_type": self.agents_by_type() },
        })
    }

    /// Each setting's key, its value, and its origin if it is not the default. The credentials and
    /// the names of headers come after the URL that they belong to, and only those that there are.
    fn values(&self) -> Vec<(&'static str, Value, Option<String>)> {
        let origin = |key| self.origins.get(key).map(ToString::to_string);
        let mut values = Vec::new();
        for setting in SETTINGS {
            values.push((setting.key, (setting.show)(&self.config), origin(setting.key)));
            if setting.key == "limits.spawn_burst" {
                let limits = &self.config.supervision.limits.max_agents_per_type;
                let mut table = Map::new();
                for (name, most) in limits {
                    table.insert(name.clone(), json!(most));
                }
                if !table.is_empty() {
                    values.push((PER_TYPE, Value::Object(table), origin(PER_TYPE)));
                }
            }
            if setting.key == "nats.url" {
                let secret = json!("***");
                match &self.config.nats_auth {
                    NatsAuth::Anonymous => {}
                    NatsAuth::Token(_) => {
                        values.push(("nats.token", secret, origin("nats.token")));
                    }
                    NatsAuth::User { user, .. } => {
                        values.push(("nats.user", json!(user), origin("nats.user")));
                        values.push(("nats.password", secret, origin("nats.password")));
                    }
                    NatsAuth::NKey(path) => {
                        let path = json!(path.to_string_lossy());
                        values.push(("nats.nkey", path, origin("nats.nkey")));
                    }
                    NatsAuth::Credentials(path) => {
                        let path = json!(path.to_string_lossy());
                        values.push(("nats.creds", path, origin("nats.creds")));
                    }
                }
                if !self.config.nats_headers.is_empty() {
                    let names = self.config.nats_headers.iter().map(|(name, _)| name.as_str());
                    values.push((HEADERS, json!(names.collect::<Vec<_>>()), origin(HEADERS)));
                }
            }
        }
        values
    }

    fn agent_count(&self) -> usize {
        self.config.agents.len() + self.config.tree_agents().len()
    }

    fn agents_by_type(&self) -> BTreeMap<&str, usize> {
        let mut by_type = BTreeMap::new();
        for agent in self.config.agents.iter().chain(self.config.tree_agents()) {
            *by_type.entry(agent.agent_type.as_str()).or_default() += 1;
        }
        by_type
    }
}
