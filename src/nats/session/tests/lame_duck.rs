//! A server that is about to go.

use super::*;

const LAME: &str = r#"INFO {"ldm":true,"max_payload":99}"#;

#[test]
fn an_orderly_move_to_another_server() {
    let mut rig = Rig::up_with(config("ws://a:1,ws://b:1"));
    rig.session.subscribe(pattern("s"), queue("q")).expect("a sid");
    rig.drain();
    rig.pass(ms(2000));
    rig.publish("p").expect("taken");
    rig.session.flush(1).expect("taken");
    let log = rig.says(LAME);
    assert_eq!(log, ["lame duck ws://a:1/", "write PUB p 1|x|PING|PING|"]);
    // What comes on the old connection is still delivered, what is published now waits.
    assert_eq!(rig.says("MSG s 1 1\r\nm"), ["deliver 1 s m"]);
    rig.publish("late").expect("taken");
    rig.session.flush(2).expect("taken");
    assert!(rig.drain().is_empty());
    assert_eq!(rig.says("PONG"), ["flushed 1"]);
    let why = "the server is about to go";
    assert_eq!(
        rig.says("PONG"),
        [
            &format!("disconnect: {why}"),
            &format!("disconnected: {why}"),
            "flush 2: the connection broke before the server had answered",
            "next attempt 1",
            "dial ws://b:1/ #1"
        ]
    );
    let log = rig.shake_hands();
    assert_eq!(log[1..], ["connected ws://b:1/ (1)", "write SUB s q 1|PUB late 1|x|"]);
    assert_eq!(rig.session.stats().failed_attempts, 0);
    // The lame one is the last to be asked.
    let failures: Vec<_> = rig.session.servers().map(|(url, n)| (url.host(), n)).collect();
    assert_eq!(failures, [("a", 0), ("b", 0)]);
}

#[test]
fn what_waits_for_the_next_server_has_the_bound_of_what_waits_without_one() {
    let few = SessionConfig { max_pending_messages: 2, ..config("ws://a:1,ws://b:1") };
    let mut rig = Rig::up_with(few);
    rig.pass(ms(2000));
    rig.says(LAME);
    rig.publish("1").expect("taken");
    rig.publish("2").expect("taken");
    assert!(matches!(rig.publish("3"), Err(PublishError::BufferFull { max_messages: 2, .. })));
    assert_eq!(rig.session.stats().refused_messages, 1);
}

#[test]
fn a_server_that_does_not_answer_is_left_all_the_same() {
    let mut rig = Rig::up_with(config("ws://a:1,ws://b:1"));
    rig.pass(ms(2000));
    assert_eq!(rig.says(LAME), ["lame duck ws://a:1/", "write PING|"]);
    assert!(rig.pass(ms(4999)).is_empty());
    let log = rig.pass(ms(1));
    assert_eq!(log.last().map(String::as_str), Some("dial ws://b:1/ #1"));
}

#[test]
fn the_only_server_is_kept_until_it_ends() {
    let mut rig = Rig::up();
    assert_eq!(rig.says(LAME), ["lame duck ws://a:1/"]);
    assert!(rig.says(LAME).is_empty(), "told once");
    rig.publish("p").expect("taken");
    assert_eq!(rig.drain(), ["write PUB p 1|x|"]);
    rig.pass(ms(10_000));
    assert!(rig.session.is_connected());
    let log = rig.closed("EOF");
    assert_eq!(log.last().map(String::as_str), Some("dial ws://a:1/ #1"));

    // So it is if no reconnect is allowed.
    let mut rig =
        Rig::up_with(SessionConfig { max_reconnects: Some(0), ..config("ws://a:1,ws://b:1") });
    assert_eq!(rig.says(LAME), ["lame duck ws://a:1/"]);
}

