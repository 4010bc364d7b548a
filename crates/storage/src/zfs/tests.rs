//! The commands that are run, with the answers of OpenZFS 2.2 on FreeBSD.

use kleene_command::{Answer, Scripted};

use super::*;

fn storage(runner: &Arc<Scripted>) -> ZfsStorage {
    let place = |name: &str| Path::new("/zroot/kleene").join(name);
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
