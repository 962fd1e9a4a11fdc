//! The programs that the tests are given: wasm under `lunatic run`, native ones by themselves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Client, Host, NatsServer, Output, SOON, program, until};

/// A start takes as long as the runtime takes to compile the program.
const PATIENCE: Duration = Duration::from_secs(90);

/// A run of the program, killed when this is dropped. Its output is shown when the test fails.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    output: Output,
    /// Its current directory, if it is one of its own.
    _dir: Option<TempDir>,
}

impl Program {
    /// A process that runs in a directory which outlives it.
    pub(crate) fn of(name: &str, child: Child, output: Output) -> Self {
        Self { name: name.to_owned(), child, output, _dir: None }
    }

    /// What it has printed.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The process, for those who look at it from outside.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// Sends it a signal, such as `INT`.
    ///
    /// # Panics
    /// If there is no `kill`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().expect("kill");
        assert!(sent.success(), "{} cannot be sent {name}", self.name);
    }

    /// Waits until it has ended, and gives its exit status.
    pub async fn status(&mut self, within: Duration) -> Option<i32> {
        let child = &mut self.child;
        until("the program ends", within, || child.try_wait().ok().flatten()).await.code()
    }

    /// Waits until it has ended, and gives the last line on standard output.
    pub async fn result(&mut self, within: Duration) -> String {
        let child = &mut self.child;
        until("the program ends", within, || child.try_wait().ok().flatten()).await;
        let output = self.output.clone();
        until("the program says how it went", SOON, || {
            output
                .stdout()
                .pop()
                .filter(|line| line.starts_with("result:") || line.contains("\"result\""))
        })
        .await
    }

    /// Waits until it has ended, having printed these lines and no others on standard output.
    pub async fn prints(&mut self, lines: &[&str], within: Duration) {
        let child = &mut self.child;
        until("the program ends", within, || child.try_wait().ok().flatten()).await;
        let output = self.output.clone();
        // What it printed last may still be on its way.
        until(format!("the output {lines:#?}"), SOON, || (output.stdout() == lines).then_some(()))
            .await;
    }

    /// Waits until a line contains `text`, and gives it.
    pub async fn says(&self, text: &str, within: Duration) -> String {
        let output = self.output.clone();
        until(format!("a line with {text:?}"), within, || output.lines_with(text).pop()).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} (| stdout, ! stderr) ---\n{}", self.name, self.output.tail());
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    id: String,
    program: Program,
}

impl Node {
    /// A node that is not yet started.
    pub fn builder(id: &str) -> NodeBuilder {
        NodeBuilder::new(id)
    }

    /// A run of the program with other words, not yet started.
    pub fn program(words: &[&str]) -> NodeBuilder {
        NodeBuilder { words: words.iter().map(OsString::from).collect(), ..NodeBuilder::new("") }
    }

    /// A node on this server that answers there.
    pub async fn on(server: &NatsServer, client: &Client, id: &str) -> Self {
        Self::builder(id).nats(server).start(client).await
    }

    /// A run of the program that is a node of this name.
    pub fn of(id: &str, program: Program) -> Self {
        Self { id: id.to_owned(), program }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until it answers on NATS.
    pub async fn answers(&self, client: &Client, within: Duration) -> Value {
        client.node_answers(&self.id, within).await
    }

    /// Tells it to shut down and waits for its last line.
    pub async fn shut_down(mut self, client: &Client) -> String {
        let control = format!("system.control.{}", self.id);
        client.ok(&control, json!({"Shutdown": {"grace_ms": 2000}})).await;
        self.program.result(SOON).await
    }
}

impl std::ops::Deref for Node {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl std::ops::DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// How a node, or another run of the program, is set up.
#[derive(Debug)]
pub struct NodeBuilder {
    id: String,
    host: Host,
    /// Another program than the host's own.
    program: Option<PathBuf>,
    words: Vec<OsString>,
    env: Vec<(String, String)>,
    dir: Option<PathBuf>,
    by_script: bool,
    under: Vec<String>,
    grants: Vec<String>,
}

impl NodeBuilder {
    fn new(id: &str) -> Self {
        let words = ["node", "--node-id", id].iter().map(OsString::from).collect();
        let (id, env, dir) = (id.to_owned(), Vec::new(), None);
        let (under, grants) = (Vec::new(), Vec::new());
        let (host, program) = (Host::current(), None);
        Self { id, host, program, words, env, dir, by_script: false, under, grants }
    }

