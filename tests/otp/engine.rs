//! Our own engine, on a virtual clock, with a host that does what it says and what a scenario says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rust_wasm_lunatic_nats::supervision as sup;
use rust_wasm_lunatic_nats::supervision::{
    Backoff, ChildSpec, Figures, Input, Intensity, LastWord, LifecycleEvent, Now, Output,
    SupervisionEvent, SupervisorConfig, SupervisorSpec, TreeError,
};
use rust_wasm_lunatic_nats::time::{Instant, Timestamp};
use rust_wasm_lunatic_nats::{AgentConfig, AgentId};

use crate::erlang::Trace;
use crate::scenario::{self, Child, Scenario, Shutdown, Step, Strategy, Supervisor, Worker};

/// How a start fails that is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartFailure {
    /// The host cannot make a process.
    Refused,
    /// The process dies before it says that it runs.
    Dies,
}

/// Runs a scenario.
pub(crate) fn trace(scenario: &Scenario, start_failure: StartFailure) -> Trace {
    let mut host = Host::new(start_failure);
    for setting in &scenario.settings {
        host.step(setting);
    }
    let now = host.now();
    let started = host.engine.start_supervisor(now, supervisor(&scenario.tree));
    started.unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    host.settle();
    let root = &scenario.tree.id;
    let up = host.counts(root).is_some_and(|counts| counts.active == counts.specs);
    let mut lines = vec![host.line(&format!("start -> {}", if up { "ok" } else { "refused" }))];
    for step in &scenario.steps {
        let answer = host.step(step).map_or_else(String::new, |answer| format!(" -> {answer}"));
        host.settle();
        lines.push(host.line(&format!("{}{answer}", step.join(" "))));
    }
    Trace { scenario: scenario.name.clone(), lines }
}

/// What an agent's process would be, and who is to misbehave.
struct Host {
    engine: sup::Supervisor,
    elapsed: Duration,
    start_failure: StartFailure,
    /// The processes, with their incarnations.
    running: BTreeMap<String, u64>,
    /// How many of the next starts fail.
    fails: BTreeMap<String, u32>,
    ignores: BTreeSet<String>,
    /// Who was told to stop and has not.
    stubborn: BTreeSet<String>,
    facts: VecDeque<Input>,
    events: Vec<String>,
}

impl Host {
    fn new(start_failure: StartFailure) -> Self {
        let config = SupervisorConfig {
            // What comes after the root's end is no matter of OTP's: here, nothing does.
            intensity: Intensity { max_restarts: 0, ..Intensity::default() },
            ..SupervisorConfig::default()
        };
        Self {
            engine: sup::Supervisor::new(config, 7).expect("a valid config"),
            elapsed: Duration::ZERO,
            start_failure,
            running: BTreeMap::new(),
            fails: BTreeMap::new(),
            ignores: BTreeSet::new(),
            stubborn: BTreeSet::new(),
            facts: VecDeque::new(),
            events: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { at: Instant::from_start(self.elapsed), wall: Timestamp::from_epoch(self.elapsed) }
    }

    /// Does a step, and gives what is answered, where there is something to answer.
    fn step(&mut self, step: &Step) -> Option<String> {
        let words: Vec<&str> = step.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["start_fails", id, times] => {
                self.fails.insert((*id).to_owned(), times.parse().expect("a number"));
                None
            }
            ["ignores_stop", id] => {
                self.ignores.insert((*id).to_owned());
                None
            }
            ["crash", id] => {
                let word = LastWord::Panic { message: "told to".to_owned(), place: None };
                self.end(id, Some(word))
            }
            ["kill", id] => self.end(id, None),
            // The one and the other are normal to a supervisor.
            ["exit", id, "normal" | "shutdown"] => self.end(id, Some(LastWord::Farewell)),
            ["wait", ms] => {
                self.wait(Duration::from_millis(ms.parse().expect("a number")));
                None
            }
            [call @ ("terminate_child" | "restart_child" | "delete_child"), supervisor, id] => {
                let now = self.now();
                let answer = match *call {
                    "terminate_child" => self.engine.terminate_child(now, supervisor, id),
                    "restart_child" => self.engine.restart_child(now, supervisor, id),
                    _ => self.engine.delete_child(now, supervisor, id),
                };
                Some(self.answer(answer, supervisor, id))
            }
            ["start_child", supervisor, _, id, ..] => {
                let spec = child(&scenario::child(&step[2..], Vec::new()));
                let answer = self.engine.start_child(self.now(), supervisor, spec);
                Some(self.answer(answer, supervisor, id))
            }
            other => panic!("{other:?} is no step"),
        }
    }

