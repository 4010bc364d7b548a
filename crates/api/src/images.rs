//! Images.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lenient;

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

fn yes() -> bool {
    true
}
