//! The distribution room: images of registries and in archives, as the specifications of the Open
//! Container Initiative have them.
//!
//! Registries and archives are strangers. Whatever they send is bounded in size, parsed into values,
//! and compared with the digest that it is known by before anybody uses it. A secret goes to the
//! registry that it is for, and to nobody whom that registry only points to.

mod archive;
mod blobs;
mod catalog;
mod config;
mod download;
mod error;
pub mod fake;
mod hash;
mod layer;
mod manifest;
mod parallel;
mod pieces;
mod pull;
mod push;
mod wire;

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kleene_doors::distribution::{
    ArchivedImage, Collected, Compression, Credentials, Distribution, DistributionError,
    LayerDescriptor, LayerRead, Login, OutgoingImage, ProgressSink, RemoteImage, SearchResult,
};
use kleene_types::{Digest, Platform, Registry, RegistryRef};

pub use self::config::{Config, Mirror, RegistryConfig};

use self::blobs::Blobs;
use self::error::io_error;
use self::layer::LayerReader;
use self::wire::{Schemes, Tokens};

/// The distribution room that talks to registries.
#[derive(Debug)]
pub struct OciDistribution {
    config: Config,
    blobs: Arc<Blobs>,
    schemes: Schemes,
    tokens: Tokens,
}

impl OciDistribution {
    /// Keeps blobs in `directory`, which is made (0700) when it is needed. Nobody else works in it.
    pub fn new(directory: PathBuf, config: Config) -> Self {
        Self {
            config,
            blobs: Arc::new(Blobs::new(directory)),
            schemes: Schemes::default(),
            tokens: Tokens::default(),
        }
    }

    /// What is known of registries from earlier.
    fn wire(&self) -> (&Schemes, &Tokens) {
        (&self.schemes, &self.tokens)
    }
}

impl Distribution for OciDistribution {
    fn default_registry(&self) -> Registry {
        self.config.default_registry.clone()
    }

    fn resolve(
        &self,
        reference: &RegistryRef,
        platform: &Platform,
        credentials: Option<&Credentials>,
    ) -> Result<RemoteImage, DistributionError> {
        pull::resolve(self, reference, platform, credentials)
    }

    fn fetch_layers(
        &self,
        image: &RemoteImage,
        wanted: &[usize],
        credentials: Option<&Credentials>,
        progress: ProgressSink<'_>,
    ) -> Result<(), DistributionError> {
        pull::fetch_layers(self, image, wanted, credentials, progress)
    }

    fn has_blob(&self, digest: &Digest) -> bool {
        self.blobs.size(digest).is_some()
    }

    fn open_layer(&self, layer: &LayerDescriptor) -> Result<Box<dyn LayerRead>, DistributionError> {
        Ok(Box::new(LayerReader::open(&self.blobs, layer)?))
    }

    fn add_layer(
        &self,
        compression: Compression,
        produce: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<LayerDescriptor, DistributionError> {
        layer::add(&self.blobs, compression, produce)
    }

    fn discard(&self, blobs: &[Digest]) -> Result<(), DistributionError> {
        for digest in blobs {
            let removed = self.blobs.remove(digest);
            removed.map_err(|error| io_error(format!("removing the blob {digest}"), error))?;
        }
        Ok(())
    }

    fn collect(
        &self,
        keep: &[Digest],
        unused_for: Duration,
    ) -> Result<Collected, DistributionError> {
        let action = || format!("cleaning up {}", self.blobs.root().display());
        let collected = self.blobs.collect(keep, unused_for);
        collected.map_err(|error| io_error(action(), error))
    }

    fn push(
        &self,
        reference: &RegistryRef,
        image: &OutgoingImage,
        credentials: Option<&Credentials>,
        progress: ProgressSink<'_>,
    ) -> Result<Digest, DistributionError> {
        push::push(self, reference, image, credentials, progress)
    }

    fn read_archive(
        &self,
        from: &mut (dyn Read + Send),
        platform: Option<&Platform>,
        progress: &mut (dyn FnMut(u64) -> ControlFlow<()> + Send),
    ) -> Result<Vec<ArchivedImage>, DistributionError> {
        archive::read(&self.blobs, from, platform, progress)
    }

    fn write_archive(
        &self,
        images: &[(Vec<RegistryRef>, OutgoingImage)],
        to: &mut dyn Write,
    ) -> Result<(), DistributionError> {
        archive::write(&self.blobs, images, to)
    }

    fn tags(
        &self,
        reference: &RegistryRef,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<String>, DistributionError> {
        catalog::tags(self, reference, credentials)
    }

    fn search(
        &self,
        registry: &Registry,
        word: &str,
        limit: usize,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<SearchResult>, DistributionError> {
        catalog::search(self, registry, word, limit, credentials)
    }

    fn check_login(
        &self,
        registry: &Registry,
        credentials: &Credentials,
    ) -> Result<Login, DistributionError> {
        catalog::check_login(self, registry, credentials)
    }
}
