//! Patterns of paths: sources of COPY and ADD, `--exclude`, `.dockerignore`.
//!
//! `*`, `?`, `[a-z]`, `[^a-z]` and `\` as in Go's `filepath.Match`, within a part of the path; `**` is
//! any number of parts (Dockerfile reference, ".dockerignore files"). A pattern is run over a path as a
//! set of states, so the time is the product of the lengths.

use crate::expand::Class;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It leads out of the directory that it is relative to.
    #[error("'{0}' leads out of the build context")]
    Outside(String),
    /// A `[` without its `]`, an empty `[]`, or a `\` at the end.
    #[error("'{0}' is a malformed pattern: its brackets or escapes are incomplete")]
    Malformed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// Any character but a slash.
    Any,
    /// Any characters but slashes.
    Star,
    Class(Class),
    /// Nothing, or what [`Token::Directories`] stands for; the latter follows.
    Optional,
    /// Anything that ends with a slash.
    Directories,
    /// Anything.
    Rest,
}

/// A pattern of paths relative to a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

/// The path without empty and `.` parts and with `..` resolved; `None` if it leads out.
pub(crate) fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Splits a source of `COPY --parents` at its pivot `/./`: the part before it isn't made below the
/// destination.
pub fn split_pivot(source: &str) -> (Option<&str>, &str) {
    if let Some(rest) = source.strip_prefix("./")
        && !rest.contains("/./")
    {
        return (None, rest);
    }
    match source.split_once("/./") {
        Some((before, behind)) => (Some(before), behind),
        None => (None, source),
    }
}

fn compile(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            '*' => match rest.strip_prefix('*') {
                None => tokens.push(Token::Star),
                Some(behind) => {
                    rest = behind.strip_prefix('/').unwrap_or(behind);
                    match rest.is_empty() {
                        true => tokens.push(Token::Rest),
                        false => tokens.extend([Token::Optional, Token::Directories]),
                    }
                }
            },
            '?' => tokens.push(Token::Any),
            '[' => {
                let (class, behind) = class(rest)?;
                tokens.push(Token::Class(class));
                rest = behind;
            }
            '\\' => tokens.push(Token::Char(escaped(&mut rest)?)),
            c => tokens.push(Token::Char(c)),
        }
    }
    Some(tokens)
}

fn escaped(rest: &mut &str) -> Option<char> {
    let c = rest.chars().next()?;
    *rest = rest.get(c.len_utf8()..)?;
    Some(c)
}

/// The class behind a `[`, and what follows it.
fn class(text: &str) -> Option<(Class, &str)> {
    let (negated, mut rest) = match text.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        if let Some(behind) = rest.strip_prefix(']')
            && !ranges.is_empty()
        {
            return Some((Class { negated, ranges }, behind));
        }
        let first = bound(&mut rest)?;
        let last = match rest.strip_prefix('-') {
            Some(behind) => {
                rest = behind;
                bound(&mut rest)?
            }
            None => first,
        };
        ranges.push((first, last));
    }
}

/// A character of a class.
fn bound(rest: &mut &str) -> Option<char> {
    match escaped(rest)? {
        '-' | ']' => None,
        '\\' => escaped(rest),
        c => Some(c),
    }
}

/// What running over a path has found.
struct Run {
    /// The states after the last character.
    states: Vec<bool>,
    /// Whether a directory above the path matches.
    parent: bool,
}

