//! The host door: processes in containers, and the mounts that they see.
//!
//! A *container* runs as long as the process of its first execution instance lives on Linux (it is
//! process 1 of the container's process namespace). Further execution instances *join* it. Each
//! instance has a monitor process of its own that outlives the daemon; [`Host::probe`] finds it again.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_types::{ContainerId, ContainerPath, EnvVar, ExecId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::storage::Root;

/// What a mount's source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
}

/// One mount that a container sees, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// An existing directory or file of the host.
    pub source: PathBuf,
    /// Where it appears; made when missing, to match the source.
    pub destination: ContainerPath,
    /// Recursively read-only.
    pub read_only: bool,
}

/// How a container reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// It uses the host's.
    Host,
    /// It has its own, with nothing but a loopback interface.
    Disabled,
}

/// What a container is made of when its first process starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSetup {
    /// The host name inside.
    pub hostname: String,
    /// Its root.
    pub root: Root,
    /// Mounts, in the order in which they are made.
    pub mounts: Vec<Mount>,
    /// Its network.
    pub network: Network,
    /// Jail parameters, passed on as they are (FreeBSD) or translated (Linux).
    pub jail_params: Vec<String>,
}

/// Rows and columns of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// The standard input of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// What attached clients send; end of file when they say so.
    Stream,
}

/// The process of an execution instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; never empty. A program without a slash is looked for in `PATH` of
    /// `env`, inside of the container.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<EnvVar>,
    /// `""` (root), a name, a number, or either with `:group`; names are resolved by the container's
    /// own files.
    pub user: String,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// The terminal's first size.
    pub window: Option<WindowSize>,
    /// Where its standard input comes from.
    pub stdin: Stdin,
}

/// What to start a process in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A container that doesn't run: set it up first.
    New(ContainerSetup),
    /// A running container, known by its first execution instance.
    Running {
        /// That instance.
        init: ExecId,
    },
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// The execution instance.
    pub exec: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// Where it starts.
    pub place: Place,
    /// The process.
    pub process: Process,
    /// Whether a client wants its streams from the first byte on.
    pub attach: bool,
}

/// A process that has been started: it runs, its program was found and executed.
#[derive(Debug)]
pub struct Started {
    /// Process id on the host.
    pub pid: u32,
    /// Carries one [`crate::frames::Frame::Exited`] when it ends, then end of file.
    pub watch: UnixStream,
    /// The attached client's stream, when asked for: see [`crate::frames`].
    pub attached: Option<UnixStream>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// What the process returned; 128 + the signal's number when a signal ended it.
    pub code: i32,
    /// When.
    pub finished: Timestamp,
}

/// Why a process could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StartFailure {
    /// 125 the set-up failed, 126 the program can't be executed, 127 the program isn't there.
    pub code: i32,
    /// What failed, naming the object and the remedy.
    pub message: String,
}

/// What became of an execution instance that was started some time ago.
#[derive(Debug)]
pub enum Probe {
    /// It runs, and this is its process and a fresh watch.
    Running {
        /// Process id on the host.
        pid: u32,
        /// As in [`Started::watch`].
        watch: UnixStream,
    },
    /// It has ended.
    Exited(ExitStatus),
    /// Nobody knows: the machine was restarted, or the monitor was killed.
    Lost,
}

/// What copying up found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyUp {
    /// The container has no directory at the destination, or an empty one.
    NothingToCopy,
    /// The volume already holds something.
    TargetNotEmpty,
    /// The directory's contents were copied.
    Copied {
        /// Files, directories and so on.
        entries: u64,
        /// Bytes of data.
        bytes: u64,
    },
}

/// What can go wrong on the host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A mount's source can't be used; the message says why and what to do.
    #[error("{0}")]
    Source(String),
    /// The process could not be started.
    #[error(transparent)]
    Start(#[from] StartFailure),
    /// The execution instance doesn't run (any more).
    #[error("execution instance {0} is not running")]
    NotRunning(ExecId),
    /// This host or platform can't do it; the message says what instead.
    #[error("{0}")]
    Unsupported(String),
    /// The disk is full.
    #[error("no space left while {0}: free some space and try again")]
    NoSpace(String),
    /// Anything else.
    #[error("{action} failed")]
    Failed {
        /// What was being done, naming its object.
        action: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The host door.
pub trait Host: Send + Sync {
    /// Checks a container's setup that concerns this platform (network, jail parameters) before
    /// anything is created.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming the parameter.
    fn check_jail_params(&self, params: &[String]) -> Result<(), HostError>;

    /// What the source of a nullfs mount is.
    ///
    /// # Errors
    /// [`HostError::Source`] when it is missing, or neither a directory nor a regular file.
    fn inspect_source(&self, path: &Path) -> Result<SourceKind, HostError>;

    /// Checks that `destination` can be mounted on in `root`: it stays beneath the root, and what is
    /// there matches `source`. Nothing is created or changed.
    ///
    /// # Errors
    /// [`HostError::Source`] naming the destination.
    fn check_destination(
        &self,
        root: &Root,
        destination: &ContainerPath,
        source: SourceKind,
    ) -> Result<(), HostError>;

    /// Copies what `root` has in the directory `from` into the empty directory `into` of the host:
    /// all or nothing, whatever happens. Links are resolved inside of `root`.
    ///
    /// # Errors
    /// [`HostError::NoSpace`] and others; `into` is empty then.
    fn copy_up(&self, root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError>;

    /// Finishes or undoes a [`Host::copy_up`] that was cut short. Idempotent. Whether `into` holds
    /// something afterwards.
    ///
    /// # Errors
    /// When the directory can't be read or cleaned.
    fn recover_copy_up(&self, into: &Path) -> Result<bool, HostError>;

    /// Starts a process; returns when its program runs.
    ///
    /// # Errors
    /// [`HostError::Start`] with the exit code to report; then nothing of it is left.
    fn start(&self, request: &StartRequest) -> Result<Started, HostError>;

    /// A new client's stream to a running execution instance.
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn attach(&self, exec: &ExecId) -> Result<UnixStream, HostError>;

    /// What became of an execution instance.
    ///
    /// # Errors
    /// When the host can't tell.
    fn probe(&self, exec: &ExecId) -> Result<Probe, HostError>;

    /// Sends a signal to the instance's process alone. `signal` is the platform's number. A process
    /// that would end by it, but can't take notice of it because it handles no signals as process 1,
    /// is killed.
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError>;

    /// Asks a container's processes to end (`SIGTERM`); a process that can't take notice of that
    /// because it handles no signals as process 1 is killed at once.
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn terminate(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError>;

    /// Ends all processes of a container (`SIGKILL`).
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn kill(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError>;

    /// Removes what the host keeps of an ended execution instance. Missing is success.
    ///
    /// # Errors
    /// When something can't be removed.
    fn forget(&self, exec: &ExecId) -> Result<(), HostError>;

    /// Removes everything that a container which doesn't run has left on the host: mounts, cgroups,
    /// processes. Missing is success.
    ///
    /// # Errors
    /// When something can't be removed.
    fn clean(&self, container: &ContainerId) -> Result<(), HostError>;
}
