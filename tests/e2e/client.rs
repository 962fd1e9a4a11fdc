//! The client as its users have it: scenarios that run inside the runtime (`tests/consumer`'s
//! `client`), with a real server, and with async-nats as the other side.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use support::{Client, NatsServer, Node, Program, Relay, SOON, consumer, until};

/// A run takes as long as the runtime takes to compile the program, and then some.
const PATIENCE: Duration = Duration::from_secs(120);

fn scenarios(url: &str, words: &[&str]) -> Program {
    Node::program(words).wasm(consumer("client")).env("NATS_WEBSOCKET_URL", url).run()
}

/// Runs scenarios, and waits until all of them went well.
async fn go_well(url: &str, words: &[&str]) {
    ends_well(&mut scenarios(url, words)).await;
}

async fn ends_well(program: &mut Program) {
    assert_eq!(program.result(PATIENCE).await, "result: ok");
}

/// Waits until a scenario says something for the `n`th time.
async fn says_again(program: &Program, text: &str, n: usize) {
    let output = program.output().clone();
    until(format!("{text:?}, {n} times"), PATIENCE, || {
        (output.lines_with(text).len() >= n).then_some(())
    })
    .await;
}

/// Answers on `svc.*`: `echo` with what was asked, headers and all; `late` with the same, but right
/// before the next echo, unless it is the `last` one; `many` with the numbers up to the one asked for, and with nothing behind them if it ends
/// with `!`; `silent` never.
async fn service(client: &Client) {
    let nats = client.nats().clone();
    let mut asked = Vec::new();
    for subject in ["svc.echo", "svc.late", "svc.many", "svc.silent"] {
        asked.push(nats.subscribe(subject).await.expect("a subscription"));
    }
    tokio::spawn(async move {
        let mut asked = futures_util::stream::select_all(asked);
        let mut late = Vec::new();
        while let Some(message) = asked.next().await {
            let Some(reply) = message.reply else { continue };
            let (headers, payload) = (message.headers.unwrap_or_default(), message.payload);
            if message.subject.as_str() == "svc.echo" {
                for (reply, payload) in late.drain(..) {
                    nats.publish(reply, payload).await.expect("published");
                }
            }
            match message.subject.as_str() {
                "svc.late" if payload != "last" => {
                    late.push((reply, payload));
                    Ok(())
                }
                "svc.late" => nats.publish(reply, payload).await,
                "svc.echo" if headers.is_empty() => nats.publish(reply, payload).await,
                "svc.echo" => nats.publish_with_headers(reply, headers, payload).await,
                "svc.many" => {
                    let body = String::from_utf8_lossy(&payload).into_owned();
                    let last = body.trim_end_matches('!').parse().expect("a number");
                    for n in 1..=last {
                        let number = u32::to_string(&n).into();
                        nats.publish(reply.clone(), number).await.expect("published");
                    }
                    if body.ends_with('!') {
                        nats.publish(reply, "".into()).await.expect("published");
                    }
                    Ok(())
                }
                _ => Ok(()),
            }
            .expect("published");
        }
    });
    client.nats().flush().await.expect("subscribed");
}

#[tokio::test]
async fn what_the_messaging_api_promises() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    service(&client).await;
    // Leftovers first: the others leave some.
    let words = ["leftovers", "headers", "requests", "many", "groups", "unsubscribe", "drain"];
    let words = [&words[..], &["echo", "credits", "process"]].concat();
    go_well(&server.websocket_url(), &words).await;
}

/// Kills the server and starts it again, as the scenario asks.
async fn restart_when_asked(server: &mut NatsServer, program: &Program) {
    program.says("kill the server", PATIENCE).await;
    server.kill();
    program.says("start the server", PATIENCE).await;
    server.run().await;
}

#[tokio::test]
async fn a_reconnect_keeps_what_is_left_and_tells_of_it_in_order() {
    let mut server = NatsServer::start().await;
    let client = server.client().await;
    service(&client).await;
    let mut program = scenarios(&server.websocket_url(), &["reconnect"]);
    restart_when_asked(&mut server, &program).await;
    ends_well(&mut program).await;
}

#[tokio::test]
async fn who_asks_learns_at_once_that_the_server_is_gone() {
    let mut server = NatsServer::start().await;
    let client = server.client().await;
    service(&client).await;
    let asked = client.watch("svc.silent").await;
    let mut program = scenarios(&server.websocket_url(), &["killed", "gave-up", "no-server"]);
    asked.find("the request", PATIENCE, |_| true).await;
    server.kill();
    says_again(&program, "start the server", 1).await;
    server.run().await;
    says_again(&program, "kill the server", 2).await;
    server.kill();
    // Of the last two.
    says_again(&program, "start the server", 3).await;
    server.run().await;
    ends_well(&mut program).await;
    assert_eq!(asked.all().len(), 1, "it was asked once");
}

