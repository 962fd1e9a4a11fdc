//! The mailbox of one life of an agent: a bounded channel whose receiver takes all that waits at once,
//! so that under load a message costs one lock of a mutex for who sends it, and none for who gets it.
//!
//! It is closed with the life that it belongs to. What waits in it then is dropped, and who asked
//! something in there learns so at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{oneshot, Notify};

use super::node::TicketHolder;
use crate::agent::AgentId;
use crate::error::SendError;
use crate::message::{NatsMessage, WireError};
use crate::time::Instant;

/// What comes to an agent.
#[derive(Debug)]
pub(super) enum Mail {
    /// A message from this node.
    Letter(Letter),
    /// A body that came on `agent.input.<id>`, or was given as a whole message.
    Input { body: Bytes, reply: Option<String> },
    /// A message of a NATS subject that the agent subscribed to.
    Nats(NatsMessage),
    /// A subscription of the agent has ended by itself.
    SubscriptionEnded { subject: String, why: String },
    /// Its supervisor asks how it does.
    Ping { seq: u64, sent: Instant },
    /// It is to end.
    Stop,
}

/// A message between agents of this node, or from outside of the tree.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) from: AgentId,
    pub(super) payload: Value,
    pub(super) timestamp: u64,
    pub(super) reply: Option<Responder>,
    /// What it counts in the mailbox.
    pub(super) size: usize,
}

/// Whom the answer to a request is for. Dropped without one, it says that there will be none.
#[derive(Debug)]
pub(super) enum Responder {
    /// One that waits for it.
    Asker(oneshot::Sender<Result<Value, WireError>>),
    /// One that gets it as an event.
    Ticket(TicketHolder),
}

impl Responder {
    pub(super) fn answer(self, answer: Result<Value, WireError>) {
        match self {
            // Who does not wait any more does not need it.
            Self::Asker(asker) => drop(asker.send(answer)),
            Self::Ticket(holder) => holder.answer(answer.map_err(|error| error.message)),
        }
    }
}

/// How much may wait in the mailbox of an agent.
///
/// What an agent has taken out and not yet handled is not counted: at worst as much again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailboxLimits {
    /// The most messages. Default: 16,384 (2 MB beside their payloads).
    pub messages: usize,
    /// The most bytes of their payloads, as they would be written. Default: 64 MiB.
    pub bytes: usize,
    /// How long an agent that sends waits for room before it gets
    /// [`SendError::MailboxFull`]; so two agents that send to each other and do not read are not
    /// stuck for ever. Default: 1 s.
    pub patience: Duration,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self { messages: 16_384, bytes: 64 << 20, patience: Duration::from_secs(1) }
    }
}

/// Why a mail was not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// That life of the agent is over.
    Closed,
    /// There is no room.
    Full(Mail),
}

/// One life's mailbox, for those who send and for who watches over it. The agent has its
/// [`Receiver`].
#[derive(Debug)]
pub(super) struct Mailbox {
    limits: MailboxLimits,
    state: Mutex<State>,
    /// Woken when room was made, if [`State::is_short`].
    room: Notify,
    /// The life is over, or is to be: what its task still does counts no more.
    is_over: AtomicBool,
    /// The request that is being handled. It is here, so that who asked learns at once when a task is
    /// killed that does not end.
    answering: Mutex<Option<Responder>>,
}

#[derive(Debug)]
struct State {
    is_open: bool,
    waiting: VecDeque<Mail>,
    /// Those of `waiting` that count, and their bytes.
    messages: usize,
    bytes: usize,
    receiver: Option<Waker>,
    /// Whether somebody waits for room.
    is_short: bool,
}

impl Mail {
    /// What it counts; none for what comes from the supervisor, which says little.
    fn size(&self) -> Option<usize> {
        match self {
            Self::Letter(letter) => Some(letter.size),
            Self::Input { body, .. } => Some(body.len()),
            Self::Nats(message) => Some(message.payload().len()),
            Self::SubscriptionEnded { .. } | Self::Ping { .. } | Self::Stop => None,
        }
    }
}

