//! The records.

use std::collections::{BTreeMap, BTreeSet};

use kleene_types::{
    ContainerId, ContainerName, ContainerPath, EnvVar, ExecId, HealthCheck, ImageId, ImageName,
    ImageTag, Init, MountSpec, Platform, Resources, RestartPolicy, Signal, SnapshotName, Span,
    Timestamp, VolumeName,
};
use serde::{Deserialize, Serialize};

/// What containers of an image begin with: the part of the OCI's image configuration that says how
/// they are run (<https://github.com/opencontainers/image-spec/blob/main/config.md>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Default command.
    pub cmd: Vec<String>,
    /// What stands before the command.
    pub entrypoint: Vec<String>,
    /// Default environment.
    pub env: Vec<EnvVar>,
    /// Default user; empty: root.
    pub user: String,
    /// Working directory; `None`: `/`.
    pub working_dir: Option<ContainerPath>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Ports that something listens at, as `PORT/PROTOCOL`.
    pub exposed_ports: BTreeSet<String>,
    /// Destinations of anonymous volumes.
    pub volumes: BTreeSet<ContainerPath>,
    /// What asks the first process to end; `None`: SIGTERM.
    pub stop_signal: Option<Signal>,
    /// How the health is checked.
    pub health_check: Option<HealthCheck>,
    /// The shell of instructions in shell form; empty: `/bin/sh -c`.
    pub shell: Vec<String>,
}

/// Where an image was pulled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The reference that it was pulled by.
    pub reference: String,
    /// Digest of its manifest.
    pub digest: String,
}

/// One step of the making of an image, as the image's own records tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryRecord {
    /// When (RFC 3339); empty: unknown.
    pub created: String,
    /// The instruction or command.
    pub created_by: String,
    /// What was noted.
    pub comment: String,
    /// Whether it has changed no file.
    pub empty_layer: bool,
}

/// A snapshot of an image, which another image begins with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSnapshot {
    /// The image.
    pub image: ImageId,
    /// Its snapshot.
    pub snapshot: SnapshotName,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its id; also the name of its dataset.
    pub id: ImageId,
    /// Name and tag, unless another image has taken them over.
    pub reference: Option<(ImageName, ImageTag)>,
    /// What its containers begin with.
    #[serde(flatten)]
    pub config: ImageConfig,
    /// The instructions that it was built by, each with the snapshot taken after it.
    pub instructions: Vec<(String, Option<SnapshotName>)>,
    /// When it was made.
    pub created: Timestamp,
    /// What its tree is a clone of.
    #[serde(default)]
    pub parent: Option<ImageSnapshot>,
    /// What it is for; `None`: nobody knows, so what it was made on.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Where it was pulled from.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// The history that came with it, when it was not made here.
    #[serde(default)]
    pub history: Vec<HistoryRecord>,
    /// Bytes that its own data occupies.
    #[serde(default)]
    pub size: Option<u64>,
    /// Whether it only keeps steps of builds for the next one: listings leave it out.
    #[serde(default)]
    pub build_cache: bool,
}

impl ImageRecord {
    /// The instructions that have left a snapshot, each with that.
    pub fn named_snapshots(&self) -> impl Iterator<Item = (&String, &SnapshotName)> {
        let instructions = self.instructions.iter();
        instructions.filter_map(|(line, taken)| taken.as_ref().map(|name| (line, name)))
    }
}

/// How a container reaches networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// Addresses on interfaces that it shares with the host.
    Ipnet,
    /// The host's network.
    Host,
    /// A network stack of its own, connected by a pair of interfaces.
    Vnet,
    /// Nothing but a loopback interface.
    Disabled,
}

impl NetworkDriver {
    /// The contract's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipnet => "ipnet",
            Self::Host => "host",
            Self::Vnet => "vnet",
            Self::Disabled => "disabled",
        }
    }
}

