//! Copies one regular file, and creates entries: what needs no knowledge of the walk.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Existing;
use crate::attributes::{self, Node, Xattrs};
use crate::data::DataCopier;
use crate::error::{Fault, InStep, Step};
use crate::flags;
use crate::meta::Meta;

/// What all threads need of the options.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub existing: Existing,
    pub owner: Option<(u32, u32)>,
    /// The mode of everything but links.
    pub mode: Option<Mode>,
    pub taking: Taking,
}

/// What is copied of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    /// Everything.
    All,
    /// What a tree in a layer of an overlay shows: not the attributes that overlayfs keeps for itself.
    Shown,
    /// What belongs in an image: no device nodes, no sockets, and no attributes that overlayfs takes
    /// orders from.
    Tame,
}

/// What a file's name stands for.
pub(super) enum Source {
    File(OwnedFd, Meta),
    Vanished,
    /// It is no regular file any more.
    Changed,
}

/// Opens a regular file to be copied.
pub(super) fn open(dir: BorrowedFd<'_>, name: &CStr) -> Result<Source, Fault> {
    // NONBLOCK: a FIFO that has taken the file's place mustn't hold us up.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let source = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(source) => source,
        Err(Errno::NOENT) => return Ok(Source::Vanished),
        Err(errno) if is_another_type(errno) => return Ok(Source::Changed),
        Err(errno) => return Err(Fault::new(Step::Opening, errno)),
    };
    let meta = Meta::of(&source).step(Step::Reading)?;
    if meta.kind == FileType::RegularFile {
        Ok(Source::File(source, meta))
    } else {
        Ok(Source::Changed)
    }
}

/// Whether opening fails like this because the entry isn't of the expected type.
pub(super) fn is_another_type(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::NODEV | Errno::MLINK
    )
}

impl Settings {
    /// Copies an open file to a new entry. Gives the number of extended attributes that it can't have.
    pub fn copy(
        self,
        data: &mut DataCopier,
        source: &OwnedFd,
        meta: &Meta,
        into: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<u64, Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let target = self.create(into, name, || {
            rustix::fs::openat(into, name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        data.copy(source.as_fd(), target.as_fd(), meta)?;
        let from = self.xattrs(Node::Open(source.as_fd()));
        attributes::apply_open(from, &target, &self.owned(*meta))
    }

    /// The extended attributes that a copy gets.
    pub fn xattrs(self, of: Node<'_>) -> Xattrs<'_> {
        match self.taking {
            Taking::All => Xattrs::Of(of),
            Taking::Shown => Xattrs::ShownOf(of),
            Taking::Tame => Xattrs::TamedOf(of),
        }
    }

    /// Whether an entry of this type is left out.
    pub fn leaves_out(self, kind: FileType) -> bool {
        let wild = matches!(
            kind,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Socket
        );
        self.taking == Taking::Tame && wild
    }

    /// The attributes that a copy gets.
    pub fn owned(self, mut meta: Meta) -> Meta {
        if let Some((uid, gid)) = self.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        if let Some(mode) = self.mode {
            meta.mode = mode;
        }
        meta
    }

    /// Creates an entry that isn't a directory, in place of one that may be replaced.
    pub fn create<T>(
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

    /// Makes a directory; `None` when there is one.
    pub fn create_directory(
        &self,
        target: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<Option<()>, Fault> {
        let make = || rustix::fs::mkdirat(target, name, Mode::RWXU);
        if self.existing != Existing::Alike {
            return self.create_unless_directory(target, name, make);
        }
        match flags::inside(target, make) {
            Err(Errno::EXIST) if Meta::at(target, name).step(Step::Reading)?.is_dir() => Ok(None),
            made => made.map(Some).step(Step::Creating),
        }
    }

    /// Creates an entry; `None` when a directory is there that stays.
    pub fn create_unless_directory<T>(
        &self,
        target: BorrowedFd<'_>,
        name: &CStr,
        mut make: impl FnMut() -> rustix::io::Result<T>,
    ) -> Result<Option<T>, Fault> {
        match flags::inside(target, &mut make) {
            Err(Errno::EXIST) if self.existing != Existing::Refuse => {}
            made => return made.map(Some).step(Step::Creating),
        }
        if Meta::at(target, name).step(Step::Reading)?.is_dir() {
            return Ok(None);
        }
        flags::unlink(target, name, AtFlags::empty())?;
        flags::inside(target, make).map(Some).step(Step::Creating)
    }
}
