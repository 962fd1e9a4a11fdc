//! `status`: the nodes, or one agent.

use std::time::Duration;

use serde_json::{json, Value};

use super::answer::Answer;
use super::args::Status;
use super::failure::Failure;
use super::harmless::harmless;
use super::nodes::{Found, Listed, Nodes};
use super::out::Out;
use super::paint::{Paint, Tone};
use super::table::{table, Cell, Column};
use super::units;
use crate::agent::AgentId;
use crate::message::{AgentSummary, NodeSummary};

pub(super) async fn run(args: &Status, nodes: &Nodes, out: &mut Out<'_>) -> Result<(), Failure> {
    let found = nodes.find(args.node.as_ref()).await?;
    match &args.agent {
        None => {
            let mut seen = Vec::new();
            let mut silent = Vec::new();
            for (node, summary) in nodes.summaries(found).await {
                match summary {
                    Ok(summary) => seen.push((node, summary)),
                    Err(failure) => match failure.code() {
                        Some("timeout" | "no_such_node") => silent.push(node.id.0),
                        _ => return Err(failure),
                    },
                }
            }
            out.show(|| nodes_json(&seen, &silent), |paint| nodes_text(&seen, paint))?;
            all_heard(&silent, nodes.timeout, out.json)
        }
        Some(id) => {
            let listed = nodes.agent(&found, id).await?;
            if listed.agents.is_empty() && listed.silent.is_empty() {
                return Err(Failure::no_such_agent(id.as_str()));
            }
            out.show(|| agents_json(&listed), |paint| agent_text(&listed, paint))?;
            all_heard(&listed.silent, nodes.timeout, out.json)
        }
    }
}

/// Fails if a node did not answer: what has been shown is not all.
pub(super) fn all_heard(silent: &[String], after: Duration, json: bool) -> Result<(), Failure> {
    match silent {
        [] => Ok(()),
        silent => Err(Failure::silent(silent, after).shown_if(json)),
    }
}

/// `{"nodes":[…],"silent":[…]}`: each node as it answers `Status`, and the ids of those that did not.
fn nodes_json(seen: &[(Found, Answer<NodeSummary>)], silent: &[String]) -> Value {
    let whole: Vec<&Value> = seen.iter().map(|(_, summary)| &summary.whole).collect();
    json!({ "nodes": whole, "silent": silent })
}

fn nodes_text(seen: &[(Found, Answer<NodeSummary>)], paint: Paint) -> String {
    let columns = [
        Column::Words("NODE"),
        Column::Words("HOST"),
        Column::Words("VERSION"),
        Column::Figures("AGENTS"),
        Column::Figures("RESTARTS"),
        Column::Figures("REFUSED"),
        Column::Figures("BAD INPUT"),
        Column::Figures("UP FOR"),
        Column::Figures("ANSWERS IN"),
        Column::Words("AGENTS ARE"),
    ];
    let rows: Vec<Vec<Cell>> = seen
        .iter()
        .map(|(node, summary)| {
            let summary = &summary.known;
            let counters = &summary.counters;
            let warn = |count: u64| match count {
                0 => Cell::new("0"),
                count => Cell::new(count.to_string()).tone(Tone::Warn),
            };
            vec![
                Cell::new(node.id.as_str()).tone(Tone::Strong),
                Cell::new(&summary.host),
                Cell::new(&summary.version),
                Cell::new(summary.agents.to_string()),
                warn(counters.restarts),
                warn(counters.refused_starts),
                warn(counters.bad_input),
                Cell::new(units::long(Duration::from_millis(counters.uptime_ms))),
                Cell::new(units::micros(node.latency.as_micros() as u64)),
                statuses(summary),
            ]
        })
        .collect();
    table(&columns, &rows, paint)
}

/// `8 Running, 1 Failed`, and whether the node drains.
fn statuses(summary: &NodeSummary) -> Cell {
    let mut parts: Vec<String> =
        summary.by_status.iter().map(|(status, count)| format!("{count} {status}")).collect();
    if summary.draining {
        parts.push("draining".to_owned());
    }
    let well = summary.by_status.keys().all(|status| status.to_string() == "Running");
    Cell::new(parts.join(", ")).tone(if well && !summary.draining {
        Tone::Good
    } else {
        Tone::Warn
    })
}

/// `{"agents":[{"node_id",…}],"more","silent":[…]}`: each agent as its node shows it, with the node.
pub(super) fn agents_json(listed: &Listed) -> Value {
    let with_node = |(node, agent): &(AgentId, Answer<AgentSummary>)| {
        let mut whole = agent.whole.clone();
        // It was read as an agent, and can be a list of its values all the same.
        if let Some(fields) = whole.as_object_mut() {
            fields.insert("node_id".to_owned(), node.as_str().into());
        }
        whole
    };
    let agents: Vec<Value> = listed.agents.iter().map(with_node).collect();
    json!({ "agents": agents, "more": listed.more, "silent": listed.silent })
}

fn agent_text(listed: &Listed, paint: Paint) -> String {
    let mut text = String::new();
    for (at, (node, agent)) in listed.agents.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        for (name, value, tone) in agent_lines(node, &agent.known) {
            let label = paint.text(Tone::Faint, &format!("{name:<14}"));
            text.push_str(&format!("{label}  {}\n", paint.text(tone, &harmless(&value, 160))));
        }
    }
    text
}

