//! One deadline per process, as a mail to oneself. A receive with a timeout would put a message
//! that races with it at the back of the mailbox, and a timer that is taken back stays in the
//! runtime's memory until it would have fired: so timers are few, and fire.

use std::time::Duration;

use serde::Serialize;

use super::clock;
use super::mail;
use super::sys;
use crate::time::Instant;

/// The next time at which this process wants to look at the clock.
///
/// A deadline that is nearer than the armed one gets a timer of its own, and when that has fired
/// the farther one is armed again: so there are at worst as many timers as deadlines came nearer
/// within the farthest one's time.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    armed: Option<Instant>,
}

impl Timer {
    /// Deadlines that differ by less than this share a timer.
    const GRAIN: Duration = Duration::from_millis(1);

    /// Has `mail` sent to this process at `deadline`, unless a mail comes sooner anyhow.
    pub(crate) fn arm<M: Serialize>(&mut self, deadline: Option<Instant>, mail: impl Fn() -> M) {
        let Some(deadline) = deadline else { return };
        if self.armed.is_some_and(|armed| armed <= deadline + Self::GRAIN) {
            return;
        }
        let mut bytes = Vec::new();
        mail::encode(&mail(), &mut bytes);
        // Rounded up: to wake a moment before the deadline would only mean to wait again.
        let after = (deadline - clock::now()) + Self::GRAIN;
        sys::send_after(sys::this(), 0, &bytes, after);
        self.armed = Some(deadline);
    }

    /// The mail came. It may be that of an older deadline, which a nearer one overtook: then the
    /// one that is armed is still to come, and must not be armed twice.
    pub(crate) fn fired(&mut self, now: Instant) {
        if self.armed.is_some_and(|armed| armed <= now) {
            self.armed = None;
        }
    }
}
