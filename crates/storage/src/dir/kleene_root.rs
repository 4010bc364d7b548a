//! The Kleene root: checked, locked, and held open.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use kleene_doors::storage::{Dataset, DatasetKind, StorageError};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;

use super::DIRECTORY;
use super::staged::Staged;
use crate::lock::lock;

/// What the root may hold before Kleene's own directories are in it: made by `mkfs`.
const LOST_AND_FOUND: &str = "lost+found";

const METADATA: &str = "metadata";
const TRASH: &str = "trash";

/// The open Kleene root.
#[derive(Debug)]
pub(super) struct KleeneRoot {
    path: PathBuf,
    canonical: PathBuf,
    image: OwnedFd,
    container: OwnedFd,
    volumes: OwnedFd,
    /// Locked as long as it is open.
    trash: OwnedFd,
    next: AtomicU64,
}

impl KleeneRoot {
    /// Opens the root, makes what is missing, and removes what an earlier daemon has left half-done.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        check_form(path)?;
        let failed = |source: io::Error| StorageError::Failed {
            action: "opening the Kleene root",
            dataset: path.display().to_string(),
            source: source.into(),
        };
        let root = open_or_create(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => refuse(path, "isn't a directory"),
            _ => failed(error),
        })?;
        let stat = rustix::fs::fstat(&root).map_err(|errno| failed(errno.into()))?;
        check_trust(path, &stat)?;
        check_contents(path, &root).map_err(failed)??;
        rustix::fs::fchmod(&root, Mode::from(0o700)).map_err(|errno| failed(errno.into()))?;

        let part = |name: &str, mode: RawMode| part(path, &root, name, mode);
        // First of all: it is what a Kleene root is known by.
        part(TRASH, 0o700)?;
        part(METADATA, 0o700)?;
        let beside = |name: &str, mode: RawMode| -> Result<OwnedFd, StorageError> {
            let fd = part(name, mode)?;
            let other = rustix::fs::fstat(&fd).map_err(|errno| failed(errno.into()))?;
            if other.st_dev == stat.st_dev {
                Ok(fd)
            } else {
                Err(refuse(
                    &path.join(name),
                    "lies on another file system than the Kleene root: mount that file system on \
                     the Kleene root itself",
                ))
            }
        };
        let opened = Self {
            canonical: path.canonicalize().map_err(failed)?,
            image: beside(DatasetKind::Image.directory(), 0o700)?,
            container: beside(DatasetKind::Container.directory(), 0o700)?,
            volumes: beside(DatasetKind::Volume.directory(), 0o700)?,
            trash: beside(TRASH, 0o700)?,
            path: path.to_owned(),
            next: AtomicU64::new(0),
        };
        rustix::fs::fsync(&root).map_err(|errno| failed(errno.into()))?;
        opened.lock()?;
        opened.empty_trash().map_err(failed)?;
        Ok(opened)
    }

    /// The root as it was named.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The root's path without links.
    pub(super) fn canonical(&self) -> &Path {
        &self.canonical
    }

    pub(super) fn metadata(&self) -> PathBuf {
        self.path.join(METADATA)
    }

    pub(super) fn trash(&self) -> BorrowedFd<'_> {
        self.trash.as_fd()
    }

    /// The directory that holds the datasets of one kind.
    pub(super) fn directory(&self, kind: DatasetKind) -> BorrowedFd<'_> {
        match kind {
            DatasetKind::Image => self.image.as_fd(),
            DatasetKind::Container => self.container.as_fd(),
            DatasetKind::Volume => self.volumes.as_fd(),
        }
    }

    /// Makes the list of a kind's datasets durable.
    pub(super) fn sync(&self, kind: DatasetKind) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.directory(kind))?)
    }

    /// The datasets of one kind. What isn't named like one was put there by somebody else.
    pub(super) fn list(&self, kind: DatasetKind) -> io::Result<Vec<Dataset>> {
        let mut datasets = Vec::new();
        for entry in Dir::read_from(self.directory(kind))? {
            let entry = entry?;
            if !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                continue;
            }
            let name = entry.file_name().to_string_lossy();
            datasets.extend(match kind {
                DatasetKind::Image => name.parse().map(Dataset::Image).ok(),
                DatasetKind::Container => name.parse().map(Dataset::Container).ok(),
                DatasetKind::Volume => name.parse().map(Dataset::Volume).ok(),
            });
        }
        Ok(datasets)
    }

    /// Makes an empty directory in the trash.
    pub(super) fn stage(&self, mode: Mode) -> io::Result<Staged<'_>> {
        let name = self.unused_name();
        rustix::fs::mkdirat(&self.trash, name.as_str(), mode)?;
        let staged = Staged::new(self, name.clone());
        // Whatever the umask is.
        rustix::fs::chmodat(&self.trash, name, mode, rustix::fs::AtFlags::empty())?;
        Ok(staged)
    }

    /// Moves a dataset into the trash, at once.
    pub(super) fn discard(&self, dataset: &Dataset) -> io::Result<Staged<'_>> {
        self.discard_at(self.directory(dataset.kind()), dataset.leaf())
    }

    /// Moves an entry of a directory into the trash, at once.
    pub(super) fn discard_at(&self, from: BorrowedFd<'_>, entry: &str) -> io::Result<Staged<'_>> {
        let name = self.unused_name();
        rustix::fs::renameat(from, entry, &self.trash, name.as_str())?;
        Ok(Staged::new(self, name))
    }

    fn unused_name(&self) -> String {
        self.next.fetch_add(1, Ordering::Relaxed).to_string()
    }

    fn lock(&self) -> Result<(), StorageError> {
        match lock(&self.trash) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(refuse(
                &self.path,
                "is in use by another kleened: stop that one first",
            )),
            Err(errno) => Err(StorageError::Failed {
                action: "locking the Kleene root",
                dataset: self.path.display().to_string(),
                source: io::Error::from(errno).into(),
            }),
        }
    }

    /// Removes what an earlier daemon has left in the trash, and what would be inherited from it by
    /// all that is made there.
    fn empty_trash(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        match rustix::fs::fremovexattr(&self.trash, c"system.posix_acl_default") {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut highest = None;
        for entry in Dir::read_from(&self.trash)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            // Something that can't be removed, an immutable file say, is no reason not to start.
            if kleene_tree::remove_tree(self.trash(), Path::new(&name)).is_err() {
                highest = highest.max(name.parse::<u64>().ok());
            }
        }
        let next = highest.map_or(0, |highest| highest.saturating_add(1));
        self.next.store(next, Ordering::Relaxed);
        Ok(())
    }
}

