//! The suite over the room in memory.

use std::path::{Path, PathBuf};

use kleene_doors::storage::{Dataset, Storage};
use kleene_storage::conformance::Room;
use kleene_storage::{MemoryStorage, conformance_suite};
use kleene_tree::memory::{MemFs, Node};

struct MemoryRoom {
    fs: MemFs,
    storage: MemoryStorage,
}

impl MemoryRoom {
    fn new() -> Self {
        let fs = MemFs::new();
        let storage = MemoryStorage::new(fs.clone());
        Self { fs, storage }
    }

    fn path(&self, dataset: &Dataset, path: &str) -> PathBuf {
        self.storage.mountpoint(dataset).join(path)
    }
}

impl Room for MemoryRoom {
    fn storage(&self) -> &dyn Storage {
        &self.storage
    }

    fn write(&self, dataset: &Dataset, path: &str, text: &str) {
        self.fs.write(&self.path(dataset, path), text.as_bytes());
    }

    fn make_dir(&self, dataset: &Dataset, path: &str) {
        self.fs.create_dir_all(&self.path(dataset, path));
    }

    fn read(&self, dataset: &Dataset, path: &str) -> Option<String> {
        let bytes = self.fs.read(&self.path(dataset, path))?;
        Some(String::from_utf8(bytes).unwrap())
    }

    fn remove(&self, dataset: &Dataset, path: &str) {
        assert!(self.fs.remove_all(&self.path(dataset, path)));
    }

    fn names(&self, dataset: &Dataset, path: &str) -> Vec<String> {
        self.fs.list(&self.path(dataset, path))
    }

    fn mode(&self, dataset: &Dataset) -> u32 {
        match self.fs.node(&self.path(dataset, ".")) {
            Some(Node::Dir { mode }) => mode,
            other => panic!("{dataset} is {other:?}"),
        }
    }

    fn set_mode(&self, dataset: &Dataset, mode: u32) {
        self.fs.create_dir_with_mode(&self.path(dataset, "."), mode);
    }

    fn leftovers(&self) -> Vec<String> {
        let known = ["container", "image", "metadata", "volumes"];
        let mut names = self.fs.list(Path::new("/memory"));
        names.retain(|name| !known.contains(&name.as_str()));
        names
    }
}

conformance_suite!(MemoryRoom::new());
