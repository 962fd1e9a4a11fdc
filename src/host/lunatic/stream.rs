//! A TCP or TLS stream of this host, as the two processes of a connection share it.

use std::io::{self, Read, Write};
use std::time::Duration;

use ::lunatic::net::{TcpStream, TlsStream};
use serde::{Deserialize, Serialize};

use super::clock;
use crate::nats::{FrameWriter, ServerUrl};

/// A socket. Clones share it; one is sent to another process by serializing it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Stream {
    socket: Socket,
    /// What was read and is to be read again, by this handle.
    #[serde(skip)]
    unread: Vec<u8>,
}

#[derive(Clone, Serialize, Deserialize)]
enum Socket {
    Tcp(TcpStream),
    Tls(TlsStream),
}

impl Stream {
    /// Dials. A failed TLS handshake or a bad name traps the process: dial where that may happen.
    pub(super) fn connect(url: &ServerUrl, timeout: Duration) -> io::Result<Self> {
        let socket = if url.is_tls() {
            let port = u32::from(url.port());
            Socket::Tls(TlsStream::connect_timeout(url.tls_name(), timeout, port, vec![])?)
        } else {
            Socket::Tcp(TcpStream::connect_timeout(url.authority(), timeout)?)
        };
        Ok(Self { socket, unread: Vec::new() })
    }

    /// Gives `bytes` to the next reads of this handle, before what comes from the socket.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Lets reads fail that take longer. The runtime keeps it with the socket, not the handle.
    pub(super) fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(timeout),
            Socket::Tls(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Lets writes fail that take longer.
    pub(super) fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.set_write_timeout(timeout),
            Socket::Tls(stream) => stream.set_write_timeout(timeout),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let len = self.unread.len().min(buffer.len());
            buffer[..len].copy_from_slice(&self.unread[..len]);
            self.unread.drain(..len);
            return Ok(len);
        }
        match &mut self.socket {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.socket {
            Socket::Tcp(stream) => stream.flush(),
            Socket::Tls(stream) => stream.flush(),
        }
    }
}

/// The writing side of a WebSocket: each frame is one write.
pub(super) struct FrameSocket {
    stream: Stream,
    frames: FrameWriter,
}

impl FrameSocket {
    /// A write that takes longer means that the server does not read.
    const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

    pub(super) fn new(mut stream: Stream) -> Self {
        // The handle's timeouts did not travel with it.
        if let Err(error) = stream.set_write_timeout(Some(Self::WRITE_TIMEOUT)) {
            log::warn!("writes have no timeout: {error}");
        }
        let seed = u64::from_le_bytes(clock::random());
        Self { stream, frames: FrameWriter::new(seed) }
    }

    /// Writes `payload` in one binary frame.
    pub(super) fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        self.frames.push(payload);
        self.stream.write_all(self.frames.finish())?;
        self.frames.clear();
        self.stream.flush()
    }

    /// Answers a ping.
    pub(super) fn pong(&mut self, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(self.frames.pong(payload))?;
        self.frames.clear();
        self.stream.flush()
    }
}
