//! Signals to a container, and pausing it.

use std::time::Instant;

use kleene_doors::host::HostError;
use kleene_store::ContainerRecord;
use kleene_types::{ContainerId, Signal};

use crate::events::NewEvent;
use crate::locks::{Guard, Key};
use crate::running::Init;
use crate::{Engine, EngineError};

/// Signals by which whoever sends them wants a container to end, beside its own stop signal: INT,
/// QUIT, KILL and TERM have the same numbers everywhere.
const ENDING: [i32; 4] = [2, 3, 9, 15];

impl Engine {
    /// Sends a signal to a container's first process, which may take no notice of it: as process 1 it
    /// needs a handler for any but KILL and STOP. One that is meant to end it, and does, keeps
    /// its restart policy from starting it again.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_kill(
        &self,
        reference: &str,
        signal: Signal,
    ) -> Result<ContainerId, EngineError> {
        let (container, init, lock) = self.lock_running(reference)?;
        let id = &container.id;
        if ENDING.contains(&signal.number()) || container.stop_signal == Some(signal) {
            // Only KILL can't be survived: whether another one ends it is seen at its end.
            if signal == Signal::KILL {
                self.mark_stopped(id)?;
            }
            self.running.with(id, &init.exec, |run| {
                run.signalled = Some(Instant::now());
            });
        }
        let sent = match signal {
            Signal::KILL => self.host.kill(id, &init.exec),
            _ => self.host.send_signal(&init.exec, signal.number()),
        };
        sent.map_err(|problem| not_running(problem, &container))?;
        let event = NewEvent::container("kill", id, &container.name);
        self.emit(event.with("signal", signal));
        drop(lock);
        Ok(container.id)
    }

    /// Stops all processes of a container in their tracks.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`], [`EngineError::Conflict`] when it is paused already.
    pub fn container_pause(&self, reference: &str) -> Result<ContainerId, EngineError> {
        let (container, init, _lock) = self.lock_running(reference)?;
        let name = &container.name;
        if init.paused {
            return Err(EngineError::Conflict(format!(
                "container '{name}' is paused already"
            )));
        }
        let stopping = |run: &mut crate::running::Run| run.stopping;
        if self.running.with(&container.id, &init.exec, stopping) == Some(true) {
            return Err(EngineError::Conflict(format!(
                "container '{name}' is being stopped"
            )));
        }
        let paused = self.host.pause(&container.id, &init.exec);
        paused.map_err(|problem| not_running(problem, &container))?;
        self.note_paused(&container, &init, true);
        Ok(container.id)
    }

    /// Lets a container's processes go on.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`], [`EngineError::Conflict`] when it isn't paused.
    pub fn container_unpause(&self, reference: &str) -> Result<ContainerId, EngineError> {
        let (container, init, _lock) = self.lock_running(reference)?;
        if !init.paused {
            return Err(EngineError::Conflict(format!(
                "container '{}' is not paused",
                container.name
            )));
        }
        let unpaused = self.host.unpause(&container.id, &init.exec);
        unpaused.map_err(|problem| not_running(problem, &container))?;
        self.note_paused(&container, &init, false);
        Ok(container.id)
    }

    fn note_paused(&self, container: &ContainerRecord, init: &Init, paused: bool) {
        let id = &container.id;
        self.running
            .with(id, &init.exec, |run| run.init.paused = paused);
        let action = match paused {
            true => "pause",
            false => "unpause",
        };
        self.emit(NewEvent::container(action, id, &container.name));
    }

    /// A running container with its lock.
    fn lock_running(
        &self,
        reference: &str,
    ) -> Result<(ContainerRecord, Init, Guard<'_>), EngineError> {
        let id = self.find_container(reference)?.id;
        let lock = self.locks.exclusive(Key::Container(id.clone()));
        let container = self.recorded_container(&id)?;
        match self.running.get(&id) {
            Some(init) => Ok((container, init, lock)),
            None => Err(EngineError::ContainerNotRunning(container.name.to_string())),
        }
    }
}

/// The host's error about a container that has just ended.
fn not_running(problem: HostError, container: &ContainerRecord) -> EngineError {
    match problem {
        HostError::NotRunning(_) => EngineError::ContainerNotRunning(container.name.to_string()),
        other => other.into(),
    }
}
