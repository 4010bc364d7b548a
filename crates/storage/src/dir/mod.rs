//! Datasets as plain directories.
//!
//! ```text
//! <root>/            0700
//!   volumes/NAME/    the volume's data itself, 0755
//!   image/ID/        a layered dataset
//!   container/ID/    a layered dataset
//!   metadata/        0700, for the daemon's records
//!   trash/           0700, what is being made and what is being removed
//! ```
//!
//! Every dataset is made in `trash` and renamed into its place, and renamed into `trash` before it is
//! removed: a crash leaves whole datasets and rubbish, nothing in between, and the rubbish is removed
//! when the room is opened again. `trash` is locked while the room is open, so there is one daemon a
//! root.
//!
//! See `layered.rs` for images and containers.

mod attributes;
mod kleene_root;
mod layered;
mod probe;
mod staged;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use kleene_doors::storage::{
    AdoptMode, Change, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError, StorageInfo,
};
use kleene_types::{ByteSize, ContainerId};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use crate::changes::as_changes;
use crate::error::{has_clones, mounted};
use crate::mounts::{Is, in_the_way};
use kleene_root::KleeneRoot;
use layered::{Layered, Style, TOP};

/// How directories are opened to be read; the last component is no link.
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Most layers that a snapshot lies on, itself included. overlayfs takes 500; looking for a file that
/// isn't there takes time in proportion.
const DEEPEST: usize = 96;

/// The same where the kernel takes all layers in one text of 255 bytes only (before Linux 6.7).
const FEW: usize = 11;

/// Datasets as directories beneath the Kleene root.
#[derive(Debug)]
pub struct DirStorage {
    root: KleeneRoot,
    style: Style,
    /// Held for reading while a clone is made, for writing while a dataset that may have clones is
    /// taken out of sight.
    clones: RwLock<()>,
}

impl DirStorage {
    /// Opens the directory as the Kleene root; makes it when it is missing. Clones are overlays
    /// where the file system allows that, copies elsewhere.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a directory that can't be a Kleene root, with the reason.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let root = KleeneRoot::open(path)?;
        let style = match probe::overlay_works(&root) {
            true if probe::takes_layers_one_by_one() => Style::Overlay(DEEPEST),
            true => Style::Overlay(FEW),
            false => Style::Copy,
        };
        Self::with_style(root, style)
    }

    /// As [`DirStorage::open`], but clones are always full copies.
    ///
    /// # Errors
    /// As [`DirStorage::open`].
    pub fn open_copying(path: &Path) -> Result<Self, StorageError> {
        Self::with_style(KleeneRoot::open(path)?, Style::Copy)
    }

    fn with_style(root: KleeneRoot, style: Style) -> Result<Self, StorageError> {
        let settled = layered::settle(&root, style);
        let storage = Self {
            root,
            style,
            clones: RwLock::new(()),
        };
        match settled {
            Ok(()) => Ok(storage),
            Err(error) => Err(storage.failed("opening", &"")(error)),
        }
    }

    /// Whether clones are overlays over their origin's tree; otherwise they are copies.
    pub fn uses_overlays(&self) -> bool {
        self.style != Style::Copy
    }

    /// Completes an error of the system with what was being done.
    fn failed(
        &self,
        action: &'static str,
        object: &dyn ToString,
    ) -> impl FnOnce(io::Error) -> StorageError {
        let dataset = self.root.path().join(object.to_string());
        let dataset = dataset.display().to_string();
        move |error| match error.kind() {
            io::ErrorKind::AlreadyExists => StorageError::Exists(dataset),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::NoSpace {
                dataset,
                root: self.root.path().display().to_string(),
            },
            io::ErrorKind::Unsupported => StorageError::Unsupported(format!(
                "{action} '{dataset}' isn't possible here: {error}"
            )),
            _ => StorageError::Failed {
                action,
                dataset,
                source: error.into(),
            },
        }
    }

    fn not_found(&self, object: &dyn ToString) -> StorageError {
        let dataset = self.root.path().join(object.to_string());
        StorageError::NotFound(dataset.display().to_string())
    }

    fn layered<'d>(&'d self, dataset: &'d Dataset) -> Result<Layered<'d>, StorageError> {
        match Layered::open(&self.root, dataset) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.not_found(dataset)),
            other => other.map_err(self.failed("opening", dataset)),
        }
    }

    /// The datasets that are clones of `dataset`, as users name them.
    fn clones_of(&self, dataset: &Dataset) -> Result<Vec<String>, StorageError> {
        let mut clones = Vec::new();
        for kind in [DatasetKind::Image, DatasetKind::Container] {
            for candidate in self.list(kind)? {
                let origin = layered::origin_of(&self.root, &candidate)
                    .map_err(self.failed("reading", &candidate))?;
                if origin.is_some_and(|origin| origin.dataset == *dataset) {
                    clones.push(self.name(&candidate));
                }
            }
        }
        clones.sort_unstable();
        Ok(clones)
    }

    /// Takes a dataset out of sight, and then apart.
    fn discard(&self, dataset: &Dataset) -> Result<(), StorageError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => self.not_found(dataset),
            io::ErrorKind::ResourceBusy => mounted(self.name(dataset), &self.mountpoint(dataset)),
            _ => self.failed("destroying", dataset)(error),
        };
        let discarded = self.root.discard(dataset).map_err(failed)?;
        // A container's data has been given up already, and a container that comes back after a power
        // failure is recognised as nobody's: that isn't worth waiting for the disk.
        if dataset.kind() != DatasetKind::Container {
            self.root.sync(dataset.kind()).map_err(failed)?;
        }
        discarded
            .remove()
            .map_err(self.failed("removing the files of", dataset))
    }

    fn is_layered(dataset: &Dataset) -> bool {
        dataset.kind() != DatasetKind::Volume
    }
}

