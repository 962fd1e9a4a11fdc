//! The owner: has the session and the socket to write to, and does what the session says.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::time::Duration;

use rust_wasm_lunatic_nats::nats::{
    Event, FlushError, FrameWriter, GatherEnd, Headers, Input, InvalidConfig, Output, QueueGroup,
    RequestError, RequestId, RequestMany, RequestRefused, ServerMessage, ServerOp, Session,
    SessionConfig, SubjectPattern, SubscribeError, UpgradeHeaders,
};
use rust_wasm_lunatic_nats::time::Instant;

use crate::client::Shared;
use crate::reader;

/// What the owner is told.
pub(crate) enum Mail {
    /// A command of the client's.
    Call(Box<dyn FnOnce(&mut Owner) + Send>),
    /// The transport is there.
    Opened { dial: u64, stream: TcpStream },
    /// It could not be made.
    DialFailed { dial: u64, reason: String },
    /// What came in one read.
    Ops { dial: u64, ops: Vec<ServerOp> },
    /// A ping of the WebSocket, not of NATS.
    WebSocketPing { dial: u64, payload: Vec<u8> },
    /// The transport ended.
    Closed { dial: u64, reason: String },
    /// The client is dropped.
    End,
}

/// What is asked.
pub(crate) struct Ask {
    pub(crate) subject: String,
    pub(crate) headers: Headers,
    pub(crate) payload: Vec<u8>,
    pub(crate) how: How,
}

/// For how many answers.
pub(crate) enum How {
    One { within: Duration },
    Many(RequestMany),
}

/// What comes of it.
pub(crate) enum Answer {
    Message(ServerMessage),
    Failed(RequestError),
    Gathered(GatherEnd),
}

pub(crate) struct Owner {
    pub(crate) session: Session,
    headers: UpgradeHeaders,
    started: std::time::Instant,
    mails: SyncSender<Mail>,
    shared: Arc<Shared>,
    /// The present dial, and its socket once it is open.
    dial: u64,
    stream: Option<TcpStream>,
    frames: FrameWriter,
    write_timeout: Duration,
    routes: BTreeMap<u64, Route>,
    flushes: BTreeMap<u64, SyncSender<Result<(), FlushError>>>,
    requests: HashMap<RequestId, SyncSender<Answer>>,
    /// The last token of a flush.
    last: u64,
    ending: bool,
}

struct Route {
    to: SyncSender<ServerMessage>,
    received: u64,
    /// Whether the last message found no room.
    is_full: bool,
    ends_after: Option<u64>,
}

impl Owner {
    pub(crate) fn new(
        config: SessionConfig,
        headers: UpgradeHeaders,
        mails: SyncSender<Mail>,
        shared: Arc<Shared>,
    ) -> Result<Self, InvalidConfig> {
        // A socket that takes nothing for so long is as good as broken.
        let write_timeout = config.ping_interval.saturating_mul(config.max_pings_out + 1);
        Ok(Self {
            session: Session::new(config, u64::from_le_bytes(random()), Instant::START)?,
            headers,
            started: std::time::Instant::now(),
            mails,
            shared,
            dial: 0,
            stream: None,
            frames: FrameWriter::new(u64::from_le_bytes(random())),
            write_timeout,
            routes: BTreeMap::new(),
            flushes: BTreeMap::new(),
            requests: HashMap::new(),
            last: 0,
            ending: false,
        })
    }

