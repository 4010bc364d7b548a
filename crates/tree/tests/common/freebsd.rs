//! Attributes and mounts on FreeBSD.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString, c_int};
use std::fs::Metadata;
use std::os::freebsd::fs::MetadataExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Paths have to stay below this length.
pub const PATH_MAX: usize = 1024;

const SPACES: [(&str, c_int); 2] = [
    ("user.", libc::EXTATTR_NAMESPACE_USER),
    ("system.", libc::EXTATTR_NAMESPACE_SYSTEM),
];

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// All extended attributes of a path, but for what UFS keeps ACLs in.
pub fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let path = c_path(path);
    let mut found = BTreeMap::new();
    for (prefix, space) in SPACES {
        let mut list = vec![0_u8; 65536];
        // SAFETY: a C string, and a buffer of this length.
        let length = unsafe {
            libc::extattr_list_link(path.as_ptr(), space, list.as_mut_ptr().cast(), list.len())
        };
        let mut rest = &list[..usize::try_from(length).unwrap_or(0)];
        while let [length, after @ ..] = rest {
            let (name, after) = after.split_at(usize::from(*length));
            rest = after;
            if name.starts_with(b"posix1e.acl") || name == b"nfs4.acl" {
                continue;
            }
            let mut value = vec![0_u8; 65536];
            let key = CString::new(name).unwrap();
            let (to, room) = (value.as_mut_ptr().cast(), value.len());
            // SAFETY: two C strings, and a buffer of this length.
            let length =
                unsafe { libc::extattr_get_link(path.as_ptr(), space, key.as_ptr(), to, room) };
            value.truncate(usize::try_from(length).unwrap());
            let name = [prefix.as_bytes(), name].concat();
            found.insert(OsString::from_vec(name), value);
        }
    }
    found
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let known = |(prefix, space)| Some((name.strip_prefix(prefix)?, space));
    let (name, space) = SPACES.into_iter().find_map(known).unwrap();
    let (path, name) = (c_path(path), CString::new(name).unwrap());
    let (from, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: two C strings, and a value of this length.
    let set = unsafe { libc::extattr_set_link(path.as_ptr(), space, name.as_ptr(), from, length) };
    assert!(set >= 0, "{:?}", std::io::Error::last_os_error());
}

/// File flags, but for the one that ZFS sets on whatever has changed.
pub fn flags(meta: &Metadata) -> u32 {
    const UF_ARCHIVE: u32 = 0x800;
    meta.st_flags() & !UF_ARCHIVE
}

/// The type of the file system that a path lies in.
pub fn file_system(path: &Path) -> String {
    let name = rustix::fs::statfs(path).unwrap().f_fstypename;
    let name = name.iter().map(|byte| byte.cast_unsigned());
    String::from_utf8(name.take_while(|byte| *byte != 0).collect()).unwrap()
}

/// Whether a file's number of blocks is known as soon as it is written.
pub fn blocks_are_known(path: &Path) -> bool {
    file_system(path) != "zfs"
}

/// Runs a program, which must succeed, and gives what it says.
#[expect(clippy::disallowed_types, reason = "the system's own tools")]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {complaints}"
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A mount that goes with its value.
pub struct Mounted(PathBuf);

impl Mounted {
    /// A file system in memory, so large and with so many inodes.
    pub fn tmpfs(path: &Path, size: &str, inodes: Option<u32>) -> Self {
        let inodes = inodes.map_or(String::new(), |inodes| format!(",inodes={inodes}"));
        let options = format!("size={size}{inodes}");
        let at = path.to_str().unwrap();
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", at]);
        Self(path.to_owned())
    }

    pub fn bind(source: &Path, path: &Path) -> Self {
        let [from, at] = [source, path].map(|path| path.to_str().unwrap());
        run("mount", &["-t", "nullfs", from, at]);
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &["-f", self.0.to_str().unwrap()]);
    }
}
