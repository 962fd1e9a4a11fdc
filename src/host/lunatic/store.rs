//! The store: the only process with a directory. File-backed agents are its clients; file I/O
//! blocks a thread of the runtime, so it happens in one place.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::logger;
use super::mail::{self, Answer, NoAnswer, StoreMail};
use super::names::{self, Lookup};
use super::surroundings;
use super::sys::{self, Received};
use crate::memory::{FileStore, MemoryError, StoreClient, StoreRequest, StoreResponse};

/// What the store is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoreStart {
    pub(super) directory: String,
    pub(super) log_level: u8,
}

/// How long an agent waits for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of a mail to the store: anything but [`mail::REPLY`].
const STORE_MAIL: u8 = 1;

/// The process's entry.
pub(super) fn process() {
    let start: StoreStart = mail::first();
    let mut buffer = Vec::new();
    logger::install_part(start.log_level, "store");
    // The directory was there when it was granted; without it there is nothing to serve.
    let mut store = FileStore::open(&start.directory).unwrap_or_else(|error| panic!("{error}"));
    loop {
        if sys::receive(&[], None) != Received::Message {
            continue;
        }
        sys::read_message(&mut buffer);
        let Ok(StoreMail::<StoreRequest> { waiter, request, .. }) = postcard::from_bytes(&buffer)
        else {
            log::error!("a request cannot be read");
            continue;
        };
        let response = store.serve(request);
        let failed = matches!(response, StoreResponse::Failed(MemoryError::Io { .. }));
        let mut bytes = Vec::new();
        mail::encode(&response, &mut bytes);
        mail::answer(waiter, &Answer::Ok(&bytes));
        if failed && is_gone(store.dir()) {
            // Another one of the same name is not the one that was granted: that takes a new process.
            panic!("the data directory {:?} is gone", start.directory);
        }
    }
}

fn is_gone(dir: &Path) -> bool {
    surroundings::try_to_write(dir).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The way from an agent's process to the store's.
#[derive(Debug)]
pub(super) struct StoreMailbox;

impl StoreClient for StoreMailbox {
    fn call(&self, request: StoreRequest) -> Result<StoreResponse, MemoryError> {
        let unavailable = |reason: &str| MemoryError::Unavailable { reason: reason.to_owned() };
        let Lookup::Runs(store) = names::look_up(names::STORE) else {
            return Err(unavailable("the store is being restarted"));
        };
        let answer = mail::request(store, Some(STORE_TIMEOUT), |waiter| StoreMail {
            kind: STORE_MAIL,
            waiter,
            request,
        });
        match answer {
            Ok(bytes) => postcard::from_bytes(&bytes)
                .map_err(|error| unavailable(&format!("its answer cannot be read: {error}"))),
            Err(NoAnswer::Died) => Err(unavailable("the store died, and is being restarted")),
            Err(NoAnswer::TimedOut) => Err(unavailable("the store did not answer in 10 s")),
            Err(error) => Err(unavailable(&format!("{error:?}"))),
        }
    }
}
