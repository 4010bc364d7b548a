//! Snapshots and clones.

use kleene_doors::storage::{Dataset, StorageError};

use super::{Room, at, base_image, clone_of, container, image, no_leftovers};

fn text(room: &dyn Room, dataset: &Dataset, path: &str) -> String {
    room.read(dataset, path)
        .unwrap_or_else(|| panic!("{dataset} has no {path}"))
}

/// What becomes of a dataset after its snapshot doesn't show in a clone of that.
pub fn snapshots_do_not_change(room: &dyn Room) {
    let base = base_image(room);
    room.write(&base, "etc/motd", "changed");
    room.write(&base, "new", "changed");
    room.remove(&base, "etc/deep");
    let clone = clone_of(room, &base, container());
    assert_eq!(text(room, &clone, "etc/motd"), "base");
    assert_eq!(text(room, &clone, "etc/deep/er/file"), "base");
    assert_eq!(room.names(&clone, "."), ["etc", "other"]);
    // And the dataset itself goes on.
    assert_eq!(text(room, &base, "etc/motd"), "changed");
    assert_eq!(room.names(&base, "."), ["etc", "new", "other"]);
    assert_eq!(room.names(&base, "etc"), ["motd"]);
}

/// Clones change neither their origin nor each other.
pub fn clones_are_independent(room: &dyn Room) {
    let base = base_image(room);
    let one = clone_of(room, &base, container());
    let two = clone_of(room, &base, container());
    room.write(&one, "etc/motd", "one");
    room.write(&two, "etc/deep/er/file", "two");
    room.write(&two, "only", "two");
    assert_eq!(text(room, &one, "etc/motd"), "one");
    assert_eq!(text(room, &one, "etc/deep/er/file"), "base");
    assert_eq!(room.read(&one, "only"), None);
    assert_eq!(text(room, &two, "etc/motd"), "base");
    assert_eq!(text(room, &base, "etc/motd"), "base");
    let three = clone_of(room, &base, container());
    assert_eq!(text(room, &three, "etc/motd"), "base");
    room.storage().destroy(&one).unwrap();
    assert_eq!(text(room, &two, "only"), "two");
    assert_eq!(text(room, &base, "other"), "base");
    no_leftovers(room);
}

/// Files and directories that a clone removes or replaces don't shine through.
pub fn clones_hide_what_was_removed(room: &dyn Room) {
    let base = base_image(room);
    let clone = clone_of(room, &base, container());
    room.remove(&clone, "other");
    room.remove(&clone, "etc/deep");
    assert_eq!(room.names(&clone, "."), ["etc"]);
    assert_eq!(room.names(&clone, "etc"), ["motd"]);
    room.make_dir(&clone, "etc/deep");
    assert_eq!(room.names(&clone, "etc/deep"), Vec::<String>::new());
    room.remove(&clone, "etc");
    room.write(&clone, "etc", "a file now");
    assert_eq!(text(room, &clone, "etc"), "a file now");
    assert_eq!(text(room, &base, "etc/deep/er/file"), "base");
}

/// The root of a clone has the attributes of its origin's, until they are changed.
pub fn clones_look_like_their_origin(room: &dyn Room) {
    let storage = room.storage();
    let base = image();
    storage.create(&base).unwrap();
    room.set_mode(&base, 0o711);
    storage.snapshot(&at(&base, "image")).unwrap();
    assert_eq!(room.mode(&base), 0o711);
    let clone = clone_of(room, &base, container());
    assert_eq!(room.mode(&clone), 0o711);
    room.set_mode(&clone, 0o750);
    assert_eq!(room.mode(&clone), 0o750);
    assert_eq!(room.mode(&base), 0o711);
}

/// Clones of clones of clones, each with changes of its own.
pub fn chains_of_clones(room: &dyn Room) {
    let storage = room.storage();
    let mut last = base_image(room);
    let mut chain = vec![last.clone()];
    for level in ["one", "two", "three", "four", "five"] {
        let next = clone_of(room, &last, image());
        room.write(&next, level, level);
        room.write(&next, "etc/motd", level);
        if level == "three" {
            room.remove(&next, "one");
            room.remove(&next, "etc/deep");
        }
        storage.snapshot(&at(&next, "image")).unwrap();
        chain.push(next.clone());
        last = next;
    }
    let leaf = clone_of(room, &last, container());
    assert_eq!(text(room, &leaf, "etc/motd"), "five");
    let names = ["etc", "five", "four", "other", "three", "two"];
    assert_eq!(room.names(&leaf, "."), names);
    assert_eq!(room.names(&leaf, "etc"), ["motd"]);
    assert_eq!(text(room, &chain[2], "one"), "one");
    assert_eq!(text(room, &chain[2], "etc/deep/er/file"), "base");
    assert_eq!(text(room, &chain[0], "etc/motd"), "base");

    // Only from the end can the chain be taken apart.
    chain.push(leaf);
    while let Some(end) = chain.pop() {
        if let Some(above) = chain.last() {
            let refused = storage.destroy(above);
            assert!(matches!(refused, Err(StorageError::InUse { .. })));
        }
        storage.destroy(&end).unwrap();
    }
    no_leftovers(room);
}

