//! Dialling: from a server's URL to a WebSocket, within one deadline for all of it.

use std::io::{Read, Write};
use std::time::Duration;

use super::clock;
use super::stream::Stream;
use crate::nats::{Handshake, ServerUrl};
use crate::time::Instant;

/// Connects and upgrades. What the server said behind its answer is read first from the stream.
/// A failed TLS handshake traps the process: see [`Stream::connect`].
pub(super) fn dial(url: &ServerUrl, timeout: Duration) -> Result<Stream, String> {
    let deadline = clock::now() + timeout;
    let mut stream = Stream::connect(url, timeout)
        .map_err(|error| format!("cannot connect to {}: {error}", url.authority()))?;
    upgrade(&mut stream, url, deadline)
        .map_err(|error| format!("the WebSocket handshake with {}: {error}", url.authority()))?;
    Ok(stream)
}

fn upgrade(stream: &mut Stream, url: &ServerUrl, deadline: Instant) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let left = || Some(left(deadline));
    stream.set_write_timeout(left()).map_err(text)?;
    let mut handshake = Handshake::new(url, &[], clock::random());
    stream.write_all(handshake.request()).map_err(text)?;
    stream.flush().map_err(text)?;
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(left()).map_err(text)?;
        let read = match stream.read(&mut buffer).map_err(text)? {
            0 => return Err("the server closed the connection".to_owned()),
            read => &buffer[..read],
        };
        if let Some(head) = handshake.feed(read).map_err(|error| error.to_string())? {
            stream.unread(&read[head..]);
            return stream.set_read_timeout(None).map_err(text);
        }
    }
}

/// At least a millisecond: none would be no timeout to some, and an instant failure to others.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_since(clock::now()).max(Duration::from_millis(1))
}
