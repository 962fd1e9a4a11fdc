//! How a connection is made.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::NatsError;
use super::url::{self, Server};
use crate::config::{NatsAuth, NatsClient, NatsUrls, NodeConfig};
use crate::nats::{Auth, InvalidConfig, ReconnectDelays, SessionConfig};

/// How a connection is made.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// Where the server is: `nats://`, `tls://`, `ws://` or `wss://`; 1 to 64 of them, separated by
    /// commas. A user and a password, or a token, may stand there. Default: `nats://localhost:4222`.
    pub url: String,
    /// The time for one attempt to connect, handshake included; 1 ms to a day. Default: 5 s.
    pub timeout: Duration,
    /// After how many failed attempts in a row a connection is given up. Default: none, which is
    /// never.
    pub max_reconnects: Option<u32>,
    /// How long to wait between two such attempts. Default: the first one at once, then 50 ms to
    /// 500 ms, after 30 s up to 4 s.
    pub reconnect: ReconnectDelays,
    /// Who this is to the server, where its URL does not say. Default: [`Auth::None`].
    pub auth: Auth,
    /// The same in a file, which is read anew for each connection: then `auth` says nothing.
    /// Default: none.
    pub auth_file: Option<AuthFile>,
    /// The connection's name in the server's monitoring, at most 256 bytes. Default: none.
    pub name: Option<String>,
    /// The PEM file with the CAs that a `tls://` or `wss://` server's certificate may come from,
    /// which is read anew for each connection. Default: none, which means those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether one's own messages reach one's own subscriptions. Default: true.
    pub echo: bool,
    /// Whether to go on when no server can be reached at the start:
    /// [`NatsConnection::new`](super::NatsConnection::new) waits for none then. Default: true.
    pub retry_on_failed_connect: bool,
    /// The time between two PINGs, by which a dead connection is found out: after two of them that
    /// were not answered, which async-nats does not let one choose. 1 ms to a day. Default: 2 min.
    pub ping_interval: Duration,
    /// Whether the order of several servers is random. Default: true.
    pub shuffle_servers: bool,
    /// Whether servers that the server tells of are tried too, at most 64 of them. Not with `ws://`
    /// and `wss://`, where async-nats would look for them over TCP. Default: true.
    pub use_advertised: bool,
    /// How many bytes may wait while there is no connection; 0 refuses at once. While there is one,
    /// what the socket has not taken waits too, up to 8 MiB, and then publishes wait. Default: 8 MiB;
    /// worst case in memory: this, 200 bytes a message, and what async-nats writes just now (64 KiB
    /// and one message).
    pub max_pending_bytes: usize,
    /// How many messages may wait while there is no connection; 0 refuses at once. Default: 65,536;
    /// the worst case is 200 bytes each beside their own (13 MB).
    pub max_pending_messages: u64,
    /// How many requests may be unanswered. Default: 16,384; worst case in memory 2 KB each with the
    /// longest subjects (33 MB), 8 MB with short ones.
    pub max_requests: usize,
}

/// A file with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthFile {
    /// The seed of a user's NKey.
    NKey(PathBuf),
    /// A user's JWT and seed, as `nsc` writes them.
    Credentials(PathBuf),
}

impl Default for NatsConfig {
    fn default() -> Self {
        let session = SessionConfig::default();
        Self {
            url: NatsClient::TCP_URL.to_owned(),
            timeout: session.connect_timeout,
            max_reconnects: None,
            reconnect: session.reconnect,
            auth: Auth::None,
            auth_file: None,
            name: None,
            ca_file: None,
            echo: session.echo,
            retry_on_failed_connect: session.retry_on_failed_connect,
            ping_interval: session.ping_interval,
            shuffle_servers: session.shuffle_servers,
            use_advertised: session.use_advertised,
            max_pending_bytes: session.max_pending_bytes,
            max_pending_messages: session.max_pending_messages,
            max_requests: session.max_requests,
        }
    }
}

