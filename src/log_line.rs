//! What a line of the log looks like. One line per event, whatever is in it:
//!
//! ```text
//! 2026-11-22T01:02:03.456Z warn part=gateway code=bad_json refused a body
//! {"ts":"2026-11-22T01:02:03.456Z","level":"warn","part":"gateway","code":"bad_json","msg":"refused a body"}
//! ```
//!
//! First when and how bad, then whose line it is, then the event's own fields, last what it says.
//! Whose line it is comes from the process and not from the text, so no agent can speak as another.

use std::fmt::Write;
use std::time::Duration;

use log::kv::{Key, Value, VisitSource};
use log::{Level, Record};

use crate::time::{Instant, Timestamp};

/// How the lines of the log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `time level key=value… message`.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The format of this name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Whose line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker<'a> {
    /// A part of the node.
    Part(&'a str),
    /// An agent, by its id.
    Agent(&'a str),
}

/// Something that happens often and is told once a minute at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnceAMinute {
    told: Option<Instant>,
}

impl OnceAMinute {
    const MINUTE: Duration = Duration::from_secs(60);

    /// Whether it is to be told now, which then counts as told.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.told.is_none_or(|told| now - told >= Self::MINUTE);
        if is_due {
            self.told = Some(now);
        }
        is_due
    }
}

/// The longest message and the longest value of a field, in bytes; what is beyond it is cut off.
/// With its escapes a line can be six times as long.
pub const MAX_TEXT: usize = 4096;

/// The most fields of an event.
const MAX_FIELDS: usize = 16;

/// The line for an event, with its newline.
pub fn line(format: LogFormat, at: Timestamp, speaker: Speaker<'_>, record: &Record<'_>) -> String {
    let (who, name) = match speaker {
        Speaker::Part(name) => ("part", name),
        Speaker::Agent(id) => ("agent", id),
    };
    let mut fields = Fields { list: Vec::new(), is_agent: who == "agent" };
    // Fields that cannot be read are left out, and the rest is told.
    let _ = record.key_values().visit(&mut fields);
    let message = record.args().to_string();
    let (at, level) = (at.to_millis(), level(record.level()));
    let mut line = String::with_capacity(96 + message.len());
    // Writing to a `String` cannot fail.
    let _ = match format {
        LogFormat::Text => write!(line, "{at} {level} {who}={name}"),
        LogFormat::Json => write!(line, r#"{{"ts":"{at}","level":"{level}","{who}":"#)
            .map(|()| quote(&mut line, name)),
    };
    for (key, value) in &fields.list {
        match format {
            LogFormat::Text => {
                line.push(' ');
                escape(&mut line, key);
                line.push('=');
                value.write_text(&mut line);
            }
            LogFormat::Json => {
                line.push(',');
                quote(&mut line, key);
                line.push(':');
                value.write_json(&mut line);
            }
        }
    }
    match format {
        LogFormat::Text => {
            line.push(' ');
            escape(&mut line, &message);
        }
        LogFormat::Json => {
            line.push_str(r#","msg":"#);
            quote(&mut line, &message);
            line.push('}');
        }
    }
    line.push('\n');
    line
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The value of a field.
enum Field {
    /// A number or a truth value: the same in both formats.
    Bare(String),
    Text(String),
}

impl Field {
    fn write_text(&self, line: &mut String) {
        match self {
            Self::Bare(bare) => line.push_str(bare),
            Self::Text(text) if is_word(text) => escape(line, text),
            Self::Text(text) => quote(line, text),
        }
    }

    fn write_json(&self, line: &mut String) {
        match self {
            Self::Bare(bare) => line.push_str(bare),
            Self::Text(text) => quote(line, text),
        }
    }
}

/// Whether a value can stand without quotes.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.chars().any(|c| c.is_whitespace() || c == '"' || c == '=' || hidden(c))
}

struct Fields {
    list: Vec<(String, Field)>,
    /// Whether they come from an agent.
    is_agent: bool,
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        if self.list.len() == MAX_FIELDS {
            return Ok(());
        }
        let mut key = key.to_string();
        // These have their meaning already; a part of the node may name an agent, though.
        let taken = ["ts", "level", "part", "msg"].contains(&key.as_str());
        if taken || (key == "agent" && self.is_agent) {
            key.insert(0, '_');
        }
        let bare = match (value.to_bool(), value.to_i64(), value.to_u64()) {
            (Some(on), ..) => Some(on.to_string()),
            (_, Some(number), _) => Some(number.to_string()),
            (.., Some(number)) => Some(number.to_string()),
            _ => value.to_f64().filter(|number| number.is_finite()).map(|x| x.to_string()),
        };
        self.list.push((key, bare.map_or_else(|| Field::Text(value.to_string()), Field::Bare)));
        Ok(())
    }
}

/// What a terminal or a reader of lines would act on and nobody would see: control characters,
/// other ends of lines, and what turns the direction of writing.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61C}' | '\u{200E}' | '\u{200F}')
        || ('\u{202A}'..='\u{202E}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// A text without quotes, with what is hidden in it shown.
fn escape(line: &mut String, text: &str) {
    write_escaped(line, text, |_| false);
}

/// A text in quotes, as JSON has it.
fn quote(line: &mut String, text: &str) {
    line.push('"');
    write_escaped(line, text, |c| c == '"' || c == '\\');
    line.push('"');
}

fn write_escaped(line: &mut String, text: &str, has_backslash: impl Fn(char) -> bool) {
    let cut = &text[..text.floor_char_boundary(MAX_TEXT)];
    for c in cut.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            // All of them are of 16 bits.
            c if hidden(c) => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => {
                if has_backslash(c) {
                    line.push('\\');
                }
                line.push(c);
            }
        }
    }
    if cut.len() < text.len() {
        let _ = write!(line, "… ({} bytes)", text.len());
    }
}

