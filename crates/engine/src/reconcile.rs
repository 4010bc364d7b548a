//! What the daemon does when it starts: it finishes or undoes work that was cut short, and finds
//! out what became of the processes that ran when it was last here.

use std::time::Duration;

use kleene_doors::host::Probe;
use kleene_store::ExecRecord;
use kleene_types::ExecId;

use crate::events::NewEvent;
use crate::running::Init;
use crate::{Engine, EngineError};

/// How long what has arrived of an image is kept when nobody comes back for it.
const UNUSED_BLOBS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What [`Engine::reconcile`] found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// Steps of interrupted operations that were finished or undone.
    pub steps: usize,
    /// Processes that still run.
    pub running: usize,
    /// Processes that ended in the meantime.
    pub ended: usize,
    /// What could not be put right, for the log.
    pub problems: Vec<String>,
}

impl Reconciled {
    /// Notes what could not be put right about an object.
    fn note(&mut self, object: impl std::fmt::Display, result: Result<(), EngineError>) {
        if let Err(problem) = result {
            self.problems.push(format!("{object}: {problem}"));
        }
    }
}

impl Engine {
    /// Brings records and machine into agreement. Call it once, before anything else.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn reconcile(&self) -> Result<Reconciled, EngineError> {
        self.emit(NewEvent::daemon("start"));
        let mut result = Reconciled::default();
        let (mut ended, mut joined, mut unstarted) = (Vec::new(), Vec::new(), Vec::new());
        // Containers' first processes come first: without them the others can't be running.
        for exec in self.store.open_execs()? {
            if exec.started.is_none() {
                unstarted.push(exec);
            } else if self.is_first(&exec)? {
                self.find_again(exec, true, &mut ended, &mut result);
            } else {
                joined.push(exec);
            }
        }
        for exec in joined {
            self.find_again(exec, false, &mut ended, &mut result);
        }
        for exec in unstarted {
            result.note(&exec.id, self.drop_unstarted(&exec));
        }
        for exec in ended {
            match self.exec_ended(&exec.id, None) {
                Ok(_) => result.ended += 1,
                Err(problem) => result.problems.push(format!("{}: {problem}", exec.id)),
            }
        }
        self.end_unknown(&mut result)?;
        self.remove_left_over(&mut result)?;
        result.note("builds", self.remove_build_leftovers());
        let collected = self.distribution.collect(&[], UNUSED_BLOBS);
        result.note("blobs", collected.map(drop).map_err(EngineError::from));
        let journal = self.store.journal()?;
        result.steps = journal.len();
        result.problems.extend(self.carry_out(journal));
        Ok(result)
    }

    /// Processes that no record knows: the engine's own, such as health checks, and those whose
    /// records were deleted just before the daemon died.
    fn end_unknown(&self, result: &mut Reconciled) -> Result<(), EngineError> {
        for exec in self.host.instances()? {
            if self.store.exec(&exec)?.is_none() {
                result.note(&exec, self.end_unknown_process(&exec));
            }
        }
        Ok(())
    }

    fn end_unknown_process(&self, exec: &ExecId) -> Result<(), EngineError> {
        match self.host.probe(exec)? {
            Probe::Running { watch, .. } => {
                self.end_unrecorded(exec, watch);
                Ok(())
            }
            Probe::Exited(_) | Probe::Lost => Ok(self.host.forget(exec)?),
        }
    }

    /// Containers that were to be removed when they stop, and whose client went away before they
    /// were started.
    fn remove_left_over(&self, result: &mut Reconciled) -> Result<(), EngineError> {
        for container in self.store.containers()? {
            // One that hasn't been seen to end may run, though the host couldn't tell.
            let ended = container
                .last_run
                .as_ref()
                .is_none_or(|run| run.ended.is_some());
            if container.auto_remove && ended {
                result.note(&container.id, self.remove_recorded(&container.id));
            }
        }
        Ok(())
    }

    /// An execution instance that nobody will start any more. Its process may run all the same, when
    /// the daemon ended between starting it and writing that down; no client was told of it.
    fn drop_unstarted(&self, exec: &ExecRecord) -> Result<(), EngineError> {
        match self.host.probe(&exec.id)? {
            Probe::Running { watch, .. } if self.running.get(&exec.container).is_none() => {
                self.end_unrecorded_container(&exec.container, &exec.id, watch);
                self.host.forget(&exec.id)?;
            }
            Probe::Running { watch, .. } => self.end_unrecorded(&exec.id, watch),
            Probe::Exited(_) | Probe::Lost => self.host.forget(&exec.id)?,
        }
        self.store
            .write(|transaction| transaction.delete_exec(&exec.id))?;
        Ok(())
    }

    fn find_again(
        &self,
        exec: ExecRecord,
        first: bool,
        ended: &mut Vec<ExecRecord>,
        result: &mut Reconciled,
    ) {
        match self.host.probe(&exec.id) {
            Ok(Probe::Running { pid, watch, paused }) => {
                result.running += 1;
                if first {
                    let init = Init {
                        exec: exec.id.clone(),
                        number: self.host.number(&exec.container).unwrap_or(pid),
                        paused,
                    };
                    self.running.insert(exec.container.clone(), init);
                    result.note(&exec.container, self.resume_health(&exec));
                }
                self.supervisor.watch(exec.id, watch);
            }
            Ok(Probe::Exited(_) | Probe::Lost) => ended.push(exec),
            Err(problem) => result.problems.push(format!("{}: {problem}", exec.id)),
        }
    }

    fn resume_health(&self, first: &ExecRecord) -> Result<(), EngineError> {
        let container = self.recorded_container(&first.container)?;
        self.begin_health(&container, &first.id);
        Ok(())
    }
}