    /// The loop: outputs until there are none, then the next mail, at the latest at the instant that
    /// the session named.
    pub(crate) fn run(mut self, mails: &Receiver<Mail>) {
        while !self.ending {
            let tick = self.do_outputs();
            let mail = match tick.map(|at| at - self.now()) {
                Some(left) => mails.recv_timeout(left),
                None => mails.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match mail {
                Ok(mail) => self.mail(mail),
                Err(RecvTimeoutError::Timeout) => self.input(Input::Tick),
                Err(RecvTimeoutError::Disconnected) => self.ending = true,
            }
        }
        self.session.close();
        self.do_outputs();
    }

    fn now(&self) -> Instant {
        Instant::from_start(self.started.elapsed())
    }

    fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Call(command) => command(self),
            Mail::Opened { dial, stream } if dial == self.dial => {
                self.stream = Some(stream);
                self.input(Input::Opened { dial });
            }
            // Of a dial that was given up: dropping it ends it.
            Mail::Opened { stream, .. } => drop(stream.shutdown(Shutdown::Both)),
            Mail::DialFailed { dial, reason } => self.input(Input::DialFailed { dial, reason }),
            Mail::Closed { dial, reason } => self.input(Input::Closed { dial, reason }),
            Mail::Ops { dial, ops } => {
                for op in ops {
                    self.input(match op {
                        ServerOp::Message(message) => Input::Message { dial, message },
                        ServerOp::Control(op) => Input::Control { dial, op },
                    });
                    // As the session wants it: outputs after every input.
                    self.do_outputs();
                }
            }
            Mail::WebSocketPing { dial, payload } if dial == self.dial => {
                let pong = self.frames.pong(&payload).to_vec();
                self.write(&pong);
            }
            Mail::WebSocketPing { .. } => {}
            Mail::End => self.ending = true,
        }
    }

    fn input(&mut self, input: Input) {
        self.session.handle_input(self.now(), input);
    }

    /// Does what the session says, and gives until when there is nothing more.
    fn do_outputs(&mut self) -> Option<Instant> {
        loop {
            match self.session.poll_output() {
                Output::Dial { dial, server, deadline, .. } => {
                    self.hang_up();
                    self.dial = dial;
                    let (headers, within) = (self.headers.clone(), deadline - self.now());
                    reader::start(dial, server, headers, within, self.mails.clone());
                }
                Output::Write(bytes) => {
                    self.frames.push(&bytes);
                    let frame = self.frames.finish().to_vec();
                    self.frames.clear();
                    self.write(&frame);
                }
                Output::Disconnect { dial, .. } if dial == self.dial => self.hang_up(),
                Output::Disconnect { .. } => {}
                Output::Event(event) => self.event(event),
                Output::Deliver(message) => self.deliver(message),
                Output::Flushed { token, result } => {
                    if let Some(told) = self.flushes.remove(&token) {
                        // Who asked may have failed meanwhile.
                        let _ = told.send(result);
                    }
                }
                Output::Response { request, result } => {
                    let answer = result.map_or_else(Answer::Failed, Answer::Message);
                    self.answer(request, answer);
                }
                Output::Gathered { request, end } => self.answer(request, Answer::Gathered(end)),
                Output::Drained { sid } => drop(self.routes.remove(&sid)),
                Output::Wait(until) => return until,
            }
        }
    }

    fn write(&mut self, frame: &[u8]) {
        let Some(stream) = &mut self.stream else { return };
        let written = stream
            .set_write_timeout(Some(self.write_timeout))
            .and_then(|()| stream.write_all(frame));
        if let Err(error) = written {
            self.hang_up();
            let reason = format!("cannot write: {error}");
            self.input(Input::Closed { dial: self.dial, reason });
        }
    }

    /// Whoever reads from it ends as well.
    fn hang_up(&mut self) {
        if let Some(stream) = self.stream.take() {
            // It may be gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn event(&mut self, event: Event) {
        match &event {
            Event::PermissionViolation { sids, .. } => {
                for sid in sids {
                    self.routes.remove(sid);
                }
            }
            Event::Closed { .. } => self.routes.clear(),
            _ => {}
        }
        self.shared.tell(event);
    }

    fn deliver(&mut self, message: ServerMessage) {
        let sid = message.sid();
        let Some(route) = self.routes.get_mut(&sid) else { return };
        let bytes = message.wire_len() as u64;
        let full = matches!(route.to.try_send(message), Err(TrySendError::Full(_)));
        let was_full = std::mem::replace(&mut route.is_full, full);
        route.received += 1;
        if route.ends_after.is_some_and(|max| route.received >= max) {
            self.routes.remove(&sid);
        }
        if full {
            self.input(Input::SlowConsumer {
                sid,
                dropped_messages: 1,
                dropped_bytes: bytes,
                began: !was_full,
            });
        }
    }

    /// An answer, or the end of them.
    fn answer(&mut self, request: RequestId, answer: Answer) {
        // After an error there is nothing more, and after the one answer of a `request` neither; who
        // asked for it has left, then.
        if let Some(told) = self.requests.get(&request) {
            let is_last = !matches!(answer, Answer::Message(_));
            if told.send(answer).is_err() || is_last {
                self.requests.remove(&request);
            }
        }
    }

    // Commands.

    pub(crate) fn subscribe(
        &mut self,
        pattern: SubjectPattern,
        queue: Option<QueueGroup>,
        to: SyncSender<ServerMessage>,
    ) -> Result<u64, SubscribeError> {
        let sid = self.session.subscribe(pattern, queue)?;
        self.routes.insert(sid, Route { to, received: 0, is_full: false, ends_after: None });
        Ok(sid)
    }

    pub(crate) fn unsubscribe(&mut self, sid: u64, max: u64) {
        self.session.unsubscribe(sid, Some(max));
        let over = self.routes.get_mut(&sid).is_some_and(|route| {
            route.ends_after = Some(max);
            route.received >= max
        });
        if over {
            self.routes.remove(&sid);
        }
    }

    pub(crate) fn flush(
        &mut self,
        told: SyncSender<Result<(), FlushError>>,
    ) -> Result<(), FlushError> {
        self.last += 1;
        self.session.flush(self.last)?;
        self.flushes.insert(self.last, told);
        Ok(())
    }

    /// Asks; the answer, or why there is none, is told.
    pub(crate) fn request(
        &mut self,
        ask: &Ask,
        told: SyncSender<Answer>,
    ) -> Result<(), RequestRefused> {
        let Ask { subject, headers, payload, .. } = ask;
        let now = self.now();
        let request = match &ask.how {
            How::One { within } => self.session.request(now, subject, headers, payload, *within)?,
            How::Many(many) => self.session.request_many(now, subject, headers, payload, many)?,
        };
        self.requests.insert(request, told);
        Ok(())
    }

    pub(crate) fn drain(&mut self, within: Duration) -> bool {
        self.session.drain(self.now(), within)
    }

    pub(crate) fn force_reconnect(&mut self) {
        self.session.force_reconnect(self.now());
    }
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").field("session", &self.session).finish_non_exhaustive()
    }
}

/// From the system, by way of what the standard library keeps it for.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    use std::hash::{BuildHasher, RandomState};
    std::array::from_fn(|_| RandomState::new().hash_one(0u8) as u8)
}
