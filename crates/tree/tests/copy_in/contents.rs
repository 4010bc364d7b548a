//! What a copy keeps, and what it leaves out.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::common::{LINUX, set_xattr, xattrs};
use crate::world::World;
use kleene_tree::{CopyInto, Keep, TreeError};
use rustix::fs::{CWD, FileType, Mode, mknodat};

#[test]
fn owners_modes_and_times() {
    let world = World::new();
    let mode = |path: &str, mode: u32| {
        let path = world.context.join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["a.txt", "dir", "dir/one", "dir/sub"] {
        lchown(world.context.join(path), Some(1000), Some(1000)).unwrap();
    }
    symlink("one", world.context.join("dir/link")).unwrap();
    mode("dir/one", 0o4711);
    mode("dir/sub", 0o2700);
    let of = |path: &str| fs::symlink_metadata(world.root.join(path)).unwrap();
    let seen = |path: &str| (of(path).uid(), of(path).gid(), of(path).mode() & 0o7777);
    world.copy(&["dir"], "/new/x").unwrap();
    assert_eq!(seen("new"), (0, 0, 0o755));
    assert_eq!(seen("new/x"), (0, 0, 0o755));
    assert_eq!(seen("new/x/one"), (0, 0, 0o4711));
    assert_eq!(seen("new/x/sub"), (0, 0, 0o2700));
    let original = fs::metadata(world.context.join("dir/one")).unwrap();
    assert_eq!(
        of("new/x/one").modified().unwrap(),
        original.modified().unwrap()
    );

    let theirs = CopyInto {
        owner: Some((7, 8)),
        mode: Some(0o751),
        ..world.to("/theirs/x")
    };
    world.copy_with(&["dir"], &theirs).unwrap();
    assert_eq!(seen("theirs"), (7, 8, 0o755));
    assert_eq!(seen("theirs/x"), (7, 8, 0o755));
    assert_eq!(seen("theirs/x/one"), (7, 8, 0o751));
    assert_eq!(seen("theirs/x/sub"), (7, 8, 0o751));
    assert_eq!(seen("theirs/x/link"), (7, 8, 0o777));

    let kept = CopyInto {
        owner: None,
        ..world.to("/kept/x/")
    };
    world.copy_with(&["dir", "a.txt"], &kept).unwrap();
    assert_eq!(seen("kept"), (0, 0, 0o755));
    assert_eq!(seen("kept/x/one"), (1000, 1000, 0o4711));
    assert_eq!(
        (of("kept/x/a.txt").uid(), of("kept/x/a.txt").gid()),
        (1000, 1000)
    );
    // Directories that are there get the attributes of those that are copied into them.
    world.copy(&["dir"], "/theirs/x").unwrap();
    assert_eq!(seen("theirs/x"), (7, 8, 0o755));
    assert_eq!(seen("theirs/x/sub"), (0, 0, 0o2700));
}

#[test]
fn attributes_links_and_holes_are_kept_and_nothing_dangerous_is() {
    let world = World::new();
    let at = |name: &str| world.context.join(name);
    set_xattr(&at("a.txt"), "user.kept", b"1");
    if LINUX {
        set_xattr(&at("a.txt"), "trusted.overlay.redirect", b"/etc");
        set_xattr(&at("dir/sub"), "trusted.overlay.opaque", b"y");
    }
    set_xattr(&at("dir"), "user.mine", b"not the destination's");
    fs::hard_link(at("dir/one"), at("dir/again")).unwrap();
    fs::hard_link(at("a.txt"), at("c.txt")).unwrap();
    let sparse = File::create(at("dir/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    mknodat(
        CWD,
        at("dir/null"),
        FileType::CharacterDevice,
        Mode::RUSR,
        0,
    )
    .unwrap();
    mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
    mknodat(CWD, at("dir/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(at("dir/socket")).unwrap();
    let copied = world
        .copy(&["dir", "a.txt", "c.txt", "fifo", "null"], "/x")
        .unwrap();
    assert_eq!((copied.entries, copied.skipped), (9, 3));
    let root = |name: &str| world.root.join("x").join(name);
    let inode = |name: &str| fs::metadata(root(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("again"));
    assert_eq!(inode("a.txt"), inode("c.txt"));
    assert_eq!(xattrs(&root("a.txt")).len(), 1);
    assert!(xattrs(&root("")).is_empty() && xattrs(&root("sub")).is_empty());
    let sparse = fs::metadata(root("sparse")).unwrap();
    assert_eq!(sparse.len(), 64 << 20);
    // UFS has a block at the end of a hole.
    let at_the_end = if LINUX { 1 } else { 256 };
    assert!(sparse.blocks() < at_the_end);
    for fifo in ["fifo", "sub/../fifo"] {
        assert!(fs::metadata(root(fifo)).unwrap().file_type().is_fifo());
    }
    assert!(!root("null").exists() && !root("socket").exists());
}

#[test]
fn parents_are_made_behind_the_pivot() {
    let with_parents = |sources: &[&str], expected: &[&str]| {
        let world = World::new();
        let to = CopyInto {
            parents: true,
            ..world.to("/p")
        };
        world.copy_with(sources, &to).unwrap();
        assert_eq!(world.listing(), expected, "{sources:?}");
    };
    with_parents(&["dir/one"], &["p/", "p/dir/", "p/dir/one=1"]);
    let both = [
        "p/",
        "p/dir/",
        "p/dir/one=1",
        "p/other/",
        "p/other/one=other",
    ];
    with_parents(&["dir/one", "other/one"], &both);
    with_parents(&["*/one"], &both);
    with_parents(&["./dir/./sub/two"], &["p/", "p/sub/", "p/sub/two=2"]);
    with_parents(&["d*/./sub"], &["p/", "p/sub/", "p/sub/two=2"]);
    with_parents(
        &["dir/sub"],
        &["p/", "p/dir/", "p/dir/sub/", "p/dir/sub/two=2"],
    );
    // A file of the context itself has none.
    with_parents(&["a.txt", "b.txt"], &["p/", "p/a.txt=a", "p/b.txt=b"]);
}

#[test]
fn what_is_left_out_is_not_copied() {
    let world = World::new();
    fs::create_dir_all(world.context.join("dir/empty")).unwrap();
    fs::create_dir_all(world.context.join("dir/deep/er")).unwrap();
    fs::write(world.context.join("dir/deep/er/kept"), "k").unwrap();
    fs::write(world.context.join("dir/deep/out"), "o").unwrap();
    // Everything in `dir` is left out, but for what is called `kept`, and all `.txt` as well.
    let filter = &|path: &Path, is_dir: bool| {
        assert!(path.is_relative() && !path.as_os_str().is_empty());
        assert_eq!(
            is_dir,
            path.extension().is_none()
                && !path.ends_with("one")
                && !path.ends_with("two")
                && !path.ends_with("kept")
                && !path.ends_with("out")
                && !path.ends_with(".hidden"),
            "{path:?}"
        );
        match path.starts_with("dir") {
            true if path.ends_with("kept") => Keep::Yes,
            true => Keep::Descend,
            false if path.extension().is_some() => Keep::No,
            false => Keep::Yes,
        }
    };
    let filtered = |destination| CopyInto {
        filter: Some(filter),
        ..world.to(destination)
    };
    world.copy_with(&["."], &filtered("/all")).unwrap();
    let expected = [
        "all/",
        "all/.hidden=h",
        "all/dir/",
        "all/dir/deep/",
        "all/dir/deep/er/",
        "all/dir/deep/er/kept=k",
        "all/other/",
        "all/other/one=other",
    ];
    assert_eq!(world.listing(), expected);
    for source in ["a.txt", "*.txt", "dir/one", "dir/sub", "dir/empty"] {
        let copied = world.copy_with(&[source], &filtered("/x/"));
        assert!(
            matches!(copied, Err(TreeError::NoSource { .. })),
            "{source}: {copied:?}"
        );
    }
    world.copy_with(&["dir"], &filtered("/d")).unwrap();
    assert!(world.listing().contains(&"d/deep/er/kept=k".to_owned()));
    // What is in a directory that is left out is, whatever the filter says of it.
    let no_dirs = &|path: &Path, _: bool| match path == Path::new("dir") {
        true => Keep::No,
        false => Keep::Yes,
    };
    let to = CopyInto {
        filter: Some(no_dirs),
        ..world.to("/y/")
    };
    assert!(world.copy_with(&["dir/one"], &to).is_err());
}
