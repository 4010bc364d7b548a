//! Systems without file flags, or with flags of another kind.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;
use rustix::io::Errno;

/// Whether there are any.
pub const HAS_FLAGS: bool = false;

pub fn flags(_: &Stat) -> u32 {
    0
}

pub fn set(_: BorrowedFd<'_>, _: u32) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

pub fn set_at(_: BorrowedFd<'_>, _: &CStr, _: u32) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}
