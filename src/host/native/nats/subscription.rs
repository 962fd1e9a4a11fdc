//! What comes on a subject.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::{FutureExt, StreamExt};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot, Notify};

use super::connection::Inner;
use super::error::NatsError;
use super::event::Event;
use super::message;
use super::shared::{add, lock, Link, Shared};
use crate::message::NatsMessage;

/// How a subscription is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Each message goes to one of those in the group. Default: none.
    pub queue_group: Option<String>,
    /// How many messages may wait for the subscriber. Beyond it, they are dropped and counted, and
    /// there is a slow-consumer event. Default: 65,536.
    pub max_pending_messages: u64,
    /// The same in bytes. One message is always taken. Default: 8 MiB, which with 200 bytes a message
    /// is the worst case in memory: 21 MB; and what the task has not been able to put there yet,
    /// since the runtime has no thread for it: up to 8,192 messages.
    pub max_pending_bytes: u64,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { queue_group: None, max_pending_messages: 65_536, max_pending_bytes: 8 << 20 }
    }
}

/// What comes on a subject. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    queue: Arc<Queue>,
    orders: mpsc::UnboundedSender<Order>,
    ended: Option<NatsError>,
    shared: Arc<Shared>,
    /// It is not to keep the connection.
    connection: Weak<Inner>,
}

/// What the task is told that reads for a subscription. There are as many as calls that wait, and those
/// of `unsubscribe_after`.
#[derive(Debug)]
enum Order {
    After(u64),
    Drain(oneshot::Sender<()>),
}

/// What waits for a subscriber.
#[derive(Debug)]
pub(super) struct Queue {
    subject: String,
    options: SubscribeOptions,
    waiting: Mutex<Waiting>,
    /// Something has come, or nothing more will.
    news: Notify,
    /// Nothing more is to be read for it.
    stop: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<NatsMessage>,
    bytes: u64,
    /// Whether the last that came was dropped.
    is_slow: bool,
    /// How many have come in all, and how many may.
    came: u64,
    last: Option<u64>,
    ended: Option<NatsError>,
}

/// Why one ends that has had as many messages as it was to have.
const HAD_ITS_LAST: &str = "it has had its last message";

impl Queue {
    pub(super) fn is_of(&self, subject: &str, queue_group: Option<&str>) -> bool {
        self.subject == subject && self.options.queue_group.as_deref() == queue_group
    }

    pub(super) fn end(&self, why: NatsError) {
        self.lock().ended.get_or_insert(why);
        self.news.notify_one();
        self.stop.notify_one();
    }

    /// No more than so many in all: the server hears of it later, and what it has sent by then is not
    /// asked for.
    fn limit(&self, messages: u64) {
        let mut waiting = self.lock();
        waiting.last = Some(messages);
        let is_over = waiting.came >= messages;
        drop(waiting);
        if is_over {
            self.end(NatsError::SubscriptionEnded(HAD_ITS_LAST.to_owned()));
        }
    }

    fn push(&self, message: NatsMessage, shared: &Shared) {
        let mut waiting = self.lock();
        if waiting.last.is_some_and(|last| waiting.came >= last) {
            return;
        }
        waiting.came += 1;
        let is_last = waiting.last == Some(waiting.came);
        self.keep(waiting, message, shared);
        if is_last {
            self.end(NatsError::SubscriptionEnded(HAD_ITS_LAST.to_owned()));
        }
    }

    /// Puts it where the subscriber takes it, if there is room.
    fn keep(&self, mut waiting: MutexGuard<'_, Waiting>, message: NatsMessage, shared: &Shared) {
        let len = size(&message);
        let is_full = waiting.messages.len() as u64 >= self.options.max_pending_messages
            || waiting.bytes + len > self.options.max_pending_bytes;
        let began = is_full && !waiting.messages.is_empty() && !waiting.is_slow;
        waiting.is_slow = is_full && !waiting.messages.is_empty();
        if waiting.is_slow {
            drop(waiting);
            add(&shared.counters.dropped_messages, 1);
            add(&shared.counters.dropped_bytes, len);
            if began {
                shared.tell(Event::SlowConsumer { subject: self.subject.clone() });
            }
            return;
        }
        waiting.bytes += len;
        waiting.messages.push_back(message);
        drop(waiting);
        self.news.notify_one();
    }

