//! Errors of the parser: one sentence, and on request the place in the file.

use std::fmt;

use crate::expand::SyntaxError;
use crate::mount::MountError;
use crate::reference::ReferenceError;
use crate::source::Position;

/// Why a text isn't a Dockerfile. `Display` is one sentence; [`ParseError::in_file`] adds the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Where it is wrong; errors about the whole file have no place.
    pub place: Option<Place>,
}

/// A place in the file, with what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line and column.
    pub position: Position,
    /// The line of the file.
    pub line: String,
}

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The text is longer than [`crate::MAX_SIZE`].
    #[error("the Dockerfile has {0} bytes: at most {max} are read", max = crate::MAX_SIZE)]
    TooLarge(usize),
    /// Neither an image nor a process can be given such a character.
    #[error("the Dockerfile holds a NUL character: is it a text file?")]
    Nul,
    /// There is no instruction.
    #[error("the Dockerfile is empty: it needs at least a FROM instruction")]
    Empty,
    /// There are only ARG instructions.
    #[error("the Dockerfile has no FROM instruction")]
    NoFrom,
    /// Not an instruction's keyword.
    #[error("error in '{line}': invalid instruction")]
    InvalidInstruction {
        /// The logical line.
        line: String,
        /// What the author may have meant.
        suggestion: Option<&'static str>,
    },
    /// Only ARG may stand there.
    #[error("'{line}' not permitted before a FROM instruction")]
    BeforeFrom {
        /// The logical line.
        line: String,
    },
    /// The instruction's arguments are wrong.
    #[error("error in '{line}': {problem}")]
    Malformed {
        /// The logical line.
        line: String,
        /// What is wrong with it.
        problem: Box<Problem>,
    },
}

/// What is wrong with an instruction's arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Something is missing.
    #[error("{instruction} needs {what}")]
    Missing {
        /// The instruction.
        instruction: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// There is more than the instruction takes.
    #[error("unexpected '{0}'")]
    Unexpected(String),
    /// A pair without a value.
    #[error("'{0}' has no value: the form is NAME=VALUE")]
    NotAPair(String),
    /// A name that no variable can have.
    #[error("'{0}' is not a variable's name: it holds letters, digits, '_', '-' and '.' only")]
    VariableName(String),
    /// The instruction has no such flag.
    #[error("{instruction} has no flag '--{flag}'{}", did_you_mean(suggestion.as_deref(), "--"))]
    UnknownFlag {
        /// The instruction.
        instruction: &'static str,
        /// The flag without its dashes.
        flag: String,
        /// The flag that the author may have meant.
        suggestion: Option<String>,
    },
    /// A flag stands twice.
    #[error("flag '--{0}' is given twice")]
    FlagTwice(String),
    /// A flag stands without a value.
    #[error("flag '--{flag}' needs a value: {expected}")]
    FlagWithoutValue {
        /// The flag without its dashes.
        flag: String,
        /// What is expected.
        expected: &'static str,
    },
    /// A flag's value is none of those it may have.
    #[error("flag '--{flag}' can't be '{value}': {expected}")]
    FlagValue {
        /// The flag without its dashes.
        flag: String,
        /// The value.
        value: String,
        /// What is expected.
        expected: &'static str,
    },
    /// Docker has it, Kleene has not.
    #[error("{what} is not supported: {why}")]
    Refused {
        /// An instruction or a flag.
        what: &'static str,
        /// The reason or the remedy.
        why: &'static str,
    },
    /// The file ends within a heredoc.
    #[error("unterminated heredoc: no line holds '{0}' alone")]
    UnterminatedHeredoc(String),
    /// The file ends within a continued flag, quote, or the like.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// A mount of RUN.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// An image's reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A name that no stage can have.
    #[error(
        "'{0}' is not a stage's name: it begins with a letter and holds letters, digits, '_', '-' and '.' only, and isn't 'scratch'"
    )]
    StageName(String),
    /// Two stages have one name.
    #[error("a stage named '{name}' begins in line {line} already")]
    DuplicateStage {
        /// The name.
        name: String,
        /// Where the first one begins.
        line: usize,
    },
    /// SHELL without its list.
    #[error("SHELL needs a list in JSON form, as in SHELL [\"/bin/sh\", \"-c\"]")]
    ShellForm,
    /// A directive at the top of the file.
    #[error("invalid parser directive: {0}")]
    Directive(&'static str),
}

/// `; did you mean 'x'?`, if there is something to suggest.
pub(crate) fn did_you_mean(suggestion: Option<&str>, prefix: &str) -> String {
    match suggestion {
        Some(suggestion) => format!("; did you mean '{prefix}{suggestion}'?"),
        None => String::new(),
    }
}

/// The candidate that is most like `word`, if any is like it.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

impl ParseError {
    /// The error with the place in the file named `name`: the sentence, the position, the line and a
    /// caret under the column.
    pub fn in_file<'a>(&'a self, name: &'a str) -> impl fmt::Display + 'a {
        InFile { error: self, name }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for ParseError {}

struct InFile<'a> {
    error: &'a ParseError,
    name: &'a str,
}

/// Columns of a long line that are shown before and behind the caret.
const BEFORE: usize = 100;
const BEHIND: usize = 60;

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = self.error;
        write!(f, "{error}")?;
        let Some(place) = &error.place else {
            return write!(f, "\n --> {}", self.name);
        };
        let Position { line, column } = place.position;
        let skipped = column.saturating_sub(BEFORE);
        let shown: String = place
            .line
            .chars()
            .skip(skipped)
            .take(BEFORE + BEHIND)
            .map(|c| match c {
                '\t' => ' ',
                // Nothing from the file may steer the terminal.
                c if c.is_control() => char::REPLACEMENT_CHARACTER,
                c => c,
            })
            .collect();
        let number = line.to_string();
        let gap = " ".repeat(number.len());
        let caret = " ".repeat(column.saturating_sub(skipped + 1));
        write!(f, "\n{gap}--> {}:{line}:{column}", self.name)?;
        write!(f, "\n{gap} |\n{number} | {shown}\n{gap} | {caret}^")?;
        if let ParseErrorKind::InvalidInstruction {
            suggestion: Some(suggestion),
            ..
        } = &error.kind
        {
            write!(f, "\n{gap} = did you mean {suggestion}?")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(column: usize, line: &str) -> ParseError {
        ParseError {
            kind: ParseErrorKind::InvalidInstruction {
                line: line.trim().to_owned(),
                suggestion: Some("RUN"),
            },
            place: Some(Place {
                position: Position { line: 12, column },
                line: line.to_owned(),
            }),
        }
    }

    #[test]
    fn the_caret_is_under_the_column() {
        let error = error(2, "\trun x\x1b");
        assert_eq!(
            error.in_file("Dockerfile").to_string(),
            "error in 'run x\x1b': invalid instruction\n  \
             --> Dockerfile:12:2\n   \
             |\n12 |  run x\u{fffd}\n   |  ^\n   = did you mean RUN?"
        );
    }

    #[test]
    fn long_lines_are_cut() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = error(501, &line).in_file("f").to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[4].find('^').unwrap();
        assert_eq!(lines[3].as_bytes()[caret], b'X');
        assert!(lines[3].len() < 200);
    }

    #[test]
    fn suggestions_are_near() {
        assert_eq!(closest("form", ["from", "chown"]), Some("from"));
        assert_eq!(closest("nothing", ["from", "chown"]), None);
    }
}
