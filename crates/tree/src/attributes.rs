//! Owner, mode, times and extended attributes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Uid};

use crate::error::{Fault, InStep, Step};
use crate::meta::{Meta, Times};

/// Where extended attributes are read from or written to: through an open file, or (links and
/// device nodes can't be opened) as a directory's entry.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "no attributes there yet")
)]
pub(crate) enum Node<'a> {
    Open(BorrowedFd<'a>),
    Entry(BorrowedFd<'a>, &'a CStr),
}

/// Where the extended attributes for an entry come from.
#[derive(Clone, Copy)]
pub(crate) enum Xattrs<'a> {
    /// All that another file has.
    Of(Node<'a>),
    /// Those, but for what would be an order to an overlay file system.
    TamedOf(Node<'a>),
    /// Those that whoever uses the tree sees: see [`shown`].
    ShownOf(Node<'a>),
    /// These.
    Given(&'a [(CString, Vec<u8>)]),
}

impl Xattrs<'_> {
    /// Gives the number of attributes that the file system can't hold.
    fn set_on(self, to: Node<'_>) -> Result<u64, Fault> {
        let list = match self {
            Self::Of(from) => return xattr::copy(from, to),
            Self::TamedOf(from) => &tamed(from)?,
            Self::ShownOf(from) => &shown(from)?,
            Self::Given(list) => list,
        };
        let mut skipped = 0;
        for (name, value) in list {
            if !xattr::set(to, name, value)? {
                skipped += 1;
            }
        }
        Ok(skipped)
    }
}

/// All extended attributes of an entry.
#[derive(Default)]
pub(crate) struct Attributes {
    /// Names and values.
    pub list: Vec<(CString, Vec<u8>)>,
}

/// Reads all extended attributes; none where the file system has none.
pub(crate) fn read(from: Node<'_>) -> Result<Attributes, Fault> {
    xattr::all(from).map(|list| Attributes { list })
}

/// Sets the owner, then the extended attributes, then the mode: changing the owner clears set-id
/// bits and capabilities, and an access ACL changes the mode's group bits. Times come last, since
/// everything else may touch them. Gives the number of extended attributes the target can't hold.
pub(crate) fn apply_open(xattrs: Xattrs<'_>, to: impl AsFd, meta: &Meta) -> Result<u64, Fault> {
    let to = to.as_fd();
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(meta.uid)),
        Some(Gid::from_raw(meta.gid)),
    )
    .step(Step::SettingOwner)?;
    let skipped = xattrs.set_on(Node::Open(to))?;
    rustix::fs::fchmod(to, meta.mode).step(Step::SettingMode)?;
    set_times(to, meta.times)?;
    Ok(skipped)
}

/// Removes the extended attributes that a directory has beyond these. What overlayfs and the security
/// modules keep there isn't anybody else's.
pub(crate) fn remove_others(dir: impl AsFd, list: &[(CString, Vec<u8>)]) -> Result<(), Fault> {
    let dir = dir.as_fd();
    for (name, _) in xattr::all(Node::Open(dir))? {
        let stays = list.iter().any(|(given, _)| *given == name)
            || is_overlays(&name)
            || name.as_c_str() == c"security.selinux";
        if !stays {
            xattr::remove(dir, &name).step(Step::SettingAttributes)?;
        }
    }
    Ok(())
}

/// Sets an open file's times.
pub(crate) fn set_times(fd: impl AsFd, times: Times) -> Result<(), Fault> {
    rustix::fs::futimens(fd, &times.stamps()).step(Step::SettingTimes)
}

/// As [`apply_open`], for an entry that can't be opened: a link, device node, FIFO or socket.
pub(crate) fn apply_entry(
    xattrs: Xattrs<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    meta: &Meta,
) -> Result<u64, Fault> {
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .step(Step::SettingOwner)?;
    let skipped = xattrs.set_on(Node::Entry(dir, name))?;
    if meta.kind != rustix::fs::FileType::Symlink {
        chmod_entry(dir, name, meta).step(Step::SettingMode)?;
    }
    rustix::fs::utimensat(dir, name, &meta.times.stamps(), AtFlags::SYMLINK_NOFOLLOW)
        .step(Step::SettingTimes)?;
    Ok(skipped)
}

