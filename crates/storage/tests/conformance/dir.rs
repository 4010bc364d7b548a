//! The suite over directories.

use std::path::Path;

use kleene_storage::DirStorage;
use kleene_storage::testkit::{Mounted, btrfs, overlay, scratch, tmpfs};
use tempfile::TempDir;

use crate::host_room::{HostRoom, names};

type DirRoom<G> = HostRoom<DirStorage, G>;

fn trash(root: &Path) -> Vec<String> {
    names(&root.join("trash"))
}

/// Clones are overlays, on tmpfs (or wherever scratch directories are).
mod overlays {
    use super::*;

    fn room() -> DirRoom<TempDir> {
        let ground = scratch();
        let storage = DirStorage::open(ground.path()).unwrap();
        assert!(storage.uses_overlays());
        HostRoom {
            storage,
            leftovers: |ground| trash(ground.path()),
            ground,
        }
    }

    kleene_storage::conformance_suite!(room());
}

/// Clones are copies, byte for byte.
mod copies {
    use super::*;

    fn room() -> DirRoom<TempDir> {
        let ground = scratch();
        HostRoom {
            storage: DirStorage::open_copying(ground.path()).unwrap(),
            leftovers: |ground| trash(ground.path()),
            ground,
        }
    }

    kleene_storage::conformance_suite!(room());
}

fn mounted(ground: Mounted, open: impl FnOnce(&Path) -> DirStorage) -> DirRoom<Mounted> {
    let storage = open(&ground.path().join("kleene"));
    HostRoom {
        storage,
        leftovers: |ground| trash(&ground.path().join("kleene")),
        ground,
    }
}

/// Clones are copies that share their data.
mod reflinks {
    use super::*;

    fn room() -> DirRoom<Mounted> {
        mounted(btrfs(), |path| DirStorage::open_copying(path).unwrap())
    }

    kleene_storage::conformance_suite!(room());
}

/// Overlays over a file system on a disk.
mod overlays_on_btrfs {
    use super::*;

    fn room() -> DirRoom<Mounted> {
        mounted(btrfs(), |path| DirStorage::open(path).unwrap())
    }

    kleene_storage::conformance_suite!(room());
}

#[test]
fn where_overlays_are_impossible_clones_are_copies() {
    let room = mounted(overlay(), |path| DirStorage::open(path).unwrap());
    assert!(!room.storage.uses_overlays());
    kleene_storage::conformance::clones_are_independent(&room);
    let room = mounted(tmpfs("size=16m"), |path| DirStorage::open(path).unwrap());
    assert!(room.storage.uses_overlays());
}
