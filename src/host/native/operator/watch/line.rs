//! An event as a line for people.

use serde::Deserialize;
use serde_json::Value;

use super::super::args::{Kind, Severity};
use super::super::harmless::harmless;
use super::super::paint::{Paint, Tone};
use super::super::units;
use super::Event;
use crate::supervision::FailureContext;

/// The longest text of an event, in characters.
const MAX_TEXT: usize = 400;

/// The longest name in a line, in characters: an id has 128.
const MAX_NAME: usize = 128;

/// The event in a line: when, what, how bad, whom it is about, who says so, and the rest.
///
/// ```text
/// 00:03:34.028  failure     high      a1#2  on n1  ResourceExhaustion: its memory limit was hit
/// ```
pub(in super::super) fn line(event: &Event, paint: Paint) -> String {
    let severity = event.severity.map_or(String::new(), |is| format!("{is:?}").to_lowercase());
    let tone = tone(event);
    let kind = match event.kind {
        Kind::Other => match event.name() {
            "" => "?".to_owned(),
            name => harmless(name, 20),
        },
        kind => format!("{kind:?}").to_lowercase(),
    };
    let said = harmless(&said(event), MAX_TEXT);
    let mut line = String::new();
    let mut part = |tone, text: &str, width: usize| {
        if text.is_empty() && width == 0 {
            return;
        }
        line.push_str(&paint.text(tone, text));
        let blanks = width.saturating_sub(text.chars().count()) + 2;
        line.extend(std::iter::repeat_n(' ', blanks));
    };
    part(Tone::Faint, &time(event.timestamp()), 12);
    part(tone, &kind, 10);
    part(tone, &severity, 8);
    part(Tone::Strong, &whom(event), 0);
    // Of an agent's own events the source is the agent.
    let source = harmless(event.source(), MAX_NAME);
    if !source.is_empty() && !event.agents().any(|agent| agent == event.source()) {
        part(Tone::Faint, &format!("on {source}"), 0);
    }
    line.push_str(&said);
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// What the event is to the reader.
pub(in super::super) fn tone(event: &Event) -> Tone {
    match (event.severity, event.kind) {
        (Some(Severity::High | Severity::Critical), _) => Tone::Bad,
        (Some(Severity::Medium), _) => Tone::Warn,
        (_, Kind::Failure | Kind::Error) => Tone::Warn,
        (_, Kind::Recovery | Kind::Spawned) => Tone::Good,
        _ => Tone::Plain,
    }
}

/// The time of the day, to the millisecond.
fn time(timestamp: &str) -> String {
    let is_time = timestamp.len() >= 23 && timestamp.is_ascii() && timestamp.as_bytes()[10] == b'T';
    let shown = if is_time { &timestamp[11..23] } else { "--:--:--.---" };
    harmless(shown, 12)
}

/// The agent with its life, or who else it is about.
fn whom(event: &Event) -> String {
    let fields = event.fields();
    let life = fields["incarnation"].as_u64().filter(|&life| life > 0);
    let whom = match event.kind {
        Kind::Lifecycle | Kind::Escalation => event.text("supervisor_id"),
        Kind::Pattern => event.text("pattern"),
        Kind::Alert => event.text("key"),
        _ => event.agents().next().unwrap_or(""),
    };
    let whom = harmless(whom, MAX_NAME);
    match life {
        Some(life) if !whom.is_empty() => format!("{whom}#{life}"),
        _ => whom,
    }
}

/// What happened.
fn said(event: &Event) -> String {
    let fields = event.fields();
    let text = |field| event.text(field);
    let number = |field: &str| fields[field].as_u64();
    match event.kind {
        Kind::Failure => {
            let context = FailureContext::deserialize(&fields["context"]).unwrap_or_default();
            let place =
                context.place.as_ref().map_or(String::new(), |place| format!(" at {place}"));
            let more = context.suppressed.filter(|&more| more > 0);
            let more = more.map_or(String::new(), |more| format!(" (and {more} more)"));
            // A refused start says which limit, with its value.
            let what = match (&context.message, &context.limit) {
                (Some(message), Some(_)) if context.deadline_ms.is_none() => message.clone(),
                _ => context.to_string(),
            };
            format!("{}: {what}{place}{more}", text("failure_type"))
        }
        Kind::Recovery => {
            let downtime = units::or_unknown(number("downtime_us"), units::micros);
            let attempt = number("attempt").unwrap_or(0);
            format!("it runs again after {downtime}, restart {attempt} of the window")
        }
        Kind::Health => health(fields),
        Kind::Lifecycle => format!("{} {}", text("event_type"), list(&fields["affected_agents"])),
        Kind::Escalation => {
            let level = number("level").unwrap_or(0);
            let agents = list(&fields["affected_agents"]);
            format!("gave up, level {level}: {} ({agents})", text("reason"))
        }
        Kind::Pattern => {
            let confidence =
                units::or_unknown(fields["confidence"].as_f64(), |is| format!("{is:.2}"));
            let (count, threshold) = (number("count"), number("threshold"));
            let [count, threshold] =
                [count, threshold].map(|one| units::or_unknown(one, |one| one.to_string()));
            let agents = list(&fields["agents"]);
            format!("{count} of {threshold}, confidence {confidence} ({agents})")
        }
        Kind::Alert => format!("{}: {}", text("state"), text("message")),
        Kind::Spawned => {
            format!("of the type {}", fields["config"]["agent_type"].as_str().unwrap_or("?"))
        }
        Kind::State => format!("{} → {}", text("old_state"), text("new_state")),
        Kind::Terminated => text("reason").to_owned(),
        Kind::Error => text("error").to_owned(),
        Kind::Other => match &event.body {
            Ok(whole) => format!("{}: {whole}", event.subject),
            Err(text) => format!("{}, no JSON: {text}", event.subject),
        },
    }
}

fn health(fields: &Value) -> String {
    let status = match &fields["status"] {
        Value::String(status) => status.clone(),
        Value::Object(status) => match status.iter().next() {
            Some((name, more)) => match (&more["reason"], &more["last_seen"]) {
                (Value::String(reason), _) => format!("{name}: {reason}"),
                (_, Value::String(seen)) => format!("{name}: last seen at {}", time(seen)),
                _ => name.clone(),
            },
            None => String::new(),
        },
        _ => String::new(),
    };
    let metrics = &fields["metrics"];
    let mut parts = vec![status];
    if let Some(bytes) = metrics["memory_usage"].as_u64() {
        parts.push(units::bytes(bytes));
    }
    if let Some(rate) = metrics["throughput"].as_f64() {
        parts.push(format!("{} msg/s", units::rate(rate)));
    }
    if let Some(p99) = metrics["handling_us"]["p99"].as_u64() {
        parts.push(format!("p99 {}", units::micros(p99)));
    }
    parts.join(", ")
}

/// `a1, a2, … (12)`: the first names, and how many there are if not all are shown.
fn list(names: &Value) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> =
        names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match names.len() {
        0..=SHOWN => names.join(", "),
        all => format!("{}, … ({all})", names[..SHOWN].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shown(subject: &str, source: &str, severity: Option<&str>, payload: Value) -> String {
        let mut body = json!({"source": source, "timestamp": "2026-11-22T00:03:31.353764Z",
            "metadata": {}, "payload": payload});
        if let Some(severity) = severity {
            body["metadata"]["severity"] = severity.into();
        }
        line(&Event::read(subject, body.to_string().as_bytes()), Paint::Off)
    }

    #[test]
    fn each_kind_of_event_is_one_line() {
        let cases = [
            (
                ("n1", Some("High")),
                json!({"Failure": {"agent_id": "a1", "incarnation": 2,
                    "failure_type": "ProcessCrash",
                    "context": {"message": "told to panic", "place": "chaos.rs:64"}}}),
                "failure     high      a1#2  on n1  ProcessCrash: told to panic at chaos.rs:64",
            ),
            (
                ("n1", Some("Low")),
                json!({"Failure": {"agent_id": "c11", "incarnation": 0,
                    "failure_type": "ResourceExhaustion", "context": {"message": "too many",
                    "limit": "agents", "suppressed": 412}}}),
                "failure     low       c11  on n1  ResourceExhaustion: too many (and 412 more)",
            ),
            (
                ("n1", None),
                json!({"Recovery": {"agent_id": "a1", "incarnation": 3, "attempt": 1,
                    "downtime_us": 428}}),
                "recovery              a1#3  on n1  it runs again after 428 µs, restart 1 of the \
                 window",
            ),
            (
                ("n1", Some("Medium")),
                json!({"Health": {"agent_id": "a1", "status": {"Degraded": {"reason": "late",
                    "missed": 1}}, "metrics": {"memory_usage": 1_179_648, "throughput": 0.5,
                    "handling_us": {"p50": 1, "p90": 2, "p99": 20_480}}}}),
                "health      medium    a1  on n1  Degraded: late, 1.1 MiB, 0.5 msg/s, p99 20.5 ms",
            ),
            (
                ("n1", None),
                json!({"SupervisorLifecycle": {"supervisor_id": "agents",
                    "event_type": "ChildRestarted", "affected_agents": ["a1"]}}),
                "lifecycle             agents  on n1  ChildRestarted a1",
            ),
            (
                ("n1", Some("Critical")),
                json!({"Escalation": {"supervisor_id": "pipeline", "level": 1, "reason": "why",
                    "affected_agents": ["a", "b", "c", "d", "e", "f"]}}),
                "escalation  critical  pipeline  on n1  gave up, level 1: why (a, b, c, d, e, … (6))",
            ),
            (
                ("n1", Some("High")),
                json!({"DetectedPattern": {"pattern": "FailureSpike", "confidence": 0.667,
                    "count": 10, "threshold": 9, "agents": ["a1", "a3"]}}),
                "pattern     high      FailureSpike  on n1  10 of 9, confidence 0.67 (a1, a3)",
            ),
            (
                ("n1", Some("High")),
                json!({"Alert": {"key": "failure_spike", "state": "Firing", "message": "m"}}),
                "alert       high      failure_spike  on n1  Firing: m",
            ),
            (
                ("a1", None),
                json!({"Spawned": {"agent_id": "a1", "incarnation": 1,
                    "config": {"agent_type": "chaos"}}}),
                "spawned               a1#1  of the type chaos",
            ),
            (
                ("a1", None),
                json!({"StateChanged": {"agent_id": "a1", "incarnation": 1,
                    "old_state": "Running", "new_state": "Restarting"}}),
                "state                 a1#1  Running → Restarting",
            ),
            (
                ("a1", None),
                json!({"Terminated": {"agent_id": "a1", "reason": "it was stopped"}}),
                "terminated            a1  it was stopped",
            ),
            (
                ("a1", None),
                json!({"Error": {"agent_id": "a1", "error": "two\nlines"}}),
                "error                 a1  two\\nlines",
            ),
        ];
        for ((source, severity), payload, expected) in cases {
            let line = shown("s", source, severity, payload);
            assert_eq!(line, format!("00:03:31.353  {expected}\n"));
        }
    }

    #[test]
    fn what_is_not_known_is_shown_as_it_is() {
        let line = |body: &[u8]| line(&Event::read("supervision.x", body), Paint::Off);
        assert_eq!(
            line(br#"{"payload":{"Moon":{"full":true}}}"#),
            "--:--:--.---  Moon                  \
             supervision.x: {\"payload\":{\"Moon\":{\"full\":true}}}\n"
        );
        assert_eq!(
            line(b"\x1b[2J"),
            "--:--:--.---  ?                     supervision.x, no JSON: \\u{1b}[2J\n"
        );
        assert_eq!(line(b"{}"), "--:--:--.---  ?                     supervision.x: {}\n");
    }

    #[test]
    fn colours_say_how_bad_it_is() {
        let body = br#"{"metadata":{"severity":"High"},"payload":{"Failure":{"agent_id":"a"}}}"#;
        let line = line(&Event::read("s", body), Paint::On);
        assert!(line.contains("\u{1b}[31mfailure\u{1b}[0m"), "{line:?}");
    }

    proptest! {
        #[test]
        fn whatever_an_event_says_its_line_is_one_and_harmless(
            name in "[A-Z][A-Za-z]{0,10}",
            text in any::<String>(),
            stamp in any::<String>(),
        ) {
            let names = ["Failure", "Health", "Alert", "Escalation", "Error", &name];
            for name in names {
                let body = json!({"source": text, "timestamp": stamp, "payload": { name: {
                    "agent_id": text, "incarnation": 1, "status": text, "reason": text,
                    "failure_type": text, "context": {"message": text}, "error": text,
                    "affected_agents": [text], "supervisor_id": text, "key": text}}});
                let event = Event::read(&text, body.to_string().as_bytes());
                let line = line(&event, Paint::Off);
                let (line, end) = line.split_at(line.len() - 1);
                prop_assert_eq!(end, "\n");
                prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
            }
        }
    }
}
