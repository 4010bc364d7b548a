//! A container's files, looked at, packed and unpacked from outside.
//!
//! Whoever is in the container may change everything meanwhile. Paths are resolved once, beneath the
//! container's root, without procfs's magic links; from then on everything goes by descriptor.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kleene_doors::files::{PathKind, PathStat, UnpackOptions};
use kleene_doors::host::HostError;
use kleene_tree::{Open, Step, TreeError, is_kernels, open_in_root, pack_tar, unpack_tar};
use kleene_types::Timestamp;
use rustix::fs::{FileType, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use super::failed;

/// What is at a path; a link at its end isn't followed.
///
/// # Errors
/// [`HostError::Source`] when links on the way go round in circles or are magic ones.
pub fn stat(root: BorrowedFd<'_>, path: &Path) -> Result<Option<PathStat>, HostError> {
    let action = || format!("looking at '{}' in the container", path.display());
    let found = match open_in_root(root, path, Open::HandleNoFollow) {
        Ok(found) => found,
        Err(TreeError::NotFound { .. } | TreeError::NotADirectory { .. }) => return Ok(None),
        Err(error) => return Err(path_failure(path, error, action)),
    };
    let failed = |errno: Errno| failed(action())(errno.into());
    let stat = rustix::fs::fstat(&found).map_err(failed)?;
    let kind = kind(&stat);
    let target = match kind {
        PathKind::Symlink => Some(target(&found).map_err(failed)?),
        _ => None,
    };
    let leads_to = match kind {
        PathKind::Symlink => end_of(root, path),
        _ => None,
    };
    Ok(Some(PathStat {
        name: name_of(path).to_string_lossy().into_owned(),
        kind,
        mode: mode(&stat),
        size: match kind {
            PathKind::File => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        },
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: modified(&stat),
        target,
        leads_to,
    }))
}

/// Reads a file beneath a directory of the host.
///
/// # Errors
/// [`HostError::Source`] when it is no file, or larger than `limit` bytes.
pub fn read_beneath(
    directory: &Path,
    path: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, HostError> {
    let shown = path.display();
    let action = || format!("reading '{shown}' in '{}'", directory.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|errno| failed(action())(errno.into()))?;
    let opened = match open_in_root(root.as_fd(), path, Open::File) {
        Ok(opened) => File::from(opened),
        Err(TreeError::NotFound { .. } | TreeError::NotADirectory { .. }) => return Ok(None),
        Err(TreeError::Io { .. } | TreeError::NoSpace { .. } | TreeError::Truncated { .. }) => {
            return Err(HostError::Source(format!(
                "'{shown}' is not a regular file"
            )));
        }
        Err(error) => return Err(HostError::Source(format!("'{shown}': {error}"))),
    };
    let mut content = Vec::new();
    // One byte more tells that there is more.
    opened
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(failed(action()))?;
    match content.len() as u64 > limit {
        true => Err(HostError::Source(format!(
            "'{shown}' is larger than {limit} bytes"
        ))),
        false => Ok(Some(content)),
    }
}

/// Packs what is at a path. Where this can only be a directory's, as with `/` or `/.` at its end, a
/// link is followed; the entries begin with the path's last component all the same.
///
/// # Errors
/// [`HostError::Source`] when nothing is there, or nothing that an archive can hold.
pub fn pack(root: BorrowedFd<'_>, path: &Path, to: &mut dyn Write) -> Result<(), HostError> {
    let shown = path.display();
    let action = || format!("packing '{shown}' of the container");
    if stat_to_pack(root, path)?.is_none() {
        let message = format!("'{shown}' doesn't exist in the container");
        return Err(HostError::Source(message));
    }
    // A path that ends with `..` has no name that would be safe to unpack.
    let as_name = path.file_name().map_or(Path::new("."), Path::new);
    let (parent, name) = match path.parent() {
        Some(parent) if !names_directory(path) => (parent, as_name),
        _ => (path, Path::new(".")),
    };
    let parent = open_in_root(root, parent, Open::Directory)
        .map_err(|error| path_failure(path, error, action))?;
    if is_kernels(parent.as_fd()) {
        return Err(HostError::Source(format!(
            "'{shown}' lies in a file system of the kernel's, whose files have no size: read it \
             with a command in the container"
        )));
    }
    let packed = pack_tar(parent.as_fd(), name, as_name, to)
        .map_err(|error| path_failure(path, error, action))?;
    if packed.changed > 0 {
        let count = packed.changed;
        tracing::warn!(%shown, count, "files changed their size while they were packed");
    }
    Ok(())
}

/// Whether a path can only be a directory's (`path_resolution(7)`).
fn names_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none()
}

fn stat_to_pack(root: BorrowedFd<'_>, path: &Path) -> Result<Option<PathStat>, HostError> {
    let found = open_in_root(root, path, Open::HandleNoFollow);
    let socket = found
        .ok()
        .and_then(|found| rustix::fs::fstat(found).ok())
        .is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket);
    if socket {
        return Err(HostError::Source(format!(
            "'{}' is a socket, which no archive can hold",
            path.display()
        )));
    }
    stat(root, path)
}

