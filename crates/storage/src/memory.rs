//! Datasets in memory, for the tests of those who use storage.
//!
//! Behaves like the real rooms, down to refusing to destroy what clones depend on, and can be told to
//! fail.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kleene_doors::storage::{
    AdoptMode, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError, StorageInfo,
};
use kleene_tree::memory::{MemFs, Node};
use kleene_types::SnapshotName;

use crate::error::has_clones;

/// Where the datasets are in the tree.
const ROOT: &str = "/memory";

/// Where snapshots keep their copies.
const SNAPSHOTS: &str = "/memory-snapshots";

/// The operations that can be told to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Storage::create`].
    Create,
    /// [`Storage::snapshot`].
    Snapshot,
    /// [`Storage::clone_snapshot`].
    Clone,
    /// [`Storage::destroy`].
    Destroy,
    /// [`Storage::adopt`].
    Adopt,
    /// [`Storage::exists`].
    Exists,
    /// [`Storage::list`].
    List,
    /// [`Storage::root`].
    Root,
    /// [`Storage::usage`].
    Usage,
}

#[derive(Debug, Default)]
struct Entry {
    origin: Option<Snapshot>,
    snapshots: Vec<SnapshotName>,
}

#[derive(Debug, Default)]
struct State {
    datasets: BTreeMap<Dataset, Entry>,
    foreign: HashMap<String, PathBuf>,
    failures: Vec<(Operation, StorageError)>,
}

/// Datasets in memory: the trees are directories of a [`MemFs`], `/memory/volumes/NAME` and so on.
#[derive(Debug)]
pub struct MemoryStorage {
    fs: MemFs,
    state: Mutex<State>,
}

impl MemoryStorage {
    /// An empty room whose trees are in `fs`.
    pub fn new(fs: MemFs) -> Self {
        fs.create_dir_with_mode(&Path::new(ROOT).join("metadata"), 0o700);
        Self {
            fs,
            state: Mutex::default(),
        }
    }

    /// The next operation of this kind fails with `error` and changes nothing. Several failures of
    /// one kind come in the order in which they were asked for.
    pub fn fail_next(&self, operation: Operation, error: StorageError) {
        self.lock().failures.push((operation, error));
    }

    /// Lets [`Storage::adopt`] find a dataset outside of the Kleene root, whose tree is the
    /// directory `tree`.
    pub fn add_foreign(&self, name: &str, tree: &Path) {
        let foreign = &mut self.lock().foreign;
        foreign.insert(name.to_owned(), tree.to_owned());
    }

    /// The snapshots of a dataset, oldest first; none when it isn't there.
    pub fn snapshots(&self, dataset: &Dataset) -> Vec<SnapshotName> {
        let state = self.lock();
        let entry = state.datasets.get(dataset);
        entry
            .map(|entry| entry.snapshots.clone())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the state, unless this operation is to fail.
    fn begin(&self, operation: Operation) -> Result<MutexGuard<'_, State>, StorageError> {
        let mut state = self.lock();
        match state
            .failures
            .iter()
            .position(|(kind, _)| *kind == operation)
        {
            Some(index) => Err(state.failures.remove(index).1),
            None => Ok(state),
        }
    }

    fn insert(
        &self,
        state: &mut State,
        dataset: &Dataset,
        origin: Option<Snapshot>,
    ) -> Result<PathBuf, StorageError> {
        if state.datasets.contains_key(dataset) {
            return Err(StorageError::Exists(self.name(dataset)));
        }
        let entry = Entry {
            origin,
            snapshots: Vec::new(),
        };
        state.datasets.insert(dataset.clone(), entry);
        let path = self.mountpoint(dataset);
        self.fs.create_dir_with_mode(&path, 0o755);
        Ok(path)
    }

    fn measure(&self, path: &Path) -> u64 {
        match self.fs.node(path) {
            Some(Node::File { bytes, .. }) => bytes.len() as u64,
            Some(Node::Dir { .. }) => {
                let names = self.fs.list(path).into_iter();
                names.map(|name| self.measure(&path.join(name))).sum()
            }
            _ => 0,
        }
    }
}

fn snapshot_path(snapshot: &Snapshot) -> PathBuf {
    Path::new(SNAPSHOTS).join(snapshot.to_string())
}

impl Storage for MemoryStorage {
    fn info(&self) -> StorageInfo {
        StorageInfo {
            driver: "memory",
            root: ROOT.to_owned(),
            metadata: Path::new(ROOT).join("metadata"),
            database: Path::new(ROOT).join(crate::DATABASE),
            quotas: false,
        }
    }

    fn create(&self, dataset: &Dataset) -> Result<(), StorageError> {
        let mut state = self.begin(Operation::Create)?;
        self.insert(&mut state, dataset, None).map(drop)
    }

    fn snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError> {
        let mut state = self.begin(Operation::Snapshot)?;
        let entry = state
            .datasets
            .get_mut(&snapshot.dataset)
            .ok_or_else(|| StorageError::NotFound(self.name(&snapshot.dataset)))?;
        if entry.snapshots.contains(&snapshot.name) {
            return Err(StorageError::Exists(format!("{ROOT}/{snapshot}")));
        }
        entry.snapshots.push(snapshot.name.clone());
        let from = self.mountpoint(&snapshot.dataset);
        self.fs.copy_tree(&from, &snapshot_path(snapshot));
        Ok(())
    }