    /// A process ends by itself.
    fn end(&mut self, name: &str, word: Option<LastWord>) -> Option<String> {
        let Some(incarnation) = self.running.remove(name) else {
            return Some("noproc".to_owned());
        };
        let id = agent_id(name);
        if let Some(word) = word {
            self.facts.push_back(Input::LastWord { id: id.clone(), incarnation, word });
        }
        self.facts.push_back(Input::Died { id, incarnation });
        None
    }

    /// OTP's word for an answer, which may depend on what comes of it.
    fn answer(&mut self, answer: Result<(), TreeError>, supervisor: &str, child: &str) -> String {
        let before = self.events.len();
        self.settle();
        let failed = self.events[before..].iter().any(|event| event.starts_with("fail "));
        match answer {
            Ok(()) if failed => "refused",
            Ok(()) => "ok",
            Err(TreeError::UnknownSupervisor(_) | TreeError::NotRunning(_)) => "noproc",
            Err(TreeError::UnknownChild { .. }) => "not_found",
            Err(TreeError::Running(_)) => "running",
            Err(TreeError::Restarting(_)) => "restarting",
            Err(TreeError::Exists(_)) if self.running.contains_key(child) => "already_started",
            Err(TreeError::Exists(_)) => "already_present",
            Err(error) => panic!("{supervisor} {child}: {error}"),
        }
        .to_owned()
    }

