//! Whether a mount's destination in a container's root can be mounted on.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kleene_doors::host::{HostError, SourceKind};
use kleene_doors::storage::Root;
use kleene_monitor::is_device;
use kleene_monitor::root::open_root_read_only;
use kleene_tree::{Open, TreeError, open_in_root};
use kleene_types::ContainerPath;
use rustix::fs::FileType;

use super::copy_up::root_failure;

/// Longest name of a file on every file system that containers' roots lie on.
const LONGEST_NAME: usize = 255;

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
    let root = open_root_read_only(root).map_err(root_failure)?;
    let root = root.as_fd();
    match open_in_root(root, path, Open::Handle) {
        Ok(target) => check_existing(&target, source).map_err(refused),
        Err(TreeError::NotFound { .. }) => check_missing(root, path, source).map_err(refused),
        Err(error) => Err(refused(explain(&error))),
    }
}

/// Checks what is there. A file may cover anything but a directory, as mount(2) has it.
fn check_existing(target: &OwnedFd, source: SourceKind) -> Result<(), String> {
    check_free(&name_of(target)?, source)?;
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
/// must be a directory.
fn check_missing(root: BorrowedFd<'_>, path: &Path, source: SourceKind) -> Result<(), String> {
    for above in path.ancestors().skip(1) {
        return match open_in_root(root, above, Open::Handle) {
            Ok(found) if kind(&found)? == FileType::Directory => {
                let missing = path.strip_prefix(above).unwrap_or(path);
                check_free(&name_of(&found)?.join(missing), source)
            }
            Ok(_) => Err(format!("'/{}' is not a directory", above.display())),
            Err(TreeError::NotFound { .. }) => continue,
            Err(error) => Err(explain(&error)),
        };
    }
    Ok(())
}

/// The real path of an open file in the root. That is a detached tree, so the kernel's name of what
/// lies in it begins at its root.
fn name_of(target: &OwnedFd) -> Result<PathBuf, String> {
    let link = format!("/proc/self/fd/{}", target.as_raw_fd());
    std::fs::read_link(link).map_err(|error| error.to_string())
}

/// Refuses the real path of what the container's processes, also those that join it, must find as
/// the kernel and Kleene have made it. Elsewhere in `/dev`, which is the container's own, there is
/// room: for shared memory in `/dev/shm` for one.
fn check_free(path: &Path, source: SourceKind) -> Result<(), String> {
    if path.starts_with("/proc") {
        return Err("it lies in /proc, which belongs to the kernel".to_owned());
    }
    if path == Path::new("/sys") {
        return Err("it is /sys, which belongs to the kernel".to_owned());
    }
    if path.starts_with("/sys") && !is_in_sys(path, source) {
        return Err("it lies in /sys, which belongs to the kernel".to_owned());
    }
    let Ok(device) = path.strip_prefix("/dev") else {
        return Ok(());
    };
    match device.iter().next() {
        None => Err(
            "it is /dev, where the container's devices are: mount on a path in it, as /dev/shm"
                .to_owned(),
        ),
        Some(name) if is_device(name) => Err(format!(
            "/dev/{} is one of the container's devices: choose another path",
            name.display()
        )),
        Some(_) => Ok(()),
    }
}

/// Whether the kernel has what can be mounted on there, such as `/sys/fs/cgroup`: nothing can be made in
/// `/sys`, and what is there is the same in all containers but for their network devices.
fn is_in_sys(path: &Path, source: SourceKind) -> bool {
    let is_directory = source == SourceKind::Directory;
    std::fs::metadata(path).is_ok_and(|there| there.is_dir() == is_directory)
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
#[path = "destination_tests.rs"]
mod tests;
