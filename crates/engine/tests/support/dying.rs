//! Doors through which the daemon dies: the n-th step panics, as a kill at that point would end the
//! engine, without any of its own clean-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use kleene_doors::host::Host;
use kleene_doors::storage::Storage;
use kleene_doors::testkit::{SteppedHost, SteppedStorage, Steps};

/// Steps left until death; shared by both doors.
#[derive(Clone)]
pub struct Countdown(Arc<AtomicIsize>);

impl Countdown {
    /// Dies at the step after `steps` others.
    pub fn after(steps: isize) -> Self {
        Self(Arc::new(AtomicIsize::new(steps)))
    }

    /// Whether it has come to that.
    pub fn is_dead(&self) -> bool {
        self.0.load(Ordering::SeqCst) < 0
    }

    /// Storage through which the daemon dies.
    pub fn storage(&self, inner: Arc<dyn Storage>) -> Arc<dyn Storage> {
        let steps = self.steps();
        Arc::new(SteppedStorage { inner, steps })
    }

    /// A host through which the daemon dies.
    pub fn host(&self, inner: Arc<dyn Host>) -> Arc<dyn Host> {
        let steps = self.steps();
        Arc::new(SteppedHost { inner, steps })
    }

    /// Every thread of a dead daemon ends.
    fn steps(&self) -> Steps {
        let left = Arc::clone(&self.0);
        Steps::new(move || assert!(left.fetch_sub(1, Ordering::SeqCst) > 0, "killed"))
    }
}
