//! Layers and copies, on roots that are directories and on roots that are overlays.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_types,
    reason = "tests may panic, and another program is the referee"
)]

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use kleene_doors::host::{Host, HostError};
use kleene_doors::layers::{CopiedIn, CopyIn, CopySource, Keep, LayerOptions};
use kleene_doors::storage::Root;
use kleene_host::linux::{LinuxHost, LinuxHostConfig};
use tempfile::TempDir;

struct World {
    host: LinuxHost,
    tmp: TempDir,
}

impl World {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests need root"
        );
        let memory = Path::new("/dev/shm");
        let tmp = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let config = LinuxHostConfig {
            state_dir: tmp.path().join("run"),
            cache_dir: tmp.path().join("cache"),
            // None is started here.
            monitor: std::env::current_exe().unwrap(),
            oci_runtime: None,
            allow_host_commands: false,
        };
        let host = LinuxHost::new(&config).unwrap();
        let world = Self { host, tmp };
        for (name, text) in [
            (
                "base/etc/passwd",
                "root:x:0:0::/:/bin/sh\nwww:x:80:81::/:/bin/sh\n",
            ),
            ("base/etc/group", "www:x:81:\nlogs:x:90:\n"),
            ("base/dir/one", "1"),
            ("base/dir/sub/two", "2"),
            ("base/file", "file"),
            ("context/a.txt", "a"),
            ("context/dir/one", "new"),
            ("context/dir/three", "3"),
        ] {
            let path = world.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    /// A root of its own that begins like `base`.
    fn root(&self, name: &str, overlay: bool) -> Root {
        self.over(name, &["base"], overlay)
    }

    fn over(&self, name: &str, lower: &[&str], overlay: bool) -> Root {
        let path = |part: &str| self.path(&format!("{name}{part}"));
        if overlay {
            for part in ["-upper", "-work"] {
                fs::create_dir(path(part)).unwrap();
            }
            return Root::Overlay {
                lower: lower.iter().map(|lower| self.path(lower)).collect(),
                upper: path("-upper"),
                work: path("-work"),
            };
        }
        let copied = Command::new("cp")
            .arg("-a")
            .args([&self.path(lower[0]), &path("")])
            .status();
        assert!(copied.unwrap().success());
        Root::Directory { path: path("") }
    }

    /// The whole tree as tar(1) tells it: modes, owners, sizes, times, names.
    fn listing(&self, root: &Root) -> String {
        let mut archive = Vec::new();
        self.host.pack_layer(None, root, &mut archive).unwrap();
        let file = self.path("listed.tar");
        fs::write(&file, archive).unwrap();
        let mut tar = Command::new("tar");
        let output = tar
            .args(["--full-time", "--numeric-owner", "-tvf"])
            .arg(file)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // The root's own time is nobody's.
        let lines = text.lines().filter(|line| !line.ends_with(" ./"));
        // The width of tar's columns depends on what is in other lines.
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        lines.map(|line| format!("{}\n", words(line))).collect()
    }

    fn apply(&self, root: &Root, layer: &[u8]) -> Result<(), HostError> {
        let mut layer = layer;
        let go_on = &mut |_| ControlFlow::Continue(());
        self.host
            .apply_layer(root, &mut layer, &LayerOptions::default(), go_on)
            .map(drop)
    }

    fn pack(&self, below: &Root, root: &Root) -> Vec<u8> {
        let mut layer = Vec::new();
        self.host.pack_layer(Some(below), root, &mut layer).unwrap();
        layer
    }

    fn read(&self, root: &Root, path: &str) -> Option<String> {
        let files = kleene_doors::files::FilesOf::Stopped {
            root: root.clone(),
            mounts: Vec::new(),
        };
        let mut archive = Vec::new();
        self.host
            .read_archive(&files, Path::new(path), &mut archive)
            .ok()?;
        let file = self.path("read.tar");
        fs::write(&file, archive).unwrap();
        let output = Command::new("tar").arg("-xOf").arg(file).output().unwrap();
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn copy<'a>(&self, root: &'a Root, from: CopySource<'a>, sources: &'a [String]) -> CopyIn<'a> {
        CopyIn {
            root,
            from,
            sources,
            destination: "/x/",
            keep: &|_, _| Keep::Yes,
            owner: None,
            mode: None,
            parents: false,
            unpack: false,
            progress: &|_| ControlFlow::Continue(()),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mine = self.tmp.path().to_str().unwrap();
        assert!(
            std::thread::panicking() || !mounts.contains(mine),
            "{mounts}"
        );
    }
}

