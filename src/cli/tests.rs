use super::*;
use crate::agent::AgentId;
use crate::config::{NatsClient, NatsUrls, NodeConfig};
use crate::log_line::LogFormat;

fn parse(line: &str) -> Result<Command, InvalidUsage> {
    Command::parse(line.split_whitespace())
}

fn demo(paths: &[&str], workers: u32, json: bool, flags: NodeFlags) -> Command {
    Command::Demo { paths: paths.iter().map(PathBuf::from).collect(), workers, json, flags }
}

fn node(flags: NodeFlags) -> Command {
    Command::Node { check_config: false, json: false, flags }
}

fn nats(urls: &str) -> Option<NatsFlag> {
    NatsUrls::new(urls).map(NatsFlag::At)
}

#[test]
fn each_command_and_flag() {
    let none = NodeFlags::default;
    let cases = [
        ("", demo(&[], 32, false, none())),
        ("demo", demo(&[], 32, false, none())),
        ("demo a b/c", demo(&["a", "b/c"], 32, false, none())),
        ("demo node", demo(&["node"], 32, false, none())),
        ("demo -- --json", demo(&["--json"], 32, false, none())),
        ("--workers 3", demo(&[], 3, false, none())),
        ("demo --workers=1000 x --json", demo(&["x"], 1000, true, none())),
        ("--max-agents 5", demo(&[], 5, false, NodeFlags { max_agents: Some(5), ..none() })),
        ("node", node(none())),
        ("node --json", Command::Node { check_config: false, json: true, flags: none() }),
        (
            "node --check-config --config a.toml",
            Command::Node {
                check_config: true,
                json: false,
                flags: NodeFlags { config: Some("a.toml".into()), ..none() },
            },
        ),
        ("node --log-level=debug", {
            node(NodeFlags { log_level: Some(log::LevelFilter::Debug), ..none() })
        }),
        ("--log-format json node", {
            node(NodeFlags { log_format: Some(LogFormat::Json), ..none() })
        }),
        (
            "node --nats ws://h:1,ws://i",
            node(NodeFlags { nats: nats("ws://h:1,ws://i"), ..none() }),
        ),
        ("node --nats=ws://a --nats=ws://b", node(NodeFlags { nats: nats("ws://b"), ..none() })),
        ("--no-nats node", node(NodeFlags { nats: Some(NatsFlag::Off), ..none() })),
        ("node --node-id n-1", node(NodeFlags { node_id: Some(AgentId("n-1".into())), ..none() })),
        ("node --node-id -n", node(NodeFlags { node_id: Some(AgentId("-n".into())), ..none() })),
        ("node --node-id=--n", node(NodeFlags { node_id: Some(AgentId("--n".into())), ..none() })),
        ("node --data-dir /d", node(NodeFlags { data_dir: Some("/d".into()), ..none() })),
        ("node --max-agents 1", node(NodeFlags { max_agents: Some(1), ..none() })),
        ("node --max-agents 9000", node(NodeFlags { max_agents: Some(9000), ..none() })),
        ("bench", Command::Bench { names: vec![], json: false, flags: none() }),
        (
            "bench a --json b",
            Command::Bench { names: vec!["a".into(), "b".into()], json: true, flags: none() },
        ),
        ("-h", Command::Help),
        ("help", Command::Help),
        ("node --help", Command::Help),
        ("--version", Command::Version),
        ("version", Command::Version),
        ("-V", Command::Version),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line), Ok(command), "{line}");
    }
}

#[test]
fn what_is_refused_and_why() {
    let cases = [
        ("serve", "\"serve\" is not a command: demo, node or bench"),
        ("src/", "\"src/\" is not a command"),
        ("--colour", "there is no flag --colour"),
        ("node -x", "there is no flag -x"),
        ("node --Json", "there is no flag --Json"),
        ("node --json=yes", "--json takes no value, and was given \"yes\""),
        ("node x", "node takes no words, and was given \"x\""),
        ("node --workers 3", "--workers has no meaning for node"),
        ("bench --workers 3", "--workers has no meaning for bench"),
        ("node --nats", "--nats needs a value, as in --nats ws://localhost:8080"),
        ("node --nats --json", "--nats needs a value"),
        ("node --node-id", "--node-id needs a value, as in --node-id n1"),
        ("node --nats=", "--nats is \"\", and must be a URL, or several"),
        ("node --nats ws://a --no-nats", "--nats and --no-nats are both set"),
        ("node --no-nats --nats ws://a", "--nats and --no-nats are both set"),
        (
            "node --node-id a.b",
            "--node-id is \"a.b\", and must be 1 to 128 characters of A-Z a-z 0-9 _ -",
        ),
        ("node --node-id=", "--node-id is \"\""),
        ("node --config", "--config needs a value, as in --config node.toml"),
        ("node --config=", "--config is \"\", and must be a TOML file"),
        ("demo --config a", "--config has no meaning for demo"),
        ("--check-config", "--check-config has no meaning for demo"),
        ("bench --check-config", "--check-config has no meaning for bench"),
        ("node --log-format xml", "--log-format is \"xml\", and must be text or json;"),
        ("node --log-level loud", "--log-level is \"loud\", and must be off, error, warn, info,"),
        ("node --data-dir=", "--data-dir is \"\", and must be a directory"),
        ("node --data-dir", "--data-dir needs a value, as in --data-dir data"),
        ("node --max-agents", "--max-agents needs a value, as in --max-agents 8000"),
        (
            "node --max-agents 0",
            "--max-agents is \"0\", and must be a whole number from 1 to 9000: vm.max_map_count",
        ),
        ("node --max-agents 9001", "--max-agents is \"9001\""),
        ("node --max-agents -1", "--max-agents is \"-1\""),
        ("node --max-agents 99999999999", "--max-agents is \"99999999999\""),
        ("node --max-agents 1e3", "--max-agents is \"1e3\""),
        ("--workers 0", "--workers is \"0\", and must be a whole number from 1 to 1000;"),
        ("--workers 1001", "--workers is \"1001\""),
        ("--workers many", "--workers is \"many\""),
        ("--workers", "--workers needs a value, as in --workers 32"),
        (
            "--workers 6 --max-agents 5",
            "--workers is \"6\", and must be at most --max-agents, which is 5",
        ),
    ];
    for (line, expected) in cases {
        let text = parse(line).expect_err(line).to_string();
        assert!(text.contains(expected), "{line}: {text}");
        assert!(text.contains("--help"), "{line}: {text}");
    }
}

