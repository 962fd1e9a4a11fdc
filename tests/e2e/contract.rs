//! The wire contract, command by command and subject by subject, as a stranger sees it.

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    Client, Failed, Host, NatsServer, Node, SOON, assert_timestamp, assert_uuid_v4, envelope,
    supervision, until, without_counters,
};

support::on_each_host! {
    commands_are_taken_in_every_form,
    shutdown_and_drain_end_a_node_bare_and_in_an_envelope,
    drain_ends_a_node_whose_only_agent_has_failed,
    spawn_shows_and_stops_an_agent,
    list_gives_pages,
    an_agent_is_reached_on_its_subject,
    an_agent_without_nats_is_reached_by_command_alone,
    every_event_comes_in_its_envelope,
    two_nodes_share_the_commands_and_are_told_apart,
    what_cannot_be_done_is_refused_with_its_code,
    an_agent_that_is_being_restarted_says_so,
    an_input_that_is_never_answered_times_out,
}

async fn one_node() -> (NatsServer, Client, Node) {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = Node::on(&server, &client, "n1").await;
    (server, client, node)
}

/// The forms of a command without fields.
fn forms(name: &str) -> Vec<Value> {
    let bare = [json!({name: {}}), json!({name: null}), json!(name)];
    bare.clone().into_iter().chain(bare.map(envelope)).collect()
}

async fn commands_are_taken_in_every_form() {
    let (_server, client, _node) = one_node().await;
    for subject in ["agent.command", "agent.command.n1"] {
        for body in forms("Status") {
            let status = client.ok(subject, body).await;
            assert_eq!(status["counters"]["restarts"], 0);
            let expected = json!({"node_id": "n1", "host": Host::current().name(), "version": "0.1.0",
                "agents": 0, "by_status": {}});
            assert_eq!(without_counters(status), expected);
        }
        for body in forms("List") {
            let page = client.ok(subject, body).await;
            assert_eq!(page, json!({"agents": [], "next": null}));
        }
    }
    for subject in ["system.control", "system.control.n1"] {
        for body in forms("Ping") {
            let pong = client.ok(subject, body).await;
            let expected = json!({"node_id": "n1", "host": Host::current().name(), "version": "0.1.0", "agents": 0});
            assert_eq!(pong, expected);
        }
    }
    let commands = [
        (json!({"Spawn": {"config": {"id": "a", "agent_type": "echo"}}}), "agent_id"),
        (json!({"Status": {"agent_id": "a"}}), "agent_id"),
        (json!({"List": {"after": null, "limit": 5}}), "agents"),
        (json!({"Input": {"agent_id": "a", "message": {"x": 1}}}), "x"),
        (json!({"Stop": {"agent_id": "a"}}), "agent_id"),
    ];
    for wrap in [|body| body, envelope] {
        for (body, field) in &commands {
            let answer = client.command(wrap(body.clone())).await;
            assert!(!answer[field].is_null(), "{body}: {answer}");
        }
        gone(&client, "a").await;
    }
}

async fn gone(client: &Client, id: &str) {
    let status = json!({"Status": {"agent_id": id}});
    loop {
        let answer = client.request("agent.command", status.clone()).await;
        if answer.get("Err").is_some_and(|error| error["code"] == "unknown_agent") {
            return;
        }
        assert_eq!(answer["Ok"]["status"], "Stopping", "{answer}");
    }
}

async fn shutdown_and_drain_end_a_node_bare_and_in_an_envelope() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let bodies = [
        json!({"Shutdown": null}),
        envelope(json!({"Shutdown": {"grace_ms": 500}})),
        json!("Drain"),
        envelope(json!({"Drain": {}})),
    ];
    let mut nodes = Vec::new();
    for number in 0..bodies.len() {
        let id = format!("n{number}");
        nodes.push(Node::builder(&id).nats(&server).start_alone().await);
    }
    for (mut node, body) in nodes.into_iter().zip(bodies) {
        node.answers(&client, SOON).await;
        let command = format!("agent.command.{}", node.id());
        let control = format!("system.control.{}", node.id());
        client.ok(&command, json!({"Spawn": {"config": {"id": "a", "agent_type": "echo"}}})).await;
        let answer = client.ok(&control, body.clone()).await;
        assert_eq!(answer, json!({"node_id": node.id()}), "{body}");
        if body.to_string().contains("Drain") {
            let spawn = json!({"Spawn": {"config": {"agent_type": "echo"}}});
            assert_eq!(client.err(&command, spawn).await, "capacity", "no new agents");
            assert_eq!(client.input("a", json!(1)).await, 1, "those that are there work on");
            assert!(node.is_running());
            client.ok(&command, json!({"Stop": {"agent_id": "a"}})).await;
        }
        let result = node.result(SOON).await;
        assert!(result.starts_with("result: ok stopped="), "{body}: {result}");
        assert!(result.ends_with(" killed=0 flushed=true"), "{body}: {result}");
    }
}

