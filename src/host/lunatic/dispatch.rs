//! Whom a message is for, and how much of it that one is sent: the reader's bookkeeping.
//!
//! Each receiver has a window: what it was sent and has not consumed, in messages and bytes. One
//! that is merely behind holds the reader up for a moment, and with it the server. One that still
//! stands when that moment is over is a *slow consumer*: what comes for it is dropped and counted
//! until it has consumed half of its window, and everybody else goes on.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use super::connection::Mail;
use super::delivery::{Batch, Label, Load, ANSWERS, DELIVERIES, INPUTS};
use super::gateway;
use super::handover::Handover;
use super::mail;
use super::names::{self, Lookup};
use super::reader::{ReaderMail, Route};
use super::sys::{self, Pid, Received};
use crate::agent::{AgentId, Context};
use crate::message::{encode_error, ErrorCode, Headers, Subject, WireError};
use crate::nats::{Inbox, MessageView, Outbox};

/// What waits for one receiver at the most, unless its subscription says something else: 65,536
/// messages or 8 MiB. In the worst case a reconnect doubles it for a while: the new reader does not
/// know what the one before had sent.
pub(super) const DEFAULT_LIMITS: Load = Load { messages: 65_536, bytes: 8 << 20 };

/// How long the reader waits, once, for a receiver whose window is full: so many times so long. A
/// machine that stood still for all of it has been waited for only once, and the receiver has its turn.
const PATIENCE: u32 = 5;
const PATIENCE_STEP: Duration = Duration::from_millis(10);

/// The owner of the node's connection is told how much came at the latest after so many messages.
const UNCOUNTED: u64 = 1000;

/// So many requesters are known before those that have ended are looked for.
const MAX_KNOWN: usize = 4096;

/// A window's key is its subscription's id, or, for answers, the process's number with this bit.
const ANSWERS_FOR: u64 = 1 << 63;

pub(super) struct Dispatcher {
    owner: Pid,
    inbox: Inbox,
    inbox_sid: u64,
    routes: HashMap<u64, Route, BuildHasherDefault<Mix>>,
    windows: HashMap<u64, Window, BuildHasherDefault<Mix>>,
    /// What was collected for receivers since it was sent last; the first `open` are in use.
    slots: Vec<Slot>,
    open: usize,
    /// The subscription of the last message, and its slot: many go the same way.
    last: Option<(u64, usize)>,
    /// Whether the owner wants to know at once how much came.
    counts_at_once: bool,
    /// Windows with something that the owner was not told of, and how many messages that is.
    uncounted: Vec<u64>,
    uncounted_messages: u64,
    /// Windows with something dropped that the owner was not told of.
    dropped: Vec<u64>,
    /// Answers of the reader's own: refusals.
    outbox: Outbox,
    last_marker: u64,
    /// Whether the mailbox was looked into since the last frame for a slow consumer's sake.
    looked: bool,
    known_after_sweep: usize,
}

/// What a receiver has been sent.
struct Window {
    /// The present process of who it is.
    pid: Pid,
    limits: Load,
    sent: Load,
    /// Up to where it has consumed it, as far as it was asked.
    consumed: Load,
    /// Up to where a receipt was asked for.
    asked: Load,
    slow: bool,
    /// Whether the owner was told that it is slow.
    told: bool,
    /// What was dropped and the owner was not told of.
    dropped: Load,
    /// What came for it and the owner was not told of.
    came: Load,
    count_at_once: bool,
    /// Its slot, while it has one.
    slot: Option<usize>,
}

impl Window {
    fn new(limits: Load) -> Self {
        Self {
            pid: Pid(0),
            limits,
            sent: Load::default(),
            consumed: Load::default(),
            asked: Load::default(),
            slow: false,
            told: false,
            dropped: Load::default(),
            came: Load::default(),
            count_at_once: false,
            slot: None,
        }
    }

    /// From now on it is that process's. What its predecessor had not consumed went with it.
    fn belongs_to(&mut self, pid: Pid) {
        if self.pid != pid {
            (self.pid, self.consumed, self.asked, self.slow) = (pid, self.sent, self.sent, false);
        }
    }

    fn outstanding(&self) -> Load {
        self.sent.since(self.consumed)
    }

    /// Whether one more of that size fits; into an empty window anything does.
    fn has_room(&self, bytes: usize) -> bool {
        let Load { messages, bytes: held } = self.outstanding();
        messages == 0
            || (messages < self.limits.messages && held + bytes as u64 <= self.limits.bytes)
    }
}

/// What is collected for one receiver.
#[derive(Default)]
struct Slot {
    window: u64,
    to: Pid,
    tag: i64,
    kind: u8,
    batch: Batch,
    /// What it holds.
    load: Load,
    /// How much more it may.
    room: Load,
}