#[tokio::test]
async fn what_is_published_without_a_server_is_kept_up_to_its_bounds() {
    let mut server = NatsServer::start().await;
    let mut program = scenarios(&server.websocket_url(), &["offline"]);
    program.says("kill the server", PATIENCE).await;
    server.kill();
    program.says("start the server", PATIENCE).await;
    let taken = |subject: &str| {
        let line = program.output().lines_with(&format!("taken {subject} ")).pop();
        line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).expect("a number")
    };
    let taken: Vec<_> = ["o.messages", "o.bytes", "o.none", "o.nothing"]
        .into_iter()
        .map(|s| (s, taken(s)))
        .collect();
    assert_eq!((taken[0].1, taken[2].1, taken[3].1), (10, 0, 0), "{taken:?}");
    // `PUB o.bytes 50␍␊`, 50 bytes, `␍␊`.
    assert_eq!(taken[1].1, 1000 / (16 + 50 + 2), "{taken:?}");
    server.run().await;
    ends_well(&mut program).await;
}

#[tokio::test]
async fn what_the_server_does_not_take_is_refused_at_the_call_also_after_a_reconnect() {
    let mut server = NatsServer::with("max_payload: 2048").await;
    let mut program = scenarios(&server.websocket_url(), &["max-payload"]);
    program.says("kill the server", PATIENCE).await;
    server.kill();
    server.set("max_payload: 1024");
    program.says("start the server", PATIENCE).await;
    server.run().await;
    ends_well(&mut program).await;
}

const PERMISSIONS: &str = r#"
authorization: { users: [
  { user: admin, password: pw }
  { user: app, password: pw, permissions: {
      publish: { deny: "secret.>" }, subscribe: { deny: "hidden.>" } } }
  { user: deaf, password: pw, permissions: { subscribe: { deny: "_INBOX.>" } } }
] }
"#;

#[tokio::test]
async fn a_missing_permission_reaches_who_needs_it() {
    let server = NatsServer::with(PERMISSIONS).await;
    let options = async_nats::ConnectOptions::with_user_and_password("admin".into(), "pw".into());
    let client = server.client_with(&options).await;
    service(&client).await;
    go_well(&server.websocket_url(), &["permissions", "no-inbox"]).await;

    // And an agent's, by the node's connection.
    let node = Node::program(&["node"]).wasm(consumer("client")).env("NODE_ID", "n1");
    let node = node.env("NATS_WEBSOCKET_URL", &server.websocket_url_as("app:pw")).run();
    node.says("ready: node=n1 ", PATIENCE).await;
    client.node_answers("n1", SOON).await;
    let failures = client.watch("supervision.failures.low").await;
    client.spawn(json!({"id": "w", "agent_type": "worker"})).await;
    let asked = client.input("w", json!({"do": "request", "subject": "secret.x"})).await;
    let error = asked["error"].as_str().unwrap_or_default();
    assert!(error.contains("no permission to publish to \"secret.x\""), "{asked}");
    let subscribed = client.input("w", json!({"do": "subscribe", "subject": "hidden.x"})).await;
    assert_eq!(subscribed, Value::Null, "the server says no later");
    let failure = failures.wait("Failure", "w", 1, SOON).await.remove(0);
    assert_eq!((&failure["severity"], &failure["incarnation"]), (&json!("Low"), &json!(1)));
    assert!(failure["context"].to_string().contains("hidden.x"), "{failure}");
    // It lives, and may subscribe to others.
    client.input("w", json!({"do": "subscribe", "subject": "open.x"})).await;
    client.publish("open.x", "1").await;
    hears(&client, "w", "1").await;
}

