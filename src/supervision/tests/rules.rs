//! Who is started again, and what is told of it.

use super::*;

fn panic() -> LastWord {
    LastWord::Panic { message: "boom".into(), place: None }
}

#[test]
fn the_life_of_an_agent() {
    let mut sim = Sim::new(SupervisorConfig::default());
    assert_eq!(sim.start(agent("a")), Ok(1));
    assert_eq!(sim.lines(), ["Spawn a1"]);
    assert_eq!(
        sim.started("a", 1),
        ["Spawned a1", "a1 Starting→Running", "ChildStarted a", "Health a Healthy"]
    );
    sim.said("a", 1, panic());
    assert_eq!(
        sim.died("a", 1),
        ["Spawn a2", "Failure a1 ProcessCrash High", "a1 Running→Restarting"]
    );
    sim.elapsed += Duration::from_micros(110);
    assert_eq!(
        sim.started("a", 2),
        [
            "Recovery a2 try 1 after 110 us",
            "a2 Restarting→Running",
            "ChildRestarted a",
            "Health a Healthy"
        ]
    );
    assert_eq!(sim.stop("a"), ["Stop a2", "a2 Running→Stopping"]);
    assert_eq!(
        sim.said("a", 2, LastWord::Farewell),
        ["a2 Stopping→Terminated", "Terminated a", "ChildStopped a", "Removed a: it was stopped"]
    );
    assert!(sim.supervisor.is_empty() && sim.supervisor.by_status().is_empty());
    assert_eq!(sim.due(), None);
    assert_eq!(sim.supervisor.restarts(), 1);
}

#[test]
fn restart_type_by_death() {
    use RestartType::{Permanent, Temporary, Transient};
    let word = |word: LastWord| Some(word);
    let silent = None;
    let refused = LastWord::AllocationRefused { bytes: 1 };
    // (restart type, last word, the failure if there is one, whether it is started again)
    let cases = [
        (Permanent, word(panic()), "ProcessCrash", true),
        (Permanent, word(LastWord::Exit), "ProcessCrash", true),
        (Permanent, word(refused.clone()), "ResourceExhaustion", true),
        (Permanent, silent.clone(), "ProcessCrash", true),
        (Permanent, word(LastWord::Farewell), "", true),
        (Transient, word(panic()), "ProcessCrash", true),
        (Transient, word(LastWord::Exit), "ProcessCrash", true),
        (Transient, word(refused.clone()), "ResourceExhaustion", true),
        (Transient, silent.clone(), "ProcessCrash", true),
        (Transient, word(LastWord::Farewell), "", false),
        (Temporary, word(panic()), "ProcessCrash", false),
        (Temporary, word(LastWord::Exit), "ProcessCrash", false),
        (Temporary, word(refused), "ResourceExhaustion", false),
        (Temporary, silent, "ProcessCrash", false),
        (Temporary, word(LastWord::Farewell), "", false),
    ];
    for (restart, word, failure, again) in cases {
        let case = format!("{restart:?} {word:?}");
        let mut sim = Sim::running(SupervisorConfig::default(), with(restart));
        let mut lines = match word {
            Some(word) => sim.said("a", 1, word),
            None => Vec::new(),
        };
        lines.extend(sim.died("a", 1));
        let failures: Vec<_> = lines.iter().filter(|l| l.starts_with("Failure")).collect();
        match failure {
            "" => assert_eq!(failures, [""; 0], "{case}"),
            kind => assert_eq!(failures, [&format!("Failure a1 {kind} High")], "{case}"),
        }
        let spawned = lines.contains(&"Spawn a2".to_owned());
        let removed = lines.iter().any(|l| l.starts_with("Removed a"));
        assert_eq!((spawned, removed), (again, !again), "{case}: {lines:?}");
        assert_eq!(sim.supervisor.status(&id("a")).is_some(), again, "{case}");
    }
}

