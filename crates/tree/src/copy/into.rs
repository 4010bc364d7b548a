//! Copies files into a tree by the rules of `COPY` and `ADD` in a Dockerfile.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FileType, Mode, OFlags, Timespec};

use super::crew::Folder;
use super::{Copied, Copier, Existing, Frame, Here, Progress, Settings, Taking, with_crew};
use crate::attributes::{self, Xattrs};
use crate::data::write_all_at;
use crate::error::{Fault, InStep, Step, TreeError};
use crate::filter::Filter;
use crate::links::HardLinks;
use crate::meta::{Meta, Times};
use crate::place::Place;
use crate::resolve::{Open, create_owned_dirs_in_root, mode_of, open_in_root};
use crate::sources::{Source, select};
use crate::sys;
use crate::unpack::{UnpackOptions, begins_archive, unpack_tar};

/// Mode of directories that are made on the way.
const PARENT_MODE: u32 = 0o755;

/// Mode of files that come from nowhere.
const INLINE_MODE: u32 = 0o644;

/// Reads a file decompressed, whatever it is compressed with; as it is, if it isn't.
pub type Archives<'a> = &'a dyn Fn(File) -> io::Result<Box<dyn Read>>;

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub enum CopyFrom<'a> {
    /// What the sources name beneath a directory: paths in which `..` doesn't lead out, and links are
    /// followed as if the directory were `/`. They may have wildcards (Go's `filepath.Match`).
    Tree {
        /// The directory.
        root: BorrowedFd<'a>,
        /// The sources. A directory stands for what is in it.
        sources: &'a [String],
    },
    /// Files of these names and contents.
    Inline(&'a [(String, Vec<u8>)]),
}

/// Where to, and how.
#[derive(Clone, Copy)]
pub struct CopyInto<'a> {
    /// The root of the tree.
    pub root: BorrowedFd<'a>,
    /// A path in it. With a slash at its end, or several sources, or one with wildcards, it is a
    /// directory, and made if need be; otherwise when there is a directory.
    pub destination: &'a str,
    /// What is left out.
    pub filter: Option<Filter<'a>>,
    /// Gives everything this owner (user, group) instead of its own, and so directories that are made on
    /// the way, which otherwise are root's.
    pub owner: Option<(u32, u32)>,
    /// Gives everything but links this mode instead of its own.
    pub mode: Option<u32>,
    /// Whether the directories of a source's path are made in the destination: those behind a `/./` in
    /// it, when there is one.
    pub parents: bool,
    /// Unpacks files that are tar archives in the destination, if given.
    pub archives: Option<Archives<'a>>,
    /// As in [`CopyOptions`](super::CopyOptions).
    pub progress: Option<Progress<'a>>,
}

/// Copies files into a tree.
///
/// A directory is copied into one that is there, which gets its attributes; nothing else is replaced by a
/// directory, and no directory by anything else. A source that is a link stands for what it leads to;
/// links in a directory are copied. Kept is what [`copy_tree`](super::copy_tree) keeps. Device nodes,
/// sockets and attributes that are orders to overlay file systems are left out.
///
/// # Errors
/// [`TreeError::NoSource`] for a source that names nothing, [`TreeError::Exists`] for what can't be
/// replaced. What was copied before stays.
pub fn copy_in(from: &CopyFrom<'_>, to: &CopyInto<'_>) -> Result<Copied, TreeError> {
    let settings = Settings {
        existing: Existing::Alike,
        owner: to.owner,
        mode: to.mode.map(mode_of),
        taking: Taking::Tame,
    };
    with_crew(
        settings,
        to.filter,
        to.progress,
        to.root,
        |copier| match from {
            CopyFrom::Tree { root, sources } => {
                let root = sys::reopen(*root).step(Step::Opening);
                let root = root.map_err(|fault| fault.at("."))?;
                Copying {
                    copier,
                    to,
                    from: root.as_fd(),
                }
                .all(sources)
            }
            CopyFrom::Inline(files) => inline(copier, to, files),
        },
    )
}

/// The directory that something is copied into.
struct Target {
    dir: OwnedFd,
    /// Where it is, seen from the directory that hard links are looked for in.
    place: Arc<Place>,
}

/// Where the destination is.
enum Destination {
    /// Things go into this directory by their own names.
    Into(Target),
    /// One thing goes there by this name.
    As(Target, CString),
}

