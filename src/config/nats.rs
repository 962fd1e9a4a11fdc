//! Where NATS is, what is shown to it, and how the connection behaves.

use std::fmt;
use std::time::Duration;

use super::{InvalidSetting, Origin, Origins};
use crate::secret::Secret;

/// What the flags say about NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsFlag {
    /// `--no-nats`.
    Off,
    /// `--nats URL`.
    At(NatsUrls),
}

/// What a node shows to NATS. What stands in a URL is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NatsAuth {
    /// Nothing.
    #[default]
    Anonymous,
    /// `NATS_TOKEN`.
    Token(Secret),
    /// `NATS_USER` and `NATS_PASSWORD`.
    User {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// How the connection to NATS behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsOptions {
    /// The time for one attempt to connect. Default: 5 s.
    pub connect_timeout: Duration,
    /// The time between two PINGs to the server. Default: 2 min.
    pub ping_interval: Duration,
    /// How many PINGs may be unanswered before the connection counts as dead, 1 to 1000.
    /// Default: 2.
    pub max_pings_out: u32,
    /// The delay before the second attempt of an outage; it doubles with each. Default: 50 ms.
    pub reconnect_first: Duration,
    /// The longest delay in the first 30 s of an outage. Default: 500 ms.
    pub reconnect_cap: Duration,
    /// The longest delay after that. Default: 4 s.
    pub reconnect_late_cap: Duration,
    /// Whether the order of several servers is random. Default: true.
    pub shuffle_servers: bool,
    /// Whether servers that the server tells of are tried too. Default: true.
    pub use_advertised: bool,
    /// How many bytes may wait for a connection; 0 refuses at once. Default, and worst case in
    /// memory: 8 MiB.
    pub max_pending_bytes: usize,
    /// How many messages may wait for a connection; 0 refuses at once. Default: 65,536.
    pub max_pending_messages: u64,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(120),
            max_pings_out: 2,
            reconnect_first: Duration::from_millis(50),
            reconnect_cap: Duration::from_millis(500),
            reconnect_late_cap: Duration::from_secs(4),
            shuffle_servers: true,
            use_advertised: true,
            max_pending_bytes: 8 << 20,
            max_pending_messages: 65_536,
        }
    }
}

/// The URLs of NATS servers as they were given, separated by commas. As a user name and a password
/// can stand in them, `Debug` and `Display` leave those out.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrls(String);

impl NatsUrls {
    /// The URLs in `urls`; none if it is empty or blank.
    pub fn new(urls: impl Into<String>) -> Option<Self> {
        let urls = urls.into();
        (!urls.trim().is_empty()).then_some(Self(urls))
    }

    /// As they were given, with what is secret in them: for the one place that parses them.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this build's client can connect there; the error shows no credentials.
    #[cfg(feature = "wasm-nats")]
    pub(super) fn check(&self) -> Result<(), String> {
        crate::nats::SessionConfig::for_server(&self.0)
            .map_err(|error| error.to_string())
            .and_then(|session| session.validate().map_err(|error| error.to_string()))
    }

    /// A build without a client does not look at them.
    #[cfg(not(feature = "wasm-nats"))]
    pub(super) fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl fmt::Display for NatsUrls {
    /// Leaves out whatever could be part of a password, which in a list is all up to the last one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((before, host)) = self.0.rsplit_once('@') else {
            return f.write_str(&self.0);
        };
        match before.split_once("://") {
            Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_lowercase()) => {
                write!(f, "{scheme}://***@{host}")
            }
            _ => write!(f, "***@{host}"),
        }
    }
}

impl fmt::Debug for NatsUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

/// What one source, or several together, say about credentials.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    pub(super) token: Option<(Secret, Origin)>,
    pub(super) user: Option<(String, Origin)>,
    pub(super) password: Option<(Secret, Origin)>,
}

impl Credentials {
    /// These, and what they leave open from a source that they stand over. So a password in the
    /// environment goes with a user in the file; a token replaces both, and they a token.
    pub(super) fn over(self, lower: Self) -> Self {
        match (&self.token, self.user.is_some() || self.password.is_some()) {
            (Some(_), _) => self,
            (None, true) => Self {
                token: None,
                user: self.user.or(lower.user),
                password: self.password.or(lower.password),
            },
            (None, false) => lower,
        }
    }

    /// What the environment says.
    pub(super) fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name| {
            let value = env(name).filter(|value| !value.is_empty());
            value.map(|value| (value, Origin::Variable(name)))
        };
        let secret = |name| set(name).map(|(value, origin)| (Secret::new(value), origin));
        Self {
            token: secret("NATS_TOKEN"),
            user: set("NATS_USER"),
            password: secret("NATS_PASSWORD"),
        }
    }

    pub(super) fn tell_origins(self, origins: &mut Origins) {
        let token = self.token.map(|(_, origin)| ("nats.token", origin));
        let user = self.user.map(|(_, origin)| ("nats.user", origin));
        let password = self.password.map(|(_, origin)| ("nats.password", origin));
        origins.extend([token, user, password].into_iter().flatten());
    }

    pub(super) fn auth(&self) -> Result<NatsAuth, InvalidSetting> {
        let both = |one: &Origin, other: &Origin, key| {
            let (one, other) = (one.name_of("nats.token"), other.name_of(key));
            Err(InvalidSetting::Both { one, other })
        };
        let without = |one: &Origin, key, other: &str| {
            let (one, missing) = (one.name_of(key), one.sibling(other));
            Err(InvalidSetting::Without { one, missing })
        };
        match (&self.token, &self.user, &self.password) {
            (None, None, None) => Ok(NatsAuth::Anonymous),
            (Some((token, _)), None, None) => Ok(NatsAuth::Token(token.clone())),
            (Some((_, token)), Some((_, user)), _) => both(token, user, "nats.user"),
            (Some((_, token)), None, Some((_, password))) => both(token, password, "nats.password"),
            (None, Some((user, _)), Some((password, _))) => {
                Ok(NatsAuth::User { user: user.clone(), password: password.clone() })
            }
            (None, Some((_, user)), None) => without(user, "nats.user", "password"),
            (None, None, Some((_, password))) => without(password, "nats.password", "user"),
        }
    }
}

#[cfg(all(test, feature = "wasm-nats"))]
mod tests {
    use super::*;
    use crate::nats::SessionConfig;

    #[test]
    fn the_defaults_are_those_of_the_session() {
        let SessionConfig {
            connect_timeout,
            ping_interval,
            max_pings_out,
            reconnect,
            shuffle_servers,
            use_advertised,
            max_pending_bytes,
            max_pending_messages,
            ..
        } = SessionConfig::default();
        let of_session = NatsOptions {
            connect_timeout,
            ping_interval,
            max_pings_out,
            reconnect_first: reconnect.first,
            reconnect_cap: reconnect.cap,
            reconnect_late_cap: reconnect.late_cap,
            shuffle_servers,
            use_advertised,
            max_pending_bytes,
            max_pending_messages,
        };
        assert_eq!(NatsOptions::default(), of_session);
    }
}
