//! Volumes: datasets for data that outlives containers.

use kleene_doors::storage::Dataset;
use kleene_store::{Step, VolumeRecord};
use kleene_types::{ContainerId, MountKind, MountSpec, Timestamp, VolumeName};

use crate::events::NewEvent;
use crate::locks::Key;
use crate::{Engine, EngineError, VolumeView};

impl Engine {
    /// Creates a volume; one that exists is left as it is.
    ///
    /// # Errors
    /// When storage fails; nothing is left then.
    pub fn volume_create(&self, name: VolumeName) -> Result<VolumeName, EngineError> {
        let _lock = self.locks.exclusive(Key::Volume(name.clone()));
        if self.store.volume(&name)?.is_some() {
            return Ok(name);
        }
        self.ensure_unclaimed(&name)?;
        self.journalled(&[Step::DiscardVolume(name.clone())], |operation| {
            self.storage.create(&Dataset::Volume(name.clone()))?;
            let volume = VolumeRecord {
                name: name.clone(),
                created: Timestamp::now(),
                populated: false,
            };
            Ok(self.store.write(|transaction| {
                transaction.put_volume(&volume)?;
                transaction.finish(operation)
            })?)
        })?;
        self.emit(NewEvent::volume("create", &name));
        Ok(name)
    }

    /// What there is to tell of volumes once they are recorded like this.
    pub(crate) fn volume_events(
        &self,
        volumes: &[VolumeRecord],
    ) -> Result<Vec<NewEvent>, EngineError> {
        let mut events = Vec::new();
        for volume in volumes {
            let before = self.store.volume(&volume.name)?;
            if before.is_none() {
                events.push(NewEvent::volume("create", &volume.name));
            }
            if volume.populated && before.is_none_or(|before| !before.populated) {
                events.push(NewEvent::volume("populate", &volume.name));
            }
        }
        Ok(events)
    }

    /// Refuses a name whose dataset is there without a record: it isn't ours to take over, and must
    /// be noticed before the journal says that it is to be discarded on failure.
    pub(crate) fn ensure_unclaimed(&self, name: &VolumeName) -> Result<(), EngineError> {
        let dataset = Dataset::Volume(name.clone());
        if self.storage.exists(&dataset)? {
            return Err(EngineError::Conflict(format!(
                "'{}' exists but is not a volume that Kleene knows: rename or remove it first",
                self.storage.name(&dataset)
            )));
        }
        Ok(())
    }

    fn volume_view(&self, record: VolumeRecord) -> VolumeView {
        let dataset = Dataset::Volume(record.name.clone());
        VolumeView {
            dataset: self.storage.name(&dataset),
            mountpoint: self.storage.mountpoint(&dataset),
            record,
        }
    }

    /// All volumes, newest first.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn volume_list(&self) -> Result<Vec<VolumeView>, EngineError> {
        let volumes = self.store.volumes()?;
        Ok(volumes
            .into_iter()
            .map(|record| self.volume_view(record))
            .collect())
    }

    /// A volume with the mounts that use it.
    ///
    /// # Errors
    /// [`EngineError::VolumeNotFound`].
    pub fn volume_inspect(
        &self,
        name: &str,
    ) -> Result<(VolumeView, Vec<(ContainerId, MountSpec)>), EngineError> {
        let volume = self.find_volume(name)?;
        let mut mounts = Vec::new();
        for container in self.store.containers_of_volume(&volume.name)? {
            let of_volume =
                |mount: &&MountSpec| mount.kind == MountKind::Volume(volume.name.clone());
            mounts.extend(
                container
                    .mounts
                    .iter()
                    .filter(of_volume)
                    .map(|m| (container.id.clone(), m.clone())),
            );
        }
        Ok((self.volume_view(volume), mounts))
    }

    /// Removes a volume with its data.
    ///
    /// # Errors
    /// [`EngineError::InUse`] naming the containers that mount it, running or not.
    pub fn volume_remove(&self, name: &str) -> Result<VolumeName, EngineError> {
        let name = self.find_volume(name)?.name;
        let _lock = self.locks.exclusive(Key::Volume(name.clone()));
        self.find_volume(name.as_str())?;
        if self.builds.uses_volume(&name) {
            return Err(EngineError::InUse(format!(
                "volume '{name}' is used by a build: wait for its end"
            )));
        }
        let users = self.store.containers_of_volume(&name)?;
        if !users.is_empty() {
            let users: Vec<String> = users
                .iter()
                .map(|user| format!("{} ({})", user.id, user.name))
                .collect();
            let noun = if users.len() == 1 {
                "container"
            } else {
                "containers"
            };
            return Err(EngineError::InUse(format!(
                "volume '{name}' is used by {noun} {}: remove the {noun} first",
                users.join(", "),
            )));
        }
        self.remove_for_good(Step::RemoveVolume(name.clone()), |operation| {
            self.finish_removing_volume(&name, operation)
        })?;
        Ok(name)
    }

    /// Removes volumes that were made for a container that is gone. Those that somebody uses stay.
    pub(crate) fn remove_anonymous(&self, volumes: &[VolumeName]) -> Result<(), EngineError> {
        for volume in volumes {
            match self.volume_remove(volume.as_str()) {
                Ok(_) | Err(EngineError::InUse(_) | EngineError::VolumeNotFound(_)) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(())
    }

    /// Removes all volumes that no container mounts, running or not. Answers them, oldest first.
    ///
    /// # Errors
    /// The first failure; volumes before it are removed then.
    pub fn volume_prune(&self) -> Result<Vec<VolumeName>, EngineError> {
        let mut removed = Vec::new();
        for volume in self.store.unused_volumes()? {
            match self.volume_remove(volume.name.as_str()) {
                Ok(name) => removed.push(name),
                // Somebody has begun to use it, or has removed it.
                Err(EngineError::InUse(_) | EngineError::VolumeNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}
