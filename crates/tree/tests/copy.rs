//! Copying trees: every attribute is kept, nothing outside is touched.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use common::{Dir, LINUX, PATH_MAX, assert_same, facts, handle, scratch, set_xattr};
use kleene_tree::{CopyOptions, Existing, TreeError, copy_tree};
use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, mknodat};

fn copy(source: &Dir, target: &Dir) -> kleene_tree::Copied {
    copy_tree(source.fd(), target.fd(), &CopyOptions::default()).unwrap()
}

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = |seconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: time(seconds),
        last_modification: time(seconds + 1),
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(CWD, path, &times, flags).unwrap();
}

#[test]
fn keeps_owner_mode_and_times() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    for (name, mode) in [
        ("plain", 0o640),
        ("setuid", 0o4755),
        ("setgid", 0o2755),
        ("none", 0),
    ] {
        fs::write(source.join(name), name).unwrap();
        chown(source.join(name), Some(12345), Some(54321)).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode)).unwrap();
        set_times(&source.join(name), 1_000_000_007, 123_456_789);
    }
    fs::create_dir(source.join("sticky")).unwrap();
    fs::write(source.join("sticky/file"), "x").unwrap();
    fs::set_permissions(source.join("sticky"), fs::Permissions::from_mode(0o3777)).unwrap();
    set_times(&source.join("sticky"), 1_000_000_000, 1);
    symlink("plain", source.join("link")).unwrap();
    lchown(source.join("link"), Some(7), Some(8)).unwrap();
    set_times(&source.join("link"), 1_100_000_000, 999_999_999);
    chown(&source.path, Some(999), Some(998)).unwrap();
    fs::set_permissions(&source.path, fs::Permissions::from_mode(0o1770)).unwrap();
    set_times(&source.path, 1_200_000_000, 42);
    let atimes = |root: &Dir| {
        ["plain", "sticky", "link", "."].map(|name| {
            let meta = fs::symlink_metadata(root.join(name)).unwrap();
            (meta.atime(), meta.atime_nsec())
        })
    };
    let before = atimes(&source);
    let copied = copy(&source, &target);
    assert_eq!(copied.entries, 7);
    assert_eq!(atimes(&target), before);
    assert_same(&source.path, &target.path);
}

#[test]
fn keeps_extended_attributes_acls_and_capabilities() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    fs::write(source.join("file"), "x").unwrap();
    fs::create_dir(source.join("dir")).unwrap();
    symlink("nowhere", source.join("link")).unwrap();
    // user::rw-, user:33:rw-, group::r--, mask::rw-, other::---
    let acl: &[u8] = &[
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 33, 0, 0, 0, 4, 0, 4, 0, 255, 255,
        255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
    ];
    // cap_net_bind_service+ep
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    chown(source.join("file"), Some(33), Some(33)).unwrap();
    let (on_file, on_dir);
    if LINUX {
        set_xattr(&source.join("file"), "security.capability", capability);
        set_xattr(&source.join("file"), "system.posix_acl_access", acl);
        set_xattr(&source.join("dir"), "system.posix_acl_default", acl);
        set_xattr(&source.join("link"), "trusted.on-a-link", b"yes");
        (on_file, on_dir) = (4, 61);
    } else {
        set_xattr(&source.join("file"), "system.kept", b"too");
        set_xattr(&source.join("link"), "user.on-a-link", b"yes");
        (on_file, on_dir) = (3, 60);
    }
    set_xattr(&source.join("file"), "user.large", &vec![b'v'; 2000]);
    set_xattr(&source.join("file"), "user.empty", b"");
    for many in 0..60 {
        set_xattr(
            &source.join("dir"),
            &format!("user.a-name-of-some-length-{many}"),
            b"1",
        );
    }
    set_xattr(&source.path, "user.root", b"too");
    let copied = copy(&source, &target);
    assert_eq!(copied.skipped_xattrs, 0);
    assert_eq!(facts(&target.path)[Path::new("file")].xattrs.len(), on_file);
    assert_eq!(facts(&target.path)[Path::new("dir")].xattrs.len(), on_dir);
    assert_same(&source.path, &target.path);
}

