//! A runner for tests that runs nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Argv, CommandError, Ending, Output, Runner, Told};

/// What a scripted command answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Answer {
    /// Success with this standard output.
    pub fn ok(stdout: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 0,
            stdout: stdout.into(),
            stderr: String::new(),
        }
    }

    /// Failure with this exit status and standard error.
    pub fn fail(status: i32, stderr: impl Into<String>) -> Self {
        Self {
            status,
            stdout: Vec::new(),
            stderr: stderr.into(),
        }
    }

    fn reply(self, words: &[String]) -> Result<Output, CommandError> {
        if self.status == 0 {
            Ok(Output {
                stdout: self.stdout,
                stderr: self.stderr.into_bytes(),
            })
        } else {
            Err(CommandError::Failed {
                command: words.join(" "),
                ending: Ending::Status(self.status),
                stderr: self.stderr.trim().to_owned(),
            })
        }
    }
}

#[derive(Debug, Default)]
struct Script {
    /// Commands as words; a pipe's two commands are joined by a word `|`.
    lines: VecDeque<(Vec<String>, Answer)>,
    complaints: Vec<String>,
}

/// Answers the commands of a script, in their order, and runs nothing.
#[derive(Debug, Default)]
pub struct Scripted {
    script: Mutex<Script>,
}

impl Scripted {
    /// An empty script.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command (program and arguments) and its answer. The two commands of a
    /// [`Runner::pipe`] are one, joined by a word `|`.
    #[must_use]
    pub fn expect(self, words: &[&str], answer: Answer) -> Self {
        self.then(words, answer);
        self
    }

    /// Adds a command and its answer to a script in use.
    pub fn then(&self, words: &[&str], answer: Answer) {
        let words = words.iter().map(|&word| word.to_owned()).collect();
        self.lock().lines.push_back((words, answer));
    }

    /// What went wrong: commands that were not expected, and expected ones that never came.
    ///
    /// # Errors
    /// One line for each of them.
    pub fn finish(&self) -> Result<(), String> {
        let script = self.lock();
        let unused = script
            .lines
            .iter()
            .map(|(words, _)| format!("never ran: {}", words.join(" ")));
        let problems: Vec<String> = script.complaints.iter().cloned().chain(unused).collect();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("\n"))
        }
    }

    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, words: &[String]) -> Result<Answer, CommandError> {
        let mut script = self.lock();
        let command = words.join(" ");
        match script.lines.pop_front() {
            Some((expected, answer)) if expected == words => Ok(answer),
            other => {
                let next = other.as_ref().map_or_else(
                    || "nothing".to_owned(),
                    |(next, _)| format!("`{}`", next.join(" ")),
                );
                script
                    .complaints
                    .push(format!("ran: {command}, instead of {next}"));
                if let Some(other) = other {
                    script.lines.push_front(other);
                }
                Err(CommandError::Unscripted { command, next })
            }
        }
    }
}

fn words(command: &Argv) -> Vec<String> {
    std::iter::once(command.program())
        .chain(command.arguments().iter().map(AsRef::as_ref))
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

impl Runner for Scripted {
    fn run(&self, command: &Argv) -> Result<Output, CommandError> {
        self.answer(&words(command))
            .and_then(|answer| answer.reply(&words(command)))
    }

    fn follow(&self, command: &Argv, told: Told<'_>) -> Result<Output, CommandError> {
        let words = words(command);
        let answer = self.answer(&words)?;
        let stdout = String::from_utf8_lossy(&answer.stdout);
        for line in stdout.lines().chain(answer.stderr.lines()) {
            if told(Some(line)).is_break() {
                return Err(CommandError::Cancelled {
                    command: words.join(" "),
                });
            }
        }
        drop(stdout);
        answer.reply(&words)
    }

    fn pipe(&self, from: &Argv, to: &Argv) -> Result<Output, CommandError> {
        let mut line = words(from);
        line.push("|".to_owned());
        line.extend(words(to));
        self.answer(&line).and_then(|answer| answer.reply(&line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_order() {
        let runner = Scripted::new()
            .expect(&["a", "1"], Answer::ok("one\n"))
            .expect(&["a", "|", "b"], Answer::fail(2, "no\n"));
        let one = runner.run(&Argv::new("a").arg("1")).unwrap();
        assert_eq!(one.text(), "one\n");
        let error = runner.pipe(&Argv::new("a"), &Argv::new("b")).unwrap_err();
        assert_eq!(error.stderr(), Some("no"));
        assert_eq!(runner.finish(), Ok(()));
    }

    #[test]
    fn reports_the_unexpected_and_the_unused() {
        let runner = Scripted::new().expect(&["a"], Answer::ok(""));
        assert!(matches!(
            runner.run(&Argv::new("b")),
            Err(CommandError::Unscripted { .. })
        ));
        assert_eq!(
            runner.finish(),
            Err("ran: b, instead of `a`\nnever ran: a".to_owned())
        );
    }
}
