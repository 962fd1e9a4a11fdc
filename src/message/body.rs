//! What a body on the wire is: an envelope, a message, or a bare value.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{ErrorCode, Message, WireError};
use crate::agent::AgentId;
use crate::time::Timestamp;

/// The largest body that is taken by default: 512 KiB. The worst of them is `[{"":0},…]`, since a
/// map of one entry takes the room of eleven: parsed, about 90 times its size (46 MiB) on a 64-bit
/// machine and half of that in WebAssembly, for as long as the value lives.
pub const DEFAULT_MAX_BODY_BYTES: usize = 512 * 1024;

/// A body that was taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// Who sent it and when, if it came in an envelope.
    pub envelope: Option<EnvelopeHead>,
    /// What it says.
    pub content: Content,
}

/// An envelope without its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvelopeHead {
    /// The envelope's id; any text.
    pub id: String,
    /// The id of what it belongs to.
    pub correlation_id: Option<String>,
    /// Who says that they sent it; any text.
    pub source: String,
    /// When it was made, as they say.
    pub timestamp: Timestamp,
    /// What it is about.
    pub metadata: Map<String, Value>,
}

/// What a body says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// A whole message.
    Message(Message),
    /// Only a payload.
    Bare(Value),
}

impl Content {
    /// The message for the agent `to`. A bare payload becomes one from `external`, with a fresh
    /// id and the present time in whole seconds since 1970.
    pub fn into_message(
        self,
        to: &AgentId,
        fresh_id: impl FnOnce() -> String,
        unix_seconds: u64,
    ) -> Message {
        match self {
            Self::Message(message) => message,
            Self::Bare(payload) => Message {
                id: fresh_id(),
                from: AgentId::external(),
                to: to.clone(),
                payload,
                timestamp: unix_seconds,
            },
        }
    }

    /// Takes a value apart: a message if it has exactly the fields of one, else bare. With a
    /// `subject_agent`, a message has to be for that agent.
    fn from_value(value: Value, subject_agent: Option<&AgentId>) -> Result<Self, WireError> {
        match value {
            Value::Object(map) if is_message(&map) => {
                let message = message(map)?;
                match subject_agent {
                    Some(agent) if message.to != *agent => Err(WireError::bad_shape(format!(
                        "to is {:?}, but the message came to {agent}",
                        message.to.as_str()
                    ))),
                    _ => Ok(Self::Message(message)),
                }
            }
            bare => Ok(Self::Bare(bare)),
        }
    }
}

/// Takes a body apart. With a `subject_agent` (the agent that the subject names), a message has to
/// be for that agent.
///
/// Errors: `too_large` beyond `max_bytes`; `bad_json`, also for more than 127 brackets inside
/// each other; `bad_shape` for an envelope or a message with a wrong field; `bad_id`.
pub fn parse_body(
    bytes: &[u8],
    max_bytes: usize,
    subject_agent: Option<&AgentId>,
) -> Result<Body, WireError> {
    body_from_value(parse_json(bytes, max_bytes)?, subject_agent)
}

/// Parses what came on `agent.input.<to>` into the message for that agent.
///
/// `fresh_id` is asked for only if the body is bare. Errors as for [`parse_body`].
pub fn parse_agent_input(
    bytes: &[u8],
    max_bytes: usize,
    to: &AgentId,
    fresh_id: impl FnOnce() -> String,
    unix_seconds: u64,
) -> Result<Message, WireError> {
    let body = parse_body(bytes, max_bytes, Some(to))?;
    Ok(body.content.into_message(to, fresh_id, unix_seconds))
}

/// As [`parse_body`], for a value that was parsed already.
pub(super) fn body_from_value(
    value: Value,
    subject_agent: Option<&AgentId>,
) -> Result<Body, WireError> {
    let (envelope, payload) = open_envelope(value)?;
    let content = Content::from_value(payload, subject_agent)?;
    Ok(Body { envelope, content })
}

