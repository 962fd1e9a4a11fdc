//! What a connection remembers of the processes that publish on it.

use std::collections::HashMap;

use super::delivery::{Ended, Why, ANSWERS};
use super::handover::Request;
use super::sys::{self, Pid};

/// The processes that have published, each with what it may still have to be told. An entry stays
/// until its process has ended and is swept away: some 100 bytes for each of those that live, and for
/// at most [`Self::SWEEP`] that do not.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    by_process: HashMap<u64, Publisher>,
    after_sweep: usize,
    /// How many connections have broken.
    breaks: u64,
}

#[derive(Debug, Default)]
struct Publisher {
    /// The last request, which may be unanswered: a process waits for one at a time, and the reader
    /// gives it the answer without a word to anybody else.
    request: u64,
    subject: String,
    /// What was refused when it did not wait for that.
    refused: Option<String>,
    /// How many connections had broken when it handed over the first publish that no flush has
    /// confirmed.
    since: Option<u64>,
}

impl Publishers {
    /// So many come in before those that have ended are looked for.
    const SWEEP: usize = 4096;

    /// A process handed something over; with a request it waits for an answer from now on.
    pub(super) fn handed_over(&mut self, pid: Pid, request: Option<Request<'_>>) {
        let breaks = self.breaks;
        let publisher = self.publisher(pid);
        publisher.since.get_or_insert(breaks);
        if let Some(Request { number, subject }) = request {
            publisher.request = number;
            publisher.subject.clear();
            publisher.subject.push_str(subject);
        }
    }

    /// What it handed over was refused, and it does not wait for that: it learns it when it asks.
    pub(super) fn refused(&mut self, pid: Pid, error: &dyn std::fmt::Display) {
        let message = format!("messages that were published before are lost: {error}");
        self.publisher(pid).refused = Some(message);
    }

    /// What it has not been told of what was refused.
    pub(super) fn take_refused(&mut self, pid: Pid) -> Option<String> {
        self.by_process.get_mut(&pid.0)?.refused.take()
    }

    /// A process asks whether the server has everything. False if it cannot be known: a connection
    /// broke after it had published.
    pub(super) fn flushes(&mut self, pid: Pid) -> bool {
        let breaks = self.breaks;
        let since = self.by_process.get_mut(&pid.0).and_then(|publisher| publisher.since.take());
        since.is_none_or(|since| since == breaks)
    }

    /// The connection broke: no answer will come to what was asked on it. Who has had its answer drops
    /// that.
    pub(super) fn connection_broke(&mut self) {
        self.breaks += 1;
        self.end_requests(None, &Why::Disconnected);
    }

    /// No answer will come any more to requests, to all or to those of a subject.
    pub(super) fn end_requests(&mut self, subject: Option<&str>, why: &Why) {
        for (&pid, publisher) in &mut self.by_process {
            let is_meant = subject.is_none_or(|subject| subject == publisher.subject);
            if is_meant && publisher.request != 0 {
                let number = std::mem::take(&mut publisher.request);
                Ended { number, why: why.clone() }.send(Pid(pid), ANSWERS);
            }
        }
    }

    fn publisher(&mut self, pid: Pid) -> &mut Publisher {
        if self.by_process.len() >= self.after_sweep + Self::SWEEP {
            self.by_process.retain(|&pid, _| sys::exists(Pid(pid)));
            self.after_sweep = self.by_process.len();
        }
        self.by_process.entry(pid.0).or_default()
    }
}

/// Whether what is handed over is written at once, or together with what piles up behind it.
///
/// To know what waits in its mailbox, the connection sends itself a marker and works until that comes
/// back. To wake itself costs a turn of one of the runtime's threads for nothing where nothing piles
/// up; to write for each of a thousand agents costs a system call each. So it looks now and then, and
/// goes on looking for as long as it finds something.
#[derive(Debug, Default)]
pub(super) struct Bunching {
    /// What was taken since the marker was sent, if one is on its way.
    taken: Option<u32>,
    /// What was written at once since the last look.
    alone: u32,
    /// Whether the last look found something.
    found: bool,
}

/// What to do with what was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bunch {
    /// Write it.
    Write,
    /// Send the marker, and write when it is back.
    Mark,
    /// Write when the marker is back, which is on its way.
    Wait,
}

impl Bunching {
    /// It looks after so many that it wrote at once.
    const LOOK_AFTER: u32 = 16;

    /// Something was handed over.
    pub(super) fn handed_over(&mut self) -> Bunch {
        if let Some(taken) = &mut self.taken {
            *taken += 1;
            return Bunch::Wait;
        }
        if !self.found && self.alone < Self::LOOK_AFTER {
            self.alone += 1;
            return Bunch::Write;
        }
        (self.taken, self.alone) = (Some(1), 0);
        Bunch::Mark
    }

    /// The marker is back.
    pub(super) fn marker_is_back(&mut self) {
        self.found = self.taken.take().is_some_and(|taken| taken > 1);
    }
}