async fn drain_ends_a_node_whose_only_agent_has_failed() {
    let (_server, client, mut node) = one_node().await;
    client.spawn(json!({"id": "c", "agent_type": "chaos", "restart": "Permanent"})).await;
    fail(&client, "c").await;
    client.ok("system.control.n1", json!("Drain")).await;
    assert!(node.result(SOON).await.starts_with("result: ok"));
}

/// Makes a chaos agent die until its supervisor gives it up.
async fn fail(client: &Client, id: &str) {
    loop {
        let status = client.agent(id).await["status"].clone();
        if status == "Failed" {
            return;
        }
        if status == "Running" {
            client.publish(&format!("agent.input.{id}"), r#"{"die":"panic"}"#).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn spawn_shows_and_stops_an_agent() {
    let (_server, client, _node) = one_node().await;
    let spawned = client.command(json!({"Spawn": {"config": {"id": "a"}}})).await;
    assert_eq!(spawned, json!({"agent_id": "a", "node_id": "n1", "incarnation": 1}));
    let agent = client.agent_is("a", "Running", SOON).await;
    assert_eq!(agent["counters"]["errors"], 0);
    let expected = json!({"agent_id": "a", "agent_type": "state", "supervisor": "agents", "status": "Running",
        "incarnation": 1, "restarts": 0});
    assert_eq!(without_counters(agent), expected);
    let status = client.command(json!("Status")).await;
    assert_eq!((&status["agents"], &status["by_status"]), (&json!(1), &json!({"Running": 1})));
    assert_eq!(client.ok("system.control", json!("Ping")).await["agents"], 1);

    let spawned = client.command(json!({"Spawn": {"config": {"agent_type": "echo"}}})).await;
    assert_uuid_v4(&spawned["agent_id"]);
    let made_up = spawned["agent_id"].as_str().expect("an id");
    assert_eq!(client.input(made_up, json!([1])).await, json!([1]));

    let stopped = client.command(json!({"Stop": {"agent_id": "a"}})).await;
    assert_eq!(stopped, json!({"agent_id": "a"}));
    gone(&client, "a").await;
    assert_eq!(
        client.err("agent.command", json!({"Stop": {"agent_id": "a"}})).await,
        "unknown_agent"
    );
    until_no_responders(&client, "agent.input.a").await;
    let again = client.spawn(json!({"id": "a", "restart": "Temporary", "capabilities": ["x"],
        "args": {"y": [1]}, "max_fuel": 1_000_000_000, "timeout_ms": 500, "max_memory_mb": 8,
        "memory_backend_type": "File", "nats_enabled": true}));
    assert!(again.await > 1, "a later life has a higher number");
}

async fn until_no_responders(client: &Client, subject: &str) {
    let deadline = std::time::Instant::now() + SOON;
    while client.try_request(subject, "1", SOON).await != Err(Failed::NoResponders) {
        assert!(std::time::Instant::now() < deadline, "somebody is there on {subject}");
    }
}

async fn list_gives_pages() {
    let (_server, client, _node) = one_node().await;
    let mut ids: Vec<_> = (0..25).map(|number| format!("a{number}")).collect();
    for id in &ids {
        client.spawn(json!({"id": id, "agent_type": "echo"})).await;
    }
    ids.sort_unstable();
    let (mut listed, mut after, mut sizes) = (Vec::new(), Value::Null, Vec::new());
    loop {
        let page = client.command(json!({"List": {"after": after, "limit": 10}})).await;
        let agents = page["agents"].as_array().expect("agents");
        sizes.push(agents.len());
        listed.extend(
            agents.iter().map(|agent| agent["agent_id"].as_str().expect("an id").to_owned()),
        );
        after = page["next"].clone();
        if after.is_null() {
            break;
        }
        assert_eq!(after.as_str(), listed.last().map(String::as_str));
    }
    assert_eq!((listed, sizes), (ids.clone(), vec![10, 10, 5]));
    let after_a7 = client.command(json!({"List": {"after": "a77", "limit": 1000}})).await;
    let names: Vec<_> = after_a7["agents"]
        .as_array()
        .expect("agents")
        .iter()
        .map(|a| a["agent_id"].clone())
        .collect();
    assert_eq!(names, ["a8", "a9"], "an `after` need not exist");
    assert_eq!(after_a7["next"], Value::Null);
    for limit in [json!(0), json!(1001), json!("9")] {
        assert_eq!(
            client.err("agent.command", json!({"List": {"limit": limit}})).await,
            "bad_shape"
        );
    }
}

async fn an_agent_is_reached_on_its_subject() {
    let (_server, client, _node) = one_node().await;
    client.spawn(json!({"id": "e", "agent_type": "echo"})).await;
    client.spawn(json!({"id": "s"})).await;
    client.spawn(json!({"id": "t", "agent_type": "text"})).await;

    // Bare values of every kind, alone and in an envelope, are answered with a message.
    for value in [json!(null), json!(true), json!(-1.5), json!("x"), json!([1]), json!({"id": 1})] {
        for body in [value.clone(), envelope(value.clone())] {
            let answer = client.request("agent.input.e", body).await;
            let fields: Vec<_> = answer.as_object().expect("a message").keys().cloned().collect();
            assert_eq!(fields, ["from", "id", "payload", "timestamp", "to"], "{answer}");
            assert_eq!((&answer["from"], &answer["to"]), (&json!("e"), &json!("external")));
            assert_eq!(answer["payload"], value);
            assert!(answer["timestamp"].as_u64().is_some_and(|seconds| seconds > 1_700_000_000));
        }
    }
    let message =
        |to: &str| json!({"id": "m", "from": "b", "to": to, "payload": 5, "timestamp": 7});
    let answer = client.request("agent.input.e", message("e")).await;
    assert_eq!((&answer["to"], &answer["payload"]), (&json!("b"), &json!(5)));
    assert_eq!(client.err("agent.input.e", message("other")).await, "bad_shape");
    let input = json!({"Input": {"agent_id": "e", "message": message("e")}});
    assert_eq!(client.command(input).await, 5);
    let input = json!({"Input": {"agent_id": "e", "message": message("other")}});
    assert_eq!(client.err("agent.command", input).await, "bad_shape");

    // Without a reply subject it is done all the same.
    let store = json!({"Store": {"key": "k", "value": {"v": [1, null]}}});
    client.publish("agent.input.s", store.to_string()).await;
    assert_eq!(client.input("s", json!({"Get": {"key": "k"}})).await, json!({"v": [1, null]}));
    client
        .publish(
            "agent.command",
            json!({"Input": {"agent_id": "s", "message": {"Store": {"key": "j", "value": 2}}}})
                .to_string(),
        )
        .await;
    let listed = async || client.input("s", json!("List")).await == json!(["j", "k"]);
    while !listed().await {}

    assert_eq!(client.input("s", json!({"Store": {"key": "k", "value": 1}})).await, Value::Null);
    assert_eq!(client.input("s", json!({"Delete": {"key": "k"}})).await, true);
    assert_eq!(client.input("s", json!({"Delete": {"key": "k"}})).await, false);
    assert_eq!(client.input("s", json!({"Get": {"key": "k"}})).await, Value::Null);
    for (left, clear) in
        [(1, json!("Clear")), (0, json!({"Clear": {}})), (0, json!({"Clear": null}))]
    {
        let keys = client.input("s", json!({"List": {}})).await;
        assert_eq!(keys.as_array().map(Vec::len), Some(left), "{keys}");
        assert_eq!(client.input("s", clear).await, Value::Null);
    }
    assert_eq!(client.err("agent.input.s", json!({"Shove": {}})).await, "handler_failed");
    let counted = client.input("t", json!("one Two, TWO2two")).await;
    assert_eq!(counted, json!({"words": 4, "counts": {"one": 1, "two": 3}}));

    let unknown = client.try_request("agent.input.nobody", "1", SOON).await;
    assert_eq!(unknown, Err(Failed::NoResponders));
}

async fn an_agent_without_nats_is_reached_by_command_alone() {
    let (_server, client, _node) = one_node().await;
    client.spawn(json!({"id": "e", "agent_type": "echo", "nats_enabled": false})).await;
    let input = json!({"Input": {"agent_id": "e", "message": "x"}});
    assert_eq!(client.command(input).await, "x");
    let direct = client.try_request("agent.input.e", "1", SOON).await;
    assert_eq!(direct, Err(Failed::NoResponders));
}

async fn every_event_comes_in_its_envelope() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let supervision_events = client.watch("supervision.>").await;
    let agent_events = client.watch("agent.events.*").await;
    let _node = Node::on(&server, &client, "n1").await;

    client.spawn(json!({"id": "c", "agent_type": "chaos", "max_memory_mb": 16})).await;
    agent_events.wait("Spawned", "c", 1, SOON).await;
    assert_eq!(client.err("agent.input.c", json!({"die": "twice"})).await, "handler_failed");
    client.publish("agent.input.c", r#"{"die":"panic"}"#).await;
    supervision_events.wait("Recovery", "c", 1, SOON).await;
    client.command(json!({"Stop": {"agent_id": "c"}})).await;
    agent_events.wait("Terminated", "c", 1, SOON).await;
    let stopped = |seen: &support::Seen| seen.text.contains("ChildStopped");
    supervision_events.find("ChildStopped", SOON, stopped).await;

    for seen in supervision_events.all() {
        let (kind, fields) = seen.event();
        let event = seen.json();
        let severity = event["metadata"]["severity"].as_str();
        supervision(&event, "n1", severity);
        match kind.as_str() {
            "Health" => {
                assert_eq!(seen.subject, "supervision.health.c");
                assert_eq!((severity, &fields["status"]), (None, &json!("Healthy")));
                let metrics: Vec<_> =
                    fields["metrics"].as_object().expect("metrics").keys().cloned().collect();
                let expected = [
                    "cpu_usage",
                    "error_rate",
                    "errors",
                    "handled",
                    "handling_us",
                    "mailbox_delay_us",
                    "memory_usage",
                    "response_time_ms",
                    "throughput",
                ];
                assert_eq!(metrics, expected);
                assert_eq!(fields["metrics"]["cpu_usage"], Value::Null, "it cannot be measured");
                assert_timestamp(&fields["timestamp"]);
            }
            "Failure" => {
                let level = fields["severity"].as_str().expect("a severity");
                assert_eq!(Some(level), severity);
                assert_eq!(seen.subject, format!("supervision.failures.{}", level.to_lowercase()));
                assert_eq!((&fields["agent_id"], &fields["incarnation"]), (&json!("c"), &json!(1)));
                assert_timestamp(&fields["detection_time"]);
            }
            "Recovery" => {
                assert_eq!((seen.subject.as_str(), severity), ("supervision.recovery.c", None));
                let fixed = json!([
                    fields["agent_id"],
                    fields["incarnation"],
                    fields["recovery_action"],
                    fields["attempt"],
                    fields["outcome"],
                    fields["initiator"]
                ]);
                assert_eq!(fixed, json!(["c", 2, "Restart", 1, "Succeeded", "agents"]));
                assert!(
                    fields["downtime_us"].as_u64().is_some_and(|us| us < 2_000_000),
                    "{fields}"
                );
                assert_timestamp(&fields["timestamp"]);
            }
            "SupervisorLifecycle" => {
                assert_eq!(
                    (seen.subject.as_str(), severity),
                    ("supervision.lifecycle.agents", None)
                );
                assert_eq!(fields["supervisor_id"], "agents");
            }
            other => panic!("an event of an unknown kind {other}: {event}"),
        }
    }
    let failures = supervision_events.events("Failure", "c");
    let told: Vec<_> = failures.iter().map(|f| (&f["failure_type"], &f["severity"])).collect();
    let (protocol, crash) = (json!("ProtocolViolation"), json!("ProcessCrash"));
    assert_eq!(told, [(&protocol, &json!("Low")), (&crash, &json!("High"))]);
    assert_eq!(failures[1]["context"]["message"], "told to panic");
    assert!(
        failures[1]["context"]["place"].as_str().is_some_and(|place| place.contains("chaos.rs:"))
    );
    let of_supervisor = supervision_events.all().into_iter().filter_map(|seen| {
        let (kind, fields) = seen.event();
        (kind == "SupervisorLifecycle")
            .then(|| (fields["event_type"].clone(), fields["affected_agents"].clone()))
    });
    let steps: Vec<_> = of_supervisor.collect();
    let (nobody, c) = (json!([]), json!(["c"]));
    let expected = [
        ("SupervisorStarted", nobody),
        ("ChildStarted", c.clone()),
        ("ChildRestarted", c.clone()),
        ("ChildStopped", c),
    ];
    assert_eq!(steps, expected.map(|(step, agents)| (json!(step), agents)));

    let mut story = Vec::new();
    for seen in agent_events.all() {
        assert_eq!(seen.subject, "agent.events.c");
        let event = seen.json();
        assert_uuid_v4(&event["id"]);
        assert_timestamp(&event["timestamp"]);
        assert_eq!(
            (&event["source"], &event["metadata"]),
            (&json!("c"), &json!({"event_category": "agent"}))
        );
        let (kind, fields) = seen.event();
        assert_eq!(fields["agent_id"], "c");
        story.push(match kind.as_str() {
            "StateChanged" => {
                format!("{} {}→{}", fields["incarnation"], fields["old_state"], fields["new_state"])
            }
            _ => format!("{} {kind}", fields["incarnation"]),
        });
        if kind == "Spawned" {
            assert_eq!(fields["config"]["max_memory_mb"], 16);
        }
    }
    let expected = [
        "1 Spawned",
        r#"1 "Starting"→"Running""#,
        "1 Error",
        r#"1 "Running"→"Restarting""#,
        r#"2 "Restarting"→"Running""#,
        r#"2 "Running"→"Stopping""#,
        r#"2 "Stopping"→"Terminated""#,
        "2 Terminated",
    ];
    assert_eq!(story, expected);
    let mut ids: Vec<_> = supervision_events
        .all()
        .iter()
        .chain(&agent_events.all())
        .map(|seen| seen.json()["id"].to_string())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "every event has an id of its own");
}

async fn two_nodes_share_the_commands_and_are_told_apart() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let first = Node::builder("n1").nats(&server).start_alone().await;
    let second = Node::builder("n2").nats(&server).start_alone().await;
    for node in [&first, &second] {
        node.answers(&client, SOON).await;
        let command = format!("agent.command.{}", node.id());
        assert_eq!(client.ok(&command, json!("Status")).await["node_id"], node.id());
        let control = format!("system.control.{}", node.id());
        assert_eq!(client.ok(&control, json!("Ping")).await["node_id"], node.id());
    }

    // One answer for each command; two for what goes to all nodes. What is asked of each of them
    // at the end is answered last, so that nothing more comes after it.
    for (shared, own, expected) in
        [("agent.command", "agent.command", 40), ("system.control", "system.control", 80)]
    {
        let inbox = client.nats().new_inbox();
        let answers = client.watch(&inbox).await;
        let body = if shared == "agent.command" { "{\"Status\":{}}" } else { "\"Ping\"" };
        let subjects = std::iter::repeat_n(shared.to_owned(), 40)
            .chain([format!("{own}.n1"), format!("{own}.n2")]);
        for subject in subjects {
            client
                .nats()
                .publish_with_reply(subject, inbox.clone(), body.into())
                .await
                .expect("sent");
        }
        client.nats().flush().await.expect("sent");
        let of = |node: &str| {
            answers.all().iter().filter(|seen| seen.json()["Ok"]["node_id"] == node).count()
        };
        until("all answers", SOON, || (answers.all().len() >= expected + 2).then_some(())).await;
        client.watch("nothing").await;
        let counts = (of("n1"), of("n2"));
        assert_eq!(counts.0 + counts.1, expected + 2, "{shared}: {counts:?}");
        assert!(counts.0 > 1 && counts.1 > 1, "{shared}: both take part: {counts:?}");
    }

    // The same id lives once on each node, and a node knows its own agents only.
    for node in ["n1", "n2"] {
        let command = format!("agent.command.{node}");
        let spawn =
            json!({"Spawn": {"config": {"id": format!("on-{node}"), "agent_type": "echo"}}});
        assert_eq!(client.ok(&command, spawn).await["node_id"], node);
    }
    let status = json!({"Status": {"agent_id": "on-n1"}});
    assert_eq!(client.err("agent.command.n2", status).await, "unknown_agent");
    assert_eq!(client.input("on-n1", json!(1)).await, 1);
    assert_eq!(client.input("on-n2", json!(2)).await, 2);
    assert!(second.shut_down(&client).await.starts_with("result: ok stopped=1"));
    assert_eq!(client.try_request("agent.input.on-n2", "1", SOON).await, Err(Failed::NoResponders));
    for _ in 0..10 {
        assert_eq!(client.command(json!("Status")).await["node_id"], "n1");
    }
}

async fn what_cannot_be_done_is_refused_with_its_code() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let _node =
        Node::builder("n1").nats(&server).words(&["--max-agents", "3"]).start(&client).await;
    let spawn = |config: Value| json!({"Spawn": {"config": config}});
    let cases = [
        (spawn(json!({"agent_type": "poet"})), "unknown_type"),
        (spawn(json!({"memory_backend_type": "Kv"})), "unsupported"),
        (spawn(json!({"max_memory_mb": 0})), "bad_shape"),
        (spawn(json!({"max_memory": 1})), "bad_shape"),
        (spawn(json!({"id": "a.b"})), "bad_id"),
        (json!({"Stop": {"agent_id": "x"}}), "unknown_agent"),
        (json!({"Status": {"agent_id": "x"}}), "unknown_agent"),
        (json!({"Input": {"agent_id": "x", "message": 1}}), "unknown_agent"),
    ];
    for (body, expected) in cases {
        assert_eq!(client.err("agent.command", body.clone()).await, expected, "{body}");
    }
    for id in ["a", "b", "c"] {
        client.spawn(json!({"id": id, "agent_type": "echo"})).await;
    }
    assert_eq!(client.err("agent.command", spawn(json!({"id": "a"}))).await, "exists");
    assert_eq!(client.err("agent.command", spawn(json!({"id": "d"}))).await, "capacity");
    client.command(json!({"Stop": {"agent_id": "b"}})).await;
    gone(&client, "b").await;
    client.spawn(json!({"id": "d", "agent_type": "echo"})).await;
    assert_eq!(client.input("d", json!(1)).await, 1);
}

