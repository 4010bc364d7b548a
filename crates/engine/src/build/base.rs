//! The images that stages begin with, or take files from.

use kleene_dockerfile::{ImageReference, Pin};
use kleene_doors::distribution::{BlobProgress, BlobStep};
use kleene_store::ImageRecord;
use kleene_types::Platform;

use super::output::Output;
use super::{NewBuild, PullPolicy};
use crate::image::{Identity, NewPull};
use crate::{Cancel, Engine, EngineError};

impl Engine {
    /// The image that a reference of a Dockerfile means; pulled if that is wanted.
    pub(super) fn base_image(
        &self,
        new: &NewBuild,
        reference: &ImageReference,
        platform: Option<&Platform>,
        output: &Output<'_>,
        cancel: &Cancel,
    ) -> Result<ImageRecord, EngineError> {
        let local = match new.pull {
            PullPolicy::Always => None,
            PullPolicy::Missing | PullPolicy::Never => self.local_base(reference)?,
        };
        let suits = |image: &ImageRecord| {
            let host = Platform::host();
            let offered = image.platform.as_ref().unwrap_or(&host);
            platform.is_none_or(|wanted| wanted.suits(offered).is_some())
        };
        if let Some(image) = local.filter(suits) {
            return Ok(image);
        }
        let pulled = match new.pull {
            PullPolicy::Always => true,
            PullPolicy::Missing => reference.registry.is_some() || platform.is_some(),
            PullPolicy::Never => false,
        };
        if !pulled {
            return Err(EngineError::Invalid(format!(
                "no such image '{reference}': pull or build it first, or give --pull to have base \
                 images pulled"
            )));
        }
        self.pull_base(new, reference, platform, output, cancel)
    }

    fn local_base(&self, reference: &ImageReference) -> Result<Option<ImageRecord>, EngineError> {
        if let Some(Pin::Digest(digest)) = &reference.pin {
            let pinned = |image: &ImageRecord| {
                let origin = image.origin.as_ref();
                origin.is_some_and(|origin| origin.digest == *digest)
            };
            return Ok(self.store.images()?.into_iter().find(pinned));
        }
        let plain = ImageReference {
            pin: None,
            ..reference.clone()
        };
        match self.find_image_by_text(&plain.to_string()) {
            Ok(image) => Ok(Some(image)),
            Err(EngineError::ImageNotFound(_)) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    fn pull_base(
        &self,
        new: &NewBuild,
        reference: &ImageReference,
        platform: Option<&Platform>,
        output: &Output<'_>,
        cancel: &Cancel,
    ) -> Result<ImageRecord, EngineError> {
        let registry = reference
            .registry
            .clone()
            .unwrap_or_else(|| self.distribution.default_registry().to_string());
        let pull = NewPull {
            reference: reference.to_string(),
            platform: platform.cloned(),
            name: None,
            identity: new.credentials.get(&registry).map(|credentials| Identity {
                registry: registry.parse().ok(),
                credentials: credentials.clone(),
            }),
        };
        output.line(&format!("Pulling {reference}"));
        let mut unpacking = None;
        let id = self.image_pull(&pull, &mut |progress: BlobProgress| {
            if progress.step == BlobStep::Unpacking {
                unpacking = Some(progress.digest.clone());
            } else if progress.step == BlobStep::Done
                && unpacking.as_ref() == Some(&progress.digest)
            {
                output.line(&format!("{}: done", progress.digest.short()));
            }
            cancel.flow()
        })?;
        let image = self.store.image(&id)?;
        image.ok_or_else(|| EngineError::ImageNotFound(reference.to_string()))
    }
}
