//! The reader: dials, and then reads. A process blocks on one thing, and a failed TLS handshake
//! traps who makes it; so each attempt to connect is a process of its own, which lives as long as
//! its socket. What it decodes goes straight to whom it is for, a frame's worth at a time.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connection::Mail;
use super::dial::{self, DialOptions};
use super::gateway;
use super::logger;
use super::mail::{self, AgentMail, Delivery, Input, DELIVERIES};
use super::names::{self, Lookup};
use super::stream::Stream;
use super::sys::{self, Pid, Received};
use crate::agent::{AgentId, Context};
use crate::message::{encode_error, ErrorCode, WireError};
use crate::nats::{
    ControlOp, DecodeError, Decoder, Frame, FrameReader, Headers, Inbox, Outbox, ServerMessage,
    ServerOp, ServerUrl,
};

/// What a reader is told first.
#[derive(Serialize, Deserialize)]
pub(super) struct ReaderStart {
    pub(super) owner: u64,
    pub(super) dial: u64,
    pub(super) server: ServerUrl,
    pub(super) timeout: Duration,
    pub(super) options: DialOptions,
    pub(super) inbox: [u8; 16],
    pub(super) routes: Vec<(u64, Route)>,
    /// Whether the owner wants to know how much came for each subscription.
    pub(super) counts: bool,
    pub(super) log_level: u8,
}

/// Where the messages of a subscription go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Route {
    /// To an agent, wherever its present process is.
    Agent(AgentId),
    /// To a part of the node, by its name.
    Part(String),
    /// To a process that subscribed, under its tag.
    Process { pid: u64, tag: i64 },
    /// To the process and tag that the subject names.
    Inbox,
}

/// What the owner tells its reader, before it tells the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ReaderMail {
    /// Messages of a subscription go there from now on.
    Route { sid: u64, route: Route },
    /// The subscription is over.
    Unroute { sid: u64 },
    /// What the reader sends itself, to know when its mailbox is empty.
    Marker,
}

/// The process's entry.
pub(super) fn process() {
    let start: ReaderStart = mail::first();
    logger::install_part(start.log_level, "reader");
    let (owner, dial) = (Pid(start.owner), start.dial);
    let reason = match Reader::connect(start) {
        Ok(mut reader) => reader.run(),
        Err(reason) => return mail::send(owner, &Mail::DialFailed { dial, reason: &reason }),
    };
    mail::send(owner, &Mail::Closed { dial, reason: &reason });
}

struct Reader {
    owner: Pid,
    dial: u64,
    stream: Stream,
    frames: FrameReader,
    decoder: Decoder,
    inbox: Inbox,
    routes: HashMap<u64, Route>,
    /// What the present frame brought, by whom it is for.
    batches: Vec<(Target, Vec<ServerMessage>)>,
    /// What it was by subscription, messages and bytes, if the owner wants to know.
    counts: Option<BTreeMap<u64, (u64, u64)>>,
    /// Answers of the reader's own: refusals.
    outbox: Outbox,
}

/// A process, and the tag under which it waits; or an agent's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Agent(Pid),
    Process(Pid, i64),
}

impl Reader {
    /// So much is read at once at the most, decoded, and delivered.
    const READ_BUFFER: usize = 128 * 1024;

    fn connect(start: ReaderStart) -> Result<Self, String> {
        let (stream, auth) = dial::dial(&start.server, &start.options, start.timeout)?;
        let (owner, dial) = (Pid(start.owner), start.dial);
        let reader = sys::this().0;
        mail::send(owner, &Mail::Opened { dial, reader, stream: stream.clone(), auth });
        Ok(Self {
            owner,
            dial,
            stream,
            frames: FrameReader::default(),
            decoder: Decoder::default(),
            inbox: Inbox::from_random(start.inbox),
            routes: start.routes.into_iter().collect(),
            batches: Vec::new(),
            counts: start.counts.then(BTreeMap::new),
            outbox: Outbox::default(),
        })
    }

    /// Reads until the connection ends, and says why.
    fn run(&mut self) -> String {
        let mut buffer = vec![0; Self::READ_BUFFER];
        loop {
            let read = match self.stream.read(&mut buffer) {
                Ok(0) => return "the server closed the connection".to_owned(),
                Ok(read) => read,
                Err(error) => return format!("the connection ended: {error}"),
            };
            if let Err(reason) = self.input(&buffer[..read]) {
                return reason;
            }
        }
    }

    fn input(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let decode = |error: DecodeError| format!("not what a NATS server says: {error}");
        let (mut control, mut closed) = (Vec::new(), None);
        while let Some(frame) = self.frames.next(&mut bytes).map_err(|error| error.to_string())? {
            match frame {
                Frame::Data(data) => {
                    self.decoder.feed(data).map_err(decode)?;
                    while let Some(op) = self.decoder.next_op().map_err(decode)? {
                        match op {
                            ServerOp::Message(message) => self.message(message),
                            ServerOp::Control(op) => control.push(op),
                        }
                    }
                }
                Frame::Ping(payload) => {
                    let pong = Mail::Pong { dial: self.dial, payload: &payload };
                    mail::send(self.owner, &pong);
                }
                Frame::Close(reason) => {
                    closed = Some(format!("the server closed the WebSocket: {reason}"));
                }
            }
        }
        self.tell_counts();
        self.deliver();
        if !control.is_empty() {
            // A PING or a PONG comes every two minutes at least: so nothing piles up in the mailbox
            // of a connection that gets no messages.
            self.look_into_mailbox();
        }
        // Also what came before a close: it says why.
        self.tell_owner(control);
        closed.map_or(Ok(()), Err)
    }

