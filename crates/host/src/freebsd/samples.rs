//! What the tools of a FreeBSD 14.2 answered, for tests.

use kleene_command::{Answer, Scripted};
use kleene_doors::host::HostError;
use serde::Deserialize;

const SAMPLES: &str = include_str!("../../tests/fixtures/freebsd-tools.json");

#[derive(Deserialize)]
struct Sample {
    argv: Vec<String>,
    exit: i32,
    stdout: String,
    stderr: String,
}

/// Exit status 0.
pub fn success(status: i32) -> bool {
    status == 0
}

/// Any other one.
pub fn failure(status: i32) -> bool {
    status != 0
}

/// What this command answered when it ended so.
pub fn answer(words: &[&str], ending: fn(i32) -> bool) -> Answer {
    let samples: Vec<Sample> = serde_json::from_str(SAMPLES).unwrap();
    let found = samples
        .into_iter()
        .find(|sample| sample.argv == words && ending(sample.exit))
        .unwrap_or_else(|| panic!("no sample of {words:?}"));
    match found.exit {
        0 => Answer::ok(found.stdout),
        status => Answer::fail(status, found.stderr),
    }
}

/// A runner that expects this command and answers as FreeBSD did.
pub fn sample(words: &[&str], ending: fn(i32) -> bool) -> Scripted {
    Scripted::new().expect(words, answer(words, ending))
}

/// An error with its causes, as users see it.
pub fn chain(error: &HostError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
