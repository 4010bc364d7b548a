//! Starting containers that nobody starts by hand: when their restart policy says so, and when the
//! daemon starts.

use std::time::Duration;

use kleene_doors::host::Stdin;
use kleene_store::{ContainerRecord, LastRun};
use kleene_types::{ContainerId, ExecId, RestartPolicy, Timestamp};
use tracing::{error, info, warn};

use crate::events::NewEvent;
use crate::exec::draft_exec;
use crate::locks::{Guard, Key};
use crate::{Engine, EngineError, ExecStart, Later, NewExec};

/// Time until the first restart; it doubles with every one in a row.
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The longest time until a restart.
const LAST_DELAY: Duration = Duration::from_secs(60);

/// A run of at least this length is taken for a success: the next restart comes soon.
const LONG_RUN: Duration = Duration::from_secs(10);

/// Why a container is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Somebody wants it.
    User,
    /// The daemon starts.
    Daemon,
    /// Its restart policy says so.
    Policy,
}

/// A container whose process starts without a client.
const DETACHED: ExecStart = ExecStart {
    attach: false,
    start_container: true,
    stdin: Stdin::Null,
    window: None,
};

/// Whether the restart policy of a container that doesn't run asks for its restart.
pub(crate) fn wants_restart(container: &ContainerRecord) -> bool {
    let code = match &container.last_run {
        Some(LastRun {
            ended: Some((_, code)),
            ..
        }) => *code,
        _ => return false,
    };
    !container.stopped_by_user
        && match container.restart_policy {
            RestartPolicy::No | RestartPolicy::OnStartup => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { limit } => {
                code != 0 && limit.is_none_or(|limit| container.restarts < limit)
            }
        }
}

/// Whether a container is started when the daemon starts, and why.
fn wanted_at_startup(container: &ContainerRecord) -> Option<Cause> {
    match container.restart_policy {
        RestartPolicy::No => None,
        RestartPolicy::OnStartup => Some(Cause::Daemon),
        // One that was never started is not started unasked.
        RestartPolicy::Always => container.last_run.as_ref().map(|_| Cause::Daemon),
        RestartPolicy::UnlessStopped => wants_restart(container).then_some(Cause::Daemon),
        RestartPolicy::OnFailure { .. } => wants_restart(container).then_some(Cause::Policy),
    }
}

/// Time until a restart after this number of quick ends in a row.
fn delay(quick_ends: u32) -> Duration {
    let factor = 1_u32.checked_shl(quick_ends).unwrap_or(u32::MAX);
    FIRST_DELAY.saturating_mul(factor).min(LAST_DELAY)
}

/// Whether a run was long enough to be taken for a success.
fn was_long(run: &LastRun, ended: Timestamp) -> bool {
    let length = ended
        .microseconds()
        .saturating_sub(run.started.microseconds());
    Duration::from_micros(length) >= LONG_RUN
}

impl Engine {
    /// Asks for the restart of a container that has ended or couldn't be restarted, after a time that
    /// grows from one to the next. It must be among those that wait.
    pub(crate) fn restart_later(&self, container: &ContainerRecord) {
        let Some(run) = &container.last_run else {
            return;
        };
        let delay = delay(self.running.count_quick_end(&container.id));
        let call = Later::Restart {
            container: container.id.clone(),
            ended: run.init.clone(),
        };
        self.supervisor.call_later(delay, call);
    }

    /// A container has ended after a long run: what was before doesn't slow down its restart.
    pub(crate) fn forgive_quick_ends(&self, run: &LastRun, ended: Timestamp, id: &ContainerId) {
        if was_long(run, ended) {
            self.running.forget_quick_ends(id);
        }
    }

    /// Restarts a container that waits for it since its run that began with `ended`.
    ///
    /// # Errors
    /// When the records can't be read or written.
    pub(crate) fn restart_due(&self, id: &ContainerId, ended: &ExecId) -> Result<(), EngineError> {
        let lock = self.locks.exclusive(Key::Container(id.clone()));
        if self.running.waiting(id).as_ref() != Some(ended) {
            return Ok(());
        }
        let Some(container) = self.store.container(id)? else {
            self.running.cancel_waiting(id);
            return Ok(());
        };
        if !wants_restart(&container) {
            self.running.cancel_waiting(id);
            return Ok(());
        }
        drop(self.start_or_wait(&container, Cause::Policy, lock));
        Ok(())
    }

