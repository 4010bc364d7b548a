//! Whose end is a container's end.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whose end is the container's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// That of the container's command, which is process 1 itself.
    #[default]
    None,
    /// That of the container's command. Process 1 is a minimal one, which passes signals on to the
    /// command and reaps orphans.
    Main,
    /// That of the last process, as in a jail: process 1 as in `Main` waits for all. The exit code is
    /// the command's.
    All,
}

/// Why a text is not an [`Init`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid init '{0}': use one of none, main, all")]
pub struct InitError(pub String);

impl Init {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Main => "main",
            Self::All => "all",
        }
    }

    /// What a container's is when nobody says. On FreeBSD a jail lives until its last process has ended.
    /// Elsewhere that goes for a command that is the boot script: it starts services and returns.
    pub fn of_command(cmd: &[String]) -> Self {
        const SCRIPT: &str = "/etc/rc";
        if cfg!(target_os = "freebsd") {
            return Self::All;
        }
        let words: Vec<&str> = cmd.iter().map(String::as_str).collect();
        match words.as_slice() {
            [SCRIPT] | ["sh" | "/bin/sh", SCRIPT] => Self::All,
            _ => Self::None,
        }
    }
}

impl FromStr for Init {
    type Err = InitError;

    fn from_str(text: &str) -> Result<Self, InitError> {
        let known = [Self::None, Self::Main, Self::All];
        let found = known.into_iter().find(|init| init.as_str() == text);
        found.ok_or_else(|| InitError(text.to_owned()))
    }
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
