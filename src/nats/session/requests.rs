//! Requests that wait for their answers.
//!
//! The place of a request in the table is in its reply subject, so that an answer finds it at once,
//! and so is its number, so that a late answer finds nothing.

use std::fmt;
use std::time::Duration;

use super::*;
use crate::nats::codec::{Outbox, ServerMessage};
use crate::nats::error::{RequestError, RequestRefused};
use crate::nats::headers::{Headers, StatusCode};
use crate::nats::inbox::Inbox;
use crate::nats::request_many::{Gather, Gathering, RequestMany};
use crate::nats::server_error::{Operation, PermissionViolation};

/// A request that was taken. No two of a session's are the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    number: u64,
    /// Where it is in the table.
    slot: u32,
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({})", self.number)
    }
}

/// The requests that wait for an answer.
#[derive(Debug)]
pub(super) struct Requests {
    slots: Vec<Option<Request>>,
    free: Vec<u32>,
    last: u64,
    /// No request is due before this. It can be earlier than the first that is: one look in vain.
    due: Option<Instant>,
    max: usize,
    /// Where the answers go, once something was asked.
    inbox: Option<(Inbox, u64)>,
    /// What is done with requests, once there was one.
    asking: Option<&'static Asking>,
}

/// What a session does with its requests. Reached by pointers that the first request sets, so that a
/// program that never asks has none of this in it: on Lunatic that is 8 KB of WebAssembly.
#[derive(Debug)]
struct Asking {
    reply: fn(&mut Session, Instant, ServerMessage),
    expire: fn(&mut Session, Instant),
    fail_sent: fn(&mut Session),
    fail_all: fn(&mut Session),
    refuse: fn(&mut Session, &PermissionViolation, &[u64]),
}

static ASKING: Asking = Asking {
    reply: Session::reply,
    expire: Session::expire_requests,
    fail_sent: Session::fail_sent_requests,
    fail_all: Session::fail_all_requests,
    refuse: Session::refuse_requests,
};

#[derive(Debug)]
struct Request {
    number: u64,
    subject: Box<str>,
    /// When to look at it again.
    due: Instant,
    /// Whether it was handed out to be written.
    is_sent: bool,
    /// If it takes many answers.
    many: Option<Gather>,
}

impl Requests {
    pub(super) fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            last: 0,
            due: None,
            max,
            inbox: None,
            asking: None,
        }
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// When one may be due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The subscription for the answers.
    pub(super) fn inbox_sid(&self) -> Option<u64> {
        self.inbox.as_ref().map(|(_, sid)| *sid)
    }

    pub(super) fn is_live(&self, id: RequestId) -> bool {
        self.slot(id.slot).is_some_and(|request| request.number == id.number)
    }

    pub(super) fn sent(&mut self, id: RequestId) {
        if let Some(Some(request)) = self.slots.get_mut(id.slot as usize) {
            request.is_sent |= request.number == id.number;
        }
    }

    fn slot(&self, slot: u32) -> Option<&Request> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// The id that the next one gets.
    fn next_id(&self) -> RequestId {
        // Their number is bounded by `max` and by memory, both far below 2³².
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        RequestId { number: self.last + 1, slot }
    }

    fn insert(&mut self, request: Request) {
        self.last = request.number;
        self.look_at(request.due);
        match self.free.pop().and_then(|slot| self.slots.get_mut(slot as usize)) {
            Some(slot) => *slot = Some(request),
            None => self.slots.push(Some(request)),
        }
    }

    fn look_at(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// Says whether it was there.
    fn remove(&mut self, id: RequestId) -> bool {
        let is_live = self.is_live(id);
        if is_live {
            if let Some(slot) = self.slots.get_mut(id.slot as usize) {
                *slot = None;
                self.free.push(id.slot);
            }
        }
        if self.len() == 0 {
            self.due = None;
        }
        is_live
    }

    /// The ids of those that `is_meant` names, in the order of the table.
    fn find(&self, is_meant: impl Fn(&Request) -> bool) -> Vec<RequestId> {
        let mut found = Vec::new();
        for (slot, request) in (0u32..).zip(&self.slots) {
            if let Some(request) = request.as_ref().filter(|request| is_meant(request)) {
                found.push(RequestId { number: request.number, slot });
            }
        }
        found
    }
}

