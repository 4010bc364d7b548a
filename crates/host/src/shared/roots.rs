//! Roots of containers, opened by the daemon to work in them.

use std::os::fd::OwnedFd;

use kleene_doors::host::HostError;
use kleene_doors::storage::Root;

/// Opens a root to change it.
///
/// # Errors
/// When it can't be opened: that is nothing that a user could mend in what was asked for.
pub fn open_root(root: &Root) -> Result<OwnedFd, HostError> {
    system::open(root).map_err(failure)
}

/// Opens a root to look at it. On Linux nothing in it changes by that, not even access times.
///
/// # Errors
/// As [`open_root`].
pub fn open_root_read_only(root: &Root) -> Result<OwnedFd, HostError> {
    system::open_read_only(root).map_err(failure)
}

fn failure(error: system::RootError) -> HostError {
    HostError::Failed {
        action: "opening the container's root".to_owned(),
        source: Box::new(error),
    }
}

#[cfg(target_os = "linux")]
mod system {
    pub use kleene_monitor::root::{
        RootError, open_root as open, open_root_read_only as open_read_only,
    };
}

/// Roots are directories there, which nobody else uses while we work in them.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::{Path, PathBuf};

    use kleene_doors::storage::Root;
    use rustix::fs::{Mode, OFlags};

    /// Why a root can't be opened.
    #[derive(Debug, thiserror::Error)]
    pub enum RootError {
        /// It is missing, or isn't a directory.
        #[error("opening the directory '{path}' failed")]
        Open {
            /// The directory.
            path: PathBuf,
            /// Why.
            #[source]
            source: io::Error,
        },
        /// It needs an overlay file system.
        #[error("there is no overlay file system on this system")]
        Overlay,
    }

    pub fn open(root: &Root) -> Result<OwnedFd, RootError> {
        match root {
            Root::Directory { path } => open_directory(path),
            Root::Overlay { .. } => Err(RootError::Overlay),
        }
    }

    pub fn open_read_only(root: &Root) -> Result<OwnedFd, RootError> {
        open(root)
    }

    fn open_directory(path: &Path) -> Result<OwnedFd, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| RootError::Open {
            path: path.to_owned(),
            source: errno.into(),
        })
    }
}
