//! `docs/PROTOCOL.md` is read here with the types that it is about, so that it cannot go stale.
//!
//! An example is a block that starts with <code>```json TYPE [SUBJECT]</code>; there are no others.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{json, Map, Value};

use super::*;
use crate::agent::AgentConfig;
use crate::coordination::{CoordinationMessage, TaskRequirements};
use crate::supervision::{FailureContext, SupervisionEvent, SupervisionFinding};
use crate::time::Timestamp;

const PAGE: &str = include_str!("../../docs/PROTOCOL.md");

struct Example {
    line: usize,
    /// What stands behind `json`: a type, and perhaps a subject.
    kind: String,
    body: String,
}

fn examples() -> Vec<Example> {
    let mut examples = Vec::new();
    let mut lines = PAGE.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let kind = info.strip_prefix("json ");
        let kind = kind.unwrap_or_else(|| panic!("line {}: no type: {line}", number + 1));
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        let body: Vec<&str> = body.collect();
        examples.push(Example { line: number + 1, kind: kind.to_owned(), body: body.join("\n") });
    }
    examples
}

/// The answer to `Shutdown` and `Drain`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Node {
    node_id: String,
}

/// Reads an example as a `T` that writes exactly the same.
fn exact<T: DeserializeOwned + Serialize>(example: &Example) -> T {
    let at = format!("line {}: {}", example.line, example.body);
    let read: T = serde_json::from_str(&example.body).unwrap_or_else(|e| panic!("{at}: {e}"));
    let written = serde_json::to_value(&read).expect("serializes");
    let shown: Value = serde_json::from_str(&example.body).expect("it was read");
    assert_eq!(written, shown, "{at}");
    read
}

fn must<T>(example: &Example, read: Result<T, WireError>) -> T {
    read.unwrap_or_else(|error| panic!("line {}: {}: {error}", example.line, example.body))
}

/// An event, a task or a result: in an envelope that says of it what it should, or bare.
fn event(example: &Example, subject: &str) -> MessageType {
    let kind = SubjectKind::parse(subject).unwrap_or_else(|| panic!("{subject}: no subject"));
    let bytes = example.body.as_bytes();
    let message = must(example, MessageType::parse_on(&kind, bytes, DEFAULT_MAX_BODY_BYTES));
    if let Some(own) = message.subject() {
        assert_eq!(own, subject, "line {}", example.line);
    }
    let shown: Value = serde_json::from_str(&example.body).expect("it was read");
    let moment = Timestamp::from_epoch(std::time::Duration::ZERO);
    let envelope = message.envelope([0; 16], "s", moment);
    let envelope = serde_json::to_value(envelope).expect("serializes");
    if shown.get("payload").is_some() {
        exact::<MessageEnvelope<Value>>(example);
        for part in ["metadata", "payload"] {
            assert_eq!(shown[part], envelope[part], "line {}", example.line);
        }
    } else {
        assert_eq!(shown, envelope["payload"], "line {}", example.line);
    }
    message
}

