//! Declared trees: what is started and stopped, in which order, and when who gives up. The tables
//! of `tests/otp` compare all of it with Erlang's own; here is what Erlang does not have, and random
//! histories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::message::AgentStatus;
use crate::supervision::Strategy;

/// A supervisor whose host does at once what it is told.
struct Host {
    sim: Sim,
    /// The processes that live, and whether each has said that it runs.
    alive: BTreeMap<AgentId, (u64, bool)>,
    /// Those that do not come up.
    broken: BTreeSet<AgentId>,
    /// Those that do not end when they are told to.
    deaf: BTreeSet<AgentId>,
    trace: Vec<String>,
}

impl Host {
    fn new(config: SupervisorConfig) -> Self {
        Self {
            sim: Sim::new(config),
            alive: BTreeMap::new(),
            broken: BTreeSet::new(),
            deaf: BTreeSet::new(),
            trace: Vec::new(),
        }
    }

    fn with(spec: SupervisorSpec) -> Self {
        let mut host = Self::new(SupervisorConfig::default());
        let now = host.sim.now();
        host.sim.supervisor.start_supervisor(now, spec).expect("a valid tree");
        host.work();
        host
    }

    fn work(&mut self) {
        loop {
            let output = self.sim.supervisor.poll_output();
            let now = self.sim.now();
            match output {
                Output::Spawn { id, incarnation, .. } => {
                    self.trace.push(format!("+{id}"));
                    let old = self.alive.insert(id.clone(), (incarnation, true));
                    assert_eq!(old, None, "{id} runs twice");
                    let broken = self.broken.contains(&id);
                    let input = match broken {
                        true => Input::Died { id: id.clone(), incarnation },
                        false => Input::Started { id: id.clone(), incarnation },
                    };
                    if broken {
                        self.alive.remove(&id);
                    }
                    self.sim.supervisor.handle(now, input);
                }
                Output::Stop { id, incarnation } => {
                    self.trace.push(format!("-{id}"));
                    if !self.deaf.contains(&id) {
                        self.alive.remove(&id).expect("it lives");
                        let word = LastWord::Farewell;
                        self.sim.supervisor.handle(now, Input::LastWord { id, incarnation, word });
                    }
                }
                Output::Kill { id, incarnation } => {
                    self.trace.push(format!("x{id}"));
                    self.alive.remove(&id);
                    self.sim.supervisor.handle(now, Input::Died { id, incarnation });
                }
                Output::Event(
                    event
                    @ (SupervisionEvent::Escalation { .. } | SupervisionEvent::Failure { .. }),
                ) => self.trace.push(event_line(&event)),
                Output::Removed { id, .. } => self.trace.push(format!("removed {id}")),
                Output::Wait(_) => return,
                _ => {}
            }
        }
    }

    fn trace(&mut self) -> String {
        self.work();
        std::mem::take(&mut self.trace).join(" ")
    }

    /// Lets an agent die without a word.
    fn crash(&mut self, name: &str) -> String {
        let (incarnation, _) = self.alive.remove(&id(name)).expect("it lives");
        let now = self.sim.now();
        self.sim.supervisor.handle(now, Input::Died { id: id(name), incarnation });
        self.trace()
    }

    fn pass(&mut self, ms: u64) -> String {
        self.sim.elapsed += Duration::from_millis(ms);
        let now = self.sim.now();
        self.sim.supervisor.handle(now, Input::Tick);
        self.trace()
    }

    fn status(&self, name: &str) -> AgentStatus {
        self.sim.supervisor.status(&id(name)).expect("it is known").0
    }
}

fn child(name: &str) -> ChildSpec {
    // So long that no health check comes in between.
    ChildSpec::from(AgentConfig { timeout_ms: 86_400_000, ..agent(name) })
}

fn tree(name: &str, strategy: Strategy, children: Vec<ChildSpec>) -> SupervisorSpec {
    SupervisorSpec { id: name.to_owned(), strategy, children, ..Default::default() }
}

