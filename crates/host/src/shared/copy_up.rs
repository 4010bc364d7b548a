//! Fills an empty volume with what a container has where the volume is to be mounted.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kleene_doors::host::{CopyUp, HostError};
use kleene_doors::storage::Root;
use kleene_tree::{Open, PopulateOutcome, TreeError, open_in_root, populate, recover_populate};
use kleene_types::ContainerPath;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use super::roots::open_root_read_only;

/// What `mkfs` leaves in a new file system; no data of anybody's.
const LOST_AND_FOUND: &CStr = c"lost+found";

/// Copies what `root` has in the directory `from` into the empty directory `into`: all or nothing.
/// Links are resolved inside of the root. On Linux its mount is a detached, read-only one: nothing in it
/// changes, not even access times.
///
/// # Errors
/// [`HostError::NoSpace`], [`HostError::Failed`]; `into` is empty then.
pub fn copy_up(root: &Root, from: &ContainerPath, into: &Path) -> Result<CopyUp, HostError> {
    let action = || format!("copying the container's {from} to '{}'", into.display());
    let root = open_root_read_only(root)?;
    let source = match open_in_root(root.as_fd(), from.beneath(), Open::Directory) {
        Ok(source) => source,
        Err(TreeError::NotFound { .. } | TreeError::NotADirectory { .. }) => {
            return Ok(CopyUp::NothingToCopy);
        }
        Err(error) => return Err(failure(action(), error)),
    };
    let target = open_directory(into)?;
    match populate(source.as_fd(), target.as_fd()) {
        Ok(PopulateOutcome::SourceEmpty) => Ok(CopyUp::NothingToCopy),
        Ok(PopulateOutcome::TargetNotEmpty) => Ok(CopyUp::TargetNotEmpty),
        Ok(PopulateOutcome::Copied(copied)) => {
            if copied.skipped_xattrs > 0 {
                tracing::warn!(
                    target = %into.display(),
                    count = copied.skipped_xattrs,
                    "extended attributes were left out: the volume's file system can't hold them"
                );
            }
            Ok(CopyUp::Copied {
                entries: copied.entries,
                bytes: copied.bytes,
            })
        }
        Err(error) => Err(failure(action(), error)),
    }
}

/// Finishes or undoes a copy that was cut short. Whether `into` holds something afterwards.
///
/// # Errors
/// [`HostError::NoSpace`], [`HostError::Failed`].
pub fn recover_copy_up(into: &Path) -> Result<bool, HostError> {
    let action = || format!("tidying up '{}' after an unfinished copy", into.display());
    let target = open_directory(into)?;
    recover_populate(target.as_fd()).map_err(|error| failure(action(), error))?;
    holds_something(&target).map_err(|errno| HostError::Failed {
        action: action(),
        source: Box::new(std::io::Error::from(errno)),
    })
}

fn holds_something(directory: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let counts = match name {
            name if name == c"." || name == c".." => false,
            name if name == LOST_AND_FOUND => !is_made_by_mkfs(directory, name)?,
            _ => true,
        };
        if counts {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this is root's own, empty directory.
fn is_made_by_mkfs(parent: &OwnedFd, name: &CStr) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || stat.st_uid != 0 {
        return Ok(false);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(false);
        }
    }
    Ok(true)
}

fn open_directory(path: &Path) -> Result<OwnedFd, HostError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| HostError::Failed {
        action: format!("opening the volume's directory '{}'", path.display()),
        source: Box::new(std::io::Error::from(errno)),
    })
}

fn failure(action: String, error: TreeError) -> HostError {
    match error {
        TreeError::NoSpace { .. } => HostError::NoSpace(action),
        error => HostError::Failed {
            action,
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "test_support.rs"]
pub(super) mod test_support;

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "copy_up_tests.rs"]
mod tests;
