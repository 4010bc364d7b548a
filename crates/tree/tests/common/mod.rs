//! What the tests share: scratch directories, and a walk that compares trees without the crate's
//! help.
#![allow(dead_code, reason = "not every test uses everything")]

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

#[cfg(target_os = "freebsd")]
pub use freebsd::*;
#[cfg(target_os = "linux")]
pub use linux::*;

/// Whether this is Linux: attributes of all name spaces, overlays, sockets from `mknod`.
pub const LINUX: bool = cfg!(target_os = "linux");

/// A scratch directory, in memory where the system has such a place.
pub fn scratch() -> TempDir {
    let shm = Path::new("/dev/shm");
    if shm.is_dir() {
        tempfile::tempdir_in(shm).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// A new directory in the scratch directory, and a descriptor of it.
pub struct Dir {
    pub path: PathBuf,
    pub file: File,
}

impl Dir {
    pub fn new(scratch: &TempDir, name: &str) -> Self {
        let path = scratch.path().join(name);
        fs::create_dir_all(&path).unwrap();
        let file = File::open(&path).unwrap();
        Self { path, file }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// The type of an entry by its mode.
#[allow(
    clippy::unnecessary_cast,
    reason = "the raw mode's width differs between systems"
)]
pub fn kind_of(mode: u32) -> rustix::fs::FileType {
    rustix::fs::FileType::from_raw_mode(mode as _)
}

/// Opens a path as `O_PATH`, which is all that the crate asks for.
pub fn handle(path: &Path) -> OwnedFd {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Everything about an entry that a copy must keep.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub mtime: (i64, i64),
    pub content: Vec<u8>,
    pub size: u64,
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    pub flags: u32,
    /// The first path of the same inode.
    pub same_as: Option<PathBuf>,
}

/// Walks a tree by `std` alone. The root is at the empty path.
pub fn facts(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut inodes = HashMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(path) = todo.pop() {
        let real = root.join(&path);
        let meta = fs::symlink_metadata(&real).unwrap();
        let mut content = Vec::new();
        if meta.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&real)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            todo.extend(names.into_iter().rev().map(|name| path.join(name)));
        } else if meta.file_type().is_symlink() {
            content = fs::read_link(&real).unwrap().into_os_string().into_vec();
        } else if meta.is_file() && meta.len() < 16 << 20 {
            content = fs::read(&real).unwrap();
        }
        let mut same_as = None;
        if !meta.is_dir() && meta.nlink() > 1 {
            same_as = Some(
                inodes
                    .entry(meta.ino())
                    .or_insert_with(|| path.clone())
                    .clone(),
            );
        }
        let special = meta.file_type().is_block_device() || meta.file_type().is_char_device();
        let facts = Facts {
            mode: meta.mode(),
            uid: meta.uid(),
            gid: meta.gid(),
            rdev: if special { meta.rdev() } else { 0 },
            mtime: (meta.mtime(), meta.mtime_nsec()),
            content,
            size: if meta.is_dir() { 0 } else { meta.len() },
            xattrs: xattrs(&real),
            flags: flags(&meta),
            same_as,
        };
        found.insert(path, facts);
    }
    found
}

/// Fails with the first difference between two trees.
pub fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (facts(left), facts(right));
    for (path, facts) in &left {
        assert_eq!(Some(facts), right.get(path), "{path:?} differs");
    }
    for path in right.keys() {
        assert!(left.contains_key(path), "{path:?} is too much");
    }
}

/// The number of bytes in a name.
pub fn name_length(path: &Path) -> usize {
    path.file_name().map_or(0, |name| name.as_bytes().len())
}
