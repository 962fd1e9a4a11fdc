//! Subscriptions of agents, and connections of a process's own: through crashes and outages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Client, NatsServer, Node, Relay, SOON, consumer};

support::on_each_host! {
    a_crash_ends_the_subscriptions_of_that_life_and_the_next_one_has_its_own,
    each_message_goes_to_one_of_a_group_and_to_every_one_without,
    subscriptions_outlive_the_server,
    subscriptions_outlive_the_connections_process:
        native cannot "its connection is no process that could die alone",
}

/// A run takes as long as the runtime takes to compile the program.
const PATIENCE: Duration = Duration::from_secs(90);

async fn node(server: &NatsServer, client: &Client) -> Node {
    Node::builder("n1").program_file(consumer("probe")).nats(server).start(client).await
}

/// Asks until there is an answer that is `wanted`.
async fn answers(
    client: &Client,
    subject: &str,
    body: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        match client.try_request(subject, body, Duration::from_millis(500)).await {
            Ok(answer) if wanted(&answer) => return answer,
            other => assert!(Instant::now() < deadline, "{subject}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn listener(client: &Client, id: &str, subject: &str, queue_group: Option<&str>) {
    let mut args = json!({"subject": subject});
    if let Some(group) = queue_group {
        args["queue_group"] = group.into();
    }
    client.spawn(json!({"id": id, "agent_type": "listener", "args": args})).await;
}

async fn a_crash_ends_the_subscriptions_of_that_life_and_the_next_one_has_its_own() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let _node = node(&server, &client).await;
    let supervision = client.watch("supervision.recovery.*").await;
    listener(&client, "a", "probe.*", Some("group")).await;
    let heard = answers(&client, "probe.x", "one", |_| true).await;
    let expected = json!({"by": "a", "life": 1, "subject": "probe.x", "said": "one"});
    assert_eq!(heard, expected);

    client.publish("probe.x", "panic").await;
    supervision.wait("Recovery", "a", 1, SOON).await;
    answers(&client, "probe.x", "two", |answer| answer["life"] == 2).await;
    // Each goes to one of the group: if the dead one were still in it, half of them were lost.
    for said in 0..40 {
        let answer = client.try_request("probe.y", said.to_string(), SOON).await;
        assert_eq!(answer.expect("an answer")["life"], 2);
    }
}

async fn each_message_goes_to_one_of_a_group_and_to_every_one_without() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let _node = node(&server, &client).await;
    for id in ["a", "b"] {
        listener(&client, id, "probe.group", Some("group")).await;
    }
    for id in ["c", "d"] {
        listener(&client, id, "probe.>", None).await;
    }
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + SOON;
    while seen.len() < 2 {
        assert!(Instant::now() < deadline, "only {seen:?} get something");
        client.publish("probe.group", "x").await;
        seen.clear();
        for id in ["a", "b"] {
            let heard = client.input(id, json!("heard")).await;
            if heard.as_array().is_some_and(|heard| !heard.is_empty()) {
                seen.insert(id);
            }
        }
    }
    // All of them are subscribed by now. An answer of an agent comes after what came before.
    let count = async |id: &str| client.input(id, json!("heard")).await.as_array().map(Vec::len);
    for id in ["c", "d"] {
        answers(&client, "probe.other", "x", |_| true).await;
        let deadline = Instant::now() + SOON;
        while count(id).await == Some(0) {
            assert!(Instant::now() < deadline, "{id} hears nothing");
        }
    }
    let mut before = Vec::new();
    for id in ["a", "b", "c", "d"] {
        before.push(count(id).await.expect("a list"));
    }
    for _ in 0..20 {
        client.publish("probe.group", "y").await;
    }
    let deadline = Instant::now() + SOON;
    loop {
        let mut more = Vec::new();
        for (id, before) in ["a", "b", "c", "d"].iter().zip(&before) {
            more.push(count(id).await.expect("a list") - before);
        }
        assert!(more[0] + more[1] <= 20 && more[2] <= 20 && more[3] <= 20, "{more:?}");
        if more[0] + more[1] == 20 && more[2..] == [20, 20] {
            break;
        }
        assert!(Instant::now() < deadline, "{more:?}");
    }

    client.input("c", json!("unsubscribe")).await;
    client.input("d", json!("unsubscribe")).await;
    let none = client.try_request("probe.nobody", "x", SOON).await;
    assert_eq!(none, Err(support::Failed::NoResponders));
}

