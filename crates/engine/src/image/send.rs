//! Images that go elsewhere: to a registry, or into an archive. Each step of their making becomes a
//! layer: what differs between the snapshots before and after it.

use std::io::{self, Write};

use kleene_doors::distribution::{
    Compression, Credentials, DistributionError, History, Login, OutgoingImage, ProgressSink,
    SearchResult,
};
use kleene_doors::storage::Root;
use kleene_store::ImageRecord;
use kleene_types::{Digest, Registry, RegistryRef, Timestamp};

use super::Identity;
use super::blobs::NeededBlobs;
use super::config::to_remote;
use super::lineage::Layer;
use crate::events::NewEvent;
use crate::{Engine, EngineError};

/// An image to push.
#[derive(Debug, Clone)]
pub struct NewPush {
    /// The image.
    pub image: String,
    /// Where to: `[REGISTRY/]REPOSITORY[:TAG]`; `None`: what the image is called.
    pub reference: Option<String>,
    /// Who asks.
    pub identity: Option<Identity>,
}

impl Engine {
    /// Pushes an image to a registry. Answers its manifest's digest there.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`]; when the registry refuses or can't be reached.
    pub fn image_push(
        &self,
        push: &NewPush,
        progress: ProgressSink<'_>,
    ) -> Result<Digest, EngineError> {
        let image = self.find_image_by_text(&push.image)?;
        let reference = match (&push.reference, &image.reference) {
            (Some(text), _) => self.registry_ref(text)?,
            (None, Some((name, tag))) => self.registry_ref(&format!("{name}:{tag}"))?,
            (None, None) => {
                return Err(EngineError::Invalid(format!(
                    "image {} has no name: say where it is to go",
                    image.id
                )));
            }
        };
        let mut needed = self.blobs.need(&*self.distribution, []);
        needed.done();
        let outgoing = self.outgoing(&image, Compression::Gzip, &mut needed)?;
        let credentials = Identity::at(push.identity.as_ref(), &reference.registry);
        let digest = self
            .distribution
            .push(&reference, &outgoing, credentials, progress)?;
        self.emit(
            NewEvent::image("push", &image.id, image.reference.as_ref()).with("to", &reference),
        );
        Ok(digest)
    }

    /// Writes images into one archive, an OCI image layout that `docker load` reads as well.
    ///
    /// # Errors
    /// [`EngineError::ImageNotFound`] before anything is written; when reading or writing fails.
    pub fn image_save(&self, references: &[String], to: &mut dyn Write) -> Result<(), EngineError> {
        let images = references
            .iter()
            .map(|reference| self.find_image_by_text(reference))
            .collect::<Result<Vec<_>, _>>()?;
        let mut needed = self.blobs.need(&*self.distribution, []);
        needed.done();
        let mut outgoing = Vec::new();
        for image in images {
            let name = match &image.reference {
                // Names of repositories have no capitals; those of images here may.
                Some((name, tag)) => {
                    let name = name.as_str().to_lowercase();
                    Some(self.registry_ref(&format!("{name}:{tag}"))?)
                }
                None => None,
            };
            let saved = self.outgoing(&image, Compression::None, &mut needed)?;
            outgoing.push((name.into_iter().collect(), saved));
        }
        Ok(self.distribution.write_archive(&outgoing, to)?)
    }

    /// Images that a registry finds by a word.
    ///
    /// # Errors
    /// When the registry can't be reached, or can't search.
    pub fn image_search(
        &self,
        word: &str,
        registry: Option<&str>,
        limit: usize,
    ) -> Result<Vec<SearchResult>, EngineError> {
        let registry = self.registry(registry)?;
        Ok(self.distribution.search(&registry, word, limit, None)?)
    }

