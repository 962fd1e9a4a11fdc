//! The wire protocol: what the server says, decoded, and what a client publishes, encoded.
//!
//! A codec of our own, though there are others, since this one has to outlive its peers: a server
//! passes on what any publisher sent (reply subjects that are none, headers without a colon), and
//! none of that may end the connection of those who receive it. See `decoder.rs` for the rules; a
//! test holds it against `watermelon-proto` on everything that is well-formed.

mod decoder;
mod message;
mod outbox;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::server_error::ServerError;
use super::server_info::ServerInfo;

pub use decoder::{Decoder, OpView, DEFAULT_MAX_MESSAGE_BYTES};
pub use message::{MessageView, ServerMessage};
pub(crate) use outbox::push_decimal;
pub use outbox::{Batch, Outbox, DEFAULT_MAX_PAYLOAD};

/// What a server can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOp {
    /// A message for a subscription: to whoever delivers.
    Message(ServerMessage),
    /// Everything else: to the session.
    Control(ControlOp),
}

/// What a server can say to the session. It travels between processes, unlike a message, which
/// goes straight to its subscriber.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlOp {
    /// What the server says of itself.
    Info(Box<ServerInfo>),
    /// `+OK`, which it sends only if asked to be verbose.
    Ok,
    /// `-ERR`.
    Err(ServerError),
    /// Are you there?
    Ping,
    /// The answer to that.
    Pong,
}
