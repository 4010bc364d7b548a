//! A container's files, from outside: hostile links, changes meanwhile, mounts. Needs root, as the
//! daemon does.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

#[path = "files/archives.rs"]
mod archives;
#[path = "files/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use archives::{Entry, archive, names, unpacked};
use kleene_doors::files::{FilesOf, PathKind, UnpackOptions};
use kleene_doors::host::{Host, HostError};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use world::{World, namespaces};

#[track_caller]
fn source_error<T: std::fmt::Debug>(result: Result<T, HostError>) -> String {
    match result {
        Err(HostError::Source(message)) => message,
        other => panic!("{other:?}"),
    }
}

fn kind(world: &World, of: &FilesOf, path: &str) -> Option<PathKind> {
    let stat = world.host.stat_path(of, Path::new(path)).unwrap();
    stat.map(|stat| stat.kind)
}

fn read(world: &World, of: &FilesOf, path: &str) -> Result<Vec<u8>, HostError> {
    let mut archive = Vec::new();
    world.host.read_archive(of, Path::new(path), &mut archive)?;
    Ok(archive)
}

fn write(world: &World, of: &FilesOf, path: &str, archive: &[u8]) -> Result<(), HostError> {
    let options = UnpackOptions::default();
    let from = &mut &*archive;
    world.host.write_archive(of, Path::new(path), from, options)
}