#[test]
fn every_example_is_what_it_says() {
    let examples = examples();
    let mut seen = BTreeSet::new();
    let mut refused = None;
    for example in &examples {
        let bytes = example.body.as_bytes();
        let (kind, subject) = example.kind.split_once(' ').unwrap_or((&example.kind, ""));
        if let Some(error) = refused.take() {
            assert_eq!(exact::<Reply<Value>>(example), Err(error), "line {}", example.line);
        }
        let message = match kind {
            "Input" => {
                let Some(SubjectKind::AgentInput(to)) = SubjectKind::parse(subject) else {
                    panic!("line {}: {subject} is no agent's input", example.line);
                };
                let fresh = || "fresh".to_owned();
                must(example, parse_agent_input(bytes, DEFAULT_MAX_BODY_BYTES, &to, fresh, 0));
                None
            }
            "Message" => {
                exact::<Message>(example);
                None
            }
            "Err" => {
                exact::<Reply<Value>>(example).expect_err("an error");
                None
            }
            "Refused" => {
                refused = AgentCommand::parse(bytes, DEFAULT_MAX_BODY_BYTES).err();
                assert!(refused.is_some(), "line {}: it is taken", example.line);
                None
            }
            "FailureContext" => {
                exact::<FailureContext>(example);
                None
            }
            "AgentCommand" => {
                Some(must(example, AgentCommand::parse(bytes, DEFAULT_MAX_BODY_BYTES)).into())
            }
            "SystemMessage" => {
                Some(must(example, SystemMessage::parse(bytes, DEFAULT_MAX_BODY_BYTES)).into())
            }
            "CoordinationMessage" => Some(
                must(example, CoordinationMessage::parse(bytes, DEFAULT_MAX_BODY_BYTES)).into(),
            ),
            "MessageType" => Some(exact::<MessageType>(example)),
            "Event" => Some(event(example, subject)),
            reply => {
                let ok = match reply {
                    "Reply<Value>" => exact::<Reply<Value>>(example).is_ok(),
                    "Reply<Spawned>" => exact::<Reply<Spawned>>(example).is_ok(),
                    "Reply<Stopped>" => exact::<Reply<Stopped>>(example).is_ok(),
                    "Reply<Located>" => exact::<Reply<Located>>(example).is_ok(),
                    "Reply<NodeSummary>" => exact::<Reply<NodeSummary>>(example).is_ok(),
                    "Reply<AgentSummary>" => exact::<Reply<AgentSummary>>(example).is_ok(),
                    "Reply<AgentPage>" => exact::<Reply<AgentPage>>(example).is_ok(),
                    "Reply<Pong>" => exact::<Reply<Pong>>(example).is_ok(),
                    "Reply<Node>" => exact::<Reply<Node>>(example).is_ok(),
                    other => panic!("line {}: there is no type {other}", example.line),
                };
                assert!(ok, "line {}: an error", example.line);
                None
            }
        };
        seen.extend(message.as_ref().map(name_of));
    }
    let all = BTreeSet::from([
        "Spawn",
        "Stop",
        "Status",
        "Locate",
        "List",
        "Input",
        "Ping",
        "Shutdown",
        "Drain",
        "Spawned",
        "StateChanged",
        "Terminated",
        "Error",
        "Health",
        "Failure",
        "Recovery",
        "Escalation",
        "SupervisorLifecycle",
        "DetectedPattern",
        "Alert",
        "TaskCoordination",
        "TaskResult",
    ]);
    assert_eq!(seen, all, "each kind of message has an example");
}

/// What a message is. Whoever adds one is sent here by the compiler, and by the test to the page.
fn name_of(message: &MessageType) -> &'static str {
    match message {
        MessageType::AgentCommand(command) => match command {
            AgentCommand::Spawn { .. } => "Spawn",
            AgentCommand::Stop { .. } => "Stop",
            AgentCommand::Status { .. } => "Status",
            AgentCommand::Locate { .. } => "Locate",
            AgentCommand::List { .. } => "List",
            AgentCommand::Input { .. } => "Input",
        },
        MessageType::SystemMessage(message) => match message {
            SystemMessage::Ping => "Ping",
            SystemMessage::Shutdown { .. } => "Shutdown",
            SystemMessage::Drain => "Drain",
        },
        MessageType::AgentEvent(event) => match event {
            AgentEvent::Spawned { .. } => "Spawned",
            AgentEvent::StateChanged { .. } => "StateChanged",
            AgentEvent::Terminated { .. } => "Terminated",
            AgentEvent::Error { .. } => "Error",
        },
        MessageType::SupervisionEvent(event) => match event {
            SupervisionEvent::Health { .. } => "Health",
            SupervisionEvent::Failure { .. } => "Failure",
            SupervisionEvent::Recovery { .. } => "Recovery",
            SupervisionEvent::Escalation { .. } => "Escalation",
            SupervisionEvent::SupervisorLifecycle { .. } => "SupervisorLifecycle",
        },
        MessageType::SupervisionFinding(finding) => match finding {
            SupervisionFinding::DetectedPattern(_) => "DetectedPattern",
            SupervisionFinding::Alert(_) => "Alert",
        },
        MessageType::CoordinationMessage(message) => match message {
            CoordinationMessage::TaskCoordination { .. } => "TaskCoordination",
            CoordinationMessage::TaskResult { .. } => "TaskResult",
        },
    }
}

/// The part of the page under a heading, to the next one.
fn section(heading: &str) -> &'static str {
    let (_, from) = PAGE.split_once(heading).unwrap_or_else(|| panic!("no heading {heading}"));
    from.split("\n#").next().unwrap_or(from)
}

