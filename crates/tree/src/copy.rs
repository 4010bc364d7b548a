//! Copies a tree into an open directory.
//!
//! One thread goes through the tree, makes directories, links and nodes, and copies files that have
//! several names. The contents of other files are most of the work: once there are many of them,
//! further threads (see `crew.rs`) copy those.

mod crew;
mod file;
mod flatten;
mod frame;
mod into;

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::vec;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use crate::attributes::{self, Node};
use crate::data::DataCopier;
use crate::error::{Fault, InStep, Step, TreeError};
use crate::filter::{Filter, keeps};
use crate::flags;
use crate::links::HardLinks;
use crate::meta::{Id, Meta};
use crate::place::Place;
use crate::populate::is_staging_name;
use crate::sys::{self, Entry};
use crew::{Closing, Crew, Folder, Job};
use file::{Settings, Source, Taking};
pub use flatten::flatten;
use frame::{Frame, close_far_up, reopen_side};
pub use into::{Archives, CopyFrom, CopyInto, copy_in};

/// Directories of the walk that stay open on each side. Those further up are closed, and opened
/// again through `..` when the walk comes back.
const OPEN_LEVELS: usize = 64;

/// Files that are copied before others are asked to help: starting threads for fewer isn't worth it.
const ALONE: u64 = 256;

/// Files that are handed over at once.
const BATCH: usize = 8;

/// How often an entry that changes its type under the walk is tried again.
const TRIES: usize = 4;

/// How much was copied.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Entries created: files, directories, links and nodes; not the root itself.
    pub entries: u64,
    /// The sizes of the regular files, hard-linked ones once, holes included.
    pub bytes: u64,
    /// Extended attributes that the target's file system can't hold, and entries whose file flags it
    /// can't.
    pub skipped_xattrs: u64,
    /// Device nodes and sockets that [`copy_in`] has left out, or that the system can't make: FreeBSD
    /// makes no sockets, and device nodes not everywhere.
    pub skipped: u64,
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
    /// As [`Existing::Merge`], but a directory replaces nothing: that fails in the same way.
    Alike,
}

impl Copied {
    fn add(&mut self, more: Self) {
        self.entries += more.entries;
        self.bytes += more.bytes;
        self.skipped_xattrs += more.skipped_xattrs;
        self.skipped += more.skipped;
    }
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
    /// Called again and again with the sum so far, after each entry as long as one thread copies;
    /// `Break` ends the copy with [`TreeError::Cancelled`] and leaves what was copied.
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
/// ACLs and capabilities, file flags, hard links within the tree, symbolic links as links, holes, device
/// nodes, FIFOs and sockets (but see [`Copied::skipped`]). What is mounted inside the source is copied too.
///
/// The source may change meanwhile: entries that vanish are left out. Staging directories of an
/// unfinished [`populate`](crate::populate()) in the source's root aren't copied.
///
/// Of a large tree several files are copied at the same time, by as many threads as there are
/// processors, and at most four.
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
    let settings = Settings {
        existing: options.existing,
        owner: options.owner,
        mode: None,
        taking: Taking::All,
    };
    with_crew(settings, None, options.progress, target.as_fd(), |copier| {
        attributes::clear_default_acl(target.as_fd()).map_err(at_root)?;
        let target = sys::reopen(target.as_fd()).step(Step::Opening);
        let root = Frame::open(
            source,
            target.map_err(at_root)?,
            Folder::new(Place::root(), None),
            options.own_attributes,
        );
        let mut root = root.map_err(at_root)?;
        root.leave_out(is_staging_name);
        copier.walk(root)
    })
}