// What the rest of the session tells its requests.
impl Session {
    /// A message came for the inbox.
    pub(super) fn on_reply(&mut self, now: Instant, message: ServerMessage) {
        if let Some(asking) = self.requests.asking {
            (asking.reply)(self, now, message);
        }
    }

    /// Time passed.
    pub(super) fn run_requests(&mut self, now: Instant) {
        if let (Some(asking), Some(due)) = (self.requests.asking, self.requests.due) {
            if now >= due {
                (asking.expire)(self, now);
            }
        }
    }

    /// The connection is gone: what was sent on it has no answer any more.
    pub(super) fn requests_disconnected(&mut self) {
        if let Some(asking) = self.requests.asking {
            (asking.fail_sent)(self);
        }
    }

    /// The session is over.
    pub(super) fn requests_closed(&mut self) {
        if let Some(asking) = self.requests.asking {
            (asking.fail_all)(self);
        }
    }

    /// The server refused something; `sids` are the subscriptions that it ended.
    pub(super) fn requests_refused(&mut self, violation: &PermissionViolation, sids: &[u64]) {
        if let Some(asking) = self.requests.asking {
            (asking.refuse)(self, violation, sids);
        }
    }
}

impl Session {
    /// Asks whoever listens on `subject`; what comes of it is an [`Output::Response`], at the latest
    /// after `timeout`. Without a connection the request waits for one, as a publish does, and is
    /// taken back when its time is over before.
    ///
    /// For hosts whose session delivers ([`Input::Message`]). All answers come through one
    /// subscription, which is made with the first request.
    pub fn request(
        &mut self,
        now: Instant,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<RequestId, RequestRefused> {
        self.ask(subject, headers, payload, now + timeout, None)
    }

    /// As [`Session::request`], for any number of answers: each is an [`Output::Response`], and the
    /// end is an [`Output::Gathered`], or a response that is an error.
    pub fn request_many(
        &mut self,
        now: Instant,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
        many: &RequestMany,
    ) -> Result<RequestId, RequestRefused> {
        let mut gather = Gather::new(now, many);
        let due = match gather.tick(now) {
            Gathering::Continue { until } => until,
            // It wants none: it is sent all the same, and over with the next look.
            Gathering::Done(_) => now,
        };
        self.ask(subject, headers, payload, due, Some(gather))
    }

    /// Forgets a request that nobody waits for any more: nothing comes of it. Says whether it was
    /// still unanswered.
    pub fn cancel_request(&mut self, request: RequestId) -> bool {
        let was_there = self.requests.remove(request);
        self.take_back_unwanted();
        // A drain may have waited for it.
        self.advance_drain();
        was_there
    }

    /// How many requests are unanswered.
    pub fn pending_requests(&self) -> usize {
        self.requests.len()
    }

    fn ask(
        &mut self,
        subject: &str,
        headers: &Headers,
        payload: &[u8],
        due: Instant,
        many: Option<Gather>,
    ) -> Result<RequestId, RequestRefused> {
        if matches!(self.state, State::Closed) {
            return Err(PublishError::Closed.into());
        }
        if self.draining.is_some() {
            return Err(PublishError::Draining.into());
        }
        let max = self.requests.max;
        if self.requests.len() >= max {
            return Err(RequestRefused::TooMany { max });
        }
        let id = self.requests.next_id();
        let reply = self.inbox()?.reply_subject(u64::from(id.slot), id.number as i64);
        let mut outbox = Outbox::new(self.max_payload);
        outbox.publish(subject, Some(&reply), headers, payload)?;
        self.take_publish(outbox.take().bytes.into(), 1, Some(id))?;
        let subject = subject.into();
        self.requests.insert(Request { number: id.number, subject, due, is_sent: false, many });
        self.stats.requests += 1;
        Ok(id)
    }

    /// The inbox, which is there from the first request on.
    fn inbox(&mut self) -> Result<Inbox, RequestRefused> {
        if let Some((inbox, _)) = &self.requests.inbox {
            return Ok(inbox.clone());
        }
        let (low, high) = (self.rng.next(), self.rng.next());
        let random = (u128::from(high) << 64) | u128::from(low);
        let inbox = Inbox::from_random(random.to_le_bytes());
        let sid =
            self.subscribe_with(None, inbox.pattern(), None).map_err(RequestRefused::Inbox)?;
        self.requests.inbox = Some((inbox.clone(), sid));
        self.requests.asking = Some(&ASKING);
        Ok(inbox)
    }

    fn reply(&mut self, now: Instant, message: ServerMessage) {
        let Some(id) = self.asked(message.subject()) else {
            self.stats.unmatched_messages += 1;
            return;
        };
        self.stats.in_messages += 1;
        self.stats.in_bytes += message.wire_len() as u64;
        let (status, len) = (message.status(), message.payload().len());
        let many = self.requests.slots.get_mut(id.slot as usize).and_then(Option::as_mut);
        let Some(gather) = many.and_then(|request| request.many.as_mut()) else {
            let nobody = status == Some(StatusCode::NO_RESPONDERS) && len == 0;
            let result = if nobody { Err(RequestError::NoResponders) } else { Ok(message) };
            return self.answered(id, result);
        };
        let is_answer = gather.reply(now, status, len);
        if is_answer {
            self.outputs.push_back(Output::Response { request: id, result: Ok(message) });
        }
        self.look_at_request(now, id);
    }

    /// The request whose reply subject this is, if it was sent and is unanswered.
    fn asked(&self, reply: &str) -> Option<RequestId> {
        let (inbox, _) = self.requests.inbox.as_ref()?;
        let (slot, number) = inbox.parse(reply)?;
        let id = RequestId { number: number as u64, slot: u32::try_from(slot).ok()? };
        let is_sent = self.requests.slot(id.slot).is_some_and(|request| request.is_sent);
        (is_sent && self.requests.is_live(id)).then_some(id)
    }

    /// Ends a request whose time is over.
    fn look_at_request(&mut self, now: Instant, id: RequestId) {
        let Some(Some(request)) = self.requests.slots.get_mut(id.slot as usize) else { return };
        match request.many.as_mut().map(|gather| gather.tick(now)) {
            None => self.answered(id, Err(RequestError::TimedOut)),
            Some(Gathering::Continue { until }) => {
                request.due = until;
                self.requests.look_at(until);
            }
            Some(Gathering::Done(end)) => {
                self.requests.remove(id);
                self.outputs.push_back(Output::Gathered { request: id, end });
            }
        }
    }

    fn answered(&mut self, id: RequestId, result: Result<ServerMessage, RequestError>) {
        if self.requests.remove(id) {
            self.outputs.push_back(Output::Response { request: id, result });
        }
    }

    /// Ends what is due.
    fn expire_requests(&mut self, now: Instant) {
        self.requests.due = None;
        for id in self.requests.find(|request| request.due <= now) {
            self.look_at_request(now, id);
        }
        for request in self.requests.slots.iter().flatten() {
            let due = self.requests.due;
            self.requests.due = Some(due.map_or(request.due, |known| known.min(request.due)));
        }
        self.take_back_unwanted();
    }

    fn fail_sent_requests(&mut self) {
        self.fail_requests(&RequestError::Disconnected, |request| request.is_sent);
    }

    fn fail_all_requests(&mut self) {
        self.fail_requests(&RequestError::Closed, |_| true);
    }

    fn refuse_requests(&mut self, violation: &PermissionViolation, sids: &[u64]) {
        let inbox_is_over = self.requests.inbox_sid().is_some_and(|sid| sids.contains(&sid));
        let error = RequestError::PermissionDenied(violation.clone());
        match violation.operation {
            Operation::Subscribe if inbox_is_over => {
                // The next request tries it again.
                self.requests.inbox = None;
                self.fail_requests(&error, |_| true);
            }
            Operation::Subscribe => {}
            Operation::Publish => match self.asked(&violation.subject) {
                Some(id) => self.answered(id, Err(error)),
                None => self.fail_requests(&error, |request| {
                    request.is_sent && *request.subject == *violation.subject
                }),
            },
        }
    }

    fn fail_requests(&mut self, error: &RequestError, is_meant: impl Fn(&Request) -> bool) {
        for id in self.requests.find(is_meant) {
            self.answered(id, Err(error.clone()));
        }
        self.take_back_unwanted();
    }

    /// What was not yet written and is not waited for is not sent any more.
    fn take_back_unwanted(&mut self) {
        let requests = &self.requests;
        self.outgoing.retain_requests(|id| requests.is_live(id));
    }
}
