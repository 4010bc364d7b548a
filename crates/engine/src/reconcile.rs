//! What the daemon does when it starts: it finishes or undoes work that was cut short, and finds
//! out what became of the processes that ran when it was last here.

use kleene_doors::host::Probe;
use kleene_store::ExecRecord;
use kleene_types::ContainerId;

use crate::events::NewEvent;
use crate::running::Init;
use crate::{Engine, EngineError};

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

impl Engine {
    /// Brings records and machine into agreement. Call it once, before anything else.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn reconcile(&self) -> Result<Reconciled, EngineError> {
        self.emit(NewEvent::daemon("start"));
        let mut result = Reconciled::default();
        let (mut ended, mut joined) = (Vec::new(), Vec::new());
        // Containers' first processes come first: without them the others can't be running.
        for exec in self.store.open_execs()? {
            if exec.started.is_none() {
                self.drop_unstarted(&exec, &mut result);
            } else if self.is_init(&exec)? {
                self.find_again(exec, true, &mut ended, &mut result);
            } else {
                joined.push(exec);
            }
        }
        for exec in joined {
            self.find_again(exec, false, &mut ended, &mut result);
        }
        for exec in ended {
            match self.exec_ended(&exec.id, None) {
                Ok(_) => result.ended += 1,
                Err(problem) => result.problems.push(format!("{}: {problem}", exec.id)),
            }
        }
        self.remove_left_over(&mut result)?;
        let journal = self.store.journal()?;
        result.steps = journal.len();
        result.problems.extend(self.carry_out(journal));
        Ok(result)
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
            if container.auto_remove
                && ended
                && let Err(problem) = self.remove_recorded(&container.id)
            {
                result.problems.push(format!("{}: {problem}", container.id));
            }
        }
        Ok(())
    }

    /// An execution instance that nobody will start any more. Its process may run all the same, when
    /// the daemon ended between starting it and writing that down; no client was told of it.
    fn drop_unstarted(&self, exec: &ExecRecord, result: &mut Reconciled) {
        let dropped = || -> Result<(), EngineError> {
            if let Probe::Running { .. } = self.host.probe(&exec.id)? {
                self.host.kill(&exec.container, &exec.id)?;
            }
            self.host.forget(&exec.id)?;
            Ok(self
                .store
                .write(|transaction| transaction.delete_exec(&exec.id))?)
        };
        if let Err(problem) = dropped() {
            result.problems.push(format!("{}: {problem}", exec.id));
        }
    }

    fn is_init(&self, exec: &ExecRecord) -> Result<bool, EngineError> {
        let container = self.store.container(&exec.container)?;
        Ok(container
            .and_then(|c| c.last_run)
            .is_some_and(|run| run.init == exec.id))
    }

    fn find_again(
        &self,
        exec: ExecRecord,
        is_init: bool,
        ended: &mut Vec<ExecRecord>,
        result: &mut Reconciled,
    ) {
        match self.host.probe(&exec.id) {
            Ok(Probe::Running { pid, watch, .. }) => {
                result.running += 1;
                if is_init {
                    let init = Init {
                        exec: exec.id.clone(),
                        pid,
                    };
                    self.running.insert(exec.container.clone(), init);
                }
                self.supervisor.watch(exec.id, watch);
            }
            Ok(Probe::Exited(_) | Probe::Lost) => ended.push(exec),
            Err(problem) => result.problems.push(format!("{}: {problem}", exec.id)),
        }
    }

    /// Starts the containers whose policy asks for it and that don't run. Answers how each went.
    pub fn start_on_startup(&self) -> Vec<(ContainerId, Result<(), EngineError>)> {
        let containers = match self.store.containers() {
            Ok(containers) => containers,
            Err(problem) => {
                tracing::error!(%problem, "the containers to start can't be read");
                return Vec::new();
            }
        };
        containers
            .into_iter()
            .rev()
            .filter(|c| c.restart_policy == kleene_types::RestartPolicy::OnStartup)
            .filter(|c| self.running.get(&c.id).is_none())
            .map(|c| (c.id.clone(), self.start_detached(&c.id)))
            .collect()
    }

    fn start_detached(&self, container: &ContainerId) -> Result<(), EngineError> {
        let exec = self.exec_create(crate::NewExec {
            container: container.to_string(),
            cmd: Vec::new(),
            env: Vec::new(),
            user: String::new(),
            tty: false,
            working_dir: None,
        })?;
        let start = crate::ExecStart {
            attach: false,
            start_container: true,
            stdin: kleene_doors::host::Stdin::Null,
            window: None,
        };
        self.exec_start(exec.as_str(), start).map(|_| ())
    }
}
