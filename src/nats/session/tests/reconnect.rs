//! What happens when a connection breaks: when it is tried again, where, how often, and what is
//! there again afterwards. And how it is seen that it broke.

use super::*;

#[test]
fn a_lost_connection_is_tried_again_at_once_and_subscribed_again() {
    let mut rig = Rig::up();
    rig.session.subscribe(pattern("a.*"), None).expect("a sid");
    rig.session.subscribe(pattern("b"), queue("q")).expect("a sid");
    let gone = rig.session.subscribe(pattern("c"), None).expect("a sid");
    assert_eq!(rig.drain(), ["write SUB a.* 1|SUB b q 2|SUB c 3|"]);
    assert!(rig.session.unsubscribe(gone, None));
    assert!(!rig.session.unsubscribe(gone, None));
    assert_eq!(rig.drain(), ["write UNSUB 3|"]);
    rig.pass(ms(1000));
    assert_eq!(
        rig.closed("EOF"),
        ["disconnected: the transport ended: EOF", "next attempt 1", "dial ws://a:1/ #1"]
    );
    let log = rig.shake_hands();
    assert_eq!(log[1..], ["connected ws://a:1/ (1)", "write SUB a.* 1|SUB b q 2|"]);
    assert_eq!(rig.session.stats().reconnects, 1);
    assert_eq!(rig.session.subscription_count(), 2);
}

/// The times of the dials in the first `time`, all of which fail at once.
fn dials(config: SessionConfig, seed: u64, time: Duration) -> Vec<Duration> {
    let mut rig = Rig::with_seed(config, seed);
    let mut times = Vec::new();
    while rig.now - Instant::START < time {
        let log = rig.pass(ms(1));
        if log.iter().any(|line| line.starts_with("dial")) {
            times.push(rig.now - Instant::START);
            rig.dial_failed("refused");
        }
    }
    times
}

#[test]
fn the_delays_grow_and_stay_within_their_bounds() {
    let times = dials(config("ws://a:1"), 7, Duration::from_secs(60));
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (gap, longest) in gaps.iter().zip([50, 100, 200, 400, 500, 500, 500]) {
        // A tick is 1 ms here.
        assert!(*gap <= ms(longest + 1) && *gap >= ms(longest / 2 - 1), "{gap:?} {longest}");
    }
    for (time, gap) in times.iter().zip(&gaps) {
        let longest = if *time < Duration::from_secs(29) { 501 } else { 4001 };
        assert!(*gap <= ms(longest), "{gap:?} at {time:?}");
    }
    assert!(gaps.iter().any(|gap| *gap > ms(1900)), "late ones are longer");
}