impl fmt::Debug for NatsConfig {
    /// Without a password that stands in the URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("url", &NatsUrls::new(self.url.as_str()))
            .field("timeout", &self.timeout)
            .field("max_reconnects", &self.max_reconnects)
            .field("reconnect", &self.reconnect)
            .field("auth", &self.auth)
            .field("auth_file", &self.auth_file)
            .field("name", &self.name)
            .field("ca_file", &self.ca_file)
            .field("echo", &self.echo)
            .field("retry_on_failed_connect", &self.retry_on_failed_connect)
            .field("ping_interval", &self.ping_interval)
            .field("shuffle_servers", &self.shuffle_servers)
            .field("use_advertised", &self.use_advertised)
            .field("max_pending_bytes", &self.max_pending_bytes)
            .field("max_pending_messages", &self.max_pending_messages)
            .field("max_requests", &self.max_requests)
            .finish()
    }
}

impl NatsConfig {
    /// What a node's config says; none for a node without NATS. Two of its settings are another
    /// client's: `nats.max_pings_out`, which says nothing here, and `nats.headers`, with which a
    /// `ws://` or `wss://` URL is refused.
    pub fn of_node(config: &NodeConfig) -> Result<Option<Self>, NatsError> {
        let Some(urls) = &config.nats else { return Ok(None) };
        let is_websocket = url::parse_list(urls.expose())?.iter().any(|s| s.addr.is_websocket());
        if is_websocket && !config.nats_headers.is_empty() {
            return Err(NatsError::Config(InvalidConfig::OutOfRange {
                field: "nats.headers",
                value: format!("{} of them", config.nats_headers.len()),
                allowed: "none on this host, whose client sends no upgrade headers",
            }));
        }
        let (auth, auth_file) = match &config.nats_auth {
            NatsAuth::Anonymous => (Auth::None, None),
            NatsAuth::Token(token) => (Auth::Token(token.clone()), None),
            NatsAuth::User { user, password } => {
                let (user, password) = (user.clone(), password.clone());
                (Auth::UserPassword { user, password }, None)
            }
            NatsAuth::NKey(path) => (Auth::None, Some(AuthFile::NKey(path.clone()))),
            NatsAuth::Credentials(path) => (Auth::None, Some(AuthFile::Credentials(path.clone()))),
        };
        let options = &config.nats_options;
        Ok(Some(Self {
            url: urls.expose().to_owned(),
            timeout: options.connect_timeout,
            reconnect: ReconnectDelays {
                first: options.reconnect_first,
                cap: options.reconnect_cap,
                late_cap: options.reconnect_late_cap,
                ..ReconnectDelays::default()
            },
            auth,
            auth_file,
            name: Some(config.node_id.to_string()),
            ca_file: config.nats_ca.clone(),
            ping_interval: options.ping_interval,
            shuffle_servers: options.shuffle_servers,
            use_advertised: options.use_advertised,
            max_pending_bytes: options.max_pending_bytes,
            max_pending_messages: options.max_pending_messages,
            ..Self::default()
        }))
    }

