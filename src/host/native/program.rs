//! What the program is on this host. The rest of it is the same on each host that has one.

use std::process::ExitCode;

use super::node::NodeHandle;
use crate::config::{NatsClient, NodeConfig};
use crate::error::{Error, Result};

/// How this host speaks to NATS.
pub(in crate::host) const NATS: NatsClient = super::nats::CLIENT;

/// What is said of a file that cannot be found.
pub(in crate::host) const ABOUT_FILES: &str = "";

/// What the agents of the demo are.
pub(in crate::host) const AGENTS_ARE: &str = "each a task of its own";

/// The program's entry. The exit status is 0 when all went well, 1 when not, 2 for a wrong flag,
/// variable or command, 3 for a node that ended as it was told and had to kill agents for that or could
/// not hand over all that was published; and 128 and the signal's number after the second SIGINT or
/// SIGTERM.
pub fn main() -> ExitCode {
    crate::host::program::main()
}

/// The benchmarks are about what Lunatic does with agents.
pub(in crate::host) fn bench(_: &NodeConfig, _: &[String]) -> Result<()> {
    let text =
        "the program's benchmarks are about agents under Lunatic: scripts/bench runs them, and \
        those of the native host beside other libraries";
    Err(Error::Node(text.to_owned()))
}

/// From now on the node stops on SIGINT and SIGTERM.
pub(in crate::host) fn stop_on_signals(node: &NodeHandle, config: &NodeConfig) {
    node.shutdown_on_signals(config.supervision.stop_grace);
}
