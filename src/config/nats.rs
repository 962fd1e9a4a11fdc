//! Where NATS is, what is shown to it, and how the connection behaves.

use std::fmt;
use std::path::PathBuf;
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
    /// `NATS_NKEY`: the file with a user's seed, which is read anew for each connection.
    NKey(PathBuf),
    /// `NATS_CREDS`: the file with a user's JWT and seed, which is read anew for each connection.
    Credentials(PathBuf),
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

    /// Whether our own client can connect there.
    #[cfg(feature = "nats-core")]
    fn check_websocket(&self) -> Result<(), String> {
        crate::nats::SessionConfig::for_server(&self.0)
            .map_err(|error| error.to_string())
            .and_then(|session| session.validate().map_err(|error| error.to_string()))
    }

    /// A build without a client does not look at them.
    #[cfg(not(feature = "nats-core"))]
    fn check_websocket(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What a host's NATS client is like: where it looks by default, which variables say otherwise, and
/// which URLs it takes.
#[derive(Clone, Copy, Debug)]
pub struct NatsClient {
    /// Where NATS is looked for by default.
    pub default_url: &'static str,
    /// The variables with a URL; the first one that is set counts. The first of them may be set to
    /// nothing, which means no NATS.
    pub variables: [&'static str; 2],
    /// Whether it can connect there; the error shows no credentials.
    pub check: fn(&NatsUrls) -> Result<(), String>,
}

impl NatsClient {
    /// Where our own client looks by default.
    pub const WEBSOCKET_URL: &'static str = "ws://localhost:8080";

    /// Where a client over TCP looks by default.
    pub const TCP_URL: &'static str = "nats://localhost:4222";

    /// Our own, over WebSocket: on Lunatic, and in a browser.
    pub const WEBSOCKET: Self = Self {
        default_url: Self::WEBSOCKET_URL,
        variables: ["NATS_WEBSOCKET_URL", "NATS_URL"],
        check: NatsUrls::check_websocket,
    };

    /// One over TCP, whose URLs `check` knows.
    pub const fn tcp(check: fn(&NatsUrls) -> Result<(), String>) -> Self {
        let variables = ["NATS_URL", "NATS_WEBSOCKET_URL"];
        Self { default_url: Self::TCP_URL, variables, check }
    }
}

impl fmt::Display for NatsUrls {
    /// Leaves out whatever could be part of a password, which in a list is all up to the last one;
    /// and queries, since proxies take tokens there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = match self.0.rsplit_once('@') {
            None => &self.0,
            // The `@` may be a query's, and then a part of that would follow.
            Some((before, _)) if before.contains('?') => return f.write_str("***"),
            Some((before, rest)) => {
                let scheme = before.split_once("://").map(|(scheme, _)| scheme);
                let is_plain = |scheme: &&str| scheme.bytes().all(|b| b.is_ascii_lowercase());
                if let Some(scheme) = scheme.filter(is_plain) {
                    write!(f, "{scheme}://")?;
                }
                f.write_str("***@")?;
                rest
            }
        };
        for (at, url) in rest.split(',').enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            match url.split_once('?') {
                Some((url, _)) => write!(f, "{url}?…")?,
                None => f.write_str(url)?,
            }
        }
        Ok(())
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
    pub(super) nkey: Option<(PathBuf, Origin)>,
    pub(super) creds: Option<(PathBuf, Origin)>,
}

impl Credentials {
    /// These, and what they leave open from a source that they stand over. So a password in the
    /// environment goes with a user in the file; each other kind replaces all that the source below
    /// has, and so do a user or a password.
    pub(super) fn over(self, lower: Self) -> Self {
        let is_whole = self.token.is_some() || self.nkey.is_some() || self.creds.is_some();
        match (is_whole, self.user.is_some() || self.password.is_some()) {
            (true, _) => self,
            (false, true) => Self {
                user: self.user.or(lower.user),
                password: self.password.or(lower.password),
                ..Self::default()
            },
            (false, false) => lower,
        }
    }

