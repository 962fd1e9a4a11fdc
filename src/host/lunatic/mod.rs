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
pub(super) mod clock;
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
#[cfg(feature = "wasm-nats")]
mod files;
mod gateway;
#[cfg(feature = "wasm-nats")]
mod handover;
mod joined;
mod keeper;
mod local;
mod logger;
mod mail;
mod names;
mod node;
mod observed;
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
pub(super) use joined::{deliver, with_node};
pub use node::{Node, NodeBuilder, NodeEvent, NodeHandle, Stopped, Ticket};
pub use sys::sleep;
