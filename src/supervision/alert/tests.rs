use proptest::prelude::*;

use super::*;
use crate::supervision::{FailureContext, FailureType, Pattern};

fn now(ms: u64) -> Now {
    let since = Duration::from_millis(ms);
    Now { at: Instant::from_start(since), wall: Timestamp::from_epoch(since) }
}

fn id(name: &str) -> AgentId {
    AgentId(name.to_owned())
}

fn pattern(pattern: Pattern, severity: FailureSeverity) -> DetectedPattern {
    DetectedPattern {
        pattern,
        severity,
        confidence: 0.7,
        count: 12,
        threshold: 10,
        usual: 0.1,
        window_ms: 10_000,
        agent_count: 20,
        agents: (0..16).map(|n| id(&format!("a{n}"))).collect(),
        slowdown: None,
        since: now(0).wall,
        timestamp: now(0).wall,
    }
}

fn spike(severity: FailureSeverity) -> DetectedPattern {
    pattern(Pattern::FailureSpike, severity)
}

fn given_up(agent: &str) -> SupervisionEvent {
    SupervisionEvent::Failure {
        agent_id: id(agent),
        incarnation: 1,
        failure_type: FailureType::ProcessCrash,
        severity: FailureSeverity::Critical,
        context: FailureContext { message: Some("boom".to_owned()), ..Default::default() },
        detection_time: now(0).wall,
    }
}

fn manager() -> AlertManager {
    AlertManager::new(AlertConfig::default())
}

fn told(manager: &mut AlertManager) -> Vec<Alert> {
    std::iter::from_fn(|| manager.poll_alert()).collect()
}

const MINUTE: u64 = 60_000;

#[test]
fn the_same_is_told_once_in_five_minutes_with_a_count() {
    let mut manager = manager();
    for ms in [0, 60_000, 120_000, 180_000, 240_000] {
        manager.pattern(now(ms), &spike(FailureSeverity::High));
    }
    let [first] = told(&mut manager).try_into().expect("one alert");
    assert_eq!((first.key.as_str(), first.state), ("failure_spike", AlertState::Firing));
    assert_eq!((first.count, first.suppressed, first.severity), (1, 0, FailureSeverity::High));
    assert_eq!(first.message, "failure_spike: 12 deaths of 20 agents in 10000 ms (a0, …)");
    assert_eq!((first.agents.len(), first.subject().as_str()), (16, "supervision.alerts.high"));
    manager.pattern(now(300_000), &spike(FailureSeverity::High));
    let [again] = told(&mut manager).try_into().expect("the cool-down is over");
    assert_eq!((again.count, again.suppressed), (6, 4));
    assert_eq!((again.since, again.timestamp), (now(0).wall, now(300_000).wall));
    let AlertCounters { told, suppressed, .. } = manager.counters();
    assert_eq!((told, suppressed), (2, 4));
}

#[test]
fn what_gets_worse_passes_through_the_cool_down_and_does_not_get_better() {
    let mut manager = manager();
    let severities = [
        FailureSeverity::Medium,
        FailureSeverity::High,
        FailureSeverity::Medium,
        FailureSeverity::High,
        FailureSeverity::Critical,
        FailureSeverity::High,
    ];
    for (ms, severity) in severities.into_iter().enumerate() {
        manager.pattern(now(ms as u64), &spike(severity));
    }
    let seen: Vec<_> = told(&mut manager).iter().map(|a| (a.severity, a.suppressed)).collect();
    assert_eq!(
        seen,
        [(FailureSeverity::Medium, 0), (FailureSeverity::High, 0), (FailureSeverity::Critical, 2)]
    );
    manager.pattern(now(6 * MINUTE), &spike(FailureSeverity::Medium));
    // Six minutes of silence: the first one was over.
    let [over, new] = told(&mut manager).try_into().expect("two");
    assert_eq!((over.state, over.severity), (AlertState::Resolved, FailureSeverity::Critical));
    assert_eq!((new.state, new.severity), (AlertState::Firing, FailureSeverity::Medium));
}

#[test]
fn a_pattern_that_is_not_seen_any_more_is_over() {
    let mut manager = manager();
    assert_eq!(manager.next_deadline(), None);
    manager.pattern(now(0), &spike(FailureSeverity::High));
    manager.pattern(now(MINUTE), &spike(FailureSeverity::High));
    manager.event(now(MINUTE), &given_up("a"));
    assert_eq!(manager.next_deadline(), Some(now(4 * MINUTE).at));
    manager.tick(now(4 * MINUTE - 1));
    assert_eq!(told(&mut manager).len(), 2);
    manager.tick(now(4 * MINUTE));
    let [over] = told(&mut manager).try_into().expect("one is over");
    assert_eq!((over.state, over.count, over.suppressed), (AlertState::Resolved, 2, 1));
    assert_eq!((over.since, over.timestamp), (now(0).wall, now(4 * MINUTE).wall));
    // An agent that was given up is not over, but forgotten after the cool-down.
    assert_eq!(manager.next_deadline(), Some(now(6 * MINUTE).at));
    manager.tick(now(6 * MINUTE));
    assert_eq!((told(&mut manager), manager.next_deadline()), (vec![], None));
}

