//! Random histories of thousands of steps, checked against a host that keeps its own books.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::Strategy;

use super::*;

const AGENTS: u8 = 4;

#[derive(Clone, Debug)]
enum Step {
    Start(u8, RestartType),
    Stop(u8),
    /// Some process that was asked for says hello, or is refused.
    Hello(usize),
    Refuse(usize),
    /// Some process dies with a word, or without.
    Die(usize, Option<LastWord>),
    /// Some process answers its last ping.
    Answer(usize),
    Suspect(usize),
    HandlerFails(usize),
    /// An old notice comes again.
    Repeat(usize),
    /// Time passes, in ms.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let restart = prop_oneof![
        4 => Just(RestartType::Permanent),
        2 => Just(RestartType::Transient),
        1 => Just(RestartType::Temporary),
    ];
    let word = prop_oneof![
        Just(None),
        Just(Some(LastWord::Exit)),
        Just(Some(LastWord::Farewell)),
        Just(Some(LastWord::AllocationRefused { bytes: 1 })),
        Just(Some(LastWord::Panic { message: "boom".into(), place: None })),
    ];
    let n = any::<usize>;
    prop_oneof![
        4 => (0..AGENTS, restart).prop_map(|(agent, restart)| Step::Start(agent, restart)),
        1 => (0..AGENTS).prop_map(Step::Stop),
        12 => n().prop_map(Step::Hello),
        1 => n().prop_map(Step::Refuse),
        6 => (n(), word).prop_map(|(n, word)| Step::Die(n, word)),
        8 => n().prop_map(Step::Answer),
        1 => n().prop_map(Step::Suspect),
        1 => n().prop_map(Step::HandlerFails),
        4 => n().prop_map(Step::Repeat),
        8 => (0u64..700).prop_map(Step::Pass),
    ]
}

/// A process as the host knows it.
#[derive(Debug, Default)]
struct Process {
    replacement: bool,
    ran: bool,
    /// Whether it was told to end before it ran.
    stopped: bool,
    last_ping: Option<u64>,
}

type Key = (AgentId, u64);

struct World {
    sim: Sim,
    /// What is alive, or is about to be.
    alive: BTreeMap<Key, Process>,
    /// Agents whose next process takes the place of another.
    known: BTreeSet<AgentId>,
    given_up: BTreeSet<AgentId>,
    /// When replacements were asked for, since the agent was started.
    restarts: BTreeMap<AgentId, Vec<Instant>>,
    notices: Vec<Input>,
    failures: BTreeMap<Key, u32>,
    recoveries: BTreeMap<Key, u32>,
    expected_failures: BTreeMap<Key, std::ops::RangeInclusive<u32>>,
    expected_recoveries: BTreeSet<Key>,
    intensity: Intensity,
}

impl World {
    fn new(intensity: Intensity) -> Self {
        let config =
            SupervisorConfig { max_agents: usize::from(AGENTS), intensity, ..Default::default() };
        Self {
            sim: Sim::new(config),
            alive: BTreeMap::new(),
            known: BTreeSet::new(),
            given_up: BTreeSet::new(),
            restarts: BTreeMap::new(),
            notices: Vec::new(),
            failures: BTreeMap::new(),
            recoveries: BTreeMap::new(),
            expected_failures: BTreeMap::new(),
            expected_recoveries: BTreeSet::new(),
            intensity,
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Start(agent, restart) => self.start(agent, restart),
            Step::Stop(agent) => {
                let now = self.sim.now();
                let stopped = self.sim.supervisor.stop(now, &name(agent));
                assert_eq!(stopped.is_ok(), self.known.contains(&name(agent)));
                self.carry_out();
            }
            Step::Hello(n) => self.hello(n),
            Step::Refuse(n) => self.refuse(n),
            Step::Die(n, word) => {
                if let Some(key) = self.pick(n, |p| p.ran) {
                    self.die(key, word);
                }
            }
            Step::Answer(n) => self.answer(n),
            Step::Suspect(n) => {
                if let Some((id, incarnation)) = self.pick(n, |p| p.ran) {
                    let word = LastWord::AllocationRefused { bytes: 7 };
                    self.tell(Input::LastWord { id, incarnation, word });
                }
            }
            Step::HandlerFails(n) => {
                if let Some((id, incarnation)) = self.pick(n, |p| p.ran) {
                    self.tell(Input::HandlerFailed {
                        id,
                        incarnation,
                        failure_type: FailureType::DependencyFailure,
                        message: "handler".into(),
                    });
                }
            }
            Step::Repeat(n) => self.repeat(n),
            Step::Pass(ms) => {
                self.sim.elapsed += Duration::from_millis(ms);
                self.tell(Input::Tick);
            }
        }
        let counted: u64 = self.sim.supervisor.by_status().values().sum();
        assert_eq!(counted as usize, self.known.len());
        assert_eq!(self.sim.supervisor.len(), self.known.len());
    }

