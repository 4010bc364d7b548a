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

/// How a column gives way on a terminal that is too narrow for its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Yielding {
    /// It gets narrower before the others do; those with the least number first.
    Narrows(u8),
    /// It is left out when that isn't enough; the one with the least number first.
    Leaves(u8),
    /// It gets narrower when that isn't enough either, the widest of these columns first.
    Stays,
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
    /// Characters it has at most; 0: as many as its cells need.
    pub max: usize,
    /// Where its cells' texts stand.
    pub align: Align,
    /// How it makes room for the others.
    pub yielding: Yielding,
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
            yielding: Yielding::Stays,
        }
    }

    /// The column with a least width.
    pub const fn at_least(self, min: usize) -> Self {
        Self { min, ..self }
    }

    /// The column with a greatest width. It is the first to get narrower.
    pub const fn at_most(self, max: usize) -> Self {
        let yielding = Yielding::Narrows(0);
        Self {
            max,
            yielding,
            ..self
        }
    }

    /// The column with another way to make room.
    pub const fn yielding(self, yielding: Yielding) -> Self {
        Self { yielding, ..self }
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

/// Draws a table. No line is wider than the terminal.
pub fn render(columns: &[Column], rows: Vec<Vec<Cell>>, look: Look) -> String {
    let fitted = fitted(columns, &rows, look.width);
    let bold = if look.theme == Theme::Fancy {
        style::BOLD
    } else {
        ""
    };
    let titles = fitted.iter().map(|column| column.is.title.into()).collect();
    let header: Vec<Fitted> = fitted
        .iter()
        .map(|column| Fitted {
            is: Column {
                style: bold,
                ..column.is
            },
            ..*column
        })
        .collect();
    let mut text = String::new();
    line(&mut text, &header, titles, look);
    text.push_str(&rule(&fitted, look.theme));
    text.push('\n');
    for row in rows {
        let cells = row.into_iter().enumerate();
        let cells = cells.filter(|(index, _)| fitted.iter().any(|column| column.index == *index));
        line(
            &mut text,
            &fitted,
            cells.map(|(_, cell)| cell).collect(),
            look,
        );
    }
    text
}

/// A column that is drawn.
#[derive(Debug, Clone, Copy)]
struct Fitted {
    is: Column,
    /// Its place in the rows.
    index: usize,
    /// Its characters.
    width: usize,
}

impl Fitted {
    /// A column with the room that its title and cells need.
    fn natural(index: usize, column: &Column, rows: &[Vec<Cell>]) -> Self {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let most = match column.max {
            0 => usize::MAX,
            max => max,
        };
        let needed = cells.map(Cell::width).max().unwrap_or(0).min(most);
        Self {
            is: *column,
            index,
            width: needed.max(least(column)),
        }
    }
}

/// Characters with which a column still shows what it is.
fn least(column: &Column) -> usize {
    column.title.width().max(column.min)
}

/// The columns that a terminal has room for.
fn fitted(columns: &[Column], rows: &[Vec<Cell>], terminal: Option<usize>) -> Vec<Fitted> {
    let mut natural: Vec<Fitted> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| Fitted::natural(index, column, rows))
        .collect();
    let Some(terminal) = terminal else {
        return natural;
    };
    let mut fitted = narrowed(natural.clone(), terminal);
    while excess(&fitted, terminal) > 0 {
        let leaving = natural.iter().enumerate();
        let leaving = leaving.filter_map(|(at, column)| match column.is.yielding {
            Yielding::Leaves(order) => Some((order, at)),
            Yielding::Narrows(_) | Yielding::Stays => None,
        });
        let Some((_, at)) = leaving.min() else {
            break;
        };
        natural.remove(at);
        fitted = narrowed(natural.clone(), terminal);
    }
    take_from_widest(&mut fitted, terminal, |c| least(&c.is).max(NARROWEST));
    take_from_widest(&mut fitted, terminal, |_| 1);
    while fitted.len() > 1 && excess(&fitted, terminal) > 0 {
        fitted.pop();
    }
    fitted
}

/// Characters of a table with these columns.
fn breadth(columns: &[Fitted]) -> usize {
    let all: usize = columns.iter().map(|column| column.width + 3).sum();
    all.saturating_sub(1)
}

