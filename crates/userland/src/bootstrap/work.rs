//! A private directory for a tree in the making.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kleene_doors::userland::UserlandError;

use crate::error::io_error;

/// As many are tried until one is free.
const MAX_AT_ONCE: usize = 64;

/// A directory that goes when this is dropped. It is locked; what a daemon that was killed has left
/// isn't, and the next one removes it.
#[derive(Debug)]
pub(crate) struct WorkDir {
    path: PathBuf,
    /// Keeps the lock.
    _lock: File,
}

impl WorkDir {
    /// Makes a directory in `parent`, which is made if need be.
    pub fn new(parent: &Path) -> Result<Self, UserlandError> {
        Self::open(parent)
            .map_err(|error| io_error(format!("making a directory in {}", parent.display()), error))
    }

    fn open(parent: &Path) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(parent)?;
        builder.recursive(false);
        // Held while directories are made and locked, or looked at and removed.
        let gate = File::open(parent)?;
        gate.lock()?;
        remove_abandoned(parent);
        for number in 0..MAX_AT_ONCE {
            let path = parent.join(number.to_string());
            match builder.create(&path) {
                Ok(()) => {
                    let lock = File::open(&path)?;
                    lock.lock()?;
                    return Ok(Self { path, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many of them are in use"))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // What can't be removed now is found later.
        let _ = kleene_tree::remove_tree_at(&self.path);
    }
}

fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        if File::open(&path).is_ok_and(|dir| dir.try_lock().is_ok()) {
            let _ = kleene_tree::remove_tree_at(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_stays_and_what_was_left_goes() {
        let parent = tempfile::tempdir().unwrap();
        let used = WorkDir::new(parent.path()).unwrap();
        fs::write(used.path().join("file"), "x").unwrap();
        let left = parent.path().join("left");
        fs::create_dir_all(left.join("root/proc")).unwrap();
        let other = WorkDir::new(parent.path()).unwrap();
        assert_ne!(used.path(), other.path());
        assert!(used.path().join("file").exists() && !left.exists());
        drop((used, other));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