    fn start(&mut self, agent: u8, restart: RestartType) {
        let id = name(agent);
        let config = AgentConfig { restart, ..super::agent(id.as_str()) };
        let free = !self.known.contains(&id) || self.given_up.contains(&id);
        let started = self.sim.start(config);
        assert_eq!(started.is_ok(), free, "{started:?}");
        if started.is_ok() {
            self.given_up.remove(&id);
            self.known.remove(&id);
            self.restarts.remove(&id);
        }
        self.carry_out();
    }

    fn hello(&mut self, n: usize) {
        let Some((id, incarnation)) = self.pick(n, |p| !p.ran) else {
            return;
        };
        let key = (id.clone(), incarnation);
        if let Some(process) = self.alive.get_mut(&key) {
            process.ran = true;
            if process.replacement && !process.stopped {
                self.expected_recoveries.insert(key);
            }
        }
        self.tell(Input::Started { id, incarnation });
    }

    fn refuse(&mut self, n: usize) {
        let Some(key) = self.pick(n, |p| !p.ran) else {
            return;
        };
        let process = self.alive.remove(&key).expect("picked");
        let failures = if process.stopped { 0..=0 } else { 1..=1 };
        self.expected_failures.insert(key.clone(), failures);
        let (id, incarnation) = key;
        self.tell(Input::SpawnRefused { id, incarnation, reason: "full".into() });
    }

    fn die(&mut self, key: Key, word: Option<LastWord>) {
        let (id, incarnation) = key.clone();
        let process = self.alive.remove(&key).expect("picked");
        let gave_up_counts = self.failures.get(&key).copied().unwrap_or(0);
        assert_eq!(gave_up_counts, 0, "no failure before the death");
        let normal = word == Some(LastWord::Farewell);
        // A normal return is a failure only where the supervisor gives up; and a stop is one only
        // where something was said.
        let failures = match (normal, process.stopped) {
            (true, _) | (_, true) => 0..=1,
            (false, false) => 1..=1,
        };
        self.expected_failures.insert(key, failures);
        if let Some(word) = word {
            self.tell(Input::LastWord { id: id.clone(), incarnation, word });
        }
        self.tell(Input::Died { id, incarnation });
    }

    fn answer(&mut self, n: usize) {
        let Some((id, incarnation)) = self.pick(n, |p| p.last_ping.is_some()) else {
            return;
        };
        let process = self.alive.get_mut(&(id.clone(), incarnation));
        let seq = process.and_then(|p| p.last_ping.take()).expect("asked");
        self.tell(Input::Pong { id, incarnation, seq, figures: Figures::default() });
    }

    /// Only of those that are not alive: what is alive may well say something twice and mean it.
    fn repeat(&mut self, n: usize) {
        let old: Vec<_> = self
            .notices
            .iter()
            .filter(|notice| key_of(notice).is_some_and(|key| !self.alive.contains_key(&key)))
            .collect();
        if let Some(notice) = old.get(n % old.len().max(1)) {
            let notice = (*notice).clone();
            let (now, before) = (self.sim.now(), self.sim.supervisor.by_status());
            self.sim.supervisor.handle(now, notice);
            // Those whose time has come may have had their turn, but nothing was started anew.
            self.carry_out();
            let after = self.sim.supervisor.by_status();
            let all = |counts: &BTreeMap<_, u64>| counts.values().sum::<u64>();
            assert_eq!(all(&before), all(&after));
        }
    }

    fn pick(&self, n: usize, wanted: impl Fn(&Process) -> bool) -> Option<Key> {
        let fitting: Vec<_> = self.alive.iter().filter(|(_, p)| wanted(p)).collect();
        let (key, _) = fitting.get(n % fitting.len().max(1))?;
        Some((*key).clone())
    }

