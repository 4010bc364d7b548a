//! Containers: making, showing, changing, stopping and removing them. Starting one is starting an
//! execution instance in it: see [`crate::start`].

mod create;
mod remove;
mod signal;
mod stop;
mod update;

use std::collections::HashMap;

use kleene_doors::storage::{Dataset, DatasetKind};
use kleene_store::{ContainerRecord, ExecRecord, ImageRecord, StoreError};
use kleene_types::{ContainerId, ContainerName};

use crate::running::Init;
use crate::{ContainerState, ContainerView, Engine, EngineError, ListOptions};

pub(crate) use create::{runtime_network, unique_destinations, validate_command};
pub(crate) use stop::{KILL_LIMIT, ended_meanwhile};

impl Engine {
    /// Containers, newest first; only those that run, or will soon again, unless all are asked for.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn container_list(&self, options: ListOptions) -> Result<Vec<ContainerView>, EngineError> {
        let running = self.running.all();
        let images = self.store.images()?;
        let sizes: HashMap<Dataset, u64> = match options.size {
            true => self.storage.usages(DatasetKind::Container)?,
            false => Vec::new(),
        }
        .into_iter()
        .collect();
        let mut views = Vec::new();
        for record in self.store.containers()? {
            let init = running.get(&record.id);
            let waits = init.is_none() && self.running.waiting(&record.id).is_some();
            if init.is_none() && !waits && !options.all {
                continue;
            }
            let image = images.iter().find(|image| image.id == record.image);
            let size = sizes.get(&Dataset::Container(record.id.clone())).copied();
            let view = self.view(record, image, init, size);
            views.push(view);
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
        let init = self.running.get(&record.id);
        Ok(self.view(record, image.as_ref(), init.as_ref(), None))
    }

    /// Execution instances of a container, the newest first.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn container_execs(&self, id: &ContainerId) -> Result<Vec<ExecRecord>, EngineError> {
        Ok(self.store.execs_of(id)?)
    }

    fn view(
        &self,
        record: ContainerRecord,
        image: Option<&ImageRecord>,
        init: Option<&Init>,
        size: Option<u64>,
    ) -> ContainerView {
        ContainerView {
            image: image.and_then(|image| image.reference.clone()),
            dataset: self.storage.name(&Dataset::Container(record.id.clone())),
            number: init.map(|init| init.number),
            state: self.state(&record, init),
            health: self.running.health(&record.id),
            size,
            record,
        }
    }

    fn state(&self, record: &ContainerRecord, init: Option<&Init>) -> ContainerState {
        match init {
            Some(init) if init.paused => ContainerState::Paused,
            Some(_) => ContainerState::Running,
            None if self.running.waiting(&record.id).is_some() => ContainerState::Restarting,
            None if record.last_run.is_none() => ContainerState::Created,
            None => ContainerState::Exited,
        }
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
