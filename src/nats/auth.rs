//! NKeys and `.creds` files: the proof of who one is, by signing what the server drew at random.
//!
//! An NKey is an Ed25519 key in base32 with a prefix that says whose it is and a checksum
//! (github.com/nats-io/nkeys). A user's *seed* (`SU…`) is its secret half, and all that is kept.
//! Base32, base64 and the checksum are written out here: each is a few lines for one length or one
//! alphabet, where a library's general ones take several KB of WebAssembly.

use ed25519_compact::{KeyPair, Seed, Signature};
use thiserror::Error;

use super::config::Auth;
use crate::secret::Secret;

/// The prefix of a seed, of which the five highest bits are its own.
const SEED: u8 = 18 << 3;
/// The prefix of a user's public key: `U`.
const USER: u8 = 20 << 3;
/// A seed in base32: prefixes, 32 bytes of key, checksum.
const SEED_CHARS: usize = 58;
/// The same as bytes.
const SEED_BYTES: usize = 36;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Credentials that cannot be used. Never says what they are.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    /// Too few or too many characters.
    #[error("the seed has {0} characters, and must have 58")]
    SeedLength(usize),
    /// A character that base32 does not have.
    #[error("character {0} of the seed is none of A-Z and 2-7")]
    SeedCharacter(usize),
    /// Mistyped, or cut and put together.
    #[error("the checksum of the seed is wrong: it was mistyped or damaged")]
    SeedChecksum,
    /// Another kind of key.
    #[error("this is {found}, and must be the seed of a user, which starts with SU")]
    SeedKind {
        /// What it is.
        found: &'static str,
    },
    /// A `.creds` file without one of its two parts.
    #[error("the credentials have no block -----BEGIN {0}-----")]
    NoBlock(&'static str),
    /// A part of a `.creds` file whose end is missing, or that is not one line.
    #[error("the block {0} of the credentials is not one line and an end: the file was cut?")]
    BrokenBlock(&'static str),
    /// A JWT that is none.
    #[error("the JWT is not three parts of A-Z a-z 0-9 - _ with dots between them")]
    JwtShape,
    /// Larger than any real one.
    #[error("the credentials have {len} bytes, more than the limit of {max}")]
    TooLong {
        /// Their length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Not a text at all.
    #[error("the credentials are not text in UTF-8: a .creds file is")]
    NotUtf8,
    /// The server does not ask for a signature.
    #[error("the server sent no nonce to sign: it is not set up for NKeys or JWTs")]
    NoNonce,
}

impl Auth {
    /// The longest `.creds` file and the longest JWT, in bytes.
    pub const MAX_CREDENTIALS_LEN: usize = 64 << 10;

    /// What stands in a `.creds` file, checked.
    pub fn from_creds(file: &[u8]) -> Result<Self, AuthError> {
        let (len, max) = (file.len(), Self::MAX_CREDENTIALS_LEN);
        if len > max {
            return Err(AuthError::TooLong { len, max });
        }
        let text = std::str::from_utf8(file).map_err(|_| AuthError::NotUtf8)?;
        let auth = Self::Credentials(text.into());
        auth.check().map(|()| auth)
    }

    /// A user's seed, checked.
    pub fn from_seed(seed: &str) -> Result<Self, AuthError> {
        let auth = Self::NKey(seed.trim_ascii().into());
        auth.check().map(|()| auth)
    }

    /// Whether the credentials are whole, as far as that can be said without a server: a checksum
    /// that is right, blocks that are there.
    pub fn check(&self) -> Result<(), AuthError> {
        match self {
            Self::None | Self::Token(_) | Self::UserPassword { .. } => Ok(()),
            Self::NKey(_) | Self::Credentials(_) | Self::Jwt { .. } => {
                // Signed with: whatever a handshake would find wrong is found here.
                Proof::of(self, Some("nonce")).map(drop)
            }
        }
    }
}

/// What stands in a `CONNECT` for an NKey or a JWT.
#[derive(Default)]
pub(super) struct Proof<'a> {
    /// The public key, if there is no JWT that has it.
    pub(super) nkey: Option<String>,
    pub(super) jwt: Option<&'a str>,
    pub(super) sig: Option<String>,
}

impl<'a> Proof<'a> {
    /// The answer to a server's `nonce`; empty for other credentials.
    pub(super) fn of(auth: &'a Auth, nonce: Option<&str>) -> Result<Self, AuthError> {
        let Some(Signed { nkey, jwt, signature }) = Signed::of(auth, nonce)? else {
            return Ok(Self::default());
        };
        Ok(Self { nkey, jwt, sig: Some(base64url(signature.as_slice())) })
    }
}

/// The same for a client that writes its `CONNECT` by itself.
pub(crate) struct Signed<'a> {
    pub(crate) nkey: Option<String>,
    pub(crate) jwt: Option<&'a str>,
    pub(crate) signature: Signature,
}

