//! Servers come and go; agents live on.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Client, NatsServer, Node, Relay, SOON, until};
use tokio::net::{TcpListener, TcpStream};

support::on_each_host! {
    agents_live_on_while_the_server_is_killed_and_started_again,
    what_happens_in_an_outage_is_told_after_it,
    a_node_starts_without_a_server_and_connects_when_one_appears,
    a_server_that_never_speaks_does_not_hold_a_node_up,
}

/// How soon after a server's return everything has to be as before.
const BACK: Duration = Duration::from_secs(5);

/// Asks an agent until it answers, at most until `deadline`.
async fn answers(client: &Client, id: &str, deadline: Instant) {
    let subject = format!("agent.input.{id}");
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = left.clamp(Duration::from_millis(50), Duration::from_secs(1));
        match client.try_request(&subject, "7", wait).await {
            Ok(answer) if answer["payload"] == 7 => return,
            other => assert!(!left.is_zero(), "{id} is not back: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn incarnations(client: &Client) -> Vec<Value> {
    let page = client.command(json!("List")).await;
    let agents = page["agents"].as_array().expect("agents").iter();
    agents.map(|agent| json!([agent["agent_id"], agent["incarnation"], agent["status"]])).collect()
}

async fn agents_live_on_while_the_server_is_killed_and_started_again() {
    let mut server = NatsServer::start().await;
    let client = server.client().await;
    let mut node = Node::on(&server, &client, "n1").await;
    let ids: Vec<_> = (0..50).map(|number| format!("e{number}")).collect();
    join_all(ids.iter().map(|id| client.spawn(json!({"id": id, "agent_type": "echo"})))).await;
    client.spawn(json!({"id": "s"})).await;
    client.input("s", json!({"Store": {"key": "k", "value": "kept in memory"}})).await;
    let before = incarnations(&client).await;

    for outage in 1..=3 {
        // Requests are under way when it happens.
        let busy = ids.iter().map(|id| {
            let (client, subject) = (client.clone(), format!("agent.input.{id}"));
            tokio::spawn(async move {
                while client.try_request(&subject, "1", Duration::from_millis(500)).await.is_ok() {}
            })
        });
        let busy: Vec<_> = busy.collect();
        client.input("e0", json!(1)).await;
        server.kill();
        let output = node.output().clone();
        until("the node tells of the loss", SOON, || {
            (output.lines_with("nats: disconnected").len() == outage).then_some(())
        })
        .await;
        for task in busy {
            task.abort();
        }
        assert!(node.is_running());
        server.run().await;
        let deadline = Instant::now() + BACK;
        let fresh = server.client().await;
        node.answers(&fresh, BACK).await;
        for id in &ids {
            answers(&fresh, id, deadline).await;
        }
        assert_eq!(incarnations(&fresh).await, before, "nobody was restarted");
        assert_eq!(fresh.input("s", json!({"Get": {"key": "k"}})).await, "kept in memory");
        let connected = node.output().lines_with("nats: connected").pop().expect("a line");
        assert!(connected.contains(&format!("reconnects={outage}")), "{connected}");
    }
    let client = server.client().await;
    client.spawn(json!({"id": "new", "agent_type": "echo"})).await;
    answers(&client, "new", Instant::now() + BACK).await;
    assert!(node.shut_down(&client).await.starts_with("result: ok stopped=52 killed=0"));
}

async fn what_happens_in_an_outage_is_told_after_it() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let relay = Relay::to(server.websocket_port()).await;
    let builder = Node::builder("n1").words(&["--nats", &relay.websocket_url()]);
    let node = builder.start(&client).await;
    let supervision = client.watch("supervision.>").await;
    let agents = client.watch("agent.events.*").await;
    let spawn =
        |id: &str| client.spawn(json!({"id": id, "agent_type": "chaos", "timeout_ms": 1000}));
    for id in ["dies", "lives"] {
        spawn(id).await;
        agents.wait("Spawned", id, 1, SOON).await;
    }

    // It is killed for not answering a second and more later, while there is no connection.
    client.publish("agent.input.dies", r#"{"die":"loop"}"#).await;
    let asked = client.command(json!({"Status": {"agent_id": "dies"}})).await;
    assert_eq!(asked["incarnation"], 1);
    relay.cut();
    node.says("nats: disconnected", SOON).await;
    assert!(supervision.events("Failure", "dies").is_empty(), "it has not been told yet");
    node.says("agent=dies incarnation=2 restarted with an empty state", SOON).await;
    relay.mend();
    let failure = supervision.wait("Failure", "dies", 1, BACK).await.remove(0);
    assert_eq!(
        (&failure["failure_type"], &failure["incarnation"]),
        (&json!("TimeoutFailure"), &json!(1))
    );
    let recovery = supervision.wait("Recovery", "dies", 1, BACK).await.remove(0);
    assert_eq!(recovery["incarnation"], 2);
    node.answers(&client, BACK).await;
    assert_eq!(client.input("dies", json!(1)).await, 1);
    assert_eq!(
        client.agent("lives").await["incarnation"].as_u64().map(|life| life < 3),
        Some(true)
    );
    assert_eq!(supervision.events("Failure", "dies").len(), 1, "told once");
    assert_eq!(supervision.events("Recovery", "dies").len(), 1, "told once");
    assert!(supervision.events("Failure", "lives").is_empty());
    let lost = node.output().lines_with("lost");
    assert!(lost.is_empty(), "nothing is: {lost:?}");
}

async fn a_node_starts_without_a_server_and_connects_when_one_appears() {
    let mut server = NatsServer::stopped("");
    let mut node = Node::builder("n1").nats(&server).start_alone().await;
    let told = node.says("nats: ", SOON).await;
    assert!(told.contains("efused") || told.contains("could not connect"), "it says so: {told}");
    assert!(node.is_running());
    server.run().await;
    let client = server.client().await;
    node.answers(&client, BACK).await;
    client.spawn(json!({"id": "e", "agent_type": "echo"})).await;
    assert_eq!(client.input("e", json!(1)).await, 1);
    assert!(
        node.shut_down(&client).await.starts_with("result: ok stopped=1 killed=0 flushed=true")
    );
}

async fn a_server_that_never_speaks_does_not_hold_a_node_up() {
    let mut server = NatsServer::stopped("");
    let port = server.node_port();
    let mute = TcpListener::bind(("127.0.0.1", port)).await.expect("the server's port is free");
    let mut node = Node::builder("n1").nats(&server).start_alone().await;
    let accept = async || -> TcpStream {
        tokio::time::timeout(SOON, mute.accept()).await.expect("it tries").expect("a connection").0
    };
    // The second attempt shows that the first was given up.
    let (first, tried) = (accept().await, Instant::now());
    let second = accept().await;
    let waited = tried.elapsed();
    assert!((4..8).contains(&waited.as_secs()), "an attempt is given 5 s, and took {waited:?}");
    assert!(node.is_running());
    drop((first, second, mute));
    server.run().await;
    let client = server.client().await;
    node.answers(&client, BACK).await;
    client.spawn(json!({"id": "e", "agent_type": "echo"})).await;
    assert_eq!(client.input("e", json!(1)).await, 1);
}
