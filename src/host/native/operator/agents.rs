//! `agents`: those of all nodes, in a table.

use super::args::Agents;
use super::failure::Failure;
use super::nodes::{Listed, Nodes};
use super::out::Out;
use super::paint::{Paint, Tone};
use super::status::{agents_json, all_heard};
use super::table::{table, Cell, Column};
use super::units;
use crate::message::{AgentCommand, AgentSummary};

pub(super) async fn run(args: &Agents, nodes: &Nodes, out: &mut Out<'_>) -> Result<(), Failure> {
    let found = nodes.find(args.node.as_ref()).await?;
    let most = args.limit as usize;
    // Of those that a filter leaves out, each page had better have many.
    let page = match args.agent_type.is_some() || args.status.is_some() {
        true => AgentCommand::MAX_PAGE,
        false => most + 1,
    };
    let listed = nodes.agents(found, most, page, |agent| args.wants(agent)).await?;
    out.show(|| agents_json(&listed), |paint| text(&listed, paint))?;
    all_heard(&listed.silent, nodes.timeout, out.json)
}

impl Agents {
    /// Whether an agent is to be shown.
    fn wants(&self, agent: &AgentSummary) -> bool {
        self.agent_type.as_ref().is_none_or(|wanted| *wanted == agent.agent_type)
            && self.status.is_none_or(|wanted| format!("{wanted:?}") == agent.status.to_string())
    }
}

fn text(listed: &Listed, paint: Paint) -> String {
    let columns = [
        Column::Words("AGENT"),
        Column::Words("NODE"),
        Column::Words("TYPE"),
        Column::Words("STATUS"),
        Column::Figures("LIFE"),
        Column::Figures("RESTARTS"),
        Column::Figures("HANDLED"),
        Column::Figures("ERRORS"),
        Column::Figures("P50"),
        Column::Figures("P99"),
        Column::Figures("MEMORY"),
    ];
    let rows: Vec<Vec<Cell>> = listed
        .agents
        .iter()
        .map(|(node, agent)| {
            let agent = &agent.known;
            let (status, counters) = (agent.status.to_string(), &agent.counters);
            let warn = |count: u64| match count {
                0 => Cell::new("0"),
                count => Cell::new(count.to_string()).tone(Tone::Warn),
            };
            let micros = |figure| Cell::new(units::or_unknown(figure, units::micros));
            vec![
                Cell::new(agent.agent_id.as_str()).tone(Tone::Strong),
                Cell::new(node.as_str()),
                Cell::new(&agent.agent_type),
                Cell::new(&status).tone(Tone::of_status(&status)),
                Cell::new(agent.incarnation.to_string()),
                warn(agent.restarts),
                Cell::new(counters.handled.to_string()),
                warn(counters.errors),
                micros(counters.handling_us.map(|us| us.p50)),
                micros(counters.handling_us.map(|us| us.p99)),
                Cell::new(units::or_unknown(counters.memory_bytes, units::bytes)),
            ]
        })
        .collect();
    let mut text = table(&columns, &rows, paint);
    if rows.is_empty() {
        text = "no agents\n".to_owned();
    }
    if listed.more {
        let more = format!("… and more: --limit shows more than {}\n", rows.len());
        text.push_str(&paint.text(Tone::Faint, &more));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::args::Shown;
    use super::super::status::tests::agent;
    use super::*;
    use crate::agent::AgentId;

    #[test]
    fn agents_are_a_table() {
        let node = |id: &str| AgentId(id.to_owned());
        let mut listed = Listed {
            agents: vec![(node("n1"), agent("a1", "Running")), (node("n2"), agent("b", "Failed"))],
            ..Listed::default()
        };
        let expected = "\
AGENT  NODE  TYPE   STATUS   LIFE  RESTARTS  HANDLED  ERRORS    P50      P99   MEMORY
a1     n1    chaos  Running     9         8     2041       3  14 µs  20.5 ms  1.1 MiB
b      n2    chaos  Failed      9         8     2041       3  14 µs  20.5 ms  1.1 MiB
";
        assert_eq!(text(&listed, Paint::Off), expected);
        listed.more = true;
        let shown = text(&listed, Paint::Off);
        assert!(shown.ends_with("… and more: --limit shows more than 2\n"), "{shown}");
        assert_eq!(text(&Listed::default(), Paint::Off), "no agents\n");
    }

    #[test]
    fn filters() {
        let all = Agents { node: None, agent_type: None, status: None, limit: 1 };
        let running = agent("a", "Running").known;
        assert!(all.wants(&running));
        for (agent_type, status, wanted) in [
            (Some("chaos"), Some(Shown::Running), true),
            (Some("echo"), None, false),
            (None, Some(Shown::Failed), false),
        ] {
            let agent_type = agent_type.map(str::to_owned);
            let args = Agents { agent_type, status, ..all.clone() };
            assert_eq!(args.wants(&running), wanted, "{args:?}");
        }
    }
}
