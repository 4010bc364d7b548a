//! Points in time in queries.

use kleene_types::Timestamp;

use super::error::ApiError;

/// A point in time in microseconds since 1970, from RFC 3339 or from seconds since 1970 with or
/// without a fraction.
///
/// # Errors
/// When the text is neither; the message names the parameter.
pub fn parse(name: &str, text: &str) -> Result<u64, ApiError> {
    let time = seconds(text).or_else(|| text.parse().ok().map(Timestamp::microseconds));
    time.ok_or_else(|| {
        ApiError::bad_request(format!(
            "the query parameter '{name}' is '{text}': give a time as in 2024-02-29T14:54:05Z, or \
             seconds since 1970"
        ))
    })
}

fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?;
    // What is smaller than a microsecond is cut off.
    let fraction = format!("{fraction:0<6}").get(..6)?.parse::<u64>().ok()?;
    whole.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, wanted) in [
            ("0", 0),
            ("1709218445", 1_709_218_445_000_000),
            ("1709218445.3", 1_709_218_445_300_000),
            ("1709218445.3172079", 1_709_218_445_317_207),
            ("2024-02-29T14:54:05Z", 1_709_218_445_000_000),
            ("2024-02-29T14:54:05.3172079Z", 1_709_218_445_317_207),
            ("2024-02-29T15:54:05+01:00", 1_709_218_445_000_000),
        ] {
            assert_eq!(parse("since", text), Ok(wanted), "{text}");
        }
        for text in [
            "",
            "-1",
            "1e9",
            "1.",
            ".5",
            "10m",
            "yesterday",
            "2024-02-29",
            "99999999999999999999",
        ] {
            let message = parse("since", text).unwrap_err().message;
            assert!(message.contains("'since'"), "{message}");
        }
    }
}
