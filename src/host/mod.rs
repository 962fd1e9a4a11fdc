//! The hosts. Target `cfg` stands here and, but for the file backend, nowhere else in `src/`.

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub mod lunatic;

#[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
pub use lunatic::program::main;

/// What the crate's root shows of this target's host.
pub(crate) mod root {
    #[cfg(all(target_arch = "wasm32", target_os = "wasi"))]
    pub use super::lunatic::{
        get_agent_state, send_message_to_agent, send_state_action_to_agent, shutdown_agent, sleep,
        spawn_agent_supervisor, spawn_single_agent, AgentProcess, AgentSupervisor, Node,
        NodeBuilder, NodeEvent, NodeHandle,
    };

    #[cfg(all(feature = "wasm-nats", target_arch = "wasm32", target_os = "wasi"))]
    pub use super::lunatic::wasm_nats;
}

/// The program, where its host is not there yet: says so.
#[cfg(not(all(target_arch = "wasm32", target_os = "wasi")))]
pub fn main() -> std::process::ExitCode {
    eprintln!(
        "rust-wasm-lunatic-nats runs agents under Lunatic so far, not natively: \
         start it with scripts/run, which builds it for wasm32-wasip1 and runs it there"
    );
    std::process::ExitCode::from(2)
}
