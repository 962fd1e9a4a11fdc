//! A TCP or TLS stream of this host, as the two processes of a connection share it.

use std::io::{self, Read, Write};
use std::time::Duration;

use ::lunatic::net::{TcpStream, TlsStream};
use serde::{Deserialize, Serialize};

use crate::nats::ServerUrl;

/// A socket. Clones share it; one is sent to another process by serializing it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(TlsStream),
}

impl Stream {
    /// Dials. A failed TLS handshake or a bad name traps the process: dial where that may happen.
    pub(super) fn connect(url: &ServerUrl, timeout: Duration) -> io::Result<Self> {
        if url.is_tls() {
            let port = u32::from(url.port());
            Ok(Self::Tls(TlsStream::connect_timeout(url.tls_name(), timeout, port, vec![])?))
        } else {
            Ok(Self::Tcp(TcpStream::connect_timeout(url.authority(), timeout)?))
        }
    }

    /// Lets reads fail that take longer. The runtime keeps it with the socket, not the handle.
    pub(super) fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(timeout),
            Self::Tls(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// Lets writes fail that take longer.
    pub(super) fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_write_timeout(timeout),
            Self::Tls(stream) => stream.set_write_timeout(timeout),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
