//! Stopping a container, and starting it again.

use std::time::Duration;

use kleene_doors::host::{Hooks, HostError};
use kleene_store::{ContainerRecord, OperationId, Run, Step, Transaction};
use kleene_types::{ContainerId, RestartPolicy, Signal, Span};
use tracing::{debug, warn};

use crate::events::NewEvent;
use crate::hooks;
use crate::locks::{Key, Mode};
use crate::restart::Cause;
use crate::running::{Init, StopTurn};
use crate::{Engine, EngineError};

/// Time that a container gets between SIGTERM and SIGKILL when nobody says otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// How long the end of a killed container is waited for. The kernel ends it at once, unless a
/// process hangs in a device or network file system.
pub(crate) const KILL_LIMIT: Duration = Duration::from_secs(30);

/// A stop that has begun.
struct Stopping {
    container: ContainerRecord,
    init: Init,
    operation: OperationId,
}

impl Engine {
    /// Stops a container: `exec.stop` is run in it, then its processes are asked to end, and ended
    /// after `grace` (`None`: the container's own time, or ten seconds). Its restart policy doesn't
    /// count until it is started again. One that waits for its restart doesn't any more.
    ///
    /// One that somebody is stopping already is left to them, but for at most `grace` if that is
    /// given: then its processes are ended.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_stop(
        &self,
        reference: &str,
        grace: Option<Duration>,
    ) -> Result<ContainerId, EngineError> {
        let id = self.find_container(reference)?.id;
        self.stop(&id, reference, grace, false)?;
        Ok(id)
    }

    /// Stops a container if it runs, and starts it detached.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`]; [`EngineError::Start`] when it can't be started.
    pub fn container_restart(
        &self,
        reference: &str,
        grace: Option<Duration>,
    ) -> Result<ContainerId, EngineError> {
        let container = self.find_container(reference)?;
        let id = container.id;
        match self.stop(&id, reference, grace, true) {
            Ok(operation) => {
                let started = self.start_run(&id, Cause::User);
                self.end_operation(operation);
                started?;
            }
            Err(EngineError::ContainerNotRunning(_)) => self.start_run(&id, Cause::User)?,
            Err(problem) => return Err(problem),
        }
        self.emit(NewEvent::container("restart", &id, &container.name));
        Ok(id)
    }

    /// Stops a run whose stopping was cut short, unless it is over, and starts the container again
    /// if that was wanted and nobody has.
    ///
    /// # Errors
    /// As [`Engine::container_stop`] and [`Engine::container_restart`].
    pub(crate) fn finish_stop(&self, run: &Run, start: bool) -> Result<(), EngineError> {
        let id = &run.container;
        let is_last = |container: ContainerRecord| {
            let last = container.last_run;
            last.is_some_and(|last| last.init == run.init)
        };
        if !self.store.container(id)?.is_some_and(is_last) {
            return Ok(());
        }
        let stopped = match start {
            true => self.container_restart(id.as_str(), None),
            false => self.container_stop(id.as_str(), None),
        };
        match stopped {
            Ok(_) | Err(EngineError::ContainerNotRunning(_)) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// Stops a container. With `restart` the operation remains open, for the caller to start it.
    fn stop(
        &self,
        id: &ContainerId,
        reference: &str,
        grace: Option<Duration>,
        restart: bool,
    ) -> Result<Option<OperationId>, EngineError> {
        let Some(stopping) = self.begin_stop(id, reference, restart)? else {
            return Ok(None);
        };
        let operation = Some(stopping.operation);
        let stopped = self.carry_out_stop(&stopping, grace);
        if stopped.is_err() || !restart {
            self.end_operation(operation);
        }
        stopped?;
        // Whoever records the end has told of it, and removed the container if it was to be.
        drop(
            self.locks
                .hold([(Key::Container(id.clone()), Mode::Shared)]),
        );
        let name = &stopping.container.name;
        let unrecorded = self.running.with(id, &stopping.init.exec, |_| ());
        if unrecorded.is_some() {
            // Whether it is to be started again is left to the journal.
            return Err(EngineError::Conflict(format!(
                "container '{name}' has ended, but that can't be recorded yet: try again"
            )));
        }
        self.emit(NewEvent::container("stop", id, name));
        Ok(operation)
    }

    /// Writes down that a container is to be stopped. `None`: it doesn't run, or not any more.
    fn begin_stop(
        &self,
        id: &ContainerId,
        reference: &str,
        restart: bool,
    ) -> Result<Option<Stopping>, EngineError> {
        let ran = self.running.get(id).is_some();
        let _lock = self.locks.exclusive(Key::Container(id.clone()));
        let Some(init) = self.running.get(id) else {
            let waited = self.running.waiting(id).is_some();
            if waited {
                let container = self.mark_stopped(id)?;
                self.running.cancel_waiting(id);
                self.emit(NewEvent::container("stop", id, &container.name));
            }
            return match waited || ran {
                true => Ok(None),
                false => Err(EngineError::ContainerNotRunning(reference.to_owned())),
            };
        };
        let mut container = self.recorded_container(id)?;
        container.stopped_by_user = true;
        let run = Run {
            container: id.clone(),
            init: init.exec.clone(),
        };
        let step = match restart {
            true => Step::RestartRun(run),
            false => Step::StopRun(run),
        };
        let record = |transaction: &Transaction<'_>| transaction.put_container(&container);
        let operation = match container.restart_policy {
            // What stops with the machine's power is started by no policy later.
            RestartPolicy::No | RestartPolicy::OnStartup => {
                self.store.begin_soon(&[step], record)?
            }
            _ => self.store.begin_with(&[step], record)?,
        };
        self.running.with(id, &init.exec, |run| {
            run.taken_over = restart;
            run.stopping = true;
        });
        Ok(Some(Stopping {
            container,
            init,
            operation,
        }))
    }

    /// Notes that a container is stopped by somebody, so that its restart policy doesn't count. Its
    /// lock is held by the caller.
    pub(crate) fn mark_stopped(&self, id: &ContainerId) -> Result<ContainerRecord, EngineError> {
        let mut container = self.recorded_container(id)?;
        if !container.stopped_by_user {
            container.stopped_by_user = true;
            self.store
                .write(|transaction| transaction.put_container(&container))?;
        }
        Ok(container)
    }

    /// Stops a container, or waits for whoever does.
    fn carry_out_stop(
        &self,
        stopping: &Stopping,
        grace: Option<Duration>,
    ) -> Result<(), EngineError> {
        let Stopping {
            container, init, ..
        } = stopping;
        match self.running.take_stop(&container.id, &init.exec, grace) {
            StopTurn::Ours { first, turn } => {
                let stopped = self.end_gently(container, init, grace, first);
                drop(turn);
                stopped
            }
            StopTurn::Over => Ok(()),
            StopTurn::Others => self.end_at_once(container, init),
        }
    }

    /// Runs the hooks, asks the processes to end, and ends them after some time. `first`: the hooks
    /// have not been run yet.
    fn end_gently(
        &self,
        container: &ContainerRecord,
        init: &Init,
        grace: Option<Duration>,
        first: bool,
    ) -> Result<(), EngineError> {
        let id = &container.id;
        let hooks = self
            .host
            .hooks(&container.jail_params, &container.cmd)
            .unwrap_or_else(|problem| {
                // The configuration may have changed; that mustn't keep it running.
                warn!(container = %id, %problem, "its hooks are not run");
                Hooks::default()
            });
        let grace = grace
            .or(container.stop_timeout.map(Span::duration))
            .or(hooks.stop_timeout.map(Span::duration))
            .unwrap_or(GRACE);
        if init.paused {
            ended_meanwhile(self.host.unpause(id, &init.exec))?;
            self.running
                .with(id, &init.exec, |run| run.init.paused = false);
        }
        if first {
            self.run_hooks_anyhow(container, "exec.prestop", &hooks.prestop, &hooks);
            self.run_exec_stop(container, init, &hooks, grace);
        }
        if self.running.wait(id, &init.exec, Duration::ZERO) {
            return Ok(());
        }
        let asked = match container.stop_signal {
            None | Some(Signal::TERM) => self.host.terminate(id, &init.exec),
            Some(signal) => self.host.signal(&init.exec, signal.number()),
        };
        ended_meanwhile(asked)?;
        match self.running.wait(id, &init.exec, grace) {
            true => Ok(()),
            false => self.end_at_once(container, init),
        }
    }

    /// Ends the processes of a container, and waits for that.
    fn end_at_once(&self, container: &ContainerRecord, init: &Init) -> Result<(), EngineError> {
        let id = &container.id;
        ended_meanwhile(self.host.kill(id, &init.exec))?;
        if self.running.wait(id, &init.exec, KILL_LIMIT) {
            return Ok(());
        }
        Err(EngineError::Conflict(format!(
            "container '{}' was killed but its processes have not ended after {} seconds: one of \
             them may hang in the kernel",
            container.name,
            KILL_LIMIT.as_secs()
        )))
    }

    /// Runs what a container wants to be run in it to stop it, and waits for that and its end.
    fn run_exec_stop(
        &self,
        container: &ContainerRecord,
        init: &Init,
        hooks: &Hooks,
        grace: Duration,
    ) {
        let Some(argv) = hooks.stop.clone().filter(|_| !grace.is_zero()) else {
            return;
        };
        let id = &container.id;
        let started = {
            let _lock = self
                .locks
                .hold([(Key::Container(id.clone()), Mode::Shared)]);
            self.start_aside(container, init, argv)
        };
        let outcome = match started {
            Ok(aside) => self.finish_aside(aside, grace.min(hooks::limit(hooks))),
            Err(problem) => {
                warn!(container = %id, %problem, "exec.stop can't be run");
                return;
            }
        };
        let output = outcome.output;
        match outcome.code {
            // It may end together with the container that it stops, by a signal.
            Some(code) => debug!(container = %id, code, output, "exec.stop"),
            None => warn!(container = %id, output, "exec.stop took too long and was ended"),
        }
    }
}

/// A process that ended by itself in the meantime is as good as stopped.
pub(crate) fn ended_meanwhile(result: Result<(), HostError>) -> Result<(), EngineError> {
    match result {
        Ok(()) | Err(HostError::NotRunning(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
