//! The upgrade of an HTTP connection (RFC 6455, section 4), as a client sees it.

use sha1::{Digest, Sha1};
use thiserror::Error;

use super::headers::UpgradeHeaders;
use crate::error::shown;
use crate::nats::ServerUrl;

/// Asks a server for the upgrade, and reads its answer.
///
/// Worst case in memory: the request, and [`Self::MAX_HEAD`] bytes of the answer.
pub struct Handshake {
    request: Vec<u8>,
    /// What the server has to prove that it has read the request.
    accept: String,
    head: Vec<u8>,
}

/// Why the answer is not an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// What speaks there does not speak HTTP; a port of NATS itself begins with `INFO`.
    #[error("the answer {line} is not HTTP; is this the port of the server's websocket block?")]
    NotHttp {
        /// The first line, or what there is of it.
        line: String,
    },
    /// An answer that is another one than 101.
    #[error("the server answers {line} and not 101: {hint}")]
    Status {
        /// The status.
        status: u16,
        /// The answer's first line.
        line: String,
        /// What that is likely to mean.
        hint: String,
    },
    /// A header of an upgrade that is missing or wrong.
    #[error("the answer's {name} header is {value}, and has to be {expected}")]
    Header {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// An extension or a subprotocol that was not asked for.
    #[error("the server chose {value} as {name}, which was not asked for")]
    NotAskedFor {
        /// The header's name.
        name: &'static str,
        /// What it chose.
        value: String,
    },
    /// A line that is no header.
    #[error("the answer's line {line} is no header")]
    Line {
        /// The line.
        line: String,
    },
    /// A head without an end.
    #[error("the answer's head has more than {} bytes", Handshake::MAX_HEAD)]
    TooLong,
}

/// What is hashed behind the key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Handshake {
    /// A longer head is none.
    pub const MAX_HEAD: usize = 16 * 1024;

    /// The upgrade of a connection to `url`, with `headers` beside the handshake's own; `key` is to
    /// be random.
    pub fn new(url: &ServerUrl, headers: &UpgradeHeaders, key: [u8; 16]) -> Self {
        let key = base64(&key);
        let mut request = Vec::with_capacity(512);
        let (target, authority) = (url.request_target(), url.authority());
        for part in ["GET ", &target, " HTTP/1.1\r\nHost: ", &authority, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ", &key] {
            request.extend_from_slice(part.as_bytes());
        }
        for (name, value) in headers.iter() {
            for part in ["\r\n", name, ": ", value.expose()] {
                request.extend_from_slice(part.as_bytes());
            }
        }
        request.extend_from_slice(END);
        let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
        Self { request, accept: base64(&digest), head: Vec::new() }
    }

    /// What is to be written first. It may have secrets in it.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes what the server says: how many bytes of `input` are its answer, which is then
    /// complete; what follows them is the first frame's. `None` if there is more to come.
    pub fn feed(&mut self, input: &[u8]) -> Result<Option<usize>, HandshakeError> {
        let before = self.head.len();
        let room = Self::MAX_HEAD - before;
        self.head.extend_from_slice(&input[..input.len().min(room)]);
        // The end may have begun with what was there before.
        let from = before.saturating_sub(END.len() - 1);
        let end = self.head[from..].windows(END.len()).position(|window| window == END);
        match end {
            Some(at) => {
                self.check(&self.head[..from + at])?;
                Ok(Some(from + at + END.len() - before))
            }
            // What does not begin as an answer does never ends as one.
            None if !begins_as_http(&self.head) => Err(not_http(&self.head)),
            None if input.len() >= room => Err(HandshakeError::TooLong),
            None => Ok(None),
        }
    }

    fn check(&self, head: &[u8]) -> Result<(), HandshakeError> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let Some(status) = status_of(first) else { return Err(not_http(head)) };
        let mut found = Found::default();
        for line in lines {
            found.line(line)?;
        }
        if status != 101 {
            let hint = hint(status, &found.location);
            return Err(HandshakeError::Status { status, line: shown(first), hint });
        }
        let has = |value: &str, token: &str| {
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        let expect = |name, value: &str, ok: bool, expected| match ok {
            true => Ok(()),
            false => {
                let value = if value.is_empty() { "missing".to_owned() } else { shown(value) };
                Err(HandshakeError::Header { name, value, expected })
            }
        };
        let ok = has(&found.upgrade, "websocket");
        expect("Upgrade", &found.upgrade, ok, "websocket")?;
        let ok = has(&found.connection, "upgrade");
        expect("Connection", &found.connection, ok, "Upgrade")?;
        let ok = found.accept == self.accept;
        expect("Sec-WebSocket-Accept", &found.accept, ok, "the hash of the request's key")?;
        for (name, value) in [
            ("Sec-WebSocket-Extensions", found.extensions),
            ("Sec-WebSocket-Protocol", found.protocol),
        ] {
            if !value.is_empty() {
                return Err(HandshakeError::NotAskedFor { name, value: shown(&value) });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Handshake {
    /// Without the request, which may have secrets in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("read", &self.head.len()).finish_non_exhaustive()
    }
}

const END: &[u8] = b"\r\n\r\n";
const HTTP: &[u8] = b"HTTP/1.";

/// RFC 4648, section 4. For two short texts: a library's general one is several KB.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, &byte| (bits << 8) | u32::from(byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            let at = (bits >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= group.len() { char::from(ALPHABET[at]) } else { '=' });
        }
    }
    text
}

