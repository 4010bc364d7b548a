//! Finds the copy of an inode that has several names.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Fault, InStep, Step};
use crate::meta::{Id, Meta};
use crate::place::Place;
use crate::sys;

/// The inodes with several names met so far, and where their copies are. An inode is forgotten
/// once all its names have been met.
pub(crate) struct HardLinks {
    copies: HashMap<Id, Copy>,
    root: OwnedFd,
}

struct Copy {
    dir: Arc<Place>,
    name: CString,
    names_left: u64,
}

/// Where the first copy of an inode is.
pub(crate) struct Site {
    /// `None` when it is in the directory that is being filled.
    pub dir: Option<OwnedFd>,
    pub name: CString,
}

impl HardLinks {
    /// For copies into the open directory `root`.
    pub fn new(root: OwnedFd) -> Self {
        Self {
            copies: HashMap::new(),
            root,
        }
    }

    /// Notes that the inode `meta` has been copied to `name` in `dir`.
    pub fn remember(&mut self, meta: &Meta, dir: &Arc<Place>, name: &CStr) {
        if meta.links > 1 {
            let copy = Copy {
                dir: Arc::clone(dir),
                name: name.to_owned(),
                names_left: meta.links - 1,
            };
            self.copies.insert(meta.id, copy);
        }
    }

    /// The copy of an inode, as seen from the directory `here`.
    pub fn find(&self, id: Id, here: &Arc<Place>) -> Result<Option<Site>, Fault> {
        let Some(copy) = self.copies.get(&id) else {
            return Ok(None);
        };
        let dir = if Arc::ptr_eq(&copy.dir, here) {
            None
        } else {
            Some(self.open(&copy.dir)?)
        };
        Ok(Some(Site {
            dir,
            name: copy.name.clone(),
        }))
    }

    /// Notes that one more name of the inode has been made.
    pub fn used(&mut self, id: Id) {
        if let Some(copy) = self.copies.get_mut(&id) {
            copy.names_left -= 1;
            if copy.names_left == 0 {
                self.copies.remove(&id);
            }
        }
    }

    /// Opens a directory of the target name by name, so that no link leads out and the path may be
    /// longer than the system's limit.
    fn open(&self, place: &Place) -> Result<OwnedFd, Fault> {
        let mut dir = sys::reopen(self.root.as_fd()).step(Step::Linking)?;
        for name in place.names() {
            dir = sys::open_dir(&dir, name).step(Step::Linking)?;
        }
        Ok(dir)
    }
}
