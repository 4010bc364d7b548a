//! Removing containers.

use kleene_store::Step;
use kleene_types::ContainerId;
use tracing::debug;

use crate::locks::Key;
use crate::{Engine, EngineError};

impl Engine {
    /// Removes a container. Its volumes stay. With `force` one that runs is stopped first, as by
    /// [`Engine::container_stop`], and nobody can start it in between.
    ///
    /// # Errors
    /// [`EngineError::InUse`] when it runs, without `force`.
    pub fn container_remove(
        &self,
        reference: &str,
        force: bool,
    ) -> Result<ContainerId, EngineError> {
        let id = self.find_container(reference)?.id;
        match force {
            true => self.stop_and_remove(&id, reference)?,
            false => self.remove_recorded(&id)?,
        }
        Ok(id)
    }

    fn stop_and_remove(&self, id: &ContainerId, reference: &str) -> Result<(), EngineError> {
        let _removal = self.running.begin_removal(id.clone());
        let stopped = self.container_stop(id.as_str(), None);
        let removed = match stopped {
            Ok(_) | Err(EngineError::ContainerNotRunning(_)) => self.remove_recorded(id),
            Err(problem) => Err(problem),
        };
        match removed {
            // It was one that is removed as soon as it stops, or somebody else was quicker.
            Err(EngineError::ContainerNotFound(_)) => {
                debug!(reference, "removed already");
                Ok(())
            }
            other => other,
        }
    }

    /// Removes all containers that neither run nor wait for their restart, and aren't marked to
    /// persist. Answers them, oldest first.
    ///
    /// # Errors
    /// The first failure; containers before it are removed then.
    pub fn container_prune(&self) -> Result<Vec<ContainerId>, EngineError> {
        let mut removed = Vec::new();
        for container in self.store.containers()?.into_iter().rev() {
            if container.persist || self.running.waiting(&container.id).is_some() {
                continue;
            }
            match self.remove_recorded(&container.id) {
                Ok(()) => removed.push(container.id),
                // It runs, or somebody else has removed it.
                Err(EngineError::InUse(_) | EngineError::ContainerNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    pub(crate) fn remove_recorded(&self, id: &ContainerId) -> Result<(), EngineError> {
        let _lock = self.locks.exclusive(Key::Container(id.clone()));
        self.recorded_container(id)?;
        match self.running.get(id) {
            Some(init) if init.paused => Err(EngineError::InUse(
                "you cannot remove a paused container: stop it first".to_owned(),
            )),
            Some(_) => Err(EngineError::InUse(
                "you cannot remove a running container".to_owned(),
            )),
            None => self.remove_locked(id),
        }
    }

    /// Removes a container that doesn't run, and whose lock the caller holds. It isn't restarted any
    /// more, either.
    pub(crate) fn remove_locked(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.remove_for_good(Step::RemoveContainer(id.clone()), |operation| {
            self.finish_removing_container(id, operation)
        })
    }
}
