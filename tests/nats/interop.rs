//! With other client libraries on the same server, in both directions: async-nats, and nats-py where
//! Python has it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use on_threads::{Client, PublishRefused, RequestFailed, SOON, Server, until};
use rust_wasm_lunatic_nats::nats::{Headers, OutboxError, RequestError, StatusCode};

/// What the server takes here, so that its end is soon reached: payload and headers.
const MAX_PAYLOAD: usize = 200_000;

fn server() -> Server {
    Server::with(&format!("max_payload: {MAX_PAYLOAD}"))
}

/// Lengths around every edge on the way: of WebSocket frames, of buffers, of the server's limit.
const LENGTHS: [usize; 16] = [
    0,
    1,
    2,
    125,
    126,
    127,
    1023,
    1024,
    4096,
    65_515,
    65_535,
    65_536,
    65_537,
    131_072,
    MAX_PAYLOAD - 1,
    MAX_PAYLOAD,
];

/// Bytes of every value, with line ends and the protocol's words among them.
fn binary(len: usize) -> Vec<u8> {
    let words = b"\r\nPING\r\nMSG a 1 0\r\n\r\n\0\xff\xfe";
    let every = (0..=255).chain(words.iter().copied());
    every.cycle().take(len).collect()
}

#[test]
fn binary_payloads_from_nothing_to_the_limit() {
    let server = server();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let mut theirs = peer.subscribe("to.peer");
    let ours = client.subscribe("to.us").expect("it subscribes");
    client.flush().expect("it flushes");
    for len in LENGTHS {
        client.publish("to.peer", &binary(len)).expect("it fits");
        client.flush().expect("the server has taken it");
        assert!(theirs.expect().payload == binary(len), "{len} bytes to the peer");
        peer.publish("to.us", binary(len));
        let message = ours.expect();
        assert!(message.payload() == binary(len), "{len} bytes to us");
        assert_eq!((message.subject(), message.reply()), ("to.us", None));
    }
    // One byte more is refused before anything is sent: the server would throw us out.
    let before = client.stats();
    let refused = client.publish("to.peer", &binary(MAX_PAYLOAD + 1));
    let too_large = OutboxError::TooLarge { len: MAX_PAYLOAD + 1, max: MAX_PAYLOAD };
    assert_eq!(refused, Err(PublishRefused::Outbox(too_large)));
    client.flush().expect("it is still connected");
    assert_eq!(client.stats(), before);
    assert_eq!(theirs.take_all().len(), 0);
}

/// Headers count as well.
#[test]
fn headers_and_payload_together_have_the_limit() {
    let server = server();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let mut theirs = peer.subscribe("to.peer");
    let mut headers = Headers::new();
    headers.append("A", "b").expect("a header");
    let block = "NATS/1.0\r\nA: b\r\n\r\n".len();
    let room = MAX_PAYLOAD - block;
    client.publish_with("to.peer", None, &headers, &binary(room)).expect("it just fits");
    client.flush().expect("the server has taken it");
    assert!(theirs.expect().payload == binary(room));
    let refused = client.publish_with("to.peer", None, &headers, &binary(room + 1));
    let too_large = OutboxError::TooLarge { len: MAX_PAYLOAD + 1, max: MAX_PAYLOAD };
    assert_eq!(refused, Err(PublishRefused::Outbox(too_large)));
    client.flush().expect("it is still connected");
}

/// Names that differ in their case alone, names that are there twice, and values that are empty, are
/// not ASCII, or have colons.
const FIELDS: [(&str, &str); 7] = [
    ("Id", "1"),
    ("id", "2"),
    ("Id", "3"),
    ("Empty", ""),
    ("X-Text", "Grüße, 世界"),
    ("X-Colons", "a: b:c"),
    ("Nats-Msg-Id", "{\"json\": \"value\"}"),
];

