//! File flags as the BSDs have them (`chflags(2)`): immutable, append-only, not to be unlinked and so on.
//!
//! FreeBSD's base system has them on a few files (`/sbin/init`, `/lib/libc.so.7`, `/var/empty`). Copies
//! keep them. Whoever removes or replaces an entry that has them takes them away first, which root may
//! as long as `kern.securelevel` isn't above 0. Elsewhere nothing has flags, and none are set.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(not(target_os = "freebsd"))]
mod none;

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Fault, InStep, Step};
use crate::meta::Meta;
#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(not(target_os = "freebsd"))]
use none as system;

/// The flags that copies keep, by the names of `strtofflags(3)`, the usual one first.
///
/// Left out is what the file system sets by itself and describes how it holds a file: `uarch`, `sparse`,
/// `offline`, `reparse`, `snapshot`.
const NAMES: [(&str, u32); 22] = [
    ("nodump", 0x1),
    ("uchg", 0x2),
    ("uchange", 0x2),
    ("uimmutable", 0x2),
    ("uappnd", 0x4),
    ("uappend", 0x4),
    ("opaque", 0x8),
    ("uunlnk", 0x10),
    ("uunlink", 0x10),
    ("system", 0x80),
    ("usystem", 0x80),
    ("rdonly", 0x1000),
    ("readonly", 0x1000),
    ("hidden", 0x8000),
    ("arch", 0x1_0000),
    ("archived", 0x1_0000),
    ("schg", 0x2_0000),
    ("schange", 0x2_0000),
    ("simmutable", 0x2_0000),
    ("sappnd", 0x4_0000),
    ("sappend", 0x4_0000),
    ("sunlnk", 0x10_0000),
];

/// Those that stand in the way of changing, renaming or unlinking an entry: immutable, append-only, not to
/// be unlinked, read-only.
const BLOCKING: u32 = 0x2 | 0x4 | 0x10 | 0x1000 | 0x2_0000 | 0x4_0000 | 0x10_0000;

/// An entry's flags, as far as copies keep them.
pub(crate) fn kept(stat: &Stat) -> u32 {
    let known = NAMES.iter().fold(0, |known, (_, flag)| known | flag);
    system::flags(stat) & known
}

/// The names of flags, with commas between, as archives have them.
pub(crate) fn names(flags: u32) -> String {
    let (mut left, mut names) = (flags, Vec::new());
    for (name, flag) in NAMES {
        if left & flag != 0 {
            left &= !flag;
            names.push(name);
        }
    }
    names.join(",")
}

/// The flags of these names. Unknown ones, and those that copies don't keep, count for nothing.
pub(crate) fn parse(text: &[u8]) -> u32 {
    let separators = |byte: &u8| b", \t".contains(byte);
    text.split(separators).fold(0, |flags, name| {
        let known = NAMES.iter().find(|(known, _)| known.as_bytes() == name);
        flags | known.map_or(0, |(_, flag)| *flag)
    })
}

/// Gives an open file these flags, and no others that copies keep. Gives 1 when it can't have all of
/// them: because of its file system, or because we are in a jail that may not set them.
pub(crate) fn set(fd: impl AsFd, flags: u32) -> Result<u64, Fault> {
    let fd = fd.as_fd();
    if !system::HAS_FLAGS {
        return Ok(0);
    }
    let now = rustix::fs::fstat(fd).step(Step::SettingFlags)?;
    if kept(&now) == flags {
        return Ok(0);
    }
    set_by(flags, |flags| system::set(fd, flags))
}

/// As [`set`], for an entry that has none so far. It isn't followed if it is a link.
pub(crate) fn set_at(dir: BorrowedFd<'_>, name: &CStr, flags: u32) -> Result<u64, Fault> {
    if flags == 0 || !system::HAS_FLAGS {
        return Ok(0);
    }
    set_by(flags, |flags| system::set_at(dir, name, flags))
}

fn set_by(flags: u32, set: impl Fn(u32) -> rustix::io::Result<()>) -> Result<u64, Fault> {
    let cannot = |errno| matches!(errno, Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM);
    match set(flags) {
        Ok(()) => return Ok(0),
        Err(errno) if cannot(errno) => {}
        Err(errno) => return Err(Fault::new(Step::SettingFlags, errno)),
    }
    // One by one, so that it gets at least those that it can have.
    let mut held = 0;
    for flag in (0..u32::BITS).map(|bit| 1 << bit) {
        if flags & flag != 0 {
            match set(held | flag) {
                Ok(()) => held |= flag,
                Err(errno) if cannot(errno) => {}
                Err(errno) => return Err(Fault::new(Step::SettingFlags, errno)),
            }
        }
    }
    Ok(1)
}