impl Slot {
    /// What is sent at once at the most, so that a receiver can begin while the reader goes on.
    const FULL: u64 = 64 * 1024;

    fn takes(&self, bytes: usize) -> bool {
        self.load.messages < self.room.messages && self.load.bytes + bytes as u64 <= self.room.bytes
    }

    fn push(&mut self, message: &MessageView<'_>) {
        self.load.add(message.wire().len());
        self.batch.push(message);
    }
}

/// Where a message goes.
struct Target {
    window: u64,
    to: Pid,
    tag: i64,
    kind: u8,
    limits: Load,
}

impl Dispatcher {
    pub(super) fn new(
        owner: Pid,
        inbox: [u8; 16],
        routes: Vec<(u64, Route)>,
        counts_at_once: bool,
    ) -> Self {
        let is_inbox = |(_, route): &&(u64, Route)| *route == Route::Inbox;
        Self {
            owner,
            inbox: Inbox::from_random(inbox),
            inbox_sid: routes.iter().find(is_inbox).map_or(0, |(sid, _)| *sid),
            routes: routes.into_iter().collect(),
            windows: HashMap::default(),
            slots: Vec::new(),
            open: 0,
            last: None,
            counts_at_once,
            uncounted: Vec::new(),
            uncounted_messages: 0,
            dropped: Vec::new(),
            outbox: Outbox::default(),
            last_marker: 0,
            looked: false,
            known_after_sweep: MAX_KNOWN,
        }
    }

