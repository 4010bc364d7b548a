//! Whole trees: of containers and images as flat archives, archives as images, containers as images.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::thread;

use kleene_doors::layers::LayerOptions;
use kleene_doors::storage::{Dataset, Root};
use kleene_doors::userland::{Extras, ProgressSink};
use kleene_store::{
    ContainerRecord, HistoryRecord, ImageConfig, ImageRecord, ImageSnapshot, OperationId, Run, Step,
};
use kleene_types::{ContainerId, ImageId, ImageName, ImageTag, Platform, SnapshotName, Timestamp};

use super::lineage::of_dataset;
use crate::build::Changes;
use crate::container::ended_meanwhile;
use crate::events::NewEvent;
use crate::locks::{Key, Mode};
use crate::{Engine, EngineError};

/// A container to make an image of.
#[derive(Debug, Clone)]
pub struct NewCommit {
    /// The container.
    pub container: String,
    /// Name and tag of the image.
    pub name: Option<(ImageName, ImageTag)>,
    /// A remark.
    pub comment: String,
    /// Whether the container is paused meanwhile, if it runs.
    pub pause: bool,
    /// Changes of the image's settings.
    pub changes: Changes,
}

/// An archive to make an image of.
#[derive(Debug, Clone)]
pub struct NewImport {
    /// Name and tag of the image.
    pub name: Option<(ImageName, ImageTag)>,
    /// A remark.
    pub comment: String,
    /// The image's settings.
    pub changes: Changes,
}

impl Engine {
    /// Writes an image's whole tree as a tar archive.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`]; when reading or writing fails.
    pub fn image_export(&self, reference: &str, to: &mut dyn Write) -> Result<(), EngineError> {
        let image = self.find_image_by_text(reference)?;
        let snapshot = ImageSnapshot {
            image: image.id,
            snapshot: SnapshotName::image(),
        };
        self.with_snapshot(&snapshot, |root| self.export_root(root, to))
    }

    /// Writes a container's own tree as a tar archive, without what is mounted in it. One that runs
    /// may change meanwhile.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`]; when reading or writing fails.
    pub fn container_export(&self, reference: &str, to: &mut dyn Write) -> Result<(), EngineError> {
        let id = self.find_container(reference)?.id;
        let root = self.storage.root(&Dataset::Container(id))?;
        self.export_root(&root, to)
    }

    fn export_root(&self, root: &Root, to: &mut dyn Write) -> Result<(), EngineError> {
        Ok(self.host.pack_layer(None, root, to).map(drop)?)
    }

    /// Makes an image of a container: its image with what the container has changed. What is mounted
    /// in it isn't part of it.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`]; when reading or writing fails, and then nothing is left.
    pub fn container_commit(&self, commit: &NewCommit) -> Result<ImageId, EngineError> {
        let found = self.find_container(&commit.container)?;
        let _locks = self.locks.hold([
            (Key::Container(found.id.clone()), Mode::Exclusive),
            (Key::Image(found.image.clone()), Mode::Shared),
        ]);
        let container = self.recorded_container(&found.id)?;
        let base = self.recorded_image(&container.image)?;
        let mut config = base.config.clone();
        commit.changes.apply(&mut config)?;
        let image = ImageRecord {
            id: ImageId::random(),
            reference: commit.name.clone(),
            config,
            instructions: Vec::new(),
            created: Timestamp::now(),
            parent: Some(container.origin()),
            platform: base.platform,
            origin: None,
            history: remark(format!("COMMIT {}", container.name), &commit.comment),
            size: None,
            build_cache: false,
        };
        let made = self.while_paused(&container.id, commit.pause, || {
            self.journalled(&[Step::DiscardImage(image.id.clone())], |operation| {
                self.commit_tree(&container, &image, operation)
            })
        });
        made?;
        let event = NewEvent::image("commit", &image.id, image.reference.as_ref());
        self.emit(event.with("container", &container.id));
        Ok(image.id)
    }

