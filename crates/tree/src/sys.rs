//! The system calls whose form differs between systems, and small helpers around the others.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

#[cfg(target_os = "linux")]
use rustix::fs::RenameFlags;
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::meta::{Id, Meta};
#[cfg(not(target_os = "linux"))]
use crate::place::Place;

/// How directories are opened for reading.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A descriptor that only names an inode.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(crate) const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
/// A descriptor that only names an inode, as near as the system has it.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(crate) const HANDLE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// A directory's entry as `readdir` tells it.
pub(crate) struct Entry {
    pub name: CString,
    /// May be [`FileType::Unknown`].
    pub kind: FileType,
}

/// Opens the entry `name`, which must be a directory and no link to one.
pub(crate) fn open_dir(parent: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, DIRECTORY, Mode::empty())
}

/// Opens what a handle names.
#[cfg(target_os = "linux")]
pub(crate) fn open_again(handle: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    rustix::fs::open(path, flags, Mode::empty())
}

/// Opens what a handle names.
#[cfg(target_os = "freebsd")]
pub(crate) fn open_again(handle: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(handle, c"", flags | OFlags::EMPTY_PATH, Mode::empty())
}

/// Opens the same directory again for reading: what the caller gave may be an `O_PATH` descriptor,
/// and shares its offset with others.
pub(crate) fn reopen(dir: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    open_dir(dir, c".")
}

/// Opens the parent of a directory, which must be the one it was when the walk came through.
/// `Ok(None)` says that it isn't.
pub(crate) fn reopen_parent(child: BorrowedFd<'_>, id: Id) -> rustix::io::Result<Option<OwnedFd>> {
    let parent = open_dir(child, c"..")?;
    Ok((Meta::of(&parent)?.id == id).then_some(parent))
}

/// All entries of a directory but `.` and `..`.
pub(crate) fn entries(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            found.push(Entry {
                name: name.to_owned(),
                kind: entry.file_type(),
            });
        }
    }
    Ok(found)
}

/// Checks that `name` is one plain name, and makes it fit for system calls.
pub(crate) fn single_name(name: &Path) -> Option<CString> {
    let mut components = name.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => c_name(name),
        _ => None,
    }
}

/// The name as a C string; `None` when there is a NUL byte in it.
pub(crate) fn c_name(name: &OsStr) -> Option<CString> {
    CString::new(name.as_bytes()).ok()
}

/// Opens a directory below `parent`, refusing links and (with `EXDEV`) mounts.
#[cfg(target_os = "linux")]
pub(crate) fn open_dir_same_mount(
    parent: BorrowedFd<'_>,
    name: &CStr,
) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(parent, name, DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => open_dir_same_device(parent, name),
        // NO_SYMLINKS says ELOOP where O_DIRECTORY|O_NOFOLLOW says ENOTDIR.
        Err(Errno::LOOP) => Err(Errno::NOTDIR),
        other => other,
    }
}

/// Opens a directory below `parent`, refusing links and (with `EXDEV`) mounts.
#[cfg(not(target_os = "linux"))]
pub(crate) fn open_dir_same_mount(
    parent: BorrowedFd<'_>,
    name: &CStr,
) -> rustix::io::Result<OwnedFd> {
    open_dir_same_device(parent, name)
}

/// Opens the directory that these names lead to from `root`, refusing links and (with `EXDEV`)
/// mounts. The whole path may be longer than the system's limit.
pub(crate) fn open_chain(root: BorrowedFd<'_>, names: &[&CStr]) -> rustix::io::Result<OwnedFd> {
    open_chain_by(root, names, open_dir_same_mount)
}

/// As [`open_chain`], but mounts are no obstacle.
pub(crate) fn open_chain_across(
    root: BorrowedFd<'_>,
    names: &[&CStr],
) -> rustix::io::Result<OwnedFd> {
    open_chain_by(root, names, open_dirs)
}

