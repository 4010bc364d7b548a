//! What a container has made of its image.

use kleene_doors::storage::{Change, ChangeKind, Dataset, StorageError};
use kleene_types::{ByteSize, ContainerId};

use super::{Room, at, base_image, clone_of, container, no_leftovers};

/// The changes of a container as text: `A /path`, `C /path`, `D /path`.
pub fn changes_of(room: &dyn Room, container: &Dataset) -> Vec<String> {
    let Dataset::Container(id) = container else {
        panic!("{container} is no container");
    };
    let changes = room.storage().changes(id).unwrap();
    let mut sorted = changes.clone();
    sorted.sort();
    assert_eq!(
        changes, sorted,
        "changes come sorted, and each of them once"
    );
    sorted.dedup();
    assert_eq!(changes.len(), sorted.len(), "{changes:?}");
    changes.iter().map(line).collect()
}

fn line(change: &Change) -> String {
    let letter = match change.kind {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'C',
        ChangeKind::Deleted => 'D',
    };
    format!("{letter} {}", change.path.display())
}

/// A fresh container has no changes, and each kind of change is told.
pub fn changes_are_told(room: &dyn Room) {
    let base = base_image(room);
    let container = clone_of(room, &base, container());
    assert_eq!(changes_of(room, &container), Vec::<String>::new());

    room.write(&container, "etc/motd", "longer than before");
    assert_eq!(changes_of(room, &container), ["C /etc/motd"]);
    room.write(&container, "new", "new");
    room.make_dir(&container, "made/deep/er");
    room.write(&container, "made/deep/er/file", "new");
    room.remove(&container, "other");
    let expected = [
        "C /etc/motd",
        "A /made",
        "A /made/deep",
        "A /made/deep/er",
        "A /made/deep/er/file",
        "A /new",
        "D /other",
    ];
    assert_eq!(changes_of(room, &container), expected);
    no_leftovers(room);
}

/// A directory has changed when entries came or went, and one that is gone is told once.
pub fn changes_of_directories(room: &dyn Room) {
    let base = base_image(room);
    let one = clone_of(room, &base, container());
    room.write(&one, "etc/deep/new", "new");
    let added = ["C /etc/deep", "A /etc/deep/new"];
    assert_eq!(changes_of(room, &one), added);
    room.remove(&one, "etc/deep/new");
    assert_eq!(changes_of(room, &one), Vec::<String>::new());
    room.remove(&one, "etc/deep/er/file");
    let gone = ["C /etc/deep/er", "D /etc/deep/er/file"];
    assert_eq!(changes_of(room, &one), gone);
    room.remove(&one, "etc/deep");
    assert_eq!(changes_of(room, &one), ["C /etc", "D /etc/deep"]);
    // Made again, with something else in it.
    room.make_dir(&one, "etc/deep");
    room.write(&one, "etc/deep/else", "new");
    let replaced = ["C /etc/deep", "A /etc/deep/else", "D /etc/deep/er"];
    assert_eq!(changes_of(room, &one), replaced);

    // A file in a directory's place, and the other way round.
    let two = clone_of(room, &base, container());
    room.remove(&two, "etc/deep");
    room.write(&two, "etc/deep", "a file");
    room.remove(&two, "other");
    room.make_dir(&two, "other/inner");
    let expected = ["C /etc/deep", "C /other", "A /other/inner"];
    assert_eq!(changes_of(room, &two), expected);
    // The root is told of for its own attributes alone.
    room.set_mode(&two, 0o711);
    assert_eq!(changes_of(room, &two)[0], "C /");
}

/// The mount points that containers need come by themselves.
pub fn changes_leave_out_mount_points(room: &dyn Room) {
    let base = base_image(room);
    let container = clone_of(room, &base, container());
    for name in ["proc", "sys", "dev", "etc/proc"] {
        room.make_dir(&container, name);
    }
    let expected = ["C /etc", "A /etc/proc"];
    assert_eq!(changes_of(room, &container), expected);
    room.write(&container, "dev/null", "somebody's");
    let expected = ["A /dev", "A /dev/null", "C /etc", "A /etc/proc"];
    assert_eq!(changes_of(room, &container), expected);
}

/// Of containers that were made of other containers, or have snapshots of their own, or of an image.
pub fn changes_along_a_chain(room: &dyn Room) {
    let storage = room.storage();
    let base = base_image(room);
    let build = clone_of(room, &base, container());
    room.write(&build, "one", "one");
    room.remove(&build, "other");
    storage.snapshot(&at(&build, "image")).unwrap();
    assert_eq!(changes_of(room, &build), ["A /one", "D /other"]);
    room.write(&build, "one", "another text");
    room.write(&build, "etc/two", "two");
    let expected = ["C /etc", "A /etc/two", "A /one", "D /other"];
    assert_eq!(changes_of(room, &build), expected);

    // Compared with the snapshot, not with what became of it.
    let run = clone_of(room, &build, container());
    assert_eq!(changes_of(room, &run), Vec::<String>::new());
    room.write(&run, "one", "a third text");
    room.write(&run, "other", "back again");
    room.remove(&run, "etc");
    let expected = ["D /etc", "C /one", "A /other"];
    assert_eq!(changes_of(room, &run), expected);
    no_leftovers(room);
}

/// A container without an image has all that is in it, and one that isn't there is not found.
pub fn changes_of_nothing(room: &dyn Room) {
    let storage = room.storage();
    let alone = container();
    storage.create(&alone).unwrap();
    room.make_dir(&alone, "etc");
    room.write(&alone, "etc/motd", "new");
    assert_eq!(changes_of(room, &alone), ["A /etc", "A /etc/motd"]);
    let absent = storage.changes(&ContainerId::random());
    assert!(matches!(absent, Err(StorageError::NotFound(_))));
    no_leftovers(room);
}

/// A quota limits a container's own data, where there are quotas; elsewhere it is refused.
pub fn quotas_are_set_and_taken_away(room: &dyn Room) {
    let storage = room.storage();
    let base = base_image(room);
    let dataset = clone_of(room, &base, container());
    let Dataset::Container(id) = &dataset else {
        panic!("{dataset} is no container");
    };
    let absent = storage.set_quota(&ContainerId::random(), Some(ByteSize::new(1 << 20)));
    assert!(
        matches!(absent, Err(StorageError::NotFound(_))),
        "{absent:?}"
    );
    let set = storage.set_quota(id, Some(ByteSize::new(64 << 20)));
    if storage.info().quotas {
        set.unwrap();
        storage
            .set_quota(id, Some(ByteSize::new(32 << 20)))
            .unwrap();
    } else {
        let Err(StorageError::Unsupported(message)) = set else {
            panic!("{set:?}");
        };
        assert!(
            message.contains("ZFS") || message.contains("no quotas"),
            "{message}"
        );
        assert!(message.contains(id.as_str()), "{message}");
    }
    storage.set_quota(id, None).unwrap();
    room.write(&dataset, "file", "text");
    storage.destroy(&dataset).unwrap();
    no_leftovers(room);
}