fn abc(strategy: Strategy) -> SupervisorSpec {
    tree("top", strategy, vec![child("a"), child("b"), child("c")])
}

const DIED: &str = "ProcessCrash High";
/// Longer than the grace of any agent.
const SLOW: u64 = 10_000;

#[test]
fn each_strategy_restarts_its_own_in_order() {
    // What is told of the death does not hold up what is done for it.
    let cases = [
        (Strategy::OneForOne, "+b", "", 1),
        (Strategy::OneForAll, "-c", " -a +a +b +c", 3),
        (Strategy::RestForOne, "-c", " +b +c", 2),
    ];
    for (strategy, first, then, restarts) in cases {
        let mut host = Host::with(abc(strategy));
        assert_eq!(host.trace(), "+a +b +c");
        let expected = format!("{first} Failure b1 {DIED}{then}");
        assert_eq!(host.crash("b"), expected, "{strategy:?}");
        assert_eq!(host.sim.supervisor.restarts(), restarts);
    }
}

#[test]
fn the_second_restart_in_the_window_waits_with_the_siblings_stopped() {
    let mut host = Host::with(abc(Strategy::OneForAll));
    host.crash("b");
    assert_eq!(host.crash("b"), format!("-c Failure b2 {DIED} -a"));
    assert_eq!(host.status("a"), AgentStatus::Restarting);
    assert_eq!(host.pass(80), "");
    assert_eq!(host.pass(40), "+a +b +c");
    assert_eq!(host.status("a"), AgentStatus::Running);
}

#[test]
fn under_one_for_one_no_delay_holds_up_another() {
    let mut host = Host::with(abc(Strategy::OneForOne));
    host.crash("b");
    assert_eq!(host.crash("b"), format!("Failure b2 {DIED}"), "it waits");
    host.crash("a");
    assert_eq!(host.status("a"), AgentStatus::Restarting, "and so does this one, longer");
    assert_eq!(host.pass(120), "+b");
    assert_eq!(host.pass(120), "+a");
}

#[test]
fn beyond_the_intensity_all_are_stopped_and_the_top_begins_anew() {
    let spec = SupervisorSpec {
        intensity: Intensity { max_restarts: 1, period: Duration::from_secs(5) },
        ..abc(Strategy::OneForOne)
    };
    let mut host = Host::with(spec);
    host.crash("b");
    let told = host.crash("b");
    assert_eq!(
        told, "Failure b2 ProcessCrash Critical Escalation 1 -c -a +a +b +c",
        "in reverse order, then all of them"
    );
    // The node's own intensity holds for the tree: five such restarts, and no more.
    for n in 2.. {
        assert!(n < 7, "it never gives up");
        host.pass(900);
        host.crash("b");
        host.crash("b");
        if host.status("b") == AgentStatus::Failed {
            break;
        }
    }
}

#[test]
fn a_tree_that_is_given_up_is_listed_and_its_neighbours_run() {
    let none = Intensity { max_restarts: 0, ..Default::default() };
    let mut host = Host::new(SupervisorConfig { intensity: none, ..Default::default() });
    let now = host.sim.now();
    for name in ["x", "y"] {
        let spec = tree(name, Strategy::OneForOne, vec![child(&format!("{name}1"))]);
        let spec = SupervisorSpec { intensity: none, ..spec };
        host.sim.supervisor.start_supervisor(now, spec).expect("there is room");
    }
    host.trace();
    let told = host.crash("x1");
    assert_eq!(told, "Failure x11 ProcessCrash Critical Escalation 1 Escalation 2");
    assert_eq!(host.status("x1"), AgentStatus::Failed);
    assert_eq!(host.status("y1"), AgentStatus::Running);
    host.sim.supervisor.stop_supervisor(now, "x", Duration::from_secs(1)).expect("it is there");
    assert_eq!(host.trace(), "removed x1");
}