    /// Has `work` done while a container that runs is paused, if that is wanted. It is locked by the
    /// caller. Should the daemon die meanwhile, the next one lets the container go on.
    fn while_paused<T>(
        &self,
        id: &ContainerId,
        wanted: bool,
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let running = self.running.get(id).filter(|init| wanted && !init.paused);
        let Some(init) = running else {
            return work();
        };
        let run = Run {
            container: id.clone(),
            init: init.exec.clone(),
        };
        let operation = self.store.begin_soon(&[Step::ResumeRun(run)], |_| Ok(()))?;
        let paused = ended_meanwhile(self.host.pause(id, &init.exec));
        let done = paused.and_then(|()| work());
        let unpaused = ended_meanwhile(self.host.unpause(id, &init.exec));
        if unpaused.is_ok() {
            self.end_operation(Some(operation));
        }
        let done = done?;
        unpaused?;
        Ok(done)
    }

    /// Makes the tree of an image: that of a container's image with the container's changes.
    fn commit_tree(
        &self,
        container: &ContainerRecord,
        image: &ImageRecord,
        operation: OperationId,
    ) -> Result<(), EngineError> {
        let dataset = Dataset::Image(image.id.clone());
        let origin = container.origin();
        let changed = self
            .storage
            .root(&Dataset::Container(container.id.clone()))?;
        self.storage
            .clone_snapshot(&of_dataset(&origin), &dataset)?;
        let root = self.storage.root(&dataset)?;
        self.with_snapshot(&origin, |below| self.carry_over(below, &changed, &root))?;
        self.finish_tree(image, &dataset, operation)
    }

    /// Makes `to`, which equals `below`, equal `changed`.
    fn carry_over(&self, below: &Root, changed: &Root, to: &Root) -> Result<(), EngineError> {
        let (mut from, into) = io::pipe().map_err(failed("making a pipe"))?;
        thread::scope(|scope| {
            let packing = scope.spawn(move || {
                let mut into = into;
                self.host.pack_layer(Some(below), changed, &mut into)
            });
            let go_on = &mut |_| ControlFlow::Continue(());
            let applied = self
                .host
                .apply_layer(to, &mut from, &LayerOptions::default(), go_on);
            // Whoever writes to a pipe that nobody reads ends.
            drop(from);
            let packed = packing.join();
            applied?;
            match packed {
                Ok(packed) => Ok(packed.map(drop)?),
                Err(_) => Err(failed("packing the changes")(io::ErrorKind::Other.into())),
            }
        })
    }

    /// Takes the last snapshot of a new image, and records it.
    fn finish_tree(
        &self,
        image: &ImageRecord,
        dataset: &Dataset,
        operation: OperationId,
    ) -> Result<(), EngineError> {
        self.take_snapshot(dataset, &SnapshotName::image())?;
        let image = ImageRecord {
            size: Some(self.storage.usage(dataset)?),
            ..image.clone()
        };
        self.put_tagged(&image, Some(operation))
    }

    /// Makes an image of a tar archive, compressed or not, which holds a whole tree.
    ///
    /// # Errors
    /// When the archive is damaged or hostile; nothing is left of the image then.
    pub fn image_import(
        &self,
        import: &NewImport,
        from: &mut dyn Read,
        progress: ProgressSink<'_>,
    ) -> Result<ImageId, EngineError> {
        let mut config = ImageConfig::default();
        import.changes.apply(&mut config)?;
        let image = ImageRecord {
            id: ImageId::random(),
            reference: import.name.clone(),
            config,
            instructions: Vec::new(),
            created: Timestamp::now(),
            parent: None,
            platform: Some(Platform::host()),
            origin: None,
            history: remark("IMPORT".to_owned(), &import.comment),
            size: None,
            build_cache: false,
        };
        let dataset = Dataset::Image(image.id.clone());
        self.journalled(&[Step::DiscardImage(image.id.clone())], |operation| {
            self.storage.create(&dataset)?;
            let path = self.plain_directory(&dataset)?;
            self.userland
                .fill_from(from, Extras::default(), &path, progress)?;
            self.finish_tree(&image, &dataset, operation)
        })?;
        let reference = image.reference.as_ref();
        self.emit(NewEvent::image("import", &image.id, reference));
        Ok(image.id)
    }
}

fn failed(what: &str) -> impl Fn(io::Error) -> EngineError {
    let context = what.to_owned();
    move |error| EngineError::Internal {
        context: format!("{context} failed: {error}"),
        source: Box::new(error),
    }
}

fn remark(created_by: String, comment: &str) -> Vec<HistoryRecord> {
    vec![HistoryRecord {
        created: Timestamp::now().to_string(),
        created_by,
        comment: comment.to_owned(),
        empty_layer: false,
    }]
}