    /// What the environment says.
    pub(super) fn from_env(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, InvalidSetting> {
        let set = |name| {
            let value = env(name).filter(|value| !value.is_empty());
            value.map(|value| (value, Origin::Variable(name)))
        };
        let secret = |name| set(name).map(|(value, origin)| (Secret::new(value), origin));
        let path = |name| {
            let path = |(value, origin)| Ok((credentials_path(name, value)?, origin));
            set(name).map(path).transpose()
        };
        Ok(Self {
            token: secret("NATS_TOKEN"),
            user: set("NATS_USER"),
            password: secret("NATS_PASSWORD"),
            nkey: path("NATS_NKEY")?,
            creds: path("NATS_CREDS")?,
        })
    }

    /// Those that there are, by their keys.
    fn said(&self) -> Vec<(&'static str, &Origin)> {
        let token = self.token.as_ref().map(|(_, origin)| ("nats.token", origin));
        let user = self.user.as_ref().map(|(_, origin)| ("nats.user", origin));
        let password = self.password.as_ref().map(|(_, origin)| ("nats.password", origin));
        let nkey = self.nkey.as_ref().map(|(_, origin)| ("nats.nkey", origin));
        let creds = self.creds.as_ref().map(|(_, origin)| ("nats.creds", origin));
        [token, user, password, nkey, creds].into_iter().flatten().collect()
    }

    pub(super) fn tell_origins(&self, origins: &mut Origins) {
        origins.extend(self.said().into_iter().map(|(key, origin)| (key, origin.clone())));
    }

    pub(super) fn auth(&self) -> Result<NatsAuth, InvalidSetting> {
        let said = self.said();
        if let [(one, from), (other, and_from), ..] = said[..] {
            if (one, other) != ("nats.user", "nats.password") || said.len() > 2 {
                // Of three it is the last that does not go with user and password.
                let (other, and_from) = said.get(2).copied().unwrap_or((other, and_from));
                let (one, other) = (from.name_of(one), and_from.name_of(other));
                return Err(InvalidSetting::Both { one, other });
            }
        }
        let without = |one: &Origin, key, other: &str| {
            let (one, missing) = (one.name_of(key), one.sibling(other));
            Err(InvalidSetting::Without { one, missing })
        };
        match (&self.user, &self.password) {
            (Some((user, _)), Some((password, _))) => {
                Ok(NatsAuth::User { user: user.clone(), password: password.clone() })
            }
            (Some((_, user)), None) => without(user, "nats.user", "password"),
            (None, Some((_, password))) => without(password, "nats.password", "user"),
            (None, None) => Ok(match (&self.token, &self.nkey, &self.creds) {
                (Some((token, _)), ..) => NatsAuth::Token(token.clone()),
                (_, Some((path, _)), _) => NatsAuth::NKey(path.clone()),
                (.., Some((path, _))) => NatsAuth::Credentials(path.clone()),
                (None, None, None) => NatsAuth::Anonymous,
            }),
        }
    }
}

/// A path, and not what would stand in the file: that is a secret, and is not shown.
pub(super) fn credentials_path(name: &str, text: String) -> Result<PathBuf, InvalidSetting> {
    let is_seed = text.starts_with("SU") && text.len() == 58;
    match is_seed || text.contains("-----BEGIN") || text.contains(['\n', '\0']) {
        true => Err(InvalidSetting::refused(
            name,
            "it must be the path of a file, and not what stands in it",
        )),
        false => Ok(text.into()),
    }
}

/// Headers of the upgrade request, which the host's client sends.
#[cfg(feature = "nats-core")]
pub(super) fn check_headers(headers: &[(String, Secret)]) -> Result<(), String> {
    let checked = crate::nats::UpgradeHeaders::new(headers.to_vec());
    checked.map(drop).map_err(|error| error.to_string())
}

/// A build without a client sends none.
#[cfg(not(feature = "nats-core"))]
pub(super) fn check_headers(_: &[(String, Secret)]) -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, feature = "nats-core"))]
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
