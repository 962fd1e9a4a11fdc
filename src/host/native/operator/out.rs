//! Where a command shows what it has found.

use std::io::Write;

use serde_json::Value;

use super::failure::Failure;
use super::harmless::json_line;
use super::paint::Paint;

/// Standard output, for people or for programs. Where its reader has gone, writing is
/// [`Failure::Closed`].
pub(super) struct Out<'a> {
    writer: &'a mut dyn Write,
    /// Whether programs read it.
    pub(super) json: bool,
    /// Whether people see colours.
    pub(super) paint: Paint,
}

impl<'a> Out<'a> {
    /// An output.
    pub(super) fn new(writer: &'a mut dyn Write, json: bool, paint: Paint) -> Self {
        Self { writer, json, paint }
    }

    /// Shows a text that ends its own lines.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.writer.write_all(text.as_bytes())?;
        Ok(self.writer.flush()?)
    }

    /// Shows JSON in a line.
    pub(super) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        let mut line = json_line(value);
        line.push('\n');
        self.text(&line)
    }

    /// Shows one or the other.
    pub(super) fn show(
        &mut self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce(Paint) -> String,
    ) -> Result<(), Failure> {
        match self.json {
            true => self.json(&json()),
            false => self.text(&text(self.paint)),
        }
    }
}
