//! Reads what `docker save` writes (and `podman save` by default).

use kleene_doors::distribution::{Compression, DistributionError, LayerDescriptor};
use kleene_types::{Digest, DigestAlgorithm};
use serde::Deserialize;

use super::spool::Spool;
use super::{Found, compression, config, invalid};
use crate::error::harmless;
use crate::manifest::{MAX_CONFIG, MAX_MANIFEST};

/// As many images and layers as no archive has.
const MAX_ENTRIES: usize = 1000;
const MAX_LAYERS: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The archive's images.
pub(super) fn images(spool: &Spool<'_>) -> Result<Vec<Found>, DistributionError> {
    let (_, list) = spool
        .find("manifest.json")
        .ok_or_else(|| invalid("it lacks manifest.json"))?;
    let list = spool.read(list, MAX_MANIFEST)?;
    let entries: Vec<Entry> = serde_json::from_slice(&list)
        .map_err(|error| invalid(format!("its manifest.json can't be understood: {error}")))?;
    if entries.len() > MAX_ENTRIES {
        return Err(invalid(format!("it has more than {MAX_ENTRIES} images")));
    }
    entries
        .into_iter()
        .map(|entry| image(spool, entry))
        .collect()
}

fn image(spool: &Spool<'_>, entry: Entry) -> Result<Found, DistributionError> {
    let missing = |name: &str| invalid(format!("it lacks '{}'", harmless(name)));
    let (_, file) = spool
        .find(&entry.config)
        .ok_or_else(|| missing(&entry.config))?;
    let config_digest = file.digest.clone();
    let config_json = spool.read(file, MAX_CONFIG)?;
    let config = config(&config_json)?;
    let names = entry.layers.unwrap_or_default();
    if names.len() != config.diff_ids.len() || names.len() > MAX_LAYERS {
        return Err(invalid(format!(
            "an image has {} layers, but its configuration {}",
            names.len(),
            config.diff_ids.len()
        )));
    }
    let mut layers = Vec::new();
    for (name, diff_id) in names.iter().zip(&config.diff_ids) {
        let (place, file) = spool.find(name).ok_or_else(|| missing(name))?;
        let compression = compression(file, name)?;
        verify(compression, &file.digest, diff_id)?;
        let layer = LayerDescriptor {
            digest: file.digest.clone(),
            size: file.size,
            compression,
            diff_id: diff_id.clone(),
        };
        layers.push((layer, place.to_owned()));
    }
    let tags = entry.repo_tags.unwrap_or_default();
    Ok(Found {
        names: tags.iter().filter_map(|tag| tag.parse().ok()).collect(),
        label: None,
        config_digest,
        config_json,
        config,
        layers,
    })
}

/// What isn't compressed can be verified now; the rest is when it is unpacked.
fn verify(
    compression: Compression,
    digest: &Digest,
    diff_id: &Digest,
) -> Result<(), DistributionError> {
    let comparable = compression == Compression::None
        && diff_id.algorithm() == DigestAlgorithm::Sha256
        && digest.algorithm() == DigestAlgorithm::Sha256;
    if comparable && digest != diff_id {
        return Err(invalid(format!(
            "a layer is damaged: its digest is {digest}, but the image says {diff_id}"
        )));
    }
    Ok(())
}