    fn pop(&self) -> Result<Option<NatsMessage>, NatsError> {
        let mut waiting = self.lock();
        match waiting.messages.pop_front() {
            Some(message) => {
                waiting.bytes -= size(&message);
                Ok(Some(message))
            }
            None => waiting.ended.clone().map_or(Ok(None), Err),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }
}

/// What a message counts for, against the bound in bytes.
fn size(message: &NatsMessage) -> u64 {
    let headers = message.header_block().map_or(0, <[u8]>::len);
    (message.subject().len() + message.payload().len() + headers) as u64
}

/// Where what comes on `subject` is to wait.
pub(super) fn queue(subject: &str, options: SubscribeOptions) -> Arc<Queue> {
    Arc::new(Queue {
        subject: subject.to_owned(),
        options,
        waiting: Mutex::default(),
        news: Notify::new(),
        stop: Notify::new(),
    })
}

impl Subscription {
    /// The subscription whose messages come from `subscriber`.
    pub(super) fn start(
        id: u64,
        queue: Arc<Queue>,
        subscriber: Subscriber,
        shared: Arc<Shared>,
        connection: Weak<Inner>,
        runtime: &runtime::Handle,
    ) -> Self {
        let (orders, inbound) = mpsc::unbounded_channel();
        runtime.spawn(read(subscriber, Arc::clone(&queue), inbound, Arc::clone(&shared)));
        Self { id, queue, orders, ended: None, shared, connection }
    }

    /// The next message; waits for it. `None` if none will come any more: [`Self::ended`] says why.
    pub async fn next(&mut self) -> Option<NatsMessage> {
        loop {
            match self.try_next() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => self.queue.news.notified().await,
                Err(_) => return None,
            }
        }
    }

    /// The next message; waits for it, at most for `timeout`, which gives `Ok(None)`. An error if none
    /// will come any more.
    pub async fn next_within(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<NatsMessage>, NatsError> {
        let next = tokio::time::timeout(timeout, self.next()).await;
        match next {
            Ok(None) => Err(self.ended.clone().unwrap_or_else(|| self.shared.ended())),
            Ok(message) => Ok(message),
            Err(_) => Ok(None),
        }
    }

    /// The next message, if one is here. An error if none is, and none will come any more.
    pub fn try_next(&mut self) -> Result<Option<NatsMessage>, NatsError> {
        self.queue.pop().inspect_err(|why| {
            self.ended.get_or_insert_with(|| why.clone());
        })
    }

    /// Ends it once it has had so many messages in all, those included that it has had already; 0 is
    /// now. The server keeps to it, over reconnects too.
    pub fn unsubscribe_after(&mut self, messages: u64) {
        self.queue.limit(messages);
        // One that has ended is as good.
        let _ = self.orders.send(Order::After(messages));
    }

    /// Ends it in good order: when this returns, what the server had sent for it is here, to be
    /// taken by [`Self::next`], and nothing more will come.
    ///
    /// async-nats forgets a subscription when it hears from the server again after it has ended it.
    /// What the server sends meanwhile can be lost.
    pub async fn drain(&mut self, timeout: Duration) -> Result<(), NatsError> {
        let drained = async {
            // All that the server has sent by now.
            let connection = self.connection.upgrade().ok_or_else(|| self.shared.ended())?;
            connection.handle.probe().await?;
            drop(connection);
            let (told, done) = oneshot::channel();
            if self.orders.send(Order::Drain(told)).is_ok() {
                // It ends with the task.
                let _ = done.await;
            }
            Ok(())
        };
        let late = NatsError::TimedOut { subject: self.queue.subject.clone(), timeout };
        let drained = tokio::time::timeout(timeout, drained).await.unwrap_or(Err(late));
        self.queue.end(NatsError::SubscriptionEnded("it was drained".to_owned()));
        drained
    }

    /// Why nothing will come any more, if so: a permission that is missing, its last message, the end
    /// of the connection. Said once all that had come was taken.
    pub fn ended(&self) -> Option<&NatsError> {
        self.ended.as_ref()
    }

    /// What it is subscribed to.
    pub fn subject(&self) -> &str {
        &self.queue.subject
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.leave(self.id);
        self.queue.stop.notify_one();
    }
}

/// Reads for a subscription until it ends.
async fn read(
    mut subscriber: Subscriber,
    queue: Arc<Queue>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    shared: Arc<Shared>,
) {
    let mut link = shared.link.subscribe();
    let mut last_word = HAD_ITS_LAST;
    let mut waiter = None;
    loop {
        tokio::select! {
            biased;
            message = subscriber.next() => match message {
                Some(message) => queue.push(message::of(message), &shared),
                None => {
                    let why = NatsError::SubscriptionEnded(last_word.to_owned());
                    queue.end(shared.closed().unwrap_or(why));
                    break;
                }
            },
            () = queue.stop.notified() => break,
            _ = Link::until(&mut link, |link| matches!(link, Link::Closed(_))) => {
                // What has come already is taken, at once: a task may be made to pause before.
                let mut rest = pin!(tokio::task::unconstrained(async {
                    while let Some(message) = subscriber.next().await {
                        queue.push(message::of(message), &shared);
                    }
                }));
                let _ = rest.as_mut().now_or_never();
                queue.end(shared.ended());
                break;
            }
            order = orders.recv() => match order {
                // It fails when the connection has ended, which is heard above.
                Some(Order::After(messages)) => drop(subscriber.unsubscribe_after(messages).await),
                Some(Order::Drain(told)) => {
                    last_word = "it was drained";
                    drop(subscriber.drain().await);
                    waiter = Some(told);
                }
                None => break,
            },
        }
    }
    drop(waiter);
}
