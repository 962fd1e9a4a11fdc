//! What a session makes of the facts: its transitions.

use bytes::Bytes;

use super::connect::{auth_for, encode_connect};
use super::*;
use crate::nats::codec::{ControlOp, ServerMessage};
use crate::nats::server_error::ServerError;

impl Session {
    // What the server says.

    pub(super) fn control(&mut self, now: Instant, op: ControlOp) {
        match op {
            ControlOp::Info(info) => self.info(now, info),
            ControlOp::Pong => self.pong(now),
            ControlOp::Ping => self.ping(),
            ControlOp::Err(error) => self.server_error(now, error),
            ControlOp::Ok => {}
        }
    }

    /// The first INFO of a transport is answered; a later one replaces what was known.
    fn info(&mut self, now: Instant, info: Box<ServerInfo>) {
        let addresses = info.connect_urls.clone();
        let server = match &mut self.state {
            State::Dialing { server, deadline } => {
                let (server, deadline) = (server.clone(), *deadline);
                let connect = match encode_connect(&self.config, &server, &info) {
                    Ok(connect) => connect,
                    Err(error) => {
                        let reason = DisconnectReason::Credentials(error.to_string());
                        return self.lost(now, reason, true);
                    }
                };
                self.outputs.push_back(Output::Write(connect.into()));
                self.state = State::Handshake { server: server.clone(), deadline, info };
                server
            }
            State::Handshake { server, info: known, .. } => {
                *known = info;
                server.clone()
            }
            State::Up(up) => {
                let is_new = info.lame_duck && !up.info.lame_duck;
                self.max_payload = max_payload(&info);
                up.info = info;
                let server = up.server.clone();
                // The others that it names come first: one of them may be the only other.
                self.advertised(&server, &addresses);
                if is_new {
                    self.lame_duck(now, &server, !addresses.is_empty());
                }
                return;
            }
            State::Waiting { .. } | State::Closed => return,
        };
        self.advertised(&server, &addresses);
    }

    /// The server is about to go. When it says so it names the others, and itself no more: if it
    /// names none, an advertised one may be itself by another name.
    fn lame_duck(&mut self, now: Instant, server: &ServerUrl, names_others: bool) {
        self.event(Event::LameDuck { server: server.to_string() });
        if self.pool.has_other(server, names_others) {
            self.leave(now);
        }
    }

    fn advertised(&mut self, by: &ServerUrl, addresses: &[String]) {
        if !self.config.use_advertised {
            return;
        }
        let found = self.pool.advertise(by, addresses);
        if !found.new.is_empty() {
            self.event(Event::DiscoveredServers { servers: found.new, ignored: found.ignored });
        }
    }

    fn pong(&mut self, now: Instant) {
        match &mut self.state {
            State::Handshake { .. } => self.up(now),
            State::Up(up) => match up.pings.pop_front() {
                Some(Ping::KeepAlive) => up.unanswered = up.unanswered.saturating_sub(1),
                Some(Ping::Flush(token)) => self.flushed(token, Ok(())),
                Some(ping) => self.drain_answered(now, ping),
                // Nobody asked.
                None => {}
            },
            // Before CONNECT it is an answer to nothing.
            State::Dialing { .. } | State::Waiting { .. } | State::Closed => {}
        }
    }

    fn ping(&mut self) {
        match &self.state {
            State::Up(_) if !self.writes() => {}
            State::Up(_) => self.outgoing.push_control(b"PONG\r\n".to_vec()),
            State::Dialing { .. } | State::Handshake { .. } => {
                let pong = Bytes::from_static(b"PONG\r\n");
                self.outputs.push_back(Output::Write(pong));
            }
            State::Waiting { .. } | State::Closed => {}
        }
    }

    fn server_error(&mut self, now: Instant, error: ServerError) {
        self.stats.server_errors += 1;
        let is_up = self.is_connected();
        match error {
            ServerError::PermissionViolation(violation) if is_up => {
                let sids = self.subscriptions.refuse(&violation);
                self.requests_refused(&violation, &sids);
                self.event(Event::PermissionViolation { violation, sids });
            }
            ServerError::Authorization(mut error) => {
                if is_up {
                    let error = error.clone();
                    self.event(Event::ServerError { error });
                } else if self.is_nobody() {
                    // A server that wants none, or finds them in the upgrade, has not come here.
                    error.push_str(" (no credentials are configured)");
                }
                self.lost(now, DisconnectReason::Authorization(error), true);
            }
            error if is_up && !error.is_fatal() => {
                self.event(Event::ServerError { error: error.to_string() });
            }
            error => self.lost(now, DisconnectReason::Server(error.to_string()), true),
        }
    }

    /// Whether the attempt under way has no credentials.
    fn is_nobody(&self) -> bool {
        match &self.state {
            State::Dialing { server, .. } | State::Handshake { server, .. } => {
                matches!(auth_for(&self.config, server), Auth::None)
            }
            _ => false,
        }
    }

