//! The host door: processes in containers, and the mounts that they see.
//!
//! A *container* runs as long as the process of its first execution instance lives on Linux (it is
//! process 1 of the container's process namespace). Further execution instances *join* it. Each
//! instance has a monitor process of its own that outlives the daemon; [`Host::probe`] finds it again.

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_types::{
    ByteSize, ContainerId, ContainerPath, EnvVar, ExecId, Init, Limits, Span, Timestamp, Ulimit,
};
use serde::{Deserialize, Serialize};

use crate::files::{FilesOf, PathStat, UnpackOptions};
use crate::layers::{
    CopiedIn, CopyIn, CopySource, KeepFn, LayerApplied, LayerOptions, LayerPacked,
};
use crate::observe::{ProcessInfo, Stats};
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
    /// What its processes may use together.
    pub limits: Limits,
    /// Size of `/dev/shm`; `None`: 64 MiB.
    pub shm_size: Option<ByteSize>,
    /// Whose end is the container's end.
    pub init: Init,
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
    /// Working directory, made (0755, root's) when it is missing; `None`: `/`.
    pub cwd: Option<ContainerPath>,
    /// Limits of the process and its children. One above what the daemon may set is cut to that.
    pub ulimits: Vec<Ulimit>,
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
    New(Box<ContainerSetup>),
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
    /// The container's jail parameters, passed on as they are (FreeBSD) or translated (Linux).
    pub jail_params: Vec<String>,
    /// The process.
    pub process: Process,
    /// Bytes that its output log may occupy: see [`crate::log`].
    pub log_limit: u64,
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
    /// Whether a process of the container was killed during this one's life because the container's
    /// memory limit was reached.
    #[serde(default)]
    pub out_of_memory: bool,
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
        /// Whether its container is paused.
        paused: bool,
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

