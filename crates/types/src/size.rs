//! Amounts of bytes as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes. Its text is a number with an optional unit: `b`, `k`, `m`, `g`, `t` or `p`, in
/// either case and with an optional `b` or `ib` behind it; all of them are powers of 1024.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ByteSize(u64);

/// Why a text is not an amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It isn't a number with a unit.
    #[error(
        "invalid size '{0}': give a number with an optional unit b, k, m, g, t or p, as in 512m"
    )]
    Malformed(String),
    /// It doesn't fit into 63 bits.
    #[error("invalid size '{0}': it is larger than any machine has")]
    TooLarge(String),
}

impl ByteSize {
    /// This many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let malformed = || SizeError::Malformed(text.to_owned());
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(digits).ok_or_else(malformed)?;
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(malformed()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty()
            || fraction.contains('.')
            || (number.contains('.') && fraction.is_empty())
        {
            return Err(malformed());
        }
        let too_large = || SizeError::TooLarge(text.to_owned());
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let unit = 1_u64 << shift;
        let bytes = whole.checked_mul(unit).ok_or_else(too_large)?;
        let part = if fraction.is_empty() {
            0
        } else {
            // Nine digits are more than enough for what anybody means by a fraction.
            let fraction: String = fraction.chars().take(9).collect();
            let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(9));
            let fraction: u128 = fraction.parse().map_err(|_| malformed())?;
            u64::try_from(fraction * u128::from(unit) / scale).map_err(|_| too_large())?
        };
        let bytes = bytes.checked_add(part).ok_or_else(too_large)?;
        match i64::try_from(bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(too_large()),
        }
    }
}

/// Prints whole units where the number is a multiple of them (`512m`), for messages and command
/// lines. What it prints parses to the same number.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, 't'), (30, 'g'), (20, 'm'), (10, 'k')];
        for (shift, unit) in units {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_fractions() {
        let bytes = |text: &str| text.parse::<ByteSize>().unwrap().bytes();
        assert_eq!(bytes("0"), 0);
        assert_eq!(bytes("4096"), 4096);
        assert_eq!(bytes("512m"), 512 << 20);
        assert_eq!(bytes("512MiB"), 512 << 20);
        assert_eq!(bytes("1.5g"), 3 << 29);
        assert_eq!(bytes("2T"), 2 << 40);
        for text in [
            "", "m", "10Q", "1..5g", "1.g", ".5g", "-1", " 1", "1 m", "0x10", "1e3",
        ] {
            assert!(
                matches!(text.parse::<ByteSize>(), Err(SizeError::Malformed(_))),
                "{text}"
            );
        }
        for text in ["99999999999999999999", "9000000000g", "8388608t"] {
            assert!(
                matches!(text.parse::<ByteSize>(), Err(SizeError::TooLarge(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn printed_sizes_parse_to_themselves() {
        for bytes in [0, 1, 1023, 1024, 1 << 20, 3 << 29, (1 << 40) + 1] {
            let size = ByteSize::new(bytes);
            assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
        assert_eq!(ByteSize::new(512 << 20).to_string(), "512m");
    }
}
