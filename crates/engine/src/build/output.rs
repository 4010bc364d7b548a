//! What a build tells.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kleene_types::ImageId;

/// Takes what a build tells, in the order in which it happens. Several threads may call it, one after
/// the other. A client that has gone away is told nothing any more: whoever notices that cancels.
pub trait BuildOutput: Send + Sync {
    /// The build begins, of the image with this id.
    fn started(&self, image: &ImageId);

    /// Output: lines of the build, and of its processes.
    fn text(&self, data: &[u8]);
}

/// The output of a whole build. What is told before the image's id is known is kept until then.
pub(super) struct Output<'a> {
    to: &'a dyn BuildOutput,
    /// Whether what processes print is left out.
    quiet: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: bool,
    kept: Vec<u8>,
}

impl<'a> Output<'a> {
    pub(super) fn new(to: &'a dyn BuildOutput, quiet: bool) -> Self {
        Self {
            to,
            quiet,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image's id is known.
    pub(super) fn start(&self, image: &ImageId) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.started, true) {
            self.to.started(image);
            let kept = std::mem::take(&mut state.kept);
            if !kept.is_empty() {
                self.to.text(&kept);
            }
        }
    }

    /// A line of the build's own.
    pub(super) fn line(&self, text: &str) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// What a process has printed.
    pub(super) fn of_process(&self, data: &[u8]) {
        if !self.quiet {
            self.write(data);
        }
    }

    fn write(&self, data: &[u8]) {
        let mut state = self.lock();
        match state.started {
            true => self.to.text(data),
            false => state.kept.extend_from_slice(data),
        }
    }
}
