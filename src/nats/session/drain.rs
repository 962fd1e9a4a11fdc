//! Ends in good order: of a subscription, of the session, and of a connection to a server that is
//! about to go.

use std::time::Duration;

use super::*;

/// A session that ends in good order.
#[derive(Debug)]
pub(super) struct Draining {
    pub(super) deadline: Instant,
    phase: Phase,
    /// Whether a connection broke meanwhile, with which something may have been lost.
    broke: bool,
}

impl Draining {
    /// What the session closes with, once everything is done.
    fn outcome(&self) -> CloseReason {
        match self.broke {
            true => CloseReason::DrainInterrupted,
            false => CloseReason::Drained,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is on its way for the subscriptions still comes.
    Subscriptions,
    /// Requests wait for their answers.
    Answers,
    /// The server is to have everything; whether it was asked on this connection.
    Publishes { asked: bool },
}

impl Session {
    /// Ends a subscription in good order: no more is sent for it, what is on its way is still
    /// delivered, and then there is an [`Output::Drained`]. If the connection breaks meanwhile, that
    /// comes at once, since nothing is on its way any more. Says whether there was such a
    /// subscription that did not drain already.
    pub fn drain_subscription(&mut self, sid: u64) -> bool {
        if !self.subscriptions.drain(sid) {
            return false;
        }
        if self.is_connected() {
            self.push_unsub(sid);
            self.outgoing.push_ping(Ping::Drain(sid));
        } else {
            self.drained(sid);
        }
        true
    }

    /// Ends the session in good order. First its subscriptions, as
    /// [`Session::drain_subscription`] does; until then one can publish, and those who answer what
    /// came last do. Then requests get their answers or time out; then the server is to have
    /// everything that was published; then it is closed, with [`CloseReason::Drained`]. Without a
    /// connection, what waits is sent with the next one; if one breaks meanwhile, the reason is
    /// [`CloseReason::DrainInterrupted`]. After `timeout` it is closed all the same, with
    /// [`CloseReason::DrainTimedOut`].
    ///
    /// New subscriptions and requests are refused from now on, publishes once the subscriptions
    /// have ended. An owner whose subscribers need longer than the last message takes to arrive
    /// drains these subscriptions first, lets their work end, and then calls this.
    ///
    /// Says whether it begins: a session that is closed or drains already does not.
    pub fn drain(&mut self, now: Instant, timeout: Duration) -> bool {
        if matches!(self.state, State::Closed) || self.draining.is_some() {
            return false;
        }
        let inbox = self.requests.inbox_sid();
        let mut ended = false;
        for sid in self.subscriptions.sids() {
            if Some(sid) != inbox && self.subscriptions.drain(sid) {
                ended = true;
                if self.is_connected() {
                    self.push_unsub(sid);
                } else {
                    self.drained(sid);
                }
            }
        }
        let mut phase = Phase::Answers;
        if ended && self.is_connected() {
            self.outgoing.push_ping(Ping::DrainAll);
            phase = Phase::Subscriptions;
        }
        self.draining = Some(Draining { deadline: now + timeout, phase, broke: false });
        self.run_timers(now);
        true
    }

    /// Goes to another server: the present connection is given up, if there is one, and the next
    /// attempt starts at once. What was not yet written goes to the next server; what is on its way
    /// may be lost.
    pub fn force_reconnect(&mut self, now: Instant) {
        match &mut self.state {
            State::Waiting { until } => *until = now,
            State::Up(_) => {
                // The delays are for outages.
                self.outage = Outage::new(now);
                self.lost(now, DisconnectReason::Forced, true);
            }
            // An attempt is under way.
            State::Dialing { .. } | State::Handshake { .. } | State::Closed => {}
        }
        self.run_timers(now);
    }

    /// Whether nothing more can be published.
    pub(super) fn refuses_publishes(&self) -> bool {
        matches!(self.draining, Some(Draining { phase: Phase::Publishes { .. }, .. }))
    }

    /// A PING of a drain was answered.
    pub(super) fn drain_answered(&mut self, now: Instant, ping: Ping) {
        match ping {
            Ping::Drain(sid) => self.drained(sid),
            Ping::DrainAll => self.all_drained(),
            Ping::DrainEnd => {
                let outcome = self.draining.as_ref().map(Draining::outcome);
                self.close_for(outcome.unwrap_or(CloseReason::Drained));
            }
            Ping::Move => self.lost(now, DisconnectReason::LameDuck, true),
            Ping::KeepAlive | Ping::Flush(_) => {}
        }
    }

    /// The connection is gone, and so is what was on its way; `in_order` if the server had everything
    /// that was written.
    pub(super) fn drain_disconnected(&mut self, pings: &[Ping], in_order: bool) {
        for ping in pings {
            if let Ping::Drain(sid) = ping {
                self.drained(*sid);
            }
        }
        self.all_drained();
        if let Some(draining) = &mut self.draining {
            draining.broke |= !in_order;
            if draining.phase == (Phase::Publishes { asked: true }) {
                draining.phase = Phase::Publishes { asked: false };
            }
        }
    }

    fn drained(&mut self, sid: u64) {
        self.subscriptions.drained(sid);
        self.outputs.push_back(Output::Drained { sid });
    }

    fn all_drained(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        if draining.phase == Phase::Subscriptions {
            draining.phase = Phase::Answers;
            for sid in self.subscriptions.take_draining() {
                self.outputs.push_back(Output::Drained { sid });
            }
        }
    }

    /// Goes on with the next phase of a drain, if it is time.
    pub(super) fn run_drain(&mut self, now: Instant) {
        let Some(draining) = &mut self.draining else { return };
        if matches!(self.state, State::Closed) {
            return;
        }
        if now >= draining.deadline {
            return self.close_for(CloseReason::DrainTimedOut);
        }
        self.advance_drain();
    }

    /// As [`Session::run_drain`], when no time has passed.
    pub(super) fn advance_drain(&mut self) {
        let Some(draining) = &mut self.draining else { return };
        if matches!(self.state, State::Closed) {
            return;
        }
        if draining.phase == Phase::Answers && self.requests.len() == 0 {
            draining.phase = Phase::Publishes { asked: false };
        }
        if draining.phase != (Phase::Publishes { asked: false }) {
            return;
        }
        if matches!(self.state, State::Up(_)) {
            draining.phase = Phase::Publishes { asked: true };
            self.outgoing.push_ping(Ping::DrainEnd);
        } else if self.outgoing.messages == 0 && self.flushes == 0 {
            // No reason to wait for a connection.
            let outcome = draining.outcome();
            self.close_for(outcome);
        }
    }

    /// The server is about to go. If there is another, we leave as soon as it has everything that
    /// was written; there is no hurry in it beyond `connect_timeout`.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.pool.len() < 2 || self.config.max_reconnects == Some(0) {
            return;
        }
        let State::Up(up) = &mut self.state else { return };
        if up.leaving.is_none() {
            let deadline = now + self.config.connect_timeout;
            up.leaving = Some(Leaving { deadline, is_last_written: false });
            self.outgoing.push_ping(Ping::Move);
        }
    }

    fn push_unsub(&mut self, sid: u64) {
        if !self.writes() {
            return;
        }
        let mut unsub = Vec::new();
        encode_unsub(sid, None, &mut unsub);
        self.outgoing.push_control(unsub);
    }
}