    /// By `scripts/run`, which builds the program first if that is not up to date.
    #[must_use]
    pub fn by_script(mut self) -> Self {
        self.by_script = true;
        self
    }

    /// On this host, whatever the test runs on. To be said first.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Another program than the one with NATS, built for the same host.
    #[must_use]
    pub fn program_file(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// The wasm program at this path, under Lunatic.
    #[must_use]
    pub fn wasm(self, wasm: PathBuf) -> Self {
        self.host(Host::Lunatic).program_file(wasm)
    }

    /// The server that it connects to.
    #[must_use]
    pub fn nats(self, server: &NatsServer) -> Self {
        let url = server.url_for(self.host);
        self.words(&["--nats", &url])
    }

    /// More words on its command line.
    #[must_use]
    pub fn words(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(OsString::from));
        self
    }

    /// A variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// No such variable in its environment.
    #[must_use]
    pub fn without_env(self, name: &str) -> Self {
        self.under(&["env", "-u", name])
    }

    /// A directory that the runtime grants it.
    #[must_use]
    pub fn grant(mut self, dir: &str) -> Self {
        self.grants.extend(["--dir".to_owned(), dir.to_owned()]);
        self
    }

    /// Started by another program, which is given the command as its last words.
    #[must_use]
    pub fn under(mut self, words: &[&str]) -> Self {
        self.under.extend(words.iter().map(ToString::to_string));
        self
    }

    /// Its current directory, which holds its data. By default one of its own.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Runs it, and waits for nothing.
    pub fn run(self) -> Program {
        let own = self.dir.is_none().then(|| tempfile::tempdir().expect("a temporary directory"));
        let dir = self.dir.as_deref().or(own.as_ref().map(TempDir::path)).expect("one of the two");
        let file = || self.program.clone().unwrap_or_else(|| self.host.program());
        let mut words: Vec<OsString> = if self.by_script {
            // A shell cannot trap what was ignored when it was started, as Ctrl-C is for whatever
            // runs in the background of another one: these tests, maybe.
            let reset = ["env", "--default-signal=INT,TERM,HUP"].map(OsString::from);
            reset.into_iter().chain([crate::script("run").into()]).collect()
        } else if self.host == Host::Native {
            vec![file().into()]
        } else {
            let mut words = vec![program("LUNATIC", "lunatic").into(), "run".into()];
            words.extend(self.grants.iter().map(OsString::from));
            words.push(file().into());
            words.push("--".into());
            words
        };
        words.splice(0..0, self.under.iter().map(OsString::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        // Only what a program needs to run: the tests must not depend on who runs them.
        command.env_clear();
        let for_script = ["LUNATIC", "CARGO_HOME", "CARGO_TARGET_DIR", "RUSTUP_HOME"];
        let for_script = for_script.iter().filter(|_| self.by_script);
        for kept in ["PATH", "HOME", "TMPDIR"].iter().chain(for_script) {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .env("RUST_LIB_BACKTRACE", "0")
            .env("TOKIO_WORKER_THREADS", "4")
            .envs(self.env)
            .current_dir(dir)
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it can be started (lunatic: or set LUNATIC)");
        let output = Output::of(&mut child);
        let words: Vec<_> = self.words.iter().map(|word| word.to_string_lossy()).collect();
        Program { name: words.join(" "), child, output, _dir: own }
    }

    /// Starts the node and waits until it says that it is ready.
    pub async fn start_alone(self) -> Node {
        let id = self.id.clone();
        let mut node = Node { id, program: self.run() };
        let deadline = std::time::Instant::now() + PATIENCE;
        while node.output.lines_with("ready").is_empty() {
            let up = node.is_running() && std::time::Instant::now() < deadline;
            assert!(up, "the node {} is not ready within {PATIENCE:?}, or ended", node.id);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        node
    }

    /// Starts the node and waits until it answers on NATS.
    pub async fn start(self, client: &Client) -> Node {
        let node = self.start_alone().await;
        node.answers(client, SOON).await;
        node
    }
}
