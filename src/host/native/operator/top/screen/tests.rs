use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;
use ratatui::Terminal;

use super::super::model::tests::{agent, at, id, model, round};
use super::super::model::Fact;
use super::*;
use crate::host::native::operator::watch::Event;

/// The screen as text, its lines without what is blank behind them.
fn screen(model: &mut Model, now: Instant, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, model, now, Paint::On)).expect("it is drawn");
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(width));
    let row = |row: &[ratatui::buffer::Cell]| {
        let text: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    rows.map(row).collect()
}

fn busy() -> Model {
    let mut model = model();
    let agents = |handled| vec![agent("a1", 3, handled, 0), agent("b", 1, 0, 0)];
    model.take(at(1_000), round("n1", 2, agents(100)));
    model.take(at(3_000), round("n1", 3, agents(300)));
    let body = r#"{"source":"n1","timestamp":"2026-11-22T00:03:34.028530Z",
        "metadata":{"severity":"High"},"payload":{"Failure":{"agent_id":"a1","incarnation":2,
        "failure_type":"ProcessCrash","context":{"message":"told to panic"}}}}"#;
    model.take(at(3_000), Fact::Event(Box::new(Event::read("s", body.as_bytes()))));
    model
}

#[test]
fn nodes_agents_and_events() {
    let shown = screen(&mut busy(), at(3_100), 120, 16);
    let expected = "\
nats://h  1 node, 2 agents

NODE  HOST     VERSION  AGENTS  RESTARTS  LAST MIN  MSG/S   MEMORY     UP FOR  ANSWERS IN  AGENTS ARE
n1    lunatic  0.1.0         2         3         1    100  2.2 MiB  2 min 5 s      850 µs  2 Running

AGENT  NODE  TYPE   STATUS   LIFE  RESTARTS  MSG/S▾  ERRORS    P50      P99  WAITS   MEMORY
a1     n1    chaos  Running     3         2     100       0  14 µs  20.5 ms  61 µs  1.1 MiB
b      n1    chaos  Running     1         0       0       0  14 µs  20.5 ms  61 µs  1.1 MiB





EVENTS
00:03:34.028  failure     high      a1#2  on n1  ProcessCrash: told to panic
q quit  / filter  p pause  ↑↓ scroll  sort by: i id  s status  r restarts  m messages  l latency  M memory";
    assert_eq!(shown.join("\n"), expected);
}

#[test]
fn colours_are_for_who_wants_them() {
    let styles = |paint| {
        let mut model = busy();
        let mut terminal = Terminal::new(TestBackend::new(120, 16)).expect("a terminal");
        terminal.draw(|frame| draw(frame, &mut model, at(3_100), paint)).expect("it is drawn");
        let buffer = terminal.backend().buffer();
        // The status of the first agent.
        let at = (0..120).find(|&x| buffer[(x, 6)].symbol() == "R").expect("Running");
        buffer[(at, 6)].fg
    };
    assert_eq!(styles(Paint::On), ratatui::style::Color::Green);
    assert_eq!(styles(Paint::Off), ratatui::style::Color::Reset);
}

#[test]
fn no_size_is_too_small() {
    for (width, height) in [(1, 1), (3, 2), (10, 5), (80, 8), (400, 100)] {
        let shown = screen(&mut busy(), at(3_100), width, height);
        assert_eq!(shown.len(), usize::from(height));
    }
}

