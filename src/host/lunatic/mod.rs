//! Agents as Lunatic processes: each a WebAssembly instance of its own, with its own memory and
//! limits, under a supervision tree.
//!
//! ```text
//! main                      starts the tree, waits for the end, prints the last line
//! └─ root                   starts the parts, and starts one that died again
//!    ├─ keeper              starts the store, whatever becomes of its directory
//!    │  └─ store            the only process with a directory
//!    ├─ connection          owns the NATS session and writes
//!    │  └─ reader           dials, reads, and delivers to whom a message is for
//!    ├─ events              envelopes, NATS, local watchers
//!    ├─ agents              the supervisor of all agents
//!    │  ├─ agent …
//!    │  └─ nursery          makes the processes of agents to be
//!    └─ gateway             agent.command, system.control
//! ```

mod agent;
mod allocator;
pub mod chaos;
#[cfg_attr(not(feature = "wasm-nats"), path = "client_off.rs")]
mod client;
mod clock;
#[cfg_attr(not(feature = "wasm-nats"), path = "connection_off.rs")]
mod connection;
mod deaths;
#[cfg_attr(not(feature = "wasm-nats"), path = "delivery_off.rs")]
mod delivery;
#[cfg(feature = "wasm-nats")]
mod dial;
#[cfg(feature = "wasm-nats")]
mod dispatch;
mod events;
mod facade;
#[cfg(feature = "wasm-nats")]
mod files;
mod gateway;
#[cfg(feature = "wasm-nats")]
mod handover;
mod keeper;
mod local;
mod logger;
mod mail;
mod names;
mod node;
mod observed;
mod pool;
pub mod program;
#[cfg(feature = "wasm-nats")]
mod publishers;
#[cfg(feature = "wasm-nats")]
mod reader;
mod root;
mod spares;
mod store;
#[cfg(feature = "wasm-nats")]
mod stream;
#[cfg(feature = "wasm-nats")]
mod subscription;
mod supervisor;
mod surroundings;
pub mod sys;
mod timer;
#[cfg(feature = "wasm-nats")]
pub mod wasm_nats;

pub use client::{Client as NatsClient, NatsError};
#[cfg(feature = "wasm-nats")]
pub use client::{Events as NatsEvents, SubscribeOptions, Subscription, WhenBusy};
pub use facade::{
    get_agent_state, send_message_to_agent, send_state_action_to_agent, shutdown_agent,
    spawn_agent_supervisor, spawn_single_agent, AgentProcess, AgentSupervisor,
};
pub use node::{Node, NodeBuilder, NodeEvent, NodeHandle, Stopped, Ticket};
pub use pool::AgentPool;
pub use sys::sleep;
