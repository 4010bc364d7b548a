//! Images and trees in archives, and images of containers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_types,
    reason = "tests may panic, and this one starts other people's tools"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use kleene_tests::{Context, Daemon, Leaks, Room, Traces, archive, run};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// Everything that an archive of a tree holds, in order.
fn contents(tar: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(Result::unwrap);
    let mut told: Vec<String> = entries
        .map(|mut entry| {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let pax: Vec<String> = entry
                .pax_extensions()
                .unwrap()
                .into_iter()
                .flatten()
                .map(|record| record.unwrap())
                .filter(|record| record.key().unwrap() != "mtime")
                .map(|record| String::from_utf8_lossy(record.value_bytes()).into_owned())
                .collect();
            let header = entry.header();
            // That names came and went in the root itself no layer tells.
            let mtime = match entry.path().unwrap().as_os_str() == "./" {
                true => 0,
                false => header.mtime().unwrap(),
            };
            format!(
                "{} {:?} {:o} {}:{} {mtime} {:?} {pax:?} {}",
                entry.path().unwrap().display(),
                header.entry_type(),
                header.mode().unwrap(),
                header.uid().unwrap(),
                header.gid().unwrap(),
                entry.link_name().unwrap(),
                shown(&content),
            )
        })
        .collect();
    told.sort();
    told
}

/// Short content, or what stands for it.
fn shown(content: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(content);
    match content.len() {
        ..100 => String::from_utf8_lossy(content).into_owned(),
        length => format!("{length} bytes, {:x}", hasher.finish()),
    }
}

/// What only one of two trees has.
#[track_caller]
fn same(one: &[String], other: &[String], what: &str) {
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        let only = one.iter().filter(|line| !other.contains(line));
        only.cloned().collect()
    };
    let differences = (only(one, other), only(other, one));
    assert_eq!(differences, (vec![], vec![]), "{what}");
}

fn exported(daemon: &Daemon, image: &str) -> Vec<String> {
    daemon
        .klee(&["image", "export", "-o", "exported.tar", image])
        .ok();
    contents(&daemon.directory().join("exported.tar"))
}

/// What of an image moves along with it.
fn settings(daemon: &Daemon, image: &str) -> Value {
    let mut shown = daemon.inspect("image", image);
    let fields = shown.as_object_mut().unwrap();
    for own in [
        "id",
        "name",
        "tag",
        "created",
        "dataset",
        "instructions",
        "size",
        "shared_size",
        "parent",
        "digest",
    ] {
        fields.remove(own);
    }
    shown
}

/// An image with every kind of file, made in several steps.
fn varied(daemon: &Daemon) {
    let context = Context::new(
        "FROM FreeBSD\nCOPY tree /tree\n\
         RUN ln -s nowhere /tree/link && mkdir -m 1777 /tree/dir && ln /tree/a /tree/hard && \
         chown -R www:staff /tree/sub && chmod 6755 /tree/a\n\
         RUN rm -r /tree/gone /var && echo x > /var && rm /bin/yes && > '/tree/odd name é'\n\
         ENV A=\"b c\" D=e\nUSER www\nWORKDIR /tree\nEXPOSE 80/udp\nVOLUME /vol\nLABEL l=\"m n\"\n\
         STOPSIGNAL SIGINT\nHEALTHCHECK --interval=9s CMD true\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"pwd; cat a\"]\n",
    );
    context
        .file("tree/a", "a")
        .file("tree/sub/b", "b")
        .file("tree/gone/c", "c");
    daemon.build(&context, &["-t", "app:1"]).ok();
}