    fn clone_snapshot(&self, origin: &Snapshot, dataset: &Dataset) -> Result<(), StorageError> {
        let mut state = self.begin(Operation::Clone)?;
        let source = state.datasets.get(&origin.dataset);
        if !source.is_some_and(|entry| entry.snapshots.contains(&origin.name)) {
            return Err(StorageError::NotFound(format!("{ROOT}/{origin}")));
        }
        let path = self.insert(&mut state, dataset, Some(origin.clone()))?;
        self.fs.copy_tree(&snapshot_path(origin), &path);
        Ok(())
    }

    fn destroy(&self, dataset: &Dataset) -> Result<(), StorageError> {
        let mut state = self.begin(Operation::Destroy)?;
        let depends = |entry: &Entry| {
            let origin = entry.origin.as_ref();
            origin.is_some_and(|origin| origin.dataset == *dataset)
        };
        let clones: Vec<String> = state
            .datasets
            .iter()
            .filter(|(_, entry)| depends(entry))
            .map(|(clone, _)| self.name(clone))
            .collect();
        if !clones.is_empty() {
            return Err(has_clones(self.name(dataset), &clones));
        }
        let Some(entry) = state.datasets.remove(dataset) else {
            return Err(StorageError::NotFound(self.name(dataset)));
        };
        self.fs.remove_all(&self.mountpoint(dataset));
        for name in entry.snapshots {
            let dataset = dataset.clone();
            self.fs
                .remove_all(&snapshot_path(&Snapshot { dataset, name }));
        }
        Ok(())
    }

    fn adopt(&self, source: &str, _mode: AdoptMode, dataset: &Dataset) -> Result<(), StorageError> {
        let mut state = self.begin(Operation::Adopt)?;
        let tree = state.foreign.get(source).cloned().ok_or_else(|| {
            StorageError::Invalid(format!("there is no dataset '{source}' to adopt"))
        })?;
        let path = self.insert(&mut state, dataset, None)?;
        self.fs.copy_tree(&tree, &path);
        Ok(())
    }

    fn exists(&self, dataset: &Dataset) -> Result<bool, StorageError> {
        let state = self.begin(Operation::Exists)?;
        Ok(state.datasets.contains_key(dataset))
    }

    fn list(&self, kind: DatasetKind) -> Result<Vec<Dataset>, StorageError> {
        let state = self.begin(Operation::List)?;
        let all = state.datasets.keys();
        Ok(all
            .filter(|dataset| dataset.kind() == kind)
            .cloned()
            .collect())
    }

    fn name(&self, dataset: &Dataset) -> String {
        format!("{ROOT}/{dataset}")
    }

    fn mountpoint(&self, dataset: &Dataset) -> PathBuf {
        Path::new(ROOT).join(dataset.to_string())
    }

    fn root(&self, dataset: &Dataset) -> Result<Root, StorageError> {
        let state = self.begin(Operation::Root)?;
        if !state.datasets.contains_key(dataset) {
            return Err(StorageError::NotFound(self.name(dataset)));
        }
        let path = self.mountpoint(dataset);
        Ok(Root::Directory { path })
    }

    fn usage(&self, dataset: &Dataset) -> Result<u64, StorageError> {
        let state = self.begin(Operation::Usage)?;
        if !state.datasets.contains_key(dataset) {
            return Err(StorageError::NotFound(self.name(dataset)));
        }
        Ok(self.measure(&self.mountpoint(dataset)))
    }

    fn changes(
        &self,
        _container: &kleene_types::ContainerId,
    ) -> Result<Vec<kleene_doors::storage::Change>, StorageError> {
        Err(StorageError::Unsupported(
            "this is not available yet".to_owned(),
        ))
    }

    fn set_quota(
        &self,
        _container: &kleene_types::ContainerId,
        _quota: Option<kleene_types::ByteSize>,
    ) -> Result<(), StorageError> {
        Err(StorageError::Unsupported(
            "this is not available yet".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str) -> Dataset {
        Dataset::Volume(name.parse().unwrap())
    }

    #[test]
    fn fails_once_when_told_to_and_changes_nothing() {
        let storage = MemoryStorage::new(MemFs::new());
        let error = StorageError::Invalid("told to".into());
        storage.fail_next(Operation::Create, error);
        let volume = volume("v");
        assert!(matches!(
            storage.create(&volume),
            Err(StorageError::Invalid(_))
        ));
        assert!(!storage.exists(&volume).unwrap());
        storage.create(&volume).unwrap();
        assert!(storage.exists(&volume).unwrap());
    }

    #[test]
    fn adopts_what_it_was_told_of() {
        let fs = MemFs::new();
        fs.write(Path::new("/pool/base/etc/motd"), b"hello");
        let storage = MemoryStorage::new(fs.clone());
        storage.add_foreign("pool/base", Path::new("/pool/base"));
        let image = Dataset::Image("0123456789ab".parse().unwrap());
        storage.adopt("pool/base", AdoptMode::Copy, &image).unwrap();
        let motd = storage.mountpoint(&image).join("etc/motd");
        assert_eq!(fs.read(&motd).unwrap(), b"hello");
        assert!(matches!(
            storage.adopt("pool/none", AdoptMode::Copy, &volume("v")),
            Err(StorageError::Invalid(_))
        ));
    }
}
