//! From the dial to the first connection, credentials, what the server can say in between, and
//! what it says of itself later.

use super::*;

const CONNECT: &str = concat!(
    r#"write CONNECT {"verbose":false,"pedantic":false,"tls_required":false,"echo":true,"#,
    r#""headers":true,"no_responders":true,"protocol":1,"lang":"rust","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}|PING|"#
);

#[test]
fn info_connect_ping_pong() {
    let mut rig = Rig::new(config("ws://a:1/ws"));
    let connecting = |server: &str| Status::Connecting { attempt: 1, server: server.into() };
    assert_eq!(rig.drain(), ["dial ws://a:1/ws #1"]);
    assert_eq!(rig.session.status(), connecting("ws://a:1/ws"));
    assert!(rig.opened().is_empty());
    assert_eq!(rig.says(INFO), [CONNECT]);
    assert!(!rig.session.is_connected() && rig.session.server_info().is_none());
    assert_eq!(rig.says("PONG"), ["connected ws://a:1/ws (0)"]);
    let server = "ws://a:1/ws".into();
    assert_eq!(rig.session.status(), Status::Connected { server });
    let info = rig.session.server_info().expect("an INFO");
    assert_eq!((info.server_name.as_str(), info.max_payload), ("S", 1 << 20));
    assert_eq!(rig.session.stats(), Stats::default());
}