impl CopyInto<'_> {
    fn path(&self) -> &Path {
        Path::new(self.destination)
    }

    /// Makes a directory with those on the way to it.
    fn directory(&self, path: &Path) -> Result<Target, TreeError> {
        let dir = create_owned_dirs_in_root(self.root, path, PARENT_MODE, self.owner)?;
        let place = Place::root();
        Ok(Target { dir, place })
    }

    /// Whether it can only be a directory by its text.
    fn names_directory(&self) -> bool {
        let text = self.destination;
        let name = self.path().file_name();
        text.ends_with('/') || text.ends_with("/.") || name.is_none()
    }

    /// Finds out what the destination is, for something that is no directory.
    fn resolve(&self, into_directory: bool) -> Result<Destination, TreeError> {
        let is_directory = into_directory
            || self.names_directory()
            || match open_in_root(self.root, self.path(), Open::Directory) {
                Ok(_) => true,
                Err(error @ TreeError::Io { .. }) => return Err(error),
                Err(_) => false,
            };
        let name = self.path().file_name().and_then(sys::c_name);
        match (name, self.path().parent()) {
            (Some(name), Some(parent)) if !is_directory => {
                Ok(Destination::As(self.directory(parent)?, name))
            }
            _ => self.directory(self.path()).map(Destination::Into),
        }
    }
}

struct Copying<'c, 'o, 'a> {
    copier: &'c mut Copier<'o>,
    to: &'c CopyInto<'a>,
    from: BorrowedFd<'c>,
}

impl Copying<'_, '_, '_> {
    fn all(mut self, sources: &[String]) -> Result<(), TreeError> {
        let sources = select(self.from, sources, self.copier.filter)?;
        let mut last = None;
        for source in sources.found {
            self.one(&source, sources.into_directory, &mut last)?;
            // The next one may replace what this one has brought.
            self.copier.barrier()?;
        }
        Ok(())
    }

    /// Copies one source. `last` is the directory that the one before went to.
    fn one(
        &mut self,
        source: &Source,
        into_directory: bool,
        last: &mut Option<PathBuf>,
    ) -> Result<(), TreeError> {
        let is_dir = source.kind == FileType::Directory;
        let beneath = match (self.to.parents, is_dir) {
            (false, _) => Path::new(""),
            (true, true) => source.below.as_path(),
            (true, false) => source.below.parent().unwrap_or(Path::new("")),
        };
        let into = match beneath.as_os_str().is_empty() {
            // Joining nothing would add a slash.
            true => self.to.path().to_owned(),
            false => self.to.path().join(beneath),
        };
        let destination = if is_dir || !beneath.as_os_str().is_empty() {
            Destination::Into(self.to.directory(&into)?)
        } else {
            self.to.resolve(into_directory)?
        };
        let (target, name) = match destination {
            Destination::Into(target) => (target, source.path.file_name().and_then(sys::c_name)),
            Destination::As(target, name) => (target, Some(name)),
        };
        // Hard links are found among what goes to the same directory.
        if last.replace(into.clone()) != Some(into) {
            let root = sys::reopen(target.dir.as_fd()).step(Step::Opening);
            self.copier.links = HardLinks::new(root.map_err(|fault| fault.at("."))?);
        }
        match name {
            Some(name) if !is_dir => self.file(source, &target, &name),
            _ => self.directory(source, target),
        }
    }

    /// Copies what is in a directory.
    fn directory(&mut self, source: &Source, target: Target) -> Result<(), TreeError> {
        let dir = open_in_root(self.from, &source.path, Open::Directory)?;
        let at = self.copier.filter.map(|_| source.path.clone());
        let folder = Folder::new(target.place, at);
        let frame = Frame::open(dir, target.dir, folder, false);
        self.copier
            .walk(frame.map_err(|fault| fault.at(&source.path))?)
    }

    /// Copies something that is no directory, or unpacks it.
    fn file(&mut self, source: &Source, target: &Target, name: &CString) -> Result<(), TreeError> {
        let failed = |fault: Fault| fault.at(&source.path);
        if self.copier.settings.leaves_out(source.kind) {
            self.copier.copied.skipped += 1;
            return Ok(());
        }
        if source.kind != FileType::RegularFile {
            return self.fifo(source, target, name);
        }
        let file = open_in_root(self.from, &source.path, Open::File)?;
        if let Some(archives) = self.to.archives
            && is_archive(archives, &file).map_err(failed)?
        {
            return self.unpack(archives, file);
        }
        let meta = Meta::of(&file).step(Step::Reading).map_err(failed)?;
        self.copier
            .open_file(&file, &meta, target, name)
            .map_err(|fault| fault.at(sys::shown(name)))?;
        self.copier.report()
    }

    /// Makes a FIFO like one that is a source; nothing else is left that could be one.
    fn fifo(&mut self, source: &Source, target: &Target, name: &CString) -> Result<(), TreeError> {
        let handle = open_in_root(self.from, &source.path, Open::Handle)?;
        let make = || -> Result<(), Fault> {
            let settings = self.copier.settings;
            let meta = settings.owned(Meta::of(&handle).step(Step::Reading)?);
            let dir = target.dir.as_fd();
            let mode = Mode::RUSR | Mode::WUSR;
            settings.create(dir, name, || {
                rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0)
            })?;
            let meta = Meta {
                kind: FileType::Fifo,
                ..meta
            };
            attributes::apply_entry(Xattrs::Given(&[]), dir, name, &meta).map(drop)
        };
        make().map_err(|fault| fault.at(sys::shown(name)))?;
        self.copier.copied.entries += 1;
        Ok(())
    }

    /// Unpacks an archive in the destination.
    fn unpack(&mut self, archives: Archives<'_>, file: OwnedFd) -> Result<(), TreeError> {
        let target = self.to.directory(self.to.path())?;
        let read = archives(File::from(file)).map_err(|source| TreeError::Io {
            step: Step::Reading,
            path: self.to.path().to_owned(),
            source,
        });
        let options = UnpackOptions {
            skip_devices: true,
            owner: self.to.owner,
            ..UnpackOptions::default()
        };
        let before = self.copier.copied;
        let told = self.to.progress;
        let mut progress = |bytes| {
            let mut now = before;
            now.bytes = now.bytes.saturating_add(bytes);
            told.map_or(ControlFlow::Continue(()), |told| told(&now))
        };
        let unpacked = unpack_tar(&mut read?, target.dir.as_fd(), &options, &mut progress)?;
        self.copier.copied.add(Copied {
            entries: unpacked.entries - unpacked.skipped_devices,
            bytes: unpacked.bytes,
            skipped_xattrs: unpacked.skipped_xattrs,
            skipped: unpacked.skipped_devices,
        });
        Ok(())
    }
}

