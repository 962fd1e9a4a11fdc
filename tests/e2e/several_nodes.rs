//! Several nodes are one system: commands for an agent reach the node that has it, whichever node
//! they come to.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Client, Failed, NatsServer, Node, SOON, Watch, consumer, envelope, until};

support::on_each_host! {
    commands_reach_an_agent_by_whichever_node,
    each_command_is_forwarded_once,
    an_agent_that_nobody_has_is_unknown_after_half_a_second,
    all_nodes_can_be_asked_at_once,
    an_agent_may_take_its_time_by_a_detour_too,
    an_agent_is_stopped_by_whichever_node,
    of_two_agents_with_one_id_one_gets_the_command,
    agents_of_two_nodes_talk_to_each_other,
    what_was_on_a_node_goes_with_it,
}

/// Often enough that each node of a queue group gets some: that one of two gets none has a chance of one
/// in 500,000,000,000.
const OFTEN: usize = 40;

struct Nodes {
    _server: NatsServer,
    client: Client,
    first: Node,
    second: Node,
    /// What nodes asked each other.
    asked: Watch,
}

async fn two_nodes() -> Nodes {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let asked = client.watch("agent.command.all").await;
    let first = Node::on(&server, &client, "n1").await;
    let second = Node::on(&server, &client, "n2").await;
    Nodes { _server: server, client, first, second, asked }
}

impl Nodes {
    /// Starts an agent on a node.
    async fn spawn(&self, node: &Node, config: Value) {
        let spawn = json!({"Spawn": {"config": config}});
        let spawned = self.client.ok(&format!("agent.command.{}", node.id()), spawn).await;
        assert_eq!(spawned["node_id"], node.id());
    }

    /// How many bodies a node has refused.
    async fn bad_input(&self, node: &Node) -> u64 {
        let status = self.client.ok(&format!("agent.command.{}", node.id()), json!("Status")).await;
        status["counters"]["bad_input"].as_u64().expect("a number")
    }

    /// What nodes have asked each other so far: all that was said before this is in it.
    async fn asked(&self) -> Vec<Value> {
        self.client.watch("nothing").await;
        self.asked.all().iter().map(support::Seen::json).collect()
    }
}

async fn commands_reach_an_agent_by_whichever_node() {
    let nodes = two_nodes().await;
    nodes.spawn(&nodes.second, json!({"id": "e", "agent_type": "echo"})).await;
    nodes.spawn(&nodes.second, json!({"id": "s", "nats_enabled": false})).await;
    nodes.spawn(&nodes.second, json!({"id": "c", "agent_type": "chaos"})).await;
    let client = &nodes.client;
    for turn in 0..OFTEN {
        let wrap = |body| if turn % 2 == 0 { body } else { envelope(body) };
        let status = client.command(wrap(json!({"Status": {"agent_id": "e"}}))).await;
        assert_eq!((&status["agent_id"], &status["agent_type"]), (&json!("e"), &json!("echo")));
        let located = client.command(wrap(json!({"Locate": {"agent_id": "e"}}))).await;
        assert_eq!(located, json!({"agent_id": "e", "node_id": "n2"}));
        let input = json!({"Input": {"agent_id": "e", "message": {"turn": turn}}});
        assert_eq!(client.command(wrap(input)).await, json!({"turn": turn}));
        // Errors come from where it lives, too.
        let wrong = json!({"Input": {"agent_id": "s", "message": {"Shove": {}}}});
        assert_eq!(client.err("agent.command", wrap(wrong)).await, "handler_failed");
    }
    // What looks like a message within a message is its payload, and stays it.
    let inner = json!({"id": "i", "from": "x", "to": "y", "payload": 1, "timestamp": 1});
    let message = json!({"id": "m", "from": "b", "to": "e", "payload": inner, "timestamp": 7});
    let body = json!({"Input": {"agent_id": "e", "message": message}});
    for _ in 0..OFTEN {
        assert_eq!(client.command(body.clone()).await, inner);
    }
    // The largest body that is taken is taken by a detour, too.
    let max = 512 * 1024;
    let body = |text: &str| json!({"Input": {"agent_id": "e", "message": text}});
    let text = "x".repeat(max - body("").to_string().len());
    for _ in 0..OFTEN / 4 {
        assert_eq!(client.command(body(&text)).await, text);
    }
    // Nobody has to wait for an answer.
    for turn in 0..OFTEN {
        let store = json!({"Store": {"key": format!("k{turn}"), "value": turn}});
        let input = json!({"Input": {"agent_id": "s", "message": store}});
        client.publish("agent.command", input.to_string()).await;
    }
    let deadline = Instant::now() + SOON;
    let list = json!({"Input": {"agent_id": "s", "message": "List"}});
    while client.command(list.clone()).await.as_array().map(Vec::len) != Some(OFTEN) {
        assert!(Instant::now() < deadline, "some are lost");
    }

    // Who was asked and did not have it has asked all nodes for it, once; the owner has asked nobody.
    // Both got some of them, and it is by chance which.
    let asked = nodes.asked().await;
    assert!(asked.len() > OFTEN, "{}", asked.len());
    for body in &asked {
        let locate = |id: &str| json!({"Locate": {"agent_id": id}});
        assert!([locate("e"), locate("s")].contains(body), "{body}");
    }
    assert_eq!((nodes.bad_input(&nodes.first).await, nodes.bad_input(&nodes.second).await), (0, 0));
}

