//! Creates an archive's entries beneath the root.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec};
use rustix::io::Errno;

use super::archive::{Archive, Kind, Member, Piece, hostile, shown};
use super::layer::{self, Added, Meaning};
use super::{UnpackOptions, Unpacked};
use crate::attributes::{self, Xattrs};
use crate::data::write_all_at;
use crate::error::{Fault, InStep, Step, TreeError};
use crate::flags;
use crate::meta::{Id, Meta, Times};
use crate::remove::{remove_contents_unless, remove_tree, remove_unless};
use crate::resolve::{Open, create_dirs_in_root, open_in_root};
use crate::sys;

const CHUNK: usize = 128 * 1024;

/// Directories whose times and file flags are kept for the end. Beyond that, those so far are set
/// early, and entries that come to them later change the times again.
const MAX_PENDING: usize = 1 << 18;

/// Parents that the archive doesn't have.
const PARENT_MODE: u32 = 0o755;

/// The longest name of a file, and the length that paths have to stay below, in bytes: limits.h of
/// Linux. FreeBSD's paths have to stay below 1024, which the kernel says then.
const NAME_MAX: usize = 255;
const PATH_MAX: usize = 4096;

pub(super) struct Writer<'a> {
    root: OwnedFd,
    options: &'a UnpackOptions,
    done: Unpacked,
    /// The directory that the last entry went to: the next one mostly goes there, too.
    last_parent: Option<Parent>,
    pending: Vec<Pending>,
    buffer: Vec<u8>,
    /// What the archive has added so far, when it is a layer.
    added: Option<Added>,
}

/// A directory that entries go to.
struct Parent {
    path: PathBuf,
    dir: OwnedFd,
    /// Known once something has been created in it: before that, it may be a lower layer's.
    id: Option<Id>,
}

/// A directory that gets its times and file flags at the end, when nothing in it changes any more.
struct Pending {
    path: PathBuf,
    id: Id,
    times: Times,
    flags: u32,
}

/// An entry's place: the open directory, and the name in it.
struct Slot<'s> {
    dir: BorrowedFd<'s>,
    name: &'s CStr,
    /// Directories are replaced with all that is in them.
    replace_all: bool,
}

fn is_device(member: &Member) -> bool {
    matches!(member.kind, Kind::CharacterDevice | Kind::BlockDevice)
}

impl<'a> Writer<'a> {
    pub fn new(
        root: BorrowedFd<'_>,
        options: &'a UnpackOptions,
        is_layer: bool,
    ) -> Result<Self, TreeError> {
        let root = sys::reopen(root)
            .step(Step::Opening)
            .map_err(|fault| fault.at("."))?;
        Ok(Self {
            root,
            options,
            done: Unpacked::default(),
            last_parent: None,
            pending: Vec::new(),
            buffer: Vec::new(),
            added: is_layer.then(Added::default),
        })
    }

    /// Does what one entry of a layer says; `dropped` of its attributes were left out.
    pub fn write_layers(
        &mut self,
        archive: &mut Archive<'_>,
        member: Member,
        dropped: u64,
    ) -> Result<(), TreeError> {
        self.done.skipped_xattrs += dropped;
        let path = clean(&member.name).map_err(|reason| hostile(&member.name, reason))?;
        let meaning = layer::meaning(&path, &member)?;
        if matches!(meaning, Meaning::Entry) {
            return self.write(archive, member);
        }
        self.check(&member)?;
        self.done.entries += 1;
        archive.skip_content(member.stored)?;
        self.last_parent = None;
        match meaning {
            Meaning::Whiteout(path) => self.hide(&path),
            Meaning::Opaque(path) => self.hide_contents(&path),
            Meaning::Entry | Meaning::Nothing => Ok(()),
        }
    }

