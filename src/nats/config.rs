//! What a session is told at its start.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{InvalidConfig, UrlError};
use super::url::ServerUrl;
use crate::secret::Secret;

/// Who one is to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    None,
    /// Whoever knows the token.
    Token(Secret),
    /// A user with a password.
    UserPassword {
        /// The user's name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// Whoever has a user's key: its seed, `SU…`, which signs the server's nonce. Itself it is never
    /// sent.
    NKey(Secret),
    /// The text of a `.creds` file: a user's JWT and the seed that goes with it.
    Credentials(Secret),
    /// The same two in two pieces.
    Jwt {
        /// The user's JWT.
        jwt: Secret,
        /// The seed of the key that the JWT is for.
        seed: Secret,
    },
}

/// How long to wait between attempts to connect: the first one at once, then `first`, twice that,
/// and so on up to `cap`; once the outage has lasted for `cap_for`, up to `late_cap`. With several
/// servers a step is one round through all of them. Each delay is shortened at random by up to a
/// half, so that clients that were thrown out together do not come back together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconnectDelays {
    /// The first delay. Default: 50 ms.
    pub first: Duration,
    /// The longest at the beginning of an outage. Default: 500 ms.
    pub cap: Duration,
    /// How long that beginning is. Default: 30 s.
    pub cap_for: Duration,
    /// The longest after it. Default: 4 s.
    pub late_cap: Duration,
}

impl Default for ReconnectDelays {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            cap: Duration::from_millis(500),
            cap_for: Duration::from_secs(30),
            late_cap: Duration::from_secs(4),
        }
    }
}

/// What a session is told at its start. Checked by [`Session::new`](super::Session::new).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionConfig {
    /// Where to connect; 1 to 64. Default: `ws://localhost:8080`.
    pub servers: Vec<ServerUrl>,
    /// Who we are, where the server's URL does not say. Default: [`Auth::None`].
    pub auth: Auth,
    /// The connection's name in the server's monitoring, at most 256 bytes. Default: none.
    pub name: Option<String>,
    /// Whether one's own messages reach one's own subscriptions. Default: true.
    pub echo: bool,
    /// Whether the order of the servers is random. Default: true.
    pub shuffle_servers: bool,
    /// Whether servers that the server tells of are tried too; at most 64 more. Default: true.
    pub use_advertised: bool,
    /// The time for one attempt, from the dial to the server's PONG. Default: 5 s.
    pub connect_timeout: Duration,
    /// The time between two PINGs of ours. Default: 2 min.
    pub ping_interval: Duration,
    /// How many PINGs may be unanswered before the connection counts as dead. Default: 2.
    pub max_pings_out: u32,
    /// After how many failed attempts in a row to give up; not counting the very first one at the
    /// start. Default: none, which is never.
    pub max_reconnects: Option<u32>,
    /// After how many refusals of our credentials in a row, all for the same reason and whichever
    /// server they come from, to give up; an attempt that fails otherwise neither counts nor ends
    /// the row. Default: none, which is never: credentials are read anew for each attempt.
    pub max_auth_failures: Option<u32>,
    /// Whether to go on when no server can be reached at the start. If not, each is tried once.
    /// Default: true.
    pub retry_on_failed_connect: bool,
    /// How long to wait between attempts.
    pub reconnect: ReconnectDelays,
    /// How many bytes may wait for a connection; 0 refuses at once. Default, and worst case in
    /// memory: 8 MiB.
    pub max_pending_bytes: usize,
    /// How many messages may wait for a connection; 0 refuses at once. Default: 65,536; each batch
    /// takes some 64 bytes beside its own, so that the worst case is 4 MiB more.
    pub max_pending_messages: u64,
    /// How many bytes may wait for the host to take them while there is a connection; a batch that
    /// finds nothing before it is always taken. Default: 8 MiB, the worst case is one batch more.
    pub max_unwritten_bytes: usize,
    /// How many subscriptions there can be. Default: 65,536; worst case in memory 2.1 KB each with
    /// the longest subjects and queue groups (140 MB), 10 MB with short ones.
    pub max_subscriptions: usize,
    /// How many requests of [`Session::request`](super::Session::request) may be unanswered.
    /// Default: 16,384; worst case in memory 1.2 KB each with the longest subjects (20 MB), 3 MB with
    /// short ones.
    pub max_requests: usize,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            // A constant of ours, read by a test.
            servers: ServerUrl::parse("ws://localhost:8080").into_iter().collect(),
            auth: Auth::None,
            name: None,
            echo: true,
            shuffle_servers: true,
            use_advertised: true,
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(120),
            max_pings_out: 2,
            max_reconnects: None,
            max_auth_failures: None,
            retry_on_failed_connect: true,
            reconnect: ReconnectDelays::default(),
            max_pending_bytes: 8 << 20,
            max_pending_messages: 65_536,
            max_unwritten_bytes: 8 << 20,
            max_subscriptions: 65_536,
            max_requests: 16_384,
        }
    }
}

