use super::*;
use crate::message::{AgentCounters, NodeCounters};
use crate::supervision::Quantiles;

pub(in super::super) fn at(ms: u64) -> Instant {
    Instant::from_start(Duration::from_millis(ms))
}

pub(in super::super) fn id(id: &str) -> AgentId {
    AgentId(id.to_owned())
}

/// An agent in its `life`, that had handled so much when it answered so long ago.
pub(in super::super) fn agent(name: &str, life: u64, handled: u64, ago_ms: u64) -> AgentSummary {
    AgentSummary {
        agent_id: id(name),
        agent_type: "chaos".to_owned(),
        supervisor: "agents".to_owned(),
        status: AgentStatus::Running,
        incarnation: life,
        restarts: life - 1,
        counters: AgentCounters {
            handled,
            errors: 0,
            memory_bytes: Some(1_179_648),
            handling_us: Some(Quantiles { p50: 14, p90: 24, p99: 20_480 }),
            mailbox_delay_us: Some(61),
            last_answer_ms: Some(ago_ms),
        },
    }
}

/// A round in which one node answered, with its restarts and agents.
pub(in super::super) fn round(node: &str, restarts: u64, agents: Vec<AgentSummary>) -> Fact {
    let mut by_status = BTreeMap::new();
    for agent in &agents {
        *by_status.entry(agent.status).or_default() += 1;
    }
    let summary = NodeSummary {
        node_id: node.to_owned(),
        host: "lunatic".to_owned(),
        version: "0.1.0".to_owned(),
        agents: agents.len() as u64,
        by_status,
        counters: NodeCounters { uptime_ms: 125_000, restarts, ..NodeCounters::default() },
        ..NodeSummary::default()
    };
    let found = Found { id: id(node), latency: Duration::from_micros(850) };
    Fact::Round(Round { nodes: vec![(found, summary, agents, false)] })
}

pub(in super::super) fn model() -> Model {
    Model::new("nats://h", Sort::Messages)
}

fn rate(model: &Model, name: &str) -> Option<f64> {
    let agents = model.agents();
    let found = agents.iter().find(|(_, agent)| agent.summary.agent_id == id(name));
    found.expect("it is there").1.per_second
}

#[test]
fn a_rate_is_that_between_two_answers_of_the_agent() {
    let mut model = model();
    let mut see = |ms, life, handled, ago| {
        model.take(at(ms), round("n", 0, vec![agent("a", life, handled, ago)]));
        rate(&model, "a")
    };
    assert_eq!(see(1_000, 1, 100, 500), None, "one answer is no rate");
    assert_eq!(see(2_000, 1, 100, 1_500), None, "the same answer, a second later");
    assert_eq!(see(3_000, 1, 300, 500), Some(100.0), "200 more in 2 s");
    assert_eq!(see(4_000, 1, 300, 1_490), Some(100.0), "the same, 10 ms off");
    assert_eq!(see(5_500, 1, 300, 1_000), Some(0.0), "it had nothing to do since");
    assert_eq!(see(6_000, 2, 7, 0), None, "another life counts anew");
    assert_eq!(see(7_000, 2, 17, 0), Some(10.0));
}

#[test]
fn an_agent_that_has_not_answered_has_no_rate() {
    let mut model = model();
    let mut fresh = agent("a", 1, 0, 0);
    fresh.counters = AgentCounters::default();
    for ms in [1_000, 2_000] {
        model.take(at(ms), round("n", 0, vec![fresh.clone()]));
        assert_eq!(rate(&model, "a"), None);
    }
    let (_, node) = model.nodes().next().expect("the node");
    assert_eq!((node.per_second(), node.memory()), (None, None));
}

#[test]
fn restarts_are_counted_over_the_last_minute() {
    let mut model = model();
    let mut see = |seconds: u64, restarts| {
        model.take(at(seconds * 1_000), round("n", restarts, vec![]));
        let (_, node) = model.nodes().next().expect("the node");
        node.restarts_last_minute()
    };
    assert_eq!(see(0, 5), 0, "what was before is not known");
    assert_eq!(see(30, 8), 3);
    assert_eq!(see(60, 10), 5);
    assert_eq!(see(90, 10), 2, "the first three are older than a minute");
    assert_eq!(see(121, 10), 0);
    assert_eq!(see(122, 1), 0, "another node of its name");
    assert_eq!(see(123, 2), 1);
}

#[test]
fn a_history_is_bounded_by_its_minute() {
    let mut model = model();
    for ms in (0..200_000).step_by(100) {
        model.take(at(ms), round("n", ms, vec![]));
    }
    let (_, node) = model.nodes().next().expect("the node");
    assert!(node.history.len() <= 602, "{}", node.history.len());
    assert_eq!(node.restarts_last_minute(), 60_000);
}

#[test]
fn a_node_that_is_silent_is_kept_for_a_minute() {
    let mut model = model();
    model.take(at(0), round("gone", 0, vec![agent("a", 1, 0, 0)]));
    model.take(at(59_000), round("n", 0, vec![]));
    assert_eq!((model.nodes().count(), model.agents().len()), (2, 1));
    model.take(at(60_000), Fact::Nobody("why".to_owned()));
    assert_eq!((model.nodes().count(), model.agents().len()), (1, 0));
    assert_eq!(model.nobody.as_deref(), Some("why"));
    model.take(at(61_000), round("n", 0, vec![]));
    assert_eq!(model.nobody, None);
}

