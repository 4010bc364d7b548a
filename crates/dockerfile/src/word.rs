//! Words that undergo expansion.

use crate::expand::{self, ExpandError, SyntaxError};

/// A text that is expanded when its instruction is carried out. Its quotes, `${…}` and escapes are
/// known to be complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Word {
    raw: String,
    escape: char,
}

impl Word {
    /// A word as it is written in a file whose escape character is `escape`.
    ///
    /// # Errors
    /// An unterminated quote or `${`, or a modifier that doesn't exist.
    pub fn new(raw: &str, escape: char) -> Result<Self, SyntaxError> {
        expand::check(raw, escape)?;
        Ok(Self {
            raw: raw.to_owned(),
            escape,
        })
    }

    /// A word whose value is this text.
    pub fn literal(text: &str) -> Self {
        Self {
            raw: format!("'{}'", text.replace('\'', "'\"'\"'")),
            escape: '\\',
        }
    }

    /// The text as written.
    pub fn raw(&self) -> &str {
        &self.raw
    }

    /// The file's escape character, which the text was written with.
    pub fn escape(&self) -> char {
        self.escape
    }

    /// The value without quotes, as one word.
    ///
    /// # Errors
    /// A required variable has no value, or the result is out of all proportion.
    pub fn expand(&self, scope: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
        expand::expand(&self.raw, scope, self.escape)
    }

    /// The value without quotes, split at unquoted white space.
    ///
    /// # Errors
    /// As those of [`Self::expand`].
    pub fn expand_words(
        &self,
        scope: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<String>, ExpandError> {
        expand::expand_words(&self.raw, scope, self.escape)
    }

    /// The value, if it doesn't depend on variables.
    pub fn constant(&self) -> Option<String> {
        match self.raw.contains('$') {
            true => None,
            false => self.expand(&|_| None).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_have_their_text_as_value() {
        for text in ["", "a b", "it's $HOME", "''", "\"x\\", "a\\'b"] {
            let word = Word::literal(text);
            assert_eq!(word.expand(&|_| None).unwrap(), text);
            assert!(Word::new(word.raw(), '`').is_ok());
        }
    }

    #[test]
    fn constants_have_no_variables() {
        let word = |raw| Word::new(raw, '\\').unwrap();
        assert_eq!(word("'a b'").constant().as_deref(), Some("a b"));
        assert_eq!(word("${A}").constant(), None);
    }
}
