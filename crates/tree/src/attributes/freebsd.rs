//! Extended attributes and ACLs on FreeBSD, by the names that Linux has for them.
//!
//! `user.NAME` is `NAME` in the user's name space, `system.NAME` is that in the system's (`extattr(2)`).
//! ACLs, which are no attributes here, are shown as Linux shows them: see `acl.rs`. So archives and
//! layers mean the same on both. Names of other kinds (`security.capability`) nothing here can hold.

mod acl;

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Node;
use crate::error::{Fault, InStep, Step};
use crate::sys::{self, checked};
use acl::Acl;

/// Enough for nearly every list of names and value; more is asked for when it isn't.
const USUAL: usize = 1024;

/// No value or list is larger. It is larger than what Linux holds.
const LARGEST: usize = 1 << 20;

/// A name space: what its names begin with on Linux, and its number.
type Space = (&'static [u8], c_int);

const USER: Space = (b"user.", libc::EXTATTR_NAMESPACE_USER);
const SYSTEM: Space = (b"system.", libc::EXTATTR_NAMESPACE_SYSTEM);

/// What UFS keeps ACLs in. They are read and written as ACLs.
const ACLS_OF_UFS: [&[u8]; 3] = [b"posix1e.acl_access", b"posix1e.acl_default", b"nfs4.acl"];

/// What a name stands for.
enum Place {
    Attribute(Space, CString),
    Acl(Acl),
}

/// `None`: nothing here can be called that.
fn place(name: &CStr) -> Option<Place> {
    if let Some(acl) = Acl::named(name) {
        return Some(Place::Acl(acl));
    }
    [USER, SYSTEM].into_iter().find_map(|space| {
        let rest = name.to_bytes().strip_prefix(space.0)?;
        let is_acl = space == SYSTEM && ACLS_OF_UFS.contains(&rest);
        let usable = !rest.is_empty() && !is_acl;
        let rest = CString::new(rest).ok().filter(|_| usable)?;
        Some(Place::Attribute(space, rest))
    })
}

/// Whether an attribute is to be set after the mode: setting the mode may do away with an ACL.
pub fn comes_after_mode(name: &CStr) -> bool {
    Acl::named(name).is_some()
}

/// Reads all extended attributes.
pub fn all(from: Node<'_>) -> Result<Vec<(CString, Vec<u8>)>, Fault> {
    reached(from, |fd| {
        let mut found = Vec::new();
        for space in [USER, SYSTEM] {
            for name in names(fd, space)? {
                // One that goes away in the meantime is none.
                if let Some(value) = get(fd, space, &name)? {
                    let name = [space.0, name.to_bytes()].concat();
                    found.push((CString::new(name).unwrap_or_default(), value));
                }
            }
        }
        found.extend(acl::all(fd)?);
        Ok(found)
    })
    .step(Step::ReadingAttributes)
}

/// One attribute's value; `None` when it isn't there.
pub fn value(from: Node<'_>, name: &CStr) -> Result<Option<Vec<u8>>, Fault> {
    let Some(place) = place(name) else {
        return Ok(None);
    };
    reached(from, |fd| match &place {
        Place::Attribute(space, name) => get(fd, *space, name),
        Place::Acl(acl) => Ok(acl.get(fd)?.map(|entries| acl.encoded(&entries))),
    })
    .step(Step::ReadingAttributes)
}

/// Sets one attribute; `false` when the file system can't hold attributes of this kind.
pub fn set(to: Node<'_>, name: &CStr, value: &[u8]) -> Result<bool, Fault> {
    let result = match (place(name), to) {
        // ACLs can't be set by a handle; what has none but a handle has its mode.
        (None, _) | (Some(Place::Acl(_)), Node::Entry(..)) => return Ok(false),
        (Some(Place::Acl(acl)), Node::Open(fd)) => match acl.decoded(value) {
            Some(entries) => acl.set(fd, &entries),
            None => Err(Errno::INVAL),
        },
        (Some(Place::Attribute(space, name)), to) => {
            reached(to, |fd| set_attribute(fd, space, &name, value))
        }
    };
    match result {
        Ok(()) => Ok(true),
        // What the file system can't hold, or (jails and the system's name space) we may not set.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(false),
        Err(errno) => Err(Fault::new(Step::SettingAttributes, errno)),
    }
}

/// Removes what a directory hands down to new entries.
pub fn clear_default_acl(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    acl::clear_inherited(dir)
}

/// Removes an attribute, if it is there. Instead of an ACL the mode alone counts then.
pub fn remove(fd: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let removed = match place(name) {
        None => return Ok(()),
        Some(Place::Acl(acl)) => acl.remove(fd),
        Some(Place::Attribute((_, space), name)) => {
            // SAFETY: the name is a C string that outlives the call.
            let result = unsafe { libc::extattr_delete_fd(fd.as_raw_fd(), space, name.as_ptr()) };
            checked(result as isize).map(drop)
        }
    };
    match removed {
        Err(Errno::NOATTR | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Does something with the descriptor of a node. That of an entry is a handle, which is enough for
/// attributes and for reading ACLs.
fn reached<T>(
    node: Node<'_>,
    work: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    match node {
        Node::Open(fd) => work(fd),
        Node::Entry(dir, name) => work(handle(dir, name)?.as_fd()),
    }
}

fn handle(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, name, sys::HANDLE | OFlags::NOFOLLOW, Mode::empty())
}

/// The names in a name space: each with a byte in front that counts the others.
fn names(fd: BorrowedFd<'_>, (_, space): Space) -> rustix::io::Result<Vec<CString>> {
    let listed = growing(|buffer| {
        let (to, length) = (buffer.as_mut_ptr().cast::<c_void>(), buffer.len());
        // SAFETY: the kernel writes at most `length` bytes to the buffer.
        checked(unsafe { libc::extattr_list_fd(fd.as_raw_fd(), space, to, length) })
    });
    let list = match listed {
        Ok(list) => list,
        // The system's are for root alone, and not in every jail.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let (mut rest, mut names) = (list.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first() {
        let Some((name, after)) = after.split_at_checked(usize::from(*length)) else {
            break;
        };
        rest = after;
        let is_acl = space == SYSTEM.1 && ACLS_OF_UFS.contains(&name);
        names.extend(CString::new(name).ok().filter(|_| !is_acl));
    }
    Ok(names)
}

fn get(fd: BorrowedFd<'_>, (_, space): Space, name: &CStr) -> rustix::io::Result<Option<Vec<u8>>> {
    let read = growing(|buffer| {
        let (to, length) = (buffer.as_mut_ptr().cast::<c_void>(), buffer.len());
        // SAFETY: the name is a C string, and the kernel writes at most `length` bytes to the buffer.
        checked(unsafe { libc::extattr_get_fd(fd.as_raw_fd(), space, name.as_ptr(), to, length) })
    });
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOATTR | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Reads with a buffer that grows until something of it is left: what is longer is cut without a word.
fn growing(
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; USUAL];
    loop {
        let length = read(&mut buffer)?;
        if length < buffer.len() {
            buffer.truncate(length);
            return Ok(buffer);
        }
        if buffer.len() > LARGEST {
            return Err(Errno::RANGE);
        }
        buffer.resize(buffer.len() * 8, 0);
    }
}

fn set_attribute(
    fd: BorrowedFd<'_>,
    (_, space): Space,
    name: &CStr,
    value: &[u8],
) -> rustix::io::Result<()> {
    let from = if value.is_empty() {
        // Any address but none will do for no bytes.
        ptr::dangling()
    } else {
        value.as_ptr().cast::<c_void>()
    };
    // SAFETY: the name is a C string, and the kernel reads `value.len()` bytes of the value.
    let result =
        unsafe { libc::extattr_set_fd(fd.as_raw_fd(), space, name.as_ptr(), from, value.len()) };
    checked(result).map(drop)
}
