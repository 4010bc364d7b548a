//! Directories on their way into sight and out of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kleene_doors::storage::Dataset;
use rustix::fs::{Mode, OFlags};

use super::kleene_root::KleeneRoot;
use super::{DIRECTORY, tree_error};

/// A directory in the trash that becomes a dataset, or a part of one. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Staged<'r> {
    root: &'r KleeneRoot,
    /// Its name in the trash; empty once it has left.
    name: String,
}

impl<'r> Staged<'r> {
    pub(super) fn new(root: &'r KleeneRoot, name: String) -> Self {
        Self { root, name }
    }

    /// Opens the directory.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat(
            self.root.trash(),
            self.name.as_str(),
            flags,
            Mode::empty(),
        )?)
    }

    /// Gives the directory its place as a dataset, at once.
    ///
    /// # Errors
    /// `AlreadyExists` when the dataset is there.
    pub(super) fn publish(self, dataset: &Dataset) -> io::Result<()> {
        let into = self.root.directory(dataset.kind());
        self.publish_at(into, dataset.leaf())
    }

    /// Gives the directory another place, at once.
    ///
    /// # Errors
    /// `AlreadyExists` when the place is taken.
    pub(super) fn publish_at(mut self, into: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        rename_new(self.root.trash(), &self.name, into, name)?;
        self.name.clear();
        Ok(())
    }

    /// Changes places with a directory, at once. What was there is removed when this is dropped.
    ///
    /// # Errors
    /// When the file system can't do that; nothing has changed then.
    pub(super) fn exchange(self, with: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            let own = self.name.as_str();
            let flags = RenameFlags::EXCHANGE;
            Ok(renameat_with(self.root.trash(), own, with, name, flags)?)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (with, name);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Removes the directory with everything in it.
    pub(super) fn remove(mut self) -> io::Result<()> {
        let name = std::mem::take(&mut self.name);
        kleene_tree::remove_tree(self.root.trash(), Path::new(&name))
            .map(drop)
            .map_err(tree_error)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // What can't be removed now is rubbish in the trash, and tried again at the next start.
            let _left = kleene_tree::remove_tree(self.root.trash(), Path::new(&self.name));
        }
    }
}

/// Renames, but never over something.
fn rename_new(from: BorrowedFd<'_>, name: &str, into: BorrowedFd<'_>, new: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(from, name, into, new, RenameFlags::NOREPLACE) {
            // A file system without the flag.
            Err(rustix::io::Errno::INVAL) => {}
            other => return Ok(other?),
        }
    }
    // Operations on one dataset come one after the other, so nobody makes it meanwhile.
    match rustix::fs::statat(into.as_fd(), new, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(rustix::io::Errno::NOENT) => Ok(rustix::fs::renameat(from, name, into, new)?),
        Err(errno) => Err(errno.into()),
    }
}
