//! Single datasets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kleene_doors::storage::{Dataset, DatasetKind, StorageError};
use kleene_types::{ContainerId, ImageId};

use super::{Room, at, base_image, container, image, no_leftovers, volume};

/// Creating, looking for, listing and destroying.
pub fn datasets_come_and_go(room: &dyn Room) {
    let storage = room.storage();
    for dataset in [volume("web"), image(), container()] {
        assert!(!storage.exists(&dataset).unwrap());
        assert_eq!(storage.list(dataset.kind()).unwrap(), []);
        storage.create(&dataset).unwrap();
        assert!(storage.exists(&dataset).unwrap());
        assert_eq!(
            storage.list(dataset.kind()).unwrap(),
            std::slice::from_ref(&dataset)
        );
        storage.root(&dataset).unwrap();
        storage.destroy(&dataset).unwrap();
        assert!(!storage.exists(&dataset).unwrap());
        assert_eq!(storage.list(dataset.kind()).unwrap(), []);
    }
    no_leftovers(room);
}

/// A new dataset has nothing in it, and belongs to root with mode 0755.
pub fn a_new_dataset_is_empty_and_roots(room: &dyn Room) {
    for dataset in [volume("web"), image(), container()] {
        room.storage().create(&dataset).unwrap();
        assert_eq!(room.names(&dataset, "."), Vec::<String>::new());
        assert_eq!(room.mode(&dataset), 0o755);
    }
}

/// Every refusal is of its own kind, and leaves everything as it was.
pub fn failures_say_what_they_are_and_change_nothing(room: &dyn Room) {
    let storage = room.storage();
    let (web, nobody) = (volume("web"), volume("nobody"));
    storage.create(&web).unwrap();
    room.write(&web, "precious", "data");
    let base = base_image(room);
    let absent = container();

    let exists = |result| matches!(result, Err(StorageError::Exists(_)));
    let not_found = |result| matches!(result, Err(StorageError::NotFound(_)));
    assert!(exists(storage.create(&web)));
    assert!(exists(storage.create(&base)));
    assert!(exists(storage.snapshot(&at(&base, "image"))));
    let taken = storage.clone_snapshot(&at(&base, "image"), &base);
    assert!(exists(taken));
    assert!(not_found(storage.destroy(&nobody)));
    assert!(not_found(storage.destroy(&absent)));
    assert!(not_found(storage.root(&nobody).map(drop)));
    assert!(not_found(storage.root(&absent).map(drop)));
    assert!(not_found(storage.usage(&nobody).map(drop)));
    assert!(not_found(storage.usage(&absent).map(drop)));
    assert!(not_found(storage.snapshot(&at(&absent, "image"))));
    let clone = |origin| storage.clone_snapshot(&origin, &absent);
    assert!(not_found(clone(at(&base, "nosuch"))));
    assert!(not_found(clone(at(&image(), "image"))));

    assert_eq!(room.read(&web, "precious").as_deref(), Some("data"));
    assert_eq!(room.read(&base, "etc/motd").as_deref(), Some("base"));
    assert_eq!(storage.list(DatasetKind::Container).unwrap(), []);
    assert_eq!(storage.list(DatasetKind::Volume).unwrap(), [web]);
    no_leftovers(room);
}

/// What is written stays, and is where the storage says it is.
pub fn a_dataset_keeps_what_is_written(room: &dyn Room) {
    let storage = room.storage();
    for dataset in [volume("web"), image(), container()] {
        storage.create(&dataset).unwrap();
        room.make_dir(&dataset, "a/b");
        room.write(&dataset, "a/b/file", "text");
        assert_eq!(room.read(&dataset, "a/b/file").as_deref(), Some("text"));
        assert_eq!(room.names(&dataset, "."), ["a"]);
        let name = storage.name(&dataset);
        assert!(name.ends_with(&dataset.to_string()), "{name}");
        let root = storage.info().root;
        assert!(name.starts_with(&root), "{name} is not in {root}");
        assert!(storage.mountpoint(&dataset).is_absolute());
    }
}

/// An image and a container may have the same id.
pub fn kinds_do_not_mix(room: &dyn Room) {
    let storage = room.storage();
    let image = Dataset::Image("0123456789ab".parse::<ImageId>().unwrap());
    let container = Dataset::Container("0123456789ab".parse::<ContainerId>().unwrap());
    let volume = volume("0123456789ab");
    for dataset in [&image, &container, &volume] {
        storage.create(dataset).unwrap();
        room.write(dataset, "kind", &dataset.to_string());
    }
    storage.destroy(&image).unwrap();
    for dataset in [&container, &volume] {
        let text = room.read(dataset, "kind");
        assert_eq!(text, Some(dataset.to_string()));
    }
}

/// Every name that is a volume's name works; no other can be put into words.
pub fn names_at_the_limits(room: &dyn Room) {
    let storage = room.storage();
    let long = "x".repeat(128);
    let names = [
        "a",
        "9",
        "a.b_c-d",
        "A",
        "lost-found",
        "trash",
        "metadata",
        &long,
    ];
    for name in names {
        storage.create(&volume(name)).unwrap();
        room.write(&volume(name), "name", name);
    }
    let listed = storage.list(DatasetKind::Volume).unwrap();
    let listed: BTreeSet<&str> = listed.iter().map(Dataset::leaf).collect();
    assert_eq!(listed, BTreeSet::from(names));
    for name in names {
        assert_eq!(room.read(&volume(name), "name").as_deref(), Some(name));
        storage.destroy(&volume(name)).unwrap();
    }
    for hostile in ["..", "../x", ".", "a/b", "a@b", "-r", "a b", "", "a\n"] {
        assert!(hostile.parse::<kleene_types::VolumeName>().is_err());
        assert!(hostile.parse::<kleene_types::SnapshotName>().is_err());
    }
}

/// Usage follows the data, though some rooms take a few seconds to notice.
pub fn usage_grows(room: &dyn Room) {
    let storage = room.storage();
    let web = volume("web");
    storage.create(&web).unwrap();
    let before = storage.usage(&web).unwrap();
    // Not compressible, should the room do that.
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + u8::try_from(state >> 26).unwrap())
    });
    room.write(&web, "data", &noise.take(1 << 20).collect::<String>());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let grown = storage.usage(&web).unwrap().saturating_sub(before);
        if grown >= 700_000 {
            assert!(grown < 3 << 20, "1 MiB of data counts as {grown} bytes");
            return;
        }
        assert!(Instant::now() < until, "1 MiB of data counts as {grown}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
