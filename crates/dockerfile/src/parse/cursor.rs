//! Where the parser is in an instruction's line.

use std::collections::VecDeque;

use crate::ast::Command;
use crate::error::Problem;
use crate::heredoc::{Heredoc, Marker};
use crate::source::is_space;
use crate::word::Word;

/// A problem and the offset in the logical line it is at.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

/// A word of the line as written.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawWord<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> RawWord<'a> {
    /// The part from a byte on.
    pub(super) fn from(self, offset: usize) -> Self {
        Self {
            text: self.text.get(offset..).unwrap_or_default(),
            at: self.at + offset,
        }
    }

    /// The parts before and behind the first `separator`.
    pub(super) fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let at = self.text.find(separator)?;
        let before = self.text.get(..at)?;
        let behind = self.from(at + separator.len_utf8());
        Some((
            Self {
                text: before,
                at: self.at,
            },
            behind,
        ))
    }

    pub(super) fn fault(self, problem: Problem) -> Fault {
        Fault {
            at: self.at,
            problem,
        }
    }
}

/// An instruction's line and how far it has been read.
pub(super) struct Context<'a> {
    pub(super) instruction: &'static str,
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) escape: char,
    /// The heredocs of the line that haven't been taken.
    pub(super) heredocs: VecDeque<(Marker, Heredoc)>,
}

impl<'a> Context<'a> {
    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(is_space).len();
    }

    /// Everything that is left, if anything is.
    pub(super) fn all(&mut self, what: &'static str) -> Result<RawWord<'a>, Fault> {
        self.skip_space();
        let word = RawWord {
            text: self.rest(),
            at: self.at,
        };
        self.at = self.text.len();
        match word.text.is_empty() {
            true => Err(self.missing(what)),
            false => Ok(word),
        }
    }

    /// The error that something is missing at the keyword's line end.
    pub(super) fn missing(&self, what: &'static str) -> Fault {
        Fault {
            at: 0,
            problem: Problem::Missing {
                instruction: self.instruction,
                what,
            },
        }
    }

    /// The next word as written. White space within quotes, `${…}` and behind an escape character
    /// belongs to it.
    pub(super) fn next_word(&mut self) -> Option<RawWord<'a>> {
        self.skip_space();
        let rest = self.rest();
        let length = word_length(rest, self.escape);
        let word = RawWord {
            text: rest.get(..length)?,
            at: self.at,
        };
        self.at += length;
        (length > 0).then_some(word)
    }

    /// All words that are left.
    pub(super) fn words(&mut self) -> Vec<RawWord<'a>> {
        std::iter::from_fn(|| self.next_word()).collect()
    }

    /// A word for expansion.
    pub(super) fn word(&self, raw: RawWord<'_>) -> Result<Word, Fault> {
        Word::new(raw.text, self.escape).map_err(|error| Fault {
            at: raw.at + error.offset,
            problem: error.into(),
        })
    }

    /// A string of a JSON list for expansion. Offsets in it aren't offsets in the line.
    pub(super) fn json_word(&self, text: &str) -> Result<Word, Fault> {
        Word::new(text, self.escape).map_err(|error| Fault {
            at: self.at,
            problem: error.into(),
        })
    }

    /// The rest, if it is a list of strings in JSON. Anything else is the shell form, as in Docker.
    pub(super) fn json(&self) -> Option<Vec<String>> {
        let rest = self.rest();
        rest.starts_with('[')
            .then(|| serde_json::from_str(rest).ok())
            .flatten()
    }

    /// The rest as a command.
    pub(super) fn command(&mut self, what: &'static str) -> Result<Command, Fault> {
        self.skip_space();
        if let Some(list) = self.json() {
            self.at = self.text.len();
            return Ok(Command::Exec(list));
        }
        Ok(Command::Shell(self.all(what)?.text.to_owned()))
    }

    /// The rest as a command with at least a program.
    pub(super) fn nonempty_command(&mut self, what: &'static str) -> Result<Command, Fault> {
        match self.command(what)? {
            Command::Exec(list) if list.is_empty() => Err(self.missing(what)),
            command => Ok(command),
        }
    }
}

fn word_length(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut braces = 0_usize;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), c) if c == escape => {
                chars.next();
            }
            (None, '$') if next == Some('{') => braces += 1,
            (None, '}') => braces = braces.saturating_sub(1),
            (None, c) if is_space(c) && braces == 0 => return at,
            _ => {}
        }
    }
    text.len()
}