impl Pattern {
    /// Parses a pattern. A leading slash stands for the directory that it is relative to.
    ///
    /// # Errors
    /// It leads out of that directory, or it is malformed.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let text = clean(text).ok_or_else(|| PatternError::Outside(text.to_owned()))?;
        match compile(&text) {
            Some(tokens) => Ok(Self { text, tokens }),
            None => Err(PatternError::Malformed(text)),
        }
    }

    /// The pattern without superfluous slashes and dots; empty for the directory itself.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path, if the pattern is one: it has no wildcards.
    pub fn literal(&self) -> Option<String> {
        let char = |token: &Token| match token {
            Token::Char(c) => Some(*c),
            _ => None,
        };
        self.tokens.iter().map(char).collect()
    }

    /// The directory that everything that matches is in: the parts before the first with a wildcard.
    /// Empty for the root.
    pub fn directory(&self) -> String {
        let chars = self.tokens.iter().map_while(|token| match token {
            Token::Char(c) => Some(*c),
            _ => None,
        });
        let fixed: String = chars.collect();
        fixed
            .rsplit_once('/')
            .map_or_else(String::new, |(directory, _)| directory.to_owned())
    }

    /// Whether the pattern stands for this very path, which is relative to the pattern's directory.
    pub fn matches(&self, path: &str) -> bool {
        clean(path).is_some_and(|path| self.accepts(&path, &self.run(&path)))
    }

    /// Whether the pattern stands for this path or a directory above it.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        let matches = |path: String| {
            let run = self.run(&path);
            run.parent || self.accepts(&path, &run)
        };
        clean(path).is_some_and(matches)
    }

    /// Whether [`Self::matches_or_parent`] may hold for something below this directory. If not, a
    /// walker needn't descend.
    pub fn may_match_below(&self, directory: &str) -> bool {
        let below = |directory: String| {
            if directory.is_empty() {
                return true;
            }
            let run = self.run(&(directory + "/"));
            run.parent || run.states.contains(&true)
        };
        clean(directory).is_some_and(below)
    }

    /// Only the empty pattern stands for the directory itself.
    fn accepts(&self, path: &str, run: &Run) -> bool {
        path.is_empty() == self.tokens.is_empty() && run.states.last() == Some(&true)
    }

    fn run(&self, path: &str) -> Run {
        let mut states = vec![false; self.tokens.len() + 1];
        self.enter(&mut states, 0);
        let mut parent = self.tokens.is_empty();
        let mut begun = false;
        for c in path.chars() {
            if c == '/' && begun {
                parent |= states.last() == Some(&true);
            }
            begun = true;
            states = self.step(&states, c);
            if !states.contains(&true) {
                break;
            }
        }
        Run { states, parent }
    }

    fn step(&self, states: &[bool], c: char) -> Vec<bool> {
        let mut next = vec![false; states.len()];
        let live = states.iter().zip(&self.tokens).enumerate();
        for (at, (_, token)) in live.filter(|(_, (live, _))| **live) {
            match token {
                Token::Char(expected) if *expected == c => self.enter(&mut next, at + 1),
                Token::Class(class) if c != '/' && class.contains(c) => {
                    self.enter(&mut next, at + 1);
                }
                Token::Any if c != '/' => self.enter(&mut next, at + 1),
                Token::Star if c != '/' => self.enter(&mut next, at),
                Token::Rest => self.enter(&mut next, at),
                Token::Directories => {
                    self.enter(&mut next, at);
                    if c == '/' {
                        self.enter(&mut next, at + 1);
                    }
                }
                _ => {}
            }
        }
        next
    }

    /// Marks a state and those that follow without reading anything.
    fn enter(&self, states: &mut [bool], at: usize) {
        match states.get_mut(at) {
            Some(state) if !*state => *state = true,
            _ => return,
        }
        match self.tokens.get(at) {
            Some(Token::Star | Token::Rest) => self.enter(states, at + 1),
            Some(Token::Optional) => {
                self.enter(states, at + 1);
                self.enter(states, at + 2);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn paths_match() {
        for (text, yes, no) in [
            (
                "a",
                &["a", "/a", "a/", "./a"][..],
                &["", "b", "a/b", "aa"][..],
            ),
            ("/a//./b/", &["a/b"], &["a", "b"]),
            ("a/../b", &["b"], &["a"]),
            ("*", &["a", ".x"], &["", "a/b"]),
            ("*.c", &["a.c", ".c"], &["a/b.c", "a.cc"]),
            ("a?c", &["abc", "aäc"], &["ac", "a/c"]),
            ("a*b*c", &["abc", "axbxc"], &["ab", "axb/xc"]),
            ("[a-c]x[^0-9]", &["axy", "cx-"], &["dxy", "ax1", "ax/"]),
            ("a[^b]c", &["axc"], &["abc", "a/c"]),
            ("[!a]", &["!", "a"], &["b"]),
            ("[\\]\\-]", &["]", "-"], &["\\"]),
            ("\\*\\[", &["*["], &["a["]),
            ("a/*/c", &["a/b/c"], &["a/c", "a/b/b/c"]),
            ("**", &["a", "a/b"], &[""]),
            ("**/x", &["x", "a/x", "a/b/x"], &["ax", "x/a"]),
            ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["ab", "a/xb"]),
            ("**/*.c", &["a.c", "x/a.c"], &["a.d"]),
            ("a**b", &["ab", "ax/b"], &["axb"]),
            (".", &["", "."], &["a"]),
            ("{a,b}", &["{a,b}"], &["a"]),
            ("a.c", &["a.c"], &["abc"]),
        ] {
            let pattern = pattern(text);
            for path in yes {
                assert!(pattern.matches(path), "{text} {path}");
                assert!(pattern.matches_or_parent(&format!("{path}/below")));
            }
            for path in no {
                assert!(!pattern.matches(path), "{text} {path}");
            }
        }
    }

    #[test]
    fn parents_match() {
        for (text, path, expected) in [
            ("a", "a/b/c", true),
            ("*/b", "a/b/c/d", true),
            ("a", "b/a", false),
            ("**/a", "b/a/c", true),
            (".", "x", true),
        ] {
            assert_eq!(
                pattern(text).matches_or_parent(path),
                expected,
                "{text} {path}"
            );
        }
    }

    #[test]
    fn directories_are_pruned() {
        for (text, directory, expected) in [
            ("a/b", "", true),
            ("a/b", "a", true),
            ("a/b", "a/b", true),
            ("a/b", "a/b/c", true),
            ("a/b", "a/c", false),
            ("a/b", "b", false),
            ("a*/b", "ax", true),
            ("*.c", "d", false),
            ("**/x", "d/e", true),
            ("a/**/x", "a/b", true),
            ("a/**/x", "b", false),
        ] {
            assert_eq!(
                pattern(text).may_match_below(directory),
                expected,
                "{text} {directory}"
            );
        }
    }

    #[test]
    fn fixed_parts() {
        assert_eq!(pattern("a/\\*b").literal().as_deref(), Some("a/*b"));
        assert_eq!(pattern("a/*").literal(), None);
        for (text, expected) in [("a/b/c*", "a/b"), ("a*", ""), ("a/b", "a"), ("**/x", "")] {
            assert_eq!(pattern(text).directory(), expected);
        }
    }

    #[test]
    fn malformed_patterns() {
        for text in ["[", "[]", "[a", "[]a]", "[^]", "[a-]", "[-a]", "a\\", "[\\"] {
            let malformed = PatternError::Malformed(text.to_owned());
            assert_eq!(Pattern::parse(text), Err(malformed));
        }
        for text in ["..", "../a", "a/../../b"] {
            let outside = PatternError::Outside(text.to_owned());
            assert_eq!(Pattern::parse(text), Err(outside));
        }
    }

    #[test]
    fn pivots() {
        for (source, expected) in [
            ("a/./b/c", (Some("a"), "b/c")),
            ("./a", (None, "a")),
            ("./a/./b", (Some("./a"), "b")),
            ("a/b", (None, "a/b")),
        ] {
            assert_eq!(split_pivot(source), expected);
        }
    }

    #[test]
    fn work_is_bounded() {
        let pattern = pattern(&("*a".repeat(300) + "b"));
        assert!(!pattern.matches(&"a".repeat(3000)));
        assert!(pattern.matches(&("a".repeat(3000) + "b")));
    }
}
