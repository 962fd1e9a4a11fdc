//! Subscriptions, publishes and flushes, with and without a connection.

use super::*;

/// A session that has no connection: its first dial does not answer.
fn offline(change: impl FnOnce(&mut SessionConfig)) -> Rig {
    let mut config = config("ws://a:1");
    change(&mut config);
    let mut rig = Rig::new(config);
    rig.drain();
    rig
}

#[test]
fn what_is_done_without_a_connection_happens_with_the_first() {
    let mut rig = offline(|_| {});
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.session.subscribe(pattern("t"), queue("q")).expect("a sid");
    rig.publish("a").expect("taken");
    rig.session.flush(9).expect("taken");
    rig.publish("b").expect("taken");
    assert!(rig.drain().is_empty());
    let (messages, bytes) = (rig.session.pending_messages(), rig.session.pending_bytes());
    assert_eq!((messages, bytes), (2, 24));
    let log = rig.shake_hands();
    assert_eq!(
        log[1..],
        ["connected ws://a:1/ (0)", "write SUB s 1|SUB t q 2|PUB a 1|x|PUB b 1|x|PING|"]
    );
    assert_eq!(rig.says("PONG"), ["flushed 9"]);
    let stats = rig.session.stats();
    assert_eq!((stats.out_messages, stats.out_bytes), (2, 24));
    assert_eq!(rig.session.pending_messages(), 0);
}

#[test]
fn what_piles_up_is_written_together_in_its_order() {
    let mut rig = Rig::up();
    rig.publish("a").expect("taken");
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.session.flush(1).expect("taken");
    rig.publish("b").expect("taken");
    rig.session.unsubscribe(1, Some(2));
    assert_eq!(rig.drain(), ["write PUB a 1|x|SUB s 1|PING|PUB b 1|x|UNSUB 1 2|"]);
}

#[test]
fn a_full_buffer_is_an_error_at_the_call_and_takes_nothing() {
    // One publish here is 12 bytes.
    for (bytes, messages, fit) in
        [(36, 100, 3), (35, 100, 2), (1000, 2, 2), (0, 100, 0), (1000, 0, 0)]
    {
        let mut rig = offline(|config| {
            config.max_pending_bytes = bytes;
            config.max_pending_messages = messages;
        });
        for n in 0..fit {
            rig.publish("a").unwrap_or_else(|e| panic!("{n} of {fit}: {e}"));
        }
        let expected = PublishError::BufferFull {
            messages: 1,
            bytes: 12,
            waiting_messages: fit,
            waiting_bytes: fit as usize * 12,
            max_messages: messages,
            max_bytes: bytes,
        };
        assert_eq!(rig.publish("b"), Err(expected));
        assert_eq!(rig.session.pending_messages(), fit);
        assert_eq!(rig.session.stats().refused_messages, 1);
        let written = rig.shake_hands().join(" ");
        assert_eq!(written.matches("PUB a").count() as u64, fit);
        assert!(!written.contains("PUB b"));
        rig.publish("c").expect("a connection takes it");
        assert_eq!(rig.drain(), ["write PUB c 1|x|"]);
    }
}

#[test]
fn a_batch_is_taken_or_refused_as_a_whole() {
    let mut rig = offline(|config| config.max_pending_messages = 5);
    let batch = |ops: usize| "PUB a 0\r\n\r\n".repeat(ops).into_bytes();
    rig.session.publish(batch(3), 3).expect("fits");
    assert!(rig.session.publish(batch(3), 3).is_err());
    assert_eq!(rig.session.pending_messages(), 3);
    rig.session.publish(batch(2), 2).expect("fits");
    rig.session.publish(Vec::new(), 0).expect("nothing always fits");
    assert_eq!(rig.session.stats().refused_messages, 3);
}

#[test]
fn a_host_that_does_not_write_is_told_so() {
    let mut rig = Rig::up_with(SessionConfig {
        max_unwritten_bytes: 30,
        max_pending_bytes: 0,
        ..config("ws://a:1")
    });
    // What finds nothing before it is taken, whatever its size.
    rig.session.publish(vec![b'x'; 1000], 1).expect("taken");
    assert!(rig.publish("b").is_err());
    rig.drain();
    rig.publish("a").expect("taken");
    rig.publish("a").expect("taken");
    assert!(rig.publish("a").is_err());
    assert_eq!(rig.drain(), ["write PUB a 1|x|PUB a 1|x|"]);
}

