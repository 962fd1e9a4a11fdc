//! The program as a service: behind a script of this project's, stopped by signals.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Output, until};

/// A run of `scripts/entrypoint`, killed when this is dropped. Its output is shown when the test
/// fails.
#[derive(Debug)]
pub struct Service {
    child: Child,
    output: Output,
}

impl Service {
    /// What ends by itself takes as long as the runtime takes to compile the program.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Runs the script, or the program `under` with the script, with these variables and no
    /// others than it takes to find programs.
    pub fn start(script: &Path, under: &[&str], words: &[&str], env: &[(&str, &str)]) -> Self {
        let script = script.to_str().expect("a path in UTF-8");
        let mut all = [under, &[script], words].concat().into_iter();
        let mut command = Command::new(all.next().expect("the script at least"));
        command.args(all).env_clear();
        for kept in ["PATH", "LUNATIC"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("bash");
        let output = Output::of(&mut child);
        Self { child, output }
    }

    /// What it has printed.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Waits until a line contains `text`.
    pub async fn says(&self, text: &str) {
        let line = || self.output.lines_with(text).pop();
        until(format!("a line with {text:?}"), Self::PATIENCE, line).await;
    }

    /// Sends a signal, such as `TERM`, to the script alone.
    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let sent = kill.arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name}");
    }

    /// Waits until it has ended; nothing if a signal ended it.
    pub async fn exit_status(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let ended = || child.try_wait().ok().flatten();
        until("the service ends", Self::PATIENCE, ended).await.code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- a service ---\n{}", self.output.tail());
        }
    }
}
