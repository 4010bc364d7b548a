//! Packs what makes one tree of another as a layer of an image (OCI image specification, `layer.md`).
//!
//! Both trees are gone through at once, directory by directory. A directory whose entries have changed
//! comes with its own entry in front of them, since programs that unpack layers side by side would make
//! another one in its place.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::vec;

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::header::Kind;
use super::{BUFFER, Choice, Failure, OPEN_LEVELS, Outcome, Packed, Packer, open_regular};
use crate::attributes::{self, Attributes, Node};
use crate::changes::is_system;
use crate::error::{InStep, Step, TreeError};
use crate::meta::{Id, Meta, Times};
use crate::sys;
use crate::unpack::WHITEOUT;

/// As much of two files is compared at once.
const CHUNK: usize = 64 << 10;

/// Two trees of which a layer is to be made.
#[derive(Debug, Clone, Copy)]
pub struct LayerOf<'a> {
    /// The older tree; `None`: an empty one, so that the layer is all of the other.
    pub below: Option<BorrowedFd<'a>>,
    /// The newer tree.
    pub root: BorrowedFd<'a>,
    /// When both trees are overlays: the layers that only one of them has. What differs is in one of
    /// these, at the same path. `None`: nothing is known of the trees.
    pub apart: Option<&'a [OwnedFd]>,
}

/// Writes what makes the newer of two trees of the older one as an uncompressed layer, with its end
/// mark. The same trees give the same bytes, and
/// [`apply_layer`](crate::apply_layer) makes the one of the other.
///
/// Kept is what [`pack_tar`](crate::pack_tar) keeps. Left out are sockets, nodes that overlay file
/// systems would take for whiteouts, and empty directories `/dev`, `/proc` and `/sys` that the older
/// tree lacks: containers get them as mount points. That entries came or went in the root itself isn't
/// told in an entry for it.
///
/// Files are the same when all their attributes and contents are. Those that are the same inode with
/// the same time of its last change aren't read.
///
/// # Errors
/// [`TreeError::NotInLayers`] for names that begin with `.wh.`; else as `pack_tar`.
pub fn pack_layer(layer: &LayerOf<'_>, to: &mut dyn Write) -> Result<Packed, TreeError> {
    let mut buffered = BufWriter::with_capacity(BUFFER, to);
    let packed = pack(layer, &mut buffered);
    if packed.is_err() {
        // Nobody can use what hasn't been written yet.
        drop(buffered.into_parts());
    }
    packed
}

fn pack(layer: &LayerOf<'_>, to: &mut dyn Write) -> Result<Packed, TreeError> {
    let mut packer = Packer::new(to, Vec::new());
    packer.is_layer = true;
    let open = |dir: BorrowedFd<'_>| {
        let opened = sys::reopen(dir).step(Step::Opening);
        opened.map_err(|fault| fault.at("."))
    };
    let root = open(layer.root)?;
    match layer.below {
        None => {
            let frame = packer.open_frame(root, Choice::Take);
            let frame = frame.map_err(|failure| packer.error(failure))?;
            packer.walk(frame)?;
        }
        Some(below) => {
            let marks = match layer.apart {
                Some(apart) => Some(
                    apart
                        .iter()
                        .map(|dir| open(dir.as_fd()))
                        .collect::<Result<_, _>>()?,
                ),
                None => None,
            };
            let alike = Alike {
                inodes: layer.apart.is_none(),
            };
            let first = alike.pair(&mut packer, root, open(below)?, marks);
            let first = first.map_err(|failure| packer.error(failure))?;
            Walk {
                packer: &mut packer,
                alike,
            }
            .run(first)?;
        }
    }
    packer.finish()
}

/// A directory that both trees have.
struct Pair {
    new: Side,
    old: Side,
    /// Directories of which one has everything that may differ.
    marks: Option<Vec<OwnedFd>>,
    names: vec::IntoIter<(CString, Name)>,
    /// Bytes of its path.
    length: usize,
    /// Its own entry, as long as that hasn't been written.
    head: Option<(Meta, Attributes)>,
}

/// In which of the trees there is an entry of this name.
#[derive(Default, Clone, Copy)]
struct Name {
    new: bool,
    old: bool,
}

/// A directory, closed while it is far up.
struct Side {
    fd: Option<OwnedFd>,
    id: Id,
}

impl Side {
    fn open(fd: OwnedFd) -> Result<Self, Failure> {
        let id = Meta::of(&fd).step(Step::Reading)?.id;
        Ok(Self { fd: Some(fd), id })
    }

