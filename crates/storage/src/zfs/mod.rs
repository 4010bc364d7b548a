//! Datasets of ZFS, through the `zfs` command.
//!
//! The command is the stable interface, and the same in OpenZFS and zfs-fuse for what is used here:
//! `list -H`, `get -Hp`, `create`, `snapshot`, `clone`, `destroy`, `mount`, `send`, `receive`, `set`
//! and `inherit`. What zfs-fuse lacks (`list -p`, the property `clones`, `receive -u`…) isn't used.
//!
//! ```text
//! zroot/kleene            0700, with the directory `metadata` (0700)
//!   zroot/kleene/volumes  0700, one dataset a volume
//!   zroot/kleene/image    0700, one dataset an image
//!   zroot/kleene/container 0700, one dataset a container
//! ```
//!
//! Making a volume is one command, and so is removing one: where datasets are mounted is known from
//! where the three above are.

mod adopt;
mod answers;
mod changes;
pub(crate) mod mounting;
mod open;
mod wait;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use kleene_command::{Argv, CommandError, Runner};
use kleene_doors::storage::{
    AdoptMode, Change, Dataset, DatasetKind, Root, Snapshot, Storage, StorageError, StorageInfo,
};
use kleene_types::{ByteSize, ContainerId};

use crate::error::{has_clones, mounted, too_small};
use crate::mounts::{Is, in_the_way};
use answers::{Refusal, classify};
use wait::Patience;

/// Freeing a large dataset takes its time.
const DESTROY_LIMIT: Duration = Duration::from_secs(600);

/// A dataset system with less than this has no room to work.
const ALMOST_NOTHING: u64 = 1 << 20;

/// Where the parents of all datasets are mounted.
#[derive(Debug)]
struct Places {
    root: PathBuf,
    image: PathBuf,
    container: PathBuf,
    volumes: PathBuf,
}

/// Datasets of ZFS beneath the Kleene root, a dataset such as `zroot/kleene`.
pub struct ZfsStorage {
    runner: Arc<dyn Runner>,
    root: String,
    places: Places,
    /// Tells whether something is mounted on a directory.
    mounted: fn(&Path) -> io::Result<bool>,
    /// How many comparisons there were: each has a clone with a number of its own.
    comparisons: AtomicU64,
    /// The lock that keeps other daemons away as long as it is open.
    _lock: Option<OwnedFd>,
}

impl ZfsStorage {
    /// Opens a dataset as the Kleene root. It is made when it is missing and its pool is there, and
    /// so are the three datasets in it.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] when the name is no dataset's name, the pool is missing, ZFS can't
    /// be used, the dataset isn't mounted, or another daemon uses it; the message says what to do.
    pub fn open(runner: Arc<dyn Runner>, root: &str) -> Result<Self, StorageError> {
        open::open(runner, root)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, CommandError> {
        zfs(&*self.runner, arguments)
    }

    fn place(&self, kind: DatasetKind) -> &Path {
        match kind {
            DatasetKind::Image => &self.places.image,
            DatasetKind::Container => &self.places.container,
            DatasetKind::Volume => &self.places.volumes,
        }
    }

    /// Words the refusal of a command.
    fn failed(&self, action: &'static str, dataset: String, error: CommandError) -> StorageError {
        match classify(error.stderr().unwrap_or_default()) {
            Refusal::NotFound => StorageError::NotFound(dataset),
            Refusal::Exists => StorageError::Exists(dataset),
            Refusal::NoSpace => self.no_space(dataset),
            Refusal::CannotUnmount => StorageError::InUse {
                dataset,
                reason: "something uses its mount: end the processes that work in it".to_owned(),
            },
            Refusal::HasClones(clones) => has_clones(dataset, &clones),
            _ => StorageError::Failed {
                action,
                dataset,
                source: error.into(),
            },
        }
    }

    fn no_space(&self, dataset: String) -> StorageError {
        StorageError::NoSpace {
            dataset,
            root: self.root.clone(),
        }
    }

    /// Runs a command that makes `dataset`, and waits until it is mounted. What can't be used is
    /// taken away again.
    fn make(
        &self,
        action: &'static str,
        dataset: &Dataset,
        arguments: &[&str],
    ) -> Result<(), StorageError> {
        let error = match self.run(arguments) {
            Ok(_) => match self.wait_for_mount(dataset) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(error) => {
                let refusal = classify(error.stderr().unwrap_or_default());
                let failed = self.failed(action, self.name(dataset), error);
                if refusal != Refusal::NotMounted {
                    return Err(failed);
                }
                failed
            }
        };
        // The first error is the one to report.
        let _undone = self.destroy(dataset);
        // A directory to mount it on couldn't be made: that is all one is told when space is short.
        Err(if self.is_full() {
            self.no_space(self.name(dataset))
        } else {
            error
        })
    }

    fn is_full(&self) -> bool {
        let available = ["get", "-Hp", "-o", "value", "available", &self.root];
        self.run(&available)
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok())
            .is_some_and(|available| available < ALMOST_NOTHING)
    }

