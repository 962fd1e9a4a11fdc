//! Accounts whose users show JWTs, by another hand than the library's own.

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// A JWT of version 2, as `nsc` makes them.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let encode = |json: Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let header = encode(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = encode(json!({"jti": name, "iat": 1, "iss": issuer.public_key(),
        "sub": subject.public_key(), "name": name, "nats": nats}));
    let signed = format!("{header}.{claims}");
    let signature = issuer.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}

/// An operator with one account, and its users.
pub struct Operator {
    account: KeyPair,
    lines: String,
}

impl Default for Operator {
    fn default() -> Self {
        Self::new()
    }
}

impl Operator {
    /// One with new keys.
    ///
    /// # Panics
    /// If keys cannot be made.
    pub fn new() -> Self {
        let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
        let own = jwt(&operator, &operator, "O", json!({"type": "operator", "version": 2}));
        let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1});
        let nats = json!({"limits": limits, "type": "account", "version": 2});
        let of_account = jwt(&operator, &account, "A", nats);
        let lines = format!(
            "operator: {own}\nresolver: MEMORY\nresolver_preload: {{ {}: {of_account} }}\n",
            account.public_key()
        );
        Self { account, lines }
    }

    /// The lines of a server's config that make it theirs.
    pub fn config(&self) -> &str {
        &self.lines
    }

    /// The `.creds` file of a new user; with its seed, which nobody may see.
    ///
    /// # Panics
    /// If keys cannot be made.
    pub fn user(&self, name: &str) -> (String, String) {
        let user = KeyPair::new_user();
        let nats = json!({"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
            "type": "user", "version": 2});
        let jwt = jwt(&self.account, &user, name, nats);
        let seed = user.seed().expect("a seed");
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        (creds, seed)
    }
}
