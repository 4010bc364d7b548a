//! Resolves and creates paths beneath a root the way a process whose `/` it is would see them.
//!
//! Links are followed as long as they stay in the root: absolute ones start at the root, and `..`
//! at the root is the root. On Linux `openat2` does this, on FreeBSD `O_RESOLVE_BENEATH` in the usual case;
//! what these can't do (creating directories on the way, older kernels, other systems) a walk of one
//! component at a time does.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::error::{Fault, InStep, Step, TreeError};
use crate::kernels;
use crate::meta::Meta;
use crate::sys;

/// As many links as the kernel follows (`path_resolution(7)`).
const MAX_LINKS: u32 = 40;

/// As deep as the walk goes. It keeps every directory open, and the path is a stranger's.
const MAX_DEPTH: usize = 512;

/// How often a path that changes under the walk is tried again.
const TRIES: u32 = 16;

/// What to open. All descriptors are close-on-exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// A handle (`O_PATH`) on whatever it is; a link at the end is followed.
    Handle,
    /// A handle on whatever it is; a link at the end is opened itself.
    HandleNoFollow,
    /// A directory, to read its entries or to work in it.
    Directory,
    /// A regular file, to read its content.
    File,
}

impl Open {
    fn flags(self) -> OFlags {
        let base = OFlags::CLOEXEC;
        match self {
            Self::Handle => sys::HANDLE,
            Self::HandleNoFollow => sys::HANDLE | OFlags::NOFOLLOW,
            Self::Directory => base | OFlags::RDONLY | OFlags::DIRECTORY,
            Self::File => base | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        }
    }
}

/// Opens `path` beneath `root`; an absolute path starts at the root, too. Never leaves the root,
/// and never follows the magic links of procfs.
///
/// # Errors
/// [`TreeError::NotFound`], [`TreeError::NotADirectory`], [`TreeError::LoopedLinks`],
/// [`TreeError::IsADirectory`] (a file was wanted), and for something that is neither
/// [`TreeError::Io`] with `EINVAL`.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, what: Open) -> Result<OwnedFd, TreeError> {
    let opened = if what == Open::File {
        open_file(root, path)
    } else {
        resolve(root, path, what.flags())
    };
    opened.map_err(|fault| fault.at(path))
}

/// The path of an existing entry beneath `root` without links: relative to the root, of plain names
/// alone, and empty for the root itself. Links are followed as [`open_in_root`] does it, one at the
/// end too.
///
/// For tools that take nothing but paths, such as `mount_nullfs(8)`. Somebody who may write to the
/// tree can put a link in place of a directory as soon as this has returned: whoever uses the path
/// must keep the tree's users from running, or look again afterwards.
///
/// # Errors
/// As [`open_in_root`] for [`Open::Handle`]; paths deeper than 512 directories are refused.
pub fn resolve_in_root(root: BorrowedFd<'_>, path: &Path) -> Result<PathBuf, TreeError> {
    let found = again(|| {
        let mut walk = Walk::new(root, Make::Nothing);
        walk.run(path, sys::HANDLE)?;
        Ok(walk.names.iter().map(|name| sys::shown(name)).collect())
    });
    found.map_err(|fault: Fault| fault.at(path))
}

/// Opens a regular file. Its type is looked at through a handle first: opening a device or a FIFO
/// can have effects of its own.
fn open_file(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Fault> {
    let handle = resolve(root, path, Open::Handle.flags())?;
    let meta = Meta::of(&handle).step(Step::Opening)?;
    check_regular(&meta)?;
    let file = resolve(root, path, Open::File.flags())?;
    check_regular(&Meta::of(&file).step(Step::Opening)?)?;
    Ok(file)
}

fn check_regular(meta: &Meta) -> Result<(), Fault> {
    let errno = match meta.kind {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => Errno::ISDIR,
        _ => Errno::INVAL,
    };
    Err(Fault {
        step: Step::Opening,
        errno,
    })
}

/// Makes `path` a directory beneath `root`, with its parents, and opens it for working in it. New
/// directories get `mode` whatever the process's umask is; existing ones stay as they are. A
/// dangling link on the way gets its target made, inside the root.
///
/// # Errors
/// [`TreeError::NotADirectory`] where something else is in the way; else as [`open_in_root`].
pub fn create_dirs_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: u32,
) -> Result<OwnedFd, TreeError> {
    create_owned_dirs_in_root(root, path, mode, None)
}

