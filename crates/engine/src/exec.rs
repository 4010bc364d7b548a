//! Execution instances: processes in containers. See `start` for how they begin, `end` for how they
//! end.

use std::time::Duration;

use kleene_store::{ContainerRecord, ExecRecord};
use kleene_types::{ContainerId, ExecId, Signal, Timestamp, merge_env};

use crate::container::validate_command;
use crate::locks::{Key, Mode};
use crate::{Engine, EngineError, NewExec};

/// Execution instances that were created but not started, kept for each container.
const WAITING: usize = 256;

impl Engine {
    /// Creates an execution instance; nothing is started yet.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`]; [`EngineError::Invalid`] for a bad command.
    pub fn exec_create(&self, new: NewExec) -> Result<ExecId, EngineError> {
        validate_command(&new.cmd, &new.env, &new.user)?;
        let container = self.find_container(&new.container)?;
        let _lock = self
            .locks
            .hold([(Key::Container(container.id.clone()), Mode::Shared)]);
        let container = self.recorded_container(&container.id)?;
        let exec = draft_exec(new, &container);
        let forgotten = self.never_started(&exec.container)?;
        // A machine that loses power loses the client, too, that it is made for.
        self.store.write_soon(|transaction| {
            for id in &forgotten {
                transaction.delete_exec(id)?;
            }
            transaction.put_exec(&exec)
        })?;
        Ok(exec.id)
    }

    /// Execution instances of a container that nobody has started, beyond those that are kept for
    /// clients that are about to.
    fn never_started(&self, container: &ContainerId) -> Result<Vec<ExecId>, EngineError> {
        let waiting = self
            .store
            .open_execs_of(container)?
            .into_iter()
            .filter(|e| e.started.is_none());
        Ok(waiting.skip(WAITING).map(|exec| exec.id).collect())
    }

    /// One execution instance.
    ///
    /// # Errors
    /// [`EngineError::ExecNotFound`].
    pub fn exec_inspect(&self, reference: &str) -> Result<ExecRecord, EngineError> {
        self.find_exec(reference)
    }

    /// Sends a signal to an execution instance's process alone.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when it doesn't run.
    pub fn exec_signal(&self, id: &ExecId, signal: i32) -> Result<(), EngineError> {
        Ok(self.host.signal(id, signal)?)
    }

    /// As [`Engine::exec_signal`], but the signal is sent as it is, also where the process takes no
    /// notice of it.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when it doesn't run.
    pub fn exec_pass_signal(&self, id: &ExecId, signal: i32) -> Result<(), EngineError> {
        Ok(self.host.send_signal(id, signal)?)
    }

    /// Ends an execution instance: with SIGKILL when `force`, otherwise with SIGTERM; with
    /// `stop_container` its whole container.
    ///
    /// # Errors
    /// [`EngineError::ExecNotFound`], also when it doesn't run.
    pub fn exec_stop(
        &self,
        reference: &str,
        force: bool,
        stop_container: bool,
    ) -> Result<ExecId, EngineError> {
        let exec = self.find_exec(reference)?;
        if !exec.is_running() {
            return Err(EngineError::ExecNotFound(format!(
                "{reference} (it does not run)"
            )));
        }
        if stop_container {
            let grace = force.then_some(Duration::ZERO);
            self.container_stop(exec.container.as_str(), grace)?;
        } else {
            let signal = match force {
                true => Signal::KILL,
                false => Signal::TERM,
            };
            self.host.signal(&exec.id, signal.number())?;
        }
        Ok(exec.id)
    }
}

/// The record of an execution instance that is to be made.
pub(crate) fn draft_exec(new: NewExec, container: &ContainerRecord) -> ExecRecord {
    ExecRecord {
        id: ExecId::random(),
        container: container.id.clone(),
        cmd: match new.cmd.is_empty() {
            true => container.cmd.clone(),
            false => new.cmd,
        },
        env: merge_env(&container.env, &new.env),
        user: match new.user.is_empty() {
            true => container.user.clone(),
            false => new.user,
        },
        tty: new.tty,
        created: Timestamp::now(),
        started: None,
        ended: None,
        first: false,
        working_dir: new.working_dir,
        out_of_memory: false,
    }
}
