//! Sessions on a virtual clock, as transcripts: facts go in, and what comes out is compared as text.

mod any_order;
mod auth;
mod drain;
mod handshake;
mod lame_duck;
mod messages;
mod reconnect;
mod requests;
mod transcripts;

use std::time::Duration;

use super::*;
use crate::nats::codec::{ControlOp, Decoder, ServerOp};
use crate::nats::{Headers, OutboxError, RequestRefused, ServerError, ServerUrl};

/// A session with its clock and the number of its last dial.
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) now: Instant,
    pub(super) dial: u64,
    decoder: Decoder,
}

pub(super) const INFO: &str =
    r#"INFO {"server_name":"S","version":"2.9.10","max_payload":1048576,"headers":true}"#;

pub(super) fn config(urls: &str) -> SessionConfig {
    SessionConfig { shuffle_servers: false, ..SessionConfig::for_server(urls).expect("URLs") }
}

pub(super) fn pattern(pattern: &str) -> SubjectPattern {
    SubjectPattern::parse(pattern).expect("a pattern")
}

pub(super) fn queue(queue: &str) -> Option<QueueGroup> {
    Some(QueueGroup::parse(queue).expect("a queue group"))
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Rig {
    pub(super) fn new(config: SessionConfig) -> Self {
        Self::with_seed(config, 1)
    }

    pub(super) fn with_seed(config: SessionConfig, seed: u64) -> Self {
        Self {
            session: Session::new(config, seed, Instant::START).expect("a config"),
            now: Instant::START,
            dial: 0,
            decoder: Decoder::default(),
        }
    }

    /// A session at `ws://a:1` whose connection is up; its outputs so far are dropped.
    pub(super) fn up() -> Self {
        Self::up_with(config("ws://a:1"))
    }

    pub(super) fn up_with(config: SessionConfig) -> Self {
        let mut rig = Self::new(config);
        rig.drain();
        rig.shake_hands();
        assert!(rig.session.is_connected());
        rig
    }

    /// What the present dial needs to be up.
    pub(super) fn shake_hands(&mut self) -> Vec<String> {
        let mut log = self.opened();
        log.extend(self.says(INFO));
        log.extend(self.says("PONG"));
        log
    }

    pub(super) fn opened(&mut self) -> Vec<String> {
        let dial = self.dial;
        self.input(Input::Opened { dial })
    }

    pub(super) fn closed(&mut self, reason: &str) -> Vec<String> {
        let (dial, reason) = (self.dial, reason.to_owned());
        self.input(Input::Closed { dial, reason })
    }

    pub(super) fn dial_failed(&mut self, reason: &str) -> Vec<String> {
        let (dial, reason) = (self.dial, reason.to_owned());
        self.input(Input::DialFailed { dial, reason })
    }

    /// The server says a line, on the present transport.
    pub(super) fn says(&mut self, line: &str) -> Vec<String> {
        self.sends(format!("{line}\r\n").as_bytes())
    }

    /// Bytes arrive on the present transport.
    pub(super) fn sends(&mut self, bytes: &[u8]) -> Vec<String> {
        self.decoder.feed(bytes).expect("the protocol");
        let mut log = Vec::new();
        while let Some(op) = self.decoder.next_op().expect("the protocol") {
            let dial = self.dial;
            log.extend(self.input(match op {
                ServerOp::Control(op) => Input::Control { dial, op },
                ServerOp::Message(message) => Input::Message { dial, message },
            }));
        }
        log
    }

    /// Time passes, with a tick whenever the session asked for one.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        let mut log = Vec::new();
        loop {
            let (outputs, until) = self.outputs();
            log.extend(outputs);
            match until {
                Some(until) if until <= end => {
                    assert!(until >= self.now, "it waits for the past");
                    self.now = self.now.max(until);
                    self.session.handle_input(self.now, Input::Tick);
                }
                _ => break,
            }
        }
        self.now = end;
        log
    }

    /// How long until the session wants a tick.
    pub(super) fn wait(&mut self) -> Option<Duration> {
        let until = self.outputs().1?;
        Some(until - Instant::START)
    }

    /// The message in these bytes, as an input.
    pub(super) fn message(&mut self, bytes: &str) -> Input {
        self.decoder.feed(bytes.as_bytes()).expect("the protocol");
        let Ok(Some(ServerOp::Message(message))) = self.decoder.next_op() else {
            panic!("a message")
        };
        Input::Message { dial: self.dial, message }
    }

    pub(super) fn input(&mut self, input: Input) -> Vec<String> {
        self.session.handle_input(self.now, input);
        self.drain()
    }

    pub(super) fn drain(&mut self) -> Vec<String> {
        self.outputs().0
    }

    fn outputs(&mut self) -> (Vec<String>, Option<Instant>) {
        let mut log = Vec::new();
        loop {
            match self.session.poll_output() {
                Output::Wait(until) => return (log, until),
                Output::Dial { dial, server, attempt, deadline } => {
                    assert!(dial > self.dial, "numbers grow");
                    assert_eq!(deadline, self.now + self.session.config.connect_timeout);
                    self.dial = dial;
                    self.decoder = Decoder::default();
                    log.push(format!("dial {server} #{attempt}"));
                }
                Output::Disconnect { dial, reason } => {
                    assert_eq!(dial, self.dial);
                    log.push(format!("disconnect: {reason}"));
                }
                Output::Write(bytes) => {
                    let text = String::from_utf8_lossy(&bytes).replace("\r\n", "|");
                    log.push(format!("write {text}"));
                }
                Output::Event(event) => log.push(told(&event)),
                Output::Deliver(message) => {
                    let payload = String::from_utf8_lossy(message.payload());
                    log.push(format!("deliver {} {} {payload}", message.sid(), message.subject()));
                }
                Output::Flushed { token, result } => match result {
                    Ok(()) => log.push(format!("flushed {token}")),
                    Err(error) => log.push(format!("flush {token}: {error}")),
                },
                Output::Response { request, result } => log.push(match result {
                    Ok(message) => {
                        let payload = String::from_utf8_lossy(message.payload());
                        format!("{request:?}: {payload}")
                    }
                    Err(error) => format!("{request:?}: {error}"),
                }),
                Output::Gathered { request, end } => log.push(format!("{request:?}: {end:?}")),
                Output::Drained { sid } => log.push(format!("drained {sid}")),
            }
        }
    }

    pub(super) fn publish(&mut self, subject: &str) -> Result<(), PublishError> {
        let mut outbox = crate::nats::Outbox::default();
        outbox.publish(subject, None, &crate::nats::Headers::new(), b"x").expect("a publish");
        let batch = outbox.take();
        self.session.publish(batch.bytes, batch.ops)
    }
}

