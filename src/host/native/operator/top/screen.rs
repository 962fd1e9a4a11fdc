//! What `top` knows, drawn.

use std::time::Duration;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::Frame;

use super::super::args::Sort;
use super::super::harmless::harmless;
use super::super::paint::{Paint, Tone};
use super::super::table::{lines, Cell, Column, Piece};
use super::super::units;
use super::model::{Agent, Model, Node};
use crate::agent::AgentId;
use crate::time::Instant;

/// How many nodes are shown; those beyond are counted.
const NODES: usize = 8;

/// How many lines of events are shown, if there is room.
const EVENTS: u16 = 8;

/// The longest id that is shown, in characters: a UUID fits.
const ID: usize = 36;

/// A node that has not answered for so long is told to be silent.
const SILENT: Duration = Duration::from_secs(3);

/// Draws it all, as it is `now`.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model, now: Instant, paint: Paint) {
    let nodes = node_lines(model, now);
    let events = EVENTS.min(model.events.len().max(1) as u16) + 1;
    // Agents have what the others leave, and at least three lines.
    let [title, above, agents, below, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Max(nodes.len() as u16 + 1),
        Constraint::Min(3),
        Constraint::Max(events),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    show(frame, title, vec![head(model)], paint);
    show(frame, above, nodes, paint);
    let agent_lines = agent_lines(model, agents.height);
    show(frame, agents, agent_lines, paint);
    show(frame, below, event_lines(model, below.height), paint);
    show(frame, keys, vec![foot(model)], paint);
}

fn show(frame: &mut Frame<'_>, area: Rect, lines: Vec<Vec<Piece>>, paint: Paint) {
    for (row, line) in area.rows().zip(lines) {
        let spans = line.into_iter().map(|(tone, text)| Span::styled(text, tone.on_screen(paint)));
        frame.render_widget(Line::from_iter(spans), row);
    }
}

/// Where this is, how much there is, and what is wrong.
fn head(model: &Model) -> Vec<Piece> {
    let nodes = model.nodes().count() as u64;
    let agents = model.nodes().map(|(_, node)| node.summary.agents).sum();
    let mut line = vec![
        (Tone::Strong, format!("{}  ", harmless(&model.url, 100))),
        (
            Tone::Plain,
            format!("{}, {}", units::count(nodes, "node"), units::count(agents, "agent")),
        ),
    ];
    let mut say = |tone, text: String| line.push((tone, format!("  {text}")));
    if model.paused {
        say(Tone::Warn, "paused".to_owned());
    }
    if model.dropped > 0 {
        say(Tone::Warn, format!("{} dropped", units::count(model.dropped, "event")));
    }
    match (&model.nobody, model.asked) {
        _ if !model.notice.is_empty() => say(Tone::Bad, model.notice.clone()),
        (Some(why), _) => say(Tone::Bad, harmless(why, 200)),
        (None, false) => say(Tone::Faint, "asking…".to_owned()),
        (None, true) => {}
    }
    line
}

fn node_lines(model: &Model, now: Instant) -> Vec<Vec<Piece>> {
    let columns = [
        Column::Words("NODE"),
        Column::Words("HOST"),
        Column::Words("VERSION"),
        Column::Figures("AGENTS"),
        Column::Figures("RESTARTS"),
        Column::Figures("LAST MIN"),
        Column::Figures("MSG/S"),
        Column::Figures("MEMORY"),
        Column::Figures("UP FOR"),
        Column::Figures("ANSWERS IN"),
        Column::Words("AGENTS ARE"),
    ];
    let rows: Vec<Vec<Cell>> =
        model.nodes().take(NODES).map(|(id, node)| row(id, node, now)).collect();
    let mut all = lines(&columns, &rows);
    let beyond = model.nodes().count().saturating_sub(NODES);
    if beyond > 0 {
        let more = units::count(beyond as u64, "more node");
        all.push(vec![(Tone::Faint, format!("… and {more}: --node shows one"))]);
    }
    all
}

fn row(id: &AgentId, node: &Node, now: Instant) -> Vec<Cell> {
    let (summary, counters) = (&node.summary, &node.summary.counters);
    let last_minute = node.restarts_last_minute();
    let silent = now - node.seen;
    let state = match silent >= SILENT {
        true => Cell::new(format!("no answer for {}", units::long(silent))).tone(Tone::Bad),
        false => {
            let statuses =
                summary.by_status.iter().map(|(status, count)| format!("{count} {status}"));
            let draining = summary.draining.then(|| "draining".to_owned());
            let text: Vec<String> = statuses.chain(draining).collect();
            let well = summary.by_status.keys().all(|status| status.to_string() == "Running");
            let tone = if well && !summary.draining { Tone::Good } else { Tone::Warn };
            Cell::new(text.join(", ")).tone(tone)
        }
    };
    let recent = if last_minute > 0 { Tone::Bad } else { Tone::Plain };
    vec![
        name(id.as_str()),
        Cell::new(&summary.host),
        Cell::new(&summary.version),
        Cell::new(format!("{}{}", summary.agents, if node.more { "+" } else { "" })),
        Cell::new(counters.restarts.to_string()),
        Cell::new(last_minute.to_string()).tone(recent),
        Cell::new(units::or_unknown(node.per_second(), units::rate)),
        Cell::new(units::or_unknown(node.memory(), units::bytes)),
        Cell::new(units::long(Duration::from_millis(counters.uptime_ms))),
        Cell::new(units::micros(node.latency.as_micros() as u64)),
        state,
    ]
}