/// ACLs of FreeBSD: see `freebsd.rs`.
#[cfg(target_os = "linux")]
#[test]
fn what_the_target_hands_down_does_not_reach_the_copy() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    fs::write(source.join("file"), "x").unwrap();
    fs::create_dir(source.join("dir")).unwrap();
    let acl: &[u8] = &[
        2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 33, 0, 0, 0, 4, 0, 7, 0, 255, 255,
        255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255,
    ];
    set_xattr(&target.path, "system.posix_acl_default", acl);
    fs::set_permissions(&target.path, fs::Permissions::from_mode(0o2777)).unwrap();
    chown(&target.path, Some(0), Some(77)).unwrap();
    copy(&source, &target);
    assert_same(&source.path, &target.path);
}

#[test]
fn keeps_types_and_odd_names() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    let long = "n".repeat(255);
    let odd: [&[u8]; 8] = [
        b".dot",
        b"..two",
        b"new\nline",
        b"\xff\xfe not UTF-8",
        b"-rf",
        b"*",
        b" ",
        long.as_bytes(),
    ];
    for name in odd {
        fs::write(source.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let mode = Mode::from_raw_mode(0o620);
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        // FreeBSD has sockets from bind(2) alone.
        (
            "socket",
            if LINUX {
                FileType::Socket
            } else {
                FileType::Fifo
            },
            0,
        ),
        ("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", FileType::BlockDevice, rustix::fs::makedev(7, 200)),
    ] {
        mknodat(CWD, source.join(name), kind, mode, device).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o666)).unwrap();
        chown(source.join(name), Some(5), Some(6)).unwrap();
    }
    symlink("/etc/passwd", source.join("absolute")).unwrap();
    symlink("x".repeat(PATH_MAX - 24), source.join("long link")).unwrap();
    fs::create_dir_all(source.join("empty/.hidden")).unwrap();
    assert_eq!(copy(&source, &target).entries, 16);
    assert_same(&source.path, &target.path);
}

#[test]
fn keeps_hard_links_between_directories() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::create_dir_all(source.join("c")).unwrap();
    fs::write(source.join("a/b/one"), "content").unwrap();
    for name in ["a/b/two", "a/three", "c/four", "five"] {
        fs::hard_link(source.join("a/b/one"), source.join(name)).unwrap();
    }
    symlink("text", source.join("link")).unwrap();
    fs::hard_link(source.join("link"), source.join("c/link")).unwrap();
    mknodat(CWD, source.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    fs::hard_link(source.join("fifo"), source.join("a/fifo")).unwrap();
    // One whose other name is outside: just a file.
    fs::write(scratch.path().join("outside"), "o").unwrap();
    fs::hard_link(scratch.path().join("outside"), source.join("inside")).unwrap();
    let copied = copy(&source, &target);
    assert_eq!(copied.bytes, 8);
    assert_eq!(fs::metadata(target.join("five")).unwrap().nlink(), 5);
    assert_eq!(fs::metadata(target.join("inside")).unwrap().nlink(), 1);
    fs::remove_file(scratch.path().join("outside")).unwrap();
    assert_same(&source.path, &target.path);
}

#[test]
fn keeps_holes() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    let file = File::create(source.join("sparse")).unwrap();
    file.write_at(b"start", 0).unwrap();
    file.write_at(b"middle", 300 << 20).unwrap();
    file.set_len(1 << 30).unwrap();
    File::create(source.join("nothing but a hole"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
    let mut dense = File::create(source.join("dense")).unwrap();
    dense.write_all(&vec![7; 3_000_001]).unwrap();
    dense.seek(SeekFrom::End(-1)).unwrap();
    copy(&source, &target);
    for name in ["sparse", "nothing but a hole", "dense"] {
        let [left, right] = [&source, &target].map(|dir| fs::metadata(dir.join(name)).unwrap());
        assert_eq!(left.len(), right.len(), "{name}");
        if common::blocks_are_known(&target.path) {
            assert_eq!(left.blocks(), right.blocks(), "{name}");
        }
    }
    let mut found = [0; 6];
    File::open(target.join("sparse"))
        .unwrap()
        .read_at(&mut found, 300 << 20)
        .unwrap();
    assert_eq!(&found, b"middle");
    assert_eq!(fs::read(target.join("dense")).unwrap(), vec![7; 3_000_001]);
}

#[test]
fn copies_trees_deeper_than_any_path() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    const DEPTH: usize = 3000;
    let build = |root: &Dir| {
        let mut dir = rustix::fs::openat(&root.file, ".", DIRECTORY, Mode::empty()).unwrap();
        for level in 0..DEPTH {
            let name = format!("level-{level}");
            rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
            dir = rustix::fs::openat(&dir, &name, DIRECTORY, Mode::empty()).unwrap();
        }
        dir
    };
    let bottom = build(&source);
    let create = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    rustix::fs::openat(&bottom, "treasure", create, Mode::RUSR).unwrap();
    // The second name of a link is met on the way back up, from where the first is far away.
    let flags = rustix::fs::AtFlags::empty();
    rustix::fs::linkat(&bottom, "treasure", &source.file, "zz-link", flags).unwrap();
    drop(bottom);
    let copied = copy(&source, &target);
    assert_eq!(copied.entries as usize, DEPTH + 2);
    assert_eq!(fs::metadata(target.join("zz-link")).unwrap().nlink(), 2);
    assert_eq!(
        kleene_tree::usage(target.fd()).unwrap().entries as usize,
        DEPTH + 2
    );
    kleene_tree::remove_contents(source.fd()).unwrap();
    assert!(kleene_tree::remove_tree_at(&target.path).unwrap());
    assert!(!target.path.exists());
    assert_eq!(fs::read_dir(&source.path).unwrap().count(), 0);
}

