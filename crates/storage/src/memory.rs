//! Datasets in memory, for the tests of those who use storage.
//!
//! Behaves like the real rooms, down to refusing to destroy what clones depend on, and can be told to
//! fail.

mod compare;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kleene_doors::storage::{
    AdoptMode, Change, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError, StorageInfo,
};
use kleene_tree::memory::{MemFs, Node};
use kleene_types::{ByteSize, ContainerId, SnapshotName};

use crate::error::{has_clones, too_small};

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
    /// [`Storage::changes`].
    Changes,
    /// [`Storage::set_quota`].
    SetQuota,
}

#[derive(Debug, Default)]
struct Entry {
    origin: Option<Snapshot>,
    snapshots: Vec<SnapshotName>,
    quota: Option<ByteSize>,
}

#[derive(Debug, Default)]
struct State {
    datasets: BTreeMap<Dataset, Entry>,
    foreign: HashMap<String, PathBuf>,
    failures: Vec<(Operation, StorageError)>,
    without_quotas: bool,
}

impl State {
    fn has_quotas(&self) -> bool {
        !self.without_quotas
    }
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

    /// From now on the room has no quotas, as one of plain directories.
    pub fn without_quotas(&self) {
        self.lock().without_quotas = true;
    }

    /// The limit of a container's own data, if it is there and has one. A snapshot of a container
    /// that has more than its limit fails for lack of space; nothing else looks at it.
    pub fn quota(&self, container: &ContainerId) -> Option<ByteSize> {
        let state = self.lock();
        let dataset = Dataset::Container(container.clone());
        state.datasets.get(&dataset)?.quota
    }

    fn container<'s>(
        &self,
        state: &'s State,
        container: &ContainerId,
    ) -> Result<(Dataset, &'s Entry), StorageError> {
        let dataset = Dataset::Container(container.clone());
        match state.datasets.get(&dataset) {
            Some(entry) => Ok((dataset, entry)),
            None => Err(StorageError::NotFound(self.name(&dataset))),
        }
    }

    /// What differs from the dataset's origin, or from nothing.
    fn compare(&self, dataset: &Dataset, entry: &Entry) -> Vec<Change> {
        let origin = entry.origin.as_ref().map(snapshot_path);
        let mut changes = Vec::new();
        let at = self.mountpoint(dataset);
        compare::directories(&self.fs, origin.as_deref(), &at, &mut changes);
        changes.sort_unstable();
        changes
    }

    /// Bytes of the files that differ from the dataset's origin.
    fn own_bytes(&self, dataset: &Dataset, entry: &Entry) -> u64 {
        let at = self.mountpoint(dataset);
        let size = |change: &Change| {
            let path = change.path.strip_prefix("/").unwrap_or(&change.path);
            let bytes = self.fs.read(&at.join(path));
            bytes.map_or(0, |bytes| bytes.len() as u64)
        };
        self.compare(dataset, entry).iter().map(size).sum()
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
            ..Entry::default()
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
            quotas: self.lock().has_quotas(),
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
        let used = self.own_bytes(&snapshot.dataset, entry);
        if entry.quota.is_some_and(|quota| used > quota.bytes()) {
            return Err(StorageError::NoSpace {
                dataset: self.name(&snapshot.dataset),
                root: ROOT.to_owned(),
            });
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

    fn changes(&self, container: &ContainerId) -> Result<Vec<Change>, StorageError> {
        let state = self.begin(Operation::Changes)?;
        let (dataset, entry) = self.container(&state, container)?;
        Ok(self.compare(&dataset, entry))
    }

    fn set_quota(
        &self,
        container: &ContainerId,
        quota: Option<ByteSize>,
    ) -> Result<(), StorageError> {
        let mut state = self.begin(Operation::SetQuota)?;
        let (dataset, entry) = self.container(&state, container)?;
        if let Some(quota) = quota {
            if !state.has_quotas() {
                return Err(StorageError::Unsupported(format!(
                    "the storage of container '{container}' can't be limited: this room in memory \
                     was told to have no quotas"
                )));
            }
            let used = self.own_bytes(&dataset, entry);
            if used > quota.bytes() {
                return Err(too_small(container, quota, used));
            }
        }
        if let Some(entry) = state.datasets.get_mut(&dataset) {
            entry.quota = quota;
        }
        Ok(())
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
