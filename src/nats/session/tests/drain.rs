//! Ends in good order.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_subscription_gets_what_is_on_its_way_and_is_gone() {
    let mut rig = Rig::up();
    let sid = rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.drain();
    assert!(rig.session.drain_subscription(sid));
    assert!(!rig.session.drain_subscription(sid), "it drains already");
    assert!(!rig.session.drain_subscription(99));
    assert_eq!(rig.drain(), ["write UNSUB 1|PING|"]);
    assert_eq!(rig.says("MSG s 1 1\r\na"), ["deliver 1 s a"]);
    rig.input(Input::Received { sid, messages: 2, bytes: 20 });
    assert_eq!(rig.session.stats().in_messages, 3);
    assert_eq!(rig.session.subscription_count(), 1);
    assert_eq!(rig.says("PONG"), ["drained 1"]);
    assert_eq!(rig.session.subscription_count(), 0);
    assert!(rig.says("MSG s 1 1\r\nb").is_empty());
}

#[test]
fn a_drained_subscription_is_not_made_again() {
    let mut rig = Rig::up();
    let sid = rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.session.subscribe(pattern("t"), None).expect("a sid");
    rig.drain();
    rig.pass(ms(2000));
    rig.session.drain_subscription(sid);
    rig.drain();
    let log = rig.closed("gone");
    assert_eq!(log[1], "drained 1", "what was on its way is not coming");
    assert_eq!(rig.shake_hands()[2..], ["write SUB t 2|"]);
    assert!(rig.says("PONG").is_empty());
    // Without a connection there is nothing on its way.
    rig.pass(ms(2000));
    rig.closed("gone");
    assert!(rig.session.drain_subscription(2));
    assert_eq!(rig.drain(), ["drained 2"]);
    assert_eq!(rig.session.subscription_count(), 0);
}

#[test]
fn an_id_that_is_used_again_is_not_ended_by_the_drain_before() {
    let mut rig = Rig::up();
    rig.session.subscribe_as(7, pattern("s"), None).expect("free");
    rig.session.drain_subscription(7);
    rig.session.unsubscribe(7, None);
    rig.session.subscribe_as(7, pattern("t"), None).expect("free again");
    rig.drain();
    assert_eq!(rig.says("PONG"), ["drained 7"]);
    assert_eq!(rig.session.subscription_count(), 1);
}

#[test]
fn the_connection_drains_subscriptions_then_publishes_and_closes() {
    let mut rig = Rig::up();
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.session.subscribe(pattern("t"), None).expect("a sid");
    rig.publish("before").expect("taken");
    assert!(rig.session.drain(rig.now, SECOND));
    assert!(!rig.session.drain(rig.now, SECOND), "it does already");
    assert_eq!(rig.drain(), ["write SUB s 1|SUB t 2|PUB before 1|x|UNSUB 1|UNSUB 2|PING|"]);
    let refused = rig.session.subscribe(pattern("u"), None);
    assert_eq!(refused, Err(SubscribeError::Draining));
    // Whoever answers the last message can.
    assert_eq!(rig.says("MSG s 1 1\r\na"), ["deliver 1 s a"]);
    rig.publish("answer").expect("taken");
    assert_eq!(rig.drain(), ["write PUB answer 1|x|"]);
    assert_eq!(rig.says("PONG"), ["drained 1", "drained 2", "write PING|"]);
    assert_eq!(rig.publish("late"), Err(PublishError::Draining));
    let log = rig.says("PONG");
    assert_eq!(log, ["disconnect: closed", "closed, 0 unsent: drained"]);
    assert_eq!(rig.session.status(), Status::Closed);
    assert_eq!(rig.publish("late"), Err(PublishError::Closed));
    assert!(!rig.session.drain(rig.now, SECOND));
    assert!(rig.pass(SECOND * 2).is_empty());
}

