//! The method `fetch` with archives on this host.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests may panic"
)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{Room, SmallDisk, archive, bzip2, entry, gzip, names, noise, rootfs, xz, zstd};
use kleene_doors::userland::{Extras, Source, Userland, UserlandError};
use kleene_userland::SystemUserland;
use tar::EntryType;

type Compress = fn(&[u8]) -> Vec<u8>;

const COMPRESSIONS: [(&str, Compress); 5] = [
    ("plain", |data| data.to_vec()),
    ("gzip", gzip),
    ("xz", xz),
    ("bzip2", bzip2),
    ("zstd", zstd),
];

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

#[test]
fn every_compression_is_found_out_by_content() {
    for (name, compress) in COMPRESSIONS {
        let room = Room::new();
        // The name says nothing.
        let file = room.file("root.tar.lz", &compress(&rootfs("hello\n")));
        let outcome = room.fetch(&url(&file));
        let last = outcome.told.last().unwrap();
        let size = fs::metadata(&file).unwrap().len();
        assert_eq!(
            (last.step.as_str(), last.done, last.total),
            ("unpacking", size, Some(size))
        );
        let defaults = outcome.result.unwrap();
        assert_eq!(defaults.cmd, ["/bin/sh"], "{name}");
        assert_eq!(defaults.env[0].name(), "PATH");
        assert_eq!(room.read("etc/motd"), "hello\n", "{name}");
        assert_eq!(
            fs::read(room.root().join("bin/busybox")).unwrap(),
            noise(400_000)
        );
        assert!(file.exists(), "the user's own file is kept");
    }
}

#[test]
fn compressed_files_may_have_several_members() {
    let tar = rootfs("hello\n");
    let (one, two) = tar.split_at(tar.len() / 2);
    for (name, compress) in COMPRESSIONS {
        let room = Room::new();
        let file = room.file("root.tar", &[compress(one), compress(two)].concat());
        room.fetch(&url(&file)).result.unwrap();
        assert_eq!(room.read("etc/motd"), "hello\n", "{name}");
    }
}

#[test]
fn plain_paths_are_taken_too() {
    let room = Room::new();
    let file = room.file("a b%.tar", &rootfs("hello\n"));
    room.fetch(file.to_str().unwrap()).result.unwrap();
    assert_eq!(room.read("etc/motd"), "hello\n");
    room.fetch(&url(&room.dir.path().join("a%20b%25.tar")))
        .result
        .unwrap();
}