#[test]
fn critical_failures_and_escalations_are_alerts_by_themselves() {
    let mut manager = manager();
    manager.event(now(0), &given_up("a"));
    manager.event(now(1), &given_up("a"));
    manager.event(now(2), &given_up("b"));
    let escalation = SupervisionEvent::Escalation {
        supervisor_id: "s".to_owned(),
        level: 1,
        reason: "5 restarts in 5000 ms".to_owned(),
        affected_agents: (0..100).map(|n| id(&format!("a{n}"))).collect(),
        timestamp: now(3).wall,
    };
    manager.event(now(3), &escalation);
    let high = SupervisionEvent::Failure {
        agent_id: id("c"),
        incarnation: 1,
        failure_type: FailureType::ProcessCrash,
        severity: FailureSeverity::High,
        context: FailureContext::default(),
        detection_time: now(4).wall,
    };
    manager.event(now(4), &high);
    let all = told(&mut manager);
    let lines: Vec<_> = all.iter().map(|a| (a.key.as_str(), a.message.as_str())).collect();
    assert_eq!(
        lines,
        [
            ("agent_failed.a", "agent a was given up: boom"),
            ("agent_failed.b", "agent b was given up: boom"),
            ("escalation.s", "supervisor s gave up: 5 restarts in 5000 ms")
        ]
    );
    assert!(all.iter().all(|a| a.severity == FailureSeverity::Critical && a.is_single_event()));
    assert_eq!(all[2].agents.len(), DetectedPattern::MAX_AGENTS);
}

#[test]
fn what_is_less_bad_than_the_least_is_counted_only() {
    let min_severity = FailureSeverity::Critical;
    let mut manager = AlertManager::new(AlertConfig { min_severity, ..Default::default() });
    manager.pattern(now(0), &spike(FailureSeverity::High));
    assert_eq!((told(&mut manager), manager.counters().below), (vec![], 1));
    manager.pattern(now(1), &spike(FailureSeverity::Critical));
    assert_eq!(told(&mut manager).len(), 1);
}

#[test]
fn more_than_256_at_once_are_told_as_one_more() {
    let mut manager = manager();
    for n in 0..1000 {
        manager.event(now(n), &given_up(&format!("a{n}")));
    }
    let all = told(&mut manager);
    assert_eq!((all.len(), manager.counters().overflowed), (257, 744));
    assert_eq!(all[256].key, "more_alerts");
    assert!(!all[256].is_single_event(), "nobody else logs it");
    assert_eq!(
        all[256].message,
        "more than 256 alerts at once; 1 so far are told only as this one"
    );
    // When the cool-down of the others is over, there is room again, and this one has ended.
    manager.event(now(10 * MINUTE), &given_up("late"));
    let seen: Vec<_> = told(&mut manager).into_iter().map(|a| (a.key, a.state)).collect();
    let (over, firing) = (AlertState::Resolved, AlertState::Firing);
    assert_eq!(seen, [("more_alerts".to_owned(), over), ("agent_failed.late".to_owned(), firing)]);
}

#[test]
fn alerts_that_nobody_takes_are_dropped_from_the_oldest_on() {
    let mut manager = manager();
    for n in 0..300 {
        manager.event(now(n * 10 * MINUTE), &given_up("a"));
    }
    assert_eq!(told(&mut manager).len(), 257);
    assert_eq!(manager.counters().dropped, 300 - 257);
}

#[test]
fn the_times_have_a_range() {
    let wrong = AlertConfig { cooldown: Duration::from_millis(999), ..Default::default() };
    let error = wrong.validate().expect_err("too short").to_string();
    assert_eq!(error, "alerts.cooldown is 999ms, and must be 1000 to 86400000 ms");
    let wrong = AlertConfig { resolve: Duration::MAX, ..Default::default() };
    assert!(wrong.validate().is_err());
    assert_eq!(AlertConfig::default().validate(), Ok(()));
}

proptest! {
    #[test]
    fn nothing_is_told_twice_in_a_cool_down_and_nothing_is_lost(
        raised in prop::collection::vec(
            (0_u64..4 * MINUTE, 0_usize..5, 0_usize..4),
            1..300,
        ),
    ) {
        let (mut manager, mut ms) = (manager(), 0);
        let (mut firing, mut resolved, mut since_told) = (0, 0, 0);
        let mut last: [Option<(u64, Alert)>; 5] = Default::default();
        let count = raised.len() as u64;
        for (gap, which, severity) in raised {
            ms += gap;
            let severity = FailureSeverity::ALL[severity];
            manager.pattern(now(ms), &pattern(Pattern::ALL[which], severity));
            for alert in told(&mut manager) {
                let of = |pattern: &Pattern| pattern.as_subject_token() == alert.key;
                let at = Pattern::ALL.iter().position(of).expect("a pattern's");
                let before = last[at].take();
                since_told += alert.suppressed;
                match alert.state {
                    AlertState::Resolved => {
                        resolved += 1;
                        let (_, before) = before.expect("it was told that it began");
                        prop_assert_eq!(before.since, alert.since);
                    }
                    AlertState::Firing => {
                        firing += 1;
                        if let Some((told, before)) = before {
                            prop_assert_eq!(before.since, alert.since);
                            let worse = alert.severity > before.severity;
                            prop_assert!(worse || ms - told >= 5 * MINUTE);
                        } else {
                            prop_assert_eq!((alert.count, alert.since), (1, now(ms).wall));
                        }
                        last[at] = Some((ms, alert));
                    }
                }
            }
        }
        manager.tick(now(ms + 60 * MINUTE));
        let ends = told(&mut manager);
        prop_assert!(ends.iter().all(|alert| alert.state == AlertState::Resolved));
        since_told += ends.iter().map(|alert| alert.suppressed).sum::<u64>();
        prop_assert_eq!(resolved + ends.len() as u64, last.iter().flatten().count() as u64 + resolved);
        let AlertCounters { told, suppressed, below, overflowed, dropped } = manager.counters();
        prop_assert_eq!((told, overflowed, dropped), (firing + resolved + ends.len() as u64, 0, 0));
        prop_assert_eq!(suppressed, since_told, "each that was kept back is told of later");
        prop_assert_eq!(firing + suppressed + below, count);
        prop_assert_eq!(manager.next_deadline(), None);
    }
}
