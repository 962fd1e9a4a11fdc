//! A nats-server of one's own.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use async_nats::ConnectOptions;
use tempfile::TempDir;

use crate::{Client, Host, Output, SOON, program};

/// A nats-server on free ports, killed when this is dropped.
#[derive(Debug)]
pub struct NatsServer {
    tcp: u16,
    websocket: u16,
    dir: TempDir,
    running: Option<(Child, Output)>,
}

impl NatsServer {
    /// Starts one without accounts.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// Starts one with more lines in its configuration.
    pub async fn with(lines: &str) -> Self {
        let mut server = Self::stopped(lines);
        server.run().await;
        server
    }

    /// One that does not run yet, on ports of its own.
    pub fn stopped(lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (tcp, websocket) = (free_port(), free_port());
        let server = Self { tcp, websocket, dir, running: None };
        server.set(lines);
        server
    }

    /// Gives it other lines, which count when it is started the next time.
    pub fn set(&self, lines: &str) {
        let (tcp, websocket) = (self.tcp, self.websocket);
        let config = format!(
            "listen: 127.0.0.1:{tcp}\n\
             websocket {{\n  listen: \"127.0.0.1:{websocket}\"\n  no_tls: true\n}}\n{lines}\n"
        );
        std::fs::write(self.dir.path().join("nats.conf"), config).expect("its configuration");
    }

    /// Starts it, on the same ports as before, and waits until it takes connections.
    pub async fn run(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut child = Command::new(program("NATS_SERVER", "nats-server"))
            .arg("--config")
            .arg(self.dir.path().join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nats-server can be started (or set NATS_SERVER)");
        let output = Output::of(&mut child);
        self.running = Some((child, output.clone()));
        crate::until("nats-server is ready", SOON, || output.lines_with("Server is ready").pop())
            .await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The port for TCP.
    pub fn tcp_port(&self) -> u16 {
        self.tcp
    }

    /// The port for WebSocket.
    pub fn websocket_port(&self) -> u16 {
        self.websocket
    }

    /// Where nodes of a host find it by default.
    pub fn url_for(&self, host: Host) -> String {
        match host {
            Host::Lunatic => self.websocket_url(),
            Host::Native => format!("nats://127.0.0.1:{}", self.tcp),
        }
    }

    /// Where nodes find it over WebSocket.
    pub fn websocket_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.websocket)
    }

    /// The port that nodes of the present test's host connect to.
    pub fn node_port(&self) -> u16 {
        match Host::current() {
            Host::Lunatic => self.websocket,
            Host::Native => self.tcp,
        }
    }

    /// The same with something before the host, such as `user:password`.
    pub fn websocket_url_as(&self, who: &str) -> String {
        format!("ws://{who}@127.0.0.1:{}", self.websocket)
    }

    /// A client over TCP.
    pub async fn client(&self) -> Client {
        self.client_with(&ConnectOptions::new()).await
    }

    /// A client over TCP that knows more, such as a password.
    pub async fn client_with(&self, options: &ConnectOptions) -> Client {
        Client::connect(&format!("nats://127.0.0.1:{}", self.tcp), options).await
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let (true, Some((_, output))) = (std::thread::panicking(), &self.running) {
            eprintln!("--- nats-server on port {} ---\n{}", self.tcp, output.tail());
        }
        self.kill();
    }
}

/// A port that nobody listens on, below those that the system hands out for outgoing connections:
/// so that nobody takes it while a server is down that comes back to it.
pub fn free_port() -> u16 {
    const RANGE: std::ops::Range<u16> = 12_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let seed = (std::process::id() as u16).wrapping_mul(7919);
    loop {
        let turn = seed.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(13));
        let port = RANGE.start + turn % (RANGE.end - RANGE.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
