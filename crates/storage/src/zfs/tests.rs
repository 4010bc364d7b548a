//! The commands that are run, with the answers of OpenZFS 2.2 on FreeBSD.

use kleene_command::{Answer, Scripted};

use super::*;

fn storage(runner: &Arc<Scripted>) -> ZfsStorage {
    storage_at(runner, Path::new("/zroot/kleene"))
}

/// Storage whose root dataset is mounted there.
fn storage_at(runner: &Arc<Scripted>, mountpoint: &Path) -> ZfsStorage {
    let place = |name: &str| mountpoint.join(name);
    ZfsStorage {
        runner: runner.clone(),
        root: "zroot/kleene".to_owned(),
        places: Places {
            root: place(""),
            image: place("image"),
            container: place("container"),
            volumes: place("volumes"),
        },
        mounted: |_| Ok(true),
        comparisons: AtomicU64::new(0),
        _lock: None,
    }
}

fn with(script: Scripted, test: impl FnOnce(&ZfsStorage)) {
    let script = Arc::new(script);
    test(&storage(&script));
    assert_eq!(script.finish(), Ok(()));
}

fn volume() -> Dataset {
    Dataset::Volume("my-vol".parse().unwrap())
}

fn image() -> Dataset {
    Dataset::Image("abcdef012345".parse().unwrap())
}

#[test]
fn a_volume_is_one_command() {
    let name = "zroot/kleene/volumes/my-vol";
    let script = Scripted::new()
        .expect(&["zfs", "create", name], Answer::ok(""))
        .expect(&["zfs", "destroy", name], Answer::ok(""));
    with(script, |storage| {
        storage.create(&volume()).unwrap();
        assert_eq!(
            storage.mountpoint(&volume()),
            Path::new("/zroot/kleene/volumes/my-vol")
        );
        storage.destroy(&volume()).unwrap();
    });
}

#[test]
fn snapshots_go_with_an_image_and_clones_keep_it() {
    let name = "zroot/kleene/image/abcdef012345";
    let children = "cannot destroy 'zroot/kleene/image/abcdef012345': filesystem has children\n\
                    use '-r' to destroy the following datasets:\n\
                    zroot/kleene/image/abcdef012345@image\n";
    let clones = "cannot destroy 'zroot/kleene/image/abcdef012345': filesystem has dependent \
                  clones\nuse '-R' to destroy the following datasets:\nzroot/kleene/container/c1\n";
    let script = Scripted::new()
        .expect(&["zfs", "destroy", name], Answer::fail(1, children))
        .expect(&["zfs", "destroy", "-r", name], Answer::fail(1, clones));
    with(script, |storage| {
        let error = storage.destroy(&image()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "dataset 'zroot/kleene/image/abcdef012345' can't be removed: \
             zroot/kleene/container/c1 depends on it: remove that first"
        );
    });
}

#[test]
fn datasets_that_somebody_made_inside_are_kept() {
    let name = "zroot/kleene/volumes/my-vol";
    let children = "cannot destroy 'zroot/kleene/volumes/my-vol': filesystem has children\n\
                    use '-r' to destroy the following datasets:\n\
                    zroot/kleene/volumes/my-vol@monday\nzroot/kleene/volumes/my-vol/wal\n";
    let script = Scripted::new().expect(&["zfs", "destroy", name], Answer::fail(1, children));
    with(script, |storage| {
        let error = storage.destroy(&volume()).unwrap_err();
        assert!(error.to_string().contains("my-vol/wal"), "{error}");
    });
}

#[test]
fn a_busy_mount_is_in_use() {
    let name = "zroot/kleene/volumes/my-vol";
    let busy = "cannot unmount '/zroot/kleene/volumes/my-vol': pool or dataset is busy";
    let script = Scripted::new().expect(&["zfs", "destroy", name], Answer::fail(1, busy));
    with(script, |storage| {
        let error = storage.destroy(&volume()).unwrap_err();
        assert!(matches!(error, StorageError::InUse { .. }), "{error:?}");
    });
}