impl<'a> Signed<'a> {
    /// The answer to a server's `nonce`; none for credentials that do not sign.
    pub(crate) fn of(auth: &'a Auth, nonce: Option<&str>) -> Result<Option<Self>, AuthError> {
        let (jwt, seed) = match auth {
            Auth::None | Auth::Token(_) | Auth::UserPassword { .. } => return Ok(None),
            Auth::NKey(seed) => (None, bounded(seed)?),
            Auth::Jwt { jwt, seed } => (Some(bounded(jwt)?.trim_ascii()), bounded(seed)?),
            Auth::Credentials(text) => {
                let text = bounded(text)?;
                let jwt = block(text, "NATS USER JWT")?;
                (Some(jwt), block(text, "USER NKEY SEED")?)
            }
        };
        if !jwt.is_none_or(is_jwt) {
            return Err(AuthError::JwtShape);
        }
        let key = key_pair(seed.as_bytes().trim_ascii())?;
        let nonce = nonce.filter(|nonce| !nonce.is_empty()).ok_or(AuthError::NoNonce)?;
        let signature = key.sk.sign(nonce.as_bytes(), None);
        let nkey = jwt.is_none().then(|| public_key(&key));
        Ok(Some(Self { nkey, jwt, signature }))
    }
}

fn bounded(secret: &Secret) -> Result<&str, AuthError> {
    let (len, max) = (secret.expose().len(), Auth::MAX_CREDENTIALS_LEN);
    match len <= max {
        true => Ok(secret.expose()),
        false => Err(AuthError::TooLong { len, max }),
    }
}

