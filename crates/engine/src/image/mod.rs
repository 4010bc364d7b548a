//! Images: trees that containers are cloned from.

pub(crate) mod blobs;
mod config;
mod create;
mod export;
mod history;
mod install;
pub(crate) mod lineage;
mod remove;
mod send;

pub use export::{NewCommit, NewImport};
pub use history::HistoryView;
pub use install::{Identity, Loaded, NewPull};
pub use remove::{ImagePrune, ImagesPruned};
pub use send::NewPush;

use kleene_doors::storage::{Dataset, StorageError};
use kleene_store::{ImageRecord, ImageSnapshot, OperationId, StoreError, Transaction};
use kleene_types::{ImageId, ImageName, ImageTag};

use crate::events::NewEvent;
use crate::locks::Key;
use crate::{Engine, EngineError, ImageView};

impl Engine {
    fn image_view(&self, record: ImageRecord) -> Result<ImageView, EngineError> {
        let mut shared_size = 0;
        let mut parent = record.parent.clone();
        while let Some(ImageSnapshot { image, .. }) = parent {
            let Some(above) = self.store.image(&image)? else {
                break;
            };
            shared_size += self.own_size(&above)?;
            parent = above.parent;
        }
        Ok(ImageView {
            dataset: self.storage.name(&Dataset::Image(record.id.clone())),
            size: self.own_size(&record)?,
            shared_size,
            record,
        })
    }

    /// Bytes of an image's own data. Images don't change, so it is measured once.
    fn own_size(&self, image: &ImageRecord) -> Result<u64, EngineError> {
        match image.size {
            Some(size) => Ok(size),
            None => match self.storage.usage(&Dataset::Image(image.id.clone())) {
                Ok(size) => Ok(size),
                // It is being removed.
                Err(StorageError::NotFound(_)) => Ok(0),
                Err(problem) => Err(problem.into()),
            },
        }
    }

    /// The images, newest first; with `all` also those that only keep steps of builds.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn image_list(&self, all: bool) -> Result<Vec<ImageView>, EngineError> {
        let images = self.store.images()?.into_iter();
        images
            .filter(|image| all || !image.build_cache)
            .map(|image| self.image_view(image))
            .collect()
    }

    /// One image.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`], or [`EngineError::Ambiguous`].
    pub fn image_inspect(&self, reference: &str) -> Result<ImageView, EngineError> {
        self.image_view(self.find_image_by_text(reference)?)
    }

    /// Gives an image this name and tag. An image that has them loses them.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`].
    pub fn image_tag(
        &self,
        reference: &str,
        name: ImageName,
        tag: ImageTag,
    ) -> Result<ImageId, EngineError> {
        let id = self.find_image_by_text(reference)?.id;
        let _lock = self.locks.exclusive(Key::Image(id.clone()));
        let mut image = self.recorded_image(&id)?;
        image.reference = Some((name, tag));
        self.put_tagged(&image, None)?;
        self.emit(NewEvent::image("tag", &id, image.reference.as_ref()));
        Ok(id)
    }

    /// Writes an image; another one that has its name and tag loses them. Ends `operation` too.
    fn put_tagged(
        &self,
        image: &ImageRecord,
        operation: Option<OperationId>,
    ) -> Result<(), EngineError> {
        self.put_tagged_with(image, |transaction| {
            operation.map_or(Ok(()), |operation| transaction.finish(operation))
        })
    }

    /// As [`Engine::put_tagged`], with what else is written in the same transaction.
    pub(crate) fn put_tagged_with(
        &self,
        image: &ImageRecord,
        work: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
    ) -> Result<(), EngineError> {
        // In one transaction: somebody else may want the same name in this moment.
        let holder = self.store.write(|transaction| {
            transaction.defer_references()?;
            let holder = match &image.reference {
                Some((name, tag)) => transaction.untag_image(name, tag)?,
                None => None,
            };
            transaction.put_image(image)?;
            work(transaction)?;
            Ok::<_, StoreError>(holder.filter(|holder| holder.id != image.id))
        })?;
        if let Some(holder) = holder {
            let lost = holder.reference.as_ref();
            self.emit(NewEvent::image("untag", &holder.id, lost));
        }
        Ok(())
    }

    /// The record of an image that was found before its lock was taken.
    pub(crate) fn recorded_image(&self, id: &ImageId) -> Result<ImageRecord, EngineError> {
        let record = self.store.image(id)?;
        record.ok_or_else(|| EngineError::ImageNotFound(id.to_string()))
    }
}