async fn an_agent_that_is_being_restarted_says_so() {
    let (_server, client, _node) = one_node().await;
    client.spawn(json!({"id": "c", "agent_type": "chaos", "timeout_ms": 60_000})).await;
    // From the second death on there is a delay before the restart: 0, 100, 200, 400 ms …
    for life in 1..=4 {
        assert_eq!(client.agent_is("c", "Running", SOON).await["incarnation"], life);
        client.publish("agent.input.c", r#"{"die":"panic"}"#).await;
        if life < 4 {
            let deadline = std::time::Instant::now() + SOON;
            while client.agent("c").await["incarnation"] == life {
                assert!(std::time::Instant::now() < deadline, "life {life} goes on");
            }
        }
    }
    client.agent_is("c", "Restarting", SOON).await;
    assert_eq!(client.err("agent.input.c", json!(1)).await, "agent_restarting");
    let input = json!({"Input": {"agent_id": "c", "message": 1}});
    assert_eq!(client.err("agent.command", input).await, "agent_restarting");
    client.agent_is("c", "Running", SOON).await;
    assert_eq!(client.input("c", json!(1)).await, 1);
}

async fn an_input_that_is_never_answered_times_out() {
    let (_server, client, _node) = one_node().await;
    client.spawn(json!({"id": "c", "agent_type": "chaos", "timeout_ms": 60_000})).await;
    let input = json!({"Input": {"agent_id": "c", "message": {"die": "hang"}}});
    let asked = client.try_request("agent.command", input.to_string(), Duration::from_secs(45));
    let answer = asked.await.expect("an answer");
    assert_eq!(answer["Err"]["code"], "timeout", "{answer}");
}
