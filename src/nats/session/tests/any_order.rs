//! Any inputs and commands in any order: what has to hold all the same.

use proptest::prelude::*;

use super::*;
use crate::nats::RequestMany;

#[derive(Clone, Debug)]
enum Step {
    Opened,
    DialFailed,
    Closed,
    Stale,
    Line(&'static str),
    /// An answer to the request that was written last.
    Answer(&'static str),
    Pass(u64),
    Subscribe,
    Unsubscribe(u64, Option<u64>),
    DrainSubscription(u64),
    Slow(u64, bool),
    Publish,
    Request(u64),
    RequestMany(u32, bool),
    Cancel,
    Flush,
    Auth(bool),
    Force,
    Drain(u64),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let line = proptest::sample::select(vec![
        INFO,
        INFO,
        "INFO {}",
        r#"INFO {"ldm":true,"connect_urls":["b:1","c:2"],"nonce":"x"}"#,
        "PING",
        "PONG",
        "PONG",
        "PONG",
        "+OK",
        "-ERR 'Authorization Violation'",
        "-ERR 'Permissions Violation for Subscription to \"s\"'",
        "-ERR 'Permissions Violation for Publish to \"ask\"'",
        "-ERR 'Stale Connection'",
        "-ERR 'Slow Consumer'",
        "-ERR 'Other'",
        "MSG s 1 1\r\nx",
        "MSG s 2 1\r\nx",
    ]);
    let sid = || 1u64..4;
    prop_oneof![
        1 => Just(Step::Opened),
        1 => Just(Step::DialFailed),
        1 => Just(Step::Closed),
        1 => Just(Step::Stale),
        9 => line.prop_map(Step::Line),
        2 => proptest::sample::select(vec!["", "x"]).prop_map(Step::Answer),
        4 => (0u64..200_000).prop_map(Step::Pass),
        2 => Just(Step::Subscribe),
        1 => (sid(), proptest::option::of(0u64..3)).prop_map(|(sid, max)| Step::Unsubscribe(sid, max)),
        1 => sid().prop_map(Step::DrainSubscription),
        1 => (sid(), any::<bool>()).prop_map(|(sid, began)| Step::Slow(sid, began)),
        3 => Just(Step::Publish),
        3 => (0u64..100_000).prop_map(Step::Request),
        1 => (0u32..3, any::<bool>()).prop_map(|(max, sentinel)| Step::RequestMany(max, sentinel)),
        1 => Just(Step::Cancel),
        2 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Auth),
        1 => Just(Step::Force),
        1 => (0u64..100_000).prop_map(Step::Drain),
        1 => Just(Step::Close),
    ]
}

/// What was done, as far as it was taken.
#[derive(Debug, Default, PartialEq)]
struct Done {
    publishes: u64,
    flushes: u64,
    drains: u64,
    /// The requests that were not called off.
    requests: Vec<RequestId>,
    dropped: u64,
}

const MAX: SessionLimits = SessionLimits { messages: 3, bytes: 200, subscriptions: 4, requests: 3 };

struct SessionLimits {
    messages: u64,
    bytes: usize,
    subscriptions: usize,
    requests: usize,
}

fn within_bounds(rig: &Rig) {
    let session = &rig.session;
    assert!(session.subscription_count() <= MAX.subscriptions);
    assert!(session.pending_requests() <= MAX.requests);
    if !session.is_connected() {
        assert!(session.pending_messages() <= MAX.messages + 1);
        assert!(session.pending_bytes() <= MAX.bytes);
    }
}

fn run(steps: &[Step]) -> (Vec<String>, Stats, Done) {
    let mut rig = Rig::new(SessionConfig {
        max_pending_messages: MAX.messages,
        max_pending_bytes: MAX.bytes,
        max_unwritten_bytes: MAX.bytes,
        max_subscriptions: MAX.subscriptions,
        max_requests: MAX.requests,
        max_reconnects: Some(50),
        max_auth_failures: Some(4),
        ..config("ws://a:1,ws://z:1")
    });
    let mut log = rig.drain();
    let mut done = Done::default();
    let none = Headers::new();
    for step in steps {
        let now = rig.now;
        log.extend(match step {
            Step::Opened => rig.opened(),
            Step::DialFailed => rig.dial_failed("no"),
            Step::Closed => rig.closed("gone"),
            Step::Stale => {
                let (dial, reason) = (rig.dial.saturating_sub(1), "late".into());
                rig.input(Input::Closed { dial, reason })
            }
            Step::Line(line) => rig.says(line),
            Step::Answer(text) => {
                match (log.iter().rfind(|line| line.contains("PUB ask")), inbox_sid(&log)) {
                    (Some(line), Some(sid)) => {
                        let reply = reply_subject(line);
                        rig.says(&format!("MSG {reply} {sid} {}\r\n{text}", text.len()))
                    }
                    _ => Vec::new(),
                }
            }
            Step::Pass(time) => rig.pass(ms(*time)),
            Step::Subscribe => {
                let _ = rig.session.subscribe(pattern("s"), None);
                rig.drain()
            }
            Step::Unsubscribe(sid, max) => {
                rig.session.unsubscribe(*sid, *max);
                rig.drain()
            }
            Step::DrainSubscription(sid) => {
                done.drains += u64::from(rig.session.drain_subscription(*sid));
                rig.drain()
            }
            Step::Slow(sid, began) => {
                done.dropped += 2;
                let (dropped_messages, dropped_bytes, began) = (2, 20, *began);
                rig.input(Input::SlowConsumer { sid: *sid, dropped_messages, dropped_bytes, began })
            }
            Step::Publish => {
                done.publishes += u64::from(rig.publish("p").is_ok());
                rig.drain()
            }
            Step::Request(timeout) => {
                let id = rig.session.request(now, "ask", &none, b"", ms(*timeout));
                done.requests.extend(id);
                rig.drain()
            }
            Step::RequestMany(max_messages, sentinel) => {
                let (max_messages, sentinel) = (*max_messages, *sentinel);
                let many = RequestMany { max_messages, sentinel, ..RequestMany::default() };
                let id = rig.session.request_many(now, "ask", &none, b"", &many);
                done.requests.extend(id);
                rig.drain()
            }
            Step::Cancel => {
                if let Some(&id) = done.requests.last() {
                    if rig.session.cancel_request(id) {
                        done.requests.pop();
                    }
                }
                rig.drain()
            }
            Step::Flush => {
                done.flushes += u64::from(rig.session.flush(1).is_ok());
                rig.drain()
            }
            Step::Auth(key) => {
                rig.session.set_auth(if *key { Auth::NKey("SU".into()) } else { Auth::None });
                rig.drain()
            }
            Step::Force => {
                rig.session.force_reconnect(now);
                rig.drain()
            }
            Step::Drain(timeout) => {
                rig.session.drain(now, ms(*timeout));
                rig.drain()
            }
            Step::Close => {
                rig.session.close();
                rig.drain()
            }
        });
        within_bounds(&rig);
    }
    rig.session.close();
    log.extend(rig.drain());
    assert_eq!((rig.session.pending_messages(), rig.session.pending_requests()), (0, 0));
    (log, rig.session.stats(), done)
}

/// The number of the subscription for answers, as it was written last.
fn inbox_sid(log: &[String]) -> Option<String> {
    let line = log.iter().rfind(|line| line.contains("SUB _INBOX."))?;
    let at = line.rfind("SUB _INBOX.")?;
    Some(line[at..].split(['|', ' ']).nth(2)?.to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn nothing_is_lost_uncounted_or_answered_twice(steps in proptest::collection::vec(step(), 0..60)) {
        let (log, stats, done) = run(&steps);
        // Each publish that was taken was handed out once or is counted; so are requests, unless
        // they were taken back.
        let written = |what: &str| log.iter().map(|line| line.matches(what).count() as u64).sum::<u64>();
        let (publishes, asks) = (written("PUB p "), written("PUB ask "));
        prop_assert_eq!(publishes + asks, stats.out_messages);
        prop_assert!(publishes <= done.publishes);
        prop_assert!(done.publishes <= publishes + stats.unsent_messages);
        if stats.requests == 0 {
            prop_assert_eq!(stats.out_messages + stats.unsent_messages, done.publishes);
        }
        prop_assert!(asks <= stats.requests);
        // Each flush that was taken was answered once, each drain ended once.
        let starting = |with: &str| log.iter().filter(|line| line.starts_with(with)).count() as u64;
        prop_assert_eq!(starting("flush"), done.flushes);
        prop_assert!(starting("drained ") >= done.drains);
        prop_assert_eq!(stats.dropped_messages, done.dropped);
        // Each request that was not called off ends exactly once.
        for id in &done.requests {
            let of_it = format!("{id:?}: ");
            let is_end = |line: &&String| {
                line.strip_prefix(&of_it).is_some_and(|outcome| outcome.len() > 2)
            };
            let (ends, answers) = (log.iter().filter(is_end).count(), starting(&of_it));
            // A plain answer is `x` or nothing: the end of a request for one.
            prop_assert!(ends <= 1 && (ends == 1 || answers == 1), "{} {}", of_it, log.join("\n"));
        }
        // Nothing but answers to PINGs is written before CONNECT, and nothing without a transport.
        let mut phase = "none";
        for line in &log {
            match line.split(' ').next().unwrap_or_default() {
                "dial" => phase = "dialing",
                "connected" => phase = "up",
                "disconnect:" | "disconnected:" | "attempt" => phase = "none",
                "closed," => phase = "closed",
                "write" if line.contains("CONNECT") => {
                    prop_assert_eq!(phase, "dialing");
                    phase = "handshake";
                }
                "write" if line.contains("PUB") || line.contains("SUB") => prop_assert_eq!(phase, "up"),
                "write" => prop_assert!(phase != "none" && phase != "closed"),
                _ => {}
            }
        }
        prop_assert_eq!(phase, "closed");
        prop_assert_eq!(starting("closed, "), 1);
        // The same again.
        prop_assert_eq!(run(&steps), (log, stats, done));
    }
}
