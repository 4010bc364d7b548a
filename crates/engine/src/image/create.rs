//! Creating base images.

use std::path::PathBuf;

use kleene_doors::storage::{Dataset, Root, Snapshot, StorageError};
use kleene_doors::userland::{Defaults, Extras, Progress, ProgressSink, Source};
use kleene_store::{ImageConfig, ImageRecord, Step};
use kleene_types::{ImageId, ImageTag, Platform, SnapshotName, Timestamp};

use tracing::info;

use super::NewPull;
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
        if new.source == ImageSource::Userland(Source::Auto)
            && let Some(id) = self.pull_release(&new, progress)?
        {
            return Ok(id);
        }
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

    /// Pulls the image of the host's own release. `None`: there is none, or the registry can't be
    /// reached, and the release has to be got in another way.
    fn pull_release(
        &self,
        new: &NewImage,
        progress: ProgressSink<'_>,
    ) -> Result<Option<ImageId>, EngineError> {
        let release = self.userland.release()?;
        let Some(reference) = release.registry_reference else {
            return Ok(None);
        };
        let named = match (&new.reference, release.name.parse()) {
            (None, Ok(name)) if new.autotag => Some((name, ImageTag::latest())),
            (reference, _) => reference.clone(),
        };
        let mut tell = |step: String, done: u64, total: u64| {
            progress(Progress {
                step,
                done,
                total: (total > 0).then_some(total),
            })
        };
        if tell(format!("pulling {reference}"), 0, 0).is_break() {
            return Err(EngineError::Cancelled);
        }
        let pull = NewPull {
            reference,
            platform: None,
            name: named,
            identity: None,
        };
        let pulled = self.image_pull(&pull, &mut |blob| {
            let step = format!("pulling {}: {}", pull.reference, blob.digest.short());
            tell(step, blob.done, blob.total)
        });
        match pulled {
            Ok(id) => Ok(Some(id)),
            Err(
                EngineError::Unreachable(problem)
                | EngineError::Denied(problem)
                | EngineError::ImageNotFoundElsewhere(problem),
            ) if release.can_fill => {
                info!(problem, "the release is made without the registry");
                Ok(None)
            }
            Err(problem) => Err(problem),
        }
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
