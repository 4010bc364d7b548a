//! Looking at containers from outside, and reaching into them: output, usage, processes, files,
//! events.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use kleene_doors::files::{PathStat, UnpackOptions};
use kleene_doors::observe::ProcessInfo;
use kleene_doors::storage::Change;
use kleene_types::{ContainerId, ExecId, Signal};

use crate::{Engine, EngineError, Exit, Later, LogView, StartedExec, StatsView};

fn not_yet<T>() -> Result<T, EngineError> {
    Err(EngineError::NotYet("this is not available yet".to_owned()))
}

impl Engine {
    /// Usage of the named containers, or of all that run when none is named. Those that don't run
    /// are left out unless they were named.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`], [`EngineError::ContainerNotRunning`] for one that was
    /// named.
    pub fn container_stats(&self, _references: &[String]) -> Result<Vec<StatsView>, EngineError> {
        not_yet()
    }

    /// Processes of a running container, by their ids.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_top(&self, _reference: &str) -> Result<Vec<ProcessInfo>, EngineError> {
        not_yet()
    }

    /// What differs between a container and its image, by path.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn container_changes(&self, _reference: &str) -> Result<Vec<Change>, EngineError> {
        not_yet()
    }

    /// The output that is kept of a container's runs. Read it with [`Engine::log_files`].
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn container_log(&self, _reference: &str) -> Result<LogView, EngineError> {
        not_yet()
    }

    /// The output that is kept of an execution instance.
    ///
    /// # Errors
    /// [`EngineError::ExecNotFound`].
    pub fn exec_log(&self, _reference: &str) -> Result<LogView, EngineError> {
        not_yet()
    }

    /// The files of an execution instance's log, the oldest first: see [`kleene_doors::log`].
    ///
    /// # Errors
    /// When they can't be opened.
    pub fn log_files(&self, _exec: &ExecId) -> Result<Vec<std::fs::File>, EngineError> {
        not_yet()
    }

    /// A stream that tells when a running instance's log has grown: see
    /// [`kleene_doors::frames::Frame::Follow`]. `None`: it doesn't run any more.
    ///
    /// # Errors
    /// When the host can't tell.
    pub fn log_follow(&self, _exec: &ExecId) -> Result<Option<UnixStream>, EngineError> {
        not_yet()
    }

    /// A new client's stream to a container's first process.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_attach(&self, _reference: &str) -> Result<StartedExec, EngineError> {
        not_yet()
    }

    /// A new client's stream to an execution instance.
    ///
    /// # Errors
    /// [`EngineError::ExecNotFound`], [`EngineError::Conflict`] when it doesn't run.
    pub fn exec_attach(&self, _reference: &str) -> Result<StartedExec, EngineError> {
        not_yet()
    }

    /// How a container's last run ended; `None` while it runs, waits for its restart, or was never
    /// started.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn container_exit(&self, _reference: &str) -> Result<Option<Exit>, EngineError> {
        not_yet()
    }

    /// Stops all processes of a container in their tracks.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`], [`EngineError::Conflict`] when it is paused already.
    pub fn container_pause(&self, _reference: &str) -> Result<ContainerId, EngineError> {
        not_yet()
    }

    /// Lets a container's processes go on.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`], [`EngineError::Conflict`] when it isn't paused.
    pub fn container_unpause(&self, _reference: &str) -> Result<ContainerId, EngineError> {
        not_yet()
    }

    /// Sends a signal to a container's first process.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotRunning`].
    pub fn container_kill(
        &self,
        _reference: &str,
        _signal: Signal,
    ) -> Result<ContainerId, EngineError> {
        not_yet()
    }

    /// Stops a container if it runs, and starts it detached.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`]; [`EngineError::Start`] when it can't be started.
    pub fn container_restart(
        &self,
        _reference: &str,
        _grace: Option<Duration>,
    ) -> Result<ContainerId, EngineError> {
        not_yet()
    }

    /// What is at an absolute path in a container.
    ///
    /// # Errors
    /// [`EngineError::ContainerNotFound`].
    pub fn stat_path(
        &self,
        _reference: &str,
        _path: &Path,
    ) -> Result<Option<PathStat>, EngineError> {
        not_yet()
    }

    /// Writes what is at a path in a container as a tar archive: see
    /// [`kleene_doors::host::Host::read_archive`].
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when nothing is there.
    pub fn read_archive(
        &self,
        _reference: &str,
        _path: &Path,
        _to: &mut dyn Write,
    ) -> Result<(), EngineError> {
        not_yet()
    }

    /// Unpacks a tar archive in a directory of a container.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when there is no such directory, it is read-only, or the archive is
    /// bad.
    pub fn write_archive(
        &self,
        _reference: &str,
        _directory: &Path,
        _from: &mut dyn Read,
        _options: UnpackOptions,
    ) -> Result<(), EngineError> {
        not_yet()
    }

    /// Does what was to be done later.
    ///
    /// # Errors
    /// When it fails; it isn't tried again.
    pub fn due(&self, _call: Later) -> Result<(), EngineError> {
        not_yet()
    }
}
