//! Whether a mount's destination in a container's root can be mounted on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kleene_doors::host::{HostError, SourceKind};
use kleene_doors::storage::Root;
use kleene_tree::{Open, TreeError, open_in_root};
use kleene_types::ContainerPath;
use rustix::fs::FileType;

use super::roots::open_root_read_only;

/// Longest name of a file on every file system that containers' roots lie on.
const LONGEST_NAME: usize = 255;

/// Says why nothing can be mounted at an absolute path in the container, which has no links: what the
/// container's processes must find as the system has made it.
pub type Reserved = fn(&Path, SourceKind) -> Result<(), String>;

/// Checks that `destination` can be mounted on in `root` without looking at other mounts of the
/// container: it stays beneath the root, what is there matches `source`, and what is missing can be
/// made. Nothing is changed, and nothing appears in the host's mount table.
///
/// # Errors
/// [`HostError::Source`] naming the destination; [`HostError::Failed`] when the root can't be
/// opened.
pub fn check_destination(
    root: &Root,
    destination: &ContainerPath,
    source: SourceKind,
    reserved: Reserved,
) -> Result<(), HostError> {
    let refused = |reason: String| {
        HostError::Source(format!(
            "can't mount on '{destination}' in the container: {reason}"
        ))
    };
    let path = destination.beneath();
    let names = path.iter().map(|name| name.as_bytes().len());
    if names.max().unwrap_or(0) > LONGEST_NAME {
        return Err(refused(format!(
            "a part of the path has more than {LONGEST_NAME} bytes"
        )));
    }
    let root = open_root_read_only(root)?;
    let root = root.as_fd();
    match open_in_root(root, path, Open::Handle) {
        Ok(target) => name_of(root, path, &target)
            .and_then(|name| reserved(&name, source))
            .and_then(|()| check_existing(&target, source))
            .map_err(refused),
        Err(TreeError::NotFound { .. }) => check_missing(root, path)
            .and_then(|name| reserved(&name, source))
            .map_err(refused),
        Err(error) => Err(refused(explain(&error))),
    }
}

/// Checks what is there. A file may cover anything but a directory, as mount(2) has it.
fn check_existing(target: &OwnedFd, source: SourceKind) -> Result<(), String> {
    let is_directory = kind(target)? == FileType::Directory;
    match (source, is_directory) {
        (SourceKind::Directory, false) => Err(
            "the source is a directory, but the destination is a file: mount a file, or choose \
             another destination"
                .to_owned(),
        ),
        (SourceKind::File, true) => Err(
            "the source is a file, but the destination is a directory: name the file's path inside \
             of that directory"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Checks that the missing destination can be made: the deepest thing there is on the way to it
/// must be a directory. Answers where it will be.
fn check_missing(root: BorrowedFd<'_>, path: &Path) -> Result<PathBuf, String> {
    for above in path.ancestors().skip(1) {
        return match open_in_root(root, above, Open::Handle) {
            Ok(found) if kind(&found)? == FileType::Directory => {
                let missing = path.strip_prefix(above).unwrap_or(path);
                Ok(name_of(root, above, &found)?.join(missing))
            }
            Ok(_) => Err(format!("'/{}' is not a directory", above.display())),
            Err(TreeError::NotFound { .. }) => continue,
            Err(error) => Err(explain(&error)),
        };
    }
    Ok(Path::new("/").join(path))
}

/// The path without links of what is there, as the container's processes name it. The root is a detached
/// tree, so the kernel's name of what lies in it begins at its root.
#[cfg(target_os = "linux")]
fn name_of(_: BorrowedFd<'_>, _: &Path, found: &OwnedFd) -> Result<PathBuf, String> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    std::fs::read_link(link).map_err(|error| error.to_string())
}

/// The path without links of what is there, as the container's processes name it.
#[cfg(not(target_os = "linux"))]
fn name_of(root: BorrowedFd<'_>, path: &Path, _: &OwnedFd) -> Result<PathBuf, String> {
    let found = kleene_tree::resolve_in_root(root, path).map_err(|error| explain(&error))?;
    Ok(Path::new("/").join(found))
}

fn kind(target: &OwnedFd) -> Result<FileType, String> {
    let stat = rustix::fs::fstat(target).map_err(|errno| errno.to_string())?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn explain(error: &TreeError) -> String {
    match error {
        TreeError::NotADirectory { .. } => "a part of the path is not a directory".to_owned(),
        TreeError::LoopedLinks { .. } => {
            "the path has symbolic links that lead in a circle, or to another process's files"
                .to_owned()
        }
        TreeError::Io { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "destination_tests.rs"]
mod tests;
