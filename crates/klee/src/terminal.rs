//! The terminal that klee runs on.

use std::io;

use kleene_api::WindowSize;
use rustix::termios::{self, OptionalActions, Termios};

/// Size of the terminal that output, or else input, goes to.
pub fn size() -> Option<WindowSize> {
    let size = termios::tcgetwinsize(io::stdout())
        .or_else(|_| termios::tcgetwinsize(io::stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// A terminal in raw mode: every key goes to the process in the container at once, also those that
/// the terminal would make signals of. Dropping this restores the terminal, whatever happened.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Puts the terminal on standard input into raw mode.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Waits for what was written, so that nothing of it is shown in the other mode. A terminal
        // that is gone needs no restoring.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}
