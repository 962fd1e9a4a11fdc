//! A large node whose agents keep dying: none is lost, none is there twice, and those beside them
//! answer throughout.
//!
//! `E2E_STORM="5000 50 60"` says how many agents there are, how many of them are killed per second,
//! and for how many seconds. Default: `300 25 4`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Client, NatsServer, Node, SOON, Watch, until};

/// How long an agent may take to answer, whatever happens to the others.
const PROMPT: Duration = Duration::from_secs(5);
/// How long the last replacements, or thousands of requests, may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Storm {
    agents: usize,
    per_second: usize,
    seconds: usize,
}

impl Storm {
    fn from_env() -> Self {
        let text = std::env::var("E2E_STORM").unwrap_or_else(|_| "300 25 4".to_owned());
        let numbers: Vec<usize> =
            text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let [agents, per_second, seconds] = numbers[..] else {
            panic!("E2E_STORM is {text:?}, and must be \"AGENTS KILLS_PER_SECOND SECONDS\"");
        };
        Self { agents, per_second, seconds }
    }

    /// Who dies in which order: each third agent, and as often as it takes. The others are
    /// bystanders.
    fn victims(&self) -> impl Iterator<Item = usize> {
        let kills = self.per_second * self.seconds;
        (0..self.agents).step_by(3).collect::<Vec<_>>().into_iter().cycle().take(kills)
    }

    fn bystanders(&self) -> impl Iterator<Item = usize> {
        (0..self.agents).filter(|number| number % 3 != 0)
    }
}

fn id(number: usize) -> String {
    format!("c{number}")
}