#[test]
fn three_levels_escalate_one_by_one() {
    let once = Intensity { max_restarts: 1, period: Duration::from_secs(60) };
    let inner = SupervisorSpec {
        intensity: Intensity { max_restarts: 0, ..once },
        ..tree("inner", Strategy::OneForAll, vec![child("c"), child("d")])
    };
    let middle = SupervisorSpec {
        intensity: once,
        ..tree("middle", Strategy::RestForOne, vec![child("b"), inner.into(), child("e")])
    };
    let top = SupervisorSpec {
        intensity: once,
        ..tree("top", Strategy::OneForAll, vec![child("a"), middle.into()])
    };
    let mut host = Host::with(top);
    assert_eq!(host.trace(), "+a +b +c +d +e");
    assert_eq!(
        host.crash("c"),
        "Failure c1 ProcessCrash Critical Escalation 1 -d -e +c +d +e",
        "the middle one restarts the inner one and what comes after it"
    );
    assert_eq!(
        host.crash("d"),
        "Failure d2 ProcessCrash Critical Escalation 1 -c Escalation 2 -e -b -a +a +b +c +d +e",
        "then it has had enough, and the top restarts all"
    );
}

#[test]
fn a_child_that_does_not_come_up_is_tried_again_with_those_behind_it() {
    let mut host = Host::with(abc(Strategy::RestForOne));
    host.trace();
    host.broken.insert(id("b"));
    let told = host.crash("a");
    let expected = format!("-c Failure a1 {DIED} -b +a +b Failure b2 {DIED}");
    assert_eq!(told, expected, "it waits for its second try");
    host.broken.clear();
    assert_eq!(host.pass(200), "+b +c");
}

#[test]
fn who_does_not_end_in_its_grace_is_killed_and_the_order_is_kept() {
    let slow = ChildSpec::Agent {
        config: AgentConfig { timeout_ms: 86_400_000, ..agent("b") },
        shutdown: Shutdown::Grace(Duration::from_secs(1)),
    };
    let at_once = ChildSpec::Agent {
        config: AgentConfig { timeout_ms: 86_400_000, ..agent("c") },
        shutdown: Shutdown::Kill,
    };
    let mut host = Host::with(tree("top", Strategy::OneForAll, vec![child("a"), slow, at_once]));
    host.trace();
    host.deaf.insert(id("b"));
    let now = host.sim.now();
    host.sim.supervisor.stop_supervisor(now, "top", Duration::from_secs(60)).expect("there");
    assert_eq!(host.trace(), "xc -b");
    assert_eq!(host.pass(999), "");
    assert_eq!(host.pass(1), "xb -a removed a removed b removed c");
    assert!(host.sim.supervisor.is_empty());
}

#[test]
fn the_grace_of_all_is_shorter_than_that_of_each() {
    let mut host = Host::with(abc(Strategy::OneForOne));
    host.trace();
    host.deaf.extend(["a", "b", "c"].map(id));
    let now = host.sim.now();
    assert_eq!(host.sim.supervisor.stop_all(now, Duration::from_secs(2)), 3);
    assert_eq!(host.trace(), "-c");
    assert_eq!(host.pass(2_000), "xc xb xa removed a removed b removed c");
}

