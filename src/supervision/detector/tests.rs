use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::supervision::{FailureContext, HealthMetrics};

mod streams;

fn id(name: &str) -> AgentId {
    AgentId(name.to_owned())
}

fn now(ms: u64) -> Now {
    let since = Duration::from_millis(ms);
    Now { at: Instant::from_start(since), wall: Timestamp::from_epoch(since) }
}

fn failure(agent: &str, failure_type: FailureType, severity: FailureSeverity) -> SupervisionEvent {
    SupervisionEvent::Failure {
        agent_id: id(agent),
        incarnation: 1,
        failure_type,
        severity,
        context: FailureContext::default(),
        detection_time: now(0).wall,
    }
}

fn crash(agent: &str) -> SupervisionEvent {
    failure(agent, FailureType::ProcessCrash, FailureSeverity::High)
}

fn health(agent: &str, status: HealthStatus, response_time_ms: Option<f64>) -> SupervisionEvent {
    SupervisionEvent::Health {
        agent_id: id(agent),
        status,
        metrics: HealthMetrics { response_time_ms, ..HealthMetrics::default() },
        timestamp: now(0).wall,
    }
}

fn answered(agent: &str, ms: f64) -> SupervisionEvent {
    health(agent, HealthStatus::Healthy, Some(ms))
}

fn stopped(agent: &str) -> SupervisionEvent {
    SupervisionEvent::SupervisorLifecycle {
        supervisor_id: "agents".to_owned(),
        event_type: LifecycleEvent::ChildStopped,
        affected_agents: vec![id(agent)],
    }
}

fn detector() -> PatternDetector {
    PatternDetector::new(DetectionConfig::default())
}

fn found(detector: &mut PatternDetector) -> Vec<Pattern> {
    std::iter::from_fn(|| detector.poll_pattern()).map(|found| found.pattern).collect()
}

/// Feeds events at their times, and gives what was found with each time.
fn run(
    detector: &mut PatternDetector,
    events: impl IntoIterator<Item = (u64, SupervisionEvent)>,
) -> Vec<(u64, DetectedPattern)> {
    let mut all = Vec::new();
    for (ms, event) in events {
        detector.handle(now(ms), &event);
        all.extend(std::iter::from_fn(|| detector.poll_pattern()).map(|found| (ms, found)));
    }
    all
}

#[test]
fn ten_deaths_in_ten_seconds_are_a_spike() {
    let mut detector = detector();
    let deaths = (0..10).map(|n| (n * 1000, crash(&format!("a{}", n % 4))));
    let all = run(&mut detector, deaths);
    let [(9000, spike)] = all.as_slice() else { panic!("{all:?}") };
    let DetectedPattern { pattern, severity, count, threshold, agent_count, .. } = spike;
    assert_eq!((*pattern, *severity), (Pattern::FailureSpike, FailureSeverity::High));
    assert_eq!((*count, *threshold, *agent_count, spike.window_ms), (10, 10, 4, 10_000));
    assert_eq!(spike.agents, ["a1", "a0", "a3", "a2"].map(id), "who failed last comes first");
    assert_eq!((spike.usual, spike.confidence), (0.0, 0.667), "10 / (10 + 5)");
    assert_eq!((spike.since, spike.timestamp), (now(9000).wall, now(9000).wall));
    assert_eq!(spike.subject(), "supervision.patterns.failure_spike");
    assert_eq!(spike.to_string(), "10 deaths of 4 agents in 10000 ms (a1, …)");
}

#[test]
fn a_death_that_is_older_than_the_window_does_not_count() {
    let nine_then = |last| {
        let mut detector = detector();
        let deaths = (0..9).map(|n| (n, crash("a"))).chain([(last, crash("a"))]);
        run(&mut detector, deaths).len()
    };
    assert_eq!((nine_then(10_000), nine_then(10_001)), (1, 0), "exactly the window still counts");
    let mut detector = detector();
    let errors =
        (0..100).map(|n| (n, failure("a", FailureType::DependencyFailure, FailureSeverity::Low)));
    assert_eq!(run(&mut detector, errors), [], "errors of handlers are no deaths");
}

