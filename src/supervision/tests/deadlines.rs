//! What happens when nothing happens.

use std::collections::VecDeque;

use super::*;

#[test]
fn an_agent_that_does_not_answer_is_killed_once_and_replaced() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    assert_eq!(sim.wait(), ["Ping a1 1"]);
    let asked = sim.elapsed;
    assert_eq!(sim.wait(), ["Health a Degraded"]);
    assert_eq!(sim.elapsed - asked, Duration::from_millis(500));
    assert_eq!(sim.wait(), ["Kill a1", "Health a Unresponsive"]);
    assert_eq!(sim.elapsed - asked, Duration::from_millis(1000));
    assert_eq!(sim.pong("a", 1, 1), [""; 0], "too late");
    assert_eq!(
        sim.died("a", 1),
        ["Spawn a2", "Failure a1 TimeoutFailure High", "a1 Running→Restarting"]
    );
    assert_eq!(sim.started("a", 2)[0], "Recovery a2 try 1 after 0 us");
}

#[test]
fn a_kill_that_has_no_effect_is_repeated_and_nothing_runs_twice() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.wait();
    sim.wait();
    assert_eq!(sim.wait()[0], "Kill a1");
    let killed = sim.elapsed;
    assert_eq!(sim.wait(), ["Kill a1"]);
    assert_eq!(sim.elapsed - killed, Duration::from_secs(5));
    assert_eq!(sim.died("a", 1)[0], "Spawn a2");
}

#[test]
fn what_it_said_before_the_kill_is_the_cause() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.wait();
    sim.wait();
    sim.wait();
    sim.said("a", 1, LastWord::Panic { message: "just before".into(), place: None });
    assert_eq!(sim.died("a", 1)[1], "Failure a1 ProcessCrash High");
}

#[test]
fn a_handler_that_takes_less_than_the_timeout_is_never_killed() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    let mut lines = sim.wait();
    for seq in 1..50 {
        assert!(lines.contains(&format!("Ping a1 {seq}")), "{lines:?}");
        for _ in 0..99 {
            let lines = sim.pass(10);
            assert!(!lines.contains(&"Kill a1".to_owned()), "{lines:?}");
        }
        lines = sim.pong("a", 1, seq);
    }
}

#[test]
fn health_is_told_every_interval() {
    let patient = AgentConfig { timeout_ms: 86_400_000, ..agent("a") };
    let mut sim = Sim::running(SupervisorConfig::default(), patient);
    assert_eq!(sim.wait(), ["Health a Healthy"]);
    assert!((15..=30).contains(&sim.elapsed.as_secs()));
    for _ in 0..3 {
        let before = sim.elapsed;
        assert_eq!(sim.wait(), ["Health a Healthy"]);
        assert_eq!(sim.elapsed - before, Duration::from_secs(30));
    }
}

#[test]
fn a_replacement_that_does_not_come_up_is_a_death() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.died("a", 1);
    let asked = sim.elapsed;
    assert_eq!(sim.wait(), ["Kill a2"]);
    assert_eq!(sim.elapsed - asked, Duration::from_secs(10));
    assert_eq!(sim.started("a", 2), [""; 0], "too late");
    let lines = sim.died("a", 2);
    assert!(lines.contains(&"Failure a2 TimeoutFailure High".to_owned()), "{lines:?}");
    sim.elapsed += Duration::from_millis(7);
    let lines = sim.started("a", 3);
    assert_eq!(
        lines[0], "Recovery a3 try 1 after 10007000 us",
        "down since life 1 ended; the first restart is out of the window"
    );
}

#[test]
fn the_start_deadline_is_never_below_the_agents_timeout() {
    let slow = AgentConfig { timeout_ms: 60_000, ..agent("a") };
    let mut sim = Sim::new(SupervisorConfig::default());
    sim.start(slow).expect("room");
    sim.lines();
    assert_eq!(sim.wait(), ["Kill a1"]);
    assert_eq!(sim.elapsed, Duration::from_secs(60));
}

#[test]
fn one_that_does_not_stop_is_killed_after_its_grace() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    assert_eq!(sim.stop("a"), ["Stop a1", "a1 Running→Stopping"]);
    sim.elapsed += Duration::from_secs(1);
    assert_eq!(sim.stop("a"), [""; 0], "a second stop prolongs nothing");
    assert_eq!(sim.wait(), ["Kill a1"]);
    assert_eq!(sim.elapsed, Duration::from_secs(5));
    assert_eq!(
        sim.died("a", 1).last().map(String::as_str),
        Some("Removed a: it was killed, since it did not stop")
    );
}

#[test]
fn a_farewell_that_the_kill_overtook_is_a_stop_all_the_same() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.stop("a");
    assert_eq!(sim.wait(), ["Kill a1"]);
    let lines = sim.said("a", 1, LastWord::Farewell);
    assert_eq!(lines.last().map(String::as_str), Some("Removed a: it was stopped"));
}

#[test]
fn a_panic_while_stopping_is_a_failure_and_the_end() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.stop("a");
    let message = "in its last will".into();
    let place = None;
    sim.said("a", 1, LastWord::Panic { message, place });
    let lines = sim.died("a", 1);
    assert_eq!(lines[0], "Failure a1 ProcessCrash High");
    assert!(sim.supervisor.is_empty());
}

