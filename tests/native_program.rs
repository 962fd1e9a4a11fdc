//! The program as it is run natively: the demo's counts, a node's end by a signal, and its exit status.
#![cfg(all(feature = "nats", unix))]
// Waiting in here is real, and has a deadline.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rust-wasm-lunatic-nats");
const DEADLINE: Duration = Duration::from_secs(60);

/// A directory of a test's own, empty.
fn dir(test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("program-{test}"));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The program in that directory, with nothing of this environment that it looks at.
fn program(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(words).current_dir(dir).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(dir: &Path, words: &[&str]) -> Output {
    program(dir, words).output().unwrap()
}

fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8(output.to_vec()).unwrap();
    text.lines().last().unwrap_or_default().to_owned()
}

/// Texts with words that are torn apart by every kind of byte.
fn texts(dir: &Path) {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (number, name) in ["README.md", "Cargo.toml", "CHANGELOG.md", "src/config.rs", "src/cli.rs"]
        .into_iter()
        .enumerate()
    {
        let mut text = std::fs::read(sources.join(name)).unwrap();
        text.extend_from_slice("ä\u{2028}wörd \r\nx".as_bytes());
        let below = dir.join("texts").join(["", "a", "b/c"][number % 3]);
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(below.join(format!("{number}")), text).unwrap();
    }
}

/// What the pipeline of the design counts.
fn pipeline(dir: &Path) -> BTreeMap<String, u64> {
    const SCRIPT: &str = r#"find texts -type f -exec sh -c 'for f; do cat "$f"; echo; done' sh {} + |
        tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | sed '/^$/d' | sort | uniq -c"#;
    let out = Command::new("sh").args(["-c", SCRIPT]).env("LC_ALL", "C").current_dir(dir).output();
    let counted = String::from_utf8(out.unwrap().stdout).unwrap();
    let counts = counted.lines().map(|line| {
        let (count, word) = line.trim().split_once(' ').unwrap();
        (word.to_owned(), count.parse().unwrap())
    });
    counts.collect()
}

#[test]
fn the_demo_counts_as_the_pipeline_does_and_says_what_it_left_out() {
    let dir = dir("demo");
    texts(&dir);
    let counts = pipeline(&dir);
    let (words, distinct) = (counts.values().sum::<u64>(), counts.len());
    let out = run(&dir, &["demo", "--no-nats", "--json", "texts"]);
    assert!(out.status.success(), "{out:?}");
    let lines = String::from_utf8(out.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let result = lines.last().unwrap();
    assert_eq!((&result["type"], &result["ok"]), (&json!("result"), &json!(true)));
    let counted: BTreeMap<String, u64> = serde_json::from_value(result["counts"].clone()).unwrap();
    assert_eq!(counted, counts);
    assert_eq!((&result["words"], &result["distinct"]), (&json!(words), &json!(distinct)));
    assert_eq!((&result["files"], &result["lost"]), (&json!(5), &json!(0)));
    assert_eq!(result["not_contained"], json!(["memory", "stack", "exit"]));
    assert_eq!(result["restarts"], 5);
    let told = |kind: &str| lines.iter().filter(|line| !line["event"][kind].is_null()).count();
    assert_eq!(told("Recovery"), 5, "each restart is shown");
    let reason =
        |line: &Value| line["event"]["Failure"]["failure_type"].as_str().map(str::to_owned);
    let mut reasons: Vec<_> = lines.iter().filter_map(reason).collect();
    reasons.sort_unstable();
    let (crash, late) = ("ProcessCrash", "TimeoutFailure");
    assert_eq!(reasons, [crash, crash, crash, late, late]);

    let out = run(&dir, &["demo", "--no-nats", "texts"]);
    let expected = format!(
        "result: ok words={words} distinct={distinct} files=5 restarts=5 lost=0 \
         not_contained=memory,stack,exit"
    );
    assert_eq!(last_line(&out.stdout), expected);
}

/// A node that runs; killed when this is dropped.
struct Node {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Node {
    /// Waits until it is ready.
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.starts_with("ready: "), "{line}");
        Self { child, stdout }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Its exit status, or the signal that it died of, the last line that it printed, and its log.
    fn end(mut self) -> (Option<i32>, String, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < DEADLINE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let (mut out, mut log) = (Vec::new(), String::new());
        self.stdout.read_to_end(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), last_line(&out), log)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(test: &str, file: &str) -> Node {
    let dir = dir(test);
    std::fs::write(dir.join("node.toml"), file).unwrap();
    Node::start(program(&dir, &["node", "--no-nats", "--config", "node.toml"]))
}

#[test]
fn a_node_stops_in_order_on_each_signal_and_says_so() {
    for (signal, name) in [("INT", "SIGINT"), ("TERM", "SIGTERM")] {
        let file = "[[agents]]\nid = \"a\"\ncount = 3\nagent_type = \"echo\"";
        let node = node(&format!("signal-{signal}"), file);
        node.signal(signal);
        let (status, line, log) = node.end();
        assert_eq!(
            (status, line.as_str()),
            (Some(0), "result: ok stopped=3 killed=0 flushed=true")
        );
        assert!(log.contains(&format!("{name}: the node stops")), "{log}");
    }
}

/// One agent that does not stop.
const STUCK: &str = "[supervision]\nstop_grace_ms = GRACE\n\
    [[agents]]\nid = \"stuck\"\nagent_type = \"chaos\"\nargs = { on_stop = \"hang\" }\n\
    [[agents]]\nid = \"polite\"\nagent_type = \"echo\"\n";

#[test]
fn a_node_that_had_to_kill_an_agent_ends_with_3() {
    let node = node("killed", &STUCK.replace("GRACE", "200"));
    node.signal("TERM");
    let (status, line, log) = node.end();
    let expected = "result: ok stopped=1 killed=1 flushed=true killed_agents=stuck";
    assert_eq!((status, line.as_str()), (Some(3), expected), "{log}");
    assert!(log.contains("agent=stuck did not stop within 200 ms and was killed"), "{log}");
}

#[test]
fn the_second_signal_ends_a_node_at_once() {
    for (signal, expected) in [("INT", 130), ("TERM", 143)] {
        let node = node(&format!("twice-{signal}"), &STUCK.replace("GRACE", "3600000"));
        node.signal("INT");
        // The first one has been seen: two that come together are one.
        std::thread::sleep(Duration::from_millis(300));
        node.signal(signal);
        let (status, _, log) = node.end();
        assert_eq!(status, Some(expected), "{log}");
    }
}

#[test]
fn what_the_user_said_wrong_is_2_and_what_went_wrong_is_1() {
    let dir = dir("wrong");
    let cases = [
        (["node", "--nonsense"], 2, "result: failed there is no flag --nonsense"),
        (["demo", "nowhere"], 1, "result: failed cannot find nowhere: "),
        (["node", "--config=nowhere"], 2, "result: failed --config \"nowhere\": "),
    ];
    for (words, status, line) in cases {
        let out = run(&dir, &words);
        assert_eq!(out.status.code(), Some(status), "{out:?}");
        assert!(last_line(&out.stdout).starts_with(line), "{out:?}");
    }
    assert_eq!(run(&dir, &["--help"]).status.code(), Some(0));
}
