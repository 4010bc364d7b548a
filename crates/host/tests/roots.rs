//! Roots as detached mount trees, on a real kernel. Needs root, as the daemon does.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

#[path = "../src/shared/test_support.rs"]
#[allow(dead_code, reason = "shared with unit tests")]
mod test_support;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kleene_doors::storage::Root;
use kleene_monitor::root::{RootError, open_root, open_root_read_only};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use test_support::{Hostile, mount_tmpfs, with_own_mounts};

fn read(tree: impl AsFd, path: &str) -> Result<String, Errno> {
    let file = rustix::fs::openat(tree, path, OFlags::RDONLY, Mode::empty())?;
    let mut buffer = [0; 64];
    let length = rustix::io::read(&file, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn write(tree: impl AsFd, path: &str, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = rustix::fs::openat(tree, path, flags, Mode::RWXU)?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// An overlay of so many layers; the file `who` in each tells which one it is, the topmost is 0.
fn layers(dir: &Path, count: usize) -> Root {
    let make = |name: String| {
        let path = dir.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let lower: Vec<PathBuf> = (0..count).map(|n| make(format!("lower-{n}"))).collect();
    for (n, path) in lower.iter().enumerate() {
        fs::write(path.join("who"), n.to_string()).unwrap();
        fs::write(path.join(format!("only-{n}")), n.to_string()).unwrap();
    }
    let (upper, work) = (make("upper".into()), make("work".into()));
    Root::Overlay { lower, upper, work }
}

#[test]
fn the_host_sees_nothing_of_it() {
    let hostile = Hostile::new();
    for root in hostile.roots() {
        for open in [open_root, open_root_read_only] {
            let tree = open(&root).unwrap();
            assert_eq!(read(&tree, "etc/passwd").unwrap(), "the container's");
            assert!(!hostile.is_mounted());
        }
    }
}

#[test]
fn changes_go_into_the_upper_layer_only() {
    let dir = tempfile::tempdir().unwrap();
    let root = layers(dir.path(), 2);
    let tree = open_root(&root).unwrap();
    write(&tree, "who", "me").unwrap();
    write(&tree, "new", "new").unwrap();
    rustix::fs::unlinkat(&tree, "only-1", AtFlags::empty()).unwrap();
    drop(tree);
    assert_eq!(
        fs::read_to_string(dir.path().join("upper/who")).unwrap(),
        "me"
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("lower-0/who")).unwrap(),
        "0"
    );
    assert!(dir.path().join("lower-1/only-1").exists());
    // A volatile overlay would leave a mark that keeps it from being mounted again after a crash.
    assert!(!dir.path().join("work/work/incompat").exists());

    for open in [open_root, open_root_read_only] {
        let tree = open(&root).unwrap();
        assert_eq!(read(&tree, "who").unwrap(), "me");
        assert_eq!(read(&tree, "new").unwrap(), "new");
        assert_eq!(read(&tree, "only-0").unwrap(), "0");
        assert_eq!(read(&tree, "only-1"), Err(Errno::NOENT));
    }
}

#[test]
fn looking_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = layers(dir.path(), 1);
    let path = dir.path().join("lower-0");
    for root in [overlay, Root::Directory { path }] {
        let tree = open_root_read_only(&root).unwrap();
        assert_eq!(write(&tree, "new", ""), Err(Errno::ROFS));
        assert_eq!(write(&tree, "who", ""), Err(Errno::ROFS));
        assert_eq!(
            rustix::fs::unlinkat(&tree, "who", AtFlags::empty()),
            Err(Errno::ROFS)
        );
        assert_eq!(read(&tree, "who").unwrap(), "0");
    }
}

/// More layers than their names fit into one text of `fsconfig(2)`, and any characters.
#[test]
fn many_layers_and_odd_names() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir
        .path()
        .join("a:b,c\\d \"e\"\nf=g:upperdir=/etc,")
        .join("x".repeat(200));
    fs::create_dir_all(&odd).unwrap();
    for count in [1, 3, 100] {
        let root = layers(&odd.join(count.to_string()), count);
        for open in [open_root_read_only, open_root] {
            let tree = open(&root).unwrap();
            assert_eq!(read(&tree, "who").unwrap(), "0");
            let last = count - 1;
            assert_eq!(
                read(&tree, &format!("only-{last}")).unwrap(),
                last.to_string()
            );
        }
    }
}

#[test]
fn device_nodes_are_dead() {
    let hostile = Hostile::new();
    let null = rustix::fs::makedev(1, 3);
    let node = hostile.path("lower/null");
    rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, Mode::RWXU, null).unwrap();
    for root in hostile.roots() {
        for open in [open_root, open_root_read_only] {
            assert_eq!(read(open(&root).unwrap(), "null"), Err(Errno::ACCESS));
        }
    }
}

