//! Limits of types and of the rate, where agents come and go.

use super::*;

fn limited(per_second: u32, burst: u32) -> SupervisorConfig {
    let limits = SpawnLimits {
        max_agents_per_type: vec![("chaos".to_owned(), 2)],
        max_spawns_per_second: per_second,
        spawn_burst: burst,
    };
    SupervisorConfig { limits, ..SupervisorConfig::default() }
}

fn chaos(name: &str) -> AgentConfig {
    AgentConfig { agent_type: "chaos".to_owned(), ..agent(name) }
}

fn failures(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.starts_with("Failure")).count()
}

#[test]
fn a_type_has_room_again_when_one_of_it_was_removed_and_not_before() {
    let mut sim = Sim::running(limited(0, 1), chaos("a"));
    assert_eq!(sim.start(chaos("b")), Ok(1));
    sim.started("b", 1);
    let full = StartError::TypeCapacity { agent_type: "chaos".to_owned(), max_agents: 2 };
    assert_eq!(sim.start(chaos("c")), Err(full.clone()));
    assert_eq!(sim.lines(), ["Failure c0 ResourceExhaustion Low"]);
    assert!(sim.start(agent("other")).is_ok(), "the others are not touched");
    sim.lines();
    // Restarts keep the place, and so does one that has failed.
    for incarnation in 1..=6 {
        sim.died("a", incarnation);
        if incarnation <= 5 {
            while sim.supervisor.status(&id("a"))
                != Some((AgentStatus::Restarting, incarnation + 1))
            {
                sim.wait();
            }
            sim.started("a", incarnation + 1);
        }
        assert_eq!(sim.start(chaos("c")), Err(full.clone()), "life {incarnation}");
    }
    assert_eq!(
        sim.supervisor.status(&id("a")).map(|(status, _)| status),
        Some(AgentStatus::Failed)
    );
    // One that was told to stop is there until it has ended.
    sim.stop("b");
    assert_eq!(sim.start(chaos("c")), Err(full.clone()));
    sim.died("b", 1);
    assert!(sim.start(chaos("c")).is_ok());
    // In the place of the failed one, and with another type.
    assert!(sim.start(chaos("a")).is_ok());
    assert_eq!(sim.start(chaos("d")), Err(full));
    assert_eq!(sim.supervisor.refused_starts(), 9);
}

#[test]
fn a_process_that_the_host_refuses_gives_its_place_back() {
    let mut sim = Sim::new(limited(0, 1));
    for n in 0..5 {
        let incarnation = sim.start(chaos("a")).expect("room");
        let (id, reason) = (id("a"), "no more mappings".to_owned());
        sim.tell(Input::SpawnRefused { id, incarnation, reason });
        assert!(sim.supervisor.is_empty(), "{n}");
    }
}

#[test]
fn restarts_and_declared_agents_take_no_part_of_the_rate() {
    let mut sim = Sim::running(limited(1, 2), agent("a"));
    for n in 0..10 {
        let now = sim.now();
        let declared = agent(&format!("declared-{n}"));
        assert!(sim.supervisor.start_declared(now, declared).is_ok());
    }
    for incarnation in 1..=3 {
        sim.died("a", incarnation);
        while !matches!(sim.supervisor.status(&id("a")), Some((_, next)) if next > incarnation) {
            sim.wait();
        }
        sim.started("a", incarnation + 1);
    }
    // Declared or restarted, none has been counted; with "a" there was one, and that is long ago.
    sim.elapsed += Duration::from_secs(10);
    assert!(sim.start(agent("b")).is_ok());
    assert!(matches!(sim.start(agent("b")), Err(StartError::Exists { .. })), "takes no token");
    assert!(matches!(sim.start(agent("no id")), Err(StartError::Invalid(_))), "nor this");
    assert!(sim.start(agent("c")).is_ok());
    sim.lines();
    match sim.start(agent("d")) {
        Err(StartError::SpawnRate { max_per_second: 1, burst: 2, retry_after }) => {
            sim.elapsed += retry_after;
        }
        other => panic!("{other:?}"),
    }
    assert!(sim.start(agent("d")).is_ok(), "when it was told to come back");
}

#[test]
fn a_flood_of_starts_is_one_failure_a_second_and_changes_nothing() {
    let mut sim = Sim::new(limited(10, 10));
    let mut told = 0;
    let mut taken = 0;
    for n in 0..5_000 {
        taken += usize::from(sim.start(agent(&format!("agent-{n}"))).is_ok());
        told += failures(&sim.lines());
        sim.elapsed += Duration::from_millis(1);
    }
    assert_eq!(sim.supervisor.len(), taken);
    assert!((59..=60).contains(&taken), "a burst of 10, and 10 a second: {taken}");
    assert_eq!(told, 5);
    assert_eq!(sim.supervisor.refused_starts(), 5_000 - taken as u64);
}

#[test]
fn what_was_reached_is_in_the_failure() {
    let mut sim = Sim::running(limited(0, 1), chaos("a"));
    sim.start(chaos("b")).expect("room");
    sim.outputs();
    sim.start(chaos("c")).expect_err("full");
    let outputs = sim.outputs();
    let [Output::Event(SupervisionEvent::Failure { agent_id, incarnation, context, .. })] =
        &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert_eq!((agent_id, *incarnation), (&id("c"), 0));
    assert_eq!(context.limit.as_deref(), Some("agents_of_type"));
    assert_eq!((context.limit_value, context.reached), (Some(2), Some(2)));
    let message = context.message.as_deref().unwrap_or_default();
    assert!(message.contains("max_agents_per_type is 2 for \"chaos\""), "{message}");
}

#[test]
fn agents_of_declared_trees_count_and_a_tree_that_does_not_fit_is_refused_whole() {
    let tree = |name: &str, agents: &[&str]| SupervisorSpec {
        id: name.to_owned(),
        children: agents
            .iter()
            .map(|agent| ChildSpec::Agent { config: chaos(agent), shutdown: Shutdown::AGENT })
            .collect(),
        ..SupervisorSpec::default()
    };
    let mut sim = Sim::new(limited(1, 1));
    let now = sim.now();
    let error = sim.supervisor.start_supervisor(now, tree("t", &["a", "b", "c"]));
    let error = error.expect_err("one too many").to_string();
    assert!(error.starts_with("agent c of supervisor t: max_agents_per_type is 2"), "{error}");
    assert!(sim.supervisor.is_empty());
    sim.supervisor.start_supervisor(now, tree("t", &["a", "b"])).expect("two are");
    let full = StartError::TypeCapacity { agent_type: "chaos".to_owned(), max_agents: 2 };
    assert_eq!(sim.start(chaos("c")), Err(full));
    assert!(sim.start(agent("other")).is_ok(), "the tree has taken no token");
    sim.supervisor.stop_supervisor(now, "t", Duration::ZERO).expect("it is there");
    let mut lines = sim.lines();
    while sim.supervisor.len() > 1 {
        if lines.is_empty() {
            lines = sim.wait();
        }
        for line in std::mem::take(&mut lines) {
            if let Some(dead) = line.strip_prefix("Stop ").or(line.strip_prefix("Kill ")) {
                lines.extend(sim.died(&dead[..1], dead[1..].parse().expect("an incarnation")));
            }
        }
    }
    sim.elapsed += Duration::from_secs(10);
    assert!(sim.start(chaos("c")).is_ok());
}
