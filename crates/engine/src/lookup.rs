//! Finding what a user named: by full id, exact name, or unique beginning of an id, in this order.

use kleene_store::{ContainerRecord, ExecRecord, ImageRecord, VolumeRecord};
use kleene_types::{ContainerId, ExecId, IdPrefix, ImageId, ImageRef, VolumeName};

use crate::{Engine, EngineError};

/// Ids that an error about an ambiguous beginning names at most.
const SHOWN: u32 = 5;

impl Engine {
    /// The container that `reference` names.
    pub(crate) fn find_container(&self, reference: &str) -> Result<ContainerRecord, EngineError> {
        let not_found = || EngineError::ContainerNotFound(reference.to_owned());
        if let Ok(id) = reference.parse::<ContainerId>()
            && let Some(container) = self.store.container(&id)?
        {
            return Ok(container);
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(container) = self.store.container_by_name(name)? {
            return Ok(container);
        }
        let prefix = IdPrefix::parse(reference).ok_or_else(not_found)?;
        let found = self.store.containers_by_prefix(prefix.as_str(), SHOWN)?;
        single("container", reference, found, |c| c.id.to_string())?.ok_or_else(not_found)
    }

    /// The image that `reference` names.
    pub(crate) fn find_image(&self, reference: &ImageRef) -> Result<ImageRecord, EngineError> {
        let not_found = || EngineError::ImageNotFound(reference.to_string());
        let name = reference.name.as_str();
        if reference.tag.is_none()
            && let Ok(id) = name.parse::<ImageId>()
            && let Some(image) = self.store.image(&id)?
        {
            return Ok(image);
        }
        let tag = reference.tag_or_latest();
        if let Some(image) = self.store.image_by_tag(&reference.name, &tag)? {
            return Ok(image);
        }
        if reference.tag.is_some() {
            return Err(not_found());
        }
        let prefix = IdPrefix::parse(name).ok_or_else(not_found)?;
        let found = self.store.images_by_prefix(prefix.as_str(), SHOWN)?;
        single("image", name, found, |i| i.id.to_string())?.ok_or_else(not_found)
    }

    /// The image that a text names; text that can't name one names none.
    pub(crate) fn find_image_by_text(&self, text: &str) -> Result<ImageRecord, EngineError> {
        match text.parse::<ImageRef>() {
            Ok(reference) if reference.snapshot.is_none() => self.find_image(&reference),
            _ => Err(EngineError::ImageNotFound(text.to_owned())),
        }
    }

    /// The execution instance that `reference` names.
    pub(crate) fn find_exec(&self, reference: &str) -> Result<ExecRecord, EngineError> {
        let not_found = || EngineError::ExecNotFound(reference.to_owned());
        if let Ok(id) = reference.parse::<ExecId>()
            && let Some(exec) = self.store.exec(&id)?
        {
            return Ok(exec);
        }
        let prefix = IdPrefix::parse(reference).ok_or_else(not_found)?;
        let found = self.store.execs_by_prefix(prefix.as_str(), SHOWN)?;
        single("execution instance", reference, found, |e| e.id.to_string())?.ok_or_else(not_found)
    }

    /// The volume of exactly this name.
    pub(crate) fn find_volume(&self, name: &str) -> Result<VolumeRecord, EngineError> {
        let not_found = || EngineError::VolumeNotFound(name.to_owned());
        let parsed: VolumeName = name.parse().map_err(|_| not_found())?;
        self.store.volume(&parsed)?.ok_or_else(not_found)
    }
}

/// The only one of `found`, if there is one.
fn single<T>(
    kind: &'static str,
    reference: &str,
    mut found: Vec<T>,
    id: impl Fn(&T) -> String,
) -> Result<Option<T>, EngineError> {
    if found.len() > 1 {
        let matches = found.iter().map(id).collect();
        return Err(EngineError::Ambiguous {
            kind,
            reference: reference.to_owned(),
            matches,
        });
    }
    Ok(found.pop())
}
