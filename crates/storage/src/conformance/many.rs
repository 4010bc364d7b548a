//! Many datasets, and many at once.

use std::collections::BTreeSet;
use std::thread;

use kleene_doors::storage::DatasetKind;

use super::{Room, at, base_image, container, no_leftovers, volume};

/// Two hundred volumes are listed, each of them once.
pub fn two_hundred_volumes(room: &dyn Room) {
    let storage = room.storage();
    let names: BTreeSet<String> = (0..200).map(|number| format!("v{number}")).collect();
    for name in &names {
        storage.create(&volume(name)).unwrap();
    }
    let listed = storage.list(DatasetKind::Volume).unwrap();
    assert_eq!(listed.len(), names.len());
    let listed: BTreeSet<String> = listed.iter().map(|it| it.leaf().to_owned()).collect();
    assert_eq!(listed, names);
}

/// Datasets are made, cloned and destroyed by several threads at once.
pub fn everybody_at_once(room: &dyn Room) {
    let storage = room.storage();
    let base = base_image(room);
    let work = |thread: usize| {
        for number in 0..5 {
            let volume = volume(&format!("v{thread}-{number}"));
            storage.create(&volume).unwrap();
            let clone = container();
            storage.clone_snapshot(&at(&base, "image"), &clone).unwrap();
            storage.root(&clone).unwrap();
            assert!(storage.destroy(&base).is_err());
            storage.destroy(&clone).unwrap();
            if number % 2 == 0 {
                storage.destroy(&volume).unwrap();
            }
        }
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || work(thread));
        }
    });
    assert_eq!(storage.list(DatasetKind::Volume).unwrap().len(), 4 * 2);
    assert_eq!(storage.list(DatasetKind::Container).unwrap(), []);
    assert_eq!(
        storage.list(DatasetKind::Image).unwrap(),
        std::slice::from_ref(&base)
    );
    assert_eq!(room.read(&base, "etc/motd").as_deref(), Some("base"));
    no_leftovers(room);
}
