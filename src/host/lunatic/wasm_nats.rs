//! A connection to NATS of one's own, over WebSocket: without a node, or beside the node's.
//!
//! Its process starts with [`WasmNatsConnection::new`] and ends with the connection, or with the
//! process that made it. An agent may not start processes: it uses the node's connection, by
//! `ctx.publish`, `ctx.nats_request` and `ctx.subscribe`.
//!
//! The futures here are ready at once: what waits suspends the process. A plain `main` runs them
//! with [`run_ready`](crate::agent::run_ready).

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::client::{self, Client};
use super::connection::{self, Mail};
use super::dial::{DialOptions, Roots};
use super::mail::{self, NoAnswer};
use super::sys::Pid;
use crate::config::NatsUrls;
use crate::nats::{
    Auth, Certificates, InvalidConfig, ReconnectDelays, SessionConfig, UpgradeHeaders,
};
use crate::secret::Secret;

pub use super::client::{Events as NatsEvents, NatsError, NatsMessage, SubscribeOptions, WhenBusy};
pub use crate::nats::{
    Event, Headers, NatsPublisher, NatsPublisher as WasmNatsPublisher, RequestMany,
};

/// What a connection counts, from its start and over all its reconnects.
pub type WasmConnectionStats = crate::nats::Stats;

/// How a connection is made.
#[derive(Clone, PartialEq, Eq)]
pub struct WasmNatsConfig {
    /// Where the server is: `ws://` or `wss://`; 1 to 64 of them, separated by commas. A user and a
    /// password, or a token, may stand there. Default: `ws://localhost:8080`.
    pub websocket_url: String,
    /// The time for one attempt to connect, handshake included; 1 ms to a day. Default: 5 s.
    pub timeout: Duration,
    /// After how many failed attempts in a row a connection that broke is given up. Default: none,
    /// which is never.
    pub max_reconnects: Option<u32>,
    /// The longest time between two such attempts, 1 ms to a day; it is shortened at random by up to
    /// a half, so that clients that were thrown out together do not come back together. The first
    /// attempt is made at once. Default: 500 ms.
    pub reconnect_delay: Duration,
    /// Who this is to the server, where its URL does not say. Default: [`Auth::None`].
    pub auth: Auth,
    /// The connection's name in the server's monitoring, at most 256 bytes. Default: none.
    pub name: Option<String>,
    /// The CAs that a `wss://` server's certificate may come from, as PEM. Default: none, which means
    /// those that browsers know.
    pub ca: Option<String>,
    /// Whether one's own messages reach one's own subscriptions. Default: true.
    pub echo: bool,
    /// Whether to go on when no server can be reached at the start: [`WasmNatsConnection::new`] waits
    /// for none then. Default: false.
    pub retry_on_failed_connect: bool,
    /// The time between two PINGs, by which a dead connection is found out; 1 ms to a day. Default:
    /// 2 min.
    pub ping_interval: Duration,
    /// How many PINGs may be unanswered before the connection counts as dead; 1 to 1000. Default: 2.
    pub max_pings_out: u32,
    /// How many bytes may wait while there is no connection; 0 refuses at once. Default, and worst
    /// case in memory: 8 MiB.
    pub max_pending_bytes: usize,
    /// How many messages may wait while there is no connection; 0 refuses at once. Default: 65,536;
    /// the worst case is 4 MiB beside their bytes.
    pub max_pending_messages: u64,
    /// Headers of the WebSocket's upgrade request, which proxies ask for; at most 64 and 8 KiB. Their
    /// values are never shown. Default: none.
    pub headers: Vec<(String, Secret)>,
}

impl Default for WasmNatsConfig {
    fn default() -> Self {
        let session = SessionConfig::default();
        Self {
            websocket_url: "ws://localhost:8080".to_owned(),
            timeout: Duration::from_secs(5),
            max_reconnects: None,
            reconnect_delay: Duration::from_millis(500),
            auth: Auth::None,
            name: None,
            ca: None,
            echo: session.echo,
            retry_on_failed_connect: false,
            ping_interval: session.ping_interval,
            max_pings_out: session.max_pings_out,
            max_pending_bytes: session.max_pending_bytes,
            max_pending_messages: session.max_pending_messages,
            headers: Vec::new(),
        }
    }
}

impl fmt::Debug for WasmNatsConfig {
    /// Without a password that stands in the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmNatsConfig")
            .field("websocket_url", &NatsUrls::new(self.websocket_url.as_str()))
            .field("timeout", &self.timeout)
            .field("max_reconnects", &self.max_reconnects)
            .field("reconnect_delay", &self.reconnect_delay)
            .field("auth", &self.auth)
            .field("name", &self.name)
            .field("ca", &self.ca)
            .field("echo", &self.echo)
            .field("retry_on_failed_connect", &self.retry_on_failed_connect)
            .field("ping_interval", &self.ping_interval)
            .field("max_pings_out", &self.max_pings_out)
            .field("max_pending_bytes", &self.max_pending_bytes)
            .field("max_pending_messages", &self.max_pending_messages)
            .field("headers", &self.headers)
            .finish()
    }
}

