//! Whatever an agent dies of, it dies alone, is told of once, and is replaced once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Client, NatsServer, Node, SOON, Watch, until, without_counters};

support::on_each_host! {
    a_panic_takes_one_agent_of_a_hundred,
    exhausted_memory_takes_one_agent_of_a_hundred:
        native cannot "a task has no memory of its own that could be limited",
    an_endless_loop_takes_one_agent_of_a_hundred:
        native cannot "a loop that never awaits cannot be ended",
    a_stack_overflow_takes_one_agent_of_a_hundred:
        native cannot "an overflow of the thread's stack ends the process",
    an_exit_takes_one_agent_of_a_hundred: native cannot "exit ends the process",
    a_hang_takes_one_agent_of_a_hundred,
    exhausted_fuel_is_named_among_the_candidates: native cannot "a task has no fuel",
    an_agent_that_dies_too_often_is_given_up_alone,
    a_temporary_agent_is_not_replaced_and_a_transient_one_is,
}

/// How long an agent may take to answer, whatever happens to the others.
const PROMPT: Duration = Duration::from_secs(2);

async fn one_node() -> (NatsServer, Client, Node) {
    let server = NatsServer::start().await;
    let client = server.client().await;
    let node = Node::on(&server, &client, "n1").await;
    (server, client, node)
}

