//! Requests and their answers.

use super::*;
use crate::nats::RequestMany;

fn ask(rig: &mut Rig, subject: &str, timeout: u64) -> RequestId {
    let none = Headers::new();
    rig.session.request(rig.now, subject, &none, b"?", ms(timeout)).expect("taken")
}

/// Asks, and takes what is written for it: the reply subject.
fn asked(rig: &mut Rig, subject: &str, timeout: u64) -> String {
    ask(rig, subject, timeout);
    reply_subject(&rig.drain().join(" "))
}

fn many(rig: &mut Rig, many: &RequestMany) -> String {
    rig.session.request_many(rig.now, "a", &Headers::new(), b"?", many).expect("taken");
    reply_subject(&rig.drain().join(" "))
}

#[test]
fn one_inbox_for_all_and_an_answer_finds_its_request() {
    let mut rig = Rig::up();
    let one = ask(&mut rig, "a", 1000);
    let log = rig.drain();
    let first = reply_subject(&log[0]);
    let inbox = first.rsplitn(3, '.').last().expect("a prefix").to_owned();
    assert_eq!(log, [format!("write SUB {inbox}.*.* 1|PUB a {first} 1|?|")]);
    let two = ask(&mut rig, "b", 1000);
    let log = rig.drain();
    let second = reply_subject(&log[0]);
    assert_eq!(log, [format!("write PUB b {second} 1|?|")]);
    assert!(one != two && first != second);
    // In any order.
    assert_eq!(rig.says(&format!("MSG {second} 1 3\r\ntwo")), ["RequestId(2): two"]);
    assert_eq!(rig.says(&format!("MSG {first} 1 3\r\none")), ["RequestId(1): one"]);
    assert_eq!(rig.session.pending_requests(), 0);
    // A second answer is one too many.
    assert!(rig.says(&format!("MSG {first} 1 3\r\none")).is_empty());
    let stats = rig.session.stats();
    assert_eq!((stats.requests, stats.out_messages, stats.in_messages), (2, 2, 2));
    assert_eq!(stats.unmatched_messages, 1);
}

#[test]
fn one_that_times_out_leaves_nothing_behind() {
    let mut rig = Rig::up();
    let mut replies = Vec::new();
    for n in 0..1000 {
        replies.push(asked(&mut rig, "a", 1000 + n));
    }
    assert_eq!(rig.session.pending_requests(), 1000);
    assert!(rig.pass(ms(999)).is_empty());
    let log = rig.pass(ms(1));
    assert_eq!(log, ["RequestId(1): no answer in time"]);
    let log = rig.pass(ms(5000));
    assert_eq!(log.len(), 999);
    assert_eq!(log[998], "RequestId(1000): no answer in time");
    assert_eq!(rig.session.pending_requests(), 0);
    // Only the keep-alive is waited for.
    assert_eq!(rig.wait(), Some(ms(120_000)));
    // Late answers find nobody, also when their place is taken by another.
    let log = asked(&mut rig, "b", 1000);
    for reply in &replies {
        assert!(rig.says(&format!("MSG {reply} 1 1\r\n!")).is_empty());
    }
    assert_eq!(rig.session.stats().unmatched_messages, 1000);
    assert_eq!(rig.says(&format!("MSG {log} 1 1\r\n!")), ["RequestId(1001): !"]);
}

#[test]
fn the_table_does_not_grow_with_requests_that_end() {
    let mut rig = Rig::up_with(SessionConfig { max_requests: 2, ..config("ws://a:1") });
    for n in 1..=500 {
        let id = ask(&mut rig, "a", 10);
        let reply = reply_subject(&rig.drain()[0]);
        match n % 3 {
            0 => drop(rig.says(&format!("MSG {reply} 1 1\r\n!"))),
            1 => drop(rig.pass(ms(10))),
            _ => assert!(rig.session.cancel_request(id)),
        }
        assert!(reply.contains(".0."), "always in the one place: {reply}");
        assert_eq!(rig.session.pending_requests(), 0);
    }
    // A bound that was reached is told, and is no bound for ever.
    ask(&mut rig, "a", 10);
    ask(&mut rig, "a", 20);
    let refused = rig.session.request(rig.now, "a", &Headers::new(), b"", ms(10));
    assert_eq!(refused, Err(RequestRefused::TooMany { max: 2 }));
    rig.pass(ms(10));
    ask(&mut rig, "a", 10);
}

#[test]
fn nobody_there_is_known_at_once() {
    let mut rig = Rig::up();
    let reply = asked(&mut rig, "a", 1000);
    let nobody = format!("HMSG {reply} 1 16 16\r\nNATS/1.0 503\r\n\r\n");
    assert_eq!(rig.says(&nobody), ["RequestId(1): nobody listens on the subject"]);
    assert_eq!(rig.session.pending_requests(), 0);
}

