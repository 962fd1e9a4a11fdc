//! Between async-nats' messages and ours.

use std::str::FromStr;

use async_nats::{HeaderMap, HeaderName, HeaderValue};

use super::error::NatsError;
use crate::message::{HeaderError, Headers, NatsMessage};

/// Ours; with the status that the server gave it, and headers in no order, since async-nats keeps
/// none.
pub(super) fn of(message: async_nats::Message) -> NatsMessage {
    let mut block = Vec::new();
    if message.status.is_some() || message.headers.is_some() {
        block.extend_from_slice(b"NATS/1.0");
        if let Some(status) = message.status {
            block.extend_from_slice(format!(" {:03}", status.as_u16()).as_bytes());
            if let Some(text) = message.description.filter(|text| !text.is_empty()) {
                block.extend_from_slice(format!(" {text}").as_bytes());
            }
        }
        block.extend_from_slice(b"\r\n");
        for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
            for value in values {
                block.extend_from_slice(format!("{name}: {}\r\n", value.as_str()).as_bytes());
            }
        }
        block.extend_from_slice(b"\r\n");
    }
    let reply = message.reply.as_ref().map(async_nats::Subject::as_str);
    NatsMessage::with_header_block(message.subject.as_str(), reply, &block, &message.payload)
}

/// Theirs; none for no headers.
pub(super) fn headers(headers: &Headers) -> Result<Option<HeaderMap>, NatsError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        let refused = || HeaderError::Name(crate::error::shown(name));
        let header = HeaderName::from_str(name).map_err(|_| refused())?;
        let refused = || HeaderError::Value(crate::error::shown(name));
        map.append(header, HeaderValue::from_str(value).map_err(|_| refused())?);
    }
    Ok(Some(map))
}
