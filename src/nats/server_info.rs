//! `INFO`: what the server says of itself, at the start and whenever it changes.

use serde::{Deserialize, Serialize};

use super::codec::DEFAULT_MAX_PAYLOAD;

/// What the server says of itself. Unknown fields are ignored, absent ones have a default, so that
/// servers older and newer than this client are understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// The server's key.
    pub server_id: String,
    /// Its name, which is the key unless it was given one.
    pub server_name: String,
    /// Its version.
    pub version: String,
    /// The host that it listens on, a name or an address.
    pub host: String,
    /// The port that it listens on for TCP.
    pub port: u16,
    /// Whether it takes headers.
    pub headers: bool,
    /// The largest payload with headers that it takes, in bytes. Default: 1 MiB.
    pub max_payload: u64,
    /// The protocol's version; from 1 on it sends INFO again when something changes.
    pub proto: u32,
    /// The number of this connection at the server.
    pub client_id: Option<u64>,
    /// The address that the server sees us at.
    pub client_ip: Option<String>,
    /// Whether credentials are needed.
    pub auth_required: bool,
    /// Whether TLS is needed.
    pub tls_required: bool,
    /// Other servers of the cluster, as `host:port`; over WebSocket, their WebSocket ports.
    pub connect_urls: Vec<String>,
    /// Whether the server is about to go: lame duck mode.
    #[serde(rename = "ldm")]
    pub lame_duck: bool,
    /// What an NKey signs.
    pub nonce: Option<String>,
    /// Whether JetStream is there.
    pub jetstream: bool,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The JetStream domain.
    pub domain: Option<String>,
}

impl Default for ServerInfo {
    fn default() -> Self {
        Self {
            server_id: String::new(),
            server_name: String::new(),
            version: String::new(),
            host: String::new(),
            port: 0,
            headers: false,
            max_payload: DEFAULT_MAX_PAYLOAD as u64,
            proto: 0,
            client_id: None,
            client_ip: None,
            auth_required: false,
            tls_required: false,
            connect_urls: Vec::new(),
            lame_duck: false,
            nonce: None,
            jetstream: false,
            cluster: None,
            domain: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_info_of_a_real_server_that_listens_on_a_name() {
        // Sent by nats-server 2.9.10 with `host: localhost`.
        let json = r#"{"server_id":"NCGI","server_name":"NCGI","version":"2.9.10","proto":1,
            "go":"go1.19.8","host":"localhost","port":24222,"headers":true,"max_payload":1048576,
            "client_id":4,"client_ip":"127.0.0.1"}"#;
        let info: ServerInfo = serde_json::from_str(json).expect("an INFO");
        assert_eq!((info.host.as_str(), info.port), ("localhost", 24222));
        assert_eq!((info.client_id, info.max_payload), (Some(4), 1 << 20));
        assert!(info.headers && !info.lame_duck && info.connect_urls.is_empty());
    }

    #[test]
    fn everything_has_a_default() {
        let info: ServerInfo = serde_json::from_str("{}").expect("an INFO");
        assert_eq!(info, ServerInfo::default());
    }
}