fn refuse(path: &Path, reason: &str) -> StorageError {
    StorageError::Invalid(format!("kleene_root: '{}' {reason}", path.display()))
}

fn check_form(path: &Path) -> Result<(), StorageError> {
    if !path.is_absolute() {
        return Err(refuse(path, "must be an absolute path"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(refuse(path, "must not contain '..'"));
    }
    if path.parent().is_none() {
        return Err(refuse(
            path,
            "is the whole file system: name a directory of Kleene's own, such as /var/lib/kleene",
        ));
    }
    Ok(())
}

fn open_or_create(path: &Path) -> io::Result<OwnedFd> {
    let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
    let open = || rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(parent)?;
            }
            DirBuilder::new().mode(0o700).create(path)?;
            open()
        }
        other => other,
    }
}

/// Nobody but us may put things there.
fn check_trust(path: &Path, stat: &Stat) -> Result<(), StorageError> {
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(refuse(
            path,
            &format!(
                "belongs to user {}: give it to the user that kleened runs as (chown root)",
                stat.st_uid
            ),
        ));
    }
    if Mode::from_raw_mode(stat.st_mode).contains(Mode::WOTH) {
        return Err(refuse(
            path,
            "is writable by everyone: look at what is in it, then take that right away (chmod o-w)",
        ));
    }
    Ok(())
}

/// A directory that holds other things isn't taken over: its mode would be changed, and what looks
/// like datasets would be removed with them.
fn check_contents(path: &Path, root: &OwnedFd) -> io::Result<Result<(), StorageError>> {
    let mut strange = None;
    for entry in Dir::read_from(root)? {
        let entry = entry?;
        match entry.file_name().to_string_lossy().as_ref() {
            TRASH => return Ok(Ok(())),
            "." | ".." | LOST_AND_FOUND => {}
            other => strange = Some(other.to_owned()),
        }
    }
    Ok(strange.map_or(Ok(()), |name| {
        Err(refuse(
            path,
            &format!(
                "is not a Kleene root, and not empty (it holds '{name}'): name a directory of \
                 Kleene's own"
            ),
        ))
    }))
}

/// Opens one of the root's directories; makes it when it is missing.
fn part(path: &Path, root: &OwnedFd, name: &str, mode: RawMode) -> Result<OwnedFd, StorageError> {
    let mode = Mode::from(mode);
    let open = || -> io::Result<(OwnedFd, Stat)> {
        match rustix::fs::mkdirat(root, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let fd = rustix::fs::openat(root, name, DIRECTORY, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok((fd, stat))
    };
    let path = path.join(name);
    let failed = |source: io::Error| StorageError::Failed {
        action: "opening the directory",
        dataset: path.display().to_string(),
        source: source.into(),
    };
    let (fd, stat) = open().map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => refuse(
            &path,
            "isn't a directory, or is a symbolic link: Kleene needs a directory there",
        ),
        _ => failed(error),
    })?;
    check_trust(&path, &stat)?;
    rustix::fs::fchmod(&fd, mode).map_err(|errno| failed(errno.into()))?;
    Ok(fd)
}