/// Changes the mode of a node without opening it for real and without following it. Linux has
/// `fchmodat2` only since 6.6, so the node is named by a handle.
#[cfg(target_os = "linux")]
fn chmod_entry(dir: BorrowedFd<'_>, name: &CStr, meta: &Meta) -> rustix::io::Result<()> {
    use std::os::fd::AsRawFd;
    let flags = crate::sys::HANDLE | rustix::fs::OFlags::NOFOLLOW;
    let node = rustix::fs::openat(dir, name, flags, rustix::fs::Mode::empty())?;
    if Meta::of(&node)?.kind != meta.kind {
        return Err(rustix::io::Errno::STALE);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), meta.mode)
}

#[cfg(not(target_os = "linux"))]
fn chmod_entry(dir: BorrowedFd<'_>, name: &CStr, meta: &Meta) -> rustix::io::Result<()> {
    rustix::fs::chmodat(dir, name, meta.mode, AtFlags::SYMLINK_NOFOLLOW)
}

/// Removes what a directory would hand down to new entries in the form of a default ACL, so that
/// copies get exactly their originals' permissions.
pub(crate) fn clear_default_acl(dir: BorrowedFd<'_>) -> Result<(), Fault> {
    xattr::clear_default_acl(dir).step(Step::SettingAttributes)
}

/// The extended attributes that whoever uses the tree sees, sorted: all but those that overlayfs keeps
/// for itself on layers.
pub(crate) fn shown(node: Node<'_>) -> Result<Vec<(CString, Vec<u8>)>, Fault> {
    let mut all = xattr::all(node)?;
    all.retain(|(name, _)| {
        let rest = name.to_bytes().strip_prefix(OVERLAY);
        // An overlay in a container has its own attributes hidden beneath a second prefix.
        rest.is_none_or(|rest| rest.starts_with(b"overlay."))
    });
    all.sort_unstable();
    Ok(all)
}

/// The names of what overlayfs keeps for itself.
const OVERLAY: &[u8] = b"trusted.overlay.";

/// The extended attributes of an entry, but for what would be an order to an overlay file system.
pub(crate) fn tamed(node: Node<'_>) -> Result<Vec<(CString, Vec<u8>)>, Fault> {
    let mut all = xattr::all(node)?;
    all.retain(|(name, _)| !is_overlays(name));
    Ok(all)
}

/// Whether overlayfs takes orders from an attribute of this name.
pub(crate) fn is_overlays(name: &CStr) -> bool {
    name.to_bytes().starts_with(OVERLAY)
}

/// Whether an overlay's layer hides with this directory what lower ones have.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>) -> Result<bool, Fault> {
    let value = xattr::value(Node::Open(dir), c"trusted.overlay.opaque")?;
    Ok(value.is_some_and(|value| value == b"y"))
}

/// Extended attributes on Linux.
#[cfg(target_os = "linux")]
mod xattr {
    use std::ffi::{CStr, CString};
    use std::os::fd::{AsRawFd, BorrowedFd};

    use rustix::fs::XattrFlags;
    use rustix::io::Errno;

    use super::Node;
    use crate::error::{Fault, InStep, Step};

    const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

    /// Enough for nearly every list of names and value; more is asked for when it isn't.
    const USUAL: usize = 1024;

    /// Copies all extended attributes. Gives how many the target's file system refused to hold.
    pub fn copy(from: Node<'_>, to: Node<'_>) -> Result<u64, Fault> {
        let mut skipped = 0;
        for (name, value) in all(from)? {
            if !set(to, &name, &value)? {
                skipped += 1;
            }
        }
        Ok(skipped)
    }

    /// Reads all extended attributes.
    pub fn all(from: Node<'_>) -> Result<Vec<(CString, Vec<u8>)>, Fault> {
        let mut names = [0_u8; USUAL];
        match list(from, &mut names) {
            Ok(0) | Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
            Ok(length) => all_named(from, names.get(..length).unwrap_or_default()),
            Err(Errno::RANGE) => all_named(from, &long_list(from)?),
            Err(errno) => Err(Fault {
                step: Step::ReadingAttributes,
                errno,
            }),
        }
    }

