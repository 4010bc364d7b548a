//! The structure of a word: quotes, escapes and references to variables.
//!
//! Rules: POSIX shell 2.2 (quoting) and 2.6.2 (parameter expansion), in the variant of the
//! Dockerfile reference ("environment replacement"). `$(…)` and backquotes are ordinary text.

use std::ops::Range;

/// Expansions within expansions; nobody writes that many, and the parser's stack is finite.
const MAX_DEPTH: usize = 32;

/// Why a word has no structure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct SyntaxError {
    /// The byte of the word at which the unfinished construct begins.
    pub offset: usize,
    /// What is wrong.
    pub kind: SyntaxErrorKind,
}

/// What is wrong with a word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxErrorKind {
    /// `'` without another.
    #[error("unterminated single quote")]
    SingleQuote,
    /// `"` without another.
    #[error("unterminated double quote")]
    DoubleQuote,
    /// `${` without `}`.
    #[error("unterminated '${{'")]
    Brace,
    /// `${}` and the like.
    #[error("bad substitution: no variable's name follows '${{'")]
    Name,
    /// `${V!x}` and the like.
    #[error("bad substitution: '{0}' is none of the modifiers :- :+ :? - + ? # % /")]
    Modifier(String),
    /// More than 32 levels.
    #[error("substitutions are nested too deeply")]
    Depth,
}

/// What quotes mean in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quotes {
    /// They quote and are removed.
    Removed,
    /// They are ordinary characters, as in a heredoc (POSIX shell 2.7.4).
    Kept,
}

/// A part of a word.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Text { text: String, quoted: bool },
    Variable(Variable),
}