/// As [`create_dirs_in_root`]; new directories get this owner.
pub(crate) fn create_owned_dirs_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<OwnedFd, TreeError> {
    let flags = Open::Directory.flags();
    match resolve(root, path, flags) {
        Err(Fault {
            errno: Errno::NOENT,
            ..
        }) => {}
        other => return other.map_err(|fault| fault.at(path)),
    }
    let make = Make::Directories(mode_of(mode), owner);
    again(|| Walk::new(root, make).run(path, flags)).map_err(|fault| fault.at(path))
}

/// Makes sure that `path` is a file beneath `root`, and gives a handle (`O_PATH`) on it. A file,
/// device or socket that is there stays as it is. Else an empty regular file with `mode` is
/// created, and missing parents with 0755.
///
/// # Errors
/// [`TreeError::IsADirectory`] when a directory is there; else as [`create_dirs_in_root`].
pub fn create_file_in_root(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: u32,
) -> Result<OwnedFd, TreeError> {
    let make = Make::File(mode_of(mode));
    let handle = match resolve(root, path, sys::HANDLE) {
        Err(Fault {
            errno: Errno::NOENT,
            ..
        }) => again(|| Walk::new(root, make).run(path, sys::HANDLE)),
        other => other,
    };
    let check = |handle: OwnedFd| {
        if Meta::of(&handle).step(Step::Opening)?.is_dir() {
            return Err(Fault {
                step: Step::Opening,
                errno: Errno::ISDIR,
            });
        }
        Ok(handle)
    };
    handle.and_then(check).map_err(|fault| fault.at(path))
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the raw mode's width differs between systems"
)]
pub(crate) fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as _)
}

/// Opens an existing path beneath the root.
#[cfg(target_os = "linux")]
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
    use rustix::fs::{ResolveFlags, openat2};
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    for _ in 0..TRIES {
        match openat2(root, path, flags, Mode::empty(), resolve) {
            // A rename raced with `..`.
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::NOSYS) => break,
            other => return other.step(Step::Opening),
        }
    }
    again(|| Walk::new(root, Make::Nothing).run(path, flags))
}

/// Opens an existing path beneath the root.
///
/// FreeBSD's `O_RESOLVE_BENEATH` does it in one step, in which nobody can change the path, as long as it
/// meets no absolute link and no `..` above the root. It refuses these; all else means the same with and
/// without it. So what it finds is right, and the walk is for what it refuses.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
    #[cfg(target_os = "freebsd")]
    if let Ok(found) = resolve_beneath(root, path, flags) {
        return Ok(found);
    }
    again(|| Walk::new(root, Make::Nothing).run(path, flags))
}

#[cfg(target_os = "freebsd")]
fn resolve_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let text = path.as_os_str().as_bytes();
    let begin = text.iter().position(|byte| *byte != b'/');
    let beneath = match begin.and_then(|begin| text.get(begin..)) {
        Some(beneath) => beneath,
        None => b".",
    };
    rustix::fs::openat(
        root,
        beneath,
        flags | OFlags::RESOLVE_BENEATH,
        Mode::empty(),
    )
}

/// Repeats a walk that somebody changed the path under (`EAGAIN`).
fn again<T>(mut walk: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let mut tries = 0;
    loop {
        match walk() {
            Err(Fault {
                errno: Errno::AGAIN,
                ..
            }) if tries < TRIES => tries += 1,
            other => return other,
        }
    }
}

