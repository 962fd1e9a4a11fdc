//! A host for the pure NATS client on threads of the system, and what its tests stand on: real
//! nats-servers, another client library, a bad network, and who keeps the books of what was sent.
//!
//! Nothing here sleeps for a fixed time: conditions are polled until a deadline.

mod books;
mod client;
mod jwt;
mod owner;
mod peer;
mod proxy;
mod reader;
mod server;

use std::time::{Duration, Instant};

pub use books::{Arrivals, Books, Sum, body};
pub use client::{Client, PublishRefused, RequestFailed, Subscription};
pub use jwt::{Account, Operator, User};
pub use peer::{Inbox, Peer};
pub use proxy::{Cut, Proxy, Way};
pub use server::{Cluster, Server};

/// How long anything may take that ought to happen at once, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(20);

/// Polls until `condition` gives something; fails with `what` if it has not by the deadline.
#[track_caller]
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