/// The last time that a container was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// Its first execution instance.
    pub init: ExecId,
    /// When it was started.
    pub started: Timestamp,
    /// When it stopped, and with which exit code; `None` while it runs.
    pub ended: Option<(Timestamp, i32)>,
    /// Whether one of its processes was killed because its memory limit was reached.
    #[serde(default)]
    pub out_of_memory: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its id; also the name of its dataset.
    pub id: ContainerId,
    /// Its name, unique.
    pub name: ContainerName,
    /// The image that it was made of.
    pub image: ImageId,
    /// Its command.
    pub cmd: Vec<String>,
    /// The user of its commands; empty: root.
    pub user: String,
    /// Its environment.
    pub env: Vec<EnvVar>,
    /// Its network driver.
    pub network_driver: NetworkDriver,
    /// Its jail parameters.
    pub jail_params: Vec<String>,
    /// Its restart policy.
    pub restart_policy: RestartPolicy,
    /// Whether pruning leaves it alone.
    pub persist: bool,
    /// Whether it is removed as soon as it stops.
    pub auto_remove: bool,
    /// When it was made.
    pub created: Timestamp,
    /// Its mounts, in the order in which they are made.
    pub mounts: Vec<MountSpec>,
    /// Its last run.
    pub last_run: Option<LastRun>,
    /// What it may use.
    #[serde(default)]
    pub resources: Resources,
    /// Whose end is its end.
    #[serde(default)]
    pub init: Init,
    /// How its health is checked.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// What asks its first process to end; `None`: SIGTERM.
    #[serde(default)]
    pub stop_signal: Option<Signal>,
    /// Time between that and SIGKILL; `None`: ten seconds.
    #[serde(default)]
    pub stop_timeout: Option<Span>,
    /// Working directory of its commands; `None`: `/`.
    #[serde(default)]
    pub working_dir: Option<ContainerPath>,
    /// Whether somebody stopped it, so that its restart policy doesn't count until it is started.
    #[serde(default)]
    pub stopped_by_user: bool,
    /// How often in a row it was restarted by its policy.
    #[serde(default)]
    pub restarts: u32,
    /// Volumes that were made for it because its image declares them. They go with a container that
    /// is removed when it stops.
    #[serde(default)]
    pub anonymous_volumes: Vec<VolumeName>,
    /// The snapshot that its tree was cloned from, where that isn't its image's last one.
    #[serde(default)]
    pub snapshot: Option<ImageSnapshot>,
}

impl ContainerRecord {
    /// The snapshot that its tree was cloned from.
    pub fn origin(&self) -> ImageSnapshot {
        self.snapshot.clone().unwrap_or_else(|| ImageSnapshot {
            image: self.image.clone(),
            snapshot: SnapshotName::image(),
        })
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRecord {
    /// Its name; also that of its dataset.
    pub name: VolumeName,
    /// When it was made.
    pub created: Timestamp,
    /// Whether a container's files have been copied into it: that happens once only.
    pub populated: bool,
}

/// An execution instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    /// Its id.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// Its whole environment.
    pub env: Vec<EnvVar>,
    /// Its user; empty: root.
    pub user: String,
    /// Whether it has a terminal.
    pub tty: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its process was started, and the process's id on the host.
    pub started: Option<(Timestamp, u32)>,
    /// When its process ended, and the exit code.
    pub ended: Option<(Timestamp, i32)>,
    /// Whether it is the first one of a run of its container.
    #[serde(default)]
    pub first: bool,
    /// Working directory; `None`: the container's.
    #[serde(default)]
    pub working_dir: Option<ContainerPath>,
    /// Whether a process of the container was killed during its life because the container's memory
    /// limit was reached.
    #[serde(default)]
    pub out_of_memory: bool,
}

impl ExecRecord {
    /// Whether the process was started and hasn't been seen to end.
    pub fn is_running(&self) -> bool {
        self.started.is_some() && self.ended.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_from_before_nosuid_are_read() {
        let old = r#"{"type":"volume","source":"v","destination":"/a","read_only":true}"#;
        let mount: MountSpec = serde_json::from_str(old).unwrap();
        assert_eq!(mount.to_string(), "v:/a:ro");
        let mount: MountSpec = "v:/a:nosuid".parse().unwrap();
        let written = serde_json::to_string(&mount).unwrap();
        assert_eq!(serde_json::from_str::<MountSpec>(&written).unwrap(), mount);
    }
}
