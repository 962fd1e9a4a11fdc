use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::agent::MemoryBackendType;
use crate::supervision::{ChildSpec, Shutdown, Strategy};
use crate::Secret;

type Vars<'a> = &'a [(&'a str, &'a str)];

fn load_all(
    file: Option<&str>,
    vars: Vars<'_>,
    flags: &NodeFlags,
) -> Result<LoadedConfig, InvalidSetting> {
    let vars: HashMap<_, _> = vars.iter().copied().collect();
    let env = |name: &str| vars.get(name).map(|value| (*value).to_owned());
    let file = file.map(|text| ConfigFile { name: "n.toml", text });
    NodeConfig::load(
        Sources { file, env: &env, flags, nats: NatsClient::WEBSOCKET },
        [0x12, 0x0a, 0xff, 0x00],
    )
}

fn load(file: &str) -> Result<NodeConfig, InvalidSetting> {
    load_all(Some(file), &[], &NodeFlags::default()).map(|loaded| loaded.config)
}

fn refused(file: &str) -> String {
    load(file).expect_err(file).to_string()
}

fn with(vars: Vars<'_>) -> NodeConfig {
    load_all(None, vars, &NodeFlags::default()).expect("these are right").config
}

fn urls(urls: &str) -> Option<NatsUrls> {
    NatsUrls::new(urls)
}

/// A key of the file as TOML, on line 1 or, in a section, 2.
fn toml(key: &str, value: &str) -> String {
    match key.rsplit_once('.') {
        None => format!("{key} = {value}\n"),
        Some((section, name)) => format!("[{section}]\n{name} = {value}\n"),
    }
}

#[test]
fn the_defaults() {
    let config = with(&[]);
    assert_eq!(config, NodeConfig::new(AgentId("node-120aff00".into())));
    assert_eq!(config.nats, urls("ws://localhost:8080"));
    assert_eq!(config.nats_auth, NatsAuth::Anonymous);
    assert_eq!(config.data_dir, PathBuf::from("data"));
    assert_eq!((config.max_agents, config.supervision.enabled), (8_000, true));
    assert_eq!(config.supervision.health_check_interval.as_secs(), 30);
    assert_eq!((config.log_level, config.log_format), (LevelFilter::Info, LogFormat::Text));
    assert!(config.node_id.validate().is_ok() && config.agents.is_empty());
    assert_eq!(config.check(&[]), Ok(()));
}

/// A setting: in the file, what it is there, and how it is shown then; its variable if it has one,
/// with a value and how that is shown; the values that are refused in the file, and the error.
type Row<'a> =
    (&'a str, &'a str, &'a str, Option<(&'a str, &'a str, &'a str)>, &'a [(&'a str, &'a str)]);

const FROM_2: &str = "must be a whole number from 2 to 4096";
const MS: &str = "must be a whole number from 1 to 86400000";

