//! Publishing as one trait, whichever client it is.

use std::future::Future;

use serde::Serialize;

/// What publishes to NATS, and so can publish JSON: `WasmNatsConnection` and `NatsConnection`.
pub trait NatsPublisher: Sync {
    /// Why it could not be published.
    type Error: From<serde_json::Error>;

    /// Publishes.
    fn publish_bytes(
        &self,
        subject: &str,
        data: &[u8],
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Publishes a value as JSON.
    fn publish_json<T: Serialize + Sync + ?Sized>(
        &self,
        subject: &str,
        data: &T,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async move { self.publish_bytes(subject, &serde_json::to_vec(data)?).await }
    }
}