#[test]
fn an_agent_is_not_stopped_while_its_supervisor_is_on_its_way_back() {
    let never = Intensity { max_restarts: 0, period: Duration::from_secs(5) };
    let inner = tree("inner", Strategy::OneForOne, vec![child("c")]);
    let spec = SupervisorSpec {
        children: vec![child("a"), child("b"), inner.into()],
        intensity: never,
        ..abc(Strategy::OneForOne)
    };
    let mut host = Host::with(spec);
    let stop = |host: &mut Host, name: &str| {
        let now = host.sim.now();
        let stopped = host.sim.supervisor.stop(now, &id(name));
        host.work();
        stopped
    };
    host.crash("b");
    host.deaf.insert(id("c"));
    // It gives up a second time; it is still about to stop its children, and then has to wait.
    host.crash("b");
    for name in ["a", "b", "c"] {
        let refused = stop(&mut host, name);
        assert_eq!(refused, Err(StopError::Restarting(id(name))), "while they are stopped");
    }
    host.deaf.clear();
    host.pass(SLOW);
    host.trace();
    host.crash("b");
    assert_eq!(host.status("a"), AgentStatus::Restarting);
    for name in ["a", "b", "c"] {
        let refused = stop(&mut host, name);
        assert_eq!(refused, Err(StopError::Restarting(id(name))), "while they wait");
    }
    assert_eq!(host.pass(2_000), "+a +b +c");
    // When it is back there is nothing to refuse.
    assert_eq!(stop(&mut host, "a"), Ok(()));
    assert_eq!((host.trace().as_str(), host.status("a")), ("-a", AgentStatus::Terminated));
    // One whose supervisor was stopped by hand does not come back, and is stopped.
    let now = host.sim.now();
    host.sim.supervisor.terminate_child(now, "top", "inner").expect("it runs");
    assert_eq!(host.trace(), "-c");
    assert_eq!(stop(&mut host, "c"), Ok(()));
    assert_eq!(host.status("c"), AgentStatus::Terminated);
    assert_eq!(stop(&mut host, "nobody"), Err(StopError::UnknownAgent(id("nobody"))));
    // Neither does one of a tree that ends.
    host.deaf.insert(id("b"));
    host.sim.supervisor.stop_all(now, Duration::from_secs(60));
    assert_eq!(stop(&mut host, "b"), Ok(()));
}

#[test]
fn an_agent_that_is_stopped_amid_a_restart_ends_after_it() {
    let mut host = Host::with(abc(Strategy::OneForAll));
    host.trace();
    host.deaf.insert(id("c"));
    host.crash("b");
    assert_eq!(host.status("c"), AgentStatus::Stopping, "to be started again with the others");
    let now = host.sim.now();
    assert_eq!(host.sim.supervisor.stop(now, &id("c")), Ok(()));
    host.deaf.clear();
    // As with OTP, where a `terminate_child` waits until the supervisor has restarted its children.
    let told = host.pass(SLOW);
    assert!(told.ends_with("+a +b +c -c"), "{told}");
    assert_eq!(host.status("c"), AgentStatus::Terminated);
}

#[test]
fn children_come_and_go_by_hand() {
    let mut host = Host::with(abc(Strategy::OneForAll));
    host.trace();
    let now = host.sim.now();
    let top = &mut host.sim.supervisor;
    top.start_child(now, "top", child("d")).expect("there is room");
    top.terminate_child(now, "top", "b").expect("it runs");
    assert_eq!(host.trace(), "+d -b");
    assert_eq!(host.status("b"), AgentStatus::Terminated);
    let top = &mut host.sim.supervisor;
    let counts = ChildCounts { specs: 4, active: 3, supervisors: 0, workers: 4 };
    assert_eq!(top.count_children("top"), Ok(counts));
    assert_eq!(top.delete_child(now, "top", "a"), Err(TreeError::Running("a".into())));
    top.restart_child(now, "top", "b").expect("it does not run");
    assert_eq!(host.trace(), "+b");
    let top = &mut host.sim.supervisor;
    top.terminate_child(now, "top", "a").expect("it runs");
    assert_eq!(host.trace(), "-a");
    host.sim.supervisor.delete_child(now, "top", "a").expect("it rests");
    assert_eq!(host.trace(), "removed a");
    assert!(host.crash("d").ends_with("+b +c +d"));
}

