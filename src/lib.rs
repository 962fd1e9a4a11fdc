//! Supervised, sandboxed agents on NATS.

pub mod agent;
pub mod host;
pub mod memory;
pub mod message;
#[cfg(feature = "wasm-nats")]
pub mod nats;
pub mod supervision;
pub mod time;

pub use agent::{AgentConfig, AgentId, MemoryBackendType, RestartType};
pub use message::Message;
