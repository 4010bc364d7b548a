//! Manifests and indices (image specification, manifest.md and image-index.md; Docker's "Image
//! Manifest Version 2, Schema 2").

use std::collections::BTreeMap;

use kleene_doors::distribution::{Compression, ImageConfig, LayerDescriptor, OutgoingImage};
use kleene_types::{Digest, DigestAlgorithm, Platform};
use serde::{Deserialize, Serialize};

use crate::hash::digest;

/// Largest manifest that is read (distribution specification, "Pushing Manifests": registries should
/// take as much).
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
/// Largest configuration that is read.
pub(crate) const MAX_CONFIG: u64 = 8 << 20;
/// More layers than any image has.
const MAX_LAYERS: usize = 500;
/// More images than any index has.
const MAX_ENTRIES: usize = 1000;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry may answer with.
pub(crate) fn accepted() -> String {
    [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST].join(", ")
}

/// What a manifest says of some content (image specification, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing)]
    urls: Option<Vec<String>>,
    #[serde(default, skip_serializing)]
    platform: Option<WirePlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct WirePlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: None,
            platform: None,
            annotations: None,
        }
    }

    pub fn annotated(mut self, annotations: BTreeMap<String, String>) -> Self {
        self.annotations = Some(annotations);
        self
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.annotations.as_ref()?.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// What an index says that it is for.
    pub fn platform(&self) -> Option<Platform> {
        let platform = self.platform.as_ref()?;
        let variant = platform.variant.as_deref();
        Some(Platform::new(&platform.os, &platform.architecture, variant))
    }
}

/// What a reference can name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Document {
    /// The same image for several platforms.
    Index(Vec<Descriptor>),
    Image(Manifest),
}

/// One image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Both forms at once, so that a document that could be either is found out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    fs_layers: Option<serde_json::Value>,
}

/// Reads a manifest or an index. The media type that it was sent as may be missing or wrong.
///
/// # Errors
/// Says what is wrong.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, String> {
    let wire: Wire = serde_json::from_slice(bytes)
        .map_err(|error| format!("its manifest can't be understood: {error}"))?;
    if wire.schema_version == 1 {
        return Err(
            "its manifest is of the old form (schema 1), which isn't supported any more: push it \
             again with a newer tool"
                .to_owned(),
        );
    }
    if wire.schema_version != 2 {
        return Err(format!(
            "its manifest is of the unknown form {}",
            wire.schema_version
        ));
    }
    let is_index = wire.manifests.is_some();
    let is_image = wire.layers.is_some() || wire.config.is_some() || wire.fs_layers.is_some();
    let said = match wire.media_type.as_deref() {
        None | Some("") => None,
        Some(OCI_INDEX | DOCKER_LIST) => Some(true),
        Some(OCI_MANIFEST | DOCKER_MANIFEST) => Some(false),
        Some(other) => return Err(format!("it isn't a container image, but a '{other}'")),
    };
    // One that means different images to different readers is an attack (CVE-2021-41190).
    if is_index == is_image || said.is_some_and(|said| said != is_index) {
        return Err("its manifest could be both an image and an index".to_owned());
    }
    match (wire.manifests, wire.config, wire.layers) {
        (Some(manifests), _, _) if manifests.len() <= MAX_ENTRIES => Ok(Document::Index(manifests)),
        (Some(_), _, _) => Err(format!("its index has more than {MAX_ENTRIES} entries")),
        (None, Some(config), Some(layers)) => Manifest::checked(config, layers),
        _ => Err("its manifest lacks the configuration or the layers".to_owned()),
    }
}

impl Manifest {
    fn checked(config: Descriptor, layers: Vec<Descriptor>) -> Result<Document, String> {
        if !matches!(&*config.media_type, OCI_CONFIG | DOCKER_CONFIG | "") {
            return Err(format!(
                "it isn't a container image: its configuration is a '{}'",
                config.media_type
            ));
        }
        if config.size > MAX_CONFIG {
            return Err(format!(
                "its configuration is larger than {MAX_CONFIG} bytes"
            ));
        }
        if layers.len() > MAX_LAYERS {
            return Err(format!("it has more than {MAX_LAYERS} layers"));
        }
        for layer in &layers {
            compression(layer)?;
        }
        Ok(Document::Image(Self { config, layers }))
    }

