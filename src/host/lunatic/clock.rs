//! Where this host touches its environment: the two clocks, and the randomness that all hosts have
//! the same way. The core gets them as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::supervision::Now;
use crate::time::{Instant, Timestamp};

pub(crate) use crate::host::random;

/// The monotonic clock of this process.
pub(crate) fn now() -> Instant {
    // `std` shows it only as differences, `clock_time_get` shows it as it is.
    let mut nanos = 0_u64;
    // SAFETY: the result is a live `u64`; clock 1 is the monotonic one.
    let failed = unsafe { clock_time_get(1, 1_000, &mut nanos) };
    debug_assert_eq!(failed, 0, "the monotonic clock can always be read");
    Instant::from_start(Duration::from_nanos(nanos))
}

/// The wall clock in µs, for what one process measures and another began: the runtime builds the
/// monotonic clock anew for each process, so that two of them do not compare.
#[allow(clippy::disallowed_methods)] // This is the place.
pub(crate) fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// The wall clock.
#[allow(clippy::disallowed_methods)] // This is the place.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::from_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The wall clock in whole seconds.
pub(crate) fn unix_seconds() -> u64 {
    timestamp().unix_seconds()
}

/// Both clocks.
pub(crate) fn both() -> Now {
    Now { at: now(), wall: timestamp() }
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
extern "C" {
    fn clock_time_get(id: u32, precision: u64, time: *mut u64) -> u32;
}