    fn is_mounted(&self, path: &Path) -> Result<bool, StorageError> {
        (self.mounted)(path).map_err(|source| StorageError::Failed {
            action: "looking for",
            dataset: path.display().to_string(),
            source: source.into(),
        })
    }

    fn wait_for_mount(&self, dataset: &Dataset) -> Result<(), StorageError> {
        self.wait_for_mount_on(&self.name(dataset), &self.mountpoint(dataset))
    }

    /// Waits until the dataset of this full name is mounted there.
    fn wait_for_mount_on(&self, name: &str, path: &Path) -> Result<(), StorageError> {
        let mut patience = Patience::new();
        while !self.is_mounted(path)? {
            if !patience.wait() {
                return Err(StorageError::Failed {
                    action: "mounting",
                    dataset: name.to_owned(),
                    source: format!("nothing appeared on {}", path.display()).into(),
                });
            }
        }
        Ok(())
    }

    fn ensure_mounted(&self, dataset: &Dataset) -> Result<(), StorageError> {
        if self.is_mounted(&self.mountpoint(dataset))? {
            return Ok(());
        }
        let name = self.name(dataset);
        if let Err(error) = self.run(&["mount", &name])
            && classify(error.stderr().unwrap_or_default()) != Refusal::AlreadyMounted
        {
            return Err(self.failed("mounting", name, error));
        }
        self.wait_for_mount(dataset)
    }

    /// The full name of the dataset that holds those of one kind.
    fn parent(&self, kind: DatasetKind) -> String {
        format!("{}/{}", self.root, kind.directory())
    }

    /// A property of the dataset of this full name.
    fn property(&self, property: &str, name: &str) -> Result<String, StorageError> {
        match self.run(&["get", "-Hp", "-o", "value", property, name]) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(error) => Err(self.failed("reading the properties of", name.to_owned(), error)),
        }
    }

    /// Bytes of the dataset's own data.
    fn used(&self, name: &str) -> Result<u64, StorageError> {
        let used = self.property("used", name)?;
        used.parse().map_err(|error| StorageError::Failed {
            action: "measuring",
            dataset: name.to_owned(),
            source: Box::new(error),
        })
    }

    /// Destroys a dataset by its full name, with its snapshots.
    fn destroy_name(&self, name: &str) -> Result<(), StorageError> {
        let mut patience = Patience::new();
        let mut options: &[&str] = &["destroy"];
        loop {
            let argv = zfs_argv(options).arg(name).time_limit(DESTROY_LIMIT);
            let Err(error) = self.runner.run(&argv) else {
                return Ok(());
            };
            match classify(error.stderr().unwrap_or_default()) {
                Refusal::HasChildren(children) if options.len() == 1 => {
                    only_snapshots(name, &children)?;
                    options = &["destroy", "-r"];
                }
                // zfs-fuse unmounts in the background, and so does everybody once a container's
                // last process is gone.
                Refusal::Busy if patience.wait() => {}
                Refusal::Busy => {
                    // It was unmounted on the way; nobody is to miss it.
                    let _mounted = self.run(&["mount", name]);
                    return Err(StorageError::InUse {
                        dataset: name.to_owned(),
                        reason: "it is busy: a process, a mount elsewhere or a hold on a snapshot \
                                 keeps it"
                            .to_owned(),
                    });
                }
                _ => return Err(self.failed("destroying", name.to_owned(), error)),
            }
        }
    }
}

