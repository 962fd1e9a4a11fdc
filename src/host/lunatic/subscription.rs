//! What comes on a subject, for the process that subscribed: looked at by itself, or by the handler
//! of an agent.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use super::client::{self, NatsError};
use super::clock;
use super::connection::Mail;
use super::delivery::{self, Deliveries, Ended, Load, Waiting, Why};
use super::dispatch::DEFAULT_LIMITS;
use super::mail::{self, NoAnswer};
use super::names::{self, Part};
use super::sys::{self, Pid, Received};
use crate::agent::Context;
use crate::message::NatsMessage;

/// How a subscription is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Each message goes to one of those in the group. Default: none.
    pub queue_group: Option<String>,
    /// How many messages may wait for the subscriber, in its mailbox or kept by it. Beyond it, and a
    /// short delay, they are dropped and counted, and the connection raises a slow-consumer event.
    /// Default: 65,536.
    pub max_pending_messages: u64,
    /// The same in bytes on the wire. One message is always taken. Default: 8 MiB, which with 32 bytes
    /// a message is the worst case in memory: 10 MiB, twice that for a while after a reconnect.
    pub max_pending_bytes: u64,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        let Load { messages, bytes } = DEFAULT_LIMITS;
        Self { queue_group: None, max_pending_messages: messages, max_pending_bytes: bytes }
    }
}

/// What comes on a subject, for the process that subscribed. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    subject: String,
    options: SubscribeOptions,
    connection: Pid,
    /// Whether that is a connection of this process's own, which has no successor.
    own: bool,
    /// Why nothing will come any more, if so.
    over: Option<NatsError>,
    sid: u64,
    tag: i64,
    waiting: Waiting,
    /// How many messages were taken.
    taken: u64,
    /// After how many it ends.
    ends_after: Option<u64>,
}

impl Subscription {
    /// While it waits, it looks this often whether the connection's process still lives.
    const LOOK: Duration = Duration::from_secs(1);
    /// What came before others and is not seen yet is in the mailbox already.
    const MISSED: Duration = Duration::from_millis(100);
    /// How long the connection may take to answer: longer than it may write.
    const TIMEOUT: Duration = Duration::from_secs(15);

    pub(super) fn new(
        connection: Pid,
        own: bool,
        subject: &str,
        options: SubscribeOptions,
    ) -> Result<Self, NatsError> {
        let tag = mail::new_tag();
        let mut subscription = Self {
            subject: subject.to_owned(),
            options,
            connection,
            own,
            over: None,
            sid: 0,
            tag,
            waiting: Waiting::default(),
            taken: 0,
            ends_after: None,
        };
        KEPT.with_borrow_mut(|kept| kept.insert(tag, Vec::new()));
        subscription.sid = subscription.subscribe(connection)?;
        sweep_left();
        Ok(subscription)
    }

    fn subscribe(&self, connection: Pid) -> Result<u64, NatsError> {
        let answer = mail::request(connection, Some(Self::TIMEOUT), |waiter| Mail::Subscribe {
            subject: &self.subject,
            queue: self.options.queue_group.as_deref(),
            limits: Load {
                messages: self.options.max_pending_messages,
                bytes: self.options.max_pending_bytes,
            },
            pid: sys::this().0,
            tag: self.tag,
            waiter,
        });
        let bytes = answer.map_err(client::refused)?;
        let sid: [u8; 8] = bytes.try_into().map_err(|_| client::refused(NoAnswer::Garbled))?;
        Ok(u64::from_le_bytes(sid))
    }

    /// The next message. `None` if none came within `timeout`, or if none will come any more: see
    /// [`Self::ended`].
    pub fn next(&mut self, timeout: Option<Duration>) -> Option<NatsMessage> {
        if let Some(message) = self.take_waiting() {
            return Some(message);
        }
        let deadline = timeout.map(|timeout| clock::now() + timeout);
        loop {
            let left = deadline.map(|deadline| deadline - clock::now());
            if self.over.is_some() || left == Some(Duration::ZERO) {
                return None;
            }
            let look = if self.waiting.misses_one() { Self::MISSED } else { Self::LOOK };
            self.receive(left.map_or(look, |left| left.min(look)));
            if let Some(message) = self.take_waiting() {
                return Some(message);
            }
        }
    }

    /// The next message, if one is here.
    pub fn try_next(&mut self) -> Option<NatsMessage> {
        if let Some(message) = self.take_waiting() {
            return Some(message);
        }
        // No shorter wait can be had: a timer tick of the runtime, up to a millisecond.
        while self.receive(Duration::ZERO) && self.waiting.misses_one() {}
        self.take_waiting()
    }

    /// Why nothing will come any more, if so; what had come is still given out.
    pub fn ended(&self) -> Option<&NatsError> {
        self.over.as_ref().filter(|_| self.waiting.is_empty())
    }

