//! Removes trees without leaving them.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::vec;

use rustix::fs::{AtFlags, CWD, FileType, Mode};
use rustix::io::Errno;

use crate::error::{Fault, InStep, Step, TreeError};
use crate::flags;
use crate::meta::{Id, Meta};
use crate::place::Place;
use crate::sys::{self, Entry};

/// Directories of the walk that stay open; see the copy's constant of the same name.
const OPEN_LEVELS: usize = 64;

/// How often a directory that gets new entries while it is emptied is gone through again.
const ROUNDS: u32 = 16;

/// Removes the entry `name` of the directory `parent` with everything in it. Links aren't
/// followed. `Ok(false)` when there is no such entry. File flags that stand in the way (FreeBSD's `schg`
/// and the like) are cleared; `parent` keeps its own.
///
/// # Errors
/// [`TreeError::Locked`] for file flags that can't be cleared.
/// [`TreeError::MountInside`] when something is mounted on the entry or inside: nothing of the
/// mounted file system is touched, but what came before may be gone. [`TreeError::OutsideRoot`]
/// when `name` isn't a single name.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &Path) -> Result<bool, TreeError> {
    let outside = || TreeError::OutsideRoot {
        path: name.to_owned(),
    };
    let entry = sys::single_name(name).ok_or_else(outside)?;
    let place = Place::root();
    match remove_leaf_or_open(parent, &entry, FileType::Unknown, &place)? {
        Removed::Missing => Ok(false),
        Removed::Gone => Ok(true),
        Removed::Directory(dir) => {
            empty(dir, place.child(&entry), None)?;
            remove_dir(parent, &entry).map_err(|fault| mount_or(fault, name.to_owned()))?;
            Ok(true)
        }
    }
}

/// As [`remove_tree`] for a path on the host, whose parent directories are trusted.
pub fn remove_tree_at(path: &Path) -> Result<bool, TreeError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(TreeError::OutsideRoot {
            path: path.to_owned(),
        });
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let flags = sys::DIRECTORY.difference(rustix::fs::OFlags::NOFOLLOW);
    match rustix::fs::openat(CWD, parent, flags, Mode::empty()) {
        Ok(dir) => remove_tree(dir.as_fd(), Path::new(name)),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(TreeError::new(Step::Opening, parent, errno)),
    }
}

/// Removes everything in the directory but not the directory itself.
pub fn remove_contents(dir: BorrowedFd<'_>) -> Result<(), TreeError> {
    let dir = sys::reopen(dir)
        .step(Step::Opening)
        .map_err(|fault| fault.at("."))?;
    empty(dir, Place::root(), None).map(drop)
}

/// Says of an entry, by its directory and its name in there, whether it stays.
pub(crate) type Stays<'a> = &'a dyn Fn(Id, &CStr) -> bool;

/// Removes an entry with everything in it, but for what stays and the directories that it is in.
/// `path` is for errors alone.
pub(crate) fn remove_unless(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
    stays: Stays<'_>,
) -> Result<(), TreeError> {
    let failed = |fault: Fault| fault.at(path);
    let id = Meta::of(parent).step(Step::Reading).map_err(failed)?.id;
    let itself = stays(id, name);
    let place = Place::of(path.parent().unwrap_or(Path::new("")));
    let kind = match Meta::at(parent, name) {
        Ok(meta) => meta.kind,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed(Fault::new(Step::Reading, errno))),
    };
    if itself && kind != FileType::Directory {
        return Ok(());
    }
    let Removed::Directory(dir) = remove_leaf_or_open(parent, name, kind, &place)? else {
        return Ok(());
    };
    if empty(dir, place.child(name), Some(stays))? && !itself {
        remove_dir(parent, name).map_err(|fault| mount_or(fault, path.to_owned()))?;
    }
    Ok(())
}

/// Removes everything in an open directory, but for what stays and the directories that it is in.
/// `path` is for errors alone.
pub(crate) fn remove_contents_unless(
    dir: OwnedFd,
    path: &Path,
    stays: Stays<'_>,
) -> Result<(), TreeError> {
    empty(dir, Place::of(path), Some(stays)).map(drop)
}

struct Frame {
    fd: Option<OwnedFd>,
    id: Id,
    entries: vec::IntoIter<Entry>,
    place: Arc<Place>,
    /// The name in the directory above; the last part of `place`.
    name: std::ffi::CString,
    rounds: u32,
    /// The directory itself, or something in it, stays.
    stays: bool,
}

impl Frame {
    fn open(fd: OwnedFd, place: Arc<Place>, name: &CStr) -> Result<Self, TreeError> {
        let read = |fd: &OwnedFd| {
            let id = Meta::of(fd).step(Step::Reading)?.id;
            Ok((id, sys::entries(fd.as_fd()).step(Step::Reading)?))
        };
        let (id, entries) = read(&fd).map_err(|fault: Fault| fault.at(place.path()))?;
        let entries = entries.into_iter();
        Ok(Self {
            fd: Some(fd),
            id,
            entries,
            place,
            name: name.to_owned(),
            rounds: 0,
            stays: false,
        })
    }

