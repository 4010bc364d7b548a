//! The files that are read and written.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kleene_store::original;

use super::{ImportError, Machine};
use crate::lock::DaemonLock;

/// The database's name, the original's and ours.
const DATABASE: &str = "metadata.sqlite";

/// The files of a root.
#[derive(Debug)]
pub(super) struct Files {
    /// The original's database.
    pub source: PathBuf,
    /// Where ours is to be.
    pub target: PathBuf,
    /// Where ours is until it is finished.
    pub staged: PathBuf,
    /// Where the original's is kept.
    pub backup: PathBuf,
    /// What is kept until there is something to do with it.
    pub later: PathBuf,
    metadata: PathBuf,
}

impl Files {
    /// The files of a root that is mounted there.
    pub(super) fn of(machine: &Machine<'_>, root: &str, mountpoint: &Path) -> Self {
        let target = mountpoint.join(DATABASE);
        let metadata = mountpoint.join("metadata");
        Self {
            source: machine.directory.join(root).join(DATABASE),
            staged: mountpoint.join(format!("{DATABASE}.importing")),
            backup: mountpoint.join(format!("{DATABASE}.original")),
            later: metadata.join("networks.original.json"),
            target,
            metadata,
        }
    }

    /// Keeps other daemons of ours away.
    pub(super) fn lock(&self) -> Result<DaemonLock, ImportError> {
        match DirBuilder::new().mode(0o700).create(&self.metadata) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(written(&self.metadata)(error));
            }
            _ => {}
        }
        Ok(DaemonLock::take(&self.metadata)?)
    }

    /// Keeps the original's database, whole and durable. One that is kept already stays.
    pub(super) fn back_up(&self) -> Result<(), ImportError> {
        original::settle(&self.source)?;
        let bytes = fs::read(&self.source).map_err(|source| ImportError::File {
            path: self.source.clone(),
            verb: "read",
            source,
        })?;
        match fs::read(&self.backup) {
            Ok(kept) if kept == bytes => return Ok(()),
            Ok(_) => return Err(ImportError::OtherBackup(self.backup.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(ImportError::File {
                    path: self.backup.clone(),
                    verb: "read",
                    source,
                });
            }
        }
        replace(&self.backup, &bytes)
    }

    /// Puts our database in the place of the original's.
    pub(super) fn publish(&self) -> Result<(), ImportError> {
        let publish = || -> io::Result<()> {
            // Its log is gone when it was closed in good order; without it a part would be missing.
            if let Some(left) = original::beside(&self.staged).find(|path| path.exists()) {
                let message = format!("'{}' was left", left.display());
                return Err(io::Error::other(message));
            }
            File::open(&self.staged)?.sync_all()?;
            fs::rename(&self.staged, &self.target)?;
            sync_parent(&self.target)
        };
        publish().map_err(written(&self.target))
    }

    /// Removes what an import that was cut short has left.
    pub(super) fn clear(&self) -> Result<(), ImportError> {
        let all = original::beside(&self.staged).chain([self.staged.clone()]);
        for path in all {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(written(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes a file, whole and durable, for root's eyes only.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImportError> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    let write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&staged)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        sync_parent(path)
    };
    write().map_err(written(path))
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn written(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.to_owned();
    move |source| ImportError::File {
        path,
        verb: "written",
        source,
    }
}

/// A private directory that goes when it is dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, ImportError> {
        let id = kleene_types::ExecId::random();
        let path = std::env::temp_dir().join(format!("kleened-import-{id}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(written(&path)(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is of no harm where it is.
        let _left = fs::remove_dir_all(&self.0);
    }
}
