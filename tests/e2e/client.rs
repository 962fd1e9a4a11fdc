//! The client as its users have it: scenarios that run inside the runtime (`tests/consumer`'s
//! `client`), with a real server, and with async-nats as the other side.

use std::time::Duration;

use futures_util::StreamExt;
use support::{Client, NatsServer, Node, Program, consumer, until};

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

/// Answers on `svc.*`: `echo` with what was asked, headers and all; `late` with the same, after a
/// while; `many` with the numbers up to the one asked for, and with nothing behind them if it ends
/// with `!`; `silent` never.
async fn service(client: &Client) {
    let nats = client.nats().clone();
    let mut asked = Vec::new();
    for subject in ["svc.echo", "svc.late", "svc.many", "svc.silent"] {
        asked.push(nats.subscribe(subject).await.expect("a subscription"));
    }
    tokio::spawn(async move {
        let mut asked = futures_util::stream::select_all(asked);
        while let Some(message) = asked.next().await {
            let Some(reply) = message.reply else { continue };
            let (headers, payload) = (message.headers.unwrap_or_default(), message.payload);
            match message.subject.as_str() {
                "svc.echo" if headers.is_empty() => nats.publish(reply, payload).await,
                "svc.echo" => nats.publish_with_headers(reply, headers, payload).await,
                "svc.late" => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    nats.publish(reply, payload).await
                }
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
    let words = ["headers", "requests", "many", "groups", "unsubscribe", "drain", "credits"];
    let words = [&words[..], &["leftovers", "process"]].concat();
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
    let taken: Vec<_> =
        ["o.messages", "o.bytes", "o.none", "o.nothing"].into_iter().map(|s| (s, taken(s))).collect();
    assert_eq!((taken[0].1, taken[2].1, taken[3].1), (10, 0, 0), "{taken:?}");
    // `PUB o.bytes 50␍␊`, 50 bytes, `␍␊`.
    assert_eq!(taken[1].1, 1000 / (16 + 50 + 2), "{taken:?}");
    server.run().await;
    ends_well(&mut program).await;
}
