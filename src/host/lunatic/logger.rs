//! The log: one line per event on standard error, as [`crate::log_line`] writes it. A static sink,
//! since memory is per process and `env_logger` would cost each of thousands of agents 30 µs and a
//! page of 64 KB.

use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};

use super::clock;
use crate::config::NodeConfig;
use crate::log_line::{self, LogFormat, Speaker};

struct Sink {
    setup: OnceLock<Setup>,
}

struct Setup {
    format: LogFormat,
    speaker: Speaker<'static>,
}

static SINK: Sink = Sink { setup: OnceLock::new() };

/// Beside the level in the number that travels to other processes.
const JSON: u8 = 1 << 7;

/// What a node's config says about the log, as a number: the level, and [`JSON`] beside it.
pub(crate) fn settings(config: &NodeConfig) -> u8 {
    let format = match config.log_format {
        LogFormat::Text => 0,
        LogFormat::Json => JSON,
    };
    config.log_level as u8 | format
}

/// Sets up the log of this process, whose lines are those of `speaker`. `settings` is what
/// [`settings`] or [`level`] gave.
pub(crate) fn install(settings: u8, speaker: Speaker<'_>) {
    let format = if settings & JSON == 0 { LogFormat::Text } else { LogFormat::Json };
    // The process keeps its name for as long as it lives.
    let leak = |name: &str| -> &'static str { Box::leak(name.into()) };
    SINK.setup.get_or_init(|| Setup {
        format,
        speaker: match speaker {
            Speaker::Part(part) => Speaker::Part(leak(part)),
            Speaker::Agent(id) => Speaker::Agent(leak(id)),
        },
    });
    // A second call in one process (a test's) finds the same sink there.
    if log::set_logger(&SINK).is_ok() {
        log::set_max_level(filter(settings & !JSON));
    }
}

/// The same for a part of the node that the root starts, whose panic is told as a line too. (That
/// of an agent goes to its supervisor.)
pub(crate) fn install_part(settings: u8, part: &str) {
    install(settings, Speaker::Part(part));
    std::panic::set_hook(Box::new(on_panic));
}

fn on_panic(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or("a panic with a payload that is no text");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    log::error!(place = place.as_str(); "panicked: {message}");
}

/// The settings of this process's log, for the way to another one.
pub(crate) fn level() -> u8 {
    let json = SINK.setup.get().is_some_and(|setup| setup.format == LogFormat::Json);
    log::max_level() as u8 | if json { JSON } else { 0 }
}

fn filter(level: u8) -> LevelFilter {
    LevelFilter::iter().find(|filter| *filter as u8 == level).unwrap_or(LevelFilter::Info)
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(Setup { format, speaker }) = self.setup.get() else { return };
        let line = log_line::line(*format, clock::timestamp(), *speaker, record);
        // One write, so that lines of different processes do not mix; nowhere to tell a failure.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
