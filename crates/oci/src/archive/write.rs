//! Writes an OCI image layout that `docker load` understands, too.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use kleene_doors::distribution::{DistributionError, OutgoingImage};
use kleene_types::{Digest, RegistryRef};
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::layout::{CONTAINERD_NAME, REF_NAME};
use crate::blobs::Blobs;
use crate::error::io_error;
use crate::manifest::{Descriptor, OCI_INDEX, OCI_MANIFEST, Outgoing};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// An entry of Docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// What a blob of the archive is.
enum Content {
    Bytes(Vec<u8>),
    Blob(u64),
}

/// Writes images as one archive.
pub(crate) fn write(
    blobs: &Blobs,
    images: &[(Vec<RegistryRef>, OutgoingImage)],
    to: &mut dyn Write,
) -> Result<(), DistributionError> {
    let mut index = Index {
        schema_version: 2,
        media_type: OCI_INDEX,
        manifests: Vec::new(),
    };
    let mut docker = Vec::new();
    let mut content: BTreeMap<Digest, Content> = BTreeMap::new();
    for (names, image) in images {
        let outgoing = Outgoing::new(image).map_err(|why| {
            DistributionError::Invalid(format!("an image can't be written: {why}"))
        })?;
        index.manifests.extend(entries(names, &outgoing));
        docker.push(DockerImage {
            config: path(&outgoing.config),
            // With the registry: Podman takes short ones for its own.
            repo_tags: names.iter().filter_map(tagged).map(String::from).collect(),
            layers: image
                .layers
                .iter()
                .map(|layer| path(&layer.digest))
                .collect(),
        });
        for layer in &image.layers {
            // Before anything is written.
            if !blobs.has(&layer.digest, layer.size) {
                return Err(missing(&layer.digest));
            }
            content.insert(layer.digest.clone(), Content::Blob(layer.size));
        }
        content.insert(outgoing.digest, Content::Bytes(outgoing.manifest));
        content.insert(outgoing.config, Content::Bytes(image.config_json.clone()));
    }
    let failed = |error| io_error("writing the archive", error);
    let json =
        |value: Result<Vec<u8>, serde_json::Error>| value.map_err(|error| failed(error.into()));
    let (index, docker) = (
        json(serde_json::to_vec(&index))?,
        json(serde_json::to_vec(&docker))?,
    );
    let mut archive = Builder::new(to);
    file(&mut archive, "oci-layout", LAYOUT, LAYOUT.len() as u64).map_err(failed)?;
    file(&mut archive, "index.json", &*index, index.len() as u64).map_err(failed)?;
    file(&mut archive, "manifest.json", &*docker, docker.len() as u64).map_err(failed)?;
    directories(&mut archive, content.keys()).map_err(failed)?;
    for (digest, content) in content {
        let path = path(&digest);
        let written = match content {
            Content::Bytes(bytes) => file(&mut archive, &path, &*bytes, bytes.len() as u64),
            Content::Blob(size) => blobs
                .open(&digest)
                .and_then(|blob| file(&mut archive, &path, blob, size)),
        };
        written.map_err(failed)?;
    }
    let to = archive.into_inner().map_err(failed)?;
    to.flush().map_err(failed)
}

fn missing(digest: &Digest) -> DistributionError {
    DistributionError::NotFound(format!("the layer {digest} isn't here any more"))
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// An image's entries of the index: one a name.
fn entries(names: &[RegistryRef], outgoing: &Outgoing) -> Vec<Descriptor> {
    let size = outgoing.manifest.len() as u64;
    let entry = || Descriptor::new(OCI_MANIFEST, outgoing.digest.clone(), size);
    let named: Vec<Descriptor> = names
        .iter()
        .filter_map(tagged)
        .map(|name| {
            let full = name.to_string();
            let annotations = [CONTAINERD_NAME, REF_NAME].map(|key| (key.to_owned(), full.clone()));
            entry().annotated(annotations.into())
        })
        .collect();
    if named.is_empty() {
        return vec![entry()];
    }
    named
}

/// With a tag, and without a digest: that is of a manifest that isn't in the archive. A name that is
/// nothing but such a digest is none here.
fn tagged(name: &RegistryRef) -> Option<RegistryRef> {
    let has_tag = name.tag.is_some() || name.digest.is_none();
    has_tag.then(|| RegistryRef {
        tag: Some(name.tag_or_latest()),
        digest: None,
        ..name.clone()
    })
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn file(
    archive: &mut Builder<&mut dyn Write>,
    path: &str,
    content: impl Read,
    size: u64,
) -> io::Result<()> {
    let mut content = content.take(size);
    let mut header = header(EntryType::Regular, size, 0o644);
    archive.append_data(&mut header, path, &mut content)?;
    match content.limit() {
        0 => Ok(()),
        _ => Err(io::Error::other(format!("'{path}' has become shorter"))),
    }
}

fn directories<'d>(
    archive: &mut Builder<&mut dyn Write>,
    digests: impl Iterator<Item = &'d Digest>,
) -> io::Result<()> {
    let mut paths = vec!["blobs/".to_owned()];
    for digest in digests {
        let path = format!("blobs/{}/", digest.algorithm().as_str());
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    for path in paths {
        let mut header = header(EntryType::Directory, 0, 0o755);
        archive.append_data(&mut header, path, io::empty())?;
    }
    Ok(())
}
