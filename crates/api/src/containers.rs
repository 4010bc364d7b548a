//! Containers, their mounts and published ports.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ExecInspect, Health, HealthCheckConfig, Limits, lenient};

/// What a new container is made of. A field that is `null` or absent takes its default. In an update
/// such a field stays as it is, and a limit is taken away by the word `unlimited`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerConfig {
    /// Name of the container; a random one when absent.
    pub name: Option<String>,
    /// The image: `NAME[:TAG][@SNAPSHOT]` or an id.
    pub image: Option<String>,
    /// Command that is run when none is given; empty: the image's.
    pub cmd: Option<Vec<String>>,
    /// What stands before the command; absent: the image's; empty: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
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
    /// `no` (default), `on-startup`, `on-failure[:TIMES]`, `always` or `unless-stopped`.
    pub restart_policy: Option<String>,
    /// Whether pruning leaves the container alone.
    pub persist: Option<bool>,
    /// Whether the container is removed as soon as it stops.
    pub auto_remove: Option<bool>,
    /// Memory of all processes together: bytes with an optional unit, as in `512m`.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub memory: Option<String>,
    /// Memory and swap space together; `unlimited` (or `-1`): as much swap space as there is.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub memory_swap: Option<String>,
    /// Processors' time, as in `1.5`.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub cpus: Option<String>,
    /// Processors that may be used, as in `0-3,7`.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub cpuset: Option<String>,
    /// Processes and threads.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub pids_limit: Option<String>,
    /// Share of input and output, from 1 to 10000; 100 is everybody's.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub io_weight: Option<String>,
    /// Limits of each process: `NAME=SOFT[:HARD]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ulimits: Option<Vec<String>>,
    /// Size of `/dev/shm`.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub shm_size: Option<String>,
    /// What the container's root may occupy.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub storage_quota: Option<String>,
    /// What the output log of each of its processes may occupy.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub log_limit: Option<String>,
    /// Whose end is the container's end: `none` (the command, which is process 1), `main` (the same,
    /// beneath a minimal init) or `all` (the last process).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    /// How its health is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckConfig>,
    /// The signal that asks it to end; SIGTERM when absent.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub stop_signal: Option<String>,
    /// Time between that and SIGKILL, as in `30s`; ten seconds when absent.
    #[serde(
        deserialize_with = "lenient::text",
        skip_serializing_if = "Option::is_none"
    )]
    pub stop_timeout: Option<String>,
    /// Working directory of its commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
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
    /// Whether set-user-id and set-group-id bits have no effect there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nosuid: bool,
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
    /// Whether set-user-id and set-group-id bits have no effect there. Left out when they have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nosuid: bool,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// `no`, `on-startup`, `on-failure[:TIMES]`, `always` or `unless-stopped`.
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
    /// `created`, `running`, `paused`, `restarting` or `exited`.
    #[serde(default)]
    pub status: String,
    /// Whether one of its processes was killed in its last run because its memory limit was reached.
    #[serde(default)]
    pub out_of_memory: bool,
    /// How often in a row it was restarted by its policy.
    #[serde(default)]
    pub restart_count: u32,
    /// Its health, while it runs and has a health check.
    #[serde(default)]
    pub health: Option<Health>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// Whose end is its end: `none`, `main` or `all`.
    #[serde(default)]
    pub init: String,
    /// How its health is checked.
    #[serde(default)]
    pub health_check: Option<HealthCheckConfig>,
    /// The signal that asks it to end; SIGTERM when absent.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Time between that and SIGKILL; ten seconds when absent.
    #[serde(default)]
    pub stop_timeout: Option<String>,
    /// Working directory of its commands.
    #[serde(default)]
    pub working_dir: String,
}

/// A line of the containers' listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
    /// Bytes that its own files occupy, when they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Its mounts, as `SOURCE:DESTINATION`, with `:ro`, `:nosuid` or `:ro,nosuid` where that is so.
    #[serde(default)]
    pub mounts: Vec<String>,
}

/// A container with its connections and mounts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContainerInspect {
    /// The container.
    pub container: Container,
    /// Its networks.
    pub container_endpoints: Vec<EndPoint>,
    /// Its mounts.
    pub container_mountpoints: Vec<MountPoint>,
    /// Its execution instances, the newest first.
    #[serde(default)]
    pub container_execs: Vec<ExecInspect>,
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
