//! The store of file-backed agents. To wait for the disk blocks a thread, so that is done on those
//! that the runtime has for it, one operation at a time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::agent::AgentId;
use crate::memory::{
    check_key, decode_value, encode_value, FileStore, MemoryBackend, MemoryError, MAX_VALUE_BYTES,
};

/// The files of all agents of a node.
#[derive(Clone, Debug)]
pub(super) struct Store {
    files: Arc<Mutex<FileStore>>,
    /// Whose turn it is: who waits holds no thread.
    turn: Arc<Semaphore>,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Self, MemoryError> {
        let files = Arc::new(Mutex::new(FileStore::open(dir)?));
        Ok(Self { files, turn: Arc::new(Semaphore::new(1)) })
    }

    /// The memory of one agent.
    pub(super) fn backend(&self, agent: AgentId) -> Box<dyn MemoryBackend> {
        Box::new(StoreBackend { agent, store: self.clone() })
    }
}

/// One agent's memory in files.
#[derive(Debug)]
struct StoreBackend {
    agent: AgentId,
    store: Store,
}

impl StoreBackend {
    /// Does something with the files. What was begun is done, also if the agent is killed meanwhile.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut FileStore, &AgentId) -> Result<T, MemoryError> + Send + 'static,
    ) -> Result<T, MemoryError> {
        let (files, agent) = (Arc::clone(&self.store.files), self.agent.clone());
        let turn = Arc::clone(&self.store.turn).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // A panic in the middle leaves the counts of one agent off by one at worst.
            let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut files, &agent)
        });
        done.await.unwrap_or_else(|error| {
            Err(MemoryError::Unavailable { reason: format!("the store failed: {error}") })
        })
    }
}

#[async_trait]
impl MemoryBackend for StoreBackend {
    async fn store(&mut self, key: &str, value: &Value) -> Result<(), MemoryError> {
        check_key(key)?;
        let (key, value) = (key.to_owned(), encode_value(key, value, MAX_VALUE_BYTES)?);
        self.work(move |files, agent| files.store(agent, &key, &value)).await
    }

    async fn retrieve(&mut self, key: &str) -> Result<Option<Value>, MemoryError> {
        check_key(key)?;
        let of = key.to_owned();
        let json = self.work(move |files, agent| files.retrieve(agent, &of)).await?;
        json.map(|json| decode_value(key, &json)).transpose()
    }

    async fn delete(&mut self, key: &str) -> Result<bool, MemoryError> {
        check_key(key)?;
        let key = key.to_owned();
        self.work(move |files, agent| files.delete(agent, &key)).await
    }

    async fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, MemoryError> {
        let prefix = prefix.map(str::to_owned);
        self.work(move |files, agent| files.list_keys(agent, prefix.as_deref())).await
    }

    async fn clear(&mut self) -> Result<(), MemoryError> {
        self.work(|files, agent| files.clear(agent)).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_one_agent_stores_is_there_for_it_alone_and_again() {
        let dir = std::env::temp_dir().join(format!("native-store-{}", std::process::id()));
        let id = |name: &str| AgentId(name.to_owned());
        let store = Store::open(&dir).expect("a directory");
        let mut a = store.backend(id("a"));
        a.store("k", &json!({ "n": 1 })).await.expect("it fits");
        a.store("l", &json!(2)).await.expect("it fits");
        assert!(a.store("", &json!(1)).await.is_err(), "the same rules as in each backend");
        assert_eq!(a.list_keys(Some("k")).await, Ok(vec!["k".to_owned()]));
        assert_eq!(store.backend(id("b")).retrieve("k").await, Ok(None));
        let mut again = Store::open(&dir).expect("a directory").backend(id("a"));
        assert_eq!(again.retrieve("k").await, Ok(Some(json!({ "n": 1 }))));
        assert_eq!(again.delete("k").await, Ok(true));
        assert_eq!(again.clear().await, Ok(()));
        assert_eq!(again.list_keys(None).await, Ok(Vec::new()));
        std::fs::remove_dir_all(&dir).expect("it is there");
    }
}
