//! What the processes of a node say to each other, and how it is written: one buffer, one pass.
//!
//! The first byte of every mail tells its kind; [`REPLY`] is the same in all of them, so that an
//! answer which came too late is known and dropped wherever it turns up.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::observed::Observed;
use super::sys::{self, Pid, Received};
use crate::supervision::{FailureSeverity, FailureType, Figures};
use crate::text::utf8;

/// The first byte of an answer; the first variant of each mail enum is held free for it.
pub(crate) const REPLY: u8 = 0;

/// The first byte of an answer that is nothing but its bytes; no mail enum has so many variants.
pub(crate) const REPLY_PAYLOAD: u8 = 0xFE;

/// The first byte of a [`LocalMessage`].
pub(crate) const MESSAGE: u8 = 1;

/// A message from a process of this node. By far the most mails are this one, so it is written by
/// hand: a head of fixed size, the sender's name, and the payload as JSON to the end. Its id is
/// made by who gets it, since who sends it never sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalMessage<'a> {
    pub(crate) from: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) timestamp: u64,
    pub(crate) waiter: Option<Waiter>,
}

/// Kind, length of the name (an agent's id is at most 128 bytes), process and tag of the waiter
/// (process 0 is none), timestamp.
const MESSAGE_HEAD: usize = 1 + 1 + 8 + 8 + 8;

impl<'a> LocalMessage<'a> {
    /// Writes everything but the payload.
    pub(crate) fn encode_head(
        from: &str,
        timestamp: u64,
        waiter: Option<Waiter>,
        buffer: &mut Vec<u8>,
    ) {
        let waiter = waiter.unwrap_or(Waiter { pid: 0, tag: 0 });
        let name = from.as_bytes();
        let name = name.get(..usize::from(u8::MAX)).unwrap_or(name);
        let mut head = [0; MESSAGE_HEAD];
        head[0] = MESSAGE;
        head[1] = name.len() as u8;
        head[2..10].copy_from_slice(&waiter.pid.to_le_bytes());
        head[10..18].copy_from_slice(&waiter.tag.to_le_bytes());
        head[18..].copy_from_slice(&timestamp.to_le_bytes());
        buffer.extend_from_slice(&head);
        buffer.extend_from_slice(name);
    }

    /// Reads one, if these bytes are one.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<{ MESSAGE_HEAD }>()?;
        let (from, payload) = rest.split_at_checked(usize::from(head[1]))?;
        let number = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let (pid, tag, timestamp) = (number(2)?, number(10)? as i64, number(18)?);
        let waiter = (pid != 0).then_some(Waiter { pid, tag });
        let from = utf8(from)?;
        (head[0] == MESSAGE).then_some(Self { from, payload, timestamp, waiter })
    }
}

/// Who waits for an answer, and for which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiter {
    pub(crate) pid: u64,
    pub(crate) tag: i64,
}

/// What an agent's process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum AgentMail<'a> {
    /// Never sent so: see [`REPLY`].
    Reply,
    /// Never sent so: see [`LocalMessage`].
    Message,
    /// A message as it would come on `agent.input.<id>`, from this node and without anybody who waits.
    Input {
        #[serde(with = "serde_bytes")]
        body: &'a [u8],
    },
    /// Answer the supervisor, which sent this then by the wall clock.
    Ping { seq: u64, sent_us: u64 },
    /// Stop: `on_stop`, then return.
    Stop,
}

/// What an agent's process is told first: who it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AgentStart {
    /// The `AgentConfig`, as JSON: its `args` are of any shape.
    pub(crate) config: String,
    pub(crate) incarnation: u64,
    /// What its last life ended with, as JSON, where that was a failure.
    pub(crate) previous: Option<String>,
    pub(crate) supervisor: u64,
    /// The function that makes the agent: an index into the module's table.
    pub(crate) factory: u32,
    pub(crate) log_level: u8,
}

