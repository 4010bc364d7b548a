//! Archives that are damaged, or made to do harm: nothing outside is touched, and nothing is left.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use kleene_tests::{Daemon, Leaks, Room, Traces, archive, run};
use serde_json::json;
use tar::{Builder, EntryType, Header};

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(size);
    header.set_mtime(1_700_000_000);
    header
}

/// An entry whose name no builder of archives would take.
fn entry(tar: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, data: &[u8]) {
    let mut header = header(kind, data.len() as u64);
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, data).unwrap();
}

/// An archive of a layer that wants to do harm to `outside`; and whether it may be taken after all,
/// as long as it does none.
fn hostile(outside: &Path) -> Vec<(&'static str, Vec<u8>, bool)> {
    let target = outside.display().to_string();
    let relative = format!("../../../../../../../../../..{target}");
    type Fill<'a> = Box<dyn Fn(&mut Builder<Vec<u8>>) + 'a>;
    let (target, relative) = (&*target, &*relative);
    let file = EntryType::Regular;
    let cases: Vec<(&'static str, bool, Fill<'_>)> = vec![
        (
            "a path with ..",
            false,
            Box::new(|tar| {
                entry(tar, &format!("{relative}/x"), file, "", b"x");
            }),
        ),
        (
            "a path with .. inside",
            false,
            Box::new(|tar| {
                entry(
                    tar,
                    &format!("a/../../../../../..{target}/x"),
                    file,
                    "",
                    b"x",
                );
            }),
        ),
        (
            "an absolute path",
            true,
            Box::new(|tar| {
                entry(tar, &format!("{target}/x"), file, "", b"x");
            }),
        ),
        (
            "through an absolute link",
            true,
            Box::new(|tar| {
                entry(tar, "out", EntryType::Symlink, target, b"");
                entry(tar, "out/x", file, "", b"x");
            }),
        ),
        (
            "through a relative link",
            true,
            Box::new(|tar| {
                entry(tar, "out", EntryType::Symlink, relative, b"");
                entry(tar, "out/x", file, "", b"x");
            }),
        ),
        (
            "a hard link out",
            false,
            Box::new(|tar| {
                entry(tar, "hard", EntryType::Link, &format!("{target}/kept"), b"");
                entry(tar, "hard", file, "", b"x");
            }),
        ),
        (
            "a hard link up",
            false,
            Box::new(|tar| {
                entry(
                    tar,
                    "hard",
                    EntryType::Link,
                    &format!("{relative}/kept"),
                    b"",
                );
            }),
        ),
        (
            "a hard link through a link",
            false,
            Box::new(|tar| {
                entry(tar, "out", EntryType::Symlink, target, b"");
                entry(tar, "hard", EntryType::Link, "out/kept", b"");
            }),
        ),
        (
            "a link, then a directory there",
            true,
            Box::new(|tar| {
                entry(tar, "out", EntryType::Symlink, target, b"");
                entry(tar, "out/", EntryType::Directory, "", b"");
                entry(tar, "out/kept", file, "", b"x");
            }),
        ),
        (
            "a whiteout through a link",
            true,
            Box::new(|tar| {
                entry(tar, "out", EntryType::Symlink, target, b"");
                entry(tar, "out/.wh.kept", file, "", b"");
                entry(tar, "out/.wh..wh..opq", file, "", b"");
            }),
        ),
        (
            "a whiteout of ..",
            false,
            Box::new(|tar| {
                entry(tar, "etc/.wh...", file, "", b"");
            }),
        ),
        (
            "a whiteout of .",
            false,
            Box::new(|tar| {
                entry(tar, "etc/.wh..", file, "", b"");
            }),
        ),
        (
            "a whiteout with a path",
            false,
            Box::new(|tar| {
                entry(tar, &format!(".wh.{relative}/kept"), file, "", b"");
            }),
        ),
        (
            "a name with no end",
            false,
            Box::new(|tar| {
                let mut header = header(EntryType::GNULongName, 1 << 40);
                header.set_cksum();
                tar.append(&header, &b"x"[..]).unwrap();
            }),
        ),
    ];
    let made = cases.into_iter().map(|(name, harmless, fill)| {
        let mut tar = Builder::new(Vec::new());
        entry(&mut tar, "etc/", EntryType::Directory, "", b"");
        entry(&mut tar, "bin/", EntryType::Directory, "", b"");
        fill(&mut tar);
        (name, tar.into_inner().unwrap(), harmless)
    });
    made.collect()
}

/// What `docker save` would write of an image with one layer.
fn docker_archive(layer: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), layer).unwrap();
    let digest = run("sha256sum", &[&file.path().display().to_string()]);
    let digest = digest.split(' ').next().unwrap();
    let config = json!({
        "os": "linux", "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "config": {"Cmd": ["true"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["evil:1"], "Layers": ["layer.tar"]}]);
    let mut tar = Builder::new(Vec::new());
    for (name, content) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer.to_vec()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        entry(&mut tar, name, EntryType::Regular, "", &content);
    }
    tar.into_inner().unwrap()
}