    pub(super) fn message(&mut self, now: Instant, message: ServerMessage) {
        if self.requests.inbox_sid() == Some(message.sid()) {
            self.on_reply(now, message);
        } else if self.count(message.sid(), 1, message.wire_len() as u64) {
            self.outputs.push_back(Output::Deliver(message));
        }
    }

    /// Counts messages, and says whether they are for a subscription that exists.
    pub(super) fn count(&mut self, sid: u64, messages: u64, bytes: u64) -> bool {
        let exists = self.subscriptions.received(sid, messages);
        if exists {
            self.stats.in_messages += messages;
            self.stats.in_bytes += bytes;
        } else {
            self.stats.unmatched_messages += messages;
        }
        exists
    }

    pub(super) fn slow_consumer(&mut self, sid: u64, messages: u64, bytes: u64, began: bool) {
        self.stats.dropped_messages += messages;
        self.stats.dropped_bytes += bytes;
        if let Some(subject) = self.subscriptions.subject(sid).filter(|_| began) {
            let subject = subject.to_owned();
            self.event(Event::SlowConsumer { sid, subject, dropped_messages: messages });
        }
    }

    // Time.

    /// Does what is due.
    pub(super) fn run_timers(&mut self, now: Instant) {
        self.run_requests(now);
        self.run_state(now);
        self.run_drain(now);
    }

    fn run_state(&mut self, now: Instant) {
        loop {
            match &mut self.state {
                State::Waiting { until } if now >= *until => self.start_dial(now),
                State::Dialing { deadline, .. } | State::Handshake { deadline, .. }
                    if now >= *deadline =>
                {
                    let limit = self.config.connect_timeout;
                    self.lost(now, DisconnectReason::ConnectTimeout(limit), true);
                }
                State::Up(Up { leaving: Some(leaving), .. }) if now >= leaving.deadline => {
                    self.lost(now, DisconnectReason::LameDuck, true);
                }
                State::Up(up) if now >= up.next_ping => {
                    if up.unanswered < self.config.max_pings_out {
                        up.unanswered += 1;
                        up.next_ping = now + self.config.ping_interval;
                        self.outgoing.push_ping(Ping::KeepAlive);
                    } else {
                        let unanswered = up.unanswered;
                        self.lost(now, DisconnectReason::Stale(unanswered), true);
                    }
                }
                _ => return,
            }
        }
    }

    // Transitions.

    fn start_dial(&mut self, now: Instant) {
        // The pool has at least the one server that the config was checked for.
        let Some(server) = self.pool.next() else {
            return self.close_for(CloseReason::ByOwner);
        };
        let deadline = now + self.config.connect_timeout;
        self.dial += 1;
        self.outage.attempts = self.outage.attempts.saturating_add(1);
        self.outputs.push_back(Output::Dial {
            dial: self.dial,
            server: server.clone(),
            attempt: self.outage.attempts,
            deadline,
        });
        self.state = State::Dialing { server, deadline };
    }

    /// The handshake is done.
    fn up(&mut self, now: Instant) {
        let state = std::mem::replace(&mut self.state, State::Waiting { until: now });
        let State::Handshake { server, info, .. } = state else {
            self.state = state;
            return;
        };
        self.pool.succeeded(&server);
        self.stats.reconnects += u64::from(self.ever_connected);
        self.ever_connected = true;
        self.outage.failed = 0;
        self.refusals = None;
        self.max_payload = max_payload(&info);
        let lame_duck = info.lame_duck.then(|| (server.clone(), !info.connect_urls.is_empty()));
        self.event(Event::Connected {
            server: server.to_string(),
            server_name: info.server_name.clone(),
            version: info.version.clone(),
            max_payload: info.max_payload,
            reconnects: self.stats.reconnects,
        });
        self.state = State::Up(Up {
            server,
            info,
            since: now,
            next_ping: now + self.config.ping_interval,
            pings: VecDeque::new(),
            unanswered: 0,
            leaving: None,
        });
        self.outgoing.put_first(self.subscriptions.encode_all());
        for token in std::mem::take(&mut self.offline_flushes) {
            self.outgoing.push_ping(Ping::Flush(token));
        }
        if let Some((server, names_others)) = lame_duck {
            self.lame_duck(now, &server, names_others);
        }
    }

    /// The transport, or the attempt to make one, is over. `by_us` if the host does not know yet.
    pub(super) fn lost(&mut self, now: Instant, reason: DisconnectReason, by_us: bool) {
        if by_us {
            self.outputs.push_back(Output::Disconnect { dial: self.dial, reason: reason.clone() });
        }
        match std::mem::replace(&mut self.state, State::Waiting { until: now }) {
            State::Up(up) => self.connection_lost(now, up, reason.clone()),
            State::Dialing { server, .. } | State::Handshake { server, .. } => {
                self.pool.failed(&server);
                self.stats.failed_attempts += 1;
                self.outage.failed = self.outage.failed.saturating_add(1);
                self.count_refusal(&reason);
                self.event(Event::AttemptFailed {
                    server: server.to_string(),
                    attempt: self.outage.attempts,
                    reason: reason.clone(),
                });
            }
            // There was nothing to lose.
            state @ (State::Waiting { .. } | State::Closed) => {
                self.state = state;
                return;
            }
        }
        self.schedule(now, reason);
    }

