//! Supervised, sandboxed agents on NATS.

pub mod agent;
pub mod cli;
pub mod config;
pub mod coordination;
pub mod error;
pub mod gateway;
pub mod host;
pub mod log_line;
pub mod memory;
pub mod message;
#[cfg(feature = "nats-core")]
pub mod nats;
pub mod node;
mod secret;
pub mod supervision;
pub mod surroundings;
mod text;
pub mod time;

pub use agent::{Agent, AgentConfig, AgentId, AgentState, Context, MemoryBackendType, RestartType};
pub use config::NodeConfig;
pub use error::{Error, RequestError, Result, SendError, SpawnError};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub use memory::FileBackend;
pub use memory::{InMemoryBackend, MemoryBackend, MemoryError, StateAction};
pub use message::{Headers, Message, NatsMessage};
#[cfg(feature = "nats-core")]
pub use nats::NatsPublisher;
pub use secret::Secret;

// There is nothing in it on a target whose host is not there yet.
#[doc(inline)]
#[allow(unused_imports, unreachable_pub)]
pub use host::root::*;