    /// The layers, with what the configuration says of them.
    pub fn layers(&self, config: &ImageConfig) -> Result<Vec<LayerDescriptor>, String> {
        if config.diff_ids.len() != self.layers.len() {
            return Err(format!(
                "its manifest has {} layers, but its configuration {}",
                self.layers.len(),
                config.diff_ids.len()
            ));
        }
        let pairs = self.layers.iter().zip(&config.diff_ids);
        pairs
            .map(|(layer, diff_id)| {
                Ok(LayerDescriptor {
                    digest: layer.digest.clone(),
                    size: layer.size,
                    compression: compression(layer)?,
                    diff_id: diff_id.clone(),
                })
            })
            .collect()
    }
}

/// How a layer is compressed, as its media type says (image specification, layer.md, "Media Types").
fn compression(layer: &Descriptor) -> Result<Compression, String> {
    let kind = layer.media_type.as_str();
    let foreign = kind.contains(".nondistributable.") || kind.contains(".foreign.");
    if foreign || layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
        return Err(format!(
            "its layer {} isn't in the registry, but only at its maker's: such images (of Windows, \
             mostly) aren't supported",
            layer.digest
        ));
    }
    if kind.ends_with("+encrypted") {
        return Err(format!("its layer {} is encrypted", layer.digest));
    }
    match kind {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Compression::None),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(Compression::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Compression::Zstd),
        other => Err(format!(
            "it isn't a container image: its layer {} is a '{other}'",
            layer.digest
        )),
    }
}

fn media_type(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

/// Why no entry of an index will do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoPlatform {
    /// The platforms that there are.
    pub offered: Vec<Platform>,
}

/// The entry of an index that suits a platform best; the first one of those that suit as well.
pub(crate) fn choose<'d>(
    entries: impl IntoIterator<Item = &'d Descriptor>,
    platform: &Platform,
) -> Result<&'d Descriptor, NoPlatform> {
    let mut best: Option<(u32, &Descriptor)> = None;
    let mut offered = Vec::new();
    for entry in entries {
        let Some(candidate) = entry.platform() else {
            continue;
        };
        // Signatures and bills of materials are entries for an unknown platform.
        if candidate.os() == "unknown" || candidate.os().is_empty() {
            continue;
        }
        if let Some(distance) = platform.suits(&candidate)
            && best.is_none_or(|(least, _)| distance < least)
        {
            best = Some((distance, entry));
        }
        if !offered.contains(&candidate) {
            offered.push(candidate);
        }
    }
    best.map(|(_, entry)| entry).ok_or(NoPlatform { offered })
}

/// A manifest of our own.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewManifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// A manifest to send or to write, with what it is of.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub manifest: Vec<u8>,
    pub digest: Digest,
    pub config: Digest,
}