/// A clone of an older snapshot shows the older state, whatever came later.
pub fn snapshots_of_one_dataset(room: &dyn Room) {
    let storage = room.storage();
    let base = base_image(room);
    room.write(&base, "etc/motd", "second");
    room.remove(&base, "other");
    storage.snapshot(&at(&base, "second")).unwrap();
    storage.snapshot(&at(&base, "unchanged")).unwrap();
    room.write(&base, "etc/motd", "third");
    room.write(&base, "other", "third");
    storage.snapshot(&at(&base, "third")).unwrap();
    room.write(&base, "etc/motd", "now");

    let expect = |snapshot: &str, motd: &str, other: Option<&str>| {
        let clone = container();
        storage
            .clone_snapshot(&at(&base, snapshot), &clone)
            .unwrap();
        assert_eq!(text(room, &clone, "etc/motd"), motd, "@{snapshot}");
        assert_eq!(room.read(&clone, "other").as_deref(), other, "@{snapshot}");
        storage.destroy(&clone).unwrap();
    };
    expect("image", "base", Some("base"));
    expect("second", "second", None);
    expect("unchanged", "second", None);
    expect("third", "third", Some("third"));
    assert_eq!(text(room, &base, "etc/motd"), "now");
    storage.destroy(&base).unwrap();
    no_leftovers(room);
}

/// A dataset with clones is not destroyed, the clones are named, and nothing is lost.
pub fn clones_keep_their_origin(room: &dyn Room) {
    let storage = room.storage();
    let base = base_image(room);
    let one = clone_of(room, &base, container());
    let two = clone_of(room, &base, image());
    let Err(StorageError::InUse { dataset, reason }) = storage.destroy(&base) else {
        panic!("an image with two clones was destroyed");
    };
    assert_eq!(dataset, storage.name(&base));
    for clone in [&one, &two] {
        assert!(reason.contains(&storage.name(clone)), "{reason}");
    }
    assert_eq!(text(room, &one, "etc/motd"), "base");
    assert_eq!(text(room, &base, "etc/motd"), "base");
    storage.destroy(&one).unwrap();
    let Err(StorageError::InUse { reason, .. }) = storage.destroy(&base) else {
        panic!("an image with a clone was destroyed");
    };
    assert!(!reason.contains(&storage.name(&one)), "{reason}");
    storage.destroy(&two).unwrap();
    storage.destroy(&base).unwrap();
    assert!(!storage.exists(&base).unwrap());
    no_leftovers(room);
}

/// What a container has become can be an image, and the container can go on.
pub fn a_snapshot_of_a_clone_is_whole(room: &dyn Room) {
    let storage = room.storage();
    let base = base_image(room);
    let build = clone_of(room, &base, container());
    room.write(&build, "step", "one");
    room.remove(&build, "other");
    storage.snapshot(&at(&build, "one")).unwrap();
    room.write(&build, "step", "two");
    let clone = container();
    storage.clone_snapshot(&at(&build, "one"), &clone).unwrap();
    assert_eq!(text(room, &clone, "step"), "one");
    assert_eq!(room.names(&clone, "."), ["etc", "step"]);
    assert_eq!(text(room, &clone, "etc/deep/er/file"), "base");
    assert_eq!(text(room, &build, "step"), "two");
}

/// Builds have many steps, and images are made of images: no number of snapshots is too many.
pub fn three_hundred_snapshots_in_a_row(room: &dyn Room) {
    const SNAPSHOTS: usize = 300;
    let storage = room.storage();
    let mut last = base_image(room);
    let mut chain = vec![last.clone()];
    for number in 0..SNAPSHOTS {
        let level = number.to_string();
        room.write(&last, "etc/motd", &level);
        room.write(&last, &format!("file-{}", number % 7), &level);
        if number % 10 == 3 {
            room.remove(&last, "etc/deep");
            room.make_dir(&last, "etc/deep/er");
            room.write(&last, "etc/deep/er/file", &level);
        }
        if number % 10 == 6 {
            room.remove(&last, "etc/deep/er");
        }
        let name = format!("s{number}");
        storage.snapshot(&at(&last, &name)).unwrap();
        // Each third one is a clone's, so that both ways lead on.
        if number % 3 == 0 {
            let next = image();
            storage.clone_snapshot(&at(&last, &name), &next).unwrap();
            chain.push(next.clone());
            last = next;
        }
        assert_eq!(text(room, &last, "etc/motd"), level);
        assert_eq!(text(room, &last, "other"), "base");
        for (of, name) in (0..=number).rev().take(7).map(|of| (of, of % 7)) {
            assert_eq!(text(room, &last, &format!("file-{name}")), of.to_string());
        }
        let deep = match (number % 10, number / 10 * 10 + 3) {
            (3..6, since) => Some(since.to_string()),
            (0..3, _) if number < 3 => Some("base".to_owned()),
            _ => None,
        };
        assert_eq!(room.read(&last, "etc/deep/er/file"), deep, "after {number}");
        let expected = match number % 10 {
            3..6 => vec!["er"],
            _ if number < 3 => vec!["er"],
            _ => vec![],
        };
        assert_eq!(room.names(&last, "etc/deep"), expected, "after {number}");
    }
    // Older states are as they were.
    let early = container();
    storage
        .clone_snapshot(&at(&chain[1], "s1"), &early)
        .unwrap();
    assert_eq!(text(room, &early, "etc/motd"), "1");
    assert_eq!(text(room, &early, "etc/deep/er/file"), "base");
    storage.destroy(&early).unwrap();
    for dataset in chain.iter().rev() {
        storage.destroy(dataset).unwrap();
    }
    no_leftovers(room);
}
