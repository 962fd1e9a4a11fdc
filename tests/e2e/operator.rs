//! The operator's commands of the native program, against nodes on Lunatic: what they show to people and to
//! programs, their exit statuses, and what they do where something is missing.

use std::process::Command;

use async_nats::ConnectOptions;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};
use support::{Client, Ended, Host, Native, NatsServer, Node, Program, SOON, free_port, until};

/// A run of the program to its end.
async fn run(server: &NatsServer, words: &[&str]) -> Ended {
    Native::new(words).on(server).ends().await
}

async fn with_node(id: &str) -> (NatsServer, Client, Node) {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = Node::on(&server, &client, id).await;
    (server, client, node)
}

/// The lines of a table as words.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// Waits until a watch that was started has its subscriptions.
async fn is_watching(watch: &Program) {
    watch.says("watching", SOON).await;
}

#[tokio::test]
async fn two_nodes_and_their_agents() {
    let (server, client, _n1) = with_node("n1").await;
    let _n2 = Node::on(&server, &client, "n2").await;

    // The nodes.
    let shown = run(&server, &["status"]).await.with(0);
    let table = rows(&shown);
    assert_eq!(table[0][..4], ["NODE", "HOST", "VERSION", "AGENTS"], "{shown}");
    assert_eq!(table[1][..4], ["n1", Host::current().name(), "0.1.0", "0"], "{shown}");
    assert_eq!((table[2][0], table.len()), ("n2", 3), "{shown}");
    let json = run(&server, &["status", "--json"]).await.json(0);
    let ids: Vec<_> =
        json["nodes"].as_array().expect("nodes").iter().map(|n| &n["node_id"]).collect();
    assert_eq!((ids, &json["silent"]), (vec![&json!("n1"), &json!("n2")], &json!([])));
    let own = client.ok("agent.command.n2", json!("Status")).await;
    assert_eq!(json["nodes"][1]["version"], own["version"], "as the node itself says it");
    let json = run(&server, &["--json", "status", "--node", "n2"]).await.json(0);
    assert_eq!(json["nodes"].as_array().map(Vec::len), Some(1), "{json}");

    // Starting agents.
    let spawn = ["spawn", "chaos", "--id", "a1", "--node", "n1", "--max-memory-mb", "16"];
    assert_eq!(run(&server, &spawn).await.with(0), "a1 runs on n1, in its life 1\n");
    let spawn =
        ["spawn", "state", "--id", "s1", "--node", "n2", "--json", "--restart", "temporary"];
    let json = run(&server, &spawn).await.json(0);
    assert_eq!(json, json!({"agent_id": "s1", "node_id": "n2", "incarnation": 1}));
    let made_up = run(&server, &["spawn", "echo", "--json"]).await.json(0)["agent_id"].clone();
    assert_eq!(made_up.as_str().map(str::len), Some(36));

    // Listing them.
    let shown = run(&server, &["agents"]).await.with(0);
    let of =
        |id: &str| rows(&shown).into_iter().find(|row| row[0] == id).map(|row| row[1..6].join(" "));
    assert_eq!(of("a1").as_deref(), Some("n1 chaos Running 1 0"), "{shown}");
    assert_eq!(of("s1").as_deref(), Some("n2 state Running 1 0"), "{shown}");
    let json = run(&server, &["agents", "--json", "--type", "state"]).await.json(0);
    assert_eq!((&json["agents"][0]["agent_id"], &json["more"]), (&json!("s1"), &json!(false)));
    assert_eq!(json["agents"][0]["node_id"], "n2");
    assert_eq!(json["agents"].as_array().map(Vec::len), Some(1));
    let none = run(&server, &["agents", "--status", "failed"]).await.with(0);
    assert_eq!(none, "no agents\n");

    // Talking to them, on whichever node they are.
    for (id, payload, answer) in [("a1", "[1,2]", json!([1, 2])), ("s1", "\"List\"", json!([]))] {
        let json = run(&server, &["send", id, payload, "--json"]).await.json(0);
        assert_eq!(json, json!({"agent_id": id, "payload": answer}));
    }
    assert_eq!(run(&server, &["send", "a1", "--text", "[1,2"]).await.with(0), "[1,2\n");
    let from_stdin = Native::new(&["send", "a1", "-", "--node", "n1"]).on(&server);
    let answer = from_stdin.stdin("{\"x\":\n1}").ends().await.with(0);
    assert_eq!(answer, "{\n  \"x\": 1\n}\n");

    // One agent.
    let shown = run(&server, &["status", "s1"]).await.with(0);
    assert!(shown.contains("node            n2\n") && shown.contains("Running"), "{shown}");
    let json = run(&server, &["status", "a1", "--json"]).await.json(0);
    assert_eq!(
        (&json["agents"][0]["node_id"], &json["agents"][0]["incarnation"]),
        (&json!("n1"), &json!(1))
    );

    // An id that two nodes have: nobody guesses which one is meant.
    client.ok("agent.command.n1", json!({"Spawn": {"config": {"id": "twin"}}})).await;
    client.ok("agent.command.n2", json!({"Spawn": {"config": {"id": "twin"}}})).await;
    let json = run(&server, &["status", "twin", "--json"]).await.json(0);
    assert_eq!(json["agents"].as_array().map(Vec::len), Some(2));
    let said = run(&server, &["stop", "twin"]).await;
    assert!(said.stdout.contains("n1, n2") && said.stdout.contains("--node"), "{said:?}");
    assert_eq!(said.status, Some(1));
    let stopped = run(&server, &["stop", "twin", "--node", "n2"]).await.with(0);
    assert_eq!(stopped, "stopped twin on n2\n");

    // Ending them.
    let json = run(&server, &["stop", "a1", "s1", "nobody", "--json"]).await.json(4);
    let stopped = json!([{"agent_id": "a1", "node_id": "n1"}, {"agent_id": "s1", "node_id": "n2"}]);
    assert_eq!(json["stopped"], stopped);
    assert_eq!(json["failed"][0]["error"]["code"], "unknown_agent");
    assert_eq!(run(&server, &["stop", "twin"]).await.with(0), "stopped twin on n1\n");

    // Looking for agents is no bad input on the nodes that do not have them.
    let before =
        client.ok("agent.command.n1", json!("Status")).await["counters"]["bad_input"].clone();
    run(&server, &["status", "nobody"]).await.error(4);
    run(&server, &["stop", "nobody"]).await.with(4);
    let after =
        client.ok("agent.command.n1", json!("Status")).await["counters"]["bad_input"].clone();
    assert_eq!(before, after);
}

