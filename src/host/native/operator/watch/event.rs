//! An event, read as from a stranger: what is known of it is found, and the rest is kept.

use serde_json::Value;

use super::super::args::{Kind, Severity};

/// Something that came on a subject of events.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Event {
    pub(in super::super) subject: String,
    pub(in super::super) kind: Kind,
    pub(in super::super) severity: Option<Severity>,
    /// All of it, or its text if it is no JSON.
    pub(in super::super) body: Result<Value, String>,
}

impl Event {
    /// The longest text that is kept of what is no JSON, in bytes.
    const MAX_TEXT: usize = 4096;

    /// What came on a subject.
    pub(in super::super) fn read(subject: &str, bytes: &[u8]) -> Self {
        let body = serde_json::from_slice::<Value>(bytes).map_err(|_| {
            String::from_utf8_lossy(&bytes[..bytes.len().min(Self::MAX_TEXT)]).into_owned()
        });
        let mut event =
            Self { subject: subject.to_owned(), kind: Kind::Other, severity: None, body };
        event.kind = kind(event.name());
        let said = [&event.whole()["metadata"]["severity"], &event.fields()["severity"]];
        let said = said.into_iter().find_map(Value::as_str).and_then(severity);
        event.severity = said;
        event
    }

    fn whole(&self) -> &Value {
        self.body.as_ref().unwrap_or(&Value::Null)
    }

    /// What it is called on the wire: `Failure`.
    pub(in super::super) fn name(&self) -> &str {
        let payload = self.whole()["payload"].as_object();
        payload.and_then(|payload| payload.keys().next()).map_or("", String::as_str)
    }

    /// What it says of what happened.
    pub(in super::super) fn fields(&self) -> &Value {
        let payload = self.whole()["payload"].as_object();
        payload.and_then(|payload| payload.values().next()).unwrap_or(&Value::Null)
    }

    /// A text among what it says, or nothing.
    pub(in super::super) fn text(&self, field: &str) -> &str {
        self.fields()[field].as_str().unwrap_or("")
    }

    /// Who says it: a node, or of an agent's own events the agent.
    pub(in super::super) fn source(&self) -> &str {
        self.whole()["source"].as_str().unwrap_or("")
    }

    /// When it was made.
    pub(in super::super) fn timestamp(&self) -> &str {
        self.whole()["timestamp"].as_str().unwrap_or("")
    }

    /// The agents that it is about, as far as it names them.
    pub(in super::super) fn agents(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields();
        let listed =
            ["affected_agents", "agents"].into_iter().filter_map(|list| fields[list].as_array());
        let failed = self.text("key").strip_prefix("agent_failed.");
        let one = fields["agent_id"].as_str();
        one.into_iter().chain(failed).chain(listed.flatten().filter_map(Value::as_str))
    }
}

fn kind(name: &str) -> Kind {
    match name {
        "Failure" => Kind::Failure,
        "Recovery" => Kind::Recovery,
        "Health" => Kind::Health,
        "SupervisorLifecycle" => Kind::Lifecycle,
        "Escalation" => Kind::Escalation,
        "DetectedPattern" => Kind::Pattern,
        "Alert" => Kind::Alert,
        "Spawned" => Kind::Spawned,
        "StateChanged" => Kind::State,
        "Terminated" => Kind::Terminated,
        "Error" => Kind::Error,
        _ => Kind::Other,
    }
}

fn severity(said: &str) -> Option<Severity> {
    match said {
        "Low" => Some(Severity::Low),
        "Medium" => Some(Severity::Medium),
        "High" => Some(Severity::High),
        "Critical" => Some(Severity::Critical),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use proptest::prelude::*;

    use super::*;

    /// The examples of events in docs/PROTOCOL.md, with their subjects.
    pub(super) fn examples() -> Vec<(String, String)> {
        let page = include_str!("../../../../../docs/PROTOCOL.md");
        let blocks = page.split("\n```json Event ").skip(1);
        let read = |block: &str| {
            let (subject, rest) = block.split_once('\n').expect("a subject");
            let body = rest.split("\n```").next().expect("a body");
            (subject.to_owned(), body.to_owned())
        };
        blocks.map(read).collect()
    }

    #[test]
    fn every_event_of_the_protocol_is_of_a_kind_that_is_known() {
        let mut kinds = Vec::new();
        for (subject, body) in examples() {
            // Those without their envelope stand in one.
            let mut value: Value = serde_json::from_str(&body).expect("JSON");
            if value.get("payload").is_none() {
                value = serde_json::json!({ "payload": value });
            }
            let event = Event::read(&subject, value.to_string().as_bytes());
            if subject.starts_with("coordination.") {
                assert_eq!(event.kind, Kind::Other);
                continue;
            }
            assert_ne!(event.kind, Kind::Other, "{subject}: {body}");
            kinds.push(event.kind);
            if event.kind != Kind::Lifecycle {
                assert!(event.agents().next().is_some(), "{subject} names its agents: {body}");
            }
        }
        for kind in Kind::value_variants() {
            assert!(kinds.contains(kind) || *kind == Kind::Other, "{kind:?} has an example");
        }
    }

    #[test]
    fn severity_is_the_envelopes_or_the_events() {
        for (body, expected) in [
            (r#"{"metadata":{"severity":"High"},"payload":{"Failure":{}}}"#, Some(Severity::High)),
            (r#"{"payload":{"Failure":{"severity":"Low"}}}"#, Some(Severity::Low)),
            (r#"{"payload":{"Failure":{"severity":"Awful"}}}"#, None),
            (r#"{"payload":{"Recovery":{}}}"#, None),
        ] {
            assert_eq!(Event::read("s", body.as_bytes()).severity, expected, "{body}");
        }
    }

    #[test]
    fn whom_it_is_about() {
        let about = |payload: &str| -> Vec<String> {
            let event = Event::read("s", format!("{{\"payload\":{payload}}}").as_bytes());
            event.agents().map(str::to_owned).collect()
        };
        assert_eq!(about(r#"{"Failure":{"agent_id":"a"}}"#), ["a"]);
        assert_eq!(about(r#"{"Escalation":{"affected_agents":["a","b",3]}}"#), ["a", "b"]);
        assert_eq!(about(r#"{"Alert":{"key":"agent_failed.c","agents":["d"]}}"#), ["c", "d"]);
        assert_eq!(about(r#"[1]"#), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let event = Event::read("s", &bytes);
            prop_assert!(event.agents().count() <= 300);
        }
    }
}
