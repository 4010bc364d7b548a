//! One stream of bytes.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::{Shown, look};

/// What takes no longer isn't worth a word.
const SHORT: Duration = Duration::from_millis(500);

/// Shows on standard error, if that is a terminal, how much has been transferred; gone when it is
/// dropped.
pub struct Transfer {
    begin: Instant,
    done: u64,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    shown: Shown,
}

impl Transfer {
    /// Begins one whose size nobody knows.
    pub fn new() -> Self {
        Self::of(None, Shown::bars(false))
    }

    /// Begins.
    pub fn of(total: Option<u64>, shown: Shown) -> Self {
        Self {
            begin: Instant::now(),
            done: 0,
            total,
            bar: None,
            shown,
        }
    }

    /// So many bytes more are done.
    pub fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let done = self.done;
        if let Some(bar) = self.bar() {
            bar.set_position(done);
        }
    }

    /// Bytes that are done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Says something beside the bytes.
    pub fn say(&mut self, text: String) {
        if let Some(bar) = self.bar() {
            bar.set_message(text);
        }
    }

    /// Does something that writes to the terminal.
    pub fn aside(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// The bar, when it is worth one.
    fn bar(&mut self) -> Option<&ProgressBar> {
        if self.shown != Shown::Bars || self.begin.elapsed() < SHORT {
            return None;
        }
        Some(self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new_spinner();
            match self.total {
                Some(total) => {
                    bar.set_length(total);
                    look(
                        &bar,
                        "[{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                    );
                }
                None => look(&bar, "{spinner} {bytes} {bytes_per_sec} {msg}"),
            }
            bar
        }))
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