/// A reference to a variable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) modifier: Option<Modifier>,
    pub(crate) quoted: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Modifier {
    /// `:-`, `:+`, `:?` and the same without the colon, which makes the empty value count as unset.
    Condition {
        kind: Condition,
        empty_is_unset: bool,
        word: Vec<Piece>,
    },
    /// `#`, `##`, `%`, `%%`.
    Remove {
        suffix: bool,
        longest: bool,
        pattern: Vec<Piece>,
    },
    /// `/` and `//`.
    Replace {
        all: bool,
        pattern: Vec<Piece>,
        replacement: Vec<Piece>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Default,
    Alternative,
    Required,
}

/// Parses a whole text.
pub(crate) fn parse(text: &str, escape: char, quotes: Quotes) -> Result<Vec<Piece>, SyntaxError> {
    Parser::new(text, escape, quotes).pieces("")
}

/// Parses the reference that begins with the `$` at `start`. `None` if it is none.
pub(crate) fn variable_at(
    text: &str,
    start: usize,
    escape: char,
) -> Option<(Variable, Range<usize>)> {
    let mut parser = Parser::new(text, escape, Quotes::Kept);
    parser.at = start;
    match parser.dollar(true) {
        Ok(Piece::Variable(variable)) => Some((variable, start..parser.at)),
        _ => None,
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    escape: char,
    quotes: Quotes,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, escape: char, quotes: Quotes) -> Self {
        Self {
            text,
            at: 0,
            escape,
            quotes,
            depth: 0,
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, expected: char) -> bool {
        let there = self.peek() == Some(expected);
        if there {
            self.at += expected.len_utf8();
        }
        there
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    /// Everything before one of the characters of `stop`, which isn't consumed, or the end.
    fn pieces(&mut self, stop: &str) -> Result<Vec<Piece>, SyntaxError> {
        let mut pieces = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                c if stop.contains(c) => break,
                '\'' if self.quotes == Quotes::Removed => self.single_quoted(&mut pieces)?,
                '"' if self.quotes == Quotes::Removed => self.double_quoted(&mut pieces)?,
                '$' => pieces.push(self.dollar(false)?),
                c if c == self.escape => self.escaped(&mut pieces),
                c => {
                    self.next();
                    push(&mut pieces, c, false);
                }
            }
        }
        Ok(pieces)
    }

    fn single_quoted(&mut self, pieces: &mut Vec<Piece>) -> Result<(), SyntaxError> {
        let offset = self.at;
        self.next();
        let text = self.take_while(|c| c != '\'');
        pieces.push(Piece::Text {
            text: text.to_owned(),
            quoted: true,
        });
        match self.eat('\'') {
            true => Ok(()),
            false => Err(SyntaxError {
                offset,
                kind: SyntaxErrorKind::SingleQuote,
            }),
        }
    }

    fn double_quoted(&mut self, pieces: &mut Vec<Piece>) -> Result<(), SyntaxError> {
        let offset = self.at;
        self.next();
        // Even an empty quoted text is a word.
        pieces.push(Piece::Text {
            text: String::new(),
            quoted: true,
        });
        loop {
            match self.peek() {
                None => {
                    return Err(SyntaxError {
                        offset,
                        kind: SyntaxErrorKind::DoubleQuote,
                    });
                }
                Some('"') => {
                    self.next();
                    return Ok(());
                }
                Some('$') => pieces.push(self.dollar(true)?),
                Some(c) if c == self.escape => {
                    self.next();
                    match self.peek() {
                        Some(next) if next == '"' || next == '$' || next == c => {
                            self.next();
                            push(pieces, next, true);
                        }
                        _ => push(pieces, c, true),
                    }
                }
                Some(c) => {
                    self.next();
                    push(pieces, c, true);
                }
            }
        }
    }

    fn escaped(&mut self, pieces: &mut Vec<Piece>) {
        self.next();
        let escape = self.escape;
        let special = |c: char| match self.quotes {
            Quotes::Removed => true,
            Quotes::Kept => {
                matches!(c, '$' | '`' | '\n') || c == escape || (self.depth > 0 && c == '}')
            }
        };
        match self.peek() {
            Some(c) if special(c) => {
                self.next();
                // A line continued within a heredoc.
                if !(c == '\n' && self.quotes == Quotes::Kept) {
                    push(pieces, c, true);
                }
            }
            _ => push(pieces, escape, false),
        }
    }

    fn dollar(&mut self, quoted: bool) -> Result<Piece, SyntaxError> {
        let offset = self.at;
        self.next();
        if self.eat('{') {
            if self.depth >= MAX_DEPTH {
                return Err(SyntaxError {
                    offset,
                    kind: SyntaxErrorKind::Depth,
                });
            }
            self.depth += 1;
            let variable = self.braced(offset, quoted);
            self.depth -= 1;
            return variable.map(Piece::Variable);
        }
        Ok(match self.name() {
            "" => Piece::Text {
                text: "$".to_owned(),
                quoted,
            },
            name => Piece::Variable(Variable {
                name: name.to_owned(),
                modifier: None,
                quoted,
            }),
        })
    }

    /// A name, a number, or one of the shell's special parameters (which are never set here).
    fn name(&mut self) -> &'a str {
        match self.peek() {
            Some(c) if c.is_ascii_digit() => self.take_while(|c| c.is_ascii_digit()),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_')
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                let name = self.rest().get(..1).unwrap_or_default();
                self.at += 1;
                name
            }
            _ => "",
        }
    }

    fn braced(&mut self, offset: usize, quoted: bool) -> Result<Variable, SyntaxError> {
        let error = |kind| SyntaxError { offset, kind };
        let name = match self.name() {
            "" if self.peek().is_none() => return Err(error(SyntaxErrorKind::Brace)),
            "" => return Err(error(SyntaxErrorKind::Name)),
            name => name.to_owned(),
        };
        let modifier = match self.peek() {
            None => return Err(error(SyntaxErrorKind::Brace)),
            Some('}') => None,
            Some(_) => Some(self.modifier(offset)?),
        };
        if !self.eat('}') {
            return Err(error(SyntaxErrorKind::Brace));
        }
        Ok(Variable {
            name,
            modifier,
            quoted,
        })
    }

    fn modifier(&mut self, offset: usize) -> Result<Modifier, SyntaxError> {
        let begin = self.at;
        let empty_is_unset = self.eat(':');
        let kind = match self.next() {
            Some('-') => Condition::Default,
            Some('+') => Condition::Alternative,
            Some('?') => Condition::Required,
            Some(c @ ('#' | '%')) if !empty_is_unset => {
                return Ok(Modifier::Remove {
                    suffix: c == '%',
                    longest: self.eat(c),
                    pattern: self.pieces("}")?,
                });
            }
            Some('/') if !empty_is_unset => return self.replacement(),
            None => {
                return Err(SyntaxError {
                    offset,
                    kind: SyntaxErrorKind::Brace,
                });
            }
            Some(_) => {
                let modifier = self.text.get(begin..self.at).unwrap_or_default();
                return Err(SyntaxError {
                    offset: begin,
                    kind: SyntaxErrorKind::Modifier(modifier.to_owned()),
                });
            }
        };
        Ok(Modifier::Condition {
            kind,
            empty_is_unset,
            word: self.pieces("}")?,
        })
    }

    fn replacement(&mut self) -> Result<Modifier, SyntaxError> {
        let all = self.eat('/');
        let pattern = self.pieces("/}")?;
        let replacement = match self.eat('/') {
            true => self.pieces("}")?,
            false => Vec::new(),
        };
        Ok(Modifier::Replace {
            all,
            pattern,
            replacement,
        })
    }
}

/// Adds a character to the last piece if it is text of the same kind.
fn push(pieces: &mut Vec<Piece>, c: char, as_quoted: bool) {
    match pieces.last_mut() {
        Some(Piece::Text { text, quoted }) if *quoted == as_quoted => text.push(c),
        _ => pieces.push(Piece::Text {
            text: c.to_string(),
            quoted: as_quoted,
        }),
    }
}
