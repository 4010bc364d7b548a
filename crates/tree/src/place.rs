//! Where a walk stands: the chain of directory names from the tree's root.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A directory of the walked tree. Paths are only put together when an error needs one: the depth
/// of a tree isn't limited by `PATH_MAX`.
pub(crate) struct Place {
    parent: Option<Arc<Place>>,
    name: CString,
}

impl Place {
    /// The root of the tree.
    pub fn root() -> Arc<Self> {
        Arc::new(Self {
            parent: None,
            name: CString::default(),
        })
    }

    /// The directory of this path, which has nothing but names in it.
    pub fn of(path: &Path) -> Arc<Self> {
        let names = path.iter().filter_map(crate::sys::c_name);
        names.fold(Self::root(), |place, name| place.child(&name))
    }

    /// Whether this is the root of the tree.
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// A directory in this one.
    pub fn child(self: &Arc<Self>, name: &CStr) -> Arc<Self> {
        Arc::new(Self {
            parent: Some(Arc::clone(self)),
            name: name.to_owned(),
        })
    }

    /// The names from the root to this directory.
    pub fn names(&self) -> Vec<&CStr> {
        let mut names = Vec::new();
        let mut place = Some(self);
        while let Some(here) = place {
            if here.parent.is_some() {
                names.push(here.name.as_c_str());
            }
            place = here.parent.as_deref();
        }
        names.reverse();
        names
    }

    /// The path of this directory.
    pub fn path(&self) -> PathBuf {
        self.names()
            .into_iter()
            .map(|name| OsStr::from_bytes(name.to_bytes()))
            .collect()
    }

    /// The path of an entry in this directory.
    pub fn join(&self, name: &CStr) -> PathBuf {
        self.path().join(OsStr::from_bytes(name.to_bytes()))
    }
}

impl Drop for Place {
    /// One after the other: the compiler's recursion would overflow the stack in a deep tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut place) = next.and_then(Arc::into_inner) {
            next = place.parent.take();
        }
    }
}
