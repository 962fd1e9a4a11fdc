//! WebSocket as a client of a NATS server needs it (RFC 6455), as pure machines: the handshake,
//! what goes out, and what comes in. No extension and no subprotocol is asked for; one that a server
//! insists on is an error that names it.

mod handshake;
mod headers;
mod reader;
mod writer;

pub use handshake::{Handshake, HandshakeError};
pub use headers::{UpgradeHeaderError, UpgradeHeaders};
pub use reader::{Frame, FrameError, FrameReader};
pub use writer::FrameWriter;