impl Copier<'_> {
    /// Copies an open file to an entry.
    fn open_file(
        &mut self,
        file: &OwnedFd,
        meta: &Meta,
        target: &Target,
        name: &CString,
    ) -> Result<(), Fault> {
        let here = Here {
            source: target.dir.as_fd(),
            target: target.dir.as_fd(),
            place: &target.place,
        };
        self.copied.entries += 1;
        if self.linked(here, name, meta)? {
            return Ok(());
        }
        let settings = self.settings;
        self.copied.skipped_xattrs +=
            settings.copy(&mut self.data, file, meta, here.target, name)?;
        self.copied.bytes += meta.size;
        self.links.remember(meta, here.place, name);
        Ok(())
    }
}

/// Whether a file is a tar archive, compressed or not. What can't be decompressed is none.
fn is_archive(archives: Archives<'_>, file: &OwnedFd) -> Result<bool, Fault> {
    // Another opening of it: this one is read from its start later on.
    let begin = file.try_clone().map(File::from);
    let mut head = Vec::new();
    let read = begin
        .and_then(archives)
        .and_then(|read| read.take(512).read_to_end(&mut head));
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0)).step(Step::Reading)?;
    Ok(read.is_ok() && begins_archive(&head))
}

/// Writes files that come from nowhere.
fn inline(
    copier: &mut Copier<'_>,
    to: &CopyInto<'_>,
    files: &[(String, Vec<u8>)],
) -> Result<(), TreeError> {
    for (name, content) in files {
        let own_name = sys::single_name(Path::new(name));
        let own_name = own_name.ok_or_else(|| TreeError::OutsideRoot { path: name.into() })?;
        let (target, name) = match to.resolve(files.len() > 1)? {
            Destination::Into(target) => (target, own_name),
            Destination::As(target, name) => (target, name),
        };
        write_inline(copier.settings, &target, &name, content)
            .map_err(|fault| fault.at(sys::shown(&name)))?;
        copier.copied.entries += 1;
        copier.copied.bytes += content.len() as u64;
        copier.report()?;
    }
    Ok(())
}

fn write_inline(
    settings: Settings,
    target: &Target,
    name: &CString,
    content: &[u8],
) -> Result<(), Fault> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let dir = target.dir.as_fd();
    let file = settings.create(dir, name, || {
        rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
    })?;
    write_all_at(file.as_fd(), content, 0)?;
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let now = Timespec {
        tv_sec: since.as_secs().cast_signed(),
        tv_nsec: since.subsec_nanos().into(),
    };
    let meta = settings.owned(Meta {
        mode: mode_of(INLINE_MODE),
        times: Times {
            atime: now,
            mtime: now,
        },
        ..Meta::nothing()
    });
    attributes::apply_open(Xattrs::Given(&[]), &file, &meta).map(drop)
}
