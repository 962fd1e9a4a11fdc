//! The files that a deployment is made of: what stands in them is what runs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use async_nats::ConnectOptions;
use serde_json::json;
use support::{Client, NatsServer, Node, Output, SOON, Service, free_port, project, until, wasm};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A nats-server that runs from a file of this project's, with other ports; killed when this is
/// dropped.
struct Configured {
    child: Child,
    output: Output,
    _dir: TempDir,
}

impl Configured {
    /// Gives up when the server does.
    async fn start(file: &str, changes: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        let mut server = Self::spawn(file, changes, env);
        let output = server.output.clone();
        let child = &mut server.child;
        until("nats-server is ready", SOON, || {
            let ended = child.try_wait().is_ok_and(|status| status.is_some());
            assert!(!ended, "nats-server does not run from {file}: {}", output.all());
            output.lines_with("Server is ready").pop()
        })
        .await;
        server
    }

    fn spawn(file: &str, changes: &[(&str, &str)], env: &[(&str, &str)]) -> Self {
        let mut text = std::fs::read_to_string(project(file)).expect(file);
        for (from, to) in changes {
            assert!(text.contains(from), "{file} has no {from}");
            text = text.replace(from, to);
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("nats.conf");
        std::fs::write(&config, text).expect("its configuration");
        let nats_server = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let mut command = Command::new(nats_server);
        command.arg("--config").arg(&config).env_clear().envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nats-server can be started (or set NATS_SERVER)");
        let output = Output::of(&mut child);
        Self { child, output, _dir: dir }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is answered to a GET.
async fn http_get(port: u16, path: &str) -> String {
    let mut stream =
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("the door for figures");
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("to ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test]
async fn the_server_of_the_compose_file_is_healthy_and_takes_nodes() {
    let (tcp, websocket, http) = (free_port(), free_port(), free_port());
    let store = tempfile::tempdir().expect("a directory");
    let changes = [
        ("0.0.0.0:4222", &*format!("127.0.0.1:{tcp}")),
        ("0.0.0.0:8080", &format!("127.0.0.1:{websocket}")),
        ("127.0.0.1:8222", &format!("127.0.0.1:{http}")),
        ("\"/data\"", &format!("{:?}", store.path())),
    ];
    let _server = Configured::start("deploy/nats-compose.conf", &changes, &[]).await;
    // What the file's health check asks for.
    let compose = std::fs::read_to_string(project("docker-compose.yml")).expect("the file");
    assert!(compose.contains("http://127.0.0.1:8222/healthz"));
    assert!(http_get(http, "/healthz").await.starts_with("HTTP/1.0 200"));
    assert!(http_get(http, "/jsz").await.contains("\"max_storage\""), "JetStream is on");
    let client = Client::connect(&format!("nats://127.0.0.1:{tcp}"), &ConnectOptions::new()).await;
    // By a name, as in a container's network.
    let url = format!("ws://localhost:{websocket}");
    let node = Node::builder("node-1").words(&["--nats", &url]).start(&client).await;
    assert!(node.shut_down(&client).await.starts_with("result: ok"));
}

/// A certificate for localhost, and its key.
fn certificate(dir: &Path) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (cert, key)
}

/// What a server says to a WebSocket's handshake by TLS, with its certificate checked.
fn websocket_by_tls(port: u16, cert: &Path) -> String {
    let mut openssl = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-verify_hostname", "localhost"])
        .args(["-connect", &format!("localhost:{port}"), "-CAfile"])
        .arg(cert)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    let mut stdin = openssl.stdin.take().expect("its input");
    let handshake = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\
        \r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stdin.write_all(handshake.as_bytes()).expect("to ask");
    // The server ends a connection that shows no credentials within its five seconds.
    let output = openssl.wait_with_output().expect("openssl");
    drop(stdin);
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn the_production_server_takes_tls_and_passwords_alone() {
    let (tcp, websocket, http) = (free_port(), free_port(), free_port());
    let dir = tempfile::tempdir().expect("a directory");
    let (cert, key) = certificate(dir.path());
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let env = [
        ("NATS_TLS_CERT", &*path(&cert)),
        ("NATS_TLS_KEY", &path(&key)),
        ("NATS_STORE_DIR", &path(&dir.path().join("store"))),
        ("NATS_NODE_PASSWORD", "node-77"),
        ("NATS_OPERATOR_PASSWORD", "\"77 right\""),
    ];
    let changes = [
        ("0.0.0.0:4222", &*format!("127.0.0.1:{tcp}")),
        ("0.0.0.0:8443", &format!("127.0.0.1:{websocket}")),
        ("127.0.0.1:8222", &format!("127.0.0.1:{http}")),
    ];
    let _server = Configured::start("nats-production.conf", &changes, &env).await;

    let url = format!("tls://localhost:{tcp}");
    let who = |user: &str, password: &str| {
        ConnectOptions::with_user_and_password(user.into(), password.into())
            .add_root_certificates(cert.clone())
            .require_tls(true)
    };
    let operator = Client::connect(&url, &who("operator", "77 right")).await;
    let node = Client::connect(&url, &who("node", "node-77")).await;
    let seen = operator.watch("agent.events.>").await;
    node.publish("agent.events.a1", "{}").await;
    seen.find("what a node publishes", SOON, |seen| seen.text == "{}").await;
    for refused in [who("node", "77 right"), who("nobody", "node-77"), ConnectOptions::new()] {
        let refused = refused.add_root_certificates(cert.clone()).connect(&*url).await;
        assert!(refused.is_err(), "a stranger is let in");
    }
    // Without its certificate nobody believes that it is the server.
    let trusting = ConnectOptions::with_user_and_password("node".into(), "node-77".into());
    assert!(trusting.connect(&*url).await.is_err());

    let said = websocket_by_tls(websocket, &cert);
    assert!(said.contains("101 Switching Protocols") && said.contains("INFO {"), "{said}");

    // A node that has been given no certificate does not believe it either: it lives, and says so.
    let secret = ("NATS_PASSWORD", "node-77");
    let wss = format!("wss://localhost:{websocket}");
    let node = Node::builder("n1").words(&["--nats", &wss]).env("NATS_USER", "node");
    let mut node = node.env(secret.0, secret.1).start_alone().await;
    node.says("warn part=connection nats: attempt failed", SOON).await;
    assert!(node.is_running() && !node.output().all().contains(secret.1));
    // One that has been given it does, and takes commands from who may give them.
    let node = Node::builder("n2").words(&["--nats", &wss]).env("NATS_USER", "node");
    let node = node.env(secret.0, secret.1).env("NATS_CA", &path(&cert)).start(&operator).await;
    assert!(!node.output().all().contains(secret.1));
    assert!(node.shut_down(&operator).await.starts_with("result: ok"));
}

#[tokio::test]
async fn the_production_server_does_not_start_without_its_secrets() {
    let mut server = Configured::spawn("nats-production.conf", &[], &[("NATS_TLS_KEY", "k")]);
    let child = &mut server.child;
    let status = until("it ends", SOON, || child.try_wait().ok().flatten()).await;
    assert!(!status.success());
    let output = server.output.clone();
    until("it says what is missing", SOON, || output.lines_with("'NATS_TLS_CERT'").pop()).await;
}

/// The Dockerfile's last stage: the instructions, with their words.
fn last_stage() -> Vec<(String, Vec<String>)> {
    let text = std::fs::read_to_string(project("Dockerfile")).expect("the Dockerfile");
    let text = text.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut stage = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next() {
            Some(word) if word == "FROM" => stage.clear(),
            Some(word) => stage.push((word, words.collect())),
            None => {}
        }
    }
    stage
}

/// The words of a JSON list, as in `CMD ["node"]`.
fn list(words: &[String]) -> Vec<String> {
    let text = words.join(" ");
    let list = text.find('[').map(|at| &text[at..]).unwrap_or_default();
    serde_json::from_str(list).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Lays out what the last stage copies, without the runtime, which is there already.
fn lay_out(stage: &[(String, Vec<String>)], root: &Path) {
    let ignore = std::fs::read_to_string(project(".dockerignore")).expect("the file");
    for (word, words) in stage {
        let (target, sources) = match &words[..] {
            [first, ..] if word != "COPY" || first == "--from=lunatic" => continue,
            [from, program, target] if from == "--from=program" => {
                // Built where it is built, the target has the name that it has there.
                assert!(program.ends_with("/wasm32-wasip1/release/rust-wasm-lunatic-nats.wasm"));
                (target, vec![wasm()])
            }
            [sources @ .., target] => {
                for source in sources {
                    let top = source.split('/').next().unwrap_or_default();
                    assert!(ignore.lines().any(|line| line == format!("!{top}")), "{source}");
                }
                (target, sources.iter().map(|source| project(source)).collect())
            }
            [] => continue,
        };
        for source in sources {
            let mut to = root.join(target.trim_start_matches('/'));
            if target.ends_with('/') {
                to.push(source.file_name().expect("a file"));
            }
            std::fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
            std::fs::copy(&source, &to).unwrap_or_else(|error| panic!("{source:?}: {error}"));
        }
    }
}

#[tokio::test]
async fn what_the_image_holds_runs_answers_its_health_check_and_stops() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let stage = last_stage();
    let dir = tempfile::tempdir().expect("a directory");
    lay_out(&stage, dir.path());
    let of = |wanted: &str| {
        let found = stage.iter().find(|(word, _)| word == wanted);
        found.map(|(_, words)| words.clone()).unwrap_or_else(|| panic!("no {wanted}"))
    };
    let inside = |path: &str| dir.path().join(path.trim_start_matches('/'));
    let [entrypoint] = &list(&of("ENTRYPOINT"))[..] else { panic!("one word") };
    let [check] = &list(&of("HEALTHCHECK"))[..] else { panic!("one word") };
    let data = inside("/data");
    std::fs::create_dir(&data).expect("a directory");
    let data = data.to_str().expect("UTF-8");
    let words = list(&of("CMD"));
    let words: Vec<_> = words.iter().map(|w| if w == "/data" { data } else { w }).collect();
    // As in a container: another user than root may have no home at all.
    let env = [("NODE_ID", "n1"), ("NATS_WEBSOCKET_URL", &*server.websocket_url())];
    let mut service = Service::start(&inside(entrypoint), &[], &words, &env);
    client.node_answers("n1", SOON).await;
    let file = json!({"id": "s", "agent_type": "state", "memory_backend_type": "File"});
    client.spawn(file).await;
    client.input("s", json!({"Store": {"key": "k", "value": 7}})).await;
    assert!(inside("/data/s").is_dir(), "the state is on the volume");
    let healthy = || {
        let mut check = Command::new(inside(check));
        check.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        check.envs(env).output().expect("bash").status.success()
    };
    assert!(healthy());
    assert_eq!(of("STOPSIGNAL"), ["SIGTERM"]);
    service.signal("TERM");
    assert_eq!(service.exit_status().await, Some(0));
    assert!(!healthy());
}

#[test]
fn the_image_has_the_runtime_that_the_scripts_install() {
    let read = |path: &str| std::fs::read_to_string(project(path)).expect(path);
    let version = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    let image = version(&read("Dockerfile"), "ARG LUNATIC_VERSION=");
    assert_eq!(image, version(&read("scripts/setup"), "LUNATIC_VERSION="));
}
