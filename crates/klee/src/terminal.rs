//! The terminal that klee runs on.

use std::io;

use kleene_api::WindowSize;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};

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

/// A terminal that doesn't show what is typed. Dropping this restores the terminal, whatever happened.
pub struct Unseen {
    before: Termios,
}

impl Unseen {
    /// Stops the terminal on standard input from showing what is typed, but for the line's end.
    ///
    /// # Errors
    /// When standard input is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        unseen.local_modes.insert(LocalModes::ECHONL);
        // What was typed before isn't meant for this.
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &unseen)?;
        Ok(Self { before })
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}
