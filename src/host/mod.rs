//! The hosts. Target `cfg` stands here and, but for the file backend, nowhere else in `src/`.

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub mod lunatic;

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub use lunatic::program::main;

#[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
pub mod native;

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

/// Waits until the system tells this program to end, where it has words for that: SIGTERM or SIGHUP.
#[cfg(all(feature = "operator", unix, not(target_arch = "wasm32")))]
pub(crate) async fn told_to_end() {
    use tokio::signal::unix::{signal, SignalKind};

    match (signal(SignalKind::terminate()), signal(SignalKind::hangup())) {
        (Ok(mut terminate), Ok(mut hangup)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
        // Then a signal ends it at once.
        _ => std::future::pending().await,
    }
}

#[cfg(all(feature = "operator", not(unix), not(target_arch = "wasm32")))]
pub(crate) async fn told_to_end() {
    std::future::pending().await
}

/// What the crate's root shows of this target's host.
pub(crate) mod root {
    #[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
    pub use super::lunatic::{
        get_agent_state, send_message_to_agent, send_state_action_to_agent, shutdown_agent, sleep,
        spawn_agent_supervisor, spawn_single_agent, AgentPool, AgentProcess, AgentSupervisor, Node,
        NodeBuilder, NodeEvent, NodeHandle,
    };

    #[cfg(all(feature = "wasm-nats", target_arch = "wasm32", target_os = "wasi"))]
    pub use super::lunatic::wasm_nats;

    #[cfg(all(feature = "nats", not(target_arch = "wasm32")))]
    pub use super::native::nats::{
        ConnectionState, ConnectionStats, NatsConfig, NatsConnection, NatsError, Subscription,
    };
}

/// The program, where its host is not there yet: says so, unless it is given a command of the
/// operator's.
#[cfg(not(all(target_arch = "wasm32", target_os = "wasi")))]
pub fn main() -> std::process::ExitCode {
    #[cfg(all(feature = "operator", not(target_arch = "wasm32")))]
    if let Some(exit_code) = native::operator::main(std::env::args_os().skip(1)) {
        return exit_code;
    }
    eprintln!(
        "rust-wasm-lunatic-nats runs agents under Lunatic so far, not natively: \
         start it with scripts/run, which builds it for wasm32-wasip1 and runs it there"
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