fn name(id: &str) -> Cell {
    Cell::new(harmless(id, ID)).tone(Tone::Strong)
}

/// The agents that fit into so many lines, with their head.
fn agent_lines(model: &mut Model, height: u16) -> Vec<Vec<Piece>> {
    model.page = usize::from(height).saturating_sub(2).max(1);
    let agents = model.agents();
    let (all, last) = (agents.len(), agents.len().saturating_sub(model.page));
    let scroll = model.scroll.min(last);
    let columns = [
        Column::Words(title("AGENT", model.sort == Sort::Id)),
        Column::Words("NODE"),
        Column::Words("TYPE"),
        Column::Words(title("STATUS", model.sort == Sort::Status)),
        Column::Figures("LIFE"),
        Column::Figures(title("RESTARTS", model.sort == Sort::Restarts)),
        Column::Figures(title("MSG/S", model.sort == Sort::Messages)),
        Column::Figures("ERRORS"),
        Column::Figures("P50"),
        Column::Figures(title("P99", model.sort == Sort::Latency)),
        Column::Figures("WAITS"),
        Column::Figures(title("MEMORY", model.sort == Sort::Memory)),
    ];
    let shown = agents.iter().skip(scroll).take(model.page);
    let rows: Vec<Vec<Cell>> = shown.map(|(node, agent)| agent_row(node, agent)).collect();
    let mut all_lines = lines(&columns, &rows);
    if rows.len() < all {
        let (from, to) = (scroll + 1, scroll + rows.len());
        all_lines.push(vec![(Tone::Faint, format!("{from} to {to} of {all}"))]);
    }
    // What is scrolled beyond the end counts from there.
    model.scroll = scroll;
    all_lines
}

/// The title of a column; that by which the agents are sorted has a mark.
fn title(plain: &'static str, sorted: bool) -> &'static str {
    match (plain, sorted) {
        ("AGENT", true) => "AGENT▾",
        ("STATUS", true) => "STATUS▾",
        ("RESTARTS", true) => "RESTARTS▾",
        ("MSG/S", true) => "MSG/S▾",
        ("P99", true) => "P99▾",
        ("MEMORY", true) => "MEMORY▾",
        (plain, _) => plain,
    }
}

fn agent_row(node: &AgentId, agent: &Agent) -> Vec<Cell> {
    let (summary, counters) = (&agent.summary, &agent.summary.counters);
    let status = summary.status.to_string();
    let micros = |figure| Cell::new(units::or_unknown(figure, units::micros));
    let warn = |count: u64| {
        Cell::new(count.to_string()).tone(if count > 0 { Tone::Warn } else { Tone::Plain })
    };
    vec![
        name(summary.agent_id.as_str()),
        Cell::new(harmless(node.as_str(), ID)),
        Cell::new(harmless(&summary.agent_type, 20)),
        Cell::new(&status).tone(Tone::of_status(&status)),
        Cell::new(summary.incarnation.to_string()),
        warn(summary.restarts),
        Cell::new(units::or_unknown(agent.per_second, units::rate)),
        warn(counters.errors),
        micros(counters.handling_us.map(|us| us.p50)),
        micros(counters.handling_us.map(|us| us.p99)),
        micros(counters.mailbox_delay_us),
        Cell::new(units::or_unknown(counters.memory_bytes, units::bytes)),
    ]
}

/// The last events that fit into so many lines, the newest at the bottom, with their head.
fn event_lines(model: &Model, height: u16) -> Vec<Vec<Piece>> {
    let room = usize::from(height).saturating_sub(1);
    let skipped = model.events.len().saturating_sub(room);
    let mut all = vec![vec![(Tone::Strong, "EVENTS".to_owned())]];
    if model.events.is_empty() {
        all.push(vec![(Tone::Faint, "none so far".to_owned())]);
    }
    let shown = model.events.iter().skip(skipped);
    all.extend(shown.map(|(tone, text)| vec![(*tone, text.clone())]));
    all
}

fn foot(model: &Model) -> Vec<Piece> {
    if model.typing {
        let typed = harmless(&model.filter, 100);
        return vec![(Tone::Strong, format!("filter: {typed}_   Enter keeps it, Esc drops it"))];
    }
    let mut line = Vec::new();
    if !model.filter.is_empty() {
        let filter = harmless(&model.filter, 100);
        line.push((Tone::Warn, format!("only {filter} (Esc shows all)  ")));
    }
    let keys = "q quit  / filter  p pause  ↑↓ scroll  sort by: i id  s status  r restarts  \
                m messages  l latency  M memory";
    line.push((Tone::Faint, keys.to_owned()));
    line
}

#[cfg(test)]
mod tests;
