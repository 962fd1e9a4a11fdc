//! Every message of the wire contract as exact JSON: tagged with its type, and as it goes over its
//! subject.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::agent::{AgentConfig, AgentId};
use crate::coordination::{
    AgentResult, TaskCoordinationType, TaskId, TaskOutcome, TaskRequirements,
};
use crate::message::{AgentStatus, Content, ErrorCode, Message, DEFAULT_MAX_BODY_BYTES};
use crate::supervision::{
    Alert, AlertState, DetectedPattern, FailureContext, FailureSeverity, FailureType,
    HealthMetrics, HealthStatus, LifecycleEvent, Pattern, RecoveryAction, RecoveryOutcome,
};

const MOMENT: &str = "2026-11-21T20:50:00.123456Z";

fn moment() -> Timestamp {
    Timestamp::from_epoch(Duration::from_micros(1_795_294_200_123_456))
}

fn a() -> AgentId {
    AgentId("a".into())
}

/// A message, its type, what it says on the wire, the subject that it determines, and its metadata.
struct Case {
    message: MessageType,
    tag: &'static str,
    wire: Value,
    subject: Option<&'static str>,
    metadata: Value,
}

fn commands() -> Vec<Case> {
    let message = Message {
        id: "m".into(),
        from: AgentId::external(),
        to: a(),
        payload: json!([1]),
        timestamp: 7,
    };
    let config = AgentConfig { id: a(), ..Default::default() };
    let agent = |command: AgentCommand, wire| Case {
        message: command.into(),
        tag: "AgentCommand",
        wire,
        subject: None,
        metadata: json!({}),
    };
    let system = |message: SystemMessage, wire| Case {
        message: message.into(),
        tag: "SystemMessage",
        wire,
        subject: None,
        metadata: json!({}),
    };
    vec![
        agent(
            AgentCommand::Spawn { config },
            json!({"Spawn": {"config": {"id": "a", "agent_type": "state",
                "memory_backend_type": "InMemory", "nats_enabled": true, "max_memory_mb": 64,
                "max_fuel": null, "timeout_ms": 30_000, "restart": "Permanent",
                "capabilities": [], "args": {}}}}),
        ),
        agent(AgentCommand::Stop { agent_id: a() }, json!({"Stop": {"agent_id": "a"}})),
        agent(AgentCommand::Status { agent_id: None }, json!({"Status": {}})),
        agent(AgentCommand::Status { agent_id: Some(a()) }, json!({"Status": {"agent_id": "a"}})),
        agent(AgentCommand::List { after: None, limit: 1000 }, json!({"List": {"limit": 1000}})),
        agent(
            AgentCommand::List { after: Some(a()), limit: 5 },
            json!({"List": {"after": "a", "limit": 5}}),
        ),
        agent(
            AgentCommand::Input { agent_id: a(), message: Content::Bare(json!({"x": 1})) },
            json!({"Input": {"agent_id": "a", "message": {"x": 1}}}),
        ),
        agent(
            AgentCommand::Input { agent_id: a(), message: Content::Message(message) },
            json!({"Input": {"agent_id": "a", "message": {"id": "m", "from": "external",
                "to": "a", "payload": [1], "timestamp": 7}}}),
        ),
        system(SystemMessage::Ping, json!("Ping")),
        system(SystemMessage::Shutdown { grace_ms: 5 }, json!({"Shutdown": {"grace_ms": 5}})),
        system(SystemMessage::Drain, json!("Drain")),
    ]
}

