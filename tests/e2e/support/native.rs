//! The native program, run to its end or until it has said something.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::{NatsServer, Output, Program, SOON, from_env, until};

/// A run of the native program that is not yet started. It gets no variable of the environment but `PATH`
/// and what it is given.
#[derive(Debug)]
pub struct Native {
    words: Vec<OsString>,
    env: Vec<(String, String)>,
    stdin: Option<String>,
}

/// A run in a terminal of 30 lines and 120 columns.
#[derive(Debug)]
pub struct Terminal {
    program: Program,
    keyboard: ChildStdin,
    dir: TempDir,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; nothing if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Native {
    /// A run with these words on its command line.
    pub fn new(words: &[&str]) -> Self {
        let words = words.iter().map(OsString::from).collect();
        Self { words, env: Vec::new(), stdin: None }
    }

    /// The server that it connects to.
    #[must_use]
    pub fn on(self, server: &NatsServer) -> Self {
        let url = format!("nats://127.0.0.1:{}", server.tcp_port());
        self.env("NATS_URL", &url)
    }

    /// A variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What it can read from standard input.
    #[must_use]
    pub fn stdin(mut self, text: &str) -> Self {
        self.stdin = Some(text.to_owned());
        self
    }

    /// The command, with its three streams as pipes. No test waits for its end for ever: 124 is the exit
    /// status then.
    ///
    /// # Panics
    /// If nobody has said where the program is.
    pub fn command(&self) -> Command {
        let mut command = self.under("timeout");
        command.args(["--kill-after=1", "60"]).arg(from_env("E2E_NATIVE")).args(&self.words);
        command
    }

    fn under(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("TERM", "xterm-256color");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(self.env.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it, and waits for nothing.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn run(self) -> Program {
        let mut command = self.under(from_env("E2E_NATIVE"));
        let mut child = command.args(&self.words).spawn().expect("the native program");
        drop(child.stdin.take());
        let output = Output::of(&mut child);
        Program::of(&format!("{:?}", self.words), child, output)
    }

    /// Starts it in a terminal, whose first line says which process it is.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn in_a_terminal(self) -> Terminal {
        // The shell becomes the program, and so its number is the program's.
        let mut line = "stty rows 30 cols 120; echo pid=$$; exec".to_owned();
        let program = from_env("E2E_NATIVE");
        for word in std::iter::once(program.as_os_str()).chain(self.words.iter().map(|w| &**w)) {
            let word = word.to_str().expect("text").replace('\'', "'\\''");
            line.push_str(&format!(" '{word}'"));
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = self.under("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "screen"]);
        let mut child = command.current_dir(dir.path()).spawn().expect("script, of util-linux");
        let keyboard = child.stdin.take().expect("a pipe");
        let output = Output::of(&mut child);
        let program = Program::of(&format!("{:?}", self.words), child, output);
        Terminal { program, keyboard, dir }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or does not end.
    pub async fn ends(self) -> Ended {
        let mut command = self.command();
        let text = self.stdin.unwrap_or_default();
        let ended = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("the native program");
            let mut stdin = child.stdin.take().expect("a pipe");
            // It need not read it.
            let _ = stdin.write_all(text.as_bytes());
            drop(stdin);
            child.wait_with_output().expect("its output")
        });
        let ended =
            tokio::time::timeout(SOON * 4, ended).await.expect("in time").expect("no panic");
        let text = |bytes| String::from_utf8(bytes).expect("it writes text");
        Ended {
            status: ended.status.code(),
            stdout: text(ended.stdout),
            stderr: text(ended.stderr),
        }
    }
}

impl Terminal {
    /// All that was written to it so far, as it was.
    pub fn shown(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("screen")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until this was written to it, in one piece.
    pub async fn shows(&self, text: &str) {
        until(format!("{text:?} on the screen"), SOON, || {
            self.shown().contains(text).then_some(())
        })
        .await;
    }

    /// Types.
    ///
    /// # Panics
    /// If the program has ended.
    pub fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("it reads");
        self.keyboard.flush().expect("it reads");
    }

    /// Waits until the program has ended, and gives its exit status.
    pub async fn status(&mut self) -> Option<i32> {
        self.program.status(SOON).await
    }
}

impl Ended {
    /// What it wrote to standard output, without colours, if it ended with this status.
    ///
    /// # Panics
    /// If it ended otherwise.
    #[track_caller]
    pub fn with(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert!(!self.stdout.contains('\u{1b}'), "{self:?}");
        self.stdout
    }

    /// The JSON that it wrote in one line, if it ended with this status.
    ///
    /// # Panics
    /// If it ended otherwise, or wrote anything else.
    #[track_caller]
    pub fn json(self, status: i32) -> Value {
        assert_eq!((self.status, self.stderr.as_str()), (Some(status), ""), "{self:?}");
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What it said on standard error, if it ended with this status and wrote nothing else.
    ///
    /// # Panics
    /// If it ended otherwise.
    #[track_caller]
    pub fn error(self, status: i32) -> String {
        assert_eq!((self.status, self.stdout.as_str()), (Some(status), ""), "{self:?}");
        self.stderr
    }
}
