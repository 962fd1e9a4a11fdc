use std::time::Duration;

use super::*;
use crate::message::Subject;
use crate::supervision::{AlertState, LifecycleEvent, Pattern};
use crate::time::Timestamp;

fn now(ms: u64) -> Now {
    let since = Duration::from_millis(ms);
    Now { at: Instant::from_start(since), wall: Timestamp::from_epoch(since) }
}

fn id(name: &str) -> AgentId {
    AgentId(name.to_owned())
}

fn failure(agent: &str, severity: FailureSeverity, ms: u64) -> SupervisionEvent {
    SupervisionEvent::Failure {
        agent_id: id(agent),
        incarnation: 1,
        failure_type: FailureType::ProcessCrash,
        severity,
        context: FailureContext::default(),
        detection_time: now(ms).wall,
    }
}

fn processor() -> SupervisionEventProcessor {
    SupervisionEventProcessor::new(DetectionConfig::default(), AlertConfig::default())
}

fn feed(processor: &mut SupervisionEventProcessor, ms: u64, event: &SupervisionEvent) {
    processor.handle(now(ms), &event.subject(), event);
}

fn subjects(processor: &mut SupervisionEventProcessor) -> Vec<String> {
    std::iter::from_fn(|| processor.poll_finding()).map(|found| found.subject()).collect()
}

#[derive(Default)]
struct Seen(Vec<String>);

impl SupervisionEventHandler for Seen {
    fn handle(&mut self, subject: &str, _event: &SupervisionEvent) {
        self.0.push(subject.to_owned());
    }
}

#[test]
fn a_pattern_comes_before_its_alert_and_an_alert_ends_by_the_clock() {
    let mut processor = processor();
    for n in 0..10 {
        feed(&mut processor, n, &failure(&format!("a{n}"), FailureSeverity::High, n));
    }
    let spike = "supervision.patterns.failure_spike";
    assert_eq!(subjects(&mut processor), [spike, "supervision.alerts.high"]);
    let deadline = processor.next_deadline().expect("it will be over");
    assert_eq!(deadline, now(9 + 180_000).at);
    processor.tick(now(9 + 180_000));
    let Some(SupervisionFinding::Alert(over)) = processor.poll_finding() else {
        panic!("nothing is over");
    };
    assert_eq!((over.state, over.key.as_str()), (AlertState::Resolved, "failure_spike"));
    assert_eq!(processor.next_deadline(), None);
}

#[test]
fn each_half_can_be_off() {
    let off = DetectionConfig { enabled: false, ..Default::default() };
    let mut alone = SupervisionEventProcessor::new(off.clone(), AlertConfig::default());
    let quiet = AlertConfig { enabled: false, ..Default::default() };
    let mut patterns = SupervisionEventProcessor::new(DetectionConfig::default(), quiet.clone());
    let mut nothing = SupervisionEventProcessor::new(off, quiet);
    for processor in [&mut alone, &mut patterns, &mut nothing] {
        for n in 0..10 {
            feed(processor, n, &failure(&format!("a{n}"), FailureSeverity::Critical, n));
        }
    }
    assert_eq!(subjects(&mut alone), ["supervision.alerts.critical"; 10]);
    assert_eq!(subjects(&mut patterns), ["supervision.patterns.failure_spike"]);
    assert_eq!(subjects(&mut nothing), [""; 0]);
    assert!(nothing.detector().is_none() && nothing.alerts().is_none());
    let wants = |processor: &SupervisionEventProcessor| {
        [
            "health.a",
            "failures.low",
            "failures.critical",
            "recovery.a",
            "escalation.1",
            "lifecycle.s",
        ]
        .map(|kind| processor.wants(&format!("supervision.{kind}")))
    };
    assert_eq!(wants(&alone), [false, false, true, false, true, false]);
    assert_eq!(wants(&patterns), [true, true, true, false, true, true]);
    assert_eq!(wants(&nothing), [false; 6]);
    assert!(!patterns.wants("agent.events.a") && !patterns.wants(""));
}

#[test]
fn handlers_are_told_of_what_their_pattern_matches() {
    let mut processor = SupervisionEventProcessor::default();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let all = Arc::new(Mutex::new(Seen::default()));
    for (pattern, handler) in [("supervision.failures.*", &seen), ("supervision.>", &all)] {
        let pattern = SubjectPattern::parse(pattern).expect("a pattern");
        processor.register_handler(pattern, Box::new(Arc::clone(handler))).expect("room");
    }
    assert!(processor.wants("supervision.recovery.a") && !processor.wants("agent.events.a"));
    feed(&mut processor, 1, &failure("a", FailureSeverity::Low, 1));
    let lifecycle = SupervisionEvent::SupervisorLifecycle {
        supervisor_id: "agents".to_owned(),
        event_type: LifecycleEvent::ChildStarted,
        affected_agents: vec![id("a")],
    };
    feed(&mut processor, 2, &lifecycle);
    assert_eq!(seen.lock().expect("no panic").0, ["supervision.failures.low"]);
    assert_eq!(
        all.lock().expect("no panic").0,
        ["supervision.failures.low", "supervision.lifecycle.agents"]
    );
}