/// The line between `-----BEGIN <name>-----` and `------END <name>------`.
// Not inlined, and like all here on bytes: the text functions would be 3 KB more.
#[inline(never)]
fn block<'a>(text: &'a str, name: &'static str) -> Result<&'a str, AuthError> {
    let (mut rest, mut content, mut is_open) = (text, None, false);
    while !rest.is_empty() {
        let end = rest.bytes().position(|b| b == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        let line = line.trim_ascii();
        match (line.is_empty(), is_open) {
            (true, _) => {}
            (false, false) => is_open = marks(line, "BEGIN ", name),
            (false, true) if content.is_none() => content = Some(line),
            (false, true) if marks(line, "END ", name) => {
                return content.ok_or(AuthError::BrokenBlock(name));
            }
            (false, true) => return Err(AuthError::BrokenBlock(name)),
        }
    }
    Err(if is_open { AuthError::BrokenBlock(name) } else { AuthError::NoBlock(name) })
}

/// Whether `line` is dashes, `word`, `name` and dashes.
#[inline(never)]
fn marks(line: &str, word: &str, name: &str) -> bool {
    let mut text = line.as_bytes();
    let dashes = text.len();
    while let [b'-', inner @ ..] = text {
        text = inner;
    }
    let dashes = dashes - text.len();
    while let [inner @ .., b'-'] = text {
        text = inner;
    }
    let name_follows = |text: &[u8]| text.trim_ascii() == name.as_bytes();
    dashes >= 3 && text.strip_prefix(word.as_bytes()).is_some_and(name_follows)
}

fn is_jwt(text: &str) -> bool {
    // Whether the byte before was a dot, or there was none.
    let (mut dots, mut at_dot, mut is_fine) = (0, true, true);
    for byte in text.bytes() {
        is_fine &= match byte {
            b'.' => !at_dot,
            _ => BASE64URL.contains(&byte),
        };
        at_dot = byte == b'.';
        dots += u32::from(at_dot);
    }
    is_fine && dots == 2 && !at_dot
}

fn key_pair(seed: &[u8]) -> Result<KeyPair, AuthError> {
    let mut bytes = decode_seed(seed)?;
    let mut key = [0; 32];
    key.copy_from_slice(&bytes[2..34]);
    let pair = KeyPair::from_seed(Seed::new(key));
    wipe(&mut bytes);
    wipe(&mut key);
    Ok(pair)
}

/// Checked in an order that names the likeliest mistake first: a key of another kind.
fn decode_seed(seed: &[u8]) -> Result<[u8; SEED_BYTES], AuthError> {
    let kind = match seed {
        [b'S', b'U', ..] => None,
        [b'S', b'A', ..] => Some("the seed of an account"),
        [b'S', b'O', ..] => Some("the seed of an operator"),
        [b'S', b'N' | b'C' | b'X', ..] => Some("the seed of a server, cluster or curve key"),
        [b'U' | b'A' | b'O' | b'N' | b'C' | b'X', ..] if seed.len() == 56 => Some("a public key"),
        [b'P', ..] if seed.len() == 56 => Some("a private key without its kind"),
        [b'-', ..] => Some("a file with blocks"),
        _ => Some("something else"),
    };
    if seed.len() != SEED_CHARS && kind.is_none_or(|kind| kind.starts_with("the seed")) {
        return Err(AuthError::SeedLength(seed.len()));
    }
    if let Some(found) = kind {
        return Err(AuthError::SeedKind { found });
    }
    let mut bytes = [0; SEED_BYTES];
    let (mut bits, mut count, mut at) = (0u32, 0, 0);
    for (place, char) in seed.iter().enumerate() {
        let value = BASE32.iter().position(|c| c == char);
        let value = value.ok_or(AuthError::SeedCharacter(place + 1))?;
        bits = (bits << 5) | value as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = (bits >> count) as u8;
            }
            at += 1;
        }
    }
    let (body, checksum) = bytes.split_at(SEED_BYTES - 2);
    if checksum != crc16(body).to_le_bytes() {
        return Err(AuthError::SeedChecksum);
    }
    // Both prefixes are packed into the first ten bits, three of which base32 shows as `U`.
    if bytes[..2] != [SEED | (USER >> 5), (USER & 31) << 3] {
        return Err(AuthError::SeedKind { found: "something else" });
    }
    Ok(bytes)
}

/// `U…`: the prefix, 32 bytes of key, the checksum.
fn public_key(pair: &KeyPair) -> String {
    let mut bytes = vec![USER];
    bytes.extend_from_slice(pair.pk.as_slice());
    let checksum = crc16(&bytes).to_le_bytes();
    bytes.extend_from_slice(&checksum);
    // 35 bytes are 56 characters, with nothing left over.
    encode(&bytes, 5, BASE32)
}

fn base64url(bytes: &[u8]) -> String {
    encode(bytes, 6, BASE64URL)
}

/// `width` bits a character, without padding.
#[inline(never)]
fn encode(bytes: &[u8], width: u32, alphabet: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    let mask = (1 << width) - 1;
    let (mut bits, mut count) = (0u32, 0);
    let mut push = |value: u32| {
        text.push(alphabet.get((value & mask) as usize).map_or('?', |&c| char::from(c)));
    };
    for &byte in bytes {
        bits = (bits << 8) | u32::from(byte);
        count += 8;
        while count >= width {
            count -= width;
            push(bits >> count);
        }
    }
    if count > 0 {
        push(bits << (width - count));
    }
    text
}

