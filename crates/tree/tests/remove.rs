//! Removing and measuring trees: never through a link, never into a mount.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::{Dir, Mounted, scratch};
use kleene_tree::{TreeError, remove_contents, remove_tree, remove_tree_at, usage};

fn fill(dir: &Dir) {
    fs::create_dir_all(dir.join("tree/a/b")).unwrap();
    fs::write(dir.join("tree/a/b/file"), "x").unwrap();
    fs::write(dir.join("tree/.dot"), "x").unwrap();
    fs::set_permissions(dir.join("tree/a"), fs::Permissions::from_mode(0o000)).unwrap();
}

#[test]
fn removes_everything_but_what_links_point_to() {
    let scratch = scratch();
    let (dir, outside) = (Dir::new(&scratch, "dir"), Dir::new(&scratch, "outside"));
    fs::write(outside.join("file"), "x").unwrap();
    fill(&dir);
    symlink(&outside.path, dir.join("tree/link")).unwrap();
    symlink(&outside.path, dir.join("link")).unwrap();
    assert!(remove_tree(dir.fd(), Path::new("tree")).unwrap());
    assert!(!remove_tree(dir.fd(), Path::new("tree")).unwrap());
    assert!(remove_tree(dir.fd(), Path::new("link")).unwrap());
    assert!(outside.join("file").exists());
    assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 0);
    fill(&dir);
    remove_contents(dir.fd()).unwrap();
    assert_eq!(fs::read_dir(&dir.path).unwrap().count(), 0);
    fill(&dir);
    assert!(remove_tree_at(&dir.path).unwrap());
    assert!(!remove_tree_at(&dir.path).unwrap());
    assert!(!remove_tree_at(&dir.join("below/below")).unwrap());
    for name in ["..", ".", "", "/", "a/b", "../outside"] {
        let refused = remove_tree(outside.fd(), Path::new(name));
        assert!(
            matches!(refused, Err(TreeError::OutsideRoot { .. })),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn mounts_inside_are_errors() {
    let scratch = scratch();
    let (dir, volume) = (Dir::new(&scratch, "dir"), Dir::new(&scratch, "volume"));
    fs::write(volume.join("precious"), "x").unwrap();
    for (point, file) in [
        ("tree/a/data", false),
        ("tree", false),
        ("tree/a/hosts", true),
    ] {
        fs::create_dir_all(dir.join("tree/a")).unwrap();
        let path = dir.join(point);
        // A bind mount of the same file system: the device number doesn't give it away.
        let mount = if file {
            fs::write(&path, "").unwrap();
            Mounted::bind(&volume.join("precious"), &path)
        } else {
            fs::create_dir_all(&path).unwrap();
            Mounted::bind(&volume.path, &path)
        };
        match remove_tree(dir.fd(), Path::new("tree")) {
            Err(TreeError::MountInside { path }) => assert_eq!(path, Path::new(point)),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(volume.join("precious")).unwrap(), b"x");
        drop(mount);
        assert!(remove_tree(dir.fd(), Path::new("tree")).unwrap());
    }
    assert!(volume.join("precious").exists());
}

#[test]
fn measures_inodes_once_and_stays_on_its_file_system() {
    let scratch = scratch();
    let dir = Dir::new(&scratch, "dir");
    fs::write(dir.join("file"), vec![1; 100_000]).unwrap();
    fs::create_dir(dir.join("sub")).unwrap();
    fs::hard_link(dir.join("file"), dir.join("sub/again")).unwrap();
    File::create(dir.join("hole"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();
    symlink("0123456789", dir.join("link")).unwrap();
    let blocks: u64 = ["", "file", "sub", "hole", "link"]
        .map(|name| fs::symlink_metadata(dir.join(name)).unwrap().blocks() * 512)
        .iter()
        .sum();
    let before = usage(dir.fd()).unwrap();
    assert_eq!((before.bytes, before.entries), (blocks, 5));
    assert_eq!(before.apparent, 100_000 + (1 << 30) + 10);
    let _mount = Mounted::tmpfs(&dir.join("sub"), "1m", None);
    fs::write(dir.join("sub/other"), vec![1; 50_000]).unwrap();
    assert_eq!(usage(dir.fd()).unwrap().entries, 4);
}
