//! Points in time as people give them.

use std::str::FromStr;

use kleene_types::{Span, Timestamp};

/// A time as the API takes it. It is given as a length of time before now (`10m`, `1h30m`), seconds
/// since 1970 with an optional fraction, RFC 3339 (`2024-02-29T14:54:05Z`), or a day or time without
/// zone, which is UTC.
///
/// # Errors
/// When the text is none of them.
pub fn parse(text: &str) -> Result<String, String> {
    at(text, Timestamp::now())
}

fn at(text: &str, now: Timestamp) -> Result<String, String> {
    let numeric = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if numeric(seconds) && numeric(fraction) {
        return Ok(text.to_owned());
    }
    if let Ok(span) = text.parse::<Span>() {
        let span = u64::try_from(span.duration().as_micros()).unwrap_or(u64::MAX);
        let then = now.microseconds().saturating_sub(span);
        return Ok(Timestamp::from_microseconds(then)
            .unwrap_or(now)
            .to_string());
    }
    let whole = [
        text.to_owned(),
        format!("{text}Z"),
        format!("{text}:00Z"),
        format!("{text}T00:00:00Z"),
    ];
    let time = whole.iter().find_map(|text| Timestamp::from_str(text).ok());
    time.map(|time| time.to_string()).ok_or_else(|| {
        "give how long ago, as in 10m, seconds since 1970, or a time as in 2024-02-29T14:54:05Z"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let now = "2024-02-29T15:00:00.000000Z".parse().unwrap();
        for (text, expected) in [
            ("10m", "2024-02-29T14:50:00.000000Z"),
            ("1h30m", "2024-02-29T13:30:00.000000Z"),
            ("0s", "2024-02-29T15:00:00.000000Z"),
            ("1709218445", "1709218445"),
            ("1709218445.25", "1709218445.25"),
            ("2024-02-29T14:54:05Z", "2024-02-29T14:54:05.000000Z"),
            ("2024-02-29T15:54:05.5+01:00", "2024-02-29T14:54:05.500000Z"),
            ("2024-02-29T14:54:05", "2024-02-29T14:54:05.000000Z"),
            ("2024-02-29T14:54", "2024-02-29T14:54:00.000000Z"),
            ("2024-02-29", "2024-02-29T00:00:00.000000Z"),
        ] {
            assert_eq!(at(text, now).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "yesterday", "10x", "-5m", "1.2.3", "2024-13-01"] {
            assert!(at(text, now).is_err(), "{text}");
        }
    }
}
