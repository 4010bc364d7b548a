//! The storage door: datasets, their snapshots and clones.
//!
//! Storage *describes*, the host *performs*: a room answers how a dataset's tree is to be mounted as
//! data ([`Root`]), it mounts nothing into containers itself.

use std::fmt;
use std::path::PathBuf;

use kleene_types::{ByteSize, ContainerId, ImageId, SnapshotName, VolumeName};
use serde::{Deserialize, Serialize};

/// One dataset, named by what it holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dataset {
    /// An image's tree.
    Image(ImageId),
    /// A container's root.
    Container(ContainerId),
    /// A volume's data.
    Volume(VolumeName),
}

impl Dataset {
    /// What the dataset holds.
    pub fn kind(&self) -> DatasetKind {
        match self {
            Self::Image(_) => DatasetKind::Image,
            Self::Container(_) => DatasetKind::Container,
            Self::Volume(_) => DatasetKind::Volume,
        }
    }

    /// The last component of its name: an id or a volume's name. Always a single, safe component.
    pub fn leaf(&self) -> &str {
        match self {
            Self::Image(id) => id.as_str(),
            Self::Container(id) => id.as_str(),
            Self::Volume(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind().directory(), self.leaf())
    }
}

/// The three kinds of datasets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatasetKind {
    /// Images.
    Image,
    /// Containers.
    Container,
    /// Volumes.
    Volume,
}

impl DatasetKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Image, Self::Container, Self::Volume];

    /// The name beneath the Kleene root: `image`, `container` or `volumes`.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Container => "container",
            Self::Volume => "volumes",
        }
    }
}

/// A snapshot of an image or container dataset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Snapshot {
    /// The dataset it was taken of.
    pub dataset: Dataset,
    /// Its name, without the `@`.
    pub name: SnapshotName,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.dataset, self.name)
    }
}

/// How the host makes a dataset's tree visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Root {
    /// The tree lies in this directory, ready to be bound.
    Directory {
        /// Absolute path on the host.
        path: PathBuf,
    },
    /// The tree is an overlay of directories.
    Overlay {
        /// Read-only layers, the topmost first; at least one.
        lower: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// overlayfs' work directory, on the same file system as `upper`.
        work: PathBuf,
    },
}

/// How a foreign ZFS dataset becomes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptMode {
    /// A clone of a new snapshot of it: instant, and keeps depending on it.
    Clone,
    /// A full copy (send and receive).
    Copy,
}

/// What a room says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageInfo {
    /// `zfs`, `dir` or `memory`.
    pub driver: &'static str,
    /// The Kleene root as it is named in the configuration.
    pub root: String,
    /// A private directory (0700) on lasting storage for what the daemon keeps for itself.
    pub metadata: PathBuf,
    /// Where the metadata database is: `metadata.sqlite` in the Kleene root.
    pub database: PathBuf,
    /// Whether [`Storage::set_quota`] can limit anything.
    pub quotas: bool,
}

/// One difference between a container and what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// Where: an absolute path inside.
    pub path: PathBuf,
    /// What happened.
    pub kind: ChangeKind,
}

/// What happened to a file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its contents, owner, mode or (of a directory) entries have changed.
    Changed,
    /// It is gone. What was beneath it isn't mentioned.
    Deleted,
}

