//! The connection.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::traits::Publisher;
use async_nats::client::PublishErrorKind;
use async_nats::message::OutboundMessage;
use async_nats::{Client, ConnectOptions, PublishError, Subscriber};
use futures_util::StreamExt;
use tokio::runtime;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use super::auth::{check_ca, Credentials};
use super::config::NatsConfig;
use super::dialing::Dialing;
use super::error::NatsError;
use super::event::{ConnectionStats, NatsEvents};
use super::message;
use super::pending::Bounds;
use super::requests::{Answers, Matched, Requests};
use super::shared::{add, lock, Link, Shared};
use super::subscription::{self, SubscribeOptions, Subscription};
use crate::host::random;
use crate::message::{Headers, NatsMessage, QueueGroup, Subject, SubjectPattern};
use crate::nats::{Gather, GatherEnd, Gathering, Inbox, NatsPublisher, OutboxError, RequestMany};

/// What may wait for the socket while there is a connection.
const CONNECTED: Bounds = Bounds { bytes: 8 << 20, messages: 65_536, takes_one: true };

/// Messages that async-nats may have for a subscription before its task has taken them.
const READ_AHEAD: usize = 8192;

/// Commands to async-nats beside publishes: there is room for them even when publishes are at their
/// bound.
const OTHER_COMMANDS: usize = 4096;

/// What a publish does when the server takes less than is published: when 8 MiB or 65,536 messages
/// wait for the socket already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenBusy {
    /// It waits until there is room.
    #[default]
    Wait,
    /// It is [`NatsError::Busy`], and the message is not taken.
    Error,
}

/// A connection to NATS. Its clones are the same connection.
///
/// It reconnects by itself, and subscribes again. What is published while there is no connection is
/// kept, up to the bounds of its config; beyond them, publishing is an error. When the last clone is
/// dropped it is closed: what was published is written first, in the background, for which it takes 2 s
/// at most. ([`Self::drain`] tells whether that went well.)
#[derive(Clone)]
pub struct NatsConnection {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) handle: Handle,
    /// Leaves a server that is about to go.
    leaver: JoinHandle<()>,
}

pub(super) struct Handle {
    shared: Arc<Shared>,
    client: Client,
    runtime: runtime::Handle,
    offline: Bounds,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_draining: AtomicBool,
    errors_when_busy: AtomicBool,
    /// Reads the answers to requests, once there was one.
    inbox: OnceCell<JoinHandle<()>>,
    /// How many messages had been taken when it was known last what became of them.
    flushed: AtomicU64,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.handle.shared.state();
        f.debug_struct("Inner").field("state", &state).finish_non_exhaustive()
    }
}

impl NatsConnection {
    /// How long closing may take to write what is left.
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

    /// Connects; within a tokio runtime with its IO and its time enabled.
    ///
    /// It waits for no server: when one appears it is connected to. A config that cannot be used, or a
    /// file that it names, is an error at once. With
    /// [`retry_on_failed_connect`](NatsConfig::retry_on_failed_connect) off it does wait: each server
    /// is tried once, for `timeout` each, and if none can be reached that is an error.
    pub async fn new(config: NatsConfig) -> Result<Self, NatsError> {
        let servers = config.servers()?;
        let credentials = Arc::new(Credentials::of(&config).await?);
        check_ca(&config).await?;
        let names = servers.iter().map(|server| server.addr.as_url_str().to_owned()).collect();
        let dialing = Dialing::new(
            names,
            config.shuffle_servers,
            config.reconnect.clone(),
            config.max_reconnects,
            config.retry_on_failed_connect,
            u64::from_le_bytes(random()),
        );
        let is_websocket = servers.iter().any(|server| server.addr.is_websocket());
        let addrs: Vec<_> = servers.iter().map(|server| server.addr.clone()).collect();
        let requests = Requests::new(Inbox::from_random(random()), config.max_requests);
        let shared = Arc::new(Shared::new(servers, dialing, requests));
        let options = options(&config, is_websocket, &shared, credentials);
        let mut link = shared.link.subscribe();
        // It returns at once, since it is to retry: only a list of no servers would be an error.
        let connect = options.connect(addrs).await;
        let client = connect.map_err(|error| NatsError::Connect(error.to_string()))?;
        let _ = shared.statistics.set(client.statistics());
        let leaver = tokio::spawn(leave(client.clone(), Arc::clone(&shared)));
        let handle = Handle {
            shared,
            client,
            runtime: runtime::Handle::current(),
            offline: Bounds {
                bytes: config.max_pending_bytes,
                messages: config.max_pending_messages,
                takes_one: false,
            },
            state: Arc::default(),
        };
        let connection = Self { inner: Arc::new(Inner { handle, leaver }) };
        if !config.retry_on_failed_connect {
            let known = Link::until(&mut link, |l| matches!(l, Link::Up | Link::Closed(_))).await;
            if let Link::Closed(reason) = known {
                return Err(NatsError::Connect(reason));
            }
        }
        Ok(connection)
    }