#[test]
fn paths_are_looked_at_as_the_container_sees_them() {
    let world = World::new();
    let root = world.path("root");
    fs::write(root.join("file"), "content").unwrap();
    std::os::unix::fs::chown(root.join("file"), Some(12), Some(34)).unwrap();
    fs::set_permissions(root.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_micros(1_234_567_890_123_456);
    let file = File::options().write(true).open(root.join("file")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(time))
        .unwrap();
    symlink("/file", root.join("to-file")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    for of in world.all() {
        let stat = |path: &str| world.host.stat_path(&of, Path::new(path)).unwrap();
        let file = stat("/file").unwrap();
        assert_eq!((file.name.as_str(), file.kind), ("file", PathKind::File));
        assert_eq!(
            (file.mode, file.uid, file.gid, file.size),
            (0o4751, 12, 34, 7)
        );
        assert_eq!(file.modified.microseconds(), 1_234_567_890_123_456);
        let link = stat("/to-file").unwrap();
        assert_eq!(
            (link.kind, link.leads_to),
            (PathKind::Symlink, Some(PathKind::File))
        );
        assert_eq!(link.target.as_deref(), Some("/file"));
        assert_eq!(stat("/dangling").unwrap().leads_to, None);
        let top = stat("/").unwrap();
        assert_eq!((top.name.as_str(), top.kind), ("/", PathKind::Directory));
        for missing in ["/nothing", "/file/x", "/dangling/x", "/nothing/.."] {
            assert_eq!(stat(missing), None, "{missing}");
        }
        let long = format!("/{}", "n".repeat(300));
        for bad in [long.as_str(), "/a\0b"] {
            source_error(world.host.stat_path(&of, Path::new(bad)));
        }
        assert_eq!(kind(&world, &of, "/volume/inside"), Some(PathKind::File));
    }
}

#[test]
fn no_path_leads_out() {
    let world = World::new();
    let root = world.path("root");
    let secret = world.path("secret");
    fs::write(&secret, "secret").unwrap();
    let up = format!(
        "{}{}",
        "../".repeat(40),
        secret.strip_prefix("/").unwrap().display()
    );
    symlink(&up, root.join("up")).unwrap();
    symlink(&secret, root.join("absolute")).unwrap();
    let beneath = root.join(secret.strip_prefix("/").unwrap());
    fs::create_dir_all(beneath.parent().unwrap()).unwrap();
    fs::write(&beneath, "inside").unwrap();
    for of in world.all() {
        for path in ["/up", "/absolute"] {
            let stat = world.host.stat_path(&of, Path::new(path)).unwrap();
            assert_eq!(stat.unwrap().leads_to, Some(PathKind::File));
        }
        let outside = format!("/{up}");
        for path in [outside.as_str(), secret.to_str().unwrap()] {
            let copied = unpacked(&read(&world, &of, path).unwrap());
            assert_eq!(
                fs::read_to_string(copied.path().join("secret")).unwrap(),
                "inside"
            );
        }
    }
    // Those of procfs exist in a running container only.
    let of = world.running();
    for magic in ["/proc/self/root", "/proc/1/root", "/proc/self/cwd"] {
        let through = format!("{magic}/etc");
        source_error(world.host.stat_path(&of, Path::new(&through)));
        source_error(read(&world, &of, &through));
        source_error(write(&world, &of, &through, &archive(&[])));
    }
}

#[test]
fn everything_is_packed_and_nothing_special_is_opened() {
    let world = World::new();
    let top = world.path("root").join("top");
    fs::create_dir_all(top.join("deep/er")).unwrap();
    fs::write(top.join("deep/er/file"), "content").unwrap();
    symlink("/etc/passwd", top.join("link")).unwrap();
    mknodat(CWD, top.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _listener = UnixListener::bind(top.join("socket")).unwrap();
    for of in world.all() {
        let copied = read(&world, &of, "/top/").unwrap();
        let expected = ["top/", "top/deep/", "top/deep/er/", "top/deep/er/file"];
        let expected = expected.into_iter().chain(["top/fifo", "top/link"]);
        assert_eq!(names(&copied), expected.collect::<Vec<_>>());
        assert_eq!(names(&read(&world, &of, "/top/fifo").unwrap()), ["fifo"]);
        assert_eq!(names(&read(&world, &of, "/top/link").unwrap()), ["link"]);
        let message = source_error(read(&world, &of, "/top/socket"));
        assert!(message.contains("is a socket"), "{message}");
        let message = source_error(read(&world, &of, "/top/nothing"));
        assert!(
            message.contains("'/top/nothing' doesn't exist"),
            "{message}"
        );
        let all: BTreeSet<String> = names(&read(&world, &of, "/").unwrap())
            .into_iter()
            .collect();
        assert!(
            all.contains("./") && all.contains("./top/deep/er/file"),
            "{all:?}"
        );
        assert!(all.contains("./volume/inside"), "{all:?}");
        assert!(
            all.contains("./proc/") && !all.contains("./proc/self"),
            "{all:?}"
        );
    }
    let of = world.running();
    let message = source_error(read(&world, &of, "/proc/version"));
    assert!(message.contains("kernel"), "{message}");
}

#[test]
fn links_to_directories_are_packed_as_what_the_path_says() {
    let world = World::new();
    let root = world.path("root");
    fs::create_dir(root.join("real")).unwrap();
    fs::write(root.join("real/file"), "content").unwrap();
    symlink("/real", root.join("link")).unwrap();
    symlink("/real/file", root.join("to-file")).unwrap();
    symlink("/proc", root.join("to-proc")).unwrap();
    for of in world.all() {
        let packed = |path: &str| names(&read(&world, &of, path).unwrap());
        assert_eq!(packed("/link"), ["link"]);
        for path in ["/link/", "/link/.", "/link/./", "/link//."] {
            assert_eq!(kind(&world, &of, path), Some(PathKind::Directory), "{path}");
            assert_eq!(packed(path), ["link/", "link/file"], "{path}");
        }
        for path in ["/real", "/real/", "/real/."] {
            assert_eq!(packed(path), ["real/", "real/file"], "{path}");
        }
        assert_eq!(packed("/link/file"), ["file"]);
        assert!(packed("/real/..").contains(&"./link".to_owned()));
        for path in ["/to-file/", "/to-file/.", "/real/file/"] {
            source_error(read(&world, &of, path));
        }
    }
    let message = source_error(read(&world, &world.running(), "/to-proc/"));
    assert!(message.contains("kernel"), "{message}");
}

#[test]
fn archives_are_unpacked_where_they_should() {
    let world = World::new();
    let root = world.path("root");
    fs::create_dir(root.join("into")).unwrap();
    symlink("into", root.join("link")).unwrap();
    let given = archive(&[
        Entry::dir("new/"),
        Entry::file("new/file", b"content").owned(1000, 1001),
        Entry::hard_link("new/again", "new/file"),
    ]);
    for (number, of) in world.all().into_iter().enumerate() {
        write(&world, &of, "/link", &given).unwrap();
        let file = root.join("into/new/file");
        assert_eq!(fs::read(&file).unwrap(), b"content");
        let meta = file.metadata().unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.nlink()),
            (0, 0, 2),
            "{number}"
        );
        let options = UnpackOptions {
            keep_owner: true,
            ..UnpackOptions::default()
        };
        let into = Path::new("/into");
        world
            .host
            .write_archive(&of, into, &mut given.as_slice(), options)
            .unwrap();
        let meta = file.metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1000, 1001));
        write(&world, &of, "/volume", &given).unwrap();
        assert!(world.path("volume/new/again").exists());
        fs::remove_dir_all(world.path("volume/new")).unwrap();
        fs::remove_dir_all(root.join("into/new")).unwrap();
    }
}

