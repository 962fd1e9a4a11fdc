//! What stands between a node and its server in production: TLS with a CA of one's own, keys and
//! credentials in files, a proxy with a path and headers, compression.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, date_time_ymd};
use serde_json::json;
use support::{NatsServer, Node, NodeBuilder, Operator, Output, Program, SOON, free_port, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A CA, and the certificates that it gives.
struct Ca {
    pem: String,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a CA of one's own");
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name that is good until the end of a year, and its key.
    fn certificate(&self, name: &str, until: i32) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(until, 12, 31);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn good(&self) -> (String, String) {
        self.certificate("localhost", 2100)
    }
}

/// A nats-server whose WebSocket is TLS, killed when this is dropped.
struct Server {
    tcp: u16,
    websocket: u16,
    dir: TempDir,
    running: Option<(Child, Output)>,
}

impl Server {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self { tcp: free_port(), websocket: free_port(), dir, running: None }
    }

    /// Starts it anew, on the same ports, with this certificate and these lines.
    async fn run(&mut self, (certificate, key): (String, String), lines: &str) {
        self.kill();
        let (Self { tcp, websocket, .. }, dir) = (&self, self.dir.path());
        std::fs::write(dir.join("cert.pem"), certificate).expect("its certificate");
        std::fs::write(dir.join("key.pem"), key).expect("its key");
        let config = format!(
            "listen: 127.0.0.1:{tcp}\nwebsocket {{\n  listen: \"127.0.0.1:{websocket}\"\n  \
             tls {{ cert_file: {:?}, key_file: {:?} }}\n  compression: true\n}}\n{lines}\n",
            dir.join("cert.pem"),
            dir.join("key.pem")
        );
        std::fs::write(dir.join("nats.conf"), config).expect("its configuration");
        let nats_server = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let mut child = Command::new(nats_server)
            .arg("--config")
            .arg(dir.join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nats-server can be started (or set NATS_SERVER)");
        let output = Output::of(&mut child);
        self.running = Some((child, output.clone()));
        until("nats-server is ready", SOON, || output.lines_with("Server is ready").pop()).await;
    }

    fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // Gone already is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// By the name that stands in the certificate.
    fn url(&self) -> String {
        format!("wss://localhost:{}", self.websocket)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let (true, Some((_, output))) = (std::thread::panicking(), &self.running) {
            eprintln!("--- nats-server ---\n{}", output.all());
        }
        self.kill();
    }
}

/// A node in `dir` that tells each attempt, not one a minute.
fn node(dir: &Path, url: &str) -> NodeBuilder {
    let node = Node::builder("n1").dir(dir).words(&["--nats", url]);
    node.env("RUST_LOG", "rust_wasm_lunatic_nats=debug")
}

/// Waits for the next connection after `seen` of them.
async fn connected(node: &Program, seen: usize) {
    let output = node.output().clone();
    let text = "nats: connected";
    until("the next connection", SOON, || (output.lines_with(text).len() > seen).then_some(()))
        .await;
}

#[tokio::test]
async fn a_node_believes_the_ca_of_its_file_and_reads_it_anew() {
    let (ca, other) = (Ca::new(), Ca::new());
    let mut server = Server::new();
    server.run(ca.good(), "").await;
    let client =
        support::Client::connect(&format!("nats://127.0.0.1:{}", server.tcp), &Default::default())
            .await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("tls")).expect("a directory");
    let file = dir.path().join("tls/ca.pem");
    // The right one is the second.
    std::fs::write(&file, format!("# Ours\n{}\n{}", other.pem, ca.pem)).expect("the CA");
    let node = node(dir.path(), &server.url()).env("NATS_CA", "tls/ca.pem").start(&client).await;
    let large = "x".repeat(500_000);
    client.spawn(json!({"id": "e", "agent_type": "echo"})).await;
    // By TLS and beside the server's compression, which this client does not ask for.
    let answer = client.input("e", json!(large)).await;
    assert_eq!(answer, large);
    // What signs the server's next certificate is another one, and the file says so.
    std::fs::write(&file, &other.pem).expect("the CA");
    drop(client);
    server.run(other.good(), "").await;
    connected(&node, 1).await;
}

