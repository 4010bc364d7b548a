//! The suite over ZFS, with a real pool.

use std::sync::Arc;

use kleene_command::System;
use kleene_storage::ZfsStorage;
use kleene_storage::testkit::ZfsPool;

use crate::host_room::HostRoom;

fn room() -> HostRoom<ZfsStorage, ZfsPool> {
    let ground = ZfsPool::create();
    let storage = ZfsStorage::open(Arc::new(System), &ground.kleene_root()).unwrap();
    HostRoom {
        storage,
        leftovers: |pool| {
            let all = pool
                .zfs(&["list", "-H", "-o", "name", "-t", "snapshot"])
                .unwrap();
            let foreign = |name: &&str| name.contains("@kleene-") && name.starts_with(pool.name());
            let datasets = pool.zfs(&["list", "-H", "-o", "name"]).unwrap();
            let comparing = format!("{}/comparing-", pool.kleene_root());
            let clones = datasets.lines().filter(|name| name.starts_with(&comparing));
            let snapshots = all.lines().filter(foreign);
            snapshots.chain(clones).map(str::to_owned).collect()
        },
        ground,
    }
}

kleene_storage::conformance_suite!(room());
