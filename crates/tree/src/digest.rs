//! A digest of what a copy would copy.
//!
//! One thread goes through the trees and lists what there is; the files, which are most of the work,
//! are then read by several. The digest is made of all entries' digests in the order of the list, so it
//! doesn't matter who has read what.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::attributes::{self, Node};
use crate::copy::CopyFrom;
use crate::error::{Fault, InStep, Step, TreeError};
use crate::filter::{Filter, keeps};
use crate::meta::Meta;
use crate::resolve::{Open, open_in_root};
use crate::sources::{Source, select};
use crate::sys;

/// Most threads that read files.
const MOST_THREADS: usize = 4;

/// Files of a directory that one thread takes at once.
const BATCH: usize = 32;

/// Files that are read by one thread: starting more for fewer isn't worth it.
const ALONE: usize = 64;

/// As much as is read at once.
const CHUNK: usize = 64 << 10;

/// The digest of an entry.
type Digest = [u8; 32];

/// A BLAKE3 digest of what [`copy_in`](crate::copy_in) would copy: paths relative to the source's root,
/// types, modes, contents, texts of links and extended attributes, but no times. With `owners`, these
/// count, too.
///
/// # Errors
/// As [`copy_in`](crate::copy_in).
pub fn digest_sources(
    from: &CopyFrom<'_>,
    filter: Option<Filter<'_>>,
    owners: bool,
) -> Result<[u8; 32], TreeError> {
    let mut all = blake3::Hasher::new();
    match from {
        CopyFrom::Inline(files) => {
            for (name, content) in *files {
                text(&mut all, name.as_bytes());
                text(&mut all, content);
            }
        }
        CopyFrom::Tree { root, sources } => {
            let root = sys::reopen(*root).step(Step::Opening);
            let root = root.map_err(|fault| fault.at("."))?;
            let mut list = List {
                root: root.as_fd(),
                filter,
                looks: Looks { owners },
                entries: Vec::new(),
                batches: Vec::new(),
            };
            for source in select(root.as_fd(), sources, filter)?.found {
                list.source(&source)?;
            }
            read_files(root.as_fd(), list.looks, &list.batches, &mut list.entries)?;
            for entry in &list.entries {
                text(&mut all, entry.path.as_os_str().as_bytes());
                all.update(&entry.digest);
            }
        }
    }
    Ok(*all.finalize().as_bytes())
}

/// Adds a text of any length, so that no other texts look the same.
fn text(to: &mut blake3::Hasher, text: &[u8]) {
    to.update(&(text.len() as u64).to_le_bytes());
    to.update(text);
}

struct Entry {
    path: PathBuf,
    digest: Digest,
}

/// Files of one directory that are to be read.
struct Batch {
    /// The source that they lie in; `None`: the source is the only file.
    source: Option<Arc<OwnedFd>>,
    /// The directory, seen from the source, without links on the way; or the file's path.
    dir: PathBuf,
    /// The files' places in the list.
    files: std::ops::Range<usize>,
    names: Vec<CString>,
}

struct List<'a> {
    root: BorrowedFd<'a>,
    filter: Option<Filter<'a>>,
    looks: Looks,
    entries: Vec<Entry>,
    batches: Vec<Batch>,
}

