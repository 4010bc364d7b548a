//! Points in time as the contract prints them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A point in time, printed as RFC 3339 in UTC with microseconds (`2024-02-29T14:54:05.317207Z`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The current time, cut to microseconds so that it survives being written and read.
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self(jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now))
    }

    /// The time this many microseconds after 1970-01-01T00:00:00Z; `None` beyond the year 9999.
    pub fn from_microseconds(microseconds: u64) -> Option<Self> {
        let microseconds = i64::try_from(microseconds).ok()?;
        jiff::Timestamp::from_microsecond(microseconds)
            .ok()
            .map(Self)
    }

    /// Microseconds since 1970-01-01T00:00:00Z; 0 before that.
    pub fn microseconds(self) -> u64 {
        u64::try_from(self.0.as_microsecond()).unwrap_or(0)
    }

    /// Whole seconds from `self` to `later`; 0 when `later` is earlier.
    pub fn seconds_until(self, later: Self) -> u64 {
        u64::try_from(later.0.as_second() - self.0.as_second()).unwrap_or(0)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for Timestamp {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_microseconds() {
        let text = "2024-02-29T14:54:05.300000Z";
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        let now = Timestamp::now();
        assert_eq!(now.to_string().parse::<Timestamp>().unwrap(), now);
    }
}
