//! Removing images.

use kleene_store::Step;
use kleene_types::ImageId;

use crate::locks::Key;
use crate::{Engine, EngineError};

impl Engine {
    /// Removes an image that no container was made of.
    ///
    /// # Errors
    /// [`EngineError::InUse`] with the containers' ids, one a line.
    pub fn image_remove(&self, reference: &str) -> Result<ImageId, EngineError> {
        let id = self.find_image_by_text(reference)?.id;
        self.remove_image(&id)?;
        Ok(id)
    }

    /// Removes the images that no container was made of: those without a name, or, with `all`, any.
    /// Answers them, oldest first.
    ///
    /// # Errors
    /// The first failure; images before it are removed then.
    pub fn image_prune(&self, all: bool) -> Result<Vec<ImageId>, EngineError> {
        let mut removed = Vec::new();
        for image in self.store.images()?.into_iter().rev() {
            if image.reference.is_some() && !all {
                continue;
            }
            match self.remove_image(&image.id) {
                Ok(()) => removed.push(image.id),
                Err(EngineError::InUse(_) | EngineError::ImageNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    fn remove_image(&self, id: &ImageId) -> Result<(), EngineError> {
        let _lock = self.locks.exclusive(Key::Image(id.clone()));
        self.recorded_image(id)?;
        let users = self.store.containers_of_image(id)?;
        if !users.is_empty() {
            let users: Vec<&str> = users.iter().map(|user| user.id.as_str()).collect();
            return Err(EngineError::InUse(format!(
                "could not remove image {id} since it is used for containers:\n{}",
                users.join("\n")
            )));
        }
        self.remove_for_good(Step::RemoveImage(id.clone()), |operation| {
            self.finish_removing_image(id, operation)
        })
    }
}