#[test]
fn saved_and_loaded() {
    let from = Daemon::new(Room::Dir);
    let to = Daemon::empty(Room::Zfs);
    varied(&from);
    from.klee(&["image", "tag", "FreeBSD", "base:1"]).ok();
    let (tree, config) = (exported(&from, "app:1"), settings(&from, "app:1"));
    from.klee(&["image", "save", "-o", "app.tar", "app:1", "base:1"])
        .ok();
    // There, back here, and there again: nothing is lost on the way.
    let path = from.directory().join("app.tar").display().to_string();
    let told = to.klee(&["image", "load", "-i", &path]).ok();
    assert!(
        told.contains("Loaded image: app:1\n") && told.contains("Loaded image: base:1\n"),
        "{told}"
    );
    same(&exported(&to, "app:1"), &tree, "to");
    assert_eq!(settings(&to, "app:1"), config);
    assert_eq!(to.runs("app:1", &[]), "/tree\na");
    // Both were made of one base, whose layer came once.
    let shared = to.inspect("image", "app:1")["shared_size"]
        .as_u64()
        .unwrap()
        + to.inspect("image", "base:1")["shared_size"]
            .as_u64()
            .unwrap();
    assert!(shared > 1_000_000, "{shared}");
    to.klee(&["image", "save", "-o", "back.tar", "app:1"]).ok();
    from.klee(&["image", "rm", "app:1"]).ok();
    let back = fs::read(to.directory().join("back.tar")).unwrap();
    from.klee_with_input(&["image", "load", "-q"], &back).ok();
    same(&exported(&from, "app:1"), &tree, "from");
    assert_eq!(settings(&from, "app:1"), config);
    assert_eq!(from.runs("app:1", &[]), "/tree\na");
    let steps = from
        .klee(&[
            "image",
            "history",
            "--no-trunc",
            "--format",
            "{{.created_by}}",
            "app:1",
        ])
        .ok();
    for step in [
        "COPY tree /tree",
        "RUN ln -s nowhere",
        "RUN rm -r /tree/gone",
    ] {
        assert!(steps.contains(step), "{steps}");
    }
    let missing = from.klee(&["image", "save", "-o", "none.tar", "app:1", "nope"]);
    assert!(missing.fails(1).contains("image not found"));
    assert!(!from.directory().join("none.tar").exists());
}

/// What other tools make of images is loaded, and ours is read by them.
#[test]
fn archives_of_other_tools() {
    let daemon = Daemon::new(Room::Dir);
    varied(&daemon);
    let (tree, config) = (exported(&daemon, "app:1"), settings(&daemon, "app:1"));
    daemon
        .klee(&["image", "save", "-o", "app.tar", "app:1"])
        .ok();
    daemon.klee(&["image", "rm", "app:1"]).ok();
    let at = |name: &str| daemon.directory().join(name).display().to_string();
    let copy = |from: &str, to: &str| run("skopeo", &["--insecure-policy", "copy", "-q", from, to]);
    let ours = format!("oci-archive:{}", at("app.tar"));
    copy(&ours, &format!("docker-archive:{}:app:1", at("docker.tar")));
    copy(&ours, &format!("oci-archive:{}:app:1", at("oci.tar")));
    copy(
        &format!("docker-archive:{}", at("app.tar")),
        &format!("docker-archive:{}:app:1", at("twice.tar")),
    );
    run("gzip", &[&at("docker.tar"), "-k"]);
    for name in ["docker.tar", "oci.tar", "twice.tar", "docker.tar.gz"] {
        daemon.klee(&["image", "load", "-i", name]).ok();
        let id = daemon.images()[0].clone();
        same(&exported(&daemon, &id), &tree, name);
        assert_eq!(settings(&daemon, &id), config, "{name}");
        assert_eq!(daemon.runs(&id, &[]), "/tree\na");
        daemon.klee(&["image", "rm", &id]).ok();
    }
}

#[test]
fn exported_and_imported() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        varied(&daemon);
        let tree = exported(&daemon, "app:1");
        for (name, program) in [
            ("exported.tar", None),
            ("exported.tar.xz", Some("xz")),
            ("exported.tar.gz", Some("gzip")),
        ] {
            if let Some(program) = program {
                let path = daemon
                    .directory()
                    .join("exported.tar")
                    .display()
                    .to_string();
                run(program, &["-k", &path]);
            }
            let changes = [
                "-c",
                "ENV A=b",
                "-c",
                "CMD echo $A",
                "-c",
                "WORKDIR /tree",
                "-m",
                "from elsewhere",
            ];
            daemon
                .klee(
                    &[
                        &["image", "import", "-q", "-t", "flat"],
                        &changes[..],
                        &[name],
                    ]
                    .concat(),
                )
                .ok();
            same(
                &exported(&daemon, "flat"),
                &tree,
                &format!("{room:?} {name}"),
            );
            assert_eq!(daemon.runs("flat", &[]), "b\n");
            assert_eq!(daemon.runs("flat", &["pwd"]), "/tree\n");
            let history = daemon.klee(&["image", "history", "flat"]).ok();
            assert!(history.contains("from elsewhere"), "{history}");
            assert_eq!(daemon.inspect("image", "flat")["parent"], "");
        }
        let bytes = fs::read(daemon.directory().join("exported.tar")).unwrap();
        daemon
            .klee_with_input(&["image", "import", "-t", "stdin", "-"], &bytes)
            .ok();
        same(&exported(&daemon, "stdin"), &tree, "daemon");
        let bad = daemon.klee(&[
            "image",
            "import",
            "-t",
            "x",
            "-c",
            "RUN true",
            "exported.tar",
        ]);
        assert!(bad.code != 0 && bad.stderr.contains("RUN true"), "{bad:?}");
        // A container's own files, without its volumes.
        let script = "echo own > /tree/own; echo volume > /vol/file";
        let words = [
            "run",
            "-q",
            "--name",
            "box",
            "-u",
            "root",
            "--entrypoint",
            "sh",
            "app:1",
            "-c",
            script,
        ];
        daemon.klee(&words).ok();
        daemon
            .klee(&["container", "export", "-o", "box.tar", "box"])
            .ok();
        let names: Vec<String> = contents(&daemon.directory().join("box.tar"));
        let has = |name: &str| names.iter().any(|line| line.starts_with(name));
        assert!(has("tree/own ") && !has("vol/file "), "{names:?}");
    }
}

