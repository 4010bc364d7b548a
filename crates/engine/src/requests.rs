//! What the engine is asked for, and what it answers, in values that are already parsed.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use kleene_doors::host::{Stdin, WindowSize};
use kleene_doors::observe::Stats;
use kleene_doors::storage::AdoptMode;
use kleene_doors::userland::{Extras, Source};
use kleene_store::{ContainerRecord, ExecRecord, ImageRecord, NetworkDriver, Run, VolumeRecord};
use kleene_types::{
    ByteSize, ContainerId, ContainerName, ContainerPath, CpuSet, Cpus, EnvVar, ExecId, HealthCheck,
    ImageName, ImageRef, ImageTag, Init, IoWeight, Limits, MountSpec, Resources, RestartPolicy,
    Signal, Span, SwapLimit, Timestamp, Ulimit, VolumeName,
};

/// A container to create.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// Its name; `None`: a random one.
    pub name: Option<ContainerName>,
    /// The image.
    pub image: ImageRef,
    /// Its command; empty: the image's.
    pub cmd: Vec<String>,
    /// What stands before the command; `None`: the image's. One that is given here takes the place of
    /// the image's command as well.
    pub entrypoint: Option<Vec<String>>,
    /// The user; empty: the image's.
    pub user: String,
    /// Environment, merged over the image's.
    pub env: Vec<EnvVar>,
    /// Its mounts.
    pub mounts: Vec<MountSpec>,
    /// Its jail parameters.
    pub jail_params: Vec<String>,
    /// Its network driver.
    pub network_driver: NetworkDriver,
    /// How many ports it asks to publish.
    pub published_ports: usize,
    /// Its restart policy.
    pub restart_policy: RestartPolicy,
    /// Whether pruning leaves it alone.
    pub persist: bool,
    /// Whether it is removed as soon as it stops.
    pub auto_remove: bool,
    /// What it may use.
    pub resources: Resources,
    /// Whose end is its end; `None`: that of the last process for a command that is `/etc/rc`, that
    /// of the command for others.
    pub init: Option<Init>,
    /// How its health is checked; `None`: as the image says; the inner `None`: not at all.
    pub health_check: Option<Option<HealthCheck>>,
    /// What asks it to end; `None`: what the image says, at last SIGTERM.
    pub stop_signal: Option<Signal>,
    /// Time between that and SIGKILL; `None`: ten seconds.
    pub stop_timeout: Option<Span>,
    /// Working directory of its commands; `None`: the image's; the inner `None`: `/`.
    pub working_dir: Option<Option<ContainerPath>>,
}

/// A container that was created or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its id.
    pub id: ContainerId,
    /// What was not done as asked, or counts only later, as sentences for the user.
    pub warnings: Vec<String>,
}

/// Changes to a container; `None` leaves a property as it is.
#[derive(Debug, Clone, Default)]
pub struct ContainerChanges {
    /// A new name.
    pub name: Option<ContainerName>,
    /// A new command.
    pub cmd: Option<Vec<String>>,
    /// A new user.
    pub user: Option<String>,
    /// A new environment, in place of the old one.
    pub env: Option<Vec<EnvVar>>,
    /// New jail parameters, in place of the old ones.
    pub jail_params: Option<Vec<String>>,
    /// A new restart policy.
    pub restart_policy: Option<RestartPolicy>,
    /// Whether pruning leaves it alone.
    pub persist: Option<bool>,
    /// New limits; the inner `None` takes one away.
    pub limits: LimitChanges,
    /// New limits of its processes, in place of the old ones.
    pub ulimits: Option<Vec<Ulimit>>,
    /// A new size of `/dev/shm`.
    pub shm_size: Option<Option<ByteSize>>,
    /// A new quota of its root.
    pub storage_quota: Option<Option<ByteSize>>,
    /// A new limit of its output logs.
    pub log_limit: Option<Option<ByteSize>>,
    /// Whose end is its end.
    pub init: Option<Init>,
    /// A new health check, or none any more.
    pub health_check: Option<Option<HealthCheck>>,
    /// A new signal that asks it to end.
    pub stop_signal: Option<Signal>,
    /// A new time between that and SIGKILL.
    pub stop_timeout: Option<Span>,
    /// A new working directory; the inner `None`: `/`.
    pub working_dir: Option<Option<ContainerPath>>,
}

