//! The connection as a machine: it dials, shakes hands, subscribes, keeps alive and starts over,
//! and never touches a socket. The loop that drives it is described at [`crate::nats`].
//!
//! ```text
//!            ┌───────────── failed, or took too long ──────────────┐
//!            ▼                                                     │
//!  Waiting ──── delay over ──▶ Dialing ── INFO: CONNECT, PING ──▶ Handshake ── PONG ──▶ Up
//!     ▲                                                                                 │
//!     └──── transport ended, stale, not authorized any more, lame duck, forced ─────────┘
//! ```

mod connect;
mod drain;
mod event;
mod machine;
pub(crate) mod outage;
mod outgoing;
mod pool;
mod requests;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use super::codec::DEFAULT_MAX_PAYLOAD;
use super::config::{Auth, SessionConfig};
use super::error::{FlushError, InvalidConfig, PublishError, SubscribeError};
use super::rng::Rng;
use super::server_info::ServerInfo;
use super::url::ServerUrl;
use crate::message::{QueueGroup, SubjectPattern};
use crate::time::Instant;

use drain::Draining;
pub use event::{CloseReason, DisconnectReason, Event, Input, Output, Stats, Status};
use outage::Outage;
use outgoing::{Outgoing, Ping};
use pool::Pool;
pub use requests::RequestId;
use requests::Requests;
use subscriptions::{encode_unsub, Subscriptions};

/// How many flushes may be unanswered.
const MAX_FLUSHES: usize = 1024;

/// The connection to NATS, as a machine. See [`crate::nats`] for the loop.
pub struct Session {
    config: SessionConfig,
    state: State,
    pool: Pool,
    outage: Outage,
    /// The number of the last dial.
    dial: u64,
    subscriptions: Subscriptions,
    outgoing: Outgoing,
    /// Flushes that were asked for and not answered.
    flushes: usize,
    /// Whether a connection broke with publishes on it that no flush was asked for.
    lost_unflushed: bool,
    /// Flushes that were asked for while there was no connection.
    offline_flushes: Vec<u64>,
    outputs: VecDeque<Output>,
    ever_connected: bool,
    /// What the server that was connected last takes.
    max_payload: usize,
    requests: Requests,
    /// If it ends in good order.
    draining: Option<Draining>,
    /// How often in a row our credentials were refused, and why.
    refusals: Option<(u32, DisconnectReason)>,
    stats: Stats,
    rng: Rng,
}

enum State {
    /// The next attempt starts then.
    Waiting {
        until: Instant,
    },
    /// There is no INFO yet.
    Dialing {
        server: ServerUrl,
        deadline: Instant,
    },
    /// CONNECT and PING are out, there is no PONG yet.
    Handshake {
        server: ServerUrl,
        deadline: Instant,
        info: Box<ServerInfo>,
    },
    Up(Up),
    Closed,
}

struct Up {
    server: ServerUrl,
    info: Box<ServerInfo>,
    since: Instant,
    next_ping: Instant,
    /// The PINGs that were handed out and not answered, in their order.
    pings: VecDeque<Ping>,
    /// Keep-alives since the last answer to one.
    unanswered: u32,
    /// If we are about to go to another server.
    leaving: Option<Leaving>,
}

struct Leaving {
    /// When we leave at the latest.
    deadline: Instant,
    /// Whether the PING that we leave with the answer of is out: nothing is written behind it.
    is_last_written: bool,
}