#[test]
fn the_other_server_may_be_in_the_same_info() {
    let mut rig = Rig::up();
    rig.pass(ms(2000));
    let log = rig.says(r#"INFO {"ldm":true,"connect_urls":["b:1"]}"#);
    assert_eq!(
        log,
        [r#"discovered ["ws://b:1/"], ignored 0"#, "lame duck ws://a:1/", "write PING|"]
    );
    let log = rig.says("PONG");
    assert_eq!(log.last().map(String::as_str), Some("dial ws://b:1/ #1"));
}

#[test]
fn a_server_that_names_no_other_may_be_the_advertised_one_itself() {
    let mut rig = Rig::up();
    rig.says(r#"INFO {"connect_urls":["10.0.0.1:1"]}"#);
    assert_eq!(rig.says(LAME), ["lame duck ws://a:1/"]);
    rig.pass(ms(10_000));
    assert!(rig.session.is_connected());
    // One that is configured is another for sure, also for one that was advertised.
    let mut rig = Rig::up();
    rig.says(r#"INFO {"connect_urls":["b:1"]}"#);
    rig.pass(ms(2000));
    rig.closed("gone");
    assert!(rig.shake_hands().contains(&"connected ws://b:1/ (1)".to_owned()));
    assert_eq!(rig.says(LAME), ["lame duck ws://b:1/", "write PING|"]);
}

#[test]
fn servers_that_are_all_lame_are_not_asked_at_full_speed() {
    let mut rig = Rig::new(config("ws://a:1,ws://b:1"));
    let (mut dials, mut told) = (0, 0);
    for _ in 0..1000 {
        rig.pass(ms(1));
        // A dial may follow at once.
        while dials < rig.dial {
            dials = rig.dial;
            rig.says(r#"INFO {"ldm":true}"#);
            told += usize::from(rig.says("PONG").contains(&"write PING|".to_owned()));
            rig.says("PONG");
        }
    }
    assert!((4..=20).contains(&dials), "{dials} dials in a second");
    assert!(told > 2, "lame from the first INFO on is lame, too");
}

#[test]
fn the_whole_info_is_applied() {
    let mut rig = Rig::up();
    rig.says(r#"INFO {"ldm":true,"max_payload":99,"connect_urls":["b:1"],"server_name":"T"}"#);
    let info = rig.session.server_info().expect("up");
    assert_eq!((info.max_payload, info.server_name.as_str(), info.lame_duck), (99, "T", true));
    let error = rig.session.request(rig.now, "a", &Headers::new(), &[0; 100], ms(1));
    let too_large = OutboxError::TooLarge { len: 100, max: 99 };
    assert_eq!(error, Err(RequestRefused::Invalid(too_large)));
}

#[test]
fn a_close_while_it_leaves_writes_what_was_held_back() {
    let mut rig = Rig::up_with(config("ws://a:1,ws://b:1"));
    rig.says(LAME);
    rig.publish("held").expect("taken");
    assert!(rig.drain().is_empty());
    rig.session.close();
    let expected = ["write PUB held 1|x|", "disconnect: closed", "closed, 0 unsent: closed"];
    assert_eq!(rig.drain(), expected);
}

#[test]
fn what_is_done_while_it_leaves_happens_on_the_next_connection_and_does_not_pile_up() {
    let mut rig = Rig::up_with(config("ws://a:1,ws://b:1"));
    rig.pass(ms(2000));
    let gone = rig.session.subscribe(pattern("gone"), None).expect("a sid");
    rig.drain();
    rig.says(LAME);
    rig.session.unsubscribe(gone, None);
    for _ in 0..1000 {
        let sid = rig.session.subscribe(pattern("s"), None).expect("a sid");
        rig.session.unsubscribe(sid, None);
        rig.session.handle_input(rig.now, Input::Control { dial: rig.dial, op: ControlOp::Ping });
    }
    let kept = rig.session.subscribe(pattern("kept"), None).expect("a sid");
    let drained = rig.session.subscribe(pattern("d"), None).expect("a sid");
    rig.session.drain_subscription(drained);
    assert!(rig.drain().is_empty());
    assert!(rig.says("PONG").contains(&format!("drained {drained}")));
    assert_eq!(rig.shake_hands()[2..], [format!("write SUB kept {kept}|")]);
    assert_eq!(rig.says("PING"), ["write PONG|"]);
}