/// Asks all of a hundred agents in turn, without a pause, and remembers how that went.
#[derive(Debug)]
struct Traffic {
    ids: Vec<String>,
    /// Who is made to die at present, and need not answer.
    victim: AtomicUsize,
    answered: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Traffic {
    const ASKERS: usize = 5;

    fn start(client: &Client, ids: Vec<String>) -> Arc<Self> {
        let traffic = Arc::new(Self {
            ids,
            victim: AtomicUsize::new(usize::MAX),
            answered: AtomicU64::new(0),
            slowest_ms: AtomicU64::new(0),
        });
        for asker in 0..Self::ASKERS {
            let (client, traffic) = (client.clone(), Arc::clone(&traffic));
            tokio::spawn(async move {
                loop {
                    for at in (asker..traffic.ids.len()).step_by(Self::ASKERS) {
                        traffic.ask(&client, at).await;
                    }
                }
            });
        }
        traffic
    }

    async fn ask(&self, client: &Client, at: usize) {
        let victim = || self.victim.load(Ordering::SeqCst) == at;
        if victim() {
            // Its turn is not wasted on a busy loop while it is the only one left.
            return tokio::task::yield_now().await;
        }
        let (subject, asked) = (format!("agent.input.{}", self.ids[at]), Instant::now());
        let answer = client.try_request(&subject, at.to_string(), PROMPT).await;
        if victim() {
            return;
        }
        let took = asked.elapsed().as_millis() as u64;
        let right = answer.as_ref().is_ok_and(|answer| answer["payload"] == at);
        // A wrong or missing answer shows as the slowest of all.
        let took = if right { took } else { u64::MAX };
        if !right {
            eprintln!("{subject} was answered with {answer:?}");
        }
        self.slowest_ms.fetch_max(took, Ordering::SeqCst);
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until everybody else was asked once more from now on, and checks the answers so far.
    async fn round(&self, when: &str) {
        let enough = self.answered.load(Ordering::SeqCst) + self.ids.len() as u64 + 20;
        until(format!("answers {when}"), SOON, || {
            (self.answered.load(Ordering::SeqCst) >= enough).then_some(())
        })
        .await;
        let slowest = self.slowest_ms.load(Ordering::SeqCst);
        assert!(
            slowest < PROMPT.as_millis() as u64,
            "{when}: the slowest answer took {slowest} ms"
        );
    }
}

async fn a_panic_takes_one_agent_of_a_hundred() {
    one_of_a_hundred_dies("panic", "ProcessCrash").await;
}

async fn exhausted_memory_takes_one_agent_of_a_hundred() {
    one_of_a_hundred_dies("memory", "ResourceExhaustion").await;
}

async fn an_endless_loop_takes_one_agent_of_a_hundred() {
    one_of_a_hundred_dies("loop", "TimeoutFailure").await;
}

async fn a_stack_overflow_takes_one_agent_of_a_hundred() {
    one_of_a_hundred_dies("stack", "ProcessCrash").await;
}

async fn an_exit_takes_one_agent_of_a_hundred() {
    one_of_a_hundred_dies("exit", "ProcessCrash").await;
}

async fn a_hang_takes_one_agent_of_a_hundred() {
    one_of_a_hundred_dies("hang", "TimeoutFailure").await;
}

/// Twice: the second one finds the node as the first one has left it.
async fn one_of_a_hundred_dies(death: &str, failure_type: &str) {
    const VICTIMS: [usize; 2] = [7, 20];
    let (_server, client, _node) = one_node().await;
    let (failures, recoveries) = (
        client.watch("supervision.failures.*").await,
        client.watch("supervision.recovery.*").await,
    );
    let ids: Vec<_> = (0..100).map(|number| format!("c{number}")).collect();
    let incarnations = join_all(ids.iter().map(|id| {
        client.spawn(
            json!({"id": id, "agent_type": "chaos", "timeout_ms": 1500, "max_memory_mb": 16}),
        )
    }))
    .await;
    let traffic = Traffic::start(&client, ids.clone());
    traffic.round("before").await;

    for victim in VICTIMS {
        let (id, dead) = (&ids[victim], incarnations[victim]);
        traffic.victim.store(victim, Ordering::SeqCst);
        let asked = Instant::now();
        client.publish(&format!("agent.input.{id}"), json!({"die": death}).to_string()).await;
        let recovery = recoveries.wait("Recovery", id, 1, Duration::from_secs(10)).await.remove(0);
        println!("{death}: replaced after {:?}, {} µs", asked.elapsed(), recovery["downtime_us"]);
        traffic.round(&format!("during and after {death}")).await;
        assert_eq!(client.input(id, json!("again")).await, "again", "{death}");
        traffic.victim.store(usize::MAX, Ordering::SeqCst);

        let failure = failures.wait("Failure", id, 1, SOON).await.remove(0);
        assert_eq!(failure["failure_type"], failure_type, "{death}: {failure}");
        assert_eq!((&failure["severity"], &failure["incarnation"]), (&json!("High"), &json!(dead)));
        check_context(death, &failure["context"]);
        assert_eq!(recovery["incarnation"], dead + 1, "{death}: {recovery}");
        let agent = client.agent(id).await;
        assert_eq!(
            (&agent["status"], &agent["incarnation"]),
            (&json!("Running"), &json!(dead + 1))
        );
    }
    traffic.round("after both").await;

    let page = client.command(json!("List")).await;
    let listed: Vec<_> = page["agents"].as_array().expect("agents").clone();
    assert_eq!(listed.len(), 100);
    for agent in listed {
        let at = ids.iter().position(|id| agent["agent_id"] == *id).expect("one of ours");
        let died = u64::from(VICTIMS.contains(&at));
        let expected = json!({"agent_id": ids[at], "agent_type": "chaos", "supervisor": "agents", "status": "Running",
            "incarnation": incarnations[at] + died, "restarts": died});
        assert_eq!(without_counters(agent), expected);
    }
    assert_eq!(failures.all().len(), VICTIMS.len(), "exactly one Failure for each death");
    assert_eq!(recoveries.all().len(), VICTIMS.len(), "exactly one Recovery for each replacement");
    println!("slowest answer of the others: {} ms", traffic.slowest_ms.load(Ordering::SeqCst));
}

/// What is known of a death is said.
fn check_context(death: &str, context: &Value) {
    match death {
        "panic" => assert_eq!(context["message"], "told to panic"),
        "memory" => {
            assert_eq!(
                (&context["limit"], &context["limit_value"]),
                (&json!("memory"), &json!(16 << 20))
            );
        }
        "loop" | "hang" => assert_eq!(context["deadline_ms"], 1500),
        _ => assert!(context.is_object(), "{context}"),
    }
}

async fn exhausted_fuel_is_named_among_the_candidates() {
    let (_server, client, _node) = one_node().await;
    let failures = client.watch("supervision.failures.*").await;
    client.spawn(json!({"id": "c", "agent_type": "chaos", "max_fuel": 1000})).await;
    assert_eq!(client.input("c", json!(1)).await, 1, "it is enough to live on");
    client.publish("agent.input.c", r#"{"die":"loop"}"#).await;
    let failure = failures.wait("Failure", "c", 1, SOON).await.remove(0);
    assert_eq!(failure["failure_type"], "ResourceExhaustion");
    let candidates = failure["context"]["candidates"].as_array().expect("candidates");
    assert!(candidates.contains(&json!("fuel")), "{failure}");
    client.agent_is("c", "Running", SOON).await;
    assert_eq!(client.input("c", json!(2)).await, 2, "the replacement has fuel of its own");
}

async fn an_agent_that_dies_too_often_is_given_up_alone() {
    let (_server, client, _node) = one_node().await;
    let events = client.watch("supervision.>").await;
    for id in ["c", "sibling"] {
        client.spawn(json!({"id": id, "agent_type": "chaos"})).await;
    }
    let sibling = client.agent("sibling").await["incarnation"].clone();
    for life in 1..=6 {
        if life > 1 {
            events.wait("Recovery", "c", life - 1, SOON).await;
        }
        client.publish("agent.input.c", r#"{"die":"panic"}"#).await;
    }
    let failed = client.agent_is("c", "Failed", SOON).await;
    assert_eq!(failed["restarts"], 5);
    let gave_up = |fields: &Value| fields["event_type"] == "GaveUp";
    until("the supervisor gives up", SOON, || {
        events.events("SupervisorLifecycle", "c").into_iter().find(gave_up)
    })
    .await;
    let failures = events.events("Failure", "c");
    let severities: Vec<_> = failures.iter().map(|failure| failure["severity"].clone()).collect();
    assert_eq!(severities, ["High", "High", "High", "High", "High", "Critical"]);
    assert_eq!(failures[5]["context"]["max_restarts"], 5);
    assert_eq!(on_subject(&events, "supervision.failures.critical"), 1);
    assert_eq!(events.events("Recovery", "c").len(), 5);
    let unhealthy = events.events("Health", "c").pop().expect("its last health");
    assert!(unhealthy["status"]["Unhealthy"]["reason"].is_string(), "{unhealthy}");

    let status = client.command(json!("Status")).await;
    assert_eq!(status["by_status"], json!({"Failed": 1, "Running": 1}));
    assert_eq!(client.input("sibling", json!(1)).await, 1);
    assert_eq!(client.agent("sibling").await["incarnation"], sibling);
    assert!(events.events("Failure", "sibling").is_empty());

    let again = client.spawn(json!({"id": "c", "agent_type": "echo"})).await;
    assert!(
        again > failed["incarnation"].as_u64().expect("a number"),
        "a new life has a new number"
    );
    assert_eq!(client.input("c", json!({"die": "panic"})).await, json!({"die": "panic"}));
    assert_eq!(client.command(json!("Status")).await["by_status"], json!({"Running": 2}));
}

fn on_subject(events: &Watch, subject: &str) -> usize {
    events.all().iter().filter(|seen| seen.subject == subject).count()
}

async fn a_temporary_agent_is_not_replaced_and_a_transient_one_is() {
    let (_server, client, _node) = one_node().await;
    let events = client.watch("supervision.>").await;
    let lives = client.watch("agent.events.*").await;
    for restart in ["Temporary", "Transient"] {
        client.spawn(json!({"id": restart, "agent_type": "chaos", "restart": restart})).await;
        client.publish(&format!("agent.input.{restart}"), r#"{"die":"panic"}"#).await;
        let failure = events.wait("Failure", restart, 1, SOON).await.remove(0);
        assert_eq!(
            (&failure["severity"], &failure["failure_type"]),
            (&json!("High"), &json!("ProcessCrash"))
        );
    }
    events.wait("Recovery", "Transient", 1, SOON).await;
    lives.wait("Terminated", "Temporary", 1, SOON).await;
    assert!(events.events("Recovery", "Temporary").is_empty());
    assert_eq!(
        client.err("agent.command", json!({"Status": {"agent_id": "Temporary"}})).await,
        "unknown_agent"
    );
    assert_eq!(client.command(json!("Status")).await["by_status"], json!({"Running": 1}));
}
