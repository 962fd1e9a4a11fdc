use super::*;

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

fn parse(line: &str) -> Result<Operator, String> {
    let words = std::iter::once("program".into()).chain(words(line));
    Operator::try_parse_from(words).map_err(|error| error.to_string())
}

#[test]
fn the_commands_are_well_formed() {
    Operator::command().debug_assert();
}

#[test]
fn what_is_for_the_operators_commands_and_what_is_left_to_the_program() {
    for line in [
        "status",
        "status --help",
        "--json status",
        "--nats nats://h agents",
        "--nats=nats://h --json --timeout-ms 5 top",
        "send a demo",
        "completions bash",
        "watch --nonsense",
    ] {
        assert!(Operator::is_meant(&words(line)), "{line}");
    }
    for line in [
        "",
        "demo",
        "demo status",
        "node",
        "node --node-id status",
        "--node-id status node",
        "--nats status",
        "--nats",
        "--json",
        "--json node",
        "--no-nats node",
        "-h",
        "-x status",
        "-- status",
        "bench",
        "statuses",
        "Status",
    ] {
        assert!(!Operator::is_meant(&words(line)), "{line}");
    }
    for (line, help) in [("--help", true), ("-h", true), ("help", true), ("status --help", false)] {
        assert_eq!(Operator::is_help(&words(line)), help, "{line}");
    }
}

#[cfg(unix)]
#[test]
fn words_that_are_no_text_are_left_to_the_program() {
    use std::os::unix::ffi::OsStringExt;

    let odd = || OsString::from_vec(b"\xff".to_vec());
    assert!(!Operator::is_meant(&[odd()]));
    assert!(!Operator::is_help(&[odd()]));
    let words = ["program".into(), "status".into(), odd()];
    assert!(Operator::try_parse_from(words).is_err());
}

#[test]
fn options_of_every_command_stand_before_or_behind_it() {
    for line in [
        "status --nats nats://h --timeout-ms 7 --gather-ms 8 --json --color never",
        "--nats nats://h --timeout-ms 7 --gather-ms 8 --json --color never status",
    ] {
        let common = parse(line).expect(line).common;
        assert_eq!(common.nats.as_deref(), Some("nats://h"));
        assert_eq!(common.timeout(), Duration::from_millis(7));
        assert_eq!(common.gather(), Duration::from_millis(8));
        assert!(common.json && common.color == When::Never);
    }
    let common = parse("status").expect("fine").common;
    assert_eq!(common.timeout(), Duration::from_secs(5));
    assert_eq!(Send::timeout(&common), Duration::from_secs(35));
    assert_eq!((common.gather_ms, common.json, common.color), (300, false, When::Auto));
}

