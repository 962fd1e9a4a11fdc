//! What the end-to-end tests stand on: a real nats-server, real nodes on each host, and a client that
//! shares no code with the library.
//!
//! Nothing here sleeps for a fixed time: conditions are polled until a deadline, and whoever misses
//! one fails with the output of the programs attached.

mod check;
mod client;
mod host;
mod native;
mod node;
mod operator;
mod output;
mod relay;
mod server;
mod service;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use check::{assert_timestamp, assert_uuid_v4, envelope, supervision, without_counters};
pub use client::{Client, Failed, Seen, Watch};
pub use host::Host;
pub use native::{Ended, Native, Terminal};
pub use node::{Node, NodeBuilder, Program};
pub use operator::Operator;
pub use output::Output;
pub use relay::Relay;
pub use server::{NatsServer, free_port};
pub use service::Service;

/// How long anything may take that ought to happen at once, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(20);

/// Polls until `condition` gives something; fails with `what` if it has not by the deadline.
#[track_caller]
pub fn until<T>(
    what: impl Into<String>,
    within: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let what = what.into();
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = condition() {
                return found;
            }
            assert!(Instant::now() < deadline, "{caller}: within {within:?}: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The wasm program with NATS.
///
/// # Panics
/// If nobody has said where it is.
pub fn wasm() -> PathBuf {
    Host::Lunatic.program()
}

/// The wasm program without NATS.
///
/// # Panics
/// If nobody has said where it is.
pub fn wasm_local() -> PathBuf {
    from_env("E2E_WASM_LOCAL")
}

/// One of the examples.
///
/// # Panics
/// If nobody has said where they are.
pub fn example(name: &str) -> PathBuf {
    from_env_with("E2E_EXAMPLES", &format!("{name}.wasm"))
}

/// A program of `tests/consumer`, a user's package, built for the host of the present test.
///
/// # Panics
/// If nobody has said where they are.
pub fn consumer(name: &str) -> PathBuf {
    consumer_for(Host::current(), name)
}

/// The same for a certain host.
///
/// # Panics
/// If nobody has said where they are.
pub fn consumer_for(host: Host, name: &str) -> PathBuf {
    match host {
        Host::Lunatic => from_env_with("E2E_CONSUMER", &format!("{name}.wasm")),
        Host::Native => from_env_with("E2E_CONSUMER_NATIVE", name),
    }
}

/// A file of this project.
///
/// # Panics
/// If it cannot be read.
pub fn project_file(path: &str) -> String {
    let path = project(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between the fences of the README's code blocks of a language in a section.
///
/// # Panics
/// If the README has no such section.
pub fn readme_blocks(section: &str, language: &str) -> Vec<String> {
    let readme = project_file("README.md");
    let (heading, fence) = (format!("\n## {section}\n"), format!("```{language}\n"));
    let (_, rest) = readme.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
    let text = rest.split("\n## ").next().unwrap_or_default();
    let blocks = text.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Where a file of this project is.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// One of this project's scripts.
pub fn script(name: &str) -> PathBuf {
    project("scripts").join(name)
}

fn from_env(name: &str) -> PathBuf {
    from_env_with(name, "")
}

fn from_env_with(name: &str, file: &str) -> PathBuf {
    let path = std::env::var_os(name).map(PathBuf::from);
    let mut path = path.unwrap_or_else(|| panic!("{name} is not set: run scripts/test"));
    if !file.is_empty() {
        path.push(file);
    }
    // Tests run in their package's directory; a relative path is one from the workspace's.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    assert!(path.is_file(), "{name} is {}, which is no file: run scripts/test", path.display());
    path
}

fn program(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from)
}
