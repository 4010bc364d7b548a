//! A program with its arguments and limits.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::time::Duration;

/// How long a program may take when nothing else is said.
const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(60);

/// How much a program may write to its standard output when nothing else is said: 64 MiB.
const DEFAULT_OUTPUT_LIMIT: usize = 64 << 20;

/// A program to run. Prints itself as a person would type it, for messages only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    time_limit: Duration,
    output_limit: usize,
}

impl Argv {
    /// A program without arguments. A name without a slash is looked for in the daemon's `PATH` and
    /// in the usual system directories.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            time_limit: DEFAULT_TIME_LIMIT,
            output_limit: DEFAULT_OUTPUT_LIMIT,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the program's environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Gives the program these bytes as its standard input, which is empty otherwise.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// How long the program may take; 60 s otherwise. Then it and its children are killed.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How many bytes the program may write to its standard output; 64 MiB otherwise. Then it is
    /// killed.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// The program.
    pub fn program(&self) -> &OsStr {
        &self.program
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[OsString] {
        &self.args
    }

    /// What its environment has beside what every program gets.
    pub fn environment(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    /// What it reads, if anything.
    pub fn input(&self) -> Option<&[u8]> {
        self.stdin.as_deref()
    }

    /// See [`Argv::time_limit`].
    pub fn limit(&self) -> Duration {
        self.time_limit
    }

    pub(crate) fn max_output(&self) -> usize {
        self.output_limit
    }
}

impl fmt::Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        word(f, &self.program)?;
        for arg in &self.args {
            f.write_str(" ")?;
            word(f, arg)?;
        }
        Ok(())
    }
}

/// A word as it is, or quoted where its borders would be lost.
fn word(f: &mut fmt::Formatter<'_>, word: &OsStr) -> fmt::Result {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-=@:,+%#".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        f.write_str(&text)
    } else {
        write!(f, "{text:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_borders_of_words() {
        let argv = Argv::new("zfs").args(["create", "p/a b", "", "x\n", "p/k@image"]);
        assert_eq!(argv.to_string(), r#"zfs create "p/a b" "" "x\n" p/k@image"#);
    }
}