fn begins_as_http(head: &[u8]) -> bool {
    let len = head.len().min(HTTP.len());
    head[..len] == HTTP[..len]
}

fn not_http(head: &[u8]) -> HandshakeError {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    HandshakeError::NotHttp { line: shown(&String::from_utf8_lossy(line)) }
}

/// `HTTP/1.1 101 Switching Protocols`, of which the text may be missing.
fn status_of(line: &str) -> Option<u16> {
    let (version, rest) = line.split_once(' ')?;
    let is_http = version.len() == 8 && begins_as_http(version.as_bytes());
    let code = rest.split(' ').next().filter(|code| code.len() == 3 && is_http)?;
    code.bytes().all(|byte| byte.is_ascii_digit()).then(|| code.parse().ok())?
}

fn hint(status: u16, location: &str) -> String {
    match status {
        300..=399 if !location.is_empty() => {
            // A query can have a token in it, and so can what stands before an `@`.
            let location = location.split('?').next().unwrap_or_default();
            let location = location.rsplit('@').next().unwrap_or_default();
            return format!("it sends one to {}; write that as the URL", shown(location));
        }
        300..=399 => "it sends one elsewhere; write that as the URL",
        400 => "it does not take this request; is there a proxy that does not know WebSocket, or a missing header?",
        401 | 407 => "it wants credentials in a header; see the upgrade headers",
        403 => "it refuses; look at the origins and headers that it allows",
        404 => "it knows no such path; look at the URL's",
        426 => "it wants another version of WebSocket or TLS; is wss:// meant?",
        429 => "it has too many requests",
        500..=599 => "it cannot serve now, or a proxy does not reach it",
        _ => "it does not upgrade",
    }
    .to_owned()
}

/// The headers that matter. Those that may be repeated are put together, as HTTP has it.
#[derive(Default)]
struct Found {
    upgrade: String,
    connection: String,
    accept: String,
    extensions: String,
    protocol: String,
    location: String,
}

impl Found {
    fn line(&mut self, line: &str) -> Result<(), HandshakeError> {
        let no_header = || HandshakeError::Line { line: shown(line) };
        let (name, value) = line.split_once(':').ok_or_else(no_header)?;
        // Also a continued line of old, which begins with a blank.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(no_header());
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        let place = if is("Upgrade") {
            &mut self.upgrade
        } else if is("Connection") {
            &mut self.connection
        } else if is("Sec-WebSocket-Accept") {
            &mut self.accept
        } else if is("Sec-WebSocket-Extensions") {
            &mut self.extensions
        } else if is("Sec-WebSocket-Protocol") {
            &mut self.protocol
        } else if is("Location") {
            &mut self.location
        } else {
            return Ok(());
        };
        if !place.is_empty() {
            place.push(',');
        }
        place.push_str(value.trim());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use proptest::prelude::*;

    use super::*;

    /// The nonce of RFC 6455, section 1.3, and what the server answers to it.
    const KEY: [u8; 16] = *b"the sample nonce";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn handshake() -> Handshake {
        let url = ServerUrl::parse("ws://localhost:8080").expect("a URL");
        Handshake::new(&url, &UpgradeHeaders::default(), KEY)
    }

    fn answer(more: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
        )
    }

