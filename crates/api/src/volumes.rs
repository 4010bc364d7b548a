//! Volumes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::MountPoint;

/// A volume to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeConfig {
    /// Its name: letters, digits, `_`, `.` and `-`, at most 128.
    pub name: String,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Volume {
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// Its dataset.
    pub dataset: String,
    /// Where its files lie on the host.
    pub mountpoint: String,
    /// Its name.
    pub name: String,
}

/// A volume with the mounts that use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeInspect {
    /// Its mounts, of running and stopped containers.
    pub mountpoints: Vec<MountPoint>,
    /// The volume.
    pub volume: Volume,
}