#[tokio::test]
async fn nodes_of_different_hosts_are_one_system() {
    let (server, client, _n1) = with_node("n1").await;
    let _native = Native::new(&["node", "--node-id", "native-1"]).on(&server).run();
    client.node_answers("native-1", SOON).await;
    let json = run(&server, &["status", "--json"]).await.json(0);
    let hosts: Vec<_> =
        json["nodes"].as_array().expect("nodes").iter().map(|n| &n["host"]).collect();
    assert_eq!(hosts, [Host::current().name(), "native"]);
    for (id, node) in [("a", "n1"), ("b", "native-1")] {
        let spawned = run(&server, &["spawn", "chaos", "--id", id, "--node", node]).await.with(0);
        assert_eq!(spawned, format!("{id} runs on {node}, in its life 1\n"));
        // Whichever node is asked, it finds the agent.
        for _ in 0..4 {
            assert_eq!(run(&server, &["send", id, "7"]).await.with(0), "7\n");
        }
        let said = run(&server, &["send", id, "{\"die\":\"panic\"}"]).await.error(1);
        assert!(said.contains("agent_restarting"), "{said}");
    }
    let json = run(&server, &["agents", "--json"]).await.json(0);
    let on: Vec<_> =
        json["agents"].as_array().expect("agents").iter().map(|a| &a["node_id"]).collect();
    assert_eq!(on, ["n1", "native-1"]);
    assert_eq!(
        run(&server, &["stop", "a", "b"]).await.with(0),
        "stopped a on n1\nstopped b on native-1\n"
    );
}

