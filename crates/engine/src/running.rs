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
    /// By which the host knows the container: a jail's number, or its process id.
    pub(crate) number: u32,
    /// Whether the container is paused.
    pub(crate) paused: bool,
}

/// What is known of one run of a container as long as it lasts.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its first process.
    pub(crate) init: Init,
    /// Whether somebody wants it to stop.
    pub(crate) stopping: bool,
    /// How far they have come with that.
    stop: StopWork,
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

/// The work of stopping a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopWork {
    /// Nobody has begun.
    None,
    /// Somebody is at it.
    UnderWay,
    /// Somebody was, and has failed: its hooks have been run.
    Left,
}

/// Who is to stop a container.
#[derive(Debug)]
pub(crate) enum StopTurn<'r> {
    /// Whoever asked, as long as this is kept.
    Ours {
        /// Whether nobody has tried before.
        first: bool,
        /// To be dropped at the end.
        turn: StopGuard<'r>,
    },
    /// Nobody: it has ended.
    Over,
    /// Somebody else, who has not come to the end in time.
    Others,
}

/// Keeps others from stopping a container at the same time.
#[derive(Debug)]
pub(crate) struct StopGuard<'r> {
    running: &'r Running,
    container: ContainerId,
    exec: ExecId,
}

impl Drop for StopGuard<'_> {
    fn drop(&mut self) {
        self.running.with(&self.container, &self.exec, |run| {
            run.stop = StopWork::Left;
        });
        self.running.stopped.notify_all();
    }
}

/// Keeps a container that is stopped and then removed from being started in between.
#[derive(Debug)]
pub(crate) struct Removal<'r> {
    running: &'r Running,
    container: ContainerId,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        let mut state = self.running.lock();
        if let Some(count) = state.removals.get_mut(&self.container) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.removals.remove(&self.container);
            }
        }
    }
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
    /// How many are removing a container whether it runs or not.
    removals: HashMap<ContainerId, usize>,
}

impl State {
    /// The run of `container` that began with `exec`, unless it is over.
    fn run(&mut self, container: &ContainerId, exec: &ExecId) -> Option<&mut Run> {
        let run = self.runs.get_mut(container);
        run.filter(|run| run.init.exec == *exec && !run.over)
    }
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
            stop: StopWork::None,
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
        let runs = |state: &mut State| state.run(container, exec).is_some();
        let (state, timeout) = self
            .stopped
            .wait_timeout_while(self.lock(), limit, runs)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        !timeout.timed_out()
    }

    /// Asks for the turn to stop the run of `container` that began with `exec`. While somebody else
    /// has it, that is waited for: until its end, or for `limit`.
    pub(crate) fn take_stop(
        &self,
        container: &ContainerId,
        exec: &ExecId,
        limit: Option<Duration>,
    ) -> StopTurn<'_> {
        let under_way = |state: &mut State| {
            let run = state.run(container, exec);
            run.is_some_and(|run| run.stop == StopWork::UnderWay)
        };
        let state = self.lock();
        let mut state = match limit {
            None => self
                .stopped
                .wait_while(state, under_way)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                let waited = self.stopped.wait_timeout_while(state, limit, under_way);
                let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                if timeout.timed_out() {
                    return StopTurn::Others;
                }
                state
            }
        };
        match state.run(container, exec) {
            None => StopTurn::Over,
            Some(run) => {
                let before = std::mem::replace(&mut run.stop, StopWork::UnderWay);
                StopTurn::Ours {
                    first: before == StopWork::None,
                    turn: StopGuard {
                        running: self,
                        container: container.clone(),
                        exec: exec.clone(),
                    },
                }
            }
        }
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

    /// Notes that a container is being removed whether it runs or not, until the answer is dropped.
    pub(crate) fn begin_removal(&self, container: ContainerId) -> Removal<'_> {
        let mut state = self.lock();
        let count = state.removals.entry(container.clone()).or_insert(0);
        *count = count.saturating_add(1);
        drop(state);
        Removal {
            running: self,
            container,
        }
    }

    /// Whether somebody is removing a container, running or not: it isn't started any more.
    pub(crate) fn is_being_removed(&self, container: &ContainerId) -> bool {
        self.lock().removals.contains_key(container)
    }

    /// Forgets everything about a container that is removed.
    pub(crate) fn forget(&self, container: &ContainerId) {
        let mut state = self.lock();
        state.waiting.remove(container);
        state.quick_ends.remove(container);
    }
}
