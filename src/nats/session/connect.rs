//! The client's half of the handshake.

use serde::Serialize;

use crate::nats::auth::{AuthError, Proof};
use crate::nats::config::{Auth, SessionConfig};
use crate::nats::server_info::ServerInfo;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<&'a str>,
}

/// Who we are to this server: the credentials of its URL come before those of the config.
pub(super) fn auth_for<'a>(config: &'a SessionConfig, server: &'a ServerUrl) -> &'a Auth {
    match server.auth() {
        Auth::None => &config.auth,
        auth => auth,
    }
}

/// `CONNECT` and the `PING` whose answer says that it was taken. Fails if the credentials cannot
/// answer what the server's INFO asks.
pub(super) fn encode_connect(
    config: &SessionConfig,
    server: &ServerUrl,
    info: &ServerInfo,
) -> Result<Vec<u8>, AuthError> {
    let auth = auth_for(config, server);
    let (auth_token, user, pass) = match auth {
        Auth::Token(token) => (Some(token.expose()), None, None),
        Auth::UserPassword { user, password } => {
            (None, Some(user.as_str()), Some(password.expose()))
        }
        Auth::None | Auth::NKey(_) | Auth::Credentials(_) | Auth::Jwt { .. } => (None, None, None),
    };
    let proof = Proof::of(auth, info.nonce.as_deref())?;
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
        jwt: proof.jwt,
        nkey: proof.nkey.as_deref(),
        sig: proof.sig.as_deref(),
    };
    let mut out = b"CONNECT ".to_vec();
    // JSON of text and booleans into memory: there is nothing that could fail, and if it did, the
    // server would refuse what stands here then.
    if serde_json::to_writer(&mut out, &connect).is_err() {
        out.extend_from_slice(b"{}");
    }
    out.extend_from_slice(b"\r\nPING\r\n");
    Ok(out)
}