async fn each_command_is_forwarded_once() {
    let nodes = two_nodes().await;
    nodes.spawn(&nodes.second, json!({"id": "e", "agent_type": "echo"})).await;
    let seen = nodes.client.watch("agent.command.*").await;
    let commands = nodes.client.watch("agent.command").await;
    let before = seen.all().len();
    for _ in 0..OFTEN {
        nodes.client.command(json!({"Input": {"agent_id": "e", "message": 1}})).await;
    }
    let asked = nodes.asked().await.len();
    assert_eq!(commands.all().len(), OFTEN);
    assert!(0 < asked && asked < OFTEN, "both nodes took some: {asked}");
    // One question and one command for each that had to be forwarded, and nothing else.
    assert_eq!(seen.all().len() - before, 2 * asked);
}

async fn an_agent_that_nobody_has_is_unknown_after_half_a_second() {
    let nodes = two_nodes().await;
    let client = &nodes.client;
    let commands = [
        json!({"Stop": {"agent_id": "nobody"}}),
        json!({"Status": {"agent_id": "nobody"}}),
        json!({"Locate": {"agent_id": "nobody"}}),
        json!({"Input": {"agent_id": "nobody", "message": 1}}),
    ];
    for (number, command) in commands.iter().enumerate() {
        assert_eq!(client.err("agent.command", command.clone()).await, "unknown_agent");
        let asked = nodes.asked().await;
        assert_eq!(asked.len(), number + 1, "{asked:?}");
        assert_eq!(asked[number], json!({"Locate": {"agent_id": "nobody"}}));
        let (first, second) =
            (nodes.bad_input(&nodes.first).await, nodes.bad_input(&nodes.second).await);
        assert_eq!(first + second, number as u64 + 1, "counted by who was asked");
    }
    // One node says at once what it does not have, and all of them say nothing.
    for command in &commands {
        assert_eq!(client.err("agent.command.n1", command.clone()).await, "unknown_agent");
        let within = Duration::from_secs(1);
        let answer = client.try_request("agent.command.all", command.to_string(), within).await;
        assert_eq!(answer, Err(Failed::TimedOut), "{command}");
    }
    assert_eq!(nodes.asked().await.len(), 8, "what this test asked itself included");
    let bad = nodes.bad_input(&nodes.first).await + nodes.bad_input(&nodes.second).await;
    assert_eq!(bad, 8, "silence counts for nothing");
}

async fn all_nodes_can_be_asked_at_once() {
    let nodes = two_nodes().await;
    let client = &nodes.client;
    nodes.spawn(&nodes.first, json!({"id": "e", "agent_type": "echo"})).await;
    let all = "agent.command.all";
    assert_eq!(client.ok(all, json!({"Status": {"agent_id": "e"}})).await["agent_id"], "e");
    let input = json!({"Input": {"agent_id": "e", "message": "x"}});
    assert_eq!(client.ok(all, input).await, "x");
    // Each for itself.
    let inbox = client.nats().new_inbox();
    let answers = client.watch(&inbox).await;
    let ask = client.nats().publish_with_reply(all, inbox, "\"Status\"".into());
    ask.await.expect("sent");
    let both = || (answers.all().len() >= 2).then(|| answers.all());
    let mut names: Vec<_> = until("two answers", SOON, both)
        .await
        .iter()
        .map(|seen| seen.json()["Ok"]["node_id"].to_string())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["\"n1\"", "\"n2\""]);
    assert_eq!(client.err(all, json!({"Spawn": {"config": {}}})).await, "bad_shape");
    assert_eq!(client.ok(all, json!({"Stop": {"agent_id": "e"}})).await, json!({"agent_id": "e"}));
}