/// What a walk makes of names that don't exist.
#[derive(Debug, Clone, Copy)]
enum Make {
    Nothing,
    /// With this mode, and this owner if it isn't the process's own.
    Directories(Mode, Option<(u32, u32)>),
    File(Mode),
}

/// One part of a path that is still to be walked.
enum Part {
    Root,
    Up,
    /// A slash or dot at the end: what is before it must be a directory.
    Here,
    Name(OsString),
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = Part> {
    let text = path.as_os_str().as_bytes();
    let end = (text.ends_with(b"/") || text.ends_with(b"/.")).then_some(Part::Here);
    let names = path.components().filter_map(|component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    });
    names.chain(end)
}

/// A walk of one component at a time. The directories passed stay open, so `..` goes where the walk
/// came from, wherever somebody moves a directory meanwhile.
struct Walk<'r> {
    root: BorrowedFd<'r>,
    passed: Vec<OwnedFd>,
    /// The names of those, and at the end that of what was wanted.
    names: Vec<CString>,
    ahead: VecDeque<Part>,
    links: u32,
    make: Make,
}

impl<'r> Walk<'r> {
    fn new(root: BorrowedFd<'r>, make: Make) -> Self {
        Self {
            root,
            passed: Vec::new(),
            names: Vec::new(),
            ahead: VecDeque::new(),
            links: 0,
            make,
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.passed.last().map_or(self.root, AsFd::as_fd)
    }

    fn run(&mut self, path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
        self.ahead.extend(parts(path));
        while let Some(part) = self.ahead.pop_front() {
            match part {
                Part::Root => {
                    self.passed.clear();
                    self.names.clear();
                }
                Part::Up => {
                    self.passed.pop();
                    self.names.pop();
                }
                Part::Here => {}
                Part::Name(name) => {
                    let name = sys::c_name(&name).ok_or(Fault {
                        step: Step::Opening,
                        errno: Errno::INVAL,
                    })?;
                    if let Some(end) = self.step(&name, flags)? {
                        return Ok(end);
                    }
                }
            }
        }
        // The path ended in "..", "/" or nothing.
        rustix::fs::openat(self.here(), c".", flags, Mode::empty()).step(Step::Opening)
    }

    /// Passes one name; gives what was wanted if it was the last.
    fn step(&mut self, name: &CStr, flags: OFlags) -> Result<Option<OwnedFd>, Fault> {
        let is_last = self.ahead.is_empty();
        if !(is_last && flags.contains(OFlags::NOFOLLOW)) && self.follow(name)? {
            return Ok(None);
        }
        if is_last {
            let end = self.last(name, flags)?;
            self.names.push(name.to_owned());
            return Ok(Some(end));
        }
        let next = self.directory(name)?;
        self.passed.push(next);
        self.names.push(name.to_owned());
        if self.passed.len() > MAX_DEPTH {
            return Err(Fault {
                step: Step::Opening,
                errno: Errno::NAMETOOLONG,
            });
        }
        Ok(None)
    }

    /// Puts the target of a link ahead; `false` when the name is no link.
    fn follow(&mut self, name: &CStr) -> Result<bool, Fault> {
        let target = match rustix::fs::readlinkat(self.here(), name, Vec::new()) {
            Ok(target) => target,
            Err(Errno::INVAL | Errno::NOENT) => return Ok(false),
            Err(errno) => {
                return Err(Fault {
                    step: Step::Opening,
                    errno,
                });
            }
        };
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Fault {
                step: Step::Opening,
                errno: Errno::LOOP,
            });
        }
        self.refuse_magic()?;
        let target = OsString::from_vec(target.into_bytes());
        for part in parts(Path::new(&target)).rev() {
            self.ahead.push_front(part);
        }
        Ok(true)
    }

    /// The links of procfs don't lead where their text says; the walk couldn't leave the root by
    /// them, but would end up somewhere else than a container.
    fn refuse_magic(&self) -> Result<(), Fault> {
        if kernels::shows_processes(self.here()).step(Step::Opening)? {
            return Err(Fault {
                step: Step::Opening,
                errno: Errno::LOOP,
            });
        }
        Ok(())
    }

    /// Opens a directory on the way, made if need be.
    fn directory(&self, name: &CStr) -> Result<OwnedFd, Fault> {
        let (mode, owner) = match self.make {
            Make::Nothing => return raced(sys::open_dir(self.here(), name), self.here(), name),
            Make::Directories(mode, owner) => (mode, owner),
            Make::File(_) => (Mode::from_raw_mode(0o755), None),
        };
        match sys::open_dir(self.here(), name) {
            Err(Errno::NOENT) => self.make_directory(name, mode, owner),
            other => raced(other, self.here(), name),
        }
    }

    fn make_directory(
        &self,
        name: &CStr,
        mode: Mode,
        owner: Option<(u32, u32)>,
    ) -> Result<OwnedFd, Fault> {
        match rustix::fs::mkdirat(self.here(), name, mode) {
            Ok(()) => {
                let dir = sys::open_dir(self.here(), name).step(Step::Creating)?;
                if let Some((uid, gid)) = owner {
                    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                    rustix::fs::fchown(&dir, Some(uid), Some(gid)).step(Step::SettingOwner)?;
                }
                rustix::fs::fchmod(&dir, mode).step(Step::SettingMode)?;
                Ok(dir)
            }
            Err(Errno::EXIST) => raced(sys::open_dir(self.here(), name), self.here(), name),
            Err(errno) => Err(Fault {
                step: Step::Creating,
                errno,
            }),
        }
    }

    /// Opens the last name, made if need be.
    fn last(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd, Fault> {
        let here = self.here();
        let open = || rustix::fs::openat(here, name, flags | OFlags::NOFOLLOW, Mode::empty());
        let opened = match (open(), self.make) {
            (Err(Errno::NOENT), Make::Directories(mode, owner)) => {
                drop(self.make_directory(name, mode, owner)?);
                open()
            }
            (Err(Errno::NOENT), Make::File(mode)) => {
                self.make_file(name, mode)?;
                open()
            }
            (opened, _) => opened,
        };
        let opened = raced(opened, here, name)?;
        // A handle is given on links, too: on one that has just come, it isn't what was wanted.
        if flags.contains(OFlags::NOFOLLOW)
            || Meta::of(&opened).step(Step::Opening)?.kind != FileType::Symlink
        {
            return Ok(opened);
        }
        Err(Fault {
            step: Step::Opening,
            errno: Errno::AGAIN,
        })
    }

    fn make_file(&self, name: &CStr, mode: Mode) -> Result<(), Fault> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::openat(self.here(), name, flags, mode) {
            Ok(file) => rustix::fs::fchmod(&file, mode).step(Step::SettingMode),
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(Fault {
                step: Step::Creating,
                errno,
            }),
        }
    }
}

/// Opening a link with `O_NOFOLLOW` fails. The walk has seen that the name is none, so somebody
/// has just made it one: `EAGAIN` starts over.
fn raced(
    opened: rustix::io::Result<OwnedFd>,
    dir: BorrowedFd<'_>,
    name: &CStr,
) -> Result<OwnedFd, Fault> {
    match opened {
        Err(errno @ (Errno::LOOP | Errno::NOTDIR | Errno::MLINK)) => match Meta::at(dir, name) {
            Ok(meta) if meta.kind == FileType::Symlink => Err(Fault {
                step: Step::Opening,
                errno: Errno::AGAIN,
            }),
            _ => Err(Fault {
                step: Step::Opening,
                errno,
            }),
        },
        other => other.step(Step::Opening),
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
mod tests;