    fn tell(&mut self, input: Input) {
        let now = self.sim.now();
        self.notices.push(input.clone());
        if self.notices.len() > 50 {
            self.notices.remove(0);
        }
        self.sim.supervisor.handle(now, input);
        self.carry_out();
    }

    /// Does what the supervisor says, as a host would.
    fn carry_out(&mut self) {
        for output in self.sim.outputs() {
            match output {
                Output::Spawn { id, incarnation, .. } => self.spawn(id, incarnation),
                Output::Stop { id, incarnation } => {
                    let process = self.alive.get_mut(&(id, incarnation)).expect("alive");
                    process.stopped = true;
                }
                Output::Kill { id, incarnation } => {
                    let key = (id, incarnation);
                    assert!(self.alive.contains_key(&key), "kill of {key:?}");
                    self.die(key, None);
                }
                Output::Ping { id, incarnation, seq } => {
                    let process = self.alive.get_mut(&(id, incarnation)).expect("alive");
                    assert!(process.ran);
                    process.last_ping = Some(seq);
                }
                Output::StartRefused { id, .. } | Output::Removed { id, .. } => {
                    assert!(self.known.remove(&id), "{id} was known");
                    assert!(!self.alive.keys().any(|(other, _)| *other == id));
                    self.given_up.remove(&id);
                }
                Output::Event(event) => self.read(event),
                Output::AgentEvent(_) => {}
                Output::Wait(_) => unreachable!("outputs leaves it out"),
            }
        }
    }

    fn spawn(&mut self, id: AgentId, incarnation: u64) {
        let other = self.alive.keys().find(|(other, _)| *other == id);
        assert_eq!(other, None, "{id} runs twice");
        let replacement = !self.known.insert(id.clone());
        if replacement {
            let now = self.sim.now().at;
            let restarts = self.restarts.entry(id.clone()).or_default();
            restarts.push(now);
            let period = self.intensity.period;
            let within = restarts.iter().filter(|at| now - **at <= period).count();
            assert!(within <= self.intensity.max_restarts as usize, "{within}");
        }
        let process = Process { replacement, ..Default::default() };
        self.alive.insert((id, incarnation), process);
    }

    fn read(&mut self, event: SupervisionEvent) {
        match event {
            SupervisionEvent::Failure { agent_id, incarnation, severity, .. }
                if severity > FailureSeverity::Low =>
            {
                *self.failures.entry((agent_id, incarnation)).or_default() += 1;
            }
            SupervisionEvent::Recovery { agent_id, incarnation, .. } => {
                *self.recoveries.entry((agent_id, incarnation)).or_default() += 1
            }
            SupervisionEvent::SupervisorLifecycle {
                event_type: LifecycleEvent::GaveUp,
                affected_agents,
                ..
            } => self.given_up.extend(affected_agents),
            _ => {}
        }
    }

    /// Compares the books of the whole history.
    fn check(&self) {
        for (key, allowed) in &self.expected_failures {
            let failures = self.failures.get(key).copied().unwrap_or(0);
            assert!(allowed.contains(&failures), "{key:?}: {failures} failures");
        }
        for key in self.failures.keys() {
            assert!(self.expected_failures.contains_key(key), "{key:?} lives");
        }
        let recovered: BTreeSet<_> = self.recoveries.keys().cloned().collect();
        assert_eq!(recovered, self.expected_recoveries);
        assert!(self.recoveries.values().all(|n| *n == 1));
    }
}

fn name(agent: u8) -> AgentId {
    id(&format!("agent-{agent}"))
}

fn key_of(notice: &Input) -> Option<Key> {
    match notice {
        Input::Started { id, incarnation }
        | Input::SpawnRefused { id, incarnation, .. }
        | Input::LastWord { id, incarnation, .. }
        | Input::Died { id, incarnation }
        | Input::Pong { id, incarnation, .. }
        | Input::HandlerFailed { id, incarnation, .. } => Some((id.clone(), *incarnation)),
        Input::Tick => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 2000, ..Default::default() })]

    /// No agent runs twice, none is restarted more often than allowed in any window, each death
    /// has its one failure and each replacement its one recovery.
    #[test]
    fn random_histories(
        steps in prop::collection::vec(step(), 2000),
        max_restarts in 0u32..7,
    ) {
        let period = Duration::from_secs(5);
        let mut world = World::new(Intensity { max_restarts, period });
        for step in steps {
            world.take(step);
        }
        world.check();
    }
}