#[test]
fn a_silent_death_with_fuel_set_has_its_candidates() {
    let fuelled = AgentConfig { max_fuel: Some(10), ..agent("a") };
    let mut sim = Sim::running(SupervisorConfig::default(), fuelled);
    let now = sim.now();
    let (id, incarnation) = (id("a"), 1);
    sim.supervisor.handle(now, Input::Died { id, incarnation });
    let context = sim
        .outputs()
        .into_iter()
        .find_map(|output| match output {
            Output::Event(SupervisionEvent::Failure { context, .. }) => Some(context),
            _ => None,
        })
        .expect("a failure");
    assert_eq!(context.candidates, ["fuel", "stack", "killed"]);
}

#[test]
fn a_refused_allocation_that_it_survives_is_no_cause_of_a_later_death() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.said("a", 1, LastWord::AllocationRefused { bytes: 1 << 40 });
    assert!(sim.wait().contains(&"Ping a1 1".to_owned()));
    sim.pong("a", 1, 1);
    assert!(sim.died("a", 1).contains(&"Failure a1 ProcessCrash High".to_owned()));
}

#[test]
fn a_panic_is_more_than_a_suspicion() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.said("a", 1, LastWord::AllocationRefused { bytes: 1 });
    sim.said("a", 1, panic());
    sim.said("a", 1, LastWord::AllocationRefused { bytes: 1 });
    assert!(sim.died("a", 1).contains(&"Failure a1 ProcessCrash High".to_owned()));
}

#[test]
fn the_sixth_death_in_the_window_is_the_end_and_siblings_are_untouched() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    let patient = AgentConfig { timeout_ms: 60_000, ..agent("b") };
    sim.start(patient).expect("room");
    sim.started("b", 1);
    for incarnation in 1..=5 {
        let lines = sim.died("a", incarnation);
        let next = format!("Spawn a{}", incarnation + 1);
        if incarnation == 1 {
            assert_eq!(lines[0], next, "the first at once");
        } else {
            assert!(!lines.contains(&next), "then with a delay");
            sim.elapsed = sim.due().expect("its turn").since_start();
            assert!(sim.tell(Input::Tick).contains(&next));
        }
        sim.started("a", incarnation + 1);
    }
    assert!(sim.elapsed < Duration::from_secs(5));
    assert_eq!(
        sim.died("a", 6),
        ["Failure a6 ProcessCrash Critical", "a6 Running→Failed", "Health a Unhealthy", "GaveUp a"]
    );
    let status = |sim: &Sim, name| sim.supervisor.status(&id(name)).expect("listed");
    use crate::message::AgentStatus::{Failed, Running};
    assert_eq!(status(&sim, "a"), (Failed, 6));
    assert_eq!(status(&sim, "b"), (Running, 1));
    assert_eq!(sim.supervisor.by_status(), [(Running, 1), (Failed, 1)].into());

    assert_eq!(sim.start(agent("a")), Ok(7), "a fresh start takes its place");
    assert_eq!(sim.lines(), ["a6 Failed→Starting", "Spawn a7"]);
    assert!(sim.started("a", 7).contains(&"Spawned a7".to_owned()));
    assert_eq!(sim.died("a", 7)[0], "Spawn a8", "with a clean record");
}

#[test]
fn a_failed_agent_is_stopped_at_once() {
    let config = SupervisorConfig {
        intensity: Intensity { max_restarts: 0, ..Default::default() },
        ..Default::default()
    };
    let mut sim = Sim::running(config, agent("a"));
    assert!(sim.died("a", 1).contains(&"GaveUp a".to_owned()));
    assert_eq!(
        sim.stop("a"),
        ["a1 Failed→Terminated", "Terminated a", "ChildStopped a", "Removed a: it was stopped"]
    );
}