impl Storage for DirStorage {
    fn info(&self) -> StorageInfo {
        StorageInfo {
            driver: "dir",
            root: self.root.path().display().to_string(),
            metadata: self.root.metadata(),
            database: self.root.path().join(crate::DATABASE),
            quotas: false,
        }
    }

    fn create(&self, dataset: &Dataset) -> Result<(), StorageError> {
        let create = || -> io::Result<()> {
            if Self::is_layered(dataset) {
                layered::create(&self.root, dataset)
            } else {
                self.root.stage(Mode::from(0o755))?.publish(dataset)
            }
        };
        create().map_err(self.failed("creating", dataset))?;
        if dataset.kind() != DatasetKind::Volume {
            return Ok(());
        }
        let synced = self.root.sync(DatasetKind::Volume).inspect_err(|_| {
            // The first error is the one to report.
            let _undone = self.root.discard(dataset);
        });
        synced.map_err(self.failed("creating", dataset))
    }

    fn snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError> {
        if !Self::is_layered(&snapshot.dataset) {
            return Err(StorageError::Unsupported(format!(
                "a snapshot of the volume '{}' needs ZFS storage",
                snapshot.dataset.leaf()
            )));
        }
        self.layered(&snapshot.dataset)?
            .snapshot(&snapshot.name, self.style)
            .map_err(self.failed("taking the snapshot", snapshot))
    }

