//! ACLs on FreeBSD: POSIX.1e's on UFS, NFSv4's on ZFS (and on UFS that is mounted so).
//!
//! They are shown as the attributes in which Linux has them: `system.posix_acl_access` and
//! `system.posix_acl_default` in the form of `linux/posix_acl_xattr.h`, `system.nfs4_acl` in that of
//! RFC 7530 (6.2.1), as Linux's NFS client has it, with numbers for users and groups. An ACL that says
//! no more than the mode does isn't shown at all.

use std::ffi::{CStr, CString, c_int, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::meta::Meta;
use crate::sys::checked;

/// `ACL_MAX_ENTRIES` in `sys/acl.h`.
const MAX_ENTRIES: usize = 254;

// Who an entry is about. POSIX.1e's have the same numbers on Linux.
const USER_OBJ: u32 = 0x01;
const USER: u32 = 0x02;
const GROUP_OBJ: u32 = 0x04;
const GROUP: u32 = 0x08;
const MASK: u32 = 0x10;
const OTHER: u32 = 0x20;
const EVERYONE: u32 = 0x40;

/// The id of an entry that isn't about one user or group.
const NO_ID: u32 = u32::MAX;

// What an entry of NFSv4 does.
const ALLOW: u16 = 0x100;
const DENY: u16 = 0x200;

// What it hands down to new entries of a directory.
const FILE_INHERIT: u16 = 0x01;
const DIRECTORY_INHERIT: u16 = 0x02;
const NO_PROPAGATE: u16 = 0x04;
const INHERIT_ONLY: u16 = 0x08;
/// All flags that the protocol and FreeBSD have in common, which have the same numbers.
const FLAGS: u32 = 0xbf;
/// In the protocol a flag says that an entry is about a group.
const IS_GROUP: u32 = 0x40;

// What it allows or denies.
const EXECUTE: u32 = 0x01;
const READ_DATA: u32 = 0x08;
const WRITE_DATA: u32 = 0x10;
const APPEND_DATA: u32 = 0x20;
const READ_NAMED: u32 = 0x40;
const WRITE_NAMED: u32 = 0x80;
const READ_ATTRIBUTES: u32 = 0x200;
const WRITE_ATTRIBUTES: u32 = 0x400;
const READ_ACL: u32 = 0x1000;
const WRITE_ACL: u32 = 0x2000;
const WRITE_OWNER: u32 = 0x4000;
const SYNCHRONIZE: u32 = 0x8000;

/// Rights in FreeBSD and in the protocol.
const RIGHTS: [(u32, u32); 14] = [
    (READ_DATA, 0x1),
    (WRITE_DATA, 0x2),
    (APPEND_DATA, 0x4),
    (READ_NAMED, 0x8),
    (WRITE_NAMED, 0x10),
    (EXECUTE, 0x20),
    (0x100, 0x40),
    (READ_ATTRIBUTES, 0x80),
    (WRITE_ATTRIBUTES, 0x100),
    (0x800, 0x1_0000),
    (READ_ACL, 0x2_0000),
    (WRITE_ACL, 0x4_0000),
    (WRITE_OWNER, 0x8_0000),
    (SYNCHRONIZE, 0x10_0000),
];

/// Linux's mark of a POSIX.1e ACL.
const POSIX_VERSION: u32 = 2;

/// `struct acl_entry` in `sys/acl.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    tag: u32,
    id: u32,
    rights: u32,
    kind: u16,
    flags: u16,
}

/// `struct acl` in `sys/acl.h`.
#[repr(C)]
struct List {
    maximum: c_uint,
    count: c_uint,
    spare: [c_int; 4],
    entries: [Entry; MAX_ENTRIES],
}

