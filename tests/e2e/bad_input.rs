//! What makes no sense is refused, counted, told once, and changes nothing.

use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Failed, NatsServer, Node, SOON, envelope, until, without_counters};

support::on_each_host! {
    commands_that_make_no_sense_change_nothing,
    controls_that_make_no_sense_change_nothing,
    messages_that_make_no_sense_change_nothing,
    subjects_of_nobody_have_no_responders,
}

/// A body, and the code that it is refused with.
type Case = (Vec<u8>, &'static str);

/// What is refused wherever it comes to.
fn everywhere() -> Vec<Case> {
    let huge = format!("\"{}\"", "x".repeat(900 * 1024));
    let half_an_envelope = json!({"id": "1", "source": "s", "timestamp": "yesterday",
        "metadata": {}, "payload": 1});
    vec![
        (b"nonsense".to_vec(), "bad_json"),
        (Vec::new(), "bad_json"),
        (b"{\"Status\":{}} and more".to_vec(), "bad_json"),
        (b"\"\xff\xfe\"".to_vec(), "bad_json"),
        (b"\0\0\0".to_vec(), "bad_json"),
        ("[".repeat(200_000).into_bytes(), "bad_json"),
        ("{\"a\":".repeat(40_000).into_bytes(), "bad_json"),
        (half_an_envelope.to_string().into_bytes(), "bad_shape"),
        (huge.into_bytes(), "too_large"),
    ]
}

fn case(body: Value, code: &'static str) -> Case {
    (body.to_string().into_bytes(), code)
}

/// What is refused as a command about agents.
fn commands() -> Vec<Case> {
    let mut cases = vec![
        case(json!([]), "bad_shape"),
        case(json!(7), "bad_shape"),
        case(json!({}), "bad_shape"),
        case(json!("Ping"), "bad_shape"),
        case(json!({"Dance": {}}), "bad_shape"),
        case(json!({"Status": {}, "List": {}}), "bad_shape"),
        case(json!({"Status": {"agent": "e"}}), "bad_shape"),
        case(json!({"Stop": {"agent_id": 5}}), "bad_shape"),
        case(envelope(json!({"Dance": {}})), "bad_shape"),
        case(envelope(envelope(json!("Status"))), "bad_shape"),
        case(json!({"Spawn": {"config": {"data_dir": "/etc"}}}), "bad_shape"),
        case(json!({"Spawn": {"config": {"timeout_ms": -1}}}), "bad_shape"),
        case(json!({"Stop": {"agent_id": "nobody"}}), "unknown_agent"),
        case(json!({"Status": {"agent_id": "nobody"}}), "unknown_agent"),
        case(json!({"Input": {"agent_id": "nobody", "message": 1}}), "unknown_agent"),
    ];
    let long = "x".repeat(4096);
    for id in ["", "a.b", "a b", "e\n", "*", ">", "..", "a/b", "ä", &long] {
        cases.push(case(json!({"Spawn": {"config": {"id": id}}}), "bad_id"));
        cases.push(case(json!({"Stop": {"agent_id": id}}), "bad_id"));
        cases.push(case(json!({"Status": {"agent_id": id}}), "bad_id"));
        cases.push(case(json!({"List": {"after": id}}), "bad_id"));
        cases.push(case(json!({"Input": {"agent_id": id, "message": 1}}), "bad_id"));
    }
    cases
}

/// What is refused as a command about a node.
fn controls() -> Vec<Case> {
    vec![
        case(json!([]), "bad_shape"),
        case(json!("Status"), "bad_shape"),
        case(json!({"Shutdown": {"grace": 1}}), "bad_shape"),
        case(json!({"Shutdown": {"grace_ms": -1}}), "bad_shape"),
        case(json!({"Shutdown": {"grace_ms": 86_400_001}}), "bad_shape"),
        case(json!({"Drain": {"now": true}}), "bad_shape"),
    ]
}

/// What is refused as a message for the agent `s`.
fn inputs() -> Vec<Case> {
    let message = |from: &str, to: &str, timestamp: Value| json!({"id": "m", "from": from, "to": to, "payload": "Clear", "timestamp": timestamp});
    vec![
        case(message("b", "e", json!(1)), "bad_shape"),
        case(message("b", "s", json!("now")), "bad_shape"),
        case(message("a.b", "s", json!(1)), "bad_id"),
        case(message("b", "s t", json!(1)), "bad_id"),
        case(envelope(message("b", "e", json!(1))), "bad_shape"),
    ]
}

struct Stage {
    client: Client,
    node: Node,
    // Last: the others are its clients.
    _server: NatsServer,
}

impl Stage {
    async fn set() -> Self {
        let server = NatsServer::start().await;
        let client = server.client().await;
        let node = Node::on(&server, &client, "n1").await;
        client.spawn(json!({"id": "s"})).await;
        client.spawn(json!({"id": "e", "agent_type": "echo"})).await;
        client.input("s", json!({"Store": {"key": "k", "value": "kept"}})).await;
        client.input("e", json!(1)).await;
        Self { client, node, _server: server }
    }

    /// All that can be seen from outside, but for what counts.
    async fn view(&self) -> Value {
        let page = self.client.command(json!("List")).await;
        let agents = page["agents"].as_array().expect("agents").clone();
        let agents: Vec<_> = agents.into_iter().map(without_counters).collect();
        let status = self.client.command(json!("Status")).await;
        let single = self.client.agent("s").await;
        let state = self.client.input("s", json!({"Get": {"key": "k"}})).await;
        json!([without_counters(status), agents, without_counters(single), state])
    }

    async fn counted(&self) -> u64 {
        let status = self.client.command(json!("Status")).await;
        status["counters"]["bad_input"].as_u64().expect("a count")
    }

    /// Sends each body with and without a reply subject, and checks what comes of it.
    async fn refuses(&self, subject: &str, cases: &[Case]) {
        let (before, counted) = (self.view().await, self.counted().await);
        for (body, expected) in cases {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            self.client.publish(subject, body.clone()).await;
            let answer = self.client.try_request(subject, body.clone(), SOON).await;
            let answer = answer.unwrap_or_else(|error| panic!("{subject} {shown:?}: {error:?}"));
            assert_eq!(answer["Err"]["code"], *expected, "{subject} {shown:?}: {answer}");
            let told = answer["Err"]["message"].as_str().unwrap_or_default();
            assert!((3..=500).contains(&told.len()), "a sentence, and not all that came: {told:?}");
        }
        assert_eq!(self.view().await, before, "{subject}");
        let expected = counted + 2 * cases.len() as u64;
        assert_eq!(self.counted().await, expected, "{subject}: each of them is counted");
        self.told_once(subject, cases).await;
    }

    /// The log names each kind of mistake once, however often it was made.
    async fn told_once(&self, subject: &str, cases: &[Case]) {
        let output = self.node.output();
        for (_, code) in cases {
            let told =
                || output.lines_with("bad input").into_iter().filter(|line| line.contains(code));
            until(format!("a log line about {code}"), Duration::from_secs(5), || told().next())
                .await;
            assert_eq!(told().count(), 1, "{subject}: {code} is told once a minute");
        }
        for line in output.lines_with("bad input") {
            assert!(line.len() < 700, "a line of {} bytes", line.len());
        }
    }
}

async fn commands_that_make_no_sense_change_nothing() {
    let stage = Stage::set().await;
    let both = [everywhere(), commands()].concat();
    stage.refuses("agent.command", &both).await;
    stage.refuses("agent.command.n1", &both).await;
}

async fn controls_that_make_no_sense_change_nothing() {
    let stage = Stage::set().await;
    let both = [everywhere(), controls()].concat();
    stage.refuses("system.control", &both).await;
    stage.refuses("system.control.n1", &both).await;
}

async fn messages_that_make_no_sense_change_nothing() {
    let stage = Stage::set().await;
    let both = [everywhere(), inputs()].concat();
    stage.refuses("agent.input.s", &both).await;
    // Bodies that are too large for an agent are refused before they reach it, and it lives.
    assert_eq!(stage.client.agent("s").await["incarnation"], 1);
}

async fn subjects_of_nobody_have_no_responders() {
    let stage = Stage::set().await;
    let before = stage.view().await;
    let long = format!("agent.input.{}", "x".repeat(3000));
    for subject in
        ["agent.input.nobody", "agent.input.s.t", "agent.input", "agent.command.n2", &long]
    {
        let answer = stage.client.try_request(subject, "1", SOON).await;
        assert_eq!(answer, Err(Failed::NoResponders), "{subject}");
    }
    assert_eq!(stage.view().await, before);
}
