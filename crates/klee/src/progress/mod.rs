//! How far something has come, on standard error.

mod several;
mod transfer;

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

pub use several::Several;
pub use transfer::Transfer;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// By bars, which are gone at the end.
    Bars,
    /// By a line for each step.
    Lines,
    /// Not at all.
    Nothing,
}

impl Shown {
    /// Bars on a terminal, unless all shall be `quiet`.
    pub fn bars(quiet: bool) -> Self {
        match !quiet && is_live() {
            true => Self::Bars,
            false => Self::Nothing,
        }
    }

    /// Bars on a terminal and lines elsewhere, unless all shall be `quiet`.
    pub fn bars_or_lines(quiet: bool) -> Self {
        match (quiet, is_live()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Bars,
            (false, false) => Self::Lines,
        }
    }
}

/// Whether standard error is a terminal whose lines can be written again.
fn is_live() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Gives a bar another look. The templates are constants: a bad one would only leave the former look.
fn look(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}
