//! Where things are found, and where they go.

use std::fs::{self};
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::world::World;
use kleene_tree::{CopyInto, Keep, TreeError};

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