/// The reply subject of the last publish in a log.
pub(super) fn reply_subject(log: &str) -> String {
    let at = log.rfind(" _INBOX.").expect("a reply subject");
    log[at + 1..].split(' ').next().expect("a token").to_owned()
}

fn told(event: &Event) -> String {
    match event {
        Event::Connected { server, reconnects, .. } => format!("connected {server} ({reconnects})"),
        Event::Disconnected { reason, .. } => format!("disconnected: {reason}"),
        Event::AttemptFailed { attempt, reason, .. } => {
            format!("attempt {attempt} failed: {reason}")
        }
        // The delay is random: tests of it look at the clock.
        Event::Reconnecting { attempt, .. } => format!("next attempt {attempt}"),
        Event::ServerError { error } => format!("server error: {error}"),
        Event::PermissionViolation { violation, sids } => format!("{violation}, ends {sids:?}"),
        Event::LameDuck { server } => format!("lame duck {server}"),
        Event::DiscoveredServers { servers, ignored } => {
            format!("discovered {servers:?}, ignored {ignored}")
        }
        Event::SlowConsumer { sid, subject, dropped_messages } => {
            format!("slow consumer {sid} {subject}, {dropped_messages} dropped")
        }
        Event::Closed { reason, unsent_messages } => {
            format!("closed, {unsent_messages} unsent: {reason}")
        }
    }
}