#[test]
fn a_stop_in_each_phase_is_the_end() {
    let starting = || {
        let mut sim = Sim::new(SupervisorConfig::default());
        sim.start(agent("a")).expect("room");
        sim.lines();
        sim
    };
    let killing = || {
        let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
        while !sim.wait().contains(&"Kill a1".to_owned()) {}
        sim
    };
    let waiting = || {
        let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
        sim.died("a", 1);
        sim.died("a", 2);
        sim
    };

    let mut sim = starting();
    assert_eq!(sim.stop("a"), ["Stop a1", "a1 Starting→Stopping"]);
    assert_eq!(sim.started("a", 1), [""; 0]);
    sim.died("a", 1);
    assert!(sim.supervisor.is_empty());

    let mut sim = starting();
    sim.stop("a");
    let reason = "full".to_owned();
    let (id, incarnation) = (id("a"), 1);
    sim.tell(Input::SpawnRefused { id, incarnation, reason });
    assert!(sim.supervisor.is_empty());

    let mut sim = killing();
    assert_eq!(sim.stop("a"), ["a1 Running→Stopping"]);
    assert_eq!(sim.died("a", 1)[0], "Failure a1 TimeoutFailure High");
    assert!(sim.supervisor.is_empty());

    let mut sim = waiting();
    assert_eq!(sim.stop("a")[0], "a2 Restarting→Terminated");
    assert!(sim.supervisor.is_empty() && sim.due().is_none());
}

#[test]
fn stop_all_ends_all() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.start(agent("b")).expect("room");
    sim.lines();
    let now = sim.now();
    assert_eq!(sim.supervisor.stop_all(now, Duration::from_secs(5)), 2);
    sim.died("a", 1);
    sim.died("b", 1);
    assert!(sim.supervisor.is_empty());
}

#[test]
fn a_second_stop_shortens_the_grace_and_never_prolongs_it() {
    let mut sim = Sim::running(SupervisorConfig::default(), agent("a"));
    sim.start(agent("b")).expect("room");
    sim.lines();
    // One that is stopped already, with the usual 5 s, when all are stopped within a minute.
    sim.stop("a");
    let now = sim.now();
    assert_eq!(sim.supervisor.stop_all(now, Duration::from_secs(60)), 2);
    sim.lines();
    assert_eq!(sim.wait(), ["Kill a1"]);
    assert_eq!(sim.elapsed, Duration::from_secs(5));
    sim.died("a", 1);
    let now = sim.now();
    assert_eq!(sim.supervisor.stop_all(now, Duration::ZERO), 1);
    assert_eq!(sim.lines(), [""; 0], "nobody is told twice");
    assert_eq!(sim.wait(), ["Kill b1"], "55 s before its time");
    assert_eq!(sim.elapsed, Duration::from_secs(5));
    assert_eq!(
        sim.died("b", 1).last().map(String::as_str),
        Some("Removed b: it was killed, since it did not stop")
    );
}

#[test]
fn when_all_are_due_at_once_facts_get_their_turn_in_between() {
    let mut sim = Sim::new(SupervisorConfig::default());
    for n in 0..600 {
        sim.start(agent(&format!("agent-{n}"))).expect("room");
    }
    sim.lines();
    let killed = [(); 3].map(|()| sim.wait().len());
    assert_eq!(killed, [256, 256, 88]);
    assert_eq!(sim.elapsed, Duration::from_secs(10), "no time was lost");
}

/// Ten thousand idle agents for half a minute: each round of work is small, and the pings and reports
/// do not come in waves.
#[test]
fn ten_thousand_agents_are_spread_over_time() {
    let config = SupervisorConfig { max_agents: 10_000, ..Default::default() };
    let mut sim = Sim::new(config);
    for n in 0..10_000 {
        let config = AgentConfig { id: id(&format!("agent-{n}")), ..Default::default() };
        let (id, incarnation) = (config.id.clone(), sim.start(config).expect("room"));
        let now = sim.now();
        sim.supervisor.handle(now, Input::Started { id, incarnation });
    }
    sim.outputs();
    let (mut pings, mut reports, mut most) = (0, 0, 0);
    for _ in 0..300 {
        sim.elapsed += Duration::from_millis(100);
        let mut this_time = 0;
        while sim.due().is_some_and(|due| due <= sim.now().at) {
            let now = sim.now();
            sim.supervisor.handle(now, Input::Tick);
            // An answer is followed by those whose time has come.
            let mut outputs = VecDeque::from(sim.outputs());
            while let Some(output) = outputs.pop_front() {
                this_time += 1;
                match output {
                    Output::Ping { id, incarnation, seq } => {
                        pings += 1;
                        let figures = Figures::default();
                        sim.supervisor.handle(now, Input::Pong { id, incarnation, seq, figures });
                        outputs.extend(sim.outputs());
                    }
                    Output::Event(SupervisionEvent::Health { .. }) => reports += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        most = most.max(this_time);
    }
    assert!((19_000..25_000).contains(&pings), "{pings}");
    assert!((9_000..=10_000).contains(&reports), "{reports}");
    assert!(most < 1_000, "{most} pieces of work at once");
}