#[test]
fn those_in_flight_fail_at_once_when_the_connection_breaks() {
    let mut rig = Rig::up();
    rig.pass(ms(2000));
    let reply = asked(&mut rig, "a", 60_000);
    // Taken, and not yet written.
    ask(&mut rig, "b", 60_000);
    let log = rig.closed("gone");
    let why = "RequestId(1): the connection broke before there was an answer";
    assert_eq!(log[1..], [why, "next attempt 1", "dial ws://a:1/ #1"]);
    assert_eq!(rig.session.pending_requests(), 1);
    let log = rig.shake_hands();
    assert!(log[2].starts_with("write SUB _INBOX.") && log[2].contains("|PUB b "), "{log:?}");
    let second = reply_subject(&log[2]);
    assert!(rig.says(&format!("MSG {reply} 1 1\r\n!")).is_empty());
    assert_eq!(rig.says(&format!("MSG {second} 1 1\r\n!")), ["RequestId(2): !"]);
}

#[test]
fn one_that_waits_for_a_connection_is_taken_back_when_its_time_is_over() {
    let mut rig = Rig::new(config("ws://a:1"));
    rig.drain();
    rig.publish("before").expect("taken");
    ask(&mut rig, "a", 100);
    ask(&mut rig, "b", 2000);
    rig.publish("after").expect("taken");
    let (messages, bytes) = (rig.session.pending_messages(), rig.session.pending_bytes());
    assert_eq!(messages, 4);
    assert_eq!(rig.pass(ms(100)), ["RequestId(1): no answer in time"]);
    assert_eq!(rig.session.pending_messages(), 3);
    assert!(rig.session.pending_bytes() < bytes);
    let log = rig.shake_hands().remove(2);
    assert!(!log.contains("PUB a "), "{log}");
    let order = ["SUB _INBOX", "PUB before", "PUB b ", "PUB after"].map(|op| log.find(op));
    assert!(order.is_sorted() && order[0].is_some(), "{log}");
    assert_eq!((rig.session.pending_messages(), rig.session.pending_bytes()), (0, 0));

    // Its room in the buffer is free again.
    let config = SessionConfig { max_pending_messages: 1, ..config("ws://a:1") };
    let mut rig = Rig::new(config);
    rig.drain();
    let id = ask(&mut rig, "a", 1000);
    let full = rig.session.request(rig.now, "b", &Headers::new(), b"", ms(9));
    assert!(matches!(full, Err(RequestRefused::Publish(PublishError::BufferFull { .. }))));
    assert_eq!(rig.session.pending_requests(), 1);
    assert!(rig.session.cancel_request(id) && !rig.session.cancel_request(id));
    rig.publish("c").expect("fits");
}

#[test]
fn an_answer_before_the_request_was_written_is_none() {
    let mut rig = Rig::up();
    let reply = asked(&mut rig, "a", 1000);
    rig.says(&format!("MSG {reply} 1 1\r\n!"));
    // The next one has the same place and the next number, and is not yet written.
    ask(&mut rig, "b", 1000);
    let guess = reply.replace(".0.1", ".0.2");
    assert_ne!(guess, reply);
    let message = rig.message(&format!("MSG {guess} 1 1\r\n!\r\n"));
    rig.session.handle_input(rig.now, message);
    let log = rig.drain();
    assert!(log[0].starts_with("write PUB b") && log.len() == 1, "{log:?}");
    assert_eq!(rig.says(&format!("MSG {guess} 1 1\r\n!")), ["RequestId(2): !"]);
}

#[test]
fn what_is_no_request_of_ours_is_counted() {
    let mut rig = Rig::up();
    let reply = asked(&mut rig, "a", 1000);
    let (inbox, _) = reply.split_at(reply.len() - ".0.1".len());
    for subject in [
        format!("{inbox}.0.2"),
        format!("{inbox}.1.1"),
        format!("{inbox}.4294967296.1"),
        format!("{inbox}.0.x"),
        "_INBOX.x.0.1".into(),
    ] {
        assert!(rig.says(&format!("MSG {subject} 1 1\r\n!")).is_empty(), "{subject}");
    }
    assert_eq!(rig.session.stats().unmatched_messages, 5);
    assert_eq!(rig.session.pending_requests(), 1);
}

#[test]
fn a_refused_publish_fails_its_request() {
    let mut rig = Rig::up();
    asked(&mut rig, "secret", 1000);
    asked(&mut rig, "free", 1000);
    let reply = asked(&mut rig, "other", 1000);
    let violation = "-ERR 'Permissions Violation for Publish";
    assert_eq!(
        rig.says(&format!("{violation} to \"secret\"'")),
        [
            "RequestId(1): no permission to publish to \"secret\"",
            "no permission to publish to \"secret\", ends []"
        ]
    );
    let log = rig.says(&format!("{violation} with Reply of \"{reply}\"'"));
    assert!(log[0].starts_with("RequestId(3): no permission to publish to"), "{log:?}");
    assert_eq!(rig.session.pending_requests(), 1);
}

