//! Colours, where there is a terminal that wants them.

use clap::builder::styling::{AnsiColor, Color, Effects, Style};
use clap::ValueEnum;

/// When there is colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl When {
    /// Whether there is colour. A `NO_COLOR` that is empty is not set (no-color.org).
    pub(super) fn decide(self, terminal: bool, env: impl Fn(&str) -> Option<String>) -> Paint {
        let set = |name| env(name).is_some_and(|value| !value.is_empty());
        let dumb = env("TERM").is_some_and(|term| term == "dumb");
        match self {
            Self::Always => Paint::On,
            Self::Never => Paint::Off,
            Self::Auto if terminal && !set("NO_COLOR") && !dumb => Paint::On,
            Self::Auto => Paint::Off,
        }
    }
}

/// Whether there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    /// There is.
    On,
    /// There is none.
    Off,
}

/// What a piece of text is to the reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// Text like any other.
    #[default]
    Plain,
    /// Text that matters more: a name, a heading.
    Strong,
    /// Text that matters less.
    Faint,
    /// It goes well.
    Good,
    /// It wants a look.
    Warn,
    /// It went wrong.
    Bad,
}

impl Paint {
    /// The text in its tone.
    pub(super) fn text(self, tone: Tone, text: &str) -> String {
        match self {
            Self::Off => text.to_owned(),
            Self::On => {
                let style = tone.style();
                format!("{}{text}{}", style.render(), style.render_reset())
            }
        }
    }
}

impl Tone {
    fn style(self) -> Style {
        let colour = |colour| Style::new().fg_color(Some(Color::Ansi(colour)));
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().effects(Effects::BOLD),
            Self::Faint => Style::new().effects(Effects::DIMMED),
            Self::Good => colour(AnsiColor::Green),
            Self::Warn => colour(AnsiColor::Yellow),
            Self::Bad => colour(AnsiColor::Red).effects(Effects::BOLD),
        }
    }

    /// The same for ratatui.
    pub(super) fn on_screen(self, paint: Paint) -> ratatui::style::Style {
        use ratatui::style::{Color, Style};
        match (paint, self) {
            (_, Self::Strong) => Style::new().bold(),
            (Paint::Off, _) | (_, Self::Plain) => Style::new(),
            (_, Self::Faint) => Style::new().dim(),
            (_, Self::Good) => Style::new().fg(Color::Green),
            (_, Self::Warn) => Style::new().fg(Color::Yellow),
            (_, Self::Bad) => Style::new().fg(Color::Red).bold(),
        }
    }

    /// What a status of an agent is to the reader.
    pub(super) fn of_status(status: &str) -> Self {
        match status {
            "Running" => Self::Good,
            "Failed" => Self::Bad,
            "Terminated" => Self::Faint,
            _ => Self::Warn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let none = |_: &str| None;
        let with = |name: &'static str, value: &'static str| {
            move |asked: &str| (asked == name).then(|| value.to_owned())
        };
        assert_eq!(When::Auto.decide(true, none), Paint::On);
        assert_eq!(When::Auto.decide(false, none), Paint::Off);
        assert_eq!(When::Auto.decide(true, with("NO_COLOR", "1")), Paint::Off);
        assert_eq!(When::Auto.decide(true, with("NO_COLOR", "")), Paint::On);
        assert_eq!(When::Auto.decide(true, with("TERM", "dumb")), Paint::Off);
        assert_eq!(When::Always.decide(false, with("NO_COLOR", "1")), Paint::On);
        assert_eq!(When::Never.decide(true, none), Paint::Off);
    }

    #[test]
    fn a_tone_is_ended_behind_its_text() {
        assert_eq!(Paint::On.text(Tone::Bad, "x"), "\u{1b}[1m\u{1b}[31mx\u{1b}[0m");
        assert_eq!(Paint::On.text(Tone::Plain, "x"), "x");
        assert_eq!(Paint::Off.text(Tone::Bad, "x"), "x");
    }
}
