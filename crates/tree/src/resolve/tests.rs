//! The walk that stands in for `openat2` agrees with it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::io::Errno;

use super::*;

#[test]
fn the_walk_agrees_with_the_kernel() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("root");
    fs::create_dir_all(path.join("a/b/c")).unwrap();
    fs::write(path.join("a/file"), "x").unwrap();
    fs::write(scratch.path().join("outside"), "x").unwrap();
    for (name, target) in [
        ("up", "../../.."),
        ("abs", "/a/b"),
        ("rel", "a/./b/../b"),
        ("out", "../outside"),
        ("loop", "loop"),
        ("one", "two"),
        ("two", "one"),
        ("dangling", "none/at/all"),
        ("tofile", "a/file"),
        ("slash", "a/file/"),
        ("a/b/back", "../../abs/c"),
        ("root", "/"),
    ] {
        symlink(target, path.join(name)).unwrap();
    }
    let root = File::open(&path).unwrap();
    let names = [
        "a", "b", "c", "file", "up", "abs", "rel", "out", "loop", "one", "dangling", "tofile",
        "slash", "back", "root", "..", ".", "none",
    ];
    let mut paths: Vec<String> = vec![String::new(), "/".into(), "a/".into(), "a/file/".into()];
    for first in names {
        paths.push(first.into());
        for second in names {
            paths.push(format!("{first}/{second}"));
            paths.extend(names.map(|third| format!("/{first}/{second}/{third}")));
        }
    }
    for what in [Open::Handle, Open::HandleNoFollow, Open::Directory] {
        for path in &paths {
            let path = Path::new(path);
            let id = |fd: OwnedFd| Meta::of(&fd).unwrap().id;
            let kernel = resolve(root.as_fd(), path, what.flags()).map(id);
            let walk = Walk::new(root.as_fd(), Make::Nothing)
                .run(path, what.flags())
                .map(id);
            match (kernel, walk) {
                (Ok(kernel), Ok(walk)) => {
                    assert_eq!(kernel, walk, "{what:?} {path:?}");
                    if what == Open::Handle {
                        check_name(root.as_fd(), path, kernel);
                    }
                }
                (Err(kernel), Err(walk)) => {
                    assert!(what != Open::Handle || resolve_in_root(root.as_fd(), path).is_err());
                    // Which of two reasons comes first may differ; that it fails may not.
                    let known = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
                    assert!(
                        known.contains(&walk.errno),
                        "{what:?} {path:?} {kernel:?} {walk:?}"
                    );
                }
                other => panic!("{what:?} {path:?}: {other:?}"),
            }
        }
    }
}

/// The path without links leads to the same entry, and there are none in it.
fn check_name(root: BorrowedFd<'_>, path: &Path, id: crate::meta::Id) {
    let found = resolve_in_root(root, path).unwrap();
    let mut so_far = PathBuf::new();
    for part in found.components() {
        assert!(matches!(part, Component::Normal(_)), "{path:?} {found:?}");
        so_far.push(part);
        let name = sys::c_name(so_far.as_os_str()).unwrap();
        let meta = Meta::at(root, &name).unwrap();
        assert_ne!(meta.kind, FileType::Symlink, "{path:?} {found:?}");
    }
    let name = if found.as_os_str().is_empty() {
        c".".to_owned()
    } else {
        sys::c_name(found.as_os_str()).unwrap()
    };
    assert_eq!(Meta::at(root, &name).unwrap().id, id, "{path:?} {found:?}");
}