async fn subscriptions_outlive_the_server() {
    let mut server = NatsServer::start().await;
    let client = server.client().await;
    let node = node(&server, &client).await;
    listener(&client, "a", "probe.x", None).await;
    answers(&client, "probe.x", "one", |answer| answer["life"] == 1).await;

    server.kill();
    node.says("nats: disconnected", SOON).await;
    server.run().await;
    let last = answers(&client, "probe.x", "two", |answer| answer["said"] == "two").await;
    assert_eq!(last["life"], 1, "the agent itself was not touched");
    each_is_heard_once(&client).await;
}

async fn subscriptions_outlive_the_connections_process() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = node(&server, &client).await;
    listener(&client, "a", "probe.x", None).await;
    answers(&client, "probe.x", "one", |answer| answer["life"] == 1).await;

    client.publish("agent.input.a", "\"kill the connection\"").await;
    node.says("child=node/connection died", SOON).await;
    let last = answers(&client, "probe.x", "two", |answer| answer["said"] == "two").await;
    assert_eq!(last["life"], 1, "the agent itself was not touched");
    each_is_heard_once(&client).await;
}

/// A subscription too many would hear each message a second time.
async fn each_is_heard_once(client: &Client) {
    for said in 0..20 {
        let answer = client.try_request("probe.x", said.to_string(), SOON).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
    let heard = answers(client, "agent.input.a", "\"heard\"", |_| true).await;
    for said in (0..20).map(|said| said.to_string()) {
        let heard = heard["payload"].as_array().expect("a list").iter();
        let times = heard.filter(|one| one["said"] == said).count();
        assert_eq!(times, 1, "{said}");
    }
}

#[tokio::test]
async fn a_connection_of_ones_own_comes_back_and_gives_up_as_it_was_told() {
    let mut server = NatsServer::start().await;
    let client = server.client().await;
    let relay = Relay::to(server.websocket_port()).await;
    let mut probe = Node::program(&["own"])
        .wasm(consumer("probe"))
        .env("NATS_WEBSOCKET_URL", &relay.websocket_url())
        .run();
    probe.says("ready", PATIENCE).await;
    answers_text(&client, "probe.in", "one").await;
    // `MSG probe.in <sid> <reply> 3\r\none\r\n` and what it answers: counted as on the wire.
    let counted = probe.says("one! in=1/", SOON).await;
    assert!(counted.ends_with(" reconnects=0"), "{counted}");
    let figures: Vec<u64> =
        counted.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    let [1, in_bytes, 1, out_bytes, 0] = figures[..] else { panic!("{counted}") };
    assert!((30..200).contains(&in_bytes) && (20..200).contains(&out_bytes), "{counted}");

    relay.cut();
    probe.says("connected=false", SOON).await;
    relay.mend();
    probe.says("connected=true", SOON).await;
    answers_text(&client, "probe.in", "two").await;
    let counted = probe.says("two! in=2/", SOON).await;
    assert!(counted.contains("out=2/") && counted.ends_with(" reconnects=1"), "{counted}");

    server.kill();
    relay.cut();
    probe.says("ended: the connection has ended: gave up after 3 attempts", SOON).await;
    for line in ["next: None", "publish closed=true", "subscribe closed=true", "flush closed=true"]
    {
        probe.says(line, SOON).await;
    }
    let last = probe.says("at last: connected=false", SOON).await;
    // Three after the second connection, and one or two of the cut before it.
    let failed: u64 = last.rsplit('=').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!((3..=5).contains(&failed), "{last}");
    let deadline = Instant::now() + SOON;
    while probe.is_running() {
        assert!(Instant::now() < deadline, "it ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Asks until there is an answer, which need not be JSON.
async fn answers_text(client: &Client, subject: &str, body: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let (subject, body) = (subject.to_owned(), body.to_owned());
        match client.nats().request(subject, body.into()).await {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "no answer: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
