//! Resolving and creating paths beneath a root: no link leads out.
//!
//! Where the links would lead without the root is in the scratch directory or nowhere at all: a
//! regression mustn't harm the machine that finds it.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Dir, facts, scratch};
use kleene_tree::{
    Open, TreeError, create_dirs_in_root, create_file_in_root, open_in_root, resolve_in_root,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Where a descriptor leads, in the scratch directory that the root is in.
fn place(root: &Dir, fd: &OwnedFd) -> PathBuf {
    let is = rustix::fs::fstat(fd).unwrap();
    let scratch = root.path.parent().unwrap();
    let here = |path: &PathBuf| {
        let meta = fs::symlink_metadata(scratch.join(path)).unwrap();
        (meta.dev(), meta.ino()) == (is.st_dev as u64, is.st_ino as u64)
    };
    scratch.join(facts(scratch).into_keys().find(here).unwrap())
}

fn open(root: &Dir, path: &str) -> Result<PathBuf, TreeError> {
    open_in_root(root.fd(), Path::new(path), Open::Handle).map(|fd| place(root, &fd))
}

/// Lesson 5: as strings, these paths lead to the host's /etc.
#[test]
fn links_do_not_lead_out() {
    let scratch = scratch();
    let (root, outside) = (Dir::new(&scratch, "root"), Dir::new(&scratch, "outside"));
    fs::write(outside.join("file"), "x").unwrap();
    let absolute = outside.path.to_str().unwrap();
    symlink(absolute, root.join("app")).unwrap();
    symlink("../outside", root.join("up")).unwrap();
    symlink("..", root.join("top")).unwrap();
    for path in [
        "app/file",
        "up/file",
        "../outside/file",
        "a/../../outside/file",
    ] {
        let result = open(&root, path);
        assert!(
            matches!(result, Err(TreeError::NotFound { .. })),
            "{path}: {result:?}"
        );
    }
    assert_eq!(open(&root, "top").unwrap(), root.path);
    assert_eq!(open(&root, "../..").unwrap(), root.path);
    for path in ["top", "../..", "", "/", "top/top/."] {
        let found = resolve_in_root(root.fd(), Path::new(path)).unwrap();
        assert_eq!(found, Path::new(""), "{path}");
    }
    let before = facts(&outside.path);
    let dirs = ["app/new/dir", "up/new", "top/x", "../y", "z/../../w", "app"];
    for path in dirs {
        let dir = create_dirs_in_root(root.fd(), Path::new(path), 0o755).unwrap();
        assert!(place(&root, &dir).starts_with(&root.path), "{path}");
        let made = open(&root, path).unwrap();
        assert_eq!(made, place(&root, &dir), "a container sees the same");
    }
    for path in ["app/file", "up/hosts", "top/resolv.conf", "../f"] {
        let file = create_file_in_root(root.fd(), Path::new(path), 0o644).unwrap();
        assert!(place(&root, &file).starts_with(&root.path), "{path}");
    }
    assert_eq!(facts(&outside.path), before);
    assert!(root.join(&absolute[1..]).join("new/dir").is_dir());
    assert!(root.join("outside/hosts").is_file());
}

#[test]
fn links_inside_are_followed_as_the_container_would() {
    let scratch = scratch();
    let root = Dir::new(&scratch, "root");
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir_all(root.join("var")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/no-such-place", root.join("var/run")).unwrap();
    let dir = create_dirs_in_root(root.fd(), Path::new("/bin/tools"), 0o700).unwrap();
    assert_eq!(place(&root, &dir), root.join("usr/bin/tools"));
    // A dangling link gets its target, in the root.
    let dir = create_dirs_in_root(root.fd(), Path::new("var/run/app"), 0o2775).unwrap();
    assert_eq!(place(&root, &dir), root.join("no-such-place/app"));
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        (mode("usr/bin/tools"), mode("no-such-place/app")),
        (0o700, 0o2775)
    );
    symlink("real/file", root.join("file")).unwrap();
    let file = create_file_in_root(root.fd(), Path::new("file"), 0o606).unwrap();
    assert_eq!(place(&root, &file), root.join("real/file"));
    assert_eq!((mode("real/file"), mode("real")), (0o606, 0o755));
    // What exists stays as it is.
    fs::write(root.join("real/file"), "content").unwrap();
    create_file_in_root(root.fd(), Path::new("file"), 0o600).unwrap();
    create_dirs_in_root(root.fd(), Path::new("bin/tools"), 0o777).unwrap();
    assert_eq!(fs::read(root.join("real/file")).unwrap(), b"content");
    assert_eq!((mode("real/file"), mode("usr/bin/tools")), (0o606, 0o700));
    // The path of what is there, without links.
    for (path, expected) in [
        ("/bin/tools/", "usr/bin/tools"),
        ("var/run/app/../../file", "real/file"),
        ("bin/../../../file", "real/file"),
        ("real", "real"),
    ] {
        let found = resolve_in_root(root.fd(), Path::new(path)).unwrap();
        assert_eq!(found, Path::new(expected), "{path}");
    }
    for path in ["var/run/none", "file/", "file/x"] {
        assert!(resolve_in_root(root.fd(), Path::new(path)).is_err());
    }
    // And a handle on a link itself.
    let link = open_in_root(root.fd(), Path::new("file"), Open::HandleNoFollow).unwrap();
    assert_eq!(place(&root, &link), root.join("file"));
    assert_eq!(
        place(
            &root,
            &open_in_root(root.fd(), Path::new(""), Open::Directory).unwrap()
        ),
        root.path
    );
}

#[test]
fn errors_say_what_is_wrong() {
    let scratch = scratch();
    let root = Dir::new(&scratch, "root");
    fs::write(root.join("file"), "x").unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(matches!(
        open(&root, "none/x"),
        Err(TreeError::NotFound { .. })
    ));
    assert!(matches!(
        open(&root, "file/x"),
        Err(TreeError::NotADirectory { .. })
    ));
    assert!(matches!(
        open(&root, "loop/x"),
        Err(TreeError::LoopedLinks { .. })
    ));
    let dirs = |path: &str| create_dirs_in_root(root.fd(), Path::new(path), 0o755);
    assert!(matches!(dirs("file"), Err(TreeError::NotADirectory { .. })));
    assert!(matches!(
        dirs("file/x"),
        Err(TreeError::NotADirectory { .. })
    ));
    assert!(matches!(dirs("loop"), Err(TreeError::LoopedLinks { .. })));
    assert!(matches!(
        dirs("new/../../loop/x"),
        Err(TreeError::LoopedLinks { .. })
    ));
    let file = |path: &str| create_file_in_root(root.fd(), Path::new(path), 0o644);
    assert!(matches!(file("dir"), Err(TreeError::IsADirectory { .. })));
    assert!(matches!(
        file("file/x"),
        Err(TreeError::NotADirectory { .. })
    ));
    file("fifo").unwrap();
    assert!(file("new/").is_err());
    // A FIFO isn't opened for reading: that would wait for its writer.
    let read = |path: &str| open_in_root(root.fd(), Path::new(path), Open::File);
    assert!(read("fifo").is_err() && read("dir").is_err());
    read("file").unwrap();
    let deep = "d/".repeat(2000);
    assert!(dirs(&deep).is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn magic_links_are_not_followed() {
    let root = fs::File::open("/proc").unwrap();
    let root = std::os::fd::AsFd::as_fd(&root);
    for path in ["self/cwd/etc", "self/root", "self/fd/0"] {
        let result = open_in_root(root, Path::new(path), Open::Handle);
        assert!(
            matches!(result, Err(TreeError::LoopedLinks { .. })),
            "{path}: {result:?}"
        );
    }
}

#[cfg(target_os = "linux")]
fn swap(root: &Dir, _: &Path) {
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(&root.file, "dir", &root.file, "link", flags).unwrap();
}

/// What the test makes meanwhile may be in the way of each of these.
#[cfg(not(target_os = "linux"))]
fn swap(root: &Dir, outside: &Path) {
    let (dir, aside) = (root.join("dir"), root.join("aside"));
    let _ = fs::rename(&dir, &aside);
    let _ = symlink(outside, &dir);
    let _ = fs::remove_file(&dir);
    let _ = fs::rename(&aside, &dir);
    let _ = fs::remove_dir_all(&aside);
}

/// Somebody in the container swaps a directory for a link all the time.
#[test]
fn races_do_not_lead_out() {
    let scratch = scratch();
    let (root, outside) = (Dir::new(&scratch, "root"), Dir::new(&scratch, "outside"));
    fs::create_dir(root.join("dir")).unwrap();
    symlink(&outside.path, root.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                swap(&root, &outside.path);
            }
        });
        for number in 0..3000 {
            let path = format!("dir/{number}/x");
            if number % 2 == 0 {
                let _ = create_dirs_in_root(root.fd(), Path::new(&path), 0o755);
            } else {
                let _ = create_file_in_root(root.fd(), Path::new(&path), 0o644);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside.path).unwrap().count(), 0);
}
