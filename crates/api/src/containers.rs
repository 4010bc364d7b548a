//! Containers, their mounts and published ports.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a new container is made of. A field that is `null` or absent takes its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerConfig {
    /// Name of the container; a random one when absent.
    pub name: Option<String>,
    /// The image: `NAME[:TAG][@SNAPSHOT]` or an id.
    pub image: Option<String>,
    /// Command that is run when none is given; empty: the image's.
    pub cmd: Option<Vec<String>>,
    /// User of the command: name or number, with an optional `:group`; empty: the image's, at last root.
    pub user: Option<String>,
    /// Environment `NAME=VALUE`, merged over the image's.
    pub env: Option<Vec<String>>,
    /// Volumes and directories or files of the host.
    pub mounts: Option<Vec<MountPointConfig>>,
    /// Jail parameters.
    pub jail_param: Option<Vec<String>>,
    /// `ipnet` (default), `host`, `vnet` or `disabled`.
    pub network_driver: Option<String>,
    /// Ports to publish.
    pub public_ports: Option<Vec<PublishedPortConfig>>,
    /// `no` (default) or `on-startup`.
    pub restart_policy: Option<String>,
    /// Whether pruning leaves the container alone.
    pub persist: Option<bool>,
    /// Whether the container is removed as soon as it stops.
    pub auto_remove: Option<bool>,
}

/// A mount to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MountPointConfig {
    /// `volume` or `nullfs`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of a volume, or an absolute path on the host.
    pub source: String,
    /// Absolute path in the container.
    pub destination: String,
    /// Whether the container can only read it.
    #[serde(default)]
    pub read_only: bool,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MountPoint {
    /// The container that mounts it.
    pub container_id: String,
    /// Absolute path in the container.
    pub destination: String,
    /// Whether the container can only read it.
    pub read_only: bool,
    /// Name of a volume, or an absolute path on the host.
    pub source: String,
    /// `volume` or `nullfs`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A port to publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishedPortConfig {
    /// Interfaces of the host; empty: that of its gateway.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// `"N"` or `"A:B"`.
    pub host_port: String,
    /// `"N"`, or `"N:*"` for a range.
    pub container_port: String,
    /// `tcp` or `udp`.
    #[serde(default = "tcp")]
    pub protocol: String,
}

fn tcp() -> String {
    "tcp".to_owned()
}

/// A published port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedPort {
    /// Interfaces of the host.
    pub interfaces: Vec<String>,
    /// `"N"` or `"A:B"`.
    pub host_port: String,
    /// `"N"` or `"N:*"`.
    pub container_port: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The container's IPv4 address.
    pub ip_address: String,
    /// The container's IPv6 address.
    pub ip_address6: String,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// Twelve hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image that it was made of.
    pub image_id: String,
    /// Its command.
    pub cmd: Vec<String>,
    /// The user of its commands.
    pub user: String,
    /// Its environment.
    pub env: Vec<String>,
    /// `ipnet`, `host`, `vnet` or `disabled`.
    pub network_driver: String,
    /// Its published ports.
    pub public_ports: Vec<PublishedPort>,
    /// Its jail parameters.
    pub jail_param: Vec<String>,
    /// `no` or `on-startup`.
    pub restart_policy: String,
    /// Whether pruning leaves it alone.
    pub persist: bool,
    /// When it was created (RFC 3339, UTC).
    pub created: String,
    /// Its dataset.
    pub dataset: String,
    /// Whether it runs.
    pub running: bool,
    /// Whether it is removed as soon as it stops.
    #[serde(default)]
    pub auto_remove: bool,
    /// Exit code of its last run, when it has ended.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// When it was last started.
    #[serde(default)]
    pub started: Option<String>,
    /// When it last stopped.
    #[serde(default)]
    pub finished: Option<String>,
}

/// A line of the containers' listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerSummary {
    /// The container.
    #[serde(flatten)]
    pub container: Container,
    /// Name of its image; empty when the image has none any more.
    pub image_name: String,
    /// Tag of its image; likewise.
    pub image_tag: String,
    /// Jail id; on Linux the process id of its first process. `null` when it doesn't run.
    pub jid: Option<u32>,
}

/// A container with its connections and mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContainerInspect {
    /// The container.
    pub container: Container,
    /// Its networks.
    pub container_endpoints: Vec<EndPoint>,
    /// Its mounts.
    pub container_mountpoints: Vec<MountPoint>,
}

/// A container's connection to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndPoint {
    /// Id of the connection.
    pub id: String,
    /// The network.
    pub network_id: String,
    /// The container.
    pub container_id: String,
    /// The pair of interfaces, where there is one.
    pub epair: Option<String>,
    /// IPv4 address; empty: none.
    pub ip_address: String,
    /// IPv6 address; empty: none.
    pub ip_address6: String,
}
