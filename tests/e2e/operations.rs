//! What an operator meets: bad settings, a full or vanished disk, a server that cannot be trusted,
//! stopping, upgrading. `docs/OPERATIONS.md` says what to do about each.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Failed, NatsServer, Node, Output, SOON, Service, script, until, wasm, wasm_local};

/// A run that ends by itself takes as long as the runtime takes to compile the program.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a good machine has.
const GOOD: &str = "cores=2 max_map_count=65530 open_files=1024 address_space_kb=unlimited";

fn warnings(output: &Output) -> Vec<String> {
    output.stderr().into_iter().filter(|line| is_warning(line)).collect()
}

/// Whether a line of the log is one: the level stands behind the time.
fn is_warning(line: &str) -> bool {
    line.split(' ').nth(1) == Some("warn")
}

#[tokio::test]
async fn each_bad_setting_is_told_once_with_its_cost_and_its_remedy() {
    let bad = "cores=8 max_map_count=30000 open_files=20 address_space_kb=900000000 \
        memory_kb=256000 colour=red";
    let node = Node::builder("n1").wasm(wasm_local()).without_env("RUST_LIB_BACKTRACE");
    let node = node.env("RUST_BACKTRACE", "1").env("NODE_SURROUNDINGS", bad);
    let node = node.start_alone().await;
    let expected: [[&str; 3]; 7] = [
        ["RUST_BACKTRACE is \"1\"", "40 times slower", "set RUST_LIB_BACKTRACE=0"],
        ["TOKIO_WORKER_THREADS is 4, on 8 cores", "no agent runs", "TOKIO_WORKER_THREADS=10"],
        ["vm.max_map_count is 30000", "about 4214 agents of the 8000", "sysctl -w"],
        ["limited to 900000000 kB", "about 97 agents of the 8000", "ulimit -v unlimited"],
        ["there are 256000 kB of memory", "kills the whole node", "--max-agents"],
        ["at most 20 files", "about 10", "ulimit -n 1024"],
        ["NODE_SURROUNDINGS has \"colour=red\"", "says nothing", "NAME=NUMBER"],
    ];
    let told = warnings(node.output());
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for words in expected {
        let one = told.iter().filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(one.count(), 1, "{words:?} in {told:#?}");
    }
}

#[tokio::test]
async fn good_settings_are_not_talked_about() {
    // A backtrace of a panic is no harm while the runtime's own are off.
    let node = Node::builder("n1").wasm(wasm_local()).env("RUST_BACKTRACE", "1");
    let node = node.env("NODE_SURROUNDINGS", GOOD).start_alone().await;
    assert_eq!(warnings(node.output()), [""; 0]);
}

#[tokio::test]
async fn a_runtime_without_spare_threads_is_told_of() {
    let node = Node::builder("n1").wasm(wasm_local()).without_env("TOKIO_WORKER_THREADS");
    let node = node.start_alone().await;
    let told = warnings(node.output());
    assert!(told.len() == 1 && told[0].contains("TOKIO_WORKER_THREADS is not set"), "{told:#?}");
}

#[tokio::test]
async fn what_the_machine_tells_itself_is_seen_where_it_is_granted() {
    let node = Node::builder("n1").wasm(wasm_local()).grant("/proc");
    // Nothing can be written there, not even by root.
    let node = node.under(&["prlimit", "--nofile=50"]).words(&["--data-dir", "/proc/sys"]);
    let node = node.start_alone().await;
    let told = warnings(node.output());
    let has = |text: &str| told.iter().any(|line| line.contains(text));
    assert!(has("at most 50 files may be open"), "{told:#?}");
    assert!(has("nothing can be written into the data directory \"/proc/sys\""), "{told:#?}");
    assert_eq!(told.len(), 2, "{told:#?}");
}