    /// Asks a registry whether it knows somebody. Answers the registry that was asked, too.
    ///
    /// # Errors
    /// When it doesn't, or can't be reached.
    pub fn registry_login(
        &self,
        registry: Option<&str>,
        credentials: &Credentials,
    ) -> Result<(Registry, Login), EngineError> {
        let registry = self.registry(registry)?;
        let login = self.distribution.check_login(&registry, credentials)?;
        Ok((registry, login))
    }

    fn registry(&self, text: Option<&str>) -> Result<Registry, EngineError> {
        match text.filter(|text| !text.is_empty()) {
            Some(text) => text
                .parse()
                .map_err(|error| EngineError::Invalid(format!("{error}"))),
            None => Ok(self.distribution.default_registry()),
        }
    }

    fn registry_ref(&self, text: &str) -> Result<RegistryRef, EngineError> {
        RegistryRef::parse(text, &self.distribution.default_registry())
            .map_err(|error| EngineError::Invalid(error.to_string()))
    }

    /// Makes an image's layers, and the configuration that goes with them.
    fn outgoing(
        &self,
        image: &ImageRecord,
        compression: Compression,
        needed: &mut NeededBlobs<'_>,
    ) -> Result<OutgoingImage, EngineError> {
        let (mut layers, mut history) = (Vec::new(), Vec::new());
        self.each_layer(image, |layer, below, root| {
            let mut packed = None;
            let descriptor = self.distribution.add_layer(compression, &mut |to| {
                let done = self.host.pack_layer(below, root, to);
                packed = Some(done.map_err(io::Error::other)?);
                Ok(())
            })?;
            needed.add(descriptor.digest.clone());
            // A step that has changed nothing is told, but needs no layer.
            let empty = packed.is_none_or(|packed| packed.entries == 0);
            if !empty {
                layers.push(descriptor);
            }
            if !empty || !layer.instruction.is_empty() {
                history.push(step(image.created, &layer.instruction, empty));
            }
            Ok(())
        })?;
        let diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let config = to_remote(image, diff_ids, history);
        Ok(OutgoingImage {
            config_json: config.to_json(),
            layers,
            related: self.related(image)?,
        })
    }

    /// Where the images that an image was made of came from.
    fn related(&self, image: &ImageRecord) -> Result<Vec<RegistryRef>, EngineError> {
        let mut lineage = self.ancestors(image)?;
        lineage.push(image.clone());
        let origins = lineage.iter().filter_map(|it| it.origin.as_ref());
        let references = origins.filter_map(|origin| self.registry_ref(&origin.reference).ok());
        Ok(references.collect())
    }

    /// Calls `work` with each layer of an image, and the trees below and after it.
    fn each_layer(
        &self,
        image: &ImageRecord,
        mut work: impl FnMut(&Layer, Option<&Root>, &Root) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let layers = self.layers_of(image)?;
        let mut below: Option<&Layer> = None;
        for layer in &layers {
            self.with_snapshot(&layer.snapshot, |root| match below {
                None => work(layer, None, root),
                Some(below) => {
                    self.with_snapshot(&below.snapshot, |below| work(layer, Some(below), root))
                }
            })?;
            below = Some(layer);
        }
        Ok(())
    }
}

fn step(created: Timestamp, instruction: &str, empty_layer: bool) -> History {
    History {
        created: Some(created),
        created_by: Some(instruction.to_owned()),
        author: None,
        comment: None,
        empty_layer,
    }
}

impl From<DistributionError> for EngineError {
    fn from(error: DistributionError) -> Self {
        use DistributionError as E;
        match error {
            E::NotFound(text) => Self::ImageNotFoundElsewhere(text),
            E::Denied(text) => Self::Denied(text),
            E::Unreachable(text) => Self::Unreachable(text),
            E::NoPlatform(text) | E::Invalid(text) => Self::Invalid(text),
            E::Unsupported(text) => Self::NotYet(text),
            E::NoSpace(_) => Self::NoSpace(error.to_string()),
            E::Cancelled => Self::Cancelled,
            other => Self::internal(other),
        }
    }
}
