//! Our own NATS client: protocol and session as pure machines; a host gives them a socket.
//!
//! Nothing in here reads a clock, draws a random number or touches a socket. There are three parts,
//! and a host puts them together as suits it (one process, a reader and an owner process, threads):
//!
//! - [`Decoder`] turns the bytes that arrive, however they are cut, into [`ServerOp`]s:
//!   [`ServerMessage`]s for subscribers and [`ControlOp`]s for the session.
//! - [`Outbox`] turns publishes into protocol bytes, and refuses what could not be sent before one
//!   byte of it is encoded. Whoever publishes has one; the session takes its batches as they are.
//! - [`Session`] is the connection: handshake, subscriptions, requests, reconnects, keep-alive,
//!   buffers, drain.
//!
//! ```text
//!            bytes                ControlOp, ServerMessage            Dial, Write, Disconnect
//! socket ──────────▶ Decoder ───────────────────────────▶ Session ─────────────────────────▶ socket
//!                                      Outbox ── Batch ──────▲ │
//!                                                             └──▶ Event, Deliver, Response, …
//! ```
//!
//! # The loop and its invariant
//! The session changes when it is told a fact ([`Session::handle_input`]) or given a command
//! (`subscribe`, `publish`, `flush`, `close`, …). **After every change the host takes outputs until
//! it gets [`Output::Wait`]**, does them in that order, and then waits for the next fact, at the
//! latest until the instant that `Wait` names, when it hands in [`Input::Tick`].
//!
//! Each [`Output::Dial`] has a number; everything that a transport reports carries the number of
//! its dial, and what comes from any other than the present one is ignored. So a host may abandon
//! a transport without waiting for its end, and a reader that is late does no harm.
//!
//! ```
//! use std::time::Duration;
//! use rust_wasm_lunatic_nats::nats::{Input, Output, Session, SessionConfig};
//! use rust_wasm_lunatic_nats::time::Instant;
//!
//! let config = SessionConfig::for_server("ws://localhost:8080")?;
//! let mut session = Session::new(config, 7, Instant::START)?;
//! let Output::Dial { dial, server, .. } = session.poll_output() else { panic!("it dials first") };
//! assert_eq!(server.to_string(), "ws://localhost:8080/");
//! assert!(matches!(session.poll_output(), Output::Wait(Some(_))));
//!
//! let now = Instant::from_start(Duration::from_millis(3));
//! session.handle_input(now, Input::DialFailed { dial, reason: "connection refused".into() });
//! assert!(matches!(session.poll_output(), Output::Event(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Delivery
//! Core NATS is at most once. What was given out as [`Output::Write`] when a transport broke is
//! not written again; what was not yet given out, and what is published while there is no
//! connection, waits in a bounded buffer and goes out in order after the next handshake. What does
//! not fit is an error at the call.
//!
//! # Credentials
//! [`Auth`] is what the session was given last. A host that has them in a file reads the file anew
//! at each [`Output::Dial`] and hands them in with [`Session::set_auth`], at any time until it hands
//! in the server's first INFO: so rotated ones are used. A file that cannot be read just then is
//! reason to go on with the old ones; one that is damaged ([`Auth::from_creds`] says so) as well.
//! Credentials are tried again for ever unless `max_auth_failures` says otherwise; what a server
//! takes back (expired, revoked) ends the connection, and the next one is tried at once.
//!
//! # Bounds
//! | what | bound and default | worst case in memory | when it is reached |
//! | --- | --- | --- | --- |
//! | publishes of one owner | [`Outbox::with_max_bytes`]: 8 MiB | 16 MiB, while it grows | [`OutboxError::Full`] |
//! | one publish | the server's `max_payload`: 1 MiB | part of that | [`OutboxError::TooLarge`] |
//! | publishes without a connection | `max_pending_bytes`: 8 MiB, `max_pending_messages`: 65,536 | 12 MiB | [`PublishError::BufferFull`] |
//! | publishes that the host has not taken | `max_unwritten_bytes`: 8 MiB | 8 MiB and one batch | [`PublishError::BufferFull`] |
//! | one message that comes | [`Decoder::new`]: 8 MiB | 16.5 MiB, while it grows | [`DecodeError::MessageTooLarge`] |
//! | one control line that comes | 128 KiB, an INFO too | part of that | [`DecodeError::LineTooLong`] |
//! | what is fed before it is taken out | one message and one line | part of that | [`DecodeError::Backlog`] |
//! | subscriptions | `max_subscriptions`: 65,536 | 140 MB with the longest subjects, 10 MB with short ones | [`SubscribeError::TooMany`] |
//! | unanswered requests | `max_requests`: 16,384 | 20 MB with the longest subjects, 3 MB with short ones | [`RequestRefused::TooMany`] |
//! | answers to one request | [`RequestMany::max_messages`]: 10,000 | none here: each is handed on | [`GatherEnd::Count`] |
//! | unanswered flushes | 1,024 | 64 KiB | [`FlushError::TooMany`] |
//! | servers | 64 configured, 64 advertised | 1.1 MB, with URLs of 4 KiB | [`InvalidConfig::OutOfRange`], `ignored` in [`Event::DiscoveredServers`] |
//! | credentials | [`Auth::MAX_CREDENTIALS_LEN`]: 64 KiB | 128 KiB, and 64 KiB in the CONNECT | [`AuthError::TooLong`] |
//! | an error of the server | 4 KiB of its text | 4 KiB each | the rest is cut off |
//! | unanswered PINGs | `max_pings_out`: 2 | nothing | [`DisconnectReason::Stale`] |
//!
//! What is not in the table does not wait: outputs are taken after every change, and what belongs to
//! a connection goes with it.

mod auth;
mod certificates;
mod codec;
mod config;
mod error;
mod inbox;
mod publisher;
mod request_many;
pub(crate) mod rng;
pub(crate) mod server_error;
mod server_info;
pub(crate) mod session;
pub(crate) mod url;
mod websocket;

pub use auth::AuthError;
#[allow(unused_imports, reason = "for a host with another client")]
pub(crate) use auth::Signed;
pub use certificates::{CertificateError, Certificates};
pub use codec::{
    Batch, ControlOp, Decoder, MessageView, OpView, Outbox, ServerMessage, ServerOp,
    DEFAULT_MAX_MESSAGE_BYTES, DEFAULT_MAX_PAYLOAD,
};
pub use config::{Auth, ReconnectDelays, SessionConfig};
pub use error::{
    DecodeError, FlushError, InvalidConfig, OutboxError, PublishError, RequestError,
    RequestRefused, SubscribeError, UrlError,
};
// The rules of subjects are the core's; what the client's own API is made of is found here too.
pub use crate::message::{
    HeaderError, Headers, InvalidSubject, QueueGroup, StatusCode, Subject, SubjectPattern,
    SubjectRule,
};
pub use inbox::Inbox;
pub use publisher::NatsPublisher;
pub use request_many::{Gather, GatherEnd, Gathering, RequestMany};
pub use server_error::{Operation, PermissionViolation, ServerError};
pub use server_info::ServerInfo;
pub use session::{
    CloseReason, DisconnectReason, Event, Input, Output, RequestId, Session, Stats, Status,
};
pub use url::ServerUrl;
pub use websocket::{
    Frame, FrameError, FrameReader, FrameWriter, Handshake, HandshakeError, UpgradeHeaderError,
    UpgradeHeaders,
};
