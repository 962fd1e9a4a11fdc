//! What a connection knows of itself: told by async-nats, asked by everybody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_nats::{ReconnectToServer, ServerAddr, Statistics};
use tokio::sync::{broadcast, watch, Notify};
use tokio::time::Instant as Clock;

use super::dialing::{Dialing, Turn};
use super::error::NatsError;
use super::event::{ConnectionState, Event, MAX_EVENTS};
use super::pending::Pending;
use super::requests::Requests;
use super::subscription::Queue;
use super::url::{self, Server};
use crate::nats::server_error::ServerError;
use crate::nats::{Auth, Operation, PermissionViolation};
use crate::time::Instant;

/// Where the connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Up,
    Down,
    Closed(String),
}

impl Link {
    /// Waits until it is so; says how it is then. Also when nobody would tell of a change any more.
    pub(super) async fn until(
        link: &mut watch::Receiver<Self>,
        condition: impl FnMut(&Self) -> bool,
    ) -> Self {
        let found = link.wait_for(condition).await.map(|link| link.clone());
        found.unwrap_or_else(|_| Self::Closed("closed".to_owned()))
    }
}

/// What async-nats' callbacks and the connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) link: watch::Sender<Link>,
    events: broadcast::Sender<Event>,
    servers: Vec<Server>,
    dial: Mutex<Dial>,
    pub(super) requests: Requests,
    subscriptions: Mutex<Subscriptions>,
    pub(super) pending: Arc<Pending>,
    pub(super) counters: Counters,
    /// Why there are no answers to requests: the server permits no inbox.
    pub(super) inbox_denied: Mutex<Option<String>>,
    /// The server is about to go.
    pub(super) leave: Notify,
    pub(super) statistics: OnceLock<Arc<Statistics>>,
    started: Clock,
}

#[derive(Debug)]
struct Dial {
    dialing: Dialing,
    /// The server that was dialed last, and which attempt it was.
    last: Option<(ServerAddr, u32)>,
    /// How often it was connected when that was asked last.
    connects: u64,
    failed_for_now: String,
    /// What advertised servers are shown: what the one of the config was that was dialed last.
    auth: Auth,
}

#[derive(Debug, Default)]
struct Subscriptions {
    last: u64,
    by_id: HashMap<u64, Arc<Queue>>,
}

