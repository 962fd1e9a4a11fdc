//! Counts what a node was given and could not take.

use std::collections::BTreeMap;

use crate::log_line::OnceAMinute;
use crate::message::{ErrorCode, WireError};
use crate::time::Instant;

/// Counts bodies that were refused, and logs them: once per kind and minute.
#[derive(Debug, Default)]
pub struct BadInput {
    total: u64,
    /// When each kind was told, and how many there were since.
    logged: BTreeMap<ErrorCode, (OnceAMinute, u64)>,
}

impl BadInput {
    /// One more, that came on `subject`.
    pub fn count(&mut self, now: Instant, subject: &str, error: &WireError) {
        self.total += 1;
        let (told, since) = self.logged.entry(error.code).or_default();
        if told.is_due(now) {
            let (code, message) = (error.code.as_str(), &error.message);
            log::warn!(subject, code, more = *since; "bad input: {message}");
            *since = 0;
        }
        *since += 1;
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.total
    }
}