    fn is_directory(&self, entry: &Entry) -> Result<bool, TreeError> {
        match (entry.kind, Meta::at(self.get()?, &entry.name)) {
            (FileType::Unknown, Ok(meta)) => Ok(meta.is_dir()),
            (kind, _) => Ok(kind == FileType::Directory),
        }
    }

    fn get(&self) -> Result<BorrowedFd<'_>, TreeError> {
        let closed = || TreeError::new(Step::Removing, self.place.path(), Errno::BADF);
        self.fd.as_ref().map(AsFd::as_fd).ok_or_else(closed)
    }
}

/// Empties an open directory, with a stack of its own instead of recursion. Whether it is empty now.
fn empty(dir: OwnedFd, place: Arc<Place>, stays: Option<Stays<'_>>) -> Result<bool, TreeError> {
    let mut stack = vec![Frame::open(dir, place, c".")?];
    let mut emptied = true;
    while let Some(frame) = stack.last_mut() {
        let Some(entry) = frame.entries.next() else {
            emptied = !frame.stays;
            leave(&mut stack)?;
            continue;
        };
        let entry_stays = stays.is_some_and(|stays| stays(frame.id, &entry.name));
        if entry_stays {
            frame.stays = true;
            if !frame.is_directory(&entry)? {
                continue;
            }
        }
        let removed = remove_leaf_or_open(frame.get()?, &entry.name, entry.kind, &frame.place)?;
        if let Removed::Directory(dir) = removed {
            let place = frame.place.child(&entry.name);
            let mut next = Frame::open(dir, place, &entry.name)?;
            next.stays = entry_stays;
            stack.push(next);
            let far_up = stack
                .len()
                .checked_sub(OPEN_LEVELS)
                .filter(|index| *index > 0);
            if let Some(frame) = far_up.and_then(|index| stack.get_mut(index)) {
                frame.fd = None;
            }
        }
    }
    Ok(emptied)
}

/// Removes the innermost directory, which should be empty by now; one that got new entries is
/// gone through again.
fn leave(stack: &mut Vec<Frame>) -> Result<(), TreeError> {
    let Some(mut frame) = stack.pop() else {
        return Ok(());
    };
    let Some(parent) = stack.last_mut() else {
        return Ok(());
    };
    if parent.fd.is_none() {
        let reopened = sys::reopen_parent(frame.get()?, parent.id)
            .map_err(|errno| TreeError::new(Step::Opening, parent.place.path(), errno))?;
        let changed = || TreeError::Changed {
            step: Step::Removing,
            path: parent.place.path(),
        };
        parent.fd = Some(reopened.ok_or_else(changed)?);
    }
    if frame.stays {
        parent.stays = true;
        return Ok(());
    }
    match remove_dir(parent.get()?, &frame.name) {
        Ok(()) => Ok(()),
        Err(Fault {
            errno: Errno::NOTEMPTY | Errno::EXIST,
            ..
        }) if frame.rounds < ROUNDS => {
            let again = sys::entries(frame.get()?)
                .map_err(|errno| TreeError::new(Step::Reading, frame.place.path(), errno))?;
            frame.entries = again.into_iter();
            frame.rounds += 1;
            stack.push(frame);
            Ok(())
        }
        Err(fault) => Err(mount_or(fault, frame.place.path())),
    }
}

enum Removed {
    /// There was nothing.
    Missing,
    /// It is gone now.
    Gone,
    /// It is a directory that must be emptied first.
    Directory(OwnedFd),
}

/// Unlinks an entry, or opens it if it is a directory.
fn remove_leaf_or_open(
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    place: &Place,
) -> Result<Removed, TreeError> {
    let failed = |fault: Fault| mount_or(fault, place.join(name));
    if matches!(kind, FileType::Directory | FileType::Unknown) {
        match sys::open_dir_same_mount(dir, name) {
            Ok(dir) => return Ok(Removed::Directory(dir)),
            Err(Errno::NOENT) => return Ok(Removed::Missing),
            Err(Errno::XDEV) => {
                return Err(TreeError::MountInside {
                    path: place.join(name),
                });
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => {}
            Err(errno) => {
                return Err(failed(Fault {
                    step: Step::Opening,
                    errno,
                }));
            }
        }
    }
    match flags::unlink(dir, name, AtFlags::empty()) {
        Ok(()) => Ok(Removed::Gone),
        Err(fault) => match fault.errno {
            Errno::NOENT => Ok(Removed::Missing),
            // It was replaced by a directory in the meantime.
            Errno::ISDIR if kind != FileType::Directory && kind != FileType::Unknown => {
                remove_leaf_or_open(dir, name, FileType::Directory, place)
            }
            _ => Err(failed(fault)),
        },
    }
}

fn remove_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Fault> {
    match flags::unlink(parent, name, AtFlags::REMOVEDIR) {
        Err(fault) if fault.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// `EBUSY` is what removing a mount point gives.
fn mount_or(fault: Fault, path: std::path::PathBuf) -> TreeError {
    if fault.errno == Errno::BUSY {
        TreeError::MountInside { path }
    } else {
        fault.at(path)
    }
}