#[test]
fn an_agent_that_only_returns_is_given_up_too() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    for incarnation in 1..=5 {
        let lines = sim.said("a", incarnation, LastWord::Farewell);
        assert!(!lines.iter().any(|l| l.starts_with("Failure")), "{lines:?}");
        while sim.supervisor.status(&id("a")).expect("there").1 == incarnation {
            sim.wait();
        }
        sim.started("a", incarnation + 1);
    }
    let lines = sim.said("a", 6, LastWord::Farewell);
    assert_eq!(lines[0], "Failure a6 ProcessCrash Critical");
}

#[test]
fn deaths_that_are_far_apart_are_always_restarted_at_once() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    for incarnation in 1..50 {
        sim.elapsed += Duration::from_millis(5_001);
        let lines = sim.died("a", incarnation);
        assert!(lines.contains(&format!("Spawn a{}", incarnation + 1)), "{lines:?}");
        let lines = sim.started("a", incarnation + 1);
        assert!(lines[0].contains("try 1 "), "{lines:?}");
    }
}

#[test]
fn late_notices_of_an_old_life_change_nothing() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.died("a", 1);
    sim.started("a", 2);
    let due = sim.due();
    let handler_failed = Input::HandlerFailed {
        id: id("a"),
        incarnation: 1,
        failure_type: FailureType::DependencyFailure,
        message: "late".into(),
    };
    assert_eq!(sim.died("a", 1), [""; 0]);
    assert_eq!(sim.started("a", 1), [""; 0]);
    assert_eq!(sim.started("a", 2), [""; 0], "said twice");
    assert_eq!(sim.said("a", 1, panic()), [""; 0]);
    assert_eq!(sim.said("a", 1, LastWord::Farewell), [""; 0]);
    assert_eq!(sim.pong("a", 1, 1), [""; 0]);
    assert_eq!(sim.tell(handler_failed), [""; 0]);
    assert_eq!(sim.died("nobody", 1), [""; 0]);
    assert_eq!(sim.due(), due);
    assert!(
        sim.died("a", 2).contains(&"Failure a2 ProcessCrash High".to_owned()),
        "and the panic of life 1 is not the cause of this"
    );
}

#[test]
fn a_notice_of_a_removed_agent_is_not_one_of_its_namesake() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.stop("a");
    sim.died("a", 1);
    assert_eq!(sim.start(agent("a")), Ok(2));
    sim.lines();
    assert_eq!(sim.died("a", 1), [""; 0]);
    assert_eq!(sim.started("a", 1), [""; 0]);
    assert_eq!(sim.started("a", 2)[0], "Spawned a2");
}

#[test]
fn a_handlers_error_is_no_death() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    let lines = sim.tell(Input::HandlerFailed {
        id: id("a"),
        incarnation: 1,
        failure_type: FailureType::NetworkPartition,
        message: "no route".into(),
    });
    assert_eq!(lines, ["Failure a1 NetworkPartition Low", "Error a: no route"]);
}

#[test]
fn what_a_process_said_is_cut() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.said("a", 1, LastWord::Panic { message: "ä".repeat(1_000_000), place: None });
    let now = sim.now();
    let (id, incarnation) = (id("a"), 1);
    sim.supervisor.handle(now, Input::Died { id, incarnation });
    let message = sim.outputs().into_iter().find_map(|output| match output {
        Output::Event(SupervisionEvent::Failure { context, .. }) => context.message,
        _ => None,
    });
    assert!(message.expect("what it said").len() < 1100);
}

#[test]
fn capacity_existing_ids_and_bad_configs() {
    let config = SupervisorConfig { max_agents: 2, ..Default::default() };
    let mut sim = Sim::running(config, agent("a"));
    assert!(matches!(sim.start(agent("a")), Err(StartError::Exists { .. })));
    assert!(matches!(sim.start(agent("a b")), Err(StartError::Invalid(_))));
    assert_eq!(sim.start(agent("b")), Ok(1));
    assert_eq!(sim.start(agent("c")), Err(StartError::Capacity { max_agents: 2 }));
    sim.stop("a");
    assert!(
        matches!(sim.start(agent("a")), Err(StartError::Exists { .. })),
        "it has not ended yet"
    );
    sim.died("a", 1);
    assert_eq!(sim.start(agent("c")), Ok(2));
}