/// Refuses when there are datasets among the children: somebody else made them.
fn only_snapshots(name: &str, children: &[String]) -> Result<(), StorageError> {
    let snapshot = |child: &&String| {
        let rest = child.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('@'))
    };
    let others: Vec<&str> = children
        .iter()
        .filter(|child| !snapshot(child))
        .map(String::as_str)
        .collect();
    if others.is_empty() && !children.is_empty() {
        return Ok(());
    }
    Err(StorageError::InUse {
        dataset: name.to_owned(),
        reason: format!(
            "there are datasets in it that aren't Kleene's: {}",
            others.join(", ")
        ),
    })
}

/// The dataset of this kind and name; what isn't named like one was made by somebody else.
fn dataset_of(kind: DatasetKind, leaf: &str) -> Option<Dataset> {
    match kind {
        DatasetKind::Image => leaf.parse().map(Dataset::Image).ok(),
        DatasetKind::Container => leaf.parse().map(Dataset::Container).ok(),
        DatasetKind::Volume => leaf.parse().map(Dataset::Volume).ok(),
    }
}

fn zfs_argv(arguments: &[&str]) -> Argv {
    Argv::new("zfs").args(arguments)
}

fn zfs(runner: &dyn Runner, arguments: &[&str]) -> Result<String, CommandError> {
    runner.run(&zfs_argv(arguments)).map(|output| output.text())
}

impl Storage for ZfsStorage {
    fn info(&self) -> StorageInfo {
        StorageInfo {
            driver: "zfs",
            root: self.root.clone(),
            metadata: self.places.root.join(open::METADATA),
            database: self.places.root.join(crate::DATABASE),
            quotas: true,
        }
    }

    fn create(&self, dataset: &Dataset) -> Result<(), StorageError> {
        self.make("creating", dataset, &["create", &self.name(dataset)])
    }

    fn snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError> {
        let name = format!("{}/{snapshot}", self.root);
        match self.run(&["snapshot", &name]) {
            Ok(_) => Ok(()),
            Err(error) => Err(match self.failed("taking the snapshot", name, error) {
                // What isn't there is the dataset.
                StorageError::NotFound(_) => StorageError::NotFound(self.name(&snapshot.dataset)),
                other => other,
            }),
        }
    }

    fn clone_snapshot(&self, origin: &Snapshot, dataset: &Dataset) -> Result<(), StorageError> {
        let origin = format!("{}/{origin}", self.root);
        let name = self.name(dataset);
        match self.make("cloning", dataset, &["clone", &origin, &name]) {
            Err(StorageError::NotFound(_)) => Err(StorageError::NotFound(origin)),
            other => other,
        }
    }

    fn destroy(&self, dataset: &Dataset) -> Result<(), StorageError> {
        let name = self.name(dataset);
        let path = self.mountpoint(dataset);
        // What isn't mounted has no path without links; nor has it mounts elsewhere.
        let path = path.canonicalize().unwrap_or(path);
        // `zfs destroy` would unmount it there as well, and take the data from under its users.
        match in_the_way(&path, Is::MountPoint) {
            Ok(Some(on)) => Err(mounted(name, &on)),
            Ok(None) => self.destroy_name(&name),
            Err(source) => Err(StorageError::Failed {
                action: "destroying",
                dataset: name,
                source: source.into(),
            }),
        }
    }