/// Takes the payload out of its envelope, if it came in one. What is inside is not looked at: an
/// envelope in an envelope is a payload like any other.
fn open_envelope(value: Value) -> Result<(Option<EnvelopeHead>, Value), WireError> {
    let mut map = match value {
        Value::Object(map) if is_envelope(&map) => map,
        bare => return Ok((None, bare)),
    };
    let text = map.remove("timestamp").unwrap_or_default();
    let timestamp = serde_json::from_value(text)
        .map_err(|error| WireError::bad_shape(format!("timestamp: {error}")))?;
    let metadata = match map.remove("metadata").unwrap_or_default() {
        Value::Object(metadata) => metadata,
        other => return Err(wrong_kind("metadata", &other, "an object")),
    };
    let correlation_id = match map.remove("correlation_id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(other) => return Err(wrong_kind("correlation_id", &other, "a string or null")),
    };
    let payload = map.remove("payload").unwrap_or_default();
    let head = EnvelopeHead {
        id: take_text(&mut map, "id")?,
        correlation_id,
        source: take_text(&mut map, "source")?,
        timestamp,
        metadata,
    };
    Ok((Some(head), payload))
}

/// The payload of a body, whether it came in an envelope or bare.
pub(crate) fn parse_payload(bytes: &[u8], max_bytes: usize) -> Result<Value, WireError> {
    Ok(open_envelope(parse_json(bytes, max_bytes)?)?.1)
}

fn parse_json(bytes: &[u8], max_bytes: usize) -> Result<Value, WireError> {
    if bytes.len() > max_bytes {
        return Err(WireError::new(
            ErrorCode::TooLarge,
            format!("the body has {} bytes, and may have {max_bytes}", bytes.len()),
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        WireError::new(ErrorCode::BadJson, format!("the body is not JSON: {error}"))
    })
}

/// Takes the text of a required field.
pub(super) fn take_text(
    map: &mut Map<String, Value>,
    field: &'static str,
) -> Result<String, WireError> {
    match map.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_kind(field, &other, "a string")),
        None => Err(WireError::bad_shape(format!("{field} is missing"))),
    }
}

/// Takes a required agent id.
pub(crate) fn take_id(
    map: &mut Map<String, Value>,
    field: &'static str,
) -> Result<AgentId, WireError> {
    let id = AgentId::parse(take_text(map, field)?);
    id.map_err(|error| WireError::new(ErrorCode::BadId, format!("{field}: {error}")))
}

pub(crate) fn wrong_kind(field: &str, found: &Value, allowed: &str) -> WireError {
    let kind = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    WireError::bad_shape(format!("{field} is {kind}, and must be {allowed}"))
}

fn is_envelope(map: &Map<String, Value>) -> bool {
    ["id", "source", "timestamp", "metadata", "payload"]
        .iter()
        .all(|field| map.contains_key(*field))
}

fn is_message(map: &Map<String, Value>) -> bool {
    let fields = ["id", "from", "to", "payload", "timestamp"];
    map.len() == fields.len() && fields.iter().all(|field| map.contains_key(*field))
}