    /// Starts a container that doesn't run. Should that fail, its policy decides about the next try.
    fn start_or_wait(
        &self,
        container: &ContainerRecord,
        cause: Cause,
        lock: Guard<'_>,
    ) -> Result<(), EngineError> {
        let id = &container.id;
        let Err(problem) = self.start_locked(id, cause, lock) else {
            info!(container = %id, name = %container.name, "restarted");
            return Ok(());
        };
        warn!(container = %id, name = %container.name, %problem, "a container can't be restarted");
        let lock = self.locks.exclusive(Key::Container(id.clone()));
        if let Err(problem) = self.note_failed_restart(container, &problem) {
            error!(container = %id, %problem, "noting that");
        }
        drop(lock);
        Err(problem)
    }

    /// Counts a restart that has failed, and asks for the next one if the policy says so.
    fn note_failed_restart(
        &self,
        before: &ContainerRecord,
        problem: &EngineError,
    ) -> Result<(), EngineError> {
        let id = &before.id;
        let Some(mut container) = self.store.container(id)? else {
            return Ok(());
        };
        let init = |container: &ContainerRecord| {
            let run = container.last_run.as_ref();
            run.map(|run| run.init.clone())
        };
        if self.running.get(id).is_some() || init(&container) != init(before) {
            // It has run meanwhile; its end has decided, or will.
            return Ok(());
        }
        self.emit(NewEvent::container("restart", id, &container.name).with("error", problem));
        if wants_restart(&container) {
            container.restarts = container.restarts.saturating_add(1);
            self.store
                .write_soon(|transaction| transaction.put_container(&container))?;
        }
        match init(&container) {
            Some(ended) if wants_restart(&container) => {
                self.running.wait_for_restart(id.clone(), ended);
                self.restart_later(&container);
            }
            _ => {
                self.running.cancel_waiting(id);
            }
        }
        Ok(())
    }

    /// Starts a container detached, unless it runs.
    ///
    /// # Errors
    /// [`EngineError::Start`] and others when it can't be started.
    pub(crate) fn start_run(&self, id: &ContainerId, cause: Cause) -> Result<(), EngineError> {
        let lock = self.locks.exclusive(Key::Container(id.clone()));
        self.start_locked(id, cause, lock)
    }

    fn start_locked(
        &self,
        id: &ContainerId,
        cause: Cause,
        lock: Guard<'_>,
    ) -> Result<(), EngineError> {
        if self.running.get(id).is_some() {
            return Ok(());
        }
        let container = self.recorded_container(id)?;
        let exec = draft_exec(
            NewExec {
                container: id.to_string(),
                cmd: Vec::new(),
                env: Vec::new(),
                user: String::new(),
                tty: false,
                working_dir: None,
            },
            &container,
        );
        self.store
            .write_soon(|transaction| transaction.put_exec(&exec))?;
        let started = self.start_first(&exec.id, DETACHED, cause, lock);
        if started.is_err() {
            // Nobody else knows it, so nobody will try to start it. (One that has run has its end
            // recorded, and stays.)
            self.drop_if_unstarted(&exec.id)?;
        }
        started.map(drop)
    }

    fn drop_if_unstarted(&self, id: &ExecId) -> Result<(), EngineError> {
        if self
            .store
            .exec(id)?
            .is_some_and(|exec| exec.started.is_none())
        {
            self.store
                .write_soon(|transaction| transaction.delete_exec(id))?;
        }
        Ok(())
    }

    /// Starts the containers whose policy asks for it when the daemon starts, and that don't run.
    /// Answers how each went.
    pub fn start_on_startup(&self) -> Vec<(ContainerId, Result<(), EngineError>)> {
        let containers = match self.store.containers() {
            Ok(containers) => containers,
            Err(problem) => {
                error!(%problem, "the containers to start can't be read");
                return Vec::new();
            }
        };
        let mut started = Vec::new();
        for container in containers.iter().rev() {
            let Some(cause) = wanted_at_startup(container) else {
                continue;
            };
            let lock = self.locks.exclusive(Key::Container(container.id.clone()));
            if self.running.get(&container.id).is_none() {
                let result = self.start_or_wait(container, cause, lock);
                started.push((container.id.clone(), result));
            }
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        let delays: Vec<u128> = [0, 1, 2, 9, 10, 31, 32, u32::MAX]
            .into_iter()
            .map(|quick_ends| delay(quick_ends).as_millis())
            .collect();
        assert_eq!(
            delays,
            [100, 200, 400, 51_200, 60_000, 60_000, 60_000, 60_000]
        );
    }

    #[test]
    fn a_long_run_is_a_success() {
        let at = |microseconds| Timestamp::from_microseconds(microseconds).unwrap();
        let run = LastRun {
            init: ExecId::random(),
            started: at(1_000_000),
            ended: None,
            out_of_memory: false,
        };
        assert!(!was_long(&run, at(10_999_999)));
        assert!(was_long(&run, at(11_000_000)));
        // The clock was set back.
        assert!(!was_long(&run, at(0)));
    }
}
