//! What can be said of NATS without a server. What needs one is in the end-to-end tests.

use std::time::Duration;

use rust_wasm_lunatic_nats::agent::run_ready;
use rust_wasm_lunatic_nats::config::NatsUrls;
use rust_wasm_lunatic_nats::wasm_nats::{NatsError, WasmNatsConfig, WasmNatsConnection};
use rust_wasm_lunatic_nats::Context;
use serde_json::{json, Value};

use crate::support::*;

/// Nobody listens there.
const NOWHERE: &str = "ws://127.0.0.1:9";

fn refused(config: WasmNatsConfig) -> NatsError {
    match run_ready(WasmNatsConnection::new(config)).unwrap() {
        Ok(connection) => panic!("{connection:?}"),
        Err(error) => error,
    }
}

#[lunatic::test]
fn a_connection_that_cannot_be_made_says_why() {
    let config = |url: &str| WasmNatsConfig { websocket_url: url.to_owned(), ..Default::default() };
    assert!(matches!(refused(config("nats://localhost:4222")), NatsError::Url(_)));
    let day = Duration::from_secs(86_401);
    for (wrong, named) in [
        (WasmNatsConfig { timeout: Duration::ZERO, ..config(NOWHERE) }, "timeout is 0ns"),
        (WasmNatsConfig { reconnect_delay: day, ..config(NOWHERE) }, "reconnect_delay is 86401s"),
    ] {
        let error = refused(wrong);
        assert!(matches!(error, NatsError::Config(_)), "{error:?}");
        assert!(error.to_string().starts_with(named), "{error}");
    }
    // However often it may reconnect: there was nothing to come back to.
    for max_reconnects in [None, Some(1_000_000)] {
        let error = refused(WasmNatsConfig { max_reconnects, ..config(NOWHERE) });
        assert!(matches!(error, NatsError::Connect(_)), "{error:?}");
        assert!(error.to_string().contains("gave up after 1 attempts"), "{error}");
    }
}

#[lunatic::test]
fn a_config_shows_no_password() {
    let websocket_url = "ws://me:hush@localhost:1".to_owned();
    let auth = rust_wasm_lunatic_nats::nats::Auth::Token("hush".into());
    let config = WasmNatsConfig { websocket_url, auth, ..Default::default() };
    let shown = format!("{config:?}");
    assert!(shown.contains("localhost:1") && !shown.contains("hush"), "{shown}");
}

#[lunatic::test]
fn an_agent_may_have_no_connection_of_its_own() {
    let mut node = node("own_connection");
    node.spawn(&config("n", "nats")).unwrap();
    let error = ask(&mut node, "n", json!({ "own": NOWHERE })).unwrap_err().to_string();
    assert!(error.contains("a connection of its own needs a process"), "{error}");
}

#[lunatic::test]
fn an_agent_has_at_most_so_many_subscriptions() {
    let mut node = node_with("many_subscriptions", |config| config.nats = NatsUrls::new(NOWHERE));
    node.spawn(&config("n", "nats")).unwrap();
    let mut subscribe = |subject: &str| ask(&mut node, "n", json!({ "subscribe": subject }));
    for n in 0..Context::MAX_SUBSCRIPTIONS {
        subscribe(&format!("s.{n}")).unwrap();
    }
    let error = subscribe("s.more").unwrap_err().to_string();
    assert!(error.contains("64 subscriptions already"), "{error}");
    subscribe("s.0").unwrap_or_else(|error| panic!("what is there already is no more: {error}"));
    let unsubscribe = |subject: &str| json!({ "unsubscribe": subject });
    assert_eq!(ask(&mut node, "n", unsubscribe("s.0")).unwrap(), true);
    assert_eq!(ask(&mut node, "n", unsubscribe("s.0")).unwrap(), false);
    ask(&mut node, "n", json!({ "subscribe": "s.more" })).unwrap();
    for (wrong, rule) in [("a b", "white space"), ("a.>.b", "wildcard"), ("", "empty")] {
        ask(&mut node, "n", unsubscribe("s.1")).unwrap();
        let error = ask(&mut node, "n", json!({ "subscribe": wrong })).unwrap_err().to_string();
        assert!(error.contains(rule), "{error}");
    }
}

#[lunatic::test]
fn without_nats_there_is_nothing_to_subscribe_to() {
    let mut node = node("no_nats");
    node.spawn(&config("n", "nats")).unwrap();
    let error = ask(&mut node, "n", json!({ "subscribe": "a" })).unwrap_err().to_string();
    assert!(error.contains("no connection to NATS"), "{error}");
    assert_eq!(ask(&mut node, "n", json!({ "unsubscribe": "a" })).unwrap(), Value::Bool(false));
}
