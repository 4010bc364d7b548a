//! Copying into a tree as `COPY` and `ADD` do.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use common::{Dir, facts, scratch, set_xattr, xattrs};
use kleene_tree::{
    Copied, CopyFrom, CopyInto, Filter, Keep, TreeError, copy_in, digest_sources, pack_tar,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

struct World {
    scratch: TempDir,
    context: Dir,
    root: Dir,
}

impl World {
    fn new() -> Self {
        let scratch = scratch();
        let context = Dir::new(&scratch, "context");
        let root = Dir::new(&scratch, "root");
        let outside = Dir::new(&scratch, "outside");
        fs::write(outside.join("secret"), "secret").unwrap();
        for (name, text) in [
            ("a.txt", "a"),
            ("b.txt", "b"),
            (".hidden", "h"),
            ("dir/one", "1"),
            ("dir/sub/two", "2"),
            ("other/one", "other"),
        ] {
            fs::create_dir_all(context.join(name).parent().unwrap()).unwrap();
            fs::write(context.join(name), text).unwrap();
        }
        Self {
            scratch,
            context,
            root,
        }
    }

    fn to<'a>(&'a self, destination: &'a str) -> CopyInto<'a> {
        CopyInto {
            root: self.root.fd(),
            destination,
            filter: None,
            owner: Some((0, 0)),
            mode: None,
            parents: false,
            archives: None,
            progress: None,
        }
    }

    fn copy_with(&self, sources: &[&str], to: &CopyInto<'_>) -> Result<Copied, TreeError> {
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        let from = CopyFrom::Tree {
            root: self.context.fd(),
            sources: &sources,
        };
        copy_in(&from, to)
    }

    fn copy(&self, sources: &[&str], destination: &str) -> Result<Copied, TreeError> {
        self.copy_with(sources, &self.to(destination))
    }

    /// Paths in the root, with the contents of files, the texts of links, or `/` for directories.
    fn listing(&self) -> Vec<String> {
        let lines = facts(&self.root.path).into_iter().skip(1);
        let line = |(path, facts): (std::path::PathBuf, common::Facts)| {
            let what = match FileType::from_raw_mode(facts.mode) {
                FileType::Directory => "/".to_owned(),
                FileType::Symlink => format!(" -> {}", String::from_utf8_lossy(&facts.content)),
                _ => format!("={}", String::from_utf8_lossy(&facts.content)),
            };
            format!("{}{what}", path.display())
        };
        lines.map(line).collect()
    }

    fn digest(&self, sources: &[&str], filter: Option<Filter<'_>>) -> [u8; 32] {
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        let from = CopyFrom::Tree {
            root: self.context.fd(),
            sources: &sources,
        };
        digest_sources(&from, filter, false).unwrap()
    }

    fn assert_outside_untouched(&self) {
        let outside = self.scratch.path().join("outside");
        assert_eq!(
            fs::read_to_string(outside.join("secret")).unwrap(),
            "secret"
        );
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    }
}

/// Copies into an empty root, and tells what is there then.
#[track_caller]
fn gives(sources: &[&str], destination: &str, expected: &[&str]) {
    let world = World::new();
    world.copy(sources, destination).unwrap();
    assert_eq!(world.listing(), expected, "{sources:?} {destination}");
}

#[test]
fn destinations_are_files_or_directories_as_docker_has_it() {
    gives(&["a.txt"], "/x", &["x=a"]);
    gives(&["a.txt"], "/x/", &["x/", "x/a.txt=a"]);
    gives(&["a.txt"], "/x/.", &["x/", "x/a.txt=a"]);
    gives(&["a.txt"], "/", &["a.txt=a"]);
    gives(&["a.txt"], "/n/e/w", &["n/", "n/e/", "n/e/w=a"]);
    gives(&["a.txt", "b.txt"], "/x", &["x/", "x/a.txt=a", "x/b.txt=b"]);
    gives(&["a.t*"], "/x", &["x/", "x/a.txt=a"]);
    gives(&["[ab].txt"], "/", &["a.txt=a", "b.txt=b"]);
    gives(&["dir"], "/x", &["x/", "x/one=1", "x/sub/", "x/sub/two=2"]);
    gives(
        &["dir/"],
        "/x/",
        &["x/", "x/one=1", "x/sub/", "x/sub/two=2"],
    );
    gives(&["/dir/sub/../sub"], "/", &["two=2"]);
    gives(&["*/one"], "/x", &["x/", "x/one=other"]);
    gives(&["dir", "other"], "/", &["one=other", "sub/", "sub/two=2"]);
    gives(&["d?r/s*"], "/x", &["x/", "x/two=2"]);
    let all = [
        ".hidden=h",
        "a.txt=a",
        "b.txt=b",
        "dir/",
        "dir/one=1",
        "dir/sub/",
        "dir/sub/two=2",
        "other/",
        "other/one=other",
    ];
    gives(&["."], "/", &all);
    gives(&["../../."], "/", &all);
    // A wildcard names directories' contents, as a source does, and hidden files, too.
    let flat = [
        ".hidden=h",
        "a.txt=a",
        "b.txt=b",
        "one=other",
        "sub/",
        "sub/two=2",
    ];
    gives(&["*"], "/", &flat);
}

#[test]
fn an_existing_directory_takes_files_by_their_names() {
    let world = World::new();
    fs::create_dir(world.root.join("etc")).unwrap();
    symlink("etc", world.root.join("link")).unwrap();
    world.copy(&["a.txt"], "/etc").unwrap();
    world.copy(&["b.txt"], "/link").unwrap();
    let expected = ["etc/", "etc/a.txt=a", "etc/b.txt=b", "link -> etc"];
    assert_eq!(world.listing(), expected);
}

#[test]
fn what_is_missing_is_named() {
    let world = World::new();
    for source in [
        "nothing",
        "dir/nothing",
        "a.txt/x",
        "*.rs",
        "d*/nothing",
        "[",
        "[]",
    ] {
        match world.copy(&["a.txt", source], "/x/") {
            Err(TreeError::NoSource { pattern }) => assert!(pattern.contains(source), "{pattern}"),
            other => panic!("{source}: {other:?}"),
        }
    }
    assert_eq!(world.listing(), Vec::<String>::new(), "nothing was copied");
    symlink("nowhere", world.context.join("dangling")).unwrap();
    for source in ["dangling", "dang*"] {
        let copied = world.copy(&[source], "/x/");
        assert!(
            matches!(copied, Err(TreeError::NoSource { .. })),
            "{copied:?}"
        );
    }
    symlink("round", world.context.join("round")).unwrap();
    assert!(world.copy(&["round"], "/x/").is_err());
    // Not looked at when it is left out.
    let filter = &|path: &Path, _: bool| match path.starts_with("dangling") {
        true => Keep::No,
        false => Keep::Yes,
    };
    let to = CopyInto {
        filter: Some(filter),
        ..world.to("/x/")
    };
    world.copy_with(&["d*"], &to).unwrap();
}

#[test]
fn links_never_lead_out_of_the_context() {
    let world = World::new();
    let outside = world.scratch.path().join("outside");
    let link = |target: &Path, name: &str| symlink(target, world.context.join(name)).unwrap();
    link(&outside, "absolute");
    link(Path::new("../outside"), "relative");
    link(Path::new("../outside/secret"), "file");
    link(Path::new("/proc/self/root"), "magic");
    link(Path::new("/dir"), "inside");
    let sources = [
        "absolute",
        "absolute/secret",
        "relative",
        "relative/secret",
        "relative/s*",
        "file",
        "../outside/secret",
        "magic",
        "abs*/secret",
    ];
    for source in sources {
        let copied = world.copy(&[source], "/x/");
        assert!(
            matches!(copied, Err(TreeError::NoSource { .. })),
            "{source}: {copied:?}"
        );
    }
    // Absolute links begin at the context.
    world.copy(&["inside"], "/i").unwrap();
    world.copy(&["inside/one"], "/f").unwrap();
    world.copy(&["."], "/all/").unwrap();
    let listing = world.listing();
    assert!(listing.contains(&"i/one=1".to_owned()) && listing.contains(&"f=1".to_owned()));
    // Links in a directory are copied as they are.
    assert!(listing.contains(&"all/file -> ../outside/secret".to_owned()));
    assert!(
        !listing.iter().any(|line| line.contains("=secret")),
        "{listing:?}"
    );
    world.assert_outside_untouched();
}

#[test]
fn links_never_lead_out_of_the_root() {
    let world = World::new();
    let outside = world.scratch.path().join("outside");
    symlink(&outside, world.root.join("absolute")).unwrap();
    symlink("../../outside", world.root.join("relative")).unwrap();
    symlink("../outside/secret", world.root.join("file")).unwrap();
    symlink("/proc/self/root", world.root.join("magic")).unwrap();
    for (source, destination) in [
        ("a.txt", "/absolute/"),
        ("a.txt", "/absolute/secret"),
        ("dir", "/absolute"),
        ("a.txt", "/relative/secret"),
        ("dir", "/relative/"),
        ("a.txt", "/file"),
        ("a.txt", "/../../outside/secret"),
        ("a.txt", "/magic/secret"),
        ("dir", "/x/../../outside"),
    ] {
        world.copy(&[source], destination).unwrap();
        world.assert_outside_untouched();
    }
    assert_eq!(fs::read_dir(world.scratch.path()).unwrap().count(), 3);
    assert_eq!(
        fs::read_to_string(world.root.join("outside/secret")).unwrap(),
        "a"
    );
    assert_eq!(fs::read_to_string(world.root.join("file")).unwrap(), "a");
}

#[test]
fn directories_and_other_things_do_not_replace_each_other() {
    let world = World::new();
    fs::create_dir_all(world.root.join("x/one")).unwrap();
    fs::write(world.root.join("x/one/kept"), "kept").unwrap();
    fs::write(world.root.join("x/sub"), "kept").unwrap();
    fs::write(world.root.join("f"), "kept").unwrap();
    symlink("x", world.root.join("l")).unwrap();
    for (source, destination) in [
        ("dir/one", "/x/"),
        ("dir", "/x"),
        ("dir", "/f"),
        ("a.txt", "/f/x"),
        ("a.txt", "/f/"),
    ] {
        let copied = world.copy(&[source], destination);
        assert!(
            matches!(
                copied,
                Err(TreeError::Exists { .. } | TreeError::NotADirectory { .. })
            ),
            "{source} {destination}: {copied:?}"
        );
    }
    for kept in ["x/one/kept", "x/sub", "f"] {
        assert_eq!(fs::read_to_string(world.root.join(kept)).unwrap(), "kept");
    }
    // A link to a directory isn't one, either, where a directory is copied to.
    symlink("x", world.root.join("x/two")).unwrap();
    fs::create_dir_all(world.context.join("links/two")).unwrap();
    assert!(world.copy(&["links"], "/x").is_err());
    // A file replaces a link, and not what it leads to.
    symlink("../f", world.root.join("x/a.txt")).unwrap();
    world.copy(&["a.txt"], "/x/").unwrap();
    assert_eq!(fs::read_to_string(world.root.join("x/a.txt")).unwrap(), "a");
    assert_eq!(fs::read_to_string(world.root.join("f")).unwrap(), "kept");
}

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
    set_xattr(&at("a.txt"), "trusted.overlay.redirect", b"/etc");
    set_xattr(&at("dir"), "user.mine", b"not the destination's");
    set_xattr(&at("dir/sub"), "trusted.overlay.opaque", b"y");
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
    assert_eq!((sparse.len(), sparse.blocks()), (64 << 20, 0));
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

/// Files "compressed" by turning their bits round.
fn open_odd(mut file: File) -> std::io::Result<Box<dyn Read>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if bytes.starts_with(b"broken") {
        return Err(std::io::Error::other("broken"));
    }
    if let Some(rest) = bytes.strip_prefix(b"odd") {
        let turned = rest.iter().map(|byte| !byte).collect::<Vec<_>>();
        return Ok(Box::new(std::io::Cursor::new(turned)));
    }
    Ok(Box::new(std::io::Cursor::new(bytes)))
}

