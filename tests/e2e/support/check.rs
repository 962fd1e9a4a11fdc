//! Shapes that the wire contract asks for, written down a second time.

use serde_json::{Value, json};

/// A body in an envelope of a stranger's making.
pub fn envelope(payload: Value) -> Value {
    json!({"id": "1", "source": "somebody", "timestamp": "2026-11-21T20:50:00Z", "metadata": {},
        "payload": payload})
}

/// Checks that a text is a UUID v4.
#[track_caller]
pub fn assert_uuid_v4(id: &Value) {
    let text = id.as_str().unwrap_or_default();
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    let fits = text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            14 => c == '4',
            19 => "89ab".contains(c),
            _ => hex(c),
        });
    assert!(fits, "{id} is no UUID v4");
}

/// Checks that a text is a time in UTC with microseconds.
#[track_caller]
pub fn assert_timestamp(timestamp: &Value) {
    let text = timestamp.as_str().unwrap_or_default();
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{timestamp}");
}

/// Checks the envelope of a supervision event of this node.
#[track_caller]
pub fn supervision(event: &Value, node: &str, severity: Option<&str>) {
    assert_uuid_v4(&event["id"]);
    assert_timestamp(&event["timestamp"]);
    assert_eq!(event["correlation_id"], Value::Null, "{event}");
    assert_eq!(event["source"], node, "{event}");
    let mut metadata = json!({"event_category": "supervision"});
    if let Some(severity) = severity {
        metadata["severity"] = severity.into();
    }
    assert_eq!(event["metadata"], metadata, "{event}");
    let fields: Vec<_> = event.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = ["correlation_id", "id", "metadata", "payload", "source", "timestamp"];
    assert_eq!(fields, expected, "{event}");
}

/// What `Status` answers, without what moves by itself.
pub fn without_counters(mut status: Value) -> Value {
    let fields = status.as_object_mut().expect("a summary");
    assert!(fields.remove("counters").is_some(), "a summary has counters: {fields:?}");
    status
}