impl List {
    fn of(entries: &[Entry]) -> Option<Self> {
        let nothing = Entry {
            tag: 0,
            id: 0,
            rights: 0,
            kind: 0,
            flags: 0,
        };
        let mut list = Self {
            maximum: 254,
            count: u32::try_from(entries.len()).ok()?,
            spare: [0; 4],
            entries: [nothing; MAX_ENTRIES],
        };
        list.entries
            .get_mut(..entries.len())?
            .copy_from_slice(entries);
        Some(list)
    }
}

// The system calls themselves, which FreeBSD's C library exports: its own functions know no more about
// a list than that it is one.
unsafe extern "C" {
    fn __acl_get_fd(fd: c_int, kind: c_int, list: *mut List) -> c_int;
    fn __acl_set_fd(fd: c_int, kind: c_int, list: *const List) -> c_int;
    fn __acl_delete_fd(fd: c_int, kind: c_int) -> c_int;
}

/// One of the ACLs that a file may have, by its number in `sys/acl.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Acl {
    Access = 2,
    Default = 3,
    Nfs4 = 4,
}

/// All ACLs that there are.
pub(super) fn all(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, Vec<u8>)>> {
    let mut found = Vec::new();
    for acl in [Acl::Nfs4, Acl::Access, Acl::Default] {
        if let Some(entries) = acl.get(fd)? {
            found.push((acl.name().to_owned(), acl.encoded(&entries)));
        }
    }
    Ok(found)
}

/// Removes what a directory hands down to new entries.
pub(super) fn clear_inherited(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    if let Some(mut entries) = Acl::Nfs4.get(dir)? {
        let hands_down = FILE_INHERIT | DIRECTORY_INHERIT | NO_PROPAGATE | INHERIT_ONLY;
        let before = entries.clone();
        entries.retain(|entry| entry.flags & INHERIT_ONLY == 0);
        for entry in &mut entries {
            entry.flags &= !hands_down;
        }
        if entries.is_empty() {
            return Acl::Nfs4.remove(dir);
        }
        if entries != before {
            return Acl::Nfs4.set(dir, &entries);
        }
    }
    match Acl::Default.remove(dir) {
        Err(Errno::NOATTR | Errno::OPNOTSUPP | Errno::INVAL) => Ok(()),
        other => other,
    }
}

impl Acl {
    fn name(self) -> &'static CStr {
        match self {
            Self::Access => c"system.posix_acl_access",
            Self::Default => c"system.posix_acl_default",
            Self::Nfs4 => c"system.nfs4_acl",
        }
    }

    pub fn named(name: &CStr) -> Option<Self> {
        let all = [Self::Access, Self::Default, Self::Nfs4];
        all.into_iter().find(|acl| acl.name() == name)
    }

    /// The entries; `None` when there is no such ACL, or when it says no more than the mode.
    pub fn get(self, fd: BorrowedFd<'_>) -> rustix::io::Result<Option<Vec<Entry>>> {
        let Some(mut list) = List::of(&[]) else {
            return Err(Errno::INVAL);
        };
        // SAFETY: the kernel fills in a list of the size that it knows, which is this one's.
        let got = unsafe { __acl_get_fd(fd.as_raw_fd(), self as c_int, &raw mut list) };
        match checked(got as isize) {
            Ok(_) => {}
            // File systems that have none, or another kind.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::NOATTR) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let count = usize::try_from(list.count).unwrap_or(MAX_ENTRIES);
        let entries = list.entries.get(..count).unwrap_or_default().to_vec();
        let trivial = match self {
            Self::Access => entries.len() <= 3,
            Self::Default => entries.is_empty(),
            Self::Nfs4 => nfs4_of_mode(nfs4_mode(&entries)) == entries,
        };
        Ok((!trivial).then_some(entries))
    }

    pub fn set(self, fd: BorrowedFd<'_>, entries: &[Entry]) -> rustix::io::Result<()> {
        let list = List::of(entries).ok_or(Errno::INVAL)?;
        // SAFETY: the kernel reads a list of the size that it knows, which is this one's.
        let set = unsafe { __acl_set_fd(fd.as_raw_fd(), self as c_int, &raw const list) };
        checked(set as isize).map(drop)
    }

    /// Leaves nothing but what the mode says.
    pub fn remove(self, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
        let mode = || -> rustix::io::Result<u32> { Ok(Meta::of(fd)?.mode.as_raw_mode().into()) };
        match self {
            Self::Access => self.set(fd, &posix_of_mode(mode()?)),
            Self::Nfs4 => self.set(fd, &nfs4_of_mode(mode()?)),
            Self::Default => {
                // SAFETY: no memory is passed.
                let deleted = unsafe { __acl_delete_fd(fd.as_raw_fd(), self as c_int) };
                checked(deleted as isize).map(drop)
            }
        }
    }

    /// As Linux has it.
    pub fn encoded(self, entries: &[Entry]) -> Vec<u8> {
        match self {
            Self::Access | Self::Default => posix_encoded(entries),
            Self::Nfs4 => nfs4_encoded(entries),
        }
    }

    /// From Linux's form; `None` when it isn't in that.
    pub fn decoded(self, value: &[u8]) -> Option<Vec<Entry>> {
        let entries = match self {
            Self::Access | Self::Default => posix_decoded(value)?,
            Self::Nfs4 => nfs4_decoded(value)?,
        };
        (entries.len() <= MAX_ENTRIES).then_some(entries)
    }
}

