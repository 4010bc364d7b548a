//! Lines of the file, and logical lines: continued lines joined, comments dropped.

use std::ops::Range;

/// A place in the file. Both numbers start at 1; columns are counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line of the file.
    pub line: usize,
    /// Character of the line.
    pub column: usize,
}

/// The lines of the file that an instruction takes up, with comments and heredocs in between. Lines
/// are counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LineRange {
    /// The line of the keyword (or of a continuation before it).
    pub first: usize,
    /// The last line, that of a heredoc's terminator included.
    pub last: usize,
}

/// The file's lines without their ends, and how far they have been read.
pub(crate) struct Source<'a> {
    lines: Vec<&'a str>,
    next: usize,
}

impl<'a> Source<'a> {
    /// Lines end with LF or CR LF; the last one needs no end.
    pub(crate) fn new(text: &'a str) -> Self {
        let mut lines: Vec<&str> = text
            .split('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
            .collect();
        if lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        Self { lines, next: 0 }
    }

    /// The text of a line that is counted from 1; empty past the end.
    pub(crate) fn line(&self, number: usize) -> &'a str {
        number
            .checked_sub(1)
            .and_then(|index| self.lines.get(index))
            .copied()
            .unwrap_or_default()
    }

    /// How many lines have been read, which is the number of the last one read.
    pub(crate) fn read(&self) -> usize {
        self.next
    }

    /// The next physical line.
    pub(crate) fn next_line(&mut self) -> Option<&'a str> {
        let line = self.lines.get(self.next).copied();
        if line.is_some() {
            self.next += 1;
        }
        line
    }

    /// The physical line that [`Self::next_line`] would return.
    pub(crate) fn peek_line(&self) -> Option<&'a str> {
        self.lines.get(self.next).copied()
    }

    /// The text of a range of lines, joined by LF.
    pub(crate) fn text(&self, range: LineRange) -> String {
        self.lines
            .get(range.first.saturating_sub(1)..range.last)
            .unwrap_or_default()
            .join("\n")
    }

    /// The next logical line that isn't blank.
    pub(crate) fn next_logical(&mut self, escape: char) -> Option<Logical> {
        loop {
            let line = self.next_line()?;
            if is_blank_or_comment(line) {
                continue;
            }
            let mut joined = Joined::default();
            let mut continues = joined.push(line, self.next, escape);
            while continues {
                let Some(line) = self.next_line() else { break };
                if !is_blank_or_comment(line) {
                    continues = joined.push(line, self.next, escape);
                }
            }
            if let Some(logical) = joined.finish() {
                return Some(logical);
            }
        }
    }
}

fn is_blank_or_comment(line: &str) -> bool {
    let text = line.trim_start_matches(is_space);
    text.is_empty() || text.starts_with('#')
}

/// The white space that separates words: no line ends, no other alphabets' spaces.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

/// The line without the character that continues it, and whether there was one. An escaped one
/// doesn't continue (Dockerfile reference, "escape"; blanks may follow it).
fn split_continuation(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end_matches(is_space).strip_suffix(escape) {
        Some(body) if !body.ends_with(escape) => (body, true),
        _ => (line, false),
    }
}

/// Where a piece of a logical line comes from.
struct Segment {
    /// Offset in the joined text.
    at: usize,
    /// Line of the file; every segment begins at its line's first byte.
    line: usize,
}

#[derive(Default)]
struct Joined {
    text: String,
    segments: Vec<Segment>,
}

impl Joined {
    fn push(&mut self, line: &str, number: usize, escape: char) -> bool {
        let (body, continues) = split_continuation(line, escape);
        self.segments.push(Segment {
            at: self.text.len(),
            line: number,
        });
        self.text.push_str(body);
        continues
    }

    fn finish(self) -> Option<Logical> {
        let first = self.segments.first()?.line;
        let trimmed = self.text.trim_matches(is_space);
        if trimmed.is_empty() {
            return None;
        }
        let begin = self.text.len() - self.text.trim_start_matches(is_space).len();
        Some(Logical {
            text: trimmed.to_owned(),
            begin,
            segments: self.segments,
            first,
        })
    }
}

/// One instruction's line after joining.
pub(crate) struct Logical {
    /// The joined text, trimmed.
    pub(crate) text: String,
    /// Bytes that were trimmed at the front.
    begin: usize,
    segments: Vec<Segment>,
    /// The first line of the file.
    pub(crate) first: usize,
}

impl Logical {
    /// The place in the file of an offset in [`Self::text`].
    pub(crate) fn position(&self, source: &Source<'_>, offset: usize) -> Position {
        let offset = offset + self.begin;
        let segment = self.segments.iter().rev().find(|s| s.at <= offset);
        let (line, bytes) = match segment {
            Some(segment) => (segment.line, offset - segment.at),
            None => (self.first, 0),
        };
        let before = source
            .line(line)
            .char_indices()
            .take_while(|(at, _)| *at < bytes);
        Position {
            line,
            column: before.count() + 1,
        }
    }

    /// The text of a range of offsets.
    pub(crate) fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &str) -> Vec<String> {
        let mut source = Source::new(text);
        std::iter::from_fn(|| source.next_logical('\\'))
            .map(|line| line.text)
            .collect()
    }

    #[test]
    fn lines_are_joined() {
        for (text, expected) in [
            ("", vec![]),
            ("\n \n# c\n", vec![]),
            ("A b", vec!["A b"]),
            ("A b\r\nC\r\n", vec!["A b", "C"]),
            ("A \\\n  b \\  \n c\nD", vec!["A   b  c", "D"]),
            ("A \\\n# comment\n\n  # another\n\t\nb", vec!["A b"]),
            // An escaped escape character ends the line; so does the file's end.
            ("A \\\\\nB", vec!["A \\\\", "B"]),
            ("A \\", vec!["A"]),
            ("\\\nA\nB", vec!["A", "B"]),
            (" \\\n \\\n\nB", vec!["B"]),
            // Not a comment, because it isn't at the start of a line.
            ("A # b", vec!["A # b"]),
            ("  # c \\\nA", vec!["A"]),
        ] {
            assert_eq!(logical(text), expected, "{text:?}");
        }
    }

    #[test]
    fn another_character_may_continue_lines() {
        let mut source = Source::new("A `\nb \\\nC");
        assert_eq!(source.next_logical('`').unwrap().text, "A b \\");
        assert_eq!(source.next_logical('`').unwrap().text, "C");
    }

    #[test]
    fn positions_are_those_in_the_file() {
        let text = "\n  RUN é \\\n # c\n  xy \\\n z";
        let mut source = Source::new(text);
        let line = source.next_logical('\\').unwrap();
        assert_eq!((line.first, source.read()), (2, 5));
        for (needle, expected) in [
            ("RUN", (2, 3)),
            ("é", (2, 7)),
            ("xy", (4, 3)),
            ("z", (5, 2)),
        ] {
            let position = line.position(&source, line.text.find(needle).unwrap());
            assert_eq!((position.line, position.column), expected, "{needle}");
        }
        let end = line.position(&source, line.text.len());
        assert_eq!((end.line, end.column), (5, 3));
    }
}
