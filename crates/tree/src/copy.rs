//! Copies a tree into an open directory.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::vec;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::attributes::{self, Node, Xattrs};
use crate::data::DataCopier;
use crate::error::{Fault, InStep, Step, TreeError};
use crate::links::HardLinks;
use crate::meta::{Id, Meta};
use crate::place::Place;
use crate::populate::is_staging_name;
use crate::sys::{self, Entry};

/// Directories of the walk that stay open on each side. Those further up are closed, and opened
/// again through `..` when the walk comes back.
const OPEN_LEVELS: usize = 64;

/// How often an entry that changes its type under the walk is tried again.
const TRIES: usize = 4;

/// How much was copied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Entries created: files, directories, links and nodes; not the root itself.
    pub entries: u64,
    /// The sizes of the regular files, hard-linked ones once, holes included.
    pub bytes: u64,
    /// Extended attributes that the target's file system can't hold.
    pub skipped_xattrs: u64,
}

/// What to do where the target already has an entry of the same name.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Fail with [`TreeError::Exists`].
    #[default]
    Refuse,
    /// Copy into directories, replace everything else. A directory is never replaced by something
    /// that isn't one: that fails with [`TreeError::Exists`].
    Merge,
}

/// Is told how far a copy has come, and says whether to go on.
pub type Progress<'a> = &'a dyn Fn(&Copied) -> ControlFlow<()>;

/// How to copy. The default copies everything exactly into an empty directory.
#[derive(Clone, Copy)]
pub struct CopyOptions<'a> {
    /// What happens to entries that the target already has.
    pub existing: Existing,
    /// Gives everything this owner (user, group) instead of its own.
    pub owner: Option<(u32, u32)>,
    /// Whether the target directory itself gets the attributes of the source directory.
    pub own_attributes: bool,
    /// Called after each entry with the sum so far; `Break` ends the copy with
    /// [`TreeError::Cancelled`] and leaves what was copied.
    pub progress: Option<Progress<'a>>,
}

impl Default for CopyOptions<'_> {
    fn default() -> Self {
        Self {
            existing: Existing::Refuse,
            owner: None,
            own_attributes: true,
            progress: None,
        }
    }
}

/// Copies the contents of the directory `source` into the existing directory `target`, then the
/// directory's own owner, mode, times and extended attributes.
///
/// Kept are owner, mode with set-id bits, access and modification time, extended attributes with
/// ACLs and capabilities, hard links within the tree, symbolic links as links, holes, device
/// nodes, FIFOs and sockets. What is mounted inside the source is copied too.
///
/// The source may change meanwhile: entries that vanish are left out. Staging directories of an
/// unfinished [`populate`](crate::populate()) in the source's root aren't copied.
///
/// # Errors
/// Names the first entry that failed; what was copied before stays.
pub fn copy_tree(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    options: &CopyOptions<'_>,
) -> Result<Copied, TreeError> {
    let at_root = |fault: Fault| fault.at(".");
    let source = sys::reopen(source).step(Step::Opening).map_err(at_root)?;
    let target = sys::reopen(target).step(Step::Opening).map_err(at_root)?;
    let links_root = sys::reopen(target.as_fd())
        .step(Step::Opening)
        .map_err(at_root)?;
    let mut copier = Copier {
        options,
        copied: Copied::default(),
        data: DataCopier::new(),
        links: HardLinks::new(links_root),
        target_id: Meta::of(&target).step(Step::Reading).map_err(at_root)?.id,
    };
    attributes::clear_default_acl(target.as_fd()).map_err(at_root)?;
    let root = Frame::open(source, target, Place::root(), true).map_err(at_root)?;
    copier.walk(root)?;
    Ok(copier.copied)
}

/// A directory that is being copied.
struct Frame {
    source: Side,
    target: Side,
    entries: vec::IntoIter<Entry>,
    place: Arc<Place>,
    /// The source directory's attributes, read before its entries changed its access time.
    meta: Meta,
}

/// An open directory, or one that can be found again through its children.
struct Side {
    fd: Option<OwnedFd>,
    id: Id,
}