    /// Publishes.
    pub async fn publish(&self, subject: &str, data: &[u8]) -> Result<(), NatsError> {
        self.handle().send(subject, None, Headers::none(), data).await
    }

    /// Publishes with headers.
    pub async fn publish_with_headers(
        &self,
        subject: &str,
        headers: &Headers,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.handle().send(subject, None, headers, data).await
    }

    /// Publishes, and says where answers are expected.
    pub async fn publish_request(
        &self,
        subject: &str,
        reply: &str,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.handle().send(subject, Some(reply), Headers::none(), data).await
    }

    /// Publishes with headers, and says where answers are expected.
    pub async fn publish_request_with_headers(
        &self,
        subject: &str,
        reply: &str,
        headers: &Headers,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.handle().send(subject, Some(reply), headers, data).await
    }

    /// Publishes, and waits for the first answer, at most for `timeout`.
    pub async fn request(
        &self,
        subject: &str,
        data: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, NatsError> {
        let answer = self.request_with_headers(subject, Headers::none(), data, timeout).await?;
        Ok(answer.payload().to_vec())
    }

    /// Publishes with headers, and waits for the first answer with its headers.
    pub async fn request_with_headers(
        &self,
        subject: &str,
        headers: &Headers,
        data: &[u8],
        timeout: Duration,
    ) -> Result<NatsMessage, NatsError> {
        let answer = async {
            let mut answers = self.handle().ask(subject, headers, data, false).await?;
            match answers.next().await? {
                answer if answer.is_no_responders() => {
                    Err(NatsError::NoResponders { subject: subject.to_owned() })
                }
                answer => Ok(answer),
            }
        };
        let late = || Err(NatsError::TimedOut { subject: subject.to_owned(), timeout });
        tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| late())
    }

    /// Publishes, and waits for as many answers as `many` says: for a time, until they stop coming,
    /// until there are enough, or until one says that it was the last (ADR-47).
    pub async fn request_many(
        &self,
        subject: &str,
        headers: &Headers,
        data: &[u8],
        many: &RequestMany,
    ) -> Result<Vec<NatsMessage>, NatsError> {
        let handle = self.handle();
        let mut gather = Gather::new(handle.shared.now(), many);
        let asking = tokio::time::timeout(many.total, handle.ask(subject, headers, data, true));
        let mut answers = match asking.await {
            Ok(answers) => answers?,
            Err(_) => return Ok(Vec::new()),
        };
        let mut got = Vec::new();
        loop {
            let now = handle.shared.now();
            let until = match gather.tick(now) {
                Gathering::Continue { until } => until,
                Gathering::Done(GatherEnd::NoResponders) => {
                    return Err(NatsError::NoResponders { subject: subject.to_owned() });
                }
                Gathering::Done(_) => return Ok(got),
            };
            if let Ok(answer) = tokio::time::timeout(until - now, answers.next()).await {
                let answer = answer?;
                let (status, len) = (answer.status(), answer.payload().len());
                if gather.reply(handle.shared.now(), status, len) {
                    got.push(answer);
                }
            }
        }
    }

