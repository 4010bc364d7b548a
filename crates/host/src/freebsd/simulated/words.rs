//! What a tool answers.

use kleene_command::{Argv, CommandError, Ending, Output};

/// An exit status with what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `None`: there is no such program.
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Reply {
    /// Success with this output.
    pub fn ok(stdout: impl Into<String>) -> Self {
        Self {
            status: Some(0),
            stdout: stdout.into(),
            stderr: String::new(),
        }
    }

    /// Failure with this complaint.
    pub fn fail(status: i32, stderr: impl Into<String>) -> Self {
        Self {
            status: Some(status),
            stdout: String::new(),
            stderr: stderr.into(),
        }
    }

    /// How a tool answers what this model of it doesn't know.
    pub fn usage(tool: &str) -> Self {
        Self::fail(64, format!("usage: {tool} ..."))
    }

    /// There is no such program.
    pub fn missing() -> Self {
        Self {
            status: None,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// The same as whoever has run the program gets it.
    pub fn result(self, command: &Argv) -> Result<Output, CommandError> {
        match self.status {
            Some(0) => Ok(Output {
                stdout: self.stdout.into_bytes(),
                stderr: self.stderr.into_bytes(),
            }),
            Some(status) => Err(CommandError::Failed {
                command: command.to_string(),
                ending: Ending::Status(status),
                stderr: self.stderr.trim().to_owned(),
            }),
            None => Err(CommandError::NotFound {
                program: command.program().to_string_lossy().into_owned(),
                remedy: "install it, or add its directory to the daemon's PATH".to_owned(),
            }),
        }
    }
}
