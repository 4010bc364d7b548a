//! Tests of destinations, against hostile roots.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use rustix::fs::{Mode, OFlags};

use super::super::copy_up::test_support::{Hostile, at};
use super::*;
use crate::linux::check_free;

fn refusal(root: &Root, path: &str, source: SourceKind) -> String {
    match check_destination(root, &at(path), source, check_free) {
        Err(HostError::Source(message)) => {
            assert!(message.contains(path), "doesn't name '{path}': {message}");
            message
        }
        other => panic!("{path}: {other:?}"),
    }
}

/// Names and change times of a directory's entries.
fn fingerprint(path: &Path) -> Vec<(std::ffi::OsString, i64, i64)> {
    let mut found: Vec<_> = fs::read_dir(path)
        .unwrap()
        .flatten()
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            (entry.file_name(), meta.ctime(), meta.ctime_nsec())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn good_destinations() {
    let hostile = Hostile::new();
    let before = fingerprint(&hostile.path("lower"));
    for root in hostile.roots() {
        for (path, source) in [
            ("/etc", SourceKind::Directory),
            ("/etc/passwd", SourceKind::File),
            ("/new", SourceKind::Directory),
            ("/new/deep/file", SourceKind::File),
            // Links lead to the container's own files.
            ("/app", SourceKind::Directory),
            ("/app/passwd", SourceKind::File),
            ("/up/passwd", SourceKind::File),
            ("/up/new", SourceKind::Directory),
            ("/dangling", SourceKind::Directory),
            ("/dangling/x", SourceKind::File),
            // A file may cover anything but a directory, and is never opened for that.
            ("/fifo", SourceKind::File),
            ("/to-fifo", SourceKind::File),
            ("/a space", SourceKind::Directory),
            ("/process", SourceKind::Directory),
        ] {
            check_destination(&root, &at(path), source, check_free)
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(!hostile.is_mounted());
        }
    }
    // Looking changes nothing, neither in the root nor in the layer above it.
    assert_eq!(fingerprint(&hostile.path("lower")), before);
    assert_eq!(fingerprint(&hostile.path("upper")), []);
}

#[test]
fn what_is_there_must_match_the_source() {
    let hostile = Hostile::new();
    for root in hostile.roots() {
        for path in ["/file", "/fifo", "/app/passwd"] {
            let message = refusal(&root, path, SourceKind::Directory);
            assert!(message.contains("the destination is a file"), "{message}");
        }
        for path in ["/etc", "/app", "/up"] {
            let message = refusal(&root, path, SourceKind::File);
            assert!(
                message.contains("the destination is a directory"),
                "{message}"
            );
        }
    }
}

#[test]
fn what_can_not_be_made_is_refused() {
    let hostile = Hostile::new();
    let name = "x".repeat(256);
    for root in hostile.roots() {
        for source in [SourceKind::Directory, SourceKind::File] {
            for path in [
                "/file/x",
                "/fifo/x/y",
                "/through",
                "/etc/passwd/x/y/z",
                "/to-fifo/x",
            ] {
                let message = refusal(&root, path, source);
                assert!(message.contains("not a directory"), "{path}: {message}");
            }
            for path in ["/round", "/round/x", "/trip", "/itself", "/itself/x/y"] {
                let message = refusal(&root, path, source);
                assert!(message.contains("in a circle"), "{path}: {message}");
            }
            let message = refusal(&root, &format!("/etc/{name}"), source);
            assert!(message.contains("255"), "{message}");
            let message = refusal(&root, &format!("/missing/{name}/x"), source);
            assert!(message.contains("255"), "{message}");
        }
    }
}

/// A root has a directory `proc`, where the container's processes will find the kernel's.
#[test]
fn nothing_is_mounted_over_proc() {
    let hostile = Hostile::new();
    fs::write(hostile.path("lower/proc/version"), "").unwrap();
    symlink("../proc", hostile.path("lower/processes")).unwrap();
    for root in hostile.roots() {
        for source in [SourceKind::Directory, SourceKind::File] {
            for path in ["/proc/x", "/proc/sys/kernel/x", "/processes/x"] {
                let message = refusal(&root, path, source);
                assert!(message.contains("/proc"), "{path}: {message}");
            }
        }
        assert!(refusal(&root, "/proc", SourceKind::Directory).contains("/proc"));
        assert!(refusal(&root, "/proc/version", SourceKind::File).contains("/proc"));
    }
}

/// A container whose devices are covered can't be joined.
#[test]
fn nothing_is_mounted_over_devices_and_sys() {
    let check = |hostile: &Hostile| {
        for root in hostile.roots() {
            for path in ["/dev", "/to-dev"] {
                let message = refusal(&root, path, SourceKind::Directory);
                assert!(message.contains("it is /dev,"), "{path}: {message}");
            }
            for path in ["/sys", "/to-sys"] {
                let message = refusal(&root, path, SourceKind::Directory);
                assert!(message.contains("it is /sys,"), "{path}: {message}");
            }
            for (path, source) in [
                ("/sys/new", SourceKind::Directory),
                ("/sys/new/deep", SourceKind::File),
                ("/to-sys/new", SourceKind::Directory),
                ("/sys/fs", SourceKind::File),
            ] {
                let message = refusal(&root, path, source);
                assert!(message.contains("lies in /sys,"), "{path}: {message}");
            }
            // What the kernel has there can be covered.
            check_destination(&root, &at("/sys/fs"), SourceKind::Directory, check_free).unwrap();
            for path in ["null", "pts", "pts/0", "fd/3", "stdout", "console", "ptmx"] {
                for directory in ["dev", "to-dev"] {
                    let message = refusal(&root, &format!("/{directory}/{path}"), SourceKind::File);
                    assert!(message.contains("the container's devices"), "{message}");
                }
            }
            for path in [
                "/dev/shm",
                "/dev/new",
                "/to-dev/new/deep",
                "/device",
                "/system",
            ] {
                check_destination(&root, &at(path), SourceKind::Directory, check_free).unwrap();
            }
        }
    };
    let hostile = Hostile::new();
    symlink("dev", hostile.path("lower/to-dev")).unwrap();
    symlink("/to-sys2", hostile.path("lower/to-sys")).unwrap();
    symlink("sys", hostile.path("lower/to-sys2")).unwrap();
    for directory in ["dev", "sys"] {
        fs::create_dir_all(hostile.path("lower").join(directory)).unwrap();
    }
    check(&hostile);
    fs::create_dir(hostile.path("lower/dev/shm")).unwrap();
    fs::write(hostile.path("lower/dev/null"), "").unwrap();
    check(&hostile);
}

#[test]
fn depth_is_no_danger() {
    let hostile = Hostile::new();
    let deep = format!("/{}", vec!["d"; 500].join("/"));
    for root in hostile.roots() {
        check_destination(&root, &at(&deep), SourceKind::Directory, check_free).unwrap();
        check_destination(&root, &at("/long"), SourceKind::Directory, check_free).unwrap();
        // Not even by a link to a path of a thousand parts, after which there are no more.
        check_destination(&root, &at("/long/x"), SourceKind::File, check_free).unwrap();
    }
    let mut here = rustix::fs::open(hostile.path("lower"), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..1000 {
        rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
        here = rustix::fs::openat(&here, "d", OFlags::PATH, Mode::empty()).unwrap();
    }
    for root in hostile.roots() {
        check_destination(&root, &at("/long"), SourceKind::Directory, check_free).unwrap();
        refusal(&root, "/long", SourceKind::File);
    }
}

#[test]
fn a_lost_root_is_no_fault_of_the_mount() {
    let path = Path::new("/nonexistent/root").to_owned();
    let root = Root::Directory { path };
    let error = check_destination(&root, &at("/x"), SourceKind::File, check_free).unwrap_err();
    assert!(matches!(error, HostError::Failed { .. }), "{error:?}");
}
