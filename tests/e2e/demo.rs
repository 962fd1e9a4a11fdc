//! The demo's counts are those of a pipeline of other people's programs, on texts that nobody here
//! wrote, whichever of its workers die.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Host, Node, wasm_local};
use tempfile::TempDir;

support::on_each_host! {
    the_demo_counts_as_the_pipeline_does,
}

/// A demo counts for seconds; the rest is a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// About three hundred texts in a directory `texts`, some of them further down.
fn texts() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mut sources = files_in(Path::new("/usr/share/common-licenses"));
    let documented = files_in(Path::new("/usr/share/doc"));
    sources.extend(
        documented
            .into_iter()
            .map(|package| package.join("copyright"))
            .filter(|path| path.is_file()),
    );
    let (mut copied, mut bytes) = (0, 0);
    for source in sources {
        let Ok(text) = std::fs::read(&source) else { continue };
        if text.is_empty() || text.contains(&0) || copied == 300 {
            continue;
        }
        let below = dir.path().join("texts").join(["", "a", "b/c"][copied % 3]);
        std::fs::create_dir_all(&below).expect("a directory");
        // Some have no end of line at their end, and no word may run on into the next text.
        let end = if copied % 5 == 0 { text.len() - 1 } else { text.len() };
        std::fs::write(below.join(format!("{copied:03}")), &text[..end]).expect("a copy");
        copied += 1;
        bytes += end;
    }
    assert!(
        copied >= 100 && bytes > 500_000,
        "{copied} texts of {bytes} bytes are too few to try it with"
    );
    dir
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths
}

/// What the pipeline counts, and how many texts there are.
fn expected(dir: &Path) -> (BTreeMap<String, u64>, usize) {
    const SCRIPT: &str = r#"find texts -type f -exec sh -c 'for f; do cat "$f"; echo; done' sh {} + |
        tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | sed '/^$/d' | sort | uniq -c"#;
    let run = |script: &str| {
        let out =
            Command::new("sh").args(["-c", script]).env("LC_ALL", "C").current_dir(dir).output();
        String::from_utf8(out.expect("sh").stdout).expect("ASCII")
    };
    let counted = run(SCRIPT);
    let counts = counted.lines().map(|line| {
        let (count, word) = line.trim().split_once(' ').expect("a count and a word");
        (word.to_owned(), count.parse().expect("a count"))
    });
    (counts.collect(), run("find texts -type f").lines().count())
}

async fn demo(program: PathBuf, dir: &Path, more: &[&str]) -> (String, Vec<String>) {
    let words = [&["demo", "--no-nats"], more, &["texts"]].concat();
    let mut run = Node::program(&words).program_file(program).dir(dir).run();
    let result = run.result(PATIENCE).await;
    (result, run.output().stdout())
}

async fn counts_as_the_pipeline_does(program: PathBuf) {
    let dir = texts();
    let (counts, files) = expected(dir.path());
    let (words, distinct) = (counts.values().sum::<u64>(), counts.len() as u64);

    let (result, lines) = demo(program.clone(), dir.path(), &["--json"]).await;
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line));
    let lines: Vec<Value> = lines.collect::<Result<_, _>>().expect("every line is JSON");
    let result: Value = serde_json::from_str(&result).expect("JSON");
    assert_eq!((&result["type"], &result["ok"]), (&"result".into(), &true.into()));
    let counted: BTreeMap<String, u64> =
        serde_json::from_value(result["counts"].clone()).expect("counts");
    assert!(counted == counts, "{}", difference(&counted, &counts));
    assert_eq!(result["words"], words);
    assert_eq!(result["distinct"], distinct);
    assert_eq!(result["files"], files);
    assert_eq!(result["lost"], 0);
    let restarts = result["restarts"].as_u64().expect("a number");
    assert!(restarts >= 4, "{restarts} restarts");
    let told =
        |kind: &str| lines.iter().filter(|line| !line["event"][kind].is_null()).count() as u64;
    assert_eq!(told("Recovery"), restarts, "each restart is shown");
    let reasons: std::collections::BTreeSet<_> =
        lines.iter().filter_map(|line| line["event"]["Failure"]["failure_type"].as_str()).collect();
    let reasons: Vec<_> = reasons.into_iter().collect();
    let (others, left_out) = match Host::current() {
        Host::Lunatic => (&["ResourceExhaustion"][..], ""),
        Host::Native => (&[][..], " not_contained=memory,stack,exit"),
    };
    assert_eq!(reasons, [&["ProcessCrash"], others, &["TimeoutFailure"]].concat());

    let (result, _) = demo(program, dir.path(), &[]).await;
    let start = format!("result: ok words={words} distinct={distinct} files={files} restarts=");
    let end = format!(" lost=0{left_out}");
    let restarts = result.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&end));
    assert!(restarts.is_some_and(|n| n.parse::<u64>().is_ok_and(|n| n >= 4)), "{result}");
}

/// The first few words that were counted otherwise.
fn difference(found: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> String {
    let words = found.keys().chain(expected.keys());
    let wrong = words.filter(|&word| found.get(word) != expected.get(word)).take(10);
    let lines =
        wrong.map(|word| format!("{word}: {:?}, not {:?}\n", found.get(word), expected.get(word)));
    lines.collect()
}

async fn the_demo_counts_as_the_pipeline_does() {
    counts_as_the_pipeline_does(Host::current().program()).await;
}

#[tokio::test]
async fn the_demo_without_nats_counts_as_the_pipeline_does() {
    counts_as_the_pipeline_does(wasm_local()).await;
}