    /// Removes an entry, but for what this layer has added.
    fn hide(&mut self, path: &Path) -> Result<(), TreeError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let (Some(name), Some(dir)) = (
            path.file_name().and_then(sys::c_name),
            self.existing(parent)?,
        ) else {
            return Ok(());
        };
        let added = self.added.get_or_insert_default();
        remove_unless(dir.as_fd(), &name, path, &|id, name| {
            added.contains(id, name)
        })
    }

    /// Removes what is in a directory, but for what this layer has added.
    fn hide_contents(&mut self, path: &Path) -> Result<(), TreeError> {
        let Some(dir) = self.existing(path)? else {
            return Ok(());
        };
        let added = self.added.get_or_insert_default();
        remove_contents_unless(dir, path, &|id, name| added.contains(id, name))
    }

    /// A directory, if there is one.
    fn existing(&self, path: &Path) -> Result<Option<OwnedFd>, TreeError> {
        match open_in_root(self.root.as_fd(), path, Open::Directory) {
            Ok(dir) => Ok(Some(dir)),
            Err(error @ TreeError::Io { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Creates one entry and reads its content.
    pub fn write(&mut self, archive: &mut Archive<'_>, member: Member) -> Result<(), TreeError> {
        self.check(&member)?;
        let path = clean(&member.name).map_err(|reason| hostile(&member.name, reason))?;
        self.done.entries += 1;
        if is_device(&member) && !self.options.devices {
            self.done.skipped_devices += 1;
            if let Some(added) = &mut self.added {
                added.insert_device(&path);
                // What lower layers have there is something else.
                self.last_parent = None;
                return self.hide(&path);
            }
            return Ok(());
        }
        let Some(name) = path.file_name().and_then(sys::c_name) else {
            return self.write_root(&member);
        };
        let mut parent = self.parent(&path, &member)?;
        let slot = Slot {
            dir: parent.dir.as_fd(),
            name: &name,
            replace_all: self.added.is_some(),
        };
        let result = match member.kind {
            Kind::File => self.file(archive, &member, &slot),
            Kind::Directory => self.directory(&member, &slot, &path),
            Kind::HardLink => self.hard_link(&member, &slot),
            Kind::Symlink => self.symlink(&member, &slot),
            Kind::Fifo => self.node(&member, &slot, FileType::Fifo),
            Kind::CharacterDevice => self.node(&member, &slot, FileType::CharacterDevice),
            Kind::BlockDevice => self.node(&member, &slot, FileType::BlockDevice),
        };
        result.map_err(|error| error.at(&path))?;
        self.remember(&mut parent, &name)
            .map_err(|fault| fault.at(&path))?;
        // A link, new or replaced, can make the same path mean another directory from now on; a hard
        // link may be one to a symbolic link.
        let may_redirect = matches!(member.kind, Kind::Symlink | Kind::HardLink);
        if !may_redirect && self.last_parent.is_none() {
            self.last_parent = Some(parent);
        }
        Ok(())
    }

    /// Notes that a layer has added an entry.
    fn remember(&mut self, parent: &mut Parent, name: &CStr) -> Result<(), Fault> {
        let Some(added) = &mut self.added else {
            return Ok(());
        };
        let id = match parent.id {
            Some(id) => id,
            None => Meta::of(&parent.dir).step(Step::Reading)?.id,
        };
        parent.id = Some(id);
        added.insert(id, name);
        Ok(())
    }

    /// Sets the times and file flags of all directories.
    pub fn finish(mut self) -> Result<Unpacked, TreeError> {
        self.set_pending()?;
        Ok(self.done)
    }

    /// Checks an entry against the limits.
    fn check(&mut self, member: &Member) -> Result<(), TreeError> {
        let over = |limit: Option<u64>, value: u64| limit.is_some_and(|limit| value > limit);
        let refuse = |reason: String| Err(hostile(&member.name, reason));
        self.done.bytes = self.done.bytes.saturating_add(member.stored);
        if over(self.options.max_entries, self.done.entries + 1) {
            return refuse("there are more entries than allowed".to_owned());
        }
        if over(self.options.max_bytes, self.done.bytes) {
            return refuse("there are more data than allowed".to_owned());
        }
        if over(self.options.max_apparent, member.size) {
            return refuse(format!(
                "a file of {} bytes is larger than allowed",
                member.size
            ));
        }
        if member.size.saturating_sub(member.stored) > self.options.max_holes {
            let (size, stored) = (member.size, member.stored);
            return refuse(format!("it claims {size} bytes, but stores {stored}"));
        }
        if is_device(member) && !self.options.devices && !self.options.skip_devices {
            return refuse("device nodes aren't allowed here".to_owned());
        }
        // Overlay file systems take orders from these.
        let orders = |name: &CStr| name.to_bytes().starts_with(b"trusted.overlay.");
        if member.xattrs.iter().any(|(name, _)| orders(name)) {
            return refuse("it has attributes of an overlay file system".to_owned());
        }
        Ok(())
    }

    /// The directory that the entry goes to, made if need be.
    fn parent(&mut self, path: &Path, member: &Member) -> Result<Parent, TreeError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some(last) = self.last_parent.take().filter(|last| last.path == parent) {
            return Ok(last);
        }
        let made = create_dirs_in_root(self.root.as_fd(), parent, PARENT_MODE);
        let dir = made.map_err(|error| match error {
            TreeError::NotADirectory { .. } => hostile(
                &member.name,
                "something that isn't a directory is on its way",
            ),
            TreeError::LoopedLinks { .. } => hostile(&member.name, "links go round in circles"),
            other => other,
        })?;
        Ok(Parent {
            path: parent.to_owned(),
            dir,
            id: None,
        })
    }

    /// The entry `./`: the root's own attributes.
    fn write_root(&mut self, member: &Member) -> Result<(), TreeError> {
        if member.kind != Kind::Directory {
            return Err(hostile(&member.name, "it would replace the root"));
        }
        let root = self.root.try_clone().map_err(|source| TreeError::Io {
            step: Step::Opening,
            path: PathBuf::from("."),
            source,
        })?;
        self.finish_directory(member, &root, PathBuf::new())
            .map_err(|fault| fault.at("."))
    }

    fn directory(&mut self, member: &Member, slot: &Slot<'_>, path: &Path) -> Result<(), Failure> {
        let make = || rustix::fs::mkdirat(slot.dir, slot.name, Mode::RWXU);
        match flags::inside(slot.dir, make) {
            Err(Errno::EXIST) if !slot.replace_all && self.is_link_to_directory(slot, path)? => {
                return Ok(());
            }
            Err(Errno::EXIST) if Meta::at(slot.dir, slot.name).step(Step::Reading)?.is_dir() => {}
            Err(Errno::EXIST) => {
                remove_leaf(slot)?;
                flags::inside(slot.dir, make).step(Step::Creating)?;
            }
            other => other.step(Step::Creating)?,
        }
        let dir = sys::open_dir(slot.dir, slot.name).step(Step::Opening)?;
        Ok(self.finish_directory(member, &dir, path.to_owned())?)
    }

    fn is_link_to_directory(&self, slot: &Slot<'_>, path: &Path) -> Result<bool, Failure> {
        if Meta::at(slot.dir, slot.name).step(Step::Reading)?.kind != FileType::Symlink {
            return Ok(false);
        }
        match open_in_root(self.root.as_fd(), path, Open::Directory) {
            Ok(_) => Ok(true),
            Err(TreeError::Io { step, path, source }) => {
                Err(Failure::Whole(TreeError::Io { step, path, source }))
            }
            Err(_) => Ok(false),
        }
    }

    fn finish_directory(
        &mut self,
        member: &Member,
        dir: &OwnedFd,
        path: PathBuf,
    ) -> Result<(), Fault> {
        let meta = Meta {
            flags: 0,
            ..self.meta(member, FileType::Directory)
        };
        if self.added.is_some() {
            // It may be a lower layer's.
            attributes::remove_others(dir, &member.xattrs)?;
        }
        self.done.skipped_xattrs +=
            attributes::apply_open(Xattrs::Given(&member.xattrs), dir, &meta)?;
        let id = Meta::of(dir).step(Step::Reading)?.id;
        self.pending.push(Pending {
            path,
            id,
            times: meta.times,
            flags: member.flags,
        });
        if self.pending.len() >= MAX_PENDING {
            // The times are no reason to fail here: the end will report what is wrong.
            let _ = self.set_pending();
        }
        Ok(())
    }

    fn file(
        &mut self,
        archive: &mut Archive<'_>,
        member: &Member,
        slot: &Slot<'_>,
    ) -> Result<(), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = create(slot, || {
            rustix::fs::openat(slot.dir, slot.name, flags, mode)
        })?;
        let whole = [Piece {
            offset: 0,
            length: member.stored,
        }];
        let pieces = member.pieces.as_deref().unwrap_or(&whole);
        for piece in pieces {
            self.piece(archive, file.as_fd(), *piece)?;
        }
        if member.pieces.is_some() {
            rustix::fs::ftruncate(&file, member.size).step(Step::Writing)?;
        }
        let meta = self.meta(member, FileType::RegularFile);
        self.done.skipped_xattrs +=
            attributes::apply_open(Xattrs::Given(&member.xattrs), &file, &meta)?;
        Ok(())
    }

    fn piece(
        &mut self,
        archive: &mut Archive<'_>,
        file: BorrowedFd<'_>,
        piece: Piece,
    ) -> Result<(), Failure> {
        self.buffer.resize(CHUNK, 0);
        let Piece {
            mut offset,
            mut length,
        } = piece;
        while length > 0 {
            let wanted = usize::try_from(length).map_or(CHUNK, |length| length.min(CHUNK));
            let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
            let read = archive.read_content(buffer)?;
            write_all_at(file, buffer.get(..read).unwrap_or_default(), offset)?;
            offset += read as u64;
            length -= read as u64;
        }
        Ok(())
    }

    fn symlink(&mut self, member: &Member, slot: &Slot<'_>) -> Result<(), Failure> {
        if member.link.is_empty() {
            return Err(Failure::Whole(hostile(&member.name, "a link to nothing")));
        }
        let text = OsStr::from_bytes(&member.link);
        create(slot, || rustix::fs::symlinkat(text, slot.dir, slot.name))?;
        self.finish_node(member, slot, FileType::Symlink)
    }

    fn node(&mut self, member: &Member, slot: &Slot<'_>, kind: FileType) -> Result<(), Failure> {
        let (major, minor) = member.device;
        let device = match kind {
            FileType::Fifo => 0,
            _ => rustix::fs::makedev(major, minor),
        };
        let mode = Mode::RUSR | Mode::WUSR;
        let made = create(slot, || {
            rustix::fs::mknodat(slot.dir, slot.name, kind, mode, device)
        });
        match made {
            Err(Failure::Part(fault)) if sys::cannot_make(kind, fault.errno) => {
                self.done.skipped_devices += 1;
                Ok(())
            }
            made => {
                made?;
                self.finish_node(member, slot, kind)
            }
        }
    }

    fn finish_node(
        &mut self,
        member: &Member,
        slot: &Slot<'_>,
        kind: FileType,
    ) -> Result<(), Failure> {
        let meta = self.meta(member, kind);
        let xattrs = Xattrs::Given(&member.xattrs);
        self.done.skipped_xattrs += attributes::apply_entry(xattrs, slot.dir, slot.name, &meta)?;
        Ok(())
    }

    /// Links to an entry that is there already, by whatever archive it came.
    fn hard_link(&mut self, member: &Member, slot: &Slot<'_>) -> Result<(), Failure> {
        let refuse = |reason: &str| Failure::Whole(hostile(&member.name, reason));
        let target = clean(&member.link)
            .map_err(|reason| refuse(&format!("its target {:?}: {reason}", shown(&member.link))))?;
        let Some(name) = target.file_name().and_then(sys::c_name) else {
            return Err(refuse("a hard link to the root"));
        };
        let parent = target.parent().unwrap_or(Path::new(""));
        if self
            .added
            .as_ref()
            .is_some_and(|added| added.is_device(&target))
        {
            self.done.skipped_devices += 1;
            return Ok(());
        }
        let missing = || refuse("a hard link to something that doesn't exist");
        let dir = match open_in_root(self.root.as_fd(), parent, Open::Directory) {
            Ok(dir) => dir,
            Err(error @ TreeError::Io { .. }) => return Err(Failure::Whole(error)),
            Err(_) => return Err(missing()),
        };
        let meta = match Meta::at(dir.as_fd(), &name) {
            Err(Errno::NOENT) => return Err(missing()),
            meta => meta.step(Step::Reading)?,
        };
        if meta.is_dir() {
            return Err(refuse("a hard link to a directory"));
        }
        let there = Meta::at(slot.dir, slot.name);
        if there.is_ok_and(|there| there.id == meta.id) {
            return Ok(());
        }
        create(slot, || {
            flags::link(dir.as_fd(), &name, slot.dir, slot.name)
        })?;
        Ok(())
    }

    fn meta(&self, member: &Member, kind: FileType) -> Meta {
        let time = |(seconds, nanoseconds): (i64, u32)| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds.into(),
        };
        let mtime = time(member.mtime);
        let (uid, gid) = self.options.owner.unwrap_or((member.uid, member.gid));
        Meta {
            kind,
            mode: crate::resolve::mode_of(member.mode),
            uid,
            gid,
            flags: member.flags,
            size: member.size,
            times: Times {
                atime: member.atime.map_or(mtime, time),
                mtime,
            },
            ..Meta::nothing()
        }
    }

    /// Sets what was left for the end: all times first, since a directory may be in the list twice.
    fn set_pending(&mut self) -> Result<(), TreeError> {
        let pending = std::mem::take(&mut self.pending);
        // The innermost come last in an archive; a directory's times don't change its parent's.
        for one in &pending {
            if let Some(dir) = self.still_there(one)? {
                attributes::set_times(&dir, one.times).map_err(|fault| fault.at(&one.path))?;
            }
        }
        for one in pending.iter().filter(|one| one.flags != 0) {
            if let Some(dir) = self.still_there(one)? {
                let skipped = flags::set(&dir, one.flags);
                self.done.skipped_xattrs += skipped.map_err(|fault| fault.at(&one.path))?;
            }
        }
        Ok(())
    }

    /// The directory, unless a later entry has replaced it.
    fn still_there(&self, pending: &Pending) -> Result<Option<OwnedFd>, TreeError> {
        match open_in_root(self.root.as_fd(), &pending.path, Open::Directory) {
            Ok(dir) if Meta::of(&dir).is_ok_and(|meta| meta.id == pending.id) => Ok(Some(dir)),
            Err(error @ TreeError::Io { .. }) => Err(error),
            Ok(_) | Err(_) => Ok(None),
        }
    }
}

