//! Volumes and nullfs mounts in running containers, on every storage room.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kleene_tests::{Daemon, Leaks, Room};

const WWW: &str = "/usr/local/www/nginx";

fn both(test: impl Fn(&Daemon)) {
    for room in [Room::Dir, Room::Zfs] {
        test(&Daemon::new(room));
    }
}

fn run(daemon: &Daemon, options: &[&str], command: &str) -> kleene_tests::Outcome {
    let mut words = vec!["run", "-q", "--rm"];
    words.extend(options);
    words.extend(["FreeBSD", "sh", "-c", command]);
    daemon.klee(&words)
}

fn mountpoint(daemon: &Daemon, volume: &str) -> PathBuf {
    let inspected = daemon.inspect("volume", volume);
    PathBuf::from(inspected["volume"]["mountpoint"].as_str().unwrap())
}

fn directory(daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.directory().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn data_outlives_containers_and_is_shared() {
    both(|daemon| {
        run(daemon, &["-m", "v:/data"], "echo kept > /data/note").ok();
        assert_eq!(
            run(daemon, &["-m", "v:/elsewhere"], "cat /elsewhere/note").ok(),
            "kept\n"
        );
        daemon
            .klee(&[
                "run", "-d", "--name", "writer", "-m", "v:/data", "FreeBSD", "sleep", "600",
            ])
            .ok();
        let reader = [
            "run",
            "-d",
            "--name",
            "reader",
            "-m",
            "v:/data:ro",
            "FreeBSD",
            "sleep",
            "600",
        ];
        daemon.klee(&reader).ok();
        daemon
            .klee(&["exec", "writer", "sh", "-c", "echo now > /data/note"])
            .ok();
        let read = daemon
            .klee(&["exec", "-q", "reader", "cat", "/data/note"])
            .ok();
        assert_eq!(read, "now\n");
        let refused = daemon.klee(&["exec", "-q", "reader", "touch", "/data/x"]);
        assert!(refused.fails(1).contains("Read-only"));
        assert_eq!(
            fs::read_to_string(mountpoint(daemon, "v").join("note")).unwrap(),
            "now\n"
        );
    });
}

/// Lessons 1 and 2, on real file systems: everything is copied with its attributes, once.
#[test]
fn populating_keeps_everything_and_happens_once() {
    both(|daemon| {
        let volume = populate_from_archive(daemon);
        let meta = fs::metadata(volume.join("50x.html")).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid()),
            (0o4751, 80, 50)
        );
        let own = fs::metadata(&volume).unwrap();
        assert_eq!((own.mode() & 0o7777, own.uid(), own.gid()), (0o711, 80, 80));
        assert_eq!(fs::read_to_string(volume.join(".hidden")).unwrap(), "dot\n");
        assert_eq!(
            fs::read_link(volume.join("link")).unwrap(),
            Path::new("index.html")
        );
        assert_eq!(fs::metadata(volume.join("hard")).unwrap().nlink(), 2);
        assert!(volume.join("odd name/-rf").exists());
        // What is in the volume wins over every later container's defaults.
        fs::write(volume.join("index.html"), "mine").unwrap();
        run(daemon, &["-m", &format!("web:{WWW}")], "true").ok();
        assert_eq!(
            fs::read_to_string(volume.join("index.html")).unwrap(),
            "mine"
        );
        for entry in fs::read_dir(&volume).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
            .unwrap();
        }
        run(daemon, &["-m", &format!("web:{WWW}")], "true").ok();
        assert_eq!(
            fs::read_dir(&volume).unwrap().count(),
            0,
            "deleted files don't come back"
        );
    });
}

/// Makes an image with peculiar files and a volume populated from it.
fn populate_from_archive(daemon: &Daemon) -> PathBuf {
    let tree = directory(daemon, "tree/usr/local/www/nginx");
    fs::write(tree.join("index.html"), "theirs").unwrap();
    fs::write(tree.join(".hidden"), "dot\n").unwrap();
    fs::write(tree.join("50x.html"), "sorry").unwrap();
    std::os::unix::fs::chown(tree.join("50x.html"), Some(80), Some(50)).unwrap();
    fs::set_permissions(tree.join("50x.html"), fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("index.html", tree.join("link")).unwrap();
    fs::create_dir_all(tree.join("odd name")).unwrap();
    fs::write(tree.join("odd name/-rf"), "").unwrap();
    std::os::unix::fs::chown(&tree, Some(80), Some(80)).unwrap();
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o711)).unwrap();
    let archive = daemon.directory().join("peculiar.tar");
    let mut tar = tar::Builder::new(fs::File::create(&archive).unwrap());
    tar.follow_symlinks(false);
    tar.append_dir_all(".", daemon.directory().join("tree"))
        .unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Link);
    link.set_size(0);
    let in_tree = |name: &str| format!("usr/local/www/nginx/{name}");
    tar.append_link(&mut link, in_tree("hard"), in_tree("index.html"))
        .unwrap();
    tar.into_inner().unwrap();
    let url = format!("file://{}", archive.display());
    daemon
        .klee(&["image", "create", "-t", "peculiar", "fetch", &url])
        .ok();
    daemon
        .klee(&["create", "-m", &format!("web:{WWW}"), "peculiar", "true"])
        .ok();
    mountpoint(daemon, "web")
}