#[test]
fn what_does_not_fit_can_be_scrolled_to() {
    let mut model = model();
    let agents = (0..100).map(|n| agent(&format!("a{n:02}"), 1, 0, 0)).collect();
    model.take(at(0), round("n1", 0, agents));
    let first_shown = |model: &mut Model| -> String {
        let shown = screen(model, at(0), 120, 20);
        let head = shown.iter().position(|line| line.starts_with("AGENT")).expect("a head");
        shown[head + 1][..3].to_owned()
    };
    assert_eq!(first_shown(&mut model), "a00");
    let shown = screen(&mut model, at(0), 120, 20).join("\n");
    assert!(shown.contains(&format!("1 to {} of 100", model.page)), "{shown}");
    for (key, expected) in [
        (KeyCode::Down, "a01".to_owned()),
        (KeyCode::Up, "a00".to_owned()),
        (KeyCode::Up, "a00".to_owned()),
        (KeyCode::PageDown, format!("a{:02}", model.page)),
        (KeyCode::End, format!("a{}", 100 - model.page)),
        (KeyCode::Down, format!("a{}", 100 - model.page)),
        (KeyCode::Up, format!("a{}", 99 - model.page)),
        (KeyCode::Home, "a00".to_owned()),
    ] {
        model.key(Some(key.into()));
        assert_eq!(first_shown(&mut model), expected, "{key:?}");
    }
}

#[test]
fn what_is_wrong_stands_at_the_top() {
    let head = |model: &mut Model, now| screen(model, now, 120, 16)[0].clone();
    let mut model = model();
    assert_eq!(head(&mut model, at(0)), "nats://h  0 nodes, 0 agents  asking…");
    model.take(at(0), Fact::Nobody("no node answers".to_owned()));
    assert_eq!(head(&mut model, at(0)), "nats://h  0 nodes, 0 agents  no node answers");
    model.take(at(0), Fact::Notice("the connection is lost".to_owned()));
    assert_eq!(head(&mut model, at(0)), "nats://h  0 nodes, 0 agents  the connection is lost");
    model.take(at(0), Fact::Notice(String::new()));
    model.take(at(0), Fact::Dropped(1));
    model.take(at(0), round("n1", 0, vec![]));
    model.key(Some(KeyCode::Char('p').into()));
    assert_eq!(head(&mut model, at(0)), "nats://h  1 node, 0 agents  paused  1 event dropped");
    let silent = screen(&mut model, at(10_000), 120, 16)[3].clone();
    assert!(silent.contains("no answer for 10 s"), "{silent}");
}

#[test]
fn more_nodes_than_fit_are_counted() {
    let mut model = model();
    for number in 0..20 {
        model.take(at(0), round(&format!("n{number:02}"), 0, vec![]));
    }
    let shown = screen(&mut model, at(0), 120, 30).join("\n");
    assert!(shown.contains("n07") && !shown.contains("n08"), "{shown}");
    assert!(shown.contains("… and 12 more nodes: --node shows one"), "{shown}");
}

#[test]
fn the_filter_is_seen() {
    let foot = |model: &mut Model| screen(model, at(0), 120, 16)[15].clone();
    let mut model = busy();
    for key in "/a1".chars() {
        model.key(Some(KeyCode::Char(key).into()));
    }
    assert!(foot(&mut model).starts_with("filter: a1_   Enter keeps it"));
    model.key(Some(KeyCode::Enter.into()));
    assert!(foot(&mut model).starts_with("only a1 (Esc shows all)  q quit"));
}

#[test]
fn nothing_from_the_wire_is_obeyed() {
    let mut model = model();
    let mut evil = agent("a", 1, 0, 0);
    evil.agent_type = "\u{1b}[2Jx".to_owned();
    let mut fact = round("n", 0, vec![evil]);
    if let Fact::Round(round) = &mut fact {
        round.nodes[0].1.host = "\u{9b}31m".to_owned();
        round.nodes[0].1.version = "1\n2".to_owned();
    }
    model.take(at(0), fact);
    model.take(at(0), Fact::Nobody("\u{1b}]0;title\u{7}".to_owned()));
    assert_eq!(model.nodes().next().map(|(node, _)| node), Some(&id("n")));
    let shown = screen(&mut model, at(0), 160, 16).join("\n");
    assert!(shown.contains("\\u{1b}[2Jx") && shown.contains("\\u{9b}31m"), "{shown}");
    assert!(shown.contains("1\\n2") && shown.contains("\\u{1b}]0;title\\u{7}"), "{shown}");
}