/// Changes of limits; `None` leaves one as it is, the inner `None` takes it away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitChanges {
    /// Memory.
    pub memory: Option<Option<ByteSize>>,
    /// Memory and swap space together.
    pub memory_swap: Option<Option<SwapLimit>>,
    /// Time of processors.
    pub cpus: Option<Option<Cpus>>,
    /// Processors.
    pub cpuset: Option<Option<CpuSet>>,
    /// Processes and threads.
    pub pids: Option<Option<u64>>,
    /// Share of input and output.
    pub io_weight: Option<Option<IoWeight>>,
}

impl LimitChanges {
    /// Makes the changes.
    pub fn apply(&self, limits: &mut Limits) {
        fn change<T: Clone>(limit: &mut Option<T>, change: &Option<Option<T>>) {
            if let Some(new) = change {
                limit.clone_from(new);
            }
        }
        let Self {
            memory,
            memory_swap,
            cpus,
            cpuset,
            pids,
            io_weight,
        } = self;
        change(&mut limits.memory, memory);
        change(&mut limits.memory_swap, memory_swap);
        change(&mut limits.cpus, cpus);
        change(&mut limits.cpuset, cpuset);
        change(&mut limits.pids, pids);
        change(&mut limits.io_weight, io_weight);
    }
}

/// Which containers are listed, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListOptions {
    /// Also those that don't run.
    pub all: bool,
    /// Also what their files occupy, which takes time.
    pub size: bool,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// It was never started.
    Created,
    /// It runs.
    Running,
    /// Its processes are stopped in their tracks.
    Paused,
    /// It has ended, and its restart policy will start it soon.
    Restarting,
    /// It has ended.
    Exited,
}

impl ContainerState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

/// The health of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What the last checks say.
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last checks, the oldest first.
    pub log: Vec<HealthResult>,
}

/// What health checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// Nothing yet.
    Starting,
    /// It works.
    Healthy,
    /// It doesn't.
    Unhealthy,
}

impl HealthStatus {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// The result of one health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthResult {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What the command returned; `None` when it took too long or couldn't be run.
    pub exit_code: Option<i32>,
    /// The beginning of what it printed, or why it couldn't be run.
    pub output: String,
}

/// A container as it is shown.
#[derive(Debug, Clone)]
pub struct ContainerView {
    /// Its record.
    pub record: ContainerRecord,
    /// Name and tag of its image, when it has them.
    pub image: Option<(ImageName, ImageTag)>,
    /// Its dataset's name.
    pub dataset: String,
    /// By which the host knows it while it runs: a jail's number, or the id of its first process.
    pub number: Option<u32>,
    /// What it does.
    pub state: ContainerState,
    /// Its health, while it runs and has a health check.
    pub health: Option<Health>,
    /// Bytes that its own files occupy, when asked for.
    pub size: Option<u64>,
}

/// What a running container has used.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsView {
    /// The container.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// When this was measured.
    pub read: Timestamp,
    /// What it has used.
    pub stats: Stats,
}