#[test]
fn what_is_refused_and_why() {
    let id = "1 to 128 characters of A-Z a-z 0-9 _ -";
    let cases = [
        ("status a.b", id),
        ("status --node a.b", "is not a node id"),
        ("status --node all", "agent.command.all"),
        ("status a b", "unexpected argument 'b'"),
        ("status --timeout-ms 0", "0 is not in 1..=86400000"),
        ("status --timeout-ms x", "invalid digit"),
        ("status --gather-ms 86400001", "86400001"),
        ("status --color blue", "possible values: auto, always, never"),
        ("status --nodes n1", "a similar argument exists: '--node'"),
        ("agents --limit 0", "0 is not in 1..=100000"),
        ("agents --limit 100001", "100001 is not in 1..=100000"),
        ("agents --status Happy", "possible values: created"),
        ("spawn", "<TYPE>"),
        ("spawn echo --id a/b", id),
        ("spawn echo --args [1]", "not an object"),
        ("spawn echo --args {", "it is not JSON"),
        ("spawn echo --restart sometimes", "permanent, transient, temporary"),
        ("stop", "<AGENT>"),
        ("stop a b.c", id),
        ("send a", "<PAYLOAD>"),
        ("watch --only moon", "possible values: failure"),
        ("watch --only failure --except health", "cannot be used with"),
        ("watch --severity bad", "low, medium, high, critical"),
        ("watch --count 0", "--count"),
        ("watch --rate 0", "0 is not in 1..=100000"),
        ("top --interval-ms 99", "99 is not in 100..=60000"),
        ("top --limit 10001", "10001 is not in 1..=10000"),
        ("top --count 1", "--json"),
        ("top --sort moon", "possible values: id"),
        ("completions tcsh", "possible values: bash"),
        ("dance", "unrecognized subcommand 'dance'"),
        ("", "Usage"),
    ];
    for (line, expected) in cases {
        let error = parse(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn each_command_with_its_options() {
    let command = |line: &str| parse(line).expect(line).command;
    let id = |id: &str| AgentId(id.to_owned());
    match command("status a1 --node n1") {
        Operation::Status(status) => {
            assert_eq!(status, Status { agent: Some(id("a1")), node: Some(id("n1")) });
        }
        other => panic!("{other:?}"),
    }
    match command("agents --status running --type echo --limit 5") {
        Operation::Agents(agents) => {
            assert_eq!((agents.status, agents.limit), (Some(Shown::Running), 5));
            assert_eq!(agents.agent_type.as_deref(), Some("echo"));
        }
        other => panic!("{other:?}"),
    }
    match command("stop a b c") {
        Operation::Stop(stop) => assert_eq!(stop.agents, ["a", "b", "c"].map(id)),
        other => panic!("{other:?}"),
    }
    match command("send a -1 --node n") {
        Operation::Send(send) => {
            assert_eq!((send.payload.as_str(), send.node), ("-1", Some(id("n"))))
        }
        other => panic!("{other:?}"),
    }
    match command("watch --only failure,recovery --only alert --agent a --agent b") {
        Operation::Watch(watch) => {
            assert_eq!(watch.only, [Kind::Failure, Kind::Recovery, Kind::Alert]);
            assert_eq!(watch.agents, ["a", "b"].map(id));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(command("top --json --count 3"), Operation::Top(Top { count: Some(3), .. })));
}

fn spawn(line: &str) -> Spawn {
    match parse(line).expect(line).command {
        Operation::Spawn(spawn) => spawn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_said_of_an_agent_is_left_to_its_node() {
    let command = spawn("spawn echo").command().expect("a command");
    assert_eq!(command, json!({"Spawn": {"config": {"agent_type": "echo"}}}));
    let all = "spawn chaos --id c --max-memory-mb 16 --max-fuel 5 --stuck-after-ms 1000 \
        --restart transient --state file --no-nats --capability x --capability y --args {\"k\":1}";
    let config = json!({"agent_type": "chaos", "id": "c", "max_memory_mb": 16, "max_fuel": 5,
        "timeout_ms": 1000, "restart": "Transient", "memory_backend_type": "File",
        "nats_enabled": false, "capabilities": ["x", "y"], "args": {"k": 1}});
    assert_eq!(spawn(all).command().expect("a command"), json!({"Spawn": {"config": config}}));
}

#[test]
fn what_a_node_would_refuse_is_refused_before_it_is_asked() {
    for (line, expected) in [
        ("spawn echo --max-memory-mb 0", "max_memory_mb is 0, and must be 1 to 4096"),
        ("spawn echo --stuck-after-ms 99", "timeout_ms is 99"),
        ("spawn echo --max-fuel 0", "max_fuel"),
    ] {
        let failure = spawn(line).command().expect_err(line);
        let told = failure.told().expect("told");
        assert!(told.message.contains(expected), "{line}: {told:?}");
        assert_eq!(told.exit, super::super::failure::Exit::Usage);
    }
}

#[test]
fn every_kind_of_command_is_in_the_help_of_the_program_which_fits_a_terminal() {
    let help = super::super::help();
    for (name, about) in Operator::commands() {
        assert!(help.contains(&format!("    {name:<12} {about}\n")), "{name}: {help}");
    }
    // All of the program's own is there, in its order.
    let mut lines = help.lines();
    for own in crate::cli::HELP.lines() {
        assert!(lines.any(|line| line == own), "{own}");
    }
    assert_eq!(help.lines().find(|line| line.chars().count() > 80), None);
}

#[test]
fn the_page_has_every_command_option_kind_and_exit_status() {
    let page = include_str!("../../../../../docs/OPERATOR.md");
    for command in Operator::command().get_subcommands() {
        assert!(page.contains(command.get_name()), "{}", command.get_name());
        let options = command.get_arguments().filter_map(clap::Arg::get_long);
        for option in options.filter(|option| *option != "help") {
            assert!(page.contains(&format!("--{option}")), "{}: --{option}", command.get_name());
        }
    }
    for option in Operator::command().get_arguments().filter_map(clap::Arg::get_long) {
        assert!(page.contains(&format!("--{option}")) || option == "version", "--{option}");
    }
    for kind in Kind::value_variants() {
        let name = kind.to_possible_value().expect("it has a name").get_name().to_owned();
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
    for status in 0..=5 {
        assert!(
            page.contains(&format!("\n| {status} | "))
                && EXIT_STATUS.contains(&format!("{status} "))
        );
    }
}
