//! `docs/WASM_NATS_GUIDE.md` is what happens: its files are written, its commands run in their order,
//! its programs are those of `tests/consumer`, and each text that it shows was printed.
//!
//! What a block is for stands behind its language: `file=NAME` is written (of Rust: is part of that
//! program), `run` is run to its end, `serve` goes on until the next one of the same program, and
//! `elsewhere` is nothing for here. A block of `text` has lines that the command before it prints,
//! in which `…` stands for anything. The ports are replaced by free ones.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use async_nats::HeaderMap;
use futures_util::StreamExt;
use nkeys::KeyPair;
use serde_json::json;
use support::{
    NatsServer, Node, Operator, Output, SOON, consumer, free_port, project_file, until, wasm,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const GUIDE: &str = "docs/WASM_NATS_GUIDE.md";

/// A block between fences: its language, what it is for, and what stands in it.
struct Block {
    language: String,
    purpose: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let guide = project_file(GUIDE);
    let mut blocks = Vec::new();
    for (at, part) in guide.split("```").enumerate() {
        if at % 2 == 1 && part.contains('\n') {
            let (info, text) = part.split_once('\n').expect("a line after the fence");
            let (language, purpose) = info.split_once(' ').unwrap_or((info, ""));
            let (language, purpose) = (language.to_owned(), purpose.to_owned());
            blocks.push(Block { language, purpose, text: text.to_owned() });
        }
    }
    blocks
}

/// The texts in the first column of the tables of what goes wrong, for one test.
fn symptoms(test: &str) -> Vec<String> {
    let guide = project_file(GUIDE);
    let rows = guide.lines().filter(|line| line.ends_with(&format!("| `{test}` |")));
    let texts = rows.filter_map(|row| row.strip_prefix("| `")?.split_once("` |"));
    texts.map(|(text, _)| text.to_owned()).collect()
}

/// Whether `line` has the parts of `pattern` that stand between `…`, in their order.
fn shows(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    pattern.split('…').all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

/// Waits until each of the patterns was printed.
async fn all_shown(output: &Output, patterns: &[String]) {
    assert!(!patterns.is_empty(), "the guide says something about it");
    for pattern in patterns {
        let shown = || output.all().lines().any(|line| shows(line, pattern)).then_some(());
        until(format!("a line with {pattern:?}"), SOON, shown).await;
    }
}

/// A command of a shell with all that it starts, killed when this is dropped.
struct Running {
    child: Child,
    output: Output,
}

impl Running {
    fn new(command: &str, dir: &Path) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell.args(["-euc", command]).current_dir(dir).env_clear();
        shell.env("PATH", format!("{}:{path}", dir.join("bin").display()));
        shell.env("RUST_LIB_BACKTRACE", "0").env("TOKIO_WORKER_THREADS", "4");
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.process_group(0).spawn().expect("a shell");
        let output = Output::of(&mut child);
        Self { child, output }
    }

    /// A nats-server with these lines, that runs.
    async fn server(dir: &Path, name: &str, lines: &str) -> Self {
        std::fs::write(dir.join(name), lines).expect("its config");
        let server = Self::new(&format!("exec nats-server -c {name}"), dir);
        all_shown(&server.output, &["Server is ready".to_owned()]).await;
        server
    }

    /// Sends all of it a signal.
    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        // Gone already is as good.
        let _ =
            Command::new("kill").args(["-s", name, "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- a command ---\n{}", self.output.all());
        }
    }
}

/// A directory with the programs that the guide speaks of.
fn directory() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("bin")).expect("a directory");
    for (variable, name) in [("NATS_SERVER", "nats-server"), ("LUNATIC", "lunatic")] {
        // A mere name is found by the PATH.
        let program = std::env::var_os(variable).map(std::fs::canonicalize);
        if let Some(Ok(program)) = program {
            std::os::unix::fs::symlink(program, dir.path().join("bin").join(name)).expect("a link");
        }
    }
    let programs = ["guide_agent", "guide_client", "guide_connection", "guide_errors"];
    let programs = programs.map(|name| (format!("{name}.wasm"), consumer(name)));
    for (name, file) in programs.into_iter().chain([("node.wasm".to_owned(), wasm())]) {
        std::os::unix::fs::symlink(file, dir.path().join(name)).expect("a link");
    }
    dir
}

