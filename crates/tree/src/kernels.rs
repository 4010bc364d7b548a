//! File systems in which the kernel shows and takes settings, devices and processes: what is there are no
//! files that could be copied.

use std::os::fd::BorrowedFd;

/// Whether a directory lies in such a file system: procfs, sysfs or control groups on Linux; devfs,
/// fdescfs, procfs, linprocfs and linsysfs on FreeBSD.
pub fn is_kernels(dir: BorrowedFd<'_>) -> bool {
    kind(dir).is_ok_and(|kind| kind.is_some())
}

/// Whether a directory lies in a file system that shows processes, and has links in it that lead
/// elsewhere than their text says, or to where a process sees it.
pub(crate) fn shows_processes(dir: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(kind(dir)? == Some(Kind::Processes))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Processes,
    Other,
}

/// `None`: an ordinary file system.
#[cfg(target_os = "linux")]
fn kind(dir: BorrowedFd<'_>) -> rustix::io::Result<Option<Kind>> {
    // See `statfs(2)` and `linux/magic.h`.
    const SYSFS: u32 = 0x6265_6572;
    const CGROUP: u32 = 0x0027_e0eb;
    const CGROUP2: u32 = 0x6367_7270;
    const PROCFS: u32 = 0x9fa0;
    let number = rustix::fs::fstatfs(dir)?.f_type;
    Ok(match u32::try_from(number) {
        Ok(PROCFS) => Some(Kind::Processes),
        Ok(SYSFS | CGROUP | CGROUP2) => Some(Kind::Other),
        _ => None,
    })
}

/// `None`: an ordinary file system.
#[cfg(target_os = "freebsd")]
fn kind(dir: BorrowedFd<'_>) -> rustix::io::Result<Option<Kind>> {
    Ok(match crate::sys::file_system_of(dir)?.as_slice() {
        b"procfs" | b"linprocfs" | b"fdescfs" => Some(Kind::Processes),
        b"devfs" | b"linsysfs" => Some(Kind::Other),
        _ => None,
    })
}

/// `None`: it isn't known what is the kernel's.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn kind(_: BorrowedFd<'_>) -> rustix::io::Result<Option<Kind>> {
    Ok(None)
}
