//! Tests inside the runtime: each has a process and a node of its own. Run them with
//! `cargo test --target wasm32-wasip1 --no-default-features --features wasm-only --test lunatic`.
#![cfg(target_os = "wasi")]
// Waiting in here is real, and has a deadline.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

mod config;
mod facade;
mod health;
mod messages;
#[cfg(feature = "wasm-nats")]
mod nats;
mod pool;
mod sandbox;
mod state;
mod stop;
mod supervisor;
mod support;
mod tree;
mod trees;
