//! Tables of text.

use ratatui::text::Span;

use super::harmless::harmless;
use super::paint::{Paint, Tone};

/// A cell: a text in a tone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// The longest text, in characters: an id has 128.
    const MAX: usize = 160;

    /// A cell, with nothing in it that could harm a terminal.
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self { text: harmless(text.as_ref(), Self::MAX), tone: Tone::Plain }
    }

    /// The same in a tone.
    pub(super) fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Where the texts of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Words, on the left.
    Words(&'static str),
    /// Figures, on the right.
    Figures(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Words(title) | Self::Figures(title) => title,
        }
    }
}

/// A piece of a line: a text in a tone.
pub(super) type Piece = (Tone, String);

/// The table as lines of text.
pub(super) fn table(columns: &[Column], rows: &[Vec<Cell>], paint: Paint) -> String {
    let mut text = String::new();
    for line in lines(columns, rows) {
        for (tone, piece) in line {
            text.push_str(&paint.text(tone, &piece));
        }
        text.push('\n');
    }
    text
}

/// The table as lines, the first of them its head: each column as wide as its widest text, and nothing
/// behind the last one. A row has as many cells as there are columns; what is missing is empty, what is
/// beyond is left out.
pub(super) fn lines(columns: &[Column], rows: &[Vec<Cell>]) -> Vec<Vec<Piece>> {
    let head: Vec<Cell> =
        columns.iter().map(|column| Cell::new(column.title()).tone(Tone::Strong)).collect();
    let all = || std::iter::once(&head).chain(rows);
    let widest =
        |at: usize| all().filter_map(|row| row.get(at)).map(|cell| width(&cell.text)).max();
    let widths: Vec<usize> = (0..columns.len()).map(|at| widest(at).unwrap_or(0)).collect();
    let none = Cell::default();
    let line = |row: &Vec<Cell>| {
        let mut line = Vec::new();
        // Blanks are written when something follows them.
        let mut blanks = 0;
        for (at, column) in columns.iter().enumerate() {
            let cell = row.get(at).unwrap_or(&none);
            let room = widths[at] - width(&cell.text);
            let (before, after) = match column {
                Column::Words(_) => (0, room),
                Column::Figures(_) => (room, 0),
            };
            blanks += before + if at == 0 { 0 } else { 2 };
            if !cell.text.is_empty() {
                line.push((Tone::Plain, " ".repeat(blanks)));
                line.push((cell.tone, cell.text.clone()));
                blanks = 0;
            }
            blanks += after;
        }
        line.retain(|(_, text)| !text.is_empty());
        line
    };
    all().map(line).collect()
}

/// How many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_have_to_be() {
        let columns = [Column::Words("AGENT"), Column::Figures("N"), Column::Words("WHY")];
        let rows = [
            vec!["a".into(), "1".into(), "x".into()],
            vec!["longer-id".into(), "1000".into()],
            vec!["日本".into(), Cell::default(), "y".into(), "beyond".into()],
        ];
        let shown = table(&columns, &rows, Paint::Off);
        let expected = "AGENT         N  WHY\n\
                        a             1  x\n\
                        longer-id  1000\n\
                        日本             y\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn colour_takes_no_room_and_nobody_elses_colour_comes_in() {
        let columns = [Column::Words("A"), Column::Words("B")];
        let row = vec![Cell::new("\u{1b}[31m").tone(Tone::Good), "b".into()];
        let plain = table(&columns, std::slice::from_ref(&row), Paint::Off);
        assert_eq!(plain, "A           B\n\\u{1b}[31m  b\n");
        let painted = table(&columns, &[row], Paint::On);
        assert!(painted.contains("\u{1b}[32m\\u{1b}[31m\u{1b}[0m  b\n"), "{painted:?}");
    }

    #[test]
    fn without_rows_there_is_the_head() {
        assert_eq!(table(&[Column::Words("A")], &[], Paint::Off), "A\n");
        assert_eq!(table(&[], &[], Paint::Off), "\n");
    }
}
