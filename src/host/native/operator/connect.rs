//! The connection to NATS.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::args::Common;
use super::failure::Failure;
use super::harmless::harmless;
use crate::config::NatsUrls;

/// A connection, and what has become of it.
pub(super) struct Connection {
    pub(super) client: async_nats::Client,
    /// Where it goes, without what is secret in it.
    pub(super) url: String,
    /// What was told of it last; whoever shows it for long waits for changes.
    pub(super) state: watch::Receiver<State>,
}

/// What has become of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Whether it is lost, and being made again.
    pub(super) lost: bool,
    /// What the server complained about last, such as a missing permission.
    pub(super) complaint: Option<String>,
    /// Messages that were dropped since they were not taken in time: at least so many.
    pub(super) dropped: u64,
}

impl State {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Connected => self.lost = false,
            Event::Disconnected | Event::Closed => self.lost = true,
            Event::SlowConsumer(_) => self.dropped = self.dropped.saturating_add(1),
            Event::ServerError(error) => self.complaint = Some(harmless(&error.to_string(), 300)),
            Event::ClientError(_) | Event::LameDuckMode | Event::Draining => {}
        }
    }
}

/// Where NATS is if nobody says so.
const DEFAULT_URL: &str = "nats://localhost:4222";

/// Messages that can wait to be looked at; those beyond are dropped and counted. Worst case: so many
/// of the server's `max_payload`; events of nodes have about 1 KiB, which is 8 MiB.
const WAITING: usize = 8192;

/// Connects, within the time that an answer may take.
pub(super) async fn connect(
    common: &Common,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Connection, Failure> {
    let variable = |name| env(name).filter(|value| !value.is_empty());
    let given = common.nats.clone().or_else(|| variable("NATS_URL"));
    let urls = given.unwrap_or_else(|| DEFAULT_URL.to_owned());
    let shown = NatsUrls::new(urls.as_str())
        .ok_or_else(|| Failure::usage("--nats is empty, and must be a URL, or several"))?
        .to_string();
    let servers: Vec<ServerAddr> = urls
        .split(',')
        .map(|url| url.trim().parse())
        .collect::<Result<_, _>>()
        .map_err(|_| Failure::usage(format!("{shown} is no URL of a NATS server")))?;
    let (tell, state) = watch::channel(State::default());
    let tell = Arc::new(tell);
    let options = ConnectOptions::new()
        .name(concat!(env!("CARGO_PKG_NAME"), " operator"))
        .connection_timeout(common.timeout().max(Duration::from_millis(1)))
        .subscription_capacity(WAITING)
        .event_callback(move |event| {
            let tell = Arc::clone(&tell);
            async move {
                tell.send_modify(|state| state.take(&event));
            }
        });
    let client = options.connect(servers).await.map_err(|error| refused(&shown, &error))?;
    Ok(Connection { client, url: shown, state })
}

fn refused(url: &str, error: &async_nats::ConnectError) -> Failure {
    let reason = harmless(&error.to_string(), 300);
    match error.kind() {
        ConnectErrorKind::ServerParse => Failure::usage(format!("{url}: {reason}")),
        ConnectErrorKind::Authentication
        | ConnectErrorKind::AuthorizationViolation
        | ConnectErrorKind::Tls => Failure::not_let_in(url, &reason),
        _ => Failure::no_server(url, &reason),
    }
}