/// What is run beside a container's own processes, from its jail parameters: see jail(8).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// `exec.prestart`: on the host before the container starts.
    pub prestart: Vec<Vec<String>>,
    /// `exec.poststart`: on the host after it has started.
    pub poststart: Vec<Vec<String>>,
    /// `exec.prestop`: on the host before it is stopped.
    pub prestop: Vec<Vec<String>>,
    /// `exec.stop`: in the container, to stop it.
    pub stop: Option<Vec<String>>,
    /// `exec.poststop`: on the host after it has stopped.
    pub poststop: Vec<Vec<String>>,
    /// `exec.timeout`: how long each of these may take.
    pub timeout: Option<Span>,
    /// `stop.timeout`: time between SIGTERM and SIGKILL.
    pub stop_timeout: Option<Span>,
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
    /// The caller asked for the end.
    #[error("{0} was cancelled")]
    Cancelled(String),
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

    /// What the jail parameters ask to be run at the start and end of a container with this command. On
    /// FreeBSD a container whose command is the boot script is stopped by the shutdown script, unless the
    /// parameters say otherwise.
    ///
    /// # Errors
    /// As [`Host::check_jail_params`].
    fn hooks(&self, params: &[String], cmd: &[String]) -> Result<Hooks, HostError>;

    /// Runs a command of [`Hooks`] on the host, for at most `limit`. Only when the daemon's
    /// configuration allows it; [`Host::check_jail_params`] refuses such parameters otherwise.
    ///
    /// # Errors
    /// It can't be run, takes too long, or fails; the message has what it printed.
    fn run_host_command(
        &self,
        container: &ContainerId,
        argv: &[String],
        limit: Span,
    ) -> Result<(), HostError>;

    /// Checks limits before anything is created. Answers what can't be done as asked but doesn't
    /// matter enough to refuse, as sentences for the user.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] naming the limit: this host can't enforce it, or it is above what
    /// the machine has.
    fn check_limits(
        &self,
        limits: &Limits,
        shm_size: Option<ByteSize>,
        ulimits: &[Ulimit],
    ) -> Result<Vec<String>, HostError>;

    /// Changes the limits of a running container.
    ///
    /// # Errors
    /// [`HostError::Unsupported`] when it can't be done now (say, memory in use is above the new
    /// limit); then nothing has changed.
    fn update_limits(
        &self,
        container: &ContainerId,
        init: &ExecId,
        limits: &Limits,
    ) -> Result<(), HostError>;

    /// Stops all processes of a container in their tracks, until [`Host::unpause`]. Idempotent.
    ///
    /// # Errors
    /// [`HostError::NotRunning`], [`HostError::Unsupported`].
    fn pause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError>;

    /// Lets a container's processes go on. Idempotent.
    ///
    /// # Errors
    /// [`HostError::NotRunning`], [`HostError::Unsupported`].
    fn unpause(&self, container: &ContainerId, init: &ExecId) -> Result<(), HostError>;

    /// What a container has used.
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn stats(&self, container: &ContainerId, init: &ExecId) -> Result<Stats, HostError>;

    /// A container's processes, by their ids.
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn processes(
        &self,
        container: &ContainerId,
        init: &ExecId,
    ) -> Result<Vec<ProcessInfo>, HostError>;

    /// The files of an execution instance's output log, the oldest first, as they are now: see
    /// [`crate::log`]. None when it has written nothing, or is forgotten.
    ///
    /// # Errors
    /// When they can't be opened.
    fn log(&self, exec: &ExecId) -> Result<Vec<File>, HostError>;

    /// A stream that tells when a running instance's log has grown: see
    /// [`crate::frames::Frame::Follow`].
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn follow(&self, exec: &ExecId) -> Result<UnixStream, HostError>;

    /// What is at an absolute path in a container. The path's last component isn't followed; links on
    /// the way never lead out of the container's root, nor does `..`. `None`: nothing is there.
    ///
    /// # Errors
    /// When the container's files can't be reached.
    fn stat_path(&self, of: &FilesOf, path: &Path) -> Result<Option<PathStat>, HostError>;

    /// Writes what is at a path, with everything beneath it, as a tar archive (POSIX pax format).
    /// The entries begin with the path's last component.
    ///
    /// # Errors
    /// [`HostError::Source`] when nothing is there; others when reading or writing fails.
    fn read_archive(&self, of: &FilesOf, path: &Path, to: &mut dyn Write) -> Result<(), HostError>;

    /// Unpacks a tar archive in a directory of a container. Entries never leave the directory.
    ///
    /// # Errors
    /// [`HostError::Source`] when there is no such directory, it is read-only, or the archive is bad.
    fn write_archive(
        &self,
        of: &FilesOf,
        directory: &Path,
        from: &mut dyn Read,
        options: UnpackOptions,
    ) -> Result<(), HostError>;

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

    /// Applies an *uncompressed* layer of an image (a tar archive, see the OCI image specification's
    /// `layer.md`) to the tree `root`, which nobody uses meanwhile.
    ///
    /// Entries replace what is there, whatever it is; a directory in place of a directory keeps what is
    /// in it. `.wh.NAME` removes what lower layers have as `NAME`, and `.wh..wh..opq` everything that
    /// they have in its directory; neither touches what this layer adds, wherever in it that comes.
    /// Kept are owners, modes, times, extended attributes, hard links (to lower layers' files, too),
    /// holes and FIFOs. Device nodes are left out. Links are kept as they are, and resolved beneath the
    /// root where they are on an entry's way.
    ///
    /// `progress` is told how many bytes have been read so far. What follows the archive's end isn't
    /// read, apart from some padding.
    ///
    /// # Errors
    /// [`HostError::Source`] when the archive is damaged, hostile, or above a limit;
    /// [`HostError::Cancelled`], [`HostError::NoSpace`]. What was applied before stays: the tree is of
    /// no use then.
    fn apply_layer(
        &self,
        root: &Root,
        from: &mut dyn Read,
        options: &LayerOptions,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<LayerApplied, HostError>;

    /// Writes what makes `root` of `below` as an uncompressed layer: all of it when there is nothing
    /// below. The same trees give the same bytes. Nobody changes them meanwhile.
    ///
    /// Applied to a copy of `below` it makes a tree that equals `root`, but for sockets, the time of the
    /// root directory itself, and empty directories `/dev`, `/proc` and `/sys` that `below` lacks.
    ///
    /// # Errors
    /// [`HostError::Source`] for a file whose name means something else in a layer (`.wh.NAME`);
    /// others when reading or writing fails.
    fn pack_layer(
        &self,
        below: Option<&Root>,
        root: &Root,
        to: &mut dyn Write,
    ) -> Result<LayerPacked, HostError>;

    /// Copies files into a tree that nobody uses meanwhile. Kept are modes, modification times,
    /// extended attributes, hard links among what is copied, and holes.
    ///
    /// A directory is copied into one that is there, and anything else replaces anything but a directory.
    /// Missing directories on the way to the destination are made with 0755. A link that is a source is
    /// followed; one in a directory that is copied is copied. Device nodes and sockets are left out.
    ///
    /// # Errors
    /// [`HostError::Source`] when a source isn't there or matches nothing, when a directory would
    /// replace something else or the other way round, when an archive is refused or the owner is
    /// unknown; [`HostError::Cancelled`], [`HostError::NoSpace`]. What was copied before stays.
    fn copy_in(&self, copy: &CopyIn<'_>) -> Result<CopiedIn, HostError>;

    /// A digest (BLAKE3) of what [`Host::copy_in`] would copy: paths relative to the source's root,
    /// types, modes, contents, texts of links and extended attributes, but no times; owners of
    /// [`CopySource::Root`] alone.
    ///
    /// # Errors
    /// As [`Host::copy_in`].
    fn digest_sources(
        &self,
        from: &CopySource<'_>,
        sources: &[String],
        keep: KeepFn<'_>,
    ) -> Result<[u8; 32], HostError>;

    /// Reads a file beneath a directory of the host that strangers have filled, as [`CopySource::Directory`]
    /// is read. `None`: nothing is there.
    ///
    /// # Errors
    /// [`HostError::Source`] when it is no file, larger than `limit` bytes, or links lead in circles.
    fn read_beneath(
        &self,
        directory: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, HostError>;

    /// Starts a process; returns when its program runs.
    ///
    /// # Errors
    /// [`HostError::Start`] with the exit code to report; then nothing of it is left.
    fn start(&self, request: &StartRequest) -> Result<Started, HostError>;

    /// The number by which this system knows a running container (a jail's on FreeBSD); `None` where
    /// that is the id of its first process.
    fn number(&self, _container: &ContainerId) -> Option<u32> {
        None
    }

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

    /// The same, but the signal is sent as it is: process 1 takes no notice of one that it has no
    /// handler for, but of `SIGKILL` and `SIGSTOP`. In a paused container a signal waits for the end
    /// of the pause, but for `SIGKILL`.
    ///
    /// # Errors
    /// [`HostError::NotRunning`].
    fn send_signal(&self, exec: &ExecId, signal: i32) -> Result<(), HostError>;

    /// Ends what an instance's process has started and left behind, and the process itself
    /// (`SIGKILL`): every process of its container in the session that begins with it. Those that
    /// have begun a session of their own live on. No such process is success, and so is an instance
    /// that is forgotten. Returns before they have ended.
    ///
    /// # Errors
    /// When the host can't tell who they are, or end them.
    fn end_session(&self, exec: &ExecId) -> Result<(), HostError>;

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

    /// Every execution instance that the host keeps something of, running or not.
    ///
    /// # Errors
    /// When the host can't tell.
    fn instances(&self) -> Result<Vec<ExecId>, HostError>;

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