#[test]
fn what_was_handed_out_is_not_written_twice_and_what_was_not_is_not_lost() {
    let mut rig = Rig::up();
    rig.pass(ms(2000));
    rig.publish("a").expect("taken");
    assert_eq!(rig.drain(), ["write PUB a 1|x|"]);
    // Taken while it was up, and not handed out before it broke.
    rig.publish("b").expect("taken");
    rig.says("PING");
    rig.publish("c").expect("taken");
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    let log = rig.closed("gone");
    assert_eq!(log.len(), 3, "{log:?}");
    rig.publish("d").expect("taken");
    let log = rig.shake_hands();
    assert_eq!(log[2..], ["write SUB s 1|PUB c 1|x|PUB d 1|x|"]);
    assert_eq!(rig.session.stats().out_messages, 4);
}

#[test]
fn messages_that_were_never_sent_are_counted_at_the_end() {
    let mut rig = offline(|_| {});
    rig.publish("a").expect("taken");
    rig.session.flush(3).expect("taken");
    rig.session.close();
    assert_eq!(
        rig.drain(),
        ["disconnect: closed", "flush 3: the connection is closed", "closed, 1 unsent: closed"]
    );
    assert_eq!(rig.session.stats().unsent_messages, 1);
}

#[test]
fn flushes_are_answered_in_their_order_and_not_by_keep_alives() {
    let mut rig = Rig::up();
    rig.pass(ms(120_000));
    rig.session.flush(1).expect("taken");
    rig.session.flush(2).expect("taken");
    assert_eq!(rig.drain(), ["write PING|PING|"]);
    assert!(rig.says("PONG").is_empty(), "that was the keep-alive");
    assert_eq!(rig.says("PONG"), ["flushed 1"]);
    assert_eq!(rig.says("PONG"), ["flushed 2"]);
}

#[test]
fn a_flush_on_a_connection_that_breaks_fails_at_once() {
    let mut rig = Rig::up();
    rig.session.flush(1).expect("taken");
    rig.drain();
    rig.session.flush(2).expect("taken");
    let log = rig.closed("gone");
    let why = "the connection broke before the server had answered";
    assert_eq!(log[1..3], [format!("flush 1: {why}"), format!("flush 2: {why}")]);
    // One that is asked for in between waits for the next connection.
    rig.session.flush(3).expect("taken");
    rig.pass(ms(1000));
    rig.shake_hands();
    assert_eq!(rig.says("PONG"), ["flushed 3"]);
}

#[test]
fn a_flush_knows_of_a_connection_that_broke_before_it() {
    let mut rig = Rig::up();
    rig.publish("a").expect("taken");
    rig.session.flush(1).expect("taken");
    rig.drain();
    rig.says("PONG");
    // Everything that was handed out is with the server: nothing is lost.
    rig.closed("gone");
    rig.pass(ms(1000));
    rig.shake_hands();
    rig.session.flush(2).expect("taken");
    rig.drain();
    assert_eq!(rig.says("PONG"), ["flushed 2"]);
    // One more was handed out, and one was not.
    rig.publish("b").expect("taken");
    rig.drain();
    rig.publish("c").expect("taken");
    rig.closed("gone");
    rig.pass(ms(1000));
    rig.shake_hands();
    rig.session.flush(3).expect("taken");
    let why = "the connection broke before the server had answered";
    assert_eq!(rig.drain(), [format!("flush 3: {why}")]);
    // It was told; the other one has been written since.
    rig.session.flush(4).expect("taken");
    assert_eq!(rig.drain(), ["write PING|"]);
    assert_eq!(rig.says("PONG"), ["flushed 4"]);
    // What a flush that fails is for is told by it, and what comes behind it is not.
    rig.publish("d").expect("taken");
    rig.session.flush(5).expect("taken");
    rig.publish("e").expect("taken");
    rig.drain();
    assert!(rig.closed("gone").contains(&format!("flush 5: {why}")));
    rig.session.flush(6).expect("taken");
    assert_eq!(rig.drain(), [format!("flush 6: {why}")]);
}

#[test]
fn flushes_are_bounded() {
    for mut rig in [Rig::up(), offline(|_| {})] {
        for token in 0..1024 {
            rig.session.flush(token).expect("taken");
        }
        assert_eq!(rig.session.flush(1024), Err(FlushError::TooMany { max: 1024 }));
        rig.drain();
        if rig.session.is_connected() {
            rig.says("PONG");
            rig.session.flush(1024).expect("one was answered");
        }
    }
}