/// Each setting, each source, and wrong values. The flags have their own table below.
const TABLE: &[Row<'_>] = &[
    (
        "node_id",
        "\"n_1\"",
        "\"n_1\"",
        Some(("NODE_ID", "e", "\"e\"")),
        &[
            (
                "\"a.b\"",
                "n.toml:1: node_id is \"a.b\", and must be 1 to 128 characters of A-Z a-z 0-9 _ -",
            ),
            ("7", "n.toml:1: node_id is 7, and must be a text in quotes"),
            (
                "\"all\"",
                "n.toml:1: node_id is \"all\", and must be another: agent.command.all is for all nodes",
            ),
        ],
    ),
    (
        "data_dir",
        "\"/d\"",
        "\"/d\"",
        None,
        &[
            ("\"\"", "n.toml:1: data_dir is \"\", and must be a directory"),
            ("[]", "data_dir is a list, and must be a text in quotes"),
        ],
    ),
    (
        "max_agents",
        "9_000",
        "9000",
        None,
        &[
            ("0", "n.toml:1: max_agents is 0, and must be a whole number from 1 to 9000: vm.max"),
            ("9001", "max_agents is 9001, and"),
            ("-1", "max_agents is -1, and"),
            ("1.5", "max_agents is 1.5, and"),
            ("\"8\"", "max_agents is \"8\", and must be a whole number"),
            ("99999999999999999999", "max_agents is 99999999999999999999, and"),
        ],
    ),
    ("limits.max_spawns_per_second", "5", "5", None, &[("100001", "from 0 to 100000")]),
    ("limits.spawn_burst", "7", "7", None, &[("0", "from 1 to 9000"), ("9001", "from 1 to 9000")]),
    (
        "nats.url",
        "\"ws://f\"",
        "\"ws://f\"",
        Some(("NATS_WEBSOCKET_URL", "ws://e", "\"ws://e\"")),
        &[("1", "n.toml:2: nats.url is 1, and must be a text in quotes")],
    ),
    (
        "nats.ca",
        "'ca.pem'",
        "\"ca.pem\"",
        Some(("NATS_CA", "/run/ca.pem", "\"/run/ca.pem\"")),
        &[
            ("\"a\\nb\"", "n.toml:2: nats.ca: it must be the path of a PEM file"),
            ("7", "n.toml:2: nats.ca is 7, and must be a text in quotes"),
        ],
    ),
    (
        "nats.connect_timeout_ms",
        "0x10",
        "16",
        None,
        &[("0", MS), ("86400001", MS), ("1s", "n.toml:2: ")],
    ),
    ("nats.ping_interval_ms", "7", "7", None, &[("0", MS), ("86400001", MS)]),
    ("nats.max_pings_out", "7", "7", None, &[("0", "from 1 to 1000"), ("1001", "from 1 to 1000")]),
    ("nats.reconnect_first_ms", "7", "7", None, &[("0", MS), ("86400001", MS)]),
    ("nats.reconnect_cap_ms", "7", "7", None, &[("0", MS), ("86400001", MS)]),
    ("nats.reconnect_late_cap_ms", "7", "7", None, &[("0", MS), ("86400001", MS)]),
    ("nats.shuffle_servers", "false", "false", None, &[("0", "is 0, and must be true or false")]),
    ("nats.use_advertised", "false", "false", None, &[("\"no\"", "and must be true or false")]),
    ("nats.max_pending_bytes", "0", "0", None, &[("268435457", "from 0 to 268435456")]),
    ("nats.max_pending_messages", "0", "0", None, &[("1000001", "from 0 to 1000000")]),
    (
        "log.level",
        "\"debug\"",
        "\"debug\"",
        Some(("RUST_LOG", "warn", "\"warn\"")),
        &[("\"loud\"", "n.toml:2: log.level is \"loud\", and must be off, error, warn, info,")],
    ),
    (
        "log.format",
        "\"json\"",
        "\"json\"",
        Some(("LOG_FORMAT", "json", "\"json\"")),
        &[("\"xml\"", "n.toml:2: log.format is \"xml\", and must be text or json")],
    ),
    (
        "supervision.enabled",
        "false",
        "false",
        Some(("ENABLE_SUPERVISION", "off", "false")),
        &[("\"x\"", "supervision.enabled is \"x\", and must be true or false")],
    ),
    (
        "supervision.health_check_interval_ms",
        "100",
        "100",
        None,
        &[("99", "from 100 to 86400000"), ("86400001", "from 100 to 86400000")],
    ),
    (
        "supervision.failure_detection_threshold",
        "3",
        "3",
        None,
        &[("0", "from 1 to 10"), ("11", "from 1 to 10")],
    ),
    ("supervision.max_restarts", "0", "0", None, &[("1001", "from 0 to 1000")]),
    ("supervision.period_ms", "1", "1", None, &[("0", MS), ("86400001", MS)]),
    (
        "supervision.backoff_min_ms",
        "10000",
        "10000",
        None,
        &[
            ("86400001", "from 0 to 86400000"),
            (
                "10001",
                "n.toml:2: supervision.backoff_min_ms is 10001, and must be at most \
                 supervision.backoff_max_ms, which is 10000",
            ),
        ],
    ),
    (
        "supervision.backoff_max_ms",
        "100",
        "100",
        None,
        &[
            ("86400001", "from 0 to 86400000"),
            (
                "99",
                "supervision.backoff_min_ms is 100, and must be at most \
                 supervision.backoff_max_ms, which is 99",
            ),
        ],
    ),
    (
        "supervision.backoff_factor",
        "1.5",
        "1.5",
        None,
        &[
            ("0.9", "backoff_factor is 0.9, and must be a number from 1 to 1000"),
            ("nan", "is nan, and"),
            ("inf", "is inf, and"),
        ],
    ),
    ("supervision.backoff_jitter", "1", "1.0", None, &[("1.1", "must be a number from 0 to 1")]),
    ("supervision.stop_grace_ms", "10", "10", None, &[("9", "from 10 to 86400000")]),
    ("supervision.start_deadline_ms", "100", "100", None, &[("99", "from 100 to 86400000")]),
    (
        "supervision.detection.enabled",
        "false",
        "false",
        None,
        &[("1", "n.toml:2: supervision.detection.enabled is 1, and must be true or false")],
    ),
    ("supervision.detection.window_ms", "100", "100", None, &[("99", "from 100 to 3600000")]),
    (
        "supervision.detection.long_window_ms",
        "3600000",
        "3600000",
        None,
        &[("3600001", "from 100 to 3600000")],
    ),
    (
        "supervision.detection.baseline_factor",
        "1.5",
        "1.5",
        None,
        &[("0.5", "baseline_factor is 0.5, and must be a number from 1 to 1000")],
    ),
    ("supervision.detection.spike_failures", "2", "2", None, &[("1", FROM_2), ("4097", FROM_2)]),
    ("supervision.detection.cascade_agents", "2", "2", None, &[("1", FROM_2), ("4097", FROM_2)]),
    ("supervision.detection.exhaustion_failures", "2", "2", None, &[("1", FROM_2)]),
    ("supervision.detection.partition_agents", "2", "2", None, &[("1", FROM_2)]),
    ("supervision.detection.slow_agents", "1", "1", None, &[("0", "from 1 to 4096")]),
    ("supervision.detection.slow_factor", "2", "2.0", None, &[("1001", "from 1 to 1000")]),
    ("supervision.detection.slow_min_ms", "1", "1", None, &[("0", "from 1 to 3600000")]),
    ("supervision.detection.slow_samples", "1", "1", None, &[("101", "from 1 to 100")]),
    ("supervision.detection.repeat_ms", "1000", "1000", None, &[("999", "from 1000 to 86400000")]),
    (
        "supervision.alerts.enabled",
        "false",
        "false",
        None,
        &[("\"\"", "alerts.enabled is \"\", and must be true or false")],
    ),
    (
        "supervision.alerts.min_severity",
        "\"critical\"",
        "\"critical\"",
        None,
        &[
            ("\"High\"", "min_severity is \"High\", and must be low, medium, high or critical"),
            ("2", "must be a text in quotes"),
        ],
    ),
    ("supervision.alerts.cooldown_ms", "1000", "1000", None, &[("0", "from 1000 to 86400000")]),
    ("supervision.alerts.resolve_ms", "1000", "1000", None, &[("0", "from 1000 to 86400000")]),
];

#[test]
fn each_setting_from_each_source_and_wrong_values() {
    let none = NodeFlags::default();
    let default = |loaded: &LoadedConfig| loaded.report_json()["settings"].clone();
    let defaults = default(&load_all(None, &[], &none).expect("the defaults"));
    let rows: Vec<_> = TABLE.iter().map(|row| row.0).collect();
    let settings: Vec<_> = SETTINGS.iter().map(|setting| setting.key).collect();
    assert_eq!(rows, settings, "the table has every setting");
    for &(key, value, shown, variable, wrong) in TABLE {
        let file = toml(key, value);
        let line = file.lines().count();
        let vars: Vec<_> = variable.map(|(name, value, _)| (name, value)).into_iter().collect();
        let mut sources = vec![(&[][..], shown, format!("n.toml:{line}"))];
        if let Some((name, _, shown)) = variable {
            sources.push((&vars[..], shown, name.to_owned()));
            let alone = load_all(None, &vars, &none).expect(name);
            assert_eq!(alone.report_json()["settings"][key]["value"].to_string(), shown, "{name}");
        }
        for (vars, shown, origin) in sources {
            let loaded = load_all(Some(&file), vars, &none).expect(&file);
            let mut report = default(&loaded);
            assert_eq!(report[key]["value"].to_string(), shown, "{key}");
            assert_eq!(report[key]["origin"], origin, "{key}");
            let text = loaded.report();
            let name = key.rsplit('.').next().expect("a name");
            let line = text.lines().find(|line| line.starts_with(&format!("{name} = {shown} ")));
            assert!(
                line.is_some_and(|line| line.ends_with(&format!("# {origin}"))),
                "{key}: {text}"
            );
            assert_eq!(defaults[key]["origin"], "default");
            report[key] = defaults[key].clone();
            assert_eq!(report, defaults, "{key} changes nothing else");
        }
        for (value, expected) in wrong {
            let error = refused(&toml(key, value));
            assert!(error.contains(expected), "{key} = {value}: {error}");
            assert!(error.contains("--help"), "{error}");
        }
    }
}