    fn count_refusal(&mut self, reason: &DisconnectReason) {
        if reason.is_auth() {
            let before = self.refusals.take().filter(|(_, known)| known == reason);
            let refusals = before.map_or(0, |(refusals, _)| refusals).saturating_add(1);
            self.refusals = Some((refusals, reason.clone()));
        }
    }

    fn connection_lost(&mut self, now: Instant, up: Up, reason: DisconnectReason) {
        let left = reason == DisconnectReason::LameDuck;
        self.event(Event::Disconnected { server: up.server.to_string(), reason });
        if now - up.since >= Outage::OVER_AFTER {
            self.outage = Outage::new(now);
        }
        let mut pings = Vec::from(up.pings);
        pings.extend(self.outgoing.forget_connection());
        for token in flushes(&pings) {
            self.flushed(token, Err(FlushError::Disconnected));
        }
        // Left at the deadline, the last PING is unanswered.
        let in_order = left && !pings.contains(&Ping::Move);
        let unflushed = std::mem::take(&mut self.outgoing.unflushed);
        self.lost_unflushed |= !in_order && unflushed > 0;
        self.drain_disconnected(&pings, in_order);
        self.requests_disconnected();
    }

    /// Decides when the next attempt is, if there is to be one.
    fn schedule(&mut self, now: Instant, last: DisconnectReason) {
        let Outage { attempts, failed, .. } = self.outage;
        if self.allowed_failures().is_some_and(|max| failed >= max) {
            return self.close_for(CloseReason::GaveUp { attempts: failed, last });
        }
        let max = self.config.max_auth_failures;
        if let Some((refusals, last)) = self.refusals.take_if(|(n, _)| max.is_some_and(|m| *n >= m))
        {
            return self.close_for(CloseReason::AuthenticationFailed { refusals, last });
        }
        let (servers, delays) = (self.pool.len(), &self.config.reconnect);
        let after = self.outage.delay(now, servers, delays, &mut self.rng);
        self.state = State::Waiting { until: now + after };
        self.event(Event::Reconnecting { attempt: attempts.saturating_add(1), after });
    }

    /// How many attempts in a row may fail, if not any number.
    fn allowed_failures(&self) -> Option<u32> {
        if !self.ever_connected && !self.config.retry_on_failed_connect {
            return Some(u32::try_from(self.pool.len()).unwrap_or(u32::MAX));
        }
        // The very first attempt is no reconnect.
        let first = u32::from(!self.ever_connected);
        Some(self.config.max_reconnects?.saturating_add(first))
    }

    pub(super) fn close_for(&mut self, reason: CloseReason) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if let State::Up(up) = &mut self.state {
            // There is no other server to hold anything back for.
            up.leaving = None;
        }
        while let Some(bytes) = self.next_write() {
            self.outputs.push_back(Output::Write(bytes));
        }
        let state = std::mem::replace(&mut self.state, State::Closed);
        if !matches!(state, State::Waiting { .. }) {
            self.outputs.push_back(Output::Disconnect {
                dial: self.dial,
                reason: DisconnectReason::Closed,
            });
        }
        let mut pings = Vec::new();
        if let State::Up(up) = state {
            pings.extend(up.pings);
        }
        let unsent_messages = self.outgoing.messages;
        pings.extend(self.outgoing.clear());
        let offline = std::mem::take(&mut self.offline_flushes);
        for token in offline.into_iter().chain(flushes(&pings)) {
            self.flushed(token, Err(FlushError::Closed));
        }
        self.drain_disconnected(&pings, false);
        self.requests_closed();
        self.stats.unsent_messages += unsent_messages;
        self.event(Event::Closed { reason, unsent_messages });
    }

    // What comes out.

    /// The next frame, if there is a connection to write it to.
    pub(super) fn next_write(&mut self) -> Option<Bytes> {
        let State::Up(up) = &mut self.state else {
            return None;
        };
        if up.leaving.as_ref().is_some_and(|leaving| leaving.is_last_written) {
            return None;
        }
        let frame = self.outgoing.next_frame()?;
        if let (Some(leaving), Some(Ping::Move)) = (&mut up.leaving, frame.pings.last()) {
            leaving.is_last_written = true;
        }
        up.pings.extend(frame.pings);
        for request in frame.requests {
            self.requests.sent(request);
        }
        self.stats.out_messages += frame.messages;
        self.stats.out_bytes += frame.message_bytes as u64;
        Some(frame.bytes)
    }

    pub(super) fn flushed(&mut self, token: u64, result: Result<(), FlushError>) {
        self.flushes = self.flushes.saturating_sub(1);
        self.outputs.push_back(Output::Flushed { token, result });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// The flushes among these PINGs.
fn flushes(pings: &[Ping]) -> impl Iterator<Item = u64> + '_ {
    pings.iter().filter_map(|ping| match ping {
        Ping::Flush(token) => Some(*token),
        _ => None,
    })
}

fn max_payload(info: &ServerInfo) -> usize {
    usize::try_from(info.max_payload).unwrap_or(usize::MAX)
}
