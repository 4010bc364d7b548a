//! Images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ContainerConfig, EndPointConfig, lenient};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// Twelve hexadecimal digits.
    pub id: String,
    /// Its name; empty when another image has taken it over.
    pub name: String,
    /// Its tag; likewise.
    pub tag: String,
    /// Default command of its containers.
    pub cmd: Vec<String>,
    /// Default environment of its containers.
    pub env: Vec<String>,
    /// Default user of its containers.
    pub user: String,
    /// The instructions that it was built by, each with its snapshot (`@…`) or an empty text.
    pub instructions: Vec<(String, String)>,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// Its dataset.
    pub dataset: String,
}

/// How a base image is made: the first frame over `/images/create`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageCreateConfig {
    /// `fetch`, `fetch-auto`, `zfs-copy`, `zfs-clone` or `host`.
    pub method: String,
    /// Name and tag of the image, `NAME[:TAG]`.
    #[serde(default)]
    pub tag: Option<String>,
    /// `fetch`: where the archive is (`file://`, `http://`, `https://`).
    #[serde(default)]
    pub url: Option<String>,
    /// `zfs-copy`, `zfs-clone`: the dataset.
    #[serde(default)]
    pub zfs_dataset: Option<String>,
    /// Copy the host's `/etc/resolv.conf` into the image.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub dns: bool,
    /// Copy the host's `/etc/localtime` into the image.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub localtime: bool,
    /// `fetch-auto`: bring the image up to date with the system's own tool.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub update: bool,
    /// `fetch-auto`: name the image after the release.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub autotag: bool,
    /// `host`: further programs, files or directories of the host.
    #[serde(default)]
    pub add: Vec<String>,
}

/// How an image is built: the first frame over `/images/build`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageBuildConfig {
    /// Absolute path of the context on the daemon's host.
    pub context: String,
    /// Path of the Dockerfile, relative to the context.
    #[serde(default = "dockerfile")]
    pub dockerfile: String,
    /// Leave out the output of the instructions.
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub quiet: bool,
    /// Remove what a failed build leaves.
    #[serde(default = "yes", deserialize_with = "lenient::boolean")]
    pub cleanup: bool,
    /// Name and tag of the image, `NAME[:TAG]`.
    #[serde(default)]
    pub tag: String,
    /// Values of the Dockerfile's ARG variables.
    #[serde(default)]
    pub buildargs: BTreeMap<String, String>,
    /// The container that instructions run in; its image takes the place of FROM's.
    pub container_config: ContainerConfig,
    /// Networks that the container is connected to; their container is left empty.
    #[serde(default)]
    pub networks: Vec<EndPointConfig>,
}

fn dockerfile() -> String {
    "Dockerfile".to_owned()
}

fn yes() -> bool {
    true
}