#[tokio::test]
async fn agents_that_keep_dying_are_neither_lost_nor_doubled() {
    let storm = Storm::from_env();
    let server = NatsServer::start().await;
    let client = server.client().await;
    let _node = Node::on(&server, &client, "n1").await;
    let (failures, recoveries) = (
        client.watch("supervision.failures.*").await,
        client.watch("supervision.recovery.*").await,
    );
    let born = spawn(&client, storm.agents).await;
    let traffic = Traffic::start(&client, storm.bystanders().collect());

    let mut kills = BTreeMap::<usize, u64>::new();
    // One rhythm throughout: what is late is made up for.
    let mut rhythm = tokio::time::interval(Duration::from_secs(1) / storm.per_second as u32);
    let deaths = ["panic", "exit", "stack"];
    for (victim, death) in storm.victims().zip(deaths.iter().cycle()) {
        rhythm.tick().await;
        let before = kills.entry(victim).or_default();
        if *before > 0 {
            // Who is not back yet would not get it.
            let agent = client.agent_is(&id(victim), "Running", SOON).await;
            assert_eq!(agent["restarts"], *before, "killed too often to be told apart: {agent}");
        }
        *before += 1;
        client
            .publish(&format!("agent.input.{}", id(victim)), format!(r#"{{"die":"{death}"}}"#))
            .await;
    }
    let killed = kills.values().sum::<u64>() as usize;
    until(format!("{killed} failures and recoveries"), PATIENCE, || {
        (failures.all().len() >= killed && recoveries.all().len() >= killed).then_some(())
    })
    .await;
    traffic.once_more().await;

    // Each death is told of once, and so is each replacement, which has the next number.
    let lives_of = |number: usize, from: u64| {
        let (first, deaths) = (born[number] + from, kills.get(&number).copied().unwrap_or(0));
        (first..first + deaths).map(move |incarnation| (id(number), incarnation))
    };
    let all = || 0..storm.agents;
    assert_eq!(told(&failures), sorted(all().flat_map(|number| lives_of(number, 0))));
    assert_eq!(told(&recoveries), sorted(all().flat_map(|number| lives_of(number, 1))));

    // All are there, each of them once.
    let listed = list(&client).await;
    assert_eq!(listed.len(), storm.agents);
    for number in all() {
        let deaths = kills.get(&number).copied().unwrap_or(0);
        let agent = &listed[&id(number)];
        let (status, incarnation, restarts) =
            (&agent["status"], &agent["incarnation"], &agent["restarts"]);
        assert_eq!(
            (status, incarnation, restarts),
            (&json!("Running"), &json!(born[number] + deaths), &json!(deaths)),
            "{agent}"
        );
    }
    each_answers_once(&client, storm.agents).await;
    println!(
        "{killed} of {} agents killed; {} answers of the others, the slowest took {} ms",
        storm.agents,
        traffic.answered.load(Ordering::SeqCst),
        traffic.slowest_ms.load(Ordering::SeqCst)
    );
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut sorted: Vec<T> = items.collect();
    sorted.sort();
    sorted
}

/// Starts so many agents, and gives their incarnations.
async fn spawn(client: &Client, agents: usize) -> Vec<u64> {
    let mut incarnations = Vec::new();
    let numbers: Vec<usize> = (0..agents).collect();
    // Not all at once: the last one would wait for longer than a request may.
    for some in numbers.chunks(100) {
        let config =
            |number: &usize| json!({"id": id(*number), "agent_type": "chaos", "max_memory_mb": 8});
        incarnations.extend(join_all(some.iter().map(|number| client.spawn(config(number)))).await);
    }
    incarnations
}

/// Of whom events tell, and of which incarnation, in order.
fn told(watch: &Watch) -> Vec<(String, u64)> {
    let one = |fields: &Value| {
        let id = fields["agent_id"].as_str().expect("an agent").to_owned();
        (id, fields["incarnation"].as_u64().expect("an incarnation"))
    };
    sorted(watch.all().iter().map(|seen| one(&seen.event().1)))
}

/// All agents, by their ids.
async fn list(client: &Client) -> BTreeMap<String, Value> {
    let (mut all, mut after) = (BTreeMap::new(), Value::Null);
    loop {
        let page = client.command(json!({"List": {"after": after, "limit": 500}})).await;
        for agent in page["agents"].as_array().expect("agents") {
            let id = agent["agent_id"].as_str().expect("an id").to_owned();
            assert!(all.insert(id, agent.clone()).is_none(), "listed twice: {agent}");
        }
        after = page["next"].clone();
        if after.is_null() {
            return all;
        }
    }
}

/// Asks each agent once, and gets one answer from each: two processes of one name would both have
/// subscribed, and both would answer.
async fn each_answers_once(client: &Client, agents: usize) {
    let (nats, inbox) = (client.nats(), client.nats().new_inbox());
    let mut answers = nats.subscribe(format!("{inbox}.>")).await.expect("a subscription");
    let mut missing: BTreeSet<String> =
        (0..agents).map(|number| format!("{inbox}.{number}")).collect();
    let deadline = Instant::now() + PATIENCE;
    let numbers: Vec<usize> = (0..agents).collect();
    for some in numbers.chunks(500) {
        for number in some {
            let (to, reply) = (format!("agent.input.{}", id(*number)), format!("{inbox}.{number}"));
            nats.publish_with_reply(to, reply, number.to_string().into()).await.expect("published");
        }
        for _ in some {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = tokio::time::timeout(left, answers.next()).await;
            let answer = answer.unwrap_or_else(|_| panic!("no answer of {missing:?}"));
            let answer = answer.expect("the subscription goes on");
            assert!(
                missing.remove(answer.subject.as_str()),
                "{} was answered twice",
                answer.subject
            );
        }
    }
    assert!(missing.is_empty());
    // A second answer of anybody would have been sent by the time that the node has answered this.
    client.command(json!("Status")).await;
    let more = tokio::time::timeout(Duration::from_millis(100), answers.next()).await;
    assert!(more.is_err(), "answered twice: {more:?}");
}

/// Asks the bystanders in turn, without a pause.
struct Traffic {
    ids: Vec<usize>,
    answered: AtomicU64,
    slowest_ms: AtomicU64,
    failed: AtomicBool,
}

impl Traffic {
    const ASKERS: usize = 4;

    fn start(client: &Client, ids: Vec<usize>) -> Arc<Self> {
        let traffic = Arc::new(Self {
            ids,
            answered: AtomicU64::new(0),
            slowest_ms: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        for asker in 0..Self::ASKERS {
            let (client, traffic) = (client.clone(), Arc::clone(&traffic));
            tokio::spawn(async move {
                for number in traffic.ids.iter().skip(asker).step_by(Self::ASKERS).cycle() {
                    traffic.ask(&client, *number).await;
                }
            });
        }
        traffic
    }

    async fn ask(&self, client: &Client, number: usize) {
        let (subject, asked) = (format!("agent.input.{}", id(number)), Instant::now());
        let answer = client.try_request(&subject, number.to_string(), PROMPT).await;
        if !answer.as_ref().is_ok_and(|answer| answer["payload"] == number) {
            eprintln!("{subject} was answered with {answer:?}");
            self.failed.store(true, Ordering::SeqCst);
        }
        self.slowest_ms.fetch_max(asked.elapsed().as_millis() as u64, Ordering::SeqCst);
        self.answered.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until all were asked once more from now on; all have answered, all the time.
    async fn once_more(&self) {
        let enough = self.answered.load(Ordering::SeqCst) + (self.ids.len() + Self::ASKERS) as u64;
        until("answers of all bystanders", PATIENCE, || {
            (self.answered.load(Ordering::SeqCst) >= enough).then_some(())
        })
        .await;
        assert!(!self.failed.load(Ordering::SeqCst), "a bystander did not answer");
    }
}
