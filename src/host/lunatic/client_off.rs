//! The NATS client in a build without `wasm-nats`: the same face, and every call says why not.

use std::time::Duration;

use thiserror::Error;

use super::delivery::Deliveries;
use crate::error::Error;
use crate::message::{Headers, NatsMessage};

/// Why NATS did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NatsError {
    /// Nobody subscribed to the subject.
    #[error("nobody listens on {subject}")]
    NoResponders {
        /// The subject.
        subject: String,
    },
    /// No answer came in time.
    #[error("no answer from {subject} within {} ms", timeout.as_millis())]
    TimedOut {
        /// The subject.
        subject: String,
        /// How long was waited.
        timeout: Duration,
    },
    /// There is no NATS in this build.
    #[error("this build is without the feature wasm-nats")]
    NotBuilt,
}

impl From<NatsError> for Error {
    fn from(error: NatsError) -> Self {
        Self::Nats(error.to_string())
    }
}

/// A client of nothing.
#[derive(Debug, Default)]
pub struct Client;

impl Client {
    /// A client.
    pub fn new() -> Self {
        Self
    }

    /// Never.
    pub fn is_online(&mut self) -> bool {
        false
    }

    /// Refused.
    pub fn publish(&mut self, _: &str, _: Option<&str>, _: &[u8]) -> Result<(), NatsError> {
        Err(NatsError::NotBuilt)
    }

    /// Refused.
    pub fn publish_with_headers(
        &mut self,
        _: &str,
        _: Option<&str>,
        _: &Headers,
        _: &[u8],
    ) -> Result<(), NatsError> {
        Err(NatsError::NotBuilt)
    }

    /// Refused.
    pub fn request(&mut self, _: &str, _: &[u8], _: Duration) -> Result<Vec<u8>, NatsError> {
        Err(NatsError::NotBuilt)
    }

    /// Refused.
    pub(super) fn start_request(
        &mut self,
        _: u64,
        _: &str,
        _: &Headers,
        _: &[u8],
    ) -> Result<(), NatsError> {
        Err(NatsError::NotBuilt)
    }

    /// None is.
    pub(super) fn answered_request(&self, _: &NatsMessage) -> Option<(u64, bool)> {
        None
    }

    /// There is nothing to send.
    pub fn flush(&mut self) -> Result<(), NatsError> {
        Ok(())
    }
}

/// Refused.
pub(super) fn subscribe_handler(_: &mut Client, _: &str, _: Option<&str>) -> Result<(), NatsError> {
    Err(NatsError::NotBuilt)
}

/// There is none.
pub(super) fn unsubscribe_handler(_: &str, _: Option<&str>) -> bool {
    false
}

/// What a mail means for the agent's handler.
#[allow(dead_code, reason = "none comes here")]
pub(super) enum ForHandler {
    /// Never.
    Messages(Deliveries),
    /// Never.
    Ended(String, NatsError),
    /// Always.
    Nothing,
}

/// Nothing is delivered here.
pub(super) fn for_handler(_: i64, _: Vec<u8>) -> ForHandler {
    ForHandler::Nothing
}

/// None is watched here.
pub(super) fn process_died() {}