#[tokio::test]
async fn each_way_to_fail_has_its_exit_status_and_says_what_to_do() {
    // No server.
    let nowhere = format!("nats://me:geheim@127.0.0.1:{}", free_port());
    let alone = |words: &[&str]| Native::new(words).env("NATS_URL", &nowhere).ends();
    for words in [&["status"][..], &["agents"], &["send", "a", "1"], &["watch"]] {
        let said = alone(words).await.error(3);
        assert!(said.starts_with("error: no NATS server at nats://***@127.0.0.1"), "{said}");
        assert!(said.contains("scripts/run node") && said.contains("--nats"), "{said}");
        assert!(!said.contains("geheim"), "{said}");
    }
    for words in [&["status", "--json"][..], &["watch", "--json"], &["top", "--json"]] {
        let error = alone(words).await.json(3)["error"].take();
        assert_eq!((&error["code"], &error["exit_status"]), (&json!("no_server"), &json!(3)));
    }

    // A server without a node.
    let server = NatsServer::start().await;
    for words in
        [&["status"][..], &["agents"], &["spawn", "echo"], &["stop", "a"], &["send", "a", "1"]]
    {
        let said = run(&server, words).await.error(4);
        assert!(said.contains("no node answers") && said.contains("scripts/run node"), "{said}");
        let json = run(&server, &[words, &["--json"]].concat()).await.json(4);
        assert_eq!(json["error"]["code"], "no_node", "{words:?}");
    }
    let empty = run(&server, &["top", "--json", "--count", "1"]).await.json(0);
    assert_eq!(
        (&empty["nodes"], &empty["agents"]),
        (&json!([]), &json!([])),
        "top waits for nodes"
    );

    // A node that does not have what is asked for.
    let client = server.client().await;
    let _node = Node::on(&server, &client, "n1").await;
    client.spawn(json!({"id": "c", "agent_type": "chaos"})).await;
    client.spawn(json!({"id": "h", "agent_type": "chaos"})).await;
    let cases: [(&[&str], i32, &str, &str); 8] = [
        (&["status", "--node", "n2"], 4, "no_such_node", "there is no node n2"),
        (&["status", "nobody"], 4, "unknown_agent", "no node has an agent nobody"),
        (&["send", "nobody", "1"], 4, "unknown_agent", "nobody"),
        (&["spawn", "moon"], 1, "unknown_type", "(unknown_type)"),
        (&["spawn", "echo", "--id", "c"], 1, "exists", "(exists)"),
        (&["send", "c", "{\"die\":\"panic\"}"], 1, "agent_restarting", "try again"),
        (&["send", "h", "{\"die\":\"hang\"}", "--timeout-ms", "300"], 5, "timeout", "300 ms"),
        (&["send", "c", "1", "--node", "n2"], 4, "no_such_node", "`status`"),
    ];
    for (words, status, code, text) in cases {
        client.agent_is("c", "Running", SOON).await;
        let said = run(&server, words).await.error(status);
        assert!(said.starts_with("error: ") && said.contains(text), "{words:?}: {said}");
        client.agent_is("c", "Running", SOON).await;
        let error = run(&server, &[words, &["--json"]].concat()).await.json(status)["error"].take();
        assert_eq!((&error["code"], &error["exit_status"]), (&json!(code), &json!(status)));
    }

    // A command line without sense, of which no server hears.
    for words in [
        &["status", "a.b"][..],
        &["status", "--moon"],
        &["send", "c", "no json"],
        &["spawn", "echo", "--max-memory-mb", "0"],
        &["top"],
        &["watch", "--only", "moon"],
    ] {
        let said = run(&server, words).await.error(2);
        assert!(said.contains("--help"), "{words:?}: {said}");
    }
}

