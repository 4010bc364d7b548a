//! Extended attributes on Linux.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::Node;
use crate::error::{Fault, InStep, Step};

const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// Enough for nearly every list of names and value; more is asked for when it isn't.
const USUAL: usize = 1024;

/// Whether an attribute is to be set after the mode: none is.
pub fn comes_after_mode(_: &CStr) -> bool {
    false
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
        Node::Entry(dir, entry) => rustix::fs::lsetxattr(by_proc(dir, entry), name, value, flags),
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
