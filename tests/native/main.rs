//! Agents as tasks: the tests that each host has to pass, and those of this one.
#![cfg(all(feature = "nats", not(target_arch = "wasm32")))]
// Waiting in here is real, and has a deadline.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../shared/agents.rs"]
mod agents;
#[path = "../shared/config.rs"]
mod config;
#[path = "../shared/deaths.rs"]
mod deaths;
#[path = "../shared/health.rs"]
mod health;
#[path = "../shared/messages.rs"]
mod messages;
mod nats;
#[path = "../shared/state.rs"]
mod state;
#[path = "../shared/stop.rs"]
mod stop;
mod support;
mod tasks;
#[path = "../shared/trees.rs"]
mod trees;
#[path = "../shared/watching.rs"]
mod watching;

/// Each test has a node of its own, beside those of the others: nobody waits.
fn alone() -> Option<std::sync::MutexGuard<'static, ()>> {
    None
}
