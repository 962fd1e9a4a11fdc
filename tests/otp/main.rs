//! Declared trees, beside Erlang's own `supervisor`: the same scenarios are run by both, and what was
//! started and stopped has to be the same, in the same order, step by step.
//!
//! A scenario is a tree and what happens to it, as in `scenarios/*.txt`:
//!
//! ```text
//! scenario NAME
//! start_fails ID TIMES                           before the tree is started
//! supervisor ID STRATEGY RESTARTS/SECONDS RESTART_TYPE SHUTDOWN
//!   worker ID RESTART_TYPE SHUTDOWN              SHUTDOWN is kill, infinity, or a grace in ms
//!   supervisor …                                 a level deeper
//! crash ID | kill ID | exit ID normal|shutdown   a worker ends by itself
//! start_fails ID TIMES                           its next starts fail
//! ignores_stop ID                                it does not end when it is told to
//! terminate_child|restart_child|delete_child SUPERVISOR ID
//! start_child SUPERVISOR worker …
//! wait MS
//! ```
//!
//! A trace has a line for each step: the step and what was answered, what happened in that order,
//! which workers run then, and `count_children` of each supervisor (specs, active, supervisors,
//! workers):
//!
//! ```text
//! crash b: stop c, start b, start c | a b c | root 3/3/0/3
//! ```
//!
//! The traces of `scenarios/*.txt` are recorded beside them, so that the engine is held against
//! Erlang where Erlang is not installed, too. `OTP_RECORD=1` writes them anew.
#![cfg(not(target_family = "wasm"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod engine;
mod erlang;
mod generate;
mod scenario;

use std::fs;
use std::path::{Path, PathBuf};

use engine::StartFailure;
use erlang::Trace;
use scenario::Scenario;

/// The files with scenarios to read, in the order of their names.
fn files() -> Vec<PathBuf> {
    let directory = erlang::here().join("scenarios");
    let mut files: Vec<_> = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    files
}

fn recorded(file: &Path) -> PathBuf {
    file.with_extension("trace")
}

#[test]
fn what_is_recorded_is_what_erlang_does() {
    for file in files() {
        let Some(traces) = erlang::traces(std::slice::from_ref(&file)) else { return };
        let record = recorded(&file);
        if std::env::var_os("OTP_RECORD").is_some() {
            let text: String = traces.iter().map(Trace::to_string).collect();
            fs::write(&record, text).expect("it can be written");
        }
        let names: Vec<_> = scenario::read(&fs::read_to_string(&file).unwrap())
            .into_iter()
            .map(|s| s.name)
            .collect();
        assert_eq!(names, traces.iter().map(|t| t.scenario.clone()).collect::<Vec<_>>());
        let before = fs::read_to_string(&record).unwrap_or_else(|e| panic!("{record:?}: {e}"));
        assert_eq!(erlang::read(&before), traces, "{}", record.display());
    }
}

/// Where ours is not to do what Erlang does, and why: what is declared here is data that can be changed
/// at run time, and no code.
const DELIBERATE: [(&str, &str); 2] = [
    ("what was added to a subtree is gone after its restart", "a child that was added stays"),
    ("what was changed in a subtree is undone by its restart", "a child that was deleted stays so"),
];

#[test]
fn the_engine_does_what_is_recorded() {
    let (mut scenarios, mut traces) = (Vec::new(), Vec::new());
    for file in files() {
        scenarios.extend(scenario::read(&fs::read_to_string(&file).unwrap()));
        traces.extend(erlang::read(&fs::read_to_string(recorded(&file)).unwrap()));
    }
    for (name, _) in DELIBERATE {
        assert!(scenarios.iter().any(|scenario| scenario.name == name), "no scenario {name}");
    }
    compare(&scenarios, &traces);
}

#[test]
fn every_combination_is_as_with_erlang() {
    beside_erlang("combinations", &generate::combinations());
}

#[test]
fn histories_by_chance_are_as_with_erlang() {
    let (seed, count) = seed_and_count();
    beside_erlang("histories", &generate::histories(seed, count));
}

