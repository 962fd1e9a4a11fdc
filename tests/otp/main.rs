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

mod erlang;
mod generate;
mod scenario;

use std::fs;
use std::path::{Path, PathBuf};

use erlang::Trace;

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
#[test]
fn tmp_gen() {
    fs::write("/tmp/gen_comb.txt", generate::combinations()).unwrap();
    fs::write("/tmp/gen_hist.txt", generate::histories(1, 500)).unwrap();
    println!("{:?}", scenario::read(&generate::histories(1, 500)).len());
}
