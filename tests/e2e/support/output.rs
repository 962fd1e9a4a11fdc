//! What a program prints, read on threads of its own.

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

/// The lines that a program has printed so far, of both streams, in the order of their arrival.
#[derive(Clone, Debug, Default)]
pub struct Output {
    lines: Arc<Mutex<Vec<(Stream, String)>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

impl Output {
    /// Reads both streams until they end.
    pub fn of(child: &mut Child) -> Self {
        let output = Self::default();
        if let Some(stdout) = child.stdout.take() {
            output.read(Stream::Out, stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.read(Stream::Err, stderr);
        }
        output
    }

    fn read(&self, stream: Stream, from: impl Read + Send + 'static) {
        let lines = Arc::clone(&self.lines);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(from);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                lines.lock().unwrap_or_else(PoisonError::into_inner).push((stream, text));
                line.clear();
            }
        });
    }

    fn with<T>(&self, look: impl FnOnce(&[(Stream, String)]) -> T) -> T {
        look(&self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of_stream(&self, wanted: Stream) -> Vec<String> {
        let wanted = |(stream, line): &(Stream, String)| (*stream == wanted).then(|| line.clone());
        self.with(|lines| lines.iter().filter_map(wanted).collect())
    }

    /// The lines on standard output.
    pub fn stdout(&self) -> Vec<String> {
        self.of_stream(Stream::Out)
    }

    /// The lines on standard error.
    pub fn stderr(&self) -> Vec<String> {
        self.of_stream(Stream::Err)
    }

    /// Everything, as it came.
    pub fn all(&self) -> String {
        let marked = |(stream, line): &(Stream, String)| match stream {
            Stream::Out => format!("  | {line}\n"),
            Stream::Err => format!("  ! {line}\n"),
        };
        self.with(|lines| lines.iter().map(marked).collect())
    }

    /// The end of it, for the report of a failure.
    pub(crate) fn tail(&self) -> String {
        const MOST: usize = 200;
        let all = self.all();
        let left_out = all.lines().count().saturating_sub(MOST);
        let lines: String =
            all.lines().skip(left_out).map(|line| format!("{line:.500}\n")).collect();
        if left_out > 0 { format!("  ({left_out} lines before)\n{lines}") } else { lines }
    }

    /// The lines of both streams that contain `text`.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let with = |(_, line): &(Stream, String)| line.contains(text).then(|| line.clone());
        self.with(|lines| lines.iter().filter_map(with).collect())
    }
}
