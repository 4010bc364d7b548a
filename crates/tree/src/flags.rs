//! Flags of the file system by which files can't be changed or removed, not even by root: `schg` and its
//! like of chflags(1), `i` and `a` of chattr(1).

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// Takes such flags from an entry and from the directory that it is in. Whether it is worth trying again.
#[cfg(target_os = "freebsd")]
pub(crate) fn lift(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    use std::os::fd::AsRawFd;

    // SAFETY: the descriptor is open, and the name ends with a NUL byte.
    let entry =
        unsafe { libc::chflagsat(dir.as_raw_fd(), name.as_ptr(), 0, libc::AT_SYMLINK_NOFOLLOW) };
    // SAFETY: the descriptor is open.
    let directory = unsafe { libc::fchflags(dir.as_raw_fd(), 0) };
    entry == 0 || directory == 0
}

/// Takes such flags from an entry and from the directory that it is in. Whether it is worth trying again.
#[cfg(target_os = "linux")]
pub(crate) fn lift(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    use rustix::fs::{FileType, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, openat};

    use crate::meta::Meta;
    use crate::sys;

    let lift_from = |file: rustix::io::Result<std::os::fd::OwnedFd>| {
        let lifted = file.and_then(|file| {
            let flags = ioctl_getflags(&file)?;
            let kept = flags.difference(IFlags::IMMUTABLE | IFlags::APPEND);
            ioctl_setflags(&file, kept)?;
            Ok(kept != flags)
        });
        lifted.unwrap_or(false)
    };
    let directory = lift_from(sys::reopen(dir));
    // Others have no flags, and opening a device may do something.
    let has_flags = Meta::at(dir, name)
        .is_ok_and(|meta| matches!(meta.kind, FileType::RegularFile | FileType::Directory));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let entry = has_flags && lift_from(openat(dir, name, flags, Mode::empty()));
    directory || entry
}

/// Other systems' flags aren't known here.
#[cfg(not(any(target_os = "freebsd", target_os = "linux")))]
pub(crate) fn lift(_: BorrowedFd<'_>, _: &CStr) -> bool {
    false
}