#[test]
fn messages_are_delivered_to_subscriptions_that_exist() {
    let mut rig = Rig::up();
    let sid = rig.session.subscribe(pattern("a.*"), None).expect("a sid");
    rig.drain();
    assert_eq!(rig.says("MSG a.b 1 2\r\nhi"), ["deliver 1 a.b hi"]);
    assert!(rig.says("MSG a.b 7 2\r\nhi").is_empty());
    rig.session.unsubscribe(sid, None);
    rig.drain();
    assert!(rig.says("MSG a.b 1 2\r\nhi").is_empty(), "it was on its way");
    let stats = rig.session.stats();
    let wire = "MSG a.b 1 2\r\nhi\r\n".len() as u64;
    assert_eq!((stats.in_messages, stats.in_bytes), (1, wire));
    assert_eq!(stats.unmatched_messages, 2);
    // A reader of its own reports in bulk.
    let sid = rig.session.subscribe(pattern("b"), None).expect("a sid");
    let received = |sid| Input::Received { sid, messages: 10, bytes: 100 };
    rig.input(received(sid));
    rig.input(received(99));
    let stats = rig.session.stats();
    assert_eq!((stats.in_messages, stats.in_bytes), (11, wire + 100));
    assert_eq!(stats.unmatched_messages, 12);
}

#[test]
fn unsubscribe_after_so_many_survives_reconnects() {
    let mut rig = Rig::up();
    let sid = rig.session.subscribe(pattern("a"), None).expect("a sid");
    rig.says("MSG a 1 1\r\nx");
    assert!(rig.session.unsubscribe(sid, Some(5)));
    assert_eq!(rig.drain(), ["write UNSUB 1 5|"]);
    rig.says("MSG a 1 1\r\nx");
    rig.pass(ms(2000));
    rig.closed("gone");
    let log = rig.shake_hands();
    assert_eq!(log[2..], ["write SUB a 1|UNSUB 1 3|"]);
    rig.says("MSG a 1 1\r\nx");
    // A new limit, counted on the wire from this connection's SUB: two came before it.
    rig.session.unsubscribe(sid, Some(4));
    assert_eq!(rig.drain(), ["write UNSUB 1 2|"]);
    assert_eq!(rig.says("MSG a 1 1\r\nx").len(), 1);
    assert_eq!(rig.session.subscription_count(), 0);
    assert!(rig.says("MSG a 1 1\r\nx").is_empty());

    // A limit that is reached already ends it.
    let sid = rig.session.subscribe(pattern("b"), None).expect("a sid");
    rig.drain();
    rig.input(Input::Received { sid, messages: 3, bytes: 0 });
    assert!(rig.session.unsubscribe(sid, Some(3)));
    assert_eq!(rig.drain(), [format!("write UNSUB {sid}|")]);
    let sid = rig.session.subscribe(pattern("b"), None).expect("a sid");
    assert!(rig.session.unsubscribe(sid, Some(0)), "0 is now");
    assert_eq!(rig.session.subscription_count(), 0);
}

#[test]
fn subscriptions_are_bounded_and_ids_are_unique() {
    let mut rig = offline(|config| config.max_subscriptions = 3);
    rig.session.subscribe_as(10, pattern("a"), None).expect("free");
    let taken = |sid| Err(SubscribeError::SidTaken(sid));
    assert_eq!(rig.session.subscribe_as(10, pattern("a"), None), taken(10));
    assert_eq!(rig.session.subscribe_as(0, pattern("a"), None), taken(0));
    assert_eq!(rig.session.subscribe(pattern("a"), None), Ok(11));
    rig.session.subscribe_as(5, pattern("a"), None).expect("free");
    let full = Err(SubscribeError::TooMany { max: 3 });
    assert_eq!(rig.session.subscribe(pattern("a"), None), full);
    rig.session.unsubscribe(10, None);
    assert_eq!(rig.session.subscribe(pattern("a"), None), Ok(12));
    rig.session.unsubscribe(12, None);
    rig.session.subscribe_as(u64::MAX, pattern("a"), None).expect("free");
    rig.session.unsubscribe(5, None);
    assert_eq!(rig.session.subscribe(pattern("a"), None), Err(SubscribeError::SidTaken(u64::MAX)));
}

#[test]
fn many_subscriptions_come_back_in_pieces() {
    let mut rig = offline(|_| {});
    let long = "x".repeat(1000);
    for n in 0..200 {
        let subject = pattern(&format!("{long}.{n}"));
        rig.session.subscribe(subject, None).expect("a sid");
    }
    let log = rig.shake_hands();
    let writes: Vec<_> = log.iter().filter(|line| line.starts_with("write SUB")).collect();
    assert!(writes.len() > 2 && writes.iter().all(|write| write.len() < 70_000));
    let subs: usize = writes.iter().map(|write| write.matches("SUB ").count()).sum();
    assert_eq!(subs, 200);
}