#[test]
fn headers_keep_their_case_repeat_and_may_be_empty() {
    let server = server();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let mut theirs = peer.subscribe("to.peer");
    let ours = client.subscribe("to.us").expect("it subscribes");
    client.flush().expect("it flushes");

    let mut headers = Headers::new();
    for (name, value) in FIELDS {
        headers.append(name, value).expect("a header");
    }
    client.publish_with("to.peer", Some("reply.to"), &headers, b"x").expect("it publishes");
    let message = theirs.expect();
    let came = message.headers.expect("headers");
    let all = |name: &str| -> Vec<String> {
        came.get_all(name).map(|value| value.as_str().to_owned()).collect()
    };
    assert_eq!((all("Id"), all("id")), (vec!["1".into(), "3".into()], vec!["2".into()]));
    assert_eq!((all("Empty"), all("X-Colons")), (vec![String::new()], vec!["a: b:c".into()]));
    assert_eq!(all("X-Text"), ["Grüße, 世界"]);
    assert_eq!(all("Nats-Msg-Id"), ["{\"json\": \"value\"}"]);
    assert_eq!(message.reply.as_deref(), Some("reply.to"));
    assert_eq!(&message.payload[..], b"x");

    let mut map = HeaderMap::new();
    for (name, value) in FIELDS {
        map.append(name, value);
    }
    peer.publish_with("to.us", Some("reply.to"), map, "y");
    let message = ours.expect();
    let came = message.headers().expect("headers");
    // They are a map there, so that only the order of each name's values is kept.
    for (name, _) in FIELDS {
        let sent = FIELDS.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value);
        assert!(came.values(name).eq(sent), "{name}: {came:?}");
    }
    assert_eq!(came.iter().count(), FIELDS.len());
    assert_eq!((message.reply(), message.payload()), (Some("reply.to"), &b"y"[..]));
    assert_eq!(message.status(), None);
}

#[test]
fn requests_in_both_directions() {
    let server = server();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    peer.echo("their.echo");
    let mut headers = Headers::new();
    headers.append("A", "b").expect("a header");
    for len in [0, 1, 1000, MAX_PAYLOAD - 100] {
        let answer = client.request("their.echo", &headers, &binary(len), SOON).expect("an answer");
        assert!(answer.payload() == binary(len), "{len} bytes");
        assert_eq!(answer.headers().expect("headers").value("A"), Some("b"));
    }
    assert_eq!(client.open_requests(), 0);

    let requests = client.subscribe("our.echo").expect("it subscribes");
    client.flush().expect("it flushes");
    std::thread::scope(|scope| {
        let client = &client;
        scope.spawn(move || {
            for _ in 0..3 {
                let request = requests.expect();
                let (headers, reply) = (request.headers().expect("headers"), request.reply());
                let reply = reply.expect("it is a request");
                client.publish_with(reply, None, &headers, request.payload()).expect("it answers");
            }
        });
        for len in [0, 1, MAX_PAYLOAD - 100] {
            let mut headers = HeaderMap::new();
            headers.insert("A", "b");
            let answer = peer.request("our.echo", headers, binary(len)).expect("an answer");
            assert!(answer.payload[..] == binary(len), "{len} bytes");
            assert_eq!(answer.headers.expect("headers").get("A").map(|a| a.as_str()), Some("b"));
        }
    });
}

#[test]
fn nobody_is_there_to_answer() {
    let server = server();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let none = client.request("nobody", &Headers::new(), b"", SOON);
    assert_eq!(none.map(drop), Err(RequestFailed::Failed(RequestError::NoResponders)));
    // The server says so with a status, which whoever looks at the message itself finds.
    let replies = client.subscribe("own.inbox").expect("it subscribes");
    client.publish_with("nobody", Some("own.inbox"), &Headers::new(), b"").expect("it publishes");
    let message = replies.expect();
    assert_eq!(message.status(), Some(StatusCode::NO_RESPONDERS));
    assert_eq!(message.headers().expect("headers").status(), Some(StatusCode::NO_RESPONDERS));
    // And the same for those who ask us, once we are gone.
    let ours = client.subscribe("ours").expect("it subscribes");
    client.flush().expect("it flushes");
    drop(ours);
    client.flush().expect("it flushes");
    let none = peer.request("ours", HeaderMap::new(), "");
    assert_eq!(none.map(drop), Err(RequestErrorKind::NoResponders));
}