#[test]
fn archives_are_unpacked_when_asked_for() {
    let world = World::new();
    let mut archive = Vec::new();
    lchown(world.context.join("dir/one"), Some(5), Some(6)).unwrap();
    pack_tar(
        world.context.fd(),
        Path::new("dir"),
        Path::new("dir"),
        &mut archive,
    )
    .unwrap();
    let turned: Vec<u8> = archive.iter().map(|byte| !byte).collect();
    let write = |name: &str, bytes: &[u8]| fs::write(world.context.join(name), bytes).unwrap();
    write("plain.tar", &archive);
    write("packed", &[b"odd", turned.as_slice()].concat());
    write("broken.tar.gz", b"broken");
    write("text.gz", &[b"odd", b"no archive".as_slice()].concat());
    write("empty.tar", &[0; 1024]);
    let to = CopyInto {
        archives: Some(&open_odd),
        owner: None,
        ..world.to("/x")
    };
    let copied = world.copy_with(&["plain.tar"], &to).unwrap();
    assert_eq!((copied.entries, copied.bytes), (4, 2));
    let unpacked = [
        "x/",
        "x/dir/",
        "x/dir/one=1",
        "x/dir/sub/",
        "x/dir/sub/two=2",
    ];
    assert_eq!(world.listing(), unpacked);
    assert_eq!(fs::metadata(world.root.join("x/dir/one")).unwrap().uid(), 5);
    fs::remove_dir_all(world.root.join("x")).unwrap();

    let all = ["packed", "broken.tar.gz", "text.gz", "empty.tar", "a.txt"];
    world.copy_with(&all, &to).unwrap();
    let names: Vec<String> = fs::read_dir(world.root.join("x"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"dir".to_owned()) && !names.contains(&"packed".to_owned()));
    assert_eq!(names.len(), 5);
    // Files that are copied as they are are whole.
    let text = fs::read(world.root.join("x/text.gz")).unwrap();
    assert_eq!(text, b"oddno archive");

    // Otherwise an archive is a file like any other; and owners can be chosen.
    world.copy(&["plain.tar"], "/y").unwrap();
    assert_eq!(fs::read(world.root.join("y")).unwrap(), archive);
    let to = CopyInto {
        archives: Some(&open_odd),
        owner: Some((7, 7)),
        ..world.to("/z")
    };
    world.copy_with(&["plain.tar"], &to).unwrap();
    assert_eq!(fs::metadata(world.root.join("z/dir/one")).unwrap().uid(), 7);
}

