//! What is so only for tasks: mailboxes with a bound, futures that wait, and code that does not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rust_wasm_lunatic_nats::{
    Agent, AgentConfig, Context, Error, MailboxLimits, Message, NodeEvent, NodeHandle,
    RequestError, Result, SendError,
};
use serde_json::{json, Value};

use crate::support::*;

/// A node whose agents have small mailboxes.
fn small(test: &str, limits: MailboxLimits) -> NodeHandle {
    builder().mailbox(limits).start(&node_config(test)).unwrap()
}

fn full(error: Error) -> (usize, usize) {
    match error {
        Error::Send(SendError::MailboxFull { max, max_bytes, .. }) => (max, max_bytes),
        other => panic!("{other:?}"),
    }
}

/// Sends until the mailbox is full; how many it took. Its agent handles the first one meanwhile.
fn fill(node: &mut NodeHandle, name: &str, payload: &Value) -> (usize, Error) {
    node.spawn(&AgentConfig { timeout_ms: 60_000, ..config(name, "probe") }).unwrap();
    node.send(&id(name), &json!({ "sleep_ms": 1_000 })).unwrap();
    // Taken out, so that it counts no more.
    sleep(Duration::from_millis(200));
    for sent in 0.. {
        if let Err(error) = node.send(&id(name), payload) {
            return (sent, error);
        }
    }
    unreachable!("it is bounded")
}

#[test]
fn a_mailbox_takes_so_many_messages_and_says_when_it_is_full() {
    let mut node = small("full", MailboxLimits { messages: 10, ..Default::default() });
    let (sent, error) = fill(&mut node, "a", &json!("x"));
    let text = error.to_string();
    assert!(
        text.contains("the mailbox of agent a is full: 10 messages or 67108864 bytes"),
        "{text}"
    );
    assert_eq!((sent, full(error)), (10, (10, 64 << 20)));
    // Then there is room again, and nothing of what was taken is lost.
    let started = Instant::now();
    let seen = loop {
        match ask(&mut node, "a", json!({ "seen": 1 })) {
            Ok(seen) => break seen,
            Err(error) => assert!(started.elapsed() < DEADLINE, "{error}"),
        }
        sleep(Duration::from_millis(5));
    };
    assert_eq!(seen, json!(vec!["x"; 10]));
}

#[test]
fn a_mailbox_takes_so_many_bytes() {
    let mut node = small("bytes", MailboxLimits { bytes: 10_000, ..Default::default() });
    // With tag and length 1,000 bytes each.
    let (sent, error) = fill(&mut node, "a", &json!("x".repeat(995)));
    assert_eq!((sent, full(error)), (10, (16_384, 10_000)));
}

#[test]
fn one_large_message_fits_into_an_empty_mailbox() {
    let mut node = small("large", MailboxLimits { bytes: 10, ..Default::default() });
    node.spawn(&config("a", "echo")).unwrap();
    let large = json!("x".repeat(100_000));
    assert_eq!(ask(&mut node, "a", large.clone()).unwrap(), large);
}

#[test]
fn an_agent_that_sends_waits_for_room_and_gives_up_in_the_end() {
    let patience = Duration::from_millis(300);
    let limits = MailboxLimits { messages: 4, patience, ..Default::default() };
    let mut node = small("patience", limits);
    node.spawn(&config("f", "forward")).unwrap();
    node.spawn(&config("busy", "probe")).unwrap();
    // Ten messages of 20 ms each: room is made in time, each time.
    let told = json!({ "to": "busy", "payload": { "sleep_ms": 20 }, "times": 10 });
    ask(&mut node, "f", told).unwrap();
    node.send(&id("busy"), &json!({ "sleep_ms": 900 })).unwrap();
    let told = json!({ "to": "busy", "payload": 1, "times": 20 });
    let error = ask(&mut node, "f", told).unwrap_err().to_string();
    assert!(error.contains("the mailbox of agent busy is full: 4 messages"), "{error}");
    // To oneself there is nobody else to make room.
    let told = json!({ "to": "f", "payload": { "to": "busy" }, "times": 20 });
    let error = ask(&mut node, "f", told).unwrap_err().to_string();
    assert!(error.contains("the mailbox of agent f is full"), "{error}");
}

static GO_ON: AtomicBool = AtomicBool::new(true);

/// Loops without an `await` until it is let go.
#[derive(Default)]
struct Stubborn;

#[async_trait]
impl Agent for Stubborn {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        if message.payload != "loop" {
            return ctx.reply(&message, ctx.incarnation()).await;
        }
        while GO_ON.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        // Nobody hears of it any more.
        ctx.send(&id("heir"), "from the dead").await
    }
}