fn agent_lines(node: &AgentId, agent: &AgentSummary) -> Vec<(&'static str, String, Tone)> {
    let status = agent.status.to_string();
    let counters = &agent.counters;
    let tone = Tone::of_status(&status);
    let plain = Tone::Plain;
    let handling = units::or_unknown(counters.handling_us, |us| {
        let [p50, p90, p99] = [us.p50, us.p90, us.p99].map(units::micros);
        format!("half in {p50}, 90 % in {p90}, 99 % in {p99}")
    });
    let ago = units::or_unknown(counters.last_answer_ms, |ms| {
        format!("{} ago", units::micros(ms.saturating_mul(1000)))
    });
    vec![
        ("agent", agent.agent_id.to_string(), Tone::Strong),
        ("node", node.to_string(), plain),
        ("type", agent.agent_type.clone(), plain),
        ("supervisor", agent.supervisor.clone(), plain),
        ("status", status, tone),
        ("life", agent.incarnation.to_string(), plain),
        ("restarts", agent.restarts.to_string(), plain),
        ("handled", format!("{} in this life", units::count(counters.handled, "message")), plain),
        (
            "errors",
            counters.errors.to_string(),
            if counters.errors > 0 { Tone::Warn } else { plain },
        ),
        ("handling", handling, plain),
        ("mailbox delay", units::or_unknown(counters.mailbox_delay_us, units::micros), plain),
        ("memory", units::or_unknown(counters.memory_bytes, units::bytes), plain),
        ("last answer", ago, plain),
    ]
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer as a node of this library gives it.
    pub(in super::super) fn known<T: serde::de::DeserializeOwned>(whole: Value) -> Answer<T> {
        let known = serde_json::from_value(whole.clone()).expect("what a node says");
        Answer { known, whole }
    }

    pub(in super::super) fn agent(id: &str, status: &str) -> Answer<AgentSummary> {
        known(json!({"agent_id": id, "agent_type": "chaos", "supervisor": "agents",
            "status": status, "incarnation": 9, "restarts": 8, "counters": {"handled": 2041,
            "errors": 3, "memory_bytes": 1_179_648, "mailbox_delay_us": 61, "last_answer_ms": 146,
            "handling_us": {"p50": 14, "p90": 24, "p99": 20_480}}}))
    }

    fn node(id: &str, by_status: Value, draining: bool) -> (Found, Answer<NodeSummary>) {
        let agents: u64 =
            by_status.as_object().expect("a map").values().filter_map(Value::as_u64).sum();
        let summary = known(json!({"node_id": id, "host": "lunatic", "version": "0.1.0",
            "agents": agents, "by_status": by_status, "draining": draining, "moons": 2,
            "counters": {"bad_input": 0, "refused_starts": 3, "restarts": 8, "uptime_ms": 7_500_000}}));
        let id = AgentId(id.to_owned());
        (Found { id, latency: Duration::from_micros(850) }, summary)
    }

    #[test]
    fn nodes_are_a_table() {
        let seen = [
            node("n1", json!({"Running": 12}), false),
            node("n2", json!({"Running": 1, "Failed": 1}), true),
        ];
        let expected = "\
NODE  HOST     VERSION  AGENTS  RESTARTS  REFUSED  BAD INPUT     UP FOR  ANSWERS IN  AGENTS ARE
n1    lunatic  0.1.0        12         8        3          0  2 h 5 min      850 µs  12 Running
n2    lunatic  0.1.0         2         8        3          0  2 h 5 min      850 µs  1 Running, 1 Failed, draining
";
        assert_eq!(nodes_text(&seen, Paint::Off), expected);
        let json = nodes_json(&seen, &["n3".to_owned()]);
        assert_eq!(json["nodes"][1]["by_status"], json!({"Running": 1, "Failed": 1}));
        assert_eq!(json["nodes"][0]["moons"], 2, "what we do not know is shown, too");
        assert_eq!(json["silent"], json!(["n3"]));
    }

    #[test]
    fn an_agent_is_a_list_of_its_properties_for_each_node_that_has_it() {
        let node = |id: &str| AgentId(id.to_owned());
        let listed = Listed {
            agents: vec![(node("n1"), agent("a1", "Running")), (node("n2"), agent("a1", "Failed"))],
            ..Listed::default()
        };
        let text = agent_text(&listed, Paint::Off);
        for line in [
            "agent           a1",
            "node            n1",
            "node            n2",
            "status          Running",
            "status          Failed",
            "handled         2041 messages in this life",
            "handling        half in 14 µs, 90 % in 24 µs, 99 % in 20.5 ms",
            "memory          1.1 MiB",
            "last answer     146.0 ms ago",
            "",
        ] {
            assert_eq!(
                text.lines().filter(|shown| *shown == line).count().min(1),
                1,
                "{line}: {text}"
            );
        }
        let json = agents_json(&listed);
        assert_eq!((&json["agents"][1]["node_id"], &json["more"]), (&json!("n2"), &json!(false)));
        assert_eq!(json["agents"][0]["counters"]["handling_us"]["p99"], 20_480);
    }

    #[test]
    fn a_node_that_says_nothing_is_a_timeout_once_the_rest_is_shown() {
        let second = Duration::from_secs(1);
        assert!(all_heard(&[], second, true).is_ok());
        let failure = all_heard(&["n3".to_owned()], second, false).expect_err("silent");
        assert!(failure.told().is_some_and(|told| told.message.contains("n3")));
        let failure = all_heard(&["n3".to_owned()], second, true).expect_err("silent");
        assert!(matches!(failure, Failure::Shown(super::super::failure::Exit::Timeout)));
    }
}