#[test]
fn what_is_wrong_with_a_tree_is_told_and_nothing_is_taken() {
    let twice = tree("t", Strategy::OneForOne, vec![child("a"), child("a")]);
    let bad_id = tree("a.b", Strategy::OneForOne, vec![]);
    let own = tree("agents", Strategy::OneForOne, vec![]);
    let nested = (0..17).fold(tree("x", Strategy::OneForOne, vec![]), |inner, n| {
        tree(&format!("s{n}"), Strategy::OneForOne, vec![inner.into()])
    });
    let many = (0..1001).map(|n| tree(&format!("s{n}"), Strategy::OneForOne, vec![]).into());
    let many = tree("many", Strategy::OneForOne, many.collect());
    let full = (0..8001).map(|n| child(&format!("a{n}")));
    let full = tree("full", Strategy::OneForOne, full.collect());
    let cases = [
        (twice, "there is a child or a supervisor a already"),
        (bad_id, "id of the supervisor is \"a.b\""),
        (own, "a supervisor agents already"),
        (nested, "nested 16 deep"),
        (many, "room for 1000 supervisors"),
        (full, "max_agents is 8000"),
    ];
    for (spec, expected) in cases {
        let mut host = Host::new(SupervisorConfig::default());
        let now = host.sim.now();
        let error = host.sim.supervisor.start_supervisor(now, spec).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(host.sim.supervisor.is_empty());
        assert_eq!(host.trace(), "");
    }
}

#[test]
fn an_old_notice_changes_nothing() {
    let mut host = Host::with(abc(Strategy::OneForAll));
    host.crash("a");
    host.trace();
    let now = host.sim.now();
    host.sim.supervisor.handle(now, Input::Died { id: id("b"), incarnation: 1 });
    assert_eq!(host.trace(), "");
}

/// Random trees and what happens to them.
mod random {
    use proptest::strategy::Strategy as _;

    use super::*;
    use crate::supervision::Strategy;

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    #[derive(Clone, Debug)]
    enum Event {
        Crash(usize),
        Return(usize),
        Hello(usize),
        Gone(usize),
        Pass(u64),
        Terminate(usize),
        Restart(usize),
    }

    fn event() -> impl proptest::strategy::Strategy<Value = Event> {
        let n = any::<usize>;
        prop_oneof![
            4 => n().prop_map(Event::Crash),
            1 => n().prop_map(Event::Return),
            10 => n().prop_map(Event::Hello),
            8 => n().prop_map(Event::Gone),
            4 => (0u64..3000).prop_map(Event::Pass),
            1 => n().prop_map(Event::Terminate),
            1 => n().prop_map(Event::Restart),
        ]
    }

    fn strategy(n: u8) -> Strategy {
        [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne][usize::from(n % 3)]
    }

    fn restart(n: u8) -> RestartType {
        use RestartType::{Permanent, Temporary, Transient};
        [Permanent, Permanent, Transient, Temporary][usize::from(n % 4)]
    }

