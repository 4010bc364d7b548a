//! What a container sees: its root with everything that is mounted in it, as a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use kleene_doors::files::FilesOf;
use kleene_doors::host::{HostError, Mount, SourceKind};
use kleene_doors::storage::Root;
use kleene_monitor::nursery::enter_copy;
use kleene_monitor::root::set_tree_attributes;
use kleene_monitor::status::gone;
use kleene_monitor::sys::pidfd_send_signal;
use kleene_tree::{Open, TreeError, create_dirs_in_root, create_file_in_root, open_in_root};
use kleene_types::ContainerPath;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::UnshareFlags;

use super::LinuxHost;
use super::state::Living;
use crate::shared::roots::{open_root, open_root_read_only};
use crate::shared::{failed, inspect_source};

/// What is to be done with the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing can be changed, not even access times. Only mount points that are missing are made, as
    /// the container's start will make them: what is mounted there must be found.
    Read,
    /// As the container itself: mount points that are missing are made.
    Write,
}

/// A container's root. The mounts of one that doesn't run go with this value.
#[derive(Debug)]
pub struct View {
    root: OwnedFd,
    /// Keeps a mount namespace that no process is in.
    _namespace: Option<OwnedFd>,
}

/// A mount's source, ready to be attached.
struct Source {
    destination: ContainerPath,
    kind: SourceKind,
    tree: OwnedFd,
}

impl LinuxHost {
    /// A container's root with its mounts.
    pub(super) fn view(&self, of: &FilesOf, access: Access) -> Result<View, HostError> {
        match of {
            FilesOf::Running { init } => View::running(&self.living(init)?)
                .map_err(failed(format!("opening the root of {init}")))?
                .ok_or_else(|| HostError::NotRunning(init.clone())),
            FilesOf::Stopped { root, mounts } => View::stopped(&self.nursery, root, mounts, access),
        }
    }
}

