//! Starting execution instances.
//!
//! The first one started in a container starts the container, and the container stops when its
//! process ends. Further ones join it.

use kleene_doors::host::{
    ContainerSetup, Hooks, HostError, Mount, Place, Process, StartRequest, Started, Stdin,
};
use kleene_doors::log::DEFAULT_LIMIT;
use kleene_doors::storage::Dataset;
use kleene_store::{ContainerRecord, ExecRecord, LastRun, OperationId, Run, Step};
use kleene_types::{ByteSize, ContainerId, ExecId, MountKind, MountSpec, Platform, Timestamp};
use tracing::error;

use crate::container::{KILL_LIMIT, ended_meanwhile, runtime_network};
use crate::events::NewEvent;
use crate::locks::{Guard, Key, Mode};
use crate::restart::Cause;
use crate::running::Init;
use crate::{Engine, EngineError, ExecStart, StartedExec};

impl Engine {
    /// Starts an execution instance, and its container where that doesn't run. Returns when the
    /// program runs.
    ///
    /// # Errors
    /// [`EngineError::Start`] when the program can't be run; the container stays as it was.
    /// [`EngineError::ContainerNotRunning`] when it should only join. [`EngineError::Conflict`] when
    /// the container is paused, or the instance has been started before.
    pub fn exec_start(
        &self,
        reference: &str,
        start: ExecStart,
    ) -> Result<StartedExec, EngineError> {
        let exec = self.find_exec(reference)?;
        let container = exec.container.clone();
        let joining = self.locks.hold([
            (Key::Container(container.clone()), Mode::Shared),
            (Key::Exec(exec.id.clone()), Mode::Exclusive),
        ]);
        if let Some(init) = self.running.get(&container) {
            return self.join(&exec.id, start, &init);
        }
        drop(joining);
        // Somebody else may start it now: the place is decided again under the lock.
        let alone = self.locks.exclusive(Key::Container(container.clone()));
        if let Some(init) = self.running.get(&container) {
            return self.join(&exec.id, start, &init);
        }
        if !start.start_container {
            let name = self.recorded_container(&container)?.name;
            return Err(EngineError::ContainerNotRunning(name.to_string()));
        }
        self.start_first(&exec.id, start, Cause::User, alone)
    }

    /// An execution instance that can be started, and its container. One of them must be locked.
    fn startable(&self, id: &ExecId) -> Result<(ExecRecord, ContainerRecord), EngineError> {
        let exec = self.store.exec(id)?;
        let exec = exec.ok_or_else(|| EngineError::ExecNotFound(id.to_string()))?;
        if exec.started.is_some() {
            return Err(EngineError::Conflict(format!(
                "execution instance {id} has been started already: create a new one"
            )));
        }
        let container = self.recorded_container(&exec.container)?;
        if exec.cmd.is_empty() {
            return Err(EngineError::Invalid(format!(
                "container '{}' has no command: give one after the image or container",
                container.name
            )));
        }
        Ok((exec, container))
    }

    /// Starts an execution instance in a running container, which is locked.
    fn join(&self, id: &ExecId, start: ExecStart, init: &Init) -> Result<StartedExec, EngineError> {
        let (mut exec, container) = self.startable(id)?;
        if init.paused {
            return Err(EngineError::Conflict(format!(
                "container '{}' is paused: unpause it first",
                container.name
            )));
        }
        let place = Place::Running {
            init: init.exec.clone(),
        };
        let request = start_request(&exec, &container, place, start);
        // Before it runs: a short one may have ended when this is written down.
        let now = Timestamp::now();
        let Started {
            pid,
            watch,
            attached,
        } = self.host.start(&request).map_err(|problem| match problem {
            // It has ended in this moment.
            HostError::NotRunning(_) => {
                EngineError::ContainerNotRunning(container.name.to_string())
            }
            other => other.into(),
        })?;
        exec.started = Some((now, pid));
        // The process doesn't outlive the machine, so its record need not either.
        let recorded = self
            .store
            .write_soon(|transaction| transaction.put_exec(&exec));
        if let Err(problem) = recorded {
            error!(exec = %exec.id, %problem, "a started process can't be recorded: ending it");
            self.end_unrecorded(&exec.id, watch);
            return Err(problem.into());
        }
        self.emit(NewEvent::exec("start", &exec.id, &container.id));
        self.supervisor.watch(exec.id.clone(), watch);
        Ok(StartedExec {
            id: exec.id,
            attached,
        })
    }

    /// Starts a container by its first execution instance. Its lock is given back as soon as the
    /// process runs, before what is to be run on the host after the start.
    pub(crate) fn start_first(
        &self,
        id: &ExecId,
        start: ExecStart,
        cause: Cause,
        lock: Guard<'_>,
    ) -> Result<StartedExec, EngineError> {
        let (exec, container) = self.startable(id)?;
        if self.running.is_being_removed(&container.id) {
            return Err(EngineError::Conflict(format!(
                "container '{}' is being removed",
                container.name
            )));
        }
        self.refuse_foreign(&container)?;
        let hooks = self.host.hooks(&container.jail_params, &container.cmd)?;
        let operation = self.begin_start(&exec, &hooks)?;
        let begun = self
            .set_up(&exec, &container, &hooks, start)
            .and_then(|(now, started)| {
                self.record_start(exec, container.clone(), cause, now, started)
            });
        let started = match begun {
            Ok(started) => started,
            Err(problem) => {
                self.run_hooks_anyhow(&container, "exec.poststop", &hooks.poststop, &hooks);
                self.end_operation(operation);
                if container.auto_remove {
                    self.finish_auto_remove(&container);
                }
                return Err(problem);
            }
        };
        drop(lock);
        let after = self.run_hooks(&container, "exec.poststart", &hooks.poststart, &hooks);
        if let Err(problem) = after {
            self.end_failed_start(&container, &started.id, cause);
            self.end_operation(operation);
            return Err(problem.into());
        }
        self.end_operation(operation);
        Ok(started)
    }