const DIRECTORY: rustix::fs::OFlags =
    rustix::fs::OFlags::RDONLY.union(rustix::fs::OFlags::DIRECTORY);

#[test]
fn never_follows_links() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    let outside = Dir::new(&scratch, "outside");
    fs::write(outside.join("secret"), "s").unwrap();
    symlink(&outside.path, source.join("out")).unwrap();
    fs::create_dir(source.join("app")).unwrap();
    fs::write(source.join("app/secret"), "overwritten").unwrap();
    fs::write(source.join("file"), "overwritten").unwrap();
    // A hostile target, merged into.
    symlink(&outside.path, target.join("app")).unwrap();
    symlink(outside.join("secret"), target.join("file")).unwrap();
    let options = CopyOptions {
        existing: Existing::Merge,
        ..Default::default()
    };
    copy_tree(source.fd(), target.fd(), &options).unwrap();
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"s");
    assert_eq!(fs::read_dir(&outside.path).unwrap().count(), 1);
    assert_same(&source.path, &target.path);
}

#[test]
fn refuses_or_merges_existing_entries() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    fs::create_dir(source.join("dir")).unwrap();
    fs::write(source.join("dir/new"), "new").unwrap();
    fs::create_dir(target.join("dir")).unwrap();
    fs::write(target.join("dir/old"), "old").unwrap();
    let refused = copy_tree(source.fd(), target.fd(), &CopyOptions::default());
    assert!(matches!(refused, Err(TreeError::Exists { path }) if path == Path::new("dir")));
    let merge = CopyOptions {
        existing: Existing::Merge,
        owner: Some((4, 5)),
        ..Default::default()
    };
    copy_tree(source.fd(), target.fd(), &merge).unwrap();
    assert_eq!(fs::read(target.join("dir/old")).unwrap(), b"old");
    assert_eq!(fs::metadata(target.join("dir/new")).unwrap().uid(), 4);
    assert_eq!(fs::metadata(target.join("dir")).unwrap().gid(), 5);
    // A directory isn't replaced by a file.
    fs::remove_dir_all(source.join("dir")).unwrap();
    fs::write(source.join("dir"), "file").unwrap();
    let refused = copy_tree(source.fd(), target.fd(), &merge);
    assert!(matches!(refused, Err(TreeError::Exists { .. })));
}

#[test]
fn a_target_inside_the_source_is_an_error() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    let target = Dir::new(&scratch, "source/below/target");
    assert!(copy_tree(source.fd(), target.fd(), &CopyOptions::default()).is_err());
}

#[test]
fn can_be_cancelled_and_takes_handles() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    for number in 0..10 {
        fs::write(source.join(number.to_string()), "x").unwrap();
    }
    let stop = |copied: &kleene_tree::Copied| {
        if copied.entries == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let options = CopyOptions {
        progress: Some(&stop),
        ..Default::default()
    };
    let (from, to) = (handle(&source.path), handle(&target.path));
    let cancelled = copy_tree(from.as_fd(), to.as_fd(), &options);
    assert!(matches!(cancelled, Err(TreeError::Cancelled)));
    assert_eq!(fs::read_dir(&target.path).unwrap().count(), 3);
}
