//! A connection to NATS of one's own, over WebSocket: without a node, or beside the node's.
//!
//! Its process starts with [`WasmNatsConnection::new`] and ends with the connection, or with the
//! process that made it. An agent may not start processes: it uses the node's connection, by
//! `ctx.publish`, `ctx.nats_request` and `ctx.subscribe`.
//!
//! The futures here are ready at once: what waits suspends the process. A plain `main` runs them
//! with [`run_ready`](crate::agent::run_ready).

use std::fmt;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

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

pub use super::client::{NatsError, NatsMessage};
pub use NatsPublisher as WasmNatsPublisher;

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
    /// Headers of the WebSocket's upgrade request, which proxies ask for; at most 64 and 8 KiB. Their
    /// values are never shown. Default: none.
    pub headers: Vec<(String, Secret)>,
}

impl Default for WasmNatsConfig {
    fn default() -> Self {
        Self {
            websocket_url: "ws://localhost:8080".to_owned(),
            timeout: Duration::from_secs(5),
            max_reconnects: None,
            reconnect_delay: Duration::from_millis(500),
            auth: Auth::None,
            name: None,
            ca: None,
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
            // Who waits for `new` wants to know.
            retry_on_failed_connect: false,
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
/// kept, up to 65,536 messages and 8 MiB; beyond it, publishing is an error. To drop it closes it:
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
    /// error.
    pub async fn new(config: WasmNatsConfig) -> Result<Self, NatsError> {
        let dial = config.dial()?;
        let pid = connection::start_own(config.session()?, dial).map_err(NatsError::Process)?;
        let state = State { client: Client::of_own(pid), stats: WasmConnectionStats::default() };
        let connection = Self { pid, state: Mutex::new(state) };
        // The session gives up by itself.
        match mail::request(pid, None, |waiter| Mail::AwaitUp { waiter }) {
            Ok(_) => Ok(connection),
            Err(NoAnswer::Refused { message, .. }) => Err(NatsError::Connect(message)),
            Err(error) => Err(client::refused(error)),
        }
    }

    /// Publishes.
    pub async fn publish(&self, subject: &str, data: &[u8]) -> Result<(), NatsError> {
        self.publish_with_reply(subject, None, data)
    }

    /// Publishes, and says where answers are expected.
    pub async fn publish_request(
        &self,
        subject: &str,
        reply: &str,
        data: &[u8],
    ) -> Result<(), NatsError> {
        self.publish_with_reply(subject, Some(reply), data)
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

    /// Subscribes to a subject, with wildcards if it has any.
    pub async fn subscribe(&self, subject: &str) -> Result<Subscription, NatsError> {
        let inner = self.state().client.subscribe(subject, None)?;
        Ok(Subscription { inner })
    }

    /// Subscribes as one of a queue group, of which each message goes to one.
    pub async fn queue_subscribe(
        &self,
        subject: &str,
        queue_group: &str,
    ) -> Result<Subscription, NatsError> {
        let inner = self.state().client.subscribe(subject, Some(queue_group))?;
        Ok(Subscription { inner })
    }

    /// Waits until the server has everything that was published, at most for `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Result<(), NatsError> {
        self.state().client.flush_to_server(timeout)
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

    fn publish_with_reply(
        &self,
        subject: &str,
        reply: Option<&str>,
        data: &[u8],
    ) -> Result<(), NatsError> {
        let client = &mut self.state().client;
        client.publish(subject, reply, data)?;
        client.flush()
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

/// What publishes to NATS, and so can publish JSON.
pub trait NatsPublisher: Sync {
    /// Publishes.
    fn publish_bytes(
        &self,
        subject: &str,
        data: &[u8],
    ) -> impl Future<Output = Result<(), NatsError>> + Send;

    /// Publishes a value as JSON.
    fn publish_json<T: Serialize + Sync + ?Sized>(
        &self,
        subject: &str,
        data: &T,
    ) -> impl Future<Output = Result<(), NatsError>> + Send {
        async move {
            let json =
                serde_json::to_vec(data).map_err(|error| NatsError::Json(error.to_string()))?;
            self.publish_bytes(subject, &json).await
        }
    }
}

impl NatsPublisher for WasmNatsConnection {
    async fn publish_bytes(&self, subject: &str, data: &[u8]) -> Result<(), NatsError> {
        self.publish(subject, data).await
    }
}

/// What comes on a subject, for the process that subscribed. Dropping it unsubscribes.
///
/// Messages wait in the mailbox of the process, which has no bound of its own: look at them.
#[derive(Debug)]
pub struct Subscription {
    inner: client::Subscription,
}

impl Subscription {
    /// The next message; waits for it. `None` once the connection has ended for good.
    pub async fn next(&mut self) -> Option<NatsMessage> {
        self.inner.next(None)
    }

    /// The next message; waits for it, at most for `timeout`, which gives `Ok(None)`.
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

    fn checked(&self, next: Option<NatsMessage>) -> Result<Option<NatsMessage>, NatsError> {
        match (next, self.inner.ended()) {
            (None, Some(why)) => Err(why.clone()),
            (next, _) => Ok(next),
        }
    }
}