/// What goes wrong with an entry: with its path still to be named, or complete.
enum Failure {
    Part(Fault),
    Whole(TreeError),
}

impl Failure {
    fn at(self, path: &Path) -> TreeError {
        match self {
            Self::Part(fault) => fault.at(path),
            Self::Whole(error) => error,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Part(fault)
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        Self::Whole(error)
    }
}

/// Creates an entry that isn't a directory, in place of what is there.
fn create<T>(
    slot: &Slot<'_>,
    mut make: impl FnMut() -> rustix::io::Result<T>,
) -> Result<T, Failure> {
    match flags::inside(slot.dir, &mut make) {
        Err(Errno::EXIST) => {
            remove_leaf(slot)?;
            Ok(flags::inside(slot.dir, make).step(Step::Creating)?)
        }
        other => Ok(other.step(Step::Creating)?),
    }
}

/// Removes what is in an entry's place: anything but a directory with entries, which only layers
/// replace.
fn remove_leaf(slot: &Slot<'_>) -> Result<(), Failure> {
    let is_dir = Meta::at(slot.dir, slot.name).step(Step::Reading)?.is_dir();
    let how = if is_dir {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    match flags::unlink(slot.dir, slot.name, how) {
        Err(fault) if fault.errno == Errno::NOTEMPTY && slot.replace_all => {
            Ok(remove_tree(slot.dir, sys::shown(slot.name)).map(drop)?)
        }
        Err(fault) if fault.errno == Errno::NOTEMPTY => {
            Err(Fault::new(Step::Creating, Errno::EXIST).into())
        }
        other => Ok(other?),
    }
}

/// The path of an entry beneath the root: `./` and doubled slashes are left out. The error says why
/// it is refused.
fn clean(name: &[u8]) -> Result<PathBuf, &'static str> {
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.starts_with(b"/") {
        return Err("an absolute path");
    }
    if name.contains(&0) {
        return Err("a NUL byte in its path");
    }
    if name.len() >= PATH_MAX {
        return Err("a path of 4096 bytes or more");
    }
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("a path with .. in it"),
            part if part.len() > NAME_MAX => return Err("a name of more than 255 bytes"),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}