impl Side {
    fn get(&self) -> Result<BorrowedFd<'_>, Fault> {
        let closed = Fault {
            step: Step::Opening,
            errno: Errno::BADF,
        };
        self.fd.as_ref().map(AsFd::as_fd).ok_or(closed)
    }
}

impl Frame {
    fn open(
        source: OwnedFd,
        target: OwnedFd,
        place: Arc<Place>,
        is_root: bool,
    ) -> Result<Self, Fault> {
        let meta = Meta::of(&source).step(Step::Reading)?;
        let target_id = Meta::of(&target).step(Step::Reading)?.id;
        let mut entries = sys::entries(source.as_fd()).step(Step::Reading)?;
        if is_root {
            entries.retain(|entry| !is_staging_name(&entry.name));
        }
        Ok(Self {
            source: Side {
                fd: Some(source),
                id: meta.id,
            },
            target: Side {
                fd: Some(target),
                id: target_id,
            },
            entries: entries.into_iter(),
            place,
            meta,
        })
    }
}

/// What became of one entry.
enum Outcome {
    Done,
    /// It went away before it could be copied.
    Vanished,
    /// A directory was made; its entries come next.
    Entered(OwnedFd, OwnedFd),
}

struct Copier<'o> {
    options: &'o CopyOptions<'o>,
    copied: Copied,
    data: DataCopier,
    links: HardLinks,
    target_id: Id,
}

