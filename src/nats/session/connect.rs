//! The client's half of the handshake.

use serde::Serialize;

use crate::nats::config::{Auth, SessionConfig};
use crate::nats::url::ServerUrl;

/// The body of a `CONNECT`.
#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
    protocol: u8,
    lang: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
}

/// `CONNECT` and the `PING` whose answer says that it was taken. The credentials of the server's URL
/// come before those of the config.
pub(super) fn encode_connect(config: &SessionConfig, server: &ServerUrl) -> Vec<u8> {
    let auth = match server.auth() {
        Auth::None => &config.auth,
        auth => auth,
    };
    let (auth_token, user, pass) = match auth {
        Auth::None => (None, None, None),
        Auth::Token(token) => (Some(token.expose()), None, None),
        Auth::UserPassword { user, password } => {
            (None, Some(user.as_str()), Some(password.expose()))
        }
    };
    let connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required: server.is_tls(),
        echo: config.echo,
        headers: true,
        no_responders: true,
        protocol: 1,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        name: config.name.as_deref(),
        auth_token,
        user,
        pass,
    };
    let mut out = b"CONNECT ".to_vec();
    // JSON of text and booleans into memory: there is nothing that could fail, and if it did, the
    // server would refuse what stands here then.
    if serde_json::to_writer(&mut out, &connect).is_err() {
        out.extend_from_slice(b"{}");
    }
    out.extend_from_slice(b"\r\nPING\r\n");
    out
}
