//! Tests inside the runtime: each has a process and a node of its own. Run them with
//! `cargo test --target wasm32-wasip1 --no-default-features --features wasm-only --test lunatic`.
#![cfg(target_os = "wasi")]
// Waiting in here is real, and has a deadline.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../shared/agents.rs"]
mod agents;
#[path = "../shared/config.rs"]
mod config;
#[path = "../shared/deaths.rs"]
mod deaths;
#[path = "../shared/facade.rs"]
mod facade;
#[path = "../shared/health.rs"]
mod health;
#[path = "../shared/messages.rs"]
mod messages;
#[cfg(feature = "wasm-nats")]
mod nats;
#[path = "../shared/pool.rs"]
mod pool;
mod sandbox;
#[path = "../shared/state.rs"]
mod state;
#[path = "../shared/stop.rs"]
mod stop;
#[path = "stop.rs"]
mod stop_of_parts;
mod supervisor;
mod support;
mod tree;
#[path = "../shared/trees.rs"]
mod trees;
#[path = "trees.rs"]
mod trees_again;
#[path = "../shared/watching.rs"]
mod watching;
