//! Archives, files from nowhere, digests.

use std::fs::{self, File};
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use crate::common::set_xattr;
use crate::world::World;
use kleene_tree::{Copied, CopyFrom, CopyInto, Keep, TreeError, copy_in, digest_sources, pack_tar};

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