#[test]
fn files_from_nowhere() {
    let world = World::new();
    let files = [
        ("one".to_owned(), b"1".to_vec()),
        ("two".to_owned(), b"22".to_vec()),
    ];
    let copied = copy_in(&CopyFrom::Inline(&files[..1]), &world.to("/a/file")).unwrap();
    assert_eq!((copied.entries, copied.bytes), (1, 1));
    let to = CopyInto {
        owner: Some((3, 4)),
        mode: Some(0o500),
        ..world.to("/b")
    };
    copy_in(&CopyFrom::Inline(&files), &to).unwrap();
    assert_eq!(
        world.listing(),
        ["a/", "a/file=1", "b/", "b/one=1", "b/two=22"]
    );
    let meta = |path: &str| fs::metadata(world.root.join(path)).unwrap();
    assert_eq!(
        (meta("a/file").mode() & 0o7777, meta("a/file").uid()),
        (0o644, 0)
    );
    assert_eq!(
        (meta("b/two").mode() & 0o7777, meta("b/two").gid()),
        (0o500, 4)
    );
    for name in ["../x", "a/b", "", ".", ".."] {
        let files = [(name.to_owned(), Vec::new())];
        assert!(
            copy_in(&CopyFrom::Inline(&files), &world.to("/x/")).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_copy_can_be_cancelled() {
    let world = World::new();
    let stop = &|_: &Copied| ControlFlow::Break(());
    for sources in [&["a.txt"][..], &["."]] {
        let to = CopyInto {
            progress: Some(stop),
            ..world.to("/x/")
        };
        let copied = world.copy_with(sources, &to);
        assert!(matches!(copied, Err(TreeError::Cancelled)), "{copied:?}");
    }
}

#[test]
fn digests_follow_what_would_be_copied() {
    let world = World::new();
    let all = world.digest(&["."], None);
    assert_eq!(all, world.digest(&["./"], None));
    let at = |name: &str| world.context.join(name);
    // Times and owners don't count.
    File::open(at("a.txt"))
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    lchown(at("dir/one"), Some(4711), Some(4711)).unwrap();
    assert_eq!(all, world.digest(&["."], None));
    let mut seen = vec![all];
    let mut differs = |what: &str| {
        let now = world.digest(&["."], None);
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    fs::write(at("dir/sub/two"), "3").unwrap();
    differs("content");
    fs::set_permissions(at("dir/one"), fs::Permissions::from_mode(0o600)).unwrap();
    differs("a file's mode");
    fs::set_permissions(at("dir/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    differs("a directory's mode");
    set_xattr(&at("a.txt"), "user.x", b"1");
    differs("an attribute");
    fs::rename(at("a.txt"), at("c.txt")).unwrap();
    differs("a name");
    fs::create_dir(at("empty")).unwrap();
    differs("an empty directory");
    symlink("b.txt", at("link")).unwrap();
    differs("a link");
    fs::remove_file(at("link")).unwrap();
    symlink("c.txt", at("link")).unwrap();
    differs("a link's text");
    fs::remove_file(at("link")).unwrap();
    fs::write(at("link"), "c.txt").unwrap();
    differs("a type");
    fs::rename(at("dir/one"), at("dir/sub/one")).unwrap();
    differs("a place");

    // What isn't named or is left out doesn't count.
    let dir = world.digest(&["dir"], None);
    let filter = &|path: &Path, _: bool| match path.ends_with("b.txt") {
        true => Keep::No,
        false => Keep::Yes,
    };
    let filtered = world.digest(&["."], Some(filter));
    fs::write(at("b.txt"), "changed").unwrap();
    assert_eq!(world.digest(&["dir"], None), dir);
    assert_eq!(world.digest(&["."], Some(filter)), filtered);
    assert_ne!(
        world.digest(&["b.txt"], None),
        world.digest(&["c.txt"], None)
    );
    // The order of the sources does, since later ones replace earlier ones.
    let both = world.digest(&["dir", "other"], None);
    assert_ne!(both, world.digest(&["other", "dir"], None));
    let nothing = ["nothing".to_owned()];
    let from = CopyFrom::Tree {
        root: world.context.fd(),
        sources: &nothing,
    };
    assert!(digest_sources(&from, None, false).is_err());
}

#[test]
fn digests_of_many_files_do_not_depend_on_who_reads_them() {
    let world = World::new();
    for number in 0..2000 {
        let dir = world.context.join(format!("many/{}", number % 7));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{number}")), format!("{number}")).unwrap();
    }
    let digests: Vec<_> = (0..5).map(|_| world.digest(&["."], None)).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    // A copy has the same.
    world.copy(&["."], "/copy").unwrap();
    let copy = ["copy".to_owned()];
    let from = CopyFrom::Tree {
        root: world.root.fd(),
        sources: &copy,
    };
    let of_copy = digest_sources(&from, None, false).unwrap();
    assert_ne!(of_copy, digests[0], "its paths are others");
    let dir = File::open(world.root.join("copy")).unwrap();
    let sources = [".".to_owned()];
    let from = CopyFrom::Tree {
        root: std::os::fd::AsFd::as_fd(&dir),
        sources: &sources,
    };
    assert_eq!(digest_sources(&from, None, false).unwrap(), digests[0]);
    // Owners count where they are asked for.
    let with_owners = digest_sources(&from, None, true).unwrap();
    lchown(world.root.join("copy/a.txt"), Some(1), None).unwrap();
    assert_ne!(digest_sources(&from, None, true).unwrap(), with_owners);
}
