//! An empty mount namespace, of which containers' namespaces are made.
//!
//! A new mount namespace is a copy of another. Copying the host's costs time for each mount there
//! is, and while the copy lives nobody can get rid of these file systems: "device is busy". So the
//! daemon makes one namespace with nothing in it, keeps it by a descriptor, and containers begin
//! as copies of that.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount,
    unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::linux::mounts::{HARMLESS, new_mount};

/// The one directory in the namespace: where a container's root is attached at first.
const PLACE: &str = "root";

/// Makes the namespace. The descriptor is all that keeps it.
///
/// # Errors
/// Those of `unshare(2)` and of the mounts.
pub fn empty_mount_namespace() -> io::Result<OwnedFd> {
    // Namespaces are a thread's own, and this thread has no other use.
    let thread = thread::Builder::new().name("nursery".to_owned());
    let made = thread.spawn(|| make().map_err(io::Error::from))?.join();
    made.unwrap_or_else(|_| Err(io::Error::other("the thread that makes it has failed")))
}

fn make() -> rustix::io::Result<OwnedFd> {
    // SAFETY: what this thread shares no longer with others are root, working directory and umask,
    // and it doesn't hand any of them on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
    // Nothing that happens here may show up on the host.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let own = c"/proc/thread-self/ns/mnt";
    let namespace = rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let read_only = HARMLESS | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let nothing = new_mount("tmpfs", &[("size", "4k"), ("mode", "700")], HARMLESS)?;
    rustix::fs::mkdirat(&nothing, PLACE, Mode::from_raw_mode(0o700))?;
    crate::linux::root::set_tree_attributes(&nothing, read_only)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&nothing, c"", rustix::fs::CWD, c"/proc", flags)?;
    rustix::process::fchdir(&nothing)?;
    rustix::process::pivot_root(c".", c".")?;
    unmount(c".", UnmountFlags::DETACH)?;
    Ok(namespace)
}

/// Moves the calling thread into a copy of the namespace (and into `other` new ones), and its
/// working directory to the place for a container's root. The thread must have a root and working
/// directory of its own: see `CLONE_FS` in `unshare(2)`.
///
/// # Errors
/// Those of `setns(2)` and `unshare(2)`.
pub fn enter_copy(namespace: &OwnedFd, other: UnshareFlags) -> rustix::io::Result<()> {
    let kind = Some(LinkNameSpaceType::Mount);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind)?;
    // SAFETY: only what setns(2) has found not to be shared is changed.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | other) }?;
    rustix::process::chdir(PLACE)
}