impl WasmNatsConfig {
    fn dial(&self) -> Result<DialOptions, InvalidConfig> {
        let roots = match &self.ca {
            Some(pem) => Roots::Given(Certificates::parse(pem)?),
            None => Roots::Web,
        };
        let headers = UpgradeHeaders::new(self.headers.clone())?;
        Ok(DialOptions { headers, roots, auth: None })
    }

    fn session(self) -> Result<SessionConfig, NatsError> {
        let delay = self.reconnect_delay;
        let session = SessionConfig {
            auth: self.auth,
            name: self.name,
            connect_timeout: self.timeout,
            max_reconnects: self.max_reconnects,
            echo: self.echo,
            retry_on_failed_connect: self.retry_on_failed_connect,
            ping_interval: self.ping_interval,
            max_pings_out: self.max_pings_out,
            max_pending_bytes: self.max_pending_bytes,
            max_pending_messages: self.max_pending_messages,
            reconnect: ReconnectDelays {
                first: delay,
                cap: delay,
                late_cap: delay,
                ..ReconnectDelays::default()
            },
            ..SessionConfig::for_server(&self.websocket_url)?
        };
        match session.validate() {
            Ok(()) => Ok(session),
            Err(InvalidConfig::OutOfRange { field, value, allowed }) => {
                let field = match field {
                    "connect_timeout" => "timeout",
                    "reconnect.first" => "reconnect_delay",
                    "servers' length" => "websocket_url's number of servers",
                    other => other,
                };
                Err(InvalidConfig::OutOfRange { field, value, allowed }.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A connection to NATS.
///
/// It reconnects by itself, and subscribes again. What is published while there is no connection is
/// kept, up to the bounds of its config; beyond them, publishing is an error. To drop it closes it:
/// what was published is written first, for which that may wait up to 2 s.
pub struct WasmNatsConnection {
    pid: Pid,
    state: Mutex<State>,
}

struct State {
    client: Client,
    /// The last that was known.
    stats: WasmConnectionStats,
}

impl WasmNatsConnection {
    /// How long closing may wait for the server to take what is left.
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

    /// Connects. Each server is tried once, for `timeout` each; if none can be reached, that is an
    /// error, unless [`WasmNatsConfig::retry_on_failed_connect`] says that it is none.
    pub async fn new(config: WasmNatsConfig) -> Result<Self, NatsError> {
        let (dial, waits) = (config.dial()?, !config.retry_on_failed_connect);
        let pid = connection::start_own(config.session()?, dial).map_err(NatsError::Process)?;
        let state = State { client: Client::of_own(pid), stats: WasmConnectionStats::default() };
        let connection = Self { pid, state: Mutex::new(state) };
        if !waits {
            return Ok(connection);
        }
        // The session gives up by itself.
        match mail::request(pid, None, |waiter| Mail::AwaitUp { waiter }) {
            Ok(_) => Ok(connection),
            Err(NoAnswer::Refused { message, .. }) => Err(NatsError::Connect(message)),
            Err(error) => Err(client::refused(error)),
        }
    }

    /// Publishes.
    pub async fn publish(&self, subject: &str, data: &[u8]) -> Result<(), NatsError> {
        self.publish_message(subject, None, Headers::none(), data)
    }

    /// Publishes with headers.
    pub async fn publish_with_headers(
        &self,
        subject: &str,
        headers: &Headers,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.publish_message(subject, None, headers, data)
    }

    /// Publishes, and says where answers are expected.
    pub async fn publish_request(
        &self,
        subject: &str,
        reply: &str,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.publish_message(subject, Some(reply), Headers::none(), data)
    }

    /// Publishes with headers, and says where answers are expected.
    pub async fn publish_request_with_headers(
        &self,
        subject: &str,
        reply: &str,
        headers: &Headers,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.publish_message(subject, Some(reply), headers, data)
    }

    /// Publishes, and waits for the first answer, at most for `timeout`.
    pub async fn request(
        &self,
        subject: &str,
        data: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, NatsError> {
        self.state().client.request(subject, data, timeout)
    }

    /// Publishes with headers, and waits for the first answer with its headers.
    pub async fn request_with_headers(
        &self,
        subject: &str,
        headers: &Headers,
        data: &[u8],
        timeout: Duration,
    ) -> Result<NatsMessage, NatsError> {
        self.state().client.request_with_headers(subject, headers, data, timeout)
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
        self.state().client.request_many(subject, headers, data, many)
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
        let inner = self.state().client.subscribe_with(subject, options)?;
        Ok(Subscription { inner })
    }

    /// Waits until the server has everything that was published, at most for `timeout`. An error, once,
    /// if a connection broke on which it may have been lost.
    pub async fn flush(&self, timeout: Duration) -> Result<(), NatsError> {
        self.state().client.flush_to_server(timeout)
    }

    /// Ends the connection in good order: first its subscriptions, for which all that is on its way
    /// still comes; then the server gets everything that was published; then it is closed. An error
    /// if that takes longer than `timeout`, or a connection broke meanwhile.
    pub async fn drain(&self, timeout: Duration) -> Result<(), NatsError> {
        self.state().client.flush()?;
        // The session keeps to the time; its answer may take a moment more.
        let patience = timeout + Self::CLOSE_TIMEOUT;
        let drained =
            mail::request(self.pid, Some(patience), |waiter| Mail::Drain { timeout, waiter });
        drained.map(drop).map_err(client::refused)
    }

    /// Gives the present connection up for the next one: to another server, or with new credentials.
    pub fn force_reconnect(&self) {
        mail::send(self.pid, &Mail::ForceReconnect);
    }

    /// From now on what happens to the connection comes as events, none of which is dropped.
    pub fn events(&self) -> Result<NatsEvents, NatsError> {
        self.state().client.events()
    }

    /// What publishes do from now on when the server does not keep up. Default: they wait.
    pub fn set_when_busy(&self, when_busy: WhenBusy) {
        self.state().client.set_when_busy(when_busy);
    }

    /// Whether it is connected now.
    pub fn is_connected(&self) -> bool {
        self.state().client.is_online()
    }

    /// What it has counted. After the end of its process, what was known last.
    pub fn get_stats(&self) -> WasmConnectionStats {
        let mut state = self.state();
        if let Ok(report) = client::report(self.pid) {
            state.stats = report.stats;
        }
        state.stats
    }

    fn publish_message(
        &self,
        subject: &str,
        reply: Option<&str>,
        headers: &Headers,
        data: &[u8],
    ) -> Result<(), NatsError> {
        let client = &mut self.state().client;
        client.publish_with_headers(subject, reply, headers, data)?;
        client.hand_over_all()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A process has one thread, and a panic ends it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WasmNatsConnection {
    fn drop(&mut self) {
        let close = |waiter| Mail::Close { waiter };
        // One that has ended already is closed.
        let _ = mail::request(self.pid, Some(Self::CLOSE_TIMEOUT), close);
    }
}

impl fmt::Debug for WasmNatsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmNatsConnection")
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl NatsPublisher for WasmNatsConnection {
    type Error = NatsError;

    async fn publish_bytes(&self, subject: &str, data: &[u8]) -> Result<(), NatsError> {
        self.publish(subject, data).await
    }
}

/// What comes on a subject, for the process that subscribed. Dropping it unsubscribes.
///
/// Messages wait in the mailbox of the process, up to the limits of [`SubscribeOptions`].
#[derive(Debug)]
pub struct Subscription {
    inner: client::Subscription,
}

impl Subscription {
    /// The next message; waits for it. `None` if none will come any more: [`Self::ended`] says why.
    pub async fn next(&mut self) -> Option<NatsMessage> {
        self.inner.next(None)
    }

    /// The next message; waits for it, at most for `timeout`, which gives `Ok(None)`. An error if none
    /// will come any more.
    pub async fn next_within(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<NatsMessage>, NatsError> {
        let next = self.inner.next(Some(timeout));
        self.checked(next)
    }

    /// The next message, if one is here. An error if none is, and none will come any more.
    pub fn try_next(&mut self) -> Result<Option<NatsMessage>, NatsError> {
        let next = self.inner.try_next();
        self.checked(next)
    }

    /// Ends it once it has had so many messages in all, those included that it has had already; 0 is
    /// now. The server keeps to it, over reconnects too.
    pub fn unsubscribe_after(&mut self, messages: u64) {
        self.inner.unsubscribe_after(messages);
    }

    /// Ends it in good order: when this returns, all that the server had sent for it is here, to be
    /// taken by [`Self::next`], and nothing more will come.
    pub async fn drain(&mut self, timeout: Duration) -> Result<(), NatsError> {
        self.inner.drain(timeout)
    }

    /// Why nothing will come any more, if so: a permission that is missing, its last message, the end
    /// of the connection.
    pub fn ended(&self) -> Option<&NatsError> {
        self.inner.ended()
    }

    fn checked(&self, next: Option<NatsMessage>) -> Result<Option<NatsMessage>, NatsError> {
        match (next, self.inner.ended()) {
            (None, Some(why)) => Err(why.clone()),
            (next, _) => Ok(next),
        }
    }
}