/// Takes flags away that stand in the way of changing an entry; gives all that it had. `None` when there
/// were no such flags.
fn unlock_at(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<Option<u32>> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let flags = system::flags(&stat);
    if flags & BLOCKING == 0 {
        return Ok(None);
    }
    system::set_at(dir, name, flags & !BLOCKING)?;
    Ok(Some(flags))
}

/// Does something to an open file that its flags may stand in the way of; they are gone then.
pub(crate) fn despite<T>(
    fd: BorrowedFd<'_>,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match call() {
        Err(Errno::PERM) => {}
        other => return other,
    }
    let flags = system::flags(&rustix::fs::fstat(fd)?);
    if flags & BLOCKING == 0 {
        return Err(Errno::PERM);
    }
    system::set(fd, flags & !BLOCKING)?;
    call()
}

/// Creates or removes something in a directory whose flags may stand in the way. It has them again
/// afterwards.
pub(crate) fn inside<T>(
    dir: BorrowedFd<'_>,
    mut call: impl FnMut() -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match call() {
        Err(Errno::PERM) => {}
        other => return other,
    }
    let Some(flags) = unlock_at(dir, c".")? else {
        return Err(Errno::PERM);
    };
    let result = call();
    system::set_at(dir, c".", flags)?;
    result
}

/// Unlinks an entry, whichever flags it or its directory has; other names of it keep them. That of a directory without
/// [`AtFlags::REMOVEDIR`] fails with `EISDIR` on every system.
pub(crate) fn unlink(dir: BorrowedFd<'_>, name: &CStr, how: AtFlags) -> Result<(), Fault> {
    let unlink = || rustix::fs::unlinkat(dir, name, how);
    match unlink() {
        Err(Errno::PERM) => {}
        other => return other.step(Step::Removing),
    }
    // POSIX says EPERM where Linux says EISDIR.
    let meta = Meta::at(dir, name).step(Step::Removing)?;
    if meta.is_dir() && !how.contains(AtFlags::REMOVEDIR) {
        return Err(Fault::new(Step::Removing, Errno::ISDIR));
    }
    let others = open_linked(dir, name, &meta);
    let Some(flags) = unlock_at(dir, name).step(Step::ClearingFlags)? else {
        return inside(dir, unlink).step(Step::Removing);
    };
    let unlinked = inside(dir, unlink).step(Step::Removing);
    if let Some(file) = others {
        system::set(file.as_fd(), flags).step(Step::SettingFlags)?;
    }
    unlinked
}

/// A file that has other names, too: under these it keeps its flags. `None` as well when it can't be
/// opened, which is no reason to keep it.
fn open_linked(dir: BorrowedFd<'_>, name: &CStr, meta: &Meta) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let linked = meta.kind == FileType::RegularFile && meta.links > 1;
    let file = linked.then(|| rustix::fs::openat(dir, name, flags, Mode::empty()));
    file?.ok()
}

/// Makes a hard link to an entry whose flags may stand in the way; it has them again afterwards.
pub(crate) fn link(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
) -> rustix::io::Result<()> {
    // Without AT_SYMLINK_FOLLOW: a hard link to a symbolic link is one more name of that.
    let link = || rustix::fs::linkat(from, name, to, new_name, AtFlags::empty());
    match link() {
        Err(Errno::PERM) => {}
        other => return other,
    }
    let Some(flags) = unlock_at(from, name)? else {
        return Err(Errno::PERM);
    };
    let linked = link();
    system::set_at(from, name, flags)?;
    linked
}

/// Renames an entry whose flags may stand in the way; it has them again afterwards.
pub(crate) fn renamed(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    new_name: &CStr,
    rename: impl Fn() -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    match rename() {
        Err(Errno::PERM) => {}
        other => return other,
    }
    let Some(flags) = unlock_at(from, name)? else {
        return Err(Errno::PERM);
    };
    match rename() {
        Ok(()) => system::set_at(to, new_name, flags),
        Err(errno) => {
            system::set_at(from, name, flags)?;
            Err(errno)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names() {
        assert_eq!(names(0), "");
        assert_eq!(names(0x2_0000 | 0x1), "nodump,schg");
        for (name, flag) in NAMES {
            assert_eq!(parse(name.as_bytes()), flag);
            assert_eq!(parse(names(flag).as_bytes()), flag);
        }
        assert_eq!(parse(b"schg,uarch,noschg sunlnk\tx,"), 0x12_0000);
        assert_eq!(parse(b""), 0);
    }
}