/// What is outside of the daemon's reach.
fn state(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| {
            use std::os::unix::fs::MetadataExt;
            let meta = entry.metadata().unwrap();
            let content = fs::read(entry.path()).unwrap();
            format!(
                "{:?} {} {} {content:?}",
                entry.file_name(),
                meta.mode(),
                meta.nlink()
            )
        })
        .collect()
}

#[test]
fn hostile_archives() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::empty(room);
        let root = daemon.mountpoint();
        let before = Traces::look(&root);
        let outside = daemon.directory().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let untouched = state(&outside);
        for (name, layer, harmless) in hostile(&outside) {
            for words in [
                &["image", "load", "-q"][..],
                &["image", "import", "-q", "-"],
            ] {
                let is_load = words[1] == "load";
                let bytes = if is_load {
                    docker_archive(&layer)
                } else {
                    layer.clone()
                };
                let outcome = daemon.klee_with_input(words, &bytes);
                assert_eq!(state(&outside), untouched, "{name} {words:?}");
                let whole = format!("{name} {words:?}: {outcome:?}");
                match outcome.code {
                    0 => {
                        // Whiteouts mean something in layers alone.
                        assert!(harmless || !is_load && name.contains("whiteout"), "{whole}");
                        daemon.klee(&["image", "rm", outcome.stdout.trim()]).ok();
                    }
                    _ => assert!(outcome.code == 1 && !outcome.stderr.is_empty(), "{whole}"),
                }
                assert_eq!(Traces::look(&root), before, "{name}");
                assert!(daemon.images().is_empty(), "{name}");
            }
        }
        assert!(room == Room::Zfs || Leaks::look(&root, &[]).is_empty());
        let log = daemon.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Little archives that want to become much: a hole of many gigabytes, and one that unpacks for ever.
#[test]
fn bombs() {
    let daemon = Daemon::empty(Room::Dir);
    let root = daemon.mountpoint();
    let before = Traces::look(&root);
    let mut sparse = header(EntryType::GNUSparse, 512);
    let name = b"hole";
    sparse.as_old_mut().name[..name.len()].copy_from_slice(name);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(10 << 30);
    gnu.sparse[0].set_offset((10 << 30) - 512);
    gnu.sparse[0].set_length(512);
    sparse.set_cksum();
    let mut tar = Builder::new(Vec::new());
    tar.append(&sparse, &[b'x'; 512][..]).unwrap();
    let layer = tar.into_inner().unwrap();
    for (words, bytes) in [
        (&["image", "load", "-q"][..], docker_archive(&layer)),
        (&["image", "import", "-q", "-"], layer.clone()),
    ] {
        let outcome = daemon.klee_with_input(words, &bytes);
        if outcome.code == 0 {
            // The hole stays a hole.
            let shown = daemon.inspect("image", outcome.stdout.trim());
            assert!(shown["size"].as_u64().unwrap() < 1 << 20, "{shown}");
            daemon.klee(&["image", "rm", outcome.stdout.trim()]).ok();
        } else {
            assert!(outcome.stderr.contains("hole"), "{outcome:?}");
        }
        assert_eq!(Traces::look(&root), before);
    }
    // A file that says to be longer than the archive is.
    let mut long = header(EntryType::Regular, 1 << 50);
    long.set_path("long").unwrap();
    long.set_cksum();
    let mut bytes = long.as_bytes().to_vec();
    bytes.write_all(&[0; 1024]).unwrap();
    daemon
        .klee_with_input(&["image", "import", "-q", "-"], &bytes)
        .fails(1);
    daemon
        .klee_with_input(&["image", "load", "-q"], &docker_archive(&bytes))
        .fails(1);
    assert_eq!(Traces::look(&root), before);
}

/// Damaged archives leave nothing, wherever they are cut.
#[test]
fn damaged_archives() {
    let daemon = Daemon::new(Room::Dir);
    daemon
        .klee(&["image", "save", "-o", "good.tar", "nginx"])
        .ok();
    let good = fs::read(daemon.directory().join("good.tar")).unwrap();
    let tree = fs::read(archive(daemon.directory())).unwrap();
    let root = daemon.mountpoint();
    let before = Traces::look(&root);
    let refused = |words: &[&str], bytes: &[u8]| {
        let outcome = daemon.klee_with_input(words, bytes);
        assert!(
            outcome.code == 1 && !outcome.stderr.is_empty(),
            "{words:?}: {outcome:?}"
        );
        assert_eq!(Traces::look(&root), before);
    };
    for part in [0, 1, 511, 1024, good.len() / 2, good.len() - 2000] {
        refused(&["image", "load", "-q"], &good[..part]);
    }
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    refused(&["image", "load", "-q"], &flipped);
    refused(&["image", "load", "-q"], b"nonsense");
    refused(&["image", "load", "-q"], &tree);
    for part in [0, 100, tree.len() / 2] {
        refused(&["image", "import", "-q", "-"], &tree[..part]);
    }
    refused(&["build", "-q", "-"], &tree[..tree.len() / 2]);
    daemon.klee_with_input(&["image", "load", "-q"], &good).ok();
    let blobs = fs::read_dir(root.join("metadata")).unwrap().flatten();
    let names: Vec<_> = blobs.map(|entry| entry.file_name()).collect();
    assert!(!names.is_empty());
}