impl Session {
    /// A session that dials at once. `seed` decides the order of the servers, the jitter and the name
    /// of the inbox for [`Session::request`], so that a good source of randomness should give it; two
    /// sessions with the same seed and the same inputs do the same.
    pub fn new(config: SessionConfig, seed: u64, now: Instant) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let mut rng = Rng::new(seed);
        let shuffle = config.shuffle_servers.then_some(&mut rng);
        let mut session = Self {
            pool: Pool::new(config.servers.clone(), shuffle),
            subscriptions: Subscriptions::new(config.max_subscriptions),
            requests: Requests::new(config.max_requests),
            config,
            state: State::Waiting { until: now },
            outage: Outage::new(now),
            dial: 0,
            outgoing: Outgoing::default(),
            flushes: 0,
            lost_unflushed: false,
            offline_flushes: Vec::new(),
            outputs: VecDeque::new(),
            ever_connected: false,
            max_payload: DEFAULT_MAX_PAYLOAD,
            draining: None,
            refusals: None,
            stats: Stats::default(),
            rng,
        };
        session.run_timers(now);
        Ok(session)
    }

    // Commands.

    /// Subscribes, now or as soon as there is a connection, and again after each reconnect. The id
    /// is new: messages carry it.
    pub fn subscribe(
        &mut self,
        pattern: SubjectPattern,
        queue: Option<QueueGroup>,
    ) -> Result<u64, SubscribeError> {
        self.subscribe_with(None, pattern, queue)
    }

    /// As [`Session::subscribe`], with an id that the caller chose: not 0, and not in use. An id
    /// that was used before can still get messages of its former subscription.
    pub fn subscribe_as(
        &mut self,
        sid: u64,
        pattern: SubjectPattern,
        queue: Option<QueueGroup>,
    ) -> Result<(), SubscribeError> {
        self.subscribe_with(Some(sid), pattern, queue).map(drop)
    }

    /// Ends a subscription: now, or once it has had `max` messages in all (0 is now). Says whether
    /// there was such a subscription.
    pub fn unsubscribe(&mut self, sid: u64, max: Option<u64>) -> bool {
        let Some(max_on_wire) = self.subscriptions.end(sid, max.filter(|&max| max > 0)) else {
            return false;
        };
        if self.writes() {
            let mut unsub = Vec::new();
            encode_unsub(sid, max_on_wire, &mut unsub);
            self.outgoing.push_control(unsub);
        }
        true
    }

    /// Takes a batch of publishes, as an [`Outbox`](super::Outbox) makes them: all of it or, if it
    /// does not fit, nothing.
    pub fn publish(&mut self, batch: impl Into<Bytes>, ops: u32) -> Result<(), PublishError> {
        self.take_publish(batch.into(), u64::from(ops), None)
    }

    fn take_publish(
        &mut self,
        bytes: Bytes,
        messages: u64,
        request: Option<RequestId>,
    ) -> Result<(), PublishError> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.refuses_publishes() && !matches!(self.state, State::Closed) {
            return Err(PublishError::Draining);
        }
        let (max_messages, max_bytes) = match self.state {
            State::Closed => return Err(PublishError::Closed),
            // For a server that we are leaving it is too late: what comes now waits for the next one.
            State::Up(_) if !self.writes() => {
                (self.config.max_pending_messages, self.config.max_pending_bytes)
            }
            // What finds nothing before it goes straight out.
            State::Up(_) if self.outgoing.bytes == 0 => (u64::MAX, usize::MAX),
            State::Up(_) => (u64::MAX, self.config.max_unwritten_bytes),
            _ => (self.config.max_pending_messages, self.config.max_pending_bytes),
        };
        let fits = self.outgoing.messages.saturating_add(messages) <= max_messages
            && self.outgoing.bytes.saturating_add(bytes.len()) <= max_bytes;
        if !fits {
            self.stats.refused_messages += messages;
            return Err(PublishError::BufferFull {
                messages,
                bytes: bytes.len(),
                waiting_messages: self.outgoing.messages,
                waiting_bytes: self.outgoing.bytes,
                max_messages,
                max_bytes,
            });
        }
        self.outgoing.push_publish(bytes, messages, request);
        Ok(())
    }

    /// Asks the server for an answer once it has everything that was published before; it comes as
    /// [`Output::Flushed`] with this token. Without a connection, that is after the next handshake
    /// and what waits for it. If a connection broke after the last flush, and with it may be lost
    /// what was published since, this one fails, at once; with several publishers, it is the first of
    /// them to ask who is told.
    pub fn flush(&mut self, token: u64) -> Result<(), FlushError> {
        if self.flushes >= MAX_FLUSHES {
            return Err(FlushError::TooMany { max: MAX_FLUSHES });
        }
        if matches!(self.state, State::Closed) {
            return Err(FlushError::Closed);
        }
        self.flushes += 1;
        if std::mem::take(&mut self.lost_unflushed) {
            self.flushed(token, Err(FlushError::Disconnected));
        } else if self.is_connected() {
            self.outgoing.push_ping(Ping::Flush(token));
        } else {
            self.offline_flushes.push(token);
        }
        Ok(())
    }

    /// Replaces the credentials, from the next handshake on. A host that keeps them in a file reads
    /// it when it is told to dial, and calls this before it hands in the server's INFO, so that
    /// rotated ones are used. Damaged ones fail that attempt.
    pub fn set_auth(&mut self, auth: Auth) {
        if self.config.auth != auth {
            self.config.auth = auth;
            // Those that were refused were others.
            self.refusals = None;
        }
    }

    /// Ends the session: what waits is written if there is a connection, and there is no other.
    pub fn close(&mut self) {
        self.close_for(CloseReason::ByOwner);
    }

    // Getters.

    /// Where it stands.
    pub fn status(&self) -> Status {
        let attempt = self.outage.attempts;
        match &self.state {
            State::Waiting { .. } => Status::Waiting { attempt: attempt.saturating_add(1) },
            State::Dialing { server, .. } | State::Handshake { server, .. } => {
                Status::Connecting { attempt, server: server.to_string() }
            }
            State::Up(up) => Status::Connected { server: up.server.to_string() },
            State::Closed => Status::Closed,
        }
    }

    /// Whether it is up.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    /// What the server said of itself last, while it is up.
    pub fn server_info(&self) -> Option<&ServerInfo> {
        match &self.state {
            State::Up(up) => Some(&up.info),
            _ => None,
        }
    }

    /// The counts since the start.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How many publishes wait to be handed out.
    pub fn pending_messages(&self) -> u64 {
        self.outgoing.messages
    }

    /// How many bytes of publishes wait to be handed out.
    pub fn pending_bytes(&self) -> usize {
        self.outgoing.bytes
    }

    /// How many subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// The servers that are tried, in the order of their turns, each with its failed attempts since
    /// its last success.
    pub fn servers(&self) -> impl Iterator<Item = (&ServerUrl, u32)> {
        self.pool.iter()
    }

    // Facts.

    /// Takes a fact. Then take outputs until [`Output::Wait`].
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Tick | Input::Opened { .. } => {}
            Input::Received { sid, messages, bytes } => drop(self.count(sid, messages, bytes)),
            Input::SlowConsumer { sid, dropped_messages, dropped_bytes, began } => {
                self.slow_consumer(sid, dropped_messages, dropped_bytes, began);
            }
            // Of a transport that was given up.
            Input::DialFailed { dial, .. }
            | Input::Closed { dial, .. }
            | Input::Control { dial, .. }
            | Input::Message { dial, .. }
                if !self.is_present(dial) => {}
            Input::DialFailed { reason, .. } => {
                self.lost(now, DisconnectReason::Dial(reason), false);
            }
            Input::Closed { reason, .. } => {
                self.lost(now, DisconnectReason::Transport(reason), false);
            }
            Input::Control { op, .. } => self.control(now, op),
            Input::Message { message, .. } => self.message(now, message),
        }
        self.run_timers(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        if let Some(bytes) = self.next_write() {
            return Output::Write(bytes);
        }
        let mut until = match &self.state {
            State::Waiting { until } => *until,
            State::Dialing { deadline, .. } | State::Handshake { deadline, .. } => *deadline,
            State::Up(up) => match &up.leaving {
                Some(leaving) => leaving.deadline.min(up.next_ping),
                None => up.next_ping,
            },
            State::Closed => return Output::Wait(None),
        };
        let drain = self.draining.as_ref().map(|draining| draining.deadline);
        for other in [self.requests.due(), drain].into_iter().flatten() {
            until = until.min(other);
        }
        Output::Wait(Some(until))
    }

    // Helpers.

    fn subscribe_with(
        &mut self,
        sid: Option<u64>,
        pattern: SubjectPattern,
        queue: Option<QueueGroup>,
    ) -> Result<u64, SubscribeError> {
        if matches!(self.state, State::Closed) {
            return Err(SubscribeError::Closed);
        }
        if self.draining.is_some() {
            return Err(SubscribeError::Draining);
        }
        let sid = self.subscriptions.add(sid, pattern, queue)?;
        if self.writes() {
            let mut sub = Vec::new();
            self.subscriptions.encode(sid, &mut sub);
            self.outgoing.push_control(sub);
        }
        Ok(sid)
    }

    /// Whether operations of this connection still go out on it: not while we are leaving it, and then
    /// they must not pile up.
    fn writes(&self) -> bool {
        match &self.state {
            State::Up(up) => up.leaving.as_ref().is_none_or(|leaving| !leaving.is_last_written),
            _ => false,
        }
    }

    /// Whether `dial` made the transport that there is, or is to make it.
    fn is_present(&self, dial: u64) -> bool {
        dial == self.dial && !matches!(self.state, State::Waiting { .. } | State::Closed)
    }
}

impl fmt::Debug for Session {
    /// Without what waits to be written, which is other people's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("status", &self.status())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