fn agent_events() -> Vec<Case> {
    let config = AgentConfig { id: a(), agent_type: "echo".into(), ..Default::default() };
    let events = [
        (
            AgentEvent::Spawned { agent_id: a(), incarnation: 1, config },
            json!({"Spawned": {"agent_id": "a", "incarnation": 1, "config": {"id": "a",
                "agent_type": "echo", "memory_backend_type": "InMemory", "nats_enabled": true,
                "max_memory_mb": 64, "max_fuel": null, "timeout_ms": 30_000,
                "restart": "Permanent", "capabilities": [], "args": {}}}}),
        ),
        (
            AgentEvent::StateChanged {
                agent_id: a(),
                incarnation: 2,
                old_state: AgentStatus::Restarting,
                new_state: AgentStatus::Running,
            },
            json!({"StateChanged": {"agent_id": "a", "incarnation": 2, "old_state": "Restarting",
                "new_state": "Running"}}),
        ),
        (
            AgentEvent::Terminated { agent_id: a(), incarnation: 3, reason: "stopped".into() },
            json!({"Terminated": {"agent_id": "a", "incarnation": 3, "reason": "stopped"}}),
        ),
        (
            AgentEvent::Error { agent_id: a(), incarnation: 4, error: "no".into() },
            json!({"Error": {"agent_id": "a", "incarnation": 4, "error": "no"}}),
        ),
    ];
    let case = |(event, wire): (AgentEvent, Value)| Case {
        message: event.into(),
        tag: "AgentEvent",
        wire,
        subject: Some("agent.events.a"),
        metadata: json!({"event_category": "agent"}),
    };
    events.into_iter().map(case).collect()
}

fn health(status: HealthStatus) -> SupervisionEvent {
    let metrics = HealthMetrics { memory_usage: Some(65_536), ..Default::default() };
    SupervisionEvent::Health { agent_id: a(), status, metrics, timestamp: moment() }
}

fn supervision_events() -> Vec<Case> {
    let health_on_the_wire = |status: Value| {
        json!({"Health": {"agent_id": "a", "status": status, "metrics": {"cpu_usage": null,
            "memory_usage": 65_536, "response_time_ms": null, "error_rate": null,
            "throughput": null, "handled": null, "errors": null, "handling_us": null,
            "mailbox_delay_us": null},
            "timestamp": MOMENT}})
    };
    let lifecycle = |event_type| SupervisionEvent::SupervisorLifecycle {
        supervisor_id: "agents".into(),
        event_type,
        affected_agents: vec![a()],
    };
    let events = [
        (
            health(HealthStatus::Healthy),
            health_on_the_wire(json!("Healthy")),
            "supervision.health.a",
            None,
        ),
        (
            health(HealthStatus::Degraded { reason: "late".into(), missed: 1 }),
            health_on_the_wire(json!({"Degraded": {"reason": "late", "missed": 1}})),
            "supervision.health.a",
            Some("Medium"),
        ),
        (
            health(HealthStatus::Unresponsive { last_seen: moment() }),
            health_on_the_wire(json!({"Unresponsive": {"last_seen": MOMENT}})),
            "supervision.health.a",
            Some("High"),
        ),
        (
            health(HealthStatus::Unhealthy { reason: "gave up".into() }),
            health_on_the_wire(json!({"Unhealthy": {"reason": "gave up"}})),
            "supervision.health.a",
            Some("Critical"),
        ),
        (
            SupervisionEvent::Failure {
                agent_id: a(),
                incarnation: 3,
                failure_type: FailureType::ProcessCrash,
                severity: FailureSeverity::High,
                context: FailureContext { message: Some("boom".into()), ..Default::default() },
                detection_time: moment(),
            },
            json!({"Failure": {"agent_id": "a", "incarnation": 3, "failure_type": "ProcessCrash",
                "severity": "High", "context": {"message": "boom"}, "detection_time": MOMENT}}),
            "supervision.failures.high",
            Some("High"),
        ),
        (
            SupervisionEvent::Recovery {
                agent_id: a(),
                incarnation: 4,
                recovery_action: RecoveryAction::Restart,
                attempt: 1,
                outcome: RecoveryOutcome::Succeeded,
                downtime_us: 110,
                initiator: "agents".into(),
                timestamp: moment(),
            },
            json!({"Recovery": {"agent_id": "a", "incarnation": 4, "recovery_action": "Restart",
                "attempt": 1, "outcome": "Succeeded", "downtime_us": 110, "initiator": "agents",
                "timestamp": MOMENT}}),
            "supervision.recovery.a",
            None,
        ),
        (
            SupervisionEvent::Escalation {
                supervisor_id: "agents".into(),
                level: 1,
                reason: "5 restarts in 5000 ms".into(),
                affected_agents: vec![a()],
                timestamp: moment(),
            },
            json!({"Escalation": {"supervisor_id": "agents", "level": 1,
                "reason": "5 restarts in 5000 ms", "affected_agents": ["a"],
                "timestamp": MOMENT}}),
            "supervision.escalation.1",
            Some("Critical"),
        ),
        (
            lifecycle(LifecycleEvent::ChildRestarted),
            json!({"SupervisorLifecycle": {"supervisor_id": "agents",
                "event_type": "ChildRestarted", "affected_agents": ["a"]}}),
            "supervision.lifecycle.agents",
            None,
        ),
        (
            lifecycle(LifecycleEvent::GaveUp),
            json!({"SupervisorLifecycle": {"supervisor_id": "agents", "event_type": "GaveUp",
                "affected_agents": ["a"]}}),
            "supervision.lifecycle.agents",
            Some("Critical"),
        ),
    ];
    let case = |(event, wire, subject, severity): (SupervisionEvent, _, _, Option<&str>)| {
        let mut metadata = json!({"event_category": "supervision"});
        if let Some(severity) = severity {
            metadata["severity"] = json!(severity);
        }
        Case {
            message: event.into(),
            tag: "SupervisionEvent",
            wire,
            subject: Some(subject),
            metadata,
        }
    };
    events.into_iter().map(case).collect()
}

