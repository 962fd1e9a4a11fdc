//! What an agent keeps in files is there again, whatever was killed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Client, NatsServer, Node, SOON, until};

support::on_each_host! {
    a_crash_leaves_what_is_in_files_and_takes_what_is_in_memory: native cannot "a task has no memory of its own that could be limited",
    a_killed_node_is_followed_by_one_that_knows_the_same,
    a_kill_at_any_moment_leaves_the_old_value_or_the_new_one,
    a_corrupt_file_is_reported_and_set_aside,
}

async fn get(client: &Client, agent: &str, key: &str) -> Value {
    client.input(agent, json!({"Get": {"key": key}})).await
}

async fn store(client: &Client, agent: &str, key: &str, value: Value) {
    client.input(agent, json!({"Store": {"key": key, "value": value}})).await;
}

/// Has a `state` agent with little memory die: parsed, this body is fifty times as large.
async fn exhaust(client: &Client, agent: &str) {
    let recoveries = client.watch(&format!("supervision.recovery.{agent}")).await;
    let body = format!("[{}0]", "{\"\":0},".repeat(50_000));
    client.publish(&format!("agent.input.{agent}"), body).await;
    recoveries.wait("Recovery", agent, 1, SOON).await;
}

async fn a_crash_leaves_what_is_in_files_and_takes_what_is_in_memory() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = Node::on(&server, &client, "n1").await;
    for backend in ["File", "InMemory"] {
        client
            .spawn(json!({"id": backend, "memory_backend_type": backend, "max_memory_mb": 8}))
            .await;
        for (key, value) in
            [("a", json!({"deep": [1, null, "ä"]})), ("b/ä c", json!(null)), ("gone", json!(1))]
        {
            store(&client, backend, key, value).await;
        }
        assert_eq!(client.input(backend, json!({"Delete": {"key": "gone"}})).await, true);
        assert_eq!(client.input(backend, json!("List")).await, json!(["a", "b/ä c"]));
        exhaust(&client, backend).await;
        assert_eq!(client.agent(backend).await["restarts"], 1);
    }
    assert_eq!(client.input("File", json!("List")).await, json!(["a", "b/ä c"]));
    assert_eq!(get(&client, "File", "a").await, json!({"deep": [1, null, "ä"]}));
    assert_eq!(client.input("InMemory", json!("List")).await, json!([]), "a fresh start");
    node.says("agent=InMemory incarnation=2 restarted with an empty state", SOON).await;
}

async fn a_killed_node_is_followed_by_one_that_knows_the_same() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let home = tempfile::tempdir().expect("a directory");
    let big = "x".repeat(300_000);
    let config = json!({"id": "s", "memory_backend_type": "File"});
    {
        let mut node = Node::builder("n1").nats(&server).dir(home.path()).start(&client).await;
        client.spawn(config.clone()).await;
        store(&client, "s", "k", json!("old")).await;
        store(&client, "s", "k", json!(["new"])).await;
        store(&client, "s", "big", json!(big)).await;
        node.kill();
    }
    let node = Node::builder("n2").nats(&server).dir(home.path()).start(&client).await;
    let unknown = client.try_request("agent.input.s", "1", SOON).await;
    assert_eq!(unknown, Err(support::Failed::NoResponders), "it has to be spawned again");
    client.spawn(config).await;
    assert_eq!(get(&client, "s", "k").await, json!(["new"]));
    assert_eq!(get(&client, "s", "big").await, json!(big));
    assert!(node.shut_down(&client).await.starts_with("result: ok"));
}

/// One key, as its only writer knows it.
#[derive(Debug, Default)]
struct Key {
    acknowledged: AtomicU64,
    sent: AtomicU64,
}

fn value_of(number: u64) -> Value {
    // Of many sizes, so that some take more than one write.
    let pad = "x".repeat((number * 7919 % 40_000) as usize);
    json!({"n": number, "pad": pad})
}