/// What async-nats does not count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connects: AtomicU64,
    /// Messages that were taken; and how many they were when a connection broke last.
    pub(super) taken: AtomicU64,
    pub(super) taken_at_break: AtomicU64,
    pub(super) failed_attempts: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) dropped_messages: AtomicU64,
    pub(super) dropped_bytes: AtomicU64,
    pub(super) refused_messages: AtomicU64,
    pub(super) unmatched_messages: AtomicU64,
    pub(super) server_errors: AtomicU64,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Shared {
    /// The most subscriptions; worst case in memory 3 KB each with the longest subjects (200 MB), 65 MB
    /// with short ones, beside what waits for them.
    pub(super) const MAX_SUBSCRIPTIONS: usize = 65_536;

    pub(super) fn new(servers: Vec<Server>, dialing: Dialing, requests: Requests) -> Self {
        let (link, _) = watch::channel(Link::Connecting);
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let auth = servers.first().map_or(Auth::None, |server| server.auth.clone());
        let dial = Dial { dialing, last: None, connects: 0, failed_for_now: String::new(), auth };
        Self {
            link,
            events,
            servers,
            dial: Mutex::new(dial),
            requests,
            subscriptions: Mutex::default(),
            pending: Arc::default(),
            counters: Counters::default(),
            inbox_denied: Mutex::default(),
            leave: Notify::new(),
            statistics: OnceLock::new(),
            started: Clock::now(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::from_start(self.started.elapsed())
    }

    pub(super) fn is_up(&self) -> bool {
        *self.link.borrow() == Link::Up
    }

    pub(super) fn state(&self) -> ConnectionState {
        match &*self.link.borrow() {
            Link::Connecting => ConnectionState::Connecting,
            Link::Up => ConnectionState::Connected,
            Link::Down => ConnectionState::Reconnecting,
            Link::Closed(_) => ConnectionState::Closed,
        }
    }

    /// Why there will be no more connection, if so.
    pub(super) fn closed(&self) -> Option<NatsError> {
        match &*self.link.borrow() {
            Link::Closed(reason) => Some(NatsError::Closed(reason.clone())),
            _ => None,
        }
    }

    /// What it is that ended where async-nats does not answer any more.
    pub(super) fn ended(&self) -> NatsError {
        self.closed().unwrap_or_else(|| NatsError::Closed("async-nats has ended".to_owned()))
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(super) fn tell(&self, event: Event) {
        // Nobody has to watch.
        let _ = self.events.send(event);
    }

    /// There will be no more connection.
    pub(super) fn close(&self, reason: &str) {
        let event = Event::Closed { reason: reason.to_owned() };
        let is_open = |link: &Link| !matches!(link, Link::Closed(_));
        if self.change(is_open, Link::Closed(reason.to_owned()), event) {
            self.requests.closed(reason);
        }
    }

    /// Goes over to `next` if it is as `from` says, and tells of it. Who sees one of the two sees the
    /// other, since nobody can look in between.
    fn change(&self, from: impl Fn(&Link) -> bool, next: Link, event: Event) -> bool {
        self.link.send_if_modified(|link| {
            let changes = from(link);
            if changes {
                *link = next;
                self.tell(event);
            }
            changes
        })
    }

    /// What async-nats asks before each attempt to connect.
    pub(super) async fn next_server(
        self: Arc<Self>,
        pool: Vec<async_nats::Server>,
    ) -> Option<ReconnectToServer> {
        match self.take_turn(&pool) {
            Some((addr, after)) => Some(ReconnectToServer { addr, delay: Some(after) }),
            None => end_task().await,
        }
    }

    fn take_turn(&self, pool: &[async_nats::Server]) -> Option<(ServerAddr, Duration)> {
        if self.closed().is_some() {
            return None;
        }
        let now = self.now();
        let mut dial = self.dial();
        let connects = self.statistics.get().map_or(0, |s| s.connects.load(Ordering::Relaxed));
        if connects > dial.connects {
            dial.connects = connects;
            // Its event may still be on its way.
            dial.dialing.connected(now);
        } else if let Some((addr, attempt)) = dial.last.take() {
            let entry = pool.iter().find(|server| server.addr == addr);
            // A name that cannot be looked up leaves no error there.
            let reason = entry.and_then(|server| server.last_error.clone());
            let reason = reason.unwrap_or_else(|| "its name cannot be resolved".to_owned());
            let server = url::shown(&addr);
            add(&self.counters.failed_attempts, 1);
            dial.failed_for_now.clone_from(&reason);
            self.tell(Event::AttemptFailed { server, attempt, reason });
        }
        let known: Vec<&str> = pool.iter().map(|server| server.addr.as_url_str()).collect();
        let turn = dial.dialing.next(now, &known);
        let (server, attempt, after) = match turn {
            Turn::Dial { server, attempt, after } => (server, attempt, after),
            Turn::GiveUp { attempts } => {
                let why = std::mem::take(&mut dial.failed_for_now);
                drop(dial);
                self.close(&format!("gave up after {attempts} attempts, at last since: {why}"));
                return None;
            }
        };
        let addr = pool.iter().find(|s| s.addr.as_url_str() == server)?.addr.clone();
        if let Some(configured) = self.servers.iter().find(|server| server.addr == addr) {
            dial.auth = configured.auth.clone();
        }
        dial.last = Some((addr.clone(), attempt));
        drop(dial);
        self.tell(Event::Reconnecting { attempt, after });
        Some((addr, after))
    }

    /// What stood in the URL of the server that is being dialed.
    pub(super) fn auth_in_url(&self) -> Auth {
        self.dial().auth.clone()
    }

    fn server(&self) -> String {
        self.dial().last.as_ref().map_or_else(String::new, |(addr, _)| url::shown(addr))
    }

    /// What async-nats tells.
    pub(super) fn handle(&self, event: async_nats::Event) {
        match event {
            async_nats::Event::Connected => self.connected(),
            async_nats::Event::Disconnected => self.disconnected(),
            async_nats::Event::LameDuckMode => {
                self.tell(Event::LameDuck { server: self.server() });
                self.leave.notify_one();
            }
            async_nats::Event::ServerError(error) => {
                let text = match error {
                    async_nats::ServerError::Other(text) => text,
                    error => error.to_string(),
                };
                self.server_error(&text);
            }
            async_nats::Event::SlowConsumer(_) => add(&self.counters.dropped_messages, 1),
            async_nats::Event::Closed => self.close("closed"),
            // Attempts that fail are told of where the next one is decided upon.
            async_nats::Event::ClientError(_) | async_nats::Event::Draining => {}
        }
    }

    fn connected(&self) {
        let now = self.now();
        self.dial().dialing.connected(now);
        let reconnects = self.counters.connects.fetch_add(1, Ordering::Relaxed);
        *lock(&self.inbox_denied) = None;
        let event = Event::Connected { server: self.server(), reconnects };
        self.change(|link| !matches!(link, Link::Closed(_)), Link::Up, event);
    }

    fn disconnected(&self) {
        let taken = self.counters.taken.load(Ordering::Relaxed);
        self.counters.taken_at_break.store(taken, Ordering::Relaxed);
        let event = Event::Disconnected { server: self.server() };
        self.change(|link| *link == Link::Up, Link::Down, event);
        self.requests.disconnected();
    }

    fn server_error(&self, text: &str) {
        add(&self.counters.server_errors, 1);
        match ServerError::parse(text.as_bytes()) {
            ServerError::PermissionViolation(violation) => self.denied(violation),
            error => self.tell(Event::ServerError { error: error.to_string() }),
        }
    }

    fn denied(&self, violation: PermissionViolation) {
        let words = violation.to_string();
        let mut ended = 0;
        match violation.operation {
            Operation::Publish => self.requests.denied(&violation.subject, &words),
            Operation::Subscribe if violation.subject == self.requests.inbox.pattern().as_str() => {
                *lock(&self.inbox_denied) = Some(words.clone());
                self.requests.denied_all(&words);
            }
            Operation::Subscribe => {
                let subscriptions = self.subscriptions();
                for queue in subscriptions.by_id.values() {
                    if queue.is_of(&violation.subject, violation.queue.as_deref()) {
                        queue.end(NatsError::PermissionDenied(words.clone()));
                        ended += 1;
                    }
                }
            }
        }
        self.tell(Event::PermissionViolation { violation, subscriptions: ended });
    }

    /// Remembers a subscription, and says under which number.
    pub(super) fn enter(&self, queue: &Arc<Queue>) -> Result<u64, NatsError> {
        let mut subscriptions = self.subscriptions();
        let max = Self::MAX_SUBSCRIPTIONS;
        if subscriptions.by_id.len() >= max {
            return Err(NatsError::TooManySubscriptions { max });
        }
        subscriptions.last += 1;
        let id = subscriptions.last;
        subscriptions.by_id.insert(id, Arc::clone(queue));
        Ok(id)
    }

    pub(super) fn leave(&self, id: u64) {
        self.subscriptions().by_id.remove(&id);
    }

    pub(super) fn subscription_count(&self) -> usize {
        self.subscriptions().by_id.len()
    }

    fn subscriptions(&self) -> MutexGuard<'_, Subscriptions> {
        lock(&self.subscriptions)
    }

    fn dial(&self) -> MutexGuard<'_, Dial> {
        lock(&self.dial)
    }
}

/// Nothing panics while one is held.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the task that asks. async-nats tries for ever, even when nobody has its client any more, and
/// can be told to stop by nothing but this: unwinding, which tokio catches and no hook hears of. Where
/// panics abort, the task waits instead, and keeps its memory until its runtime ends.
async fn end_task() -> Option<ReconnectToServer> {
    if cfg!(panic = "unwind") {
        std::panic::resume_unwind(Box::new("the connection is closed"));
    }
    std::future::pending().await
}
