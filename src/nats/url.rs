//! Where a server is: `ws://` and `wss://` URLs.

use std::fmt;
use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::config::Auth;
use super::error::UrlError;
use crate::error::shown;
use crate::secret::Secret;

/// A server's address: `ws://host[:port][/path][?query]` or `wss://…`, with the credentials that
/// stood in it (`user:password@` or `token@`, percent-encoded).
///
/// Shown without credentials, and with `?…` for a query, since proxies take tokens there. What goes
/// to the wire is asked for by name: [`ServerUrl::request_target`], [`ServerUrl::auth`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerUrl {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    query: Option<Secret>,
    auth: Auth,
    /// The name in the certificate, where it is not the host: an advertised address belongs to the
    /// cluster whose name one was given.
    tls_name: Option<String>,
}

impl ServerUrl {
    /// The longest URL that is taken, in bytes.
    pub const MAX_LEN: usize = 4096;

    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let url = url.trim();
        if url.len() > Self::MAX_LEN {
            return Err(UrlError::TooLong { len: url.len() });
        }
        let refused = || redacted(url);
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| UrlError::NoScheme { url: refused() })?;
        let tls = parse_scheme(scheme, refused)?;
        let (authority, target) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (auth, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => {
                let auth = parse_userinfo(userinfo);
                let auth = auth.ok_or_else(|| UrlError::Credentials { url: refused() })?;
                (auth, authority)
            }
            None => (Auth::None, authority),
        };
        let (host, port) = parse_authority(authority, refused)?;
        if !target.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b'#') {
            return Err(UrlError::Path { url: refused() });
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(Secret::from(query))),
            None => (target, None),
        };
        Ok(Self {
            tls,
            host,
            port: port.unwrap_or(if tls { 443 } else { 80 }),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query,
            auth,
            tls_name: None,
        })
    }

    /// A server that another of the cluster advertised as `host:port`: reached as that other one
    /// is, and with the same credentials.
    pub(crate) fn advertised(&self, authority: &str) -> Option<Self> {
        let (host, port) = parse_authority(authority, String::new).ok()?;
        Some(Self { host, port: port?, tls_name: Some(self.tls_name().to_owned()), ..self.clone() })
    }

    /// Whether it is `wss://`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host's name or address; an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 80 or 443 if the URL had none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with brackets around an IPv6 address: what one resolves, and the `Host` header.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name that the server's certificate has to have.
    pub fn tls_name(&self) -> &str {
        self.tls_name.as_deref().unwrap_or(&self.host)
    }

    /// Path and query, as they stand in the first line of the upgrade request. A query may hold a
    /// token: not for logs.
    pub fn request_target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{}", self.path, query.expose()),
            None => self.path.clone(),
        }
    }

    /// The credentials that stood in the URL.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)?;
        f.write_str(if self.query.is_some() { "?…" } else { "" })
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Self::parse(url)
    }
}

/// Whether the scheme has TLS.
fn parse_scheme(scheme: &str, refused: impl Fn() -> String) -> Result<bool, UrlError> {
    match scheme.to_ascii_lowercase().as_str() {
        "ws" => Ok(false),
        "wss" => Ok(true),
        other => Err(UrlError::WrongScheme {
            scheme: other.chars().take(20).collect(),
            instead: match other {
                "tls" | "https" => "wss",
                _ => "ws",
            },
            url: refused(),
        }),
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
pub(crate) fn parse_authority(
    authority: &str,
    refused: impl Fn() -> String,
) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(|| UrlError::Host { url: refused() })?;
        let parsed: Result<Ipv6Addr, _> = host.parse();
        let host = parsed.map_err(|_| UrlError::Host { url: refused() })?;
        (host.to_string(), port)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        let is_host = (1..=253).contains(&host.len())
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if !is_host {
            return Err(UrlError::Host { url: refused() });
        }
        (host.to_owned(), port)
    };
    let wrong_port = || UrlError::Port { url: refused() };
    let port = match port {
        "" => None,
        port => {
            let digits = port.strip_prefix(':').ok_or_else(wrong_port)?;
            // `parse` takes a sign, and 0 is no port.
            let parsed = digits.parse::<u16>().ok().filter(|&port| port > 0);
            let plain = digits.bytes().all(|b| b.is_ascii_digit());
            Some(parsed.filter(|_| plain).ok_or_else(wrong_port)?)
        }
    };
    Ok((host, port))
}

