//! Ending an operation from outside.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::EngineError;

/// Lets somebody end a long operation that others carry out. Clones are the same.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cancelled: bool,
    next: u64,
    calls: BTreeMap<u64, Call>,
}

type Call = Arc<dyn Fn() + Send + Sync>;

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_set()).finish()
    }
}

impl Cancel {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the operation. It may take some time until it has undone what it did. May block.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        let calls: Vec<Call> = state.calls.values().cloned().collect();
        // What is called may want to look here.
        drop(state);
        for call in calls {
            call();
        }
    }

    /// Whether somebody has ended the operation.
    pub fn is_set(&self) -> bool {
        self.lock().cancelled
    }

    /// An error once somebody has ended the operation.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        match self.is_set() {
            true => Err(EngineError::Cancelled),
            false => Ok(()),
        }
    }

    /// The same for those who ask now and then whether to go on.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        match self.is_set() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Has `call` called when somebody ends the operation, at once if that was before, as long as the
    /// answer is kept. It may be called once more while that is dropped.
    pub(crate) fn on_cancel(&self, call: impl Fn() + Send + Sync + 'static) -> OnCancel<'_> {
        let call: Call = Arc::new(call);
        let mut state = self.lock();
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        state.calls.insert(number, Arc::clone(&call));
        let cancelled = state.cancelled;
        drop(state);
        if cancelled {
            call();
        }
        OnCancel {
            cancel: self,
            number,
        }
    }
}

/// See [`Cancel::on_cancel`].
pub(crate) struct OnCancel<'c> {
    cancel: &'c Cancel,
    number: u64,
}

impl Drop for OnCancel<'_> {
    fn drop(&mut self) {
        self.cancel.lock().calls.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn calls_are_made_while_they_are_wanted() {
        let cancel = Cancel::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = || {
            let calls = Arc::clone(&calls);
            move || {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        drop(cancel.on_cancel(count()));
        let _kept = cancel.on_cancel(count());
        assert!(cancel.check().is_ok());
        cancel.clone().cancel();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let _late = cancel.on_cancel(count());
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert!(matches!(cancel.check(), Err(EngineError::Cancelled)));
        assert!(cancel.flow().is_break());
    }
}
