//! Directories and entries of stacked layers, as overlayfs sees them.
//!
//! See the kernel's `filesystems/overlayfs.rst`. Layers are taken to be made without `redirect_dir`
//! and `metacopy`.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use crate::attributes::{self, Node};
use crate::error::{Fault, InStep, Step};
use crate::meta::Meta;
use crate::place::Place;
use crate::sys;

/// The layers of one tree.
#[derive(Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub roots: &'a [OwnedFd],
    /// Whiteouts and opaque directories mean what they mean in an overlay.
    pub overlay: bool,
}

/// Which of a tree's layers have a directory, by number, the topmost first.
pub(crate) type Numbers = Vec<usize>;

/// One directory of a tree, open in all the layers that show in it.
pub(crate) struct Opened {
    dirs: Vec<(usize, OwnedFd)>,
    /// Nothing beneath these layers shows: the lowest is opaque.
    pub opaque: bool,
    overlay: bool,
}

/// What a tree has under a name.
pub(crate) enum Found {
    /// Nothing, and no word about it.
    Nothing,
    /// A whiteout: what lower layers have is gone.
    Whiteout,
    /// Anything but a directory; in the layer of this number.
    Leaf(usize, Meta),
    /// A directory, in these layers.
    Directory {
        layers: Numbers,
        /// Lower trees may have a part in it.
        open_below: bool,
    },
}

impl Layers<'_> {
    /// The numbers of all layers.
    pub(crate) fn all(&self) -> Numbers {
        (0..self.roots.len()).collect()
    }

    /// Opens a directory in those layers. One that has vanished in a layer is left out.
    pub(crate) fn open(&self, place: &Place, layers: &[usize]) -> Result<Opened, Fault> {
        let mut opened = Opened {
            dirs: Vec::with_capacity(layers.len()),
            opaque: false,
            overlay: self.overlay,
        };
        let names = place.names();
        for &number in layers {
            let Some(root) = self.roots.get(number) else {
                continue;
            };
            let dir = match sys::open_chain(root.as_fd(), &names) {
                Ok(dir) => dir,
                // Gone, or replaced, or something is mounted there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                Err(errno) => return Err(Fault::new(Step::Opening, errno)),
            };
            opened.opaque = self.overlay && attributes::is_opaque(dir.as_fd())?;
            opened.dirs.push((number, dir));
            if opened.opaque {
                break;
            }
        }
        Ok(opened)
    }
}

impl Opened {
    /// The directory in the topmost layer that has it.
    pub(crate) fn top(&self) -> Option<&OwnedFd> {
        self.dirs.first().map(|(_, dir)| dir)
    }

    /// The directory in the layer of this number.
    pub(crate) fn layer(&self, number: usize) -> Option<&OwnedFd> {
        let found = self.dirs.iter().find(|(layer, _)| *layer == number);
        found.map(|(_, dir)| dir)
    }

    /// All names that any layer has, whiteouts as well.
    pub(crate) fn names(&self) -> Result<BTreeSet<CString>, Fault> {
        let mut names = BTreeSet::new();
        for (_, dir) in &self.dirs {
            let entries = sys::entries(dir.as_fd()).step(Step::Reading)?;
            names.extend(entries.into_iter().map(|entry| entry.name));
        }
        Ok(names)
    }

    /// What the layers together have under this name.
    pub(crate) fn find(&self, name: &CStr) -> Result<Found, Fault> {
        let mut layers = Numbers::new();
        let mut open_below = !self.opaque;
        for (number, dir) in &self.dirs {
            let meta = match Meta::at(dir.as_fd(), name) {
                Err(Errno::NOENT) => continue,
                meta => meta.step(Step::Reading)?,
            };
            if meta.is_dir() {
                layers.push(*number);
                continue;
            }
            if layers.is_empty() {
                return Ok(if self.overlay && meta.is_whiteout() {
                    Found::Whiteout
                } else {
                    Found::Leaf(*number, meta)
                });
            }
            // The directories above hide it, and all that is beneath it.
            open_below = false;
            break;
        }
        if layers.is_empty() {
            return Ok(Found::Nothing);
        }
        Ok(Found::Directory { layers, open_below })
    }

    /// Where the attributes of an entry are read: in its layer's directory.
    pub(crate) fn node<'n>(&'n self, number: usize, name: &'n CStr) -> Option<Node<'n>> {
        let dir = self.layer(number)?;
        Some(Node::Entry(dir.as_fd(), name))
    }

    /// The text of a link in the layer of this number.
    pub(crate) fn link(&self, number: usize, name: &CStr) -> Result<CString, Fault> {
        let dir = self.layer(number).ok_or(Errno::NOENT);
        dir.and_then(|dir| rustix::fs::readlinkat(dir, name, Vec::new()))
            .step(Step::Reading)
    }
}