    /// Subscribes to a subject, with wildcards if it has any.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, NatsError> {
        self.subscribe_with(subject, SubscribeOptions::default()).await
    }

    /// Subscribes as one of a queue group, of which each message goes to one.
    pub async fn queue_subscribe(
        &self,
        subject: &str,
        queue_group: &str,
    ) -> Result<Subscription, NatsError> {
        let queue_group = Some(queue_group.to_owned());
        self.subscribe_with(subject, SubscribeOptions { queue_group, ..Default::default() }).await
    }

    /// Subscribes with a queue group and limits of one's own.
    pub async fn subscribe_with(
        &self,
        subject: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, NatsError> {
        let handle = self.handle();
        handle.check_open()?;
        SubjectPattern::parse(subject).map_err(OutboxError::Subject)?;
        if let Some(group) = &options.queue_group {
            QueueGroup::parse(group.as_str()).map_err(OutboxError::Subject)?;
        }
        let queue_group = options.queue_group.clone();
        let queue = subscription::queue(subject, options);
        let id = handle.shared.enter(&queue)?;
        match handle.subscriber(subject, queue_group).await {
            Ok(subscriber) => {
                let (shared, connection) =
                    (Arc::clone(&handle.shared), Arc::downgrade(&self.inner));
                let runtime = &handle.runtime;
                Ok(Subscription::start(id, queue, subscriber, shared, connection, runtime))
            }
            Err(error) => {
                handle.shared.leave(id);
                Err(error)
            }
        }
    }

    /// Waits until the server has everything that was published, at most for `timeout`. An error, once,
    /// if a connection broke on which it may have been lost.
    pub async fn flush(&self, timeout: Duration) -> Result<(), NatsError> {
        let handle = self.handle();
        let late = NatsError::TimedOut { subject: "the flush".to_owned(), timeout };
        tokio::time::timeout(timeout, handle.flush()).await.unwrap_or(Err(late))
    }

    /// Ends the connection in good order: the server gets everything that was published, and all that
    /// it had sent until then is handed to the subscriptions; then these end, and it is closed. From
    /// the call on nothing new is taken. An error if that takes longer than `timeout`, or a connection
    /// broke meanwhile; it is closed even so.
    pub async fn drain(&self, timeout: Duration) -> Result<(), NatsError> {
        let handle = self.handle();
        handle.check_open()?;
        handle.state.is_draining.store(true, Ordering::Relaxed);
        let drained = self.flush(timeout).await;
        handle.shared.close("drained");
        // It ends its subscriptions, and itself.
        let drain = tokio::time::timeout(Self::CLOSE_TIMEOUT, handle.client.drain());
        // Without a connection nothing hears it, and nothing is left to end.
        let _ = drain.await;
        drained
    }

    /// Gives the present connection up for the next one: to another server, or with new credentials.
    /// What was published before is written first, as far as the socket takes it within 2 s.
    pub async fn force_reconnect(&self) -> Result<(), NatsError> {
        let handle = self.handle();
        handle.check_open()?;
        let reconnect = reconnect(&handle.client);
        let done = tokio::time::timeout(Self::CLOSE_TIMEOUT * 2, reconnect).await;
        done.unwrap_or(Ok(())).map_err(|()| handle.shared.ended())
    }

    /// From now on what happens to the connection comes as events.
    pub fn events(&self) -> NatsEvents {
        NatsEvents::new(self.handle().shared.watch())
    }

    /// What publishes do from now on when the server does not keep up. Default: they wait.
    pub fn set_when_busy(&self, when_busy: WhenBusy) {
        let errors = when_busy == WhenBusy::Error;
        self.handle().state.errors_when_busy.store(errors, Ordering::Relaxed);
    }

    /// Whether it is connected now.
    pub fn is_connected(&self) -> bool {
        self.handle().shared.is_up()
    }

    /// Waits until it is connected. An error if it never will be.
    pub async fn wait_connected(&self) -> Result<(), NatsError> {
        let shared = &self.handle().shared;
        let mut link = shared.link.subscribe();
        match Link::until(&mut link, |link| matches!(link, Link::Up | Link::Closed(_))).await {
            Link::Closed(reason) => Err(NatsError::Closed(reason)),
            _ => Ok(()),
        }
    }

    /// What it has counted, and how it stands.
    pub fn get_stats(&self) -> ConnectionStats {
        let Handle { shared, client, .. } = self.handle();
        let (counters, load) = (&shared.counters, shared.pending.load());
        let theirs = client.statistics();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConnectionStats {
            state: shared.state(),
            in_messages: theirs.in_messages.load(Ordering::Relaxed),
            in_bytes: theirs.in_bytes.load(Ordering::Relaxed),
            out_messages: theirs.out_messages.load(Ordering::Relaxed),
            out_bytes: theirs.out_bytes.load(Ordering::Relaxed),
            reconnects: theirs.connects.load(Ordering::Relaxed).saturating_sub(1),
            failed_attempts: read(&counters.failed_attempts),
            requests: read(&counters.requests),
            dropped_messages: read(&counters.dropped_messages),
            dropped_bytes: read(&counters.dropped_bytes),
            refused_messages: read(&counters.refused_messages),
            unmatched_messages: read(&counters.unmatched_messages),
            server_errors: read(&counters.server_errors),
            pending_messages: load.messages,
            pending_bytes: load.bytes as u64,
            subscriptions: shared.subscription_count() as u64,
        }
    }

    /// The client of async-nats beneath, for what is not here. It is not to outlive the connection, and
    /// our bounds know nothing of what is published with it.
    pub fn client(&self) -> &Client {
        &self.handle().client
    }

    fn handle(&self) -> &Handle {
        &self.inner.handle
    }
}

