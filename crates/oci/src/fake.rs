//! A distribution room in memory, for tests: registries hold the images that a test puts there, nothing
//! is compressed, and every digest is the same in each run.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kleene_doors::distribution::{
    ArchivedImage, BlobProgress, BlobStep, Collected, Compression, Credentials, Distribution,
    DistributionError, ImageConfig, LayerDescriptor, LayerRead, Login, OutgoingImage, ProgressSink,
    RemoteImage, SearchResult,
};
use kleene_types::{Digest, DigestAlgorithm, Platform, Registry, RegistryRef};
use serde::{Deserialize, Serialize};

use crate::hash::digest;
use crate::manifest::Outgoing;
use crate::pull::no_platform;

/// The room.
#[derive(Debug, Default)]
pub struct FakeDistribution(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// By full name and tag: one image a platform.
    images: BTreeMap<String, Vec<Stored>>,
    /// What registries have.
    remote: BTreeMap<Digest, Vec<u8>>,
    /// What the room has.
    blobs: BTreeMap<Digest, Vec<u8>>,
    logins: BTreeMap<Registry, Credentials>,
    fetched: Vec<Digest>,
}

#[derive(Debug, Clone)]
struct Stored {
    image: OutgoingImage,
    config: ImageConfig,
    manifest: Digest,
    config_digest: Digest,
}

/// An archive of this room: JSON.
#[derive(Serialize, Deserialize)]
struct Archived {
    names: Vec<RegistryRef>,
    config: Vec<u8>,
    layers: Vec<Vec<u8>>,
}

fn sha256(data: &[u8]) -> Digest {
    digest(DigestAlgorithm::Sha256, data)
}

fn plain(layer: &[u8]) -> LayerDescriptor {
    let digest = sha256(layer);
    LayerDescriptor {
        diff_id: digest.clone(),
        digest,
        size: layer.len() as u64,
        compression: Compression::None,
    }
}

fn invalid(error: impl std::fmt::Display) -> DistributionError {
    DistributionError::Invalid(error.to_string())
}

/// Where a reference's image is kept.
fn key(reference: &RegistryRef) -> String {
    let tag = reference.tag_or_latest();
    format!("{}/{}:{tag}", reference.registry, reference.repository)
}

impl FakeDistribution {
    /// Registries without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an image into a registry, with these tar archives as its layers, the lowest first. The
    /// configuration gets their diff ids. A second image of the same name is for another platform.
    /// The answer is the manifest's digest.
    pub fn add_image(
        &self,
        reference: &RegistryRef,
        config: &ImageConfig,
        layers: &[Vec<u8>],
    ) -> Digest {
        let descriptors: Vec<LayerDescriptor> = layers.iter().map(|layer| plain(layer)).collect();
        let config = ImageConfig {
            diff_ids: descriptors
                .iter()
                .map(|layer| layer.diff_id.clone())
                .collect(),
            ..config.clone()
        };
        let image = OutgoingImage {
            config_json: config.to_json(),
            layers: descriptors,
            related: Vec::new(),
        };
        let mut state = self.state();
        for layer in layers {
            state.remote.insert(sha256(layer), layer.clone());
        }
        let stored = stored(image, config);
        let manifest = stored.manifest.clone();
        let images = state.images.entry(key(reference)).or_default();
        images.retain(|other| other.config.platform() != stored.config.platform());
        images.push(stored);
        manifest
    }

    /// From now on, the registry lets in nobody else.
    pub fn require_login(&self, registry: &Registry, credentials: &Credentials) {
        let mut state = self.state();
        state.logins.insert(registry.clone(), credentials.clone());
    }

    /// Changes a byte of a layer that the room has, as a bad disk does.
    pub fn damage(&self, digest: &Digest) {
        if let Some(byte) = self
            .state()
            .blobs
            .get_mut(digest)
            .and_then(|blob| blob.last_mut())
        {
            *byte ^= 1;
        }
    }

    /// The layers that have been downloaded, in this order.
    pub fn fetched(&self) -> Vec<Digest> {
        self.state().fetched.clone()
    }

