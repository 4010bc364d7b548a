//! Ages as people say them.

use kleene_types::Timestamp;

/// How long ago a time of the API was, such as `6 minutes ago`; a text that is no time is returned
/// as it is.
pub fn ago(created: &str, now: Timestamp) -> String {
    match created.parse::<Timestamp>() {
        Ok(created) => format!("{} ago", duration(created.seconds_until(now))),
        Err(_) => created.to_owned(),
    }
}

/// Seconds in the largest unit that leaves a telling number. Hours are rounded to the nearest, all
/// others are cut.
fn duration(seconds: u64) -> String {
    const DAY: u64 = 24;
    let minutes = seconds / 60;
    let hours = (minutes + 30) / 60;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        _ if hours < 14 * DAY => format!("{} days", hours / DAY),
        _ if hours < 60 * DAY => format!("{} weeks", hours / (7 * DAY)),
        _ if hours < 730 * DAY => format!("{} months", hours / (30 * DAY)),
        _ => format!("{} years", hours / (365 * DAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_change_where_people_expect_it() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (2, "2 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (6 * 60 + 59, "6 minutes"),
            (59 * 60 + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR + 1799, "47 hours"),
            (47 * HOUR + 1800, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn times_of_the_api() {
        let now = "2024-02-29T15:00:05.400000Z".parse().unwrap();
        assert_eq!(ago("2024-02-29T14:54:05.317207Z", now), "6 minutes ago");
        assert_eq!(
            ago("2030-01-01T00:00:00Z", now),
            "Less than a second ago",
            "a clock that is ahead"
        );
        assert_eq!(ago("yesterday", now), "yesterday");
    }
}
