//! The program as a service: behind a script of this project's, stopped by signals.

use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Output, Program};

/// A run of `scripts/entrypoint`: a [`Program`] that may take longer.
#[derive(Debug)]
pub struct Service {
    program: Program,
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
        Self { program: Program::of("a service", child, output) }
    }

    /// Waits until a line contains `text`.
    pub async fn says(&self, text: &str) {
        self.program.says(text, Self::PATIENCE).await;
    }

    /// Waits until it has ended; nothing if a signal ended it.
    pub async fn exit_status(&mut self) -> Option<i32> {
        self.program.status(Self::PATIENCE).await
    }
}

impl Deref for Service {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}
