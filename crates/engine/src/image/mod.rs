//! Images: trees that containers are cloned from.

mod create;
mod remove;

use kleene_doors::storage::Dataset;
use kleene_store::ImageRecord;
use kleene_types::{ImageId, ImageName, ImageTag};

use crate::events::NewEvent;
use crate::locks::Key;
use crate::{Engine, EngineError, ImageView};

impl Engine {
    fn image_view(&self, record: ImageRecord) -> ImageView {
        ImageView {
            dataset: self.storage.name(&Dataset::Image(record.id.clone())),
            record,
        }
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// When the records can't be read.
    pub fn image_list(&self) -> Result<Vec<ImageView>, EngineError> {
        Ok(self
            .store
            .images()?
            .into_iter()
            .map(|record| self.image_view(record))
            .collect())
    }

    /// One image.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`], or [`EngineError::Ambiguous`].
    pub fn image_inspect(&self, reference: &str) -> Result<ImageView, EngineError> {
        Ok(self.image_view(self.find_image_by_text(reference)?))
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
        operation: Option<kleene_store::OperationId>,
    ) -> Result<(), EngineError> {
        let holder = match &image.reference {
            Some((name, tag)) => self.store.image_by_tag(name, tag)?,
            None => None,
        };
        let holder = holder.filter(|holder| holder.id != image.id);
        self.store.write(|transaction| {
            if let Some(holder) = &holder {
                transaction.put_image(&ImageRecord {
                    reference: None,
                    ..holder.clone()
                })?;
            }
            transaction.put_image(image)?;
            operation.map_or(Ok(()), |operation| transaction.finish(operation))
        })?;
        if let Some(holder) = holder {
            let lost = holder.reference.as_ref();
            self.emit(NewEvent::image("untag", &holder.id, lost));
        }
        Ok(())
    }

    /// The record of an image that was found before its lock was taken.
    fn recorded_image(&self, id: &ImageId) -> Result<ImageRecord, EngineError> {
        let record = self.store.image(id)?;
        record.ok_or_else(|| EngineError::ImageNotFound(id.to_string()))
    }
}
