//! Tests of copying up, on real trees.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use super::test_support::{Hostile, at, mount_tmpfs, with_own_mounts};
use super::*;

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn nothing(result: Result<CopyUp, HostError>) {
    assert_eq!(result.unwrap(), CopyUp::NothingToCopy);
}

#[test]
fn links_lead_to_the_containers_files() {
    for which in [0, 1] {
        for path in ["/app", "/up", "/etc"] {
            let hostile = Hostile::new();
            let root = &hostile.roots()[which];
            let copied = copy_up(root, &at(path), &hostile.volume()).unwrap();
            assert_eq!(
                copied,
                CopyUp::Copied {
                    entries: 1,
                    bytes: 15
                }
            );
            assert_eq!(names(&hostile.volume()), ["passwd"], "{path}");
            let passwd = fs::read_to_string(hostile.volume().join("passwd")).unwrap();
            assert_eq!(passwd, "the container's");
            assert!(!hostile.is_mounted());
            let again = copy_up(root, &at("/a"), &hostile.volume()).unwrap();
            assert_eq!(again, CopyUp::TargetNotEmpty);
            assert_eq!(names(&hostile.volume()), ["passwd"], "{path}");
        }
    }
}

#[test]
fn what_is_no_directory_gives_nothing() {
    let hostile = Hostile::new();
    for root in hostile.roots() {
        let up = |path| copy_up(&root, &at(path), &hostile.volume());
        for path in [
            "/missing",
            "/file",
            "/fifo",
            "/fifo/x",
            "/to-fifo",
            "/dangling",
            "/a/b",
            "/magic",
            "/kernel",
            "/proc",
            "/through",
            "/long",
        ] {
            nothing(up(path));
            assert_eq!(names(&hostile.volume()), [""; 0], "{path}");
        }
        for path in ["/round", "/itself/x"] {
            assert!(matches!(up(path), Err(HostError::Failed { .. })), "{path}");
            assert_eq!(names(&hostile.volume()), [""; 0], "{path}");
        }
    }
}

#[test]
fn an_overlay_is_copied_as_the_container_sees_it() {
    let hostile = Hostile::new();
    let [_, root] = hostile.roots();
    // What the container has done is in the upper layer: removed, replaced, new, dot files.
    let tree = kleene_monitor::root::open_root(&root).unwrap();
    rustix::fs::unlinkat(&tree, "a/b", AtFlags::empty()).unwrap();
    let write = |path: &str, text: &str| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let file = rustix::fs::openat(&tree, path, flags, Mode::RWXU).unwrap();
        rustix::io::write(&file, text.as_bytes()).unwrap();
    };
    write("a/.hidden", "h");
    write("etc/passwd", "changed");
    drop(tree);
    assert!(!names(&hostile.path("upper")).is_empty());
    let volume = hostile.volume();
    let copied = copy_up(&root, &at("/a"), &volume).unwrap();
    assert_eq!(
        copied,
        CopyUp::Copied {
            entries: 1,
            bytes: 1
        }
    );
    assert_eq!(names(&volume), [".hidden"]);
    let other = hostile.path("other");
    fs::create_dir(&other).unwrap();
    copy_up(&root, &at("/etc"), &other).unwrap();
    assert_eq!(fs::read_to_string(other.join("passwd")).unwrap(), "changed");
}

#[test]
fn nothing_of_the_root_changes() {
    let hostile = Hostile::new();
    let file = hostile.path("lower/etc/passwd");
    // Older than any change, so that reading would set a new access time (relatime).
    let long_ago = fs::FileTimes::new().set_accessed(std::time::UNIX_EPOCH);
    let open = fs::File::options().write(true).open(&file).unwrap();
    open.set_times(long_ago).unwrap();
    for root in hostile.roots() {
        let volume = hostile.path(&format!("v-{}", matches!(root, Root::Overlay { .. })));
        fs::create_dir(&volume).unwrap();
        copy_up(&root, &at("/etc"), &volume).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().atime(), 0);
        assert_eq!(names(&hostile.path("upper")), [""; 0]);
        // Neither has looking made the overlay's own directories.
        assert_eq!(names(&hostile.path("work")), [""; 0]);
    }
}

#[test]
fn a_full_volume_stays_empty() {
    let hostile = Hostile::new();
    let big = vec![b'x'; 2 << 20];
    fs::write(hostile.path("lower/etc/big"), big).unwrap();
    with_own_mounts(|| {
        mount_tmpfs(&hostile.volume(), c"size=1m");
        for root in hostile.roots() {
            let result = copy_up(&root, &at("/etc"), &hostile.volume());
            match result {
                Err(HostError::NoSpace(what)) => assert!(what.contains("/etc"), "{what}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(names(&hostile.volume()), [""; 0]);
            assert!(!recover_copy_up(&hostile.volume()).unwrap());
        }
    });
}

#[test]
fn an_unfinished_copy_is_tidied_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    assert!(!recover_copy_up(dir.path()).unwrap());
    let unfinished = path(".kleene-populate");
    fs::create_dir_all(unfinished.join("tree/half")).unwrap();
    // A directory of that name which others may read is somebody's.
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(recover_copy_up(dir.path()).unwrap());
    assert!(unfinished.join("tree/half").exists());
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(!recover_copy_up(dir.path()).unwrap());
    assert_eq!(names(dir.path()), [""; 0]);

    fs::create_dir(path("lost+found")).unwrap();
    assert!(!recover_copy_up(dir.path()).unwrap());
    fs::write(path("lost+found/#12"), "somebody's").unwrap();
    assert!(recover_copy_up(dir.path()).unwrap());
    fs::remove_dir_all(path("lost+found")).unwrap();
    fs::write(path(".dot"), "").unwrap();
    assert!(recover_copy_up(dir.path()).unwrap());
}

#[test]
fn a_volume_that_is_a_link_or_missing_is_an_error() {
    let hostile = Hostile::new();
    let [root, _] = hostile.roots();
    let elsewhere = hostile.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let link: PathBuf = hostile.path("link");
    symlink(&elsewhere, &link).unwrap();
    for into in [&link, &hostile.path("missing")] {
        let error = copy_up(&root, &at("/etc"), into).unwrap_err();
        assert!(
            error.to_string().contains(into.to_str().unwrap()),
            "{error}"
        );
        assert!(recover_copy_up(into).is_err());
    }
    assert_eq!(names(&elsewhere), [""; 0]);
}

/// Files that the container's user made hard to read are the daemon's to copy, with their modes.
#[test]
fn modes_come_along() {
    let hostile = Hostile::new();
    let set = |path: &str, mode| {
        let path = hostile.path(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    set("lower/etc/passwd", 0o4000);
    set("lower/etc", 0o1700);
    let [root, _] = hostile.roots();
    copy_up(&root, &at("/etc"), &hostile.volume()).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(hostile.volume()), 0o1700);
    assert_eq!(mode(hostile.volume().join("passwd")), 0o4000);
}
