//! Leaves entries of a tree out.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::error::{Fault, InStep, Step, TreeError};
use crate::meta::Meta;
use crate::sys;

/// Whether an entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It does. What is in a directory is asked for on its own.
    Yes,
    /// It is left out, with everything in it.
    No,
    /// The directory is left out unless something in it is kept. The same as [`Keep::No`] for anything
    /// but a directory.
    Descend,
}

/// Decides of a path relative to the source's root, and whether it is a directory.
pub type Filter<'a> = &'a dyn Fn(&Path, bool) -> Keep;

/// Whether an entry of an open directory is kept. `path` is its path for the filter.
pub(crate) fn keeps(
    filter: Filter<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    path: &Path,
) -> Result<bool, TreeError> {
    let is_dir = match kind {
        FileType::Unknown => match Meta::at(dir, name) {
            Ok(meta) => meta.is_dir(),
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(Fault::new(Step::Reading, errno).at(path)),
        },
        kind => kind == FileType::Directory,
    };
    match filter(path, is_dir) {
        Keep::Yes => Ok(true),
        Keep::Descend if is_dir => match sys::open_dir(dir, name) {
            Ok(dir) => holds_kept(filter, dir, path),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            Err(errno) => Err(Fault::new(Step::Opening, errno).at(path)),
        },
        Keep::No | Keep::Descend => Ok(false),
    }
}

/// Whether something in a directory is kept.
pub(crate) fn holds_kept(filter: Filter<'_>, dir: OwnedFd, path: &Path) -> Result<bool, TreeError> {
    let mut left: Vec<(OwnedFd, PathBuf)> = vec![(dir, path.to_owned())];
    while let Some((dir, path)) = left.pop() {
        let failed = |fault: Fault| fault.at(&path);
        for entry in sys::entries(dir.as_fd())
            .step(Step::Reading)
            .map_err(failed)?
        {
            let path = path.join(OsStr::from_bytes(entry.name.to_bytes()));
            let is_dir = match entry.kind {
                FileType::Unknown => {
                    Meta::at(dir.as_fd(), &entry.name).is_ok_and(|meta| meta.is_dir())
                }
                kind => kind == FileType::Directory,
            };
            match filter(&path, is_dir) {
                Keep::Yes => return Ok(true),
                // One that has just gone away, or has become something else, holds nothing.
                Keep::Descend if is_dir => {
                    left.extend(sys::open_dir(&dir, &entry.name).ok().map(|dir| (dir, path)));
                }
                Keep::No | Keep::Descend => {}
            }
        }
    }
    Ok(false)
}