#[test]
fn bad_archives_and_places_are_refused() {
    let world = World::new();
    let root = world.path("root");
    let outside = world.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "victim").unwrap();
    fs::create_dir(root.join("into")).unwrap();
    fs::write(root.join("file"), "x").unwrap();
    let victim = outside.join("victim");
    let up = format!(
        "{}{}",
        "../".repeat(40),
        victim.strip_prefix("/").unwrap().display()
    );
    let good = archive(&[Entry::file("file", b"content")]);
    let bad = [
        archive(&[Entry::hard_link("link", victim.to_str().unwrap())]),
        archive(&[Entry::hard_link("link", &up)]),
        archive(&[Entry::file(&up, b"overwritten")]),
        archive(&[Entry::file(victim.to_str().unwrap(), b"overwritten")]),
        archive(&[
            Entry::symlink("way", outside.to_str().unwrap()),
            Entry::hard_link("link", "way/victim"),
        ]),
        archive(&[Entry::device("device")]),
        b"no archive at all".to_vec(),
        good[..700].to_vec(),
    ];
    for of in world.all() {
        for (number, archive) in bad.iter().enumerate() {
            let message = source_error(write(&world, &of, "/into", archive));
            assert!(message.contains("/into"), "{number}: {message}");
        }
        // A link in the archive leads somewhere beneath the directory.
        let through = archive(&[
            Entry::symlink("way", outside.to_str().unwrap()),
            Entry::file("way/victim", b"overwritten"),
        ]);
        write(&world, &of, "/into", &through).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "victim");
        assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1);
        for place in ["/nothing", "/file", "/file/x"] {
            source_error(write(&world, &of, place, &good));
        }
        let message = source_error(write(&world, &of, "/read-only", &good));
        assert!(message.contains("is read-only"), "{message}");
        let message = source_error(write(
            &world,
            &of,
            "/",
            &archive(&[Entry::file("read-only/x", b"")]),
        ));
        assert!(message.contains("is read-only"), "{message}");
        fs::remove_dir_all(root.join("into")).unwrap();
        fs::create_dir(root.join("into")).unwrap();
    }
}

#[test]
fn mount_points_that_are_missing_are_made() {
    let world = World::new();
    for overlay in [false, true] {
        let of = world.stopped(overlay, &[("volume", "/not/there", false)]);
        let inside = kind(&world, &of, "/not/there/inside");
        assert_eq!(inside, Some(PathKind::File));
        let given = archive(&[Entry::file("written", b"x")]);
        write(&world, &of, "/not/there", &given).unwrap();
        assert!(world.path("volume/written").exists());
        assert_eq!(
            kind(&world, &of, "/not/there/written"),
            Some(PathKind::File)
        );
        fs::remove_file(world.path("volume/written")).unwrap();
        if !overlay {
            fs::remove_dir_all(world.path("root/not")).unwrap();
        }
    }
    let of = world.stopped(false, &[("missing", "/volume", false)]);
    let message = source_error(world.host.stat_path(&of, Path::new("/")));
    assert!(message.contains("doesn't exist"), "{message}");
    symlink("../../etc", world.path("root/way")).unwrap();
    let of = world.stopped(false, &[("volume", "/way", false)]);
    assert_eq!(kind(&world, &of, "/etc/inside"), Some(PathKind::File));
}

/// The writable layer of a stopped container gets what is written, and looking costs nothing.
#[test]
fn overlays_take_what_is_written() {
    let world = World::new();
    let of = world.stopped(true, &[]);
    fs::write(world.path("root/from-image"), "image").unwrap();
    let copied = unpacked(&read(&world, &of, "/from-image").unwrap());
    assert_eq!(
        fs::read_to_string(copied.path().join("from-image")).unwrap(),
        "image"
    );
    assert_eq!(fs::read_dir(world.path("upper")).unwrap().count(), 0);
    write(
        &world,
        &of,
        "/",
        &archive(&[Entry::file("from-image", b"changed")]),
    )
    .unwrap();
    assert_eq!(
        fs::read(world.path("upper/from-image")).unwrap(),
        b"changed"
    );
    assert_eq!(fs::read(world.path("root/from-image")).unwrap(), b"image");
}