#[test]
fn trees_without_a_shell_have_no_command() {
    let room = Room::new();
    let tar = archive(&[
        entry(EntryType::Regular, "hello", "", b"x"),
        // Leads to the host's shell if it is followed outside of the image.
        entry(
            EntryType::Symlink,
            "bin/sh",
            "../../../../../../../bin/sh",
            b"",
        ),
    ]);
    let defaults = room.fetch(&url(&room.file("a.tar", &tar))).result.unwrap();
    assert!(defaults.cmd.is_empty());
    assert_eq!(defaults.env[0].name(), "PATH");
    assert_eq!(fs::metadata(room.root()).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn extras_replace_what_the_archive_has() {
    let room = Room::new();
    let outside = room.file("outside", b"precious");
    let tar = archive(&[entry(
        EntryType::Symlink,
        "etc/resolv.conf",
        outside.to_str().unwrap(),
        b"",
    )]);
    let file = room.file("a.tar", &tar);
    let root = room.root();
    fs::create_dir_all(&root).unwrap();
    let extras = Extras {
        resolv_conf: true,
        localtime: true,
        update: false,
    };
    let userland = SystemUserland::new(room.cache());
    let source = Source::Archive { url: url(&file) };
    let mut sink = |_| ControlFlow::Continue(());
    userland.fill(&source, extras, &root, &mut sink).unwrap();
    assert_eq!(fs::read_to_string(outside).unwrap(), "precious");
    let copy = fs::symlink_metadata(root.join("etc/resolv.conf")).unwrap();
    assert!(copy.is_file() && copy.mode() & 0o777 == 0o644);
    assert_eq!(
        fs::read(root.join("etc/localtime")).unwrap(),
        fs::read("/etc/localtime").unwrap()
    );
}

#[test]
fn device_nodes_are_left_out() {
    let room = Room::new();
    let tar = archive(&[
        entry(EntryType::Char, "dev/null", "", b""),
        entry(EntryType::Block, "dev/sda", "", b""),
        entry(EntryType::Regular, "etc/motd", "", b"hello\n"),
    ]);
    let outcome = room.fetch(&url(&room.file("a.tar", &tar)));
    assert!(
        outcome.steps().contains(&"leaving out 2 device nodes"),
        "{:?}",
        outcome.steps()
    );
    outcome.result.unwrap();
    assert_eq!(room.read("etc/motd"), "hello\n");
    assert!(!room.root().join("dev/null").exists());
}

/// Nothing but zeros is the end of an archive, which may be what is left of a damaged one.
#[test]
fn archives_of_nothing_make_no_image() {
    let room = Room::new();
    let zeros = gzip(&vec![0; 1 << 20]);
    let message = room.fetch(&url(&room.file("a.tar", &zeros))).invalid();
    assert!(message.contains("holds no files"), "{message}");
}

#[test]
fn truncated_archives_are_called_so() {
    for (name, compress) in COMPRESSIONS {
        let whole = compress(&rootfs("hello\n"));
        for length in [whole.len() / 2, whole.len() - whole.len() / 100] {
            let room = Room::new();
            let message = room
                .fetch(&url(&room.file("a.tar", &whole[..length])))
                .invalid();
            assert!(
                message.contains("a.tar") && message.contains("incomplete"),
                "{name}: {message}"
            );
        }
    }
}

#[test]
fn damaged_archives_are_called_so() {
    for (name, compress) in &COMPRESSIONS[1..] {
        let mut damaged = compress(&rootfs("hello\n"));
        let middle = damaged.len() / 2;
        for byte in &mut damaged[middle..middle + 64] {
            *byte = !*byte;
        }
        let room = Room::new();
        let message = room.fetch(&url(&room.file("a.tar", &damaged))).invalid();
        assert!(message.contains("is damaged"), "{name}: {message}");
    }
}

#[test]
fn hostile_archives_touch_nothing_outside() {
    let file = |name: &str| entry(EntryType::Regular, name, "", b"owned");
    let link = |name: &str, target: &str| entry(EntryType::Symlink, name, target, b"");
    for entries in [
        vec![file("../escaped")],
        vec![file("a/../../escaped")],
        vec![link("up", "../.."), file("up/escaped")],
        vec![
            link("hard", "x"),
            entry(EntryType::Link, "escaped", "../../outside", b""),
        ],
    ] {
        let room = Room::new();
        room.file("outside", b"precious");
        let archive = room.file("a.tar", &archive(&entries));
        let before: Vec<_> = names(room.dir.path());
        let outcome = room.fetch(&url(&archive));
        // A link that leads up stays in the root: then the file is inside.
        if entries[0].0.entry_type() == EntryType::Symlink && outcome.result.is_ok() {
            assert!(room.root().join("escaped").exists());
        } else {
            let message = outcome.invalid();
            assert!(message.contains("escaped"), "{message}");
        }
        let after: Vec<_> = names(room.dir.path());
        let unexpected: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
        assert_eq!(unexpected, ["images"]);
        assert_eq!(names(&room.dir.path().join("images")), ["new"]);
        assert_eq!(
            fs::read_to_string(room.dir.path().join("outside")).unwrap(),
            "precious"
        );
    }
}

#[test]
fn what_is_no_tar_archive_is_named() {
    for (content, part) in [
        (&b"PK\x03\x04rest of a zip"[..], "zip"),
        (b"<!DOCTYPE html><title>Not found</title>", "HTML"),
        (b"\x7fELF\x02\x01\x01 program", "a program"),
        (b"", "empty"),
        (
            b"some text that is nothing in particular",
            "isn't a tar archive",
        ),
        (&gzip(b"<html>Sign in</html>"), "HTML"),
        (&gzip(&gzip(&rootfs("x"))), "compressed twice"),
    ] {
        let room = Room::new();
        let mut padded = content.to_vec();
        if !content.is_empty() && !content.starts_with(b"\x1f\x8b") {
            padded.resize(2048, b' ');
        }
        let message = room.fetch(&url(&room.file("a.tar", &padded))).invalid();
        assert!(
            message.contains("a.tar") && message.contains(part),
            "{message}"
        );
        let short = room.fetch(&url(&room.file("a.tar", content))).invalid();
        assert!(short.contains(part), "{short}");
    }
}

#[test]
fn bad_places_are_named() {
    let room = Room::new();
    let missing = room.dir.path().join("nothing.tar");
    let message = room.fetch(&url(&missing)).invalid();
    assert!(
        message.contains("nothing.tar") && message.contains("doesn't exist"),
        "{message}"
    );
    let message = room.fetch(&url(room.dir.path())).invalid();
    assert!(message.contains("is a directory"), "{message}");
    assert!(
        room.fetch("file:///dev/null")
            .invalid()
            .contains("regular file")
    );
    let message = room.fetch("root.tar").invalid();
    assert!(message.contains("file:///path/to/root.tar"), "{message}");
}

#[test]
fn a_full_disk_is_told() {
    let disk = SmallDisk::new("256k");
    let room = Room::new();
    let file = room.file("a.tar", &xz(&rootfs("x")));
    let source = Source::Archive { url: url(&file) };
    let mut sink = |_| ControlFlow::Continue(());
    let result =
        SystemUserland::new(room.cache()).fill(&source, Extras::default(), disk.path(), &mut sink);
    assert!(
        matches!(result, Err(UserlandError::NoSpace(_))),
        "{result:?}"
    );
}

#[test]
fn break_cancels() {
    let room = Room::new();
    let file = room.file("a.tar", &rootfs("x"));
    let at_once = room.fetch_until(&url(&file), |_| true);
    assert!(
        matches!(at_once.result, Err(UserlandError::Cancelled)),
        "{:?}",
        at_once.result
    );
    assert_eq!(names(&room.root()), [""; 0]);
    let later = room.fetch_until(&url(&file), |progress| progress.done > 0);
    assert!(
        matches!(later.result, Err(UserlandError::Cancelled)),
        "{:?}",
        later.result
    );
}
