//! Amounts of bytes as people read them.

/// The amount in the largest unit of which there is at least one, with three digits at most and no
/// more than needed: `512B`, `1.5KiB`, `20MiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in UNITS.into_iter().skip(1) {
        // What would be rounded to 1024 is one of the next unit.
        if amount < 1023.5 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    let digits = match amount {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{amount:.digits$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn units() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (10_240, "10KiB"),
            (10_300, "10.1KiB"),
            (1_048_000, "1023KiB"),
            (1_048_575, "1MiB"),
            (20 << 20, "20MiB"),
            (3 << 29, "1.5GiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }
}
