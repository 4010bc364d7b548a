//! Removing images.

use std::collections::HashSet;

use kleene_store::{ImageRecord, Step};
use kleene_types::{ImageId, Timestamp};

use crate::locks::Key;
use crate::{Engine, EngineError};

/// Which images nothing needs any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImagePrune {
    /// Also those with a name.
    pub all: bool,
    /// Also those that only keep steps of builds, and the caches of `RUN --mount=type=cache`.
    pub build_cache: bool,
    /// Nothing is removed: the answer tells what would be.
    pub dry_run: bool,
    /// Only those that were made before this.
    pub until: Option<Timestamp>,
    /// Only those that have these labels: a name, and a value perhaps.
    pub labels: Vec<(String, Option<String>)>,
}

impl ImagePrune {
    /// Whether an image may go if nothing uses it.
    fn means(&self, image: &ImageRecord) -> bool {
        let kind = match image.build_cache {
            true => self.build_cache,
            false => self.all || image.reference.is_none(),
        };
        let old = self.until.is_none_or(|until| image.created < until);
        let labels = &image.config.labels;
        let labelled = |(name, value): &(String, Option<String>)| {
            let found = labels.get(name);
            found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        kind && old && self.labels.iter().all(labelled)
    }
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImagesPruned {
    /// The images, children before parents.
    pub images: Vec<ImageId>,
    /// Bytes that came free.
    pub bytes: u64,
}

impl Engine {
    /// Removes an image that no container and no other image was made of. Images that only keep steps
    /// of builds don't stand in the way: they go with it.
    ///
    /// # Errors
    /// [`EngineError::InUse`] with the ids of those, one a line.
    pub fn image_remove(&self, reference: &str) -> Result<ImageId, EngineError> {
        let id = self.find_image_by_text(reference)?.id;
        if self.store.containers_of_image(&id)?.is_empty() {
            self.remove_cached_children(&id)?;
        }
        self.remove_image(&id)?;
        Ok(id)
    }

    /// Removes the images made of this one that only keep steps of builds, unless they are needed.
    fn remove_cached_children(&self, id: &ImageId) -> Result<(), EngineError> {
        let children = self.store.images_of_image(id)?.into_iter();
        for child in children.filter(|child| child.build_cache) {
            self.remove_cached_children(&child.id)?;
            match self.remove_image(&child.id) {
                Ok(()) | Err(EngineError::InUse(_) | EngineError::ImageNotFound(_)) => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(())
    }

    /// Removes the images that nothing needs: see [`ImagePrune`]. Children go before their parents,
    /// which they may have kept, and the oldest first otherwise.
    ///
    /// # Errors
    /// The first failure; images before it are removed then.
    pub fn image_prune(&self, prune: &ImagePrune) -> Result<ImagesPruned, EngineError> {
        let mut pruned = ImagesPruned::default();
        let mut left: Vec<ImageRecord> = self.store.images()?;
        left.retain(|image| prune.means(image));
        left.reverse();
        loop {
            let mut gone = HashSet::new();
            for image in &left {
                if !self.prune_one(image, prune.dry_run, &pruned.images)? {
                    continue;
                }
                pruned.bytes = pruned.bytes.saturating_add(self.own_size(image)?);
                pruned.images.push(image.id.clone());
                gone.insert(image.id.clone());
            }
            if gone.is_empty() {
                break;
            }
            // Those that were made of by one that has gone may go now.
            left.retain(|image| !gone.contains(&image.id));
        }
        if prune.build_cache {
            pruned.bytes = pruned
                .bytes
                .saturating_add(self.prune_caches(prune.dry_run)?);
        }
        Ok(pruned)
    }

    /// Removes an image, or tells whether it could be removed after `gone`; `false`: it is in use.
    fn prune_one(
        &self,
        image: &ImageRecord,
        dry_run: bool,
        gone: &[ImageId],
    ) -> Result<bool, EngineError> {
        if dry_run {
            let children = self.store.images_of_image(&image.id)?;
            return Ok(self.store.containers_of_image(&image.id)?.is_empty()
                && children.iter().all(|child| gone.contains(&child.id)));
        }
        match self.remove_image(&image.id) {
            Ok(()) => Ok(true),
            Err(EngineError::InUse(_) | EngineError::ImageNotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove_image(&self, id: &ImageId) -> Result<(), EngineError> {
        let _lock = self.locks.exclusive(Key::Image(id.clone()));
        self.recorded_image(id)?;
        let containers = self.store.containers_of_image(id)?.into_iter();
        refuse_used(id, "containers", containers.map(|it| it.id.to_string()))?;
        let images = self.store.images_of_image(id)?.into_iter();
        refuse_used(id, "images", images.map(|it| it.id.to_string()))?;
        self.remove_for_good(Step::RemoveImage(id.clone()), |operation| {
            self.finish_removing_image(id, operation)
        })
    }
}

/// The contract's words for an image in use.
fn refuse_used(
    id: &ImageId,
    by: &str,
    users: impl Iterator<Item = String>,
) -> Result<(), EngineError> {
    let users: Vec<String> = users.collect();
    match users.is_empty() {
        true => Ok(()),
        false => Err(EngineError::InUse(format!(
            "could not remove image {id} since it is used for {by}:\n{}",
            users.join("\n")
        ))),
    }
}
