use std::collections::HashMap;

use super::*;

type Vars<'a> = &'a [(&'a str, &'a str)];

fn load(vars: Vars<'_>, flags: &NodeFlags) -> Result<NodeConfig, InvalidSetting> {
    let vars: HashMap<_, _> = vars.iter().copied().collect();
    let env = |name: &str| vars.get(name).map(|value| (*value).to_owned());
    NodeConfig::load(&env, flags, [0x12, 0x0a, 0xff, 0x00])
}

fn with(vars: Vars<'_>) -> NodeConfig {
    load(vars, &NodeFlags::default()).expect("these are right")
}

fn urls(urls: &str) -> Option<NatsUrls> {
    Some(NatsUrls(urls.into()))
}

#[test]
fn the_defaults() {
    let config = with(&[]);
    assert_eq!(config, NodeConfig::new(AgentId("node-120aff00".into())));
    assert_eq!(config.nats, urls("ws://localhost:8080"));
    assert_eq!(config.nats_auth, NatsAuth::Anonymous);
    assert_eq!(config.data_dir, PathBuf::from("data"));
    assert_eq!((config.max_agents, config.supervision), (8_000, true));
    assert_eq!(config.log_level, LevelFilter::Info);
    assert!(config.node_id.validate().is_ok());
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let empty = [
        ("NODE_ID", ""),
        ("NATS_TOKEN", ""),
        ("NATS_USER", ""),
        ("NATS_PASSWORD", ""),
        ("RUST_LOG", ""),
        ("ENABLE_SUPERVISION", ""),
    ];
    assert_eq!(with(&empty), with(&[]));
}