#[test]
fn a_refused_first_start_is_told_and_forgotten() {
    let mut sim = Sim::new(SupervisorConfig::default());
    sim.start(agent("a")).expect("room");
    sim.lines();
    let refused =
        Input::SpawnRefused { id: id("a"), incarnation: 1, reason: "no more mappings".into() };
    assert_eq!(
        sim.tell(refused.clone()),
        [
            "Failure a1 ResourceExhaustion High",
            "StartRefused a: no more mappings",
            "a1 Starting→Terminated",
            "Terminated a"
        ]
    );
    assert!(sim.supervisor.is_empty() && sim.due().is_none());
    assert_eq!(sim.tell(refused), [""; 0]);
}

#[test]
fn a_refused_replacement_is_tried_again_and_then_given_up() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.died("a", 1);
    for incarnation in 2..=6 {
        let lines =
            sim.tell(Input::SpawnRefused { id: id("a"), incarnation, reason: "full".into() });
        if incarnation == 6 {
            let critical = "Failure a6 ResourceExhaustion Critical";
            assert_eq!(lines[0], critical);
            assert!(lines.contains(&"GaveUp a".to_owned()));
            return;
        }
        assert_eq!(lines, [format!("Failure a{incarnation} ResourceExhaustion High")]);
        let lines = sim.wait();
        assert_eq!(lines, [format!("Spawn a{}", incarnation + 1)]);
    }
}

#[test]
fn a_first_process_that_dies_before_it_runs_is_replaced_and_spawned_is_told_once() {
    let mut sim = Sim::new(SupervisorConfig::default());
    sim.start(agent("a")).expect("room");
    sim.lines();
    assert_eq!(
        sim.died("a", 1),
        ["Spawn a2", "Failure a1 ProcessCrash High", "a1 Starting→Restarting"]
    );
    assert_eq!(
        sim.started("a", 2)[..3],
        ["Spawned a2", "Recovery a2 try 1 after 0 us", "a2 Restarting→Running"]
    );
}

#[test]
fn the_lists_are_in_order_and_in_pages() {
    let mut sim = Sim::new(SupervisorConfig::default());
    for name in ["c", "a", "d", "b"] {
        sim.start(agent(name)).expect("room");
    }
    let page = |after: Option<&str>, limit| {
        let after = after.map(id);
        let page = sim.supervisor.page(sim.now().at, after.as_ref(), limit);
        let names: Vec<_> = page.agents.iter().map(|a| a.agent_id.0.clone()).collect();
        (names.join(""), page.next.map(|id| id.0))
    };
    assert_eq!(page(None, 3), ("abc".into(), Some("c".into())));
    assert_eq!(page(Some("c"), 3), ("d".into(), None));
    assert_eq!(page(Some("aa"), 10), ("bcd".into(), None));
    assert_eq!(page(None, 4), ("abcd".into(), None));
    assert_eq!(page(None, 0), (String::new(), None));
}

#[test]
fn a_summary_has_what_the_last_answer_said() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    let summary = |sim: &Sim| sim.supervisor.summary(sim.now().at, &id("a"));
    let before = summary(&sim).expect("there").counters;
    assert_eq!((before.memory_bytes, before.last_answer_ms), (None, None));
    sim.wait();
    sim.tell(Input::Pong {
        id: id("a"),
        incarnation: 1,
        seq: 1,
        figures: Figures {
            handled: 3,
            errors: 1,
            memory_bytes: Some(65_536),
            ..Figures::default()
        },
    });
    sim.elapsed += Duration::from_millis(20);
    let after = summary(&sim).expect("there").counters;
    assert_eq!((after.handled, after.errors), (3, 1));
    assert_eq!((after.memory_bytes, after.last_answer_ms), (Some(65_536), Some(20)));
}