#[test]
fn the_containers_own_files_come_back_without_the_mount() {
    both(|daemon| {
        let host = directory(daemon, "host");
        fs::write(host.join("index.html"), "host").unwrap();
        let mount = format!("{}:{WWW}:ro", host.display());
        let seen = run(
            daemon,
            &["-m", &mount],
            &format!("cat {WWW}/index.html; ls {WWW}"),
        )
        .ok();
        assert_eq!(seen, "hostindex.html\n");
        let seen = run(daemon, &[], &format!("ls {WWW}")).ok();
        assert!(seen.contains("50x.html"));
    });
}

#[test]
fn nullfs_mounts_of_directories_and_files() {
    both(|daemon| {
        let host = directory(daemon, "host");
        fs::write(host.join("file"), "text\n").unwrap();
        let dir = host.display().to_string();
        assert_eq!(
            run(
                daemon,
                &["-m", &format!("{dir}:/mnt")],
                "echo new > /mnt/new; cat /mnt/file"
            )
            .ok(),
            "text\n"
        );
        assert_eq!(fs::read_to_string(host.join("new")).unwrap(), "new\n");
        let single = format!("{dir}/file:/etc/deep/er/file:ro");
        assert_eq!(
            run(daemon, &["-m", &single], "cat /etc/deep/er/file").ok(),
            "text\n"
        );
        assert_eq!(
            run(daemon, &["-m", &single], "echo x > /etc/deep/er/file").code,
            1
        );
        let over_file = format!("{dir}/file:/etc/group");
        assert_eq!(
            run(daemon, &["-m", &over_file], "cat /etc/group").ok(),
            "text\n"
        );
    });
}

