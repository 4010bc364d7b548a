//! Attributes and mounts on Linux.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::Metadata;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Paths have to stay below this length.
pub const PATH_MAX: usize = 4096;

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

/// File flags.
pub fn flags(_: &Metadata) -> u32 {
    0
}

/// Whether a file's number of blocks is known as soon as it is written.
pub fn blocks_are_known(_: &Path) -> bool {
    true
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

    /// A file system in memory, so large and with so many inodes.
    pub fn tmpfs(path: &Path, size: &str, inodes: Option<u32>) -> Self {
        let inodes = inodes.map_or(String::new(), |inodes| format!(",nr_inodes={inodes}"));
        Self::new("tmpfs", path, "tmpfs", &format!("size={size}{inodes}"))
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