#[tokio::test]
async fn an_agent_that_could_not_be_reached_can_be_when_the_server_permits_it() {
    let users = |denied: &str| {
        format!(
            "authorization {{ users = [ {{ user: admin, password: pw }}, {{ user: app, password: pw, \
             permissions: {{ subscribe: {{ allow: \">\", deny: [{denied}] }} }} }} ] }}"
        )
    };
    let mut server = NatsServer::with(&users("\"agent.input.late\"")).await;
    let options = async_nats::ConnectOptions::with_user_and_password("admin".into(), "pw".into());
    let client = server.client_with(&options).await;
    let node = Node::program(&["node"]).env("NODE_ID", "n1");
    let node = node.env("NATS_WEBSOCKET_URL", &server.websocket_url_as("app:pw")).run();
    node.says("ready: node=n1 ", PATIENCE).await;
    client.node_answers("n1", SOON).await;
    client.spawn(json!({"id": "late", "agent_type": "echo"})).await;
    node.says("agent.input.late", SOON).await;
    let nobody = client.nats().request("agent.input.late", "1".into()).await;
    assert!(nobody.is_err(), "{nobody:?}");

    server.kill();
    server.set(&users(""));
    server.run().await;
    let client = server.client_with(&options).await;
    client.node_answers("n1", PATIENCE).await;
    let deadline = std::time::Instant::now() + SOON;
    while client.nats().request("agent.input.late", "1".into()).await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the agent cannot be reached");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until an agent has heard this, and gives what it heard.
async fn hears(client: &Client, id: &str, body: &str) -> Value {
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let heard = client.input(id, json!({"do": "heard"})).await;
        let heard = heard.as_array().cloned().unwrap_or_default();
        if let Some(one) = heard.iter().find(|one| one["body"] == body) {
            return one.clone();
        }
        assert!(std::time::Instant::now() < deadline, "{id} does not hear {body}: {heard:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The numbers with which what comes on `b.x` begins, as they come.
async fn numbers(client: &Client) -> std::sync::Arc<std::sync::Mutex<Vec<u32>>> {
    let seen = std::sync::Arc::<std::sync::Mutex<Vec<u32>>>::default();
    let mut messages = client.nats().subscribe("b.x").await.expect("a subscription");
    client.nats().flush().await.expect("subscribed");
    let keep = seen.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let number = message.payload.split(|byte| *byte == b' ').next();
            let number = number.and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
            keep.lock().expect("a lock").push(number.expect("a number"));
        }
    });
    seen
}

