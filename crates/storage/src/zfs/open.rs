//! Opening the Kleene root: what has to be there is, is mounted, and is ours alone.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kleene_command::{CommandError, Runner};
use kleene_doors::storage::{DatasetKind, StorageError};
use rustix::fs::{CWD, Mode, OFlags, RawMode, openat};

use super::answers::{Refusal, classify};
use super::changes::is_second_clone;
use super::mounting::zfs_runner;
use super::wait::is_mounted;
use super::{Places, ZfsStorage, adopt, zfs};
use crate::lock::lock;

/// The directory of the daemon's records, in the root dataset.
pub(super) const METADATA: &str = "metadata";

/// ZFS takes 255 bytes for a whole name; the longest volume name and what is before it need these.
const LONGEST_ROOT: usize = 255 - "/container/".len() - 128;

/// See [`ZfsStorage::open`].
pub(super) fn open(runner: Arc<dyn Runner>, root: &str) -> Result<ZfsStorage, StorageError> {
    let runner = zfs_runner(runner);
    check_name(root).map_err(|reason| refuse(root, reason))?;
    let tree = Tree {
        runner: &*runner,
        root,
    };
    let (places, left_over) = tree.ensure()?;
    let lock = prepare(root, &places)?;
    let storage = ZfsStorage {
        root: root.to_owned(),
        places,
        mounted: is_mounted,
        comparisons: AtomicU64::new(0),
        _lock: Some(lock),
        runner,
    };
    adopt::undo_interrupted(&storage)?;
    for name in left_over {
        // What is still busy is tried again at the next start.
        let _left = storage.destroy_name(&name);
    }
    Ok(storage)
}

fn refuse(root: &str, reason: impl std::fmt::Display) -> StorageError {
    StorageError::Invalid(format!("kleene_root: '{root}' {reason}"))
}

/// Checks the form of a dataset's name, see `zfs(8)`.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let component = |part: &str| {
        part.bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
    };
    if name.len() > LONGEST_ROOT {
        Err("is too long for a Kleene root")
    } else if name.split('/').all(component) {
        Ok(())
    } else {
        Err(
            "is not a dataset's name: a name such as zroot/kleene is expected, of letters, digits, \
             '_', '.', ':' and '-', each part beginning with a letter or digit",
        )
    }
}

/// The datasets of the root while they are looked for and made.
struct Tree<'a> {
    runner: &'a dyn Runner,
    root: &'a str,
}

/// What `zfs list` tells of one dataset.
struct Listed {
    name: String,
    mounted: bool,
    mountpoint: String,
}

