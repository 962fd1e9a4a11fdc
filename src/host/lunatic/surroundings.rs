//! Looks at where the node runs, and warns of what will hurt. The first process has the whole
//! environment and the directories that `lunatic run` grants; agents have neither.

use std::io;
use std::path::Path;

use crate::config::NodeConfig;
use crate::surroundings::Surroundings;

/// Warns of each thing that will hurt this node, in a line of its own.
pub(super) fn warn(config: &NodeConfig) {
    let env = |name: &str| std::env::var(name).ok();
    let file = |path: &str| std::fs::read_to_string(path).ok();
    let mut surroundings = Surroundings::look(&env, &file);
    surroundings.data_dir_refuses = refusal(&config.data_dir);
    for warning in surroundings.warnings(config.max_agents) {
        log::warn!("{warning}");
    }
}

/// Why nothing can be written into a directory, if that is so.
fn refusal(dir: &Path) -> Option<String> {
    let error = try_to_write(dir).err()?;
    Some(format!("nothing can be written into the data directory {dir:?} ({error})"))
}

/// Writes into a directory and takes it back: its mode says nothing about a disk that is full,
/// mounted read-only, or gone.
pub(super) fn try_to_write(dir: &Path) -> io::Result<()> {
    // An agent's directory is never called so: that is no id.
    let probe = dir.join(".writable");
    std::fs::write(&probe, b"?").and_then(|()| std::fs::remove_file(&probe))
}
