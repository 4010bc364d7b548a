//! What is written down of a container before anything of it is made on the host, so that a daemon
//! which comes later finds it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use kleene_types::ContainerId;
use serde::{Deserialize, Serialize};

use crate::shared::instances::make_private;

/// A container that has, or may have, something on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its root, a path without links: its mounts lie beneath.
    pub root: PathBuf,
    /// The jail's number, once there is one.
    pub jid: Option<i32>,
    /// Whether its jail has a `/dev`.
    pub devfs: bool,
    /// Whether there are rules of rctl(8) for it.
    pub limited: bool,
    /// Whether its processes are stopped.
    pub paused: bool,
    /// Whether its jail lives on without processes.
    pub persists: bool,
}

impl Record {
    /// A container of which nothing is made yet.
    pub fn of(root: PathBuf) -> Self {
        Self {
            root,
            jid: None,
            devfs: false,
            limited: false,
            paused: false,
            persists: false,
        }
    }
}

/// The records' directory.
#[derive(Debug)]
pub struct Records(PathBuf);

impl Records {
    /// Opens the directory, which is made (0700) if it is missing.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        make_private(&directory)?;
        Ok(Self(directory))
    }

    fn path(&self, container: &ContainerId) -> PathBuf {
        self.0.join(container.as_str())
    }

    /// What is recorded of a container.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn read(&self, container: &ContainerId) -> io::Result<Option<Record>> {
        match fs::read(self.path(container)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Records a container, whole or not at all. It isn't synced: jails and mounts don't survive a
    /// power failure either.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&self, container: &ContainerId, record: &Record) -> io::Result<()> {
        // No container has such a name.
        let temporary = self.0.join(format!(".{container}"));
        fs::write(&temporary, serde_json::to_vec(record)?)?;
        fs::rename(temporary, self.path(container))
    }

    /// Forgets a container. Missing is success.
    ///
    /// # Errors
    /// The record can't be removed.
    pub fn remove(&self, container: &ContainerId) -> io::Result<()> {
        match fs::remove_file(self.path(container)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Every container that has a record.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn all(&self) -> io::Result<Vec<ContainerId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            found.extend(Path::new(&name).to_str().and_then(|name| name.parse().ok()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let records = Records::open(directory.path().join("jails")).unwrap();
        let container = ContainerId::random();
        assert_eq!(records.read(&container).unwrap(), None);
        let mut record = Record::of("/zroot/kleene/container/c1".into());
        records.write(&container, &record).unwrap();
        record.jid = Some(7);
        records.write(&container, &record).unwrap();
        fs::write(directory.path().join("jails/.half"), "{").unwrap();
        assert_eq!(records.all().unwrap(), std::slice::from_ref(&container));
        assert_eq!(records.read(&container).unwrap(), Some(record));
        records.remove(&container).unwrap();
        records.remove(&container).unwrap();
        assert!(records.all().unwrap().is_empty());
    }
}