/// Copies with threads that help. `target` is the directory that everything goes to.
fn with_crew(
    settings: Settings,
    filter: Option<Filter<'_>>,
    progress: Option<Progress<'_>>,
    target: BorrowedFd<'_>,
    work: impl FnOnce(&mut Copier<'_>) -> Result<(), TreeError>,
) -> Result<Copied, TreeError> {
    let at_root = |fault: Fault| fault.at(".");
    let links_root = sys::reopen(target).step(Step::Opening).map_err(at_root)?;
    let crew = Crew::new(settings);
    thread::scope(|scope| {
        let _ends = crew.ends();
        let mut copier = Copier {
            progress,
            settings,
            filter,
            copied: Copied::default(),
            data: DataCopier::new(),
            links: HardLinks::new(links_root),
            target_id: Meta::of(target).step(Step::Reading).map_err(at_root)?.id,
            crew: &crew,
            hire: &|| crew.hire(scope),
            hired: false,
            files: 0,
        };
        work(&mut copier)?;
        copier.barrier()?;
        Ok(copier.copied)
    })
}

/// A directory on both sides, and where it is.
#[derive(Clone, Copy)]
struct Here<'d> {
    source: BorrowedFd<'d>,
    target: BorrowedFd<'d>,
    place: &'d Arc<Place>,
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
    progress: Option<Progress<'o>>,
    settings: Settings,
    /// What is left out, in frames that know their paths.
    filter: Option<Filter<'o>>,
    copied: Copied,
    data: DataCopier,
    links: HardLinks,
    target_id: Id,
    crew: &'o Crew,
    /// Starts the threads that help, and tells whether there are any.
    hire: &'o dyn Fn() -> bool,
    hired: bool,
    /// Files that were met.
    files: u64,
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
            if let (Some(filter), Some(at)) = (self.filter, &frame.folder.path_of(&entry.name)) {
                let source = frame.source.get().map_err(|fault| fault.at(at))?;
                if !keeps(filter, source, &entry.name, entry.kind, at)? {
                    continue;
                }
            }
            if entry.kind == FileType::RegularFile && self.others_help() {
                frame.batch.push(entry);
                if frame.batch.len() >= BATCH {
                    self.hand_over(frame)?;
                }
                continue;
            }
            let failed = |fault: Fault| fault.at(frame.place().path());
            let outcome = self.entry(frame.here().map_err(failed)?, &entry)?;
            if matches!(outcome, Outcome::Vanished) {
                continue;
            }
            self.copied.entries += 1;
            self.report()?;
            if let Outcome::Entered(source, target) = outcome {
                let next = Self::enter(source, target, &frame.folder, &entry)?;
                stack.push(next);
                close_far_up(&mut stack);
            }
        }
        Ok(())
    }

    fn enter(
        source: OwnedFd,
        target: OwnedFd,
        parent: &Folder,
        entry: &Entry,
    ) -> Result<Frame, TreeError> {
        let folder = parent.child(&entry.name);
        let place = Arc::clone(&folder.place);
        Frame::open(source, target, folder, true).map_err(|fault| fault.at(place.path()))
    }

    /// Whether the next file is for the crew, which is hired when there are many files.
    fn others_help(&mut self) -> bool {
        self.files += 1;
        if self.files == ALONE {
            self.hired = (self.hire)();
        }
        self.hired
    }

    /// Gives a frame's files to the crew, and does what the crew gives back.
    fn hand_over(&mut self, frame: &mut Frame) -> Result<(), TreeError> {
        if !self.hired {
            return Ok(());
        }
        let job = frame
            .take_batch()
            .map_err(|fault| fault.at(frame.place().path()))?;
        if let Some(job) = job {
            self.crew.submit(job, &mut self.data);
        }
        self.settle()
    }

    /// Does what the crew leaves to this thread, and takes its results.
    fn settle(&mut self) -> Result<(), TreeError> {
        while let Some(job) = self.crew.handed_back() {
            self.handed_back(job)?;
        }
        self.copied.add(self.crew.take_done()?);
        self.report()
    }

    fn handed_back(&mut self, job: Job) -> Result<(), TreeError> {
        for entry in &job.entries {
            let here = Here {
                source: job.source.as_fd(),
                target: job.target.as_fd(),
                place: &job.folder.place,
            };
            match self.entry(here, entry)? {
                Outcome::Vanished => {}
                Outcome::Done => self.copied.entries += 1,
                Outcome::Entered(source, target) => {
                    self.copied.entries += 1;
                    let frame = Self::enter(source, target, &job.folder, entry)?;
                    self.walk(frame)?;
                }
            }
        }
        self.copied.skipped_xattrs += job.finish(self.settings)?;
        Ok(())
    }

    /// Waits until everything is copied, and helps with it.
    fn barrier(&mut self) -> Result<(), TreeError> {
        loop {
            self.settle()?;
            if !self.crew.help(&mut self.data) {
                return self.settle();
            }
        }
    }

    fn report(&self) -> Result<(), TreeError> {
        match self.progress.map(|progress| progress(&self.copied)) {
            Some(ControlFlow::Break(())) => Err(TreeError::Cancelled),
            _ => Ok(()),
        }
    }

    /// Finishes the innermost directory: its own attributes come after its entries, which would
    /// change its times.
    fn leave(&mut self, stack: &mut Vec<Frame>) -> Result<(), TreeError> {
        let Some(mut frame) = stack.pop() else {
            return Ok(());
        };
        self.hand_over(&mut frame)?;
        if let Some(parent) = stack.last_mut() {
            let folder = Arc::clone(&parent.folder);
            reopen_side(&mut parent.source, &frame.source, &folder.place)?;
            reopen_side(&mut parent.target, &frame.target, &folder.place)?;
        }
        if !frame.own_attributes {
            return Ok(());
        }
        let closing = |frame: &Frame| {
            Ok(Closing {
                source: Arc::clone(frame.source.share()?),
                target: Arc::clone(frame.target.share()?),
                meta: frame.meta,
            })
        };
        let skipped = closing(&frame)
            .and_then(|closing| frame.folder.close(closing, self.settings))
            .map_err(|fault| fault.at(frame.place().path()))?;
        self.copied.skipped_xattrs += skipped;
        Ok(())
    }

    /// Copies one entry. One that turns out to be of another type than it was is looked at again.
    fn entry(&mut self, here: Here<'_>, entry: &Entry) -> Result<Outcome, TreeError> {
        let failed = |fault: Fault| fault.at(here.place.join(&entry.name));
        let mut kind = entry.kind;
        for _ in 0..TRIES {
            if kind == FileType::Unknown {
                match Meta::at(here.source, &entry.name) {
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
            match self.of_kind(here, &entry.name, kind) {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => kind = FileType::Unknown,
                Err(fault) => return Err(failed(fault)),
            }
        }
        Err(TreeError::Changed {
            step: Step::Reading,
            path: here.place.join(&entry.name),
        })
    }

    /// `Ok(None)` when the entry isn't of this type any more.
    fn of_kind(
        &mut self,
        here: Here<'_>,
        name: &CStr,
        kind: FileType,
    ) -> Result<Option<Outcome>, Fault> {
        match kind {
            FileType::Directory => self.directory(here, name),
            FileType::RegularFile => self.regular(here, name),
            _ => self.node(here, name, kind),
        }
    }

    fn directory(&mut self, here: Here<'_>, name: &CStr) -> Result<Option<Outcome>, Fault> {
        let source = match sys::open_dir(here.source, name) {
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
        let target = here.target;
        let made = self.settings.create_directory(target, name)?;
        let target = sys::open_dir(target, name).step(Step::Creating)?;
        if made.is_none() {
            attributes::clear_default_acl(target.as_fd())?;
        }
        Ok(Some(Outcome::Entered(source, target)))
    }

    fn regular(&mut self, here: Here<'_>, name: &CStr) -> Result<Option<Outcome>, Fault> {
        let (source, meta) = match file::open(here.source, name)? {
            Source::File(source, meta) => (source, meta),
            Source::Vanished => return Ok(Some(Outcome::Vanished)),
            Source::Changed => return Ok(None),
        };
        if self.linked(here, name, &meta)? {
            return Ok(Some(Outcome::Done));
        }
        self.copied.skipped_xattrs +=
            self.settings
                .copy(&mut self.data, &source, &meta, here.target, name)?;
        self.copied.bytes += meta.size;
        self.links.remember(&meta, here.place, name);
        Ok(Some(Outcome::Done))
    }

    /// Copies a symbolic link, device node, FIFO or socket.
    fn node(
        &mut self,
        here: Here<'_>,
        name: &CStr,
        kind: FileType,
    ) -> Result<Option<Outcome>, Fault> {
        let source = here.source;
        let meta = match Meta::at(source, name) {
            Ok(meta) if meta.kind == kind => meta,
            Ok(_) => return Ok(None),
            Err(errno) => return changed_or_gone(errno),
        };
        if self.settings.leaves_out(kind) {
            self.copied.skipped += 1;
            return Ok(Some(Outcome::Vanished));
        }
        if self.linked(here, name, &meta)? {
            return Ok(Some(Outcome::Done));
        }
        let target = here.target;
        if kind == FileType::Symlink {
            let text = match rustix::fs::readlinkat(source, name, Vec::new()) {
                Ok(text) => text,
                Err(Errno::INVAL) => return Ok(None),
                Err(errno) => return changed_or_gone(errno),
            };
            self.settings
                .create(target, name, || rustix::fs::symlinkat(&text, target, name))?;
        } else {
            let mode = Mode::RUSR | Mode::WUSR;
            let device = if is_device(kind) { meta.device } else { 0 };
            let made = self.settings.create(target, name, || {
                rustix::fs::mknodat(target, name, kind, mode, device as _)
            });
            match made {
                Err(fault) if sys::cannot_make(kind, fault.errno) => {
                    self.copied.skipped += 1;
                    return Ok(Some(Outcome::Vanished));
                }
                made => made?,
            }
        }
        let from = self.settings.xattrs(Node::Entry(source, name));
        self.copied.skipped_xattrs +=
            attributes::apply_entry(from, target, name, &self.settings.owned(meta))?;
        self.links.remember(&meta, here.place, name);
        Ok(Some(Outcome::Done))
    }

    /// Makes a hard link to an earlier copy of the same inode, if there was one.
    fn linked(&mut self, here: Here<'_>, name: &CStr, meta: &Meta) -> Result<bool, Fault> {
        if meta.links < 2 {
            return Ok(false);
        }
        let target = here.target;
        let Some(site) = self.links.find(meta.id, here.place)? else {
            return Ok(false);
        };
        let from = site.dir.as_ref().map_or(target, AsFd::as_fd);
        let link = || flags::link(from, &site.name, target, name);
        match self.settings.create(target, name, link) {
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
}

fn is_device(kind: FileType) -> bool {
    matches!(kind, FileType::BlockDevice | FileType::CharacterDevice)
}

/// Tells an entry that went away (left out) or changed its type (looked at again) from a failure.
fn changed_or_gone(errno: Errno) -> Result<Option<Outcome>, Fault> {
    match errno {
        Errno::NOENT => Ok(Some(Outcome::Vanished)),
        errno if file::is_another_type(errno) => Ok(None),
        errno => Err(Fault::new(Step::Opening, errno)),
    }
}
