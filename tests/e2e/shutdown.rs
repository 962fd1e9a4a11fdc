//! The end of a node: everybody is told, what was published has arrived, and who overran is named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use support::{Client, Failed, Host, NatsServer, Node, SOON, Seen, Watch, until};

support::on_each_host! {
    two_thousand_agents_under_load_stop_and_nothing_is_lost,
    a_second_shutdown_shortens_the_grace,
    a_shutdown_ends_a_node_that_drains,
    what_is_stored_in_on_stop_is_there_for_the_next_node,
    who_asks_an_agent_that_stops_is_not_left_waiting,
    an_input_whose_agent_dies_of_it_is_answered_long_before_its_time_is_up,
    a_stop_without_a_server_ends_too_and_says_what_is_not_told,
}

/// A grace that is longer than any test: who waits for its end fails.
const LONG_MS: u64 = 3_600_000;

async fn one_node() -> (NatsServer, Client, Node) {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = Node::on(&server, &client, "n1").await;
    (server, client, node)
}

/// A `chaos` agent that does something when it is told to stop.
fn chaos(id: &str, on_stop: Value) -> Value {
    json!({"id": id, "agent_type": "chaos", "max_memory_mb": 16, "args": {"on_stop": on_stop}})
}

async fn shut_down(client: &Client, grace_ms: u64) {
    client.ok("system.control.n1", json!({"Shutdown": {"grace_ms": grace_ms}})).await;
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// How many messages came on each subject, without what it begins with.
fn counts(watch: &Watch, prefix: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for seen in watch.all() {
        let name = seen.subject.strip_prefix(prefix).expect("what was subscribed");
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// Gives each agent work in turns, until `turns` are over: each message is published again.
async fn work(client: Client, agents: Vec<String>, turns: u64) {
    for turn in 0..turns {
        for id in &agents {
            let body = json!({"publish": format!("load.{id}"), "turn": turn}).to_string();
            let sent = client.nats().publish(format!("agent.input.{id}"), body.into()).await;
            sent.expect("the client is connected");
        }
        client.nats().flush().await.expect("the client is connected");
    }
}

async fn two_thousand_agents_under_load_stop_and_nothing_is_lost() {
    const AGENTS: usize = 2_000;
    const STUCK: usize = 20;
    let (_server, client, mut node) = one_node().await;
    let stuck: BTreeSet<String> = (0..STUCK).map(|number| format!("stuck-{number:02}")).collect();
    let polite: Vec<String> = (STUCK..AGENTS).map(|number| format!("polite-{number}")).collect();
    let configs = polite.iter().map(|id| chaos(id, json!("publish")));
    let configs: Vec<Value> =
        configs.chain(stuck.iter().map(|id| chaos(id, json!("hang")))).collect();
    let spawns = configs.into_iter().map(|config| client.spawn(config));
    stream::iter(spawns).buffer_unordered(64).collect::<Vec<_>>().await;

    let load = client.watch("load.>").await;
    let last_words = client.watch("chaos.stopped.>").await;
    let ends = client.watch("agent.events.>").await;
    let steps = client.watch("supervision.lifecycle.agents").await;
    let worker = tokio::spawn(work(client.clone(), polite.clone(), 20));
    until("the agents work", SOON, || (load.all().len() > 2 * AGENTS).then_some(())).await;
    let asked = Instant::now();
    shut_down(&client, 2_000).await;
    let result = node.result(SOON).await;
    println!("stopped {AGENTS} agents, {STUCK} of them stuck for 2 s, in {:?}", asked.elapsed());
    worker.await.expect("the work");

    // The last line, and the log: who overran. On a machine that is very busy that can be others
    // than those that are stuck.
    let overran = node.output().lines_with("did not stop within 2000 ms and was killed");
    let id_of = |line: &String| {
        line.split("agent=").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned)
    };
    let killed: BTreeSet<String> = overran.iter().filter_map(id_of).collect();
    assert_eq!(killed.len(), overran.len(), "a line for each");
    assert!(killed.is_superset(&stuck), "{killed:?}");
    let names: Vec<&str> = killed.iter().map(String::as_str).take(100).collect();
    let expected = format!(
        "result: ok stopped={} killed={} flushed=true killed_agents={}{}",
        AGENTS - killed.len(),
        killed.len(),
        names.join(","),
        if killed.len() > 100 { ",..." } else { "" }
    );
    assert_eq!(result, expected);
    let in_time: BTreeSet<String> =
        polite.iter().filter(|id| !killed.contains(*id)).cloned().collect();

    // What an agent says that it published before the stop has arrived, to the last message.
    let last = until("the last words arrive", SOON, || {
        let last: Vec<Value> = last_words.all().iter().map(Seen::json).collect();
        let last = last.into_iter().map(|word| (text(&word["agent_id"]), word));
        let last: BTreeMap<String, Value> = last.filter(|(id, _)| in_time.contains(id)).collect();
        (last.len() == in_time.len()).then_some(last)
    })
    .await;
    let published: BTreeMap<String, u64> = last
        .into_iter()
        .map(|(id, word)| (id, word["published"].as_u64().expect("a number")))
        .filter(|(_, published)| *published > 0)
        .collect();
    until("what was published arrives", SOON, || {
        let mut arrived = counts(&load, "load.");
        arrived.retain(|id, _| in_time.contains(id));
        (arrived == published).then_some(())
    })
    .await;
    let all: u64 = published.values().sum();
    println!("{all} messages were published before the stop, and all have arrived");

    // The end of each agent was told, with its reason.
    let is_end = |event: &(String, Value)| event.0 == "Terminated";
    let told = until("the end of each agent is told", SOON, || {
        let told: Vec<_> = ends.all().iter().map(Seen::event).filter(is_end).collect();
        (told.len() >= AGENTS).then_some(told)
    })
    .await;
    assert_eq!(told.len(), AGENTS);
    for (_, end) in told {
        let id = end["agent_id"].as_str().expect("its id");
        let was_killed = end["reason"] == "it was killed, since it did not stop";
        assert_eq!(was_killed, killed.contains(id), "{end}");
    }
    until("and by the supervisor", SOON, || {
        let stops = steps.all().into_iter().map(|seen| seen.event());
        (stops.filter(|(_, step)| step["event_type"] == "ChildStopped").count() == AGENTS)
            .then_some(())
    })
    .await;
}

async fn a_second_shutdown_shortens_the_grace() {
    let (_server, client, mut node) = one_node().await;
    client.spawn(chaos("h", json!("hang"))).await;
    shut_down(&client, LONG_MS).await;
    let spawn = json!({"Spawn": {"config": {"agent_type": "echo"}}});
    assert_eq!(client.err("agent.command", spawn).await, "capacity");
    client.agent_is("h", "Stopping", SOON).await;
    let status = client.command(json!("Status")).await;
    assert_eq!(
        (&status["draining"], &status["by_status"]),
        (&json!(true), &json!({"Stopping": 1}))
    );
    // A longer one changes nothing.
    shut_down(&client, 2 * LONG_MS).await;
    assert!(node.is_running());
    shut_down(&client, 0).await;
    assert_eq!(
        node.result(SOON).await,
        "result: ok stopped=0 killed=1 flushed=true killed_agents=h"
    );
}

async fn a_shutdown_ends_a_node_that_drains() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let mut node = Node::builder("n1").nats(&server).words(&["--json"]).start(&client).await;
    client.spawn(json!({"id": "a", "agent_type": "echo"})).await;
    client.spawn(chaos("h", json!("hang"))).await;
    client.ok("system.control.n1", json!("Drain")).await;
    let status = client.command(json!("Status")).await;
    assert_eq!((&status["draining"], &status["by_status"]), (&json!(true), &json!({"Running": 2})));
    assert_eq!(client.input("a", json!(1)).await, 1);
    shut_down(&client, 200).await;
    let result: Value = serde_json::from_str(&node.result(SOON).await).expect("JSON");
    assert_eq!(
        result,
        json!({"type": "result", "ok": true, "stopped": 1, "killed": 1, "killed_agents": ["h"],
            "flushed": true})
    );
}

async fn what_is_stored_in_on_stop_is_there_for_the_next_node() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let home = tempfile::tempdir().expect("a directory");
    let node = Node::builder("n1").nats(&server).dir(home.path()).start(&client).await;
    let mut config = chaos("keeper", json!(["publish", "store"]));
    config["memory_backend_type"] = "File".into();
    let words = client.watch("chaos.stopped.keeper").await;
    client.spawn(config).await;
    for number in 0..3 {
        client.input("keeper", json!(number)).await;
    }
    assert!(node.shut_down(&client).await.starts_with("result: ok stopped=1 killed=0"));
    let word = words.find("its last word", SOON, |_| true).await.json();
    assert_eq!(word, json!({"agent_id": "keeper", "handled": 3, "published": 0}));
    let _next = Node::builder("n1").nats(&server).dir(home.path()).start(&client).await;
    client.spawn(json!({"id": "keeper", "memory_backend_type": "File"})).await;
    assert_eq!(client.input("keeper", json!({"Get": {"key": "stopped"}})).await, word);
}

