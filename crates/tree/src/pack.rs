//! Packs what is beneath an open directory as a tar archive (POSIX `pax` format).
//!
//! The tree may be a stranger's, and may change under the walk: nothing is followed, nothing but
//! regular files and directories is opened, and what was opened is looked at again.

mod choice;
mod content;
mod header;
mod layer;

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::vec;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::attributes::{self, Attributes, Node};
use crate::error::{Fault, InStep, Step, TreeError};
use crate::kernels::is_kernels;
use crate::meta::{Id, Meta};
use crate::sys::{self, Entry};
use choice::Pending;
pub use choice::{Choice, Chooser, PackOptions};
use content::{Content, Contents};
use header::{END, Head, Kind};
pub use layer::{LayerOf, pack_layer};

/// Directories of the walk that stay open; see the copy's constant of the same name.
const OPEN_LEVELS: usize = 64;

/// As much as is written at once: headers alone are small.
const BUFFER: usize = 64 << 10;

/// How often an entry that changes its type under the walk is tried again.
const TRIES: usize = 4;

/// How much was packed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file contents in the archive.
    pub bytes: u64,
    /// Sockets that were left out: archives have none.
    pub skipped_sockets: u64,
    /// Extended attributes that were left out: those of overlay file systems, those whose name has a
    /// `=`, and what is above 1 MiB for one entry.
    pub skipped_xattrs: u64,
    /// Files that had another size when they had been read than before. They were cut to the size
    /// that the archive had announced, or filled up with zeros.
    pub changed: u64,
    /// Entries that say that something is gone, in layers.
    pub whiteouts: u64,
}

/// Packs the entry `name` of the directory `parent`, with everything in it, to an uncompressed tar
/// stream with its end mark. `.` packs the directory itself. In the archive the entry is called
/// `as_name`, and what is in it begins with that; the entries of a directory are sorted.
///
/// Kept are owners by number, modes with set-id bits, modification times with fractions, extended
/// attributes with ACLs and capabilities (`SCHILY.xattr`), file flags (`SCHILY.fflags`), symbolic links as links, hard links
/// within the tree, holes (GNU's sparse format 1.0), device nodes and FIFOs. Device nodes that have
/// several names are packed once a name, since programs that leave them out couldn't link to them.
/// Names need not be UTF-8: they are written as they are. What is mounted inside is packed, too.
///
/// Entries that vanish meanwhile are left out. Directories of [the kernel's own](crate::is_kernels()) file
/// systems come out empty. Memory is needed for the names in the directories on
/// the way to the current entry, and for the first names of hard links.
///
/// # Errors
/// [`TreeError::NotFound`] when there is no such entry. [`TreeError::Io`] with [`Step::Writing`]
/// when the stream takes no more; others name the entry that failed, by its name in the archive.
pub fn pack_tar(
    parent: BorrowedFd<'_>,
    name: &Path,
    as_name: &Path,
    to: &mut dyn Write,
) -> Result<Packed, TreeError> {
    pack_chosen(parent, name, as_name, PackOptions::default(), to)
}

/// As [`pack_tar`], with options.
///
/// # Errors
/// As [`pack_tar`].
pub fn pack_chosen(
    parent: BorrowedFd<'_>,
    name: &Path,
    as_name: &Path,
    options: PackOptions<'_>,
    to: &mut dyn Write,
) -> Result<Packed, TreeError> {
    let mut buffered = BufWriter::with_capacity(BUFFER, to);
    let packed = pack(parent, name, as_name, options, &mut buffered);
    if packed.is_err() {
        // Nobody can use what hasn't been written yet.
        drop(buffered.into_parts());
    }
    packed
}

fn pack(
    parent: BorrowedFd<'_>,
    name: &Path,
    as_name: &Path,
    options: PackOptions<'_>,
    to: &mut dyn Write,
) -> Result<Packed, TreeError> {
    let mut packer = Packer {
        options,
        root: as_name.as_os_str().len(),
        ..Packer::new(to, as_name.as_os_str().as_bytes().to_vec())
    };
    let at_root = |fault: Fault| fault.at(as_name);
    let parent = sys::reopen(parent).step(Step::Opening).map_err(at_root)?;
    if name == Path::new(".") {
        let opened = packer.open_frame(parent, Choice::Take);
        let root = opened.map_err(|failure| packer.error(failure))?;
        packer.walk(root)?;
    } else {
        let name = sys::single_name(name).ok_or_else(|| TreeError::OutsideRoot {
            path: name.to_owned(),
        })?;
        match packer.entry(parent.as_fd(), &name, FileType::Unknown)? {
            Outcome::Done => {}
            Outcome::Vanished => {
                let path = as_name.to_owned();
                return Err(TreeError::NotFound { path });
            }
            Outcome::Entered(frame) => packer.walk(frame)?,
        }
    }
    packer.finish()
}