impl Outgoing {
    /// Makes the manifest.
    ///
    /// # Errors
    /// When layers and configuration don't belong together.
    pub fn new(image: &OutgoingImage) -> Result<Self, String> {
        let config = ImageConfig::from_json(&image.config_json)
            .map_err(|error| format!("its configuration can't be understood: {error}"))?;
        let diff_ids = image.layers.iter().map(|layer| &layer.diff_id);
        if !diff_ids.eq(&config.diff_ids) {
            return Err("its configuration isn't that of its layers".to_owned());
        }
        if image.layers.len() > MAX_LAYERS {
            return Err(format!("it has more than {MAX_LAYERS} layers"));
        }
        let config = digest(DigestAlgorithm::Sha256, &image.config_json);
        let manifest = NewManifest {
            schema_version: 2,
            media_type: OCI_MANIFEST,
            config: Descriptor::new(OCI_CONFIG, config.clone(), image.config_json.len() as u64),
            layers: image
                .layers
                .iter()
                .map(|layer| {
                    let kind = media_type(layer.compression);
                    Descriptor::new(kind, layer.digest.clone(), layer.size)
                })
                .collect(),
        };
        let manifest = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
        Ok(Self {
            digest: digest(DigestAlgorithm::Sha256, &manifest),
            manifest,
            config,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn layer(rest: &str) -> String {
        format!(r#"{{"digest":"sha256:{HEX}","size":1{rest}}}"#)
    }

    fn image(config: &str, layers: &[String]) -> String {
        let config = layer(&format!(r#","mediaType":"{config}""#));
        let layers = layers.join(",");
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layers}]}}"#)
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let good = layer(r#","mediaType":"application/vnd.oci.image.layer.v1.tar+gzip""#);
        let both = format!(
            r#"{{"schemaVersion":2,"config":{good},"layers":[{good}],"manifests":[{good}]}}"#
        );
        let lying = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","config":{good},"layers":[{good}]}}"#
        );
        let foreign = layer(
            r#","mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","urls":["https://x"]"#,
        );
        let elsewhere =
            layer(r#","mediaType":"application/vnd.oci.image.layer.v1.tar","urls":["https://x"]"#);
        let helm = layer(r#","mediaType":"application/vnd.cncf.helm.chart.content.v1.tar+gzip""#);
        let negative = good.replace("\"size\":1", "\"size\":-1");
        let short = good.replace("0011", "");
        let config = OCI_CONFIG;
        for (text, part) in [
            (String::new(), "can't be understood"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), "schema 1"),
            (r#"{"schemaVersion":3}"#.into(), "form 3"),
            (r#"{"schemaVersion":2}"#.into(), "both"),
            (r#"{"schemaVersion":2,"layers":[]}"#.into(), "lacks"),
            (both, "both"),
            (lying, "both"),
            (
                r#"{"schemaVersion":2,"mediaType":"x/y","manifests":[]}"#.into(),
                "'x/y'",
            ),
            (
                image("application/vnd.cncf.helm.config.v1+json", &[]),
                "isn't a container image",
            ),
            (image(config, &[helm]), "isn't a container image"),
            (image(config, &[foreign]), "isn't in the registry"),
            (image(config, &[elsewhere]), "isn't in the registry"),
            (image(config, &[negative]), "can't be understood"),
            (image(config, &[short]), "can't be understood"),
            (
                image(config, &vec![good.clone(); MAX_LAYERS + 1]),
                "more than 500",
            ),
            (
                image(config, std::slice::from_ref(&good)).replacen(
                    "\"size\":1",
                    "\"size\":99999999",
                    1,
                ),
                "larger",
            ),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(image(config, &[good]).as_bytes()).is_ok());
    }

    #[test]
    fn layers_and_configuration_belong_together() {
        let good = layer(r#","mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip""#);
        let Ok(Document::Image(manifest)) = parse(image(DOCKER_CONFIG, &[good]).as_bytes()) else {
            panic!("it isn't an image");
        };
        let mut config = ImageConfig::default();
        assert!(manifest.layers(&config).unwrap_err().contains("1 layers"));
        config.diff_ids.push(manifest.config.digest.clone());
        let layers = manifest.layers(&config).unwrap();
        assert_eq!(layers[0].compression, Compression::Gzip);
        let outgoing = OutgoingImage {
            config_json: config.to_json(),
            layers,
            related: Vec::new(),
        };
        let made = Outgoing::new(&outgoing).unwrap();
        assert!(matches!(parse(&made.manifest), Ok(Document::Image(_))));
        let other = OutgoingImage {
            layers: Vec::new(),
            ..outgoing
        };
        assert!(Outgoing::new(&other).is_err());
    }

    fn entries(platforms: &[&str]) -> Vec<Descriptor> {
        let entry = |platform: &&str| {
            let mut parts = platform.split('/').map(str::to_owned);
            let digest = digest(DigestAlgorithm::Sha256, platform.as_bytes());
            let mut entry = Descriptor::new(OCI_MANIFEST, digest, 1);
            entry.platform = Some(WirePlatform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next(),
            });
            entry
        };
        platforms.iter().map(entry).collect()
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let debian = [
            "linux/amd64",
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/arm64/v8",
            "unknown/unknown",
        ];
        for (wanted, index) in [
            ("linux/amd64", Some(0)),
            ("linux/arm/v7", Some(2)),
            ("linux/arm", Some(2)),
            ("linux/arm/v6", Some(1)),
            ("linux/arm64", Some(3)),
            ("linux/riscv64", None),
            ("freebsd/amd64", None),
        ] {
            let entries = entries(&debian);
            let chosen = choose(&entries, &wanted.parse().unwrap());
            assert_eq!(
                chosen.ok(),
                index.map(|index: usize| &entries[index]),
                "{wanted}"
            );
        }
        let entries = entries(&debian);
        let error = choose(&entries, &"freebsd/amd64".parse().unwrap()).unwrap_err();
        let offered: Vec<String> = error.offered.iter().map(Platform::to_string).collect();
        assert_eq!(
            offered,
            ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64"]
        );
    }
}