/// `OTP_HISTORIES="SEED COUNT"`; default: the same 1,000 each time.
fn seed_and_count() -> (u64, usize) {
    let text = std::env::var("OTP_HISTORIES").unwrap_or_else(|_| "1 1000".to_owned());
    let (seed, count) = text.split_once(' ').expect("OTP_HISTORIES is \"SEED COUNT\"");
    (seed.parse().expect("a seed"), count.parse().expect("a count"))
}

/// Holds the engine against Erlang in scenarios that are written to a file first.
fn beside_erlang(name: &str, text: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = directory.join(format!("otp-{name}-{}.txt", std::process::id()));
    fs::write(&file, text).expect("it can be written");
    let traces = erlang::traces(std::slice::from_ref(&file));
    fs::remove_file(&file).expect("it was written");
    if let Some(traces) = traces {
        let scenarios = scenario::read(text);
        assert_eq!(scenarios.len(), traces.len());
        compare(&scenarios, &traces);
    }
}

/// Every scenario, with both ways for a start to fail, has to have the trace that Erlang has.
fn compare(scenarios: &[Scenario], erlang: &[Trace]) {
    let mut wrong = Vec::new();
    for (scenario, theirs) in scenarios.iter().zip(erlang) {
        assert_eq!(scenario.name, theirs.scenario);
        let deliberate = DELIBERATE.iter().find(|(name, _)| *name == scenario.name);
        for start_failure in [StartFailure::Refused, StartFailure::Dies] {
            let ours = engine::trace(scenario, start_failure);
            match (difference(scenario, &ours, theirs), deliberate) {
                (Some(difference), None) => {
                    wrong.push(format!("{} ({start_failure:?}): {difference}", scenario.name));
                    break;
                }
                (None, Some((name, why))) => {
                    wrong.push(format!("{name}: no difference, but {why}"))
                }
                _ => {}
            }
        }
    }
    let (of, shown) = (scenarios.len(), wrong.iter().take(10).cloned().collect::<Vec<_>>());
    assert!(wrong.is_empty(), "{} of {of} scenarios differ\n{}", wrong.len(), shown.join("\n"));
}

/// The first step in which we differ from Erlang.
fn difference(scenario: &Scenario, ours: &Trace, theirs: &Trace) -> Option<String> {
    let pair = ours.lines.iter().zip(&theirs.lines).find(|(ours, theirs)| {
        let ours = comparable(scenario, ours, theirs);
        ours != comparable(scenario, theirs, theirs)
    });
    let (ours, theirs) = pair?;
    Some(format!("\n    ours:   {ours}\n    Erlang: {theirs}"))
}

/// A line without what only one side can say: our supervisors are no processes, so there is no
/// event when they have ended, and they can be counted then.
fn comparable(scenario: &Scenario, line: &str, theirs: &str) -> String {
    let supervisors = scenario.tree.supervisors();
    let [step, events, running, counts] = columns(line);
    let [.., alive] = columns(theirs);
    let alive: Vec<&str> = alive.split(", ").map(name_of).collect();
    let is_event = |event: &&str| {
        let ended = event.strip_prefix("stop ");
        !ended.is_some_and(|name| supervisors.contains(&name))
    };
    let is_count =
        |count: &&str| alive.contains(&name_of(count)) || count.split('/').nth(1) != Some("0");
    let events: Vec<&str> = events.split(", ").filter(is_event).collect();
    let counts: Vec<&str> = counts.split(", ").filter(is_count).collect();
    format!("{step}: {} | {running} | {}", events.join(", "), counts.join(", "))
}

/// The step with its answer, the events, who runs, the counts.
fn columns(line: &str) -> [&str; 4] {
    let mut parts = line.splitn(3, '|').map(str::trim);
    let (first, running, counts) = (parts.next(), parts.next(), parts.next());
    let (step, events) = first.and_then(|first| first.split_once(':')).expect(line);
    [step, events.trim(), running.unwrap_or_default(), counts.unwrap_or_default()]
}

fn name_of(count: &str) -> &str {
    count.split(' ').next().unwrap_or_default()
}
