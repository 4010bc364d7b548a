//! Measures a tree.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::vec;

use rustix::io::Errno;

use crate::error::{Fault, InStep, Step, TreeError};
use crate::meta::{Id, Meta};
use crate::place::Place;
use crate::sys::{self, Entry};

/// Directories of the walk that stay open; see the copy's constant of the same name.
const OPEN_LEVELS: usize = 64;

/// What a tree takes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes allocated on disk. Inodes with several names count once.
    pub bytes: u64,
    /// The sum of the regular files' and links' sizes. Inodes with several names count once.
    pub apparent: u64,
    /// Names in the tree, without the root.
    pub entries: u64,
}

/// Adds up what is in the directory, itself included. Other file systems mounted inside don't
/// count, and neither do entries that vanish meanwhile.
pub fn usage(dir: BorrowedFd<'_>) -> Result<Usage, TreeError> {
    let at_root = |fault: Fault| fault.at(".");
    let dir = sys::reopen(dir).step(Step::Opening).map_err(at_root)?;
    let root = Frame::open(dir, Place::root()).map_err(at_root)?;
    let mut walk = Walk {
        sum: Usage::default(),
        seen: HashSet::new(),
    };
    walk.sum.bytes = root.meta.blocks.saturating_mul(512);
    walk.run(root)?;
    Ok(walk.sum)
}

struct Frame {
    fd: Option<OwnedFd>,
    meta: Meta,
    entries: vec::IntoIter<Entry>,
    place: Arc<Place>,
}

impl Frame {
    fn open(fd: OwnedFd, place: Arc<Place>) -> Result<Self, Fault> {
        let meta = Meta::of(&fd).step(Step::Reading)?;
        let entries = sys::entries(fd.as_fd()).step(Step::Reading)?.into_iter();
        Ok(Self {
            fd: Some(fd),
            meta,
            entries,
            place,
        })
    }

    fn get(&self) -> Result<BorrowedFd<'_>, Fault> {
        let closed = Fault {
            step: Step::Reading,
            errno: Errno::BADF,
        };
        self.fd.as_ref().map(AsFd::as_fd).ok_or(closed)
    }
}

struct Walk {
    sum: Usage,
    seen: HashSet<Id>,
}

impl Walk {
    fn run(&mut self, root: Frame) -> Result<(), TreeError> {
        let mut stack = vec![root];
        while let Some(frame) = stack.last_mut() {
            let Some(entry) = frame.entries.next() else {
                leave(&mut stack)?;
                continue;
            };
            let failed = |fault: Fault| fault.at(frame.place.join(&entry.name));
            if let Some(dir) = self.count(frame, &entry).map_err(failed)? {
                let place = frame.place.child(&entry.name);
                let path = Arc::clone(&place);
                stack.push(Frame::open(dir, place).map_err(|fault| fault.at(path.path()))?);
                let far_up = stack
                    .len()
                    .checked_sub(OPEN_LEVELS)
                    .filter(|index| *index > 0);
                if let Some(frame) = far_up.and_then(|index| stack.get_mut(index)) {
                    frame.fd = None;
                }
            }
        }
        Ok(())
    }

    /// Counts an entry, and gives it if it is a directory to go through.
    fn count(&mut self, frame: &Frame, entry: &Entry) -> Result<Option<OwnedFd>, Fault> {
        let meta = match Meta::at(frame.get()?, &entry.name) {
            Err(Errno::NOENT) => return Ok(None),
            meta => meta.step(Step::Reading)?,
        };
        let mut next = None;
        if meta.is_dir() {
            match sys::open_dir_same_mount(frame.get()?, &entry.name) {
                Ok(dir) => next = Some(dir),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                // A mount point counts as a name; what is below belongs to somebody else.
                Err(Errno::XDEV) => {
                    self.sum.entries += 1;
                    return Ok(None);
                }
                Err(errno) => {
                    return Err(Fault {
                        step: Step::Opening,
                        errno,
                    });
                }
            }
        }
        self.sum.entries += 1;
        if meta.links < 2 || meta.is_dir() || self.seen.insert(meta.id) {
            self.sum.bytes = self
                .sum
                .bytes
                .saturating_add(meta.blocks.saturating_mul(512));
            if !meta.is_dir() {
                self.sum.apparent = self.sum.apparent.saturating_add(meta.size);
            }
        }
        Ok(next)
    }
}

/// Goes back to the directory above.
fn leave(stack: &mut Vec<Frame>) -> Result<(), TreeError> {
    let Some(frame) = stack.pop() else {
        return Ok(());
    };
    let Some(parent) = stack.last_mut().filter(|parent| parent.fd.is_none()) else {
        return Ok(());
    };
    let reopened = frame
        .get()
        .and_then(|child| sys::reopen_parent(child, parent.meta.id).step(Step::Opening))
        .map_err(|fault| fault.at(parent.place.path()))?;
    let changed = || TreeError::Changed {
        step: Step::Reading,
        path: parent.place.path(),
    };
    parent.fd = Some(reopened.ok_or_else(changed)?);
    Ok(())
}
