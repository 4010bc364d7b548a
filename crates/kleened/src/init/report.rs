//! The report: a line for each thing.

use std::fmt::Display;
use std::io::{self, Write};

use super::InitError;

/// Writes the report, and keeps hands off the machine in a dry run.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    dry_run: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write, dry_run: bool) -> Self {
        Self { out, dry_run }
    }

    /// Whether nothing may be changed.
    pub(super) fn is_dry(&self) -> bool {
        self.dry_run
    }

    /// It is there already.
    pub(super) fn there(&mut self, what: impl Display) -> io::Result<()> {
        self.line("there", what)
    }

    /// The user should know.
    pub(super) fn note(&mut self, what: impl Display) -> io::Result<()> {
        self.line("note", what)
    }

    /// Something that could be better.
    pub(super) fn warning(&mut self, what: impl Display) -> io::Result<()> {
        self.line("warning", what)
    }

    /// It doesn't apply here.
    pub(super) fn skipped(&mut self, what: impl Display) -> io::Result<()> {
        self.line("skipped", what)
    }

    /// Changes something, unless this is a dry run. `work` tells whether there was anything to do.
    pub(super) fn change(
        &mut self,
        what: impl Display,
        work: impl FnOnce() -> Result<bool, InitError>,
    ) -> Result<(), InitError> {
        let word = if self.dry_run {
            "would"
        } else if work()? {
            "done"
        } else {
            "there"
        };
        Ok(self.line(word, what)?)
    }

    fn line(&mut self, word: &str, what: impl Display) -> io::Result<()> {
        writeln!(self.out, "{word:<8} {what}")
    }
}
