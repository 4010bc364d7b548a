//! Heredocs (Dockerfile reference, "here-documents"; POSIX shell 2.7.4).

use std::ops::Range;

use crate::expand::{self, ExpandError};
use crate::source::{Source, is_space};

/// Lines of the Dockerfile that belong to an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Heredoc {
    /// The delimiter, without quotes. COPY and ADD name the file after it.
    pub name: String,
    /// Whether variables are expanded: no part of the delimiter was quoted.
    pub expands: bool,
    /// Whether leading tabs are removed: `<<-`.
    pub strips_tabs: bool,
    /// The lines as they stand in the file, each with LF at its end.
    pub body: String,
}

impl Heredoc {
    /// The body without the tabs that `<<-` removes, not expanded.
    pub fn content(&self) -> String {
        if !self.strips_tabs {
            return self.body.clone();
        }
        self.body
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }

    /// The content with its variables expanded, if its delimiter isn't quoted. That is what COPY and
    /// ADD write; the bodies of RUN are left to the shell.
    ///
    /// # Errors
    /// The body is malformed, a required variable has no value, or the result is too long.
    pub fn expand(&self, scope: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
        match self.expands {
            true => expand::expand_heredoc(&self.content(), scope),
            false => Ok(self.content()),
        }
    }

    /// Reads the body from the lines behind the instruction; the terminator is consumed. `None` if
    /// there is none.
    pub(crate) fn read(marker: &Marker, source: &mut Source<'_>) -> Option<Self> {
        let mut body = String::new();
        loop {
            let line = source.next_line()?;
            let end = match marker.strips_tabs {
                true => line.trim_start_matches('\t'),
                false => line,
            };
            if end == marker.name {
                return Some(Self {
                    name: marker.name.clone(),
                    expands: marker.expands,
                    strips_tabs: marker.strips_tabs,
                    body,
                });
            }
            body.push_str(line);
            body.push('\n');
        }
    }
}

/// `<<EOF` in an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) name: String,
    pub(crate) expands: bool,
    pub(crate) strips_tabs: bool,
    /// Where it stands, a file descriptor's number before it included.
    pub(crate) range: Range<usize>,
    /// Whether such a number stands before it.
    pub(crate) numbered: bool,
}

