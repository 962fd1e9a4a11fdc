//! A TCP or TLS stream of this host, as the two processes of a connection share it.
//!
//! The runtime's calls for sockets are made here and not by `lunatic` 0.14.1: that hands over given
//! certificates in an order in which the runtime takes them for none, and it asks for the text of an
//! error where the runtime says that the time is up and has no error, which traps.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ::lunatic::host::api::{message, networking};
use ::lunatic::LunaticError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::clock;
use super::mail::{self, Answer, NoAnswer, Waiter};
use super::sys::{self, Permissions, Pid, Received};
use crate::nats::{Certificates, FrameWriter};

/// What a call for a socket says when its time is up.
const TIMED_OUT: u32 = 9027;

/// The addresses of a `name:port`.
pub(super) fn resolve(authority: &str, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    let mut id = 0;
    // SAFETY: pointer and length are those of a live `str`, and the result is a live `u64`.
    let code = unsafe {
        networking::resolve(authority.as_ptr(), authority.len(), millis(Some(timeout)), &mut id)
    };
    checked(code, id)?;
    let mut addresses = Vec::new();
    loop {
        let (mut kind, mut ip, mut port, mut flow, mut scope) = (0, [0; 16], 0, 0, 0);
        // SAFETY: the iterator was given to this process and is dropped below; all results are live,
        // and an address has 4 or 16 bytes.
        let end = unsafe {
            let ip: *mut [u8; 16] = &mut ip;
            networking::resolve_next(id, &mut kind, ip.cast(), &mut port, &mut flow, &mut scope)
        };
        if end != 0 {
            break;
        }
        let [a, b, c, d, ..] = ip;
        let ip = match kind {
            4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(ip)),
        };
        addresses.push(SocketAddr::new(ip, port));
    }
    // SAFETY: it is not used again.
    unsafe { networking::drop_dns_iterator(id) };
    Ok(addresses)
}

/// A socket. Clones share it; one is sent to another process by serializing it.
#[derive(Serialize, Deserialize)]
pub(super) struct Stream {
    socket: Socket,
    /// What was read and is to be read again, by this handle.
    #[serde(skip)]
    unread: Vec<u8>,
}

/// A number of the runtime's, for this process alone.
struct Socket {
    id: u64,
    is_tls: bool,
    /// Whether it was put into a message, and is no longer this process's.
    moved: Cell<bool>,
}

impl Stream {
    /// Connects by TCP.
    pub(super) fn connect(to: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let (port, millis, mut id) = (u32::from(to.port()), millis(Some(timeout)), 0);
        // SAFETY: the address is a live array of as many bytes as its kind has; the result is live.
        let code = match to.ip() {
            IpAddr::V4(ip) => unsafe {
                networking::tcp_connect(4, ip.octets().as_ptr(), port, 0, 0, millis, &mut id)
            },
            IpAddr::V6(ip) => unsafe {
                networking::tcp_connect(6, ip.octets().as_ptr(), port, 0, 0, millis, &mut id)
            },
        };
        Self::of(code, id, false)
    }

    /// Connects by TLS to whatever has that name, and believes it if its certificate is from `roots`;
    /// if there are none, from those that browsers know. A handshake that fails traps the process,
    /// and one that the server does not answer waits for ever: do it where both may happen.
    pub(super) fn connect_tls(
        name: &str,
        port: u16,
        roots: Option<&Certificates>,
        timeout: Duration,
    ) -> io::Result<Self> {
        let roots: Vec<(*const u8, usize)> =
            roots.iter().flat_map(|roots| roots.iter()).map(|r| (r.as_ptr(), r.len())).collect();
        // As the runtime wants them: pairs of pointer and length.
        let roots: Vec<u32> =
            roots.into_iter().flat_map(|(at, len)| [at as usize as u32, len as u32]).collect();
        let mut id = 0;
        // SAFETY: the pointers and lengths are those of live texts, and the result is live.
        let code = unsafe {
            networking::tls_connect(
                name.as_ptr(),
                name.len() as u32,
                u32::from(port),
                millis(Some(timeout)),
                &mut id,
                roots.as_ptr().cast(),
                roots.len() as u32 / 2,
            )
        };
        Self::of(code, id, true)
    }