async fn an_agent_may_take_its_time_by_a_detour_too() {
    let nodes = two_nodes().await;
    nodes.spawn(&nodes.second, json!({"id": "c", "agent_type": "chaos", "timeout_ms": 2000})).await;
    // It hangs, and is killed for it after two seconds: the answer comes much later than half a second.
    // Again, until the node that was asked is not the one that has it.
    let client = &nodes.client;
    let input = json!({"Input": {"agent_id": "c", "message": {"die": "hang"}}});
    let status = json!({"Status": {"agent_id": "c"}});
    let forwarded = async {
        while nodes.asked().await.is_empty() {
            let answer = client.request("agent.command", input.clone()).await;
            assert_eq!(answer["Err"]["code"], "agent_restarting", "{answer}");
            let by_its_node = async || client.ok("agent.command.n2", status.clone()).await;
            while by_its_node().await["status"] != "Running" {}
        }
    };
    tokio::time::timeout(SOON * 3, forwarded).await.expect("one goes by the other node");
}

async fn an_agent_is_stopped_by_whichever_node() {
    let nodes = two_nodes().await;
    let client = &nodes.client;
    for number in 0..OFTEN {
        let id = format!("a{number}");
        nodes.spawn(&nodes.second, json!({"id": id, "agent_type": "echo"})).await;
        let stopped = client.command(json!({"Stop": {"agent_id": id}})).await;
        assert_eq!(stopped, json!({"agent_id": id}));
    }
    let gone = async || client.ok("agent.command.n2", json!("Status")).await["agents"] == json!(0);
    let deadline = Instant::now() + SOON;
    while !gone().await {
        assert!(Instant::now() < deadline, "some are still there");
    }
    let asked = nodes.asked().await.len();
    assert!(0 < asked && asked < OFTEN, "both nodes took some: {asked}");
}

async fn of_two_agents_with_one_id_one_gets_the_command() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let mut nodes = Vec::new();
    for id in ["n1", "n2", "n3"] {
        nodes.push(Node::on(&server, &client, id).await);
    }
    for node in ["n2", "n3"] {
        let spawn = json!({"Spawn": {"config": {"id": "s"}}});
        client.ok(&format!("agent.command.{node}"), spawn).await;
    }
    for turn in 0..OFTEN {
        let store = json!({"Store": {"key": format!("k{turn}"), "value": turn}});
        client.command(json!({"Input": {"agent_id": "s", "message": store}})).await;
    }
    let mut keys = 0;
    for node in ["n2", "n3"] {
        let list = json!({"Input": {"agent_id": "s", "message": "List"}});
        let listed = client.ok(&format!("agent.command.{node}"), list).await;
        keys += listed.as_array().expect("keys").len();
    }
    assert_eq!(keys, OFTEN, "each was done once");
}