    fn get(&self) -> Result<BorrowedFd<'_>, Failure> {
        let fd = self.fd.as_ref().ok_or(Errno::BADF);
        Ok(fd.step(Step::Reading)?.as_fd())
    }

    /// Opens it again by way of a directory in it.
    fn reopen(&mut self, child: &Self) -> Result<(), Failure> {
        if self.fd.is_none() {
            let parent = sys::reopen_parent(child.get()?, self.id).step(Step::Opening)?;
            self.fd = Some(parent.ok_or(Failure::Changed)?);
        }
        Ok(())
    }
}

struct Walk<'p, 'w> {
    packer: &'p mut Packer<'w, 'static>,
    alike: Alike,
}

impl Walk<'_, '_> {
    fn run(mut self, first: Pair) -> Result<(), TreeError> {
        let mut stack = vec![first];
        while let Some(pair) = stack.last_mut() {
            self.packer.path.truncate(pair.length);
            let next = pair.names.next();
            let entered = match next {
                Some((name, of)) => self.entry(&mut stack, &name, of),
                None => leave(&mut stack).map(|()| None),
            };
            if let Some(next) = entered.map_err(|failure| self.packer.error(failure))? {
                stack.push(next);
                close_far_up(&mut stack);
            }
        }
        Ok(())
    }

    /// Looks at one entry; gives a directory that is to be looked into.
    fn entry(
        &mut self,
        stack: &mut [Pair],
        name: &CStr,
        of: Name,
    ) -> Result<Option<Pair>, Failure> {
        let is_top = stack.len() == 1;
        let Some(pair) = stack.last() else {
            return Ok(None);
        };
        self.packer.push(name);
        let (new, old) = (pair.new.get()?, pair.old.get()?);
        let meta = |dir, there: bool| match there.then(|| Meta::at(dir, name)) {
            None | Some(Err(Errno::NOENT)) => Ok(None),
            Some(meta) => meta.step(Step::Reading).map(Some),
        };
        let (is, was) = (meta(new, of.new)?, meta(old, of.old)?);
        // What no layer can hold might as well not be there.
        let is = is.filter(|is| is.kind != FileType::Socket && !is.is_whiteout());
        match (is, was) {
            (None, None) => Ok(None),
            (None, Some(_)) => {
                self.packer.check_name(name)?;
                self.heads(stack)?;
                self.packer.whiteout(name)?;
                Ok(None)
            }
            (Some(is), None) if is_top && is_mount_point(new, name, &is)? => Ok(None),
            (Some(is), Some(was)) if is.is_dir() && was.is_dir() => {
                let marks = pair.marks_of(name)?;
                if marks.as_ref().is_some_and(Vec::is_empty) {
                    return Ok(None);
                }
                let new = sys::open_dir(new, name).step(Step::Opening)?;
                let old = sys::open_dir(old, name).step(Step::Opening)?;
                let pair = self.alike.pair(self.packer, new, old, marks)?;
                if self.alike.dirs_differ(&pair)? {
                    self.heads(stack)?;
                    return Ok(Some(self.packer.own_head(pair)?));
                }
                Ok(Some(pair))
            }
            (Some(is), Some(was)) if self.alike.leaves(name, (new, &is), (old, &was))? => Ok(None),
            (Some(is), _) => {
                self.heads(stack)?;
                let Some(pair) = stack.last() else {
                    return Ok(None);
                };
                self.whole(pair.new.get()?, name, is.kind)?;
                Ok(None)
            }
        }
    }

    /// Packs an entry with everything in it.
    fn whole(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType) -> Result<(), Failure> {
        let length = self.packer.path.len();
        if let Outcome::Entered(frame) = self.packer.entry(dir, name, kind)? {
            self.packer.walk(frame)?;
        }
        self.packer.path.truncate(length);
        Ok(())
    }

    /// Writes the entries of the directories on the way that haven't been written yet. The root has none.
    fn heads(&mut self, stack: &mut [Pair]) -> Result<(), Failure> {
        let path = std::mem::take(&mut self.packer.path);
        for pair in stack.iter_mut().skip(1) {
            if let Some((meta, attributes)) = pair.head.take() {
                self.packer.path = path.get(..pair.length).unwrap_or_default().to_vec();
                self.packer.check_last_name()?;
                self.packer.write(Kind::Directory, &meta, &attributes)?;
            }
        }
        self.packer.path = path;
        Ok(())
    }
}

