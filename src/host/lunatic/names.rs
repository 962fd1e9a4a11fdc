//! The names under which processes of a node find each other.

use super::sys::{self, Pid};

/// The parts of a node, each registered by the root supervisor under its name.
pub(crate) const SUPERVISOR: &str = "node/agents";
pub(crate) const CONNECTION: &str = "node/connection";
pub(crate) const EVENTS: &str = "node/events";
pub(crate) const STORE: &str = "node/store";
pub(crate) const GATEWAY: &str = "node/gateway";
/// What starts the store, and starts it again.
pub(crate) const STORE_KEEPER: &str = "node/store-keeper";
/// The events process, once there is somebody whom it tells: a server, or a process that watches.
pub(crate) const LISTENED: &str = "node/listened";
/// Registered by the connection while it is up, and only then.
pub(crate) const ONLINE: &str = "node/online";

/// What a process that watches the events is registered under. The events process finds its
/// watchers there again when it was restarted: the names outlive it.
pub(crate) fn watcher(number: usize) -> String {
    format!("node/watcher/{number}")
}

/// Registered by a connection of a process's own while it is up, and only then.
#[cfg(feature = "wasm-nats")]
pub(crate) fn own_online(connection: Pid) -> String {
    format!("online/{}", connection.0)
}

/// Says under such a name that this connection is up, and what its server takes: the registry has
/// room for a second number, and who publishes looks here anyway.
#[cfg(feature = "wasm-nats")]
pub(crate) fn register_online(name: &str, max_payload: u64) {
    sys::register_for(name, sys::this(), Pid(max_payload));
}

/// What the server of the connection under such a name takes at most, if it is up.
#[cfg(feature = "wasm-nats")]
pub(crate) fn online(name: &str) -> Option<usize> {
    let (connection, Pid(max_payload)) = sys::lookup_with_keeper(name)?;
    sys::exists(connection).then(|| usize::try_from(max_payload).unwrap_or(usize::MAX))
}

/// What an agent is registered under. Stays while it is being restarted, and goes when it is gone
/// for good: so a name without a living process means "being restarted".
pub(crate) fn agent(id: &str) -> String {
    let mut name = String::with_capacity("agent/".len() + id.len());
    name.push_str("agent/");
    name.push_str(id);
    name
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// A process that runs.
    Runs(Pid),
    /// The process under this name has died; its replacement is on the way.
    Dead,
    /// Nobody has this name.
    Unknown,
}

/// Looks a name up, and whether who has it lives. Where the keeper of the name is dead too, nobody
/// starts another: an agent whose supervisor died went with it.
pub(crate) fn look_up(name: &str) -> Lookup {
    match sys::lookup_with_keeper(name) {
        Some((pid, _)) if sys::exists(pid) => Lookup::Runs(pid),
        Some((_, keeper)) if keeper != Pid(0) && !sys::exists(keeper) => Lookup::Unknown,
        Some(_) => Lookup::Dead,
        None => Lookup::Unknown,
    }
}

/// The process of a part of the node, if it runs now. The answer is kept by the caller and checked
/// again with [`sys::exists`].
#[derive(Debug)]
pub(crate) struct Part {
    name: &'static str,
    known: Option<Pid>,
}

impl Part {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, known: None }
    }

    pub(crate) fn pid(&mut self) -> Option<Pid> {
        if let Some(pid) = self.known.filter(|&pid| sys::exists(pid)) {
            return Some(pid);
        }
        self.known = match look_up(self.name) {
            Lookup::Runs(pid) => Some(pid),
            _ => None,
        };
        self.known
    }
}
