//! Which containers run at this moment, and which wait for their restart.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kleene_types::{ContainerId, ExecId};

use crate::Health;

/// The first process of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Init {
    /// Its execution instance.
    pub(crate) exec: ExecId,
    /// Its process id on the host.
    pub(crate) pid: u32,
    /// Whether the container is paused.
    pub(crate) paused: bool,
}

/// What is known of one run of a container as long as it lasts.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its first process.
    pub(crate) init: Init,
    /// Whether somebody is stopping it, and its hooks have been run.
    pub(crate) stopping: bool,
    /// Whether its first process has ended, and what is left of it is being cleaned up.
    pub(crate) over: bool,
    /// When a signal was sent that would be the cause of an end soon after.
    pub(crate) signalled: Option<Instant>,
    /// Whether the container is started again after this run by whoever ends it: neither its restart
    /// policy nor its removal count.
    pub(crate) taken_over: bool,
    /// Its health, when it is checked.
    pub(crate) health: Option<Health>,
    /// Counts up when checks begin anew or end: a call for a check of an earlier turn isn't wanted.
    pub(crate) turn: u64,
}

/// The running containers and those that wait; people can wait for one to stop.
#[derive(Debug, Default)]
pub(crate) struct Running {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    runs: HashMap<ContainerId, Run>,
    /// Containers that will be started again, with the first process of their last run.
    waiting: HashMap<ContainerId, ExecId>,
    /// How often in a row a container ended soon after it was restarted, or couldn't be.
    quick_ends: HashMap<ContainerId, u32>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's first process, if it runs.
    pub(crate) fn get(&self, container: &ContainerId) -> Option<Init> {
        self.lock().runs.get(container).map(|run| run.init.clone())
    }

    /// All running containers.
    pub(crate) fn all(&self) -> HashMap<ContainerId, Init> {
        let state = self.lock();
        let runs = state.runs.iter();
        runs.map(|(id, run)| (id.clone(), run.init.clone()))
            .collect()
    }

    /// Notes that a container runs. It doesn't wait any more.
    pub(crate) fn insert(&self, container: ContainerId, init: Init) {
        let mut state = self.lock();
        state.waiting.remove(&container);
        let run = Run {
            init,
            stopping: false,
            over: false,
            signalled: None,
            taken_over: false,
            health: None,
            turn: 0,
        };
        state.runs.insert(container, run);
    }

    /// Looks at or changes what is known of the run of `container` that began with `exec`; `None`
    /// when it is over.
    pub(crate) fn with<T>(
        &self,
        container: &ContainerId,
        exec: &ExecId,
        work: impl FnOnce(&mut Run) -> T,
    ) -> Option<T> {
        let mut state = self.lock();
        let run = state.runs.get_mut(container);
        run.filter(|run| run.init.exec == *exec).map(work)
    }

    /// The health of a container, when it runs and is checked.
    pub(crate) fn health(&self, container: &ContainerId) -> Option<Health> {
        self.lock().runs.get(container)?.health.clone()
    }

    /// Notes that a container has stopped; `waits`: the first process of the run after which it waits
    /// for its restart now.
    pub(crate) fn remove(&self, container: &ContainerId, waits: Option<ExecId>) {
        let mut state = self.lock();
        state.runs.remove(container);
        if let Some(ended) = waits {
            state.waiting.insert(container.clone(), ended);
        }
        drop(state);
        self.stopped.notify_all();
    }

    /// Notes that the first process of a container has ended.
    pub(crate) fn set_over(&self, container: &ContainerId, exec: &ExecId) {
        self.with(container, exec, |run| run.over = true);
        self.stopped.notify_all();
    }

    /// Waits until the run of `container` that began with `exec` is over; `false` after `limit`. (The
    /// container is locked until it is cleaned up.)
    pub(crate) fn wait(&self, container: &ContainerId, exec: &ExecId, limit: Duration) -> bool {
        let runs = |state: &mut State| {
            let run = state.runs.get(container);
            run.is_some_and(|run| run.init.exec == *exec && !run.over)
        };
        let (state, timeout) = self
            .stopped
            .wait_timeout_while(self.lock(), limit, runs)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !timeout.timed_out()
    }

    /// The first process of the last run of a container that waits for its restart.
    pub(crate) fn waiting(&self, container: &ContainerId) -> Option<ExecId> {
        self.lock().waiting.get(container).cloned()
    }

    /// Notes that a container that doesn't run waits for its restart.
    pub(crate) fn wait_for_restart(&self, container: ContainerId, ended: ExecId) {
        self.lock().waiting.insert(container, ended);
    }

    /// Takes a container out of those that wait; whether it was one.
    pub(crate) fn cancel_waiting(&self, container: &ContainerId) -> bool {
        self.lock().waiting.remove(container).is_some()
    }

    /// Counts a quick end of a container; how many there were in a row before.
    pub(crate) fn count_quick_end(&self, container: &ContainerId) -> u32 {
        let mut state = self.lock();
        let count = state.quick_ends.entry(container.clone()).or_insert(0);
        let before = *count;
        *count = count.saturating_add(1);
        before
    }

    /// Forgets the quick ends of a container.
    pub(crate) fn forget_quick_ends(&self, container: &ContainerId) {
        self.lock().quick_ends.remove(container);
    }

    /// Forgets everything about a container that is removed.
    pub(crate) fn forget(&self, container: &ContainerId) {
        let mut state = self.lock();
        state.waiting.remove(container);
        state.quick_ends.remove(container);
    }
}
