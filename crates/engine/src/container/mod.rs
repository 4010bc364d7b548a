//! Containers: making, showing, changing, stopping and removing them. Starting one is starting an
//! execution instance in it: see [`crate::exec`].

mod create;
pub(crate) use create::{refuse_id_as_name, runtime_network, validate_command};
mod remove;
mod stop;

use kleene_doors::storage::Dataset;
use kleene_store::{ContainerRecord, ExecRecord, StoreError};
use kleene_types::{ContainerId, ContainerName};

use crate::locks::Key;
use crate::{
    ContainerChanges, ContainerState, ContainerView, Done, Engine, EngineError, ListOptions,
};

impl Engine {
    /// Containers, newest first; only those that run unless all are asked for.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn container_list(&self, options: ListOptions) -> Result<Vec<ContainerView>, EngineError> {
        let running = self.running.all();
        let images = self.store.images()?;
        let mut views = Vec::new();
        for record in self.store.containers()? {
            let pid = running.get(&record.id).map(|init| init.pid);
            if pid.is_none() && !options.all {
                continue;
            }
            let image = images.iter().find(|image| image.id == record.image);
            views.push(ContainerView {
                image: image.and_then(|image| image.reference.clone()),
                dataset: self.storage.name(&Dataset::Container(record.id.clone())),
                state: state(&record, pid),
                health: None,
                size: None,
                record,
                pid,
            });
        }
        Ok(views)
    }

    /// One container.
    ///
    /// # Errors
    /// When there is none, or several fit.
    pub fn container_inspect(&self, reference: &str) -> Result<ContainerView, EngineError> {
        let record = self.find_container(reference)?;
        let image = self.store.image(&record.image)?;
        let pid = self.running.get(&record.id).map(|init| init.pid);
        Ok(ContainerView {
            image: image.and_then(|image| image.reference),
            dataset: self.storage.name(&Dataset::Container(record.id.clone())),
            state: state(&record, pid),
            health: None,
            size: None,
            pid,
            record,
        })
    }

    /// Execution instances of a container, the newest first.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn container_execs(&self, id: &ContainerId) -> Result<Vec<ExecRecord>, EngineError> {
        Ok(self.store.execs_of(id)?)
    }

    /// Changes a container's properties. Those of a running container count from its next start.
    ///
    /// # Errors
    /// [`EngineError::Conflict`] when the new name is taken.
    pub fn container_update(
        &self,
        reference: &str,
        changes: ContainerChanges,
    ) -> Result<Done, EngineError> {
        let id = self.find_container(reference)?.id;
        if let Some(name) = &changes.name {
            refuse_id_as_name(name)?;
        }
        let (cmd, env) = (changes.cmd.as_deref(), changes.env.as_deref());
        let user = changes.user.as_deref();
        validate_command(
            cmd.unwrap_or_default(),
            env.unwrap_or_default(),
            user.unwrap_or_default(),
        )?;
        if let Some(params) = &changes.jail_params {
            self.host.check_jail_params(params)?;
        }
        let _lock = self.locks.exclusive(Key::Container(id.clone()));
        let mut container = self.recorded_container(&id)?;
        apply(&mut container, changes);
        self.store
            .write(|transaction| transaction.put_container(&container))
            .map_err(|error| name_taken(error, &container.name))?;
        Ok(Done {
            id,
            warnings: Vec::new(),
        })
    }

    /// The record of a container that was found before its lock was taken.
    pub(crate) fn recorded_container(
        &self,
        id: &ContainerId,
    ) -> Result<ContainerRecord, EngineError> {
        let record = self.store.container(id)?;
        record.ok_or_else(|| EngineError::ContainerNotFound(id.to_string()))
    }
}

fn state(record: &ContainerRecord, pid: Option<u32>) -> ContainerState {
    match (pid, &record.last_run) {
        (Some(_), _) => ContainerState::Running,
        (None, None) => ContainerState::Created,
        (None, Some(_)) => ContainerState::Exited,
    }
}

fn apply(container: &mut ContainerRecord, changes: ContainerChanges) {
    let ContainerChanges {
        name,
        cmd,
        user,
        env,
        jail_params,
        restart_policy,
        persist,
        ..
    } = changes;
    container.name = name.unwrap_or_else(|| container.name.clone());
    container.cmd = cmd.unwrap_or_else(|| std::mem::take(&mut container.cmd));
    container.user = user.unwrap_or_else(|| std::mem::take(&mut container.user));
    container.env = env.unwrap_or_else(|| std::mem::take(&mut container.env));
    container.jail_params =
        jail_params.unwrap_or_else(|| std::mem::take(&mut container.jail_params));
    container.restart_policy = restart_policy.unwrap_or(container.restart_policy);
    container.persist = persist.unwrap_or(container.persist);
}

/// The error for a container's name that another one has.
fn name_taken(error: StoreError, name: &ContainerName) -> EngineError {
    match error {
        StoreError::Taken => EngineError::Conflict(format!(
            "the container name '{name}' is taken: choose another one, or remove or rename that \
             container first"
        )),
        other => other.into(),
    }
}