    fn of(code: u32, id: u64, is_tls: bool) -> io::Result<Self> {
        checked(code, id)?;
        let socket = Socket { id, is_tls, moved: Cell::new(false) };
        Ok(Self { socket, unread: Vec::new() })
    }

    /// Gives `bytes` to the next reads of this handle, before what comes from the socket.
    pub(super) fn unread(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Lets reads fail that take longer. The runtime keeps it with the socket, not the handle.
    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) {
        let (id, millis) = (self.socket.id, millis(timeout));
        // SAFETY: the socket is this process's.
        match self.socket.is_tls {
            false => unsafe { networking::set_read_timeout(id, millis) },
            true => unsafe { networking::set_tls_read_timeout(id, millis) },
        }
    }

    /// Lets writes fail that take longer.
    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) {
        let (id, millis) = (self.socket.id, millis(timeout));
        // SAFETY: the socket is this process's.
        match self.socket.is_tls {
            false => unsafe { networking::set_write_timeout(id, millis) },
            true => unsafe { networking::set_tls_write_timeout(id, millis) },
        }
    }
}

impl Clone for Stream {
    /// Without what is to be read again.
    fn clone(&self) -> Self {
        let Socket { id, is_tls, .. } = self.socket;
        // SAFETY: the socket is this process's.
        let id = match is_tls {
            false => unsafe { networking::clone_tcp_stream(id) },
            true => unsafe { networking::clone_tls_stream(id) },
        };
        let socket = Socket { id, is_tls, moved: Cell::new(false) };
        Self { socket, unread: Vec::new() }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.moved.get() {
            return;
        }
        // SAFETY: the socket is this process's, and is not used again.
        match self.is_tls {
            false => unsafe { networking::drop_tcp_stream(self.id) },
            true => unsafe { networking::drop_tls_stream(self.id) },
        }
    }
}

impl Serialize for Socket {
    /// Puts it into the message that is being made, and writes its place there.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.moved.replace(true), "a handle is sent once, and then is not this process's");
        // SAFETY: the socket is this process's, and there is a message: nothing else serializes it.
        let place = match self.is_tls {
            false => unsafe { message::push_tcp_stream(self.id) },
            true => unsafe { message::push_tls_stream(self.id) },
        };
        (place, self.is_tls).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Socket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (place, is_tls) = <(u64, bool)>::deserialize(deserializer)?;
        // SAFETY: whoever sent this put a socket of that kind there.
        let id = match is_tls {
            false => unsafe { message::take_tcp_stream(place) },
            true => unsafe { message::take_tls_stream(place) },
        };
        Ok(Self { id, is_tls, moved: Cell::new(false) })
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
        let (id, at, len, mut read) = (self.socket.id, buffer.as_mut_ptr(), buffer.len(), 0);
        // SAFETY: the socket is this process's, and the buffer and the result are live.
        let code = match self.socket.is_tls {
            false => unsafe { networking::tcp_read(id, at, len, &mut read) },
            true => unsafe { networking::tls_read(id, at, len, &mut read) },
        };
        checked(code, read)?;
        Ok(read as usize)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // As WASI has a list of one slice.
        let (id, slices, mut wrote) =
            (self.socket.id, [bytes.as_ptr() as usize as u32, bytes.len() as u32], 0);
        // SAFETY: the socket is this process's, and the bytes, the list and the result are live.
        let code = match self.socket.is_tls {
            false => unsafe { networking::tcp_write_vectored(id, slices.as_ptr(), 1, &mut wrote) },
            true => unsafe { networking::tls_write_vectored(id, slices.as_ptr(), 1, &mut wrote) },
        };
        checked(code, wrote)?;
        Ok(wrote as usize)
    }

    /// TLS keeps back what the socket did not take at once. This waits without a bound.
    fn flush(&mut self) -> io::Result<()> {
        if !self.socket.is_tls {
            return Ok(());
        }
        let mut error = 0;
        // SAFETY: the socket is this process's, and the result is live.
        let code = unsafe { networking::tls_flush(self.socket.id, &mut error) };
        checked(code, error)
    }
}