#[test]
fn there_are_at_most_64_handlers() {
    let mut processor = SupervisionEventProcessor::default();
    let mut register = || {
        let pattern = SubjectPattern::parse("supervision.>").expect("a pattern");
        processor.register_handler(pattern, Box::new(CriticalFailureHandler::default()))
    };
    assert!((0..64).all(|_| register().is_ok()));
    let error = register().expect_err("one too many").to_string();
    assert_eq!(error, "there are 64 handlers already, which is the limit");
}

#[test]
fn critical_failures_are_kept_up_to_a_hundred() {
    let mut processor = SupervisionEventProcessor::default();
    let critical = Arc::new(Mutex::new(CriticalFailureHandler::default()));
    let pattern = SubjectPattern::parse("supervision.failures.>").expect("a pattern");
    processor.register_handler(pattern, Box::new(Arc::clone(&critical))).expect("room");
    let mine = SubjectPattern::parse(CriticalFailureHandler::SUBJECT).expect("a pattern");
    assert!(mine.matches(Subject::supervision_failure(FailureSeverity::Critical)));
    for n in 0..150 {
        feed(&mut processor, n, &failure("a", FailureSeverity::Critical, n));
        feed(&mut processor, n, &failure("a", FailureSeverity::High, n));
    }
    let critical = critical.lock().expect("no panic");
    assert_eq!((critical.count(), critical.last().count()), (150, 100));
    assert_eq!(critical.last().next(), Some(&failure("a", FailureSeverity::Critical, 50)));
}

#[test]
fn changes_of_an_agents_state_that_mean_something_are_events() {
    use AgentStatus::{Created, Failed, Restarting, Running, Starting, Stopping, Terminated};
    let mut processor = processor();
    assert!(processor.register_agent_for_monitoring(now(0), &id("a")));
    assert_eq!(processor.detector().expect("it is on").counters().agents, 1);
    let mut change = |old, new| {
        let event = processor.handle_agent_state_change(now(1), &id("a"), 7, old, new);
        event.map(|event| {
            assert!(processor.event_was_processed(&event));
            (event.subject(), event.severity())
        })
    };
    let (high, critical) = (Some(FailureSeverity::High), Some(FailureSeverity::Critical));
    let failure = |level: &str, severity| Some((format!("supervision.failures.{level}"), severity));
    let healthy = Some(("supervision.health.a".to_owned(), None));
    for (old, new, expected) in [
        (Created, Running, healthy.clone()),
        (Starting, Running, healthy.clone()),
        (Restarting, Running, healthy),
        (Running, Running, None),
        (Running, Terminated, failure("high", high)),
        (Running, Restarting, failure("high", high)),
        (Starting, Restarting, failure("high", high)),
        (Running, Stopping, None),
        (Stopping, Terminated, None),
        (Created, Starting, None),
        (Restarting, Failed, failure("critical", critical)),
        (Failed, Failed, None),
    ] {
        assert_eq!(change(old, new), expected, "{old:?} to {new:?}");
    }
    let mut off = SupervisionEventProcessor::default();
    assert!(!off.register_agent_for_monitoring(now(0), &id("a")));
}

#[test]
fn the_last_1024_events_are_known_again() {
    let mut processor = SupervisionEventProcessor::default();
    let events: Vec<_> = (0..2000).map(|n| failure("a", FailureSeverity::Low, n)).collect();
    for event in &events {
        assert!(!processor.event_was_processed(event));
        feed(&mut processor, 1, event);
    }
    let known: Vec<_> = events.iter().map(|event| processor.event_was_processed(event)).collect();
    assert_eq!(known.iter().position(|known| *known), Some(2000 - 1024));
    assert!(known[2000 - 1024..].iter().all(|known| *known));
    // What differs in one respect is another event.
    let SupervisionEvent::Failure { context, .. } = &events[1999] else { unreachable!() };
    for other in [
        failure("b", FailureSeverity::Low, 1999),
        failure("a", FailureSeverity::High, 1999),
        SupervisionEvent::Failure {
            agent_id: id("a"),
            incarnation: 2,
            failure_type: FailureType::ProcessCrash,
            severity: FailureSeverity::Low,
            context: context.clone(),
            detection_time: now(1999).wall,
        },
    ] {
        assert!(!processor.event_was_processed(&other), "{other:?}");
    }
}

#[test]
fn findings_that_nobody_takes_have_a_bound() {
    let mut processor = processor();
    for n in 0..2000 {
        feed(&mut processor, n * 600_000, &failure("a", FailureSeverity::Critical, n));
    }
    assert_eq!(subjects(&mut processor).len(), 64 + 256);
}

#[test]
fn a_finding_on_the_wire() {
    let mut processor = processor();
    for n in 0..10 {
        feed(&mut processor, n, &failure("a", FailureSeverity::High, n));
    }
    let found = processor.poll_finding().expect("a spike");
    let SupervisionFinding::DetectedPattern(pattern) = &found else { panic!("{found:?}") };
    assert_eq!((pattern.pattern, found.severity()), (Pattern::FailureSpike, FailureSeverity::High));
    let json = serde_json::to_value(&found).expect("it serializes");
    let back: SupervisionFinding = serde_json::from_value(json).expect("and parses");
    assert_eq!(back, found);
}