#[test]
fn a_dataset_that_is_being_released_is_tried_again() {
    let name = "zroot/kleene/volumes/my-vol";
    let busy = "cannot destroy 'zroot/kleene/volumes/my-vol': dataset is busy";
    let script = Scripted::new()
        .expect(&["zfs", "destroy", name], Answer::fail(1, busy))
        .expect(&["zfs", "destroy", name], Answer::fail(1, busy))
        .expect(&["zfs", "destroy", name], Answer::ok(""));
    with(script, |storage| storage.destroy(&volume()).unwrap());
}

#[test]
fn what_could_not_be_mounted_is_taken_away() {
    let name = "zroot/kleene/volumes/my-vol";
    let unmounted = "cannot mount '/zroot/kleene/volumes/my-vol': failed to create mountpoint\n\
                     filesystem successfully created, but not mounted";
    let available = [
        "zfs",
        "get",
        "-Hp",
        "-o",
        "value",
        "available",
        "zroot/kleene",
    ];
    let script = Scripted::new()
        .expect(&["zfs", "create", name], Answer::fail(1, unmounted))
        .expect(&["zfs", "destroy", name], Answer::ok(""))
        .expect(&available, Answer::ok("0\n"));
    with(script, |storage| {
        let error = storage.create(&volume()).unwrap_err();
        assert!(matches!(error, StorageError::NoSpace { .. }), "{error:?}");
    });
}

#[test]
fn an_existing_volume_is_left_alone() {
    let name = "zroot/kleene/volumes/my-vol";
    let exists = "cannot create 'zroot/kleene/volumes/my-vol': dataset already exists";
    let script = Scripted::new().expect(&["zfs", "create", name], Answer::fail(1, exists));
    with(script, |storage| {
        let error = storage.create(&volume()).unwrap_err();
        assert!(matches!(error, StorageError::Exists(_)), "{error:?}");
    });
}

#[test]
fn listing_reads_names_only() {
    let list = [
        "zfs",
        "list",
        "-H",
        "-o",
        "name",
        "-s",
        "name",
        "-t",
        "filesystem",
        "-r",
        "-d",
        "1",
        "zroot/kleene/volumes",
    ];
    let answer = "zroot/kleene/volumes\nzroot/kleene/volumes/a\nzroot/kleene/volumes/b c\n";
    let script = Scripted::new().expect(&list, Answer::ok(answer));
    with(script, |storage| {
        let volumes = storage.list(DatasetKind::Volume).unwrap();
        assert_eq!(volumes, [Dataset::Volume("a".parse().unwrap())]);
    });
}

#[test]
fn a_host_without_zfs_is_told_of_the_alternative() {
    let answers = [
        "connect: No such file or directory\nPlease make sure that the zfs-fuse daemon is running.\n\
         internal error: failed to initialize ZFS library",
        "The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root to load them.",
    ];
    for answer in answers {
        let list = [
            "zfs",
            "list",
            "-H",
            "-o",
            "name,mounted,mountpoint",
            "-r",
            "-d",
            "1",
            "zroot/kleene",
        ];
        let runner = Arc::new(Scripted::new().expect(&list, Answer::fail(1, answer)));
        let Err(StorageError::Invalid(message)) = ZfsStorage::open(runner.clone(), "zroot/kleene")
        else {
            panic!("ZFS was opened without ZFS");
        };
        let first = answer.lines().next().unwrap();
        assert!(message.contains(first), "{message}");
        assert!(message.contains("/var/lib/kleene"), "{message}");
        assert_eq!(runner.finish(), Ok(()));
    }
}

const CONTAINER: &str = "0123456789ab";