#[tokio::test]
async fn a_publisher_that_outruns_the_server_waits_or_is_told_and_nothing_is_lost() {
    // Nobody but the publisher is slow.
    let server = NatsServer::with("write_deadline: \"60s\"").await;
    let client = server.client().await;
    let relay = Relay::to(server.websocket_port()).await;
    for scenario in ["busy", "wait"] {
        let seen = numbers(&client).await;
        let mut program = scenarios(&relay.websocket_url(), &[scenario]);
        program.says("hold", PATIENCE).await;
        relay.hold();
        client.publish("b.go", "").await;
        if scenario == "busy" {
            program.says("release after ", PATIENCE).await;
        } else {
            // It goes on until what is on its way is full, and then stands.
            let output = program.output().clone();
            let (mut last, mut stood) = (0, 0);
            while stood < 50 {
                let progress = output.lines_with("progress").len();
                stood = if progress > 0 && progress == last { stood + 1 } else { 0 };
                last = progress;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(last < 100, "all 60 MB went into a wire that nobody reads");
        }
        relay.release();
        let line = program.says("taken ", PATIENCE).await;
        ends_well(&mut program).await;
        let taken: u32 = line.trim_start_matches("taken ").parse().expect("a number");
        until(format!("{taken} messages"), SOON, || {
            (seen.lock().expect("a lock").len() as u32 >= taken).then_some(())
        })
        .await;
        let seen = seen.lock().expect("a lock").clone();
        assert!(seen.into_iter().eq(0..taken), "{scenario}: each once, in their order");
    }
}

#[tokio::test]
async fn an_agent_has_headers_and_no_late_answers() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    service(&client).await;
    let node = Node::program(&["node"]).wasm(consumer("client")).env("NODE_ID", "n1");
    let node = node.env("NATS_WEBSOCKET_URL", &server.websocket_url()).run();
    node.says("ready: node=n1 ", PATIENCE).await;
    client.node_answers("n1", SOON).await;
    for id in ["a", "b"] {
        client.spawn(json!({"id": id, "agent_type": "worker"})).await;
    }
    client.input("b", json!({"do": "subscribe", "subject": "talk.*"})).await;
    let headers = json!([["X-Trace", "1"], ["X-Trace", "2"], ["x-trace", "lower"]]);
    let mut told = json!({"do": "publish", "subject": "talk.x", "body": "hello",
        "reply": "talk.y", "headers": headers});
    client.input("a", told.clone()).await;
    let heard = hears(&client, "b", "hello").await;
    let expected = json!({"subject": "talk.x", "reply": "talk.y", "headers": headers,
        "status": null, "body": "hello"});
    assert_eq!(heard, expected);
    // There and back by async-nats.
    (told["subject"], told["body"]) = ("svc.echo".into(), "back".into());
    client.input("a", told).await;
    let heard = hears(&client, "b", "back").await;
    assert_eq!(heard["subject"], "talk.y");
    let mut came = heard["headers"].as_array().cloned().unwrap_or_default();
    came.sort_by_key(Value::to_string);
    assert_eq!(Value::from(came), headers);

    // The answers to these come when nobody waits any more, and the handler is not called for them.
    let failures = client.watch("supervision.failures.*").await;
    for n in 0..20 {
        let late = json!({"do": "request", "subject": "svc.late", "timeout_ms": 1, "body": "late"});
        let late = client.input("a", late).await;
        let error = late["error"].as_str().unwrap_or_default();
        assert!(error.contains("no answer from svc.late within 1 ms"), "{late}");
        let told = json!({"do": "request", "subject": "svc.echo", "body": n.to_string()});
        assert_eq!(client.input("a", told).await, n.to_string());
    }
    let last = json!({"do": "request", "subject": "svc.late", "body": "last"});
    assert_eq!(client.input("a", last).await, "last");
    assert_eq!(client.input("a", json!({"do": "heard"})).await, json!([]));
    let nobody = client.input("a", json!({"do": "request", "subject": "svc.nobody"})).await;
    assert_eq!(nobody["error"], "NATS: nobody listens on svc.nobody");
    assert!(failures.all().is_empty());

    // The death of the connection's process is known at once to who waits for an answer.
    let told = json!({"do": "request", "subject": "svc.silent", "timeout_ms": 600_000});
    let asked = client.watch("svc.silent").await;
    let request = client.input("a", told);
    let kill = async {
        asked.find("the request", SOON, |_| true).await;
        client.publish("agent.input.b", r#"{"do":"kill the connection"}"#).await;
    };
    let (asked, ()) = tokio::join!(request, kill);
    assert_eq!(asked["error"], "NATS: the connection broke before svc.silent was answered");
    client.publish("talk.z", "again").await;
    let deadline = std::time::Instant::now() + SOON;
    while client.input("b", json!({"do": "heard"})).await == json!([]) {
        assert!(std::time::Instant::now() < deadline, "it is not subscribed again");
        client.publish("talk.z", "again").await;
    }
}

/// The memory of a process, in bytes: its own part and its share of what it has in common.
fn memory(pid: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kb = pss.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kb.expect("a figure") * 1024
}

#[tokio::test]
async fn an_agent_that_hangs_costs_bounded_memory_and_others_go_on() {
    const MESSAGES: usize = 100_000;
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = Node::program(&["node"]).wasm(consumer("client")).env("NODE_ID", "n1");
    let node = node.env("NATS_WEBSOCKET_URL", &server.websocket_url()).run();
    node.says("ready: node=n1 ", PATIENCE).await;
    client.node_answers("n1", SOON).await;
    client.spawn(json!({"id": "stuck", "agent_type": "chaos", "timeout_ms": 600_000})).await;
    client.spawn(json!({"id": "well", "agent_type": "echo"})).await;
    assert_eq!(client.input("stuck", json!("not yet")).await, "not yet");
    client.publish("agent.input.stuck", r#"{"die":"hang"}"#).await;
    let refused = client.watch("refused").await;
    let before = memory(node.process_id());
    let body = json!("x".repeat(1000)).to_string();
    for _ in 0..MESSAGES {
        let sent =
            client.nats().publish_with_reply("agent.input.stuck", "refused", body.clone().into());
        sent.await.expect("it can be published");
    }
    assert_eq!(client.input("well", json!("still")).await, "still");
    // 8 MiB of them wait; for each of the others there is an answer.
    let fits = (8 << 20) / 1000;
    until("those that are refused", SOON, || {
        (refused.all().len() >= MESSAGES - fits).then_some(())
    })
    .await;
    let codes = refused.all().into_iter().map(|seen| seen.json()["Err"]["code"].clone());
    assert_eq!(codes.filter(|code| code != "capacity").count(), 0);
    let grown = memory(node.process_id()).saturating_sub(before);
    assert!(grown < 40 << 20, "{grown} bytes, of the {} that were sent", MESSAGES * 1000);
    let found = node.says("nats: slow consumer", SOON).await;
    assert!(found.contains("agent.input.stuck"), "{found}");
    assert_eq!(node.output().lines_with("nats: slow consumer").len(), 1, "once");
}
