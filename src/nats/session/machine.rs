//! What a session makes of the facts: its transitions.

use bytes::Bytes;

use super::connect::encode_connect;
use super::*;
use crate::nats::codec::{ControlOp, ServerMessage};
use crate::nats::server_error::ServerError;

impl Session {
    // What the server says.

    pub(super) fn control(&mut self, now: Instant, op: ControlOp) {
        match op {
            ControlOp::Info(info) => self.info(info),
            ControlOp::Pong => self.pong(now),
            ControlOp::Ping => self.ping(),
            ControlOp::Err(error) => self.server_error(now, error),
            ControlOp::Ok => {}
        }
    }

    /// The first INFO of a transport is answered; a later one replaces what was known.
    fn info(&mut self, info: Box<ServerInfo>) {
        let addresses = info.connect_urls.clone();
        let server = match &mut self.state {
            State::Dialing { server, deadline } => {
                let (server, deadline) = (server.clone(), *deadline);
                let connect = encode_connect(&self.config, &server);
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
                up.info = info;
                let server = up.server.clone();
                if is_new {
                    let server = server.to_string();
                    self.event(Event::LameDuck { server });
                }
                server
            }
            State::Waiting { .. } | State::Closed => return,
        };
        self.advertised(&server, &addresses);
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
                // Nobody asked.
                None => {}
            },
            // Before CONNECT it is an answer to nothing.
            State::Dialing { .. } | State::Waiting { .. } | State::Closed => {}
        }
    }

    fn ping(&mut self) {
        match &self.state {
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
                self.event(Event::PermissionViolation { violation, sids });
            }
            ServerError::Authorization(error) => {
                if is_up {
                    let error = error.clone();
                    self.event(Event::ServerError { error });
                }
                self.lost(now, DisconnectReason::Authorization(error), true);
            }
            ServerError::Other(error) if is_up => self.event(Event::ServerError { error }),
            error => self.lost(now, DisconnectReason::Server(error.to_string()), true),
        }
    }

    pub(super) fn message(&mut self, message: ServerMessage) {
        if self.count(message.sid(), 1, message.wire_len() as u64) {
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

    // Time.

    /// Does what is due.
    pub(super) fn run_timers(&mut self, now: Instant) {
        loop {
            match &mut self.state {
                State::Waiting { until } if now >= *until => self.start_dial(now),
                State::Dialing { deadline, .. } | State::Handshake { deadline, .. }
                    if now >= *deadline =>
                {
                    let limit = self.config.connect_timeout;
                    self.lost(now, DisconnectReason::ConnectTimeout(limit), true);
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
        });
        self.outgoing.put_first(self.subscriptions.encode_all());
        for token in std::mem::take(&mut self.offline_flushes) {
            self.outgoing.push_ping(Ping::Flush(token));
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

    fn connection_lost(&mut self, now: Instant, up: Up, reason: DisconnectReason) {
        self.event(Event::Disconnected { server: up.server.to_string(), reason });
        if now - up.since >= Outage::OVER_AFTER {
            self.outage = Outage::new(now);
        }
        let unsent = self.outgoing.forget_connection();
        for token in unanswered(&up).chain(unsent) {
            self.flushed(token, Err(FlushError::Disconnected));
        }
    }

    /// Decides when the next attempt is, if there is to be one.
    fn schedule(&mut self, now: Instant, last: DisconnectReason) {
        let Outage { attempts, failed, .. } = self.outage;
        if self.allowed_failures().is_some_and(|max| failed >= max) {
            return self.close_for(CloseReason::GaveUp { attempts: failed, last });
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
        let mut tokens = std::mem::take(&mut self.offline_flushes);
        if let State::Up(up) = &state {
            tokens.extend(unanswered(up));
        }
        let unsent_messages = self.outgoing.messages;
        tokens.extend(self.outgoing.clear());
        for token in tokens {
            self.flushed(token, Err(FlushError::Closed));
        }
        self.stats.unsent_messages += unsent_messages;
        self.event(Event::Closed { reason, unsent_messages });
    }

    // What comes out.

    /// The next frame, if there is a connection to write it to.
    pub(super) fn next_write(&mut self) -> Option<Bytes> {
        let State::Up(up) = &mut self.state else {
            return None;
        };
        let frame = self.outgoing.next_frame()?;
        up.pings.extend(frame.pings);
        self.stats.out_messages += frame.messages;
        self.stats.out_bytes += frame.message_bytes as u64;
        Some(frame.bytes)
    }

    fn flushed(&mut self, token: u64, result: Result<(), FlushError>) {
        self.flushes = self.flushes.saturating_sub(1);
        self.outputs.push_back(Output::Flushed { token, result });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// The flushes among the PINGs that were handed out.
fn unanswered(up: &Up) -> impl Iterator<Item = u64> + '_ {
    up.pings.iter().filter_map(|ping| match ping {
        Ping::Flush(token) => Some(*token),
        Ping::KeepAlive => None,
    })
}
