//! The envelope that every event travels in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::supervision::FailureSeverity;
use crate::time::Timestamp;

/// A payload, with who sent it, when, and what it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageEnvelope<T> {
    /// A UUID v4.
    pub id: String,
    /// The id of what this belongs to.
    #[serde(default)]
    pub correlation_id: Option<String>,
    /// The id of the agent or node that sent it.
    pub source: String,
    /// When it was made.
    pub timestamp: Timestamp,
    /// What it is about, for those who do not look into the payload.
    pub metadata: Map<String, Value>,
    /// What it carries.
    pub payload: T,
}

impl<T> MessageEnvelope<T> {
    /// An envelope without metadata. Its id is made from 16 random bytes.
    pub fn new(
        random: [u8; 16],
        source: impl Into<String>,
        timestamp: Timestamp,
        payload: T,
    ) -> Self {
        Self {
            id: uuid::Builder::from_random_bytes(random).into_uuid().to_string(),
            correlation_id: None,
            source: source.into(),
            timestamp,
            metadata: Map::new(),
            payload,
        }
    }

    /// The envelope of a supervision event: `event_category` is `supervision`, and `severity` is
    /// there if there is one.
    pub fn supervision_event(
        random: [u8; 16],
        source: impl Into<String>,
        timestamp: Timestamp,
        payload: T,
        severity: Option<FailureSeverity>,
    ) -> Self {
        let metadata = supervision_metadata(severity);
        Self { metadata, ..Self::new(random, source, timestamp, payload) }
    }

    /// The envelope of an event of one agent: `event_category` is `agent`.
    pub fn agent_event(
        random: [u8; 16],
        source: impl Into<String>,
        timestamp: Timestamp,
        payload: T,
    ) -> Self {
        Self { metadata: agent_metadata(), ..Self::new(random, source, timestamp, payload) }
    }

    /// The envelope of a coordination message: `event_category` is `coordination`, and there is its
    /// `coordination_type`.
    pub fn coordination_message(
        random: [u8; 16],
        source: impl Into<String>,
        timestamp: Timestamp,
        payload: T,
        coordination_type: &str,
    ) -> Self {
        let metadata = coordination_metadata(coordination_type);
        Self { metadata, ..Self::new(random, source, timestamp, payload) }
    }

    /// The same with the id of what it belongs to.
    pub fn with_correlation_id(mut self, id: impl Into<String>) -> Self {
        self.correlation_id = Some(id.into());
        self
    }

    /// The same with one more piece of metadata.
    pub fn with_metadata(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }
}

/// Writes the envelope of an event whose payload is JSON already: the bytes that serde would write for
/// it, without reading the payload again, since that is most of what it takes to tell of a death.
/// `category` is `supervision` or `agent`.
pub fn write_event(
    buffer: &mut Vec<u8>,
    random: [u8; 16],
    source: &str,
    timestamp: Timestamp,
    category: &'static str,
    severity: Option<FailureSeverity>,
    payload: &[u8],
) {
    let mut id = uuid::Uuid::encode_buffer();
    let id =
        uuid::Builder::from_random_bytes(random).into_uuid().hyphenated().encode_lower(&mut id);
    let mut text = |parts: &[&str]| {
        parts.iter().for_each(|part| buffer.extend_from_slice(part.as_bytes()));
    };
    let source = Value::from(source).to_string();
    text(&["{\"id\":\"", id, "\",\"correlation_id\":null,\"source\":", &source]);
    text(&[
        ",\"timestamp\":\"",
        &timestamp.to_string(),
        "\",\"metadata\":{\"event_category\":\"",
        category,
    ]);
    if let Some(severity) = severity {
        text(&["\",\"severity\":\"", &format!("{severity:?}")]);
    }
    text(&["\"},\"payload\":"]);
    buffer.extend_from_slice(payload);
    buffer.push(b'}');
}

