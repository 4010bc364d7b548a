//! Owner, mode, times, extended attributes with ACLs, and file flags.

#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
mod none;

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Uid};

use crate::error::{Fault, InStep, Step};
use crate::flags;
use crate::meta::{Meta, Times};
#[cfg(target_os = "freebsd")]
use freebsd as xattr;
#[cfg(target_os = "linux")]
use linux as xattr;
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
use none as xattr;

/// Where extended attributes are read from or written to: through an open file, or (links and
/// device nodes can't be opened) as a directory's entry.
#[derive(Clone, Copy)]
#[cfg_attr(
    not(any(target_os = "linux", target_os = "freebsd")),
    allow(dead_code, reason = "no attributes are known there")
)]
pub(crate) enum Node<'a> {
    Open(BorrowedFd<'a>),
    Entry(BorrowedFd<'a>, &'a CStr),
}

/// An extended attribute: name and value.
type Named = (CString, Vec<u8>);

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
    Given(&'a [Named]),
}

impl Xattrs<'_> {
    fn list(&self) -> Result<Cow<'_, [Named]>, Fault> {
        Ok(match self {
            Self::Of(from) => xattr::all(*from)?.into(),
            Self::TamedOf(from) => tamed(*from)?.into(),
            Self::ShownOf(from) => shown(*from)?.into(),
            Self::Given(list) => (*list).into(),
        })
    }
}

/// When an attribute is set, seen from the mode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

/// Sets those of the list that are to be set then. Gives the number of attributes that the file system
/// can't hold.
fn set(list: &[Named], when: When, to: Node<'_>) -> Result<u64, Fault> {
    let mut skipped = 0;
    for (name, value) in list {
        let after = xattr::comes_after_mode(name);
        if after == (when == When::After) && !xattr::set(to, name, value)? {
            skipped += 1;
        }
    }
    Ok(skipped)
}

/// All extended attributes of an entry.
#[derive(Default)]
pub(crate) struct Attributes {
    /// Names and values.
    pub list: Vec<Named>,
}

/// Reads all extended attributes; none where the file system has none.
pub(crate) fn read(from: Node<'_>) -> Result<Attributes, Fault> {
    xattr::all(from).map(|list| Attributes { list })
}

/// Sets the owner, then the extended attributes, then the mode: changing the owner clears set-id
/// bits and capabilities, and an access ACL changes the mode's group bits. (On FreeBSD ACLs come after
/// the mode, which does away with them on ZFS.) Times come next, since everything else may touch them,
/// and file flags last, since nothing may be changed then. Gives the number of extended attributes the
/// target can't hold; file flags count as one.
pub(crate) fn apply_open(xattrs: Xattrs<'_>, to: impl AsFd, meta: &Meta) -> Result<u64, Fault> {
    let to = to.as_fd();
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    // A directory that was there already may have flags.
    flags::despite(to, || rustix::fs::fchown(to, Some(uid), Some(gid))).step(Step::SettingOwner)?;
    let list = xattrs.list()?;
    let mut skipped = set(&list, When::Before, Node::Open(to))?;
    rustix::fs::fchmod(to, meta.mode).step(Step::SettingMode)?;
    skipped += set(&list, When::After, Node::Open(to))?;
    set_times(to, meta.times)?;
    // A file is new, and has none; a directory may have been there.
    if meta.flags != 0 || meta.is_dir() {
        skipped += flags::set(to, meta.flags)?;
    }
    Ok(skipped)
}

/// Removes the extended attributes that a directory has beyond these. What overlayfs and the security
/// modules keep there isn't anybody else's.
pub(crate) fn remove_others(dir: impl AsFd, list: &[Named]) -> Result<(), Fault> {
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
    let list = xattrs.list()?;
    let node = Node::Entry(dir, name);
    let mut skipped = set(&list, When::Before, node)? + set(&list, When::After, node)?;
    if meta.kind != rustix::fs::FileType::Symlink {
        chmod_entry(dir, name, meta).step(Step::SettingMode)?;
    }
    rustix::fs::utimensat(dir, name, &meta.times.stamps(), AtFlags::SYMLINK_NOFOLLOW)
        .step(Step::SettingTimes)?;
    skipped += flags::set_at(dir, name, meta.flags)?;
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
pub(crate) fn shown(node: Node<'_>) -> Result<Vec<Named>, Fault> {
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
pub(crate) fn tamed(node: Node<'_>) -> Result<Vec<Named>, Fault> {
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
