//! Agents as tasks of one process: the same core as under Lunatic, on tokio, with NATS by
//! `async-nats`.
//!
//! ```text
//! main                      starts the node, waits for the end, prints the last line
//! ├─ thread `node`          what looks after the agents: none of them can keep it from doing so
//! │  ├─ agents              the supervisor: starts the tasks, kills them, asks how they do
//! │  └─ events              patterns and alerts, local watchers
//! └─ threads `agents`       one for each core
//!    └─ agent …             a task each
//! ```
//!
//! # What a task does not contain
//! All agents share one process, and take turns on its threads. What ends a Lunatic process alone is
//! this to a task:
//!
//! | what the agent does | under Lunatic | here |
//! | --- | --- | --- |
//! | panics | the agent dies | the agent dies: caught, with its message and place. (Not in a build with `panic = "abort"`, which ends the whole process) |
//! | waits for ever in an `await` | is killed after `timeout_ms` | is killed after `timeout_ms` |
//! | loops for ever without an `await` | is killed after `timeout_ms` | **cannot be killed.** After `timeout_ms` its mailbox is closed, it is cut off from everybody and a replacement starts; the loop holds one of the threads until it ends. It is told in the log and counted as `stuck_tasks` in the node's counters; when each thread has such a loop, no agent runs any more |
//! | overflows its stack | the agent dies | **the process ends** |
//! | takes more memory than `max_memory_mb` | the agent dies | **nothing limits it**; the machine's limit ends the process. `memory_usage` is `null` |
//! | uses up `max_fuel` | the agent dies | **nothing counts it** |
//! | calls `exit` | the agent dies | **the process ends** |
//! | reads files, the environment, opens sockets | it cannot | it can: there is no sandbox |
//!
//! For code that one does not trust there is the Lunatic host.

mod agent;
mod block;
pub(super) mod chaos;
pub(super) mod clock;
mod directory;
mod events;
mod gateway;
mod joined;
mod logger;
mod mailbox;
pub mod nats;
mod node;
mod panics;
mod parts;
mod ports;
pub mod program;
mod shared;
mod signals;
mod store;
mod supervisor;
mod surroundings;
mod transport;
mod wire;

pub use mailbox::MailboxLimits;
pub use node::{AsyncNode, Node, NodeBuilder, NodeClient, NodeEvent, NodeHandle, Stopped, Ticket};
pub use transport::{Supervision, Transport};

pub(super) use joined::{deliver, with_node};

use std::time::Duration;

/// Waits. It blocks the thread, as every call of a [`NodeHandle`] does: it is for `main`, not for an
/// agent, which takes `tokio::time::sleep`.
#[allow(clippy::disallowed_methods)] // It is nobody's thread but the caller's.
pub fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}