/// The cells of the rows of a section's tables, without their heads.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let row = |line: &str| {
        let line = line.strip_prefix("| `")?.replace("\\|", "/");
        let cells = format!("`{line}");
        Some(cells.split('|').map(|cell| cell.trim().to_owned()).collect())
    };
    section(heading).lines().filter_map(row).collect()
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_subject_is_in_the_tables_and_nothing_else() {
    let mut shown = BTreeSet::new();
    for row in rows("## Subjects\n") {
        for template in code(&row[0]) {
            let subject = template
                .replace("<low/medium/high/critical>", "low")
                .replace("<level>", "1")
                .split('.')
                .map(|token| if token.starts_with('<') { "x" } else { token })
                .collect::<Vec<_>>()
                .join(".");
            let kind = SubjectKind::parse(&subject);
            let kind = kind.unwrap_or_else(|| panic!("{template}: not of the contract"));
            assert_eq!(kind.subject(), subject);
            assert!(shown.insert(subject), "{template} is there twice");
        }
    }
    // All that the builders make, which the tests of the builders and of the kinds go through.
    let all = [
        "agent.command",
        "agent.command.all",
        "agent.command.x",
        "agent.events.x",
        "agent.input.x",
        "coordination.election.x",
        "coordination.resources.x",
        "coordination.results.x",
        "coordination.sync.barrier.x",
        "coordination.tasks.assignment.x",
        "coordination.tasks.broadcast",
        "coordination.tasks.x",
        "supervision.alerts.low",
        "supervision.escalation.1",
        "supervision.events",
        "supervision.failures.low",
        "supervision.health.x",
        "supervision.lifecycle.x",
        "supervision.patterns.x",
        "supervision.recovery.x",
        "system.control",
        "system.control.x",
    ];
    assert_eq!(shown, all.map(str::to_owned).into());
}

/// The defaults of a table of fields; none where it is not JSON ("made up").
fn defaults(heading: &str) -> Map<String, Value> {
    let default = |row: Vec<String>| {
        let value = code(&row[1]).first().map(|json| {
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
        });
        let field = code(&row[0]).first().map(|field| (*field).to_owned());
        Some((field?, value?))
    };
    rows(heading).into_iter().filter_map(default).collect()
}

#[test]
fn the_defaults_are_those_of_the_types() {
    let config = serde_json::to_value(AgentConfig::default()).expect("serializes");
    assert_eq!(Value::Object(defaults("### A config\n")), config);
    let requirements = serde_json::to_value(TaskRequirements::default()).expect("serializes");
    assert_eq!(Value::Object(defaults("### Requirements\n")), requirements);
    let mut task = defaults("## Coordination: `coordination.>`\n");
    task.extend([
        ("coordination_type".to_owned(), json!("Assignment")),
        ("payload".to_owned(), json!(1)),
    ]);
    let spelled_out = CoordinationMessage::try_from(json!({ "TaskCoordination": task }));
    let left_out = CoordinationMessage::try_from(
        json!({"TaskCoordination": {"coordination_type": "Assignment", "payload": 1}}),
    );
    assert_eq!(task.len(), 4);
    assert_eq!(spelled_out.expect("a task"), left_out.expect("a task"));
}

#[test]
fn the_codes_and_figures_are_those_of_the_types() {
    let codes = section("### Codes\n");
    let shown: BTreeSet<&str> = code(codes).into_iter().collect();
    assert_eq!(shown, ErrorCode::ALL.map(ErrorCode::as_str).into());
    for figure in [
        format!("at most {} KiB.", DEFAULT_MAX_BODY_BYTES / 1024),
        format!("at most {} bytes", Subject::MAX_LEN),
        format!("`limit`, 1 to {}.", AgentCommand::MAX_PAGE),
        format!("({} if not said)", SystemMessage::DEFAULT_GRACE_MS),
        format!("at most {} agents", CoordinationMessage::MAX_PARTICIPANTS),
        format!("at most {} texts", AgentConfig::MAX_CAPABILITIES),
        format!("at most {} KiB |", AgentConfig::MAX_ARGS / 1024),
    ] {
        assert!(PAGE.contains(&figure), "{figure}");
    }
}
