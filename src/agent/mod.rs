//! Agents: what they are called, what they are made of, and what they do.

mod config;
mod id;

pub use config::{AgentConfig, InvalidAgentConfig, MemoryBackendType, RestartType};
pub use id::{AgentId, InvalidAgentId};
