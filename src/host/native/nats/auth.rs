//! Who one is to the server: from the URL, from the config, or from a file that is read anew for each
//! connection.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::config::{AuthFile, NatsConfig};
use super::error::NatsError;
use crate::nats::{Auth, Certificates, Signed};

/// The credentials of a connection.
#[derive(Debug)]
pub(super) struct Credentials {
    file: Option<AuthFile>,
    /// Those of the config, or those that the file had when it could be read last.
    last: Mutex<Auth>,
}

impl Credentials {
    /// Reads the file, if there is one: one that cannot be used at the start is a mistake of the
    /// config.
    pub(super) async fn of(config: &NatsConfig) -> Result<Self, NatsError> {
        let file = config.auth_file.clone();
        let auth = match &file {
            Some(file) => read(file.clone()).await?,
            None => config.auth.clone(),
        };
        Ok(Self { file, last: Mutex::new(auth) })
    }

    /// What is shown to a server that has drawn `nonce`. A file that cannot be used just now, since
    /// it is being written or was damaged, is reason to go on with what it had before.
    pub(super) async fn answer(
        &self,
        in_url: Auth,
        nonce: Vec<u8>,
    ) -> Result<async_nats::Auth, async_nats::AuthError> {
        let auth = match (in_url, &self.file) {
            (Auth::None, Some(file)) => {
                let now = read(file.clone()).await;
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(auth) = now {
                    *last = auth;
                }
                last.clone()
            }
            (Auth::None, None) => self.last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            (in_url, _) => in_url,
        };
        let nonce = std::str::from_utf8(&nonce).ok();
        let signed = Signed::of(&auth, nonce).map_err(async_nats::AuthError::new)?;
        let mut answer = async_nats::Auth::new();
        match &auth {
            Auth::Token(token) => answer.token = Some(token.expose().to_owned()),
            Auth::UserPassword { user, password } => {
                answer.username = Some(user.clone());
                answer.password = Some(password.expose().to_owned());
            }
            Auth::None | Auth::NKey(_) | Auth::Credentials(_) | Auth::Jwt { .. } => {}
        }
        if let Some(signed) = signed {
            answer.nkey = signed.nkey;
            answer.jwt = signed.jwt.map(str::to_owned);
            answer.signature = Some(signed.signature.to_vec());
        }
        Ok(answer)
    }
}

/// Whether the CAs can be read: async-nats takes a file without any for one that trusts nobody.
pub(super) async fn check_ca(config: &NatsConfig) -> Result<(), NatsError> {
    let Some(path) = config.ca_file.clone() else { return Ok(()) };
    let unusable = |reason: String| NatsError::File {
        what: "the CA certificates in",
        path: path.display().to_string(),
        reason,
    };
    let bytes = bounded(path.clone(), Certificates::MAX_LEN).await.map_err(unusable)?;
    let pem = String::from_utf8(bytes).map_err(|_| unusable("it is no text: PEM is".to_owned()))?;
    Certificates::parse(&pem).map(drop).map_err(|error| unusable(error.to_string()))
}

async fn read(file: AuthFile) -> Result<Auth, NatsError> {
    let (what, path) = match &file {
        AuthFile::NKey(path) => ("the NKey seed in", path.clone()),
        AuthFile::Credentials(path) => ("the credentials in", path.clone()),
    };
    let unusable =
        |reason: String| NatsError::File { what, path: path.display().to_string(), reason };
    let bytes = bounded(path.clone(), Auth::MAX_CREDENTIALS_LEN).await.map_err(unusable)?;
    let auth = match file {
        AuthFile::Credentials(_) => Auth::from_creds(&bytes).map_err(|error| error.to_string()),
        AuthFile::NKey(_) => match std::str::from_utf8(&bytes) {
            Ok(seed) => Auth::from_seed(seed).map_err(|error| error.to_string()),
            Err(_) => Err("it is no text: a seed is".to_owned()),
        },
    };
    auth.map_err(unusable)
}

/// A file's content, if it is not longer than that.
async fn bounded(path: impl AsRef<Path> + Send + 'static, max: usize) -> Result<Vec<u8>, String> {
    let read = move || {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        match bytes.len() > max {
            true => Err(format!("it is longer than {max} bytes")),
            false => Ok(bytes),
        }
    };
    let reading = tokio::task::spawn_blocking(read);
    reading.await.map_err(|_| "reading it was interrupted".to_owned())?
}
