//! Operators, accounts and users as `nsc` makes them: JWTs of version 2, signed with Ed25519.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// An operator with accounts.
#[derive(Debug)]
pub struct Operator {
    key: KeyPair,
    accounts: Vec<(String, String)>,
}

/// An account with users.
#[derive(Debug)]
pub struct Account {
    key: KeyPair,
}

/// A user: what a `.creds` file holds.
#[derive(Clone, Debug)]
pub struct User {
    /// The JWT.
    pub jwt: String,
    /// The seed of its key.
    pub seed: String,
}

impl Operator {
    /// One without accounts.
    #[allow(clippy::new_without_default)] // A default would be expected to be the same each time.
    pub fn new() -> Self {
        Self { key: KeyPair::new_operator(), accounts: Vec::new() }
    }

    /// One more account without limits.
    pub fn account(&mut self, name: &str) -> Account {
        let key = KeyPair::new_account();
        let claims = json!({
            "type": "account",
            "version": 2,
            "limits": {
                "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
                "wildcards": true, "conn": -1, "leaf": -1,
            },
            "default_permissions": { "pub": {}, "sub": {} },
        });
        let jwt = sign(&self.key, &key.public_key(), name, None, claims);
        self.accounts.push((key.public_key(), jwt));
        Account { key }
    }

    /// The lines of a server's configuration that make it trust this operator and know its accounts.
    pub fn server_lines(&self) -> String {
        let claims = json!({ "type": "operator", "version": 2 });
        let jwt = sign(&self.key, &self.key.public_key(), "operator", None, claims);
        let accounts = self.accounts.iter().map(|(key, jwt)| format!("  {key}: {jwt}\n"));
        let accounts: String = accounts.collect();
        format!("operator: {jwt}\nresolver: MEMORY\nresolver_preload: {{\n{accounts}}}")
    }
}

impl Account {
    /// One more user, with these permissions (`{"pub": {"allow": […]}, "sub": {…}}`), for ever or for
    /// so long.
    pub fn user(&self, name: &str, permissions: Value, lifetime: Option<Duration>) -> User {
        let key = KeyPair::new_user();
        let seed = key.seed().expect("it was just made");
        User { jwt: self.jwt_for(&key, name, permissions, lifetime), seed }
    }

    fn jwt_for(
        &self,
        user: &KeyPair,
        name: &str,
        permissions: Value,
        lifetime: Option<Duration>,
    ) -> String {
        let mut claims = json!({
            "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
            "pub": {}, "sub": {},
        });
        if let (Some(claims), Value::Object(permissions)) = (claims.as_object_mut(), permissions) {
            claims.extend(permissions);
        }
        sign(&self.key, &user.public_key(), name, lifetime, claims)
    }
}

impl User {
    /// The text of its `.creds` file.
    pub fn credentials(&self) -> String {
        let Self { jwt, seed } = self;
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }
}

fn sign(
    issuer: &KeyPair,
    subject: &str,
    name: &str,
    lifetime: Option<Duration>,
    claims: Value,
) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970");
    let mut payload = json!({
        "jti": format!("{name}-{}", now.as_nanos()),
        "iat": now.as_secs(),
        "iss": issuer.public_key(),
        "sub": subject,
        "name": name,
        "nats": claims,
    });
    if let Some(lifetime) = lifetime {
        payload["exp"] = json!((now + lifetime).as_secs());
    }
    let encode = |part: &[u8]| BASE64URL_NOPAD.encode(part);
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let signed = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(payload.to_string().as_bytes())
    );
    let signature = issuer.sign(signed.as_bytes()).expect("it has its seed");
    format!("{signed}.{}", encode(&signature))
}
