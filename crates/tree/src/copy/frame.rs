//! The directories that a copy is in.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::vec;

use rustix::io::Errno;

use super::crew::{Folder, Job};
use super::{Here, OPEN_LEVELS};
use crate::error::{Fault, InStep, Step, TreeError};
use crate::meta::{Id, Meta};
use crate::place::Place;
use crate::sys::{self, Entry};

/// A directory that is being copied.
pub(super) struct Frame {
    pub source: Side,
    pub target: Side,
    pub entries: vec::IntoIter<Entry>,
    /// Files that are to be handed over.
    pub batch: Vec<Entry>,
    pub folder: Arc<Folder>,
    /// The source directory's attributes, read before its entries changed its access time.
    pub meta: Meta,
    /// The target directory gets them in the end.
    pub own_attributes: bool,
}

/// An open directory, or one that can be found again through its children.
pub(super) struct Side {
    pub fd: Option<Arc<OwnedFd>>,
    pub id: Id,
}

impl Side {
    pub fn get(&self) -> Result<BorrowedFd<'_>, Fault> {
        Ok(self.share()?.as_fd())
    }

    pub fn share(&self) -> Result<&Arc<OwnedFd>, Fault> {
        let closed = Fault::new(Step::Opening, Errno::BADF);
        self.fd.as_ref().ok_or(closed)
    }
}

impl Frame {
    pub fn open(
        source: OwnedFd,
        target: OwnedFd,
        folder: Folder,
        own_attributes: bool,
    ) -> Result<Self, Fault> {
        let meta = Meta::of(&source).step(Step::Reading)?;
        let target_id = Meta::of(&target).step(Step::Reading)?.id;
        let entries = sys::entries(source.as_fd()).step(Step::Reading)?;
        Ok(Self {
            source: Side {
                fd: Some(Arc::new(source)),
                id: meta.id,
            },
            target: Side {
                fd: Some(Arc::new(target)),
                id: target_id,
            },
            entries: entries.into_iter(),
            batch: Vec::new(),
            folder: Arc::new(folder),
            meta,
            own_attributes,
        })
    }

    /// Doesn't copy the entries with such names.
    pub fn leave_out(&mut self, names: impl Fn(&CStr) -> bool) {
        let entries = std::mem::take(&mut self.entries);
        let kept: Vec<Entry> = entries.filter(|entry| !names(&entry.name)).collect();
        self.entries = kept.into_iter();
    }

    pub fn place(&self) -> &Arc<Place> {
        &self.folder.place
    }

    pub fn here(&self) -> Result<Here<'_>, Fault> {
        Ok(Here {
            source: self.source.get()?,
            target: self.target.get()?,
            place: self.place(),
        })
    }

    /// The files that are to be handed over, if there are any.
    pub fn take_batch(&mut self) -> Result<Option<Job>, Fault> {
        if self.batch.is_empty() {
            return Ok(None);
        }
        let entries = std::mem::take(&mut self.batch);
        let (source, target) = (self.source.share()?, self.target.share()?);
        let (source, target) = (Arc::clone(source), Arc::clone(target));
        Ok(Some(Job::new(&self.folder, source, target, entries)))
    }
}

/// Closes the directory that is now too far up to stay open. The root stays open.
pub(super) fn close_far_up(stack: &mut [Frame]) {
    let Some(index) = stack.len().checked_sub(OPEN_LEVELS) else {
        return;
    };
    if let Some(frame) = stack.get_mut(index).filter(|_| index > 0) {
        frame.source.fd = None;
        frame.target.fd = None;
    }
}

/// Opens a directory that was closed on the way down, by way of its child.
pub(super) fn reopen_side(side: &mut Side, child: &Side, place: &Place) -> Result<(), TreeError> {
    if side.fd.is_some() {
        return Ok(());
    }
    let parent = child
        .get()
        .and_then(|child| sys::reopen_parent(child, side.id).step(Step::Opening))
        .map_err(|fault| fault.at(place.path()))?;
    match parent {
        Some(parent) => side.fd = Some(Arc::new(parent)),
        None => {
            return Err(TreeError::Changed {
                step: Step::Reading,
                path: place.path(),
            });
        }
    }
    Ok(())
}
