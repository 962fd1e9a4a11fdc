//! The hosts. Target `cfg` stands here and, but for the file backend, nowhere else in `src/`.

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub mod lunatic;
#[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
pub mod native;

// What is written once for the hosts that run agents finds its own as `here`.
#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
use lunatic as here;
#[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
use native as here;

#[cfg(any(target_os = "wasi", all(feature = "nats", not(target_arch = "wasm32"))))]
mod facade;
#[cfg(any(target_os = "wasi", all(feature = "nats", not(target_arch = "wasm32"))))]
mod pool;
#[cfg(any(target_os = "wasi", all(feature = "nats", not(target_arch = "wasm32"))))]
mod program;

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub use lunatic::program::main;
#[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
pub use native::program::main;

use crate::agent::AgentId;

/// Random bytes from the system: for the hosts, which hand them to the core.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // On Lunatic, wasip1's `random_get` asks the system of the runtime; in a browser, it is Web
    // Crypto. Neither they nor a system that has booted can refuse.
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

impl AgentId {
    /// A new id: a UUID v4 from the system's randomness. It is the hosts' and their users'; the
    /// core makes ids from what it is handed, with [`AgentId::from_random`].
    #[allow(clippy::new_without_default)] // A default would be expected to be the same each time.
    pub fn new() -> Self {
        Self::from_random(random())
    }
}

/// What the crate's root shows of this target's host.
pub(crate) mod root {
    #[cfg(any(target_os = "wasi", all(feature = "nats", not(target_arch = "wasm32"))))]
    pub use super::{
        facade::{
            get_agent_state, send_message_to_agent, send_state_action_to_agent, shutdown_agent,
            spawn_agent_supervisor, spawn_single_agent, AgentProcess, AgentSupervisor,
        },
        here::{sleep, Node, NodeBuilder, NodeEvent, NodeHandle},
        pool::AgentPool,
    };

    #[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
    pub use super::native::{AsyncNode, MailboxLimits, NodeClient, Supervision, Transport};

    #[cfg(all(feature = "wasm-nats", target_arch = "wasm32", target_os = "wasi"))]
    pub use super::lunatic::wasm_nats;

    #[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
    pub use super::native::nats as native_nats;
    #[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
    pub use super::native::nats::{
        ConnectionState, ConnectionStats, NatsConfig, NatsConnection, NatsError, Subscription,
    };
}

/// The program, where its host is not there yet: says so.
#[cfg(not(any(target_os = "wasi", all(feature = "nats", not(target_arch = "wasm32")))))]
pub fn main() -> std::process::ExitCode {
    eprintln!(
        "this build of rust-wasm-lunatic-nats has no host to run agents on: natively that is the \
         feature nats, which is there by default; scripts/run builds it for Lunatic and runs it there"
    );
    std::process::ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_are_valid_version_4_uuids_and_differ() {
        let (one, other) = (AgentId::new(), AgentId::new());
        assert_ne!(one, other);
        for id in [one, other] {
            assert_eq!(id.validate(), Ok(()));
            assert_eq!((id.as_str().len(), id.as_str().as_bytes()[14]), (36, b'4'), "{id}");
        }
    }
}
