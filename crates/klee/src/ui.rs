//! Everything that is printed.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::error::CommandError;
use crate::json;
use crate::table::{self, Cell, Column, Look};
use crate::terminal;

/// SGR parameters (ECMA-48, 8.3.117) of the colours that are used.
pub mod style {
    pub const BOLD: &str = "1";
    pub const BOLD_RED: &str = "1;31";
    pub const GREEN: &str = "32";
    pub const RED: &str = "31";
    pub const YELLOW: &str = "33";
    pub const CYAN: &str = "36";
    pub const BLUE: &str = "34";
    pub const WHITE: &str = "37";
    pub const BRIGHT_WHITE: &str = "97";
    pub const BRIGHT_CYAN: &str = "96";
    pub const BOLD_BRIGHT_BLUE: &str = "1;94";
    pub const BOLD_BRIGHT_MAGENTA: &str = "1;95";
    pub const AQUAMARINE: &str = "38;5;122";
    pub const BOLD_AQUAMARINE: &str = "1;38;5;122";
}

/// How output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Theme {
    /// Colours on a terminal, and box drawing
    #[default]
    Fancy,
    /// Plain ASCII
    Simple,
}

/// Prints for a theme.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    theme: Theme,
    colour: bool,
    colour_errors: bool,
    width: Option<usize>,
}

impl Ui {
    /// A printer for this process's streams.
    pub fn new(theme: Theme) -> Self {
        let wanted = theme == Theme::Fancy && colour_wanted();
        let terminal = io::stdout().is_terminal();
        Self {
            theme,
            colour: wanted && terminal,
            colour_errors: wanted && io::stderr().is_terminal(),
            width: terminal::size()
                .filter(|_| terminal)
                .map(|size| usize::from(size.columns)),
        }
    }

    /// Prints a line that matters: an id, a result.
    pub fn line(self, text: &str) -> Result<(), CommandError> {
        let text = if self.colour && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m\n", style::BOLD)
        } else {
            format!("{text}\n")
        };
        print(text.as_bytes())
    }

    /// Prints text as it is.
    pub fn raw(self, text: &[u8]) -> Result<(), CommandError> {
        print(text)
    }

    /// Prints names or ids, one a line.
    pub fn ids<'a>(self, ids: impl Iterator<Item = &'a str>) -> Result<(), CommandError> {
        let lines: String = ids.map(|id| format!("{id}\n")).collect();
        print(lines.as_bytes())
    }

    /// Prints a value as indented JSON.
    pub fn json(self, value: &impl Serialize) -> Result<(), CommandError> {
        match json::render(value, self.colour) {
            Ok(text) => print(&text),
            Err(error) => Err(CommandError::failure(format!("can't print JSON: {error}"))),
        }
    }

    /// Prints a table.
    pub fn table(self, columns: &[Column], rows: Vec<Vec<Cell>>) -> Result<(), CommandError> {
        print(self.drawn(columns, rows).as_bytes())
    }

    /// A table as text.
    pub fn drawn(self, columns: &[Column], rows: Vec<Vec<Cell>>) -> String {
        let look = Look {
            theme: self.theme,
            colour: self.colour,
            width: self.width,
        };
        table::render(columns, rows, look)
    }

    /// Tells something beside the output, on standard error.
    pub fn note(self, text: &str) {
        // There is no other place to tell it.
        let _ = io::stderr()
            .lock()
            .write_all(format!("{text}\n").as_bytes());
    }

    /// Tells on standard error what was not done as asked.
    pub fn warnings(self, warnings: &[String]) {
        for warning in warnings {
            let word = self.word("warning:", style::YELLOW);
            self.note(&format!("{word} {warning}"));
        }
    }

    /// Tells on standard error what could be done better.
    pub fn hint(self, hint: &str) {
        let word = self.word("hint:", style::CYAN);
        self.note(&format!("{word} {hint}"));
    }

    /// A word on standard error, in a style where there are colours.
    fn word(self, word: &str, style: &str) -> String {
        match self.colour_errors {
            true => format!("\x1b[{style}m{word}\x1b[0m"),
            false => word.to_owned(),
        }
    }

    /// Whether output goes to a terminal that takes more than plain text.
    pub fn is_live(self) -> bool {
        self.width.is_some() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// Tells on standard error what went wrong and what can be done.
    pub fn error(self, error: &CommandError) {
        if error.message.is_empty() {
            return;
        }
        let mut text = String::new();
        text.push_str(&format!(
            "{} {}\n",
            self.word("error:", style::BOLD_RED),
            error.message
        ));
        for hint in &error.hints {
            text.push_str(&format!("{} {hint}\n", self.word("hint:", style::CYAN)));
        }
        // There is no other place to complain to.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Whether the user's environment allows colours (<https://no-color.org>).
fn colour_wanted() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    unset("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn print(bytes: &[u8]) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}