    /// Does what comes out, and hands in what comes of it, until nothing is left to do but to wait
    /// for one that does not stop.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let due = self.outputs();
            if let Some(fact) = self.facts.pop_front() {
                self.engine.handle(self.now(), fact);
                continue;
            }
            let Some(due) = due.map(Instant::since_start) else { return };
            if due > self.elapsed && self.stubborn.is_empty() {
                return;
            }
            self.elapsed = self.elapsed.max(due);
            self.engine.handle(self.now(), Input::Tick);
        }
        panic!("it does not come to rest: {:?}", self.events);
    }

    /// Lets time pass.
    fn wait(&mut self, time: Duration) {
        let until = self.elapsed + time;
        loop {
            self.settle();
            match self.outputs().map(Instant::since_start).filter(|due| *due <= until) {
                Some(due) => {
                    self.elapsed = self.elapsed.max(due);
                    self.engine.handle(self.now(), Input::Tick);
                }
                None => break,
            }
        }
        self.elapsed = until;
    }

    /// Does all that comes out; gives until when there is nothing more.
    fn outputs(&mut self) -> Option<Instant> {
        loop {
            match self.engine.poll_output() {
                Output::Wait(due) => return due,
                output => self.output(output),
            }
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Spawn { id, incarnation, .. } => self.spawn(id, incarnation),
            Output::Stop { id, incarnation } => {
                self.events.push(format!("stop {id}"));
                if self.ignores.contains(id.as_str()) {
                    self.stubborn.insert(id.to_string());
                } else {
                    self.gone(id, incarnation);
                }
            }
            Output::Kill { id, incarnation } => {
                self.events.push(format!("kill {id}"));
                self.stubborn.remove(id.as_str());
                self.gone(id, incarnation);
            }
            Output::Ping { id, incarnation, seq } => {
                let figures = Figures::default();
                self.facts.push_back(Input::Pong { id, incarnation, seq, figures });
            }
            Output::Event(SupervisionEvent::SupervisorLifecycle {
                supervisor_id,
                event_type: LifecycleEvent::SupervisorStarted,
                ..
            }) if supervisor_id != SupervisorConfig::default().id => {
                self.events.push(format!("start {supervisor_id}"));
            }
            _ => {}
        }
    }

    fn spawn(&mut self, id: AgentId, incarnation: u64) {
        if let Some(times) = self.fails.get_mut(id.as_str()).filter(|times| **times > 0) {
            *times -= 1;
            self.events.push(format!("fail {id}"));
            self.facts.push_back(match self.start_failure {
                StartFailure::Refused => {
                    let reason = "told to".to_owned();
                    Input::SpawnRefused { id, incarnation, reason }
                }
                StartFailure::Dies => Input::Died { id, incarnation },
            });
            return;
        }
        self.events.push(format!("start {id}"));
        let other = self.running.insert(id.to_string(), incarnation);
        assert_eq!(other, None, "{id} runs twice");
        self.facts.push_back(Input::Started { id, incarnation });
    }

    fn gone(&mut self, id: AgentId, incarnation: u64) {
        self.running.remove(id.as_str());
        self.facts.push_back(Input::Died { id, incarnation });
    }

    /// A step with what has happened since the last one.
    fn line(&mut self, step: &str) -> String {
        let events = std::mem::take(&mut self.events).join(", ");
        let running: Vec<&str> = self.running.keys().map(String::as_str).collect();
        let names: Vec<String> = self.engine.supervisors().map(str::to_owned).collect();
        let counts = names.iter().filter_map(|name| {
            let sup::ChildCounts { specs, active, supervisors, workers } = self.counts(name)?;
            Some(format!("{name} {specs}/{active}/{supervisors}/{workers}"))
        });
        let counts = counts.collect::<Vec<_>>().join(", ");
        format!("{step}: {events} | {} | {counts}", running.join(" ")).trim_end().to_owned()
    }

    fn counts(&self, supervisor: &str) -> Option<sup::ChildCounts> {
        self.engine.count_children(supervisor).ok()
    }
}

fn agent_id(name: &str) -> AgentId {
    AgentId(name.to_owned())
}

fn child(child: &Child) -> ChildSpec {
    match child {
        Child::Worker(Worker { id, restart, shutdown }) => ChildSpec::Agent {
            config: AgentConfig {
                id: agent_id(id),
                restart: *restart,
                // Nobody is to miss a health check.
                timeout_ms: 86_400_000,
                ..AgentConfig::default()
            },
            shutdown: shutdown_of(*shutdown),
        },
        Child::Supervisor(inner) => ChildSpec::Supervisor(supervisor(inner)),
    }
}

fn supervisor(spec: &Supervisor) -> SupervisorSpec {
    SupervisorSpec {
        id: spec.id.clone(),
        strategy: match spec.strategy {
            Strategy::OneForOne => sup::Strategy::OneForOne,
            Strategy::OneForAll => sup::Strategy::OneForAll,
            Strategy::RestForOne => sup::Strategy::RestForOne,
        },
        intensity: Intensity { max_restarts: spec.max_restarts, period: spec.period },
        // OTP knows no delays.
        backoff: Backoff { min: Duration::ZERO, max: Duration::ZERO, factor: 1.0, jitter: 0.0 },
        restart: spec.restart,
        shutdown: shutdown_of(spec.shutdown),
        children: spec.children.iter().map(child).collect(),
    }
}

fn shutdown_of(shutdown: Shutdown) -> sup::Shutdown {
    match shutdown {
        Shutdown::Kill => sup::Shutdown::Kill,
        Shutdown::Grace(grace) => sup::Shutdown::Grace(grace),
        Shutdown::Infinity => sup::Shutdown::Infinity,
    }
}