/// What a call's code says; `id` is that of an error, if it is one.
fn checked(code: u32, id: u64) -> io::Result<()> {
    match code {
        0 => Ok(()),
        TIMED_OUT => Err(timed_out()),
        _ => Err(io::Error::other(LunaticError::Error(id).to_string())),
    }
}

fn timed_out() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "it took too long")
}

fn millis(timeout: Option<Duration>) -> u64 {
    let millis = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX - 1);
    timeout.map_or(u64::MAX, |timeout| millis(timeout).max(1))
}

/// The writing side of a WebSocket: each frame is one write.
pub(super) struct FrameSocket {
    stream: Stream,
    frames: FrameWriter,
    /// Who sees to it that what TLS keeps back is sent.
    flusher: Option<Pid>,
}

impl FrameSocket {
    /// A write that takes longer means that the server does not read.
    const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

    pub(super) fn new(stream: Stream) -> Self {
        stream.set_write_timeout(Some(Self::WRITE_TIMEOUT));
        let flusher = stream.socket.is_tls.then(|| Self::start_flusher(&stream)).flatten();
        let seed = u64::from_le_bytes(clock::random());
        Self { stream, frames: FrameWriter::new(seed), flusher }
    }

    fn start_flusher(stream: &Stream) -> Option<Pid> {
        // Its own memory, and nothing that grows.
        const MAX_MEMORY: u64 = 16 << 20;
        let permissions = Permissions::none().map(|none| none.max_memory(MAX_MEMORY))?;
        // Linked, so that it ends with this process; without it, a flush is made here.
        let pid = sys::spawn(&permissions, Some(mail::new_tag()), flusher).ok()?;
        mail::start(pid, &stream.clone());
        Some(pid)
    }

    /// Adds to the binary frame that is written next; gives how long it is.
    pub(super) fn push(&mut self, payload: &[u8]) -> usize {
        self.frames.push(payload);
        self.frames.len()
    }

    /// Whether nothing was pushed.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Writes what was pushed, if anything, in one binary frame.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if self.frames.is_empty() {
            return Ok(());
        }
        self.stream.write_all(self.frames.finish())?;
        self.frames.clear();
        self.flush()
    }

    /// Answers a ping.
    pub(super) fn pong(&mut self, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(self.frames.pong(payload))?;
        self.frames.clear();
        self.flush()
    }

    /// The runtime's flush has no timeout: where a server does not read, somebody else waits for it.
    fn flush(&mut self) -> io::Result<()> {
        let Some(flusher) = self.flusher else { return self.stream.flush() };
        let flushed = mail::request(flusher, Some(Self::WRITE_TIMEOUT), |waiter| waiter);
        flushed.map(drop).map_err(|error| match error {
            NoAnswer::TimedOut => timed_out(),
            NoAnswer::Refused { message, .. } => io::Error::other(message),
            NoAnswer::Died | NoAnswer::Garbled => io::Error::other("who flushes died"),
        })
    }
}

impl Drop for FrameSocket {
    fn drop(&mut self) {
        if let Some(flusher) = self.flusher {
            sys::kill(flusher);
        }
    }
}

/// The entry of the process that flushes a TLS stream whenever it is asked to.
fn flusher() {
    let mut stream: Stream = mail::first();
    let mut buffer = Vec::new();
    loop {
        if sys::receive(&[], None) != Received::Message {
            continue;
        }
        sys::read_message(&mut buffer);
        let Ok(waiter) = postcard::from_bytes::<Waiter>(&buffer) else { continue };
        match stream.flush() {
            Ok(()) => mail::answer(waiter, &Answer::Ok(&[])),
            Err(error) => {
                let message = &error.to_string();
                mail::answer(waiter, &Answer::Err { code: "io", message });
            }
        }
    }
}
