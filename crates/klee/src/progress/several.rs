//! Several things that are done at once, such as the layers of an image.

use std::io::{self, Write};

use indicatif::{MultiProgress, ProgressBar};
use kleene_api::ProgressInfo;

use super::{Shown, look};
use crate::table::printable;

/// Shows each of several things by a bar of its own, and all of them together; or by lines. Bars are
/// gone when it is dropped.
pub struct Several {
    shown: Shown,
    bars: MultiProgress,
    parts: Vec<Part>,
    total: Option<ProgressBar>,
}

/// One of the things.
struct Part {
    id: Option<String>,
    step: String,
    bar: Option<ProgressBar>,
    sum: Sum,
}

/// Bytes that were and will be transferred. What is done with them afterwards doesn't count again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    done: u64,
    total: Option<u64>,
}

impl Sum {
    fn add(&mut self, done: u64, total: Option<u64>) {
        self.total = self.total.or(total);
        let most = self.total.unwrap_or(u64::MAX);
        self.done = self.done.max(done.min(most));
    }
}

impl Several {
    /// Begins.
    pub fn new(shown: Shown) -> Self {
        Self {
            shown,
            bars: MultiProgress::new(),
            parts: Vec::new(),
            total: None,
        }
    }

    /// One thing has come this far.
    pub fn show(&mut self, info: &ProgressInfo) {
        if self.shown == Shown::Nothing {
            return;
        }
        let known = self.parts.iter().position(|part| part.id == info.id);
        let index = known.unwrap_or_else(|| self.begin(info.id.clone()));
        let Some(part) = self.parts.get_mut(index) else {
            return;
        };
        let another = known.is_none() || part.step != info.step;
        part.step.clone_from(&info.step);
        part.sum.add(info.done, info.total);
        match &part.bar {
            Some(bar) => draw(bar, info, another),
            None if another => tell(info),
            None => {}
        }
        self.show_total();
    }

    /// Begins one more thing; the answer is its place.
    fn begin(&mut self, id: Option<String>) -> usize {
        let bar = (self.shown == Shown::Bars).then(|| {
            let bar = ProgressBar::new_spinner();
            match &self.total {
                Some(total) => self.bars.insert_before(total, bar),
                None => self.bars.add(bar),
            }
        });
        self.parts.push(Part {
            id,
            step: String::new(),
            bar,
            sum: Sum::default(),
        });
        if self.shown == Shown::Bars && self.parts.len() == 2 {
            let bar = self.bars.add(ProgressBar::new_spinner());
            look(&bar, "total {bytes}/{total_bytes} {bytes_per_sec}");
            self.total = Some(bar);
        }
        self.parts.len() - 1
    }

    fn show_total(&self) {
        if let Some(bar) = &self.total {
            let sum = total(self.parts.iter().map(|part| part.sum));
            bar.set_length(sum.total.unwrap_or(sum.done));
            bar.set_position(sum.done);
        }
    }
}

impl Drop for Several {
    fn drop(&mut self) {
        for bar in self.parts.iter().filter_map(|part| part.bar.as_ref()) {
            bar.finish_and_clear();
        }
        if let Some(bar) = &self.total {
            bar.finish_and_clear();
        }
    }
}

/// All of them together.
fn total(sums: impl Iterator<Item = Sum>) -> Sum {
    sums.fold(Sum::default(), |all, one| Sum {
        done: all.done + one.done,
        total: match (all.total, one.total) {
            (None, None) => None,
            (all, one) => Some(all.unwrap_or(0) + one.unwrap_or(0)),
        },
    })
}

fn title(info: &ProgressInfo) -> String {
    let step = printable(&info.step);
    match &info.id {
        Some(id) => format!("{}: {step}", printable(id)),
        None => step,
    }
}

fn draw(bar: &ProgressBar, info: &ProgressInfo, another: bool) {
    if another || bar.length() != info.total {
        bar.set_message(title(info));
        match info.total {
            Some(total) => {
                bar.set_length(total);
                look(
                    bar,
                    "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                );
            }
            None => {
                bar.unset_length();
                // Of some steps there is nothing to be counted.
                let counted = info.done > 0;
                look(
                    bar,
                    if counted {
                        "{spinner} {msg} {bytes}"
                    } else {
                        "{spinner} {msg}"
                    },
                );
            }
        }
    }
    bar.set_position(info.done);
}

fn tell(info: &ProgressInfo) {
    // There is no other place to tell it.
    let _ = io::stderr()
        .lock()
        .write_all(format!("{}\n", title(info)).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_after_the_transfer_does_not_count_again() {
        let mut sum = Sum::default();
        sum.add(0, None);
        sum.add(30, Some(100));
        sum.add(100, Some(100));
        sum.add(5, Some(400));
        sum.add(400, Some(400));
        let all = Sum {
            done: 100,
            total: Some(100),
        };
        assert_eq!(sum, all);
        let unknown = Sum {
            done: 7,
            total: None,
        };
        let both = total([sum, unknown].into_iter());
        assert_eq!((both.done, both.total), (107, Some(100)));
    }
}