fn supervision_findings() -> Vec<Case> {
    let pattern = DetectedPattern {
        pattern: Pattern::FailureSpike,
        severity: FailureSeverity::High,
        confidence: 0.662,
        count: 10,
        threshold: 10,
        usual: 0.07,
        window_ms: 10_000,
        agent_count: 1,
        agents: vec![a()],
        slowdown: None,
        since: moment(),
        timestamp: moment(),
    };
    let slow = DetectedPattern {
        pattern: Pattern::PerformanceDegradation,
        severity: FailureSeverity::Medium,
        slowdown: Some(8.5),
        ..pattern.clone()
    };
    let alert = Alert {
        key: "failure_spike".into(),
        state: AlertState::Resolved,
        severity: FailureSeverity::Critical,
        message: "m".into(),
        agents: vec![a()],
        count: 3,
        suppressed: 1,
        since: moment(),
        timestamp: moment(),
    };
    let case = |finding, wire, subject, severity: &str| Case {
        message: MessageType::SupervisionFinding(finding),
        tag: "SupervisionFinding",
        wire,
        subject: Some(subject),
        metadata: json!({"event_category": "supervision", "severity": severity}),
    };
    vec![
        case(
            SupervisionFinding::DetectedPattern(pattern),
            json!({"DetectedPattern": {"pattern": "FailureSpike", "severity": "High",
                "confidence": 0.662, "count": 10, "threshold": 10, "usual": 0.07,
                "window_ms": 10_000, "agent_count": 1, "agents": ["a"], "since": MOMENT,
                "timestamp": MOMENT}}),
            "supervision.patterns.failure_spike",
            "High",
        ),
        case(
            SupervisionFinding::DetectedPattern(slow),
            json!({"DetectedPattern": {"pattern": "PerformanceDegradation", "severity": "Medium",
                "confidence": 0.662, "count": 10, "threshold": 10, "usual": 0.07,
                "window_ms": 10_000, "agent_count": 1, "agents": ["a"], "slowdown": 8.5,
                "since": MOMENT, "timestamp": MOMENT}}),
            "supervision.patterns.performance_degradation",
            "Medium",
        ),
        case(
            SupervisionFinding::Alert(alert),
            json!({"Alert": {"key": "failure_spike", "state": "Resolved", "severity": "Critical",
                "message": "m", "agents": ["a"], "count": 3, "suppressed": 1, "since": MOMENT,
                "timestamp": MOMENT}}),
            "supervision.alerts.critical",
            "Critical",
        ),
    ]
}