    fn refused(answer: &str) -> HandshakeError {
        handshake().feed(answer.as_bytes()).expect_err(answer)
    }

    #[test]
    fn base64_as_its_rfc_has_it() {
        // RFC 4648, section 10.
        let table =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (bytes, text) in table {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xFF, 0xEF, 0xBE]), "/+++");
    }

    #[test]
    fn the_request_is_the_one_of_the_rfc() {
        let url = ServerUrl::parse("wss://u:p@nats.example.com:8443/chat/x?a=b").expect("a URL");
        let headers = vec![
            ("Authorization".to_owned(), "Bearer geheim".into()),
            ("X-Tenant".to_owned(), "blue".into()),
        ];
        let headers = UpgradeHeaders::new(headers).expect("headers");
        let handshake = Handshake::new(&url, &headers, KEY);
        let expected = "GET /chat/x?a=b HTTP/1.1\r\nHost: nats.example.com:8443\r\n\
             Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Authorization: Bearer geheim\r\nX-Tenant: blue\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(handshake.request()), expected);
        assert_eq!(handshake.accept, ACCEPT);
        assert!(!format!("{handshake:?}").contains("geheim"));
    }

    #[test]
    fn an_answer_cut_anywhere_ends_where_it_ends() {
        let answer = answer("Server: x\r\n");
        let input = [answer.as_bytes(), b"\x82\x05INFO "].concat();
        for piece in 1..=input.len() {
            let (mut handshake, mut read) = (handshake(), 0);
            let taken = input.chunks(piece).find_map(|part| {
                let taken = handshake.feed(part).expect("an upgrade");
                read += taken.unwrap_or(part.len());
                taken
            });
            assert!(taken.is_some(), "{piece}");
            assert_eq!(read, answer.len(), "{piece}");
        }
    }

    #[test]
    fn names_and_tokens_are_without_case_and_lists_are_lists() {
        let answer = format!(
            "HTTP/1.1 101\r\nUPGRADE:WebSocket\r\nconnection: keep-alive\r\n\
             Connection:upgrade \r\nsec-websocket-accept:   {ACCEPT}  \r\nDate:\r\n\r\n"
        );
        assert_eq!(handshake().feed(answer.as_bytes()), Ok(Some(answer.len())));
    }

    #[test]
    fn what_is_no_upgrade_says_why() {
        for (answer, expected) in [
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", &["401 Unauthorized", "credentials"][..]),
            ("HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n", &["403", "refuses"]),
            ("HTTP/1.1 404 Not Found\r\n\r\n", &["404", "path"]),
            (
                "HTTP/1.1 301 Moved\r\nLocation: https://u:geheim@b/x?token=geheim\r\n\r\n",
                &["301", "b/x"],
            ),
            ("HTTP/1.1 307 Moved\r\n\r\n", &["307", "elsewhere"]),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n", &["502", "proxy"]),
            ("HTTP/1.0 200 OK\r\n\r\n", &["200", "does not upgrade"]),
            ("INFO {\"server_id\":\"x\"}\r\n", &["INFO", "websocket block"]),
            ("\x15\x03\x01\x00\x02\x02", &["is not HTTP"]),
            ("HTTP/1.1 +01 x\r\n\r\n", &["is not HTTP"]),
            ("HTTP/1.1 1010 x\r\n\r\n", &["is not HTTP"]),
            ("HTTP/1.1\r\n\r\n", &["is not HTTP"]),
            ("HTTP/1.1 101 x\r\nUpgrade websocket\r\n\r\n", &["\"Upgrade websocket\""]),
            ("HTTP/1.1 101 x\r\nA: b\r\n folded: c\r\n\r\n", &["\" folded: c\""]),
            ("HTTP/1.1 101 x\r\n\r\n", &["Upgrade header is missing"]),
            ("HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n", &["Upgrade header is \"h2c\""]),
            ("HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", &["Connection header is missing"]),
        ] {
            let error = refused(answer).to_string();
            for part in expected {
                assert!(error.contains(part), "{answer:?}: {error}");
            }
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn an_answer_to_another_request_is_refused() {
        let wrong = answer("").replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let error = refused(&wrong);
        assert!(matches!(error, HandshakeError::Header { name: "Sec-WebSocket-Accept", .. }));
        // Twice the right one is not the right one.
        let twice = refused(&answer(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")));
        assert!(matches!(twice, HandshakeError::Header { .. }), "{twice}");
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        for name in ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"] {
            let error = refused(&answer(&format!("{name}: permessage-deflate\r\n")));
            assert!(matches!(&error, HandshakeError::NotAskedFor { name: n, .. } if *n == name));
        }
    }

    #[test]
    fn a_head_without_an_end_is_refused_at_its_bound() {
        let mut long = handshake();
        assert_eq!(long.feed(b"HTTP/1.1 101 x\r\n"), Ok(None));
        let line = b"X-Filler: 0123456789\r\n";
        let error = loop {
            match long.feed(line) {
                Ok(taken) => assert_eq!(taken, None),
                Err(error) => break error,
            }
        };
        assert_eq!(error, HandshakeError::TooLong);
        assert_eq!(long.head.len(), Handshake::MAX_HEAD);
        let at_once = [&b"HTTP/1.1 101 x\r\nX: "[..], &[b'y'; 20_000]].concat();
        assert_eq!(handshake().feed(&at_once), Err(HandshakeError::TooLong));
    }

    /// A server's socket: what a client wrote, and what it will be told.
    struct Socket {
        /// The request by itself, since no client sends more before it is answered; then frames.
        read: std::io::Chain<std::io::Cursor<Vec<u8>>, std::io::Cursor<Vec<u8>>>,
        written: Vec<u8>,
    }

    impl std::io::Read for Socket {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.read.read(buffer)
        }
    }

    impl std::io::Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.written.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn another_implementation_understands_us_and_we_it() {
        let mut handshake = handshake();
        let mut frames = crate::nats::FrameWriter::new(11);
        let (request, mut input) = (handshake.request().to_vec(), Vec::new());
        for len in [0, 5, 126, 70_000] {
            frames.push(&vec![b'x'; len]);
            input.extend_from_slice(frames.finish());
            frames.clear();
        }
        input.extend_from_slice(frames.pong(b"unasked"));
        input.extend_from_slice(b"\x88\x82\0\0\0\0\x03\xE8");
        let read = std::io::Cursor::new(request).chain(std::io::Cursor::new(input));
        let socket = Socket { read, written: Vec::new() };
        let mut server = tungstenite::accept(socket).expect("an upgrade");
        for len in [0, 5, 126, 70_000] {
            let message = server.read().expect("a frame");
            assert_eq!(message.into_data().len(), len);
        }
        assert!(server.read().expect("a pong").is_pong());
        assert!(server.read().expect("a close").is_close());
        // Writes its answer to the close.
        assert!(server.flush().is_err(), "it is closed now");
        let written = &server.get_ref().written;
        let taken = handshake.feed(written).expect("an upgrade").expect("all of it");
        let mut rest = &written[taken..];
        let mut reader = crate::nats::FrameReader::default();
        let close = reader.next(&mut rest).expect("a frame");
        assert_eq!(close, Some(crate::nats::Frame::Close("1000 ".to_owned())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_wait_for_more(
            input in prop::collection::vec(any::<u8>(), 0..300), piece in 1..50_usize
        ) {
            let mut fuzzed = handshake();
            let after = b"HTTP/1.1 101 x\r\n".iter().chain(&input).copied().collect::<Vec<u8>>();
            for part in after.chunks(piece) {
                if fuzzed.feed(part).is_err() {
                    break;
                }
            }
        }
    }
}
