//! Listings in columns.
//!
//! The layout is that of Kleene's first client: every cell has a blank on both sides; theme `fancy`
//! puts a blank between columns and a rule under the titles, theme `simple` draws both in ASCII.
//! Blanks at the end of a line are left out.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::ui::{Theme, style};

/// Where a cell's text stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the left.
    Left,
    /// In the middle, rather left than right.
    Center,
    /// At the right.
    Right,
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// SGR parameters of its cells (ECMA-48, 8.3.117); empty: the terminal's default.
    pub style: &'static str,
    /// Characters it has at least.
    pub min: usize,
    /// Characters it has at most; 0: as many as its cells need. Such a column also gets narrower
    /// when the terminal is too narrow for the table.
    pub max: usize,
    /// Where its cells' texts stand.
    pub align: Align,
}

impl Column {
    /// A column as wide as its cells need, with their texts at the left.
    pub const fn new(title: &'static str, style: &'static str) -> Self {
        Self {
            title,
            style,
            min: 0,
            max: 0,
            align: Align::Left,
        }
    }

    /// The column with a least width.
    pub const fn at_least(self, min: usize) -> Self {
        Self { min, ..self }
    }

    /// The column with a greatest width.
    pub const fn at_most(self, max: usize) -> Self {
        Self { max, ..self }
    }

    /// The column with its cells' texts elsewhere.
    pub const fn aligned(self, align: Align) -> Self {
        Self { align, ..self }
    }
}

/// A piece of a cell with a style of its own, or the column's where that is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    text: String,
    style: &'static str,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell(Vec<Piece>);

impl Cell {
    /// A cell of one piece with a style.
    pub fn styled(text: impl AsRef<str>, style: &'static str) -> Self {
        Self(vec![Piece {
            text: printable(text.as_ref()),
            style,
        }])
    }

    /// The cell with a further piece.
    #[must_use]
    pub fn and(mut self, text: impl AsRef<str>, style: &'static str) -> Self {
        self.0.extend(Self::styled(text, style).0);
        self
    }

    fn width(&self) -> usize {
        self.0.iter().map(|piece| piece.text.width()).sum()
    }

    /// Cuts the cell to a width; an ellipsis shows where.
    fn cut(&mut self, width: usize) {
        if self.width() <= width {
            return;
        }
        let mut left = width.saturating_sub(1);
        for piece in &mut self.0 {
            let kept = prefix(&piece.text, left).len();
            let cut = kept < piece.text.len();
            left -= piece.text.get(..kept).unwrap_or_default().width();
            piece.text.truncate(kept);
            if cut {
                piece.text.push('…');
                left = 0;
            }
        }
        let mut seen = false;
        self.0.retain(|piece| {
            let keep = !seen;
            seen |= piece.text.ends_with('…');
            keep
        });
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, "")
    }
}

/// The longest beginning of a text that isn't wider than `width`.
fn prefix(text: &str, width: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find_map(|(index, character)| {
        used += character.width().unwrap_or(0);
        (used > width).then_some(index)
    });
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// The text with control characters written out, so that no name or command can disturb the
/// terminal.
pub fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            clean.extend(character.escape_debug());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// Characters that say something in any column.
const NARROWEST: usize = 8;

/// How a table is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// The theme.
    pub theme: Theme,
    /// Whether styles are written.
    pub colour: bool,
    /// Characters a line of the terminal; `None`: any number.
    pub width: Option<usize>,
}

/// Draws a table.
pub fn render(columns: &[Column], mut rows: Vec<Vec<Cell>>, look: Look) -> String {
    let widths = widths(columns, &rows, look.width);
    for row in &mut rows {
        for (cell, width) in row.iter_mut().zip(&widths) {
            cell.cut(*width);
        }
    }
    let mut text = String::new();
    let titles: Vec<Cell> = columns.iter().map(|column| column.title.into()).collect();
    let bold = if look.theme == Theme::Fancy {
        style::BOLD
    } else {
        ""
    };
    let header: Vec<Column> = columns
        .iter()
        .map(|column| Column {
            style: bold,
            ..*column
        })
        .collect();
    line(&mut text, &header, &titles, &widths, look);
    text.push_str(&rule(&widths, look.theme));
    text.push('\n');
    for row in &rows {
        line(&mut text, columns, row, &widths, look);
    }
    text
}

/// Characters of each column.
fn widths(columns: &[Column], rows: &[Vec<Cell>], terminal: Option<usize>) -> Vec<usize> {
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows
                .iter()
                .filter_map(|row| row.get(index))
                .map(Cell::width);
            let most = if column.max == 0 {
                usize::MAX
            } else {
                column.max
            };
            let needed = cells.max().unwrap_or(0).min(most);
            needed.max(column.min).max(column.title.width())
        })
        .collect();
    if let Some(terminal) = terminal {
        fit(&mut widths, columns, terminal);
    }
    widths
}

/// Takes what a terminal is too narrow for from the columns: first from those that have a greatest
/// width, then from the widest of the others. None gets narrower than its title or its least width.
fn fit(widths: &mut [usize], columns: &[Column], terminal: usize) {
    let all: usize = widths.iter().map(|width| width + 3).sum();
    let mut excess = all.saturating_sub(1).saturating_sub(terminal);
    let least = |column: &Column| column.title.width().max(column.min);
    for (width, column) in widths.iter_mut().zip(columns).filter(|(_, c)| c.max > 0) {
        let gives = width.saturating_sub(least(column)).min(excess);
        *width -= gives;
        excess -= gives;
    }
    while excess > 0 {
        let narrower = widths
            .iter_mut()
            .zip(columns)
            .filter(|(width, column)| **width > least(column).max(NARROWEST))
            .max_by_key(|(width, _)| **width);
        let Some((width, _)) = narrower else {
            return;
        };
        *width -= 1;
        excess -= 1;
    }
}