#[test]
fn flags_stand_over_all_and_variables_below_them_are_not_looked_at() {
    let flags = NodeFlags {
        config: None,
        nats: urls("ws://flag").map(NatsFlag::At),
        node_id: Some(AgentId("flag".into())),
        data_dir: Some("d".into()),
        max_agents: Some(3),
        log_level: Some(LevelFilter::Error),
        log_format: Some(LogFormat::Json),
    };
    let vars = [
        ("NODE_ID", "not. one"),
        ("NATS_WEBSOCKET_URL", ""),
        ("NATS_URL", "nats://h"),
        ("RUST_LOG", "loud"),
        ("LOG_FORMAT", "xml"),
    ];
    let file =
        "node_id = 'f'\ndata_dir = 'f'\nmax_agents = 9\n[nats]\nurl = ''\n[log]\nlevel = 'off'\n";
    let loaded = load_all(Some(file), &vars, &flags).expect("the flags are right");
    let expected = NodeConfig {
        nats: urls("ws://flag"),
        data_dir: "d".into(),
        max_agents: 3,
        log_level: LevelFilter::Error,
        log_format: LogFormat::Json,
        ..NodeConfig::new(AgentId("flag".into()))
    };
    assert_eq!(loaded.config, expected);
    let report = loaded.report_json();
    for (key, flag) in [
        ("nats.url", "--nats"),
        ("node_id", "--node-id"),
        ("data_dir", "--data-dir"),
        ("max_agents", "--max-agents"),
        ("log.level", "--log-level"),
        ("log.format", "--log-format"),
    ] {
        assert_eq!(report["settings"][key]["origin"], flag);
    }
    let off = NodeFlags { nats: Some(NatsFlag::Off), ..NodeFlags::default() };
    let loaded = load_all(None, &[("NATS_WEBSOCKET_URL", "ws://h")], &off).expect("fine");
    assert_eq!(loaded.config.nats, None);
    assert!(loaded.report().contains("--no-nats"));
    // The file is checked all the same.
    assert!(load_all(Some("max_agents = 0"), &[], &flags).is_err());
}

#[test]
fn a_variable_that_is_empty_is_not_set() {
    let names = [
        "NODE_ID",
        "NATS_URL",
        "NATS_TOKEN",
        "NATS_USER",
        "NATS_PASSWORD",
        "NATS_CREDS",
        "NATS_NKEY",
        "NATS_CA",
        "RUST_LOG",
        "LOG_FORMAT",
        "ENABLE_SUPERVISION",
        "ENABLE_COORDINATION",
        "ENABLE_ADVANCED_ROUTING",
    ];
    let empty: Vec<_> = names.iter().map(|name| (*name, "")).collect();
    assert_eq!(with(&empty), with(&[]));
    for blank in ["", " "] {
        assert_eq!(with(&[("NATS_WEBSOCKET_URL", blank), ("NATS_URL", "ws://h")]).nats, None);
        assert_eq!(load(&toml("nats.url", &format!("'{blank}'"))).expect("right").nats, None);
    }
    assert_eq!(with(&[("NATS_URL", "wss://h")]).nats, urls("wss://h"));
    let both = [("NATS_WEBSOCKET_URL", "ws://a"), ("NATS_URL", "nats://b")];
    assert_eq!(with(&both).nats, urls("ws://a"));
}

#[cfg(feature = "nats-core")]
#[test]
fn a_url_that_this_client_cannot_use_is_told_without_its_password() {
    for (file, vars, name) in [
        (None, [("NATS_URL", "nats://u:geheim@h:4222")], "NATS_URL: nats:// is not for WebSocket"),
        (None, [("NATS_WEBSOCKET_URL", "ws://u:geheim@h:0")], "NATS_WEBSOCKET_URL: the port in"),
        (Some("[nats]\n\nurl = 'tls://geheim@h'"), [("", "")], "n.toml:3: nats.url: tls:// is not"),
    ] {
        let error = load_all(file, &vars, &NodeFlags::default()).expect_err(name);
        let text = format!("{error} {error:?}");
        assert!(text.starts_with(name) && !text.contains("geheim"), "{text}");
    }
    let many = vec!["ws://h"; 65].join(",");
    assert!(refused(&toml("nats.url", &format!("'{many}'"))).contains("servers' length is 65"));
}

#[test]
fn wrong_variables_and_what_is_not_supported_yet() {
    let long = "x".repeat(200);
    let seed = format!("SUgeheim{}", "A".repeat(50));
    let cases: [(Vars<'_>, &str); 16] = [
        (&[("NODE_ID", "a.b")], "NODE_ID is \"a.b\", and must be 1 to 128 characters of A-Z"),
        (&[("NODE_ID", &long)], "xxx\"… (200 bytes), and must be"),
        (&[("NODE_ID", " ")], "NODE_ID is \" \""),
        (
            &[("ENABLE_SUPERVISION", "maybe")],
            "ENABLE_SUPERVISION is \"maybe\", and must be true or false",
        ),
        (&[("LOG_FORMAT", "xml")], "LOG_FORMAT is \"xml\", and must be text or json"),
        (
            &[("RUST_LOG", "loud")],
            "RUST_LOG is \"loud\", and must be off, error, warn, info, debug or trace",
        ),
        (&[("RUST_LOG", "info,hyper=loud")], "RUST_LOG is \"info,hyper=loud\", and must be off"),
        (&[("RUST_LOG", "rust_wasm_lunatic_nats=")], "rust_wasm_lunatic_nats=debug"),
        (&[("RUST_LOG", "hyper")], "RUST_LOG is \"hyper\""),
        (
            &[("NATS_CREDS", "-----BEGIN NATS USER JWT-----\ngeheim")],
            "NATS_CREDS: it must be the path of a file, and not what stands in it; --help",
        ),
        (&[("NATS_NKEY", &seed)], "NATS_NKEY: it must be the path of a file"),
        (&[("NATS_CA", "-----BEGIN CERTIFICATE-----")], "NATS_CA: it must be the path of a PEM"),
        (
            &[("ENABLE_COORDINATION", "true")],
            "ENABLE_COORDINATION is set, and is not supported by this build yet; --help tells",
        ),
        (&[("ENABLE_ADVANCED_ROUTING", "1")], "ENABLE_ADVANCED_ROUTING is set, and is not"),
        (&[("ENABLE_COORDINATION", "geheim")], "ENABLE_COORDINATION is set"),
        (&[("NATS_USER", "u")], "NATS_USER is set without NATS_PASSWORD, and needs it"),
    ];
    for (vars, expected) in cases {
        let error = load_all(None, vars, &NodeFlags::default()).expect_err(expected);
        let text = error.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("--help"), "{text}");
        assert!(!format!("{text}{error:?}").contains("geheim"), "{text}");
    }
    let off = [("ENABLE_COORDINATION", "false"), ("ENABLE_ADVANCED_ROUTING", "0")];
    assert_eq!(with(&off), with(&[]));
}