fn entry(tag: u32, rights: u32, kind: u16) -> Entry {
    Entry {
        tag,
        id: NO_ID,
        rights,
        kind,
        flags: 0,
    }
}

fn posix_of_mode(mode: u32) -> Vec<Entry> {
    let of = |tag, shift: u32| entry(tag, (mode >> shift) & 0o7, 0);
    vec![of(USER_OBJ, 6), of(GROUP_OBJ, 3), of(OTHER, 0)]
}

/// What ZFS and UFS make of a mode: what the owner, the group and everyone else may do, and in front of
/// these what keeps a class from getting the rights of those after it.
fn nfs4_of_mode(mode: u32) -> Vec<Entry> {
    let rights = |shift: u32| {
        let bits = (mode >> shift) & 0o7;
        let read = if bits & 4 == 0 { 0 } else { READ_DATA };
        let write = if bits & 2 == 0 {
            0
        } else {
            WRITE_DATA | APPEND_DATA
        };
        let execute = if bits & 1 == 0 { 0 } else { EXECUTE };
        read | write | execute
    };
    let (owner, group, everyone) = (rights(6), rights(3), rights(0));
    let owner_lacks = (group | everyone) & !owner;
    let group_lacks = everyone & !group;
    let in_front = [
        entry(USER_OBJ, group_lacks & !owner_lacks, ALLOW),
        entry(USER_OBJ, owner_lacks, DENY),
        entry(GROUP_OBJ, group_lacks, DENY),
    ];
    let all = READ_ACL | READ_ATTRIBUTES | READ_NAMED | SYNCHRONIZE;
    let own = WRITE_ACL | WRITE_OWNER | WRITE_ATTRIBUTES | WRITE_NAMED;
    let mut entries = Vec::from(in_front);
    entries.retain(|entry| entry.rights != 0);
    entries.extend([
        entry(USER_OBJ, owner | all | own, ALLOW),
        entry(GROUP_OBJ, group | all, ALLOW),
        entry(EVERYONE, everyone | all, ALLOW),
    ]);
    entries
}

/// The mode of an ACL that is made of one; of another some mode.
fn nfs4_mode(entries: &[Entry]) -> u32 {
    let last = entries.iter().rev().take(3).zip([0, 3, 6]);
    last.fold(0, |mode, (entry, shift)| {
        let bit = |right, bit| if entry.rights & right == 0 { 0 } else { bit };
        mode | (bit(READ_DATA, 4) | bit(WRITE_DATA, 2) | bit(EXECUTE, 1)) << shift
    })
}