    /// Checks everything but the files, and reads the servers.
    pub(super) fn servers(&self) -> Result<Vec<Server>, NatsError> {
        let servers = url::parse_list(&self.url)?;
        let session = SessionConfig {
            auth: self.auth.clone(),
            name: self.name.clone(),
            connect_timeout: self.timeout,
            ping_interval: self.ping_interval,
            reconnect: self.reconnect.clone(),
            ..SessionConfig::default()
        };
        match session.validate() {
            Ok(()) => Ok(servers),
            Err(InvalidConfig::OutOfRange { field: "connect_timeout", value, allowed }) => {
                Err(InvalidConfig::OutOfRange { field: "timeout", value, allowed }.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::AgentId;
    use crate::secret::Secret;

    fn node(change: impl FnOnce(&mut NodeConfig)) -> NodeConfig {
        let mut config = NodeConfig::new(AgentId("n1".to_owned()));
        config.nats = NatsUrls::new("nats://h");
        change(&mut config);
        config
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = NatsConfig::default();
        assert_eq!(config.servers().expect("valid").len(), 1);
        assert_eq!(config.url, "nats://localhost:4222");
    }

    #[test]
    fn a_node_s_config_says_it_all() {
        let of = |config: &NodeConfig| NatsConfig::of_node(config).expect("valid");
        assert_eq!(of(&node(|c| c.nats = None)), None);
        let defaults = of(&node(|_| {})).expect("there is NATS");
        let expected =
            NatsConfig { url: "nats://h".into(), name: Some("n1".into()), ..NatsConfig::default() };
        assert_eq!(defaults, expected);
        let (first, cap, late_cap) = (1, 2, 3);
        let ms = Duration::from_millis;
        let config = of(&node(|c| {
            c.nats_auth = NatsAuth::User { user: "me".into(), password: "geheim".into() };
            c.nats_ca = Some("ca.pem".into());
            c.nats_options.connect_timeout = ms(4);
            c.nats_options.ping_interval = ms(5);
            c.nats_options.reconnect_first = ms(first);
            c.nats_options.reconnect_cap = ms(cap);
            c.nats_options.reconnect_late_cap = ms(late_cap);
            c.nats_options.shuffle_servers = false;
            c.nats_options.use_advertised = false;
            c.nats_options.max_pending_bytes = 6;
            c.nats_options.max_pending_messages = 7;
        }))
        .expect("there is NATS");
        let expected = NatsConfig {
            url: "nats://h".into(),
            name: Some("n1".into()),
            timeout: ms(4),
            ping_interval: ms(5),
            reconnect: ReconnectDelays {
                first: ms(first),
                cap: ms(cap),
                late_cap: ms(late_cap),
                ..ReconnectDelays::default()
            },
            auth: Auth::UserPassword { user: "me".into(), password: "geheim".into() },
            ca_file: Some("ca.pem".into()),
            shuffle_servers: false,
            use_advertised: false,
            max_pending_bytes: 6,
            max_pending_messages: 7,
            ..NatsConfig::default()
        };
        assert_eq!(config, expected);
        assert!(!format!("{config:?}").contains("geheim"));
        let config = of(&node(|c| c.nats_auth = NatsAuth::NKey("u.nk".into())));
        let file = config.expect("there is NATS").auth_file;
        assert_eq!(file, Some(AuthFile::NKey("u.nk".into())));
        let config = of(&node(|c| c.nats_auth = NatsAuth::Credentials("u.creds".into())));
        let file = config.expect("there is NATS").auth_file;
        assert_eq!(file, Some(AuthFile::Credentials("u.creds".into())));
        let config = of(&node(|c| c.nats_auth = NatsAuth::Token("geheim".into())));
        assert_eq!(config.expect("there is NATS").auth, Auth::Token("geheim".into()));
    }

    #[test]
    fn what_this_client_cannot_do_is_told() {
        let header = ("Authorization".to_owned(), Secret::new("geheim"));
        let tcp = node(|c| c.nats_headers = vec![header.clone()]);
        assert!(NatsConfig::of_node(&tcp).is_ok(), "TCP has no upgrade");
        let websocket = node(|c| {
            c.nats = NatsUrls::new("nats://h,ws://h");
            c.nats_headers = vec![header];
        });
        let error = NatsConfig::of_node(&websocket).expect_err("no headers").to_string();
        assert!(error.contains("nats.headers") && !error.contains("geheim"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named() {
        type Change = fn(&mut NatsConfig);
        let table: &[(Change, &str)] = &[
            (|c| c.url = "http://me:geheim@h".into(), "http:// is none of nats://"),
            (|c| c.timeout = Duration::ZERO, "timeout is 0ns"),
            (|c| c.ping_interval = Duration::MAX, "ping_interval is"),
            (|c| c.reconnect.first = Duration::ZERO, "reconnect.first is 0ns"),
            (|c| c.name = Some("x".repeat(257)), "name's length is 257"),
            (|c| c.auth = Auth::NKey("SUGEHEIM".into()), "the seed has 8 characters"),
        ];
        for (change, expected) in table {
            let mut config = NatsConfig::default();
            change(&mut config);
            let error = config.servers().expect_err(expected);
            let said = format!("{error} {error:?} {config:?}");
            assert!(said.contains(expected) && !said.contains("geheim"), "{said}");
        }
    }
}