#[test]
fn in_any_order_that_can_happen() {
    // The reader is faster than the report that the transport is there.
    let mut rig = Rig::new(config("ws://a:1"));
    rig.drain();
    assert_eq!(rig.says(INFO), [CONNECT]);
    assert!(rig.opened().is_empty());
    assert_eq!(rig.says("PONG").len(), 1);

    // A PONG before CONNECT answers nothing; PINGs are answered; +OK and a second INFO are fine.
    let mut rig = Rig::new(config("ws://a:1"));
    rig.drain();
    assert!(rig.says("PONG").is_empty());
    assert_eq!(rig.says("PING"), ["write PONG|"]);
    rig.says(INFO);
    assert!(rig.says("+OK").is_empty());
    assert!(rig.says(r#"INFO {"max_payload":7}"#).is_empty());
    assert_eq!(rig.says("PING"), ["write PONG|"]);
    assert_eq!(rig.says("PONG"), ["connected ws://a:1/ (0)"]);
    let info = rig.session.server_info().expect("an INFO");
    assert_eq!(info.max_payload, 7);
}

#[test]
fn any_cut_of_the_input_gives_the_same_outputs() {
    let input = format!(
        "{INFO}\r\nPING\r\nPONG\r\nMSG a 1 3\r\nabc\r\nPING\r\n-ERR 'Oops'\r\n\
         HMSG a 1 12 13\r\nNATS/1.0\r\n\r\nx\r\n{INFO}\r\n"
    );
    let run = |cut: &[&[u8]]| {
        let mut rig = Rig::new(config("ws://a:1"));
        rig.session.subscribe(pattern("a"), None).expect("a sid");
        rig.drain();
        let log: Vec<_> = cut.iter().flat_map(|piece| rig.sends(piece)).collect();
        (log, rig.session.stats())
    };
    let whole = run(&[input.as_bytes()]);
    assert_eq!(whole.0.len(), 8, "{:?}", whole.0);
    for at in 0..=input.len() {
        let (head, tail) = input.as_bytes().split_at(at);
        assert_eq!(run(&[head, tail]), whole, "cut at {at}");
    }
    let bytes: Vec<_> = input.as_bytes().chunks(1).collect();
    assert_eq!(run(&bytes), whole);
}

#[test]
fn credentials_of_the_url_come_before_those_of_the_config() {
    let connect = |urls: &str, auth: Auth| {
        let mut rig = Rig::new(SessionConfig {
            auth,
            name: Some("n\"1".into()),
            echo: false,
            ..config(urls)
        });
        rig.drain();
        rig.says(INFO).remove(0)
    };
    let token = || Auth::Token("t\"k".into());
    let user = Auth::UserPassword { user: "u".into(), password: "p".into() };
    let line = connect("ws://a:1", token());
    assert!(line.contains(r#""auth_token":"t\"k"}"#), "{line}");
    assert!(line.contains(r#""name":"n\"1""#) && line.contains(r#""echo":false"#), "{line}");
    let line = connect("wss://a:1", user);
    assert!(line.contains(r#""user":"u","pass":"p"}"#), "{line}");
    assert!(line.contains(r#""tls_required":true"#), "{line}");
    let line = connect("ws://me:word@a:1", token());
    assert!(line.contains(r#""user":"me","pass":"word"}"#), "{line}");
    assert!(!line.contains("auth_token"), "{line}");
}

#[test]
fn new_credentials_are_used_from_the_next_handshake_on() {
    let mut rig = Rig::up();
    rig.session.set_auth(Auth::Token("fresh".into()));
    assert!(rig.drain().is_empty());
    rig.pass(ms(2000));
    rig.closed("gone");
    assert!(rig.says(INFO)[0].contains(r#""auth_token":"fresh""#));
}

#[test]
fn a_refusal_in_the_handshake_is_a_failed_attempt_with_the_server_s_reason() {
    for (line, reason) in [
        (
            "-ERR 'Authorization Violation'",
            "not authorized: Authorization Violation (no credentials are configured)",
        ),
        ("-ERR 'maximum connections exceeded'", "the server says: maximum connections exceeded"),
    ] {
        for before in [vec![], vec![INFO]] {
            let mut rig = Rig::new(config("ws://a:1"));
            rig.drain();
            for line in before {
                rig.says(line);
            }
            let log = rig.says(line);
            let expected = [
                format!("disconnect: {reason}"),
                format!("attempt 1 failed: {reason}"),
                "next attempt 2".into(),
            ];
            assert_eq!(log, expected);
            assert_eq!(rig.session.stats().server_errors, 1);
            assert_eq!(rig.session.status(), Status::Waiting { attempt: 2 });
            // What the abandoned transport still says is not heard.
            assert!(rig.says("PONG").is_empty() && rig.closed("EOF").is_empty());
            assert_eq!(rig.pass(ms(50)), ["dial ws://a:1/ #2"]);
        }
    }
}

#[test]
fn the_timeout_is_over_the_whole_handshake() {
    for steps in 0..3 {
        let mut rig = Rig::new(config("ws://a:1"));
        rig.drain();
        assert!(rig.pass(ms(4000)).is_empty());
        if steps > 0 {
            rig.opened();
        }
        if steps > 1 {
            rig.says(INFO);
        }
        assert!(rig.pass(ms(999)).is_empty());
        let reason = "no connection within 5000 ms";
        let expected = [
            format!("disconnect: {reason}"),
            format!("attempt 1 failed: {reason}"),
            "next attempt 2".into(),
        ];
        assert_eq!(rig.pass(ms(1)), expected, "after {steps} steps");
        assert_eq!(rig.session.stats().failed_attempts, 1);
    }
}

#[test]
fn a_later_info_replaces_what_was_known() {
    let mut rig = Rig::up();
    assert!(rig.says(r#"INFO {"max_payload":99}"#).is_empty());
    assert_eq!(rig.session.server_info().map(|i| i.max_payload), Some(99));
    // Lame duck is told once.
    assert_eq!(rig.says(r#"INFO {"ldm":true}"#), ["lame duck ws://a:1/"]);
    assert!(rig.says(r#"INFO {"ldm":true}"#).is_empty());
}

#[test]
fn advertised_servers_are_told_of_and_tried() {
    let mut rig = Rig::up_with(config("wss://t@a:1/ws"));
    let log = rig.says(r#"INFO {"connect_urls":["a:1","10.0.0.7:2","nonsense"]}"#);
    assert_eq!(log, [r#"discovered ["wss://10.0.0.7:2/ws"], ignored 1"#]);
    assert!(rig.says(r#"INFO {"connect_urls":["a:1","10.0.0.7:2"]}"#).is_empty());
    rig.pass(ms(2000));
    let log = rig.closed("gone");
    assert_eq!(log[2], "dial wss://10.0.0.7:2/ws #1");
    assert!(rig.says(INFO)[0].contains(r#""auth_token":"t""#));

    let mut rig = Rig::up_with(SessionConfig { use_advertised: false, ..config("ws://a:1") });
    assert!(rig.says(r#"INFO {"connect_urls":["b:1"]}"#).is_empty());
    assert_eq!(rig.session.servers().count(), 1);
}

#[test]
fn a_wrong_config_is_refused() {
    let config = SessionConfig { max_pings_out: 0, ..config("ws://a:1") };
    assert!(Session::new(config, 1, Instant::START).is_err());
}

#[test]
fn no_secret_is_shown() {
    let mut config = config("ws://me:geheim@a:1/?t=geheim");
    config.auth = Auth::Token("geheim".into());
    let mut session = Session::new(config, 1, Instant::START).expect("a config");
    let mut seen = String::new();
    let mut inputs = [
        Input::Control { dial: 1, op: ControlOp::Info(Box::default()) },
        Input::Control { dial: 1, op: ControlOp::Err(ServerError::Authorization("no".into())) },
    ]
    .into_iter();
    loop {
        seen += &format!("{session:?} {:?} ", session.status());
        match session.poll_output() {
            Output::Wait(_) => match inputs.next() {
                Some(input) => session.handle_input(Instant::START, input),
                None => break,
            },
            output => seen += &format!("{output:?} "),
        }
    }
    assert!(seen.contains("Write(") && seen.contains("Authorization"), "{seen}");
    assert!(!seen.contains("geheim"), "{seen}");
    let server = ServerUrl::parse("ws://geheim@h").expect("a URL");
    assert!(!format!("{server:?}").contains("geheim"));
}