/// What can go wrong in storage.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The dataset isn't there.
    #[error("dataset '{0}' doesn't exist")]
    NotFound(String),
    /// The dataset is there already.
    #[error("dataset '{0}' exists already")]
    Exists(String),
    /// Clones or mounts of the dataset stand in the way.
    #[error("dataset '{dataset}' can't be removed: {reason}")]
    InUse {
        /// The dataset.
        dataset: String,
        /// What stands in the way, by name.
        reason: String,
    },
    /// The disk or a quota is full.
    #[error("no space left for '{dataset}': free some space in {root} and try again")]
    NoSpace {
        /// The dataset.
        dataset: String,
        /// The Kleene root.
        root: String,
    },
    /// The room can't do this.
    #[error("{0}")]
    Unsupported(String),
    /// What the user named can't be used.
    #[error("{0}")]
    Invalid(String),
    /// Anything else.
    #[error("{action} '{dataset}' failed")]
    Failed {
        /// What was done: `creating`, `destroying`…
        action: &'static str,
        /// The dataset or path.
        dataset: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The storage door.
///
/// Names are typed, so that no room ever sees text that could mean another dataset, an option or a
/// path elsewhere. Operations on one dataset are serialised by the engine.
pub trait Storage: Send + Sync {
    /// What the room is and where it keeps things.
    fn info(&self) -> StorageInfo;

    /// Makes an empty dataset, owned by root, mode 0755.
    ///
    /// # Errors
    /// [`StorageError::Exists`], [`StorageError::NoSpace`] or the room's own failures; then nothing
    /// is left behind.
    fn create(&self, dataset: &Dataset) -> Result<(), StorageError>;

    /// Takes a snapshot of an image or container that no process uses. Later changes of the dataset
    /// don't show in it.
    ///
    /// # Errors
    /// [`StorageError::Exists`] when the name is taken, [`StorageError::NotFound`].
    fn snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError>;

    /// Makes `dataset` a writable clone of a snapshot.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], [`StorageError::Exists`].
    fn clone_snapshot(&self, origin: &Snapshot, dataset: &Dataset) -> Result<(), StorageError>;

    /// Destroys a dataset with its snapshots and data.
    ///
    /// # Errors
    /// [`StorageError::NotFound`]; [`StorageError::InUse`] when clones depend on it or it is mounted
    /// elsewhere, and then nothing is lost.
    fn destroy(&self, dataset: &Dataset) -> Result<(), StorageError>;

    /// Makes `dataset` (an image) from a dataset outside of the Kleene root.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where there is no ZFS, [`StorageError::Invalid`] for a name
    /// that isn't an existing dataset outside of the Kleene root.
    fn adopt(&self, source: &str, mode: AdoptMode, dataset: &Dataset) -> Result<(), StorageError>;

    /// Whether the dataset is there.
    ///
    /// # Errors
    /// When the room can't tell.
    fn exists(&self, dataset: &Dataset) -> Result<bool, StorageError>;

    /// The datasets of one kind that are there, in no particular order.
    ///
    /// # Errors
    /// When the room can't tell.
    fn list(&self, kind: DatasetKind) -> Result<Vec<Dataset>, StorageError>;

    /// The dataset's name as users see it: `zroot/kleene/volumes/v`, or an absolute path.
    fn name(&self, dataset: &Dataset) -> String;

    /// Where the dataset's own files lie on the host. Of a clone in the `dir` room these are only
    /// the files that differ from its origin: use [`Storage::root`] for the whole tree.
    fn mountpoint(&self, dataset: &Dataset) -> PathBuf;

    /// How the host makes the dataset's tree visible; ready to be used after this call.
    ///
    /// # Errors
    /// [`StorageError::NotFound`].
    fn root(&self, dataset: &Dataset) -> Result<Root, StorageError>;

    /// Bytes that the dataset's own data occupies.
    ///
    /// # Errors
    /// [`StorageError::NotFound`].
    fn usage(&self, dataset: &Dataset) -> Result<u64, StorageError>;

    /// [`Storage::usage`] of all datasets of one kind, in no particular order. Rooms that have to ask
    /// somebody else ask once for all. Datasets that vanish meanwhile are left out.
    ///
    /// # Errors
    /// When the room can't tell.
    fn usages(&self, kind: DatasetKind) -> Result<Vec<(Dataset, u64)>, StorageError> {
        let mut usages = Vec::new();
        for dataset in self.list(kind)? {
            match self.usage(&dataset) {
                Ok(bytes) => usages.push((dataset, bytes)),
                Err(StorageError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(usages)
    }

    /// What differs between a container and the snapshot that it was cloned from, by path. A container
    /// that is no clone is compared with an empty tree.
    ///
    /// The root alone isn't listed because entries came or went in it. Empty directories `/dev`,
    /// `/proc` and `/sys` that the snapshot lacks aren't listed either: containers need them as mount
    /// points, and get them when they start. What else is made for mounts is listed.
    ///
    /// # Errors
    /// [`StorageError::NotFound`].
    fn changes(&self, container: &ContainerId) -> Result<Vec<Change>, StorageError>;

    /// Limits what a container's own data may occupy; `None` takes the limit away.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] where the room has no quotas, saying which has;
    /// [`StorageError::Invalid`] when more than that is in use already.
    fn set_quota(
        &self,
        container: &ContainerId,
        quota: Option<ByteSize>,
    ) -> Result<(), StorageError>;
}
