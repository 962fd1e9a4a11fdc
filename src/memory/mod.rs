//! What an agent remembers, and where: [`MemoryBackend`] and its implementations.
//!
//! | backend | after a crash | where |
//! | --- | --- | --- |
//! | [`InMemoryBackend`] | empty | every host |
//! | `FileBackend` | as it was | native; on Lunatic in the one process that has a directory |
//! | [`ClientBackend`] | as the store at its other end | whatever can reach a `FileStore` |
//!
//! All of them keep the same rules for keys and values and report with the same [`MemoryError`].

mod action;
mod error;
mod in_memory;
mod protocol;
mod value;

// Without a file system there is no file backend: the one target `cfg` outside of `host`.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
mod file;

use std::fmt::Debug;

use async_trait::async_trait;
use serde_json::Value;

pub use action::StateAction;
pub use error::{FileOperation, MemoryError};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub use file::{FileBackend, FileLimits, FileStore, LocalStore};
pub use in_memory::{InMemoryBackend, InMemoryLimits};
pub use protocol::{ClientBackend, StoreClient, StoreOperation, StoreRequest, StoreResponse};
pub use value::{check_key, decode_value, encode_value, MAX_DEPTH, MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// A place where an agent keeps values under keys.
///
/// A key is any text of 1 to [`MAX_KEY_BYTES`] bytes, a value any JSON of at most
/// [`MAX_VALUE_BYTES`] when encoded. What was stored is what is retrieved: a backend that cannot
/// promise that for a value refuses it.
#[async_trait]
pub trait MemoryBackend: Send + Sync + Debug {
    /// Keeps `value` under `key`, in place of what was there.
    async fn store(&mut self, key: &str, value: &Value) -> Result<(), MemoryError>;

    /// What is kept under `key`.
    async fn retrieve(&mut self, key: &str) -> Result<Option<Value>, MemoryError>;

    /// Forgets `key`; whether it was there.
    async fn delete(&mut self, key: &str) -> Result<bool, MemoryError>;

    /// The keys that begin with `prefix`, or all of them; sorted by their bytes.
    async fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, MemoryError>;

    /// Forgets everything.
    async fn clear(&mut self) -> Result<(), MemoryError>;
}

#[cfg(test)]
pub(crate) mod testing;
