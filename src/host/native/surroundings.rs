//! Looks at where the node runs, and warns of what will hurt.

use std::path::Path;

use crate::config::NodeConfig;
use crate::surroundings::Surroundings;

/// Warns of each thing that will hurt this node, in a line of its own. What a Lunatic process needs of
/// the machine, a task does not.
pub(super) fn warn(config: &NodeConfig) {
    let surroundings =
        Surroundings { data_dir_refuses: refusal(&config.data_dir), ..Surroundings::default() };
    for warning in surroundings.warnings_of_native() {
        log::warn!("{warning}");
    }
}

/// Why nothing can be written into a directory, if that is so. Its mode says nothing about a disk that
/// is full, mounted read-only, or gone.
fn refusal(dir: &Path) -> Option<String> {
    // An agent's directory is never called so: that is no id.
    let probe = dir.join(".writable");
    let tried = std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"?"))
        .and_then(|()| std::fs::remove_file(&probe));
    let error = tried.err()?;
    Some(format!("nothing can be written into the data directory {dir:?} ({error})"))
}
