//! Names with wildcards, by the rules of Go's `filepath.Match` that Dockerfiles have: `*` any
//! characters, `?` one, `[a-z]` one of these, `[^a-z]` one that isn't, `\x` the character `x` itself.

/// A pattern that can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Whether a text has wildcards.
pub(crate) fn has_wildcards(text: &str) -> bool {
    let mut escaped = false;
    text.chars().any(|c| {
        if escaped {
            escaped = false;
            return false;
        }
        escaped = c == '\\';
        matches!(c, '*' | '?' | '[')
    })
}

/// Whether a name fits a pattern as the sources of a copy have them; `None` when that is malformed.
pub fn name_fits(pattern: &str, name: &str) -> Option<bool> {
    Pattern::parse(pattern)
        .ok()
        .map(|pattern| pattern.fits(name))
}

/// One piece of a pattern.
#[derive(Debug)]
enum Piece {
    Any,
    One,
    This(char),
    Of {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Piece {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::This(this) => *this == c,
            Self::Of { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

/// A pattern for one name.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Piece>);

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut pieces = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                // Two mean the same as one.
                '*' if matches!(pieces.last(), Some(Piece::Any)) => continue,
                '*' => Piece::Any,
                '?' => Piece::One,
                '\\' => Piece::This(chars.next().ok_or(Malformed)?),
                '[' => class(&mut chars)?,
                c => Piece::This(c),
            });
        }
        Ok(Self(pieces))
    }

    /// Whether the whole name fits. Takes time in proportion to both lengths, whatever they are.
    pub fn fits(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut piece, mut at) = (0, 0);
        // Where to go on when the last `*` takes one character more.
        let mut again: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(piece), name.get(at)) {
                (None, None) => return true,
                (Some(Piece::Any), _) => {
                    again = Some((piece + 1, at));
                    piece += 1;
                    continue;
                }
                (Some(of), Some(c)) if of.takes(*c) => {
                    piece += 1;
                    at += 1;
                    continue;
                }
                _ => {}
            }
            match again {
                Some((next, from)) if from < name.len() => {
                    again = Some((next, from + 1));
                    (piece, at) = (next, from + 1);
                }
                _ => return false,
            }
        }
    }
}

/// What follows a `[`.
fn class(chars: &mut std::str::Chars<'_>) -> Result<Piece, Malformed> {
    let mut negated = false;
    let mut ranges = Vec::new();
    let mut next = chars.next();
    if next == Some('^') {
        negated = true;
        next = chars.next();
    }
    loop {
        let low = match next.ok_or(Malformed)? {
            ']' if !ranges.is_empty() => return Ok(Piece::Of { negated, ranges }),
            ']' | '-' => return Err(Malformed),
            '\\' => chars.next().ok_or(Malformed)?,
            c => c,
        };
        next = chars.next();
        let mut high = low;
        if next == Some('-') {
            high = match chars.next().ok_or(Malformed)? {
                ']' | '-' => return Err(Malformed),
                '\\' => chars.next().ok_or(Malformed)?,
                c => c,
            };
            next = chars.next();
        }
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of Go's own tests of `filepath.Match`, as far as it is about single names.
    #[test]
    fn names() {
        for (pattern, name, fits) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*b*c*d*e*", "axbxcxdxe", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^b-d]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{263a}b", true),
            ("a[^a]b", "a\u{263a}b", true),
            ("a???b", "a\u{263a}b", false),
            ("[a-\u{3b6}]*", "\u{3b1}", true),
            ("*[a-\u{3b6}]", "A", false),
            ("[\\]a]", "]", true),
            ("[\\-]", "-", true),
            ("[x\\-]", "x", true),
            ("[x\\-]", "-", true),
            ("[x\\-]", "z", false),
            ("[\\-x]", "a", false),
            ("*x", "xxx", true),
            ("**", ".hidden", true),
            ("", "", true),
            ("", "a", false),
        ] {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.fits(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn malformed() {
        for pattern in [
            "[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[",
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap_err(), Malformed, "{pattern}");
        }
    }

    #[test]
    fn wildcards_are_seen() {
        assert!(has_wildcards("a*") && has_wildcards("?") && has_wildcards("a/[b]"));
        assert!(!has_wildcards("a\\*b") && !has_wildcards("plain/name\\"));
    }

    #[test]
    fn long_names_and_many_stars_take_no_time() {
        let pattern = Pattern::parse(&"*a".repeat(60)).unwrap();
        assert!(!pattern.fits(&"a".repeat(50)));
        assert!(!pattern.fits(&format!("{}b", "a".repeat(10_000))));
    }
}
