//! What the room needs of the system beside its tools. Tests open the room over doubles of these.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_doors::host::{HostError, SourceKind};
use kleene_monitor::proto::JailStart;
use kleene_types::{ContainerPath, ExecId};

use crate::shared::monitors::{Monitored, Refused};

/// Starts monitors, and reaches those that run.
pub trait Monitors: Send + Sync {
    /// Has a monitor start a process. If that fails, the monitor has ended when this returns.
    ///
    /// # Errors
    /// Why it didn't.
    fn start(&self, order: &JailStart) -> Result<Monitored, Refused>;

    /// Connects to the monitor of an instance that has this directory.
    ///
    /// # Errors
    /// There is none (any more).
    fn connect(&self, exec: &ExecId, directory: &Path) -> io::Result<UnixStream>;
}

/// Where mounts come from and go to.
pub trait Places: Send + Sync {
    /// A mount's source as a path without links, and what it is.
    ///
    /// # Errors
    /// [`HostError::Source`] when it is missing, or neither a directory nor a regular file.
    fn source(&self, path: &Path) -> Result<(PathBuf, SourceKind), HostError>;

    /// Makes a mount point beneath a root if it is missing, to match the source. Answers its path on the
    /// host, which has no links: those on the way are resolved inside of the root.
    ///
    /// # Errors
    /// [`HostError::Source`] naming the destination.
    fn mount_point(
        &self,
        root: &Path,
        destination: &ContainerPath,
        kind: SourceKind,
    ) -> Result<PathBuf, HostError>;
}