#[tokio::test]
async fn a_certificate_that_is_not_believed_is_told_and_the_node_goes_on() {
    let (ca, stranger) = (Ca::new(), Ca::new());
    let mut server = Server::new();
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("ca.pem"), &ca.pem).expect("the CA");
    server.run(stranger.good(), "").await;
    let node = node(dir.path(), &server.url()).env("NATS_CA", "ca.pem");
    let mut node = node.start_alone().await;
    let authority = format!("localhost:{}", server.websocket);
    let told = format!("the TLS handshake with {authority} failed");
    for certificate in
        [stranger.good(), ca.certificate("example.com", 2100), ca.certificate("localhost", 2020)]
    {
        server.run(certificate, "").await;
        let output = node.output().clone();
        let seen = output.lines_with(&told).len();
        let line = until("it tells, and goes on trying", SOON, || {
            let mut lines = output.lines_with(&told);
            (lines.len() > seen + 1).then(|| lines.pop()).flatten()
        })
        .await;
        for cause in ["CA that is not trusted", "the name localhost", "expired", "openssl"] {
            assert!(line.contains(cause), "{line}");
        }
        assert!(node.is_running());
    }
    assert!(node.output().lines_with("part=connection").iter().all(|line| !line.contains("panic")));
    server.run(ca.good(), "").await;
    connected(&node, 0).await;
}

#[tokio::test]
async fn a_server_that_cannot_be_dialled_by_tls_is_told_as_what_it_is() {
    let plain = NatsServer::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let port = plain.websocket_port();
    let (closed, tcp) = (free_port(), plain.tcp_port());
    let each = [
        (format!("wss://localhost:{port}"), format!("handshake with localhost:{port} failed")),
        (format!("wss://127.0.0.1:{port}"), "cannot check a certificate for an address".into()),
        (format!("wss://nobody.invalid:{port}"), "connect to nobody.invalid:".into()),
        (format!("wss://localhost:{closed}"), format!("connect to localhost:{closed}: ")),
        (format!("ws://somebody.invalid:{port}"), "connect to somebody.invalid:".into()),
        (format!("ws://127.0.0.1:{closed}"), format!("127.0.0.1:{closed}: Connection refused")),
        (format!("ws://localhost:{tcp}"), "is not HTTP".into()),
    ];
    // One node that is given all of them tries them all.
    let urls: Vec<&str> = each.iter().map(|(url, _)| &**url).collect();
    let mut node = node(dir.path(), &urls.join(",")).start_alone().await;
    let output = node.output().clone();
    for (url, told) in each {
        until(format!("{url}: {told}"), SOON, || {
            let lines = output.lines_with("attempt failed");
            lines.into_iter().find(|line| line.contains(&told))
        })
        .await;
    }
    assert!(node.is_running());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told_and_read_when_it_can() {
    let ca = Ca::new();
    let mut server = Server::new();
    server.run(ca.good(), "").await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("not/there/ca.pem");
    let node = node(dir.path(), &server.url()).env("NATS_CA", "not/there/ca.pem");
    let mut node = node.start_alone().await;
    node.says("the CA's file not/there/ca.pem: its directory is not there", SOON).await;
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
    node.says("the CA's file not/there/ca.pem: No such file", SOON).await;
    std::fs::create_dir(&file).expect("a directory");
    node.says("it is not a file", SOON).await;
    std::fs::remove_dir(&file).expect("to take it away");
    std::fs::write(&file, ca.good().1).expect("a file");
    node.says("there is no certificate in it", SOON).await;
    std::fs::write(&file, ca.pem.replace("-----END", "----END")).expect("a file");
    node.says("certificate 1 is damaged", SOON).await;
    assert!(node.is_running());
    std::fs::write(&file, &ca.pem).expect("the CA");
    connected(&node, 0).await;
}

#[tokio::test]
async fn credentials_in_a_file_are_read_anew_for_each_connection() {
    let (ca, old, new) = (Ca::new(), Operator::new(), Operator::new());
    let mut server = Server::new();
    server.run(ca.good(), old.config()).await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("ca.pem"), &ca.pem).expect("the CA");
    let (creds, seed) = old.user("u1");
    let file = dir.path().join("user.creds");
    let start = || node(dir.path(), &server.url()).env("NATS_CA", "ca.pem");
    let mut node = start().env("NATS_CREDS", "user.creds").start_alone().await;
    node.says("the credentials file user.creds: No such file", SOON).await;
    std::fs::write(&file, &creds[..creds.len() - 40]).expect("a part");
    node.says("the credentials file user.creds: the block USER NKEY SEED", SOON).await;
    std::fs::write(&file, &creds).expect("the credentials");
    connected(&node, 0).await;

    // A server that wants others, and a file that has them.
    let (creds, other_seed) = new.user("u2");
    std::fs::write(&file, creds).expect("the credentials");
    server.run(ca.good(), new.config()).await;
    connected(&node, 1).await;
    assert!(node.is_running());
    let said = node.output().all();
    assert!(!said.contains(&seed) && !said.contains(&other_seed) && !said.contains("eyJ"));
}

