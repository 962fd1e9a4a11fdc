//! What a server sends, in every order and cut in every way, and what comes of it.
//!
//! Each transcript runs whole, twice; cut in two at each of its bytes; and byte by byte: always with
//! the same outputs.

use super::*;

/// What happens to a session that is dialing.
enum Step {
    /// The server sends this.
    Sends(&'static str),
    /// The transport ends.
    Closes,
    /// So many milliseconds go by.
    Passes(u64),
    /// The owner does something.
    Does(fn(&mut Rig)),
}

use Step::{Closes, Does, Passes, Sends};

const INFO_LINE: &str = "INFO {\"nonce\":\"n\"}\r\n";
const UP: &str = "INFO {}\r\nPONG\r\n";

fn run(
    config: &SessionConfig,
    steps: &[Step],
    cut: impl Fn(usize, &[u8]) -> Vec<Vec<u8>>,
) -> (Vec<String>, Stats) {
    let mut rig = Rig::new(config.clone());
    let mut log = rig.drain();
    for (n, step) in steps.iter().enumerate() {
        match step {
            Sends(text) => {
                let dial = rig.dial;
                for piece in cut(n, text.as_bytes()) {
                    // What is still on a transport that was given up is read by nobody.
                    if rig.dial == dial {
                        log.extend(rig.sends(&piece));
                    }
                }
            }
            Closes => log.extend(rig.closed("EOF")),
            Passes(time) => log.extend(rig.pass(ms(*time))),
            Does(act) => {
                act(&mut rig);
                log.extend(rig.drain());
            }
        }
    }
    // What a CONNECT says is tested elsewhere.
    for line in &mut log {
        if line.starts_with("write CONNECT") {
            *line = "write CONNECT".into();
        }
    }
    (log, rig.session.stats())
}

/// The log of a run in one piece, which is that of every other.
fn any_cut(config: &SessionConfig, steps: &[Step]) -> Vec<String> {
    let whole = |_: usize, bytes: &[u8]| vec![bytes.to_vec()];
    let log = run(config, steps, whole);
    assert_eq!(run(config, steps, whole), log, "twice the same");
    for (at, step) in steps.iter().enumerate() {
        let Sends(text) = step else { continue };
        for byte in 1..text.len() {
            let cut = |n: usize, bytes: &[u8]| match n == at {
                true => vec![bytes[..byte].to_vec(), bytes[byte..].to_vec()],
                false => vec![bytes.to_vec()],
            };
            assert_eq!(run(config, steps, cut), log, "step {at} cut at {byte}");
        }
    }
    let bytes = |_: usize, bytes: &[u8]| bytes.chunks(1).map(<[u8]>::to_vec).collect();
    assert_eq!(run(config, steps, bytes), log, "byte by byte");
    log.0
}

fn subscribe(rig: &mut Rig) {
    rig.session.subscribe(pattern("s"), None).expect("a sid");
}

fn publish(rig: &mut Rig) {
    rig.publish("p").expect("taken");
}

#[test]
fn what_comes_of_it() {
    let one = config("ws://a:1");
    let two = config("ws://a:1,ws://b:1");
    let limited = SessionConfig { max_auth_failures: Some(1), ..config("ws://a:1") };
    let token = SessionConfig { auth: Auth::Token("t".into()), ..config("ws://a:1") };
    let table: Vec<(&str, &SessionConfig, Vec<Step>, Vec<&str>)> = vec![
        (
            "all in one",
            &one,
            vec![Sends("INFO {}\r\nPING\r\nPONG\r\nPING\r\nMSG s 9 1\r\nx\r\n")],
            vec!["write CONNECT", "write PONG|", "connected ws://a:1/ (0)", "write PONG|"],
        ),
        (
            "before INFO nothing counts",
            &one,
            vec![Sends("PONG\r\n+OK\r\nPING\r\nPONG\r\n"), Sends(UP)],
            vec!["write PONG|", "write CONNECT", "connected ws://a:1/ (0)"],
        ),
        (
            "INFO twice in the handshake",
            &one,
            vec![Sends("INFO {}\r\nINFO {\"max_payload\":5,\"connect_urls\":[\"b:1\"]}\r\nPONG\r\n")],
            vec![
                "write CONNECT",
                "discovered [\"ws://b:1/\"], ignored 0",
                "connected ws://a:1/ (0)",
            ],
        ),
        (
            "refused after CONNECT, and then the end of the transport",
            &token,
            vec![Sends(INFO_LINE), Sends("-ERR 'Authorization Violation'\r\n"), Closes, Passes(50)],
            vec![
                "write CONNECT",
                "disconnect: not authorized: Authorization Violation",
                "attempt 1 failed: not authorized: Authorization Violation",
                "next attempt 2",
                "dial ws://a:1/ #2",
            ],
        ),
        (
            "refused for good",
            &limited,
            vec![Sends("INFO {}\r\n-ERR 'Authorization Violation'\r\nPONG\r\n"), Closes, Passes(9000)],
            vec![
                "write CONNECT",
                "disconnect: not authorized: Authorization Violation (no credentials are configured)",
                "attempt 1 failed: not authorized: Authorization Violation (no credentials are configured)",
                "closed, 0 unsent: refused 1 times, at last since: not authorized: Authorization Violation (no credentials are configured)",
            ],
        ),
        (
            "too many connections, before INFO",
            &one,
            vec![Sends("-ERR 'maximum connections exceeded'\r\nINFO {}\r\nPONG\r\n"), Closes],
            vec![
                "disconnect: the server says: maximum connections exceeded",
                "attempt 1 failed: the server says: maximum connections exceeded",
                "next attempt 2",
            ],
        ),
        (
            "the transport ends in the handshake",
            &one,
            vec![Sends("INFO {}\r\nPO"), Closes],
            vec![
                "write CONNECT",
                "attempt 1 failed: the transport ended: EOF",
                "next attempt 2",
            ],
        ),
        (
            "expired, and taken again at once",
            &token,
            vec![
                Sends(UP),
                Passes(2000),
                Sends("-ERR 'User Authentication Expired'\r\nMSG s 1 1\r\nx\r\n"),
                Sends(UP),
            ],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "server error: User Authentication Expired",
                "disconnect: not authorized: User Authentication Expired",
                "disconnected: not authorized: User Authentication Expired",
                "next attempt 1",
                "dial ws://a:1/ #1",
                "write CONNECT",
                "connected ws://a:1/ (1)",
            ],
        ),
        (
            "a payload too large ends it, with the reason",
            &one,
            vec![Sends(UP), Passes(2000), Sends("-ERR 'Maximum Payload Violation'\r\n"), Closes],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "disconnect: the server says: Maximum Payload Violation",
                "disconnected: the server says: Maximum Payload Violation",
                "next attempt 1",
                "dial ws://a:1/ #1",
                // That was the new transport's.
                "attempt 1 failed: the transport ended: EOF",
                "next attempt 2",
            ],
        ),
        (
            "a stale connection, as the server sees it",
            &one,
            vec![Sends(UP), Passes(2000), Sends("-ERR 'Stale Connection'\r\nPING\r\n")],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "disconnect: the server says: Stale Connection",
                "disconnected: the server says: Stale Connection",
                "next attempt 1",
                "dial ws://a:1/ #1",
            ],
        ),
        (
            "errors that end nothing",
            &one,
            vec![
                Sends(UP),
                Sends("-ERR 'Invalid Subject'\r\n-ERR 'maximum subscriptions exceeded'\r\nPING\r\n"),
            ],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "server error: Invalid Subject",
                "server error: maximum subscriptions exceeded",
                "write PONG|",
            ],
        ),
        (
            "a subscription that is refused gets nothing more",
            &one,
            vec![
                Does(subscribe),
                Sends(UP),
                Sends(
                    "MSG s 1 1\r\na\r\n-ERR 'Permissions Violation for Subscription to \"s\"'\r\n\
                     MSG s 1 1\r\nb\r\n",
                ),
                Passes(2000),
                Closes,
                Sends(UP),
            ],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "write SUB s 1|",
                "deliver 1 s a",
                "no permission to subscribe to \"s\", ends [1]",
                "disconnected: the transport ended: EOF",
                "next attempt 1",
                "dial ws://a:1/ #1",
                "write CONNECT",
                "connected ws://a:1/ (1)",
            ],
        ),
        (
            "headers, an empty payload, a message for nobody",
            &one,
            vec![
                Does(subscribe),
                Sends(UP),
                Sends(
                    "HMSG s 1 17 19\r\nNATS/1.0\r\nA: \r\n\r\n\r\n\r\nMSG s 1 0\r\n\r\nMSG s 2 1\r\nx\r\n",
                ),
            ],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "write SUB s 1|",
                "deliver 1 s \r\n",
                "deliver 1 s ",
            ],
        ),
        (
            "a lame server is left with nothing lost",
            &two,
            vec![
                Does(subscribe),
                Sends(UP),
                Passes(2000),
                Does(publish),
                Sends("INFO {\"ldm\":true}\r\nMSG s 1 1\r\na\r\n"),
                Does(publish),
                Sends("MSG s 1 1\r\nb\r\nPONG\r\nMSG s 1 1\r\nc\r\n"),
                Sends(UP),
            ],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "write SUB s 1|",
                "write PUB p 1|x|",
                "lame duck ws://a:1/",
                "write PING|",
                "deliver 1 s a",
                "deliver 1 s b",
                "disconnect: the server is about to go",
                "disconnected: the server is about to go",
                "next attempt 1",
                "dial ws://b:1/ #1",
                "write CONNECT",
                "connected ws://b:1/ (1)",
                "write SUB s 1|PUB p 1|x|",
            ],
        ),
        (
            "a drain delivers what comes before its PONG",
            &one,
            vec![
                Does(subscribe),
                Sends(UP),
                Does(|rig| assert!(rig.session.drain_subscription(1))),
                Sends("MSG s 1 1\r\na\r\nPONG\r\nMSG s 1 1\r\nb\r\n"),
                Does(|rig| assert!(rig.session.drain(rig.now, ms(1000)))),
                Sends("PONG\r\nPING\r\n"),
            ],
            vec![
                "write CONNECT",
                "connected ws://a:1/ (0)",
                "write SUB s 1|",
                "write UNSUB 1|PING|",
                "deliver 1 s a",
                "drained 1",
                "write PING|",
                "disconnect: closed",
                "closed, 0 unsent: drained",
            ],
        ),
    ];
    for (name, config, steps, expected) in table {
        let log = any_cut(config, &steps);
        assert_eq!(log[1..], expected, "{name}");
        assert!(log[0].starts_with("dial ws://a:1/"), "{name}");
    }
}