fn message(mut map: Map<String, Value>) -> Result<Message, WireError> {
    let timestamp = map.remove("timestamp").unwrap_or_default();
    Ok(Message {
        id: take_text(&mut map, "id")?,
        from: take_id(&mut map, "from")?,
        to: take_id(&mut map, "to")?,
        timestamp: timestamp
            .as_u64()
            .ok_or_else(|| wrong_kind("timestamp", &timestamp, "whole Unix seconds"))?,
        payload: map.remove("payload").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn a() -> AgentId {
        AgentId("a".into())
    }

    fn input(body: &Value) -> Result<Message, WireError> {
        input_bytes(body.to_string().as_bytes())
    }

    fn input_bytes(body: &[u8]) -> Result<Message, WireError> {
        parse_agent_input(body, DEFAULT_MAX_BODY_BYTES, &a(), || "fresh".into(), 42)
    }

    fn envelope(payload: &Value) -> Value {
        json!({"id": "e", "correlation_id": null, "source": "s", "metadata": {"k": 1},
            "timestamp": "2026-11-21T20:50:00Z", "payload": payload})
    }

    fn whole_message() -> Value {
        json!({"id": "m", "from": "b", "to": "a", "payload": {"x": 1}, "timestamp": 7})
    }

    #[test]
    fn a_bare_value_of_any_kind_is_the_payload_from_external() {
        for bare in
            [json!(null), json!(3), json!("text"), json!([1, 2]), json!({"id": 1, "to": "nobody"})]
        {
            let message = input(&bare).expect("bare is fine");
            assert_eq!(message.payload, bare);
            assert_eq!((message.from, message.to), (AgentId::external(), a()));
            assert_eq!((message.id.as_str(), message.timestamp), ("fresh", 42));
        }
    }

    #[test]
    fn a_message_is_taken_as_it_is_with_and_without_an_envelope() {
        for body in [whole_message(), envelope(&whole_message())] {
            let message = input(&body).expect("a message");
            assert_eq!(serde_json::to_value(&message).expect("serializes"), whole_message());
        }
    }

    #[test]
    fn a_message_with_one_field_more_is_bare() {
        let mut body = whole_message();
        body["extra"] = json!(1);
        assert_eq!(input(&body).expect("bare").payload, body);
    }

    #[test]
    fn an_envelope_is_opened_once_and_its_unknown_fields_are_ignored() {
        let mut body = envelope(&json!({"x": 1}));
        body["unknown"] = json!(true);
        assert_eq!(input(&body).expect("opened").payload, json!({"x": 1}));
        let twice = envelope(&envelope(&json!(1)));
        assert_eq!(input(&twice).expect("opened once").payload, envelope(&json!(1)));
        let body = parse_body(body.to_string().as_bytes(), 1000, None).expect("an envelope");
        let head = body.envelope.expect("its head");
        assert_eq!((head.id.as_str(), head.source.as_str()), ("e", "s"));
        assert_eq!(head.metadata["k"], json!(1));
    }

    #[test]
    fn wrong_fields_are_named() {
        let with = |mut body: Value, field: &str, value: Value| {
            body[field] = value;
            body
        };
        use ErrorCode::{BadId, BadShape};
        let cases = [
            (with(whole_message(), "to", json!("b")), BadShape, "\"b\""),
            (with(whole_message(), "to", json!("a.b")), BadId, "to"),
            (with(whole_message(), "from", json!("")), BadId, "from"),
            (with(whole_message(), "from", json!(1)), BadShape, "from"),
            (with(whole_message(), "id", json!(1)), BadShape, "id"),
            (with(whole_message(), "timestamp", json!("now")), BadShape, "timestamp"),
            (with(whole_message(), "timestamp", json!(-1)), BadShape, "timestamp"),
            (with(envelope(&json!(1)), "timestamp", json!("now")), BadShape, "timestamp"),
            (with(envelope(&json!(1)), "metadata", json!([])), BadShape, "metadata"),
            (with(envelope(&json!(1)), "source", json!(null)), BadShape, "source"),
            (with(envelope(&json!(1)), "correlation_id", json!(1)), BadShape, "correlation_id"),
        ];
        for (body, code, named) in cases {
            let error = input(&body).expect_err(named);
            assert_eq!(error.code, code, "{error}");
            assert!(error.message.contains(named), "{error}");
        }
    }

    #[test]
    fn what_is_not_json_is_bad_json() {
        let deep = "[".repeat(200_000);
        for body in ["", "{", "nonsense", "{} {}", "1e999", "\"\u{1}\"", &deep] {
            let error = input_bytes(body.as_bytes()).expect_err("not JSON");
            assert_eq!(error.code, ErrorCode::BadJson, "{error}");
        }
        let error = input_bytes(b"\"\xff\"").expect_err("not UTF-8");
        assert_eq!(error.code, ErrorCode::BadJson);
    }

    #[test]
    fn a_body_beyond_the_limit_is_too_large() {
        assert!(parse_body(b"12345", 5, None).is_ok());
        let error = parse_body(b"123456", 5, None).expect_err("one byte more");
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert!(error.message.contains('6') && error.message.contains('5'), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _outcome = input_bytes(&bytes);
        }
    }
}
