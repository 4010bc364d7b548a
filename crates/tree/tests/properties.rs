//! Trees made at random come out of a copy as they went in.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
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
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

#[cfg(target_os = "linux")]
use common::Mounted;
use common::{Dir, Facts, LINUX, assert_same, facts, kind_of, scratch, set_xattr};
#[cfg(target_os = "linux")]
use kleene_tree::flatten;
use kleene_tree::{
    CopyOptions, LayerOf, PopulateOutcome, UnpackOptions, apply_layer, copy_tree, pack_layer,
    pack_tar, populate, unpack_tar, usage,
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
                    // FreeBSD has sockets from bind(2) alone.
                    1 if !LINUX => continue,
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
        } else if LINUX {
            "trusted"
        } else {
            break;
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
    let kind = |facts: &Facts| kind_of(facts.mode);
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

/// What is done to a tree, to the entry of this number.
#[derive(Debug, Clone)]
enum Edit {
    Remove(usize),
    /// Gives it other attributes.
    Dress(usize, Box<Entry>),
    /// Another content of the same length, at the same time.
    Rewrite(usize),
    Rename(usize, usize),
    Link(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let which = any::<usize>;
    prop_oneof![
        2 => which().prop_map(Edit::Remove),
        1 => (which(), entry()).prop_map(|(which, entry)| Edit::Dress(which, Box::new(entry))),
        2 => which().prop_map(Edit::Rewrite),
        1 => (which(), which()).prop_map(|(one, other)| Edit::Rename(one, other)),
        1 => (which(), which()).prop_map(|(one, other)| Edit::Link(one, other)),
    ]
}

/// Changes a tree. What the system refuses is left out.
fn change(root: &Path, edits: &[Edit], more: &[Entry]) {
    for edit in edits {
        let paths: Vec<PathBuf> = facts(root).into_keys().collect();
        let of = |which: &usize| root.join(&paths[which % paths.len()]);
        match edit {
            Edit::Remove(which) => {
                let path = of(which);
                let _refused = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
                fs::create_dir_all(root).unwrap();
            }
            Edit::Dress(which, entry) => dress(&of(which), entry),
            Edit::Rewrite(which) => {
                let path = of(which);
                let meta = fs::symlink_metadata(&path).unwrap();
                if meta.is_file() && meta.len() > 0 {
                    let file = File::options().write(true).open(&path).unwrap();
                    file.write_all_at(b"#", meta.len() / 2).unwrap();
                    file.set_modified(meta.modified().unwrap()).unwrap();
                }
            }
            Edit::Rename(one, other) => {
                let _refused = fs::rename(of(one), of(other));
            }
            Edit::Link(one, other) => {
                let _refused = fs::hard_link(of(one), of(other).join("linked"));
            }
        }
    }
    build(root, more);
}

/// What layers keep of a tree: no sockets, no device nodes, and not the root's time.
fn layered(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = archived(root);
    found.retain(|_, facts| {
        let kind = kind_of(facts.mode);
        kind != FileType::CharacterDevice && kind != FileType::BlockDevice
    });
    found.get_mut(Path::new("")).unwrap().mtime = (0, 0);
    // Overlays count names that are gone.
    let mut names = BTreeMap::<PathBuf, usize>::new();
    for facts in found.values() {
        if let Some(first) = &facts.same_as {
            *names.entry(first.clone()).or_default() += 1;
        }
    }
    for facts in found.values_mut() {
        facts.same_as = facts.same_as.take().filter(|first| names[first] > 1);
    }
    found
}

/// Tells the first difference in a few words: contents are long.
#[track_caller]
fn assert_layered(left: &Path, right: &Path) {
    let (left, right) = (layered(left), layered(right));
    let short = |facts: Option<&Facts>| {
        facts.map(|facts| {
            let names: Vec<_> = facts.xattrs.keys().collect();
            let first = facts.content.get(..40).unwrap_or(&facts.content);
            let Facts {
                mode,
                uid,
                gid,
                mtime,
                size,
                same_as,
                ..
            } = facts;
            format!("{mode:o} {uid} {gid} {mtime:?} {size} {same_as:?} {names:?} {first:?}")
        })
    };
    for path in left.keys().chain(right.keys()) {
        let (left, right) = (left.get(path), right.get(path));
        assert!(
            left == right,
            "{path:?}: {:?}\n{:?}",
            short(left),
            short(right)
        );
    }
}

/// A layer between two trees, which must be the same each time.
fn layer(old: Option<&Path>, new: &Path, apart: Option<&[&Path]>) -> Vec<u8> {
    let open = |path: &Path| File::open(path).unwrap();
    let (old, new) = (old.map(open), open(new));
    let apart: Option<Vec<_>> =
        apart.map(|apart| apart.iter().map(|path| open(path).into()).collect());
    let of = LayerOf {
        below: old.as_ref().map(AsFd::as_fd),
        root: new.as_fd(),
        apart: apart.as_deref(),
    };
    let pack = || {
        let mut bytes = Vec::new();
        pack_layer(&of, &mut bytes).unwrap();
        bytes
    };
    let bytes = pack();
    assert_eq!(bytes, pack());
    bytes
}

fn apply(layer: &[u8], root: &Path) {
    let root = File::open(root).unwrap();
    let go_on = &mut |_| ControlFlow::Continue(());
    let mut layer = layer;
    apply_layer(&mut layer, root.as_fd(), &UnpackOptions::default(), go_on).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    let (from, to) = (File::open(from).unwrap(), File::open(to).unwrap());
    copy_tree(from.as_fd(), to.as_fd(), &CopyOptions::default()).unwrap();
}

/// Layers of overlays make one tree of another, too.
#[cfg(target_os = "linux")]
fn in_an_overlay(scratch: &tempfile::TempDir, old: &Dir, edits: &[Edit], more: &[Entry]) {
    for name in ["upper", "work", "merged", "empty", "again"] {
        fs::create_dir(scratch.path().join(name)).unwrap();
    }
    let path = |name: &str| scratch.path().join(name);
    let mount = |upper: &str, work: &str, at: &str| {
        let [upper, work] = [upper, work].map(|name| path(name).display().to_string());
        let lower = old.path.display();
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        Mounted::new("overlay", &path(at), "overlay", &options)
    };
    let _merged = mount("upper", "work", "merged");
    change(&path("merged"), edits, more);
    let layers = ["upper", "old"].map(|name| File::open(path(name)).unwrap().into());
    let flat = Dir::new(scratch, "flat");
    flatten(&layers, flat.fd()).unwrap();
    assert_layered(&flat.path, &path("merged"));
    let made = layer(Some(&old.path), &path("merged"), Some(&[&path("upper")]));
    let twice = path("twice");
    copy(&old.path, &twice);
    apply(&made, &twice);
    assert_layered(&twice, &path("merged"));
    fs::create_dir(path("more-work")).unwrap();
    let _again = mount("empty", "more-work", "again");
    apply(&made, &path("again"));
    assert_layered(&path("again"), &path("merged"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

    #[test]
    fn layers_make_one_tree_of_another(
        entries in vec(entry(), 0..30),
        edits in vec(edit(), 0..8),
        more in vec(entry(), 0..8),
    ) {
        let scratch = scratch();
        let old = Dir::new(&scratch, "old");
        build(&old.path, &entries);

        // Alone, and between a tree and a copy of it that has been changed.
        let whole = Dir::new(&scratch, "whole");
        apply(&layer(None, &old.path, None), &whole.path);
        assert_layered(&whole.path, &old.path);
        let (new, applied) = (scratch.path().join("new"), scratch.path().join("applied"));
        copy(&old.path, &new);
        copy(&old.path, &applied);
        change(&new, &edits, &more);
        apply(&layer(Some(&old.path), &new, None), &applied);
        assert_layered(&applied, &new);

        #[cfg(target_os = "linux")]
        in_an_overlay(&scratch, &old, &edits, &more);
    }
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
        if common::blocks_are_known(&copy.path) {
            prop_assert_eq!(left, right);
        }
        prop_assert_eq!(left.apparent, right.apparent);
        prop_assert_eq!((left.entries, right.entries), (copied.entries, copied.entries));
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