#[tokio::test]
async fn the_seed_of_an_nkey_is_read_anew_for_each_connection() {
    let mut server = NatsServer::stopped("");
    let users =
        |key: &KeyPair| format!("authorization {{ users: [{{ nkey: {} }}] }}", key.public_key());
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let seed = |key: &KeyPair| key.seed().expect("a seed");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("user.nk");
    std::fs::write(&file, format!("{}\n", seed(&old))).expect("the seed");
    server.set(&users(&old));
    server.run().await;
    let config = format!("[nats]\nurl = {:?}\nnkey = {file:?}\n", server.websocket_url());
    std::fs::write(dir.path().join("node.toml"), config).expect("the config");
    let node = Node::builder("n1").dir(dir.path()).words(&["--config", "node.toml"]);
    let node = node.start_alone().await;
    connected(&node, 0).await;
    server.kill();
    std::fs::write(&file, seed(&new)).expect("the seed");
    server.set(&users(&new));
    server.run().await;
    connected(&node, 1).await;
    let said = node.output().all();
    assert!(!said.contains(&seed(&old)) && !said.contains(&seed(&new)));
}

/// A proxy that passes on who asks for the right thing.
async fn proxy(to: u16, target: &'static str, header: &'static str) -> u16 {
    let port = free_port();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await?);
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                let mut lines = text.split("\r\n");
                let asked = lines.next() == Some(&*format!("GET {target} HTTP/1.1"));
                let answer = match (asked, lines.any(|line| line == header)) {
                    (false, _) => "HTTP/1.1 404 Not Found\r\n\r\n",
                    (true, false) => "HTTP/1.1 401 Unauthorized\r\n\r\n",
                    (true, true) => {
                        let mut far = TcpStream::connect(("127.0.0.1", to)).await?;
                        far.write_all(&head).await?;
                        tokio::io::copy_bidirectional(&mut near, &mut far).await?;
                        return Ok(());
                    }
                };
                near.write_all(answer.as_bytes()).await
            });
        }
    });
    port
}

#[tokio::test]
async fn a_proxy_gets_the_path_and_the_headers_that_it_wants() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let header = "Authorization: Bearer geheim-7";
    let port = proxy(server.websocket_port(), "/nats/ws?room=7", header).await;
    let dir = tempfile::tempdir().expect("a directory");
    let right = format!("ws://localhost:{port}/nats/ws?room=7");
    let headers = |value: &str| format!("headers = {{ Authorization = \"{value}\" }}\n");
    let run = |url: &str, more: &str| {
        let config = format!("[nats]\nurl = {url:?}\n{more}");
        std::fs::write(dir.path().join("node.toml"), config).expect("the config");
        Node::builder("n1").dir(dir.path()).words(&["--config", "node.toml"])
    };
    let elsewhere = format!("ws://localhost:{port}/elsewhere");
    let node = run(&elsewhere, &headers("Bearer geheim-7")).start_alone().await;
    node.says("404 Not Found", SOON).await;
    for more in [String::new(), headers("Bearer geheim-8")] {
        let node = run(&right, &more).start_alone().await;
        let line = node.says("401 Unauthorized", SOON).await;
        assert!(line.contains("upgrade headers"), "{line}");
        assert!(!node.output().all().contains("geheim"));
    }
    let node = run(&right, &headers("Bearer geheim-7")).start(&client).await;
    assert!(!node.output().all().contains("geheim") && !node.output().all().contains("room=7"));
    assert!(node.shut_down(&client).await.starts_with("result: ok"));
}