async fn who_asks_an_agent_that_stops_is_not_left_waiting() {
    let (_server, client, mut node) = one_node().await;
    client.spawn(chaos("h", json!("hang"))).await;
    // Whoever is late by this much gets an answer of its own, since the agent still lives.
    client.input("h", json!(1)).await;
    shut_down(&client, LONG_MS).await;
    client.agent_is("h", "Stopping", SOON).await;
    let late = client.try_request("agent.input.h", "1", SOON).await;
    assert_eq!(late, Err(Failed::NoResponders));
    // By command it is asked through its mailbox, which it never reads again.
    let asking = client.clone();
    let asked = tokio::spawn(async move {
        let input = json!({"Input": {"agent_id": "h", "message": 1}});
        asking.err("agent.command", input).await
    });
    // The question is there before the word to hurry.
    tokio::task::yield_now().await;
    client.command(json!("Status")).await;
    shut_down(&client, 0).await;
    assert_eq!(asked.await.expect("an answer"), "unknown_agent");
    assert!(node.result(SOON).await.contains("killed=1"));
    // The node is gone for whoever asks now.
    let gone = client.try_request("agent.command", "\"Status\"", SOON).await;
    assert_eq!(gone, Err(Failed::NoResponders));
}

async fn an_input_whose_agent_dies_of_it_is_answered_long_before_its_time_is_up() {
    let (_server, client, _node) = one_node().await;
    client.spawn(json!({"id": "c", "agent_type": "chaos", "timeout_ms": 1_000})).await;
    let deaths: &[_] = match Host::current() {
        Host::Lunatic => &["panic", "exit", "hang"],
        Host::Native => &["panic", "hang"],
    };
    for death in deaths {
        let input = json!({"Input": {"agent_id": "c", "message": {"die": death}}});
        assert_eq!(client.err("agent.command", input).await, "agent_restarting", "{death}");
        client.agent_is("c", "Running", SOON).await;
    }
    let temporary = json!({"id": "t", "agent_type": "chaos", "restart": "Temporary"});
    client.spawn(temporary).await;
    let input = json!({"Input": {"agent_id": "t", "message": {"die": "panic"}}});
    assert_eq!(client.err("agent.command", input).await, "unknown_agent", "it does not come back");
}