fn coordination_messages() -> Vec<Case> {
    let task_id = TaskId::parse("t").expect("a task id");
    let task = CoordinationMessage::TaskCoordination {
        task_id: Some(task_id.clone()),
        coordination_type: TaskCoordinationType::Broadcast,
        participants: vec![a()],
        requirements: TaskRequirements::default(),
        payload: json!("work"),
    };
    let result = CoordinationMessage::TaskResult {
        task_id,
        outcome: TaskOutcome::Completed,
        results: vec![AgentResult { agent_id: a(), value: json!(1) }],
        attempts: 1,
        error: None,
    };
    vec![
        Case {
            message: task.into(),
            tag: "CoordinationMessage",
            wire: json!({"TaskCoordination": {"task_id": "t", "coordination_type": "Broadcast",
                "participants": ["a"], "requirements": {"required_capabilities": [],
                    "estimated_duration_ms": null, "priority": "Normal", "deadline_ms": null},
                "payload": "work"}}),
            subject: None,
            metadata: json!({"event_category": "coordination", "coordination_type": "Broadcast"}),
        },
        Case {
            message: result.into(),
            tag: "CoordinationMessage",
            wire: json!({"TaskResult": {"task_id": "t", "outcome": "Completed",
                "results": [{"agent_id": "a", "value": 1}], "attempts": 1, "error": null}}),
            subject: Some("coordination.results.t"),
            metadata: json!({"event_category": "coordination", "coordination_type": "TaskResult"}),
        },
    ]
}

fn cases() -> impl Iterator<Item = Case> {
    let of_supervision = supervision_events().into_iter().chain(supervision_findings());
    let first = [commands(), agent_events()].into_iter().flatten();
    first.chain(of_supervision).chain(coordination_messages())
}

fn envelope_of(payload: &Value) -> Value {
    json!({"id": "e", "source": "s", "metadata": {}, "timestamp": MOMENT, "payload": payload})
}

fn parse(body: &Value) -> Result<MessageType, WireError> {
    MessageType::parse(body.to_string().as_bytes(), DEFAULT_MAX_BODY_BYTES)
}

/// A subject on which such a message may come.
fn some_subject(case: &Case) -> SubjectKind {
    let subject = case.subject.unwrap_or(match case.tag {
        "AgentCommand" => "agent.command.n",
        "SystemMessage" => "system.control",
        _ => "coordination.tasks.t",
    });
    SubjectKind::parse(subject).expect("of the contract")
}

#[test]
fn every_message_tagged_with_its_type() {
    for case in cases() {
        let tagged = json!({case.tag: case.wire});
        assert_eq!(serde_json::to_value(&case.message).expect("serializes"), tagged);
        assert_eq!(parse(&tagged).expect("parses"), case.message);
        assert_eq!(parse(&envelope_of(&tagged)).expect("in an envelope"), case.message);
        let by_serde: MessageType = serde_json::from_value(tagged).expect("serde says the same");
        assert_eq!(by_serde, case.message);
    }
}

#[test]
fn every_message_as_it_goes_over_its_subject() {
    for case in cases() {
        assert_eq!(case.message.subject().as_deref(), case.subject, "{}", case.wire);
        assert_eq!(Value::Object(case.message.metadata()), case.metadata, "{}", case.wire);
        let envelope = case.message.envelope([7; 16], "n1", moment());
        let written = serde_json::to_value(&envelope).expect("serializes");
        assert_eq!(
            written,
            json!({"id": "07070707-0707-4707-8707-070707070707", "correlation_id": null,
                "source": "n1", "timestamp": MOMENT, "metadata": case.metadata,
                "payload": case.wire})
        );
        let subject = some_subject(&case);
        for body in [written, case.wire] {
            let parsed = MessageType::parse_on(&subject, body.to_string().as_bytes(), 10_000);
            assert_eq!(parsed.as_ref(), Ok(&case.message), "{body}");
        }
    }
}

