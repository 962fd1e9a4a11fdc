//! The calls that need no node in one's hands. They find the node of the process, so that here one test
//! runs after the other.
#![cfg(all(feature = "nats", not(target_arch = "wasm32")))]
// Waiting in here is real, and has a deadline.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]
// Other tests need more of what is shared.
#![allow(dead_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rust_wasm_lunatic_nats::{NodeConfig, NodeHandle};

#[path = "shared/agents.rs"]
mod agents;
#[path = "shared/facade.rs"]
mod facade;
#[path = "shared/pool.rs"]
mod pool;
#[path = "native/support.rs"]
mod support;
#[path = "shared/watching.rs"]
mod watching;

/// Waits until the node of the test before has ended; nobody else starts one while this is held.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static STARTING: Mutex<()> = Mutex::new(());
    let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    let started = Instant::now();
    let config = NodeConfig::new(support::id("test"));
    while NodeHandle::attach(&config).is_ok() {
        assert!(started.elapsed() < 5 * support::DEADLINE, "a node of another test does not end");
        support::sleep(Duration::from_millis(1));
    }
    Some(starting)
}
