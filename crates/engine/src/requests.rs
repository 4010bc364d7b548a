//! What the engine is asked for, and what it answers, in values that are already parsed.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use kleene_doors::host::{Stdin, WindowSize};
use kleene_doors::storage::AdoptMode;
use kleene_doors::userland::{Extras, Source};
use kleene_store::{ContainerRecord, ImageRecord, NetworkDriver, RestartPolicy, VolumeRecord};
use kleene_types::{ContainerName, EnvVar, ExecId, ImageName, ImageRef, ImageTag, MountSpec};

/// A container to create.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// Its name; `None`: a random one.
    pub name: Option<ContainerName>,
    /// The image.
    pub image: ImageRef,
    /// Its command; empty: the image's.
    pub cmd: Vec<String>,
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
    /// Process id of its first process on the host, while it runs.
    pub pid: Option<u32>,
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
}

/// Where an image comes from.
#[derive(Debug, Clone)]
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
