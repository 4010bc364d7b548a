//! Image archives: OCI image layouts (image specification, image-layout.md) in a tar archive, and what
//! `docker save` writes.

mod docker;
mod layout;
mod spool;
mod write;

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;

use kleene_doors::distribution::{ArchivedImage, DistributionError, ImageConfig, LayerDescriptor};
use kleene_types::{Digest, Platform, RegistryRef};

pub(crate) use self::write::write;

use self::spool::{Spool, Spooled};
use crate::blobs::Blobs;
use crate::error::io_error;
use crate::layer;
use crate::pull;

/// Read at once.
const CHUNK: usize = 256 << 10;

/// Told how much has been read.
type Progress<'p> = &'p mut (dyn FnMut(u64) -> ControlFlow<()> + Send);

/// An image as the archive has it.
struct Found {
    names: Vec<RegistryRef>,
    label: Option<String>,
    config_digest: Digest,
    config_json: Vec<u8>,
    config: ImageConfig,
    /// With the archive's names of their files.
    layers: Vec<(LayerDescriptor, String)>,
}

fn invalid(why: impl Into<String>) -> DistributionError {
    DistributionError::Invalid(format!("the archive can't be used: {}", why.into()))
}

/// Reads all images: for a platform, or those that suit best.
pub(crate) fn read(
    blobs: &Blobs,
    from: &mut (dyn Read + Send),
    platform: Option<&Platform>,
    progress: Progress<'_>,
) -> Result<Vec<ArchivedImage>, DistributionError> {
    let mut watched = Watched {
        inner: from,
        progress,
        read: 0,
        cancelled: false,
        error: None,
    };
    let spooled = spool(blobs, &mut watched);
    if watched.cancelled {
        return Err(DistributionError::Cancelled);
    }
    if let Some(error) = watched.error {
        return Err(io_error("reading the archive", error));
    }
    let mut spool = spooled?;
    let found = if spool.has("index.json") {
        layout::images(&spool, platform)?
    } else if spool.has("manifest.json") {
        docker::images(&spool)?
    } else {
        return Err(invalid(
            "it holds neither an OCI image layout nor what 'docker save' writes; for the files of a \
             root file system, use: klee image create -t NAME fetch FILE",
        ));
    };
    if let Some(wanted) = platform {
        refuse_others(&found, wanted)?;
    }
    keep(blobs, &mut spool, found)
}

fn refuse_others(images: &[Found], wanted: &Platform) -> Result<(), DistributionError> {
    for image in images {
        let own = image.config.platform();
        if !own.os().is_empty() && wanted.suits(&own).is_none() {
            return Err(pull::no_platform(&image.shown(), wanted, &[own]));
        }
    }
    Ok(())
}

fn spool<'b>(blobs: &'b Blobs, from: &mut Watched<'_>) -> Result<Spool<'b>, DistributionError> {
    let damaged = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            io_error("reading the archive", error)
        }
        _ => invalid(format!("it is damaged or no tar archive: {error}")),
    };
    let decoder = layer::decoder(BufReader::with_capacity(CHUNK, from)).map_err(damaged)?;
    let mut spool = Spool::new(blobs);
    let mut archive = tar::Archive::new(decoder);
    for entry in archive.entries().map_err(damaged)? {
        spool.add(entry.map_err(damaged)?)?;
    }
    Ok(spool)
}

/// Only now, when all is known to be good, files become blobs.
fn keep(
    blobs: &Blobs,
    spool: &mut Spool<'_>,
    found: Vec<Found>,
) -> Result<Vec<ArchivedImage>, DistributionError> {
    let mut kept: BTreeMap<String, ()> = BTreeMap::new();
    let mut images: Vec<ArchivedImage> = Vec::new();
    for image in found {
        let mut layers = Vec::new();
        for (layer, name) in image.layers {
            if kept.insert(name.clone(), ()).is_none() {
                spool
                    .keep(blobs, &name, &layer.digest)
                    .map_err(|error| io_error("reading the archive", error))?;
            }
            layers.push(layer);
        }
        // One image under several names is one image.
        let same = images
            .iter_mut()
            .find(|known| known.config_digest == image.config_digest && known.layers == layers);
        if let Some(known) = same {
            known.names.extend(image.names);
            continue;
        }
        images.push(ArchivedImage {
            names: image.names,
            label: image.label,
            config_digest: image.config_digest,
            config_json: image.config_json,
            config: image.config,
            layers,
        });
    }
    Ok(images)
}

impl Found {
    fn shown(&self) -> String {
        match (self.names.first(), &self.label) {
            (Some(name), _) => format!("'{}'", name.familiar()),
            (None, Some(label)) => format!("'{}'", crate::error::harmless(label)),
            (None, None) => format!("the image {}", self.config_digest.short()),
        }
    }
}

/// Reads a configuration.
fn config(json: &[u8]) -> Result<ImageConfig, DistributionError> {
    ImageConfig::from_json(json)
        .map_err(|error| invalid(format!("a configuration can't be understood: {error}")))
}

/// How a layer's file is compressed, by its first bytes.
fn compression(
    file: &Spooled,
    name: &str,
) -> Result<kleene_doors::distribution::Compression, DistributionError> {
    use kleene_doors::distribution::Compression;
    match file.kind {
        layer::Kind::Plain => Ok(Compression::None),
        layer::Kind::Gzip => Ok(Compression::Gzip),
        layer::Kind::Zstd => Ok(Compression::Zstd),
        layer::Kind::Xz | layer::Kind::Bzip2 => Err(invalid(format!(
            "its layer '{name}' is compressed in a way that no image is"
        ))),
    }
}

/// The archive, as the caller gives it.
struct Watched<'w> {
    inner: &'w mut (dyn Read + Send),
    progress: Progress<'w>,
    read: u64,
    cancelled: bool,
    error: Option<io::Error>,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if (self.progress)(self.read).is_break() {
            self.cancelled = true;
            return Err(io::Error::other("cancelled"));
        }
        match self.inner.read(into) {
            Ok(read) => {
                self.read += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}