/// What the agent supervisor is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SupervisorMail<'a> {
    /// Never sent: see [`REPLY`].
    Reply,
    /// The process runs, and `on_start` is done.
    Started { id: &'a str, incarnation: u64 },
    /// What a process says before it dies.
    LastWord { id: &'a str, incarnation: u64, word: Word<'a> },
    /// The answer to a ping; without a ping, its number is 0.
    Pong { id: &'a str, incarnation: u64, seq: u64, figures: Figures },
    /// A handler returned an error; the agent lives.
    HandlerFailed { id: &'a str, incarnation: u64, failure_type: FailureType, message: &'a str },
    /// Somebody wants something, and waits for an [`Answer`].
    Ask { waiter: Waiter, ask: Ask<'a> },
    /// The connection has started (again), and knows no agent.
    ConnectionStarted,
    /// It is time to look at the clock.
    Tick,
    /// A process waits to become an agent with this memory limit.
    Spare { pid: u64, memory_mb: u32 },
    /// The runtime refused to make one.
    NoSpare { memory_mb: u32 },
}

/// The last word of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Word<'a> {
    Panic { message: &'a str, place: Option<&'a str> },
    AllocationRefused { bytes: u64 },
    Exit,
    Farewell,
}

/// What can be asked of the agent supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask<'a> {
    /// Start an agent: an `AgentConfig` as JSON. Answered with its incarnation, as JSON, once its
    /// process was spawned. One that the node's config declares is not held up by the spawn rate.
    Spawn { config: &'a str, declared: bool },
    /// Stop an agent for good. Answered when it was told so.
    Stop { id: &'a str },
    /// Everything about the node, or one agent, as JSON.
    Status { id: Option<&'a str> },
    /// A page of agents, as JSON.
    List { after: Option<&'a str>, limit: u32 },
    /// Do something with a declared tree: a [`TreeCommand`]. Answered when it is decided on.
    Tree {
        #[serde(with = "serde_bytes")]
        command: &'a [u8],
    },
    /// Start no more agents.
    Drain,
    /// Stop every agent. Answered when none is left, or the grace is over and the rest is killed;
    /// asked again meanwhile, it can only shorten the grace.
    StopAll { grace_ms: u64 },
}

/// An answer: bytes whose meaning the asker knows, or an error of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer<'a> {
    Ok(#[serde(with = "serde_bytes")] &'a [u8]),
    Err { code: &'a str, message: &'a str },
}

/// What the events process is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum EventsMail<'a> {
    /// Never sent: see [`REPLY`].
    Reply,
    /// Publish an event: its subject, its payload as JSON, its severity for the envelope; and what
    /// the detection looks at, so that it need not read the JSON.
    Publish {
        subject: &'a str,
        source: Option<&'a str>,
        severity: Option<FailureSeverity>,
        #[serde(with = "serde_bytes")]
        payload: &'a [u8],
        observed: Option<Observed<'a>>,
    },
    /// Send a copy of every event to the waiter's process as well, until it dies.
    Watch { waiter: Waiter },
    /// Answer when what was told before is published.
    Flush { waiter: Waiter },
    /// It is time to look at the clock.
    Tick,
}

/// What the store is asked; answered with a `StoreResponse` in an [`Answer::Ok`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoreMail<Request> {
    /// [`REPLY`] is never sent to the store, but the byte is kept free.
    pub(crate) kind: u8,
    pub(crate) waiter: Waiter,
    pub(crate) request: Request,
}

/// Writes a mail into a buffer.
pub(crate) fn encode<M: Serialize>(mail: &M, buffer: &mut Vec<u8>) {
    let taken = std::mem::take(buffer);
    // Our own mails are plain structs and enums, which cannot fail to be written to memory.
    *buffer = postcard::serialize_with_flavor(mail, Append(taken)).unwrap_or_default();
}

/// Appends to a buffer. `postcard`'s own way to do that takes a turn per byte.
struct Append(Vec<u8>);

impl postcard::ser_flavors::Flavor for Append {
    type Output = Vec<u8>;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Sends a mail; nothing happens if the process has ended.
pub(crate) fn send<M: Serialize>(to: Pid, mail: &M) {
    sys::send_with(to, 0, |buffer| encode(mail, buffer));
}

/// Sends a mail together with others to the same process: see [`sys::post`].
pub(crate) fn post<M: Serialize>(to: Pid, mail: &M) {
    let written: Result<(), Infallible> = sys::post(to, |buffer| {
        encode(mail, buffer);
        Ok(())
    });
    let Ok(()) = written;
}

/// Answers a waiter.
pub(crate) fn answer(waiter: Waiter, answer: &Answer<'_>) {
    sys::send_with(Pid(waiter.pid), waiter.tag, |buffer| {
        buffer.push(REPLY);
        encode(answer, buffer);
    });
}

/// Answers a waiter with what `encode` writes; where that fails, nothing is sent.
pub(crate) fn answer_with<E>(
    waiter: Waiter,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    sys::try_send_with(Pid(waiter.pid), waiter.tag, |buffer| {
        buffer.push(REPLY_PAYLOAD);
        encode(buffer)
    })
}

/// Why a request between processes has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    TimedOut,
    /// Who was asked died.
    Died,
    /// The answer was an error.
    Refused {
        code: String,
        message: String,
    },
    /// The answer could not be read: a fault of ours.
    Garbled,
}

thread_local! {
    /// Where answers are read: one buffer per process.
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Who waits for an answer looks this often whether who was asked still lives: a request that is
/// answered in time pays nothing for it.
const SLICE: Duration = Duration::from_millis(150);

/// Sends what `encode` writes for a waiter, waits for the answer, and reads it with `read`.
pub(crate) fn exchange<T, E>(
    to: Pid,
    timeout: Option<Duration>,
    encode: impl FnOnce(Waiter, &mut Vec<u8>) -> Result<(), E>,
    read: impl FnOnce(Result<&[u8], NoAnswer>) -> T,
) -> Result<T, E> {
    let tag = new_tag();
    let waiter = Waiter { pid: sys::this().0, tag };
    let first = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
    let received = sys::request_with(to, tag, Some(first), |buffer| encode(waiter, buffer))?;
    Ok(read_answer(received, to, tag, first, timeout, read))
}

/// Waits for an answer that was asked for before, under a tag of its own.
#[cfg(feature = "wasm-nats")]
pub(crate) fn await_answer(
    from: Pid,
    tag: i64,
    timeout: Option<Duration>,
) -> Result<Vec<u8>, NoAnswer> {
    let first = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
    let received = sys::receive(&[tag], Some(first));
    read_answer(received, from, tag, first, timeout, |answer| answer.map(<[u8]>::to_vec))
}

fn read_answer<T>(
    mut received: Received,
    from: Pid,
    tag: i64,
    mut waited: Duration,
    timeout: Option<Duration>,
    read: impl FnOnce(Result<&[u8], NoAnswer>) -> T,
) -> T {
    while received != Received::Message && timeout.is_none_or(|timeout| waited < timeout) {
        if !sys::exists(from) {
            // What it said last may have come meanwhile.
            received = sys::receive(&[tag], Some(Duration::ZERO));
            if received != Received::Message {
                return read(Err(NoAnswer::Died));
            }
            break;
        }
        let slice = timeout.map_or(SLICE, |timeout| (timeout - waited).min(SLICE));
        received = sys::receive(&[tag], Some(slice));
        waited += slice;
    }
    match received {
        Received::Message => ANSWER.with_borrow_mut(|buffer| {
            sys::read_message(buffer);
            read(match decode_answer(buffer) {
                Some(Answer::Ok(bytes)) => Ok(bytes),
                Some(Answer::Err { code, message }) => {
                    Err(NoAnswer::Refused { code: code.to_owned(), message: message.to_owned() })
                }
                None => Err(NoAnswer::Garbled),
            })
        }),
        _ => read(Err(NoAnswer::TimedOut)),
    }
}

/// Sends the mail that `mail` makes for a waiter, and waits for the answer.
pub(crate) fn request<M: Serialize>(
    to: Pid,
    timeout: Option<Duration>,
    mail: impl FnOnce(Waiter) -> M,
) -> Result<Vec<u8>, NoAnswer> {
    let Ok(answer) = exchange(
        to,
        timeout,
        |waiter, buffer| {
            encode(&mail(waiter), buffer);
            Ok::<(), Infallible>(())
        },
        |answer| answer.map(<[u8]>::to_vec),
    );
    answer
}

/// Reads an answer.
pub(crate) fn decode_answer(bytes: &[u8]) -> Option<Answer<'_>> {
    match bytes.split_first() {
        Some((&REPLY_PAYLOAD, payload)) => Some(Answer::Ok(payload)),
        Some((&REPLY, rest)) => postcard::from_bytes(rest).ok(),
        _ => None,
    }
}

/// A tag that this process has never used: for links, replies and subscriptions. Small numbers are
/// the runtime's and the library's.
pub(crate) fn new_tag() -> i64 {
    use std::sync::atomic::{AtomicI64, Ordering};
    static NEXT: AtomicI64 = AtomicI64::new(1 << 16);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What the process that started the node is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum MainMail<'a> {
    /// Never sent: see [`REPLY`].
    Reply,
    /// An event, as the events process got it.
    Event {
        subject: &'a str,
        #[serde(with = "serde_bytes")]
        payload: &'a [u8],
    },
    /// `system.control` asks for the end of the node.
    Shutdown { grace_ms: u64 },
    /// `system.control` asks for no new agents, and the end once there are none.
    Drain,
    /// A part of the node died too often.
    RootGaveUp { part: &'a str },
}

/// The tag of the mail that says to a process who it is. It has one, since others may know the name
/// of the process, and write to it, before that mail is there.
const START: i64 = 100;

/// Tells a process that was just spawned who it is.
pub(crate) fn start<M: Serialize>(to: Pid, mail: &M) {
    sys::send_with(to, START, |buffer| encode(mail, buffer));
}

/// Waits for the mail that says to this process who it is.
pub(crate) fn first<T: serde::de::DeserializeOwned>() -> T {
    let mut buffer = Vec::new();
    while sys::receive(&[START], None) != Received::Message {}
    sys::read_message(&mut buffer);
    postcard::from_bytes(&buffer).expect("who spawned this process writes what it reads")
}
