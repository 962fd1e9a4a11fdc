//! What comes on a NATS subject.

/// A message from NATS, for who subscribed to its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsMessage {
    /// The subject that it was published to.
    pub subject: String,
    /// Where an answer is expected.
    pub reply: Option<String>,
    /// The status in its headers: 503 says that nobody is there to answer.
    pub status: Option<u16>,
    /// What it says.
    pub payload: Vec<u8>,
}
