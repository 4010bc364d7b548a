//! Failed commands and exit codes.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use kleene_client::ClientError;

/// What `klee` returns to the shell. The help of `klee` repeats this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything was done.
    Success,
    /// 1: something could not be done; of several objects on a command line, at least one.
    Failure,
    /// 2: the command line is wrong.
    Usage,
    /// 125: `run`, `exec` or an attached `start` failed by itself, not the process in the container.
    OwnFailure,
    /// 141: whoever read the output went away (128 + SIGPIPE, as for any other program).
    BrokenPipe,
    /// Any: the exit code of the process in the container; 126 when it is not executable, 127 when
    /// it was not found, 128 + N when signal N ended it.
    Process(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::OwnFailure => 125,
            Self::BrokenPipe => 141,
            Self::Process(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that failed: what to say, what to try, and the exit code.
#[derive(Debug)]
pub struct CommandError {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong, with its causes; empty: nothing is to be said.
    pub message: String,
    /// What to do about it.
    pub hints: Vec<String>,
}

/// What a command comes to.
pub type CommandResult<T = Exit> = Result<T, CommandError>;

impl CommandError {
    /// Something could not be done.
    pub fn failure(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failure,
            message: message.into(),
            hints: Vec::new(),
        }
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Usage,
            ..Self::failure(message)
        }
    }

    /// A failure with another exit code that needs no words.
    pub fn silent(exit: Exit) -> Self {
        Self {
            exit,
            message: String::new(),
            hints: Vec::new(),
        }
    }

    /// The same with an advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with what was being done before it.
    #[must_use]
    pub fn within(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// The same as a failure of `run`, `exec` or `start` itself, which must not be mistaken for one
    /// of the process in the container.
    #[must_use]
    pub fn own(mut self) -> Self {
        if matches!(self.exit, Exit::Failure | Exit::Usage) {
            self.exit = Exit::OwnFailure;
        }
        self
    }

    /// The daemon has ended while klee was following something; `goes_on` says what doesn't end
    /// with it.
    pub fn daemon_stopped(goes_on: &str) -> Self {
        Self::failure(format!(
            "the daemon has stopped or was restarted; {goes_on}: run the command again"
        ))
    }

    /// A failed request that was about one object, which the message names if the daemon doesn't.
    pub fn about(noun: &str, name: &str, error: ClientError) -> Self {
        let mut error = Self::from(error);
        if !names(&error.message, name) {
            error.message = format!("{noun} '{name}': {}", error.message);
        }
        error
    }
}

/// Whether a message names an object: its name stands there as a word of its own.
pub fn names(message: &str, name: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || "_.-".contains(c);
    message.match_indices(name).any(|(index, _)| {
        let (before, rest) = message.split_at(index);
        let after = rest.strip_prefix(name).unwrap_or_default();
        !before.ends_with(part_of_word) && !after.starts_with(part_of_word)
    })
}

/// An error and its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a text can't fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        let failure = Self::failure(chain(&error));
        match &error {
            ClientError::NotReachable { address, source } => match source.kind() {
                io::ErrorKind::PermissionDenied => failure.hint(
                    "run klee as root, or join the group that the socket belongs to \
                     (`socket_group` in the daemon's configuration)",
                ),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    let start = "the daemon doesn't seem to run: start it as root with `kleened`, \
                                 or as a service with `systemctl start kleened` (FreeBSD: \
                                 `service kleened start`)";
                    let elsewhere = "if it listens elsewhere, say where with --host or KLEE_HOST";
                    failure.hint(start).hint(elsewhere)
                }
                _ if address.is_tls() => failure.hint(
                    "check --tlsverify, --tlscacert, --tlscert and --tlskey, and whether the \
                     daemon speaks TLS there",
                ),
                _ => failure,
            },
            ClientError::Lost { .. } => failure.hint("its log tells more"),
            _ => failure,
        }
    }
}

impl From<io::Error> for CommandError {
    /// Of failed output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::silent(Exit::BrokenPipe)
        } else {
            Self::failure(format!("can't write the output: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_within_a_word_is_no_name() {
        assert!(names("volume 'net' is used", "net"));
        assert!(names("no such image net:1.0", "net"));
        assert!(!names("network not found", "net"));
        assert!(!names("my-net is used", "net"));
    }
}
