//! Trees that are large enough for several threads to copy them.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::cell::Cell;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use common::{Dir, Mounted, assert_same, scratch, set_xattr};
use kleene_tree::{CopyOptions, PopulateOutcome, TreeError, copy_tree, populate, recover_populate};
use rustix::fs::{CWD, FileType, Mode, mknodat};

const DIRECTORIES: usize = 24;
const FILES: usize = 60;

/// Directories with files, each with a few entries that only one thread can copy among them.
fn fill(source: &Path) {
    for directory in 0..DIRECTORIES {
        let place = source.join(format!("d{directory}"));
        fs::create_dir(&place).unwrap();
        for file in 0..FILES {
            let size = (directory * 131 + file * 17) % 9000;
            let path = place.join(format!("f{file}"));
            fs::write(&path, vec![file as u8; size]).unwrap();
            let mode = if file % 7 == 0 { 0o4711 } else { 0o640 };
            chown(&path, Some(file as u32), Some(directory as u32)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            if file % 10 == 0 {
                set_xattr(&path, "user.number", file.to_string().as_bytes());
            }
        }
        // Names of one file in the same directory, and in the next ones.
        fs::hard_link(place.join("f1"), place.join("f1-again")).unwrap();
        fs::hard_link(place.join("f2"), source.join(format!("top{directory}"))).unwrap();
        if directory > 0 {
            let before = source.join(format!("d{}", directory - 1));
            fs::hard_link(before.join("f3"), place.join("f3-of-the-one-before")).unwrap();
        }
        symlink("f4", place.join("link")).unwrap();
        mknodat(CWD, place.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(place.join("inner")).unwrap();
        fs::write(place.join("inner/file"), "inner").unwrap();
        let mode = fs::Permissions::from_mode(0o500 + directory as u32 % 8);
        fs::set_permissions(&place, mode).unwrap();
        set_times(&place, directory);
    }
    set_times(source, 4711);
}

fn set_times(path: &Path, seconds: usize) {
    let old = rustix::fs::Timespec {
        tv_sec: 1_000_000_000 + seconds as i64,
        tv_nsec: 5,
    };
    let times = rustix::fs::Timestamps {
        last_access: old,
        last_modification: old,
    };
    let flags = rustix::fs::AtFlags::empty();
    rustix::fs::utimensat(CWD, path, &times, flags).unwrap();
}

#[test]
fn large_trees_are_copied_exactly() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    fill(&source.path);
    let expected = common::facts(&source.path).len() - 1;
    let last = Cell::new(0);
    let progress = |copied: &kleene_tree::Copied| {
        assert!(copied.entries >= last.get(), "the sum only grows");
        last.set(copied.entries);
        ControlFlow::Continue(())
    };
    let options = CopyOptions {
        progress: Some(&progress),
        ..Default::default()
    };
    let copied = copy_tree(source.fd(), target.fd(), &options).unwrap();
    assert_same(&source.path, &target.path);
    assert_eq!(copied.entries as usize, expected);
    assert_eq!(last.get(), copied.entries);
    // Once for each inode.
    let apparent = |dir: &Dir| {
        let facts = common::facts(&dir.path);
        let first = |path: &Path, same: &Option<std::path::PathBuf>| {
            same.as_ref().is_none_or(|same| same == path)
        };
        facts
            .iter()
            .filter(|(path, facts)| {
                facts.mode & 0o170_000 == 0o100_000 && first(path, &facts.same_as)
            })
            .map(|(_, facts)| facts.size)
            .sum::<u64>()
    };
    assert_eq!(copied.bytes, apparent(&source));
}

#[test]
fn a_large_copy_can_be_cancelled() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    fill(&source.path);
    let stop = |copied: &kleene_tree::Copied| {
        if copied.entries >= 500 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let options = CopyOptions {
        progress: Some(&stop),
        ..Default::default()
    };
    let cancelled = copy_tree(source.fd(), target.fd(), &options);
    assert!(matches!(cancelled, Err(TreeError::Cancelled)));
    // Nobody goes on writing afterwards.
    kleene_tree::remove_contents(target.fd()).unwrap();
    assert_eq!(fs::read_dir(&target.path).unwrap().count(), 0);
}

#[test]
fn an_entry_in_the_way_of_a_large_copy_is_named() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    for file in 0..1000 {
        fs::write(source.join(format!("f{file}")), "x").unwrap();
    }
    // Wherever it comes in the order of the directory.
    for taken in ["f0", "f500", "f999"] {
        fs::write(target.join(taken), "somebody's").unwrap();
        let refused = copy_tree(source.fd(), target.fd(), &CopyOptions::default());
        assert!(
            matches!(&refused, Err(TreeError::Exists { path }) if path == Path::new(taken)),
            "{refused:?}"
        );
        assert_eq!(
            fs::read_to_string(target.join(taken)).unwrap(),
            "somebody's"
        );
        kleene_tree::remove_contents(target.fd()).unwrap();
    }
}

