//! Mounts that stand in the way of removing a directory.
//!
//! Only Linux lists them cheaply, and needs that: there a directory can be renamed and removed while
//! it is bound elsewhere, and `zfs destroy` unmounts a dataset wherever it is mounted. FreeBSD refuses
//! both.

use std::io;
use std::path::{Path, PathBuf};

/// What the directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    /// A directory like any other.
    Plain,
    /// The mount point of the file system that is to be removed.
    MountPoint,
}

/// A mount point inside the directory (a path without links), or one that shows a part of it
/// elsewhere; none of the mount that the directory `is` itself.
///
/// Mounts in other mount namespaces, such as containers have, aren't seen.
#[cfg(target_os = "linux")]
pub(crate) fn in_the_way(directory: &Path, is: Is) -> io::Result<Option<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(linux::find(&text, directory, is))
}

/// See the other one.
#[cfg(not(target_os = "linux"))]
pub(crate) fn in_the_way(_directory: &Path, _is: Is) -> io::Result<Option<PathBuf>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::{Path, PathBuf};

    use super::Is;

    /// A line of `/proc/self/mountinfo`, see `proc_pid_mountinfo(5)`.
    struct Mount<'t> {
        id: &'t [u8],
        device: &'t [u8],
        /// The directory of the file system that is mounted.
        root: PathBuf,
        mount_point: PathBuf,
    }

    pub(super) fn find(mountinfo: &[u8], directory: &Path, is: Is) -> Option<PathBuf> {
        let mounts: Vec<Mount<'_>> = mountinfo
            .split(|&byte| byte == b'\n')
            .filter_map(parse)
            .collect();
        // Of several on one mount point the last one is seen.
        let place = mounts
            .iter()
            .filter(|mount| directory.starts_with(&mount.mount_point))
            .max_by_key(|mount| mount.mount_point.components().count())?;
        let beneath = directory.strip_prefix(&place.mount_point).ok()?;
        let shown = place.root.join(beneath);
        let own = |mount: &&Mount<'_>| is == Is::MountPoint && mount.id == place.id;
        mounts
            .iter()
            .filter(|mount| !own(mount))
            .find(|mount| {
                let inside = mount.mount_point.starts_with(directory);
                let elsewhere = mount.device == place.device && mount.root.starts_with(&shown);
                inside || elsewhere
            })
            .map(|mount| mount.mount_point.clone())
    }

    fn parse(line: &[u8]) -> Option<Mount<'_>> {
        let mut fields = line.split(|&byte| byte == b' ');
        let id = fields.next()?;
        let device = fields.nth(1)?;
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
        Some(Mount {
            id,
            device,
            root: path(fields.next()?),
            mount_point: path(fields.next()?),
        })
    }

    /// Space, tab, newline and backslash are written as three octal digits.
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
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:30 / /data/volumes/a\\040b\\134 rw shared:3 - tmpfs tmpfs rw
31 22 0:31 / /data/volumes/web/cache rw - tmpfs tmpfs rw
32 22 254:0 /data/volumes/db/sub /srv/db rw - ext4 /dev/vda rw
33 22 0:31 /data/volumes/plain /srv/other rw - tmpfs tmpfs rw
40 22 0:40 / /tank/volumes/v rw - zfs tank/volumes/v rw
41 22 0:41 / /tank/volumes/w rw - zfs tank/volumes/w rw
42 22 0:41 /part /srv/w rw - zfs tank/volumes/w rw
43 22 0:43 / /tank/volumes/x rw - zfs tank/volumes/x rw
44 43 0:44 / /tank/volumes/x/tmp rw - tmpfs tmpfs rw
";

    fn find(directory: &str, is: Is) -> Option<String> {
        let found = linux::find(MOUNTS, Path::new(directory), is)?;
        Some(found.display().to_string())
    }

    #[test]
    fn directories() {
        let find = |name: &str| find(&format!("/data/volumes/{name}"), Is::Plain);
        assert_eq!(find("web").unwrap(), "/data/volumes/web/cache");
        assert_eq!(find("a b\\").unwrap(), "/data/volumes/a b\\");
        assert_eq!(find("db").unwrap(), "/srv/db");
        assert_eq!(find("plain"), None);
        assert_eq!(find("we"), None);
        assert_eq!(find("web/cache/deep"), None);
    }

    #[test]
    fn datasets() {
        let find = |name: &str| find(&format!("/tank/volumes/{name}"), Is::MountPoint);
        assert_eq!(find("v"), None);
        assert_eq!(find("w").unwrap(), "/srv/w");
        assert_eq!(find("x").unwrap(), "/tank/volumes/x/tmp");
    }

    #[test]
    fn the_real_list_can_be_read() {
        let proc = Path::new("/proc");
        assert_eq!(in_the_way(proc, Is::Plain).unwrap(), Some("/proc".into()));
    }
}
