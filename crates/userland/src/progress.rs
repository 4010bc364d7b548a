//! Tells the caller how far things are, but not more often than a person can see.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use kleene_doors::userland::{Progress, ProgressSink, UserlandError};

/// Between two reports of the same step.
const INTERVAL: Duration = Duration::from_millis(50);

/// A progress sink with a memory.
pub(crate) struct Reporter<'s> {
    sink: ProgressSink<'s>,
    step: String,
    total: Option<u64>,
    last: Option<Instant>,
}

impl<'s> Reporter<'s> {
    /// Reports to `sink`.
    pub fn new(sink: ProgressSink<'s>) -> Self {
        Self {
            sink,
            step: String::new(),
            total: None,
            last: None,
        }
    }

    /// A new step begins: always reported.
    ///
    /// # Errors
    /// [`UserlandError::Cancelled`] when the sink says so.
    pub fn step(
        &mut self,
        step: impl Into<String>,
        done: u64,
        total: Option<u64>,
    ) -> Result<(), UserlandError> {
        self.step = step.into();
        self.total = total;
        self.tell(done)
    }

    /// The current step goes on: reported now and then.
    ///
    /// # Errors
    /// [`UserlandError::Cancelled`] when the sink says so.
    pub fn done(&mut self, done: u64) -> Result<(), UserlandError> {
        if self.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            return Ok(());
        }
        self.tell(done)
    }

    /// A program that is followed has written a line, or nothing for a while.
    pub fn heard(&mut self, line: Option<&str>) -> ControlFlow<()> {
        let go_on = match line {
            Some(line) => self.step(line, 0, None),
            None => self.done(0),
        };
        match go_on {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn tell(&mut self, done: u64) -> Result<(), UserlandError> {
        self.last = Some(Instant::now());
        let progress = Progress {
            step: self.step.clone(),
            done,
            total: self.total,
        };
        if (self.sink)(progress).is_break() {
            Err(UserlandError::Cancelled)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_always_told_and_their_progress_seldom() {
        let mut told = Vec::new();
        let mut sink = |progress: Progress| {
            told.push((progress.step, progress.done, progress.total));
            ControlFlow::Continue(())
        };
        let mut reporter = Reporter::new(&mut sink);
        reporter.step("a", 0, Some(9)).unwrap();
        reporter.done(1).unwrap();
        reporter.done(2).unwrap();
        reporter.step("b", 0, None).unwrap();
        assert_eq!(told, [("a".into(), 0, Some(9)), ("b".into(), 0, None)]);
    }

    #[test]
    fn break_cancels() {
        let mut sink = |_| ControlFlow::Break(());
        let result = Reporter::new(&mut sink).step("a", 0, None);
        assert!(matches!(result, Err(UserlandError::Cancelled)));
    }
}
