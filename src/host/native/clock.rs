//! Where this host touches its environment: the two clocks. The core gets them as arguments.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::supervision::Now;
use crate::time::{Instant, Timestamp};

pub(in crate::host) use crate::host::random;

/// Where the monotonic clock of this process begins: a day before it was first looked at, since in a
/// test a runtime's paused clock may stand before that.
fn start() -> tokio::time::Instant {
    static START: OnceLock<tokio::time::Instant> = OnceLock::new();
    *START.get_or_init(|| {
        #[allow(clippy::disallowed_methods)] // This is the place.
        let now = std::time::Instant::now();
        now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now).into()
    })
}

/// The monotonic clock; in a test that of its runtime.
pub(in crate::host) fn now() -> Instant {
    Instant::from_start(tokio::time::Instant::now().saturating_duration_since(start()))
}

/// The same moment for a timer of the runtime; at most some 30 years from now.
pub(in crate::host) fn timer(at: Instant) -> tokio::time::Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    let since_start = at.since_start().min(now().since_start().saturating_add(FAR));
    start().checked_add(since_start).unwrap_or_else(tokio::time::Instant::now)
}

/// Waits until then; for ever without a moment.
pub(in crate::host) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(timer(at)).await,
        None => std::future::pending().await,
    }
}

/// The wall clock.
#[allow(clippy::disallowed_methods)] // This is the place.
pub(in crate::host) fn timestamp() -> Timestamp {
    Timestamp::from_epoch(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// The wall clock in whole seconds.
#[allow(clippy::disallowed_methods)] // This is the place.
pub(in crate::host) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Both clocks.
pub(in crate::host) fn both() -> Now {
    Now { at: now(), wall: timestamp() }
}