/// `user:password`, or a token.
pub(crate) fn parse_userinfo(userinfo: &str) -> Option<Auth> {
    match userinfo.split_once(':') {
        Some((user, password)) if !user.is_empty() => Some(Auth::UserPassword {
            user: percent_decoded(user)?,
            password: Secret::from(percent_decoded(password)?),
        }),
        None if !userinfo.is_empty() => Some(Auth::Token(percent_decoded(userinfo)?.into())),
        _ => None,
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

/// `url` for an error: without anything before its last `@`, wherever that stands, since a password
/// that was not encoded can contain what ends an authority; and without its query.
pub(crate) fn redacted(url: &str) -> String {
    let (hidden, rest) = match url.rsplit_once('@') {
        // The `@` may be the query's, and then a part of a secret follows.
        Some((before, _)) if before.contains('?') => ("…@…", ""),
        Some((_, rest)) => ("…@", rest),
        None => ("", url),
    };
    match rest.split_once('?') {
        Some((rest, _)) => shown(&format!("{hidden}{rest}?…")),
        None => shown(&format!("{hidden}{rest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_taken() {
        // (URL, shown, target, authority)
        for (url, text, target, authority) in [
            ("ws://localhost", "ws://localhost:80/", "/", "localhost:80"),
            ("WSS://nats.example.com", "wss://nats.example.com:443/", "/", "nats.example.com:443"),
            ("ws://h:8080/ws", "ws://h:8080/ws", "/ws", "h:8080"),
            ("ws://h:8080?a=b", "ws://h:8080/?…", "/?a=b", "h:8080"),
            ("ws://h/p/q?a=b&c=/", "ws://h:80/p/q?…", "/p/q?a=b&c=/", "h:80"),
            ("wss://[::1]:8443/x", "wss://[::1]:8443/x", "/x", "[::1]:8443"),
            ("ws://[2001:db8::1]", "ws://[2001:db8::1]:80/", "/", "[2001:db8::1]:80"),
            (" ws://10.0.0.1:1 \n", "ws://10.0.0.1:1/", "/", "10.0.0.1:1"),
        ] {
            let parsed = ServerUrl::parse(url).expect(url);
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.request_target(), target);
            assert_eq!(parsed.authority(), authority);
            assert_eq!(parsed.auth(), &Auth::None);
        }
        assert_eq!(ServerUrl::parse("ws://[::1]:1").expect("v6").host(), "::1");
    }

    #[test]
    fn what_is_refused() {
        type Expected = fn(&UrlError) -> bool;
        let table: &[(&str, Expected)] = &[
            ("", |e| matches!(e, UrlError::NoScheme { .. })),
            ("localhost:8080", |e| matches!(e, UrlError::NoScheme { .. })),
            ("ws://", |e| matches!(e, UrlError::Host { .. })),
            ("ws://:80", |e| matches!(e, UrlError::Host { .. })),
            ("ws://a b", |e| matches!(e, UrlError::Host { .. })),
            ("ws://a\r\nX: y", |e| matches!(e, UrlError::Host { .. })),
            ("ws://[::1", |e| matches!(e, UrlError::Host { .. })),
            ("ws://[nonsense]", |e| matches!(e, UrlError::Host { .. })),
            ("ws://h:0", |e| matches!(e, UrlError::Port { .. })),
            ("ws://h:", |e| matches!(e, UrlError::Port { .. })),
            ("ws://h:+1", |e| matches!(e, UrlError::Port { .. })),
            ("ws://h:65536", |e| matches!(e, UrlError::Port { .. })),
            ("ws://::1", |e| matches!(e, UrlError::Host { .. })),
            ("ws://[::1]x", |e| matches!(e, UrlError::Port { .. })),
            ("ws://h/a b", |e| matches!(e, UrlError::Path { .. })),
            ("ws://h/a\r\nX: y", |e| matches!(e, UrlError::Path { .. })),
            ("ws://h/#x", |e| matches!(e, UrlError::Path { .. })),
            ("ws://@h", |e| matches!(e, UrlError::Credentials { .. })),
            ("ws://:p@h", |e| matches!(e, UrlError::Credentials { .. })),
            ("ws://a%2@h", |e| matches!(e, UrlError::Credentials { .. })),
            ("ws://a%zz@h", |e| matches!(e, UrlError::Credentials { .. })),
        ];
        for (url, expected) in table {
            let error = ServerUrl::parse(url).expect_err(url);
            assert!(expected(&error), "{url:?}: {error}");
        }
        let long = format!("ws://h/{}", "x".repeat(4096));
        assert!(matches!(ServerUrl::parse(&long), Err(UrlError::TooLong { .. })));
    }

    #[test]
    fn another_scheme_is_told_which_is_right() {
        for (url, instead) in [
            ("nats://localhost:4222", "write ws://"),
            ("tls://localhost:4222", "write wss://"),
            ("https://localhost", "write wss://"),
            ("gopher://localhost", "write ws://"),
        ] {
            let error = ServerUrl::parse(url).expect_err(url).to_string();
            assert!(error.contains(instead) && error.contains("localhost"), "{error}");
        }
    }

    #[test]
    fn credentials_are_taken_out_and_never_shown() {
        let url = ServerUrl::parse("ws://me:p%40ss%3A@h:1/x?jwt=geheim").expect("a URL");
        let expected = Auth::UserPassword { user: "me".into(), password: "p@ss:".into() };
        assert_eq!(url.auth(), &expected);
        let seen = format!("{url} {url:?} {:?}", url.auth());
        assert!(!seen.contains("p@ss") && !seen.contains("geheim"), "{seen}");
        let token = ServerUrl::parse("wss://t0ken@h").expect("a URL");
        assert_eq!(token.auth(), &Auth::Token("t0ken".into()));
        assert_eq!(token.to_string(), "wss://h:443/");
    }

    #[test]
    fn an_error_never_repeats_a_password() {
        for url in [
            "nats://me:geheim@h",
            "me:geheim@h",
            "ws://me:geheim@h:x",
            "ws://me:ge/geheim@h",
            "ws://me:geheim%@h",
            "ws://me:a@geheim@h#",
            "ws://h:x?token=geheim",
            "ws://h:x?a@b=geheim",
            "nats://me:ge?geheim@h",
        ] {
            let error = ServerUrl::parse(url).expect_err(url);
            let seen = format!("{error} {error:?}");
            assert!(!seen.contains("geheim"), "{seen}");
        }
    }

    #[test]
    fn an_advertised_server_is_reached_as_the_one_that_told_of_it() {
        let known = ServerUrl::parse("wss://t@nats.example.com/ws?q").expect("a URL");
        let found = known.advertised("10.0.0.7:8443").expect("an address");
        assert_eq!(found.to_string(), "wss://10.0.0.7:8443/ws?…");
        assert_eq!(found.tls_name(), "nats.example.com");
        assert_eq!(found.auth(), known.auth());
        for bad in ["10.0.0.7", "", "a b:1", "x/y:1", "u@h:1"] {
            assert!(known.advertised(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_url_or_an_error(text in "(ws|wss)://\\PC{0,30}|\\PC{0,30}") {
            if let Ok(url) = ServerUrl::parse(&text) {
                let target = url.request_target();
                prop_assert!(target.starts_with('/'));
                prop_assert!(target.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(!url.host().is_empty() && url.port() > 0);
            }
        }
    }
}
