//! The log: one line per event on standard error. A static sink, since memory is per process and
//! `env_logger` would cost each of thousands of agents 30 µs and a page of 64 KB.

use std::io::Write;
use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Sink {
    agent: OnceLock<String>,
}

static SINK: Sink = Sink { agent: OnceLock::new() };

/// Sets up the log of this process. `level` is a [`LevelFilter`] as a number; with an agent's id,
/// each line that does not name it begins with it.
pub(crate) fn install(level: u8, agent: Option<&str>) {
    if let Some(id) = agent {
        SINK.agent.get_or_init(|| id.to_owned());
    }
    // A second call in one process (a test's) finds the same sink there.
    if log::set_logger(&SINK).is_ok() {
        log::set_max_level(filter(level));
    }
}

/// The level as a number, for the way to another process.
pub(crate) fn level() -> u8 {
    log::max_level() as u8
}

fn filter(level: u8) -> LevelFilter {
    LevelFilter::iter().find(|filter| *filter as u8 == level).unwrap_or(LevelFilter::Info)
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The WebSocket logs whole frames, and the first one has the credentials in it.
        let tells_frames = metadata.target().starts_with("tungstenite");
        metadata.level() <= log::max_level() && !tells_frames
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let text = record.args().to_string();
        let line = match self.agent.get() {
            Some(id) if !text.starts_with("agent=") => format!("{level} agent={id} {text}\n"),
            _ => format!("{level} {text}\n"),
        };
        // One write, so that lines of different processes do not mix; nowhere to tell a failure.
        let _ = std::io::stderr().write_all(line.replace('\r', "\\r").as_bytes());
    }

    fn flush(&self) {}
}