async fn a_stop_without_a_server_ends_too_and_says_what_is_not_told() {
    let mut server = NatsServer::start().await;
    let client = server.client().await;
    let mut node = Node::on(&server, &client, "n1").await;
    client.spawn(chaos("a", json!("publish"))).await;
    client.spawn(chaos("h", json!("hang"))).await;
    // The stop has begun when the server goes.
    shut_down(&client, 1_000).await;
    client.agent_is("h", "Stopping", SOON).await;
    server.kill();
    assert_eq!(
        node.result(Duration::from_secs(30)).await,
        "result: ok stopped=1 killed=1 flushed=false killed_agents=h"
    );
}

/// A node that was started by `scripts/run`, once it answers.
async fn by_script(server: &NatsServer, client: &Client, env: &[(&str, &str)]) -> Node {
    let mut builder = Node::builder("n1").by_script();
    if !env.iter().any(|(name, _)| *name == "NATS_WEBSOCKET_URL") {
        builder = builder.env("NATS_WEBSOCKET_URL", &server.websocket_url());
    }
    for (name, value) in env {
        builder = builder.env(name, value);
    }
    let program = builder.run();
    let node = Node::of("n1", program);
    // The program may have to be built first.
    node.answers(client, Duration::from_secs(300)).await;
    node
}