/// Finds the heredocs that begin in a text. `shell` is whether it is a shell's, where `#` begins a
/// comment. They begin where words begin, unquoted, and their delimiter follows at once; so `1 << 2`,
/// `<<<word` and `"<<x"` are none.
pub(crate) fn markers(text: &str, escape: char, shell: bool) -> Vec<Marker> {
    let mut scanner = Scanner { text, at: 0 };
    let mut markers = Vec::new();
    let mut word_start = true;
    while let Some(c) = scanner.peek() {
        if word_start && let Some(marker) = scanner.marker() {
            scanner.at = marker.range.end;
            markers.push(marker);
            word_start = false;
            continue;
        }
        match c {
            '#' if word_start && shell => break,
            '\'' | '"' => scanner.quoted(c, escape),
            '$' if scanner.rest().starts_with("$((") => scanner.skip_behind("))"),
            '$' if scanner.rest().starts_with("${") => scanner.skip_behind("}"),
            c if c == escape => {
                scanner.next();
                scanner.next();
            }
            '<' => {
                scanner.take_while(|c| c == '<');
            }
            _ => {
                scanner.next();
            }
        }
        word_start = is_space(c) || (shell && matches!(c, ';' | '&' | '|' | '('));
    }
    markers
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
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

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn skip_behind(&mut self, end: &str) {
        let rest = self.rest();
        self.at += rest.find(end).map_or(rest.len(), |at| at + end.len());
    }

    /// Skips a quoted text, or the rest if it doesn't end.
    fn quoted(&mut self, quote: char, escape: char) {
        self.next();
        while let Some(c) = self.next() {
            if c == quote {
                return;
            }
            if c == escape && quote == '"' {
                self.next();
            }
        }
    }

    /// The marker here, if one is here; nothing is consumed.
    fn marker(&self) -> Option<Marker> {
        let mut ahead = Scanner {
            text: self.text,
            at: self.at,
        };
        let number = ahead.take_while(|c| c.is_ascii_digit());
        if ahead.take_while(|c| c == '<') != "<<" {
            return None;
        }
        let strips_tabs = ahead.peek() == Some('-');
        if strips_tabs {
            ahead.next();
        }
        let (name, expands) = ahead.delimiter()?;
        Some(Marker {
            name,
            expands,
            strips_tabs,
            range: self.at..ahead.at,
            numbered: !number.is_empty(),
        })
    }

    /// The delimiter without quotes, and whether there were none.
    fn delimiter(&mut self) -> Option<(String, bool)> {
        let mut name = String::new();
        let mut expands = true;
        while let Some(c) = self.peek() {
            match c {
                c if is_space(c) || ";&|<>()".contains(c) => break,
                '\'' | '"' => {
                    self.next();
                    name.push_str(self.take_while(|other| other != c));
                    self.next()?;
                    expands = false;
                }
                // The shell's, not the file's escape character.
                '\\' => {
                    self.next();
                    name.push(self.next()?);
                    expands = false;
                }
                c => {
                    self.next();
                    name.push(c);
                }
            }
        }
        (!name.is_empty()).then_some((name, expands))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        markers(text, '\\', true)
            .into_iter()
            .map(|m| {
                let dash = if m.strips_tabs { "-" } else { "" };
                let quote = if m.expands { "" } else { "'" };
                format!("{dash}{quote}{}{quote}", m.name)
            })
            .collect()
    }

    #[test]
    fn markers_are_found() {
        for (text, expected) in [
            ("<<EOF", vec!["EOF"]),
            ("cat <<-EOF > x", vec!["-EOF"]),
            ("cat <<'EOF'", vec!["'EOF'"]),
            ("cat <<\"E F\"|x", vec!["'E F'"]),
            ("cat <<\\EOF;", vec!["'EOF'"]),
            ("cat <<E\"O\"F", vec!["'EOF'"]),
            ("cat <<A>x <<B;", vec!["A", "B"]),
            ("(<<A cat)&&<<B cat", vec!["A", "B"]),
            ("cat 3<<A", vec!["A"]),
            // None of these is one.
            ("\"<<A\" '<<B' \\<<C", vec![]),
            ("x <<<A", vec![]),
            ("$((1 <<2)) $((1<<2)) ${x:- <<A}", vec![]),
            ("1 << 2", vec![]),
            ("a<<B", vec![]),
            ("x # <<A", vec![]),
            ("x#y <<A", vec!["A"]),
            ("<<", vec![]),
            ("<<-", vec![]),
            ("<<''", vec![]),
            ("<<'A", vec![]),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn bodies_end_at_their_terminator() {
        let marker = |text: &str| markers(text, '\\', true).remove(0);
        let mut source = Source::new("\ta\n\tEOF\nEOF \nEOF\nb\n\tX\r\n");
        let plain = Heredoc::read(&marker("<<EOF"), &mut source).unwrap();
        assert_eq!(plain.body, "\ta\n\tEOF\nEOF \n");
        let dashed = Heredoc::read(&marker("<<-X"), &mut source).unwrap();
        assert_eq!(dashed.body, "b\n");
        assert_eq!(Heredoc::read(&marker("<<X"), &mut source), None);
    }

    #[test]
    fn tabs_and_variables() {
        let mut heredoc = Heredoc {
            name: "X".to_owned(),
            expands: true,
            strips_tabs: true,
            body: "\t\ta\t$V\n\n  b\n".to_owned(),
        };
        let scope = |name: &str| (name == "V").then(|| "v".to_owned());
        assert_eq!(heredoc.expand(&scope).unwrap(), "a\tv\n\n  b\n");
        heredoc.expands = false;
        assert_eq!(heredoc.expand(&scope).unwrap(), "a\t$V\n\n  b\n");
        heredoc.strips_tabs = false;
        assert_eq!(heredoc.content(), heredoc.body);
    }
}
