//! The reader: dials, and then reads. A process blocks on one thing, and a failed TLS handshake
//! traps who makes it; so each attempt to connect is a process of its own, which lives as long as
//! its socket. What it decodes goes straight to whom it is for, a frame's worth at a time.

use std::io::Read;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::connection::Mail;
use super::delivery::Load;
use super::dial::{self, DialOptions};
use super::dispatch::Dispatcher;
use super::logger;
use super::mail;
use super::stream::Stream;
use super::sys::{self, Pid};
use crate::agent::AgentId;
use crate::nats::{DecodeError, Decoder, Frame, FrameReader, OpView, ServerUrl};

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
    Process { pid: u64, tag: i64, limits: Load },
    /// To the process that the subject names.
    Inbox,
}

/// What the owner tells its reader, before it tells the server; and what receivers tell it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ReaderMail {
    /// Messages of a subscription go there from now on.
    Route { sid: u64, route: Route },
    /// The subscription is over.
    Unroute { sid: u64 },
    /// From now on the owner is told at once how much came for that subscription.
    Count { sid: u64 },
    /// All that was sent in a window until then is consumed.
    Consumed { window: u64, sent: Load },
    /// What the reader sends itself, to know when its mailbox is empty, or that it is time.
    Marker { number: u64 },
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
    dispatcher: Dispatcher,
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
            dispatcher: Dispatcher::new(owner, start.inbox, start.routes, start.counts),
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
                    while let Some(op) = self.decoder.next_view().map_err(decode)? {
                        match op {
                            OpView::Message(message) => self.dispatcher.message(&message),
                            OpView::Control(op) => control.push(op),
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
        self.dispatcher.finish_frame(!control.is_empty());
        if !control.is_empty() {
            // A PING or a PONG comes every two minutes at least: so nothing piles up in the mailbox
            // of a connection that gets no messages.
            self.dispatcher.look_into_mailbox();
            // Also what came before a close: it says why.
            mail::send(self.owner, &Mail::Ops { dial: self.dial, ops: control });
        }
        closed.map_or(Ok(()), Err)
    }
}
