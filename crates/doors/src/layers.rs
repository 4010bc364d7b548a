//! What builds, pulls and pushes do to the trees of images, as plain data: applying and packing layers,
//! copying files in.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use crate::storage::Root;

/// What a layer may hold. The default takes every honest layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// The largest number of entries.
    pub max_entries: Option<u64>,
    /// The largest sum of file contents in the archive, in bytes.
    pub max_bytes: Option<u64>,
    /// The largest size of a single file, holes included, in bytes.
    pub max_apparent: Option<u64>,
    /// How much larger than its stored data a sparse file may be, in bytes.
    pub max_holes: u64,
}

impl Default for LayerOptions {
    /// No limits but that of holes, which is 1 GiB a file.
    fn default() -> Self {
        Self {
            max_entries: None,
            max_bytes: None,
            max_apparent: None,
            max_holes: 1 << 30,
        }
    }
}

/// How much a layer has changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LayerApplied {
    /// Entries of the archive, whiteouts included.
    pub entries: u64,
    /// Bytes of file contents in the archive.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub skipped_devices: u64,
    /// Extended attributes that were left out: those that the file system can't hold, and those of
    /// overlay file systems.
    pub skipped_xattrs: u64,
}

/// How much a layer holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LayerPacked {
    /// Entries of the archive, whiteouts included; 0 when nothing differs.
    pub entries: u64,
    /// Bytes of file contents in the archive.
    pub bytes: u64,
    /// Entries that say that something is gone.
    pub whiteouts: u64,
}

/// Where files are copied from.
#[derive(Debug, Clone, Copy)]
pub enum CopySource<'a> {
    /// A directory of the host that strangers have filled: the context of a build. Links in it are
    /// followed as if it were the root directory, so they never lead out.
    Directory(&'a Path),
    /// The tree of an image or container. Owners are kept.
    Root(&'a Root),
    /// Files that are nowhere yet: names (a single component each) and contents, all of them, whatever
    /// the sources are. Mode 0644, root's, made now.
    Inline(&'a [(String, Vec<u8>)]),
}

/// Whether an entry of the source is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is. What is in a directory is asked for on its own.
    Yes,
    /// It is left out, with everything in it.
    No,
    /// The directory is left out, unless something in it is kept. The same as [`Keep::No`] for
    /// anything but a directory.
    Descend,
}

/// Decides of a path relative to the source's root, and whether it is a directory.
pub type KeepFn<'a> = &'a dyn Fn(&Path, bool) -> Keep;

/// Told how many bytes have been copied so far; `Break` ends the operation with
/// [`HostError::Cancelled`](crate::host::HostError::Cancelled), and leaves what was copied.
pub type CopyProgress<'a> = &'a dyn Fn(u64) -> ControlFlow<()>;

/// Files to be copied into a tree, by the rules of `COPY` and `ADD` in a Dockerfile.
#[derive(Clone, Copy)]
pub struct CopyIn<'a> {
    /// The tree that they are copied into.
    pub root: &'a Root,
    /// Where they come from.
    pub from: CopySource<'a>,
    /// What of it: paths relative to the source's root (a slash at the beginning makes no difference)
    /// that may have wildcards as in Go's `filepath.Match`. `..` doesn't lead out of the root. A
    /// directory stands for what is in it. A source that is left out isn't there.
    pub sources: &'a [String],
    /// Where they go: an absolute path in `root`. With a slash at its end, or several sources, or a
    /// wildcard in one, it is a directory; otherwise that is so when there is a directory.
    pub destination: &'a str,
    /// Which entries are left out.
    pub keep: KeepFn<'a>,
    /// `USER`, `USER:GROUP` or `:GROUP`, by name or number, for all that is copied or created; names
    /// are resolved by the files of `root`. `None`: root's, but for [`CopySource::Root`], which keeps
    /// owners.
    pub owner: Option<&'a str>,
    /// The mode for all that is copied, but links.
    pub mode: Option<u32>,
    /// Whether the directories of a source's path are made in the destination (`--parents`): those
    /// behind a `/./` in it, when there is one.
    pub parents: bool,
    /// Whether files that are tar archives, compressed or not, are unpacked in the destination (`ADD`).
    pub unpack: bool,
    /// Whom to tell.
    pub progress: CopyProgress<'a>,
}

impl fmt::Debug for CopyIn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyIn")
            .field("root", self.root)
            .field("sources", &self.sources)
            .field("destination", &self.destination)
            .finish_non_exhaustive()
    }
}

/// How much was copied in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CopiedIn {
    /// Files, directories, links and so on; directories that were only made as parents don't count.
    pub entries: u64,
    /// Bytes of the files, holes included.
    pub bytes: u64,
    /// Device nodes and sockets that were left out.
    pub skipped: u64,
}