impl SessionConfig {
    /// The most servers that a config can name.
    pub const MAX_SERVERS: usize = 64;

    /// The defaults, for the server at `url`; several may stand there, separated by commas.
    pub fn for_server(url: &str) -> Result<Self, UrlError> {
        let servers: Result<_, _> = url.split(',').map(ServerUrl::parse).collect();
        Ok(Self { servers: servers?, ..Self::default() })
    }

    /// Checks every value, and the credentials as far as that can be done without a server.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.servers.is_empty() {
            let max = Self::MAX_SERVERS;
            return Err(InvalidConfig::NoServers { max });
        }
        let range = |field, ok: bool, value: String, allowed| match ok {
            true => Ok(()),
            false => Err(InvalidConfig::OutOfRange { field, value, allowed }),
        };
        let servers = self.servers.len();
        let few = servers <= Self::MAX_SERVERS;
        range("servers' length", few, servers.to_string(), "1 to 64")?;
        let name = self.name.as_ref().map_or(0, String::len);
        range("name's length", name <= 256, name.to_string(), "0 to 256 bytes")?;
        let day = Duration::from_secs(86_400);
        let millisecond = Duration::from_millis(1);
        for (field, value) in [
            ("connect_timeout", self.connect_timeout),
            ("ping_interval", self.ping_interval),
            ("reconnect.first", self.reconnect.first),
            ("reconnect.cap", self.reconnect.cap),
            ("reconnect.late_cap", self.reconnect.late_cap),
        ] {
            let ok = (millisecond..=day).contains(&value);
            range(field, ok, format!("{value:?}"), "1ms to 86400s")?;
        }
        let pings = self.max_pings_out;
        let ok = (1..=1000).contains(&pings);
        range("max_pings_out", ok, pings.to_string(), "1 to 1000")?;
        let zero = self.max_auth_failures == Some(0);
        range("max_auth_failures", !zero, "0".to_owned(), "1 or more, or none for never")?;
        self.auth.check().map_err(InvalidConfig::Auth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_name_the_local_server() {
        let config = SessionConfig::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.servers[0].to_string(), "ws://localhost:8080/");
    }

    #[test]
    fn several_servers_and_what_is_wrong_with_one() {
        let config = SessionConfig::for_server("ws://a:1, wss://b:2").expect("two");
        assert_eq!(config.servers.len(), 2);
        let error = SessionConfig::for_server("ws://a:1,nats://b").expect_err("one is wrong");
        assert!(error.to_string().contains("nats://"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named() {
        type Change = fn(&mut SessionConfig);
        let table: &[(Change, &str)] = &[
            (|c| c.servers.clear(), "servers"),
            (|c| c.servers = vec![c.servers[0].clone(); 65], "servers' length is 65"),
            (|c| c.connect_timeout = Duration::ZERO, "connect_timeout is 0ns"),
            (|c| c.ping_interval = Duration::MAX, "ping_interval"),
            (|c| c.max_pings_out = 0, "max_pings_out is 0"),
            (|c| c.reconnect.first = Duration::ZERO, "reconnect.first"),
            (|c| c.name = Some("x".repeat(257)), "name's length is 257"),
            (|c| c.max_auth_failures = Some(0), "max_auth_failures is 0"),
            (|c| c.auth = Auth::NKey("SUGEHEIM".into()), "the seed has 8 characters"),
            (|c| c.auth = Auth::Credentials("".into()), "BEGIN NATS USER JWT"),
        ];
        for (change, expected) in table {
            let mut config = SessionConfig::default();
            change(&mut config);
            let error = config.validate().expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let mut config = SessionConfig::for_server("ws://me:geheim@h").expect("a URL");
        config.auth = Auth::Token("geheim".into());
        assert!(!format!("{config:?}").contains("geheim"));
    }
}
