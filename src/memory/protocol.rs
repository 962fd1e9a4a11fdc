//! How an agent reaches a store that serves many: requests and responses as plain data that
//! `postcard` can carry, and a backend that speaks them.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{check_key, decode_value, encode_value, MemoryBackend, MemoryError, MAX_VALUE_BYTES};
use crate::agent::AgentId;

/// What an agent asks of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreRequest {
    /// Whose memory it is about.
    pub agent: AgentId,
    /// What to do with it.
    pub operation: StoreOperation,
}

/// What to do with an agent's memory; one for each method of [`MemoryBackend`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreOperation {
    /// Answered with [`StoreResponse::Done`].
    Store {
        /// The key.
        key: String,
        /// The value as JSON.
        value: Vec<u8>,
    },
    /// Answered with [`StoreResponse::Value`].
    Retrieve {
        /// The key.
        key: String,
    },
    /// Answered with [`StoreResponse::Deleted`].
    Delete {
        /// The key.
        key: String,
    },
    /// Answered with [`StoreResponse::Keys`].
    ListKeys {
        /// What the keys begin with; all of them if none.
        prefix: Option<String>,
    },
    /// Answered with [`StoreResponse::Done`].
    Clear,
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreResponse {
    /// It is done.
    Done,
    /// What is kept under the key, as JSON.
    Value(Option<Vec<u8>>),
    /// Whether the key was there.
    Deleted(bool),
    /// The keys, sorted. At worst 100,000 of 512 bytes.
    Keys(Vec<String>),
    /// It could not be done.
    Failed(MemoryError),
}

/// A way to a store. A host that keeps its store in a process of its own implements this, and
/// [`ClientBackend`] makes a backend of it.
pub trait StoreClient: Send + Sync + Debug {
    /// Sends the request and waits for the response. A store that cannot be reached is
    /// [`MemoryError::Unavailable`].
    fn call(&self, request: StoreRequest) -> Result<StoreResponse, MemoryError>;
}

/// One agent's memory at the other end of a [`StoreClient`].
///
/// Its futures are ready at once: it waits inside of [`StoreClient::call`].
#[derive(Debug)]
pub struct ClientBackend<C> {
    agent: AgentId,
    client: C,
}

impl<C: StoreClient> ClientBackend<C> {
    /// The memory of `agent` at the other end of `client`.
    pub fn new(agent: AgentId, client: C) -> Self {
        Self { agent, client }
    }

    fn call(&self, operation: StoreOperation) -> Result<StoreResponse, MemoryError> {
        let response = self.client.call(StoreRequest { agent: self.agent.clone(), operation })?;
        match response {
            StoreResponse::Failed(error) => Err(error),
            done => Ok(done),
        }
    }
}

#[async_trait]
impl<C: StoreClient> MemoryBackend for ClientBackend<C> {
    async fn store(&mut self, key: &str, value: &Value) -> Result<(), MemoryError> {
        // Checked here too, so that nothing too large is sent.
        check_key(key)?;
        let value = encode_value(key, value, MAX_VALUE_BYTES)?;
        let key = key.to_owned();
        match self.call(StoreOperation::Store { key, value })? {
            StoreResponse::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn retrieve(&mut self, key: &str) -> Result<Option<Value>, MemoryError> {
        check_key(key)?;
        match self.call(StoreOperation::Retrieve { key: key.into() })? {
            StoreResponse::Value(json) => json.map(|json| decode_value(key, &json)).transpose(),
            other => Err(unexpected(&other)),
        }
    }

    async fn delete(&mut self, key: &str) -> Result<bool, MemoryError> {
        check_key(key)?;
        match self.call(StoreOperation::Delete { key: key.into() })? {
            StoreResponse::Deleted(was_there) => Ok(was_there),
            other => Err(unexpected(&other)),
        }
    }

    async fn list_keys(&self, prefix: Option<&str>) -> Result<Vec<String>, MemoryError> {
        let prefix = prefix.map(str::to_owned);
        match self.call(StoreOperation::ListKeys { prefix })? {
            StoreResponse::Keys(keys) => Ok(keys),
            other => Err(unexpected(&other)),
        }
    }

    async fn clear(&mut self) -> Result<(), MemoryError> {
        match self.call(StoreOperation::Clear)? {
            StoreResponse::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(response: &StoreResponse) -> MemoryError {
    let kind = match response {
        StoreResponse::Done => "Done",
        StoreResponse::Value(_) => "Value",
        StoreResponse::Deleted(_) => "Deleted",
        StoreResponse::Keys(_) => "Keys",
        StoreResponse::Failed(_) => "Failed",
    };
    MemoryError::Unavailable {
        reason: format!("the store gave {kind} as the answer to something else"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::memory::testing::now;

    /// Answers everything with the same.
    #[derive(Debug)]
    struct Canned(Result<StoreResponse, MemoryError>);

    impl StoreClient for Canned {
        fn call(&self, _: StoreRequest) -> Result<StoreResponse, MemoryError> {
            self.0.clone()
        }
    }

    fn ask_everything(canned: Result<StoreResponse, MemoryError>) -> Vec<Option<MemoryError>> {
        let mut memory = ClientBackend::new(AgentId("a".into()), Canned(canned));
        vec![
            now(memory.store("k", &json!(1))).err(),
            now(memory.retrieve("k")).err(),
            now(memory.delete("k")).err(),
            now(memory.list_keys(None)).err(),
            now(memory.clear()).err(),
        ]
    }

    #[test]
    fn a_failure_comes_through_as_it_is() {
        let error = MemoryError::KeyLength { len: 0, max: 512 };
        for canned in [Ok(StoreResponse::Failed(error.clone())), Err(error.clone())] {
            assert_eq!(ask_everything(canned), vec![Some(error.clone()); 5]);
        }
    }

    #[test]
    fn an_answer_to_something_else_is_an_error() {
        let cases = [
            (StoreResponse::Done, [true, false, false, false, true]),
            (StoreResponse::Value(None), [false, true, false, false, false]),
            (StoreResponse::Deleted(true), [false, false, true, false, false]),
            (StoreResponse::Keys(vec![]), [false, false, false, true, false]),
        ];
        for (canned, fits) in cases {
            let errors = ask_everything(Ok(canned.clone()));
            for (error, fits) in errors.into_iter().zip(fits) {
                assert_eq!(error.is_none(), fits, "{canned:?}: {error:?}");
            }
        }
        let not_json = ask_everything(Ok(StoreResponse::Value(Some(b"{".to_vec()))));
        assert!(matches!(not_json[1], Some(MemoryError::InvalidValue { .. })));
    }
}