/// What `nk` and `nsc` make, who are not on every machine.
fn keys_and_credentials(dir: &Path) {
    let user = KeyPair::new_user();
    let seed = user.seed().expect("a seed");
    let operator = Operator::new();
    let files = [
        ("user.nk", seed),
        ("user.pub", user.public_key()),
        ("accounts.conf", operator.config().to_owned()),
        ("user.creds", operator.user("shop").0),
    ];
    for (name, text) in files {
        std::fs::write(dir.join(name), text).expect("a file");
    }
}

#[tokio::test]
async fn what_the_guide_says_is_what_happens() {
    let dir = directory();
    let dir = dir.path();
    keys_and_credentials(dir);
    const PORTS: [&str; 4] = ["4222", "8080", "8443", "8222"];
    // None that has one of the guide's in it, since they are replaced one after the other.
    let mut free = std::iter::repeat_with(|| free_port().to_string())
        .filter(|free| PORTS.iter().all(|port| !free.contains(port)));
    let ports = PORTS.map(|port| (port, free.next().expect("there is always another one")));
    let replaced = |text: &str| {
        let text = text.replace("0.0.0.0", "127.0.0.1");
        ports.iter().fold(text, |text, (port, free)| text.replace(port, free))
    };
    let production = replaced(&project_file("nats-production.conf"));
    std::fs::write(dir.join("nats-production.conf"), production).expect("a file");
    let mut served = BTreeMap::new();
    let mut last = Output::default();
    for Block { language, purpose, text } in blocks() {
        let text = replaced(&text);
        match (&*language, purpose.split_once('=')) {
            ("rust", Some(("file", _))) => {}
            ("conf" | "toml", Some(("file", name))) => {
                std::fs::write(dir.join(name), text).expect("a file");
            }
            ("text", None) => {
                let lines: Vec<_> = text.lines().map(str::to_owned).collect();
                all_shown(&last, &lines).await;
            }
            ("sh", _) if purpose == "run" => {
                // A program of its own finds the server as the guide's reader would: by its default.
                let url = format!("NATS_WEBSOCKET_URL=ws://localhost:{}", ports[1].1);
                let run = text.replace("lunatic run guide", &format!("{url} lunatic run guide"));
                let mut run = Running::new(&run, dir);
                last = run.output.clone();
                let child = &mut run.child;
                let status = until(text.as_str(), SOON * 2, || child.try_wait().ok().flatten());
                assert!(status.await.success(), "{text}");
            }
            ("sh", _) if purpose == "serve" => {
                let program =
                    ["nats-server", "lunatic"].into_iter().find(|name| text.contains(name));
                let program = program.expect("one of the two");
                // First the old one goes, which has the ports.
                served.remove(program);
                let serve = Running::new(&text, dir);
                last = serve.output.clone();
                served.insert(program, serve);
            }
            (_, None) if purpose == "elsewhere" => {}
            _ => panic!("```{language} {purpose}: nobody knows what it is for"),
        }
    }
    // What the programs print is in the guide once; some of it stands in the tables, too.
    let guide = project_file(GUIDE);
    for symptom in symptoms("guide") {
        assert_eq!(guide.matches(&symptom).count(), 2, "{symptom}");
    }
}

#[test]
fn the_programs_of_the_guide_are_those_that_are_built() {
    let shown = blocks().into_iter().filter(|block| block.language == "rust");
    let mut count = 0;
    for Block { purpose, text, .. } in shown {
        let name = purpose.strip_prefix("file=").expect("a file");
        let program = project_file(&format!("tests/consumer/src/bin/{name}"));
        assert!(program.contains(&text), "{name} has no\n{text}");
        count += 1;
    }
    assert!(count > 5);
}