fn attach(tree: &OwnedFd, to: &Path) {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(tree, c"", CWD, to, flags).unwrap();
}

/// On most hosts `/` is shared: what is mounted in a copy of it would appear on the host, too.
#[test]
fn mounts_in_a_root_do_not_reach_the_host() {
    let hostile = Hostile::new();
    let inside = "a space\nand a newline";
    with_own_mounts(|| {
        let shared = hostile.volume();
        mount_tmpfs(&shared, c"");
        mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
        let place = shared.join("root");
        fs::create_dir_all(place.join(inside)).unwrap();
        let elsewhere = hostile.path("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        let tree = open_root(&Root::Directory {
            path: place.clone(),
        })
        .unwrap();
        attach(&tree, &elsewhere);
        mount_tmpfs(&elsewhere.join(inside), c"");
        fs::write(elsewhere.join(inside).join("secret"), "x").unwrap();
        assert!(!place.join(inside).join("secret").exists());
        fs::write(elsewhere.join("plain"), "x").unwrap();
        assert!(place.join("plain").exists());
    });
}

/// What is mounted beneath a directory on the host belongs to it.
#[test]
fn mounts_beneath_a_directory_come_along() {
    let hostile = Hostile::new();
    with_own_mounts(|| {
        let below = hostile.path("lower/a");
        mount_tmpfs(&below, c"");
        fs::write(below.join("mounted"), "yes").unwrap();
        let [root, _] = hostile.roots();
        let tree = open_root(&root).unwrap();
        assert_eq!(read(&tree, "a/mounted").unwrap(), "yes");
        write(&tree, "a/mounted", "rw").unwrap();
        // Read-only means all of it.
        let tree = open_root_read_only(&root).unwrap();
        assert_eq!(write(&tree, "a/mounted", ""), Err(Errno::ROFS));
    });
}

#[test]
fn errors_name_the_directory() {
    let hostile = Hostile::new();
    let [_, overlay] = hostile.roots();
    let Root::Overlay { lower, upper, work } = overlay else {
        unreachable!()
    };
    let missing = hostile.path("missing");
    let file = hostile.path("lower/file");
    for bad in [&missing, &file] {
        let (lower, bad) = (lower.clone(), bad.clone());
        let roots = [
            Root::Directory { path: bad.clone() },
            Root::Overlay {
                lower: vec![bad.clone()],
                upper: upper.clone(),
                work: work.clone(),
            },
            Root::Overlay {
                lower: lower.clone(),
                upper: bad.clone(),
                work: work.clone(),
            },
            Root::Overlay {
                lower,
                upper: upper.clone(),
                work: bad.clone(),
            },
        ];
        for root in roots {
            let error = open_root(&root).unwrap_err();
            assert!(
                matches!(&error, RootError::Open { path, .. } if *path == bad),
                "{error:?}"
            );
        }
    }
    // The kernel can't write to procfs, and says so.
    let upper = PathBuf::from("/proc/sys");
    let error = open_root(&Root::Overlay { lower, upper, work }).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("/proc/sys") && message.contains("overlay"),
        "{message}"
    );
    assert!(std::error::Error::source(&error).is_some());
}

/// A root that is a link leads where the link does: whoever can make one in the daemon's storage
/// owns the host anyway.
#[test]
fn storage_may_lie_behind_links() {
    let hostile = Hostile::new();
    let link = hostile.path("link");
    symlink(hostile.path("lower"), &link).unwrap();
    let tree = open_root(&Root::Directory { path: link }).unwrap();
    assert_eq!(read(tree, "file").unwrap(), "x");
}