impl Tree<'_> {
    /// Makes what is missing, mounts what isn't mounted, and tells where everything is, and which
    /// datasets an earlier daemon has left that are of no use any more.
    fn ensure(&self) -> Result<(Places, Vec<String>), StorageError> {
        let mut listed = match self.list() {
            Ok(listed) => listed,
            Err(error) if is(&error, &Refusal::NotFound) => Vec::new(),
            Err(error) => return Err(self.unusable(error)),
        };
        let missing: Vec<String> = self
            .names()
            .into_iter()
            .filter(|name| !listed.iter().any(|it| it.name == *name))
            .collect();
        for name in &missing {
            self.create(name)?;
        }
        if !missing.is_empty() {
            listed = self.list().map_err(|error| self.unusable(error))?;
        }
        let [root, image, container, volumes] = self.names();
        let places = Places {
            root: self.place(&listed, &root)?,
            image: self.place(&listed, &image)?,
            container: self.place(&listed, &container)?,
            volumes: self.place(&listed, &volumes)?,
        };
        let names = listed.into_iter().map(|dataset| dataset.name);
        Ok((
            places,
            names.filter(|name| self.is_left_over(name)).collect(),
        ))
    }

    fn names(&self) -> [String; 4] {
        let beneath = |kind: DatasetKind| format!("{}/{}", self.root, kind.directory());
        [
            self.root.to_owned(),
            beneath(DatasetKind::Image),
            beneath(DatasetKind::Container),
            beneath(DatasetKind::Volume),
        ]
    }

    fn is_left_over(&self, name: &str) -> bool {
        let leaf = name.strip_prefix(self.root);
        let leaf = leaf.and_then(|leaf| leaf.strip_prefix('/'));
        leaf.is_some_and(is_second_clone)
    }

    fn list(&self) -> Result<Vec<Listed>, CommandError> {
        let columns = "name,mounted,mountpoint";
        let arguments = ["list", "-H", "-o", columns, "-r", "-d", "1", self.root];
        let text = zfs(self.runner, &arguments)?;
        Ok(text
            .lines()
            .filter_map(|line| {
                let mut fields = line.splitn(3, '\t');
                Some(Listed {
                    name: fields.next()?.to_owned(),
                    mounted: fields.next()? == "yes",
                    mountpoint: fields.next()?.to_owned(),
                })
            })
            .collect())
    }

    fn create(&self, name: &str) -> Result<(), StorageError> {
        match zfs(self.runner, &["create", "-p", name]) {
            Ok(_) => Ok(()),
            Err(error) if is(&error, &Refusal::NoPool) => Err(refuse(
                self.root,
                "lies in a pool that doesn't exist: `zpool list` shows the pools; make one with \
                 `zpool create`, or import it with `zpool import`",
            )),
            Err(error) => Err(StorageError::Failed {
                action: "creating",
                dataset: name.to_owned(),
                source: error.into(),
            }),
        }
    }

    /// Where a dataset is mounted.
    fn place(&self, listed: &[Listed], name: &str) -> Result<PathBuf, StorageError> {
        let Some(dataset) = listed.iter().find(|it| it.name == name) else {
            return Err(StorageError::NotFound(name.to_owned()));
        };
        let mountpoint = Path::new(&dataset.mountpoint);
        if !mountpoint.is_absolute() {
            return Err(refuse(
                self.root,
                format!(
                    "can't be used: the dataset '{name}' has the mount point '{}'; give it one with \
                     `zfs set mountpoint=/{name} {name}`",
                    dataset.mountpoint
                ),
            ));
        }
        if !dataset.mounted {
            zfs(self.runner, &["mount", name]).map_err(|error| {
                refuse(
                    self.root,
                    format!("can't be used: the dataset '{name}' isn't mounted, and {error}"),
                )
            })?;
        }
        match is_mounted(mountpoint) {
            Ok(true) => Ok(mountpoint.to_owned()),
            Ok(false) => Err(refuse(
                self.root,
                format!(
                    "can't be used: ZFS says that '{name}' is mounted on '{}', but it isn't there; \
                     is kleened in a mount namespace or a jail of its own?",
                    dataset.mountpoint
                ),
            )),
            Err(source) => Err(StorageError::Failed {
                action: "looking for the mount of",
                dataset: name.to_owned(),
                source: source.into(),
            }),
        }
    }

    fn unusable(&self, error: CommandError) -> StorageError {
        refuse(
            self.root,
            format!(
                "is a dataset of ZFS, which can't be used here: {error}. A directory as the Kleene \
                 root, such as /var/lib/kleene, needs no ZFS"
            ),
        )
    }
}

fn is(error: &CommandError, refusal: &Refusal) -> bool {
    classify(error.stderr().unwrap_or_default()) == *refusal
}

/// Sets the modes, makes the directory for the records, and locks it.
fn prepare(root: &str, places: &Places) -> Result<OwnedFd, StorageError> {
    let prepare = || -> io::Result<OwnedFd> {
        let mode = |path: &Path, mode: RawMode| rustix::fs::chmod(path, Mode::from(mode));
        mode(&places.root, 0o700)?;
        mode(&places.volumes, 0o700)?;
        mode(&places.image, 0o700)?;
        mode(&places.container, 0o700)?;
        let metadata = places.root.join(METADATA);
        match DirBuilder::new().mode(0o700).create(&metadata) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let locked = openat(CWD, &metadata, flags, Mode::empty())?;
        rustix::fs::fchmod(&locked, Mode::from(0o700))?;
        lock(&locked)?;
        Ok(locked)
    };
    prepare().map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            refuse(root, "is in use by another kleened: stop that one first")
        } else {
            StorageError::Failed {
                action: "opening the Kleene root",
                dataset: root.to_owned(),
                source: error.into(),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_datasets() {
        for good in ["zroot/kleene", "tank", "a/b.c_d:e-f/9"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = format!("zroot/{}", "x".repeat(200));
        for bad in [
            "", "/", "zroot/", "/zroot", "a//b", "a/-b", "-a", "a/..", "a@b", "a#b", "a b", "a\n",
            "a/é", &long,
        ] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