    /// Ends it once it has had so many messages in all, those included that it has had already; 0 is
    /// now. The server keeps to it, over reconnects too; it also counts what was dropped since the
    /// subscriber was too slow.
    pub fn unsubscribe_after(&mut self, messages: u64) {
        if messages <= self.taken {
            self.over = Some(had_its_messages(self.taken));
            mail::send(self.connection, &Mail::Unsubscribe { sid: self.sid });
        } else {
            self.ends_after = Some(messages);
            let (sid, max) = (self.sid, messages);
            mail::send(self.connection, &Mail::UnsubscribeAfter { sid, max });
        }
    }

    /// Ends it in good order: when this returns, all that the server had sent for it is here, to be
    /// taken by [`Self::next`], and nothing more will come.
    pub fn drain(&mut self, timeout: Duration) -> Result<(), NatsError> {
        let sid = self.sid;
        let drained = mail::request(self.connection, Some(timeout), |waiter| {
            Mail::DrainSubscription { sid, waiter }
        });
        drained.map_err(client::refused)?;
        // What is kept came before what is still in the mailbox.
        take_kept(self.tag).into_iter().for_each(|mail| self.take_in(mail));
        while self.receive(Duration::ZERO) {}
        self.over = Some(NatsError::SubscriptionEnded("it was drained".to_owned()));
        Ok(())
    }

    fn take_waiting(&mut self) -> Option<NatsMessage> {
        if self.waiting.is_empty() {
            take_kept(self.tag).into_iter().for_each(|mail| self.take_in(mail));
        }
        let message = self.waiting.pop()?;
        self.taken += 1;
        if self.ends_after == Some(self.taken) {
            self.over = Some(had_its_messages(self.taken));
            self.waiting = Waiting::default();
        }
        Some(message)
    }

    /// Waits for what comes next; whether something came.
    fn receive(&mut self, timeout: Duration) -> bool {
        match delivery::receive(self.tag, Some(timeout)) {
            Some(mail) => {
                self.take_in(mail);
                true
            }
            None => {
                self.waiting.miss_nothing();
                self.follow_connection();
                false
            }
        }
    }

    fn take_in(&mut self, mail: Vec<u8>) {
        if let Some(Ended { why, .. }) = Ended::read(&mail) {
            self.over = Some(over(why));
        } else if let Some(deliveries) = Deliveries::read(mail) {
            self.waiting.push(deliveries);
        }
    }

    /// Looks whether something can still come. The node's connection may have died: its successor
    /// knows nothing of this subscription.
    fn follow_connection(&mut self) {
        if self.over.is_some() {
            return;
        }
        if sys::exists(self.connection) {
            return;
        }
        if self.own {
            // What came before its end, and after the last look.
            while let Some(mail) = delivery::receive(self.tag, Some(Duration::ZERO)) {
                self.take_in(mail);
            }
            self.over.get_or_insert_with(client::process_ended);
            return;
        }
        let Some(connection) = Part::new(names::CONNECTION).pid() else { return };
        match self.subscribe(connection) {
            Ok(sid) => {
                (self.connection, self.sid) = (connection, sid);
                if let Some(max) = self.ends_after.map(|all| all.saturating_sub(self.taken)) {
                    mail::send(connection, &Mail::UnsubscribeAfter { sid, max });
                }
            }
            Err(error) => {
                log::warn!(subject = self.subject.as_str(); "subscription refused, tried again: {error}")
            }
        }
    }
}

fn had_its_messages(messages: u64) -> NatsError {
    NatsError::SubscriptionEnded(format!("it was for {messages} messages, and has had them"))
}

fn over(why: Why) -> NatsError {
    match why {
        Why::Denied(text) => NatsError::PermissionDenied(text),
        Why::Closed(text) => NatsError::Closed(text),
        // Said to requests only.
        Why::Disconnected => NatsError::Closed("the connection broke".to_owned()),
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        KEPT.with_borrow_mut(|kept| kept.remove(&self.tag));
        if self.sid != 0 {
            mail::send(self.connection, &Mail::Unsubscribe { sid: self.sid });
            LEFT.with_borrow_mut(|left| {
                left.truncate(MAX_LEFT - 1);
                left.insert(0, self.tag);
            });
            sweep_left();
        }
    }
}

/// So many subscriptions that were dropped are looked after.
const MAX_LEFT: usize = 16;

/// Throws away what came for subscriptions that were dropped: under their tags nobody would ever
/// look. What is still on its way is met the next time.
fn sweep_left() {
    LEFT.with_borrow(|left| {
        // Without a tag every mail would do.
        if !left.is_empty() {
            while sys::receive(left, Some(Duration::ZERO)) == Received::Message {}
        }
    });
}

