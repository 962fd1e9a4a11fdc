//! Supervised, sandboxed agents on NATS.

pub mod agent;
pub mod cli;
pub mod config;
pub mod error;
pub mod host;
pub mod memory;
pub mod message;
#[cfg(feature = "wasm-nats")]
pub mod nats;
pub mod supervision;
pub mod surroundings;
pub mod time;

pub use agent::{Agent, AgentConfig, AgentId, AgentState, Context, MemoryBackendType, RestartType};
pub use config::NodeConfig;
pub use error::{Error, RequestError, Result, SendError, SpawnError};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub use memory::FileBackend;
pub use memory::{InMemoryBackend, MemoryBackend, MemoryError, StateAction};
pub use message::Message;