/// What async-nats is told.
fn options(
    config: &NatsConfig,
    is_websocket: bool,
    shared: &Arc<Shared>,
    credentials: Arc<Credentials>,
) -> ConnectOptions {
    let for_auth = Arc::clone(shared);
    let messages = usize::try_from(config.max_pending_messages).unwrap_or(usize::MAX);
    let capacity = messages.max(CONNECTED.messages as usize).saturating_add(OTHER_COMMANDS);
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let (shared, credentials) = (Arc::clone(&for_auth), Arc::clone(&credentials));
        async move { credentials.answer(shared.auth_in_url(), nonce).await }
    })
    // The callback decides when it is enough.
    .retry_on_initial_connect()
    .connection_timeout(config.timeout)
    .ping_interval(config.ping_interval)
    .client_capacity(capacity.min(tokio::sync::Semaphore::MAX_PERMITS))
    .subscription_capacity(READ_AHEAD);
    if let Some(name) = &config.name {
        options = options.name(name);
    }
    if let Some(ca) = &config.ca_file {
        options = options.add_root_certificates(ca.clone());
    }
    if !config.echo {
        options = options.no_echo();
    }
    if is_websocket || !config.use_advertised {
        options = options.ignore_discovered_servers();
    }
    let (for_dial, for_events) = (Arc::clone(shared), Arc::clone(shared));
    options
        .reconnect_to_server_callback(move |pool, _| Arc::clone(&for_dial).next_server(pool))
        .event_callback(move |event| {
            for_events.handle(event);
            std::future::ready(())
        })
}

/// Leaves servers that are about to go, for as long as the connection lives.
async fn leave(client: Client, shared: Arc<Shared>) {
    loop {
        shared.leave.notified().await;
        let pool = tokio::time::timeout(NatsConnection::CLOSE_TIMEOUT, client.server_pool()).await;
        // Where there is no other, one stays for as long as one can.
        if matches!(pool, Ok(Ok(pool)) if pool.len() > 1) {
            let patience = NatsConnection::CLOSE_TIMEOUT * 2;
            let _ = tokio::time::timeout(patience, reconnect(&client)).await;
        }
    }
}

async fn reconnect(client: &Client) -> Result<(), ()> {
    // What it has not written by then, it forgets.
    let _ = tokio::time::timeout(NatsConnection::CLOSE_TIMEOUT, client.flush()).await;
    client.force_reconnect().await.map_err(drop)
}

