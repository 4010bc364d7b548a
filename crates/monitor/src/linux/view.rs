//! A container's root and the sources of its mounts, laid out in directories for an outside runtime.
//!
//! An outside runtime takes paths. In a mount namespace of its own it gets those of trees that the
//! monitor has opened, and nobody else sees them there. The namespace ends with the runtime's
//! program: the container has one that was made of it, without the host's mounts.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::thread::UnshareFlags;

use crate::failure::{OrFail, Started};
use crate::linux::mounts::attach_binds;
use crate::linux::prepare::Bind;
use crate::user::{self, Identity};

/// Where the root is, in the working directory.
pub(crate) const ROOT: &str = "rootfs";

/// Where users are looked up.
const VIEW: &str = "view";

/// File systems of the container's own: an outside runtime mounts them, nothing is made beneath
/// their directories in the image.
const SYSTEM: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where the source of a container's mount is, in the working directory.
pub(crate) fn source(index: usize) -> String {
    format!("mount-{index}")
}

/// Moves the calling process into a new mount namespace, and attaches everything in its working
/// directory there.
pub(crate) fn lay_out(root: &OwnedFd, binds: &[Bind]) -> Started<()> {
    // SAFETY: the only thread of a process that shares no memory.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .or_fail(|| "making a mount namespace".to_owned())?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).or_fail(|| "making the mount namespace private".to_owned())?;
    attach_at(root, ROOT, true).or_fail(|| "attaching the container's root".to_owned())?;
    for (index, bind) in binds.iter().enumerate() {
        attach_at(&bind.tree, &source(index), bind.is_directory)
            .or_fail(|| format!("mounting {}", bind.source))?;
    }
    Ok(())
}

/// Finds out whom `user` means in the container that was laid out: by files that its mounts may
/// cover. Makes the mounts' destinations, if they are missing.
pub(crate) fn look_up(root: &OwnedFd, binds: &[Bind], user: &str) -> Started<Identity> {
    let failed = || "looking at the container's users".to_owned();
    let view = copy_of_all(root).or_fail(failed)?;
    attach_at(&view, VIEW, true).or_fail(failed)?;
    let in_system = |bind: &&Bind| {
        let path = bind.destination.to_string();
        SYSTEM
            .iter()
            .any(|system| Path::new(&path).starts_with(system))
    };
    let copies = binds
        .iter()
        .filter(|bind| !in_system(bind))
        .map(|bind| {
            Ok(Bind {
                source: bind.source.clone(),
                destination: bind.destination.clone(),
                tree: copy_of_all(&bind.tree)?,
                ..*bind
            })
        })
        .collect::<rustix::io::Result<Vec<Bind>>>()
        .or_fail(failed)?;
    attach_binds(view.as_fd(), &copies, &[])?;
    let identity = user::resolve(view.as_fd(), user)?;
    unmount(VIEW, UnmountFlags::DETACH).or_fail(failed)?;
    Ok(identity)
}

/// Attaches a detached tree at a new name in the working directory.
fn attach_at(tree: &OwnedFd, name: &str, is_directory: bool) -> rustix::io::Result<()> {
    if is_directory {
        rustix::fs::mkdir(name, Mode::from_raw_mode(0o700))?;
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(rustix::fs::open(name, flags, Mode::from_raw_mode(0o600))?);
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, c"", CWD, name, flags)
}

/// A detached copy of an attached mount, with everything that is mounted further down.
fn copy_of_all(target: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(target, c"", flags)
}