fn rule(widths: &[usize], theme: Theme) -> String {
    match theme {
        Theme::Fancy => {
            let all: usize = widths.iter().map(|width| width + 3).sum();
            "─".repeat(all.saturating_sub(1))
        }
        Theme::Simple => {
            let parts: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            parts.join("+")
        }
    }
}

/// Draws one line. Blanks are written only when something follows them.
fn line(text: &mut String, columns: &[Column], cells: &[Cell], widths: &[usize], look: Look) {
    let mut blanks = 0;
    for (index, ((column, cell), width)) in columns.iter().zip(cells).zip(widths).enumerate() {
        let spare = width.saturating_sub(cell.width());
        let before = match column.align {
            Align::Left => 0,
            Align::Center => spare / 2,
            Align::Right => spare,
        };
        if index > 0 {
            match look.theme {
                Theme::Fancy => blanks += 1,
                Theme::Simple => {
                    text.extend(std::iter::repeat_n(' ', blanks));
                    text.push('|');
                    blanks = 0;
                }
            }
        }
        blanks += 1 + before;
        for piece in cell.0.iter().filter(|piece| !piece.text.is_empty()) {
            text.extend(std::iter::repeat_n(' ', blanks));
            blanks = 0;
            let style = if piece.style.is_empty() {
                column.style
            } else {
                piece.style
            };
            if look.colour && !style.is_empty() {
                // Writing to a text can't fail.
                let _ = write!(text, "\x1b[{style}m{}\x1b[0m", piece.text);
            } else {
                text.push_str(&piece.text);
            }
        }
        blanks += spare - before + 1;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUMES: &[Column] = &[
        Column::new("VOLUME NAME", "1"),
        Column::new("CREATED", "97"),
    ];

    fn look(theme: Theme) -> Look {
        Look {
            theme,
            colour: false,
            width: None,
        }
    }

    fn row(cells: &[&str]) -> Vec<Cell> {
        cells.iter().map(|text| Cell::from(*text)).collect()
    }

    #[test]
    fn the_documented_listing() {
        let rows = vec![row(&["my-vol", "6 minutes ago"])];
        let expected = "\x20VOLUME NAME   CREATED
─────────────────────────────
\x20my-vol        6 minutes ago
";
        assert_eq!(render(VOLUMES, rows, look(Theme::Fancy)), expected);
    }

    #[test]
    fn the_simple_theme_is_ascii() {
        let rows = vec![row(&["my-vol", "6 minutes ago"]), row(&["", ""])];
        let expected = "\x20VOLUME NAME | CREATED
-------------+---------------
\x20my-vol      | 6 minutes ago
\x20            |
";
        assert_eq!(render(VOLUMES, rows, look(Theme::Simple)), expected);
    }

    #[test]
    fn an_empty_listing_has_its_titles() {
        let text = render(VOLUMES, Vec::new(), look(Theme::Fancy));
        assert_eq!(
            text,
            format!(" VOLUME NAME   CREATED\n{}\n", "─".repeat(23))
        );
    }

    #[test]
    fn wide_and_control_characters() {
        let rows = vec![row(&["日本", "x"]), row(&["a\u{1b}[1m\n", "y"])];
        let text = render(VOLUMES, rows, look(Theme::Fancy));
        assert!(text.contains("\n 日本           x\n"), "{text}");
        assert!(text.contains("\n a\\u{1b}[1m\\n   y\n"), "{text}");
    }

    #[test]
    fn columns_are_centred_and_cut() {
        let columns = [
            Column::new("AUTORUN", "").aligned(Align::Center),
            Column::new("COMMAND", "").at_most(10),
        ];
        let long = Cell::styled("abcdef", "1")
            .and("ghijklmn", "2")
            .and("opq", "3");
        let rows = vec![row(&["yes", "ls"]), vec!["no".into(), long.clone()]];
        let text = render(&columns, rows, look(Theme::Simple));
        assert!(
            text.contains("\n   yes   | ls\n   no    | abcdefghi…\n"),
            "{text}"
        );
        let narrow = Look {
            width: Some(18),
            ..look(Theme::Simple)
        };
        let text = render(&columns, vec![vec!["no".into(), long]], narrow);
        assert!(text.contains("| abcdef…\n"), "{text}");
    }

    #[test]
    fn the_widest_columns_get_narrower_at_last() {
        let columns = [
            Column::new("ID", "").at_least(12),
            Column::new("NAME", ""),
            Column::new("TYPE", ""),
        ];
        let rows = vec![row(&["0123456789ab", &"n".repeat(30), "bridge"])];
        let narrow = |width| Look {
            width: Some(width),
            ..look(Theme::Simple)
        };
        let text = render(&columns, rows.clone(), narrow(40));
        let expected = format!(" 0123456789ab | {}… | bridge\n", "n".repeat(13));
        assert!(text.ends_with(&expected), "{text}");
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        let text = render(&columns, rows, narrow(10));
        assert!(text.ends_with("| nnnnnnn… | bridge\n"), "{text}");
    }

    #[test]
    fn colours_leave_the_layout_alone() {
        let look = Look {
            colour: true,
            ..look(Theme::Fancy)
        };
        let text = render(VOLUMES, vec![row(&["v", "now"])], look);
        assert!(
            text.contains("\n \x1b[1mv\x1b[0m             \x1b[97mnow\x1b[0m\n"),
            "{text:?}"
        );
    }
}