impl Handle {
    fn check_open(&self) -> Result<(), NatsError> {
        if self.state.is_draining.load(Ordering::Relaxed) {
            return Err(crate::nats::PublishError::Draining.into());
        }
        self.shared.closed().map_or(Ok(()), Err)
    }

    async fn send(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.check_open()?;
        self.write(subject, reply, headers, data).await?;
        add(&self.shared.counters.taken, 1);
        Ok(())
    }

    async fn write(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        data: &[u8],
    ) -> Result<(), NatsError> {
        Subject::check(subject).map_err(OutboxError::Subject)?;
        reply.map_or(Ok(()), Subject::check_reply).map_err(OutboxError::Subject)?;
        let header_len = if headers.is_empty() { 0 } else { headers.encoded_len() };
        let (len, max) = (header_len + data.len(), self.client.max_payload());
        if len > max {
            return Err(OutboxError::TooLarge { len, max }.into());
        }
        let map = message::headers(headers)?;
        let len = len + subject.len() + reply.map_or(0, str::len);
        let payload = self.hold(data, len).await.inspect_err(|_| {
            add(&self.shared.counters.refused_messages, 1);
        })?;
        let message = OutboundMessage {
            subject: subject.into(),
            reply: reply.map(async_nats::Subject::from),
            payload,
            headers: map,
        };
        let sent = self.hand_over(self.client.publish_message(message)).await?;
        sent.map_err(|error| self.publish_error(&error))
    }

    /// The payload, counted; waits for room while there is a connection.
    async fn hold(&self, data: &[u8], len: usize) -> Result<bytes::Bytes, NatsError> {
        let pending = &self.shared.pending;
        loop {
            // Registered before it is looked, so that nothing is missed in between.
            let freed = pending.freed.notified();
            let mut link = self.shared.link.subscribe();
            let is_up = self.shared.is_up();
            let bounds = if is_up { CONNECTED } else { self.offline };
            let full = match pending.hold(data, len, bounds) {
                Ok(payload) => return Ok(payload),
                Err(full) => full,
            };
            match (is_up, self.state.errors_when_busy.load(Ordering::Relaxed)) {
                (false, _) => return Err(self.shared.closed().unwrap_or(full.into())),
                (true, true) => return Err(NatsError::Busy),
                (true, false) => {
                    tokio::select! {
                        () = freed => {}
                        _ = Link::until(&mut link, |link| *link != Link::Up) => {}
                    }
                }
            }
        }
    }

    /// Does what goes through async-nats' queue: waits for room there, but not without a connection.
    async fn hand_over<T>(&self, what: impl Future<Output = T>) -> Result<T, NatsError> {
        let mut link = self.shared.link.subscribe();
        tokio::select! {
            biased;
            done = what => Ok(done),
            _ = Link::until(&mut link, |link| *link != Link::Up) => {
                let load = self.shared.pending.load();
                let full = crate::nats::PublishError::BufferFull {
                    messages: 1,
                    bytes: 0,
                    waiting_messages: load.messages,
                    waiting_bytes: load.bytes,
                    max_messages: self.offline.messages,
                    max_bytes: self.offline.bytes,
                };
                Err(self.shared.closed().unwrap_or(full.into()))
            }
        }
    }

    fn publish_error(&self, error: &PublishError) -> NatsError {
        match error.kind() {
            // Its `max_payload` has changed since we looked.
            PublishErrorKind::MaxPayloadExceeded => {
                let max = self.client.max_payload();
                OutboxError::TooLarge { len: max.saturating_add(1), max }.into()
            }
            PublishErrorKind::InvalidSubject | PublishErrorKind::Send => self.shared.ended(),
        }
    }

    async fn subscriber(
        &self,
        subject: &str,
        queue_group: Option<String>,
    ) -> Result<Subscriber, NatsError> {
        let subject = subject.to_owned();
        let subscribed = match queue_group {
            Some(group) => self.hand_over(self.client.queue_subscribe(subject, group)).await?,
            None => self.hand_over(self.client.subscribe(subject)).await?,
        };
        subscribed.map_err(|_| self.shared.ended())
    }

