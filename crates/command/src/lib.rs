//! The one place that starts programs on the host.
//!
//! Programs get argument vectors; no shell is ever involved, and nothing that a user typed becomes
//! part of a command line. Every program has a time limit, bounded output, an empty standard input
//! (or the bytes it is given), and an environment of nothing but `PATH`, `LC_ALL=C` and `TZ=UTC` (and
//! what it is given), so that its messages can be understood whatever the daemon's own environment
//! is.
//!
//! Code that needs programs takes a [`Runner`]: [`System`] starts them, [`Scripted`] is its twin for
//! tests.

mod argv;
mod error;
mod process;
mod scripted;
pub mod spawn;
mod system;

use std::ops::ControlFlow;

pub use argv::Argv;
pub use error::{CommandError, Ending};
pub use scripted::{Answer, Scripted};
pub use system::System;

/// What a program that succeeded has written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error: warnings, mostly. Cut after 64 KiB.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text; bytes that aren't UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Is told each line that a running program writes, and `None` now and then (several times a second)
/// while it writes nothing. `Break` kills the program and its children.
pub type Told<'a> = &'a mut dyn FnMut(Option<&str>) -> ControlFlow<()>;

/// Starts programs and waits for them.
pub trait Runner: Send + Sync {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it can't be started, exceeds its limits, or ends with anything but status 0.
    fn run(&self, command: &Argv) -> Result<Output, CommandError>;

    /// As [`Runner::run`], for programs that take long: `told` hears what they write to either output
    /// while they run, and can end them.
    ///
    /// # Errors
    /// As for [`Runner::run`]; [`CommandError::Cancelled`] when `told` says so.
    fn follow(&self, command: &Argv, told: Told<'_>) -> Result<Output, CommandError>;

    /// Runs two programs at once, the first's standard output being the second's standard input.
    /// The answer is the second's output; the longer of the two time limits counts.
    ///
    /// # Errors
    /// As for [`Runner::run`]: the error of the program that failed first on its own account.
    fn pipe(&self, from: &Argv, to: &Argv) -> Result<Output, CommandError>;
}

impl<R: Runner + ?Sized> Runner for std::sync::Arc<R> {
    fn run(&self, command: &Argv) -> Result<Output, CommandError> {
        (**self).run(command)
    }

    fn follow(&self, command: &Argv, told: Told<'_>) -> Result<Output, CommandError> {
        (**self).follow(command, told)
    }

    fn pipe(&self, from: &Argv, to: &Argv) -> Result<Output, CommandError> {
        (**self).pipe(from, to)
    }
}
