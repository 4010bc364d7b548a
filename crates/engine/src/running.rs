//! Which containers run at this moment.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kleene_types::{ContainerId, ExecId};

/// The first process of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Init {
    /// Its execution instance.
    pub(crate) exec: ExecId,
    /// Its process id on the host.
    pub(crate) pid: u32,
}

/// The running containers; people can wait for one to stop.
#[derive(Debug, Default)]
pub(crate) struct Running {
    containers: Mutex<HashMap<ContainerId, Init>>,
    stopped: Condvar,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Init>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The container's first process, if it runs.
    pub(crate) fn get(&self, container: &ContainerId) -> Option<Init> {
        self.lock().get(container).cloned()
    }

    /// All running containers.
    pub(crate) fn all(&self) -> HashMap<ContainerId, Init> {
        self.lock().clone()
    }

    /// Notes that a container runs.
    pub(crate) fn insert(&self, container: ContainerId, init: Init) {
        self.lock().insert(container, init);
    }

    /// Notes that a container has stopped.
    pub(crate) fn remove(&self, container: &ContainerId) {
        self.lock().remove(container);
        self.stopped.notify_all();
    }

    /// Waits until the run of `container` that began with `exec` is over; `false` after `limit`.
    pub(crate) fn wait(&self, container: &ContainerId, exec: &ExecId, limit: Duration) -> bool {
        let runs = |map: &mut HashMap<ContainerId, Init>| {
            map.get(container).is_some_and(|init| init.exec == *exec)
        };
        let (containers, timeout) = self
            .stopped
            .wait_timeout_while(self.lock(), limit, runs)
            .unwrap_or_else(PoisonError::into_inner);
        drop(containers);
        !timeout.timed_out()
    }
}
