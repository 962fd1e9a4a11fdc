//! Any inputs and commands in any order: what has to hold all the same.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Opened,
    DialFailed,
    Closed,
    Stale,
    Line(&'static str),
    Pass(u64),
    Subscribe,
    Unsubscribe(u64, Option<u64>),
    Publish,
    Flush,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    let line = proptest::sample::select(vec![
        INFO,
        "INFO {}",
        r#"INFO {"ldm":true,"connect_urls":["b:1","c:2"]}"#,
        "PING",
        "PONG",
        "+OK",
        "-ERR 'Authorization Violation'",
        "-ERR 'Permissions Violation for Subscription to \"s\"'",
        "-ERR 'Stale Connection'",
        "-ERR 'Other'",
        "MSG s 1 1\r\nx",
        "MSG s 2 1\r\nx",
    ]);
    prop_oneof![
        1 => Just(Step::Opened),
        1 => Just(Step::DialFailed),
        1 => Just(Step::Closed),
        1 => Just(Step::Stale),
        8 => line.prop_map(Step::Line),
        4 => (0u64..200_000).prop_map(Step::Pass),
        2 => Just(Step::Subscribe),
        1 => (1u64..4, proptest::option::of(0u64..3)).prop_map(|(sid, max)| Step::Unsubscribe(sid, max)),
        3 => Just(Step::Publish),
        2 => Just(Step::Flush),
        1 => Just(Step::Close),
    ]
}

fn run(steps: &[Step]) -> (Vec<String>, Stats, u64, u64, u64) {
    let mut rig = Rig::new(SessionConfig {
        max_pending_messages: 3,
        max_reconnects: Some(50),
        ..config("ws://a:1")
    });
    let mut log = rig.drain();
    let (mut taken, mut flushes) = (0, 0);
    for step in steps {
        log.extend(match step {
            Step::Opened => rig.opened(),
            Step::DialFailed => rig.dial_failed("no"),
            Step::Closed => rig.closed("gone"),
            Step::Stale => {
                let (dial, reason) = (rig.dial.saturating_sub(1), "late".into());
                rig.input(Input::Closed { dial, reason })
            }
            Step::Line(line) => rig.says(line),
            Step::Pass(time) => rig.pass(ms(*time)),
            Step::Subscribe => {
                let _ = rig.session.subscribe(pattern("s"), None);
                rig.drain()
            }
            Step::Unsubscribe(sid, max) => {
                rig.session.unsubscribe(*sid, *max);
                rig.drain()
            }
            Step::Publish => {
                taken += u64::from(rig.publish("p").is_ok());
                rig.drain()
            }
            Step::Flush => {
                flushes += u64::from(rig.session.flush(1).is_ok());
                rig.drain()
            }
            Step::Close => {
                rig.session.close();
                rig.drain()
            }
        });
    }
    rig.session.close();
    log.extend(rig.drain());
    (log, rig.session.stats(), taken, flushes, rig.session.pending_messages())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_is_lost_uncounted_or_answered_twice(steps in proptest::collection::vec(step(), 0..40)) {
        let (log, stats, taken, flushes, pending) = run(&steps);
        // Each publish that was taken was handed out once or is counted.
        prop_assert_eq!(stats.out_messages + stats.unsent_messages, taken);
        prop_assert_eq!(pending, 0);
        let written: usize = log.iter().map(|line| line.matches("PUB p").count()).sum();
        prop_assert_eq!(written as u64, stats.out_messages);
        // Each flush that was taken was answered once.
        let answered = log.iter().filter(|line| line.starts_with("flush")).count();
        prop_assert_eq!(answered as u64, flushes);
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
        // The same again.
        prop_assert_eq!(run(&steps).0, log);
    }
}