#[test]
fn each_row_of_what_goes_wrong_has_its_test() {
    let guide = project_file(GUIDE);
    let (_, section) = guide.split_once("\n## 7.").expect("the section");
    let (section, _) = section.split_once("\n## 8.").expect("the next one");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).collect();
    let known = ["attempts", "errors", "guide", "outages", "twins"];
    for row in &rows {
        let test = row.trim_end_matches(" |").rsplit_once("| ").map(|(_, test)| test);
        let test = test.unwrap_or_default().trim_matches('`');
        let is_head = test == "test" || row.starts_with("| ---");
        assert!(is_head || known.contains(&test), "{row}");
    }
    assert!(rows.len() > 20);
}

#[tokio::test]
async fn the_agent_of_the_guide_answers_orders() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = Node::program(&["node"]).wasm(consumer("guide_agent")).env("NODE_ID", "n1");
    let node = node.env("NATS_WEBSOCKET_URL", &server.websocket_url()).run();
    node.says("ready: node=n1 ", SOON).await;
    client.node_answers("n1", SOON).await;
    let mut prices = client.nats().subscribe("prices").await.expect("a subscription");
    let notes = client.watch("notes").await;
    client.spawn(json!({"id": "ann", "agent_type": "clerk"})).await;
    // Its subscription is there when it answers, which comes behind it.
    assert_eq!(client.input("ann", json!("tea")).await, "noted");
    notes.find("the note", SOON, |seen| seen.text == "\"tea\"").await;
    let asker = client.nats().clone();
    let order = tokio::spawn(async move { asker.request("orders.17", "tea".into()).await });
    let asked = prices.next().await.expect("a question");
    assert_eq!(asked.payload, "tea");
    let to = asked.reply.expect("where to answer");
    client.publish(&to, "12").await;
    let answer = order.await.expect("no panic").expect("an answer");
    assert_eq!(answer.payload, "12");
    let clerk = |headers: HeaderMap| headers.get("Clerk").map(|value| value.as_str().to_owned());
    assert_eq!(answer.headers.and_then(clerk), Some("ann".to_owned()));
}

#[tokio::test]
async fn the_process_of_the_guide_uses_the_nodes_connection() {
    let server = NatsServer::start().await;
    let client = Node::program(&[]).wasm(consumer("guide_client"));
    let client = client.env("NATS_WEBSOCKET_URL", &server.websocket_url()).run();
    client.says("\"by the node's connection\"", SOON).await;
    client.says("\"payload\":7", SOON).await;
}

fn reason(status: &str) -> &'static str {
    match status {
        "401" => "Unauthorized",
        "403" => "Forbidden",
        _ => "Not Found",
    }
}

/// A proxy that lets nobody pass: the status is the last part of the path. Who asks for `/silence`
/// hears nothing.
async fn proxy() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                match head.split(['/', ' ']).nth(2) {
                    // Until the other side has enough of it.
                    Some("silence") => stream.read_u8().await.map(drop),
                    Some(status) => {
                        let answer = format!("HTTP/1.1 {status} {}\r\n\r\n", reason(status));
                        stream.write_all(answer.as_bytes()).await
                    }
                    None => Ok(()),
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn attempts_that_fail_are_told_as_the_guide_says() {
    let (plain, proxy, closed) = (NatsServer::start().await, proxy().await, free_port());
    let guarded = NatsServer::with("authorization { user: ann, password: right }").await;
    let (tcp, websocket) = (plain.tcp_port(), plain.websocket_port());
    let urls = [
        format!("ws://localhost:{closed}"),
        format!("ws://nobody.invalid:{websocket}"),
        format!("ws://localhost:{tcp}"),
        format!("ws://localhost:{proxy}/401"),
        format!("ws://localhost:{proxy}/403"),
        format!("ws://localhost:{proxy}/404"),
        format!("ws://localhost:{proxy}/silence"),
        format!("wss://localhost:{websocket}"),
        format!("wss://127.0.0.1:{websocket}"),
        guarded.websocket_url_as("ann:wrong"),
    ];
    let config = format!("[nats]\nurl = \"{}\"\nconnect_timeout_ms = 2000\n", urls.join(","));
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("node.toml"), config).expect("its config");
    let node = Node::builder("n1").dir(dir.path()).words(&["--config", "node.toml"]);
    // Each attempt, and not one a minute.
    let node = node.env("RUST_LOG", "rust_wasm_lunatic_nats=debug").start_alone().await;
    all_shown(node.output(), &symptoms("attempts")).await;
}

