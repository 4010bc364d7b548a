//! ACLs in Linux's form, and those that say no more than a mode.

use super::*;

#[test]
fn modes_are_found_again() {
    for mode in 0..0o1000 {
        let entries = nfs4_of_mode(mode);
        assert_eq!(nfs4_mode(&entries), mode, "{mode:o}");
        assert_eq!(posix_of_mode(mode).len(), 3);
    }
    // The group may not read what the others may.
    let entries = nfs4_of_mode(0o604);
    assert_eq!(entries.len(), 5);
    assert_eq!((entries[0].rights, entries[0].kind), (READ_DATA, ALLOW));
    assert_eq!((entries[1].rights, entries[1].kind), (READ_DATA, DENY));
}

#[test]
fn nfs4_survives() {
    let mut entries = nfs4_of_mode(0o750);
    entries.insert(
        0,
        Entry {
            id: 1001,
            flags: FILE_INHERIT | DIRECTORY_INHERIT | 0x80,
            ..entry(GROUP, 0x100 | 0x800 | READ_DATA, DENY)
        },
    );
    entries.insert(
        0,
        Entry {
            id: 7,
            ..entry(USER, EXECUTE, ALLOW)
        },
    );
    let value = Acl::Nfs4.encoded(&entries);
    assert_eq!(Acl::Nfs4.decoded(&value), Some(entries));
    for length in 0..value.len() {
        assert_eq!(Acl::Nfs4.decoded(&value[..length]), None);
    }
    let unknown = b"\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x03joe\0";
    assert_eq!(Acl::Nfs4.decoded(unknown), None);
}

/// What Linux has after `setfacl -m u:1000:rw` of a file with mode 0640.
#[test]
fn posix_is_linux() {
    let value: &[u8] = &[
        2, 0, 0, 0, // version
        1, 0, 6, 0, 255, 255, 255, 255, // user::rw-
        2, 0, 6, 0, 232, 3, 0, 0, // user:1000:rw-
        4, 0, 4, 0, 255, 255, 255, 255, // group::r--
        16, 0, 6, 0, 255, 255, 255, 255, // mask::rw-
        32, 0, 0, 0, 255, 255, 255, 255, // other::---
    ];
    let entries = Acl::Access.decoded(value).unwrap();
    assert_eq!(
        entries[1],
        Entry {
            id: 1000,
            ..entry(USER, 6, 0)
        }
    );
    assert_eq!(Acl::Access.encoded(&entries), value);
    assert_eq!(Acl::Access.decoded(&value[..value.len() - 1]), None);
    assert_eq!(Acl::Access.decoded(&[3, 0, 0, 0]), None);
}
