//! Lengths of time as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time in whole milliseconds. Its text is a number of seconds (`10`, `0.5`), or numbers
/// with the units `ms`, `s`, `m`, `h` and `d` behind each other (`1m30s`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Span(u64);

/// Why a text is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid time '{0}': give seconds, or numbers with the units ms, s, m, h and d, as in 1m30s"
)]
pub struct SpanError(pub String);

/// A hundred years: more than anybody waits, and far from any overflow.
const LONGEST: u64 = 100 * 365 * 24 * 3600 * 1000;

impl Span {
    /// This many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// The length of time.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let error = || SpanError(text.to_owned());
        let mut rest = text;
        let mut total = 0_u64;
        if text.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            let (number, behind) = rest.split_at_checked(end).ok_or_else(error)?;
            let end = behind
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(behind.len());
            let (unit, behind) = behind.split_at_checked(end).ok_or_else(error)?;
            let unit = match unit {
                "ms" => 1,
                // A bare number only makes sense alone.
                "" if number.len() == text.len() => 1000,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(error()),
            };
            let amount = milliseconds(number, unit).ok_or_else(error)?;
            total = total.checked_add(amount).ok_or_else(error)?;
            rest = behind;
        }
        match total <= LONGEST {
            true => Ok(Self(total)),
            false => Err(error()),
        }
    }
}

fn milliseconds(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let fraction: String = fraction.chars().take(6).collect();
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let fraction = fraction.parse::<u64>().ok()?.checked_mul(unit)? / scale;
    whole.checked_add(fraction)
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, SpanError> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1000, "s"),
            (1, "ms"),
        ];
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, name) in units {
            if rest >= unit {
                write!(f, "{}{name}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_units() {
        let milliseconds = |text: &str| text.parse::<Span>().unwrap().duration().as_millis();
        assert_eq!(milliseconds("10"), 10_000);
        assert_eq!(milliseconds("0.5"), 500);
        assert_eq!(milliseconds("0"), 0);
        assert_eq!(milliseconds("1m30s"), 90_000);
        assert_eq!(milliseconds("1.5h"), 5_400_000);
        assert_eq!(milliseconds("250ms"), 250);
        assert_eq!(milliseconds("1d2h3m4s5ms"), 93_784_005);
        for text in [
            "",
            "s",
            "-1",
            "1x",
            "1m30",
            "1 s",
            "1.s",
            ".5",
            "1..2",
            "99999999999999999999d",
            "40000d",
        ] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn printed_spans_parse_to_themselves() {
        for milliseconds in [0, 1, 999, 1000, 90_000, 93_784_005] {
            let span = Span::from_millis(milliseconds);
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        assert_eq!(Span::from_millis(90_000).to_string(), "1m30s");
    }
}
