//! The mounts of a new container, made from inside its mount namespace, by descriptor.
//!
//! Every target is resolved beneath the container's root and then mounted on by its descriptor.
//! Between the two, another container that shares a volume may move directories around in it; the
//! mount then still lies in that volume, and is seen not to be where it was wanted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kleene_tree::{Open, create_dirs_in_root, create_file_in_root, open_in_root};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use crate::failure::{OrFail, Started, setup};
use crate::linux::dev;
use crate::linux::prepare::{Bind, NewContainer};
use crate::linux::root::set_tree_attributes;
use crate::proto::Jail;

/// Parts of `/proc` that tell about the host, or act on it, as Docker hides them.
pub(crate) const MASKED_IN_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
/// The same in `/sys`.
pub(crate) const MASKED_IN_SYS: [&str; 2] = ["firmware", "devices/virtual/powercap"];
/// Parts of `/proc` that may be read but not written.
pub(crate) const READ_ONLY_IN_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// No set-user-id programs, no devices, no programs at all.
pub(crate) const HARMLESS: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Makes the container's root the root of this mount namespace, and nothing else reachable in it.
///
/// The working directory serves as the place where the root is attached for a moment.
pub(crate) fn enter_root(root: &OwnedFd) -> Started<()> {
    let failed = || "making the container's root the root directory".to_owned();
    move_mount(
        root,
        c"",
        CWD,
        c".",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .or_fail(failed)?;
    rustix::process::fchdir(root).or_fail(failed)?;
    // The old root then lies on top of the new one, and is taken off: see pivot_root(2).
    rustix::process::pivot_root(c".", c".").or_fail(failed)?;
    unmount(c".", UnmountFlags::DETACH).or_fail(failed)?;
    rustix::process::chdir(c"/").or_fail(failed)
}

/// Makes all mounts of the container, whose root is the root directory already. Gives `/dev`, or what
/// serves for it.
pub(crate) fn populate(
    root: BorrowedFd<'_>,
    container: &NewContainer,
    jail: Jail,
) -> Started<OwnedFd> {
    let proc = mount_system(root, "proc", "proc", &[], HARMLESS)?;
    let read_only = HARMLESS | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let sys = mount_system(root, "sys", "sysfs", &[], read_only)?;
    let dev = match jail.devfs {
        true => dev::mount(root, container.shm_size)?,
        false => dev::nothing_but_null()?,
    };
    let own = [("/sys", &sys), ("/dev", &dev)];
    attach_binds(root, &container.binds, &own)?;
    for name in READ_ONLY_IN_PROC {
        make_read_only(proc.as_fd(), name).or_fail(|| format!("protecting /proc/{name}"))?;
    }
    if jail.devfs {
        hide_parts(&proc, &sys, &dev)?;
    } else {
        // Only of what is attached can copies be made. It is out of the way there: everything in
        // /proc has been opened.
        let failed = || "making a null device".to_owned();
        attach(&dev, &proc).or_fail(failed)?;
        hide_parts(&proc, &sys, &dev)?;
        unmount(c"/proc", UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).or_fail(failed)?;
    }
    Ok(dev)
}

/// Covers what is nobody's business in the container.
fn hide_parts(proc: &OwnedFd, sys: &OwnedFd, dev: &OwnedFd) -> Started<()> {
    let masks = Masks::new(dev.as_fd())?;
    for (directory, at, names) in [
        ("/proc", proc, &MASKED_IN_PROC[..]),
        ("/sys", sys, &MASKED_IN_SYS[..]),
    ] {
        for name in names {
            masks
                .hide(at.as_fd(), name)
                .or_fail(|| format!("hiding {directory}/{name}"))?;
        }
    }
    Ok(())
}

/// A new file system, not attached anywhere yet.
pub(crate) fn new_mount(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Attaches a detached tree to an open target.
pub(crate) fn attach(tree: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// A copy of the mount at an open file or directory, not attached anywhere yet.
pub(crate) fn copy_of(target: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(target, c"", flags)
}

/// Mounts a new file system of the kernel's on a directory in the root. Links aren't followed: the
/// container's `/proc` must be `/proc`.
pub(crate) fn mount_system(
    root: BorrowedFd<'_>,
    directory: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Started<OwnedFd> {
    let failed = || format!("mounting /{directory}");
    let mount = new_mount(kind, options, attributes).or_fail(failed)?;
    match rustix::fs::mkdirat(root, directory, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => {}
        other => other.or_fail(failed)?,
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::openat(root, directory, flags, Mode::empty()).map_err(|errno| {
        let hint = "it must be a directory in the image, not a link or a file";
        setup(format!("{} failed: {errno}: {hint}", failed()))
    })?;
    attach(&mount, &target).or_fail(failed)?;
    Ok(mount)
}

/// Attaches mounts in their order. Each must be seen at its destination in the end: by links in the
/// image, destinations that look unrelated may lie in one another, or be the same. None may be one of
/// the container's `own` mounts, given with their paths.
pub(crate) fn attach_binds(
    root: BorrowedFd<'_>,
    binds: &[Bind],
    own: &[(&str, &OwnedFd)],
) -> Started<()> {
    for (index, bind) in binds.iter().enumerate() {
        attach_bind(root, bind, own)?;
        for earlier in binds.iter().take(index) {
            if !is_seen(root, earlier).or_fail(|| "looking at the mounts".to_owned())? {
                let (hidden, by) = (&earlier.destination, &bind.destination);
                return Err(setup(format!(
                    "the mount at '{hidden}' is hidden by the one at '{by}': their destinations \
                     meet through a link in the image: give the real paths, each its own"
                )));
            }
        }
    }
    Ok(())
}

/// Attaches a mount's source to its destination, which is made when it is missing.
fn attach_bind(root: BorrowedFd<'_>, bind: &Bind, own: &[(&str, &OwnedFd)]) -> Started<()> {
    let failed = || format!("mounting {} on {}", bind.source, bind.destination);
    let refused = |reason: &str| setup(format!("{} failed: {reason}", failed()));
    let path = bind.destination.beneath();
    let target = if bind.is_directory {
        create_dirs_in_root(root, path, 0o755)
    } else {
        create_file_in_root(root, path, 0o644)
    };
    let target = target.or_fail(failed)?;
    // Whatever reads `/proc` in the container, now or when it joins, must read the kernel's.
    if is_in_proc(&target).or_fail(failed)? {
        return Err(refused("it lies in /proc, the kernel's own"));
    }
    // Processes that join find their devices and terminals there.
    for (name, mount) in own {
        if place(&target).or_fail(failed)? == place(mount).or_fail(failed)? {
            return Err(refused(&format!("it is {name}, the container's own")));
        }
    }
    if dev::is_in_pts(&target).or_fail(failed)? {
        return Err(refused("it lies in /dev/pts, the container's terminals"));
    }
    attach(&bind.tree, target).or_fail(failed)?;
    if is_seen(root, bind).or_fail(failed)? {
        Ok(())
    } else {
        Err(refused("the destination was moved meanwhile"))
    }
}

/// Whether the path of an attached mount's destination leads to the root of that very mount. One
/// source may be mounted more than once, so neither its inode nor the mount's id is enough.
fn is_seen(root: BorrowedFd<'_>, bind: &Bind) -> rustix::io::Result<bool> {
    let Ok(seen) = open_in_root(root, bind.destination.beneath(), Open::Handle) else {
        return Ok(false);
    };
    Ok(place(&seen)? == place(&bind.tree)?)
}

/// The id of the mount that an open file is in, its device and its inode.
fn place(file: &OwnedFd) -> rustix::io::Result<(u64, u64, u64)> {
    let stat = rustix::fs::fstat(file)?;
    let mount = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok((mount.stx_mnt_id, stat.st_dev, stat.st_ino))
}

/// Whether an open file is one of procfs.
pub(crate) fn is_in_proc(target: &OwnedFd) -> rustix::io::Result<bool> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    Ok(u64::try_from(rustix::fs::fstatfs(target)?.f_type) == Ok(PROC_SUPER_MAGIC))
}

/// Opens something in a file system that was just mounted; `None` when this kernel hasn't got it.
fn open_part(mount: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(mount, Path::new(name), flags, Mode::empty(), resolve) {
        Ok(part) => Ok(Some(part)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn make_read_only(mount: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let Some(part) = open_part(mount, name)? else {
        return Ok(());
    };
    let copy = copy_of(&part)?;
    set_tree_attributes(&copy, HARMLESS | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    attach(copy, part)
}

/// What hidden files and directories are covered with.
struct Masks {
    /// The container's own `/dev/null`, made a moment ago: by descriptor, so that nothing else can
    /// be in its place (CVE-2025-31133).
    null: OwnedFd,
}

impl Masks {
    fn new(dev: BorrowedFd<'_>) -> Started<Self> {
        let null = dev::open_null(dev).or_fail(|| "opening /dev/null".to_owned())?;
        Ok(Self { null })
    }

    fn hide(&self, mount: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
        let Some(part) = open_part(mount, name)? else {
            return Ok(());
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&part)?.st_mode);
        let cover = if kind == FileType::Directory {
            let read_only = HARMLESS | MountAttrFlags::MOUNT_ATTR_RDONLY;
            new_mount("tmpfs", &[("size", "4k"), ("nr_inodes", "1")], read_only)?
        } else {
            copy_of(&self.null)?
        };
        attach(cover, part)
    }
}
