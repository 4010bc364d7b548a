//! The values of words.

use super::glob::{Budget, Chunk, Glob, TooComplex};
use super::syntax::{Condition, Modifier, Piece, Variable};
use super::{ExpandError, MAX_EXPANSION};

/// Bytes of a value that are copied in the time of one step of a pattern.
const BYTES_A_STEP: usize = 64;

/// Gives the values of a text's variables.
pub(super) struct Evaluator<'a> {
    scope: &'a dyn Fn(&str) -> Option<String>,
    budget: Budget,
    /// Bytes that may still be produced.
    left: usize,
}

impl From<TooComplex> for ExpandError {
    fn from(_: TooComplex) -> Self {
        Self::TooComplex
    }
}

impl<'a> Evaluator<'a> {
    pub(super) fn new(scope: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            scope,
            budget: Budget::new(),
            left: MAX_EXPANSION,
        }
    }

    /// The chunks of a text; those that come from within quotes are marked.
    pub(super) fn chunks(&mut self, pieces: &[Piece]) -> Result<Vec<Chunk>, ExpandError> {
        let mut chunks = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text { text, quoted } => self.emit(&mut chunks, text.clone(), *quoted)?,
                Piece::Variable(variable) => self.variable(variable, &mut chunks)?,
            }
        }
        Ok(chunks)
    }

    /// The text without its marks.
    pub(super) fn text(&mut self, pieces: &[Piece]) -> Result<String, ExpandError> {
        let chunks = self.chunks(pieces)?;
        Ok(chunks.into_iter().map(|chunk| chunk.text).collect())
    }

    /// Appends the value of a variable.
    pub(super) fn variable(
        &mut self,
        variable: &Variable,
        chunks: &mut Vec<Chunk>,
    ) -> Result<(), ExpandError> {
        let value = (self.scope)(&variable.name);
        let size = value.as_ref().map_or(0, String::len);
        self.budget.spend(size / BYTES_A_STEP)?;
        let quoted = variable.quoted;
        let text = match &variable.modifier {
            None => value.unwrap_or_default(),
            Some(Modifier::Condition {
                kind,
                empty_is_unset,
                word,
            }) => {
                let value = value.filter(|value| !(*empty_is_unset && value.is_empty()));
                let word = match (kind, value) {
                    (Condition::Default | Condition::Required, Some(value)) => {
                        return self.emit(chunks, value, quoted);
                    }
                    (Condition::Alternative, None) => return Ok(()),
                    (Condition::Required, None) => {
                        return Err(self.required(&variable.name, *empty_is_unset, word)?);
                    }
                    (Condition::Default, None) | (Condition::Alternative, Some(_)) => word,
                };
                for chunk in self.chunks(word)? {
                    chunks.push(Chunk {
                        quoted: chunk.quoted || quoted,
                        ..chunk
                    });
                }
                return Ok(());
            }
            Some(Modifier::Remove {
                suffix,
                longest,
                pattern,
            }) => {
                let glob = Glob::new(&self.chunks(pattern)?);
                let value = value.unwrap_or_default();
                self.removed(value, glob, *suffix, *longest)?
            }
            Some(Modifier::Replace {
                all,
                pattern,
                replacement,
            }) => {
                let glob = Glob::new(&self.chunks(pattern)?);
                let replacement = self.text(replacement)?;
                self.replaced(&value.unwrap_or_default(), &glob, &replacement, *all)?
            }
        };
        self.emit(chunks, text, quoted)
    }

    fn emit(
        &mut self,
        chunks: &mut Vec<Chunk>,
        text: String,
        quoted: bool,
    ) -> Result<(), ExpandError> {
        self.left = self
            .left
            .checked_sub(text.len())
            .ok_or(ExpandError::TooLong)?;
        chunks.push(Chunk { text, quoted });
        Ok(())
    }

    fn required(
        &mut self,
        name: &str,
        empty_is_unset: bool,
        word: &[Piece],
    ) -> Result<ExpandError, ExpandError> {
        let message = match self.text(word)? {
            text if !text.is_empty() => text,
            _ if empty_is_unset => "it is unset or empty".to_owned(),
            _ => "it is unset".to_owned(),
        };
        Ok(ExpandError::Required {
            name: name.to_owned(),
            message,
        })
    }

    fn removed(
        &mut self,
        value: String,
        glob: Glob,
        suffix: bool,
        longest: bool,
    ) -> Result<String, ExpandError> {
        let budget = &mut self.budget;
        let length = match suffix {
            false => glob.prefix(value.chars(), longest, budget)?,
            true => glob
                .reversed()
                .prefix(value.chars().rev(), longest, budget)?,
        };
        let removed = length.unwrap_or(0);
        Ok(match suffix {
            false => value.chars().skip(removed).collect(),
            true => {
                let kept = value.chars().count().saturating_sub(removed);
                value.chars().take(kept).collect()
            }
        })
    }

    fn replaced(
        &mut self,
        value: &str,
        glob: &Glob,
        replacement: &str,
        all: bool,
    ) -> Result<String, ExpandError> {
        let mut result = String::new();
        let mut rest = value.chars();
        let mut done = false;
        while !rest.as_str().is_empty() {
            let length = match done && !all {
                true => None,
                false => glob.prefix(rest.clone(), true, &mut self.budget)?,
            };
            match length {
                Some(length) if length > 0 => {
                    done = true;
                    result.push_str(replacement);
                    rest.by_ref().take(length).for_each(drop);
                }
                _ => result.extend(rest.next()),
            }
            if result.len() > MAX_EXPANSION {
                return Err(ExpandError::TooLong);
            }
        }
        Ok(result)
    }
}
