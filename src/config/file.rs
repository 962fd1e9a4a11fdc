//! The TOML file: parsed into a tree that knows where everything stands, so that whatever is wrong
//! is told with its line.

use std::ops::Range;

use serde_json::Value;
use toml::de::{DeTable, DeValue};
use toml::Spanned;

use super::nats::{check_headers, credentials_path, Credentials};
use super::settings::{Raw, Setting, SETTINGS};
use super::{InvalidSetting, NodeConfig, Origin, Origins};
use crate::secret::Secret;
use crate::supervision::SpawnLimits;

/// A config file: its name, which is only shown, and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a> {
    /// How it was named.
    pub name: &'a str,
    /// The TOML.
    pub text: &'a str,
}

/// The key of the limits of types.
pub(super) const PER_TYPE: &str = "limits.max_agents_per_type";

/// The key of the headers of the upgrade request.
pub(super) const HEADERS: &str = "nats.headers";

impl ConfigFile<'_> {
    /// The largest file, in bytes: enough for 9,000 agents of 400 bytes each.
    pub const MAX_BYTES: usize = 4 << 20;
}

/// A parsed file.
pub(super) struct Parsed<'a> {
    name: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    root: DeTable<'a>,
}

/// A key and its value, and where they stand.
pub(super) struct Entry<'t, 'a> {
    pub(super) key: &'t str,
    pub(super) line: usize,
    pub(super) value: &'t DeValue<'a>,
}

impl<'a> Parsed<'a> {
    pub(super) fn parse(file: ConfigFile<'a>) -> Result<Self, InvalidSetting> {
        let ConfigFile { name, text } = file;
        if text.len() > ConfigFile::MAX_BYTES {
            let reason = format!("it has more than {} bytes", ConfigFile::MAX_BYTES);
            return Err(InvalidSetting::refused(name, reason));
        }
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        let mut parsed = Self { name, lines, root: DeTable::new() };
        parsed.root = DeTable::parse(text)
            .map_err(|error| {
                // Its `Display` repeats the line, in which there may be a secret.
                let line = parsed.line(&error.span().unwrap_or_default());
                InvalidSetting::refused(parsed.place(line), error.message())
            })?
            .into_inner();
        Ok(parsed)
    }

    fn line(&self, span: &Range<usize>) -> usize {
        self.lines.partition_point(|begin| *begin <= span.start)
    }

