//! Patterns of parameter expansion (POSIX shell 2.13): `*`, `?`, `[a-z]`, `[!a-z]`.
//!
//! A pattern is run over the value as a set of states, so the time is the product of the lengths.

/// Some text, and whether its special characters are ordinary ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) text: String,
    pub(crate) quoted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    Any,
    Star,
    Class(Class),
}

/// A bracket expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) negated: bool,
    pub(crate) ranges: Vec<(char, char)>,
}

impl Class {
    /// Whether the character is in it.
    pub(crate) fn contains(&self, c: char) -> bool {
        let inside = self
            .ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&c));
        inside != self.negated
    }
}

/// The work left before a pattern is given up.
pub(crate) struct Budget(u64);

/// The pattern takes too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooComplex;

impl Budget {
    /// Some tenths of a second at most.
    pub(crate) fn new() -> Self {
        Self(20_000_000)
    }

    /// Takes some steps away.
    pub(crate) fn spend(&mut self, steps: usize) -> Result<(), TooComplex> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        self.0 = self.0.checked_sub(steps).ok_or(TooComplex)?;
        Ok(())
    }
}

/// A compiled pattern.
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

impl Glob {
    /// Quoted characters, and those behind a backslash, stand for themselves.
    pub(crate) fn new(chunks: &[Chunk]) -> Self {
        let chars: Vec<(char, bool)> = chunks
            .iter()
            .flat_map(|chunk| chunk.text.chars().map(|c| (c, chunk.quoted)))
            .collect();
        let mut tokens = Vec::new();
        let mut rest = chars.as_slice();
        while let Some(((c, quoted), behind)) = rest.split_first() {
            rest = behind;
            tokens.push(match c {
                '*' if !quoted => Token::Star,
                '?' if !quoted => Token::Any,
                '[' if !quoted => match class(behind) {
                    Some((class, behind)) => {
                        rest = behind;
                        Token::Class(class)
                    }
                    None => Token::Char('['),
                },
                '\\' if !quoted => match behind.split_first() {
                    Some(((next, _), behind)) => {
                        rest = behind;
                        Token::Char(*next)
                    }
                    None => Token::Char('\\'),
                },
                c => Token::Char(*c),
            });
        }
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        Self { tokens }
    }

    /// The same pattern for texts that are read backwards.
    pub(crate) fn reversed(mut self) -> Self {
        self.tokens.reverse();
        self
    }

    /// How many characters of the text's beginning match, if any do: the most or the fewest.
    pub(crate) fn prefix(
        &self,
        text: impl Iterator<Item = char>,
        longest: bool,
        budget: &mut Budget,
    ) -> Result<Option<usize>, TooComplex> {
        let accepting = self.tokens.len();
        let mut states = vec![false; accepting + 1];
        self.enter(&mut states, 0);
        let is = |states: &[bool]| states.last().copied().unwrap_or(false);
        let mut found = is(&states).then_some(0);
        for (read, c) in text.enumerate() {
            if (found.is_some() && !longest) || !states.contains(&true) {
                break;
            }
            budget.spend(states.len())?;
            let mut next = vec![false; states.len()];
            for (at, token) in self.tokens.iter().enumerate() {
                if !states.get(at).copied().unwrap_or(false) {
                    continue;
                }
                match token {
                    Token::Star => self.enter(&mut next, at),
                    Token::Any => self.enter(&mut next, at + 1),
                    Token::Char(expected) if *expected == c => self.enter(&mut next, at + 1),
                    Token::Class(class) if class.contains(c) => self.enter(&mut next, at + 1),
                    Token::Char(_) | Token::Class(_) => {}
                }
            }
            states = next;
            if is(&states) {
                found = Some(read + 1);
            }
        }
        Ok(found)
    }

    /// Marks a state and those that follow without reading anything.
    fn enter(&self, states: &mut [bool], mut at: usize) {
        loop {
            if let Some(state) = states.get_mut(at) {
                *state = true;
            }
            match self.tokens.get(at) {
                Some(Token::Star) => at += 1,
                _ => return,
            }
        }
    }
}

/// The bracket expression behind a `[`, and what follows it.
fn class(chars: &[(char, bool)]) -> Option<(Class, &[(char, bool)])> {
    let mut rest = chars;
    let mut class = Class {
        negated: false,
        ranges: Vec::new(),
    };
    if let [('!' | '^', false), behind @ ..] = rest {
        class.negated = true;
        rest = behind;
    }
    loop {
        match rest {
            [] => return None,
            [(']', false), behind @ ..] if !class.ranges.is_empty() => {
                return Some((class, behind));
            }
            [(first, _), ('-', false), (last, quoted), behind @ ..] if *last != ']' || *quoted => {
                class.ranges.push((*first, *last));
                rest = behind;
            }
            [(c, _), behind @ ..] => {
                class.ranges.push((*c, *c));
                rest = behind;
            }
        }
    }
}