/// A directory that is being packed.
struct Frame {
    /// Closed while it is far up.
    fd: Option<OwnedFd>,
    id: Id,
    entries: vec::IntoIter<Entry>,
    /// Bytes of its path.
    length: usize,
}

/// What became of one entry.
enum Outcome {
    Done,
    /// It went away before it could be packed.
    Vanished,
    /// A directory was written; its entries come next.
    Entered(Frame),
}

/// A failed step, or one whose entry has turned out to be of another type than it was.
enum Failure {
    Fault(Fault),
    /// One that names its entry already.
    Whole(TreeError),
    /// The stream took no more.
    Stream(std::io::Error),
    Changed,
    Vanished,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        Self::Whole(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Stream(error)
    }
}

/// The first name of an inode that has several.
struct FirstName {
    name: Vec<u8>,
    names_left: u64,
}

struct Packer<'w, 'c> {
    to: &'w mut dyn Write,
    options: PackOptions<'c>,
    /// Directories on the way to the current entry that are written if something in them is.
    pending: Vec<Pending>,
    /// Bytes of the root's path.
    root: usize,
    packed: Packed,
    /// The current entry's name in the archive.
    path: Vec<u8>,
    contents: Contents,
    links: HashMap<Id, FirstName>,
    /// The archive is a layer of an image.
    is_layer: bool,
}

impl<'w> Packer<'w, 'static> {
    fn new(to: &'w mut dyn Write, path: Vec<u8>) -> Self {
        Self {
            to,
            options: PackOptions::default(),
            pending: Vec::new(),
            root: 0,
            packed: Packed::default(),
            path,
            contents: Contents::default(),
            links: HashMap::new(),
            is_layer: false,
        }
    }
}

impl Packer<'_, '_> {
    /// Goes through the tree with a stack of its own, so that the depth isn't limited.
    fn walk(&mut self, root: Frame) -> Result<(), TreeError> {
        let mut stack = vec![root];
        while let Some(frame) = stack.last_mut() {
            self.path.truncate(frame.length);
            let Some(entry) = frame.entries.next() else {
                self.leave(&mut stack)?;
                continue;
            };
            self.push(&entry.name);
            let Some(dir) = &frame.fd else {
                return Err(self.failed(Step::Reading, Errno::BADF));
            };
            let outcome = self.entry(dir.as_fd(), &entry.name, entry.kind)?;
            if let Outcome::Entered(next) = outcome {
                stack.push(next);
                let far_up = stack.len().checked_sub(OPEN_LEVELS);
                if let Some(frame) = far_up.and_then(|index| stack.get_mut(index)) {
                    frame.fd = None;
                }
            }
        }
        Ok(())
    }

    /// Goes back to the directory above.
    fn leave(&mut self, stack: &mut Vec<Frame>) -> Result<(), TreeError> {
        let Some(frame) = stack.pop() else {
            return Ok(());
        };
        let left = |pending: &mut Pending| pending.length >= frame.length;
        while self.pending.pop_if(left).is_some() {}
        let Some(parent) = stack.last_mut().filter(|parent| parent.fd.is_none()) else {
            return Ok(());
        };
        let Some(child) = &frame.fd else {
            return Err(self.failed(Step::Reading, Errno::BADF));
        };
        let reopened = sys::reopen_parent(child.as_fd(), parent.id)
            .map_err(|errno| self.failed(Step::Reading, errno))?;
        parent.fd = Some(reopened.ok_or_else(|| self.changed())?);
        Ok(())
    }

    fn finish(self) -> Result<Packed, TreeError> {
        let failed = |source| TreeError::Io {
            step: Step::Writing,
            path: PathBuf::from("the archive's end"),
            source,
        };
        self.to.write_all(&END).map_err(failed)?;
        self.to.flush().map_err(failed)?;
        Ok(self.packed)
    }

