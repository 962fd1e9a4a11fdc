//! What the program is on Lunatic. The rest of it is the same on each host that has one.

mod bench;

use std::process::ExitCode;

use super::node::NodeHandle;
use crate::config::{NatsClient, NodeConfig};
use crate::error::Result;

/// The program's entry. `lunatic run` says 0 whatever this returns: what counts is the last line.
pub fn main() -> ExitCode {
    crate::host::program::main()
}

/// How this host speaks to NATS.
pub(in crate::host) const NATS: NatsClient = NatsClient::WEBSOCKET;

/// What is said of a file that cannot be found.
pub(in crate::host) const ABOUT_FILES: &str = "; under Lunatic it has to lie below the current \
    directory, or below one that `lunatic run --dir` names (scripts/run does that)";

/// What the agents of the demo are.
pub(in crate::host) const AGENTS_ARE: &str = "each in a WebAssembly sandbox of its own";

/// The runtime hands a program no signals.
pub(in crate::host) fn stop_on_signals(_: &NodeHandle, _: &NodeConfig) {}

/// Runs the benchmarks of these names, or all of them.
pub(in crate::host) fn bench(config: &NodeConfig, names: &[String]) -> Result<()> {
    bench::run(config, names)
}
