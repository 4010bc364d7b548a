//! The ends of execution instances, and of the containers that end with them.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use kleene_doors::host::{ExitStatus, Probe};
use kleene_store::{ContainerRecord, ExecRecord, StoreError, Transaction};
use kleene_types::{ContainerId, ExecId, Timestamp};
use tracing::{error, warn};

use crate::aside::{News, wait_for_end};
use crate::events::NewEvent;
use crate::locks::{Key, Mode};
use crate::restart::wants_restart;
use crate::{Ended, Engine, EngineError};

/// Exit code recorded for a process whose end nobody saw (128 + SIGKILL).
const LOST: i32 = 137;

/// Ended execution instances that joined a container and are kept for each, with their output.
const KEPT: usize = 16;

/// Runs of a container whose first execution instances are kept, with their output.
const KEPT_RUNS: usize = 5;

/// An end this soon after a signal from outside is the signal's work.
const SIGNAL_TAKES: Duration = Duration::from_secs(10);

/// How long the end of a killed process is waited for.
const KILL_LIMIT: Duration = Duration::from_secs(30);

impl Engine {
    /// Notes that an execution instance has ended, with its container if it was the first one, and
    /// cleans up after them. `status` is `None` when its watch broke off without a word. Idempotent:
    /// all who learn of the end call it, and get the same answer.
    ///
    /// # Errors
    /// When the records can't be read or written.
    pub fn exec_ended(
        &self,
        id: &ExecId,
        status: Option<ExitStatus>,
    ) -> Result<Ended, EngineError> {
        let Some(exec) = self.store.exec(id)? else {
            self.forget_unrecorded(id);
            return Ok(gone(status.as_ref()));
        };
        let container = Key::Container(exec.container.clone());
        let _lock = match self.is_first(&exec)? {
            true => self.locks.exclusive(container),
            false => self.locks.hold([
                (container, Mode::Shared),
                (Key::Exec(id.clone()), Mode::Exclusive),
            ]),
        };
        let Some(exec) = self.store.exec(id)? else {
            return Ok(gone(status.as_ref()));
        };
        let container = self.recorded_container(&exec.container)?;
        let run = container.last_run.as_ref().filter(|run| run.init == *id);
        let is_first = run.is_some();
        if let Some((_, exit_code)) = exec.ended {
            return Ok(Ended {
                exit_code,
                container_stopped: is_first,
                out_of_memory: exec.out_of_memory,
            });
        }
        let status = match status {
            Some(status) => status,
            None => self.learn_status(id)?,
        };
        let ended = Ended {
            exit_code: status.code,
            container_stopped: is_first,
            out_of_memory: status.out_of_memory,
        };
        match is_first {
            true => self.container_ended(container, exec, &status)?,
            false => self.joined_ended(container, exec, &status)?,
        }
        Ok(ended)
    }

    /// Whether an execution instance is the first one of its container's last run.
    pub(crate) fn is_first(&self, exec: &ExecRecord) -> Result<bool, EngineError> {
        let container = self.store.container(&exec.container)?;
        let run = container.and_then(|container| container.last_run);
        Ok(run.is_some_and(|run| run.init == exec.id))
    }

    /// How a process ended whose watch broke off: its monitor may have written it down.
    fn learn_status(&self, id: &ExecId) -> Result<ExitStatus, EngineError> {
        Ok(match self.host.probe(id)? {
            Probe::Exited(status) => status,
            Probe::Lost => ExitStatus {
                code: LOST,
                finished: Timestamp::now(),
                out_of_memory: false,
            },
            Probe::Running { .. } => {
                return Err(EngineError::Conflict(format!(
                    "execution instance {id} still runs"
                )));
            }
        })
    }

    fn joined_ended(
        &self,
        mut container: ContainerRecord,
        mut exec: ExecRecord,
        status: &ExitStatus,
    ) -> Result<(), EngineError> {
        exec.ended = Some((status.finished, status.code));
        exec.out_of_memory = status.out_of_memory;
        // Those of an earlier run say nothing of this one.
        let run = container.last_run.as_mut().filter(|run| {
            let started = exec.started.map(|(when, _)| when);
            status.out_of_memory && started.is_some_and(|started| started >= run.started)
        });
        let suffered = run.map(|run| run.out_of_memory = true).is_some();
        let superfluous = self.superfluous_execs(&exec)?;
        // Should a machine lose power before this is on the disk, the process is as dead.
        let deleted = self.store.write_soon(|transaction| {
            transaction.put_exec(&exec)?;
            if suffered {
                transaction.put_container(&container)?;
            }
            delete_execs(transaction, superfluous)
        })?;
        if status.out_of_memory {
            self.emit(NewEvent::container("oom", &container.id, &container.name));
        }
        self.emit(died(
            NewEvent::exec("die", &exec.id, &exec.container),
            status,
        ));
        deleted.iter().try_for_each(|id| Ok(self.host.forget(id)?))
    }