#[test]
fn a_refused_inbox_fails_all_and_is_tried_again() {
    let mut rig = Rig::up();
    let reply = asked(&mut rig, "a", 1000);
    asked(&mut rig, "b", 1000);
    let inbox = reply.rsplitn(3, '.').last().expect("a prefix");
    let log =
        rig.says(&format!("-ERR 'Permissions Violation for Subscription to \"{inbox}.*.*\"'"));
    assert!(log[0].starts_with("RequestId(1): no permission to subscribe to \"_INBOX"), "{log:?}");
    assert!(log[1].starts_with("RequestId(2)") && log[2].ends_with("ends [1]"), "{log:?}");
    assert_eq!((rig.session.pending_requests(), rig.session.subscription_count()), (0, 0));
    ask(&mut rig, "c", 1000);
    assert!(rig.drain()[0].starts_with("write SUB _INBOX."));
}

#[test]
fn a_refused_request_leaves_nothing() {
    let mut rig = Rig::up();
    let none = Headers::new();
    for subject in ["", "a b", "a.*", "a\r\nPUB b 0\r\n"] {
        let refused = rig.session.request(rig.now, subject, &none, b"", ms(10));
        assert!(matches!(refused, Err(RequestRefused::Invalid(_))), "{subject}");
    }
    let refused = rig.session.request(rig.now, "a", &none, &vec![0; (1 << 20) + 1], ms(10));
    let too_large = OutboxError::TooLarge { len: (1 << 20) + 1, max: 1 << 20 };
    assert_eq!(refused, Err(RequestRefused::Invalid(too_large)));
    assert_eq!(rig.session.pending_requests(), 0);
    assert!(!rig.drain().join(" ").contains("PUB"));

    let mut rig = Rig::up_with(SessionConfig { max_subscriptions: 0, ..config("ws://a:1") });
    let refused = rig.session.request(rig.now, "a", &none, b"", ms(10));
    assert_eq!(refused, Err(RequestRefused::Inbox(SubscribeError::TooMany { max: 0 })));
    rig.session.close();
    let refused = rig.session.request(rig.now, "a", &none, b"", ms(10));
    assert_eq!(refused, Err(RequestRefused::Publish(PublishError::Closed)));
}

#[test]
fn a_close_ends_them() {
    let mut rig = Rig::up();
    asked(&mut rig, "a", 1000);
    rig.session.close();
    let log = rig.drain();
    let expected = [
        "disconnect: closed",
        "RequestId(1): the connection is closed",
        "closed, 0 unsent: closed",
    ];
    assert_eq!(log, expected);
    assert!(rig.pass(ms(2000)).is_empty());
}

#[test]
fn the_inbox_cannot_be_guessed_from_another_session() {
    let inbox = |seed| {
        let mut rig = Rig::with_seed(config("ws://a:1"), seed);
        rig.drain();
        rig.shake_hands();
        asked(&mut rig, "a", 1000)
    };
    assert_eq!(inbox(1), inbox(1));
    assert_ne!(inbox(1), inbox(2));
}

#[test]
fn many_answers_until_one_of_the_ends() {
    let answer = |reply: &str, text: &str| format!("MSG {reply} 1 {}\r\n{text}", text.len());
    // As many as were wanted.
    let mut rig = Rig::up();
    let reply = many(&mut rig, &RequestMany { max_messages: 2, ..RequestMany::default() });
    assert_eq!(rig.says(&answer(&reply, "a")), ["RequestId(1): a"]);
    assert_eq!(rig.says(&answer(&reply, "b")), ["RequestId(1): b", "RequestId(1): Count"]);
    assert!(rig.says(&answer(&reply, "c")).is_empty());
    // An empty one is the last.
    let reply = many(&mut rig, &RequestMany { sentinel: true, ..RequestMany::default() });
    assert_eq!(rig.says(&answer(&reply, "a")), ["RequestId(2): a"]);
    assert_eq!(rig.says(&answer(&reply, "")), ["RequestId(2): Sentinel"]);
    // Nothing more for a while.
    let stall = Some(ms(100));
    let reply = many(&mut rig, &RequestMany { stall, ..RequestMany::default() });
    assert!(rig.pass(ms(4000)).is_empty());
    rig.says(&answer(&reply, "a"));
    assert!(rig.pass(ms(99)).is_empty());
    assert_eq!(rig.pass(ms(1)), ["RequestId(3): Stalled"]);
    // The whole time.
    let reply = many(&mut rig, &RequestMany::default());
    rig.says(&answer(&reply, "a"));
    assert!(rig.pass(ms(4999)).is_empty());
    assert_eq!(rig.pass(ms(1)), ["RequestId(4): TotalTime"]);
    // Nobody there.
    let reply = many(&mut rig, &RequestMany::default());
    let nobody = format!("HMSG {reply} 1 16 16\r\nNATS/1.0 503\r\n\r\n");
    assert_eq!(rig.says(&nobody), ["RequestId(5): NoResponders"]);
    // None wanted.
    let none = RequestMany { max_messages: 0, ..RequestMany::default() };
    many(&mut rig, &none);
    assert_eq!(rig.input(Input::Tick), ["RequestId(6): Count"]);
    // The connection breaks.
    many(&mut rig, &RequestMany::default());
    assert!(rig.closed("gone")[1].starts_with("RequestId(7): the connection broke"));
    assert_eq!(rig.session.pending_requests(), 0);
}
