//! Credentials that sign, that are replaced, that are refused.

use super::*;

const SEED: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
const PUBLIC: &str = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK";
const NONCED: &str = r#"INFO {"auth_required":true,"nonce":"PXoWU7zWAMt75FY"}"#;
// As nats-io/nkeys.py signs that nonce with that seed.
const SIG: &str =
    "bnxg5G8aOV2LQdSE_lcM9clxm_fbTTZxsqQ1EpTNgJXmH6z5ezesd49kXfuNhoAqw_DmEtsGcNsJdug9wMuRDQ";
const REFUSED: &str = "-ERR 'Authorization Violation'";

fn creds() -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n"
    )
}

fn with(auth: Auth) -> Rig {
    let mut rig = Rig::new(SessionConfig { auth, ..config("ws://a:1") });
    rig.drain();
    rig
}

#[test]
fn a_key_signs_the_nonce() {
    let log = with(Auth::NKey(SEED.into())).says(NONCED);
    assert!(log[0].contains(&format!(r#","nkey":"{PUBLIC}","sig":"{SIG}"}}|PING|"#)), "{log:?}");
    for auth in
        [Auth::Credentials(creds().into()), Auth::Jwt { jwt: "a.b.c".into(), seed: SEED.into() }]
    {
        let log = with(auth).says(NONCED);
        assert!(log[0].contains(&format!(r#","jwt":"a.b.c","sig":"{SIG}"}}|PING|"#)), "{log:?}");
        assert!(!log[0].contains("SUA") && !log[0].contains("nkey"), "{log:?}");
    }
}

#[test]
fn without_a_nonce_nothing_is_sent() {
    let mut rig = with(Auth::NKey(SEED.into()));
    let reason = "the credentials cannot be used: the server sent no nonce to sign: it is not set \
                  up for NKeys or JWTs";
    let expected = [
        format!("disconnect: {reason}"),
        format!("attempt 1 failed: {reason}"),
        "next attempt 2".into(),
    ];
    assert_eq!(rig.says(INFO), expected);
    // The next server, or the same one set up anew, may have one.
    rig.pass(ms(50));
    assert!(rig.says(NONCED)[0].contains(SIG));
}

#[test]
fn a_host_may_replace_the_credentials_between_dial_and_info() {
    let mut rig = with(Auth::Token("old".into()));
    rig.opened();
    rig.session.set_auth(Auth::NKey(SEED.into()));
    assert!(rig.says(NONCED)[0].contains(SIG));

    // Half a file was there: that attempt fails, and the next one has all of it.
    let mut rig = with(Auth::Token("old".into()));
    rig.session.set_auth(Auth::Credentials("-----BEGIN NATS USER JWT-----\n".into()));
    let log = rig.says(NONCED);
    let why = "the credentials cannot be used: the block NATS USER JWT";
    assert!(log[0].starts_with(&format!("disconnect: {why}")), "{log:?}");
    rig.pass(ms(50));
    rig.session.set_auth(Auth::Credentials(creds().into()));
    assert!(rig.says(NONCED)[0].contains(SIG));
}

#[test]
fn an_expired_user_comes_back_at_once_with_fresh_credentials() {
    for text in [
        "User Authentication Expired",
        "User Authentication Revoked",
        "Account Authentication Expired",
        "Authentication Timeout",
    ] {
        let mut rig = with(Auth::Token("old".into()));
        rig.shake_hands();
        rig.pass(ms(2000));
        let log = rig.says(&format!("-ERR '{text}'"));
        let expected = [
            format!("server error: {text}"),
            format!("disconnect: not authorized: {text}"),
            format!("disconnected: not authorized: {text}"),
            "next attempt 1".into(),
            "dial ws://a:1/ #1".into(),
        ];
        assert_eq!(log, expected);
        rig.session.set_auth(Auth::Token("fresh".into()));
        assert!(rig.says(INFO)[0].contains("fresh"));
        assert_eq!(rig.says("PONG"), ["connected ws://a:1/ (1)"]);
    }
}

/// Fails an attempt with what the server says after INFO, and waits for the next.
fn refused(rig: &mut Rig, line: &str) -> Vec<String> {
    rig.says(INFO);
    let dial = rig.dial;
    let mut log = rig.says(line);
    while rig.dial == dial && rig.session.status() != Status::Closed {
        log.extend(rig.pass(ms(10)));
    }
    log
}

#[test]
fn refusals_do_not_end_it_unless_configured_so() {
    let mut rig = with(Auth::Token("t".into()));
    for _ in 0..200 {
        refused(&mut rig, REFUSED);
    }
    assert_ne!(rig.session.status(), Status::Closed);
    rig.shake_hands();
    assert!(rig.session.is_connected());
}

#[test]
fn so_many_refusals_in_a_row_for_one_reason_end_it() {
    let limited = || {
        let auth = Auth::Token("t".into());
        let config =
            SessionConfig { max_auth_failures: Some(3), auth, ..config("ws://a:1,ws://b:1") };
        let mut rig = Rig::new(config);
        rig.drain();
        rig
    };
    let closed = "closed, 0 unsent: refused 3 times, at last since: not authorized: \
                  Authorization Violation";
    let mut rig = limited();
    for _ in 0..2 {
        let log = refused(&mut rig, REFUSED);
        assert!(log.iter().any(|line| line.starts_with("dial")), "{log:?}");
        // Another failure neither counts nor ends the row.
        let dial = rig.dial;
        rig.dial_failed("refused");
        while rig.dial == dial {
            rig.pass(ms(10));
        }
    }
    assert_eq!(refused(&mut rig, REFUSED).last().map(String::as_str), Some(closed));
    assert_eq!(rig.session.status(), Status::Closed);

    // Another reason, other credentials or a success begin anew.
    type Change = fn(&mut Rig);
    let changes: [Change; 3] = [
        |rig| drop(refused(rig, "-ERR 'Authentication Timeout'")),
        |rig| rig.session.set_auth(Auth::Token("other".into())),
        |rig| {
            rig.shake_hands();
            rig.pass(ms(2000));
            rig.closed("gone");
        },
    ];
    for change in changes {
        let mut rig = limited();
        for _ in 0..2 {
            refused(&mut rig, REFUSED);
        }
        change(&mut rig);
        for _ in 0..2 {
            refused(&mut rig, REFUSED);
        }
        assert_ne!(rig.session.status(), Status::Closed);
        refused(&mut rig, REFUSED);
        assert_eq!(rig.session.status(), Status::Closed);
    }
    // The same credentials once more are no others.
    let mut rig = limited();
    for _ in 0..3 {
        rig.session.set_auth(Auth::Token("t".into()));
        refused(&mut rig, REFUSED);
    }
    assert_eq!(rig.session.status(), Status::Closed);
}

#[test]
fn credentials_that_cannot_be_used_count_as_refused() {
    let auth = Auth::NKey(SEED.into());
    let config = SessionConfig { max_auth_failures: Some(2), auth, ..config("ws://a:1") };
    let mut rig = Rig::new(config);
    rig.drain();
    rig.says(INFO);
    rig.pass(ms(50));
    let log = rig.says(INFO);
    assert!(log[2].starts_with("closed, 0 unsent: refused 2 times"), "{log:?}");
}

#[test]
fn a_server_that_wants_credentials_and_gets_none_is_told_so_and_tried() {
    // Some only say so: a user for who has none may be set, or a cookie be enough.
    let mut rig = with(Auth::None);
    assert!(rig.says(NONCED)[0].starts_with("write CONNECT"));
    assert_eq!(rig.says("PONG"), ["connected ws://a:1/ (0)"]);
    let mut rig = with(Auth::None);
    rig.says(NONCED);
    let log = rig.says(REFUSED);
    assert!(log[1].ends_with("Authorization Violation (no credentials are configured)"), "{log:?}");
    // With some, that would be wrong.
    for (urls, auth) in [("ws://a:1", Auth::Token("t".into())), ("ws://t@a:1", Auth::None)] {
        let mut rig = Rig::new(SessionConfig { auth, ..config(urls) });
        rig.drain();
        rig.says(NONCED);
        let log = rig.says(REFUSED);
        assert!(log[1].ends_with("not authorized: Authorization Violation"), "{log:?}");
    }
}

#[test]
fn a_damaged_config_is_refused_at_the_start() {
    let config = SessionConfig { auth: Auth::NKey("SUgeheim".into()), ..config("ws://a:1") };
    let error = Session::new(config, 1, Instant::START).expect_err("damaged");
    assert!(matches!(error, InvalidConfig::Auth(_)));
    let seen = format!("{error} {error:?}");
    assert!(seen.contains("the seed has 8 characters") && !seen.contains("geheim"), "{seen}");
}