    /// The blobs that the room has.
    pub fn blobs(&self) -> Vec<Digest> {
        self.state().blobs.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stored(image: OutgoingImage, config: ImageConfig) -> Stored {
    let config_digest = sha256(&image.config_json);
    let manifest = match Outgoing::new(&image) {
        Ok(outgoing) => outgoing.digest,
        Err(_) => config_digest.clone(),
    };
    Stored {
        image,
        config,
        manifest,
        config_digest,
    }
}

impl State {
    fn enter(
        &self,
        registry: &Registry,
        credentials: Option<&Credentials>,
    ) -> Result<(), DistributionError> {
        match self.logins.get(registry) {
            Some(wanted) if Some(wanted) != credentials => Err(DistributionError::Denied(format!(
                "not found or no access: klee image login {registry}"
            ))),
            _ => Ok(()),
        }
    }

    fn blob(&self, layer: &LayerDescriptor) -> Result<&Vec<u8>, DistributionError> {
        self.blobs.get(&layer.digest).ok_or_else(|| {
            DistributionError::NotFound(format!("the layer {} isn't here any more", layer.digest))
        })
    }
}

/// A layer in memory.
struct FakeLayer {
    content: Cursor<Vec<u8>>,
    expected: Digest,
}

impl Read for FakeLayer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.content.read(into)
    }
}

impl LayerRead for FakeLayer {
    fn position(&self) -> u64 {
        self.content.position()
    }

    fn finish(self: Box<Self>) -> Result<Digest, DistributionError> {
        let found = sha256(self.content.get_ref());
        if found == self.expected {
            Ok(found)
        } else {
            Err(invalid(format!(
                "its content has the digest {found}, but the image says {}",
                self.expected
            )))
        }
    }
}

fn tell(
    progress: ProgressSink<'_>,
    layer: &LayerDescriptor,
    step: BlobStep,
    done: u64,
) -> Result<(), DistributionError> {
    let told = progress(BlobProgress {
        digest: layer.digest.clone(),
        step,
        done,
        total: layer.size,
    });
    match told {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DistributionError::Cancelled),
    }
}

impl Distribution for FakeDistribution {
    fn default_registry(&self) -> Registry {
        Registry::docker_hub()
    }

    fn resolve(
        &self,
        reference: &RegistryRef,
        platform: &Platform,
        credentials: Option<&Credentials>,
    ) -> Result<RemoteImage, DistributionError> {
        let state = self.state();
        state.enter(&reference.registry, credentials)?;
        let name = format!("{}/{}:", reference.registry, reference.repository);
        let matching: Vec<&Stored> = match &reference.digest {
            Some(digest) => state
                .images
                .iter()
                .filter(|(key, _)| key.starts_with(&name))
                .flat_map(|(_, images)| images)
                .filter(|image| image.manifest == *digest)
                .collect(),
            None => state
                .images
                .get(&key(reference))
                .into_iter()
                .flatten()
                .collect(),
        };
        if matching.is_empty() {
            return Err(DistributionError::NotFound(format!(
                "'{}' not found or no access: klee image login {}",
                reference.familiar(),
                reference.registry
            )));
        }
        let best = matching
            .iter()
            .filter_map(|image| Some((platform.suits(&image.config.platform())?, image)))
            .min_by_key(|(distance, _)| *distance);
        let Some((_, found)) = best else {
            let offered: Vec<Platform> = matching
                .iter()
                .map(|image| image.config.platform())
                .collect();
            return Err(no_platform(&reference.familiar(), platform, &offered));
        };
        Ok(RemoteImage {
            reference: reference.clone(),
            digest: found.manifest.clone(),
            manifest_digest: found.manifest.clone(),
            config_digest: found.config_digest.clone(),
            config_json: found.image.config_json.clone(),
            config: found.config.clone(),
            layers: found.image.layers.clone(),
        })
    }

    fn fetch_layers(
        &self,
        image: &RemoteImage,
        wanted: &[usize],
        credentials: Option<&Credentials>,
        progress: ProgressSink<'_>,
    ) -> Result<(), DistributionError> {
        self.state().enter(&image.reference.registry, credentials)?;
        for layer in wanted.iter().filter_map(|index| image.layers.get(*index)) {
            if self.has_blob(&layer.digest) {
                tell(progress, layer, BlobStep::Exists, layer.size)?;
                continue;
            }
            tell(progress, layer, BlobStep::Downloading, 0)?;
            let mut state = self.state();
            let content = state.remote.get(&layer.digest).cloned().ok_or_else(|| {
                DistributionError::NotFound(format!("{} isn't in the registry", layer.digest))
            })?;
            state.blobs.insert(layer.digest.clone(), content);
            state.fetched.push(layer.digest.clone());
            drop(state);
            tell(progress, layer, BlobStep::Done, layer.size)?;
        }
        Ok(())
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        self.state().blobs.contains_key(digest)
    }