async fn a_kill_at_any_moment_leaves_the_old_value_or_the_new_one() {
    const ROUNDS: u64 = 20;
    let server = NatsServer::start().await;
    let client = server.client().await;
    let home = tempfile::tempdir().expect("a directory");
    let keys: Vec<Key> = (0..6).map(|_| Key::default()).collect();
    let mut random = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
    println!("seed {random}");
    let mut torn = 0;
    for round in 0..=ROUNDS {
        let id = format!("n{round}");
        let mut node = Node::builder(&id).nats(&server).dir(home.path()).start(&client).await;
        client.spawn(json!({"id": "s", "memory_backend_type": "File"})).await;
        for (name, key) in keys.iter().enumerate() {
            let found = get(&client, "s", &format!("k{name}")).await;
            let (old, new) =
                (key.acknowledged.load(Ordering::SeqCst), key.sent.load(Ordering::SeqCst));
            let is =
                |number: u64| if number == 0 { found.is_null() } else { found == value_of(number) };
            assert!(
                is(old) || is(new),
                "round {round}: k{name} is {found:.40}, not {old} or {new}"
            );
            torn += u64::from(old != new);
            let number = if is(new) { new } else { old };
            key.acknowledged.store(number, Ordering::SeqCst);
            key.sent.store(number, Ordering::SeqCst);
        }
        if round == ROUNDS {
            break;
        }
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (answers, moment) = (AtomicU64::new(0), 10 + (random >> 33) % 90);
        let writers = keys
            .iter()
            .enumerate()
            .map(|(name, key)| write(&client, format!("k{name}"), key, &answers));
        tokio::select! {
            _ = join_all(writers) => unreachable!("they write until they are stopped"),
            () = until("so many stores", SOON, || (answers.load(Ordering::SeqCst) >= moment).then_some(())) => {}
        }
        node.kill();
    }
    assert!(torn > ROUNDS, "kills hit stores that were under way: {torn}");
}

/// Stores one value after the other under one key.
async fn write(client: &Client, name: String, key: &Key, answers: &AtomicU64) {
    loop {
        let number = key.sent.fetch_add(1, Ordering::SeqCst) + 1;
        store(client, "s", &name, value_of(number)).await;
        key.acknowledged.store(number, Ordering::SeqCst);
        answers.fetch_add(1, Ordering::SeqCst);
    }
}

async fn a_corrupt_file_is_reported_and_set_aside() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let home = tempfile::tempdir().expect("a directory");
    let _node = Node::builder("n1").nats(&server).dir(home.path()).start(&client).await;
    let failures = client.watch("supervision.failures.low").await;
    client.spawn(json!({"id": "s", "memory_backend_type": "File"})).await;
    for key in ["bad", "good"] {
        store(&client, "s", key, json!("a value")).await;
    }
    let dir = home.path().join("data").join("s");
    let file = dir.join("k.bad");
    let mut bytes = std::fs::read(&file).expect("the value's file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&file, &bytes).expect("written over");

    let answer = client.request("agent.input.s", json!({"Get": {"key": "bad"}})).await;
    let told = answer["Err"]["message"].as_str().unwrap_or_default();
    assert_eq!(answer["Err"]["code"], "handler_failed", "{answer}");
    assert!(told.contains("data/s/k.bad is corrupt") && told.contains("k.bad.corrupt-0"), "{told}");
    let failure = failures.wait("Failure", "s", 1, SOON).await.remove(0);
    assert!(
        failure["context"]["message"].as_str().is_some_and(|text| text.contains("data/s/k.bad"))
    );
    assert!(!file.exists());
    assert_eq!(std::fs::read(dir.join("k.bad.corrupt-0")).expect("it is kept"), bytes);

    assert_eq!(get(&client, "s", "bad").await, Value::Null, "from now on it is absent");
    assert_eq!(get(&client, "s", "good").await, "a value");
    assert_eq!(client.input("s", json!("List")).await, json!(["good"]));
    store(&client, "s", "bad", json!("anew")).await;
    assert_eq!(get(&client, "s", "bad").await, "anew");
    assert!(names(&dir).iter().all(|name| !name.starts_with("tmp-")));
    assert_eq!(client.agent("s").await["incarnation"], 1);
    client.agent_is("s", "Running", Duration::from_secs(1)).await;
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("the agent's directory");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}