#[tokio::test]
async fn a_data_directory_out_of_reach_is_an_error_that_says_what_to_do() {
    let mut run =
        Node::program(&["node", "--data-dir", "/nowhere/at/all"]).wasm(wasm_local()).run();
    let result = run.result(PATIENCE).await;
    assert!(result.starts_with("result: failed "), "{result}");
    assert!(result.contains("/nowhere/at/all") && result.contains("lunatic run --dir"), "{result}");
}

/// Stores a text of so many KB, and gives the answer.
async fn store(client: &support::Client, key: &str, kilobytes: usize) -> Result<Value, Failed> {
    let value = "x".repeat(kilobytes * 1024);
    let body = json!({"Store": {"key": key, "value": value}}).to_string();
    client.try_request("agent.input.s", body, SOON).await
}

#[tokio::test]
async fn a_full_disk_is_an_error_for_who_stores_and_no_end() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let dir = tempfile::tempdir().expect("a directory");
    // A disk of half a megabyte, in a mount namespace of the node's own.
    let mount = "mount -t tmpfs -o size=512k full data && exec \"$@\"";
    let private = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"];
    let can = Command::new(private[0]).args(&private[1..3]).arg("true").status();
    if !can.is_ok_and(|status| status.success()) {
        println!("skipped: this machine allows no mounts of one's own");
        return;
    }
    std::fs::create_dir(dir.path().join("data")).expect("a directory");
    let node = Node::builder("n1").nats(&server).dir(dir.path()).under(&private);
    let node = node.start(&client).await;
    client.spawn(json!({"id": "s", "agent_type": "state", "memory_backend_type": "File"})).await;
    let stored = store(&client, "small", 100).await.expect("an answer");
    assert_eq!(stored["payload"], Value::Null, "{stored}");
    let refused = store(&client, "large", 500).await.expect("an answer");
    let message = refused["Err"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("cannot write"), "{refused}");
    // What was there is there, and there is room for what fits.
    let kept = client.input("s", json!({"Get": {"key": "small"}})).await;
    assert_eq!(kept.as_str().map(str::len), Some(100 * 1024));
    let stored = store(&client, "fits", 100).await.expect("an answer");
    assert_eq!(stored["payload"], Value::Null, "{stored}");
    assert_eq!(client.agent("s").await["incarnation"], 1);
    assert!(node.shut_down(&client).await.starts_with("result: ok"));
}

#[tokio::test]
async fn a_server_that_cannot_be_dialled_traps_nobody_but_who_dials() {
    let server = NatsServer::start().await;
    let urls = [
        // Plain WebSocket behind a URL that says TLS: the handshake fails, and a host call with it.
        format!("wss://localhost:{}", server.websocket_port()),
        // A name that nobody has.
        "ws://nobody.invalid:8080".to_owned(),
    ];
    for url in urls {
        let mut node = Node::builder("n1").words(&["--nats", &url]).start_alone().await;
        let output = node.output().clone();
        let failures = || output.lines_with("nats: ").iter().filter(|l| is_warning(l)).count();
        until("it tells that it cannot connect", SOON, || (failures() >= 1).then_some(())).await;
        assert!(node.is_running(), "{url}");
        assert!(output.lines_with("child=").is_empty(), "{url}: no part of the node died");
    }
}

/// The node as a service.
fn start_service(server: &NatsServer, under: &[&str], words: &[&str]) -> Service {
    let wasm = wasm();
    let env = [
        ("PREBUILT_WASM", wasm.to_str().expect("a path in UTF-8")),
        ("NATS_WEBSOCKET_URL", &server.websocket_url()),
    ];
    Service::start(&script("entrypoint"), under, words, &env)
}

fn data_dir_flag(dir: &Path) -> String {
    format!("--data-dir={}", dir.display())
}