    /// Before what came is delivered: who has a message finds it counted.
    fn tell_counts(&mut self) {
        let Some(counts) = self.counts.as_mut().filter(|counts| !counts.is_empty()) else { return };
        let counts = std::mem::take(counts).into_iter();
        let counts = counts.map(|(sid, (messages, bytes))| (sid, messages, bytes)).collect();
        mail::send(self.owner, &Mail::Received { counts });
    }

    fn tell_owner(&mut self, ops: Vec<ControlOp>) {
        if !ops.is_empty() {
            mail::send(self.owner, &Mail::Ops { dial: self.dial, ops });
        }
        if !self.outbox.is_empty() {
            let batch = self.outbox.take();
            let publish = Mail::Publish { ops: batch.ops, bytes: &batch.bytes, waiter: None };
            mail::send(self.owner, &publish);
        }
    }

    fn message(&mut self, message: ServerMessage) {
        if let Some(counts) = &mut self.counts {
            let (messages, bytes) = counts.entry(message.sid()).or_default();
            *messages += 1;
            *bytes += message.wire_len() as u64;
        }
        if !self.routes.contains_key(&message.sid()) {
            // The owner tells of a subscription before it tells the server: look there first.
            self.look_into_mailbox();
        }
        let target = match self.routes.get(&message.sid()) {
            None => {
                // Of a subscription that the server did not yet know to be over. An agent's is
                // over when it stops, and who asked it is not to wait for nothing.
                if let Some(id) = message.subject().strip_prefix(AGENT_INPUT) {
                    self.refuse(&message, &WireError::unknown_agent(&AgentId(id.to_owned())));
                }
                return;
            }
            Some(Route::Inbox) => {
                let to = self.inbox.parse(message.subject());
                to.map(|(pid, tag)| Target::Process(Pid(pid), tag))
            }
            Some(&Route::Process { pid, tag }) => Some(Target::Process(Pid(pid), tag)),
            Some(Route::Part(name)) => match names::look_up(name) {
                Lookup::Runs(pid) => Some(Target::Process(pid, 0)),
                _ => None,
            },
            Some(Route::Agent(id)) => {
                let id = id.clone();
                self.agent(&id, &message)
            }
        };
        let Some(target) = target else { return };
        match self.batches.iter_mut().find(|(known, _)| *known == target) {
            Some((_, batch)) => batch.push(message),
            None => self.batches.push((target, vec![message])),
        }
    }

    fn agent(&mut self, id: &AgentId, message: &ServerMessage) -> Option<Target> {
        let bytes = message.payload().len();
        let refused = if bytes > Context::MAX_PAYLOAD {
            let max = Context::MAX_PAYLOAD;
            let text = format!("the body has {bytes} bytes, and may have {max}");
            let error = WireError::new(ErrorCode::TooLarge, text);
            gateway::count_bad_input(message.subject(), &error);
            error
        } else {
            match names::look_up(&names::agent(id.as_str())) {
                Lookup::Runs(pid) => return Some(Target::Agent(pid)),
                Lookup::Dead => {
                    let text = format!("agent {id} is being restarted; try again");
                    WireError::new(ErrorCode::AgentRestarting, text)
                }
                Lookup::Unknown => WireError::unknown_agent(id),
            }
        };
        self.refuse(message, &refused);
        None
    }

    fn refuse(&mut self, message: &ServerMessage, error: &WireError) {
        if let Some(reply) = message.reply() {
            // A reply subject that is none cannot be answered, and nobody waits there.
            let _ = self.outbox.publish(reply, None, &Headers::new(), &encode_error(error));
        }
    }

    fn deliver(&mut self) {
        for (target, messages) in self.batches.drain(..) {
            match target {
                Target::Agent(pid) => {
                    let inputs = messages.iter().map(input_of).collect();
                    mail::send(pid, &AgentMail::Inputs(inputs));
                }
                Target::Process(pid, tag) => sys::send_with(pid, tag, |buffer| {
                    buffer.push(DELIVERIES);
                    let deliveries: Vec<Delivery<'_>> = messages.iter().map(delivery_of).collect();
                    mail::encode(&deliveries, buffer);
                }),
            }
        }
    }

    /// Reads what the owner has sent, without waiting: until a mail of one's own comes back.
    fn look_into_mailbox(&mut self) {
        mail::send(sys::this(), &ReaderMail::Marker);
        let mut buffer = Vec::new();
        loop {
            if sys::receive(&[], None) != Received::Message {
                continue;
            }
            sys::read_message(&mut buffer);
            match postcard::from_bytes(&buffer) {
                Ok(ReaderMail::Route { sid, route }) => {
                    self.routes.insert(sid, route);
                }
                Ok(ReaderMail::Unroute { sid }) => {
                    self.routes.remove(&sid);
                }
                Ok(ReaderMail::Marker) => return,
                Err(error) => log::error!("a mail cannot be read: {error}"),
            }
        }
    }
}

/// What the subject of an agent's input begins with.
const AGENT_INPUT: &str = "agent.input.";

fn input_of(message: &ServerMessage) -> Input<'_> {
    Input { reply: message.reply(), body: message.payload() }
}

fn delivery_of(message: &ServerMessage) -> Delivery<'_> {
    Delivery {
        subject: message.subject(),
        reply: message.reply(),
        status: message.status().map_or(0, crate::nats::StatusCode::as_u16),
        payload: message.payload(),
    }
}