async fn agents_of_two_nodes_talk_to_each_other() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let mut nodes = Vec::new();
    for id in ["n1", "n2"] {
        let node = Node::builder(id).program_file(consumer("probe")).nats(&server);
        nodes.push(node.start(&client).await);
        for (agent, config) in [
            ("teller", json!({"agent_type": "teller"})),
            ("state", json!({"agent_type": "state"})),
            ("chaos", json!({"agent_type": "chaos"})),
            ("hidden", json!({"agent_type": "echo", "nats_enabled": false})),
        ] {
            let mut config = config;
            config["id"] = format!("{agent}-{id}").into();
            let spawn = json!({"Spawn": {"config": config}});
            client.ok(&format!("agent.command.{id}"), spawn).await;
        }
    }
    let tell = async |from: &str, what: Value| client.input(&format!("teller-{from}"), what).await;
    for (here, there) in [("n1", "n2"), ("n2", "n1")] {
        // Messages keep their order, and are there before what is asked behind them.
        let state = format!("state-{there}");
        for number in 0..OFTEN {
            let store = json!({"Store": {"key": "k", "value": number}});
            assert_eq!(tell(here, json!({"tell": state, "payload": store})).await, Value::Null);
        }
        let get = json!({"ask": state, "payload": {"Get": {"key": "k"}}});
        assert_eq!(tell(here, get).await, OFTEN - 1);

        // What goes wrong there is told here, in the same words as on one node.
        for (to, payload, error) in [
            (state, json!({"Shove": 1}), "the payload does not fit: unknown variant `Shove`"),
            (format!("hidden-{there}"), json!(1), "there is no agent hidden-"),
            ("nobody".to_owned(), json!(1), "there is no agent nobody"),
        ] {
            let asked = Instant::now();
            let answer = tell(here, json!({"ask": to, "payload": payload, "timeout_ms": 60_000}));
            let answer = answer.await;
            assert!(answer["error"].to_string().contains(error), "{answer}");
            assert!(asked.elapsed() < SOON, "it was not waited for");
        }
        let hang =
            json!({"ask": format!("chaos-{there}"), "payload": {"die": "hang"}, "timeout_ms": 100});
        let answer = tell(here, hang).await;
        assert!(answer["error"].to_string().contains("did not answer within 100 ms"), "{answer}");
    }
    // One that is between two lives says so, as it does to its neighbours. From the second death on
    // there is a delay before the restart: 0, 100, 200, 400 ms …
    let spawn =
        json!({"Spawn": {"config": {"id": "c", "agent_type": "chaos", "timeout_ms": 60_000}}});
    client.ok("agent.command.n1", spawn).await;
    for life in 1..=4 {
        assert_eq!(client.agent_is("c", "Running", SOON).await["incarnation"], life);
        client.publish("agent.input.c", r#"{"die":"panic"}"#).await;
        let deadline = Instant::now() + SOON;
        while life < 4 && client.agent("c").await["incarnation"] == life {
            assert!(Instant::now() < deadline, "life {life} goes on");
        }
    }
    client.agent_is("c", "Restarting", SOON).await;
    for asker in ["n2", "n1"] {
        let answer = tell(asker, json!({"ask": "c", "payload": 1, "timeout_ms": 60_000})).await;
        assert_eq!(answer["error"], "agent c is being restarted; try again", "{asker}");
    }
}

async fn what_was_on_a_node_goes_with_it() {
    let Nodes { _server: server, client, first, mut second, .. } = two_nodes().await;
    let spawn = json!({"Spawn": {"config": {"id": "e", "agent_type": "echo"}}});
    let locate = json!({"Locate": {"agent_id": "e"}});

    // In the middle of commands for its agent, a node is killed. What it had taken is not answered.
    client.ok("agent.command.n2", spawn.clone()).await;
    let asking = Asking::default();
    let killed = async {
        asking.goes_on().await;
        second.kill();
    };
    tokio::join!(asking.until_unknown(&client, "e"), killed);

    // It goes in order: nothing is left unanswered.
    let second = Node::on(&server, &client, "n2").await;
    client.ok("agent.command.n2", spawn.clone()).await;
    let asking = Asking::default();
    let shut_down = async {
        asking.goes_on().await;
        second.shut_down(&client).await
    };
    let (unanswered, result) = tokio::join!(asking.until_unknown(&client, "e"), shut_down);
    assert_eq!(unanswered, 0);
    assert!(result.starts_with("result: ok stopped=1"), "{result}");

    // It is started elsewhere, and found there.
    client.ok("agent.command.n1", spawn.clone()).await;
    let _second = Node::on(&server, &client, "n2").await;
    for _ in 0..OFTEN {
        assert_eq!(client.command(locate.clone()).await["node_id"], first.id());
    }
}

/// Asks an agent, by whichever node, again and again.
#[derive(Default)]
struct Asking {
    answered: AtomicUsize,
}

impl Asking {
    async fn goes_on(&self) {
        let many = || (self.answered.load(Relaxed) >= OFTEN).then_some(());
        until("many answers", SOON, many).await;
    }

    /// Until it is not known any more; how often there was no answer.
    async fn until_unknown(&self, client: &Client, id: &str) -> usize {
        let input = json!({"Input": {"agent_id": id, "message": 1}}).to_string();
        let mut unanswered = 0;
        loop {
            match client.try_request("agent.command", input.clone(), SOON / 4).await {
                Ok(answer) if answer["Ok"] == 1 => {
                    self.answered.fetch_add(1, Relaxed);
                }
                // Its process has ended, and its supervisor has not heard of it: to be asked again.
                Ok(answer) if answer["Err"]["code"] == "agent_restarting" => {}
                Ok(answer) => {
                    assert_eq!(answer["Err"]["code"], "unknown_agent", "{answer}");
                    return unanswered;
                }
                Err(error) => {
                    assert_eq!(error, Failed::TimedOut);
                    unanswered += 1;
                }
            }
        }
    }
}