#[test]
fn a_disk_that_gets_full_leaves_an_empty_target() {
    let scratch = scratch();
    let source = Dir::new(&scratch, "source");
    for file in 0..2000 {
        fs::write(source.join(format!("f{file}")), vec![1; 4096]).unwrap();
    }
    for (size, inodes) in [("4m", None), ("64m", Some(1000))] {
        let mounted = Dir::new(&scratch, "mounted");
        let _mount = Mounted::tmpfs(&mounted.path, size, inodes);
        let target = Dir::new(&scratch, "mounted/target");
        let full = populate(source.fd(), target.fd());
        assert!(matches!(full, Err(TreeError::NoSpace { .. })), "{full:?}");
        assert_eq!(fs::read_dir(&target.path).unwrap().count(), 0);
        assert!(!recover_populate(target.fd()).unwrap());
    }
}

#[test]
fn a_large_tree_is_populated_once_and_exactly() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    fill(&source.path);
    let filled = populate(source.fd(), target.fd()).unwrap();
    assert!(matches!(filled, PopulateOutcome::Copied(_)));
    assert_same(&source.path, &target.path);
    let again = populate(source.fd(), target.fd()).unwrap();
    assert_eq!(again, PopulateOutcome::TargetNotEmpty);
}

#[test]
fn a_large_source_may_change_meanwhile() {
    let scratch = scratch();
    let (source, target) = (Dir::new(&scratch, "source"), Dir::new(&scratch, "target"));
    for file in 0..4000 {
        fs::write(source.join(format!("f{file}")), "text").unwrap();
    }
    // Once the copy is under way, files vanish, or become directories, FIFOs and links.
    let changed = Cell::new(false);
    let change = |_: &kleene_tree::Copied| {
        if !changed.replace(true) {
            for file in (0..4000).step_by(5) {
                let path = source.join(format!("f{file}"));
                fs::remove_file(&path).unwrap();
                match file % 4 {
                    0 => fs::create_dir(&path).unwrap(),
                    1 => symlink("nowhere", &path).unwrap(),
                    2 => mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
                    _ => {}
                }
            }
            fs::write(source.join("f0/inside"), "inside").unwrap();
        }
        ControlFlow::Continue(())
    };
    let options = CopyOptions {
        progress: Some(&change),
        ..Default::default()
    };
    copy_tree(source.fd(), target.fd(), &options).unwrap();
    for file in (0..4000).filter(|file| file % 5 > 0) {
        let text = fs::read_to_string(target.join(format!("f{file}"))).unwrap();
        assert_eq!(text, "text");
    }
    // At most the very first one was copied before it changed.
    let now = |number: usize| fs::symlink_metadata(target.join(format!("f{number}")));
    let is_file = |number: &usize| now(*number).is_ok_and(|meta| meta.is_file());
    let kept = (0..4000).step_by(5).filter(is_file);
    assert!(kept.count() <= 1);
}