/// CRC-16/XMODEM: polynomial 0x1021, starting with 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

/// Overwrites a key that is not needed any more, in a way that is not optimised away.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_compact::{PublicKey, Signature};

    // Made with nats-io/nkeys.py 0.2, from the bytes 0 to 31.
    const SU: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
    const PUBLIC: &str = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK";
    const NONCE: &str = "PXoWU7zWAMt75FY";
    const SIGNED: &str =
        "bnxg5G8aOV2LQdSE_lcM9clxm_fbTTZxsqQ1EpTNgJXmH6z5ezesd49kXfuNhoAqw_DmEtsGcNsJdug9wMuRDQ";
    const SA: &str = "SAAAOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOB6O4U";
    const SO: &str = "SOAAOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOB4CS4";
    const JWT: &str = "eyJ0eXAiOiJKV1QifQ.eyJqdGkiOiJBIn0.c2ln-_";

    fn creds(jwt: &str, seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             NKEY Seed printed below can be used to sign and prove identity.\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n\n\
             *************************************************************\n"
        )
    }

    #[test]
    fn a_nonce_is_signed_as_the_reference_does_it() {
        let auth = Auth::from_seed(SU).expect("a seed");
        let proof = Proof::of(&auth, Some(NONCE)).expect("a proof");
        assert_eq!((proof.nkey.as_deref(), proof.jwt), (Some(PUBLIC), None));
        assert_eq!(proof.sig.as_deref(), Some(SIGNED));
        let auth = Auth::from_seed(&format!(" {SU}\r\n")).expect("space around it is fine");
        assert!(matches!(auth, Auth::NKey(seed) if seed.expose() == SU));
    }

    #[test]
    fn the_public_key_verifies_what_was_signed() {
        let key = key_pair(SU.as_bytes()).expect("a seed");
        let raw: Vec<u8> = (0..=255).collect();
        for nonce in [&raw[..1], &raw[..]] {
            let signature = Signature::from_slice(key.sk.sign(nonce, None).as_slice());
            let signature = signature.expect("64 bytes");
            let public = PublicKey::from_slice(key.pk.as_slice()).expect("32 bytes");
            assert!(public.verify(nonce, &signature).is_ok());
            assert!(public.verify(b"other", &signature).is_err());
        }
    }

    #[test]
    fn a_creds_file_gives_jwt_and_seed() {
        let text = creds(JWT, SU);
        for text in [text.clone(), text.replace('\n', "\r\n"), text.replace("----\n", "---- \n\n")]
        {
            let auth = Auth::from_creds(text.as_bytes()).expect("credentials");
            let proof = Proof::of(&auth, Some(NONCE)).expect("a proof");
            assert_eq!((proof.nkey, proof.jwt), (None, Some(JWT)));
            assert_eq!(proof.sig.as_deref(), Some(SIGNED));
        }
        let auth = Auth::Jwt { jwt: JWT.into(), seed: SU.into() };
        let proof = Proof::of(&auth, Some(NONCE)).expect("a proof");
        assert_eq!((proof.jwt, proof.sig.as_deref()), (Some(JWT), Some(SIGNED)));
    }

    #[test]
    fn a_wrong_seed_is_named_by_its_mistake() {
        let swapped = SU.replace("AEQUCY", "AEQUCZ");
        let other_end = format!("{}A", &SU[..57]);
        let lower = SU.to_ascii_lowercase();
        let digit_one = SU.replace('7', "1");
        let (too_long, file) = (format!("{SU}A"), creds(JWT, SU));
        let umlaut = format!("{}Ü", &SU[..56]);
        for (seed, expected) in [
            ("", AuthError::SeedKind { found: "something else" }),
            ("geheim", AuthError::SeedKind { found: "something else" }),
            (lower.as_str(), AuthError::SeedKind { found: "something else" }),
            (&SU[..57], AuthError::SeedLength(57)),
            ("SU", AuthError::SeedLength(2)),
            (too_long.as_str(), AuthError::SeedLength(59)),
            (digit_one.as_str(), AuthError::SeedCharacter(55)),
            (umlaut.as_str(), AuthError::SeedCharacter(57)),
            (swapped.as_str(), AuthError::SeedChecksum),
            (other_end.as_str(), AuthError::SeedChecksum),
            (SA, AuthError::SeedKind { found: "the seed of an account" }),
            (SO, AuthError::SeedKind { found: "the seed of an operator" }),
            (PUBLIC, AuthError::SeedKind { found: "a public key" }),
            (file.as_str(), AuthError::SeedKind { found: "a file with blocks" }),
        ] {
            assert_eq!(Auth::from_seed(seed), Err(expected), "{seed}");
        }
    }

    #[test]
    fn every_cut_of_a_creds_file_is_an_error_until_both_ends_are_there() {
        let text = creds(JWT, SU);
        let needed = text.find("END USER NKEY SEED").expect("the end") + "END USER NKEY SEED".len();
        for len in 0..needed {
            assert!(Auth::from_creds(&text.as_bytes()[..len]).is_err(), "{len}");
        }
        assert!(Auth::from_creds(&text.as_bytes()[..needed]).is_ok());
    }

    #[test]
    fn a_wrong_creds_file_is_named_by_its_mistake() {
        let jwt_only = creds(JWT, SU).replace("USER NKEY SEED", "OTHER");
        let seed_only = creds(JWT, SU).replace("NATS USER JWT", "OTHER");
        let two_lines = creds(&format!("{JWT}\n{JWT}"), SU);
        for (file, expected) in [
            (jwt_only.as_bytes(), AuthError::NoBlock("USER NKEY SEED")),
            (seed_only.as_bytes(), AuthError::NoBlock("NATS USER JWT")),
            (b"", AuthError::NoBlock("NATS USER JWT")),
            (two_lines.as_bytes(), AuthError::BrokenBlock("NATS USER JWT")),
            (creds("a.b", SU).as_bytes(), AuthError::JwtShape),
            (creds("a..c", SU).as_bytes(), AuthError::JwtShape),
            (creds("a.b.c\"", SU).as_bytes(), AuthError::JwtShape),
            (creds("a.b.c.d", SU).as_bytes(), AuthError::JwtShape),
            (creds(JWT, SA).as_bytes(), AuthError::SeedKind { found: "the seed of an account" }),
            (b"\xff\xfe", AuthError::NotUtf8),
            (&[b'x'; 65_537], AuthError::TooLong { len: 65_537, max: 65_536 }),
        ] {
            assert_eq!(Auth::from_creds(file), Err(expected));
        }
        let auth = Auth::Jwt { jwt: "a.b".into(), seed: SU.into() };
        assert_eq!(auth.check(), Err(AuthError::JwtShape));
    }

    #[test]
    fn no_nonce_is_an_error_and_other_credentials_need_none() {
        for nonce in [None, Some("")] {
            let auth = Auth::NKey(SU.into());
            assert_eq!(Proof::of(&auth, nonce).err(), Some(AuthError::NoNonce));
            let token = Auth::Token("t".into());
            let proof = Proof::of(&token, nonce).expect("nothing to sign");
            assert!(proof.sig.is_none() && proof.nkey.is_none() && proof.jwt.is_none());
        }
    }

    #[test]
    fn no_error_and_no_debug_shows_a_secret() {
        let damaged = SU.replace("AEQUCY", "AEQUCZ");
        for auth in [
            Auth::NKey(damaged.as_str().into()),
            Auth::Credentials(creds("geheim.x", &damaged).into()),
            Auth::Jwt { jwt: "geheim.x".into(), seed: damaged.as_str().into() },
        ] {
            let error = auth.check().expect_err("damaged");
            let seen = format!("{auth:?} {error} {error:?}");
            assert!(!seen.contains("UCYMB") && !seen.contains("geheim"), "{seen}");
        }
    }

    #[test]
    fn the_check_value_of_the_checksum() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(base64url(b"\xff\xfe\xfd\xfc"), "__79_A");
    }
}
