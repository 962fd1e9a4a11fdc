//! Memory in files: there again after a crash, of the agent, the node or the machine.

mod agent_dir;
mod disk;
mod name;
mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use agent_dir::AgentDir;
use disk::Disk;

use super::value::check_json;
use super::{
    check_key, ClientBackend, MemoryError, StoreClient, StoreOperation, StoreRequest,
    StoreResponse, MAX_VALUE_BYTES,
};
use crate::agent::AgentId;

/// The most agents whose counts a store keeps in mind (about 300 bytes each). With one more it
/// forgets all of them, and counts again when they are next asked for.
const MAX_OPEN: usize = 10_000;

/// What a [`FileStore`] can hold for each agent. At worst `max_keys` × (`max_value_bytes` + 532)
/// on the disk, by default 100 GiB; and `max_set_aside` × 16 MiB of corrupt files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// The largest value, in bytes of JSON; at most 16 MiB. Default: 1 MiB.
    pub max_value_bytes: usize,
    /// The most keys. Default: 100,000.
    pub max_keys: usize,
    /// The most corrupt files that are set aside. Later ones stay where they are, are reported
    /// each time, and cannot be stored over until an operator has looked. Default: 100.
    pub max_set_aside: usize,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self { max_value_bytes: MAX_VALUE_BYTES, max_keys: 100_000, max_set_aside: 100 }
    }
}

/// Keeps many agents' values in files: for each agent a directory that has its id as its name, in
/// it for each key a file.
///
/// A value is written beside the old one, brought to the disk, and renamed over it: a kill or a
/// power cut at any moment leaves the old value or the new one. A file that is neither is reported
/// ([`MemoryError::Corrupt`]) and set aside under a name of its own; after that its key is absent.
///
/// Every call waits for the disk. On Lunatic that blocks a thread of the runtime, so the store
/// lives in one process, a loop around [`FileStore::serve`]. A directory belongs to one store at
/// a time: a second one would remove what the first is about to rename (and report that).
#[derive(Debug)]
pub struct FileStore {
    dir: PathBuf,
    limits: FileLimits,
    disk: Disk,
    agents: HashMap<AgentId, AgentDir>,
}

impl FileStore {
    /// Opens the store in `dir`, which is made if it does not exist.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, MemoryError> {
        Self::with_limits(dir, FileLimits::default())
    }

    /// Opens it with other limits.
    pub fn with_limits(dir: impl Into<PathBuf>, limits: FileLimits) -> Result<Self, MemoryError> {
        let store = Self {
            dir: dir.into(),
            limits: FileLimits {
                max_value_bytes: limits.max_value_bytes.min(record::MAX_READ_VALUE),
                ..limits
            },
            disk: Disk::default(),
            agents: HashMap::new(),
        };
        store.disk.create_dir(&store.dir)?;
        Ok(store)
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps `value_json`, which has to be JSON, under `key`. When this returns it is on the disk.
    pub fn store(
        &mut self,
        agent: &AgentId,
        key: &str,
        value_json: &[u8],
    ) -> Result<(), MemoryError> {
        check_key(key)?;
        check_json(key, value_json, self.limits.max_value_bytes)?;
        self.with_agent(agent, |dir, disk| dir.store(disk, key, value_json))
    }

    /// What is kept under `key`, as JSON.
    pub fn retrieve(&mut self, agent: &AgentId, key: &str) -> Result<Option<Vec<u8>>, MemoryError> {
        check_key(key)?;
        self.with_agent(agent, |dir, disk| dir.retrieve(disk, key))
    }

    /// Forgets `key`; whether it was there. A corrupt file goes too.
    pub fn delete(&mut self, agent: &AgentId, key: &str) -> Result<bool, MemoryError> {
        check_key(key)?;
        self.with_agent(agent, |dir, disk| dir.delete(disk, key))
    }

    /// The keys that begin with `prefix`, sorted. Keys of more than about 200 bytes are read from
    /// their files; a corrupt one among those is reported here.
    pub fn list_keys(
        &mut self,
        agent: &AgentId,
        prefix: Option<&str>,
    ) -> Result<Vec<String>, MemoryError> {
        self.with_agent(agent, |dir, disk| dir.list_keys(disk, prefix.unwrap_or_default()))
    }

    /// Forgets all of the agent's keys, one after the other; what was set aside stays.
    pub fn clear(&mut self, agent: &AgentId) -> Result<(), MemoryError> {
        self.with_agent(agent, |dir, disk| dir.clear(disk))
    }

    /// Does what is asked. A failure is a response too.
    pub fn serve(&mut self, request: StoreRequest) -> StoreResponse {
        let StoreRequest { agent, operation } = request;
        let done = match operation {
            StoreOperation::Store { key, value } => {
                self.store(&agent, &key, &value).map(|()| StoreResponse::Done)
            }
            StoreOperation::Retrieve { key } => {
                self.retrieve(&agent, &key).map(StoreResponse::Value)
            }
            StoreOperation::Delete { key } => self.delete(&agent, &key).map(StoreResponse::Deleted),
            StoreOperation::ListKeys { prefix } => {
                self.list_keys(&agent, prefix.as_deref()).map(StoreResponse::Keys)
            }
            StoreOperation::Clear => self.clear(&agent).map(|()| StoreResponse::Done),
        };
        done.unwrap_or_else(StoreResponse::Failed)
    }

    fn with_agent<T>(
        &mut self,
        agent: &AgentId,
        work: impl FnOnce(&mut AgentDir, &Disk) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        if !self.agents.contains_key(agent) {
            // The id is the directory's name: nothing else than an id may become one.
            agent
                .validate()
                .map_err(|error| MemoryError::InvalidAgent { reason: error.to_string() })?;
            let opened = AgentDir::open(&self.disk, &self.dir, agent, self.limits)?;
            if self.agents.len() >= MAX_OPEN {
                self.agents.clear();
            }
            self.agents.insert(agent.clone(), opened);
        }
        let Some(dir) = self.agents.get_mut(agent) else {
            return Err(MemoryError::Unavailable {
                reason: format!("the directory of agent {agent} is not open"),
            });
        };
        let done = work(dir, &self.disk);
        if matches!(done, Err(MemoryError::Io { .. } | MemoryError::Unavailable { .. })) {
            // What was counted may be wrong now, or the directory gone: look again next time.
            self.agents.remove(agent);
        }
        done
    }
}

/// A [`FileStore`] in the same process.
#[derive(Debug)]
pub struct LocalStore(Mutex<FileStore>);

impl StoreClient for LocalStore {
    fn call(&self, request: StoreRequest) -> Result<StoreResponse, MemoryError> {
        // A panic in the middle leaves the counts of one agent off by one at worst.
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(store.serve(request))
    }
}

/// One agent's memory in files of this process; see [`FileStore`]. Its futures are ready at once:
/// they wait for the disk where they are polled.
pub type FileBackend = ClientBackend<LocalStore>;

impl FileBackend {
    /// The memory of `agent` in the directory `dir`, which is made if it does not exist.
    pub fn open(dir: impl Into<PathBuf>, agent: &AgentId) -> Result<Self, MemoryError> {
        let mut store = FileStore::open(dir)?;
        // Opens the agent's directory now, so that what is wrong with it is said here.
        store.with_agent(agent, |_, _| Ok(()))?;
        Ok(Self::new(agent.clone(), LocalStore(Mutex::new(store))))
    }
}