#[test]
fn what_else_comes_on_a_subject_and_what_does_not() {
    let on = |subject: &str, body: &Value| {
        let subject = SubjectKind::parse(subject).expect("of the contract");
        MessageType::parse_on(&subject, body.to_string().as_bytes(), 10_000)
    };
    let task = json!({"TaskCoordination": {"coordination_type": "Parallel", "payload": null}});
    for subject in [
        "coordination.tasks.t",
        "coordination.tasks.assignment.a",
        "coordination.tasks.broadcast",
        "coordination.resources.r",
        "coordination.election.d",
        "coordination.sync.barrier.b",
    ] {
        assert!(matches!(on(subject, &task), Ok(MessageType::CoordinationMessage(_))), "{subject}");
    }
    let event = json!({"SupervisorLifecycle": {"supervisor_id": "s",
        "event_type": "SupervisorStarted", "affected_agents": []}});
    assert!(matches!(on("supervision.events", &event), Ok(MessageType::SupervisionEvent(_))));
    let error = on("agent.input.a", &json!(1)).expect_err("something else");
    assert_eq!(
        (error.code, error.message.as_str()),
        (
            ErrorCode::BadShape,
            "what comes on agent.input.a is no command, event or message of coordination"
        )
    );
}

#[test]
fn wrong_shapes_are_named() {
    use ErrorCode::{BadId, BadShape};
    let cases = [
        (json!("Ping"), BadShape, "the body is a string, and must be an object"),
        (
            json!({"AgentCommand": "Status", "more": 1}),
            BadShape,
            "the body has 2 fields, and must have the name of what it is as the only one",
        ),
        (
            json!({"Phase3": {}}),
            BadShape,
            "there is no message type \"Phase3\": AgentCommand, AgentEvent, SystemMessage, \
             SupervisionEvent, SupervisionFinding or CoordinationMessage",
        ),
        (
            json!({"AgentCommand": "Ping"}),
            BadShape,
            "there is no command \"Ping\": Spawn, Stop, Status, Locate, List or Input",
        ),
        (
            json!({"AgentCommand": {"Stop": {"agent_id": "a.b"}}}),
            BadId,
            "agent_id: \"a.b\" is not an agent id: 1 to 128 characters of A-Z a-z 0-9 _ -",
        ),
        (
            json!({"SystemMessage": "Status"}),
            BadShape,
            "there is no command \"Status\": Ping, Shutdown or Drain",
        ),
        (
            json!({"AgentEvent": {"Terminated": {"agent_id": "a", "incarnation": 1}}}),
            BadShape,
            "an agent's event: missing field `reason`",
        ),
        (
            json!({"SupervisionEvent": {"Health": {"agent_id": "a.b"}}}),
            BadShape,
            "an event of supervision: \"a.b\" is not an agent id: 1 to 128 characters of \
             A-Z a-z 0-9 _ -",
        ),
        (
            json!({"SupervisionEvent": {"Rumour": {}}}),
            BadShape,
            "an event of supervision: unknown variant `Rumour`, expected one of `Health`, \
             `Failure`, `Recovery`, `Escalation`, `SupervisorLifecycle`",
        ),
        (
            json!({"SupervisionFinding": {"Rumour": {}}}),
            BadShape,
            "a finding of supervision: unknown variant `Rumour`, expected `DetectedPattern` or \
             `Alert`",
        ),
        (
            json!({"CoordinationMessage": null}),
            BadShape,
            "the body is null, and must be a string or an object",
        ),
    ];
    for (body, code, message) in cases {
        let error = parse(&body).expect_err(message);
        assert_eq!((error.code, error.message.as_str()), (code, message));
        let by_serde = serde_json::from_value::<MessageType>(body).expect_err(message).to_string();
        assert!(by_serde.contains(message), "{by_serde}");
    }
    let parse = |body: &[u8]| MessageType::parse(body, 5).expect_err("refused").code;
    assert_eq!((parse(b"{"), parse(b"      ")), (ErrorCode::BadJson, ErrorCode::TooLarge));
}

#[test]
fn a_huge_name_does_not_come_back_whole() {
    let error = parse(&json!({ "x".repeat(400_000): {} })).expect_err("no such type");
    assert!(error.message.len() < 500, "{}", error.message.len());
}
