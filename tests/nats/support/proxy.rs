//! A bad network between a client and a server.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// Where a connection is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// In which direction the bytes are counted.
    pub way: Way,
    /// After so many, exactly: both directions end.
    pub after: usize,
}

/// Passes TCP connections on, badly if told so. Ends them all when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// One for each of the next connections.
    cuts: Mutex<VecDeque<Cut>>,
    bytewise: AtomicBool,
    refuses: AtomicBool,
    over: AtomicBool,
    /// What a request has to be; others are answered with 403 or 404.
    wanted: Option<Wanted>,
    accepted: AtomicUsize,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Wanted {
    target: String,
    header: String,
}

#[derive(Debug)]
struct Connection {
    near: TcpStream,
    far: TcpStream,
    frozen: [AtomicBool; 2],
    over: AtomicBool,
}

impl Proxy {
    /// One to a port of this machine, which passes everything on.
    pub fn to(port: u16) -> Self {
        Self::with_cuts(port, [])
    }

    /// One that cuts the first connection as the first of `cuts` says, and so on; it does nothing to
    /// those that come after.
    pub fn with_cuts(port: u16, cuts: impl IntoIterator<Item = Cut>) -> Self {
        let cuts = Mutex::new(cuts.into_iter().collect());
        Self::with(port, State { cuts, ..State::default() })
    }

    fn with(port: u16, state: State) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let own = listener.local_addr().expect("its address").port();
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                if shared.over.load(SeqCst) {
                    return;
                }
                if let Ok(near) = near {
                    accept(near, port, &shared);
                }
            }
        });
        Self { port: own, state }
    }

    /// One that passes on what asks for `target`, which is a path with a query, and has the line
    /// `header`; to the server it looks as if the path had been `/`.
    pub fn at_path(port: u16, target: &str, header: &str) -> Self {
        let wanted = Wanted { target: target.to_owned(), header: header.to_owned() };
        Self::with(port, State { wanted: Some(wanted), ..State::default() })
    }

    /// Where a client finds the server behind it.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// How many connections are still to be cut.
    pub fn cuts_left(&self) -> usize {
        self.state.cuts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many connections there were, those that it refused included.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(SeqCst)
    }

    /// From now on each byte is a write of its own.
    pub fn bytewise(&self) {
        self.state.bytewise.store(true, SeqCst);
    }

    /// Passes nothing on any more in these directions, on the connections that there are. They stay
    /// open, and never come back to life.
    pub fn freeze(&self, ways: &[Way]) {
        for connection in self.connections().iter() {
            for way in ways {
                connection.frozen[*way as usize].store(true, SeqCst);
            }
        }
    }

    /// Ends the connections there are.
    pub fn cut(&self) {
        for connection in self.connections().drain(..) {
            connection.end();
        }
    }

    /// Whether it throws out who connects.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, SeqCst);
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Connection>>> {
        self.state.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, SeqCst);
        self.cut();
        // Who listens is woken up by one more connection.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Connection {
    fn end(&self) {
        self.over.store(true, SeqCst);
        for stream in [&self.near, &self.far] {
            // The other side may have ended it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(near: TcpStream, port: u16, state: &Arc<State>) {
    state.accepted.fetch_add(1, SeqCst);
    if state.refuses.load(SeqCst) {
        return;
    }
    let cut = state.cuts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    // Without a server there is nothing to pass on.
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("a socket");
    }
    if state.wanted.as_ref().is_some_and(|wanted| rewrite(&near, &far, wanted).is_err()) {
        return;
    }
    let connection = Arc::new(Connection {
        near,
        far,
        frozen: Default::default(),
        over: AtomicBool::new(false),
    });
    let mut connections = state.connections.lock().unwrap_or_else(PoisonError::into_inner);
    connections.retain(|connection| !connection.over.load(SeqCst));
    connections.push(Arc::clone(&connection));
    for way in [Way::Up, Way::Down] {
        let limit = cut.filter(|cut| cut.way == way).map(|cut| cut.after);
        let (connection, state) = (Arc::clone(&connection), Arc::clone(state));
        std::thread::spawn(move || {
            // A socket that breaks ends the connection, as its end does.
            let _ = pump(&connection, way, limit, &state);
            connection.end();
        });
    }
}

/// Reads the head of a request. If it is as wanted, the server gets it as one for `/`.
fn rewrite(mut near: &TcpStream, mut far: &TcpStream, wanted: &Wanted) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        near.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    let mut refuse = |status: &str| {
        near.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
        Err(std::io::ErrorKind::InvalidInput.into())
    };
    let first = format!("GET {} HTTP/1.1\r\n", wanted.target);
    let Some(rest) = head.strip_prefix(&first) else { return refuse("404 Not Found") };
    if !rest.lines().any(|line| line == wanted.header) {
        return refuse("403 Forbidden");
    }
    far.write_all(b"GET / HTTP/1.1\r\n")?;
    far.write_all(rest.as_bytes())
}

fn pump(
    connection: &Connection,
    way: Way,
    mut limit: Option<usize>,
    state: &State,
) -> std::io::Result<()> {
    let (mut from, mut to) = match way {
        Way::Up => (&connection.near, &connection.far),
        Way::Down => (&connection.far, &connection.near),
    };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if limit == Some(0) {
            return Ok(());
        }
        let most = limit.unwrap_or(buffer.len()).min(buffer.len());
        let read = from.read(&mut buffer[..most])?;
        while connection.frozen[way as usize].load(SeqCst) {
            if connection.over.load(SeqCst) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        if read == 0 {
            return Ok(());
        }
        limit = limit.map(|limit| limit - read);
        let step = if state.bytewise.load(SeqCst) { 1 } else { read };
        for part in buffer[..read].chunks(step) {
            to.write_all(part)?;
        }
    }
}