/// `:ro` reaches mounts beneath the source as well.
#[test]
fn read_only_is_recursive() {
    let daemon = Daemon::new(Room::Dir);
    let host = directory(&daemon, "host/inner");
    rustix::mount::mount(
        "none",
        &host,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    let mount = format!("{}:/mnt:ro", host.parent().unwrap().display());
    let outcome = run(&daemon, &["-m", &mount], "touch /mnt/inner/x");
    rustix::mount::unmount(&host, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("Read-only"), "{outcome:?}");
}

/// Lesson 4, and "never created": what can't be mounted is told, and nothing is made.
#[test]
fn sources_that_cannot_be_mounted() {
    both(|daemon| {
        let missing = daemon.directory().join("missing");
        let spec = format!("{}:/mnt", missing.display());
        let refused = daemon.klee(&["create", "-m", &spec, "-m", "fresh:/x", "FreeBSD"]);
        assert!(refused.fails(1).contains("missing"), "the path is named");
        assert!(!missing.exists());
        let socket = format!("{}:/mnt", daemon.socket().display());
        assert!(
            daemon
                .klee(&["create", "-m", &socket, "FreeBSD"])
                .fails(1)
                .contains("socket")
        );
        assert!(
            daemon
                .klee(&["create", "-m", "/dev/null:/mnt", "FreeBSD"])
                .fails(1)
                .contains("device")
        );
        assert_eq!(
            daemon.klee(&["volume", "ls", "-q"]).ok(),
            "",
            "no volume is left over"
        );
        assert_eq!(daemon.containers().len(), 0);
        // A source that goes away later fails the start, and the container stays for inspection.
        fs::create_dir(&missing).unwrap();
        daemon
            .klee(&["create", "--name", "later", "-m", &spec, "FreeBSD", "true"])
            .ok();
        fs::remove_dir(&missing).unwrap();
        assert!(
            daemon
                .klee(&["start", "later"])
                .fails(125)
                .contains("missing")
        );
        assert_eq!(
            daemon.inspect("container", "later")["container"]["running"],
            false
        );
        assert!(!missing.exists());
    });
}

/// Lesson 5: links in the image never lead a mount out of the container's root.
#[test]
fn destinations_stay_in_the_container() {
    both(|daemon| {
        let before: Vec<_> = fs::read_dir("/etc")
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        for destination in ["/trap/kleene-escape", "/climb/kleene-escape/deep"] {
            let mount = format!("v:{destination}");
            let seen = run(
                daemon,
                &["-m", &mount],
                &format!("touch {destination}/x; ls /etc"),
            )
            .ok();
            assert!(
                seen.contains("kleene-escape"),
                "the link is resolved inside: {seen}"
            );
        }
        let after: Vec<_> = fs::read_dir("/etc")
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect();
        assert_eq!(before, after, "the host's /etc is untouched");
        assert_eq!(fs::read_dir(mountpoint(daemon, "v")).unwrap().count(), 1);
    });
}

/// A mount over /etc hides the accounts: a name can't be resolved then, a number can.
#[test]
fn a_covered_passwd_fails_the_start_clearly() {
    both(|daemon| {
        let empty = directory(daemon, "empty");
        let mount = format!("{}:/etc", empty.display());
        let options = [
            "run", "-q", "--name", "covered", "-u", "www", "-m", &mount, "FreeBSD", "id", "-u",
        ];
        let message = daemon.klee(&options).fails(125);
        assert!(
            message.contains("www") && message.contains("/etc/passwd"),
            "{message}"
        );
        assert_eq!(
            daemon.inspect("container", "covered")["container"]["running"],
            false
        );
        assert_eq!(
            fs::read_dir(&empty).unwrap().count(),
            0,
            "what is mounted is not altered"
        );
        assert_eq!(
            run(daemon, &["-u", "80", "-m", &mount], "id -u").ok(),
            "80\n"
        );
    });
}

#[test]
fn mounts_within_mounts() {
    both(|daemon| {
        let options = ["-m", "inner:/data/in/ner", "-m", "outer:/data"];
        run(
            daemon,
            &options,
            "echo o > /data/o; echo i > /data/in/ner/i",
        )
        .ok();
        assert!(mountpoint(daemon, "inner").join("i").exists());
        let outer = mountpoint(daemon, "outer");
        assert!(outer.join("o").exists() && !outer.join("in/ner/i").exists());
    });
}

/// Lesson 3: a volume that a container mounts stays, whether that runs or not.
#[test]
fn a_volume_in_use_is_kept() {
    both(|daemon| {
        let id = daemon
            .klee(&["create", "-m", "data:/data", "FreeBSD", "sleep", "600"])
            .ok();
        let id = id.trim();
        let refused = |daemon: &Daemon| {
            let message = daemon.klee(&["volume", "rm", "data"]).fails(1);
            assert!(message.contains(id), "{message}");
            daemon.klee(&["volume", "prune", "-f"]).ok();
            assert_eq!(daemon.klee(&["volume", "ls", "-q"]).ok(), "data\n");
        };
        refused(daemon);
        daemon.klee(&["start", "-d", id]).ok();
        daemon.klee(&["exec", "-q", id, "touch", "/data/kept"]).ok();
        refused(daemon);
        assert!(mountpoint(daemon, "data").join("kept").exists());
        daemon.klee(&["rmc", "-f", id]).ok();
        assert_eq!(daemon.klee(&["volume", "rm", "data"]).ok(), "data\n");
    });
}

/// Nothing is left on the host: no mounts, no cgroups.
#[test]
fn nothing_is_left_behind() {
    both(|daemon| {
        let before = Leaks::look(daemon.directory(), &[]);
        let id = daemon
            .klee(&["create", "-m", "v:/v", "FreeBSD", "sleep", "600"])
            .ok();
        let id = id.trim();
        daemon.klee(&["start", "-d", id]).ok();
        daemon.klee(&["rmc", "-f", id]).ok();
        run(daemon, &["-m", "v:/v"], "true").ok();
        let after = Leaks::look(daemon.directory(), &[id.to_owned()]);
        assert_eq!(before, after);
    });
}

/// Lesson 9: others can neither reach the volumes (and set-user-id programs in them) nor read the
/// metadata.
#[test]
fn roots_are_private() {
    let daemon = Daemon::new(Room::Dir);
    daemon.klee(&["volume", "create", "v"]).ok();
    let root = PathBuf::from(daemon.kleene_root());
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    for directory in [
        root.clone(),
        root.join("volumes"),
        root.join("container"),
        root.join("image"),
    ] {
        assert_eq!(mode(&directory) & 0o077, 0, "{}", directory.display());
    }
    assert_eq!(mode(&root.join("metadata.sqlite")), 0o600);
    assert_eq!(mode(&daemon.socket()), 0o660);
}
