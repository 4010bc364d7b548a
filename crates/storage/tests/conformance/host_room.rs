//! Rooms whose trees are on this machine, seen the way a container sees them.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kleene_doors::storage::{Dataset, Storage};
use kleene_monitor::root::open_root;
use kleene_storage::conformance::Room;

/// A room with something that keeps its ground alive: a scratch directory, a mount, a pool.
pub struct HostRoom<S, G> {
    // Closed before its ground goes away.
    pub storage: S,
    pub leftovers: fn(&G) -> Vec<String>,
    pub ground: G,
}

impl<S: Storage, G> HostRoom<S, G> {
    /// Does something with the place of a path in the dataset's tree.
    pub fn with<T>(&self, dataset: &Dataset, path: &str, act: impl FnOnce(&Path) -> T) -> T {
        let tree = open_root(&self.storage.root(dataset).unwrap()).unwrap();
        let tree = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
        act(&tree.join(path))
    }
}

impl<S: Storage, G> Room for HostRoom<S, G> {
    fn storage(&self) -> &dyn Storage {
        &self.storage
    }

    fn write(&self, dataset: &Dataset, path: &str, text: &str) {
        self.with(dataset, path, |path| fs::write(path, text))
            .unwrap();
    }

    fn make_dir(&self, dataset: &Dataset, path: &str) {
        self.with(dataset, path, |path| fs::create_dir_all(path))
            .unwrap();
    }

    fn read(&self, dataset: &Dataset, path: &str) -> Option<String> {
        match self.with(dataset, path, |path| fs::read_to_string(path)) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{dataset} {path}: {error}"),
        }
    }

    fn remove(&self, dataset: &Dataset, path: &str) {
        let remove = |path: &Path| {
            if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
        };
        self.with(dataset, path, remove).unwrap();
    }

    fn names(&self, dataset: &Dataset, path: &str) -> Vec<String> {
        self.with(dataset, path, names)
    }

    fn mode(&self, dataset: &Dataset) -> u32 {
        let metadata = self.with(dataset, ".", |path| fs::metadata(path)).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
        metadata.mode() & 0o7777
    }

    fn set_mode(&self, dataset: &Dataset, mode: u32) {
        let mode = fs::Permissions::from_mode(mode);
        self.with(dataset, ".", |path| fs::set_permissions(path, mode))
            .unwrap();
    }

    fn leftovers(&self) -> Vec<String> {
        (self.leftovers)(&self.ground)
    }
}

/// The names in a directory, sorted.
pub fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}