#[tokio::test]
async fn calls_that_are_refused_say_what_the_guide_says() {
    let dir = directory();
    let (tcp, websocket) = (free_port(), free_port());
    let lines = format!(
        "listen: \"127.0.0.1:{tcp}\"\nwebsocket {{ listen: \"127.0.0.1:{websocket}\", no_tls: true }}\n\
         max_payload: 64KB\nauthorization {{ users: [{{ user: guest, password: tee, permissions: {{\n\
         publish: [\"open\"], subscribe: [\"open\", \"_INBOX.>\"] }} }}] }}\n"
    );
    let server = Running::server(dir.path(), "limits.conf", &lines).await;
    let url = format!("NATS_WEBSOCKET_URL=ws://guest:tee@localhost:{websocket}");
    let errors = Running::new(&format!("{url} exec lunatic run guide_errors.wasm"), dir.path());
    let output = errors.output.clone();
    let says = |text: &'static str| {
        let output = output.clone();
        async move { until(text, SOON, || output.lines_with(text).pop()).await }
    };
    says("stop the server").await;
    server.signal("STOP");
    says("end the server").await;
    server.signal("KILL");
    says("full: ").await;
    all_shown(&errors.output, &symptoms("errors")).await;
}

#[tokio::test]
async fn outages_are_told_as_the_guide_says() {
    let dir = directory();
    let servers = [1, 2].map(|number| (format!("{number}.conf"), free_port(), free_port()));
    let run = async |at: usize| {
        let (name, tcp, websocket) = &servers[at];
        let websocket = format!("websocket {{ listen: \"127.0.0.1:{websocket}\", no_tls: true }}");
        let lines = format!("listen: \"127.0.0.1:{tcp}\"\n{websocket}\n");
        Running::server(dir.path(), name, &lines).await
    };
    let first = run(0).await;
    let urls = servers.each_ref().map(|(_, _, websocket)| format!("ws://127.0.0.1:{websocket}"));
    let node = Node::builder("n1").words(&["--nats", &urls.join(",")]).start_alone().await;
    node.says("nats: connected", SOON).await;
    drop(first);
    node.says("nats: disconnected", SOON).await;
    let first = run(0).await;
    node.says("reconnects=1", SOON).await;
    let _second = run(1).await;
    first.signal("USR2");
    all_shown(node.output(), &symptoms("outages")).await;
}

#[tokio::test]
async fn two_nodes_of_one_name_both_answer_and_the_second_says_so() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let nodes = [Node::on(&server, &client, "n1").await, Node::on(&server, &client, "n1").await];
    all_shown(nodes[1].output(), &symptoms("twins")).await;
    assert_eq!(nodes[0].output().lines_with("another node"), [""; 0], "it was alone");
    let inbox = client.nats().new_inbox();
    let mut answers = client.nats().subscribe(inbox.clone()).await.expect("a subscription");
    // The second one may still be on its way when the first one answers: then the next time.
    for attempt in 0.. {
        let asked =
            client.nats().publish_with_reply("system.control.n1", inbox.clone(), "\"Ping\"".into());
        asked.await.expect("a question");
        let two = async { (answers.next().await, answers.next().await) };
        if let Ok((Some(_), Some(_))) = tokio::time::timeout(SOON / 10, two).await {
            break;
        }
        assert!(attempt < 10, "only one answers");
    }
}