#[test]
fn requests_get_their_answers_first() {
    let mut rig = Rig::up();
    let none = Headers::new();
    rig.session.request(rig.now, "a", &none, b"?", ms(500)).expect("taken");
    let reply = reply_subject(&rig.drain().join(" "));
    rig.session.drain(rig.now, SECOND);
    assert!(rig.drain().is_empty());
    let refused = rig.session.request(rig.now, "a", &none, b"?", ms(500));
    assert_eq!(refused, Err(RequestRefused::Publish(PublishError::Draining)));
    let log = rig.says(&format!("MSG {reply} 1 1\r\n!"));
    assert_eq!(log, ["RequestId(1): !", "write PING|"]);
    assert_eq!(rig.says("PONG")[1], "closed, 0 unsent: drained");

    // Or nobody waits for them any more.
    let mut rig = Rig::up();
    let id = rig.session.request(rig.now, "a", &none, b"?", ms(500)).expect("taken");
    rig.session.drain(rig.now, SECOND);
    rig.drain();
    rig.session.cancel_request(id);
    assert_eq!(rig.drain(), ["write PING|"]);

    // Or their time is over.
    let mut rig = Rig::up();
    rig.session.request(rig.now, "a", &none, b"?", ms(500)).expect("taken");
    rig.session.drain(rig.now, SECOND);
    rig.drain();
    assert_eq!(rig.pass(ms(500)), ["RequestId(1): no answer in time", "write PING|"]);
}

#[test]
fn a_server_that_does_not_answer_does_not_hold_it() {
    for answers in 0..2 {
        let mut rig = Rig::up();
        rig.session.subscribe(pattern("s"), None).expect("a sid");
        rig.session.drain(rig.now, SECOND);
        rig.drain();
        if answers > 0 {
            rig.says("PONG");
        }
        assert!(rig.pass(ms(999)).is_empty());
        let log = rig.pass(ms(1));
        assert_eq!(log[0], "disconnect: closed");
        let closed = "closed, 0 unsent: closed before all was drained";
        assert_eq!(log.last().map(String::as_str), Some(closed), "{log:?}");
        assert_eq!(log.contains(&"drained 1".to_owned()), answers == 0, "{log:?}");
    }
}

#[test]
fn without_a_connection_what_waits_is_sent_with_the_next() {
    let mut rig = Rig::new(config("ws://a:1"));
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.publish("p").expect("taken");
    rig.drain();
    rig.session.drain(rig.now, SECOND);
    assert_eq!(rig.drain(), ["drained 1"]);
    assert_eq!(rig.publish("q"), Err(PublishError::Draining));
    let log = rig.shake_hands();
    assert_eq!(log[2..], ["write PUB p 1|x|PING|"]);
    assert_eq!(rig.says("PONG")[1], "closed, 0 unsent: drained");

    // Nothing waits: there is no reason to.
    let mut rig = Rig::new(config("ws://a:1"));
    rig.drain();
    rig.session.drain(rig.now, SECOND);
    assert_eq!(rig.drain(), ["disconnect: closed", "closed, 0 unsent: drained"]);
    // What waits and finds no server is counted.
    let mut rig = Rig::new(config("ws://a:1"));
    rig.drain();
    rig.publish("p").expect("taken");
    rig.session.drain(rig.now, SECOND);
    let log = rig.pass(SECOND);
    assert_eq!(log[1], "closed, 1 unsent: closed before all was drained");
}

#[test]
fn a_connection_that_breaks_meanwhile_is_told() {
    let interrupted = "closed, 0 unsent: drained, but a connection broke meanwhile";
    let mut rig = Rig::up();
    rig.publish("p").expect("taken");
    rig.session.drain(rig.now, SECOND);
    assert_eq!(rig.drain(), ["write PUB p 1|x|PING|"]);
    assert_eq!(rig.closed("gone").last().map(String::as_str), Some(interrupted));

    // With something that waits it goes on.
    let mut rig = Rig::up();
    rig.pass(ms(2000));
    rig.session.subscribe(pattern("s"), None).expect("a sid");
    rig.session.drain(rig.now, SECOND);
    rig.drain();
    rig.publish("p").expect("taken");
    let log = rig.closed("gone");
    assert_eq!(log[1], "drained 1");
    let log = rig.shake_hands();
    assert_eq!(log[2..], ["write PUB p 1|x|PING|"]);
    assert_eq!(rig.says("PONG").last().map(String::as_str), Some(interrupted));

    // A move in good order loses nothing.
    let mut rig = Rig::up_with(config("ws://a:1,ws://b:1"));
    rig.pass(ms(2000));
    rig.says(r#"INFO {"ldm":true}"#);
    rig.session.drain(rig.now, SECOND);
    rig.drain();
    let log = rig.says("PONG");
    assert_eq!(log.last().map(String::as_str), Some("closed, 0 unsent: drained"), "{log:?}");
}