impl View {
    /// The directory that paths are resolved beneath.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A running container's; `None` when it has ended.
    pub fn running(init: &Living) -> io::Result<Option<Self>> {
        let path = format!("/proc/{}/root", init.status.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
        // While the process is there, its id means nobody else.
        let alive = || pidfd_send_signal(&init.process, 0);
        match opened.and_then(|root| alive().map(|()| root)) {
            Ok(root) => Ok(Some(Self {
                root,
                _namespace: None,
            })),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A stopped container's, in a mount namespace of its own that begins as a copy of the empty one,
    /// `nursery`. The host sees nothing of it.
    ///
    /// # Errors
    /// [`HostError::Source`] when a mount's source is missing, or can't be mounted at its
    /// destination.
    pub fn stopped(
        nursery: &OwnedFd,
        root: &Root,
        mounts: &[Mount],
        access: Access,
    ) -> Result<Self, HostError> {
        if let Some(view) = Self::whole(nursery, root, mounts, access)? {
            return Ok(view);
        }
        // With the mount points made, it is whole the next time.
        drop(Self::whole(nursery, root, mounts, Access::Write)?);
        let view = Self::whole(nursery, root, mounts, access)?;
        view.ok_or_else(|| {
            HostError::Source("the container's mount points vanish: try again".to_owned())
        })
    }

    /// A stopped container's; `None` when mount points are missing and may not be made.
    fn whole(
        nursery: &OwnedFd,
        root: &Root,
        mounts: &[Mount],
        access: Access,
    ) -> Result<Option<Self>, HostError> {
        let root = match access {
            Access::Read => open_root_read_only(root)?,
            Access::Write => open_root(root)?,
        };
        let sources: Vec<Source> = mounts
            .iter()
            .map(|mount| Source::open(mount, access))
            .collect::<Result<_, _>>()?;
        // Namespaces are a thread's own, and this thread has no other use.
        let assembled = thread::scope(|scope| {
            let assemble = || assemble(nursery, &root, &sources, access);
            let thread = thread::Builder::new().name("files".to_owned());
            let thread = thread
                .spawn_scoped(scope, assemble)
                .map_err(failed("starting a thread"))?;
            thread.join().unwrap_or_else(|_| {
                let error = io::Error::other("the thread that makes them has failed");
                Err(failed("making the container's mounts")(error))
            })
        });
        Ok(assembled?.map(|namespace| Self {
            root,
            _namespace: Some(namespace),
        }))
    }
}

impl Source {
    /// Opens a source as a detached, private, recursive copy of what is mounted there.
    fn open(mount: &Mount, access: Access) -> Result<Self, HostError> {
        let kind = inspect_source(&mount.source)?;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
        if mount.read_only || access == Access::Read {
            attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let open = || {
            let tree = open_tree(CWD, &mount.source, flags)?;
            set_tree_attributes(&tree, attributes)?;
            Ok(tree)
        };
        let tree = open().map_err(|errno: rustix::io::Errno| {
            failed(format!("mounting '{}'", mount.source.display()))(errno.into())
        })?;
        Ok(Self {
            destination: mount.destination.clone(),
            kind,
            tree,
        })
    }

    /// The mount point; `None` when it is missing, and may not be made.
    fn target(&self, root: BorrowedFd<'_>, access: Access) -> Result<Option<OwnedFd>, TreeError> {
        let path = self.destination.beneath();
        match (access, self.kind) {
            (Access::Read, _) => match open_in_root(root, path, Open::Handle) {
                Err(TreeError::NotFound { .. }) => Ok(None),
                other => other.map(Some),
            },
            (Access::Write, SourceKind::Directory) => {
                create_dirs_in_root(root, path, 0o755).map(Some)
            }
            (Access::Write, SourceKind::File) => create_file_in_root(root, path, 0o644).map(Some),
        }
    }

    /// `false`: the mount point is missing, and may not be made.
    fn attach(&self, root: BorrowedFd<'_>, access: Access) -> Result<bool, HostError> {
        let destination = &self.destination;
        let refused = |reason: &str| {
            HostError::Source(format!(
                "can't mount on '{destination}' in the container: {reason}"
            ))
        };
        let target = match self.target(root, access) {
            Ok(Some(target)) => target,
            Ok(None) => return Ok(false),
            Err(error @ (TreeError::Io { .. } | TreeError::NoSpace { .. })) => {
                return Err(HostError::Failed {
                    action: format!("mounting on '{destination}' in the container"),
                    source: Box::new(error),
                });
            }
            Err(error) => return Err(refused(&error.to_string())),
        };
        let failed = |errno: rustix::io::Errno| {
            failed(format!("mounting on '{destination}' in the container"))(errno.into())
        };
        let stat = rustix::fs::fstat(&target).map_err(failed)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory != (self.kind == SourceKind::Directory) {
            return Err(refused("one is a directory, the other a file"));
        }
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.tree, c"", &target, c"", flags).map_err(failed)?;
        Ok(true)
    }
}

/// Puts everything together in a new mount namespace, and gives that. `None`: a mount point is
/// missing, and may not be made.
fn assemble(
    nursery: &OwnedFd,
    root: &OwnedFd,
    sources: &[Source],
    access: Access,
) -> Result<Option<OwnedFd>, HostError> {
    let failed = |errno: rustix::io::Errno| failed("making a mount namespace")(errno.into());
    let handle = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", handle, Mode::empty()).map_err(failed)?;
    // SAFETY: this thread is new, and relies on no root or working directory that it shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.map_err(failed)?;
    enter_copy(nursery, UnshareFlags::empty()).map_err(failed)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(root, c"", CWD, c".", flags).map_err(failed)?;
    for source in sources {
        if !source.attach(root.as_fd(), access)? {
            return Ok(None);
        }
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let own = rustix::fs::openat(&proc, "thread-self/ns/mnt", flags, Mode::empty());
    own.map(Some).map_err(failed)
}
