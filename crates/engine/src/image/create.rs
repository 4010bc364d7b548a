//! Creating base images.

use std::path::PathBuf;

use kleene_doors::storage::{Dataset, Root, Snapshot, StorageError};
use kleene_doors::userland::{Defaults, Extras, ProgressSink, Source};
use kleene_store::{ImageConfig, ImageRecord, Step};
use kleene_types::{ImageId, ImageTag, Platform, SnapshotName, Timestamp};

use crate::events::NewEvent;
use crate::{Engine, EngineError, ImageSource, NewImage};

impl Engine {
    /// Creates a base image. Another image that has its name and tag loses them.
    ///
    /// # Errors
    /// When the source can't be used; nothing is left of the image then.
    pub fn image_create(
        &self,
        new: NewImage,
        progress: ProgressSink<'_>,
    ) -> Result<ImageId, EngineError> {
        let id = ImageId::random();
        let dataset = Dataset::Image(id.clone());
        let image = self.journalled(&[Step::DiscardImage(id.clone())], |operation| {
            let defaults = self.provide(&new, &dataset, progress)?;
            self.storage.snapshot(&Snapshot {
                dataset: dataset.clone(),
                name: SnapshotName::image(),
            })?;
            let found = defaults.name.and_then(|name| name.parse().ok());
            let reference = match (&new.reference, found) {
                (None, Some(name)) if new.autotag => Some((name, ImageTag::latest())),
                (reference, _) => reference.clone(),
            };
            let image = ImageRecord {
                id: id.clone(),
                reference,
                config: ImageConfig {
                    cmd: defaults.cmd,
                    env: defaults.env,
                    ..ImageConfig::default()
                },
                instructions: Vec::new(),
                created: Timestamp::now(),
                parent: None,
                platform: Some(Platform::host()),
                origin: None,
                history: Vec::new(),
                size: Some(self.storage.usage(&dataset)?),
                build_cache: false,
            };
            self.put_tagged(&image, Some(operation))?;
            Ok(image)
        })?;
        let reference = image.reference.as_ref();
        self.emit(NewEvent::image("create", &image.id, reference));
        Ok(image.id)
    }

    /// Makes the image's tree.
    fn provide(
        &self,
        new: &NewImage,
        dataset: &Dataset,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, EngineError> {
        match &new.source {
            ImageSource::Userland(source) => {
                self.storage.create(dataset)?;
                self.fill(source, new.extras, dataset, progress)
            }
            ImageSource::Zfs {
                dataset: source,
                mode,
            } => {
                self.storage.adopt(source, *mode, dataset)?;
                Ok(Defaults {
                    cmd: vec!["/bin/sh".to_owned()],
                    ..Defaults::default()
                })
            }
        }
    }

    fn fill(
        &self,
        source: &Source,
        extras: Extras,
        dataset: &Dataset,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, EngineError> {
        let path = self.plain_directory(dataset)?;
        Ok(self.userland.fill(source, extras, &path, progress)?)
    }

    /// Where the files of a new, empty dataset go.
    pub(super) fn plain_directory(&self, dataset: &Dataset) -> Result<PathBuf, EngineError> {
        match self.storage.root(dataset)? {
            Root::Directory { path } => Ok(path),
            Root::Overlay { .. } => Err(StorageError::Unsupported(
                "the new image's dataset is not a plain directory".to_owned(),
            )
            .into()),
        }
    }
}
