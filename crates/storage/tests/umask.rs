//! The daemon's umask is alone in its process: so is this test.

#![allow(clippy::unwrap_used, reason = "a test's helpers may panic as well")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use kleene_doors::storage::{Dataset, Storage as _};
use kleene_storage::DirStorage;
use rustix::fs::Mode;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    let ground = tempfile::tempdir().unwrap();
    for (name, umask) in [("strict", 0o077), ("lax", 0o000)] {
        rustix::process::umask(Mode::from(umask));
        let root = ground.path().join(name);
        let storage = DirStorage::open(&root).unwrap();
        let volume = Dataset::Volume("web".parse().unwrap());
        let image = Dataset::Image("0123456789ab".parse().unwrap());
        storage.create(&volume).unwrap();
        storage.create(&image).unwrap();
        assert_eq!(mode(&root), 0o700);
        assert_eq!(mode(&storage.mountpoint(&volume)), 0o755);
        assert_eq!(mode(&storage.mountpoint(&image)), 0o755);
        assert_eq!(mode(&root.join(image.to_string())), 0o700);
        assert_eq!(mode(&root.join("metadata")), 0o700);
    }
}
