//! The records.

use kleene_types::{
    ContainerId, ContainerName, ContainerPath, EnvVar, ExecId, HealthCheck, ImageId, ImageName,
    ImageTag, Init, MountSpec, Resources, RestartPolicy, Signal, SnapshotName, Span, Timestamp,
    VolumeName,
};
use serde::{Deserialize, Serialize};

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its id; also the name of its dataset.
    pub id: ImageId,
    /// Name and tag, unless another image has taken them over.
    pub reference: Option<(ImageName, ImageTag)>,
    /// Default command.
    pub cmd: Vec<String>,
    /// Default environment.
    pub env: Vec<EnvVar>,
    /// Default user; empty: root.
    pub user: String,
    /// The instructions that it was built by, each with the snapshot taken after it.
    pub instructions: Vec<(String, Option<SnapshotName>)>,
    /// When it was made.
    pub created: Timestamp,
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