    /// Ended execution instances of a container beyond those that are kept, with one that has just
    /// ended among them.
    fn superfluous_execs(&self, ended: &ExecRecord) -> Result<Vec<ExecId>, EngineError> {
        let execs = self.store.execs_of(&ended.container)?.into_iter();
        let (first, joined): (Vec<_>, Vec<_>) = execs
            .filter(|exec| exec.ended.is_some() || exec.id == ended.id)
            .partition(|exec| exec.first);
        let superfluous = first.into_iter().skip(KEPT_RUNS);
        let superfluous = superfluous.chain(joined.into_iter().skip(KEPT));
        Ok(superfluous.map(|exec| exec.id).collect())
    }

    fn container_ended(
        &self,
        mut container: ContainerRecord,
        mut exec: ExecRecord,
        status: &ExitStatus,
    ) -> Result<(), EngineError> {
        let id = container.id.clone();
        self.running.set_over(&id, &exec.id);
        if let Err(problem) = self.host.clean(&id) {
            warn!(container = %id, %problem, "cleaning up after a container");
        }
        // Before the end is recorded: should the daemon die now, it is run again, but never left out.
        self.run_poststop(&container);
        exec.ended = Some((status.finished, status.code));
        exec.out_of_memory = status.out_of_memory;
        if let Some(run) = &mut container.last_run {
            run.ended = exec.ended;
            run.out_of_memory |= status.out_of_memory;
            self.forgive_quick_ends(run, status.finished, &id);
        }
        let taken_over = self.running.with(&id, &exec.id, |run| {
            if let Some(at) = run.signalled.filter(|_| !run.stopping) {
                // If it has survived the signal, this end is its own.
                container.stopped_by_user = at.elapsed() <= SIGNAL_TAKES;
            }
            run.taken_over
        });
        let taken_over = taken_over.unwrap_or(false);
        let waits = !taken_over && wants_restart(&container);
        let superfluous = self.superfluous_execs(&exec)?;
        let deleted = self.write_run(&container, |transaction| {
            transaction.put_exec(&exec)?;
            transaction.put_container(&container)?;
            delete_execs(transaction, superfluous)
        })?;
        self.running.remove(&id, waits.then_some(exec.id));
        self.tell_of_end(&container, status);
        if waits {
            self.restart_later(&container);
        } else if container.auto_remove && !taken_over {
            self.finish_auto_remove(&container);
            return Ok(());
        }
        deleted.iter().try_for_each(|id| Ok(self.host.forget(id)?))
    }

    fn tell_of_end(&self, container: &ContainerRecord, status: &ExitStatus) {
        let event = |action| NewEvent::container(action, &container.id, &container.name);
        if status.out_of_memory {
            self.emit(event("oom"));
        }
        self.emit(died(event("die"), status));
    }

    /// Removes a container that was to be removed when it stops. Its lock is held by the caller. The
    /// journal isn't needed: the next start of the daemon removes such containers, and what is left
    /// of them.
    pub(crate) fn finish_auto_remove(&self, container: &ContainerRecord) {
        let id = &container.id;
        if let Err(problem) = self.finish_removing_container(id, None) {
            error!(container = %id, %problem, "the container can't be removed: remove it by hand");
        }
    }

    /// Writes down the start or end of a container. A machine that loses power loses one that removes
    /// itself in any case, so nobody waits for the disk.
    pub(crate) fn write_run<T>(
        &self,
        container: &ContainerRecord,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match container.auto_remove {
            true => self.store.write_soon(work),
            false => self.store.write(work),
        }
    }

    /// Ends a container whose first process no record knows to run, and cleans up after it.
    pub(crate) fn end_unrecorded_container(
        &self,
        container: &ContainerId,
        init: &ExecId,
        mut watch: UnixStream,
    ) {
        if let Err(problem) = self.host.kill(container, init) {
            warn!(%container, %problem, "ending a container that no record knows to run");
        }
        if wait_for_end(&mut watch, KILL_LIMIT) == News::Nothing {
            error!(%container, "a killed container has not ended: it may hang in the kernel");
            return;
        }
        if let Err(problem) = self.host.clean(container) {
            warn!(%container, %problem, "cleaning up after a container");
        }
    }
}

/// The event of an end, with how it was.
fn died(event: NewEvent, status: &ExitStatus) -> NewEvent {
    let event = event.with("exit_code", status.code);
    match status.out_of_memory {
        true => event.with("out_of_memory", true),
        false => event,
    }
}

fn delete_execs(
    transaction: &Transaction<'_>,
    execs: Vec<ExecId>,
) -> Result<Vec<ExecId>, StoreError> {
    let mut deleted = Vec::new();
    for id in execs {
        // Whoever deletes the record is the one to clean up.
        if transaction.delete_exec(&id)? {
            deleted.push(id);
        }
    }
    Ok(deleted)
}

/// The answer about an instance whose container has been removed in the meantime.
fn gone(status: Option<&ExitStatus>) -> Ended {
    Ended {
        exit_code: status.map_or(LOST, |status| status.code),
        container_stopped: true,
        out_of_memory: status.is_some_and(|status| status.out_of_memory),
    }
}