#[test]
fn containers_become_images() {
    for room in [Room::Dir, Room::Zfs] {
        let daemon = Daemon::new(room);
        let script = "echo new > /new; rm -r /usr/local/www/nginx; mkdir /usr/local/www/nginx; \
             chown www /etc/group; echo volume > /v/file; echo ready; sleep 1000";
        let words = [
            "run", "-d", "--name", "box", "-m", "v:/v", "nginx", "sh", "-c", script,
        ];
        daemon.klee(&words).ok();
        daemon
            .klee(&[
                "exec",
                "-q",
                "box",
                "sh",
                "-c",
                "until test -e /v/file; do sleep 0.02; done",
            ])
            .ok();
        // A running one, with what it has changed, without what is mounted.
        let changes = [
            "-m",
            "a remark",
            "-c",
            "ENV A=b",
            "-c",
            "CMD [\"cat\", \"/new\"]",
            "-c",
            "LABEL x=y",
        ];
        let id = daemon
            .klee(&[&["container", "commit"], &changes[..], &["box", "made:1"]].concat())
            .ok();
        assert_eq!(daemon.image_id("made:1"), id.trim());
        assert_eq!(
            daemon.inspect("container", "box")["container"]["status"],
            "running"
        );
        daemon.klee(&["exec", "-q", "box", "true"]).ok();
        assert_eq!(daemon.runs("made:1", &[]), "new\n");
        let seen = daemon.sh(
            "made:1",
            "ls -A /usr/local/www/nginx /v; stat -c %U /etc/group; echo $A",
        );
        assert_eq!(seen, "/usr/local/www/nginx:\n\n/v:\nwww\nb\n", "{room:?}");
        let history = daemon.klee(&["image", "history", "made:1"]).ok();
        assert!(
            history.contains("COMMIT box") && history.contains("a remark"),
            "{history}"
        );
        // The image stands on that of the container, and both can go on.
        let base = daemon.image_id("nginx");
        let refused = daemon.klee(&["image", "rm", "nginx"]).fails(1);
        assert!(
            refused.contains(&format!("could not remove image {base}")),
            "{refused}"
        );
        daemon
            .klee(&["exec", "-q", "box", "sh", "-c", "echo later > /new"])
            .ok();
        daemon
            .klee(&["container", "commit", "--no-pause", "box", "made:2"])
            .ok();
        daemon.klee(&["rm", "-f", "box"]).ok();
        assert_eq!(daemon.runs("made:2", &["cat", "/new"]), "later\n");
        // Of what was committed a container, and of that an image again.
        let words = [
            "run",
            "-q",
            "--name",
            "second",
            "made:1",
            "sh",
            "-c",
            "rm /new; > /third",
        ];
        daemon.klee(&words).ok();
        daemon
            .klee(&["container", "commit", "second", "made:3"])
            .ok();
        assert_eq!(
            daemon.sh("made:3", "cd /; ls new third 2>/dev/null; echo $A"),
            "third\nb\n"
        );
        let steps = daemon.klee(&["image", "history", "-q", "made:3"]);
        assert_eq!(steps.code, 0, "{steps:?}");
        daemon.klee(&["rm", "second"]).ok();
        let bad = daemon.klee(&["container", "commit", "-c", "COPY a b", "nope", "x"]);
        assert_ne!(bad.code, 0);
        daemon
            .klee(&["image", "rm", "made:3", "made:2", "made:1", "nginx"])
            .ok();
        assert_eq!(daemon.images().len(), 1);
    }
}

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
