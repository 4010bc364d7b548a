//! `.dockerignore` (Dockerfile reference, ".dockerignore files").

use crate::pattern::{Pattern, PatternError};

/// What of a build context is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    /// `!`: what matches is in again.
    exception: bool,
}

/// Why a text is no `.dockerignore`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(".dockerignore, line {line}: {problem}")]
pub struct IgnoreError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: PatternError,
}

impl Ignore {
    /// Parses the file's text. Lines that begin with `#`, blank lines, and patterns that stand for the
    /// context itself (`.`, `/`) or for something outside of it mean nothing.
    ///
    /// # Errors
    /// A pattern is malformed.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let error = |problem| IgnoreError {
                line: index + 1,
                problem,
            };
            let line = line.trim_end_matches('\r');
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (exception, pattern) = match line.trim().strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line.trim()),
            };
            if pattern.is_empty() {
                return Err(error(PatternError::Malformed(line.to_owned())));
            }
            match Pattern::parse(pattern) {
                Err(PatternError::Outside(_)) => {}
                Ok(pattern) if pattern.as_str().is_empty() => {}
                Ok(pattern) => rules.push(Rule { pattern, exception }),
                Err(problem) => return Err(error(problem)),
            }
        }
        Ok(Self { rules })
    }

    /// Whether a path relative to the context is left out: the last rule decides that matches it or a
    /// directory above it. Directories and files are treated alike.
    pub fn is_ignored(&self, path: &str) -> bool {
        let last = self
            .rules
            .iter()
            .rev()
            .find(|rule| rule.pattern.matches_or_parent(path));
        last.is_some_and(|rule| !rule.exception)
    }

    /// Whether something below an ignored directory may be in again. If not, a walker needn't descend.
    pub fn may_contain_exceptions_below(&self, directory: &str) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.exception && rule.pattern.may_match_below(directory))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_decides() {
        for (text, ignored, kept) in [
            ("", &[][..], &["a", "a/b"][..]),
            ("# c\n\n  \n.\n/\n../x\n", &[], &["a", "# c", "x"]),
            (
                "node_modules",
                &["node_modules", "node_modules/x/y"],
                &["a/node_modules"],
            ),
            ("/a/\n", &["a", "a/b"], &["b/a"]),
            ("**/*.log\r\n", &["x.log", "a/b/x.log"], &["x.logs"]),
            ("*.md\n!README.md", &["a.md"], &["README.md", "d/a.md"]),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                &["README-secret.md"],
                &["README-x.md"],
            ),
            (
                "*.md\nREADME-secret.md\n!README*.md",
                &["a.md"],
                &["README-secret.md"],
            ),
            ("a\n!a/keep", &["a", "a/b"], &["a/keep", "a/keep/x"]),
            (
                "*\n!src\n! go.mod",
                &["x", "x/y"],
                &["src", "src/a/b", "go.mod"],
            ),
            ("**\n!a/b", &["a", "a/c"], &["a/b", "a/b/c"]),
            ("a/*/c", &["a/b/c", "a/b/c/d"], &["a/c"]),
            ("!a\na", &["a"], &[]),
            (" #x\n", &["#x"], &[]),
            ("\u{feff}a", &["a"], &[]),
            ("a/**", &["a/b"], &["a"]),
        ] {
            let ignore = Ignore::parse(text).unwrap();
            for path in ignored {
                assert!(ignore.is_ignored(path), "{text:?} {path}");
            }
            for path in kept {
                assert!(!ignore.is_ignored(path), "{text:?} {path}");
            }
        }
    }

    #[test]
    fn walkers_may_prune() {
        let ignore = Ignore::parse("a\nb\nc\n!a/x/y\n!**/keep").unwrap();
        assert!(ignore.may_contain_exceptions_below("a/x"));
        assert!(ignore.may_contain_exceptions_below("b"));
        let ignore = Ignore::parse("*\n!a/x/y").unwrap();
        assert!(ignore.may_contain_exceptions_below("a"));
        assert!(!ignore.may_contain_exceptions_below("a/z"));
        assert!(!ignore.may_contain_exceptions_below("b"));
        assert!(!Ignore::default().may_contain_exceptions_below("a"));
    }

    #[test]
    fn errors_name_the_line() {
        for (text, message) in [
            (
                "a\n[",
                ".dockerignore, line 2: '[' is a malformed pattern: its brackets or escapes are incomplete",
            ),
            (
                "!",
                ".dockerignore, line 1: '!' is a malformed pattern: its brackets or escapes are incomplete",
            ),
        ] {
            assert_eq!(Ignore::parse(text).unwrap_err().to_string(), message);
        }
    }
}
