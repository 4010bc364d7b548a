//! Reads an OCI image layout.

use kleene_doors::distribution::DistributionError;
use kleene_types::{Platform, RegistryRef};

use super::spool::Spool;
use super::{Found, config, invalid};
use crate::error::harmless;
use crate::manifest::{self, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, Manifest};
use crate::pull;

/// An index may name indices, but not endlessly.
const MAX_DEPTH: usize = 3;

/// Full names, as containerd and Docker write them.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// image specification, annotations.md.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Entries that are one image under one name, perhaps for several platforms.
struct Group<'d> {
    names: Vec<RegistryRef>,
    label: Option<String>,
    entries: Vec<&'d Descriptor>,
}

/// The layout's images.
pub(super) fn images(
    spool: &Spool<'_>,
    platform: Option<&Platform>,
) -> Result<Vec<Found>, DistributionError> {
    let (_, index) = spool
        .find("index.json")
        .ok_or_else(|| invalid("it lacks index.json"))?;
    let index = spool.read(index, MAX_MANIFEST)?;
    let Document::Index(entries) = manifest::parse(&index).map_err(invalid)? else {
        return Err(invalid("its index.json is no index"));
    };
    groups(&entries)
        .into_iter()
        .map(|group| image(spool, group, platform))
        .collect()
}

fn groups(entries: &[Descriptor]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for entry in entries {
        let (names, label) = names(entry);
        let nameless = names.is_empty() && label.is_none();
        // Without a name, only what is for a platform can belong together.
        let same = groups.iter_mut().find(|group| {
            let platforms = || {
                entry.platform().is_some()
                    && group.entries.iter().all(|other| other.platform().is_some())
            };
            group.names == names && group.label == label && (!nameless || platforms())
        });
        match same {
            Some(group) => group.entries.push(entry),
            None => groups.push(Group {
                names,
                label,
                entries: vec![entry],
            }),
        }
    }
    groups
}

/// What an entry is called.
fn names(entry: &Descriptor) -> (Vec<RegistryRef>, Option<String>) {
    let reference = entry.annotation(REF_NAME);
    let full = entry.annotation(CONTAINERD_NAME);
    let name = full.and_then(|text| text.parse().ok()).or_else(|| {
        // A tag alone is a name in the grammar, but isn't meant as one.
        let text = reference.filter(|text| text.contains([':', '/']))?;
        text.parse().ok()
    });
    match name {
        Some(name) => (vec![name], None),
        None => (Vec::new(), reference.map(harmless)),
    }
}

fn image(
    spool: &Spool<'_>,
    group: Group<'_>,
    platform: Option<&Platform>,
) -> Result<Found, DistributionError> {
    let shown = match (group.names.first(), &group.label) {
        (Some(name), _) => format!("'{}'", name.familiar()),
        (None, Some(label)) => format!("'{label}'"),
        (None, None) => "the archive's image".to_owned(),
    };
    let manifest = choose(spool, &group.entries, platform, &shown, 0)?;
    let (_, file) = spool.blob(&manifest.config.digest)?;
    let config_json = spool.read(file, MAX_CONFIG)?;
    let config = config(&config_json)?;
    let mut layers = Vec::new();
    for layer in manifest.layers(&config).map_err(invalid)? {
        let (name, file) = spool.blob(&layer.digest)?;
        if file.size != layer.size {
            return Err(invalid(format!(
                "{} hasn't the size that it should have",
                layer.digest
            )));
        }
        layers.push((layer, name.to_owned()));
    }
    Ok(Found {
        names: group.names,
        label: group.label,
        config_digest: manifest.config.digest,
        config_json,
        config,
        layers,
    })
}

/// The entry for a platform. If none is asked for: the host's, or the only one that there is.
fn suitable<'d>(
    entries: &[&'d Descriptor],
    platform: Option<&Platform>,
    shown: &str,
) -> Result<&'d Descriptor, DistributionError> {
    let host = Platform::host();
    let wanted = platform.unwrap_or(&host);
    let chosen = manifest::choose(entries.iter().copied(), wanted).or_else(|none| {
        match (platform, none.offered.as_slice()) {
            (None, [only]) => manifest::choose(entries.iter().copied(), only),
            _ => Err(none),
        }
    });
    chosen.map_err(|none| pull::no_platform(shown, wanted, &none.offered))
}

fn choose(
    spool: &Spool<'_>,
    entries: &[&Descriptor],
    platform: Option<&Platform>,
    shown: &str,
    depth: usize,
) -> Result<Manifest, DistributionError> {
    let chosen = match entries {
        // The only one: its configuration says what it is for.
        [single] => single,
        several => suitable(several, platform, shown)?,
    };
    let (_, file) = spool.blob(&chosen.digest)?;
    let bytes = spool.read(file, MAX_MANIFEST)?;
    match manifest::parse(&bytes).map_err(invalid)? {
        Document::Image(manifest) => Ok(manifest),
        Document::Index(entries) if depth < MAX_DEPTH => {
            let entries: Vec<&Descriptor> = entries.iter().collect();
            choose(spool, &entries, platform, shown, depth + 1)
        }
        Document::Index(_) => Err(invalid("its indices name each other without end")),
    }
}