#[tokio::test]
async fn a_stranger_that_answers_for_a_node_does_no_harm() {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let nats = client.nats().clone();
    let mut asked = nats.subscribe("agent.>").await.expect("a subscription");
    let mut control = nats.subscribe("system.control").await.expect("a subscription");
    let ping = json!({"Ok": {"node_id": "evil", "host": "\u{1b}[2J", "version": "1", "agents": 1}});
    tokio::spawn(async move {
        let agent = |id: &str| {
            json!({"agent_id": id, "agent_type": "\u{1b}]0;x\u{7}", "supervisor": "s",
                "status": "Running", "incarnation": 1, "restarts": 0, "counters": {"handled": 0,
                "errors": 0, "memory_bytes": null, "handling_us": null, "mailbox_delay_us": null,
                "last_answer_ms": null}})
        };
        loop {
            let message = tokio::select! {
                message = control.next() => message,
                message = asked.next() => message,
            };
            let Some(message) = message else { return };
            let Some(reply) = message.reply else { continue };
            let body = String::from_utf8_lossy(&message.payload).into_owned();
            let answer = if body.contains("Ping") {
                ping.clone()
            } else if body.contains("\"limit\":1}") {
                // Where one agent would stand: the one that is asked for, or a list for an object.
                json!({"Ok": [[], null]})
            } else if body.contains("List") {
                json!({"Ok": {"agents": [agent("a")], "next": "a"}})
            } else {
                json!({"Ok": "no summary"})
            };
            nats.publish(reply, answer.to_string().into()).await.expect("it is published");
        }
    });
    let watch = client.watch("nothing").await;
    assert!(watch.all().is_empty(), "by now the stranger is subscribed");
    for words in
        [&["status"][..], &["agents"], &["spawn", "echo"], &["top", "--json", "--count", "1"]]
    {
        let ended = run(&server, words).await;
        assert_eq!(ended.status, Some(1), "{words:?}: {ended:?}");
        let said = [ended.stdout, ended.stderr].concat();
        assert!(said.contains("not_understood") && !said.contains('\u{1b}'), "{words:?}: {said:?}");
    }
    run(&server, &["status", "a"]).await.error(4);
    let shown = run(&server, &["agents", "--limit", "1", "--type", "\u{1b}]0;x\u{7}"]).await;
    assert!(!shown.stdout.contains('\u{1b}') && !shown.stderr.contains('\u{1b}'), "{shown:?}");
}

#[tokio::test]
async fn help_and_completions_need_no_server() {
    for words in [&["--help"][..], &["help"]] {
        let help = Native::new(words).ends().await.with(0);
        for text in ["demo", "NATS_TOKEN", "FOR OPERATORS", "watch", "top", "completions"] {
            assert!(help.contains(text), "{text}: {help}");
        }
    }
    for words in [&["watch", "--help"][..], &["help", "watch"]] {
        let help = Native::new(words).ends().await.with(0);
        assert!(help.contains("--except") && help.contains("Exit status"), "{help}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Native::new(&["completions", shell]).ends().await.with(0);
        assert!(script.contains("gather-ms") && script.contains("agents"), "{shell}");
    }
    // What bash makes of it.
    let script = Native::new(&["completions", "bash"]).ends().await.with(0);
    for (line, expected) in [
        ("wat", &["watch"][..]),
        ("watch --ex", &["--except"]),
        ("spawn echo --re", &["--restart"]),
        ("spawn echo --restart te", &["temporary"]),
    ] {
        let name = "rust-wasm-lunatic-nats";
        let mut words: Vec<&str> = line.split(' ').collect();
        words.insert(0, name);
        let (last, before) = (words.len() - 1, words[words.len() - 2]);
        let asks = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={last}\n\
             how=$(complete -p {name}); how=${{how##*-F }}\n\
             ${{how%% *}} {name} {} {before}; echo \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words[last],
        );
        let said = Command::new("bash").args(["--norc", "-c", &asks]).output().expect("bash");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), expected, "{line}");
    }
}

