//! Signals by name or number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signal, by its number on this platform. Its text is a name with or without `SIG`, in either
/// case (`TERM`, `SIGRTMIN+3`), or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(i32);

/// Why a text is not a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown signal '{0}': give a name such as TERM, HUP or USR1, or a number from 1 to {LAST}"
)]
pub struct SignalError(pub String);

/// Numbers of signal(7) on most of Linux's platforms.
#[cfg(target_os = "linux")]
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];
/// Numbers of FreeBSD's signal(3).
#[cfg(not(target_os = "linux"))]
const NAMES: [(&str, i32); 32] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("EMT", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("BUS", 10),
    ("SEGV", 11),
    ("SYS", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("URG", 16),
    ("STOP", 17),
    ("TSTP", 18),
    ("CONT", 19),
    ("CHLD", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("IO", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("INFO", 29),
    ("USR1", 30),
    ("USR2", 31),
    ("THR", 32),
];

/// The first and last real-time signal that programs may use.
#[cfg(target_os = "linux")]
const REAL_TIME: (i32, i32) = (34, 64);
#[cfg(not(target_os = "linux"))]
const REAL_TIME: (i32, i32) = (65, 126);

/// The last signal there is.
const LAST: i32 = REAL_TIME.1;

impl Signal {
    /// Ends a process at once.
    pub const KILL: Self = Self(9);
    /// Asks a process to end.
    pub const TERM: Self = Self(15);

    /// The number on this platform.
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The signal of a number.
    ///
    /// # Errors
    /// There is none.
    pub fn from_number(number: i32) -> Result<Self, SignalError> {
        match (1..=LAST).contains(&number) {
            true => Ok(Self(number)),
            false => Err(SignalError(number.to_string())),
        }
    }
}

impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let error = || SignalError(text.to_owned());
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number = text.parse().map_err(|_| error())?;
            return Self::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let (first, last) = REAL_TIME;
        let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse::<i32>().ok()
            }
            _ => rest.is_empty().then_some(0),
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').and_then(|by| first.checked_add(by))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').and_then(|by| last.checked_sub(by))
        } else {
            None
        };
        match number {
            Some(number) if (first..=last).contains(&number) => Ok(Self(number)),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = SignalError;

    fn try_from(text: String) -> Result<Self, SignalError> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

/// The name with `SIG`; the number where there is none.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        let number = |text: &str| text.parse::<Signal>().unwrap().number();
        assert_eq!(number("TERM"), 15);
        assert_eq!(number("SIGTERM"), 15);
        assert_eq!(number("sigkill"), 9);
        assert_eq!(number("9"), 9);
        assert_eq!(number("RTMIN+1"), REAL_TIME.0 + 1);
        assert_eq!(number("SIGRTMAX"), LAST);
        for text in [
            "", "0", "-1", "SIG", "TERMX", "999", "RTMIN+99", "RTMIN1", "RTMAX+1", "1.5",
        ] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn printed_signals_parse_to_themselves() {
        for number in 1..=LAST {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    }
}