thread_local! {
    /// The tags of the subscriptions that were dropped last.
    static LEFT: RefCell<Vec<i64>> = const { RefCell::new(Vec::new()) };
    /// What came for subscriptions of this process while it waited for something else. It is not
    /// consumed yet, so that the subscription's limits hold for it.
    static KEPT: RefCell<HashMap<i64, Vec<Vec<u8>>>> = RefCell::new(HashMap::new());
}

fn take_kept(tag: i64) -> Vec<Vec<u8>> {
    KEPT.with_borrow_mut(|kept| kept.get_mut(&tag).map(std::mem::take)).unwrap_or_default()
}

/// What an agent has its handler called for, by `ctx.subscribe`.
#[derive(Default)]
struct HandlerSubscriptions {
    all: Vec<Subscription>,
    /// The connection whose death is told to this process.
    watched: Option<Pid>,
}

thread_local! {
    static HANDLER: RefCell<HandlerSubscriptions> = RefCell::default();
}

/// The tag of the mail with which an agent reminds itself to look for the connection's successor.
const FOLLOW: i64 = 101;

impl HandlerSubscriptions {
    /// How soon it looks again for a connection that is not back yet.
    const LOOK_AGAIN: Duration = Duration::from_millis(50);

    fn position(&self, subject: &str, queue: Option<&str>) -> Option<usize> {
        let is_it = |one: &Subscription| {
            one.subject == subject && one.options.queue_group.as_deref() == queue
        };
        self.all.iter().position(is_it)
    }

    /// Watches the connection that the subscriptions are at; where it has died, they move to its
    /// successor, now or soon.
    fn follow(&mut self) {
        self.all.iter_mut().for_each(Subscription::follow_connection);
        if self.all.iter().any(|one| !sys::exists(one.connection)) {
            self.watched = None;
            sys::send_after(sys::this(), FOLLOW, &[delivery::DELIVERIES], Self::LOOK_AGAIN);
            return;
        }
        let Some(connection) = self.all.first().map(|one| one.connection) else { return };
        if self.watched != Some(connection) {
            self.watched = Some(connection);
            sys::monitor(connection);
            // A monitor on a process that has died already never fires.
            if !sys::exists(connection) {
                self.follow();
            }
        }
    }
}

/// Has the agent of this process called for what comes on a subject. To do it again changes nothing.
pub(super) fn subscribe_handler(
    client: &mut client::Client,
    subject: &str,
    queue: Option<&str>,
) -> Result<(), NatsError> {
    HANDLER.with_borrow_mut(|handler| {
        if handler.position(subject, queue).is_some() {
            return Ok(());
        }
        let max = Context::MAX_SUBSCRIPTIONS;
        if handler.all.len() >= max {
            return Err(NatsError::TooManySubscriptions { max });
        }
        handler.all.push(client.subscribe(subject, queue)?);
        handler.follow();
        Ok(())
    })
}

/// Ends it again; whether there was such a subscription.
pub(super) fn unsubscribe_handler(subject: &str, queue: Option<&str>) -> bool {
    HANDLER.with_borrow_mut(|handler| match handler.position(subject, queue) {
        Some(at) => {
            drop(handler.all.swap_remove(at));
            true
        }
        None => false,
    })
}

/// What a mail means for the agent's handler.
pub(super) enum ForHandler {
    /// It is to handle these.
    Messages(Deliveries),
    /// One of its subscriptions is over: to what, and why.
    Ended(String, NatsError),
    /// Nothing.
    Nothing,
}

/// Takes a mail with what came from NATS. What came for a subscription that the agent looks at by
/// itself is kept for that.
pub(super) fn for_handler(tag: i64, mail: Vec<u8>) -> ForHandler {
    let handlers = HANDLER.with_borrow_mut(|handler| {
        if tag == FOLLOW {
            handler.follow();
        }
        let at = handler.all.iter().position(|one| one.tag == tag)?;
        Some(match Ended::read(&mail) {
            Some(Ended { why, .. }) => {
                let subscription = handler.all.swap_remove(at);
                ForHandler::Ended(subscription.subject.clone(), over(why))
            }
            None => ForHandler::Nothing,
        })
    });
    match handlers {
        Some(ForHandler::Nothing) => {
            Deliveries::read(mail).map_or(ForHandler::Nothing, ForHandler::Messages)
        }
        Some(ended) => ended,
        None => {
            // Without an entry it is the late answer to a request, or for a subscription that is
            // over: it counts as consumed.
            KEPT.with_borrow_mut(|kept| match kept.get_mut(&tag) {
                Some(mails) => mails.push(mail),
                None => drop(Deliveries::read(mail)),
            });
            ForHandler::Nothing
        }
    }
}

/// A process that this one watches has died: the connection, if any.
pub(super) fn process_died() {
    HANDLER.with_borrow_mut(HandlerSubscriptions::follow);
}