    /// Two levels: a b [c d [e f] g] h, each with its own.
    fn spec(strategies: [u8; 3], restarts: [u8; 8], intensity: Intensity) -> SupervisorSpec {
        let leaf = |n: usize| {
            let restart = restart(restarts[n]);
            let agent = AgentConfig { timeout_ms: 86_400_000, restart, ..agent(NAMES[n]) };
            ChildSpec::from(agent)
        };
        let group = |name: &str, n: usize, children| SupervisorSpec {
            intensity,
            ..tree(name, strategy(strategies[n]), children)
        };
        let inner = group("inner", 2, vec![leaf(4), leaf(5)]);
        let middle = group("middle", 1, vec![leaf(2), leaf(3), inner.into(), leaf(6)]);
        group("top", 0, vec![leaf(0), leaf(1), middle.into(), leaf(7)])
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Life {
        Starting,
        Running,
        Stopping,
    }

    /// A host that takes its time.
    struct Slow {
        sim: Sim,
        alive: BTreeMap<AgentId, (u64, Life)>,
    }

    impl Slow {
        fn carry_out(&mut self) {
            loop {
                match self.sim.supervisor.poll_output() {
                    Output::Spawn { id, incarnation, .. } => {
                        let old = self.alive.insert(id.clone(), (incarnation, Life::Starting));
                        assert_eq!(old, None, "{id} runs twice");
                    }
                    Output::Stop { id, .. } => {
                        let life = self.alive.get_mut(&id).expect("only what lives is stopped");
                        life.1 = Life::Stopping;
                    }
                    Output::Kill { id, incarnation } => {
                        self.alive.remove(&id);
                        let now = self.sim.now();
                        self.sim.supervisor.handle(now, Input::Died { id, incarnation });
                    }
                    Output::Wait(_) => return,
                    _ => {}
                }
            }
        }

        fn pick(&self, n: usize, life: &[Life]) -> Option<(AgentId, u64)> {
            let fit: Vec<_> = self.alive.iter().filter(|(_, (_, l))| life.contains(l)).collect();
            let (id, (incarnation, _)) = *fit.get(n.checked_rem(fit.len())?)?;
            Some((id.clone(), *incarnation))
        }

        fn take(&mut self, event: Event) {
            let now = self.sim.now();
            let supervisor = &mut self.sim.supervisor;
            match event {
                Event::Pass(ms) => {
                    self.sim.elapsed += Duration::from_millis(ms);
                    let now = self.sim.now();
                    self.sim.supervisor.handle(now, Input::Tick);
                }
                Event::Hello(n) => {
                    if let Some((id, incarnation)) = self.pick(n, &[Life::Starting]) {
                        self.alive.insert(id.clone(), (incarnation, Life::Running));
                        self.sim.supervisor.handle(now, Input::Started { id, incarnation });
                    }
                }
                Event::Crash(n) => {
                    let lives = [Life::Starting, Life::Running, Life::Stopping];
                    if let Some((id, incarnation)) = self.pick(n, &lives) {
                        self.alive.remove(&id);
                        self.sim.supervisor.handle(now, Input::Died { id, incarnation });
                    }
                }
                Event::Return(n) => {
                    if let Some((id, incarnation)) = self.pick(n, &[Life::Running]) {
                        self.alive.remove(&id);
                        let word = LastWord::Farewell;
                        self.sim.supervisor.handle(now, Input::LastWord { id, incarnation, word });
                    }
                }
                Event::Gone(n) => {
                    if let Some((id, incarnation)) = self.pick(n, &[Life::Stopping]) {
                        self.alive.remove(&id);
                        let word = LastWord::Farewell;
                        self.sim.supervisor.handle(now, Input::LastWord { id, incarnation, word });
                    }
                }
                // Whether it can be done is not known here.
                Event::Terminate(n) => {
                    let id = id(NAMES[n % NAMES.len()]);
                    if let Some(of) = supervisor.supervisor_of(&id).map(str::to_owned) {
                        let _ = supervisor.terminate_child(now, &of, id.as_str());
                    }
                }
                Event::Restart(n) => {
                    let id = id(NAMES[n % NAMES.len()]);
                    if let Some(of) = supervisor.supervisor_of(&id).map(str::to_owned) {
                        let _ = supervisor.restart_child(now, &of, id.as_str());
                    }
                }
            }
            self.carry_out();
        }

        /// Lets all that was begun come to its end.
        fn settle(&mut self) {
            for _ in 0..2_000 {
                if let Some((id, incarnation)) = self.pick(0, &[Life::Starting]) {
                    self.alive.insert(id.clone(), (incarnation, Life::Running));
                    let now = self.sim.now();
                    self.sim.supervisor.handle(now, Input::Started { id, incarnation });
                } else if let Some((id, incarnation)) = self.pick(0, &[Life::Stopping]) {
                    self.alive.remove(&id);
                    let now = self.sim.now();
                    self.sim.supervisor.handle(now, Input::Died { id, incarnation });
                } else if self.sim.supervisor.by_status().contains_key(&AgentStatus::Restarting) {
                    self.sim.elapsed += Duration::from_secs(1);
                    let now = self.sim.now();
                    self.sim.supervisor.handle(now, Input::Tick);
                } else {
                    return;
                }
                self.carry_out();
            }
            panic!("it does not come to rest: {:#?}", self.sim.supervisor);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Under `one_for_one` each start but the first of a child is one restart; no window has more
        /// than are allowed, however the delays fall.
        #[test]
        fn no_window_has_more_restarts_than_the_intensity_allows(
            max_restarts in 0u32..6,
            period_ms in 1u64..4_000,
            min_ms in 0u64..1_000,
            events in prop::collection::vec(
                prop_oneof![
                    6 => any::<usize>().prop_map(Event::Crash),
                    10 => any::<usize>().prop_map(Event::Hello),
                    5 => (0u64..1_500).prop_map(Event::Pass),
                ],
                1..150,
            ),
        ) {
            let period = Duration::from_millis(period_ms);
            let intensity = Intensity { max_restarts, period };
            // The node lets the tree go at its first end: then it is seen from its start to its end.
            let node = Intensity { max_restarts: 0, period };
            let config = SupervisorConfig { intensity: node, ..Default::default() };
            let mut host = Slow { sim: Sim::new(config), alive: BTreeMap::new() };
            let backoff = Backoff { min: Duration::from_millis(min_ms), ..Default::default() };
            let now = host.sim.now();
            let spec = SupervisorSpec { intensity, backoff, ..abc(Strategy::OneForOne) };
            host.sim.supervisor.start_supervisor(now, spec).expect("a valid tree");
            host.carry_out();
            let mut seen = BTreeMap::new();
            let mut restarts = Vec::new();
            for event in events {
                host.take(event);
                for (id, (incarnation, _)) in &host.alive {
                    if seen.insert(id.clone(), *incarnation).is_some_and(|old| old != *incarnation) {
                        restarts.push(host.sim.elapsed);
                    }
                }
            }
            for (i, first) in restarts.iter().enumerate() {
                let within = restarts[i..].iter().filter(|at| **at - *first <= period).count();
                prop_assert!(within <= max_restarts as usize, "{restarts:?}");
            }
        }

        /// No agent runs twice (in `carry_out`); what is at rest is running, ended for good, or
        /// failed; and all of it can be stopped.
        #[test]
        fn the_tree_always_comes_to_a_rest_that_the_rules_allow(
            strategies in any::<[u8; 3]>(),
            restarts in any::<[u8; 8]>(),
            max_restarts in 0u32..5,
            events in prop::collection::vec(event(), 1..120),
        ) {
            let intensity = Intensity { max_restarts, period: Duration::from_secs(5) };
            let config = SupervisorConfig { intensity, ..Default::default() };
            let mut host = Slow { sim: Sim::new(config), alive: BTreeMap::new() };
            let now = host.sim.now();
            let spec = spec(strategies, restarts, intensity);
            host.sim.supervisor.start_supervisor(now, spec).expect("a valid tree");
            host.carry_out();
            for event in events {
                host.take(event);
            }
            host.settle();
            for name in NAMES {
                let id = id(name);
                let (status, incarnation) = host.sim.supervisor.status(&id).expect("it is known");
                let runs = host.alive.get(&id) == Some(&(incarnation, Life::Running));
                prop_assert!(
                    matches!(
                        (status, runs),
                        (AgentStatus::Running, true)
                            | (AgentStatus::Terminated | AgentStatus::Failed, false)
                            | (AgentStatus::Created, false)
                    ),
                    "{name} is {status}, and runs: {runs}"
                );
            }
            let now = host.sim.now();
            host.sim.supervisor.stop_all(now, Duration::from_secs(1));
            host.carry_out();
            for _ in 0..100 {
                host.sim.elapsed += Duration::from_millis(500);
                let now = host.sim.now();
                host.sim.supervisor.handle(now, Input::Tick);
                host.carry_out();
            }
            prop_assert!(host.sim.supervisor.is_empty(), "{:#?}", host.sim.supervisor);
            prop_assert!(host.alive.is_empty());
        }
    }
}