#[test]
fn what_lasts_becomes_usual() {
    let mut detector = detector();
    // Twelve deaths in each ten seconds, for an hour.
    let deaths = (0..4320).map(|n| (n * 833, crash(&format!("a{n}"))));
    let all = run(&mut detector, deaths);
    let last = all.last().map(|(ms, _)| *ms).expect("a spike at first");
    assert!(last < 300_000, "told for the last time after {last} ms");
    // So much more is a spike again.
    let more = (0..100).map(|n| (3_600_000 + n * 200, crash(&format!("b{n}"))));
    let all = run(&mut detector, more);
    let (ms, spike) = all.first().expect("a spike");
    assert!(*ms < 3_610_500 && spike.count >= 46, "{ms}: {spike:?}");
    assert!(spike.usual > 10.0 && spike.confidence < 0.7, "{spike:?}");
}

#[test]
fn a_pattern_that_lasts_is_told_once_a_minute_and_when_it_gets_worse() {
    let mut detector = detector();
    const LATER: u64 = 1_000_000;
    let steady = (0..1200).map(|n| (LATER + n * 100, crash(&format!("a{n}"))));
    let all = run(&mut detector, steady);
    let told: Vec<_> = all.iter().map(|(ms, found)| (*ms - LATER, found.severity)).collect();
    let (high, critical) = (FailureSeverity::High, FailureSeverity::Critical);
    assert_eq!(told, [(900, high), (4900, critical), (64_900, critical)], "50 are worse than 10");
    assert!(all.iter().all(|(_, found)| found.since == now(LATER + 900).wall), "one and the same");
    // After a pause of more than a minute it is another one.
    let later = (0..400).map(|n| (2 * LATER + n, crash(&format!("b{n}"))));
    let again = run(&mut detector, later);
    let (_, first) = again.first().expect("a spike");
    assert!(first.since >= now(2 * LATER).wall, "{first:?}");
}