/// Unpacks an archive in a directory.
///
/// # Errors
/// [`HostError::Source`] when there is no such directory, it can't be written to, or the archive is
/// refused; [`HostError::NoSpace`].
pub fn unpack(
    root: BorrowedFd<'_>,
    directory: &Path,
    from: &mut dyn Read,
    options: UnpackOptions,
) -> Result<(), HostError> {
    let shown = directory.display();
    let action = || format!("unpacking in '{shown}' of the container");
    let target = open_in_root(root, directory, Open::Directory)
        .map_err(|error| path_failure(directory, error, action))?;
    if is_kernels(target.as_fd()) {
        let message = format!("'{shown}' lies in a file system of the kernel's: nothing fits in");
        return Err(HostError::Source(message));
    }
    let flags = rustix::fs::fstatvfs(&target)
        .map_err(|errno| failed(action())(errno.into()))?
        .f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Err(HostError::Source(read_only(directory)));
    }
    let options = kleene_tree::UnpackOptions {
        owner: (!options.keep_owner).then_some((0, 0)),
        skip_devices: options.skip_devices,
        // How large a file claims to be costs nothing where quotas count what it occupies.
        max_holes: u64::MAX,
        ..kleene_tree::UnpackOptions::default()
    };
    let go_on = &mut |_| ControlFlow::Continue(());
    let unpacked = unpack_tar(from, target.as_fd(), &options, go_on)
        .map_err(|error| unpack_failure(directory, error, action))?;
    if unpacked.skipped_xattrs > 0 {
        let count = unpacked.skipped_xattrs;
        tracing::warn!(%shown, count, "extended attributes were left out: the file system has none");
    }
    Ok(())
}

/// The path's last component.
fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(OsStr::new("/"))
}

fn kind(stat: &Stat) -> PathKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => PathKind::File,
        FileType::Directory => PathKind::Directory,
        FileType::Symlink => PathKind::Symlink,
        _ => PathKind::Special,
    }
}

fn target(link: &OwnedFd) -> rustix::io::Result<String> {
    let target = rustix::fs::readlinkat(link, c"", Vec::new())?;
    Ok(OsStr::from_bytes(target.to_bytes())
        .to_string_lossy()
        .into_owned())
}

/// What a link leads to beneath the root.
fn end_of(root: BorrowedFd<'_>, path: &Path) -> Option<PathKind> {
    let end = open_in_root(root, path, Open::Handle).ok()?;
    rustix::fs::fstat(end).ok().as_ref().map(kind)
}

/// Permissions, and the bits beside them.
#[allow(
    clippy::useless_conversion,
    reason = "the raw mode's width differs between systems"
)]
fn mode(stat: &Stat) -> u32 {
    u32::from(stat.st_mode & 0o7777)
}

#[allow(
    clippy::useless_conversion,
    reason = "whether it has a sign differs between systems"
)]
fn modified(stat: &Stat) -> Timestamp {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let microseconds = seconds.saturating_mul(1_000_000);
    let fraction = u64::try_from(stat.st_mtime_nsec).unwrap_or(0) / 1000;
    Timestamp::from_microseconds(microseconds.saturating_add(fraction))
        .unwrap_or_else(Timestamp::now)
}

fn read_only(directory: &Path) -> String {
    format!(
        "'{}' of the container is read-only: choose a directory outside of read-only mounts",
        directory.display()
    )
}

/// What is wrong with a path that a user has given, or with reading it.
fn path_failure(path: &Path, error: TreeError, action: impl FnOnce() -> String) -> HostError {
    let shown = path.display();
    HostError::Source(match error {
        TreeError::NotFound { .. } => format!("'{shown}' doesn't exist in the container"),
        TreeError::NotADirectory { .. } => {
            format!("'{shown}' of the container isn't a directory, or lies beneath a file")
        }
        TreeError::LoopedLinks { .. } => format!(
            "'{shown}' of the container has links that lead in a circle, or to a process's files"
        ),
        TreeError::Io {
            step: Step::Opening,
            source,
            ..
        } if is_about_the_path(&source) => {
            format!("'{shown}' of the container can't be opened: {source}")
        }
        error => return failure(error, action()),
    })
}

/// Whether another path would have been opened.
fn is_about_the_path(error: &io::Error) -> bool {
    let errnos = [Errno::ACCESS, Errno::PERM, Errno::NAMETOOLONG, Errno::INVAL];
    let errnos = errnos.map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|errno| errnos.contains(&errno))
}

fn unpack_failure(
    directory: &Path,
    error: TreeError,
    action: impl FnOnce() -> String,
) -> HostError {
    if matches!(
        error,
        TreeError::Hostile { .. }
            | TreeError::NotAnArchive { .. }
            | TreeError::Truncated { .. }
            | TreeError::Exists { .. }
            | TreeError::IsADirectory { .. }
    ) {
        let shown = directory.display();
        return HostError::Source(format!("unpacking in '{shown}' failed: {error}"));
    }
    if error.raw_os_error() == Some(Errno::ROFS.raw_os_error()) {
        let entry = match &error {
            TreeError::Io { path, .. } => directory.join(path),
            _ => PathBuf::from(directory),
        };
        return HostError::Source(read_only(&entry));
    }
    failure(error, action())
}

fn failure(error: TreeError, action: String) -> HostError {
    match error {
        TreeError::NoSpace { .. } => HostError::NoSpace(action),
        error => HostError::Failed {
            action,
            source: Box::new(error),
        },
    }
}