#[cfg(test)]
mod tests {
    use log::kv::Value;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn once_a_minute_is_at_once_and_then_after_each_minute() {
        let mut told = OnceAMinute::default();
        let due = [0, 1, 59, 60, 61, 119, 120, 300]
            .map(|second| told.is_due(Instant::from_start(Duration::from_secs(second))));
        assert_eq!(due, [true, false, false, true, false, false, true, true]);
    }

    const AT: Duration = Duration::from_millis(1_795_309_323_456);

    fn write(
        format: LogFormat,
        speaker: Speaker<'_>,
        fields: &[(&str, Value<'_>)],
        message: &str,
    ) -> String {
        line(
            format,
            Timestamp::from_epoch(AT),
            speaker,
            &Record::builder()
                .level(Level::Warn)
                .key_values(&fields)
                .args(format_args!("{message}"))
                .build(),
        )
    }

    fn text(speaker: Speaker<'_>, fields: &[(&str, Value<'_>)], message: &str) -> String {
        write(LogFormat::Text, speaker, fields, message)
    }

    #[test]
    fn a_line_is_when_how_bad_whose_fields_and_message() {
        let fields = [
            ("n", Value::from(-3)),
            ("x", Value::from(0.5)),
            ("on", Value::from(true)),
            ("word", Value::from("a.b")),
            ("words", Value::from("a \"b\" c=d\\")),
            ("empty", Value::from("")),
        ];
        assert_eq!(
            text(Speaker::Part("store"), &fields, "it is \"so\": a\\b"),
            "2026-11-22T01:02:03.456Z warn part=store n=-3 x=0.5 on=true word=a.b \
             words=\"a \\\"b\\\" c=d\\\\\" empty=\"\" it is \"so\": a\\b\n"
        );
        assert_eq!(
            write(LogFormat::Json, Speaker::Agent("a-1"), &fields, "it is \"so\": a\\b"),
            "{\"ts\":\"2026-11-22T01:02:03.456Z\",\"level\":\"warn\",\"agent\":\"a-1\",\
             \"n\":-3,\"x\":0.5,\"on\":true,\"word\":\"a.b\",\"words\":\"a \\\"b\\\" c=d\\\\\",\
             \"empty\":\"\",\"msg\":\"it is \\\"so\\\": a\\\\b\"}\n"
        );
    }

    #[test]
    fn nobody_can_forge_a_line_or_speak_as_another() {
        let forged =
            "x\n2026-11-22T01:02:03.456Z error agent=b \u{1b}[31mred\r\u{202e}\u{2028}\u{85}";
        let line = text(Speaker::Agent("a"), &[("agent", Value::from("b"))], forged);
        assert_eq!(
            line,
            "2026-11-22T01:02:03.456Z warn agent=a _agent=b x\\n2026-11-22T01:02:03.456Z error \
             agent=b \\u001b[31mred\\r\\u202e\\u2028\\u0085\n"
        );
        let fields = [("ts", Value::from(1)), ("msg", Value::from("m")), ("a\nb", Value::from(2))];
        let json = write(LogFormat::Json, Speaker::Part("root"), &fields, "");
        assert_eq!(
            json,
            "{\"ts\":\"2026-11-22T01:02:03.456Z\",\"level\":\"warn\",\"part\":\"root\",\
             \"_ts\":1,\"_msg\":\"m\",\"a\\nb\":2,\"msg\":\"\"}\n"
        );
        let agent = text(Speaker::Part("agents"), &[("agent", Value::from("b"))], "died");
        assert!(agent.ends_with(" part=agents agent=b died\n"), "{agent}");
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let long = "ä".repeat(MAX_TEXT);
        let line = text(Speaker::Part("p"), &[("f", Value::from(&*long))], &long);
        assert!(line.ends_with("ää… (8192 bytes)\n") && line.len() < 2 * MAX_TEXT + 200);
        let many: Vec<_> = (0..100).map(|n| ("k", Value::from(n))).collect();
        let line = text(Speaker::Part("p"), &many, "m");
        assert_eq!(line.matches(" k=").count(), MAX_FIELDS);
    }

    proptest! {
        #[test]
        fn json_lines_parse_and_say_the_same(key in ".{0,20}", value in ".{0,200}", message in ".{0,200}") {
            let fields = [(key.as_str(), Value::from(value.as_str()))];
            let line = write(LogFormat::Json, Speaker::Agent("a"), &fields, &message);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let parsed: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            prop_assert_eq!(&parsed["agent"], "a");
            prop_assert_eq!(parsed["msg"].as_str(), Some(message.as_str()));
            let text = text(Speaker::Agent("a"), &fields, &message);
            prop_assert_eq!(text.lines().count(), 1);
            prop_assert!(!text.trim_end_matches('\n').chars().any(hidden));
        }
    }
}
