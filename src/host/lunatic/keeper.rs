//! Keeps the store running. To grant a directory that is not there traps whoever does it; so that
//! is done in a process of its own, which lives as long as the store that it starts. Neither the
//! root nor an agent is touched by a data directory that cannot be used, and the store is there
//! again soon after the directory is.

use std::time::Duration;

use super::clock;
use super::logger;
use super::mail;
use super::names;
use super::store::{self, StoreStart};
use super::sys::{self, Permissions, Received};
use crate::supervision::Backoff;
use crate::time::Instant;

/// The store is started again at once the first time, then after these delays: a directory that
/// comes back is noticed that soon.
const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(5),
    factor: 2.0,
    jitter: 0.0,
};

/// A store that has lived so long was well: the next delay is the first one again.
const WELL: Duration = Duration::from_secs(10);

/// Far above what the store needs within its own bounds.
const MAX_MEMORY: u64 = 1 << 30;

/// The process's entry.
pub(super) fn process() {
    let start: StoreStart = mail::first();
    logger::install_part(start.log_level, "store-keeper");
    sys::trap_link_deaths();
    let mut attempt = 0;
    loop {
        let started = clock::now();
        let died = mail::new_tag();
        match permissions().and_then(|granted| sys::spawn(&granted, Some(died), grant)) {
            Ok(pid) => {
                mail::start(pid, &start);
                wait(Some(died), None);
            }
            Err(error) => log::error!("the store cannot be started: {error}"),
        }
        attempt = if clock::now() - started > WELL { 1 } else { attempt + 1 };
        let delay = BACKOFF.delay(attempt, 0.5);
        let (died, directory, delay_ms) =
            (names::STORE, start.directory.as_str(), delay.as_millis() as u64);
        log::error!(died, directory, delay_ms; "started again; is the data directory there?");
        wait(None, Some(clock::now() + delay));
    }
}

/// Waits for the death of a link, or until a time; and goes where the root goes.
fn wait(link: Option<i64>, until: Option<Instant>) {
    loop {
        let left = until.map(|until| until.saturating_since(clock::now()));
        match sys::receive(&[], left) {
            Received::LinkDied(sys::PARENT) => sys::follow_parent(),
            Received::LinkDied(tag) if Some(tag) == link => return,
            Received::TimedOut => return,
            _ => {}
        }
    }
}

fn permissions() -> Result<Permissions, String> {
    let none = Permissions::none().ok_or("this process may not make configs")?;
    Ok(none.max_memory(MAX_MEMORY).may_spawn())
}

/// The entry of the process that grants the directory, and traps here if it is not there.
fn grant() {
    let start: StoreStart = mail::first();
    let granted = permissions().map(|granted| granted.directory(&start.directory));
    let store =
        granted.and_then(|granted| sys::spawn(&granted, Some(mail::new_tag()), store::process));
    let store = store.unwrap_or_else(|error| panic!("the store cannot be started: {error}"));
    sys::register(names::STORE, store);
    mail::start(store, &start);
    // The store's death is this process's own, and this one's is the store's.
    loop {
        sys::receive(&[], None);
    }
}
