//! What the tests share: scratch directories, and a walk that compares trees without the crate's
//! help.
#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

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
            same_as,
        };
        found.insert(path, facts);
    }
    found
}

/// All extended attributes of a path.
pub fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut list = vec![0_u8; 65536];
    let Ok(length) = rustix::fs::llistxattr(path, &mut list[..]) else {
        return BTreeMap::new();
    };
    let names = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0_u8; 65536];
            let key = CString::new(name).unwrap();
            let length = rustix::fs::lgetxattr(path, &key, &mut value[..]).unwrap();
            value.truncate(length);
            (OsString::from_vec(name.to_vec()), value)
        })
        .collect()
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
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

/// A mount that goes with its value.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(source: &str, path: &Path, kind: &str, options: &str) -> Self {
        let options = CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount(source, path, kind, flags, options.as_c_str()).unwrap();
        Self(path.to_owned())
    }

    pub fn tmpfs(path: &Path, options: &str) -> Self {
        Self::new("tmpfs", path, "tmpfs", options)
    }

    pub fn bind(source: &Path, path: &Path) -> Self {
        rustix::mount::mount_bind(source, path).unwrap();
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