    /// A line as an error and `--check-config` name it.
    pub(super) fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }

    pub(super) fn origin(&self, line: usize) -> Origin {
        Origin::File { name: self.name.to_owned(), line }
    }

    pub(super) fn entries<'t>(
        &'t self,
        table: &'t DeTable<'a>,
    ) -> impl Iterator<Item = Entry<'t, 'a>> {
        table.iter().map(|(key, value)| Entry {
            key: key.get_ref(),
            line: self.line(&key.span()),
            value: value.get_ref(),
        })
    }

    /// The table under a key of the root.
    pub(super) fn table(&self, key: &str) -> Result<Option<&DeTable<'a>>, InvalidSetting> {
        let Some(entry) = self.entries(&self.root).find(|entry| entry.key == key) else {
            return Ok(None);
        };
        match entry.value {
            DeValue::Table(table) => Ok(Some(table)),
            other => Err(raw(other).refused(&self.name_of(&entry, ""), "a table")),
        }
    }

    /// The tables of `[[key]]`, each with the line where it begins.
    pub(super) fn tables(&self, key: &str) -> Result<Vec<(usize, &DeTable<'a>)>, InvalidSetting> {
        let Some(entry) = self.entries(&self.root).find(|entry| entry.key == key) else {
            return Ok(Vec::new());
        };
        let wrong = |value: &DeValue<'_>, line| {
            let name = format!("{}: {key}", self.place(line));
            raw(value).refused(&name, &format!("tables that begin with [[{key}]]"))
        };
        let DeValue::Array(array) = entry.value else {
            return Err(wrong(entry.value, entry.line));
        };
        let tables = array.iter().map(|value| match (value.get_ref(), self.line(&value.span())) {
            (DeValue::Table(table), line) => Ok((line, table)),
            (other, line) => Err(wrong(other, line)),
        });
        tables.collect()
    }

    /// What an error calls an entry; `section` is empty, or ends with a dot.
    pub(super) fn name_of(&self, entry: &Entry<'_, '_>, section: &str) -> String {
        format!("{}: {section}{}", self.place(entry.line), entry.key)
    }

    /// Sets everything but the agents.
    pub(super) fn apply(
        &self,
        config: &mut NodeConfig,
        origins: &mut Origins,
    ) -> Result<Credentials, InvalidSetting> {
        let mut credentials = Credentials::default();
        for entry in self.entries(&self.root) {
            match entry.key {
                "agents" | "agent_defaults" | "supervisors" => {}
                section if is_section(section) => {
                    let DeValue::Table(table) = entry.value else {
                        let name = self.name_of(&entry, "");
                        return Err(raw(entry.value).refused(&name, "a table"));
                    };
                    let prefix = format!("{section}.");
                    for entry in self.entries(table) {
                        let key = format!("{prefix}{}", entry.key);
                        if key == HEADERS {
                            config.nats_headers = self.headers(&entry)?;
                            origins.insert(HEADERS, self.origin(entry.line));
                        } else if is_section(&key) {
                            self.take_section(&key, &entry, config, origins)?;
                        } else if key == PER_TYPE {
                            config.supervision.limits.max_agents_per_type =
                                self.per_type(&entry)?;
                            origins.insert(PER_TYPE, self.origin(entry.line));
                        } else if !self.take_credential(&key, &entry, &mut credentials)? {
                            self.take(&key, &prefix, &entry, config, origins)?;
                        }
                    }
                }
                key => self.take(key, "", &entry, config, origins)?,
            }
        }
        Ok(credentials)
    }

    /// A section within a section.
    fn take_section(
        &self,
        key: &str,
        entry: &Entry<'_, '_>,
        config: &mut NodeConfig,
        origins: &mut Origins,
    ) -> Result<(), InvalidSetting> {
        let DeValue::Table(table) = entry.value else {
            let name = format!("{}: {key}", self.place(entry.line));
            return Err(raw(entry.value).refused(&name, "a table"));
        };
        let prefix = format!("{key}.");
        for entry in self.entries(table) {
            let key = format!("{prefix}{}", entry.key);
            self.take(&key, &prefix, &entry, config, origins)?;
        }
        Ok(())
    }

    fn take(
        &self,
        key: &str,
        section: &str,
        entry: &Entry<'_, '_>,
        config: &mut NodeConfig,
        origins: &mut Origins,
    ) -> Result<(), InvalidSetting> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            return Err(self.unknown(key, section, entry.line));
        };
        setting.apply(config, &self.name_of(entry, section), raw(entry.value))?;
        origins.insert(setting.key, self.origin(entry.line));
        Ok(())
    }

    /// Whether the entry is one of the credentials. Their values are in no error.
    fn take_credential(
        &self,
        key: &str,
        entry: &Entry<'_, '_>,
        credentials: &mut Credentials,
    ) -> Result<bool, InvalidSetting> {
        let text = || match entry.value {
            DeValue::String(text) if !text.is_empty() => Ok(text.to_string()),
            _ => Err(InvalidSetting::refused(
                format!("{}: {key}", self.place(entry.line)),
                "it must be a text in quotes, and not empty",
            )),
        };
        let path = || {
            text().and_then(|text| {
                credentials_path(&format!("{}: {key}", self.place(entry.line)), text)
            })
        };
        let origin = self.origin(entry.line);
        match key {
            "nats.token" => credentials.token = Some((Secret::new(text()?), origin)),
            "nats.user" => credentials.user = Some((text()?, origin)),
            "nats.password" => credentials.password = Some((Secret::new(text()?), origin)),
            "nats.nkey" => credentials.nkey = Some((path()?, origin)),
            "nats.creds" => credentials.creds = Some((path()?, origin)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The headers of the upgrade request. Their values are in no error.
    fn headers(&self, entry: &Entry<'_, '_>) -> Result<Vec<(String, Secret)>, InvalidSetting> {
        let wrong = |line, reason: String| {
            InvalidSetting::refused(format!("{}: {HEADERS}", self.place(line)), reason)
        };
        let DeValue::Table(table) = entry.value else {
            let reason = "it must be a table, as in { Authorization = \"Bearer …\" }";
            return Err(wrong(entry.line, reason.to_owned()));
        };
        let header = |header: Entry<'_, '_>| match header.value {
            DeValue::String(value) => Ok((header.key.to_owned(), Secret::new(value.as_ref()))),
            _ => Err(wrong(header.line, "a header's value must be a text in quotes".to_owned())),
        };
        let headers = self.entries(table).map(header).collect::<Result<Vec<_>, _>>()?;
        check_headers(&headers).map_err(|reason| wrong(entry.line, reason))?;
        Ok(headers)
    }

    /// The most agents of each of some types. Whether there are such types is known later.
    fn per_type(&self, entry: &Entry<'_, '_>) -> Result<Vec<(String, u32)>, InvalidSetting> {
        let wrong = |line, reason: String| {
            InvalidSetting::refused(format!("{}: {PER_TYPE}", self.place(line)), reason)
        };
        let DeValue::Table(table) = entry.value else {
            let reason = "it must be a table, as in { chaos = 10 }";
            return Err(wrong(entry.line, reason.to_owned()));
        };
        if table.len() > SpawnLimits::MAX_TYPES {
            let (types, most) = (table.len(), SpawnLimits::MAX_TYPES);
            return Err(wrong(entry.line, format!("it names {types} types, and may name {most}")));
        }
        let mut limits = Vec::new();
        for limit in self.entries(table) {
            let number = match raw(limit.value) {
                Raw::Whole(Some(number), _) => u32::try_from(number).ok(),
                _ => None,
            };
            match number.filter(|number| *number <= NodeConfig::MAX_AGENTS) {
                Some(number) => limits.push((limit.key.to_owned(), number)),
                None => {
                    let allowed = format!("a whole number from 0 to {}", NodeConfig::MAX_AGENTS);
                    let name = self.name_of(&limit, "limits.max_agents_per_type.");
                    return Err(raw(limit.value).refused(&name, &allowed));
                }
            }
        }
        Ok(limits)
    }

    fn unknown(&self, key: &str, section: &str, line: usize) -> InvalidSetting {
        let mut known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
        known.extend(["nats.token", "nats.user", "nats.password", "nats.nkey", "nats.creds"]);
        known.extend([HEADERS, PER_TYPE]);
        let mut known: Vec<&str> = known
            .into_iter()
            .filter_map(|key| key.strip_prefix(section))
            .map(|key| key.split_once('.').map_or(key, |(section, _)| section))
            .collect();
        if section.is_empty() {
            known.extend(["agent_defaults", "agents", "supervisors"]);
        }
        known.sort_unstable();
        known.dedup();
        let shown: String = key.chars().take(60).collect();
        let reason = format!("there is no setting {shown:?}; there are {}", known.join(", "));
        InvalidSetting::refused(self.place(line), reason)
    }
}

fn is_section(key: &str) -> bool {
    let has = |setting: &Setting| {
        setting.key.strip_prefix(key).is_some_and(|setting| setting.starts_with('.'))
    };
    SETTINGS.iter().any(has)
}

/// A value of the file as a setting takes it.
pub(super) fn raw<'t>(value: &'t DeValue<'_>) -> Raw<'t> {
    match value {
        DeValue::String(text) => Raw::Text(text),
        DeValue::Integer(number) => {
            let parsed = u64::from_str_radix(number.as_str(), number.radix());
            Raw::Whole(parsed.ok(), number.as_str())
        }
        DeValue::Float(number) => {
            Raw::Float(number.as_str().parse().unwrap_or(f64::NAN), number.as_str())
        }
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(_) => Raw::Other("a list"),
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// A value of the file as JSON, which is what an agent's config is in; dates become text. None for
/// a number that JSON does not have.
pub(super) fn json(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => {
            let (text, radix) = (number.as_str(), number.radix());
            let signed = i64::from_str_radix(text, radix).map(Value::from);
            signed.or_else(|_| u64::from_str_radix(text, radix).map(Value::from)).ok()?
        }
        DeValue::Float(number) => {
            let number = number.as_str().parse().ok()?;
            Value::Number(serde_json::Number::from_f64(number)?)
        }
        DeValue::Boolean(on) => Value::from(*on),
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(values) => {
            Value::Array(values.iter().map(|value| json(value.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => {
            let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some((key.to_string(), json(value.get_ref())?))
            };
            Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}