/// The output that is kept of a container, or of one execution instance.
#[derive(Debug, Clone)]
pub struct LogView {
    /// The execution instances whose logs make it up, the oldest first.
    pub execs: Vec<ExecRecord>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The container.
    pub id: ContainerId,
    /// What its command returned.
    pub exit_code: i32,
    /// Whether one of its processes was killed because its memory limit was reached.
    pub out_of_memory: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Event {
    /// Counts up by one.
    pub sequence: u64,
    /// When.
    pub time: Timestamp,
    /// `container`, `exec`, `image`, `volume` or `daemon`.
    pub kind: String,
    /// What: `create`, `start`, `die`…
    pub action: String,
    /// Id of the object; the name of a volume.
    pub id: String,
    /// Its name, where it has one.
    pub name: String,
    /// More, by action.
    pub attributes: BTreeMap<String, String>,
}

/// Something that the engine asks its supervisor to call it for later: see [`crate::Engine::due`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Later {
    /// Start a container again whose restart policy says so, unless its run after `ended` has begun
    /// or somebody has stopped it meanwhile.
    Restart {
        /// The container.
        container: ContainerId,
        /// The first execution instance of the run that has ended.
        ended: ExecId,
    },
    /// Check the health of a container during one run.
    CheckHealth {
        /// The container.
        container: ContainerId,
        /// The first execution instance of the run.
        run: ExecId,
        /// Counts up when the checks of one run begin anew.
        turn: u64,
    },
    /// Remove a container that was to remove itself after its run, and was never started.
    RemoveUnstarted {
        /// The container.
        container: ContainerId,
    },
    /// Remove volumes that were made for a container which is gone.
    RemoveVolumes {
        /// Their names.
        volumes: Vec<VolumeName>,
    },
    /// Finish stopping a container: the daemon died in the middle of that.
    FinishStop {
        /// Which run of it.
        run: Run,
        /// Whether it is started again.
        start: bool,
    },
}

/// An execution instance to create.
#[derive(Debug, Clone)]
pub struct NewExec {
    /// The container: name, id or beginning of an id.
    pub container: String,
    /// The command; empty: the container's.
    pub cmd: Vec<String>,
    /// Environment, merged over the container's.
    pub env: Vec<EnvVar>,
    /// The user; empty: the container's.
    pub user: String,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Working directory; `None`: the container's.
    pub working_dir: Option<ContainerPath>,
}

/// How an execution instance is started.
#[derive(Debug, Clone, Copy)]
pub struct ExecStart {
    /// Whether the caller wants its streams.
    pub attach: bool,
    /// Whether to start the container when it doesn't run.
    pub start_container: bool,
    /// Where its input comes from, when attached.
    pub stdin: Stdin,
    /// The first size of its terminal.
    pub window: Option<WindowSize>,
}

/// An execution instance that was started.
#[derive(Debug)]
pub struct StartedExec {
    /// Its id.
    pub id: ExecId,
    /// Its streams, when asked for: see [`kleene_doors::frames`].
    pub attached: Option<UnixStream>,
}

/// An execution instance that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What its process returned.
    pub exit_code: i32,
    /// Whether the container stopped with it.
    pub container_stopped: bool,
    /// Whether a process of the container was killed during its life because the container's memory
    /// limit was reached.
    pub out_of_memory: bool,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A new tree.
    Userland(Source),
    /// A ZFS dataset.
    Zfs {
        /// Its name.
        dataset: String,
        /// How it is taken over.
        mode: AdoptMode,
    },
}

/// An image to create.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Where it comes from.
    pub source: ImageSource,
    /// Its name and tag.
    pub reference: Option<(ImageName, ImageTag)>,
    /// What is put into it beside the source's files.
    pub extras: Extras,
    /// Whether it is named after what the source found out.
    pub autotag: bool,
}

/// An image as it is shown.
#[derive(Debug, Clone)]
pub struct ImageView {
    /// Its record.
    pub record: ImageRecord,
    /// Its dataset's name.
    pub dataset: String,
    /// Bytes that its own data occupies.
    pub size: u64,
    /// Bytes of the images that it was made of.
    pub shared_size: u64,
}

/// A volume as it is shown.
#[derive(Debug, Clone)]
pub struct VolumeView {
    /// Its record.
    pub record: VolumeRecord,
    /// Its dataset's name.
    pub dataset: String,
    /// Where its files lie on the host.
    pub mountpoint: PathBuf,
}