impl Mailbox {
    pub(super) fn new(limits: MailboxLimits) -> (Arc<Self>, Receiver) {
        let state = State {
            is_open: true,
            waiting: VecDeque::new(),
            messages: 0,
            bytes: 0,
            receiver: None,
            is_short: false,
        };
        let mailbox = Arc::new(Self {
            limits,
            state: Mutex::new(state),
            room: Notify::new(),
            is_over: AtomicBool::new(false),
            answering: Mutex::new(None),
        });
        let receiver = Receiver { mailbox: Arc::clone(&mailbox), taken: VecDeque::new() };
        (mailbox, receiver)
    }

    /// Whether that life is over.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Puts a mail in, if there is room.
    pub(super) fn push(&self, mail: Mail) -> Result<(), NotTaken> {
        let size = mail.size();
        let mut state = self.lock();
        if !state.is_open {
            return Err(NotTaken::Closed);
        }
        if let Some(size) = size {
            // One that is alone fits, whatever it has: it is bounded by itself.
            let is_full = state.messages >= self.limits.messages
                || (state.bytes + size > self.limits.bytes && state.messages > 0);
            if is_full {
                state.is_short = true;
                return Err(NotTaken::Full(mail));
            }
            state.messages += 1;
            state.bytes += size;
        }
        state.waiting.push_back(mail);
        let waker = state.receiver.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts a mail in as soon as there is room; gives it up after [`MailboxLimits::patience`].
    pub(super) async fn push_patiently(&self, mut mail: Mail) -> Result<(), NotTaken> {
        let deadline = tokio::time::Instant::now() + self.limits.patience;
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            // From here on it is told, so that room which is made before the next look is seen.
            room.as_mut().enable();
            mail = match self.push(mail) {
                Err(NotTaken::Full(mail)) => mail,
                result => return result,
            };
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                return self.push(mail);
            }
        }
    }

    /// What it is called to those who send that there is no room.
    pub(super) fn full(&self, agent: &AgentId) -> SendError {
        let MailboxLimits { messages, bytes, .. } = self.limits;
        SendError::MailboxFull { agent: agent.clone(), max: messages, max_bytes: bytes }
    }

    /// The life is over. What still waits is given back: dropped, it tells who asked.
    pub(super) fn close(&self) -> VecDeque<Mail> {
        self.is_over.store(true, Ordering::Relaxed);
        drop(self.take_answering());
        let mut state = self.lock();
        state.is_open = false;
        state.receiver = None;
        let left = mem::take(&mut state.waiting);
        drop(state);
        // Those who wait for room find it closed.
        self.room.notify_waiters();
        left
    }

    /// From now on this is the request that is being handled.
    pub(super) fn answer_for(&self, responder: Responder) {
        let mut answering = self.answering.lock().unwrap_or_else(PoisonError::into_inner);
        *answering = Some(responder);
    }

    /// Whom the answer to the request that is being handled is for.
    pub(super) fn take_answering(&self) -> Option<Responder> {
        self.answering.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many mails have room in a mailbox without asking for memory: 8 KB.
const KEPT: usize = 64;

/// The agent's own end.
#[derive(Debug)]
pub(super) struct Receiver {
    mailbox: Arc<Mailbox>,
    /// What was taken out together and is not yet handled.
    taken: VecDeque<Mail>,
}

impl Receiver {
    /// The next mail.
    pub(super) async fn next(&mut self) -> Mail {
        loop {
            if let Some(mail) = self.taken.pop_front() {
                return mail;
            }
            poll_fn(|cx| {
                let mut state = self.mailbox.lock();
                if state.waiting.is_empty() {
                    let is_known = state.receiver.as_ref().is_some_and(|w| w.will_wake(cx.waker()));
                    if !is_known {
                        state.receiver = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                mem::swap(&mut state.waiting, &mut self.taken);
                // A burst is not to hold its room for ever: the next few messages, and each health
                // check is one, give it back.
                let wanted = KEPT.max(2 * self.taken.len());
                if state.waiting.capacity() > 2 * wanted {
                    state.waiting.shrink_to(wanted);
                }
                (state.messages, state.bytes) = (0, 0);
                let was_short = mem::take(&mut state.is_short);
                drop(state);
                if was_short {
                    self.mailbox.room.notify_waiters();
                }
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Everything that has come and was not handled; nothing more can come.
    pub(super) fn close(&mut self) -> VecDeque<Mail> {
        let mut left = mem::take(&mut self.taken);
        left.append(&mut self.mailbox.close());
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping(seq: u64) -> Mail {
        Mail::Ping { seq, sent: Instant::START }
    }

    fn letter(size: usize) -> Mail {
        let (from, payload) = (AgentId::external(), Value::Null);
        Mail::Letter(Letter { from, payload, timestamp: 0, reply: None, size })
    }

    fn seq(mail: &Mail) -> u64 {
        match mail {
            Mail::Ping { seq, .. } => *seq,
            other => panic!("{other:?}"),
        }
    }

    fn small() -> MailboxLimits {
        MailboxLimits { messages: 2, bytes: 100, patience: Duration::from_millis(50) }
    }

    #[tokio::test]
    async fn mails_come_in_order_also_those_that_were_put_in_while_some_were_taken() {
        let (mailbox, mut receiver) = Mailbox::new(MailboxLimits::default());
        for seq in 0..10 {
            mailbox.push(ping(seq)).expect("open");
        }
        assert_eq!(seq(&receiver.next().await), 0);
        mailbox.push(ping(10)).expect("open");
        for expected in 1..=10 {
            assert_eq!(seq(&receiver.next().await), expected);
        }
        // One that waits is woken.
        let waiting = tokio::spawn(async move { seq(&receiver.next().await) });
        tokio::task::yield_now().await;
        mailbox.push(ping(11)).expect("open");
        assert_eq!(waiting.await.expect("it runs"), 11);
    }

    #[tokio::test]
    async fn messages_and_bytes_are_bounded_and_the_supervisor_s_words_are_not() {
        let (mailbox, mut receiver) = Mailbox::new(small());
        let is_full = |mail| matches!(mailbox.push(mail), Err(NotTaken::Full(_)));
        assert!(!is_full(letter(500)), "one alone fits, whatever it has");
        assert!(is_full(letter(1)));
        receiver.next().await;
        assert!(!is_full(letter(60)));
        assert!(is_full(letter(41)) && !is_full(letter(40)));
        assert!(is_full(letter(0)), "two messages");
        for seq in 0..100 {
            assert!(!is_full(ping(seq)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_patient_gets_the_room_that_is_made_or_learns_that_there_is_none() {
        let (mailbox, mut receiver) = Mailbox::new(small());
        for _ in 0..2 {
            mailbox.push(letter(1)).expect("there is room");
        }
        let late = mailbox.push_patiently(letter(1)).await;
        assert!(matches!(late, Err(NotTaken::Full(_))), "{late:?}");
        let (sends, of) = (Arc::clone(&mailbox), tokio::time::Instant::now());
        let patient = tokio::spawn(async move { sends.push_patiently(letter(1)).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        receiver.next().await;
        assert!(patient.await.expect("it runs"));
        assert!(of.elapsed() < small().patience);
    }

    #[tokio::test]
    async fn a_closed_mailbox_gives_back_what_waits_and_takes_nothing() {
        let (mailbox, mut receiver) = Mailbox::new(small());
        let (asker, answer) = oneshot::channel();
        mailbox.answer_for(Responder::Asker(asker));
        mailbox.push(ping(1)).expect("open");
        mailbox.push(ping(2)).expect("open");
        receiver.next().await;
        mailbox.push(ping(3)).expect("open");
        let left: Vec<u64> = receiver.close().iter().map(seq).collect();
        assert_eq!(left, [2, 3]);
        assert!(mailbox.is_over());
        assert!(matches!(mailbox.push(ping(4)), Err(NotTaken::Closed)));
        let patient = mailbox.push_patiently(letter(1)).await;
        assert!(matches!(patient, Err(NotTaken::Closed)), "{patient:?}");
        assert!(answer.await.is_err(), "who waits for an answer learns that there is none");
    }

    #[tokio::test]
    async fn the_room_of_a_burst_is_given_back() {
        let (mailbox, mut receiver) = Mailbox::new(MailboxLimits::default());
        for seq in 0..10_000 {
            mailbox.push(ping(seq)).expect("open");
        }
        for _ in 0..10_000 {
            receiver.next().await;
        }
        for seq in 0..2 {
            mailbox.push(ping(seq)).expect("open");
            receiver.next().await;
        }
        let capacity = mailbox.lock().waiting.capacity() + receiver.taken.capacity();
        assert!(capacity <= 4 * KEPT, "{capacity}");
    }
}