impl Pair {
    /// The marks in a directory in this one; none: nothing in it differs.
    fn marks_of(&self, name: &CStr) -> Result<Option<Vec<OwnedFd>>, Failure> {
        let Some(marks) = &self.marks else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for dir in marks {
            match sys::open_dir(dir, name) {
                Ok(dir) => {
                    if attributes::is_opaque(dir.as_fd())? {
                        // It hides what the layers of both trees have: that isn't marked.
                        return Ok(None);
                    }
                    found.push(dir);
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(crate::error::Fault::new(Step::Opening, errno).into()),
            }
        }
        Ok(Some(found))
    }
}

/// What makes two entries the same.
#[derive(Clone, Copy)]
struct Alike {
    /// Inodes of the same number with the same time of their last change are the same. Not so in
    /// overlays, in which a changed file keeps its number, and perhaps the time as well: clocks of file
    /// systems tick slowly.
    inodes: bool,
}

impl Alike {
    fn pair(
        self,
        packer: &mut Packer<'_, 'static>,
        new: OwnedFd,
        old: OwnedFd,
        marks: Option<Vec<OwnedFd>>,
    ) -> Result<Pair, Failure> {
        let mut names = BTreeMap::<CString, Name>::new();
        let list = |dir: BorrowedFd<'_>| sys::entries(dir).step(Step::Reading);
        if let Some(marks) = &marks {
            for dir in marks {
                for entry in list(dir.as_fd())? {
                    names.insert(
                        entry.name,
                        Name {
                            new: true,
                            old: true,
                        },
                    );
                }
            }
        } else {
            for entry in list(new.as_fd())? {
                names.entry(entry.name).or_default().new = true;
            }
            for entry in list(old.as_fd())? {
                names.entry(entry.name).or_default().old = true;
            }
        }
        let meta = Meta::of(&new).step(Step::Reading)?;
        let attributes = attributes::read(Node::Open(new.as_fd()))?;
        let pair = Pair {
            new: Side::open(new)?,
            old: Side::open(old)?,
            marks,
            names: names.into_iter().collect::<Vec<_>>().into_iter(),
            length: packer.path.len(),
            head: Some((meta, attributes)),
        };
        // Of the root, times alone say nothing.
        if packer.path.is_empty() && self.dirs_differ_in(&pair, false)? {
            return packer.own_head(pair);
        }
        Ok(pair)
    }

    fn dirs_differ(self, pair: &Pair) -> Result<bool, Failure> {
        self.dirs_differ_in(pair, true)
    }

    fn dirs_differ_in(self, pair: &Pair, times: bool) -> Result<bool, Failure> {
        let (new, old) = (pair.new.get()?, pair.old.get()?);
        let is = Meta::of(new).step(Step::Reading)?;
        let was = Meta::of(old).step(Step::Reading)?;
        if self.same_inode(&is, &was) {
            return Ok(false);
        }
        Ok(owner_or_mode(&is) != owner_or_mode(&was)
            || times && !same_mtime(&is.times, &was.times)
            || attributes::shown(Node::Open(new))? != attributes::shown(Node::Open(old))?)
    }

