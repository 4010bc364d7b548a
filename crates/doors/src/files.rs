//! A container's files as the container sees them, for copying them in and out.

use kleene_types::{ExecId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::host::Mount;
use crate::storage::Root;

/// Whose files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilesOf {
    /// A running container's, known by its first execution instance.
    Running {
        /// That instance.
        init: ExecId,
    },
    /// A container's that doesn't run: its root with its mounts.
    Stopped {
        /// Its root.
        root: Root,
        /// Its mounts, in the order in which they are made.
        mounts: Vec<Mount>,
    },
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// The path's last component; `/` for the root.
    pub name: String,
    /// What it is.
    pub kind: PathKind,
    /// Permissions, with set-user-id, set-group-id and sticky bits.
    pub mode: u32,
    /// Size in bytes, of a regular file.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the contents.
    pub modified: Timestamp,
    /// Where a symbolic link leads, as it is written there.
    pub target: Option<String>,
    /// Of a symbolic link: the kind of what it leads to beneath the container's root, if anything.
    pub leads_to: Option<PathKind>,
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, socket or FIFO.
    Special,
}

/// How an archive is unpacked in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnpackOptions {
    /// Keep the archive's owners; otherwise everything belongs to root.
    pub keep_owner: bool,
    /// Leave device nodes out; otherwise an archive that holds some is refused.
    pub skip_devices: bool,
}
