//! What is mounted inside a directory.

use std::io;
use std::path::{Path, PathBuf};

/// A mount point at or beneath the directory (a path without links), if there is one.
///
/// Only Linux tells cheaply. Elsewhere a mount point can't be renamed either, and what is mounted
/// deeper down is never removed, as removing doesn't leave the file system.
#[cfg(target_os = "linux")]
pub(super) fn inside(directory: &Path) -> io::Result<Option<PathBuf>> {
    Ok(find(&std::fs::read("/proc/self/mountinfo")?, directory))
}

/// See the other one.
#[cfg(not(target_os = "linux"))]
pub(super) fn inside(_directory: &Path) -> io::Result<Option<PathBuf>> {
    Ok(None)
}

/// Looks into the text of `/proc/self/mountinfo`, see `proc_pid_mountinfo(5)`.
#[cfg(target_os = "linux")]
fn find(mountinfo: &[u8], directory: &Path) -> Option<PathBuf> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(|line| line.split(|&byte| byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .find(|mount_point| mount_point.starts_with(directory))
}

/// Space, tab, newline and backslash are written as three octal digits.
#[cfg(target_os = "linux")]
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                text.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => text.push(byte),
        }
    }
    text
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:30 / /var/lib/kleene/volumes/a\\040b\\134 rw shared:3 - tmpfs tmpfs rw
31 22 0:31 / /var/lib/kleene/volumes/web/cache rw - tmpfs tmpfs rw
";

    #[test]
    fn finds_mount_points_at_and_beneath() {
        let find = |path: &str| find(MOUNTS, Path::new(path));
        let web = "/var/lib/kleene/volumes/web";
        assert_eq!(find(web), Some(Path::new(web).join("cache")));
        assert!(find("/var/lib/kleene/volumes/a b\\").is_some());
        assert_eq!(find("/var/lib/kleene/volumes/we"), None);
        assert_eq!(find("/var/lib/kleene/volumes/web/cache/deep"), None);
    }

    #[test]
    fn the_real_list_can_be_read() {
        assert_eq!(inside(Path::new("/proc")).unwrap(), Some("/proc".into()));
    }
}