    /// Whether two entries, of which at least one is no directory, are the same.
    fn leaves(
        self,
        name: &CStr,
        (new, is): (BorrowedFd<'_>, &Meta),
        (old, was): (BorrowedFd<'_>, &Meta),
    ) -> Result<bool, Failure> {
        if is.kind != was.kind || is.is_dir() {
            return Ok(false);
        }
        if self.same_inode(is, was) {
            return Ok(true);
        }
        // Which names belong together isn't looked into.
        let linked = is.links > 1 || was.links > 1;
        if linked
            || owner_or_mode(is) != owner_or_mode(was)
            || !same_mtime(&is.times, &was.times)
            || is.size != was.size
        {
            return Ok(false);
        }
        let attributes = |dir| attributes::shown(Node::Entry(dir, name));
        let same = match is.kind {
            FileType::RegularFile => same_content(name, new, old)?,
            FileType::Symlink => {
                let text = |dir| rustix::fs::readlinkat(dir, name, Vec::new());
                text(new).step(Step::Reading)? == text(old).step(Step::Reading)?
            }
            FileType::CharacterDevice | FileType::BlockDevice => is.device == was.device,
            _ => true,
        };
        Ok(same && attributes(new)? == attributes(old)?)
    }

    /// A file system whose times are whole seconds tells nothing by them: a file may be changed
    /// twice in one, with a snapshot in between. zfs-fuse is one.
    fn same_inode(self, is: &Meta, was: &Meta) -> bool {
        let told = self.inodes && is.ctime.tv_nsec != 0;
        told && is.id.1 == was.id.1 && is.ctime == was.ctime && is.size == was.size
    }
}

/// Owner, mode and file flags.
fn owner_or_mode(meta: &Meta) -> (u32, u32, Mode, u32) {
    (meta.uid, meta.gid, meta.mode, meta.flags)
}

fn same_mtime(one: &Times, other: &Times) -> bool {
    one.mtime == other.mtime
}

fn same_content(name: &CStr, new: BorrowedFd<'_>, old: BorrowedFd<'_>) -> Result<bool, Failure> {
    let (new, old) = (open_regular(new, name)?, open_regular(old, name)?);
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut position = 0;
    loop {
        let one = read_at(new.as_fd(), &mut left, position)?;
        let other = read_at(old.as_fd(), &mut right, position)?;
        if left.get(..one) != right.get(..other) {
            return Ok(false);
        }
        if one == 0 {
            return Ok(true);
        }
        position += one as u64;
    }
}

/// Fills the buffer as far as the file goes.
fn read_at(file: BorrowedFd<'_>, into: &mut [u8], position: u64) -> Result<usize, Failure> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(crate::error::Fault::new(Step::Reading, errno).into()),
        }
    }
    Ok(filled)
}

/// Whether an entry of the root is an empty directory that a container's own file systems are mounted
/// on.
fn is_mount_point(root: BorrowedFd<'_>, name: &CStr, meta: &Meta) -> Result<bool, Failure> {
    if !meta.is_dir() || !is_system(OsStr::from_bytes(name.to_bytes())) {
        return Ok(false);
    }
    let dir = sys::open_dir(root, name).step(Step::Opening)?;
    Ok(sys::entries(dir.as_fd()).step(Step::Reading)?.is_empty())
}

/// Goes back to the directory above.
fn leave(stack: &mut Vec<Pair>) -> Result<(), Failure> {
    if let Some(pair) = stack.pop()
        && let Some(parent) = stack.last_mut()
    {
        parent.new.reopen(&pair.new)?;
        parent.old.reopen(&pair.old)?;
    }
    Ok(())
}

/// Closes the directories that are too far up to stay open. Those with marks stay: they are as few as
/// changes are.
fn close_far_up(stack: &mut [Pair]) {
    let far_up = stack.len().checked_sub(OPEN_LEVELS);
    if let Some(pair) = far_up.and_then(|index| stack.get_mut(index)) {
        pair.new.fd = None;
        pair.old.fd = None;
    }
}

impl Packer<'_, '_> {
    /// Writes a directory's own entry at once.
    fn own_head(&mut self, mut pair: Pair) -> Result<Pair, Failure> {
        if let Some((meta, attributes)) = pair.head.take() {
            self.check_last_name()?;
            self.write(Kind::Directory, &meta, &attributes)?;
        }
        Ok(pair)
    }

    /// Writes that the current entry is gone.
    fn whiteout(&mut self, name: &CStr) -> Result<(), Failure> {
        let length = self.path.len().saturating_sub(name.count_bytes());
        let mut path = self.path.get(..length).unwrap_or_default().to_vec();
        path.extend_from_slice(WHITEOUT);
        path.extend_from_slice(name.to_bytes());
        std::mem::swap(&mut self.path, &mut path);
        let written = self.write(Kind::File(0), &Meta::nothing(), &Attributes::default());
        self.path = path;
        self.packed.whiteouts += 1;
        written
    }

    /// Goes on to an entry of the current directory.
    pub(super) fn push(&mut self, name: &CStr) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.to_bytes());
    }

    /// As [`Self::check_name`], for the current entry.
    fn check_last_name(&self) -> Result<(), TreeError> {
        let name = self.path.rsplit(|byte| *byte == b'/').next();
        self.check(name.unwrap_or_default())
    }

    /// Refuses what means something else in a layer.
    pub(super) fn check_name(&self, name: &CStr) -> Result<(), TreeError> {
        self.check(name.to_bytes())
    }

    fn check(&self, name: &[u8]) -> Result<(), TreeError> {
        if self.is_layer && name.starts_with(WHITEOUT) {
            let path = Path::new(OsStr::from_bytes(&self.path)).to_owned();
            return Err(TreeError::NotInLayers { path });
        }
        Ok(())
    }
}