    /// Takes a message for whom it is for.
    pub(super) fn message(&mut self, message: &MessageView<'_>) {
        let (sid, bytes) = (message.sid(), message.wire().len());
        if let Some((_, at)) = self.last.filter(|(last, _)| *last == sid) {
            if let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.takes(bytes)) {
                if slot.kind != INPUTS || message.payload().len() <= Context::MAX_PAYLOAD {
                    return slot.push(message);
                }
            }
        }
        self.message_by_route(message);
    }

    fn message_by_route(&mut self, message: &MessageView<'_>) {
        let (sid, bytes) = (message.sid(), message.wire().len());
        if !self.routes.contains_key(&sid) {
            // The owner tells of a subscription before it tells the server: look there first.
            self.look_into_mailbox();
        }
        let Some(target) = self.target(message) else { return };
        let window = self.window(&target);
        let (slot, slow, has_room) = (window.slot, window.slow, window.has_room(bytes));
        if let Some(at) = slot {
            if let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.takes(bytes)) {
                self.last = (target.window == sid).then_some((sid, at));
                return slot.push(message);
            }
        }
        if slow {
            if !self.recovers(target.window) {
                return self.drop_message(message, target.window);
            }
        } else if slot.is_some() || !has_room {
            self.send();
            if !self.make_room(&target, bytes) {
                return self.drop_message(message, target.window);
            }
        }
        let at = self.open_slot(&target);
        self.last = (target.window == sid).then_some((sid, at));
        if let Some(slot) = self.slots.get_mut(at) {
            slot.push(message);
        }
    }

    /// Whom it is for, if there is somebody; who waits for an answer learns if not.
    fn target(&mut self, message: &MessageView<'_>) -> Option<Target> {
        let sid = message.sid();
        let target = |to, tag, kind, limits| Target { window: sid, to, tag, kind, limits };
        let id = match self.routes.get(&sid) {
            None => {
                // Of a subscription that the server did not yet know to be over. An agent's is
                // over when it stops, and who asked it is not to wait for nothing.
                let id = message.subject().strip_prefix(AGENT_INPUT)?;
                let error = WireError::unknown_agent(&AgentId(id.to_owned()));
                self.refuse(message, &error);
                return None;
            }
            Some(Route::Inbox) => {
                let (pid, _) = self.inbox.parse(message.subject())?;
                let window = ANSWERS_FOR | pid;
                let target = target(Pid(pid), ANSWERS, DELIVERIES, DEFAULT_LIMITS);
                return Some(Target { window, ..target });
            }
            Some(&Route::Process { pid, tag, limits }) => {
                return Some(target(Pid(pid), tag, DELIVERIES, limits));
            }
            Some(Route::Part(name)) => {
                return match names::look_up(name) {
                    Lookup::Runs(pid) => Some(target(pid, 0, DELIVERIES, DEFAULT_LIMITS)),
                    _ => None,
                };
            }
            Some(Route::Agent(id)) => id.clone(),
        };
        let bytes = message.payload().len();
        let refused = if bytes > Context::MAX_PAYLOAD {
            let max = Context::MAX_PAYLOAD;
            let text = format!("the body has {bytes} bytes, and may have {max}");
            let error = WireError::new(ErrorCode::TooLarge, text);
            gateway::count_bad_input(message.subject(), &error);
            error
        } else {
            match names::look_up(&names::agent(id.as_str())) {
                Lookup::Runs(pid) => return Some(target(pid, 0, INPUTS, DEFAULT_LIMITS)),
                Lookup::Dead => {
                    let text = format!("agent {id} is being restarted; try again");
                    WireError::new(ErrorCode::AgentRestarting, text)
                }
                Lookup::Unknown => WireError::unknown_agent(&id),
            }
        };
        self.refuse(message, &refused);
        None
    }

    fn refuse(&mut self, message: &MessageView<'_>, error: &WireError) {
        if let Some(reply) = message.reply() {
            // A reply subject that is none cannot be answered, and nobody waits there.
            let _ = self.outbox.publish(reply, None, &Headers::new(), &encode_error(error));
        }
    }

    fn window(&mut self, target: &Target) -> &mut Window {
        if self.windows.len() >= self.known_after_sweep && target.window & ANSWERS_FOR != 0 {
            self.windows.retain(|key, window| {
                key & ANSWERS_FOR == 0 || window.slot.is_some() || sys::exists(window.pid)
            });
            self.known_after_sweep = self.windows.len() + MAX_KNOWN;
        }
        let window =
            self.windows.entry(target.window).or_insert_with(|| Window::new(target.limits));
        window.belongs_to(target.to);
        window
    }

    fn open_slot(&mut self, target: &Target) -> usize {
        let at = self.open;
        self.open += 1;
        if self.slots.len() == at {
            self.slots.push(Slot::default());
        }
        let window = self.window(target);
        window.slot = Some(at);
        let room = window.limits.since(window.outstanding());
        if let Some(slot) = self.slots.get_mut(at) {
            (slot.window, slot.to, slot.tag, slot.kind) =
                (target.window, target.to, target.tag, target.kind);
            slot.load = Load::default();
            slot.room = Load { bytes: room.bytes.min(Slot::FULL), ..room };
        }
        at
    }

    /// Sends what was collected.
    fn send(&mut self) {
        self.tell_counts();
        self.last = None;
        for slot in self.slots.iter_mut().take(std::mem::take(&mut self.open)) {
            let Some(window) = self.windows.get_mut(&slot.window) else {
                // Unsubscribed meanwhile.
                slot.batch.clear();
                continue;
            };
            window.slot = None;
            window.sent.add_all(slot.load);
            let receipt = window.sent.since(window.asked).reaches(window.limits, 1);
            if receipt {
                window.asked = window.sent;
            }
            let label =
                Label { reader: sys::this(), window: slot.window, sent: window.sent, receipt };
            slot.batch.send(slot.to, slot.tag, slot.kind, &label);
        }
    }

    /// A frame is over: sends what it brought. With `all` the owner is told how much came even if
    /// it is not much.
    pub(super) fn finish_frame(&mut self, all: bool) {
        self.looked = false;
        if all {
            self.uncounted_messages += UNCOUNTED;
        }
        self.send();
        self.tell_dropped();
        if !self.outbox.is_empty() {
            let batch = self.outbox.take();
            let (ops, from) = (batch.ops, sys::this());
            Handover { ops, from, tag: 0, request: None }.send(self.owner, &batch.bytes);
        }
    }

    /// Before what came is sent: who has a message finds it counted.
    fn tell_counts(&mut self) {
        let mut at_once = self.counts_at_once;
        for slot in self.slots.iter().take(self.open) {
            let Some(window) = self.windows.get_mut(&slot.window) else { continue };
            if window.came == Load::default() {
                self.uncounted.push(slot.window);
            }
            window.came.add_all(slot.load);
            self.uncounted_messages += slot.load.messages;
            at_once |= window.count_at_once;
        }
        if self.uncounted.is_empty() || !(at_once || self.uncounted_messages >= UNCOUNTED) {
            return;
        }
        self.uncounted_messages = 0;
        let mut counts = Vec::with_capacity(self.uncounted.len());
        for key in self.uncounted.drain(..) {
            let Some(window) = self.windows.get_mut(&key) else { continue };
            let Load { messages, bytes } = std::mem::take(&mut window.came);
            counts.push((sid_of(key, self.inbox_sid), messages, bytes));
        }
        mail::send(self.owner, &Mail::Received { counts });
    }

    /// Waits for a moment until a window has room; whether it has.
    fn make_room(&mut self, target: &Target, bytes: usize) -> bool {
        let key = target.window;
        match self.windows.get(&key) {
            Some(window) if window.has_room(bytes) => return true,
            Some(window) if sys::exists(window.pid) => {}
            // The owner will hear of its death.
            _ => return false,
        }
        if let Some(window) = self.windows.get_mut(&key).filter(|one| one.asked != one.sent) {
            // For the little behind which a large message has no room, none was asked for yet.
            window.asked = window.sent;
            let label =
                Label { reader: sys::this(), window: key, sent: window.sent, receipt: true };
            Batch::default().send(target.to, target.tag, target.kind, &label);
        }
        for _ in 0..PATIENCE {
            self.last_marker += 1;
            let over = self.last_marker;
            let mut marker = Vec::new();
            mail::encode(&ReaderMail::Marker { number: over }, &mut marker);
            // No timeout of the receive: that could change the order of what comes.
            sys::send_after(sys::this(), 0, &marker, PATIENCE_STEP);
            while self.read_mail() != Some(over) {
                match self.windows.get(&key) {
                    Some(window) if window.has_room(bytes) => return true,
                    Some(_) => {}
                    // Unsubscribed meanwhile.
                    None => return false,
                }
            }
        }
        if let Some(window) = self.windows.get_mut(&key) {
            window.slow = true;
        }
        false
    }

    /// Whether a slow consumer has consumed half of its window. Once per frame that is looked up.
    fn recovers(&mut self, key: u64) -> bool {
        if !self.looked {
            self.looked = true;
            self.look_into_mailbox();
        }
        let Some(window) = self.windows.get_mut(&key) else { return false };
        window.slow = window.outstanding().reaches(window.limits, 2);
        window.told &= window.slow;
        !window.slow
    }

    fn drop_message(&mut self, message: &MessageView<'_>, key: u64) {
        let bytes = message.wire().len();
        let Some(window) = self.windows.get_mut(&key) else { return };
        if window.dropped == Load::default() {
            self.dropped.push(key);
        }
        window.dropped.add(bytes);
        // The server has counted it.
        if window.came == Load::default() {
            self.uncounted.push(key);
        }
        window.came.add(bytes);
        self.uncounted_messages += 1;
        let waiting = window.outstanding().messages;
        // Of what goes to all nodes another one may be the one to answer.
        let is_for_all = message.subject() == Subject::agent_command_all();
        if let (Some(Route::Agent(_) | Route::Part(_)), false) =
            (self.routes.get(&message.sid()), is_for_all)
        {
            let text = format!("{waiting} messages wait for it already; try again later");
            self.refuse(message, &WireError::new(ErrorCode::Capacity, text));
        }
    }

    /// Tells the owner what was dropped since the last frame.
    fn tell_dropped(&mut self) {
        for key in std::mem::take(&mut self.dropped) {
            let Some(window) = self.windows.get_mut(&key) else { continue };
            let Load { messages, bytes } = std::mem::take(&mut window.dropped);
            let began = !std::mem::replace(&mut window.told, window.slow);
            let sid = sid_of(key, self.inbox_sid);
            mail::send(self.owner, &Mail::SlowConsumer { sid, messages, bytes, began });
        }
    }

    /// Reads what was sent to the reader, without waiting: until a mail of its own comes back.
    pub(super) fn look_into_mailbox(&mut self) {
        self.last_marker += 1;
        let end = self.last_marker;
        mail::send(sys::this(), &ReaderMail::Marker { number: end });
        while self.read_mail() != Some(end) {}
    }

    /// Waits for a mail and does what it says; gives the number of a marker.
    fn read_mail(&mut self) -> Option<u64> {
        if sys::receive(&[], None) != Received::Message {
            return None;
        }
        let mut buffer = Vec::new();
        sys::read_message(&mut buffer);
        match postcard::from_bytes(&buffer) {
            Ok(ReaderMail::Route { sid, route }) => {
                self.routes.insert(sid, route);
            }
            Ok(ReaderMail::Unroute { sid }) => {
                self.routes.remove(&sid);
                self.windows.remove(&sid);
                self.last = None;
            }
            Ok(ReaderMail::Count { sid }) => {
                if let Some(&Route::Process { limits, .. }) = self.routes.get(&sid) {
                    let window = self.windows.entry(sid).or_insert_with(|| Window::new(limits));
                    window.count_at_once = true;
                }
            }
            Ok(ReaderMail::Consumed { window, sent }) => {
                if let Some(window) = self.windows.get_mut(&window) {
                    window.consumed.messages = window.consumed.messages.max(sent.messages);
                    window.consumed.bytes = window.consumed.bytes.max(sent.bytes);
                }
            }
            Ok(ReaderMail::Marker { number }) => return Some(number),
            Err(error) => log::error!("a mail cannot be read: {error}"),
        }
        None
    }
}

/// The subscription that a window belongs to: all answers come by one.
fn sid_of(window: u64, inbox_sid: u64) -> u64 {
    if window & ANSWERS_FOR == 0 {
        window
    } else {
        inbox_sid
    }
}

/// The subject of an agent's input, up to its id.
const AGENT_INPUT: &str = "agent.input.";

/// Spreads small numbers: these keys are our own, and nobody chooses them.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0xf135_7aea_2e62_a9c5).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