/// Characters that a terminal lacks.
fn excess(columns: &[Fitted], terminal: usize) -> usize {
    breadth(columns).saturating_sub(terminal)
}

/// The columns with those that narrow first as narrow as necessary, and as they may get.
fn narrowed(mut columns: Vec<Fitted>, terminal: usize) -> Vec<Fitted> {
    let mut missing = excess(&columns, terminal);
    let mut first: Vec<(u8, &mut Fitted)> = columns
        .iter_mut()
        .filter_map(|column| match column.is.yielding {
            Yielding::Narrows(order) => Some((order, column)),
            Yielding::Leaves(_) | Yielding::Stays => None,
        })
        .collect();
    first.sort_by_key(|(order, _)| *order);
    for (_, column) in first {
        let gives = column.width.saturating_sub(least(&column.is)).min(missing);
        column.width -= gives;
        missing -= gives;
    }
    columns
}

/// Takes what a terminal lacks from the column that is the widest each time and above its `floor`.
fn take_from_widest(columns: &mut [Fitted], terminal: usize, floor: impl Fn(&Fitted) -> usize) {
    for _ in 0..excess(columns, terminal) {
        let wide = columns.iter_mut().filter(|c| c.width > floor(c));
        let Some(widest) = wide.max_by_key(|column| column.width) else {
            return;
        };
        widest.width -= 1;
    }
}

fn rule(columns: &[Fitted], theme: Theme) -> String {
    match theme {
        Theme::Fancy => "─".repeat(breadth(columns)),
        Theme::Simple => {
            let parts = columns.iter().map(|column| "-".repeat(column.width + 2));
            parts.collect::<Vec<String>>().join("+")
        }
    }
}

/// Draws one line. Blanks are written only when something follows them.
fn line(text: &mut String, columns: &[Fitted], cells: Vec<Cell>, look: Look) {
    let mut blanks = 0;
    for (index, (column, mut cell)) in columns.iter().zip(cells).enumerate() {
        cell.cut(column.width);
        let spare = column.width.saturating_sub(cell.width());
        let before = match column.is.align {
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
                column.is.style
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
            width: Some(19),
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
        let text = render(&columns, rows.clone(), narrow(34));
        assert!(text.ends_with("| nnnnnnn… | bridge\n"), "{text}");
        for width in 3..60 {
            let text = render(&columns, rows.clone(), narrow(width));
            assert!(text.lines().all(|line| line.width() <= width), "{text}");
        }
    }

    #[test]
    fn columns_leave_before_the_important_ones_get_narrower() {
        let columns = [
            Column::new("NAME", ""),
            Column::new("IMAGE", "").yielding(Yielding::Narrows(1)),
            Column::new("COMMAND", "").at_most(40),
            Column::new("AUTORUN", "").yielding(Yielding::Leaves(0)),
            Column::new("JID", "").yielding(Yielding::Leaves(1)),
            Column::new("STATUS", ""),
        ];
        let rows = vec![row(&[
            "webserver",
            "registry/debian:12",
            "sleep infinity",
            "no",
            "7",
            "running (healthy)",
        ])];
        let shown = |width| {
            let look = Look {
                width: Some(width),
                ..look(Theme::Simple)
            };
            let text = render(&columns, rows.clone(), look);
            assert!(text.lines().all(|line| line.width() <= width), "{text}");
            text.lines().last().unwrap_or_default().to_owned()
        };
        let whole = " webserver | registry/debian:12 | sleep infinity | no      | 7   | running \
                     (healthy)";
        assert_eq!(shown(86), whole[..].to_owned());
        let command =
            " webserver | registry/debian:12 | sleep … | no      | 7   | running (healthy)";
        assert_eq!(shown(78), command);
        let image = " webserver | regi… | sleep … | no      | 7   | running (healthy)";
        assert_eq!(shown(65), image);
        assert_eq!(
            shown(64),
            " webserver | registry/debi… | sleep … | 7   | running (healthy)"
        );
        assert_eq!(
            shown(54),
            " webserver | registry/… | sleep … | running (healthy)"
        );
        assert_eq!(shown(48), " webserver | regi… | sleep … | running (health…");
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