#[test]
fn a_queue_group_of_both_libraries_gets_each_message_once() {
    const MESSAGES: usize = 400;
    let server = server();
    let (client, peer) = (Client::connect(Client::config(&server.url())), server.peer());
    let ours = [0, 1].map(|_| client.queue_subscribe("work", "group").expect("it subscribes"));
    client.flush().expect("it flushes");
    let mut theirs = peer.queue_subscribe("work", "group");
    for number in 0..MESSAGES {
        match number % 2 {
            0 => client.publish("work", number.to_string().as_bytes()).expect("it publishes"),
            _ => peer.publish("work", number.to_string()),
        }
    }
    client.flush().expect("it flushes");
    let number = |payload: &[u8]| String::from_utf8_lossy(payload).parse().expect("a number");
    let theirs: Vec<usize> = theirs.take_all().iter().map(|m| number(&m.payload)).collect();
    client.flush().expect("what was sent to us has come with the answer");
    let ours: Vec<Vec<usize>> = ours
        .iter()
        .map(|ours| ours.take_all().iter().map(|m| number(m.payload())).collect())
        .collect();
    for member in ours.iter().chain([&theirs]) {
        assert!(member.len() > MESSAGES / 20, "everyone has a share: {}", member.len());
    }
    let mut all: Vec<usize> = ours.into_iter().flatten().chain(theirs).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..MESSAGES), "each once");
}

/// nats-py does the same from its side; `scripts/test` runs this where Python has it.
#[test]
#[ignore = "needs Python with nats-py: scripts/test nats-py"]
fn nats_py() {
    let server = server();
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let mut child = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/nats_py.py"))
        .args([server.tcp_url(), MAX_PAYLOAD.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python");
    let output = child.stdout.take().expect("its output");
    let mut lines = BufReader::new(output).lines();
    let ready = lines.next().and_then(Result::ok);
    assert_eq!(ready.as_deref(), Some("ready"), "nats-py is there");

    let client = Client::connect(Client::config(&server.url()));
    // To it.
    for len in LENGTHS.into_iter().filter(|&len| len + 100 <= MAX_PAYLOAD) {
        let mut headers = Headers::new();
        headers.append("Name", "Grüße").expect("a header");
        headers.append("Length", len.to_string()).expect("a header");
        let answer = client.request("py.echo", &headers, &binary(len), SOON).expect("an answer");
        assert!(answer.payload() == binary(len), "{len} bytes");
        assert_eq!(answer.headers().expect("headers"), headers);
    }
    let full = client.request("py.echo", &Headers::new(), &binary(MAX_PAYLOAD), SOON);
    assert!(full.expect("an answer").payload() == binary(MAX_PAYLOAD));

    // From it: it asks what we echo, and says what it found.
    let requests = client.subscribe("rs.echo").expect("it subscribes");
    client.flush().expect("it flushes");
    std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let client = &client;
        scope.spawn(move || {
            while is_done.try_recv().is_err() {
                let Ok(request) = requests.next(Duration::from_millis(10)) else { continue };
                let (headers, reply) = (request.headers().expect("headers"), request.reply());
                let reply = reply.expect("it is a request");
                client.publish_with(reply, None, &headers, request.payload()).expect("it answers");
            }
        });
        let said = client.request("py.ask", &Headers::new(), b"rs.echo", SOON);
        done.send(()).expect("the thread waits for it");
        assert_eq!(said.map(|said| text(said.payload())), Ok("ok".to_owned()));
    });
    let none = client.request("py.ask", &Headers::new(), b"nobody", SOON);
    assert_eq!(none.map(|said| text(said.payload())), Ok("NoRespondersError".to_owned()));

    // A queue group with it.
    let ours = client.queue_subscribe("py.work", "group").expect("it subscribes");
    client.flush().expect("it flushes");
    for number in 0..100 {
        client.publish("py.work", number.to_string().as_bytes()).expect("it publishes");
    }
    client.flush().expect("it flushes");
    let ours: Vec<String> = ours.take_all().iter().map(|m| text(m.payload())).collect();
    let theirs = until("nats-py has the others", || {
        let said = client.request("py.worked", &Headers::new(), b"", SOON).expect("an answer");
        let said = text(said.payload());
        let theirs: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
        (ours.len() + theirs.len() >= 100).then_some(theirs)
    });
    assert!(ours.len() > 5 && theirs.len() > 5, "everyone has a share: {}", ours.len());
    let number = |text: &String| text.parse().expect("a number");
    let mut all: Vec<usize> = ours.iter().chain(&theirs).map(number).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..100), "each once");

    client.publish("py.end", b"").expect("it publishes");
    client.flush().expect("it flushes");
    assert!(child.wait().expect("it ends").success());
}

fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).into_owned()
}
