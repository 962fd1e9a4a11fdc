//! The log: one line per event on standard error, as [`crate::log_line`] writes it. Whose line it is
//! comes from what the thread is doing: running an agent, or a part of the node.

use std::cell::RefCell;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use log::{Log, Metadata, Record};

use super::clock;
use crate::agent::AgentId;
use crate::config::NodeConfig;
use crate::log_line::{self, LogFormat, Speaker};

struct Sink;

static SINK: Sink = Sink;
static JSON: AtomicBool = AtomicBool::new(false);
/// Whether the process logs by this one.
static INSTALLED: AtomicBool = AtomicBool::new(false);

/// Who runs on a thread.
#[derive(Clone, Debug)]
enum Runs {
    Nobody,
    Part(&'static str),
    Agent(Arc<AgentId>),
}

thread_local! {
    static RUNS: RefCell<Runs> = const { RefCell::new(Runs::Nobody) };
}

/// Sets up the log of this process as the node's config says. A program that has set a logger of its
/// own keeps it. A second node of the process changes level and format for both.
pub(super) fn install(config: &NodeConfig) {
    JSON.store(config.log_format == LogFormat::Json, Ordering::Relaxed);
    if log::set_logger(&SINK).is_ok() {
        INSTALLED.store(true, Ordering::Relaxed);
    }
    if INSTALLED.load(Ordering::Relaxed) {
        log::set_max_level(config.log_level);
    }
}

/// Does something in the name of an agent.
pub(super) fn as_agent<T>(id: &Arc<AgentId>, work: impl FnOnce() -> T) -> T {
    as_one(Runs::Agent(Arc::clone(id)), work)
}

/// Does something in the name of a part of the node.
pub(super) fn as_part<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    as_one(Runs::Part(name), work)
}

fn as_one<T>(who: Runs, work: impl FnOnce() -> T) -> T {
    /// Also when it panics.
    struct Before(Option<Runs>);
    impl Drop for Before {
        fn drop(&mut self) {
            RUNS.set(self.0.take().unwrap_or(Runs::Nobody));
        }
    }
    let _before = Before(Some(RUNS.replace(who)));
    work()
}

/// Whether this thread runs a part of the node.
pub(super) fn is_part() -> bool {
    RUNS.with_borrow(|runs| matches!(runs, Runs::Part(_)))
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // What the libraries under a part tell of themselves is not about the node.
        let is_ours = record.target().starts_with(env!("CARGO_CRATE_NAME"));
        if !is_ours && is_part() && record.level() > log::Level::Warn {
            return;
        }
        let format = if JSON.load(Ordering::Relaxed) { LogFormat::Json } else { LogFormat::Text };
        let line = RUNS.with_borrow(|runs| {
            let speaker = match runs {
                Runs::Nobody => Speaker::Part("main"),
                Runs::Part(name) => Speaker::Part(name),
                Runs::Agent(id) => Speaker::Agent(id.as_str()),
            };
            log_line::line(format, clock::timestamp(), speaker, record)
        });
        // One write, so that lines of different threads do not mix; nowhere to tell a failure.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