    fn clone_snapshot(&self, origin: &Snapshot, dataset: &Dataset) -> Result<(), StorageError> {
        let _guard = self.clones.read().unwrap_or_else(PoisonError::into_inner);
        let made = Layered::open(&self.root, &origin.dataset)
            .and_then(|source| source.layer_of(&origin.name, self.style));
        let layer = match made {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.not_found(origin));
            }
            other => other.map_err(self.failed("opening", origin))?,
        };
        layered::clone(&self.root, origin, &layer, dataset, self.style)
            .map_err(self.failed("cloning", dataset))
    }

    fn destroy(&self, dataset: &Dataset) -> Result<(), StorageError> {
        if !Self::is_layered(dataset) {
            let path = self.root.canonical().join(dataset.to_string());
            let mount = in_the_way(&path, Is::Plain).map_err(self.failed("destroying", dataset))?;
            if let Some(on) = mount {
                return Err(mounted(self.name(dataset), &on));
            }
            return self.discard(dataset);
        }
        let has_snapshots = self
            .layered(dataset)?
            .has_snapshots()
            .map_err(self.failed("reading", dataset))?;
        if !has_snapshots {
            return self.discard(dataset);
        }
        let _guard = self.clones.write().unwrap_or_else(PoisonError::into_inner);
        let clones = self.clones_of(dataset)?;
        if clones.is_empty() {
            self.discard(dataset)
        } else {
            Err(has_clones(self.name(dataset), &clones))
        }
    }

    fn adopt(
        &self,
        source: &str,
        _mode: AdoptMode,
        _dataset: &Dataset,
    ) -> Result<(), StorageError> {
        Err(StorageError::Unsupported(format!(
            "the dataset '{source}' can't become an image: the Kleene root '{}' is a directory; \
             use the method 'fetch' or 'host', or a ZFS dataset as the Kleene root",
            self.root.path().display()
        )))
    }

    fn exists(&self, dataset: &Dataset) -> Result<bool, StorageError> {
        let directory = self.root.directory(dataset.kind());
        match rustix::fs::statat(directory, dataset.leaf(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            Err(rustix::io::Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("looking for", dataset)(errno.into())),
        }
    }

    fn list(&self, kind: DatasetKind) -> Result<Vec<Dataset>, StorageError> {
        self.root
            .list(kind)
            .map_err(self.failed("listing", &kind.directory()))
    }

    fn name(&self, dataset: &Dataset) -> String {
        let path = self.root.path().join(dataset.to_string());
        path.display().to_string()
    }

    fn mountpoint(&self, dataset: &Dataset) -> PathBuf {
        let path = self.root.path().join(dataset.to_string());
        if Self::is_layered(dataset) {
            path.join(TOP)
        } else {
            path
        }
    }

    fn root(&self, dataset: &Dataset) -> Result<Root, StorageError> {
        if Self::is_layered(dataset) {
            self.layered(dataset)?
                .root()
                .map_err(self.failed("opening", dataset))
        } else if self.exists(dataset)? {
            let path = self.mountpoint(dataset);
            Ok(Root::Directory { path })
        } else {
            Err(self.not_found(dataset))
        }
    }

    fn usage(&self, dataset: &Dataset) -> Result<u64, StorageError> {
        let measure = || -> io::Result<u64> {
            if Self::is_layered(dataset) {
                return Layered::open(&self.root, dataset)?.usage();
            }
            let directory = self.root.directory(dataset.kind());
            let volume = rustix::fs::openat(directory, dataset.leaf(), DIRECTORY, Mode::empty())?;
            Ok(kleene_tree::usage(volume.as_fd())
                .map_err(tree_error)?
                .bytes)
        };
        measure().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.not_found(dataset),
            _ => self.failed("measuring", dataset)(error),
        })
    }

    fn changes(&self, container: &ContainerId) -> Result<Vec<Change>, StorageError> {
        let dataset = Dataset::Container(container.clone());
        let found = self.layered(&dataset)?.changes();
        Ok(as_changes(
            found.map_err(self.failed("comparing", &dataset))?,
        ))
    }

    fn set_quota(
        &self,
        container: &ContainerId,
        quota: Option<ByteSize>,
    ) -> Result<(), StorageError> {
        let dataset = Dataset::Container(container.clone());
        if !self.exists(&dataset)? {
            return Err(self.not_found(&dataset));
        }
        match quota {
            None => Ok(()),
            Some(_) => Err(StorageError::Unsupported(format!(
                "the storage of container '{container}' can't be limited: the Kleene root '{}' is a \
                 directory, and quotas need a dataset of ZFS as the Kleene root",
                self.root.path().display()
            ))),
        }
    }
}

/// A tree's error in the form that this room's functions pass on, which keeps a full disk a full disk.
fn tree_error(error: kleene_tree::TreeError) -> io::Error {
    let kind = match &error {
        kleene_tree::TreeError::NoSpace { .. } => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
