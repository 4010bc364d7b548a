//! File flags on FreeBSD.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::Stat;

use crate::sys::checked;

/// Whether there are any.
pub const HAS_FLAGS: bool = true;

pub fn flags(stat: &Stat) -> u32 {
    stat.st_flags
}

pub fn set(fd: BorrowedFd<'_>, flags: u32) -> rustix::io::Result<()> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::fchflags(fd.as_raw_fd(), flags.into()) };
    checked(result as isize).map(drop)
}

pub fn set_at(dir: BorrowedFd<'_>, name: &CStr, flags: u32) -> rustix::io::Result<()> {
    let follow = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: the name is a C string that outlives the call.
    let result = unsafe { libc::chflagsat(dir.as_raw_fd(), name.as_ptr(), flags.into(), follow) };
    checked(result as isize).map(drop)
}
