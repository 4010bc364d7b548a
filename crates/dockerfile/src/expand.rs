//! Expansion of variables in words, heredocs and arguments. Nothing is ever executed: command
//! substitution is ordinary text.
//!
//! `$V`, `${V}`, `${V:-w}`, `${V-w}`, `${V:+w}`, `${V+w}`, `${V:?w}`, `${V?w}`, `${V#p}`, `${V##p}`,
//! `${V%p}`, `${V%%p}` as in POSIX shell 2.6.2, and `${V/p/r}`, `${V//p/r}` as in the Dockerfile
//! reference. `w`, `p` and `r` are expanded themselves. Numbers and special parameters (`$1`, `$@`)
//! are accepted and never set.

mod evaluate;
mod glob;
mod syntax;
#[cfg(test)]
mod tests;

use evaluate::Evaluator;
use glob::Chunk;
pub(crate) use glob::Class;
use syntax::{Quotes, parse, variable_at};
pub use syntax::{SyntaxError, SyntaxErrorKind};

/// Bytes that one expansion may produce: far more than fits into an environment.
pub const MAX_EXPANSION: usize = 1 << 20;

/// Why a word has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The word is malformed.
    #[error("'{word}': {error}")]
    Syntax {
        /// The word.
        word: String,
        /// What is wrong with it.
        #[source]
        error: SyntaxError,
    },
    /// `${V:?w}` or `${V?w}` of a variable without a value.
    #[error("variable '{name}' is required: {message}")]
    Required {
        /// The variable.
        name: String,
        /// `w`, or what stands for it.
        message: String,
    },
    /// A name of ENV or LABEL is empty or holds `=` after expansion.
    #[error("'{0}' is not a variable's name")]
    Name(String),
    /// The result is longer than [`MAX_EXPANSION`].
    #[error("the expansion is longer than {MAX_EXPANSION} bytes")]
    TooLong,
    /// A pattern takes too long.
    #[error("a pattern takes too long: shorten it or the variable's value")]
    TooComplex,
}

fn syntax(word: &str) -> impl FnOnce(SyntaxError) -> ExpandError + '_ {
    move |error| ExpandError::Syntax {
        word: word.to_owned(),
        error,
    }
}

/// Finds errors of syntax without values at hand.
///
/// # Errors
/// An unterminated quote or `${`, or a modifier that doesn't exist.
pub fn check(word: &str, escape: char) -> Result<(), SyntaxError> {
    parse(word, escape, Quotes::Removed).map(drop)
}

/// The value of a text as one word, quotes removed (`ENV`, `USER`, `WORKDIR`, …). Values are not split
/// at white space. `escape` is the file's escape character.
///
/// # Errors
/// The word is malformed, a required variable has no value, or the result is out of all proportion.
pub fn expand(
    word: &str,
    scope: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<String, ExpandError> {
    let pieces = parse(word, escape, Quotes::Removed).map_err(syntax(word))?;
    Evaluator::new(scope).text(&pieces)
}

/// The value of a text as several words, quotes removed: it is split at white space that isn't quoted
/// (POSIX shell 2.6.5), be it in the text or in values. An unquoted variable without a value is no word.
///
/// # Errors
/// As those of [`expand`].
pub fn expand_words(
    text: &str,
    scope: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<Vec<String>, ExpandError> {
    let pieces = parse(text, escape, Quotes::Removed).map_err(syntax(text))?;
    Ok(split(&Evaluator::new(scope).chunks(&pieces)?))
}

/// The value of a heredoc's body: quotes are ordinary characters, and a backslash is special before
/// `$`, `` ` ``, `\` and the line's end only (POSIX shell 2.7.4).
///
/// # Errors
/// As those of [`expand`].
pub fn expand_heredoc(
    body: &str,
    scope: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpandError> {
    // The file's escape character has no meaning in heredocs.
    let pieces = parse(body, '\\', Quotes::Kept).map_err(|error| {
        let before = body.get(..error.offset).unwrap_or_default();
        let line = before.matches('\n').count();
        let word = body.lines().nth(line).unwrap_or_default();
        syntax(word)(error)
    })?;
    Evaluator::new(scope).text(&pieces)
}

/// An argument of an exec form with the variables that `scope` knows; everything else stays as it is.
///
/// Docker doesn't expand exec forms, Kleene does. So that both kinds of files work, references to
/// unknown variables, malformed ones, `$(…)`, `$$` and references behind an escape character are left
/// alone. Quotes have no meaning. Such an argument can therefore hold a script with variables of its
/// own: `["sh", "-c", "for f in *; do echo $f; done"]`.
///
/// # Errors
/// A variable is known but its reference requires that it isn't empty, or the result is out of all
/// proportion.
pub fn expand_known(
    text: &str,
    scope: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<String, ExpandError> {
    let mut evaluator = Evaluator::new(scope);
    let mut result = String::new();
    let mut at = 0;
    while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let mut end = at + c.len_utf8();
        if c == escape {
            let next = text.get(end..).and_then(|rest| rest.chars().next());
            end += next.map_or(0, char::len_utf8);
        } else if c == '$'
            && let Some((variable, range)) = variable_at(text, at, escape)
        {
            end = range.end;
            if scope(&variable.name).is_some() {
                let mut chunks = Vec::new();
                evaluator.variable(&variable, &mut chunks)?;
                result.extend(chunks.into_iter().map(|chunk| chunk.text));
                at = end;
                continue;
            }
        }
        result.push_str(text.get(at..end).unwrap_or_default());
        at = end;
    }
    Ok(result)
}

/// Splits at unquoted white space.
fn split(chunks: &[Chunk]) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    for chunk in chunks {
        if chunk.quoted {
            word.get_or_insert_default().push_str(&chunk.text);
            continue;
        }
        for c in chunk.text.chars() {
            if c == '\n' || crate::source::is_space(c) {
                words.extend(word.take());
            } else {
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    words
}
