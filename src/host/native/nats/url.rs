//! Where servers are: `nats://` and `tls://`, and `ws://` and `wss://`.

use async_nats::ServerAddr;

use super::error::UrlError;
use crate::config::NatsUrls;
use crate::nats::url::{parse_authority, parse_userinfo, redacted};
use crate::nats::{Auth, ServerUrl, SessionConfig};

/// A server as async-nats is told of it: without credentials, which it neither takes from a URL nor
/// would keep out of its log.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) addr: ServerAddr,
    /// Those that stood in its URL.
    pub(super) auth: Auth,
}

/// Reads a list with commas.
pub(super) fn parse_list(urls: &str) -> Result<Vec<Server>, UrlError> {
    let servers: Vec<_> = urls.split(',').map(parse).collect::<Result<_, _>>()?;
    match servers.len() {
        1..=SessionConfig::MAX_SERVERS => Ok(servers),
        servers => Err(UrlError::Count { servers, max: SessionConfig::MAX_SERVERS }),
    }
}

/// Whether this client can connect there: for the config; the error shows no credentials.
pub(super) fn check(urls: &NatsUrls) -> Result<(), String> {
    parse_list(urls.expose()).map(drop).map_err(|error| error.to_string())
}

/// As it is shown: without a query, since proxies take tokens there.
pub(super) fn shown(addr: &ServerAddr) -> String {
    match addr.as_url_str().split_once('?') {
        Some((url, _)) => format!("{url}?…"),
        None => addr.as_url_str().to_owned(),
    }
}

fn parse(url: &str) -> Result<Server, UrlError> {
    let url = url.trim();
    if url.len() > ServerUrl::MAX_LEN {
        return Err(crate::nats::UrlError::TooLong { len: url.len() }.into());
    }
    let refused = || redacted(url);
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| UrlError::NoScheme { url: refused() })?;
    let (written, auth) = match scheme.to_ascii_lowercase().as_str() {
        scheme @ ("ws" | "wss") => {
            let server = ServerUrl::parse(url)?;
            let (authority, target) = (server.authority(), server.request_target());
            (format!("{scheme}://{authority}{target}"), server.auth().clone())
        }
        scheme @ ("nats" | "tls") => {
            let (authority, target) = match rest.find(['/', '?', '#']) {
                Some(at) => rest.split_at(at),
                None => (rest, ""),
            };
            if !matches!(target, "" | "/") {
                return Err(UrlError::Path { url: refused() });
            }
            let (auth, authority) = match authority.rsplit_once('@') {
                Some((userinfo, authority)) => {
                    let wrong = || crate::nats::UrlError::Credentials { url: refused() };
                    (parse_userinfo(userinfo).ok_or_else(wrong)?, authority)
                }
                None => (Auth::None, authority),
            };
            let (host, port) = parse_authority(authority, refused)?;
            let port = port.unwrap_or(4222);
            let host = if host.contains(':') { format!("[{host}]") } else { host };
            (format!("{scheme}://{host}:{port}"), auth)
        }
        other => {
            let scheme = other.chars().take(20).collect();
            return Err(UrlError::Scheme { scheme, url: refused() });
        }
    };
    let unusable = |_| UrlError::Other(crate::nats::UrlError::Host { url: refused() });
    Ok(Server { addr: written.parse().map_err(unusable)?, auth })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_with_its_port_and_its_credentials() {
        let user = |user: &str, password: &str| Auth::UserPassword {
            user: user.into(),
            password: password.into(),
        };
        for (url, written, host, port, auth) in [
            ("nats://h", "nats://h:4222", "h", 4222, Auth::None),
            ("NATS://h:1/", "nats://h:1", "h", 1, Auth::None),
            ("tls://me:p%40ss@h", "tls://h:4222", "h", 4222, user("me", "p@ss")),
            ("nats://t0ken@[::1]:5", "nats://[::1]:5", "::1", 5, Auth::Token("t0ken".into())),
            ("ws://h", "ws://h/", "h", 80, Auth::None),
            ("wss://me:x@h/p?q=1", "wss://h/p?q=1", "h", 443, user("me", "x")),
        ] {
            let server = parse(url).expect(url);
            assert_eq!(server.addr.as_url_str(), written, "{url}");
            assert_eq!((server.addr.host(), server.addr.port()), (host, port), "{url}");
            assert_eq!(server.auth, auth, "{url}");
        }
        assert_eq!(shown(&parse("ws://h:1/p?token=geheim").expect("a URL").addr), "ws://h:1/p?…");
    }

    #[test]
    fn what_is_refused_is_told_without_a_password() {
        for (url, expected) in [
            ("", "has no scheme"),
            ("me:geheim@localhost:4222", "has no scheme"),
            ("http://me:geheim@h", "http:// is none of nats://"),
            ("nats://me:geheim@", "the host in"),
            ("nats://me:geheim@h:0", "the port in"),
            ("nats://me:geheim@h/path", "has a path or a query"),
            ("tls://h?a=geheim", "has a path or a query"),
            ("nats://:geheim@h", "the credentials in"),
            ("nats://h,", "has no scheme"),
        ] {
            let error = parse_list(url).expect_err(url);
            let said = format!("{error} {error:?}");
            assert!(said.contains(expected) && !said.contains("geheim"), "{url}: {said}");
        }
        let error = parse_list(&vec!["nats://h"; 65].join(",")).expect_err("too many");
        assert_eq!(error.to_string(), "there are 65 servers, and must be 1 to 64");
    }
}
