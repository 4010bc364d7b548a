//! Makes one whole layer of the layers of an overlay.
//!
//! The layers are read as they lie, not through a mounted overlay: so file systems that can share data
//! between files do.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::{Copied, Copier, Existing, Here, Outcome, Settings, Taking, with_crew};
use crate::attributes::{self, Node, Xattrs};
use crate::changes::layers::{Found, Layers, Numbers, Opened};
use crate::error::{Fault, InStep, Step, TreeError};
use crate::meta::Meta;
use crate::place::Place;
use crate::sys::{self, Entry};

/// Copies what an overlay of these layers (the topmost first) shows into the empty directory `target`,
/// with the root's own attributes. Nobody changes the layers meanwhile.
///
/// Kept is what [`copy_tree`](super::copy_tree) keeps. Layers are taken to be made without
/// `redirect_dir` and `metacopy`.
///
/// # Errors
/// Names the first entry that failed; what was copied before stays.
pub fn flatten(layers: &[OwnedFd], target: BorrowedFd<'_>) -> Result<Copied, TreeError> {
    let at_root = |fault: Fault| fault.at(".");
    let settings = Settings {
        existing: Existing::Refuse,
        owner: None,
        mode: None,
        taking: Taking::Shown,
    };
    let target = sys::reopen(target).step(Step::Opening).map_err(at_root)?;
    attributes::clear_default_acl(target.as_fd()).map_err(at_root)?;
    let layers = Layers {
        roots: layers,
        overlay: true,
    };
    with_crew(settings, None, None, target.as_fd(), |copier| {
        let mut directories = Vec::new();
        let mut left = vec![(Place::root(), layers.all())];
        while let Some((place, numbers)) = left.pop() {
            let failed = |fault: Fault| fault.at(place.path());
            let opened = layers.open(&place, &numbers).map_err(failed)?;
            let into = open(&target, &place).map_err(failed)?;
            let inner = directory(copier, &opened, into.as_fd(), &place)?;
            directories.push(Finished::of(&opened, Arc::clone(&place)).map_err(failed)?);
            left.extend(inner);
        }
        // Entries change the times of their directories: so these come last, and inner ones first,
        // since an outer one may be closed to everybody.
        while let Some(finished) = directories.pop() {
            let skipped = finished.apply(&target);
            copier.copied.skipped_xattrs +=
                skipped.map_err(|fault| fault.at(finished.place.path()))?;
        }
        Ok(())
    })
}

fn open(target: &OwnedFd, place: &Place) -> Result<OwnedFd, Fault> {
    sys::open_chain(target.as_fd(), &place.names()).step(Step::Opening)
}

/// Copies what is in a directory; gives the directories in it, which have been made.
fn directory(
    copier: &mut Copier<'_>,
    opened: &Opened,
    into: BorrowedFd<'_>,
    place: &Arc<Place>,
) -> Result<Vec<(Arc<Place>, Numbers)>, TreeError> {
    let mut inner = Vec::new();
    let names = opened.names().map_err(|fault| fault.at(place.path()))?;
    for name in names {
        let failed = |fault: Fault| fault.at(place.join(&name));
        match opened.find(&name).map_err(failed)? {
            Found::Nothing | Found::Whiteout => {}
            Found::Directory { layers, .. } => {
                let made = rustix::fs::mkdirat(into, &name, Mode::RWXU).step(Step::Creating);
                made.map_err(failed)?;
                copier.copied.entries += 1;
                inner.push((place.child(&name), layers));
            }
            Found::Leaf(number, meta) => {
                let layer = opened.layer(number).ok_or(Errno::NOENT).step(Step::Opening);
                let here = Here {
                    source: layer.map_err(failed)?.as_fd(),
                    target: into,
                    place,
                };
                leaf(copier, here, name, meta.kind)?;
            }
        }
    }
    Ok(inner)
}

fn leaf(
    copier: &mut Copier<'_>,
    here: Here<'_>,
    name: CString,
    kind: FileType,
) -> Result<(), TreeError> {
    let entry = Entry { name, kind };
    match copier.entry(here, &entry)? {
        Outcome::Done => {
            copier.copied.entries += 1;
            Ok(())
        }
        Outcome::Vanished => Ok(()),
        Outcome::Entered(..) => Err(TreeError::Changed {
            step: Step::Reading,
            path: here.place.join(&entry.name),
        }),
    }
}

/// A directory that has all its entries.
struct Finished {
    place: Arc<Place>,
    meta: Meta,
    xattrs: Vec<(CString, Vec<u8>)>,
}

impl Finished {
    fn of(opened: &Opened, place: Arc<Place>) -> Result<Self, Fault> {
        let top = opened.top().ok_or(Errno::NOENT).step(Step::Opening)?;
        Ok(Self {
            place,
            meta: Meta::of(top).step(Step::Reading)?,
            xattrs: attributes::shown(Node::Open(top.as_fd()))?,
        })
    }

    /// Gives the number of extended attributes that it can't have.
    fn apply(&self, target: &OwnedFd) -> Result<u64, Fault> {
        let dir = open(target, &self.place)?;
        attributes::apply_open(Xattrs::Given(&self.xattrs), &dir, &self.meta)
    }
}