/// What a server can do, for [`every_order`].
const ALPHABET: [&str; 8] = [
    "INFO {}\r\n",
    "PONG\r\n",
    "PING\r\n",
    "+OK\r\n",
    "-ERR 'Invalid Subject'\r\n",
    "-ERR 'Authorization Violation'\r\n",
    "-ERR 'Slow Consumer'\r\n",
    "",
];

/// What has to come of it, by the rules alone: the first word of each output.
fn by_the_rules(order: &[&str]) -> Vec<&'static str> {
    let (mut phase, mut told) = ("dialing", vec!["dial"]);
    for &said in order {
        let lost = match (phase, said) {
            ("over", _) => false,
            ("dialing", "INFO {}\r\n") => {
                phase = "handshake";
                told.push("write");
                false
            }
            ("handshake", "PONG\r\n") => {
                phase = "up";
                told.push("connected");
                false
            }
            (_, "PING\r\n") => {
                told.push("write");
                false
            }
            ("up", "-ERR 'Invalid Subject'\r\n") => {
                told.push("server");
                false
            }
            ("up", "-ERR 'Authorization Violation'\r\n") => {
                told.extend(["server", "disconnect:"]);
                true
            }
            (_, said) if said.starts_with("-ERR") => {
                told.push("disconnect:");
                true
            }
            (_, said) => said.is_empty(),
        };
        if lost {
            told.push(if phase == "up" { "disconnected:" } else { "attempt" });
            told.push("next");
            phase = "over";
        }
    }
    told
}

fn every_order(length: usize, mut check: impl FnMut(&[&'static str])) {
    for number in 0..ALPHABET.len().pow(length as u32) {
        let letter = |place: usize| number / ALPHABET.len().pow(place as u32) % ALPHABET.len();
        let order: Vec<_> = (0..length).map(|place| ALPHABET[letter(place)]).collect();
        check(&order);
    }
}

#[test]
fn every_order_of_what_a_server_can_do() {
    let config = config("ws://a:1");
    let steps = |order: &[&'static str]| -> Vec<Step> {
        let step = |&said: &&'static str| if said.is_empty() { Closes } else { Sends(said) };
        order.iter().map(step).collect()
    };
    let words = |log: &[String]| -> Vec<String> {
        log.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    // All that are at most three long, cut at every byte; those of four whole.
    for length in 1..=3 {
        every_order(length, |order| {
            let log = any_cut(&config, &steps(order));
            assert_eq!(words(&log), by_the_rules(order), "{order:?}");
        });
    }
    every_order(4, |order| {
        let (log, _) = run(&config, &steps(order), |_, bytes| vec![bytes.to_vec()]);
        assert_eq!(words(&log), by_the_rules(order), "{order:?}");
    });
}
