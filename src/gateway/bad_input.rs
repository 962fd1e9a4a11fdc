//! Bodies that were refused.

use crate::log_line::OnceAMinute;
use crate::message::{ErrorCode, WireError};
use crate::time::Instant;

/// Counts bodies that were refused, and logs them: once per kind and minute.
#[derive(Debug, Default)]
pub(super) struct BadInput {
    total: u64,
    /// For each kind when it was told, and how many there were since.
    kinds: [(OnceAMinute, u64); ErrorCode::ALL.len()],
}

impl BadInput {
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn count(&mut self, now: Instant, subject: &str, error: &WireError) {
        self.total += 1;
        let Some((told, since)) = self.kinds.get_mut(error.code as usize) else { return };
        if told.is_due(now) {
            let (code, message) = (error.code.as_str(), &error.message);
            log::warn!(subject, code, more = *since; "bad input: {message}");
            *since = 0;
        }
        *since += 1;
    }
}