    /// Publishes a request.
    async fn ask(
        &self,
        subject: &str,
        headers: &Headers,
        data: &[u8],
        many: bool,
    ) -> Result<Answers<'_>, NatsError> {
        self.check_open()?;
        let answers = self.ask_even_so(subject, headers, data, many).await?;
        add(&self.shared.counters.taken, 1);
        Ok(answers)
    }

    async fn ask_even_so(
        &self,
        subject: &str,
        headers: &Headers,
        data: &[u8],
        many: bool,
    ) -> Result<Answers<'_>, NatsError> {
        self.state.inbox.get_or_try_init(|| self.read_answers()).await?;
        if let Some(words) = &*lock(&self.shared.inbox_denied) {
            return Err(NatsError::PermissionDenied(words.clone()));
        }
        let answers = self.shared.requests.begin(subject, self.shared.is_up(), many)?;
        self.write(subject, Some(&answers.reply), headers, data).await?;
        add(&self.shared.counters.requests, 1);
        Ok(answers)
    }

    /// Subscribes to the inbox, and hands on what comes there.
    async fn read_answers(&self) -> Result<JoinHandle<()>, NatsError> {
        let pattern = self.shared.requests.inbox.pattern();
        let mut subscriber = self.subscriber(pattern.as_str(), None).await?;
        let shared = Arc::clone(&self.shared);
        Ok(self.runtime.spawn(async move {
            while let Some(message) = subscriber.next().await {
                let counters = &shared.counters;
                match shared.requests.take(message::of(message)) {
                    Matched::Yes => {}
                    Matched::No => add(&counters.unmatched_messages, 1),
                    Matched::Dropped => add(&counters.dropped_messages, 1),
                }
            }
        }))
    }

    /// Waits until the server has answered something: so it has all that was sent before, and all that
    /// it had sent before is here.
    pub(super) async fn probe(&self) -> Result<(), NatsError> {
        // One token after the prefix: the inbox has two, and so nobody listens.
        let nobody = format!("{}.flush", self.shared.requests.inbox.prefix());
        let mut answers = self.ask_even_so(&nobody, Headers::none(), b"", false).await?;
        match answers.next().await {
            // That it may not be asked is the server's answer as well.
            Ok(_) | Err(NatsError::PermissionDenied(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn flush(&self) -> Result<(), NatsError> {
        let counters = &self.shared.counters;
        let taken = counters.taken.load(Ordering::Relaxed);
        match self.probe().await {
            // Which has been told of then.
            Ok(()) | Err(NatsError::Disconnected { .. }) => {}
            // Nothing is known of what was before.
            Err(error) => return Err(error),
        }
        let known = self.state.flushed.fetch_max(taken, Ordering::Relaxed);
        match counters.taken_at_break.load(Ordering::Relaxed) > known {
            true => Err(NatsError::Disconnected { subject: "the flush".to_owned() }),
            false => Ok(()),
        }
    }
}

impl NatsPublisher for NatsConnection {
    type Error = NatsError;

    async fn publish_bytes(&self, subject: &str, data: &[u8]) -> Result<(), NatsError> {
        self.publish(subject, data).await
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Handle { shared, client, runtime, state, .. } = &self.handle;
        self.leaver.abort();
        let is_up = shared.is_up();
        let (client, shared, state) = (client.clone(), Arc::clone(shared), Arc::clone(state));
        // async-nats ends when nobody has its client any more, and forgets what it has not written. A
        // runtime that is ending drops this instead.
        runtime.spawn(async move {
            if is_up {
                let _ = tokio::time::timeout(NatsConnection::CLOSE_TIMEOUT, client.flush()).await;
            }
            shared.close("closed");
            if let Some(reader) = state.inbox.get() {
                reader.abort();
            }
        });
    }
}

impl fmt::Debug for NatsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConnection")
            .field("state", &self.handle().shared.state())
            .finish_non_exhaustive()
    }
}