    fn adopt(&self, source: &str, mode: AdoptMode, dataset: &Dataset) -> Result<(), StorageError> {
        adopt::adopt(self, source, mode, dataset)
    }

    fn exists(&self, dataset: &Dataset) -> Result<bool, StorageError> {
        if self.is_mounted(&self.mountpoint(dataset))? {
            return Ok(true);
        }
        let name = self.name(dataset);
        match self.run(&["list", "-H", "-o", "name", &name]) {
            Ok(_) => Ok(true),
            Err(error) => match self.failed("looking for", name, error) {
                StorageError::NotFound(_) => Ok(false),
                other => Err(other),
            },
        }
    }

    fn list(&self, kind: DatasetKind) -> Result<Vec<Dataset>, StorageError> {
        let parent = self.parent(kind);
        let arguments = [
            "list",
            "-H",
            "-o",
            "name",
            "-s",
            "name",
            "-t",
            "filesystem",
            "-r",
            "-d",
            "1",
            &parent,
        ];
        let text = self
            .run(&arguments)
            .map_err(|error| self.failed("listing", parent.clone(), error))?;
        let leaves = text
            .lines()
            .filter_map(|line| line.strip_prefix(&parent)?.strip_prefix('/'));
        Ok(leaves.filter_map(|leaf| dataset_of(kind, leaf)).collect())
    }

    fn name(&self, dataset: &Dataset) -> String {
        format!("{}/{dataset}", self.root)
    }

    fn mountpoint(&self, dataset: &Dataset) -> PathBuf {
        self.place(dataset.kind()).join(dataset.leaf())
    }

    fn root(&self, dataset: &Dataset) -> Result<Root, StorageError> {
        self.ensure_mounted(dataset)?;
        let path = self.mountpoint(dataset);
        Ok(Root::Directory { path })
    }

    fn usage(&self, dataset: &Dataset) -> Result<u64, StorageError> {
        self.used(&self.name(dataset))
    }

    fn usages(&self, kind: DatasetKind) -> Result<Vec<(Dataset, u64)>, StorageError> {
        let parent = self.parent(kind);
        let arguments = [
            "get",
            "-Hp",
            "-r",
            "-d",
            "1",
            "-o",
            "name,value",
            "used",
            &parent,
        ];
        let text = self
            .run(&arguments)
            .map_err(|error| self.failed("measuring", parent.clone(), error))?;
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(lines
            // Snapshots are listed as well, and aren't named like datasets.
            .filter_map(|(name, used)| {
                let dataset = dataset_of(kind, name.strip_prefix(&parent)?.strip_prefix('/')?)?;
                Some((dataset, used.trim().parse().ok()?))
            })
            .collect())
    }

    fn changes(&self, container: &ContainerId) -> Result<Vec<Change>, StorageError> {
        changes::changes(self, container)
    }

    /// The property `quota` counts what the container has of its own. `refquota` would count what it
    /// shares with its image, too.
    fn set_quota(
        &self,
        container: &ContainerId,
        quota: Option<ByteSize>,
    ) -> Result<(), StorageError> {
        let name = self.name(&Dataset::Container(container.clone()));
        let refused = |quota| match self.used(&name) {
            Ok(used) => too_small(container, quota, used),
            Err(error) => error,
        };
        let property = match quota {
            None => "quota=none".to_owned(),
            // Which ZFS takes for no limit at all.
            Some(quota) if quota.bytes() == 0 => return Err(refused(quota)),
            Some(quota) => format!("quota={}", quota.bytes()),
        };
        match (self.run(&["set", &property, &name]), quota) {
            (Ok(_), _) => Ok(()),
            (Err(error), Some(quota))
                if classify(error.stderr().unwrap_or_default()) == Refusal::BelowUsed =>
            {
                Err(refused(quota))
            }
            (Err(error), _) => Err(self.failed("limiting", name, error)),
        }
    }
}

#[cfg(test)]
mod tests;