#[test]
fn two_runs_with_one_seed_are_the_same_and_with_another_not() {
    let urls = "ws://a:1,ws://b:1,ws://c:1";
    let shuffled = || SessionConfig { shuffle_servers: true, ..config(urls) };
    let run = |seed| {
        let mut rig = Rig::with_seed(shuffled(), seed);
        let mut log = Vec::new();
        for _ in 0..20 {
            log.extend(rig.pass(ms(300)));
            log.extend(rig.dial_failed("refused"));
        }
        (log, dials(shuffled(), seed, Duration::from_secs(5)))
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn every_server_has_its_turn_before_there_is_a_delay() {
    let mut rig = Rig::new(config("ws://a:1,ws://b:1"));
    assert_eq!(rig.drain(), ["dial ws://a:1/ #1"]);
    let reason = "could not connect: refused";
    let failed = format!("attempt 1 failed: {reason}");
    assert_eq!(rig.dial_failed("refused"), [&failed, "next attempt 2", "dial ws://b:1/ #2"]);
    assert_eq!(rig.dial_failed("refused").len(), 2, "now there is a delay");
    assert_eq!(rig.pass(ms(50)), ["dial ws://a:1/ #3"]);
    let failures: Vec<_> = rig.session.servers().map(|(_, n)| n).collect();
    assert_eq!(failures, [1, 1]);
    rig.shake_hands();
    let failures: Vec<_> = rig.session.servers().map(|(url, n)| (url.host(), n)).collect();
    assert_eq!(failures, [("b", 1), ("a", 0)]);
}

#[test]
fn a_server_that_throws_us_out_at_once_is_not_asked_at_full_speed() {
    let mut rig = Rig::new(config("ws://a:1"));
    let mut dials = 0;
    for _ in 0..1000 {
        let log = rig.pass(ms(1));
        if log.iter().any(|line| line.starts_with("dial")) {
            dials += 1;
            rig.shake_hands();
            rig.closed("thrown out");
        }
    }
    assert!((3..=10).contains(&dials), "{dials} dials in a second");
}

#[test]
fn attempts_can_be_limited() {
    // At the start: the attempt itself and two more.
    let limited = |urls| SessionConfig { max_reconnects: Some(2), ..config(urls) };
    let mut rig = Rig::new(limited("ws://a:1"));
    rig.drain();
    rig.dial_failed("no 1");
    rig.pass(ms(1000));
    rig.dial_failed("no 2");
    rig.pass(ms(1000));
    let why = "could not connect: no 3";
    let closed = format!("closed, 0 unsent: gave up after 3 attempts, at last since: {why}");
    assert_eq!(rig.dial_failed("no 3"), [format!("attempt 3 failed: {why}"), closed]);
    assert_eq!(rig.session.status(), Status::Closed);
    assert!(rig.pass(Duration::from_secs(100)).is_empty(), "for good");

    // Later: two. A success counts anew.
    let mut rig = Rig::up_with(limited("ws://a:1"));
    for _ in 0..3 {
        rig.pass(ms(2000));
        rig.closed("gone");
        rig.dial_failed("no");
        rig.pass(ms(1000));
        rig.shake_hands();
        assert!(rig.session.is_connected());
    }
    // Also if the connection was up for a moment only: neither the attempt that made it nor those
    // of an outage before it count.
    let mut rig = Rig::up_with(limited("ws://a:1"));
    for _ in 0..3 {
        rig.pass(ms(10));
        rig.closed("gone");
        rig.pass(ms(1000));
        rig.dial_failed("no 1");
        rig.pass(ms(1000));
        rig.shake_hands();
        assert!(rig.session.is_connected());
    }
    rig.closed("gone");
    rig.pass(ms(1000));
    rig.dial_failed("no 1");
    rig.pass(ms(1000));
    let log = rig.dial_failed("no 2");
    assert!(log[1].contains("gave up after 2 attempts"), "{log:?}");
    // None at all.
    let mut rig = Rig::up_with(SessionConfig { max_reconnects: Some(0), ..config("ws://a:1") });
    rig.pass(ms(2000));
    let log = rig.closed("gone");
    assert!(log[1].starts_with("closed"), "{log:?}");
}

#[test]
fn without_retry_at_the_start_each_server_is_tried_once() {
    let mut rig =
        Rig::new(SessionConfig { retry_on_failed_connect: false, ..config("ws://a:1,ws://b:1") });
    rig.drain();
    let log = rig.dial_failed("no");
    assert_eq!(log[2], "dial ws://b:1/ #2");
    let log = rig.dial_failed("no");
    assert!(log[1].starts_with("closed, 0 unsent: gave up after 2"), "{log:?}");

    // But once it was up, it comes back.
    let mut rig =
        Rig::up_with(SessionConfig { retry_on_failed_connect: false, ..config("ws://a:1") });
    rig.closed("gone");
    for _ in 0..20 {
        rig.pass(ms(5000));
        rig.dial_failed("no");
    }
    assert_ne!(rig.session.status(), Status::Closed);
}

#[test]
fn by_default_it_never_gives_up() {
    let mut rig = Rig::new(config("ws://a:1"));
    for attempt in 1..500 {
        rig.pass(ms(4000));
        let log = rig.dial_failed("refused");
        assert_eq!(log[0], format!("attempt {attempt} failed: could not connect: refused"));
    }
    rig.pass(ms(4000));
    rig.shake_hands();
    assert!(rig.session.is_connected());
    assert_eq!(rig.session.stats().failed_attempts, 499);
    assert_eq!(rig.session.stats().reconnects, 0);
}

#[test]
fn what_an_abandoned_transport_reports_is_ignored() {
    let mut rig = Rig::up();
    rig.pass(ms(2000));
    let old = rig.dial;
    rig.closed("gone");
    assert_eq!(rig.dial, old + 1);
    let reason = || "late".to_owned();
    for input in [
        Input::Closed { dial: old, reason: reason() },
        Input::DialFailed { dial: old, reason: reason() },
        Input::Opened { dial: old },
        Input::Control { dial: old, op: ControlOp::Info(Box::default()) },
        Input::Control { dial: old, op: ControlOp::Pong },
        Input::Control { dial: old + 7, op: ControlOp::Ping },
    ] {
        assert!(rig.input(input.clone()).is_empty(), "{input:?}");
    }
    rig.shake_hands();
    assert!(rig.session.is_connected());
}

#[test]
fn pings_are_sent_and_answered() {
    let mut rig = Rig::up();
    assert_eq!(rig.says("PING"), ["write PONG|"]);
    for _ in 0..5 {
        assert!(rig.pass(ms(119_999)).is_empty());
        assert_eq!(rig.pass(ms(1)), ["write PING|"]);
        assert!(rig.says("PONG").is_empty());
    }
    assert!(rig.says("PONG").is_empty(), "one that nobody asked for");
}

#[test]
fn a_connection_that_does_not_answer_is_stale() {
    let mut rig = Rig::up();
    assert_eq!(rig.pass(ms(240_000)), ["write PING|", "write PING|"]);
    assert!(rig.pass(ms(119_999)).is_empty());
    let reason = "stale: 2 PINGs were not answered";
    assert_eq!(
        rig.pass(ms(1)),
        [
            &format!("disconnect: {reason}"),
            &format!("disconnected: {reason}"),
            "next attempt 1",
            "dial ws://a:1/ #1"
        ]
    );
    // The next connection starts with a clean count.
    rig.shake_hands();
    assert_eq!(rig.pass(ms(240_000)), ["write PING|", "write PING|"]);
    assert!(rig.session.is_connected());
}

#[test]
fn an_expired_user_comes_back_with_new_credentials() {
    let mut rig = Rig::up();
    rig.pass(ms(2000));
    let text = "User Authentication Expired";
    assert_eq!(
        rig.says(&format!("-ERR '{text}'")),
        [
            format!("server error: {text}"),
            format!("disconnect: not authorized: {text}"),
            format!("disconnected: not authorized: {text}"),
            "next attempt 1".into(),
            "dial ws://a:1/ #1".into()
        ]
    );
}

#[test]
fn close_ends_it_in_every_phase() {
    let closed = "closed, 0 unsent: closed";
    let mut rig = Rig::new(config("ws://a:1"));
    rig.drain();
    rig.session.close();
    assert_eq!(rig.drain(), ["disconnect: closed", closed]);
    let mut rig = Rig::new(config("ws://a:1"));
    rig.drain();
    rig.dial_failed("no");
    rig.session.close();
    assert_eq!(rig.drain(), [closed]);
    let mut rig = Rig::up();
    rig.publish("a").expect("taken");
    rig.session.close();
    rig.session.close();
    assert_eq!(rig.drain(), ["write PUB a 1|x|", "disconnect: closed", closed]);

    assert_eq!(rig.publish("a"), Err(PublishError::Closed));
    assert_eq!(rig.session.flush(1), Err(FlushError::Closed));
    let refused = rig.session.subscribe(pattern("a"), None);
    assert_eq!(refused, Err(SubscribeError::Closed));
    assert!(rig.closed("EOF").is_empty());
    assert!(rig.pass(Duration::from_secs(1000)).is_empty());
}

#[test]
fn a_reconnect_on_demand_is_at_once_and_keeps_what_waits() {
    let mut rig = Rig::up_with(config("ws://a:1,ws://b:1"));
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.drain();
    rig.publish("p").expect("taken");
    rig.session.force_reconnect(rig.now);
    let why = "a new connection was asked for";
    assert_eq!(
        rig.drain(),
        [
            &format!("disconnect: {why}"),
            &format!("disconnected: {why}"),
            "next attempt 1",
            "dial ws://b:1/ #1"
        ]
    );
    // One that is under way is not given up for another.
    rig.session.force_reconnect(rig.now);
    assert!(rig.drain().is_empty());
    assert_eq!(rig.shake_hands()[2..], ["write SUB s 1|PUB p 1|x|"]);
    // However often.
    for _ in 0..20 {
        rig.session.force_reconnect(rig.now);
        let log = rig.drain();
        assert!(log.last().is_some_and(|line| line.starts_with("dial")), "{log:?}");
        rig.shake_hands();
    }
    // A delay is cut short.
    rig.closed("gone");
    while !matches!(rig.session.status(), Status::Waiting { .. }) {
        rig.dial_failed("no");
    }
    rig.session.force_reconnect(rig.now);
    assert!(rig.drain()[0].starts_with("dial"));
    rig.session.close();
    rig.drain();
    rig.session.force_reconnect(rig.now);
    assert!(rig.drain().is_empty());
}
