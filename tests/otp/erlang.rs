//! Erlang's own `supervisor`, where it is installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The traces of all scenarios of these files, in their order; nothing if there is no Erlang here.
///
/// With `OTP_REQUIRED` set, there has to be one.
pub(crate) fn traces(files: &[PathBuf]) -> Option<Vec<Trace>> {
    let driver = here().join("driver.escript");
    let Some(Output { status, stdout, stderr }) =
        run(Command::new("escript").arg(driver).args(files))
    else {
        assert!(
            env::var_os("OTP_REQUIRED").is_none(),
            "OTP_REQUIRED is set, and there is no escript"
        );
        println!("skipped: there is no escript in the PATH (Debian: apt-get install erlang-base)");
        return None;
    };
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let whole = said.strip_suffix("end\n").filter(|_| status.success());
    Some(read(whole.unwrap_or_else(|| panic!("{status}: {complained}\n{said}"))))
}

/// What a program says; nothing if there is none of that name.
fn run(command: &mut Command) -> Option<Output> {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("escript cannot be run: {error}"),
    }
}

pub(crate) fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otp")
}

/// What happened in a scenario: a line for each step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) scenario: String,
    pub(crate) lines: Vec<String>,
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "scenario {}", self.scenario)?;
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Reads traces as they are printed and recorded.
pub(crate) fn read(text: &str) -> Vec<Trace> {
    let mut traces: Vec<Trace> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("scenario "), traces.last_mut()) {
            (Some(name), _) => {
                traces.push(Trace { scenario: name.to_owned(), lines: Vec::new() });
            }
            (None, Some(trace)) => trace.lines.push(line.trim_end().to_owned()),
            (None, None) => panic!("{line:?} is before the first scenario"),
        }
    }
    traces
}
