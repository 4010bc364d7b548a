//! Failures before the process runs, as the person who asked for it is to read them.

use std::error::Error;

use kleene_doors::host::StartFailure;

/// The outcome of a step of starting.
pub(crate) type Started<T> = Result<T, StartFailure>;

/// Exit code of a failed set-up.
pub(crate) const SETUP: i32 = 125;
/// Exit code of a program that is there but can't be executed.
const NOT_EXECUTABLE: i32 = 126;
/// Exit code of a program that isn't there.
const NOT_FOUND: i32 = 127;

/// The set-up failed.
pub(crate) fn setup(message: impl Into<String>) -> StartFailure {
    StartFailure {
        code: SETUP,
        message: message.into(),
    }
}

/// The program can't be executed.
pub(crate) fn not_executable(message: impl Into<String>) -> StartFailure {
    StartFailure {
        code: NOT_EXECUTABLE,
        message: message.into(),
    }
}

/// The program isn't there.
pub(crate) fn not_found(message: impl Into<String>) -> StartFailure {
    StartFailure {
        code: NOT_FOUND,
        message: message.into(),
    }
}

/// An error with everything that caused it, in one line: the chain doesn't cross process borders.
pub(crate) fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Names the step that failed.
pub(crate) trait OrFail<T> {
    /// A failed set-up, in which `what` was being done.
    fn or_fail(self, what: impl FnOnce() -> String) -> Started<T>;
}

impl<T, E: Error> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl FnOnce() -> String) -> Started<T> {
        self.map_err(|error| setup(format!("{} failed: {}", what(), whole(&error))))
    }
}
