//! How far a copy has come.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What takes no longer isn't worth a word.
const SHORT: Duration = Duration::from_millis(500);

/// Shows on standard error, if that is a terminal, how much has been copied; gone when it is
/// dropped.
pub struct Progress {
    begin: Instant,
    done: u64,
    bar: Option<ProgressBar>,
    wanted: bool,
}

impl Progress {
    /// Begins.
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
            done: 0,
            bar: None,
            wanted: io::stderr().is_terminal(),
        }
    }

    /// So many bytes more are done.
    pub fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if !self.wanted || self.begin.elapsed() < SHORT {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            // The template is a constant: a bad one would only leave another style.
            match ProgressStyle::with_template("{spinner} {bytes} {bytes_per_sec}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        bar.set_position(self.done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
