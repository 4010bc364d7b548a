//! Keys by which the user leaves an attached process to itself.

use std::str::FromStr;

/// A sequence of keys; empty: none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys(Vec<u8>);

/// Why a text is no sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysError(String);

impl std::fmt::Display for KeysError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "'{}' is no key: give characters and ctrl-CHARACTER (a to z, @ [ \\ ] ^ _), separated \
             by commas, as in ctrl-p,ctrl-q",
            self.0
        )
    }
}

impl std::error::Error for KeysError {}

impl DetachKeys {
    /// No keys at all.
    pub const fn none() -> Self {
        Self(Vec::new())
    }
}

impl FromStr for DetachKeys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let keys = text.split(',').map(key);
        keys.collect::<Result<_, _>>().map(Self)
    }
}

fn key(text: &str) -> Result<u8, KeysError> {
    let error = || KeysError(text.to_owned());
    let (control, character) = match text.strip_prefix("ctrl-") {
        Some(character) => (true, character),
        None => (false, text),
    };
    match character.as_bytes() {
        [byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')]
            if control =>
        {
            // As terminals make them: see ascii(7).
            Ok(byte.to_ascii_uppercase() - b'@')
        }
        [byte] if !control && byte.is_ascii_graphic() => Ok(*byte),
        _ => Err(error()),
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub struct Matcher {
    keys: Vec<u8>,
    /// The beginning of the sequence that has been typed, which isn't passed on yet.
    held: Vec<u8>,
}

impl Matcher {
    /// Looks for these keys.
    pub fn new(keys: &DetachKeys) -> Self {
        Self {
            keys: keys.0.clone(),
            held: Vec::new(),
        }
    }

    /// Takes what was typed and adds what the process gets of it to `passed`. `true`: the keys were
    /// all typed, and what follows them is nobody's.
    pub fn typed(&mut self, input: &[u8], passed: &mut Vec<u8>) -> bool {
        if self.keys.is_empty() {
            passed.extend_from_slice(input);
            return false;
        }
        for byte in input {
            self.held.push(*byte);
            while !self.keys.starts_with(&self.held) {
                passed.push(self.held.remove(0));
            }
            if self.held == self.keys {
                return true;
            }
        }
        false
    }

    /// What was held back when the input ends.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut matcher = Matcher::new(&keys.parse().unwrap());
        let mut passed = Vec::new();
        let left = pieces.iter().any(|piece| matcher.typed(piece, &mut passed));
        passed.extend(if left { Vec::new() } else { matcher.rest() });
        (passed, left)
    }

    #[test]
    fn keys_are_found_in_any_pieces() {
        const KEYS: &str = "ctrl-p,ctrl-q";
        assert_eq!(passed(KEYS, &[b"ls\x10\x11"]), (b"ls".to_vec(), true));
        assert_eq!(passed(KEYS, &[b"\x10", b"\x11x"]), (Vec::new(), true));
        assert_eq!(passed(KEYS, &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(
            passed(KEYS, &[b"\x10", b"x\x11"]),
            (b"\x10x\x11".to_vec(), false)
        );
        assert_eq!(passed(KEYS, &[b"a\x10"]), (b"a\x10".to_vec(), false));
        assert_eq!(passed("a,a,b", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(passed("", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }

    #[test]
    fn names_of_keys() {
        let bytes = |text: &str| text.parse::<DetachKeys>().unwrap().0;
        assert_eq!(bytes("ctrl-p,ctrl-q"), [16, 17]);
        assert_eq!(bytes("ctrl-P,x,ctrl-],ctrl-@"), [16, b'x', 29, 0]);
        assert_eq!(bytes(""), Vec::<u8>::new());
        for text in ["ctrl-", "ctrl-1", "xy", "a,", "é", "ctrl-pp", " "] {
            let error = text.parse::<DetachKeys>().unwrap_err();
            assert!(error.to_string().contains("ctrl-p,ctrl-q"), "{text}");
        }
    }
}