#[test]
fn a_cascade_is_a_death_and_others_that_depend_on_it() {
    let follower = |n: u64| {
        let kind = FailureType::DependencyFailure;
        (1000 + n * 500, failure(&format!("f{n}"), kind, FailureSeverity::Low))
    };
    let mut with_root = detector();
    let all = run(&mut with_root, [(500, crash("db"))].into_iter().chain((0..5).map(follower)));
    let [(3000, cascade)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(cascade.pattern, Pattern::CascadingFailure);
    assert_eq!((cascade.count, cascade.agent_count), (5, 6), "the root is none of those after it");
    assert_eq!(cascade.agents, ["db", "f0", "f1", "f2", "f3", "f4"].map(id));
    assert_eq!(cascade.confidence, 0.667, "5 / (5 + 2.5)");
    // Without a death before them they are errors of handlers.
    let late_root = (0..5).map(follower).chain([(4000, crash("db"))]);
    assert_eq!(run(&mut detector(), late_root), []);
    // Five crashes depend on nobody, as far as one can see.
    let crashes = (0..6).map(|n| (n * 1000, crash(&format!("c{n}"))));
    assert_eq!(run(&mut detector(), crashes), []);
    // One that fails five times is one.
    let one = [(500, crash("db"))].into_iter().chain((0..9).map(|n| (n + 900, follower(0).1)));
    assert_eq!(run(&mut detector(), one), []);
}

#[test]
fn a_supervisor_that_gives_up_takes_its_agents_along() {
    let escalation = |count: usize| SupervisionEvent::Escalation {
        supervisor_id: "s".to_owned(),
        level: 1,
        reason: "r".to_owned(),
        affected_agents: (0..count).map(|n| id(&format!("a{n}"))).collect(),
        timestamp: now(0).wall,
    };
    assert_eq!(run(&mut detector(), [(1, escalation(4))]), []);
    let all = run(&mut detector(), [(1, escalation(5))]);
    let [(1, cascade)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((cascade.count, cascade.agent_count), (5, 5), "the supervisor is no agent");
    // More agents than a window has room for.
    let all = run(&mut detector(), [(1, escalation(9000))]);
    let [(1, cascade)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(cascade.count, 4095);
    assert_eq!(cascade.severity, FailureSeverity::Critical);
}

#[test]
fn five_failures_for_want_of_a_resource_in_a_minute() {
    use FailureType::{MemoryLeak, ResourceExhaustion};
    let kinds = [ResourceExhaustion, MemoryLeak, ResourceExhaustion, MemoryLeak, MemoryLeak];
    let events = |gap: u64| {
        let at = (0..).map(move |n| n * gap);
        at.zip(kinds.map(|kind| failure("a", kind, FailureSeverity::High)))
    };
    assert_eq!(run(&mut detector(), events(15_001)), []);
    let all = run(&mut detector(), events(15_000));
    let [(60_000, exhaustion)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((exhaustion.pattern, exhaustion.count), (Pattern::ResourceExhaustion, 5));
    assert_eq!((exhaustion.agent_count, &exhaustion.agents), (1, &vec![id("a")]));
}

#[test]
fn five_agents_that_cannot_reach_others_in_a_minute() {
    let lost = |agent: &str| failure(agent, FailureType::NetworkPartition, FailureSeverity::Low);
    let one = (0..50).map(|n| (n * 100, lost("a")));
    assert_eq!(run(&mut detector(), one), [], "one agent that tries again and again");
    let five = [(0, "a"), (1, "a"), (20_000, "b"), (30_000, "c"), (50_000, "d"), (60_000, "e")];
    let all = run(&mut detector(), five.map(|(ms, agent)| (ms, lost(agent))));
    let [(60_000, partition)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((partition.pattern, partition.count), (Pattern::NetworkPartition, 5));
    assert_eq!(partition.agents, ["e", "d", "c", "b", "a"].map(id));
}

/// Three agents that answered like this before, and then like that.
fn paces(before: &[f64], after: &[f64]) -> Vec<(u64, DetectedPattern)> {
    let mut detector = detector();
    let answers = before.iter().chain(after).enumerate();
    let events = answers.flat_map(|(n, ms)| {
        ["a", "b", "c"].map(|agent| (n as u64 * 30_000, answered(agent, ms + n as f64 / 1e3)))
    });
    let events: Vec<_> = events.collect();
    run(&mut detector, events)
}

#[test]
fn an_agent_is_slow_if_two_of_three_answers_are_late_for_it() {
    let usual = [20.0; 8];
    let first = |after: &[f64]| paces(&usual, after).first().map(|(ms, _)| ms / 30_000);
    assert_eq!(first(&[79.0, 79.0, 79.0]), None, "less than four times");
    assert_eq!(first(&[81.0, 20.0, 20.0, 81.0, 20.0]), None, "one of three");
    assert_eq!(first(&[81.0, 20.0, 81.0]), Some(10), "two of three");
    assert_eq!(first(&[500.0, 500.0]), Some(9));
    assert_eq!(paces(&[0.1; 8], &[40.0; 9]), [], "it is still quick");
    assert_eq!(paces(&[20.0; 5], &[500.0; 2]), [], "nobody knows yet what it is used to");
    let all = paces(&usual, &[200.0; 4]);
    let (_, slow) = all.first().expect("they are slow");
    assert_eq!((slow.pattern, slow.severity, slow.count), {
        (Pattern::PerformanceDegradation, FailureSeverity::Medium, 3)
    });
    assert_eq!(slow.agents, ["a", "b", "c"].map(id));
    let slowdown = slow.slowdown.expect("it is known");
    assert!((9.5..10.1).contains(&slowdown), "{slowdown}");
    let expected = 3.0 / 4.5 * (1.0 - 4.0 / (2.0 * slowdown));
    assert!((slow.confidence - expected).abs() < 0.01, "{slow:?}");
}

#[test]
fn a_report_that_repeats_an_answer_is_not_another_answer() {
    let mut detector = detector();
    for n in 0..10_u64 {
        for agent in ["a", "b", "c"] {
            detector.handle(now(n), &answered(agent, 20.0 + n as f64));
        }
    }
    for n in 0..10_u64 {
        for agent in ["a", "b", "c"] {
            detector.handle(now(100 + n), &answered(agent, 900.0));
        }
    }
    assert_eq!(found(&mut detector), []);
}

#[test]
fn who_missed_a_health_check_is_slow_until_it_answers_or_dies() {
    let late = |agent: &str| {
        let reason = "late".to_owned();
        health(agent, HealthStatus::Degraded { reason, missed: 1 }, Some(0.1))
    };
    let mut all_late = detector();
    let all = run(&mut all_late, ["a", "b", "c"].map(|agent| (1, late(agent))));
    let [(1, slow)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((slow.slowdown, slow.confidence), (None, 0.333), "by how much is not known");
    let ends = [
        answered("b", 1.0),
        crash("b"),
        stopped("b"),
        health("b", HealthStatus::Unhealthy { reason: "gave up".to_owned() }, None),
        health("b", HealthStatus::Unresponsive { last_seen: now(0).wall }, None),
    ];
    for end in ends {
        let mut one_ends = detector();
        let events = [late("a"), late("b"), end.clone(), late("c")];
        assert_eq!(run(&mut one_ends, (1..).zip(events)), [], "{end:?}");
    }
    // A report without a figure says nothing of its pace.
    let still = [late("a"), late("b"), health("b", HealthStatus::Healthy, None), late("c")];
    assert_eq!(run(&mut detector(), (1..).zip(still)).len(), 1);
}

#[test]
fn figures_that_are_none_change_nothing() {
    let mut detector = detector();
    for (n, ms) in [f64::NAN, f64::INFINITY, -1.0, f64::NEG_INFINITY].into_iter().enumerate() {
        for round in 0..20 {
            for agent in ["a", "b", "c"] {
                detector.handle(now(round * 10 + n as u64), &answered(agent, ms));
            }
        }
    }
    assert_eq!(found(&mut detector), []);
}

#[test]
fn a_window_has_room_for_4096_failures_and_says_how_many_left_early() {
    let mut detector = detector();
    let all = run(&mut detector, (0..5000).map(|_| (1, crash("a"))));
    assert_eq!(all.len(), 2, "it began, and got worse");
    // In the window of deaths, and in that of failures.
    assert_eq!(detector.counters().left_early, 2 * (5000 - 4096));
    detector.handle(now(70_000), &crash("a"));
    assert_eq!((detector.deaths.count(), detector.deaths.agents()), (1, 1), "they are all gone");
}

#[test]
fn it_remembers_16384_agents_and_counts_the_failures_of_the_others() {
    let mut detector = detector();
    for n in 0..20_000 {
        assert_eq!(detector.register(now(0).at, &id(&format!("a{n}"))), n < 16_384);
    }
    let counters = detector.counters();
    assert_eq!((counters.agents, counters.untracked), (16_384, 20_000 - 16_384));
    let deaths = (0..10).map(|n| (1000, crash(&format!("a{}", 19_990 + n))));
    let all = run(&mut detector, deaths);
    let [(_, spike)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((spike.count, spike.agent_count, spike.agents.len()), (10, 0, 0));
    // One that has ended makes room at once, one that is silent after ten minutes.
    detector.handle(now(1000), &stopped("a7"));
    assert!(detector.register(now(1000).at, &id("new")));
    assert!(!detector.register(now(1000).at, &id("newer")));
    detector.handle(now(300_000), &answered("a9", 1.0));
    assert!(detector.register(now(600_001).at, &id("newer")));
    assert_eq!(detector.counters().agents, 3, "a9, new and newer");
}

#[test]
fn one_that_ended_is_still_counted_in_the_window_and_its_slot_is_used_again_after_it() {
    let mut detector = detector();
    let mut events: Vec<_> = (0..9).map(|n| (n, crash(&format!("a{n}")))).collect();
    events.extend((0..9).map(|n| (9 + n, stopped(&format!("a{n}")))));
    events.push((20, crash("a0")));
    let all = run(&mut detector, events);
    let [(20, spike)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((spike.count, spike.agent_count), (10, 9), "it is the same agent again");
    detector.handle(now(30_000), &crash("b"));
    assert_eq!(detector.counters().agents, 2, "a0 and b");
    for n in 0..8 {
        assert!(detector.register(now(30_000).at, &id(&format!("c{n}"))));
    }
    assert_eq!(detector.agents.get(9).map(|agent| agent.id.clone()), Some(id("b")));
    assert!(detector.agents.get(10).is_none(), "eight slots were free again");
}

#[test]
fn patterns_that_nobody_takes_are_dropped_from_the_oldest_on() {
    let config = DetectionConfig { repeat: Duration::from_secs(1), ..Default::default() };
    let mut detector = PatternDetector::new(config);
    let lost = |n: u64| {
        let kind = FailureType::NetworkPartition;
        failure(&format!("a{}", n % 50), kind, FailureSeverity::Low)
    };
    // A new one each time: the minute's window is quiet in between.
    for n in 0..80_u64 {
        for agent in 0..10 {
            detector.handle(now(n * 1_000_000 + agent), &lost(agent));
        }
    }
    assert_eq!(detector.counters().dropped, 80 - 64);
    assert_eq!(found(&mut detector).len(), 64);
}

#[test]
fn each_value_of_the_config_has_a_range() {
    let refused = |change: fn(&mut DetectionConfig)| {
        let mut config = DetectionConfig::default();
        change(&mut config);
        config.validate().expect_err("out of range").to_string()
    };
    assert_eq!(DetectionConfig::default().validate(), Ok(()));
    let long = "must be 100 to 3600000 ms";
    let cases = [
        (refused(|c| c.window = Duration::ZERO), format!("detection.window is 0ns, and {long}")),
        (refused(|c| c.long_window = Duration::MAX), long.to_owned()),
        (refused(|c| c.slow_min = Duration::ZERO), "detection.slow_min is 0ns".to_owned()),
        (refused(|c| c.repeat = Duration::ZERO), "must be 1000 to 86400000 ms".to_owned()),
        (
            refused(|c| c.spike_failures = 1),
            "detection.spike_failures is 1, and must be 2 to 4096".to_owned(),
        ),
        (refused(|c| c.cascade_agents = 0), "detection.cascade_agents is 0".to_owned()),
        (
            refused(|c| c.exhaustion_failures = 4097),
            "detection.exhaustion_failures is 4097".to_owned(),
        ),
        (refused(|c| c.partition_agents = 1), "detection.partition_agents is 1".to_owned()),
        (
            refused(|c| c.slow_agents = 0),
            "detection.slow_agents is 0, and must be 1 to 4096".to_owned(),
        ),
        (
            refused(|c| c.slow_samples = 0),
            "detection.slow_samples is 0, and must be 1 to 100".to_owned(),
        ),
        (
            refused(|c| c.baseline_factor = 0.5),
            "detection.baseline_factor is 0.5, and must be 1 to 1000".to_owned(),
        ),
        (refused(|c| c.slow_factor = f64::INFINITY), "detection.slow_factor is inf".to_owned()),
    ];
    for (error, expected) in cases {
        assert!(error.contains(&expected), "{error}");
    }
}

fn any_event() -> impl Strategy<Value = SupervisionEvent> {
    use FailureType::*;
    let agent = (0..12_u32).prop_map(|n| format!("a{n}"));
    let kinds = vec![
        ProcessCrash,
        ResourceExhaustion,
        TimeoutFailure,
        NetworkPartition,
        ProtocolViolation,
        DependencyFailure,
        MemoryLeak,
    ];
    let failures = (
        agent.clone(),
        prop::sample::select(kinds),
        prop::sample::select(FailureSeverity::ALL.to_vec()),
    );
    let answers = (agent.clone(), prop::sample::select(vec![0.1, 20.0, 90.0, 2000.0]), 0.0..1.0);
    let reason = || "late".to_owned();
    prop_oneof![
        6 => failures.prop_map(|(agent, kind, severity)| failure(&agent, kind, severity)),
        4 => answers.prop_map(|(agent, ms, more)| answered(&agent, ms + more)),
        1 => agent.clone().prop_map(move |agent| {
            health(&agent, HealthStatus::Degraded { reason: reason(), missed: 1 }, None)
        }),
        1 => agent.prop_map(|agent| stopped(&agent)),
    ]
}

/// The deaths in the window, counted anew each time.
fn deaths_before(history: &[(u64, SupervisionEvent)], at: u64) -> u32 {
    let is_death = |event: &SupervisionEvent| matches!(event, SupervisionEvent::Failure { severity, .. } if *severity >= FailureSeverity::High);
    let within = |(ms, event): &&(u64, SupervisionEvent)| is_death(event) && at - ms <= 10_000;
    history.iter().filter(within).count() as u32
}

proptest! {
    #[test]
    fn whatever_comes_what_is_found_keeps_its_rules(
        gaps in prop::collection::vec((0_u64..4000, any_event()), 1..400),
    ) {
        let mut detector = detector();
        let (mut ms, mut history) = (0, Vec::new());
        let mut last: [Option<(u64, DetectedPattern)>; 5] = Default::default();
        for (gap, event) in gaps {
            ms += gap;
            history.push((ms, event.clone()));
            detector.handle(now(ms), &event);
            while let Some(found) = detector.poll_pattern() {
                prop_assert!((0.0..=1.0).contains(&found.confidence), "{found:?}");
                prop_assert!(found.count >= found.threshold, "{found:?}");
                prop_assert!(f64::from(found.count - found.threshold) + 0.01 >= 3.0 * found.usual, "{found:?}");
                prop_assert!(found.agents.len() <= DetectedPattern::MAX_AGENTS);
                prop_assert!(found.agents.len() <= found.agent_count as usize, "{found:?}");
                let distinct: BTreeSet<_> = found.agents.iter().collect();
                prop_assert_eq!(distinct.len(), found.agents.len());
                prop_assert!(found.since <= found.timestamp && found.timestamp == now(ms).wall);
                if found.pattern == Pattern::FailureSpike {
                    prop_assert_eq!(found.count, deaths_before(&history, ms));
                }
                let before = &mut last[found.pattern as usize];
                if let Some((at, before)) = before {
                    let is_new = found.since > before.since;
                    let is_worse = found.severity > before.severity;
                    prop_assert!(is_new || is_worse || ms - *at >= 60_000, "{before:?} {found:?}");
                }
                *before = Some((ms, found));
            }
            // The count of the slow ones is kept, and not made anew: it has to agree.
            let slow = detector.agents.slow_ones(usize::MAX).0.len();
            prop_assert_eq!(detector.agents.slow as usize, slow);
        }
        // A spike is told whenever there is one, if there was none before.
        if last[Pattern::FailureSpike as usize].is_none() {
            for at in history.iter().map(|(ms, _)| *ms) {
                let before: Vec<_> = history.iter().filter(|(ms, _)| *ms <= at).cloned().collect();
                let deaths = deaths_before(&before, at);
                prop_assert!(deaths < 10 || at > 10_000, "{deaths} at {at}");
            }
        }
        // Everything leaves the windows again.
        detector.handle(now(ms + 10_000_000), &crash("z"));
        let counts = [&detector.deaths, &detector.failures].map(|window| (window.count(), window.agents()));
        prop_assert_eq!(counts, [(1, 1), (1, 1)]);
    }
}
