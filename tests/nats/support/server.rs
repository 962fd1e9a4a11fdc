//! A nats-server of one's own, for a thread that waits for it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use async_nats::ConnectOptions;
use support::{Output, free_port};
use tempfile::TempDir;

use crate::{Peer, until};

/// A nats-server on free ports, killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    tcp: u16,
    websocket: u16,
    dir: TempDir,
    running: Option<(Child, Output)>,
}

impl Server {
    /// Starts one without accounts.
    pub fn start() -> Self {
        Self::with("")
    }

    /// Starts one with more lines in its configuration.
    pub fn with(lines: &str) -> Self {
        Self::with_websocket("", lines)
    }

    /// Starts one with more lines in the `websocket` block, and more in its configuration.
    pub fn with_websocket(websocket_lines: &str, lines: &str) -> Self {
        let mut server = Self::stopped(websocket_lines, lines);
        server.run();
        server
    }

    /// One that does not run yet, on ports of its own.
    pub fn stopped(websocket_lines: &str, lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let server = Self { tcp: free_port(), websocket: free_port(), dir, running: None };
        server.set(websocket_lines, lines);
        server
    }

    /// Gives it other lines, which count when it is started the next time or told to reload.
    pub fn set(&self, websocket_lines: &str, lines: &str) {
        let Self { tcp, websocket, .. } = self;
        let config = format!(
            "listen: 127.0.0.1:{tcp}\nwebsocket {{\n  listen: \"127.0.0.1:{websocket}\"\n  \
             no_tls: true\n  {websocket_lines}\n}}\n{lines}\n"
        );
        std::fs::write(self.config(), config).expect("its configuration");
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("nats.conf")
    }

    /// A directory that lives as long as it does.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it, on the same ports as before, and waits until it takes connections.
    #[track_caller]
    pub fn run(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        let mut child = Command::new(program())
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nats-server can be started (or set NATS_SERVER)");
        let output = Output::of(&mut child);
        self.running = Some((child, output.clone()));
        until("nats-server is ready", || output.lines_with("Server is ready").pop());
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `nats-server --signal`, such as `ldm` for lame duck mode or `reload`.
    pub fn signal(&self, what: &str) {
        let (child, _) = self.running.as_ref().expect("it runs");
        let status = Command::new(program())
            .arg("--signal")
            .arg(format!("{what}={}", child.id()))
            .status()
            .expect("nats-server can be started");
        assert!(status.success(), "{what}: {status}");
    }

    /// What it has printed.
    pub fn output(&self) -> &Output {
        &self.running.as_ref().expect("it runs").1
    }

    /// The port for TCP.
    pub fn tcp_port(&self) -> u16 {
        self.tcp
    }

    /// The port for WebSocket.
    pub fn websocket_port(&self) -> u16 {
        self.websocket
    }

    /// Where our client finds it.
    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.websocket)
    }

    /// The same with something before the host, such as `user:password`.
    pub fn url_as(&self, who: &str) -> String {
        format!("ws://{who}@127.0.0.1:{}", self.websocket)
    }

    /// Where clients over TCP find it.
    pub fn tcp_url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.tcp)
    }

    /// Another client library, over TCP.
    pub fn peer(&self) -> Peer {
        Peer::connect(&self.tcp_url(), ConnectOptions::new())
    }

    /// The same as this user.
    pub fn peer_as(&self, user: &str, password: &str) -> Peer {
        let options = ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
        Peer::connect(&self.tcp_url(), options)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let (true, Some((_, output))) = (std::thread::panicking(), &self.running) {
            eprintln!("--- nats-server on port {} ---\n{}", self.tcp, output.all());
        }
        self.kill();
    }
}

/// Two servers that know each other.
#[derive(Debug)]
pub struct Cluster {
    /// Both.
    pub servers: [Server; 2],
}

impl Cluster {
    /// Starts them, and waits until they have found each other.
    pub fn start(lines: &str) -> Self {
        let ports = [free_port(), free_port()];
        let servers = [0, 1].map(|this| {
            let (own, other) = (ports[this], ports[1 - this]);
            Server::with(&format!(
                "server_name: s{this}\n\
                 cluster {{\n  name: c\n  listen: 127.0.0.1:{own}\n  \
                 routes: [\"nats://127.0.0.1:{other}\"]\n}}\n{lines}"
            ))
        });
        for server in &servers {
            until("the servers have found each other", || {
                server.output().lines_with("Route connection created").pop()
            });
        }
        Self { servers }
    }
}

fn program() -> PathBuf {
    std::env::var_os("NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from)
}