#[test]
fn an_agent_that_is_not_listed_any_more_is_gone() {
    let mut model = model();
    model.take(at(0), round("n", 0, vec![agent("a", 1, 0, 0), agent("b", 1, 0, 0)]));
    model.take(at(1_000), round("n", 0, vec![agent("b", 1, 0, 0)]));
    let left: Vec<_> = model.agents().iter().map(|(_, a)| a.summary.agent_id.0.clone()).collect();
    assert_eq!(left, ["b"]);
}

fn press(model: &mut Model, keys: &str) -> Wish {
    keys.chars().fold(Wish::Stay, |_, key| model.key(Some(KeyCode::Char(key).into())))
}

fn order(model: &Model) -> String {
    model.agents().iter().map(|(_, agent)| agent.summary.agent_id.as_str()).collect()
}

#[test]
fn each_column_sorts() {
    let mut model = model();
    let (mut a, mut b, mut c) = (agent("a", 1, 0, 0), agent("b", 3, 0, 0), agent("c", 2, 0, 0));
    a.status = AgentStatus::Restarting;
    b.counters.handling_us = None;
    c.counters.memory_bytes = Some(9_999_999);
    a.counters.memory_bytes = None;
    model.take(at(0), round("n", 0, vec![a.clone(), b.clone(), c.clone()]));
    b.counters.handled = 100;
    c.counters.handled = 50;
    model.take(at(1_000), round("n", 0, vec![a, b, c]));
    for (key, sort, expected) in [
        ("m", Sort::Messages, "bca"),
        ("r", Sort::Restarts, "bca"),
        ("s", Sort::Status, "abc"),
        ("l", Sort::Latency, "acb"),
        ("M", Sort::Memory, "cba"),
        ("i", Sort::Id, "abc"),
    ] {
        assert_eq!(press(&mut model, key), Wish::Stay);
        assert_eq!((model.sort, order(&model).as_str()), (sort, expected), "{key}");
    }
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut model = model();
    let mut failed = agent("x1", 1, 0, 0);
    failed.status = AgentStatus::Failed;
    model.take(at(0), round("node-7", 0, vec![agent("a1", 1, 0, 0), agent("a2", 1, 0, 0), failed]));
    press(&mut model, "/A");
    assert!(model.typing && order(&model) == "a1a2x1", "the type chaos has an a, too");
    press(&mut model, "2");
    assert_eq!(order(&model), "a2");
    press(&mut model, "q");
    assert_eq!((order(&model).as_str(), model.filter.as_str()), ("", "A2q"), "q is typed");
    model.key(Some(KeyCode::Backspace.into()));
    model.key(Some(KeyCode::Enter.into()));
    assert!(!model.typing && order(&model) == "a2");
    model.key(Some(KeyCode::Esc.into()));
    assert_eq!(order(&model), "a1a2x1");
    for (filter, expected) in [("/fail", "x1"), ("/node-7", "a1a2x1"), ("/moon", "")] {
        press(&mut model, filter);
        assert_eq!(order(&model), expected, "{filter}");
        model.key(Some(KeyCode::Esc.into()));
        assert!(!model.typing && model.filter.is_empty());
    }
    press(&mut model, &format!("/{}", "y".repeat(1000)));
    assert_eq!(model.filter.len(), Model::MAX_FILTER);
}

#[test]
fn keys_that_end_it() {
    let mut model = model();
    assert_eq!(press(&mut model, "q"), Wish::Quit);
    let with_control = |key| Some(KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL));
    assert_eq!(model.key(with_control('c')), Wish::Quit);
    assert_eq!(model.key(with_control('x')), Wish::Stay);
    press(&mut model, "/");
    assert_eq!(model.key(with_control('c')), Wish::Quit, "also while a filter is typed");
    assert_eq!(model.key(None), Wish::Stay);
}

#[test]
fn what_is_paused_stays_as_it_is() {
    let mut model = model();
    model.take(at(0), round("n", 0, vec![]));
    press(&mut model, "p");
    model.take(at(1_000), round("m", 0, vec![]));
    model.take(at(1_000), Fact::Event(Box::new(Event::read("s", b"{}"))));
    assert_eq!((model.nodes().count(), model.events.len()), (1, 0));
    model.take(at(1_000), Fact::Notice("lost".to_owned()));
    assert_eq!(model.notice, "lost", "but that is told");
    press(&mut model, "p");
    model.take(at(2_000), round("m", 0, vec![]));
    assert_eq!(model.nodes().count(), 2);
}

#[test]
fn the_last_events_are_kept() {
    let mut model = model();
    for number in 0..250 {
        let body = format!("{{\"payload\":{{\"Error\":{{\"agent_id\":\"a{number}\"}}}}}}");
        model.take(at(0), Fact::Event(Box::new(Event::read("s", body.as_bytes()))));
    }
    assert_eq!(model.events.len(), 100);
    assert!(model
        .events
        .back()
        .is_some_and(|(tone, line)| { line.contains("a249") && *tone == Tone::Warn }));
}

#[test]
fn for_programs_it_is_what_the_nodes_say_and_what_was_computed() {
    let mut model = model();
    model.take(at(1_000), round("n", 3, vec![agent("a", 2, 100, 0)]));
    model.take(at(3_000), round("n", 4, vec![agent("a", 2, 200, 0)]));
    let json = model.json();
    let (node, agent) = (&json["nodes"][0], &json["agents"][0]);
    assert_eq!((&node["node_id"], &node["counters"]["restarts"]), (&json!("n"), &json!(4)));
    assert_eq!((&node["restarts_last_minute"], &node["latency_us"]), (&json!(1), &json!(850)));
    assert_eq!(node["messages_per_second"], 50.0);
    assert_eq!((&agent["node_id"], &agent["agent_id"]), (&json!("n"), &json!("a")));
    assert_eq!(agent["messages_per_second"], 50.0);
}