fn posix_encoded(entries: &[Entry]) -> Vec<u8> {
    let mut value = POSIX_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        // Tags and rights have few bits.
        for short in [entry.tag, entry.rights] {
            value.extend_from_slice(short.to_le_bytes().get(..2).unwrap_or_default());
        }
        value.extend_from_slice(&entry.id.to_le_bytes());
    }
    value
}

fn posix_decoded(value: &[u8]) -> Option<Vec<Entry>> {
    let entries = value.strip_prefix(&POSIX_VERSION.to_le_bytes())?;
    let (entries, []) = entries.as_chunks::<8>() else {
        return None;
    };
    let decode = |&[t0, t1, r0, r1, i0, i1, i2, i3]: &[u8; 8]| {
        let tag = u32::from(u16::from_le_bytes([t0, t1]));
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        let named = matches!(tag, USER | GROUP);
        let known = named || matches!(tag, USER_OBJ | GROUP_OBJ | MASK | OTHER);
        known.then_some(Entry {
            id: if named { id } else { NO_ID },
            ..entry(tag, u32::from(u16::from_le_bytes([r0, r1])), 0)
        })
    };
    entries.iter().map(decode).collect()
}

fn nfs4_encoded(entries: &[Entry]) -> Vec<u8> {
    let mut value = Vec::new();
    let number = |number: u32, value: &mut Vec<u8>| value.extend_from_slice(&number.to_be_bytes());
    number(u32::try_from(entries.len()).unwrap_or(u32::MAX), &mut value);
    for entry in entries {
        let (who, is_group) = match entry.tag {
            USER_OBJ => ("OWNER@".to_owned(), false),
            GROUP_OBJ => ("GROUP@".to_owned(), true),
            EVERYONE => ("EVERYONE@".to_owned(), false),
            tag => (entry.id.to_string(), tag == GROUP),
        };
        let rights = RIGHTS.iter().filter(|(own, _)| entry.rights & own != 0);
        // Allow is 0, deny 1, audit 2, alarm 3.
        number(
            u32::from(entry.kind >> 8).checked_ilog2().unwrap_or(0),
            &mut value,
        );
        number(
            u32::from(entry.flags) & FLAGS | if is_group { IS_GROUP } else { 0 },
            &mut value,
        );
        number(rights.fold(0, |all, (_, right)| all | right), &mut value);
        number(u32::try_from(who.len()).unwrap_or(0), &mut value);
        value.extend_from_slice(who.as_bytes());
        value.resize(value.len().next_multiple_of(4), 0);
    }
    value
}

fn nfs4_decoded(mut value: &[u8]) -> Option<Vec<Entry>> {
    let number = |value: &mut &[u8]| {
        let (first, rest) = value.split_first_chunk::<4>()?;
        *value = rest;
        Some(u32::from_be_bytes(*first))
    };
    let count = number(&mut value)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let kind = ALLOW
            .checked_shl(number(&mut value)?)
            .filter(|kind| *kind != 0)?;
        let flags = number(&mut value)?;
        let wanted = number(&mut value)?;
        let length = usize::try_from(number(&mut value)?).ok()?;
        let (who, rest) = value.split_at_checked(length.checked_next_multiple_of(4)?)?;
        value = rest;
        let (tag, id) = match who.get(..length)? {
            b"OWNER@" => (USER_OBJ, NO_ID),
            b"GROUP@" => (GROUP_OBJ, NO_ID),
            b"EVERYONE@" => (EVERYONE, NO_ID),
            id => {
                let id = str::from_utf8(id).ok()?.parse().ok()?;
                (if flags & IS_GROUP == 0 { USER } else { GROUP }, id)
            }
        };
        let rights = RIGHTS.iter().filter(|(_, right)| wanted & right != 0);
        entries.push(Entry {
            tag,
            id,
            rights: rights.fold(0, |all, (own, _)| all | own),
            kind,
            flags: u16::try_from(flags & FLAGS).ok()?,
        });
    }
    value.is_empty().then_some(entries)
}

#[cfg(test)]
mod tests;