#[tokio::test]
async fn a_server_that_wants_to_know_who_it_is() {
    let lines = "authorization { users: [\n\
        { user: node, password: geheim-1 },\n\
        { user: op, password: geheim-2, permissions: { publish: [\"system.control\", \"_INBOX.>\"],\n\
          subscribe: [\"_INBOX.>\", \"agent.events.>\"] } } ] }";
    let server = NatsServer::with(lines).await;
    let options = ConnectOptions::with_user_and_password("node".into(), "geheim-1".into());
    let client = server.client_with(&options).await;
    let url = server.websocket_url_as("node:geheim-1");
    let _node = Node::builder("n1").words(&["--nats", &url]).start(&client).await;
    let native = |words: &[&str], user: &str, password: &str| {
        Native::new(words).on(&server).env("NATS_USER", user).env("NATS_PASSWORD", password)
    };
    let anonymous = run(&server, &["status", "--json"]).await.json(3);
    assert_eq!(anonymous["error"]["code"], "not_let_in", "{anonymous}");
    let said = native(&["status"], "node", "geheim-3").ends().await.error(3);
    assert!(said.contains("NATS_CREDS") && !said.contains("geheim"), "{said}");
    let json = native(&["status", "--json"], "node", "geheim-1").ends().await.json(0);
    assert_eq!(json["nodes"][0]["node_id"], "n1");
    // One that may look for nodes, and nothing else.
    for words in [&["spawn", "echo", "--json"][..], &["watch", "--json"]] {
        let ended = native(words, "op", "geheim-2").ends().await;
        let last = ended.stdout.lines().last().unwrap_or_default();
        let json: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {ended:?}"));
        assert_eq!(
            (ended.status, &json["error"]["code"]),
            (Some(3), &json!("not_permitted")),
            "{json}"
        );
    }
}