impl List<'_> {
    fn source(&mut self, source: &Source) -> Result<(), TreeError> {
        let failed = |fault: Fault| fault.at(&source.path);
        match source.kind {
            FileType::Directory => {
                let dir = open_in_root(self.root, &source.path, Open::Directory)?;
                self.push(source.path.clone(), blake3::hash(b"source").into());
                self.directories(&Arc::new(dir), &source.path)
            }
            FileType::RegularFile => {
                let at = self.entries.len();
                self.push(source.path.clone(), Digest::default());
                self.batches.push(Batch {
                    source: None,
                    dir: source.path.clone(),
                    files: at..at + 1,
                    names: Vec::new(),
                });
                Ok(())
            }
            FileType::Fifo => {
                let handle = open_in_root(self.root, &source.path, Open::Handle)?;
                let meta = Meta::of(&handle).step(Step::Reading).map_err(failed)?;
                let digest = self.looks.head(&meta, None).map_err(failed)?.finalize();
                self.push(source.path.clone(), digest.into());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn push(&mut self, path: PathBuf, digest: Digest) {
        self.entries.push(Entry { path, digest });
    }

    /// Lists what is in a source and beneath it.
    fn directories(&mut self, source: &Arc<OwnedFd>, path: &Path) -> Result<(), TreeError> {
        let mut left = vec![PathBuf::new()];
        while let Some(dir) = left.pop() {
            let mut inner = self.directory(source, path, &dir)?;
            // The first one is to be taken first.
            inner.reverse();
            left.append(&mut inner);
        }
        Ok(())
    }

    /// Lists what is in a directory; gives the directories in it.
    fn directory(
        &mut self,
        source: &Arc<OwnedFd>,
        path: &Path,
        beneath: &Path,
    ) -> Result<Vec<PathBuf>, TreeError> {
        let path = path.join(beneath);
        let failed = |fault: Fault| fault.at(&path);
        let dir = open_beneath(source, beneath).map_err(failed)?;
        let entries = sys::entries(dir.as_fd()).step(Step::Reading);
        let mut entries = entries.map_err(failed)?;
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut inner = Vec::new();
        let mut names = Vec::new();
        let mut start = self.entries.len();
        let mut others = Vec::new();
        for entry in entries {
            let at = path.join(sys::shown(&entry.name));
            if let Some(filter) = self.filter
                && !keeps(filter, dir.as_fd(), &entry.name, entry.kind, &at)?
            {
                continue;
            }
            let failed = |fault: Fault| fault.at(&at);
            let kind = match entry.kind {
                FileType::Unknown => {
                    let meta = Meta::at(dir.as_fd(), &entry.name).step(Step::Reading);
                    meta.map_err(failed)?.kind
                }
                kind => kind,
            };
            if kind == FileType::RegularFile {
                self.push(at, Digest::default());
                names.push(entry.name);
                if names.len() == BATCH {
                    self.batch(source, beneath, &mut start, &mut names);
                }
                continue;
            }
            let other = self.looks.other(dir.as_fd(), &entry.name, kind);
            others.extend(other.map_err(failed)?.map(|digest| (at, digest)));
            if kind == FileType::Directory {
                inner.push(beneath.join(sys::shown(&entry.name)));
            }
        }
        self.batch(source, beneath, &mut start, &mut names);
        for (path, digest) in others {
            self.push(path, digest);
        }
        Ok(inner)
    }

    /// Notes the files that have been listed last.
    fn batch(
        &mut self,
        source: &Arc<OwnedFd>,
        dir: &Path,
        start: &mut usize,
        names: &mut Vec<CString>,
    ) {
        let end = self.entries.len();
        if !names.is_empty() {
            self.batches.push(Batch {
                source: Some(Arc::clone(source)),
                dir: dir.to_owned(),
                files: *start..end,
                names: std::mem::take(names),
            });
        }
        *start = end;
    }
}

/// Opens a directory of a source; links aren't followed.
fn open_beneath(source: &OwnedFd, path: &Path) -> Result<OwnedFd, Fault> {
    let names: Vec<CString> = path.iter().filter_map(sys::c_name).collect();
    let names: Vec<&CStr> = names.iter().map(CString::as_c_str).collect();
    sys::open_chain_across(source.as_fd(), &names).step(Step::Opening)
}

/// What of an entry counts.
#[derive(Clone, Copy)]
struct Looks {
    owners: bool,
}

impl Looks {
    /// The digest of what is no file; `None` for what isn't copied.
    fn other(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
    ) -> Result<Option<Digest>, Fault> {
        if !matches!(
            kind,
            FileType::Directory | FileType::Symlink | FileType::Fifo
        ) {
            return Ok(None);
        }
        let meta = Meta::at(dir, name).step(Step::Reading)?;
        let mut head = self.head(&meta, Some(Node::Entry(dir, name)))?;
        if kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(dir, name, Vec::new()).step(Step::Reading)?;
            text(&mut head, target.to_bytes());
        }
        Ok(Some(head.finalize().into()))
    }

    /// Begins an entry's digest with its attributes.
    fn head(&self, meta: &Meta, node: Option<Node<'_>>) -> Result<blake3::Hasher, Fault> {
        let mut head = blake3::Hasher::new();
        let kind = match meta.kind {
            FileType::Directory => b'd',
            FileType::Symlink => b'l',
            FileType::Fifo => b'p',
            _ => b'f',
        };
        // A link's own mode means nothing.
        let mode = match meta.kind {
            FileType::Symlink => 0,
            _ => u64::from(meta.mode.as_raw_mode()) & 0o7777,
        };
        head.update(&[kind]);
        head.update(&mode.to_le_bytes());
        if self.owners {
            head.update(&meta.uid.to_le_bytes());
            head.update(&meta.gid.to_le_bytes());
        }
        let mut list = node.map_or(Ok(Vec::new()), attributes::tamed)?;
        if meta.flags != 0 {
            let flags = meta.flags.to_le_bytes().to_vec();
            list.push((c"file flags".to_owned(), flags));
        }
        list.sort_unstable();
        head.update(&(list.len() as u64).to_le_bytes());
        for (name, value) in &list {
            text(&mut head, name.to_bytes());
            text(&mut head, value);
        }
        Ok(head)
    }

    fn file(&self, file: &OwnedFd, buffer: &mut Vec<u8>) -> Result<Digest, Fault> {
        let meta = Meta::of(file).step(Step::Reading)?;
        if meta.kind != FileType::RegularFile {
            return Err(Fault::new(Step::Reading, Errno::INVAL));
        }
        let mut head = self.head(&meta, Some(Node::Open(file.as_fd())))?;
        buffer.resize(CHUNK, 0);
        loop {
            match rustix::io::read(file, &mut **buffer) {
                Ok(0) => break,
                Ok(read) => {
                    head.update(buffer.get(..read).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Fault::new(Step::Reading, errno)),
            }
        }
        Ok(head.finalize().into())
    }
}

/// Fills in the digests of files.
fn read_files(
    root: BorrowedFd<'_>,
    looks: Looks,
    batches: &[Batch],
    entries: &mut [Entry],
) -> Result<(), TreeError> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results = Mutex::new((Vec::new(), None));
    let work = || {
        let mut buffer = Vec::new();
        while !failed.load(Ordering::Relaxed)
            && let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed))
        {
            let read = read_batch(root, looks, batch, &mut buffer);
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(digests) => results.0.push((batch.files.start, digests)),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    results.1.get_or_insert(error);
                }
            }
        }
    };
    let files: usize = batches.iter().map(|batch| batch.files.len()).sum();
    let threads = match files {
        0..ALONE => 1,
        _ => thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS)),
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Without it the others have more to do.
            let _fewer = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let (read, failure) = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failure {
        return Err(error);
    }
    for (start, digests) in read {
        for (entry, digest) in entries.iter_mut().skip(start).zip(digests) {
            entry.digest = digest;
        }
    }
    Ok(())
}

fn read_batch(
    root: BorrowedFd<'_>,
    looks: Looks,
    batch: &Batch,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Digest>, TreeError> {
    let failed = |fault: Fault| fault.at(&batch.dir);
    let Some(source) = &batch.source else {
        let file = open_in_root(root, &batch.dir, Open::File)?;
        return Ok(vec![looks.file(&file, buffer).map_err(failed)?]);
    };
    let dir = open_beneath(source, &batch.dir).map_err(failed)?;
    let digest = |name: &CString| {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name, flags, Mode::empty()).step(Step::Opening);
        let digest = file.and_then(|file| looks.file(&file, buffer));
        digest.map_err(|fault| fault.at(batch.dir.join(sys::shown(name))))
    };
    batch.names.iter().map(digest).collect()
}
