//! Dialling: from a server's URL to a WebSocket, within one deadline for all of it. It happens in a
//! process of its own, since a failed TLS handshake traps who makes it.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock;
use super::files;
use super::stream::{self, Stream};
use crate::config::{NatsAuth, NodeConfig};
use crate::nats::{Auth, Certificates, Handshake, ServerUrl, UpgradeHeaders};
use crate::time::Instant;

/// What a dial has to know beside the server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct DialOptions {
    /// Headers of the upgrade request.
    pub(super) headers: UpgradeHeaders,
    /// Whose certificates are believed.
    pub(super) roots: Roots,
    /// Where credentials are, which are read anew for each connection.
    pub(super) auth: Option<AuthFile>,
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) enum Roots {
    /// Those that browsers know.
    #[default]
    Web,
    Given(Certificates),
    /// In a PEM file, which is read anew for each connection.
    File(String),
}

/// A file with credentials.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum AuthFile {
    /// The seed of a user's NKey.
    NKey(String),
    /// A user's JWT and seed.
    Credentials(String),
}

impl DialOptions {
    /// What a node's config says.
    pub(super) fn of_node(config: &NodeConfig) -> Result<Self, String> {
        let headers = UpgradeHeaders::new(config.nats_headers.clone());
        let ca = config.nats_ca.as_deref().map(text).transpose()?;
        Ok(Self {
            headers: headers.map_err(|error| error.to_string())?,
            roots: ca.map_or(Roots::Web, Roots::File),
            auth: match &config.nats_auth {
                NatsAuth::NKey(path) => Some(AuthFile::NKey(text(path)?)),
                NatsAuth::Credentials(path) => Some(AuthFile::Credentials(text(path)?)),
                _ => None,
            },
        })
    }

    /// Whether a dial reads files, and so has to start processes that may.
    pub(super) fn has_files(&self) -> bool {
        self.auth.is_some() || matches!(self.roots, Roots::File(_))
    }
}

fn text(path: &Path) -> Result<String, String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| format!("the path {} is not UTF-8", path.display()))
}

/// Connects and upgrades; with the credentials that were read, if they are in a file. What the server
/// said behind its answer is read first from the stream.
pub(super) fn dial(
    url: &ServerUrl,
    options: &DialOptions,
    timeout: Duration,
) -> Result<(Stream, Option<Auth>), String> {
    let deadline = clock::now() + timeout;
    let auth = options.auth.as_ref().map(|file| read_auth(file, deadline)).transpose()?;
    let authority = url.authority();
    let connected = match url.is_tls() {
        true => connect_tls(url, &options.roots, deadline),
        false => connect(&authority, deadline),
    };
    let mut stream =
        connected.map_err(|reason| format!("cannot connect to {authority}: {reason}"))?;
    upgrade(&mut stream, url, &options.headers, deadline)
        .map_err(|reason| format!("the WebSocket handshake with {authority}: {reason}"))?;
    Ok((stream, auth))
}

/// What it means if a process that dials such a server dies without a word. Of a TLS handshake the
/// runtime tells nobody why it failed, not even its log: what it cannot tell another tool can.
pub(super) fn cause_of_death(url: &ServerUrl) -> String {
    let (authority, name) = (url.authority(), url.tls_name());
    match url.is_tls() {
        false => "the process that dialled died".to_owned(),
        true => format!(
            "the TLS handshake with {authority} failed: its certificate is from a CA that is not \
             trusted here, or not for the name {name}, or has expired, or no TLS is spoken there; \
             to see which: openssl s_client -connect {authority} -verify_hostname {name}"
        ),
    }
}

/// Tries each address of the name, in a random order, until one takes it.
fn connect(authority: &str, deadline: Instant) -> Result<Stream, String> {
    let addresses =
        stream::resolve(authority, left(deadline)).map_err(|error| error.to_string())?;
    let addresses = shuffled(addresses);
    let mut refused = "its name has no address".to_owned();
    for (at, &address) in addresses.iter().enumerate() {
        // One that does not answer leaves time for the others.
        let share = left(deadline) / (addresses.len() - at) as u32;
        match Stream::connect(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = format!("{address}: {error}"),
        }
        if deadline <= clock::now() {
            break;
        }
    }
    Err(refused)
}

/// Fisher and Yates; by the system's randomness, of which an address takes four bytes.
fn shuffled(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    for last in (1..addresses.len()).rev() {
        let other = u32::from_le_bytes(clock::random()) as usize % (last + 1);
        addresses.swap(last, other);
    }
    addresses
}

fn connect_tls(url: &ServerUrl, roots: &Roots, deadline: Instant) -> Result<Stream, String> {
    let name = url.tls_name();
    if name.parse::<IpAddr>().is_ok() {
        // Its handshake would fail, whatever the certificate says.
        return Err("the runtime cannot check a certificate for an address; write a name that \
            stands in the server's"
            .to_owned());
    }
    let read;
    let roots = match roots {
        Roots::Web => None,
        Roots::Given(certificates) => Some(certificates),
        Roots::File(path) => {
            read = read_certificates(path, deadline)?;
            Some(&read)
        }
    };
    let stream = Stream::connect_tls(name, url.port(), roots, left(deadline));
    stream.map_err(|error| error.to_string())
}

fn upgrade(
    stream: &mut Stream,
    url: &ServerUrl,
    headers: &UpgradeHeaders,
    deadline: Instant,
) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    stream.set_write_timeout(Some(left(deadline)));
    let mut handshake = Handshake::new(url, headers, clock::random());
    stream.write_all(handshake.request()).map_err(text)?;
    stream.flush().map_err(text)?;
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left(deadline)));
        let read = match stream.read(&mut buffer).map_err(text)? {
            0 => return Err("the server closed the connection".to_owned()),
            read => &buffer[..read],
        };
        if let Some(head) = handshake.feed(read).map_err(|error| error.to_string())? {
            stream.unread(&read[head..]);
            stream.set_read_timeout(None);
            return Ok(());
        }
    }
}

fn read_certificates(path: &str, deadline: Instant) -> Result<Certificates, String> {
    let wrong = |reason: String| format!("the CA's file {path}: {reason}");
    let bytes = files::read(path, Certificates::MAX_LEN, left(deadline)).map_err(wrong)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not text".to_owned()))?;
    Certificates::parse(&text).map_err(|error| wrong(error.to_string()))
}

fn read_auth(file: &AuthFile, deadline: Instant) -> Result<Auth, String> {
    let (path, what) = match file {
        AuthFile::NKey(path) => (path, "the NKey's file"),
        AuthFile::Credentials(path) => (path, "the credentials file"),
    };
    let wrong = |reason: String| format!("{what} {path}: {reason}");
    let bytes = files::read(path, Auth::MAX_CREDENTIALS_LEN, left(deadline)).map_err(wrong)?;
    let auth = match file {
        AuthFile::NKey(_) => Auth::from_seed(&String::from_utf8_lossy(&bytes)),
        AuthFile::Credentials(_) => Auth::from_creds(&bytes),
    };
    auth.map_err(|error| wrong(error.to_string()))
}

/// At least a millisecond: what is late fails by itself.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_since(clock::now()).max(Duration::from_millis(1))
}