#[test]
fn a_subscription_that_is_not_permitted_ends() {
    let mut rig = Rig::up();
    for (subject, group) in
        [("a.>", None), ("b", None), ("b", queue("q")), ("b", queue("r")), ("c", None)]
    {
        rig.session.subscribe(pattern(subject), group).expect("a sid");
    }
    rig.drain();
    let violation = "Permissions Violation for";
    for (line, expected) in [
        ("Subscription to \"a.>\"", "no permission to subscribe to \"a.>\", ends [1]"),
        (
            "Subscription to \"b\" using queue \"q\"",
            "no permission to subscribe to \"b\" in queue group \"q\", ends [3]",
        ),
        ("Subscription to \"b\"", "no permission to subscribe to \"b\", ends [2, 4]"),
        ("Publish to \"c\"", "no permission to publish to \"c\", ends []"),
    ] {
        assert_eq!(rig.says(&format!("-ERR '{violation} {line}'")), [expected]);
    }
    rig.pass(ms(2000));
    rig.closed("gone");
    let log = rig.shake_hands();
    assert_eq!(log[2..], ["write SUB c 5|"]);
    assert_eq!(rig.session.stats().server_errors, 4);
}

#[test]
fn another_error_of_the_server_is_told() {
    let mut rig = Rig::up();
    assert_eq!(rig.says("-ERR 'Invalid Subject'"), ["server error: Invalid Subject"]);
    assert!(rig.session.is_connected());
    let log = rig.says("-ERR 'Stale Connection'");
    assert_eq!(log[0], "disconnect: the server says: Stale Connection");
}

#[test]
fn a_slow_consumer_is_told_once_and_what_was_dropped_is_counted() {
    let mut rig = Rig::up();
    let sid = rig.session.subscribe(pattern("s.*"), None).expect("a sid");
    rig.drain();
    let dropped = |sid, messages, began| Input::SlowConsumer {
        sid,
        dropped_messages: messages,
        dropped_bytes: messages * 10,
        began,
    };
    assert_eq!(rig.input(dropped(sid, 3, true)), ["slow consumer 1 s.*, 3 dropped"]);
    assert!(rig.input(dropped(sid, 4, false)).is_empty());
    // It kept up in between.
    assert_eq!(rig.input(dropped(sid, 1, true)), ["slow consumer 1 s.*, 1 dropped"]);
    // One that has ended since is counted, too.
    assert!(rig.input(dropped(99, 5, true)).is_empty());
    let stats = rig.session.stats();
    assert_eq!((stats.dropped_messages, stats.dropped_bytes), (13, 130));
}

#[test]
fn the_statistics_are_kept_over_reconnects() {
    let mut rig = Rig::up();
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    for n in 1..=3u64 {
        rig.publish("a").expect("taken");
        let none = Headers::new();
        rig.session.request(rig.now, "a", &none, b"", ms(5)).expect("taken");
        rig.drain();
        rig.says("MSG s 1 1\r\nx");
        let began = n == 1;
        rig.input(Input::SlowConsumer { sid: 1, dropped_messages: 1, dropped_bytes: 9, began });
        let stats = rig.session.stats();
        assert_eq!((stats.in_messages, stats.out_messages, stats.requests), (n, 2 * n, n));
        assert_eq!(
            (stats.reconnects, stats.dropped_messages, stats.dropped_bytes),
            (n - 1, n, 9 * n)
        );
        rig.pass(ms(2000));
        rig.closed("gone");
        rig.shake_hands();
    }
}

#[test]
fn a_permission_that_is_taken_away_ends_the_subscription_that_it_names() {
    let mut rig = Rig::up();
    for _ in 0..3 {
        rig.session.subscribe(pattern("s"), None).expect("a sid");
    }
    rig.drain();
    let line = "-ERR 'Permissions Violation for Subscription to \"s\" (sid \"2\")'";
    assert_eq!(rig.says(line), ["no permission to subscribe to \"s\", ends [2]"]);
}

#[test]
fn fatal_errors_name_the_reason_and_others_end_nothing() {
    for text in [
        "maximum connections exceeded",
        "maximum account active connections exceeded",
        "Maximum Payload Violation",
        "maximum control line exceeded",
        "Unknown Protocol Operation",
        "Slow Consumer",
        "Server Shutdown",
    ] {
        let mut rig = Rig::up();
        let log = rig.says(&format!("-ERR '{text}'"));
        assert_eq!(log[1], format!("disconnected: the server says: {text}"));
        assert_eq!(rig.session.stats().server_errors, 1);
    }
    for text in ["Invalid Publish Subject", "maximum subscriptions exceeded", "something new"] {
        let mut rig = Rig::up();
        assert_eq!(rig.says(&format!("-ERR '{text}'")), [format!("server error: {text}")]);
        assert!(rig.session.is_connected());
    }
}