#[test]
fn a_program_that_is_only_a_node_needs_no_word_for_it() {
    let parse = |line: &str| Command::parse_node(line.split_whitespace());
    let flags = || NodeFlags { max_agents: Some(3), ..NodeFlags::default() };
    let cases = [
        ("", node(NodeFlags::default())),
        ("--max-agents 3", node(flags())),
        ("node --max-agents 3", node(flags())),
        ("help", Command::Help),
        ("-V", Command::Version),
    ];
    for (line, command) in cases {
        assert_eq!(parse(line), Ok(command), "{line}");
    }
    for (line, expected) in [
        ("demo", "node takes no words, and was given \"demo\""),
        ("node node", "node takes no words, and was given \"node\""),
        ("--workers 3", "--workers has no meaning for node"),
    ] {
        let text = parse(line).expect_err(line).to_string();
        assert!(text.contains(expected), "{line}: {text}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_need_not_be_text_and_the_rest_does() {
    use std::os::unix::ffi::OsStringExt;

    let odd = || OsString::from_vec(b"\xff".to_vec());
    let parsed = Command::parse(["demo".into(), odd()]).expect("any path");
    assert!(matches!(parsed, Command::Demo { paths, .. } if paths == [PathBuf::from(odd())]));
    for args in [
        ["bench".into(), odd()].to_vec(),
        ["--node-id".into(), odd()].to_vec(),
        ["--nats".into(), odd()].to_vec(),
        ["--max-agents".into(), odd()].to_vec(),
        ["--log-level".into(), odd()].to_vec(),
    ] {
        let error = Command::parse(args).expect_err("not text").to_string();
        assert!(error.contains(" is not UTF-8; --help"), "{error}");
    }
    assert!(matches!(Command::parse([odd()]), Err(InvalidUsage::UnknownCommand { .. })));
}

#[test]
fn no_command_shows_a_password() {
    let command = parse("node --nats ws://u:geheim@h").expect("fine");
    let shown = format!("{command:?}");
    assert!(shown.contains("ws://***@h"), "{shown}");
}

#[test]
fn the_help_has_every_flag_variable_and_default_and_fits_a_terminal() {
    let defaults = NodeConfig::new(AgentId("n".into()));
    let said = [
        "--nats",
        "--no-nats",
        "--node-id",
        "--data-dir",
        "--max-agents",
        "--workers",
        "--json",
        "--config",
        "--check-config",
        "--log-level",
        "--log-format",
        "LOG_FORMAT",
        "NATS_URL",
        "--help",
        "--version",
        "NATS_WEBSOCKET_URL",
        "NATS_TOKEN",
        "NATS_USER",
        "NATS_PASSWORD",
        "NODE_ID",
        "ENABLE_SUPERVISION",
        "RUST_LOG",
        "demo",
        "node",
        "bench",
        &format!("[{}]", NatsClient::WEBSOCKET_URL),
        &format!("[{}]", defaults.max_agents),
        &format!("[{}]", defaults.data_dir.display()),
        &format!("[{}]", Command::DEFAULT_WORKERS),
        &format!("1 to {}", NodeConfig::MAX_AGENTS),
        &format!("1 to {}", Command::MAX_WORKERS),
    ];
    for said in said {
        assert!(HELP.contains(said), "{said}");
    }
    for help in [HELP, NODE_HELP] {
        assert_eq!(help.lines().find(|line| line.len() > 80), None);
        assert!(help.contains("--check-config") && help.contains("EXIT STATUS"));
    }
    assert!(!NODE_HELP.contains("bench"));
    assert!(VERSION.starts_with("rust-wasm-lunatic-nats "));
}

#[test]
fn the_file_in_the_help_is_a_right_one() {
    let (_, file) = HELP.split_once("\nFILE").expect("a section");
    let (_, file) = file.split_once('\n').expect("its title");
    let (file, _) = file.split_once("\n  node.example.toml").expect("its end");
    let env = |name: &str| (name == "NATS_PASSWORD").then(|| "p".to_owned());
    let flags = NodeFlags::default();
    let file = Some(crate::config::ConfigFile { name: "help", text: file });
    let sources =
        crate::config::Sources { file, env: &env, flags: &flags, nats: NatsClient::WEBSOCKET };
    let config = NodeConfig::load(sources, [0; 4]).expect("the help's file").config;
    let ids: Vec<_> = config.agents.iter().map(|agent| agent.id.as_str()).collect();
    assert_eq!((ids[0], ids[1], ids.len()), ("greeter", "counter-1", 9));
}
