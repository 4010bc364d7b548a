//! An image as a registry has it.

use std::collections::BTreeMap;
use std::io::Write;

use kleene_doors::distribution::ImageConfig;
use kleene_types::{Digest, DigestAlgorithm, RegistryRef};
use std::net::SocketAddr;

use super::{Answer, Request};

pub fn sha256(data: &[u8]) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, data);
    Digest::of_hash(DigestAlgorithm::Sha256, hash.as_ref())
}

/// Bytes that don't compress, the same every time.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// A tar archive with one file.
pub fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content).unwrap();
    archive.into_inner().unwrap()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// An image, and what a registry answers about it.
#[derive(Clone)]
pub struct Sample {
    pub config_json: Vec<u8>,
    pub manifest: Vec<u8>,
    /// The layers' archives, and as they are sent.
    pub archives: Vec<Vec<u8>>,
    pub layers: Vec<Vec<u8>>,
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Sample {
    /// An image for linux/amd64 with gzip layers of noise, of these sizes.
    pub fn new(sizes: &[usize]) -> Self {
        let archives: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(n, size)| tar_of(&format!("file{n}"), &noise(*size, n as u64)))
            .collect();
        let layers: Vec<Vec<u8>> = archives.iter().map(|archive| gzip(archive)).collect();
        let config = ImageConfig {
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            cmd: Some(vec!["/bin/sh".to_owned()]),
            diff_ids: archives.iter().map(|archive| sha256(archive)).collect(),
            ..ImageConfig::default()
        };
        let config_json = config.to_json();
        let descriptor = |kind: &str, content: &[u8]| {
            format!(
                r#"{{"mediaType":"application/vnd.docker.{kind}","digest":"{}","size":{}}}"#,
                sha256(content),
                content.len()
            )
        };
        let config = descriptor("container.image.v1+json", &config_json);
        let list: Vec<String> = layers
            .iter()
            .map(|layer| descriptor("image.rootfs.diff.tar.gzip", layer))
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{config},"layers":[{}]}}"#,
            list.join(",")
        );
        let blobs = layers.iter().chain([&config_json]);
        let blobs = blobs.map(|blob| (sha256(blob).to_string(), blob.clone()));
        Self {
            blobs: blobs.collect(),
            manifest: manifest.into_bytes(),
            archives,
            layers,
            config_json,
        }
    }

    /// What a registry without faults answers.
    pub fn answer(&self, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap();
        if path == "/v2/" {
            return Answer::ok("{}");
        }
        if path.contains("/manifests/") {
            return Answer::ok(self.manifest.clone())
                .header(
                    "Content-Type",
                    "application/vnd.docker.distribution.manifest.v2+json",
                )
                .header("Docker-Content-Digest", sha256(&self.manifest).as_str());
        }
        let digest = path.rsplit('/').next().unwrap();
        match self.blobs.get(digest) {
            Some(blob) => Answer::part(request, blob),
            None => Answer::not_found(),
        }
    }

    /// Whether the request is for the first layer.
    pub fn is_layer(&self, request: &Request) -> bool {
        self.layers
            .iter()
            .any(|layer| request.path.ends_with(sha256(layer).as_str()))
    }
}

/// A reference to the sample at a server.
pub fn at(address: SocketAddr) -> RegistryRef {
    format!("{address}/team/app:1").parse().unwrap()
}