#[tokio::test]
async fn events_as_they_happen() {
    let (mut server, client, _node) = with_node("n1").await;
    let watch = |words: &[&str]| Native::new(&[&["watch"], words].concat()).on(&server);
    let people = watch(&["--color", "never"]).run();
    let json = watch(&["--json", "--agent", "a1", "--only", "failure,recovery", "--count", "2"]);
    let mut json = json.run();
    let severe = watch(&["--severity", "high", "--node", "n1", "--color", "always"]).run();
    let elsewhere = watch(&["--node", "n2", "--for-ms", "3000"]).run();
    for watch in [&people, &json, &severe, &elsewhere] {
        is_watching(watch).await;
    }
    client.spawn(json!({"id": "a1", "agent_type": "chaos"})).await;
    client.spawn(json!({"id": "a2", "agent_type": "chaos"})).await;
    for id in ["a2", "a1"] {
        client.publish(&format!("agent.input.{id}"), r#"{"die":"panic"}"#).await;
    }

    // For programs: two events of that agent, in the envelopes that they came in.
    assert_eq!(json.status(SOON).await, Some(0));
    until("its lines", SOON, || (json.output().stdout().len() == 3).then_some(())).await;
    let lines: Vec<Value> = json.output().stdout()[1..]
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let mut subjects: Vec<_> = lines.iter().map(|line| line["subject"].as_str()).collect();
    subjects.sort();
    assert_eq!(subjects, [Some("supervision.failures.high"), Some("supervision.recovery.a1")]);
    let failure = lines.iter().find_map(|line| line["event"]["payload"].get("Failure"));
    assert_eq!(failure.map(|failure| &failure["agent_id"]), Some(&json!("a1")));

    // For people: a line each, whatever it is about.
    for text in [
        "spawned               a1#1  of the type chaos",
        "told to panic",
        "a2#2  on n1  it runs again",
    ] {
        people.says(text, SOON).await;
    }
    let line = people.says("a1#1  on n1  ProcessCrash", SOON).await;
    assert!(line[12..].starts_with("  failure     high"), "{line}");
    severe.says("\u{1b}[31mfailure\u{1b}[0m", SOON).await;
    let lines = severe.output().stdout();
    assert!(lines.iter().all(|line| line.contains("high")), "{lines:?}");
    assert_eq!(elsewhere.output().stdout(), [""; 0]);

    // What anybody can publish there does no harm.
    client.publish("supervision.evil", "\u{1b}[2Jno json").await;
    let line = people.says("no json", SOON).await;
    assert!(line.contains("\\u{1b}[2J") && !line.contains('\u{1b}'), "{line:?}");

    // Without the server it waits for it, and goes on.
    server.kill();
    people.says("the connection is lost", SOON).await;
    server.run().await;
    people.says("connected again", SOON).await;
    let client = server.client().await;
    client.node_answers("n1", SOON).await;
    client.command(json!({"Stop": {"agent_id": "a2"}})).await;
    people.says("a2#2  it was stopped", SOON).await;
}

#[tokio::test]
async fn a_watch_that_waits_for_something_says_whether_it_came() {
    let server = NatsServer::start().await;
    let watch = |words: &[&str]| Native::new(&[&["watch", "--json"], words].concat()).on(&server);
    let none = watch(&["--for-ms", "100"]).ends().await;
    let lines: Vec<&str> = none.stdout.lines().collect();
    assert_eq!((none.status, lines.len()), (Some(0), 2), "{none:?}");
    assert!(lines[0].contains("watching") && lines[1].contains("no_node"), "{none:?}");
    let late = watch(&["--for-ms", "100", "--count", "1"]).ends().await;
    assert_eq!(late.status, Some(5), "{late:?}");
    assert!(late.stdout.lines().last().is_some_and(|line| line.contains("timeout")), "{late:?}");
}

#[tokio::test]
async fn who_stops_reading_ends_it_in_peace() {
    let (server, client, _node) = with_node("n1").await;
    for number in 0..50 {
        client.spawn(json!({"id": format!("a{number}"), "agent_type": "echo"})).await;
    }
    for words in ["agents", "agents --json", "--help", "completions zsh", "status", "watch --json"]
    {
        let words: Vec<&str> = words.split(' ').collect();
        let mut command = Native::new(&words).on(&server).command();
        let closed = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("the native program");
            // As `head` does that has enough: for a watch, the next event comes after that.
            drop(child.stdout.take());
            let ended = child.wait_with_output().expect("it ends");
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
        });
        let events = async {
            for number in 0.. {
                let id = format!("{}-{number}", words[0].trim_matches('-'));
                let id = if words.len() > 1 { format!("{id}-more") } else { id };
                client.spawn(json!({"id": id, "agent_type": "echo"})).await;
                client.command(json!({"Stop": {"agent_id": id}})).await;
            }
        };
        let ended = tokio::select! {
            ended = closed => ended.expect("no panic"),
            () = events => unreachable!("it goes on"),
        };
        assert_eq!(ended, (Some(0), String::new()), "{words:?}");
    }
}