fn open_chain_by(
    root: BorrowedFd<'_>,
    names: &[&CStr],
    open: impl Fn(BorrowedFd<'_>, &CStr) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    let mut dir = reopen(root)?;
    let mut rest = names;
    while !rest.is_empty() {
        let (taken, path) = first_names(rest);
        dir = open(dir.as_fd(), &path)?;
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(dir)
}

/// As many names as may be opened in one step, and the path that they make.
#[cfg(target_os = "linux")]
fn first_names(names: &[&CStr]) -> (usize, CString) {
    /// Less than `PATH_MAX`, and room for one more name.
    const LONGEST: usize = 3500;
    let mut path = Vec::new();
    let mut taken = 0;
    for name in names {
        if taken > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        taken += 1;
        if path.len() > LONGEST {
            break;
        }
    }
    (taken, CString::new(path).unwrap_or_default())
}

/// As many names as may be opened in one step, and the path that they make.
#[cfg(not(target_os = "linux"))]
fn first_names(names: &[&CStr]) -> (usize, CString) {
    let first = names.first().map(|name| (*name).to_owned());
    (1, first.unwrap_or_default())
}

/// Opens a directory below `parent`, refusing links.
#[cfg(target_os = "linux")]
fn open_dirs(parent: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(parent, path, DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::NOSYS) => open_dirs_one_by_one(parent, path),
        other => other,
    }
}

/// Opens a directory below `parent`, refusing links.
#[cfg(not(target_os = "linux"))]
fn open_dirs(parent: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<OwnedFd> {
    open_dirs_one_by_one(parent, path)
}

fn open_dirs_one_by_one(parent: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<OwnedFd> {
    let mut dir = None;
    for name in path.to_bytes().split(|byte| *byte == b'/') {
        let name = CString::new(name).unwrap_or_default();
        let above = dir.as_ref().map_or(parent, AsFd::as_fd);
        dir = Some(open_dir(above, &name)?);
    }
    dir.ok_or(Errno::NOENT)
}

/// As [`open_dir_same_mount`], name by name where `path` has several.
fn open_dir_same_device(parent: BorrowedFd<'_>, path: &CStr) -> rustix::io::Result<OwnedFd> {
    let (device, _) = Meta::of(parent)?.id;
    let mut dir = None;
    for name in path.to_bytes().split(|byte| *byte == b'/') {
        let name = CString::new(name).unwrap_or_default();
        let above = dir.as_ref().map_or(parent, AsFd::as_fd);
        let next = open_dir(above, &name)?;
        if Meta::of(&next)?.id.0 != device {
            return Err(Errno::XDEV);
        }
        dir = Some(next);
    }
    dir.ok_or(Errno::NOENT)
}

/// Whether making a node fails like this because the system, or a jail, has no such nodes outside of its
/// file system for devices: see `mknod(2)` of FreeBSD, where devices appear in devfs alone and sockets are
/// made by `bind(2)`.
pub(crate) fn cannot_make(kind: FileType, errno: Errno) -> bool {
    let refused = matches!(errno, Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM);
    cfg!(not(target_os = "linux")) && kind != FileType::Fifo && refused
}

/// Renames without replacing: `EEXIST` when `to` has such an entry. File systems that can't do it
/// at once (zfs-fuse), and systems (FreeBSD), get a check before the renaming: there an entry that
/// somebody makes in between is replaced.
pub(crate) fn rename_no_replace(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> rustix::io::Result<()> {
    match try_rename_no_replace(from, name, to, new_name) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match Meta::at(to, new_name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, new_name),
            Err(other) => Err(other),
        },
        other => other,
    }
}

#[cfg(target_os = "linux")]
fn try_rename_no_replace(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> rustix::io::Result<()> {
    rustix::fs::renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE)
}

#[cfg(not(target_os = "linux"))]
fn try_rename_no_replace(
    _: BorrowedFd<'_>,
    _: &CStr,
    _: BorrowedFd<'_>,
    _: &CStr,
) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

/// Makes a directory with everything in it durable, and perhaps more than that.
#[cfg(target_os = "linux")]
pub(crate) fn sync_tree(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::syncfs(dir)
}

/// Makes a directory with everything in it durable, and perhaps more than that.
///
/// There is no `syncfs`, and `sync` doesn't wait (`sync(2)`, which begins with all at once): so each file
/// and directory is waited for. ZFS alone has written its log when `sync` is done.
#[cfg(not(target_os = "linux"))]
pub(crate) fn sync_tree(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::fs::sync();
    #[cfg(target_os = "freebsd")]
    if file_system_of(dir)? == b"zfs" {
        return rustix::fs::fsync(dir);
    }
    let mut left = vec![Place::root()];
    while let Some(place) = left.pop() {
        let dir = open_chain_across(dir, &place.names())?;
        for Entry { name, kind } in entries(dir.as_fd())? {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match kind {
                FileType::RegularFile => {
                    rustix::fs::fsync(rustix::fs::openat(&dir, &name, flags, Mode::empty())?)?;
                }
                FileType::Directory => left.push(place.child(&name)),
                // Links, nodes and names are their directory's.
                _ => {}
            }
        }
        rustix::fs::fsync(&dir)?;
    }
    Ok(())
}

/// The name of the file system that a file lies in: `ufs`, `zfs`, `devfs`…
#[cfg(target_os = "freebsd")]
pub(crate) fn file_system_of(fd: impl AsFd) -> rustix::io::Result<Vec<u8>> {
    let name = rustix::fs::fstatfs(fd)?.f_fstypename;
    let name = name.iter().map(|byte| byte.cast_unsigned());
    Ok(name.take_while(|byte| *byte != 0).collect())
}

/// Makes the directory's own entries durable. File systems that can't sync a directory sync it
/// with everything else.
pub(crate) fn sync_dir(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match rustix::fs::fsync(dir) {
        Err(Errno::INVAL | Errno::NOSYS) => sync_tree(dir),
        other => other,
    }
}

/// Copies part of a file to the same place in another one, and may share its blocks. Gives how much that
/// was.
#[cfg(target_os = "linux")]
pub(crate) fn copy_file_range(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    position: u64,
    length: usize,
) -> rustix::io::Result<usize> {
    let (mut read_at, mut write_at) = (position, position);
    rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)
}

/// Copies part of a file to the same place in another one, and may share its blocks. Gives how much that
/// was.
#[cfg(target_os = "freebsd")]
pub(crate) fn copy_file_range(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    position: u64,
    length: usize,
) -> rustix::io::Result<usize> {
    use std::os::fd::AsRawFd;
    let position = libc::off_t::try_from(position).map_err(|_| Errno::OVERFLOW)?;
    let (mut read_at, mut write_at) = (position, position);
    // SAFETY: the kernel reads and writes the two positions, which outlive the call.
    let copied = unsafe {
        libc::copy_file_range(
            from.as_raw_fd(),
            &raw mut read_at,
            to.as_raw_fd(),
            &raw mut write_at,
            length,
            0,
        )
    };
    checked(copied)
}

/// What a system call of the C library's gave: an error is less than 0.
#[cfg(target_os = "freebsd")]
pub(crate) fn checked(result: isize) -> rustix::io::Result<usize> {
    usize::try_from(result).map_err(|_| {
        let error = std::io::Error::last_os_error();
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}

/// A name as a path, for errors.
pub(crate) fn shown(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}
