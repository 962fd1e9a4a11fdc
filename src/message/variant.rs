//! Externally tagged enums from outside, taken apart by hand: serde's own errors do not name the
//! field that is wrong, and take no `"Ping"` for `{"Ping":{}}`.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::body::{take_id, wrong_kind};
use super::WireError;
use crate::agent::AgentId;

/// A variant of an externally tagged enum, taken apart: `{"Ping":{…}}`, `{"Ping":null}` or
/// `"Ping"`.
#[derive(Debug)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) fields: Map<String, Value>,
}

impl Variant {
    pub(crate) fn from_value(value: Value) -> Result<Self, WireError> {
        let map = match value {
            Value::String(name) => {
                let fields = Map::new();
                return Ok(Self { name, fields });
            }
            Value::Object(map) => map,
            other => return Err(wrong_kind("the body", &other, "a string or an object")),
        };
        match only_entry(map)? {
            (name, Value::Object(fields)) => Ok(Self { name, fields }),
            (name, Value::Null) => Ok(Self { name, fields: Map::new() }),
            (name, other) => Err(wrong_kind(&name, &other, "an object")),
        }
    }

    pub(crate) fn required(&mut self, field: &str) -> Result<Value, WireError> {
        self.fields
            .remove(field)
            .ok_or_else(|| WireError::bad_shape(format!("{} needs {field}", self.name)))
    }

    /// Takes a field that may be absent or `null`.
    pub(crate) fn optional(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    pub(crate) fn optional_id(
        &mut self,
        field: &'static str,
    ) -> Result<Option<AgentId>, WireError> {
        if self.fields.get(field).is_none_or(Value::is_null) {
            self.fields.remove(field);
            return Ok(None);
        }
        take_id(&mut self.fields, field).map(Some)
    }

    pub(crate) fn number(
        &mut self,
        field: &str,
        allowed: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, WireError> {
        match self.optional(field) {
            None => Ok(default),
            Some(value) => match value.as_u64() {
                Some(number) if allowed.contains(&number) => Ok(number),
                _ => Err(WireError::bad_shape(format!(
                    "{field} is {value}, and must be {} to {}",
                    allowed.start(),
                    allowed.end()
                ))),
            },
        }
    }

    /// There is no such variant of `what`.
    pub(crate) fn unknown(&self, what: &str, known: &str) -> WireError {
        unknown(what, &self.name, known)
    }

    /// Nothing is ignored in a command: what was asked for and not understood is not done.
    pub(crate) fn nothing_left(&self) -> Result<(), WireError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(field) => {
                Err(WireError::bad_shape(format!("{} has no field {field:?}", self.name)))
            }
        }
    }
}

/// The name and the content of a tagged value.
pub(super) fn only_entry(map: Map<String, Value>) -> Result<(String, Value), WireError> {
    let found = map.len();
    let mut entries = map.into_iter();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(entry),
        _ => Err(WireError::bad_shape(format!(
            "the body has {found} fields, and must have the name of what it is as the only one"
        ))),
    }
}

pub(super) fn unknown(what: &str, name: &str, known: &str) -> WireError {
    WireError::bad_shape(format!("there is no {what} {name:?}: {known}"))
}

/// Reads a struct whose fields all have defaults, and names the field that is wrong: serde's errors
/// name an unknown field, but not the field of a wrong value.
pub(crate) fn strict_fields<T: DeserializeOwned>(
    map: Map<String, Value>,
    name: &str,
) -> Result<T, WireError> {
    for (field, value) in &map {
        let alone = Value::Object(Map::from_iter([(field.clone(), value.clone())]));
        serde_json::from_value::<T>(alone)
            .map_err(|error| WireError::bad_shape(format!("{name}.{field}: {error}")))?;
    }
    serde_json::from_value(Value::Object(map))
        .map_err(|error| WireError::bad_shape(format!("{name}: {error}")))
}
