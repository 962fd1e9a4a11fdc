//! The native host's NATS client: async-nats, with our bounds, delays, credentials and requests.
//!
//! ```no_run
//! use rust_wasm_lunatic_nats::{NatsConfig, NatsConnection, NatsPublisher};
//!
//! # async fn example() -> rust_wasm_lunatic_nats::Result<()> {
//! let nats = NatsConnection::new(NatsConfig::default()).await?;
//! let mut events = nats.subscribe("global.events").await?;
//! nats.publish_json("global.events", &[1, 2, 3]).await?;
//! while let Some(message) = events.next().await {
//!     println!("{}: {} bytes", message.subject(), message.payload().len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It has the calls of the WebSocket client on Lunatic (`wasm_nats`), and behaves as that one does: it
//! connects when there is a server, keeps what is published meanwhile up to a bound, tries its servers
//! in turn with delays that grow and differ, and never shows a secret.
//!
//! # What async-nats does not do by itself
//! | what | here |
//! | --- | --- |
//! | credentials in a URL | taken out of it, and shown to that server only and to those that it tells of |
//! | credentials in files that change | read anew for each connection |
//! | a bound in bytes | each payload counts itself until it is written ([`NatsConfig::max_pending_bytes`]) |
//! | a publish without a server | refused at once when the bound is reached, not waiting for ever |
//! | requests without an answer | leave nothing behind, are bounded, and learn at once of a connection that broke and of a missing permission |
//! | jitter, and other servers when one refuses | [`NatsConfig::reconnect`] |
//! | a server that is about to go | is left before it goes, if another is known |
//! | an end of its attempts | when the connection is dropped, drained, or has tried as often as it may |
//!
//! # What it leaves open
//! - How many PINGs may be unanswered: 2.
//! - Headers of a WebSocket's upgrade request; servers that are told of over WebSocket.
//! - Servers that join a cluster later: a server tells of those that it knows when one connects.
//! - The order of different headers of a message that comes.
//! - Messages that the server sends between a drain and its word on it.
//!
//! # Bounds
//! | what | bound and default | when it is reached |
//! | --- | --- | --- |
//! | publishes without a connection | [`NatsConfig::max_pending_bytes`]: 8 MiB, [`NatsConfig::max_pending_messages`]: 65,536 | [`NatsError::Refused`] |
//! | publishes that the socket has not taken | 8 MiB, 65,536 messages | publishes wait, or [`NatsError::Busy`] |
//! | one publish | the server's `max_payload`: 1 MiB | [`NatsError::Invalid`] |
//! | unanswered requests | [`NatsConfig::max_requests`]: 16,384 | [`NatsError::TooManyRequests`] |
//! | answers to one request that wait | 1,024 | dropped and counted |
//! | messages that wait for a subscriber | [`SubscribeOptions`]: 65,536, 8 MiB | dropped and counted, [`Event::SlowConsumer`] |
//! | subscriptions | 65,536 | [`NatsError::TooManySubscriptions`] |
//! | events that wait for one who watches | 1,024 | [`NatsEvents::missed`] |
//! | servers | 64 configured, 64 advertised | [`UrlError::Count`]; the others are not tried |
//! | files with credentials, with CAs | 64 KiB, 1 MiB | [`NatsError::File`] |
//!
//! What is published with [`NatsConnection::client`] is bounded by async-nats' queue alone.

mod auth;
mod config;
mod connection;
mod dialing;
mod error;
mod event;
mod message;
mod pending;
mod requests;
mod shared;
mod subscription;
mod url;

pub use config::{AuthFile, NatsConfig};
pub use connection::{NatsConnection, WhenBusy};
pub use error::{NatsError, UrlError};
pub use event::{ConnectionState, ConnectionStats, Event, NatsEvents};
pub use subscription::{SubscribeOptions, Subscription};

pub use crate::nats::{Auth, Headers, NatsPublisher, ReconnectDelays, RequestMany};

use crate::config::NatsClient;

/// This client, for who loads a node's config: [`NodeConfig::load`](crate::NodeConfig::load).
pub const CLIENT: NatsClient = NatsClient::tcp(url::check);