/// What an envelope says of an event of supervision.
pub(super) fn supervision_metadata(severity: Option<FailureSeverity>) -> Map<String, Value> {
    let mut metadata = category("supervision");
    if let Some(severity) = severity {
        metadata.insert("severity".to_owned(), format!("{severity:?}").into());
    }
    metadata
}

/// What an envelope says of an event of an agent.
pub(super) fn agent_metadata() -> Map<String, Value> {
    category("agent")
}

/// What an envelope says of a message of coordination.
pub(super) fn coordination_metadata(coordination_type: &str) -> Map<String, Value> {
    let mut metadata = category("coordination");
    metadata.insert("coordination_type".to_owned(), coordination_type.into());
    metadata
}

fn category(category: &str) -> Map<String, Value> {
    Map::from_iter([("event_category".to_owned(), category.into())])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_supervision_event_on_the_wire() {
        let timestamp = Timestamp::from_epoch(Duration::from_micros(1_795_294_200_123_456));
        let envelope = MessageEnvelope::supervision_event(
            [7; 16],
            "node-1",
            timestamp,
            json!({}),
            Some(FailureSeverity::High),
        );
        assert_eq!(
            serde_json::to_value(&envelope).expect("serializes"),
            json!({"id": "07070707-0707-4707-8707-070707070707", "correlation_id": null,
                "source": "node-1", "timestamp": "2026-11-21T20:50:00.123456Z",
                "metadata": {"event_category": "supervision", "severity": "High"}, "payload": {}})
        );
    }

    #[test]
    fn an_event_is_written_as_serde_writes_it() {
        let timestamp = Timestamp::from_epoch(Duration::from_micros(1_795_294_200_123_456));
        let payload = json!({"Failure": {"agent_id": "a", "text": "\"\\\n"}});
        let bytes = serde_json::to_vec(&payload).expect("serializes");
        let written = |category, severity, source| {
            let mut buffer = Vec::new();
            write_event(&mut buffer, [9; 16], source, timestamp, category, severity, &bytes);
            String::from_utf8(buffer).expect("text")
        };
        for severity in [None, Some(FailureSeverity::High), Some(FailureSeverity::Critical)] {
            let envelope = MessageEnvelope::supervision_event(
                [9; 16],
                "node-1",
                timestamp,
                payload.clone(),
                severity,
            );
            let expected = serde_json::to_string(&envelope).expect("serializes");
            assert_eq!(written("supervision", severity, "node-1"), expected);
        }
        for source in ["a", "\"a\\\n"] {
            let envelope =
                MessageEnvelope::agent_event([9; 16], source, timestamp, payload.clone());
            let expected = serde_json::to_string(&envelope).expect("serializes");
            assert_eq!(written("agent", None, source), expected);
        }
    }

    #[test]
    fn metadata_and_correlation() {
        let timestamp = Timestamp::from_epoch(Duration::ZERO);
        let healthy =
            MessageEnvelope::supervision_event([0; 16], "n", timestamp, json!(1), None::<_>);
        assert_eq!(Value::Object(healthy.metadata), json!({"event_category": "supervision"}));
        for severity in FailureSeverity::ALL {
            let event =
                MessageEnvelope::supervision_event([0; 16], "n", timestamp, 1, Some(severity));
            let written = serde_json::to_value(severity).expect("serializes");
            assert_eq!(event.metadata["severity"], written);
        }
        let agent = MessageEnvelope::agent_event([0; 16], "a", timestamp, 1);
        assert_eq!(Value::Object(agent.metadata), json!({"event_category": "agent"}));
        let task = MessageEnvelope::coordination_message([0; 16], "n", timestamp, 1, "Broadcast")
            .with_correlation_id("task-1");
        let metadata = json!({"event_category": "coordination", "coordination_type": "Broadcast"});
        assert_eq!(Value::Object(task.metadata), metadata);
        assert_eq!(task.correlation_id.as_deref(), Some("task-1"));
    }
}
