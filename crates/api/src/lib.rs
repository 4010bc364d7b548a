//! The wire contract: requests, responses and WebSocket messages, with their OpenAPI schemas.
//!
//! Requests refuse fields that they don't know, so that a misspelt option is an error and not a
//! surprise. Booleans and numbers may also come as strings where existing clients send them so.
//! Texts (names, paths, mounts) stay texts here: the daemon parses them and says what is wrong.

mod containers;
mod exec;
mod images;
mod lenient;
mod limits;
mod networks;
mod observe;
mod volumes;
mod websocket;

pub use containers::{
    Container, ContainerConfig, ContainerInspect, ContainerSummary, EndPoint, MountPoint,
    MountPointConfig, PublishedPort, PublishedPortConfig,
};
pub use exec::{ExecAttachConfig, ExecConfig, ExecInspect, ExecStartConfig, WindowSize};
pub use images::{
    ContainerCommitConfig, HistoryEntry, Image, ImageBuildConfig, ImageCreateConfig,
    ImagePullConfig, ImagePushConfig, LoadedImage, PruneReport, RegistryCredentials,
    RegistryLoggedIn, RegistryLogin, SearchResult, Secret,
};
pub use limits::{Health, HealthCheckConfig, HealthResult, Limits};
pub use networks::{EndPointConfig, Network, NetworkConfig, NetworkInspect};
pub use observe::{
    Change, ContainerStats, CpuUsage, Event, InterfaceUsage, IoUsage, MemoryUsage, PathStat,
    PidsUsage, ProcessInfo, WaitResponse,
};
pub use volumes::{Volume, VolumeConfig, VolumeInspect};
pub use websocket::{
    Channel, Control, ExitInfo, MessageType, PROGRESS_PROTOCOL, ProgressInfo, STREAMS_PROTOCOL,
    WebSocketMessage, close_code,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer that names one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdResponse {
    /// Id of a container, image, network or execution instance; name of a volume.
    pub id: String,
    /// What was not done as asked, but doesn't matter enough to refuse; or counts only later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Content type of output as records: eight bytes of microseconds since 1970, one byte of stream (1
/// standard output or terminal, 2 standard error), four bytes of length, and the data; all numbers
/// are little-endian.
pub const LOG_RECORDS: &str = "application/vnd.kleene.log";

/// Answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorResponse {
    /// What went wrong and what to do about it.
    pub message: String,
}

/// What the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SystemInfo {
    /// Version of the daemon.
    pub version: String,
    /// Operating system of its host (`linux`, `freebsd`).
    pub os: String,
    /// `zfs` or `dir`.
    pub storage_driver: String,
    /// The Kleene root: a dataset or an absolute path.
    pub kleene_root: String,
    /// The registry that references without one mean.
    #[serde(default)]
    pub default_registry: String,
}