/// Two trees that differ in many places, and what `changes` makes of them when `zfs diff` answers like
/// this; `PLACE` stands for the container's mount point.
fn compared(diff: Result<&str, &str>, clones: bool) -> Vec<String> {
    use std::fs;

    let ground = tempfile::tempdir().unwrap();
    let new = ground.path().join("container").join(CONTAINER);
    let old = ground.path().join(format!("comparing-{CONTAINER}-0"));
    for (tree, text) in [(&old, "old"), (&new, "newer")] {
        fs::create_dir_all(tree.join("etc/deep")).unwrap();
        fs::create_dir_all(tree.join("var")).unwrap();
        for file in ["etc/motd", "etc/deep/a b", "var/log", "top"] {
            fs::write(tree.join(file), text).unwrap();
        }
    }
    fs::write(old.join("etc/gone"), "").unwrap();
    fs::create_dir_all(new.join("etc/renamed/inner")).unwrap();
    fs::write(new.join("var/unnoticed"), "").unwrap();

    let name = format!("zroot/kleene/container/{CONTAINER}");
    let clone = format!("zroot/kleene/comparing-{CONTAINER}-0");
    let origin = "zroot/kleene/image/abcdef012345@image";
    let get = ["zfs", "get", "-Hp", "-o", "value", "origin", &name];
    let diff = match diff {
        Ok(text) => Answer::ok(text.replace("PLACE", &new.display().to_string())),
        Err(text) => Answer::fail(2, text),
    };
    let script = Scripted::new()
        .expect(&get, Answer::ok(format!("{origin}\n")))
        .expect(&["zfs", "diff", "-H", origin, &name], diff);
    let script = if clones {
        let read_only = ["zfs", "clone", "-o", "readonly=on", origin, &clone];
        script
            .expect(&read_only, Answer::ok(""))
            .expect(&["zfs", "destroy", &clone], Answer::ok(""))
    } else {
        script
    };
    let script = Arc::new(script);
    let storage = storage_at(&script, ground.path());
    let changes = storage.changes(&CONTAINER.parse().unwrap()).unwrap();
    assert_eq!(script.finish(), Ok(()));
    let line = |change: &Change| format!("{:?} {}", change.kind, change.path.display());
    changes.iter().map(line).collect()
}

#[test]
fn zfs_diff_says_where_to_look() {
    assert_eq!(compared(Ok(""), false), Vec::<String>::new());
    let everything = [
        "Changed /etc",
        "Changed /etc/deep/a b",
        "Deleted /etc/gone",
        "Changed /etc/motd",
        "Added /etc/renamed",
        "Added /etc/renamed/inner",
        "Changed /top",
        "Changed /var",
        "Changed /var/log",
        "Added /var/unnoticed",
    ];
    let diff = "M\tPLACE/etc\n\
                M\tPLACE/etc/deep/a\\0040b\n\
                M\tPLACE/etc/motd\t(+1)\n\
                -\tPLACE/etc/gone\n\
                R\tPLACE/etc/before\tPLACE/etc/renamed\n\
                M\tPLACE/\n";
    let [.., top, _, _, _] = &everything;
    let mut told = everything[..6].to_vec();
    told.push(top);
    assert_eq!(compared(Ok(diff), true), told);
    // Changed and changed back, and an entry of a directory that isn't told of itself.
    let diff = "M\tPLACE/etc/deep\nM\tPLACE/var/log\n";
    let told = ["Changed /etc/deep/a b", "Changed /var/log"];
    assert_eq!(compared(Ok(diff), true), told);
    // Where it doesn't exist, or can't be understood, everything is looked at.
    for diff in [
        Err("unrecognized command 'diff'"),
        Ok("X\tPLACE/etc\n"),
        Ok("M\t/elsewhere/etc\n"),
        Ok("M\n"),
        Ok("M\tPLACE/etc\\9\n"),
    ] {
        assert_eq!(compared(diff, true), everything, "{diff:?}");
    }
}

#[test]
fn a_quota_below_what_is_used_tells_both() {
    let name = format!("zroot/kleene/container/{CONTAINER}");
    let used = ["zfs", "get", "-Hp", "-o", "value", "used", &name];
    let refusal = format!(
        "cannot set property for '{name}': size is less than current used or reserved space"
    );
    let script = Scripted::new()
        .expect(
            &["zfs", "set", "quota=4096", &name],
            Answer::fail(1, refusal),
        )
        .expect(&used, Answer::ok("70000\n"))
        .expect(&used, Answer::ok("70000\n"))
        .expect(&["zfs", "set", "quota=none", &name], Answer::ok(""));
    with(script, |storage| {
        let container = CONTAINER.parse().unwrap();
        // To ZFS, a quota of nothing is none.
        for bytes in [4096, 0] {
            let refused = storage.set_quota(&container, Some(ByteSize::new(bytes)));
            let Err(StorageError::Invalid(message)) = refused else {
                panic!("{refused:?}");
            };
            let text = format!("limited to {bytes} bytes: 70000 bytes are in use");
            assert!(message.contains(&text), "{message}");
        }
        storage.set_quota(&container, None).unwrap();
    });
}