#[test]
fn nothing_of_it_stays() {
    let world = World::new();
    let before = namespaces();
    for of in world.all() {
        read(&world, &of, "/etc").unwrap();
        write(&world, &of, "/etc", &archive(&[Entry::file("x", b"")])).unwrap();
        drop(source_error(read(&world, &of, "/nothing")));
    }
    assert_eq!(namespaces(), before);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(world.path("").to_str().unwrap()),
        "{mounts}"
    );
    // Nothing keeps the sources busy: a mount of them goes at once.
    world::with_tmpfs(&world.path("volume"), || {
        let of = world.stopped(false, &[("volume", "/volume", false)]);
        write(&world, &of, "/volume", &archive(&[Entry::file("x", b"")])).unwrap();
        read(&world, &of, "/volume").unwrap();
    });
}

#[test]
fn a_container_that_has_ended_is_not_running() {
    let mut world = World::new();
    let of = world.running();
    world.end();
    for result in [
        world.host.stat_path(&of, Path::new("/")).map(drop),
        read(&world, &of, "/").map(drop),
        write(&world, &of, "/", &archive(&[])),
    ] {
        assert!(
            matches!(result, Err(HostError::NotRunning(_))),
            "{result:?}"
        );
    }
    assert_eq!(world.host.instances().unwrap(), [world.init()]);
}

/// Ends the other thread, however the test ends.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A container swaps a directory for a link to the host's files as fast as it can.
#[test]
fn swapped_links_lead_nowhere() {
    let world = World::new();
    let root = world.path("root");
    let secret = world.path("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("data"), "secret").unwrap();
    let (way, aside) = (root.join("way"), root.join("aside"));
    fs::create_dir(&way).unwrap();
    fs::write(way.join("data"), "inside").unwrap();
    symlink(&secret, &aside).unwrap();
    let given = archive(&[Entry::file("way/written", b"x"), Entry::file("data", b"x")]);
    let done = AtomicBool::new(false);
    let of = world.running();
    std::thread::scope(|scope| {
        let _end = SetAtEnd(&done);
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &way, CWD, &aside, flags).unwrap();
            }
        });
        let (mut found, mut written) = (0, 0);
        for _ in 0..200 {
            // The link is dangling in the container: both may fail, but not succeed outside.
            if let Ok(archive) = read(&world, &of, "/way/data") {
                let copied = unpacked(&archive);
                assert_eq!(fs::read(copied.path().join("data")).unwrap(), b"inside");
                found += 1;
            }
            if let Ok(archive) = read(&world, &of, "/way") {
                assert!(names(&archive).len() <= 3);
            }
            written += usize::from(write(&world, &of, "/", &given).is_ok());
            fs::write(root.join("data"), "").unwrap();
            for place in [&way, &aside] {
                drop(fs::write(place.join("data"), "inside").err());
                assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
                drop(fs::write(secret.join("data"), "secret"));
            }
        }
        assert!(found > 0 && written > 0, "{found} {written}");
    });
    assert_eq!(fs::read_dir(&secret).unwrap().count(), 1);
}

#[test]
fn a_hundred_thousand_small_files_come_and_go() {
    let world = World::new();
    let of = world.running();
    let mut given = Vec::new();
    for number in 0..100_000 {
        if number % 1000 == 0 {
            Entry::dir(&format!("many/{}/", number / 1000)).append(&mut given);
        }
        let name = format!("many/{}/{number}", number / 1000);
        Entry::file(&name, name.as_bytes()).append(&mut given);
    }
    given.extend([0; 1024]);
    write(&world, &of, "/", &given).unwrap();
    /// Counts headers of files without keeping the archive.
    struct Count(u64);
    impl io::Write for Count {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0 += data.len() as u64;
            Ok(data.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    world
        .host
        .read_archive(&of, Path::new("/many"), &mut count)
        .unwrap();
    // A header and a block of data each, at least.
    assert!(count.0 > 100_000 * 1024, "{}", count.0);
}