fn sources(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[track_caller]
fn source_error<T: std::fmt::Debug>(result: Result<T, HostError>, part: &str) {
    match result {
        Err(HostError::Source(message)) => assert!(message.contains(part), "{message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_packed_over_one_root_makes_the_other() {
    for overlay in [false, true] {
        let world = World::new();
        let below = world.root("below", overlay);
        let root = world.root("root", overlay);
        assert_eq!(world.listing(&below), world.listing(&root));
        let nothing = world.pack(&below, &root);
        assert_eq!(nothing, [0; 1024], "nothing differs, overlay {overlay}");

        let context = world.path("context");
        let all = sources(&["."]);
        let copy = CopyIn {
            destination: "/",
            owner: Some("www"),
            ..world.copy(&root, CopySource::Directory(&context), &all)
        };
        world.host.copy_in(&copy).unwrap();
        let gone = "file";
        world.apply(&root, &whiteout(gone)).unwrap();
        let layer = world.pack(&below, &root);
        assert_eq!(layer, world.pack(&below, &root), "twice the same");
        world.apply(&below, &layer).unwrap();
        assert_eq!(world.listing(&below), world.listing(&root));
        assert_eq!(world.read(&below, "/dir/one").unwrap(), "new");
        assert_eq!(world.read(&below, "/dir/sub/two").unwrap(), "2");
        assert_eq!(world.read(&below, "/file"), None);
    }
}

/// A layer with one whiteout.
fn whiteout(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(format!(".wh.{name}")), "").unwrap();
    let mut tar = Command::new("tar");
    let output = tar
        .arg("-c")
        .arg("-C")
        .arg(dir.path())
        .arg(format!(".wh.{name}"))
        .output();
    output.unwrap().stdout
}

#[test]
fn overlays_with_layers_in_common_are_compared_where_they_differ() {
    let world = World::new();
    // The image's snapshot is its former top; its clone has that among its layers.
    let middle = world.root("middle", true);
    let one = sources(&["dir"]);
    let context = world.path("context");
    let copy = CopyIn {
        destination: "/dir",
        ..world.copy(&middle, CopySource::Directory(&context), &one)
    };
    world.host.copy_in(&copy).unwrap();
    let below = world.over("image", &["middle-upper", "base"], true);
    let root = world.over("clone", &["middle-upper", "base"], true);
    let plain = world.copy(&root, CopySource::Directory(&context), &one);
    let copy = CopyIn {
        destination: "/dir/sub",
        ..plain
    };
    world.host.copy_in(&copy).unwrap();
    world.apply(&root, &whiteout("etc")).unwrap();
    let layer = world.pack(&below, &root);
    let file = world.path("layer.tar");
    fs::write(&file, &layer).unwrap();
    let names = Command::new("tar")
        .arg("-tf")
        .arg(file)
        .output()
        .unwrap()
        .stdout;
    let names = String::from_utf8(names).unwrap();
    let expected = "dir/\ndir/sub/\ndir/sub/one\ndir/sub/three\n.wh.etc\n";
    assert_eq!(names, expected);
    // The older one has something that the newer one lacks: its own top counts, too.
    let back = world.pack(&root, &below);
    world.apply(&root, &back).unwrap();
    assert_eq!(world.listing(&root), world.listing(&below));
}

#[test]
fn copies_know_the_owners_of_their_root() {
    for overlay in [false, true] {
        let world = World::new();
        let root = world.root("root", overlay);
        let context = world.path("context");
        lchown(context.join("a.txt"), Some(1000), Some(1000)).unwrap();
        let one = sources(&["a.txt"]);
        let plain = world.copy(&root, CopySource::Directory(&context), &one);
        let copied = |owner, destination| {
            let copy = CopyIn {
                owner,
                destination,
                ..plain
            };
            world.host.copy_in(&copy)
        };
        let expected = CopiedIn {
            entries: 1,
            bytes: 1,
            skipped: 0,
        };
        assert_eq!(copied(None, "/none").unwrap(), expected);
        copied(Some("www"), "/www").unwrap();
        copied(Some("www:logs"), "/logs").unwrap();
        copied(Some("5:logs"), "/number").unwrap();
        copied(Some("7"), "/seven").unwrap();
        source_error(
            copied(Some("nobody"), "/nobody"),
            "user 'nobody' is unknown",
        );
        let listing = world.listing(&root);
        for (owner, name) in [
            ("0/0", "none"),
            ("80/81", "www"),
            ("80/90", "logs"),
            ("5/90", "number"),
            ("7/7", "seven"),
        ] {
            let line = listing
                .lines()
                .find(|line| line.ends_with(&format!(" {name}")));
            assert!(line.unwrap().contains(owner), "{listing}");
        }
        assert!(!listing.contains("nobody\n"));
        // From another root, owners are kept.
        let source = world.root("source", overlay);
        let copy = CopyIn {
            owner: Some("www"),
            ..plain
        };
        let copy = CopyIn {
            root: &source,
            ..copy
        };
        world.host.copy_in(&copy).unwrap();
        let theirs = sources(&["x/a.txt"]);
        let copy = CopyIn {
            destination: "/theirs",
            ..world.copy(&root, CopySource::Root(&source), &theirs)
        };
        world.host.copy_in(&copy).unwrap();
        let listing = world.listing(&root);
        let line = listing.lines().find(|line| line.ends_with(" theirs"));
        assert!(line.unwrap().contains("80/81"), "{listing}");
    }
}

#[test]
fn archives_are_unpacked_whatever_they_are_compressed_with() {
    let world = World::new();
    let context = world.path("context");
    for flag in ["-z", "-j", "-J", "--zstd", "-P"] {
        let mut tar = Command::new("tar");
        tar.arg("-c")
            .arg(flag)
            .arg("-f")
            .arg(context.join("packed"));
        assert!(
            tar.arg("-C")
                .arg(&context)
                .arg("dir")
                .status()
                .unwrap()
                .success()
        );
        let root = world.root(&format!("root{flag}"), true);
        let one = sources(&["packed"]);
        let copy = CopyIn {
            unpack: true,
            ..world.copy(&root, CopySource::Directory(&context), &one)
        };
        let copied = world.host.copy_in(&copy).unwrap();
        assert_eq!((copied.entries, copied.bytes), (3, 4), "{flag}");
        assert_eq!(world.read(&root, "/x/dir/three").unwrap(), "3");
        assert_eq!(world.read(&root, "/x/packed"), None);
        let copy = CopyIn {
            unpack: false,
            ..copy
        };
        world.host.copy_in(&copy).unwrap();
        assert!(world.read(&root, "/x/packed").is_some());
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    for overlay in [false, true] {
        let world = World::new();
        let root = world.root("root", overlay);
        let before = world.listing(&root);
        let context = world.path("context");
        symlink("/etc", context.join("host")).unwrap();
        symlink(world.path("base"), context.join("base")).unwrap();
        let plain = world.copy(&root, CopySource::Directory(&context), &[]);
        for (source, destination, part) in [
            ("missing", "/x", "no 'missing'"),
            ("*.rs", "/x", "no '*.rs'"),
            ("host/passwd", "/x", "no 'host/passwd'"),
            ("base/file", "/x", "no 'base/file'"),
            ("../base/file", "/x", "no '../base/file'"),
            ("dir", "/file", "'/file' can't be replaced"),
            ("a.txt", "/file/x", "can't be replaced"),
        ] {
            let one = sources(&[source]);
            let copy = CopyIn {
                sources: &one,
                destination,
                ..plain
            };
            source_error(world.host.copy_in(&copy), part);
        }
        source_error(world.apply(&root, b"no layer"), "not a tar archive");
        assert_eq!(world.listing(&root), before);

        let all = sources(&["."]);
        let copy = CopyIn {
            sources: &all,
            progress: &|_| ControlFlow::Break(()),
            ..plain
        };
        let copied = world.host.copy_in(&copy);
        assert!(matches!(copied, Err(HostError::Cancelled(_))), "{copied:?}");
        let mut endless = std::io::repeat(b'x').take(1 << 30);
        let stop = &mut |_| ControlFlow::Break(());
        let applied = world
            .host
            .apply_layer(&root, &mut endless, &LayerOptions::default(), stop);
        assert!(
            matches!(applied, Err(HostError::Cancelled(_))),
            "{applied:?}"
        );

        let name = [(".wh.x".to_owned(), Vec::new())];
        let copy = CopyIn {
            from: CopySource::Inline(&name),
            ..plain
        };
        world.host.copy_in(&copy).unwrap();
        let packed = world.host.pack_layer(None, &root, &mut Vec::new());
        source_error(packed, ".wh.");
    }
}

#[test]
fn digests_are_of_what_would_be_copied() {
    let world = World::new();
    let context = world.path("context");
    let all = sources(&["."]);
    let keep_all: kleene_doors::layers::KeepFn<'_> = &|_, _| Keep::Yes;
    let digest = |from: &CopySource<'_>, keep: kleene_doors::layers::KeepFn<'_>| {
        world.host.digest_sources(from, &all, keep).unwrap()
    };
    let from = CopySource::Directory(&context);
    let first = digest(&from, keep_all);
    lchown(context.join("a.txt"), Some(7), Some(7)).unwrap();
    assert_eq!(
        digest(&from, keep_all),
        first,
        "owners of a context don't count"
    );
    let no_a: kleene_doors::layers::KeepFn<'_> = &|path, _| match path.ends_with("a.txt") {
        true => Keep::No,
        false => Keep::Yes,
    };
    let without = digest(&from, no_a);
    assert_ne!(without, first);
    fs::write(context.join("a.txt"), "b").unwrap();
    assert_ne!(digest(&from, keep_all), first);
    assert_eq!(digest(&from, no_a), without);
    // An overlay and a directory with the same tree are the same.
    let (one, other) = (world.root("one", true), world.root("other", false));
    let [left, right] = [&one, &other].map(|root| digest(&CopySource::Root(root), keep_all));
    assert_eq!(left, right);
    lchown(world.path("other/file"), Some(7), None).unwrap();
    assert_ne!(digest(&CopySource::Root(&other), keep_all), left);
    let missing = sources(&["missing"]);
    source_error(
        world.host.digest_sources(&from, &missing, keep_all),
        "no 'missing'",
    );
    let file = [("a".to_owned(), b"x".to_vec())];
    let inline = digest(&CopySource::Inline(&file), keep_all);
    assert_ne!(inline, digest(&CopySource::Inline(&[]), keep_all));
}

#[test]
fn set_id_programs_and_device_nodes() {
    let world = World::new();
    let context = world.path("context");
    let program = context.join("a.txt");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        context.join("dir/null"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for overlay in [false, true] {
        let root = world.root(&format!("root{overlay}"), overlay);
        let all = sources(&["."]);
        let copied = world.copy(&root, CopySource::Directory(&context), &all);
        let copied = world.host.copy_in(&copied).unwrap();
        assert_eq!(copied.skipped, 1);
        let of = match &root {
            Root::Directory { path } => path.join("x"),
            Root::Overlay { upper, .. } => upper.join("x"),
        };
        assert!(fs::symlink_metadata(of.join("dir/null")).is_err());
        assert_eq!(
            fs::metadata(of.join("a.txt")).unwrap().mode() & 0o7777,
            0o4755
        );
    }
}