impl Copier<'_> {
    /// Goes through the tree with a stack of its own, so that the depth isn't limited.
    fn walk(&mut self, root: Frame) -> Result<(), TreeError> {
        let mut stack = vec![root];
        while let Some(frame) = stack.last_mut() {
            let Some(entry) = frame.entries.next() else {
                self.leave(&mut stack)?;
                continue;
            };
            let outcome = self.entry(frame, &entry)?;
            if matches!(outcome, Outcome::Vanished) {
                continue;
            }
            self.copied.entries += 1;
            self.report()?;
            if let Outcome::Entered(source, target) = outcome {
                let place = frame.place.child(&entry.name);
                let next = Frame::open(source, target, Arc::clone(&place), false)
                    .map_err(|fault| fault.at(place.path()))?;
                stack.push(next);
                close_far_up(&mut stack);
            }
        }
        Ok(())
    }

    fn report(&self) -> Result<(), TreeError> {
        match self.options.progress.map(|progress| progress(&self.copied)) {
            Some(ControlFlow::Break(())) => Err(TreeError::Cancelled),
            _ => Ok(()),
        }
    }

    /// Finishes the innermost directory: its own attributes come after its entries, which would
    /// change its times.
    fn leave(&mut self, stack: &mut Vec<Frame>) -> Result<(), TreeError> {
        let Some(frame) = stack.pop() else {
            return Ok(());
        };
        if let Some(parent) = stack.last_mut() {
            reopen_side(&mut parent.source, &frame.source, &parent.place)?;
            reopen_side(&mut parent.target, &frame.target, &parent.place)?;
        } else if !self.options.own_attributes {
            return Ok(());
        }
        self.own_attributes(&frame)
            .map_err(|fault| fault.at(frame.place.path()))
    }

    fn own_attributes(&mut self, frame: &Frame) -> Result<(), Fault> {
        let source = Xattrs::Of(Node::Open(frame.source.get()?));
        let meta = self.owned(frame.meta);
        self.copied.skipped_xattrs += attributes::apply_open(source, frame.target.get()?, &meta)?;
        Ok(())
    }

    fn owned(&self, mut meta: Meta) -> Meta {
        if let Some((uid, gid)) = self.options.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        meta
    }

    /// Copies one entry. One that turns out to be of another type than it was is looked at again.
    fn entry(&mut self, frame: &Frame, entry: &Entry) -> Result<Outcome, TreeError> {
        let failed = |fault: Fault| fault.at(frame.place.join(&entry.name));
        let mut kind = entry.kind;
        for _ in 0..TRIES {
            if kind == FileType::Unknown {
                match Meta::at(frame.source.get().map_err(failed)?, &entry.name) {
                    Ok(meta) => kind = meta.kind,
                    Err(Errno::NOENT) => return Ok(Outcome::Vanished),
                    Err(errno) => {
                        return Err(failed(Fault {
                            step: Step::Reading,
                            errno,
                        }));
                    }
                }
            }
            match self.of_kind(frame, &entry.name, kind) {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => kind = FileType::Unknown,
                Err(fault) => return Err(failed(fault)),
            }
        }
        Err(TreeError::Changed {
            step: Step::Reading,
            path: frame.place.join(&entry.name),
        })
    }

    /// `Ok(None)` when the entry isn't of this type any more.
    fn of_kind(
        &mut self,
        frame: &Frame,
        name: &CStr,
        kind: FileType,
    ) -> Result<Option<Outcome>, Fault> {
        match kind {
            FileType::Directory => self.directory(frame, name),
            FileType::RegularFile => self.regular(frame, name),
            _ => self.node(frame, name, kind),
        }
    }

    fn directory(&mut self, frame: &Frame, name: &CStr) -> Result<Option<Outcome>, Fault> {
        let source = match sys::open_dir(frame.source.get()?, name) {
            Ok(source) => source,
            Err(errno) => return changed_or_gone(errno),
        };
        if Meta::of(&source).step(Step::Reading)?.id == self.target_id {
            // The target lies inside the source: copying it into itself would never end.
            return Err(Fault {
                step: Step::Reading,
                errno: Errno::INVAL,
            });
        }
        let target = frame.target.get()?;
        let made = self.create_unless_directory(target, name, || {
            rustix::fs::mkdirat(target, name, Mode::RWXU)
        })?;
        let target = sys::open_dir(target, name).step(Step::Creating)?;
        if made.is_none() {
            attributes::clear_default_acl(target.as_fd())?;
        }
        Ok(Some(Outcome::Entered(source, target)))
    }

    fn regular(&mut self, frame: &Frame, name: &CStr) -> Result<Option<Outcome>, Fault> {
        // NONBLOCK: a FIFO that has taken the file's place mustn't hold us up.
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let source = match rustix::fs::openat(frame.source.get()?, name, flags, Mode::empty()) {
            Ok(source) => source,
            Err(errno) => return changed_or_gone(errno),
        };
        let meta = Meta::of(&source).step(Step::Reading)?;
        if meta.kind != FileType::RegularFile {
            return Ok(None);
        }
        if self.linked(frame, name, &meta)? {
            return Ok(Some(Outcome::Done));
        }
        let into = frame.target.get()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = self.create(into, name, || {
            rustix::fs::openat(into, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        self.data.copy(source.as_fd(), target.as_fd(), &meta)?;
        let from = Xattrs::Of(Node::Open(source.as_fd()));
        self.copied.skipped_xattrs += attributes::apply_open(from, &target, &self.owned(meta))?;
        self.copied.bytes += meta.size;
        self.links.remember(&meta, &frame.place, name);
        Ok(Some(Outcome::Done))
    }

    /// Copies a symbolic link, device node, FIFO or socket.
    fn node(
        &mut self,
        frame: &Frame,
        name: &CStr,
        kind: FileType,
    ) -> Result<Option<Outcome>, Fault> {
        let source = frame.source.get()?;
        let meta = match Meta::at(source, name) {
            Ok(meta) if meta.kind == kind => meta,
            Ok(_) => return Ok(None),
            Err(errno) => return changed_or_gone(errno),
        };
        if self.linked(frame, name, &meta)? {
            return Ok(Some(Outcome::Done));
        }
        let target = frame.target.get()?;
        if kind == FileType::Symlink {
            let text = match rustix::fs::readlinkat(source, name, Vec::new()) {
                Ok(text) => text,
                Err(Errno::INVAL) => return Ok(None),
                Err(errno) => return changed_or_gone(errno),
            };
            self.create(target, name, || rustix::fs::symlinkat(&text, target, name))?;
        } else {
            let mode = Mode::RUSR | Mode::WUSR;
            let device = if is_device(kind) { meta.device } else { 0 };
            self.create(target, name, || {
                rustix::fs::mknodat(target, name, kind, mode, device as _)
            })?;
        }
        let from = Xattrs::Of(Node::Entry(source, name));
        self.copied.skipped_xattrs +=
            attributes::apply_entry(from, target, name, &self.owned(meta))?;
        self.links.remember(&meta, &frame.place, name);
        Ok(Some(Outcome::Done))
    }

    /// Makes a hard link to an earlier copy of the same inode, if there was one.
    fn linked(&mut self, frame: &Frame, name: &CStr, meta: &Meta) -> Result<bool, Fault> {
        if meta.links < 2 {
            return Ok(false);
        }
        let target = frame.target.get()?;
        let Some(site) = self.links.find(meta.id, &frame.place)? else {
            return Ok(false);
        };
        let from = site.dir.as_ref().map_or(target, AsFd::as_fd);
        let link = || rustix::fs::linkat(from, &site.name, target, name, AtFlags::empty());
        match self.create(target, name, link) {
            Ok(()) => {
                self.links.used(meta.id);
                Ok(true)
            }
            // Too many links for this file system, or the first copy went away: copy it again.
            Err(Fault {
                errno: Errno::MLINK | Errno::NOENT | Errno::OPNOTSUPP,
                ..
            }) => Ok(false),
            Err(fault) => Err(Fault {
                step: Step::Linking,
                ..fault
            }),
        }
    }

    /// Creates an entry that isn't a directory, in place of one that may be replaced.
    fn create<T>(
        &self,
        target: BorrowedFd<'_>,
        name: &CStr,
        make: impl FnMut() -> rustix::io::Result<T>,
    ) -> Result<T, Fault> {
        let in_the_way = Fault {
            step: Step::Creating,
            errno: Errno::EXIST,
        };
        self.create_unless_directory(target, name, make)?
            .ok_or(in_the_way)
    }

    /// Creates an entry; `None` when a directory is there that stays.
    fn create_unless_directory<T>(
        &self,
        target: BorrowedFd<'_>,
        name: &CStr,
        mut make: impl FnMut() -> rustix::io::Result<T>,
    ) -> Result<Option<T>, Fault> {
        match make() {
            Err(Errno::EXIST) if self.options.existing == Existing::Merge => {}
            made => return made.map(Some).step(Step::Creating),
        }
        if Meta::at(target, name).step(Step::Reading)?.is_dir() {
            return Ok(None);
        }
        rustix::fs::unlinkat(target, name, AtFlags::empty()).step(Step::Removing)?;
        make().map(Some).step(Step::Creating)
    }
}

fn is_device(kind: FileType) -> bool {
    matches!(kind, FileType::BlockDevice | FileType::CharacterDevice)
}

/// Tells an entry that went away (left out) or changed its type (looked at again) from a failure.
fn changed_or_gone(errno: Errno) -> Result<Option<Outcome>, Fault> {
    match errno {
        Errno::NOENT => Ok(Some(Outcome::Vanished)),
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NODEV | Errno::MLINK => Ok(None),
        errno => Err(Fault {
            step: Step::Opening,
            errno,
        }),
    }
}

/// Closes the directory that is now too far up to stay open. The root stays open.
fn close_far_up(stack: &mut [Frame]) {
    let Some(index) = stack.len().checked_sub(OPEN_LEVELS) else {
        return;
    };
    if let Some(frame) = stack.get_mut(index).filter(|_| index > 0) {
        frame.source.fd = None;
        frame.target.fd = None;
    }
}

/// Opens a directory that was closed on the way down, by way of its child.
fn reopen_side(side: &mut Side, child: &Side, place: &Place) -> Result<(), TreeError> {
    if side.fd.is_some() {
        return Ok(());
    }
    let parent = child
        .get()
        .and_then(|child| sys::reopen_parent(child, side.id).step(Step::Opening))
        .map_err(|fault| fault.at(place.path()))?;
    match parent {
        Some(parent) => side.fd = Some(parent),
        None => {
            return Err(TreeError::Changed {
                step: Step::Reading,
                path: place.path(),
            });
        }
    }
    Ok(())
}