    /// Refuses to start what was made for another kernel: its programs can't run.
    fn refuse_foreign(&self, container: &ContainerRecord) -> Result<(), EngineError> {
        let image = self.store.image(&container.image)?;
        match image.and_then(|image| foreign(image.platform.as_ref())) {
            Some(why) => Err(EngineError::Conflict(format!(
                "container '{}' can't be started: {why}",
                container.name
            ))),
            None => Ok(()),
        }
    }

    /// Writes down that a start has begun which takes more than one step.
    fn begin_start(
        &self,
        exec: &ExecRecord,
        hooks: &Hooks,
    ) -> Result<Option<OperationId>, EngineError> {
        if hooks.prestart.is_empty() && hooks.poststart.is_empty() {
            return Ok(None);
        }
        let run = Run {
            container: exec.container.clone(),
            init: exec.id.clone(),
        };
        Ok(Some(self.store.begin(&[Step::EndRun(run)])?))
    }

    /// Makes the container and starts its first process. Answers the time just before that, too.
    fn set_up(
        &self,
        exec: &ExecRecord,
        container: &ContainerRecord,
        hooks: &Hooks,
        start: ExecStart,
    ) -> Result<(Timestamp, Started), EngineError> {
        self.run_hooks(container, "exec.prestart", &hooks.prestart, hooks)?;
        let place = Place::New(Box::new(self.setup(container)?));
        let request = start_request(exec, container, place, start);
        let now = Timestamp::now();
        Ok((now, self.host.start(&request)?))
    }

    /// Writes down that a container runs.
    fn record_start(
        &self,
        mut exec: ExecRecord,
        mut container: ContainerRecord,
        cause: Cause,
        now: Timestamp,
        started: Started,
    ) -> Result<StartedExec, EngineError> {
        let Started {
            pid,
            watch,
            attached,
        } = started;
        exec.started = Some((now, pid));
        exec.first = true;
        container.last_run = Some(LastRun {
            init: exec.id.clone(),
            started: now,
            ended: None,
            out_of_memory: false,
        });
        container.stopped_by_user = false;
        match cause {
            Cause::User => {
                container.restarts = 0;
                self.running.forget_quick_ends(&container.id);
            }
            Cause::Daemon => {}
            Cause::Policy => container.restarts = container.restarts.saturating_add(1),
        }
        let recorded = self.write_run(&container, |transaction| {
            transaction.put_container(&container)?;
            transaction.put_exec(&exec)
        });
        if let Err(problem) = recorded {
            // A process that no record knows would be lost at the next start of the daemon.
            error!(exec = %exec.id, %problem, "a started process can't be recorded: ending it");
            self.end_unrecorded_container(&container.id, &exec.id, watch);
            return Err(problem.into());
        }
        let init = Init {
            exec: exec.id.clone(),
            number: self.host.number(&container.id).unwrap_or(pid),
            paused: false,
        };
        self.running.insert(container.id.clone(), init);
        self.emit(
            NewEvent::container("start", &container.id, &container.name).with("exec", &exec.id),
        );
        self.supervisor.watch(exec.id.clone(), watch);
        self.begin_health(&container, &exec.id);
        Ok(StartedExec {
            id: exec.id,
            attached,
        })
    }

    /// Ends a container because what was to be run after its start has failed.
    fn end_failed_start(&self, container: &ContainerRecord, init: &ExecId, cause: Cause) {
        let id = &container.id;
        // Whoever started it is told; a restart by its policy goes on as after any other failure.
        if cause == Cause::User
            && let Err(problem) = self.mark_failed_start(id)
        {
            error!(container = %id, %problem, "noting that a container is ended");
        }
        if let Err(problem) = ended_meanwhile(self.host.kill(id, init)) {
            error!(container = %id, %problem, "ending a container whose start has failed");
        }
        if !self.running.wait(id, init, KILL_LIMIT) {
            error!(container = %id, "a container whose start has failed does not end");
        }
        // Its end is recorded with this lock held.
        drop(self.locks.exclusive(Key::Container(id.clone())));
    }

    fn mark_failed_start(&self, id: &ContainerId) -> Result<(), EngineError> {
        let _lock = self.locks.exclusive(Key::Container(id.clone()));
        self.mark_stopped(id).map(drop)
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
}

fn start_request(
    exec: &ExecRecord,
    container: &ContainerRecord,
    place: Place,
    start: ExecStart,
) -> StartRequest {
    StartRequest {
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
            stdin: match start.attach {
                true => start.stdin,
                false => Stdin::Null,
            },
        },
        attach: start.attach,
    }
}

/// Why nothing of an image can be run here, if it is for another kernel. Another processor is no
/// reason: the kernel may know an interpreter for its programs (binfmt_misc on Linux, binmiscctl(8)
/// on FreeBSD), and says "exec format error" if it doesn't.
pub(crate) fn foreign(platform: Option<&Platform>) -> Option<String> {
    let host = Platform::host();
    platform
        .filter(|platform| platform.os() != host.os() && !platform.os().is_empty())
        .map(|platform| format!("its image is for {platform}, and this host runs {host}"))
}
