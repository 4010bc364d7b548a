//! Execution instances: processes in containers.
//!
//! The first one started in a container starts the container, and the container stops when its
//! process ends. Further ones join it.

use std::time::Duration;

use kleene_doors::host::{
    ContainerSetup, ExitStatus, Mount, Place, Probe, Process, StartRequest, Started, Stdin,
};
use kleene_doors::log::DEFAULT_LIMIT;
use kleene_doors::storage::Dataset;
use kleene_store::{ContainerRecord, ExecRecord, LastRun};
use kleene_types::{ByteSize, ContainerId, ExecId, MountKind, MountSpec, Timestamp, merge_env};
use tracing::{error, warn};

use crate::container::{runtime_network, validate_command};
use crate::locks::{Guard, Key, Mode};
use crate::running::Init;
use crate::{Ended, Engine, EngineError, ExecStart, NewExec, StartedExec};

/// Exit code recorded for a process whose end nobody saw (128 + SIGKILL).
const LOST: i32 = 137;

/// Ended execution instances that are kept for each container.
const KEPT: usize = 16;

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
        let exec = ExecRecord {
            id: ExecId::random(),
            container: container.id,
            cmd: if new.cmd.is_empty() {
                container.cmd
            } else {
                new.cmd
            },
            env: merge_env(&container.env, &new.env),
            user: if new.user.is_empty() {
                container.user
            } else {
                new.user
            },
            tty: new.tty,
            created: Timestamp::now(),
            started: None,
            ended: None,
            first: false,
            working_dir: new.working_dir,
        };
        let forgotten = self.never_started(&exec.container)?;
        self.store.write(|transaction| {
            forgotten
                .iter()
                .try_for_each(|id| transaction.delete_exec(id))?;
            transaction.put_exec(&exec)
        })?;
        Ok(exec.id)
    }

    /// Execution instances of a container that nobody has started, beyond those that are kept for
    /// clients that are about to.
    fn never_started(&self, container: &ContainerId) -> Result<Vec<ExecId>, EngineError> {
        let waiting = self
            .store
            .execs_of(container)?
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

    /// Starts an execution instance, and its container where that doesn't run. Returns when the
    /// program runs.
    ///
    /// # Errors
    /// [`EngineError::Start`] when the program can't be run; the container stays as it was.
    /// [`EngineError::ContainerNotRunning`] when it should only join.
    pub fn exec_start(
        &self,
        reference: &str,
        start: ExecStart,
    ) -> Result<StartedExec, EngineError> {
        let exec = self.find_exec(reference)?;
        let container = exec.container.clone();
        let joining = self
            .locks
            .hold([(Key::Container(container.clone()), Mode::Shared)]);
        if self.running.get(&container).is_some() {
            return self.launch(&exec.id, start, &joining);
        }
        drop(joining);
        // Somebody else may start it now: the place is decided again under the lock.
        let alone = self.locks.exclusive(Key::Container(container));
        self.launch(&exec.id, start, &alone)
    }

    /// Starts an execution instance whose container is locked.
    fn launch(
        &self,
        id: &ExecId,
        start: ExecStart,
        _lock: &Guard<'_>,
    ) -> Result<StartedExec, EngineError> {
        let mut exec = self
            .store
            .exec(id)?
            .ok_or_else(|| EngineError::ExecNotFound(id.to_string()))?;
        if exec.started.is_some() {
            return Err(EngineError::Conflict(format!(
                "execution instance {id} has been started already: create a new one"
            )));
        }
        let mut container = self.recorded_container(&exec.container)?;
        let init = self.running.get(&container.id);
        let started = self
            .start_request(&exec, &container, init.as_ref(), start)
            .and_then(|request| Ok(self.host.start(&request)?));
        if started.is_err() && init.is_none() && container.auto_remove {
            self.finish_auto_remove(&container.id);
        }
        let Started {
            pid,
            watch,
            attached,
        } = started?;
        let now = Timestamp::now();
        exec.started = Some((now, pid));
        if init.is_none() {
            container.last_run = Some(LastRun {
                init: exec.id.clone(),
                started: now,
                ended: None,
                out_of_memory: false,
            });
            self.running.insert(
                container.id.clone(),
                Init {
                    exec: exec.id.clone(),
                    pid,
                },
            );
        }
        let recorded = self.store.write(|transaction| {
            if init.is_none() {
                transaction.put_container(&container)?;
            }
            transaction.put_exec(&exec)
        });
        if let Err(problem) = recorded {
            // A process that no record knows would be lost at the next start of the daemon.
            error!(exec = %exec.id, %problem, "a started process can't be recorded: ending it");
            self.take_back(&exec, init.is_none());
            return Err(problem.into());
        }
        self.supervisor.watch(exec.id.clone(), watch);
        Ok(StartedExec {
            id: exec.id,
            attached,
        })
    }

    /// Ends a process that was started but couldn't be recorded.
    fn take_back(&self, exec: &ExecRecord, started_container: bool) {
        let ended = if started_container {
            self.host.kill(&exec.container, &exec.id)
        } else {
            self.host.signal(&exec.id, SIGKILL)
        };
        if let Err(problem) = ended {
            error!(exec = %exec.id, %problem, "the process can't be ended");
        }
        if started_container {
            self.running.remove(&exec.container);
        }
    }

    fn start_request(
        &self,
        exec: &ExecRecord,
        container: &ContainerRecord,
        init: Option<&Init>,
        start: ExecStart,
    ) -> Result<StartRequest, EngineError> {
        if exec.cmd.is_empty() {
            return Err(EngineError::Invalid(format!(
                "container '{}' has no command: give one after the image or container",
                container.name
            )));
        }
        let place = match init {
            Some(init) => Place::Running {
                init: init.exec.clone(),
            },
            None if start.start_container => Place::New(Box::new(self.setup(container)?)),
            None => return Err(EngineError::ContainerNotRunning(container.name.to_string())),
        };
        Ok(StartRequest {
            exec: exec.id.clone(),
            container: container.id.clone(),
            place,
            jail_params: container.jail_params.clone(),
            log_limit: container
                .resources
                .log_limit
                .map_or(DEFAULT_LIMIT, ByteSize::bytes),
            process: Process {
                argv: exec.cmd.clone(),
                env: exec.env.clone(),
                user: exec.user.clone(),
                cwd: exec
                    .working_dir
                    .clone()
                    .or_else(|| container.working_dir.clone()),
                ulimits: container.resources.ulimits.clone(),
                tty: exec.tty,
                window: start.window,
                stdin: if start.attach {
                    start.stdin
                } else {
                    Stdin::Null
                },
            },
            attach: start.attach,
        })
    }

    /// What the container is made of. Everything that could have changed on the host since it was
    /// created is looked at again.
    fn setup(&self, container: &ContainerRecord) -> Result<ContainerSetup, EngineError> {
        let network = runtime_network(container.network_driver)?;
        let mounts = container
            .mounts
            .iter()
            .map(|spec| self.host_mount(spec))
            .collect::<Result<Vec<Mount>, EngineError>>()?;
        Ok(ContainerSetup {
            hostname: container.name.to_string(),
            root: self
                .storage
                .root(&Dataset::Container(container.id.clone()))?,
            mounts,
            network,
            limits: container.resources.limits.clone(),
            shm_size: container.resources.shm_size,
            init: container.init,
        })
    }

    /// A mount as the host makes it. Its source is looked at again.
    pub(crate) fn host_mount(&self, spec: &MountSpec) -> Result<Mount, EngineError> {
        let source = match &spec.kind {
            MountKind::Volume(name) => {
                let dataset = Dataset::Volume(name.clone());
                if !self.storage.exists(&dataset)? {
                    return Err(EngineError::Conflict(format!(
                        "the dataset of volume '{name}' is gone: restore '{}' or remove the \
                         container",
                        self.storage.name(&dataset)
                    )));
                }
                self.storage.mountpoint(&dataset)
            }
            MountKind::Nullfs(path) => {
                self.host.inspect_source(path.as_path())?;
                path.as_path().to_owned()
            }
        };
        Ok(Mount {
            source,
            destination: spec.destination.clone(),
            read_only: spec.read_only,
        })
    }

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
            return Ok(gone(status.as_ref()));
        };
        let _lock = self.locks.exclusive(Key::Container(exec.container.clone()));
        let Some(exec) = self.store.exec(id)? else {
            return Ok(gone(status.as_ref()));
        };
        let container = self.recorded_container(&exec.container)?;
        let is_init = container
            .last_run
            .as_ref()
            .is_some_and(|run| run.init == *id);
        if let Some((_, exit_code)) = exec.ended {
            return Ok(Ended {
                exit_code,
                container_stopped: is_init,
                out_of_memory: false,
            });
        }
        let status = match status {
            Some(status) => status,
            None => self.learn_status(id)?,
        };
        let exit_code = status.code;
        if is_init {
            self.container_ended(container, exec, &status)?;
        } else {
            self.joined_ended(exec, &status)?;
        }
        Ok(Ended {
            exit_code,
            container_stopped: is_init,
            out_of_memory: status.out_of_memory,
        })
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

    fn joined_ended(&self, mut exec: ExecRecord, status: &ExitStatus) -> Result<(), EngineError> {
        exec.ended = Some((status.finished, status.code));
        let superfluous = self.superfluous_execs(&exec.container)?;
        self.store.write(|transaction| {
            transaction.put_exec(&exec)?;
            superfluous
                .iter()
                .try_for_each(|id| transaction.delete_exec(id))
        })?;
        Ok(self.host.forget(&exec.id)?)
    }

    /// Ended execution instances beyond those that are kept, without the container's first one.
    fn superfluous_execs(&self, container: &ContainerId) -> Result<Vec<ExecId>, EngineError> {
        let init = self.running.get(container).map(|init| init.exec);
        let ended = |exec: &ExecRecord| exec.ended.is_some() && Some(&exec.id) != init.as_ref();
        let execs = self.store.execs_of(container)?.into_iter().filter(ended);
        Ok(execs.skip(KEPT).map(|exec| exec.id).collect())
    }

    fn container_ended(
        &self,
        mut container: ContainerRecord,
        mut exec: ExecRecord,
        status: &ExitStatus,
    ) -> Result<(), EngineError> {
        if let Err(problem) = self.host.clean(&container.id) {
            warn!(container = %container.id, %problem, "cleaning up after a container");
        }
        exec.ended = Some((status.finished, status.code));
        if let Some(run) = &mut container.last_run {
            run.ended = exec.ended;
        }
        let earlier = self.earlier_execs(&exec)?;
        self.store.write(|transaction| {
            transaction.put_exec(&exec)?;
            earlier
                .iter()
                .try_for_each(|id| transaction.delete_exec(id))?;
            transaction.put_container(&container)
        })?;
        for id in &earlier {
            self.host.forget(id)?;
        }
        if container.auto_remove {
            self.finish_auto_remove(&container.id);
        }
        self.running.remove(&container.id);
        Ok(())
    }

    /// Ended execution instances of earlier runs, of which nothing is kept.
    fn earlier_execs(&self, exec: &ExecRecord) -> Result<Vec<ExecId>, EngineError> {
        let execs = self.store.execs_of(&exec.container)?.into_iter();
        Ok(execs
            .filter(|other| other.ended.is_some() && other.id != exec.id)
            .map(|e| e.id)
            .collect())
    }

    /// Removes a container that was to be removed when it stops. Its lock is held by the caller.
    fn finish_auto_remove(&self, id: &ContainerId) {
        let step = kleene_store::Step::RemoveContainer(id.clone());
        if let Err(problem) = self.remove_for_good(step, |operation| {
            self.finish_removing_container(id, operation)
        }) {
            error!(container = %id, %problem, "the container can't be removed: remove it by hand");
        }
    }

    /// Sends a signal to an execution instance's process alone.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when it doesn't run.
    pub fn exec_signal(&self, id: &ExecId, signal: i32) -> Result<(), EngineError> {
        Ok(self.host.signal(id, signal)?)
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
            self.host
                .signal(&exec.id, if force { SIGKILL } else { SIGTERM })?;
        }
        Ok(exec.id)
    }
}

/// POSIX gives these two the same numbers everywhere.
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// The answer about an instance whose container has been removed in the meantime.
fn gone(status: Option<&ExitStatus>) -> Ended {
    Ended {
        exit_code: status.map_or(LOST, |status| status.code),
        container_stopped: true,
        out_of_memory: status.is_some_and(|status| status.out_of_memory),
    }
}