#[tokio::test]
async fn more_agents_than_a_page_has() {
    let (server, client, _node) = with_node("n1").await;
    let spawn = |number| client.spawn(json!({"id": format!("a{number:04}"), "agent_type": "echo"}));
    stream::iter(0..1_010).for_each_concurrent(50, |number| spawn(number).map(drop)).await;
    let json = run(&server, &["agents", "--json", "--limit", "5000"]).await.json(0);
    let ids: Vec<_> =
        json["agents"].as_array().expect("agents").iter().map(|a| &a["agent_id"]).collect();
    assert_eq!((ids.len(), &json["more"]), (1_010, &json!(false)));
    assert!(ids.is_sorted_by(|a, b| a.as_str() < b.as_str()), "each once, in order");
    let json = run(&server, &["agents", "--json"]).await.json(0);
    assert_eq!(
        (json["agents"].as_array().map(Vec::len), &json["more"]),
        (Some(1_000), &json!(true))
    );
    let shown = run(&server, &["agents", "--limit", "1005"]).await.with(0);
    assert!(shown.ends_with("… and more: --limit shows more than 1005\n"));
    let json = run(&server, &["top", "--json", "--count", "1", "--limit", "7"]).await.json(0);
    assert_eq!(
        (&json["nodes"][0]["agents"], &json["nodes"][0]["more"]),
        (&json!(1_010), &json!(true))
    );
    assert_eq!(json["agents"].as_array().map(Vec::len), Some(7));
}

#[tokio::test]
async fn a_table_that_keeps_itself_up_to_date() {
    let (server, client, _node) = with_node("n1").await;
    let config = json!({"id": "busy", "agent_type": "chaos", "timeout_ms": 1000});
    client.spawn(config).await;

    // For programs: a snapshot a line, with what was computed between them.
    let snapshots = Native::new(&["top", "--json", "--interval-ms", "200"]).on(&server).run();
    let asking = async {
        loop {
            client.input("busy", json!(1)).await;
        }
    };
    let rate = until("messages per second", SOON, || {
        let lines = snapshots.output().stdout();
        let last: Value = serde_json::from_str(lines.last()?).expect("JSON");
        last["agents"][0]["messages_per_second"].as_f64().filter(|&rate| rate > 1.0)
    });
    tokio::select! {
        _ = rate => {}
        () = asking => unreachable!("it goes on"),
    }

    // For people: in a terminal.
    let mut top = Native::new(&["top", "--interval-ms", "200"]).on(&server).in_a_terminal();
    for text in [
        "NODE",
        "n1",
        Host::current().name(),
        "AGENT",
        "busy",
        "chaos",
        "EVENTS",
        "none so far",
        "q quit",
    ] {
        top.shows(text).await;
    }
    top.shows("\u{1b}[?1049h").await;
    client.publish("agent.input.busy", r#"{"die":"panic"}"#).await;
    top.shows("told to panic").await;
    top.types("/moon\r");
    top.shows("only moon (Esc shows all)").await;
    top.types("q");
    assert_eq!(top.status().await, Some(0));
    top.shows("\u{1b}[?1049l").await;

    // A signal leaves the terminal as it was, too.
    let mut top = Native::new(&["top"]).on(&server).in_a_terminal();
    top.shows("busy").await;
    let shown = top.shown();
    // It stands in the head that the terminal's log has, too.
    let (_, pid) = shown.rsplit_once("pid=").expect("its number");
    let pid = pid.split_whitespace().next().expect("its number");
    assert!(Command::new("kill").arg(pid).status().expect("kill").success());
    assert_eq!(top.status().await, Some(0));
    top.shows("\u{1b}[?1049l").await;
}

#[tokio::test]
async fn colours_are_for_terminals() {
    let (server, _client, _node) = with_node("n1").await;
    let status = || Native::new(&["status"]).on(&server);
    let bold = "\u{1b}[1m";
    for (native, coloured) in [
        (status(), true),
        (status().env("NO_COLOR", "1"), false),
        (status().env("TERM", "dumb"), false),
    ] {
        let mut terminal = native.in_a_terminal();
        terminal.shows("n1").await;
        assert_eq!(terminal.status().await, Some(0));
        let shown = terminal.shown();
        assert_eq!(shown.contains(bold), coloured, "{shown:?}");
    }
    assert!(!status().ends().await.stdout.contains(bold), "a pipe");
    let always = Native::new(&["status", "--color", "always"]).on(&server);
    assert!(always.ends().await.stdout.contains(bold));
}