#[test]
fn headers_of_the_upgrade_request() {
    let lines = "headers = { Authorization = 'Bearer geheim', X-Tenant = 'a' }";
    let text = format!("[nats]\nurl = 'ws://h'\n{lines}");
    let inline = load_all(Some(&text), &[], &NodeFlags::default()).expect("right");
    let header = |(name, value): (&str, &str)| (name.to_owned(), Secret::new(value));
    let expected = [("Authorization", "Bearer geheim"), ("X-Tenant", "a")].map(header);
    assert_eq!(inline.config.nats_headers, expected);
    let (report, json) = (inline.report(), inline.report_json());
    let shown = serde_json::json!({"value": ["Authorization", "X-Tenant"], "origin": "n.toml:3"});
    assert_eq!(json["settings"]["nats.headers"], shown);
    assert!(report.contains("headers = [\"Authorization\",\"X-Tenant\"]"), "{report}");
    assert!(!format!("{report}{json}{inline:?}").contains("geheim"));
    let section = load("[nats]\nurl = 'ws://h'\n[nats.headers]\nX-Tenant = 'a'").expect("right");
    assert_eq!(section.nats_headers, expected[1..]);
    for wrong in ["headers = 'geheim'", "headers = ['geheim']", "headers = { A = 7 }"] {
        let error = refused(&format!("[nats]\n{wrong}"));
        assert!(error.starts_with("n.toml:2: nats.headers: "), "{error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[cfg(feature = "nats-core")]
#[test]
fn a_header_that_the_upgrade_cannot_have() {
    for (header, expected) in [
        ("Host = 'geheim'", "the upgrade header \"Host\" is the handshake's"),
        ("'a b' = 'geheim'", "an upgrade header's name \"a b\" must be"),
        ("A = \"geheim\\r\\nB: c\"", "the value of the upgrade header \"A\""),
    ] {
        let error = refused(&format!("[nats]\nheaders = {{ {header} }}"));
        assert!(error.starts_with(&format!("n.toml:2: nats.headers: {expected}")), "{error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn credentials_of_one_source_and_of_several() {
    let token = |text: &str| NatsAuth::Token(Secret::new(text));
    let user =
        |user: &str, text: &str| NatsAuth::User { user: user.into(), password: Secret::new(text) };
    let file = |lines: &str| format!("[nats]\n{lines}");
    let nkey = |path: &str| NatsAuth::NKey(path.into());
    let creds = |path: &str| NatsAuth::Credentials(path.into());
    let cases: [(&str, Vars<'_>, Result<NatsAuth, &str>); 25] = [
        ("", &[("NATS_NKEY", "u.nk")], Ok(nkey("u.nk"))),
        ("", &[("NATS_CREDS", "/run/u.creds")], Ok(creds("/run/u.creds"))),
        ("nkey = 'u.nk'", &[], Ok(nkey("u.nk"))),
        ("creds = 'u.creds'", &[], Ok(creds("u.creds"))),
        ("token = 't'", &[("NATS_NKEY", "u.nk")], Ok(nkey("u.nk"))),
        ("nkey = 'u.nk'", &[("NATS_CREDS", "c")], Ok(creds("c"))),
        ("creds = 'c'", &[("NATS_USER", "u"), ("NATS_PASSWORD", "p")], Ok(user("u", "p"))),
        (
            "nkey = 'u.nk'\ncreds = 'c'",
            &[],
            Err(
                "n.toml:2: nats.nkey and n.toml:3: nats.creds are both set, and exclude each other",
            ),
        ),
        (
            "",
            &[("NATS_USER", "u"), ("NATS_PASSWORD", "geheim"), ("NATS_CREDS", "c")],
            Err("NATS_USER and NATS_CREDS are both set"),
        ),
        (
            "creds = ''",
            &[],
            Err("n.toml:2: nats.creds: it must be a text in quotes, and not empty"),
        ),
        (
            "nkey = 'SUgeheimAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'",
            &[],
            Err("n.toml:2: nats.nkey: it must be the path of a file, and not what stands in it"),
        ),
        ("", &[("NATS_TOKEN", "t")], Ok(token("t"))),
        ("", &[("NATS_USER", "u"), ("NATS_PASSWORD", "p")], Ok(user("u", "p"))),
        ("token = 't'", &[], Ok(token("t"))),
        ("user = 'u'\npassword = 'p'", &[], Ok(user("u", "p"))),
        ("user = 'u'", &[("NATS_PASSWORD", "p")], Ok(user("u", "p"))),
        ("user = 'u'\npassword = 'p'", &[("NATS_PASSWORD", "q")], Ok(user("u", "q"))),
        ("token = 't'", &[("NATS_USER", "u"), ("NATS_PASSWORD", "p")], Ok(user("u", "p"))),
        ("user = 'u'\npassword = 'p'", &[("NATS_TOKEN", "t")], Ok(token("t"))),
        ("token = 'f'", &[("NATS_TOKEN", "e")], Ok(token("e"))),
        (
            "user = 'u'",
            &[],
            Err("n.toml:2: nats.user is set without nats.password, and needs it; --help"),
        ),
        (
            "password = 'geheim'",
            &[],
            Err("n.toml:2: nats.password is set without nats.user, and needs it; --help"),
        ),
        (
            "token = 'geheim'\nuser = 'u'",
            &[],
            Err(
                "n.toml:2: nats.token and n.toml:3: nats.user are both set, and exclude each other",
            ),
        ),
        (
            "",
            &[("NATS_TOKEN", "geheim"), ("NATS_PASSWORD", "geheim")],
            Err("NATS_TOKEN and NATS_PASSWORD are both set"),
        ),
        (
            "token = 'f'",
            &[("NATS_PASSWORD", "geheim")],
            Err("NATS_PASSWORD is set without NATS_USER"),
        ),
    ];
    for (lines, vars, expected) in cases {
        let loaded = load_all(Some(&file(lines)), vars, &NodeFlags::default());
        match (loaded, expected) {
            (Ok(loaded), Ok(auth)) => assert_eq!(loaded.config.nats_auth, auth, "{lines} {vars:?}"),
            (Err(error), Err(expected)) => {
                let text = format!("{error} {error:?}");
                assert!(text.starts_with(expected) && !text.contains("geheim"), "{text}");
            }
            (loaded, expected) => panic!("{lines} {vars:?}: {loaded:?} instead of {expected:?}"),
        }
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
    let url = "ws://u:geheim@a:1,wss://geheim@b";
    let file = "[nats]\nuser = 'u'\npassword = 'geheim'\n";
    for (file, vars) in [
        ("", &[("NATS_TOKEN", "geheim"), ("NATS_WEBSOCKET_URL", url)][..]),
        ("", &[("NATS_USER", "u"), ("NATS_PASSWORD", "geheim")]),
        (file, &[]),
    ] {
        let loaded = load_all(Some(file), vars, &NodeFlags::default()).expect("right");
        let config = &loaded.config;
        for shown in [
            format!("{config:?} {loaded:?}"),
            format!("{config:#?}"),
            loaded.report(),
            loaded.report_json().to_string(),
        ] {
            assert!(shown.contains("***") && !shown.contains("geh"), "{shown}");
        }
    }
    let wrong = [
        "password = \"geheim",
        "password = geheim",
        "token = ['geheim']",
        "token = ''",
        "password = 'geheim'\npassword = 'geheim'",
        "password 'geheim'",
        "token = 'geheim' x",
        "token = \"geheim\\q\"",
    ];
    for lines in wrong {
        let error = load(&format!("[nats]\n{lines}")).expect_err(lines);
        let text = format!("{error} {error:?}");
        assert!(text.starts_with("n.toml:2") || text.starts_with("n.toml:3"), "{text}");
        assert!(!text.contains("geheim"), "{text}");
    }
    for (given, shown) in [
        ("ws://u:geheim@a:1,wss://geheim@b,x:geh,e/geheim@c", "ws://***@c"),
        ("ws://a,ws://b", "ws://a,ws://b"),
        ("ws://localhost:8080", "ws://localhost:8080"),
        ("u:geheim@h", "***@h"),
        ("ws://h/p?token=geheim,wss://i?geheim", "ws://h/p?…,wss://i?…"),
        ("ws://u:geheim@h?geheim", "ws://***@h?…"),
        ("ws://h?a@b=geheim", "***"),
        ("ws://u:ge?geheim@h", "***"),
        ("ws://u:p://geheim@h", "ws://***@h"),
        ("u:p://geheim@h", "***@h"),
    ] {
        let urls = NatsUrls::new(given).expect("not empty");
        assert_eq!((urls.to_string(), urls.expose()), (shown.to_owned(), given));
    }
}

#[test]
fn what_is_unknown_or_no_toml_is_refused_with_its_line() {
    let cases = [
        ("node_id = 'n'\nnodeid = 1", "n.toml:2: there is no setting \"nodeid\"; there are agent_defaults, agents, data_dir, limits, log, max_agents, nats, node_id, supervision, supervisors; --help"),
        ("[log]\nlevel = 'info'\n\ncolour = true", "n.toml:4: there is no setting \"log.colour\"; there are format, level; --help"),
        ("[supervision]\nhealth_interval = 3", "n.toml:2: there is no setting \"supervision.health_interval\"; there are alerts, backoff_factor,"),
        ("[supervision.detection]\nspikes = 3", "n.toml:2: there is no setting \"supervision.detection.spikes\"; there are baseline_factor, cascade_agents,"),
        ("[supervision]\nalarms = 3", "\"supervision.alarms\"; there are alerts, backoff_factor, backoff_jitter, backoff_max_ms, backoff_min_ms, detection, enabled,"),
        ("[supervision]\nalerts = 3", "n.toml:2: supervision.alerts is 3, and must be a table"),
        ("[supervision.log]\nx = 3", "n.toml:1: there is no setting \"supervision.log\""),
        ("[coordination]\nenabled = false", "n.toml:1: there is no setting \"coordination\""),
        ("[nats]\ncredz = 'f'", "n.toml:2: there is no setting \"nats.credz\"; there are ca, connect_timeout_ms,"),
        ("log = 'json'", "n.toml:1: log is \"json\", and must be a table"),
        ("[[log]]", "n.toml:1: log is a list, and must be a table"),
        ("node_id = 'a'\nnode_id = 'b'", "n.toml:2: duplicate key"),
        ("\n\nnode_id = ", "n.toml:3: "),
        ("[log", "n.toml:1: "),
        ("node_id = 'a' \u{0}", "n.toml:1: "),
        ("agents = 3", "n.toml:1: agents is 3, and must be tables that begin with [[agents]]"),
        ("agents = [3]", "n.toml:1: agents is 3, and must be tables that begin with [[agents]]"),
        ("[agents]\nid = 'a'", "agents is a table, and must be tables that begin with [[agents]]"),
        ("[agent_defaults]\nid = 'a'", "n.toml:2: agent_defaults.id: it belongs to one agent, below [[agents]]"),
        ("agent_defaults = 1", "n.toml:1: agent_defaults is 1, and must be a table"),
    ];
    for (file, expected) in cases {
        let error = refused(file);
        assert!(error.contains(expected), "{file:?}: {error}");
        assert!(error.contains("--help"), "{error}");
    }
    let deep = format!("node_id = {}", "[".repeat(100_000));
    assert!(refused(&deep).contains("n.toml:1: "));
    let large = "#".repeat(ConfigFile::MAX_BYTES + 1);
    assert!(refused(&large).contains("n.toml: it has more than 4194304 bytes; --help tells more"));
    let crlf = "node_id = 'n'\r\n\r\nx = 1\r\n";
    assert!(refused(crlf).starts_with("n.toml:3: "));
}

#[test]
fn agents_have_what_they_say_else_the_defaults_of_the_file() {
    let file = r#"
        [agent_defaults]
        max_memory_mb = 16
        timeout_ms = 1000
        args = { a = 1, b = 2 }

        [[agents]]
        id = "one"
        agent_type = "echo"
        timeout_ms = 2000
        args = { a = 1979-05-27, f = 0.5, deep = [{ x = 0x10 }] }

        [[agents]]
        id = "many"
        count = 3
        memory_backend_type = "File"
        max_fuel = 9223372036854775807
        nats_enabled = false
        restart = "Transient"
        capabilities = ["c"]
    "#;
    let agents = load(file).expect("right").agents;
    let ids: Vec<_> = agents.iter().map(|agent| agent.id.as_str()).collect();
    assert_eq!(ids, ["one", "many-1", "many-2", "many-3"]);
    let args = |json: &str| serde_json::from_str(json).expect("an object");
    let one = AgentConfig {
        id: AgentId("one".into()),
        agent_type: "echo".into(),
        max_memory_mb: 16,
        timeout_ms: 2000,
        args: args(r#"{"a":"1979-05-27","f":0.5,"deep":[{"x":16}]}"#),
        ..AgentConfig::default()
    };
    assert_eq!(agents[0], one);
    let last = AgentConfig {
        id: AgentId("many-3".into()),
        max_memory_mb: 16,
        timeout_ms: 1000,
        memory_backend_type: MemoryBackendType::File,
        max_fuel: Some(i64::MAX as u64),
        nats_enabled: false,
        restart: crate::agent::RestartType::Transient,
        capabilities: vec!["c".into()],
        args: args(r#"{"a":1,"b":2}"#),
        ..AgentConfig::default()
    };
    assert_eq!(agents[3], last);
}

#[test]
fn a_wrong_agent_is_refused_with_its_line() {
    let long = "x".repeat(127);
    let big = "x".repeat(AgentConfig::MAX_ARGS);
    let agent = |line: &str| format!("[[agents]]\nid = 'a'\n{line}\n");
    let cases = [
        (agent("max_memory_mb = 0"), "n.toml:3: agents.max_memory_mb is 0, and must be a whole number from 1 to 4096; --help tells more"),
        (agent("max_memory_mb = '9'"), "n.toml:3: agents.max_memory_mb is \"9\", and must be a whole number"),
        (agent("timeout_ms = 99"), "agents.timeout_ms is 99, and must be a whole number from 100 to 86400000"),
        (agent("max_fuel = 0"), "agents.max_fuel is 0, and must be a whole number of at least 1"),
        (agent("max_fuel = -1"), "agents.max_fuel is -1, and"),
        (agent("restart = 'Never'"), "agents.restart is \"Never\", and must be \"Permanent\", \"Transient\" or"),
        (agent("memory_backend_type = 'Kv'"), "is \"Kv\", and must be \"InMemory\" or \"File\""),
        (agent("nats_enabled = 1"), "agents.nats_enabled is 1, and must be true or false"),
        (agent("capabilities = ['']"), "agents.capabilities is a list, and must be at most 64 texts of"),
        (agent("agent_type = ''"), "agents.agent_type is \"\", and must be the name of a registered"),
        (agent("args = 'geheim'"), "n.toml:3: agents.args: it must be a table of at most 65536 bytes"),
        (agent("args = { x = inf }"), "agents.args: it must be a table"),
        (agent(&format!("args = {{ x = '{big}' }}")), "agents.args: it must be a table of at most"),
        (agent("max_memory = 3"), "n.toml:3: an agent has no field \"max_memory\"; there are id, agent_type, memory_backend_type,"),
        (agent("count = 0"), "n.toml:3: agents.count is 0, and must be a whole number from 1 to 9000"),
        (agent("count = 9001"), "agents.count is 9001, and"),
        (agent("count = '3'"), "agents.count is \"3\", and"),
        (agent("[[agents]]\nid = 'a'"), "n.toml:4: agents.id: there is an agent \"a\" already, at n.toml:2"),
        (agent("count = 2\n[[agents]]\nid = 'a-2'"), "n.toml:5: agents.id: there is an agent \"a-2\" already, at n.toml:2"),
        ("[[agents]]\nid = 'a.b'".into(), "n.toml:2: agents.id is \"a.b\", and must be 1 to 128 characters"),
        ("[[agents]]\nid = ''".into(), "n.toml:2: agents.id is \"\", and must be"),
        ("\n[[agents]]\nagent_type = 'echo'".into(), "n.toml:2: agents: an agent needs an id"),
        (format!("[[agents]]\ncount = 1\nid = '{long}'"), "n.toml:3: agents.id: \"xxxx"),
        ("max_agents = 2\n[[agents]]\nid = 'a'\n[[agents]]\nid = 'b'\ncount = 2".into(), "n.toml:4: agents: these make 3 agents, and max_agents is 2"),
        ("[agent_defaults]\ntimeout_ms = 1\n".into(), "n.toml:2: agent_defaults.timeout_ms is 1, and must be"),
        ("[agent_defaults]\ncount = 1\n".into(), "n.toml:2: agent_defaults.count: it belongs to one"),
    ];
    for (file, expected) in cases {
        let error = refused(&file);
        assert!(error.contains(expected), "{file:.300}: {error}");
        assert!(error.contains("--help") && !error.contains("geheim"), "{error}");
        assert!(error.len() < 400, "{error}");
    }
    let flags = NodeFlags { max_agents: Some(1), ..NodeFlags::default() };
    let two = "[[agents]]\nid = 'a'\ncount = 2";
    let error = load_all(Some(two), &[], &flags).expect_err("the flag counts").to_string();
    assert!(error.contains("these make 2 agents, and max_agents is 1"), "{error}");
}

#[test]
fn the_args_of_all_agents_have_a_bound() {
    let large = "x".repeat(60_000);
    let file = |count| format!("[[agents]]\nid = 'a'\ncount = {count}\nargs = {{ x = '{large}' }}");
    assert_eq!(load(&file(1_000)).expect("60 MB").agents.len(), 1_000);
    let error = refused(&file(1_200));
    assert!(
        error.contains("n.toml:1: agents: the args of all agents have 72009600 bytes"),
        "{error}"
    );
}

#[test]
fn types_are_checked_where_they_are_known() {
    let file =
        "[agent_defaults]\nagent_type = 'echo'\n[[agents]]\nid = 'a'\n[[agents]]\nid = 'b'\n\
                agent_type = 'ecko'";
    let loaded = load_all(Some(file), &[], &NodeFlags::default()).expect("any name");
    assert_eq!(loaded.check_types(&["echo", "ecko"]), Ok(()));
    let error = loaded.check_types(&["text", "echo"]).expect_err("a typo").to_string();
    let expected = "n.toml:7: agents.agent_type: there is no agent type \"ecko\"; registered are \
                    echo, text; --help tells more";
    assert_eq!(error, expected);
    let error = loaded.check_types(&["ecko"]).expect_err("a default").to_string();
    assert!(
        error.starts_with("n.toml:3: agents.agent_type: there is no agent type \"echo\""),
        "{error}"
    );
}

#[test]
fn a_config_of_a_programs_making_is_checked_too() {
    let agent = |id: &str| AgentConfig { id: AgentId(id.into()), ..AgentConfig::default() };
    let config = |agents| NodeConfig { agents, ..NodeConfig::new(AgentId("n".into())) };
    let check = |config: NodeConfig| config.check(&["state"]).expect_err("wrong");
    assert_eq!(config(vec![agent("a"), agent("b")]).check(&["state"]), Ok(()));
    let all = NodeConfig { node_id: AgentId("all".into()), ..config(vec![]) };
    assert_eq!(check(all), "node_id is \"all\": agent.command.all is for all nodes");
    assert!(check(config(vec![agent("a"), agent("")])).starts_with("agents[1]: \"\" is not"));
    assert!(check(config(vec![agent("a"), agent("a")])).starts_with("agents[1]: there is an agent"));
    let unknown = config(vec![agent("a")]).check(&["echo"]).expect_err("no such type");
    assert!(unknown.starts_with("agents[0]: there is no agent type \"state\""), "{unknown}");
    let many = NodeConfig { max_agents: 1, ..config(vec![agent("a"), agent("b")]) };
    assert_eq!(check(many), "there are 2 agents, and max_agents is 1");
    let mut backoff = config(vec![]);
    backoff.supervision.backoff.jitter = 2.0;
    assert!(check(backoff).contains("backoff.jitter"));
    let mut detection = config(vec![]);
    detection.detection.slow_factor = f64::NAN;
    assert_eq!(check(detection), "detection.slow_factor is NaN, and must be 1 to 1000");
    let mut alerts = config(vec![]);
    alerts.alerts.resolve = std::time::Duration::ZERO;
    assert_eq!(check(alerts), "alerts.resolve is 0ns, and must be 1000 to 86400000 ms");
}

#[test]
fn the_example_file_has_every_setting_with_its_default() {
    let text = include_str!("../../node.example.toml");
    let loaded = load_all(Some(text), &[], &NodeFlags::default()).expect("it is right");
    loaded.check_types(&["chaos", "echo", "state", "text"]).expect("built-in types");
    let report = loaded.report_json();
    for setting in SETTINGS {
        let origin = report["settings"][setting.key]["origin"].as_str().unwrap_or_default();
        assert!(origin.starts_with("n.toml:"), "{} is not in the example", setting.key);
    }
    let agents = loaded.config.agents.clone();
    assert_eq!(agents.len(), 6);
    let supervisors = loaded.config.supervisors.clone();
    assert_eq!(supervisors.iter().map(|tree| tree.agents().len()).sum::<usize>(), 2);
    let node_id = AgentId("n1".into());
    let expected = NodeConfig { agents, supervisors, ..NodeConfig::new(node_id) };
    assert_eq!(loaded.config, expected);
    let said = ["# token =", "# user =", "# password =", "# nkey =", "# creds =", "# headers ="];
    for said in said.iter().chain(&["# max_fuel =", "# max_agents_per_type ="]) {
        assert!(text.contains(said), "{said}");
    }
    let defaults = text.split("[agent_defaults]").nth(1).and_then(|rest| rest.split("[[").next());
    let agent = format!("[[agents]]\nid = 'a'\n{}", defaults.expect("the section"));
    let expected = AgentConfig { id: AgentId("a".into()), ..AgentConfig::default() };
    assert_eq!(load(&agent).expect("right").agents, [expected], "the defaults of an agent");
}

#[test]
fn supervisors_have_their_children_in_the_order_of_the_file() {
    let file = r#"
        [supervision]
        max_restarts = 7
        [[agents]]
        id = "free"
        [[supervisors]]
        id = "top"
        strategy = "one_for_all"
        [[agents]]
        id = "b"
        count = 2
        supervisor = "top"
        stop_grace_ms = 0
        [[supervisors]]
        id = "inner"
        supervisor = "top"
        max_restarts = 1
        period_ms = 60000
        restart = "Transient"
        stop_grace_ms = 1500
        [[agents]]
        id = "a"
        supervisor = "top"
        [[agents]]
        id = "c"
        supervisor = "inner"
    "#;
    let config = load(file).expect("it is right");
    let ids: Vec<&str> = config.agents.iter().map(|agent| agent.id.as_str()).collect();
    assert_eq!(ids, ["free"]);
    let [top] = &config.supervisors[..] else { panic!("{:?}", config.supervisors) };
    assert_eq!((top.strategy, top.intensity.max_restarts), (Strategy::OneForAll, 7));
    let names: Vec<&str> = top.agents().iter().map(|agent| agent.id.as_str()).collect();
    assert_eq!(names, ["b-1", "b-2", "c", "a"]);
    assert!(matches!(top.children[0], ChildSpec::Agent { shutdown: Shutdown::Kill, .. }));
    assert!(
        matches!(&top.children[3], ChildSpec::Agent { shutdown, .. } if *shutdown == Shutdown::AGENT)
    );
    let ChildSpec::Supervisor(inner) = &top.children[2] else { panic!("{top:?}") };
    assert_eq!(inner.shutdown, Shutdown::Grace(Duration::from_millis(1500)));
    assert_eq!(inner.restart, crate::agent::RestartType::Transient);
    assert_eq!(inner.intensity.max_restarts, 1);
    assert_eq!(config.check(&["state"]), Ok(()));
    assert!(config.check(&["echo"]).expect_err("another type").contains("no agent type \"state\""));
}

#[test]
fn the_tree_of_the_readme_is_right() {
    let readme = include_str!("../../README.md");
    let shown = readme.split("```toml\n").find(|block| block.starts_with("[[supervisors]]"));
    let shown = shown.and_then(|block| block.split("```").next()).expect("a block of the README");
    let config = load(shown).expect("it is right");
    let names: Vec<&str> =
        config.supervisors[0].agents().iter().map(|agent| agent.id.as_str()).collect();
    assert_eq!(names, ["source", "sink"]);
    assert_eq!(config.check(&["echo", "state"]), Ok(()));
}

#[test]
fn what_is_wrong_with_a_supervisor_is_told_with_its_line() {
    let cases = [
        ("[[supervisors]]\nstrategy = \"one_for_one\"", "n.toml:1: supervisors: a supervisor needs an id"),
        ("[[supervisors]]\nid = \"a.b\"", "n.toml:2: supervisors.id"),
        ("[[supervisors]]\nid = \"a\"\nstrategy = \"all\"", "one_for_one"),
        ("[[supervisors]]\nid = \"a\"\nmax_restarts = 1001", "from 0 to 1000"),
        ("[[supervisors]]\nid = \"a\"\nperiod_ms = 0", "from 1 to 86400000"),
        ("[[supervisors]]\nid = \"a\"\nbackoff_factor = 0.5", "from 1 to 1000"),
        ("[[supervisors]]\nid = \"a\"\nstop_grace_ms = \"never\"", "killed at once"),
        ("[[supervisors]]\nid = \"a\"\nchildren = 3", "a supervisor has no field \"children\""),
        ("[[supervisors]]\nid = \"a\"\n[[supervisors]]\nid = \"a\"", "already, at n.toml:1"),
        ("[[supervisors]]\nid = \"a\"\nsupervisor = \"b\"", "no supervisor \"b\"; there are a"),
        ("[[agents]]\nid = \"a\"\nsupervisor = \"b\"", "no [[supervisors]] at all"),
        ("[[agents]]\nid = \"a\"\nstop_grace_ms = 5", "an agent with a supervisor"),
        ("[agent_defaults]\nsupervisor = \"b\"", "it belongs to one agent"),
        (
            "[[supervisors]]\nid = \"a\"\nsupervisor = \"b\"\n[[supervisors]]\nid = \"b\"\nsupervisor = \"a\"",
            "supervisor \"a\" is below itself",
        ),
        (
            "[[supervisors]]\nid = \"a\"\nbackoff_min_ms = 200\nbackoff_max_ms = 100",
            "at most backoff.max",
        ),
    ];
    for (file, expected) in cases {
        let error = refused(file);
        assert!(error.contains(expected), "{file}\n{error}");
    }
    let many: String = (0..1001).map(|n| format!("[[supervisors]]\nid = \"s{n}\"\n")).collect();
    assert!(refused(&many).contains("there can be 1000 supervisors"));
}

#[test]
fn limits_of_types() {
    let limits = |file: &str| load(file).expect(file).supervision.limits.max_agents_per_type;
    let expected = [("chaos".to_owned(), 10), ("echo".to_owned(), 0)];
    assert_eq!(limits("[limits]\nmax_agents_per_type = { chaos = 10, echo = 0 }"), expected);
    let table = "[limits.max_agents_per_type]\nchaos = 10\necho = 0";
    assert_eq!(limits(table), expected);
    let report = load_all(Some(table), &[], &NodeFlags::default()).expect("right").report();
    for line in ["chaos\" = 10", "echo\" = 0"] {
        let line = format!("max_agents_per_type.\"{line}");
        let found = report.lines().find(|shown| shown.starts_with(&line));
        assert!(found.is_some_and(|shown| shown.ends_with("# n.toml:1")), "{report}");
    }
    assert_eq!(limits(&report), expected, "the report is a file");

    let many: String = (0..65).map(|n| format!("t{n} = 1\n")).collect();
    let cases = [
        ("[limits]\nmax_agents_per_type = 3", "n.toml:2: limits.max_agents_per_type: it must be a"),
        (
            "[limits]\nmax_agents_per_type = { chaos = 9001 }",
            "n.toml:2: limits.max_agents_per_type.chaos is 9001, and must be a whole number from 0 to",
        ),
        ("[limits.max_agents_per_type]\nchaos = -1", "n.toml:2: limits.max_agents_per_type.chaos is -1"),
        (
            &format!("[limits.max_agents_per_type]\n{many}"),
            "limits.max_agents_per_type: it names 65 types, and may name 64",
        ),
        ("[limits]\nspawns = 1", "there are max_agents_per_type, max_spawns_per_second, spawn_burst"),
        (
            "[limits]\nmax_agents_per_type = { echo = 2 }\n[[agents]]\nid = \"a\"\n\
             agent_type = \"echo\"\n[[agents]]\nid = \"b\"\nagent_type = \"echo\"\ncount = 2",
            "n.toml:6: agents: these make 3 agents of type \"echo\", and max_agents_per_type is 2",
        ),
    ];
    for (file, expected) in cases {
        let error = refused(file);
        assert!(error.contains(expected), "{file}: {error}");
    }

    let loaded = load_all(Some(table), &[], &NodeFlags::default()).expect("right");
    assert!(loaded.check_types(&["chaos", "echo"]).is_ok());
    let error = loaded.check_types(&["echo"]).expect_err("no chaos").to_string();
    let expected = "n.toml:1: limits.max_agents_per_type: there is no agent type \"chaos\"";
    assert!(error.starts_with(expected), "{error}");
    let mut config = NodeConfig::new(AgentId("n".into()));
    config.supervision.limits.max_agents_per_type = vec![("state".into(), 0)];
    assert!(config.check(&["echo"]).is_err_and(|error| error.contains("no agent type")));
    config.agents = vec![AgentConfig { id: AgentId("a".into()), ..AgentConfig::default() }];
    let error = config.check(&["state"]).expect_err("one too many");
    assert_eq!(error, "max_agents_per_type: it is 0 for \"state\", and there are 1");
}