#[test]
fn a_task_that_does_not_await_is_cut_off_replaced_and_counted() {
    let mut node =
        builder().agent_type::<Stubborn>("stubborn").start(&node_config("stubborn")).unwrap();
    node.watch().unwrap();
    node.spawn(&config("heir", "probe")).unwrap();
    node.spawn(&config("s", "stubborn")).unwrap();
    let error = ask(&mut node, "s", json!("loop")).unwrap_err();
    let restarting = |error: &Error| {
        matches!(error, Error::Request(RequestError::Send(SendError::AgentRestarting(_))))
    };
    assert!(restarting(&error), "{error:?}");
    let failed = event(&mut node, failure);
    assert_eq!(failed["failure_type"], "TimeoutFailure", "{failed}");
    assert_eq!(event(&mut node, recovery)["incarnation"], 2);
    assert_eq!(ask_until_it_answers(&mut node, "s", &json!("who?")), json!(2));
    let stuck = |node: &mut NodeHandle| {
        node.status().unwrap().counters.other.get("stuck_tasks").copied().unwrap_or(0)
    };
    assert_eq!(stuck(&mut node), 1);
    GO_ON.store(false, Ordering::Relaxed);
    let started = Instant::now();
    while stuck(&mut node) > 0 {
        assert!(started.elapsed() < DEADLINE, "its end was not seen");
        sleep(Duration::from_millis(2));
    }
    assert_eq!(ask(&mut node, "heir", json!({ "seen": 1 })).unwrap(), json!([]));
    assert_eq!(ask(&mut node, "s", json!("who?")).unwrap(), json!(2), "no further life began");
}

/// Waits for the answers of timers and of other agents.
#[derive(Default)]
struct Patient;

#[async_trait]
impl Agent for Patient {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        let (one, other) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                1
            },
            tokio::task::spawn_blocking(|| 2)
        );
        let other = other.map_err(|error| Error::handler(error.to_string()))?;
        let echo = ctx.request(&id("echo"), one + other, DEADLINE).await?;
        ctx.reply(&message, echo).await
    }
}

#[test]
fn a_handler_may_await_whatever_it_likes() {
    let mut node =
        builder().agent_type::<Patient>("patient").start(&node_config("patient")).unwrap();
    node.spawn(&config("echo", "echo")).unwrap();
    node.spawn(&config("p", "patient")).unwrap();
    assert_eq!(ask(&mut node, "p", json!(null)).unwrap(), json!(3));
}

/// Cannot even be made.
struct Unmade;

impl Default for Unmade {
    fn default() -> Self {
        panic!("no default today")
    }
}

#[async_trait]
impl Agent for Unmade {
    async fn handle(&mut self, _: &mut Context, _: Message) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_default_does_wrong_is_a_death_with_its_place() {
    let mut node = builder().agent_type::<Unmade>("unmade").start(&node_config("unmade")).unwrap();
    node.watch().unwrap();
    node.spawn(&config("u", "unmade")).unwrap();
    let failed = event(&mut node, failure);
    assert_eq!(failed["context"]["message"], "no default today", "{failed}");
    assert!(failed["context"]["place"].as_str().unwrap().contains("tasks.rs"), "{failed}");
}

#[test]
fn deaths_that_would_end_the_process_are_refused() {
    let mut node = node("refused_deaths");
    node.spawn(&config("a", "chaos")).unwrap();
    for death in ["memory", "stack", "exit"] {
        let error = ask(&mut node, "a", json!({ "die": death })).unwrap_err().to_string();
        assert!(error.contains("would end the whole node"), "{error}");
    }
    assert_eq!(event(&mut node, failure)["failure_type"], "ProtocolViolation");
}

#[test]
fn a_request_to_an_agent_that_is_killed_fails_when_it_is_killed() {
    let mut node = node("killed");
    node.spawn(&config("a", "chaos")).unwrap();
    node.spawn(&config("f", "forward")).unwrap();
    let told = json!({ "ask": "a", "payload": { "die": "hang" }, "timeout_ms": 60_000 });
    // f has as long as a to answer its own health checks, and is asked later.
    let error = ask(&mut node, "f", told).unwrap_err().to_string();
    assert!(
        error.contains("agent a is being restarted") || error.contains("f is being"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_with_a_runtime_has_its_agents_there() {
    let mut node = builder().start_async(&node_config("async")).await.unwrap();
    node.watch().unwrap();
    node.client().spawn(&config("e", "echo")).await.unwrap();
    let client = node.client().clone();
    let answers: Vec<_> = (0..10)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.request(&id("e"), n, DEADLINE).await.unwrap() })
        })
        .collect();
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap(), json!(n));
    }
    let ticket = node.ask(&id("e"), "x").unwrap();
    loop {
        match node.next().await.unwrap() {
            NodeEvent::Answer { ticket: of, answer } => {
                assert_eq!((of, answer), (ticket, Ok(json!("x"))));
                break;
            }
            _ => continue,
        }
    }
    let stopped = node.shutdown(DEADLINE).await.unwrap();
    assert_eq!((stopped.stopped, stopped.killed, stopped.flushed), (1, 0, true));
    let error = client.status().await.unwrap_err().to_string();
    assert!(error.contains("did not answer"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_block_work_within_a_runtime_too() {
    let mut node = node("blocking");
    node.spawn(&config("e", "echo")).unwrap();
    assert_eq!(ask(&mut node, "e", json!(1)).unwrap(), json!(1));
    node.shutdown(DEADLINE).unwrap();
}