    /// Packs one entry. One that turns out to be of another type than it was is looked at again.
    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        mut kind: FileType,
    ) -> Result<Outcome, TreeError> {
        self.check_name(name)?;
        for _ in 0..TRIES {
            match self.entry_of(dir, name, kind) {
                Ok(outcome) => return Ok(outcome),
                Err(Failure::Vanished) => return Ok(Outcome::Vanished),
                Err(Failure::Changed) => kind = FileType::Unknown,
                Err(failure) => return Err(self.error(failure)),
            }
        }
        Err(self.changed())
    }

    fn error(&self, failure: Failure) -> TreeError {
        match failure {
            Failure::Fault(fault) => self.failed(fault.step, fault.errno),
            Failure::Whole(error) => error,
            Failure::Stream(source) => TreeError::Io {
                step: Step::Writing,
                path: self.shown(),
                source,
            },
            Failure::Changed | Failure::Vanished => self.changed(),
        }
    }

    fn entry_of(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
    ) -> Result<Outcome, Failure> {
        let kind = match kind {
            FileType::Unknown => Meta::at(dir, name).map_err(changed_or_gone)?.kind,
            kind => kind,
        };
        let choice = self.choice(kind == FileType::Directory);
        match kind {
            _ if choice == Choice::Leave => {}
            FileType::Directory => {
                let fd = sys::open_dir(dir, name).map_err(changed_or_gone)?;
                return self.open_frame(fd, choice).map(Outcome::Entered);
            }
            FileType::RegularFile => self.regular(dir, name)?,
            FileType::Socket => self.packed.skipped_sockets += 1,
            kind => self.node(dir, name, kind)?,
        }
        Ok(Outcome::Done)
    }

    /// What becomes of the current entry.
    fn choice(&mut self, directory: bool) -> Choice {
        let below = self.path.get(self.root + 1..).unwrap_or_default();
        match &mut self.options.choose {
            Some(choose) if !below.is_empty() => {
                choose(Path::new(OsStr::from_bytes(below)), directory)
            }
            _ => Choice::Take,
        }
    }

    fn attributes(&self, of: Node<'_>) -> Result<Attributes, Failure> {
        if self.options.plain {
            return Ok(Attributes::default());
        }
        attributes::read(of).map_err(|fault| match fault.errno {
            // What can't be opened is reached by its name, which may have gone since it was looked at.
            Errno::NOENT => Failure::Vanished,
            _ => fault.into(),
        })
    }

    /// Writes a directory's own entry, at once or when something in it is written, and lists its
    /// entries.
    fn open_frame(&mut self, fd: OwnedFd, choice: Choice) -> Result<Frame, Failure> {
        let meta = Meta::of(&fd).step(Step::Reading)?;
        let mut entries = match is_kernels(fd.as_fd()) {
            true => Vec::new(),
            false => sys::entries(fd.as_fd()).step(Step::Reading)?,
        };
        entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        let attributes = self.attributes(Node::Open(fd.as_fd()))?;
        match choice {
            Choice::Within => self.pending.push(Pending {
                length: self.path.len(),
                meta,
                attributes,
            }),
            Choice::Take | Choice::Leave => self.write(Kind::Directory, &meta, &attributes)?,
        }
        Ok(Frame {
            fd: Some(fd),
            id: meta.id,
            entries: entries.into_iter(),
            length: self.path.len(),
        })
    }

    fn regular(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Failure> {
        let file = open_regular(dir, name)?;
        let meta = Meta::of(&file).step(Step::Reading)?;
        if self.linked(&meta)? {
            return Ok(());
        }
        let attributes = self.attributes(Node::Open(file.as_fd()))?;
        let content = Content::of(file.as_fd(), &meta)?;
        let stored = content.stored();
        let kind = match content.sparse_map() {
            Some(_) => Kind::SparseFile(stored),
            None => Kind::File(stored),
        };
        self.write(kind, &meta, &attributes)?;
        let same = self.contents.write(file.as_fd(), &content, self.to)?;
        let now = Meta::of(&file).step(Step::Reading)?;
        self.packed.changed += u64::from(!same || now.size != meta.size);
        self.packed.bytes += content.data();
        self.remember(&meta);
        Ok(())
    }

    /// Writes a symbolic link, device node or FIFO.
    fn node(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<(), Failure> {
        let meta = Meta::at(dir, name).map_err(changed_or_gone)?;
        if meta.kind != kind {
            return Err(Failure::Changed);
        }
        if self.is_layer && meta.is_whiteout() {
            return Ok(());
        }
        let links = matches!(kind, FileType::Symlink | FileType::Fifo);
        if links && self.linked(&meta)? {
            return Ok(());
        }
        let attributes = self.attributes(Node::Entry(dir, name))?;
        match kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new());
                let target = target.map_err(changed_or_gone)?;
                self.write(Kind::Symlink(target.to_bytes()), &meta, &attributes)?;
            }
            FileType::Fifo => self.write(Kind::Fifo, &meta, &attributes)?,
            FileType::CharacterDevice => self.write(Kind::CharacterDevice, &meta, &attributes)?,
            FileType::BlockDevice => self.write(Kind::BlockDevice, &meta, &attributes)?,
            _ => {
                return Err(Failure::Fault(Fault {
                    step: Step::Reading,
                    errno: Errno::INVAL,
                }));
            }
        }
        if links {
            self.remember(&meta);
        }
        Ok(())
    }

    /// Writes a hard link to an earlier entry of the same inode, if there was one.
    fn linked(&mut self, meta: &Meta) -> Result<bool, Failure> {
        if meta.links < 2 {
            return Ok(false);
        }
        let Some(first) = self.links.get_mut(&meta.id) else {
            return Ok(false);
        };
        first.names_left = first.names_left.saturating_sub(1);
        let name = match first.names_left {
            0 => self.links.remove(&meta.id).map(|first| first.name),
            _ => Some(first.name.clone()),
        };
        let name = name.unwrap_or_default();
        self.write(Kind::HardLink(&name), meta, &Attributes::default())?;
        Ok(true)
    }

    fn remember(&mut self, meta: &Meta) {
        if meta.links > 1 {
            let first = FirstName {
                name: self.path.clone(),
                names_left: meta.links - 1,
            };
            self.links.insert(meta.id, first);
        }
    }

    fn write(
        &mut self,
        kind: Kind<'_>,
        meta: &Meta,
        attributes: &Attributes,
    ) -> Result<(), Failure> {
        for directory in std::mem::take(&mut self.pending) {
            let Pending {
                length,
                meta,
                attributes,
            } = directory;
            self.write_head(length, Kind::Directory, &meta, &attributes)?;
        }
        self.write_head(self.path.len(), kind, meta, attributes)
    }

    /// Writes the headers of the current entry, or of one of the directories that it is in.
    fn write_head(
        &mut self,
        length: usize,
        kind: Kind<'_>,
        meta: &Meta,
        attributes: &Attributes,
    ) -> Result<(), Failure> {
        let (uid, gid) = self.options.owner.unwrap_or((meta.uid, meta.gid));
        let flags = if self.options.plain { 0 } else { meta.flags };
        let head = Head {
            kind,
            name: match self.path.get(..length).unwrap_or_default() {
                // The root of a layer.
                b"" => b".",
                path => path,
            },
            meta: &Meta {
                uid,
                gid,
                flags,
                ..*meta
            },
            attributes,
        };
        self.packed.skipped_xattrs += head.write(self.to)?;
        self.packed.entries += 1;
        Ok(())
    }

    fn shown(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsString::from_vec(self.path.clone()))
    }

    fn failed(&self, step: Step, errno: Errno) -> TreeError {
        Fault { step, errno }.at(self.shown())
    }

    fn changed(&self) -> TreeError {
        TreeError::Changed {
            step: Step::Reading,
            path: self.shown(),
        }
    }
}

/// Opens a regular file for reading, by way of a handle: opening a device or a FIFO that has taken
/// its place could have effects of its own.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn open_regular(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    let flags = sys::HANDLE | OFlags::NOFOLLOW;
    let handle = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(changed_or_gone)?;
    if Meta::of(&handle).step(Step::Reading)?.kind != FileType::RegularFile {
        return Err(Failure::Changed);
    }
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(sys::open_again(&handle, flags).step(Step::Opening)?)
}

/// Opens a regular file for reading. `NONBLOCK`: a FIFO that has taken its place mustn't hold us up.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn open_regular(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(changed_or_gone)?;
    match Meta::of(&file).step(Step::Reading)?.kind {
        FileType::RegularFile => Ok(file),
        _ => Err(Failure::Changed),
    }
}

/// Tells an entry that went away or changed its type from a failure.
fn changed_or_gone(errno: Errno) -> Failure {
    match errno {
        Errno::NOENT => Failure::Vanished,
        Errno::LOOP | Errno::NOTDIR | Errno::INVAL | Errno::NXIO | Errno::MLINK => Failure::Changed,
        errno => Failure::Fault(Fault {
            step: Step::Opening,
            errno,
        }),
    }
}