#[tokio::test]
async fn a_signal_to_the_script_stops_the_node_in_good_order() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    for signal in ["INT", "TERM"] {
        let mut node = by_script(&server, &client, &[]).await;
        let words = client.watch("chaos.stopped.a").await;
        client.spawn(chaos("a", json!("publish"))).await;
        node.signal(signal);
        assert_eq!(node.result(SOON).await, "result: ok stopped=1 killed=0 flushed=true");
        assert_eq!(node.status(SOON).await, Some(0), "{signal}");
        words.find("its last word", SOON, |_| true).await;
    }
}

#[tokio::test]
async fn a_second_signal_to_the_script_ends_the_node_at_once() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    for (signal, status) in [("INT", 130), ("TERM", 143)] {
        let mut node = by_script(&server, &client, &[("STOP_GRACE_MS", "3600000")]).await;
        client.spawn(chaos("h", json!("hang"))).await;
        node.signal(signal);
        node.says("stopping node n1", SOON).await;
        client.agent_is("h", "Stopping", SOON).await;
        node.signal(signal);
        assert_eq!(node.status(SOON).await, Some(status), "{signal}");
        assert_eq!(node.output().lines_with("result:").len(), 0, "it could not say how it ended");
    }
}

#[tokio::test]
async fn without_a_server_a_signal_to_the_script_ends_the_node_at_once() {
    let mut server = NatsServer::start().await;
    let client = server.client().await;
    let mut node = by_script(&server, &client, &[]).await;
    server.kill();
    node.signal("TERM");
    assert_eq!(node.status(SOON).await, Some(143));
    assert_eq!(node.output().lines_with("no NATS server takes the word to stop").len(), 1);
    let wrong =
        Node::builder("n1").by_script().env("STOP_GRACE_MS", "soon").run().status(SOON).await;
    assert_eq!(wrong, Some(2));
}

#[tokio::test]
async fn the_script_stops_a_node_on_a_server_that_wants_a_password() {
    const PASSWORD: &str = r#"h"u\sh%7@"#;
    let quoted = PASSWORD.replace('\\', r"\\").replace('"', "\\\"");
    let server =
        NatsServer::with(&format!("authorization {{ user: ann, password: \"{quoted}\" }}")).await;
    let options = ConnectOptions::with_user_and_password("ann".into(), PASSWORD.into());
    let client = server.client_with(&options).await;
    let url = server.websocket_url_as("ann:h%22u%5Csh%257%40");
    let in_url: &[(&str, &str)] = &[("NATS_WEBSOCKET_URL", &url)];
    for env in [in_url, &[("NATS_USER", "ann"), ("NATS_PASSWORD", PASSWORD)]] {
        let mut node = by_script(&server, &client, env).await;
        client.spawn(chaos("a", json!("publish"))).await;
        node.signal("INT");
        assert_eq!(node.result(SOON).await, "result: ok stopped=1 killed=0 flushed=true");
    }
}
