//! Memory that lives as long as the agent's incarnation does.

use std::collections::BTreeMap;
use std::ops::Bound;

use async_trait::async_trait;
use serde_json::Value;

use super::{check_key, decode_value, encode_value, MemoryBackend, MemoryError, MAX_VALUE_BYTES};

/// Memory in the agent's own memory: fast, and empty after a crash.
///
/// Values are kept as JSON text, so that what they take is what they are long.
#[derive(Debug, Default)]
pub struct InMemoryBackend {
    values: BTreeMap<String, Box<[u8]>>,
    bytes: usize,
    limits: InMemoryLimits,
}

/// What an [`InMemoryBackend`] can hold. At worst it takes `max_bytes` and about 100 bytes for
/// each key; on Lunatic the agent's own memory limit ends it before that if it is lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InMemoryLimits {
    /// The largest value, in bytes of JSON. Default: 1 MiB.
    pub max_value_bytes: usize,
    /// The most keys. Default: 100,000 (10 MB beside their bytes).
    pub max_keys: usize,
    /// The most bytes of all keys and values together. Default: 64 MiB.
    pub max_bytes: usize,
}

impl Default for InMemoryLimits {
    fn default() -> Self {
        Self { max_value_bytes: MAX_VALUE_BYTES, max_keys: 100_000, max_bytes: 64 << 20 }
    }
}

impl InMemoryBackend {
    /// An empty one with the default limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with these limits.
    pub fn with_limits(limits: InMemoryLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// How many keys it holds.
    pub fn keys(&self) -> usize {
        self.values.len()
    }

    /// How many bytes its keys and values take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[async_trait]
impl MemoryBackend for InMemoryBackend {
    async fn store(&mut self, key: &str, value: &Value) -> Result<(), MemoryError> {
        check_key(key)?;
        let json = encode_value(key, value, self.limits.max_value_bytes)?;
        let old = self.values.get(key);
        if old.is_none() && self.values.len() >= self.limits.max_keys {
            return Err(MemoryError::TooManyKeys {
                key: key.to_owned(),
                max: self.limits.max_keys,
            });
        }
        let replaced = old.map_or(0, |old| key.len() + old.len());
        let bytes = self.bytes - replaced + key.len() + json.len();
        if bytes > self.limits.max_bytes {
            return Err(MemoryError::Full { key: key.to_owned(), max: self.limits.max_bytes });
        }
        self.bytes = bytes;
        self.values.insert(key.to_owned(), json.into());
        Ok(())
    }

    async fn retrieve(&mut self, key: &str) -> Result<Option<Value>, MemoryError> {
        check_key(key)?;
        self.values.get(key).map(|json| decode_value(key, json)).transpose()
    }

    async fn delete(&mut self, key: &str) -> Result<bool, MemoryError> {
        check_key(key)?;
        let Some(json) = self.values.remove(key) else {
            return Ok(false);
        };
        self.bytes -= key.len() + json.len();
        Ok(true)
    }

    async fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, MemoryError> {
        let prefix = prefix.unwrap_or_default();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        Ok(self
            .values
            .range::<str, _>(from)
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .cloned()
            .collect())
    }

    async fn clear(&mut self) -> Result<(), MemoryError> {
        self.values.clear();
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::memory::testing::{backend_suite, now};

    #[test]
    fn it_does_what_every_backend_does() {
        backend_suite(|| Box::new(InMemoryBackend::new()));
    }

    #[test]
    fn each_limit_is_kept_and_room_is_given_back() {
        let mut memory = InMemoryBackend::with_limits(InMemoryLimits {
            max_value_bytes: 10,
            max_keys: 2,
            max_bytes: 12,
        });
        let mut store = |key: &str, value: Value| now(memory.store(key, &value));
        assert_eq!(store("a", json!(12345)), Ok(()));
        let too_large = store("a", json!("123456789")).expect_err("11 bytes");
        assert!(matches!(too_large, MemoryError::ValueTooLarge { max: 10, .. }));
        let full = store("b", json!(123456)).expect_err("13 bytes in all");
        assert!(matches!(full, MemoryError::Full { max: 12, .. }));
        assert_eq!(store("b", json!(12345)), Ok(()), "12 bytes in all");
        let third = store("c", json!(1)).expect_err("a third key");
        assert!(matches!(third, MemoryError::TooManyKeys { max: 2, .. }));
        assert_eq!(store("a", json!(1)), Ok(()), "an old key is no new one");
        assert_eq!((memory.keys(), memory.bytes()), (2, 8));
        assert_eq!(now(memory.delete("b")), Ok(true));
        assert_eq!((memory.keys(), memory.bytes()), (1, 2));
        assert_eq!(now(memory.clear()), Ok(()));
        assert_eq!((memory.keys(), memory.bytes()), (0, 0));
    }
}
