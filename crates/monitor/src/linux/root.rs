//! Roots of containers as *detached* mount trees.
//!
//! A detached tree is known by a file descriptor alone: it appears in nobody's mount table, and it
//! is gone with the last descriptor, whatever becomes of the process that held it. See
//! `open_tree(2)`, `fsopen(2)`, `mount_setattr(2)`, and the kernel's `filesystems/overlayfs.rst`.
//!
//! Data comes first: overlays are never mounted `volatile`, so what a container has written and
//! synced survives a power failure.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use kleene_doors::storage::Root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, open_tree,
};

/// Longest text that `fsconfig(2)` takes, without its NUL.
const LONGEST_VALUE: usize = 255;

/// What every mount of a root gets: an image may hold device nodes, and must not reach devices
/// through them. Containers find theirs on a `/dev` of their own.
const ATTRIBUTES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;

/// Why a root can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A directory that the root is made of is missing, or isn't a directory.
    #[error("opening the directory {path:?} of the container's root failed")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The directory can't be made a mount tree of its own.
    #[error("binding the container's root {path:?} failed")]
    Bind {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses the overlay.
    #[error("mounting the overlay of the container's root {path:?} failed{reason}")]
    Overlay {
        /// The writable layer, or the topmost one.
        path: PathBuf,
        /// What the kernel says of it, with a `: ` before it, or empty.
        reason: String,
        /// The system call's error.
        #[source]
        source: io::Error,
    },
    /// The kernel doesn't know the system call.
    #[error("this kernel lacks {0}: Linux 5.12 or newer is needed")]
    Kernel(&'static str),
}

/// Opens a container's root for use: a detached tree that is writable, private (no mount made in it
/// propagates to the host) and without device nodes.
///
/// # Errors
/// When a directory is missing or the kernel refuses the mount.
pub fn open_root(root: &Root) -> Result<OwnedFd, RootError> {
    match root {
        Root::Directory { path } => bind(path, ATTRIBUTES),
        Root::Overlay { lower, upper, work } => {
            let lower: Vec<&Path> = lower.iter().map(PathBuf::as_path).collect();
            overlay(&lower, Some((upper, work)), ATTRIBUTES)
        }
    }
}

/// Opens a container's root for looking: as [`open_root`], but nothing in it can be changed through
/// the descriptor. Costs no flush of the writable layer when it is closed.
///
/// # Errors
/// As [`open_root`].
pub fn open_root_read_only(root: &Root) -> Result<OwnedFd, RootError> {
    let attributes = ATTRIBUTES | MountAttrFlags::MOUNT_ATTR_RDONLY;
    match root {
        Root::Directory { path } => bind(path, attributes),
        Root::Overlay { lower, upper, .. } => {
            let layers: Vec<&Path> = std::iter::once(upper).chain(lower).map(|p| &**p).collect();
            overlay(&layers, None, attributes)
        }
    }
}

/// Sets attributes on every mount of a detached tree, and makes them all private.
///
/// # Errors
/// `ENOSYS` before Linux 5.12, and those of `mount_setattr(2)`.
pub fn set_tree_attributes(tree: impl AsFd, set: MountAttrFlags) -> rustix::io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: u64::from(set.bits()),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the descriptor is open for the whole call, the path is an empty C string, and the
    // kernel reads exactly the given size of the structure and keeps no pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// Opens a directory only to name it.
fn open_directory(path: &Path) -> Result<OwnedFd, RootError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| RootError::Open {
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// A private copy of the mount tree at a directory.
fn bind(path: &Path, attributes: MountAttrFlags) -> Result<OwnedFd, RootError> {
    let failed = |call| {
        move |errno| match errno {
            Errno::NOSYS => RootError::Kernel(call),
            errno => RootError::Bind {
                path: path.to_owned(),
                source: errno.into(),
            },
        }
    };
    let directory = open_directory(path)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&directory, c"", flags).map_err(failed("open_tree(2)"))?;
    set_tree_attributes(&tree, attributes).map_err(failed("mount_setattr(2)"))?;
    Ok(tree)
}

/// An overlay of `lower` (the topmost first) and, when it is to be written to, the upper and work
/// directories.
///
/// The kernel gets the layers as `/proc/self/fd/N`: whatever characters their paths hold, and
/// however long they are, it can't misread them, and containers don't see the host's paths in
/// their mount table.
fn overlay(
    lower: &[&Path],
    writable: Option<(&PathBuf, &PathBuf)>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, RootError> {
    let layers = open_layers(lower)?;
    let writable = match writable {
        Some((upper, work)) => Some((open_directory(upper)?, open_directory(work)?, upper)),
        None => None,
    };
    let top = writable.as_ref().map(|(_, _, upper)| upper.as_path());
    let top = top.or(lower.first().copied()).unwrap_or(Path::new(""));

    let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| match errno {
        Errno::NOSYS => RootError::Kernel("fsopen(2)"),
        errno => RootError::Overlay {
            path: top.to_owned(),
            reason: no_overlay(errno),
            source: errno.into(),
        },
    })?;
    let configure = || {
        set_lower(&context, &layers)?;
        if let Some((upper, work, _)) = &writable {
            fsconfig_set_string(&context, c"upperdir", proc_path(upper))?;
            fsconfig_set_string(&context, c"workdir", proc_path(work))?;
        }
        // Whatever this kernel's defaults are: a layer must mean the same wherever it is stacked,
        // with files whole in it, since layers are copied, snapshot and shared one by one.
        fsconfig_set_string(&context, c"index", c"off")?;
        fsconfig_set_string(&context, c"metacopy", c"off")?;
        fsconfig_set_string(&context, c"redirect_dir", c"nofollow")?;
        if writable.is_none() {
            fsconfig_set_flag(&context, c"ro")?;
        }
        fsconfig_create(&context)?;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    configure().map_err(|errno: Errno| RootError::Overlay {
        path: top.to_owned(),
        reason: kernel_messages(&context),
        source: errno.into(),
    })
}

/// The layers' descriptors, in their order.
fn open_layers(lower: &[&Path]) -> Result<Vec<OwnedFd>, RootError> {
    lower.iter().map(|path| open_directory(path)).collect()
}

/// Names the lower layers, in one text where they fit into it: kernels before 6.7 know only that.
fn set_lower(context: &OwnedFd, layers: &[OwnedFd]) -> rustix::io::Result<()> {
    let paths: Vec<String> = layers.iter().map(proc_path).collect();
    let joined = paths.join(":");
    if joined.len() <= LONGEST_VALUE {
        return fsconfig_set_string(context, c"lowerdir", joined);
    }
    for path in paths {
        fsconfig_set_string(context, c"lowerdir+", path)?;
    }
    Ok(())
}

fn proc_path(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn no_overlay(errno: Errno) -> String {
    if errno == Errno::NODEV {
        ": this kernel has no overlayfs: load the module 'overlay'".to_owned()
    } else {
        String::new()
    }
}

/// What the kernel has said about a failed mount. Each read gives one message that begins with its
/// level (`e `, `w `, `i `).
fn kernel_messages(context: &OwnedFd) -> String {
    let Ok(context) = context.try_clone() else {
        return String::new();
    };
    let mut log = File::from(context);
    let mut messages = String::new();
    let mut buffer = [0_u8; 1024];
    while let Ok(length @ 1..) = log.read(&mut buffer) {
        let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        messages.push_str(": ");
        messages.push_str(message.get(2..).unwrap_or(&message).trim_end());
    }
    messages
}