    fn open_layer(&self, layer: &LayerDescriptor) -> Result<Box<dyn LayerRead>, DistributionError> {
        let content = self.state().blob(layer)?.clone();
        Ok(Box::new(FakeLayer {
            content: Cursor::new(content),
            expected: layer.diff_id.clone(),
        }))
    }

    fn add_layer(
        &self,
        _: Compression,
        produce: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<LayerDescriptor, DistributionError> {
        let mut content = Vec::new();
        produce(&mut content).map_err(|error| crate::error::io_error("making a layer", error))?;
        let layer = plain(&content);
        self.state().blobs.insert(layer.digest.clone(), content);
        Ok(layer)
    }

    fn discard(&self, blobs: &[Digest]) -> Result<(), DistributionError> {
        let mut state = self.state();
        for digest in blobs {
            state.blobs.remove(digest);
        }
        Ok(())
    }

    /// Removes all that isn't to be kept: nothing here has an age.
    fn collect(&self, keep: &[Digest], _: Duration) -> Result<Collected, DistributionError> {
        let mut collected = Collected::default();
        self.state().blobs.retain(|digest, content| {
            let kept = keep.contains(digest);
            if !kept {
                collected.blobs += 1;
                collected.bytes += content.len() as u64;
            }
            kept
        });
        Ok(collected)
    }

    fn push(
        &self,
        reference: &RegistryRef,
        image: &OutgoingImage,
        credentials: Option<&Credentials>,
        progress: ProgressSink<'_>,
    ) -> Result<Digest, DistributionError> {
        self.state().enter(&reference.registry, credentials)?;
        let manifest = Outgoing::new(image).map_err(invalid)?.digest;
        for layer in &image.layers {
            let there = self.state().remote.contains_key(&layer.digest);
            if !there {
                tell(progress, layer, BlobStep::Uploading, 0)?;
                let mut state = self.state();
                let content = state.blob(layer)?.clone();
                state.remote.insert(layer.digest.clone(), content);
            }
            let step = if there {
                BlobStep::Exists
            } else {
                BlobStep::Done
            };
            tell(progress, layer, step, layer.size)?;
        }
        let config = ImageConfig::from_json(&image.config_json).map_err(invalid)?;
        let stored = stored(image.clone(), config);
        self.state().images.insert(key(reference), vec![stored]);
        Ok(manifest)
    }

    fn read_archive(
        &self,
        from: &mut (dyn Read + Send),
        platform: Option<&Platform>,
        progress: &mut (dyn FnMut(u64) -> ControlFlow<()> + Send),
    ) -> Result<Vec<ArchivedImage>, DistributionError> {
        let mut text = Vec::new();
        from.read_to_end(&mut text)
            .map_err(|error| crate::error::io_error("reading the archive", error))?;
        if progress(text.len() as u64).is_break() {
            return Err(DistributionError::Cancelled);
        }
        let archived: Vec<Archived> = serde_json::from_slice(&text).map_err(invalid)?;
        let mut images = Vec::new();
        for image in archived {
            let config = ImageConfig::from_json(&image.config).map_err(invalid)?;
            let own = config.platform();
            if let Some(wanted) = platform.filter(|wanted| wanted.suits(&own).is_none()) {
                return Err(no_platform("the archive's image", wanted, &[own]));
            }
            let layers: Vec<LayerDescriptor> =
                image.layers.iter().map(|layer| plain(layer)).collect();
            let mut state = self.state();
            for content in image.layers {
                state.blobs.insert(sha256(&content), content);
            }
            images.push(ArchivedImage {
                names: image.names,
                label: None,
                config_digest: sha256(&image.config),
                config_json: image.config,
                config,
                layers,
            });
        }
        Ok(images)
    }

    fn write_archive(
        &self,
        images: &[(Vec<RegistryRef>, OutgoingImage)],
        to: &mut dyn Write,
    ) -> Result<(), DistributionError> {
        let state = self.state();
        let mut archived = Vec::new();
        for (names, image) in images {
            let layers: Result<Vec<_>, _> = image
                .layers
                .iter()
                .map(|layer| state.blob(layer).cloned())
                .collect();
            archived.push(Archived {
                names: names.clone(),
                config: image.config_json.clone(),
                layers: layers?,
            });
        }
        serde_json::to_writer(to, &archived)
            .map_err(|error| crate::error::io_error("writing the archive", error.into()))
    }

    fn tags(
        &self,
        reference: &RegistryRef,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<String>, DistributionError> {
        let state = self.state();
        state.enter(&reference.registry, credentials)?;
        let name = format!("{}/{}:", reference.registry, reference.repository);
        let keys = state.images.keys();
        Ok(keys
            .filter_map(|key| key.strip_prefix(&name).map(str::to_owned))
            .collect())
    }

    fn search(
        &self,
        registry: &Registry,
        word: &str,
        limit: usize,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<SearchResult>, DistributionError> {
        let state = self.state();
        state.enter(registry, credentials)?;
        let mut names: Vec<String> = Vec::new();
        for key in state.images.keys() {
            let name = key.rsplit_once(':').map_or(key.as_str(), |(name, _)| name);
            let own = name.strip_prefix(registry.as_str());
            if own.is_some_and(|rest| rest.starts_with('/') && rest.contains(word)) {
                names.push(name.to_owned());
            }
        }
        names.dedup();
        names.truncate(limit);
        let result = |name| SearchResult {
            name,
            description: String::new(),
            stars: 0,
            official: false,
        };
        Ok(names.into_iter().map(result).collect())
    }

    fn check_login(
        &self,
        registry: &Registry,
        credentials: &Credentials,
    ) -> Result<Login, DistributionError> {
        self.state().enter(registry, Some(credentials))?;
        Ok(Login::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(architecture: &str) -> ImageConfig {
        ImageConfig {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn an_image_comes_and_goes() {
        let fake = FakeDistribution::new();
        let name: RegistryRef = "debian:12".parse().unwrap();
        let amd64 = "linux/amd64".parse().unwrap();
        let mut go_on = |_| ControlFlow::Continue(());
        let layers = [b"one".to_vec(), b"two".to_vec()];
        let digest = fake.add_image(&name, &config("amd64"), &layers);
        fake.add_image(&name, &config("arm64"), &layers);
        let image = fake.resolve(&name, &amd64, None).unwrap();
        assert_eq!(image.digest, digest);
        let missing = fake
            .resolve(&name, &"freebsd/amd64".parse().unwrap(), None)
            .unwrap_err();
        assert!(
            missing.to_string().contains("linux/amd64, linux/arm64"),
            "{missing}"
        );
        fake.fetch_layers(&image, &[1], None, &mut go_on).unwrap();
        assert_eq!(fake.fetched(), [image.layers[1].digest.clone()]);
        let mut layer = fake.open_layer(&image.layers[1]).unwrap();
        let mut text = String::new();
        layer.read_to_string(&mut text).unwrap();
        assert_eq!(text, "two");
        assert_eq!(layer.finish().unwrap(), image.layers[1].diff_id);
        fake.damage(&image.layers[1].digest);
        assert!(fake.open_layer(&image.layers[1]).unwrap().finish().is_err());

        let made = fake
            .add_layer(Compression::Gzip, &mut |to| to.write_all(b"three"))
            .unwrap();
        let own = ImageConfig {
            diff_ids: vec![made.diff_id.clone()],
            ..config("amd64")
        };
        let outgoing = OutgoingImage {
            config_json: own.to_json(),
            layers: vec![made],
            related: Vec::new(),
        };
        let mine: RegistryRef = "h.example/mine:1".parse().unwrap();
        let who = Credentials::IdentityToken("x".to_owned());
        fake.require_login(&mine.registry, &who);
        assert!(fake.push(&mine, &outgoing, None, &mut go_on).is_err());
        let pushed = fake.push(&mine, &outgoing, Some(&who), &mut go_on).unwrap();
        let found = fake.resolve(&mine, &amd64, Some(&who)).unwrap();
        assert_eq!((found.digest, found.config), (pushed, own));

        let mut archive = Vec::new();
        fake.write_archive(&[(vec![mine.clone()], outgoing)], &mut archive)
            .unwrap();
        let other = FakeDistribution::new();
        let mut told = |_| ControlFlow::Continue(());
        let read = other
            .read_archive(&mut archive.as_slice(), Some(&amd64), &mut told)
            .unwrap();
        assert_eq!(read[0].names, [mine]);
        assert_eq!(other.blobs().len(), 1);
    }
}
