//! What is special about ZFS: the root, adopting, and everything that is busy.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kleene_command::System;
use kleene_doors::storage::{
    AdoptMode, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError,
};
use kleene_monitor::root::open_root;
use kleene_storage::ZfsStorage;
use kleene_storage::testkit::ZfsPool;
use kleene_types::{ByteSize, ContainerId, ImageId};

use crate::host_room::names;

fn open(root: &str) -> Result<ZfsStorage, StorageError> {
    ZfsStorage::open(Arc::new(System), root)
}

fn volume(name: &str) -> Dataset {
    Dataset::Volume(name.parse().unwrap())
}

fn image() -> Dataset {
    Dataset::Image(ImageId::random())
}

fn at(dataset: &Dataset) -> Snapshot {
    Snapshot {
        dataset: dataset.clone(),
        name: "image".parse().unwrap(),
    }
}

fn snapshots(pool: &ZfsPool) -> Vec<String> {
    let arguments = [
        "list",
        "-H",
        "-o",
        "name",
        "-t",
        "snapshot",
        "-r",
        pool.name(),
    ];
    let list = pool.zfs(&arguments).unwrap();
    list.lines().map(str::to_owned).collect()
}

/// Why the dataset isn't accepted as a root.
fn refusal(root: &str) -> String {
    match open(root) {
        Ok(_) => panic!("{root} was opened"),
        Err(StorageError::Invalid(message)) => message,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn the_root_is_made_found_again_and_kept_from_others() {
    let pool = ZfsPool::create();
    let root = pool.kleene_root();
    let first = open(&root).unwrap();
    let web = volume("web");
    first.create(&web).unwrap();
    assert!(refusal(&root).contains("another kleened"));
    assert_eq!(first.name(&web), format!("{root}/volumes/web"));
    let place = pool.mountpoint().join("kleene");
    assert_eq!(first.mountpoint(&web), place.join("volumes/web"));
    assert_eq!(first.info().metadata, place.join("metadata"));
    let mode = |name: &str| fs::metadata(place.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("volumes")), (0o700, 0o700));
    assert_eq!((mode("image"), mode("container")), (0o700, 0o700));
    assert_eq!(mode("metadata"), 0o700);
    drop(first);
    assert!(open(&root).unwrap().exists(&web).unwrap());
}

#[test]
fn roots_that_can_not_be_used_are_explained() {
    let pool = ZfsPool::create();
    assert!(refusal("nosuchpool/kleene").contains("`zpool list`"));
    let root = pool.kleene_root();
    drop(open(&root).unwrap());
    for mountpoint in ["none", "legacy"] {
        let property = format!("mountpoint={mountpoint}");
        pool.zfs(&["set", &property, &root]).unwrap();
        let message = refusal(&root);
        assert!(message.contains(&format!("'{mountpoint}'")), "{message}");
        assert!(message.contains("zfs set mountpoint=/"), "{message}");
    }
}

#[test]
fn what_is_not_mounted_gets_mounted() {
    let pool = ZfsPool::create();
    let root = pool.kleene_root();
    let storage = open(&root).unwrap();
    let web = volume("web");
    storage.create(&web).unwrap();
    let data = storage.mountpoint(&web).join("data");
    fs::write(&data, "data").unwrap();
    pool.zfs(&["unmount", &storage.name(&web)]).unwrap();
    assert!(!data.exists());
    assert!(storage.exists(&web).unwrap());
    storage.root(&web).unwrap();
    assert_eq!(fs::read_to_string(&data).unwrap(), "data");
    drop(storage);

    pool.zfs(&["unmount", &root]).unwrap();
    let storage = open(&root).unwrap();
    storage.root(&web).unwrap();
    assert_eq!(fs::read_to_string(&data).unwrap(), "data");
}

#[test]
fn a_used_up_quota_is_no_space_and_nothing_stays_behind() {
    let pool = ZfsPool::create();
    let root = pool.kleene_root();
    let storage = open(&root).unwrap();
    let base = image();
    storage.create(&base).unwrap();
    storage.snapshot(&at(&base)).unwrap();
    let web = volume("web");
    storage.create(&web).unwrap();
    pool.zfs(&["set", "quota=5M", &root]).unwrap();
    let full = fs::write(storage.mountpoint(&web).join("large"), vec![1; 16 << 20]);
    assert!(full.is_err());

    let container = Dataset::Container(ContainerId::random());
    let (db, cloned) = (volume("db"), storage.clone_snapshot(&at(&base), &container));
    for refused in [storage.create(&db), cloned] {
        assert!(
            matches!(refused, Err(StorageError::NoSpace { .. })),
            "{refused:?}"
        );
    }
    assert!(!storage.exists(&container).unwrap());
    let volumes = storage.list(DatasetKind::Volume).unwrap();
    assert_eq!(volumes, std::slice::from_ref(&web));
    // Destroying is what makes room.
    storage.destroy(&web).unwrap();
    storage.create(&db).unwrap();
}

#[test]
fn a_directory_in_the_way_is_not_mounted_over() {
    let pool = ZfsPool::create();
    let storage = open(&pool.kleene_root()).unwrap();
    let web = volume("web");
    let place = storage.mountpoint(&web);
    fs::create_dir(&place).unwrap();
    fs::write(place.join("file"), "somebody's").unwrap();
    let refused = storage.create(&web);
    assert!(
        matches!(refused, Err(StorageError::Failed { .. })),
        "{refused:?}"
    );
    assert!(!storage.exists(&web).unwrap());
    assert_eq!(names(&place), ["file"]);
}

#[test]
fn destroying_leaves_no_directory() {
    let pool = ZfsPool::create();
    let storage = open(&pool.kleene_root()).unwrap();
    let web = volume("web");
    storage.create(&web).unwrap();
    storage.snapshot(&at(&web)).unwrap();
    storage.destroy(&web).unwrap();
    assert!(!storage.mountpoint(&web).exists());
    assert_eq!(snapshots(&pool), Vec::<String>::new());
}

#[test]
fn a_volume_that_is_in_use_is_kept() {
    let pool = ZfsPool::create();
    let storage = open(&pool.kleene_root()).unwrap();
    let web = volume("web");
    storage.create(&web).unwrap();
    let place = storage.mountpoint(&web);
    fs::write(place.join("data"), "data").unwrap();
    let refused = |why: &str| {
        let refused = storage.destroy(&web);
        assert!(
            matches!(refused, Err(StorageError::InUse { .. })),
            "{why}: {refused:?}"
        );
        let data = fs::read_to_string(place.join("data"));
        assert_eq!(data.unwrap(), "data", "{why}");
    };

    let open_file = File::open(place.join("data")).unwrap();
    refused("an open file");
    drop(open_file);

    let elsewhere = pool.mountpoint().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    rustix::mount::mount_bind(&place, &elsewhere).unwrap();
    let unmount = OnDrop(|| {
        // Also when the test has failed because ZFS has unmounted it.
        let _gone = rustix::mount::unmount(&elsewhere, rustix::mount::UnmountFlags::DETACH);
    });
    refused("a mount elsewhere");
    drop(unmount);

    // In a mount namespace of its own, as containers have: ZFS notices only after unmounting, and
    // zfs-fuse can't mount it again before the other one is gone.
    let tree = open_root(&storage.root(&web).unwrap()).unwrap();
    let hidden = storage.destroy(&web);
    assert!(
        matches!(hidden, Err(StorageError::InUse { .. })),
        "{hidden:?}"
    );
    drop(tree);
    storage.root(&web).unwrap();

    let inner = format!("{}/wal", storage.name(&web));
    pool.zfs(&["create", &inner]).unwrap();
    refused("a dataset inside");
    pool.zfs(&["unmount", &inner]).unwrap();
    refused("an unmounted dataset inside");
}

/// Runs something when it is dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A pool with the dataset `base`, and storage beside it.
fn with_base() -> (ZfsPool, ZfsStorage, String) {
    let pool = ZfsPool::create();
    let storage = open(&pool.kleene_root()).unwrap();
    let base = format!("{}/base", pool.name());
    pool.zfs(&["create", &base]).unwrap();
    fs::write(pool.mountpoint().join("base/motd"), "hello").unwrap();
    (pool, storage, base)
}

#[test]
fn datasets_are_adopted() {
    let (pool, storage, base) = with_base();
    for mode in [AdoptMode::Clone, AdoptMode::Copy] {
        let image = image();
        storage.adopt(&base, mode, &image).unwrap();
        let Root::Directory { path } = storage.root(&image).unwrap() else {
            panic!("ZFS has directories");
        };
        assert_eq!(fs::read_to_string(path.join("motd")).unwrap(), "hello");
        // The image has its own life.
        storage.snapshot(&at(&image)).unwrap();
        fs::write(path.join("motd"), "changed").unwrap();
        let motd = pool.mountpoint().join("base/motd");
        assert_eq!(fs::read_to_string(motd).unwrap(), "hello");
        let kept = usize::from(mode == AdoptMode::Clone);
        assert_eq!(snapshots(&pool).len(), 1 + kept, "{mode:?}");
        storage.destroy(&image).unwrap();
        assert_eq!(snapshots(&pool), Vec::<String>::new(), "{mode:?}");
    }
}

#[test]
fn what_can_not_be_adopted_is_explained() {
    let (pool, storage, base) = with_base();
    let existing = image();
    storage.create(&existing).unwrap();
    let cases = [
        (format!("{}/none", pool.name()), "doesn't exist"),
        (format!("{base}@snapshot"), "without a snapshot"),
        ("-r".to_owned(), "isn't named like one"),
        (pool.kleene_root(), "Kleene itself"),
        (storage.name(&existing), "Kleene itself"),
        ("otherpool/base".to_owned(), "zfs-copy"),
    ];
    for (source, expected) in cases {
        let refused = storage.adopt(&source, AdoptMode::Clone, &image());
        let Err(StorageError::Invalid(message)) = refused else {
            panic!("{source}: {refused:?}");
        };
        assert!(message.contains(expected), "{message}");
    }
    let taken = storage.adopt(&base, AdoptMode::Copy, &existing);
    assert!(matches!(taken, Err(StorageError::Exists(_))), "{taken:?}");
    assert!(storage.exists(&existing).unwrap());
    assert_eq!(snapshots(&pool), Vec::<String>::new());
}

#[test]
fn an_adoption_that_fails_is_undone() {
    let (pool, storage, base) = with_base();
    let large = pool.mountpoint().join("base/large");
    fs::write(large, vec![1; 16 << 20]).unwrap();
    let root = pool.kleene_root();
    pool.zfs(&["set", "quota=6M", &root]).unwrap();
    let image = image();
    storage.adopt(&base, AdoptMode::Copy, &image).unwrap_err();
    assert!(!storage.exists(&image).unwrap());
    assert_eq!(snapshots(&pool), Vec::<String>::new());
    let notes = ["get", "-H", "-s", "local", "-o", "property", "all", &root];
    assert_eq!(pool.zfs(&notes).unwrap(), "quota\n");
}

#[test]
fn an_adoption_that_was_cut_short_is_undone_at_the_next_start() {
    let (pool, storage, base) = with_base();
    let image = image();
    let snapshot = format!("{base}@kleene-{}", image.leaf());
    let root = pool.kleene_root();
    let note = format!("kleene:adopting.{}={snapshot}", image.leaf());
    // Somebody's property that looks like ours must not make us destroy a snapshot of theirs.
    let theirs = format!("{base}@precious");
    let other = format!("kleene:adopting.{}={theirs}", ImageId::random());
    pool.zfs(&["snapshot", &theirs]).unwrap();
    pool.zfs(&["set", &other, &root]).unwrap();
    pool.zfs(&["set", &note, &root]).unwrap();
    pool.zfs(&["snapshot", &snapshot]).unwrap();
    pool.zfs(&["clone", &snapshot, &storage.name(&image)])
        .unwrap();
    drop(storage);

    let storage = open(&root).unwrap();
    assert!(!storage.exists(&image).unwrap());
    assert_eq!(snapshots(&pool), [theirs]);
}

/// A container of an image that has this many bytes.
fn container_with(storage: &ZfsStorage, bytes: usize) -> ContainerId {
    let base = image();
    let container = ContainerId::random();
    storage.create(&base).unwrap();
    // Not compressible, should that be turned on.
    let noise: Vec<u8> = (0..bytes as u64)
        .map(|number| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    fs::write(storage.mountpoint(&base).join("large"), noise).unwrap();
    storage.snapshot(&at(&base)).unwrap();
    let dataset = Dataset::Container(container.clone());
    storage.clone_snapshot(&at(&base), &dataset).unwrap();
    container
}

#[test]
fn a_quota_limits_what_a_container_has_of_its_own() {
    let pool = ZfsPool::create();
    let storage = open(&pool.kleene_root()).unwrap();
    assert!(storage.info().quotas);
    // What it shares with its image doesn't count.
    let container = container_with(&storage, 16 << 20);
    let quota = ByteSize::new(6 << 20);
    storage.set_quota(&container, Some(quota)).unwrap();
    let place = storage.mountpoint(&Dataset::Container(container.clone()));
    fs::write(place.join("small"), vec![1; 1 << 20]).unwrap();
    assert!(fs::write(place.join("too-large"), vec![1; 16 << 20]).is_err());
    fs::remove_file(place.join("too-large")).unwrap();
    storage.set_quota(&container, None).unwrap();
    fs::write(place.join("large-enough"), vec![1; 16 << 20]).unwrap();

    // It takes a while until what was written counts.
    let used = || {
        storage
            .usage(&Dataset::Container(container.clone()))
            .unwrap()
    };
    let until = Instant::now() + Duration::from_secs(60);
    while used() < 16 << 20 {
        assert!(Instant::now() < until, "{} bytes are used", used());
        std::thread::sleep(Duration::from_millis(100));
    }
    let refused = storage.set_quota(&container, Some(quota));
    let Err(StorageError::Invalid(message)) = refused else {
        panic!("{refused:?}");
    };
    assert!(message.contains(&quota.bytes().to_string()), "{message}");
    assert!(message.contains("bytes are in use already"), "{message}");
}

#[test]
fn usages_of_all_are_those_of_each() {
    let pool = ZfsPool::create();
    let storage = open(&pool.kleene_root()).unwrap();
    for name in ["one", "two"] {
        storage.create(&volume(name)).unwrap();
    }
    storage.snapshot(&at(&volume("one"))).unwrap();
    let usages = storage.usages(DatasetKind::Volume).unwrap();
    assert_eq!(usages.len(), 2, "{usages:?}");
    for (dataset, bytes) in usages {
        assert!(bytes > 0);
        assert!([volume("one"), volume("two")].contains(&dataset));
    }
    assert_eq!(storage.usages(DatasetKind::Image).unwrap(), []);
}

#[test]
fn a_comparison_that_was_cut_short_leaves_nothing_after_the_next_start() {
    let pool = ZfsPool::create();
    let root = pool.kleene_root();
    let storage = open(&root).unwrap();
    let container = container_with(&storage, 1);
    let name = storage.name(&Dataset::Container(container.clone()));
    let origin = pool
        .zfs(&["get", "-H", "-o", "value", "origin", &name])
        .unwrap();
    let second = format!("{root}/comparing-{container}-0");
    let theirs = format!("{root}/comparing-prices");
    pool.zfs(&["clone", "-o", "readonly=on", origin.trim(), &second])
        .unwrap();
    pool.zfs(&["create", &theirs]).unwrap();
    drop(storage);

    let storage = open(&root).unwrap();
    let left = pool.zfs(&["list", "-H", "-o", "name"]).unwrap();
    assert!(!left.contains(&second), "{left}");
    assert!(left.contains(&theirs), "{left}");
    assert!(
        !pool
            .mountpoint()
            .join(format!("kleene/comparing-{container}-0"))
            .exists()
    );
    assert_eq!(storage.changes(&container).unwrap(), []);
}
