//! Trees made at random come out of a copy as they went in.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use common::{Dir, Facts, assert_same, facts, scratch, set_xattr};
use kleene_tree::{
    CopyOptions, PopulateOutcome, UnpackOptions, copy_tree, pack_tar, populate, unpack_tar, usage,
};
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

#[derive(Debug, Clone)]
enum Shape {
    File(Vec<(u32, Vec<u8>)>, u32),
    Dir,
    Symlink(Vec<u8>),
    HardLink(usize),
    Node(u8),
}

#[derive(Debug, Clone)]
struct Entry {
    parent: usize,
    name: Vec<u8>,
    shape: Shape,
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    xattrs: Vec<(u8, Vec<u8>)>,
}

fn name(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| {
        if byte == 0 || byte == b'/' {
            b'x'
        } else {
            byte
        }
    });
    vec(byte, 1..max).prop_map(|name| {
        if name == b"." || name == b".." {
            b"dots".into()
        } else {
            name
        }
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let pieces = vec((0..2_000_000_u32, vec(any::<u8>(), 0..5000)), 0..4);
    prop_oneof![
        3 => (pieces, 0..3_000_000_u32).prop_map(|(pieces, length)| Shape::File(pieces, length)),
        3 => Just(Shape::Dir),
        1 => name(300).prop_map(Shape::Symlink),
        1 => any::<usize>().prop_map(Shape::HardLink),
        1 => (0..4_u8).prop_map(Shape::Node),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let time = (-1000..4_000_000_000_i64, 0..1_000_000_000_i64);
    let xattrs = vec((0..5_u8, vec(any::<u8>(), 0..300)), 0..3);
    let owner = (0..70_000_u32, 0..70_000_u32);
    (
        any::<usize>(),
        name(40),
        shape(),
        0..0o10000_u32,
        owner,
        time,
        xattrs,
    )
        .prop_map(|(parent, name, shape, mode, owner, time, xattrs)| Entry {
            parent,
            name,
            shape,
            mode,
            owner,
            time,
            xattrs,
        })
}

/// Creates the entries; those that the system refuses (a name twice, say) are left out.
fn build(root: &Path, entries: &[Entry]) {
    let mut dirs = vec![root.to_owned()];
    let mut others: Vec<PathBuf> = Vec::new();
    let mut made = Vec::new();
    for entry in entries {
        let name = OsString::from_vec(entry.name.clone());
        let path = dirs[entry.parent % dirs.len()].join(name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match &entry.shape {
            Shape::File(pieces, length) => {
                let file = File::create(&path).unwrap();
                file.set_len(u64::from(*length)).unwrap();
                for (offset, data) in pieces {
                    file.write_all_at(data, u64::from(*offset)).unwrap();
                }
            }
            Shape::Dir => {
                fs::create_dir(&path).unwrap();
                dirs.push(path.clone());
            }
            Shape::Symlink(target) => {
                symlink(OsString::from_vec(target.clone()), &path).unwrap();
            }
            Shape::HardLink(which) if !others.is_empty() => {
                fs::hard_link(&others[which % others.len()], &path).unwrap();
            }
            Shape::HardLink(_) => continue,
            Shape::Node(kind) => {
                let (kind, device) = match kind {
                    0 => (FileType::Fifo, 0),
                    1 => (FileType::Socket, 0),
                    2 => (FileType::CharacterDevice, rustix::fs::makedev(1, 5)),
                    _ => (FileType::BlockDevice, rustix::fs::makedev(7, 9)),
                };
                mknodat(CWD, &path, kind, Mode::RUSR, device).unwrap();
            }
        }
        if !matches!(entry.shape, Shape::Dir) {
            others.push(path.clone());
        }
        made.push((path, entry));
    }
    for (path, entry) in made.iter().rev() {
        dress(path, entry);
    }
}

fn dress(path: &Path, entry: &Entry) {
    let kind = fs::symlink_metadata(path).unwrap().file_type();
    lchown(path, Some(entry.owner.0), Some(entry.owner.1)).unwrap();
    for (number, value) in &entry.xattrs {
        let space = if kind.is_file() || kind.is_dir() {
            "user"
        } else {
            "trusted"
        };
        set_xattr(path, &format!("{space}.number-{number}"), value);
    }
    if !kind.is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(entry.mode)).unwrap();
    }
    let time = Timespec {
        tv_sec: entry.time.0,
        tv_nsec: entry.time.1,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// What an archive of the tree holds: no sockets, and devices once a name.
fn archived(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let kind = |facts: &Facts| FileType::from_raw_mode(facts.mode);
    let mut found = facts(root);
    found.retain(|_, facts| kind(facts) != FileType::Socket);
    for facts in found.values_mut() {
        let alone = [FileType::CharacterDevice, FileType::BlockDevice];
        if alone.contains(&kind(facts)) {
            facts.same_as = None;
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn copies_equal_their_originals(entries in vec(entry(), 0..40)) {
        let scratch = scratch();
        let source = Dir::new(&scratch, "source");
        build(&source.path, &entries);
        let (copy, filled) = (Dir::new(&scratch, "copy"), Dir::new(&scratch, "filled"));
        let copied = copy_tree(source.fd(), copy.fd(), &CopyOptions::default()).unwrap();
        assert_same(&source.path, &copy.path);
        let [left, right] = [&source, &copy].map(|dir| usage(dir.fd()).unwrap());
        prop_assert_eq!(left, right);
        prop_assert_eq!(left.entries, copied.entries);
        match populate(copy.fd(), filled.fd()).unwrap() {
            PopulateOutcome::SourceEmpty => prop_assert_eq!(copied.entries, 0),
            PopulateOutcome::Copied(again) => prop_assert_eq!(again, copied),
            PopulateOutcome::TargetNotEmpty => prop_assert!(false, "it was empty"),
        }
        assert_same(&source.path, &filled.path);
        kleene_tree::remove_contents(source.fd()).unwrap();
        prop_assert_eq!(usage(source.fd()).unwrap().entries, 0);
    }

    #[test]
    fn archives_equal_their_originals(entries in vec(entry(), 0..40)) {
        let scratch = scratch();
        let source = Dir::new(&scratch, "source");
        build(&source.path, &entries);
        let mut archive = Vec::new();
        let packed = pack_tar(source.fd(), Path::new("."), Path::new("x"), &mut archive).unwrap();
        let target = Dir::new(&scratch, "target");
        let options = UnpackOptions { devices: true, ..UnpackOptions::default() };
        let go_on = &mut |_| ControlFlow::Continue(());
        let unpacked = unpack_tar(&mut archive.as_slice(), target.fd(), &options, go_on).unwrap();
        prop_assert_eq!(unpacked.entries, packed.entries);
        prop_assert_eq!(unpacked.bytes, packed.bytes);
        prop_assert_eq!(packed.changed, 0);
        let expected = archived(&source.path);
        prop_assert_eq!(archived(&target.path.join("x")), expected);
    }
}