#[tokio::test]
async fn a_service_is_stopped_by_a_signal_and_upgraded_with_its_state() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let dir = tempfile::tempdir().expect("a directory");
    let words = ["--node-id", "n1", &data_dir_flag(dir.path())];
    let file = json!({"id": "s", "agent_type": "state", "memory_backend_type": "File"});

    let mut first = start_service(&server, &[], &words);
    client.node_answers("n1", PATIENCE).await;
    client.spawn(file.clone()).await;
    client.input("s", json!({"Store": {"key": "k", "value": 7}})).await;
    // The directory is taken: a second store would remove what the first is about to rename.
    let mut second = start_service(&server, &[], &["--node-id", "n2", words[2]]);
    assert_eq!(second.exit_status().await, Some(1));
    second.says("another node on this machine uses the data directory").await;

    first.signal("TERM");
    assert_eq!(first.exit_status().await, Some(0));
    first.says("result: ok stopped=1 killed=0").await;

    let mut upgraded = start_service(&server, &[], &words);
    client.node_answers("n1", PATIENCE).await;
    client.spawn(file).await;
    assert_eq!(client.input("s", json!({"Get": {"key": "k"}})).await, 7);
    upgraded.signal("TERM");
    assert_eq!(upgraded.exit_status().await, Some(0));
}

#[tokio::test]
async fn a_service_tells_the_node_of_the_machines_limits_and_how_it_went() {
    let server = NatsServer::start().await;
    let mut service = start_service(&server, &["prlimit", "--nofile=50"], &["--node-id", "a.b"]);
    // The runtime's own exit status is 0 whatever happens.
    assert_eq!(service.exit_status().await, Some(1));
    let dir = tempfile::tempdir().expect("a directory");
    let words = ["--node-id", "n1", &data_dir_flag(dir.path())];
    let mut service = start_service(&server, &["prlimit", "--nofile=50"], &words);
    service.says("warn part=main at most 50 files may be open").await;
    service.says("ready").await;
    assert_eq!(warnings(service.output()).len(), 1, "{}", service.output().all());
    service.signal("TERM");
    assert_eq!(service.exit_status().await, Some(0));
}

#[tokio::test]
async fn a_service_that_is_killed_leaves_nothing_running() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let dir = tempfile::tempdir().expect("a directory");
    let mut service = start_service(&server, &[], &["--node-id", "n1", &data_dir_flag(dir.path())]);
    client.node_answers("n1", PATIENCE).await;
    service.signal("KILL");
    assert_eq!(service.exit_status().await, None);
    let deadline = std::time::Instant::now() + SOON;
    let ping = || client.try_request("system.control.n1", "\"Ping\"", Duration::from_secs(1));
    while ping().await != Err(Failed::NoResponders) {
        assert!(std::time::Instant::now() < deadline, "the runtime outlives its script");
    }
}

#[tokio::test]
async fn the_health_check_tells_a_node_that_answers_from_one_that_does_not() {
    let lines = "authorization { user: ann, password: \"a\\\"b\\\\c%\" }";
    let server = NatsServer::with(lines).await;
    let options =
        async_nats::ConnectOptions::with_user_and_password("ann".into(), "a\"b\\c%".into());
    let client = server.client_with(&options).await;
    let credentials = [("NATS_USER", "ann"), ("NATS_PASSWORD", "a\"b\\c%")];
    let mut node = Node::builder("n1").nats(&server);
    for (name, value) in credentials {
        node = node.env(name, value);
    }
    let mut node = node.start(&client).await;
    let check = |id: &str, password: &str| {
        let mut command = Command::new(script("healthcheck"));
        command.env("NATS_WEBSOCKET_URL", server.websocket_url()).env("NODE_ID", id);
        command.env("NATS_USER", "ann").env("NATS_PASSWORD", password);
        let output = command.output().expect("bash");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check("n1", credentials[1].1), (true, String::new()));
    let (well, reason) = check("n2", credentials[1].1);
    assert!(!well && reason.contains("the node n2 does not answer"), "{reason}");
    let (well, reason) = check("n1", "wrong");
    assert!(!well && reason.contains("does not answer") && !reason.contains("wrong"), "{reason}");
    node.kill();
    let (well, _) = check("n1", credentials[1].1);
    assert!(!well);
}