    fn all_named(from: Node<'_>, names: &[u8]) -> Result<Vec<(CString, Vec<u8>)>, Fault> {
        let mut found = Vec::new();
        for name in names.split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            // One that goes away in the meantime is none.
            if let Some(value) = value(from, name)? {
                found.push((name.to_owned(), value));
            }
        }
        Ok(found)
    }

    /// One attribute's value; `None` when it isn't there.
    pub fn value(from: Node<'_>, name: &CStr) -> Result<Option<Vec<u8>>, Fault> {
        let mut value = vec![0; USUAL];
        match get_growing(from, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(Fault {
                step: Step::ReadingAttributes,
                errno,
            }),
        }
    }

    /// Sets one attribute; `false` when the file system can't hold attributes of this kind.
    pub fn set(to: Node<'_>, name: &CStr, value: &[u8]) -> Result<bool, Fault> {
        let flags = XattrFlags::empty();
        let result = match to {
            Node::Open(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Node::Entry(dir, entry) => {
                rustix::fs::lsetxattr(by_proc(dir, entry), name, value, flags)
            }
        };
        match result {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(Fault {
                step: Step::SettingAttributes,
                errno,
            }),
        }
    }

    pub fn clear_default_acl(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
        remove(dir, DEFAULT_ACL)
    }

    /// Removes an attribute, if it is there.
    pub fn remove(fd: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        match rustix::fs::fremovexattr(fd, name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn list(node: Node<'_>, into: &mut [u8]) -> rustix::io::Result<usize> {
        match node {
            Node::Open(fd) => rustix::fs::flistxattr(fd, into),
            Node::Entry(dir, name) => rustix::fs::llistxattr(by_proc(dir, name), into),
        }
    }

    /// The list at its largest, 64 KiB (`XATTR_LIST_MAX`).
    fn long_list(node: Node<'_>) -> Result<Vec<u8>, Fault> {
        let mut names = vec![0; 65_536];
        let length = list(node, &mut names).step(Step::ReadingAttributes)?;
        names.truncate(length);
        Ok(names)
    }

    /// Reads a value into `value`, which grows to the largest size possible (`XATTR_SIZE_MAX`).
    fn get_growing(node: Node<'_>, name: &CStr, value: &mut Vec<u8>) -> rustix::io::Result<usize> {
        match get(node, name, value) {
            Err(Errno::RANGE) => {
                value.resize(65_536, 0);
                get(node, name, value)
            }
            other => other,
        }
    }

    fn get(node: Node<'_>, name: &CStr, value: &mut [u8]) -> rustix::io::Result<usize> {
        match node {
            Node::Open(fd) => rustix::fs::fgetxattr(fd, name, value),
            Node::Entry(dir, entry) => rustix::fs::lgetxattr(by_proc(dir, entry), name, value),
        }
    }

    /// A path to the entry of an open directory. The kernel resolves the first part straight to
    /// the open directory, and the calls used don't follow the last one.
    fn by_proc(dir: BorrowedFd<'_>, name: &CStr) -> CString {
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        CString::new(path).unwrap_or_default()
    }
}

/// Extended attributes elsewhere: a known gap.
#[cfg(not(target_os = "linux"))]
mod xattr {
    use std::ffi::{CStr, CString};
    use std::os::fd::BorrowedFd;

    use super::Node;
    use crate::error::Fault;

    pub fn all(_: Node<'_>) -> Result<Vec<(CString, Vec<u8>)>, Fault> {
        Ok(Vec::new())
    }

    pub fn value(_: Node<'_>, _: &CStr) -> Result<Option<Vec<u8>>, Fault> {
        Ok(None)
    }

    pub fn copy(_: Node<'_>, _: Node<'_>) -> Result<u64, Fault> {
        Ok(0)
    }

    pub fn set(_: Node<'_>, _: &CStr, _: &[u8]) -> Result<bool, Fault> {
        Ok(false)
    }

    pub fn clear_default_acl(_: BorrowedFd<'_>) -> rustix::io::Result<()> {
        Ok(())
    }

    pub fn remove(_: BorrowedFd<'_>, _: &CStr) -> rustix::io::Result<()> {
        Ok(())
    }
}