#[test]
fn each_variable_sets_its_field() {
    let base = || with(&[]);
    let secret = |text: &str| Secret(text.into());
    let user = || NatsAuth::User { user: "u".into(), password: secret("p") };
    let cases: [(Vars<'_>, NodeConfig); 12] = [
        (&[("NODE_ID", "n_1")], NodeConfig { node_id: AgentId("n_1".into()), ..base() }),
        (&[("NATS_WEBSOCKET_URL", "wss://h")], NodeConfig { nats: urls("wss://h"), ..base() }),
        (&[("NATS_WEBSOCKET_URL", "")], NodeConfig { nats: None, ..base() }),
        (&[("NATS_WEBSOCKET_URL", " ")], NodeConfig { nats: None, ..base() }),
        (&[("NATS_TOKEN", "t")], NodeConfig { nats_auth: NatsAuth::Token(secret("t")), ..base() }),
        (&[("NATS_USER", "u"), ("NATS_PASSWORD", "p")], NodeConfig { nats_auth: user(), ..base() }),
        (&[("RUST_LOG", "debug")], NodeConfig { log_level: LevelFilter::Debug, ..base() }),
        (&[("ENABLE_SUPERVISION", "false")], NodeConfig { supervision: false, ..base() }),
        (&[("ENABLE_SUPERVISION", "0")], NodeConfig { supervision: false, ..base() }),
        (&[("ENABLE_SUPERVISION", "Off")], NodeConfig { supervision: false, ..base() }),
        (&[("ENABLE_SUPERVISION", "yes")], base()),
        (&[("UNKNOWN", "x")], base()),
    ];
    for (vars, expected) in cases {
        assert_eq!(with(vars), expected, "{vars:?}");
    }
}

#[test]
fn flags_stand_over_variables_even_wrong_ones() {
    let flags = NodeFlags {
        nats: urls("ws://flag").map(NatsFlag::At),
        node_id: Some(AgentId("flag".into())),
        data_dir: Some("d".into()),
        max_agents: Some(3),
    };
    let vars = [("NODE_ID", "not. one"), ("NATS_WEBSOCKET_URL", "")];
    let config = load(&vars, &flags).expect("the flags are right");
    let expected = NodeConfig {
        nats: urls("ws://flag"),
        data_dir: "d".into(),
        max_agents: 3,
        ..NodeConfig::new(AgentId("flag".into()))
    };
    assert_eq!(config, expected);
    let off = NodeFlags { nats: Some(NatsFlag::Off), ..NodeFlags::default() };
    let config = load(&[("NATS_WEBSOCKET_URL", "ws://h")], &off).expect("fine");
    assert_eq!(config.nats, None);
}

#[test]
fn what_is_refused_and_why() {
    let long = "x".repeat(200);
    let cases: [(Vars<'_>, &str); 13] = [
        (&[("NODE_ID", "a.b")], "NODE_ID is \"a.b\", and must be 1 to 128 characters of A-Z"),
        (&[("NODE_ID", &long)], "xxx\"… (200 bytes), and must be"),
        (
            &[("ENABLE_SUPERVISION", "maybe")],
            "ENABLE_SUPERVISION is \"maybe\", and must be true or false",
        ),
        (
            &[("RUST_LOG", "loud")],
            "RUST_LOG is \"loud\", and must be off, error, warn, info, debug or trace",
        ),
        (&[("RUST_LOG", "info,hyper=loud")], "RUST_LOG is \"info,hyper=loud\", and must be off"),
        (&[("RUST_LOG", "rust_wasm_lunatic_nats=")], "rust_wasm_lunatic_nats=debug"),
        (&[("RUST_LOG", "hyper")], "RUST_LOG is \"hyper\""),
        (&[("NATS_USER", "u")], "NATS_USER is set without NATS_PASSWORD, and needs it"),
        (&[("NATS_PASSWORD", "geheim")], "NATS_PASSWORD is set without NATS_USER"),
        (&[("NATS_TOKEN", "geheim"), ("NATS_USER", "u")], "NATS_TOKEN and NATS_USER are both set"),
        (
            &[("NATS_TOKEN", "geheim"), ("NATS_USER", "u"), ("NATS_PASSWORD", "geheim")],
            "NATS_TOKEN and NATS_USER are both set",
        ),
        (
            &[("NATS_TOKEN", "geheim"), ("NATS_PASSWORD", "geheim")],
            "NATS_TOKEN and NATS_PASSWORD are both set",
        ),
        (&[("NODE_ID", " ")], "NODE_ID is \" \""),
    ];
    for (vars, expected) in cases {
        let error = load(vars, &NodeFlags::default()).expect_err(expected);
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("--help"), "{text}");
        assert!(!format!("{text}{error:?}").contains("geheim"), "{text}");
    }
}

#[test]
fn log_levels() {
    let cases = [
        ("off", LevelFilter::Off),
        ("ERROR", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("trace", LevelFilter::Trace),
        ("warn,hyper=debug", LevelFilter::Warn),
        ("hyper=debug", LevelFilter::Info),
        ("rust_wasm_lunatic_nats=debug,warn", LevelFilter::Debug),
        ("warn, rust_wasm_lunatic_nats = debug", LevelFilter::Debug),
        ("rust_wasm_lunatic_nats", LevelFilter::Trace),
        ("rust_wasm_lunatic_nats::nats=trace,error", LevelFilter::Error),
        ("warn,error", LevelFilter::Error),
        (",,", LevelFilter::Info),
    ];
    for (directives, level) in cases {
        assert_eq!(with(&[("RUST_LOG", directives)]).log_level, level, "{directives}");
    }
}

#[test]
fn nothing_shows_a_secret() {
    let url = "ws://u:geheim@a:1,wss://geheim@b,x:geh,e/geheim@c";
    for vars in [
        &[("NATS_TOKEN", "geheim"), ("NATS_WEBSOCKET_URL", url)][..],
        &[("NATS_USER", "u"), ("NATS_PASSWORD", "geheim")],
    ] {
        let config = with(vars);
        for shown in [format!("{config:?}"), format!("{config:#?}")] {
            assert!(shown.contains("***") && !shown.contains("geh"), "{shown}");
        }
    }
    assert_eq!(Secret::new("geheim").to_string(), "***");
    assert_eq!(Secret::new("geheim").expose(), "geheim");
    for (given, shown) in [
        (url, "ws://***@c"),
        ("ws://a,ws://b", "ws://a,ws://b"),
        ("ws://localhost:8080", "ws://localhost:8080"),
        ("u:geheim@h", "***@h"),
        ("ws://u:p://geheim@h", "ws://***@h"),
        ("u:p://geheim@h", "***@h"),
    ] {
        let urls = NatsUrls::new(given).expect("not empty");
        assert_eq!((urls.to_string(), urls.expose()), (shown.to_owned(), given));
    }
}
