//! Fills an empty directory from another one, all or nothing.
//!
//! The copy is made in a staging directory inside the target, so it is on the same file system and
//! counts against the same quota:
//!
//! ```text
//! .kleene-populate/        0700; renamed to .kleene-publish once the copy is complete and durable
//!     tree/                the entries
//!     own/                 empty; carries owner, mode, times and attributes for the target itself
//! ```
//!
//! The renaming is the point of no return: a populate that is cut short before it is undone, one
//! that is cut short after it is finished.

use std::collections::HashSet;
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::attributes::{self, Node, Xattrs};
use crate::copy::{Copied, CopyOptions, copy_tree};
use crate::error::{Fault, InStep, Step, TreeError};
use crate::flags;
use crate::meta::{Id, Meta};
use crate::remove::remove_tree;
use crate::sys;

const STAGING: &CStr = c".kleene-populate";
const PUBLISHING: &CStr = c".kleene-publish";
const TREE: &CStr = c"tree";
const OWN: &CStr = c"own";
const LOST_AND_FOUND: &CStr = c"lost+found";

/// What [`populate`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PopulateOutcome {
    /// There is nothing to copy. The target is still empty, but has the source's owner, mode and
    /// other attributes but file flags now, unless somebody has given it others than a new directory has.
    SourceEmpty,
    /// The target has entries, and is untouched.
    TargetNotEmpty,
    /// The target has the source's entries and attributes (but no file flags of its own) now, durably.
    Copied(Copied),
}

/// Where a populate can be interrupted; tests do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Staged,
    CopiedEntry,
    CopiedAll,
    Synced,
    Committed,
    PublishedEntry,
    PublishedAll,
    Attributed,
    Removed,
}

/// Called at each [`Point`].
pub(crate) type Hook<'a> = &'a dyn Fn(Point);

/// Whether this is a name that an unfinished populate leaves in its target.
pub(crate) fn is_staging_name(name: &CStr) -> bool {
    name == STAGING || name == PUBLISHING
}

/// Fills `target` with the contents of `source` if it is empty: all or nothing, also when the
/// process is killed half-way ([`recover_populate`] or the next populate then finish or undo it).
/// Only one of several populates of one target copies; the others wait and then find it filled.
///
/// Empty means no entries but the staging directories and an empty `lost+found` of root's.
///
/// # Errors
/// After an error while copying (such as [`TreeError::NoSpace`]) the target is empty again.
pub fn populate(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
) -> Result<PopulateOutcome, TreeError> {
    with_lock(target, |target| populate_locked(source, target, &|_| ()))
}

/// Finishes or undoes a [`populate`] that was cut short. `Ok(false)` when there was none.
pub fn recover_populate(target: BorrowedFd<'_>) -> Result<bool, TreeError> {
    with_lock(target, |target| recover_locked(target, &|_| ()))
}

/// [`populate`] by whoever holds the lock.
pub(crate) fn populate_locked(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    hook: Hook<'_>,
) -> Result<PopulateOutcome, TreeError> {
    let source = sys::reopen(source).step(Step::Opening).map_err(at_root)?;
    recover_locked(target, hook)?;
    if !is_empty(target)? {
        return Ok(PopulateOutcome::TargetNotEmpty);
    }
    if is_empty(source.as_fd())? {
        if is_fresh(target)? {
            copy_own_attributes(source.as_fd(), target).map_err(at_root)?;
            sys::sync_dir(target).step(Step::Syncing).map_err(at_root)?;
        }
        return Ok(PopulateOutcome::SourceEmpty);
    }
    let copied = match stage(source.as_fd(), target, hook) {
        Ok(copied) => copied,
        Err(error) => {
            // The first error says more than one of cleaning up; recovery tries that again.
            let _ = remove_tree(target, name_path(STAGING));
            return Err(error);
        }
    };
    publish(target, hook)?;
    Ok(PopulateOutcome::Copied(copied))
}

fn recover_locked(target: BorrowedFd<'_>, hook: Hook<'_>) -> Result<bool, TreeError> {
    let mut found = false;
    if is_ours(target, PUBLISHING)? {
        publish(target, hook)?;
        found = true;
    }
    if is_ours(target, STAGING)? {
        remove_tree(target, name_path(STAGING))?;
        sys::sync_dir(target).step(Step::Syncing).map_err(at_root)?;
        found = true;
    }
    Ok(found)
}

/// Makes a complete and durable copy, and commits to publishing it.
fn stage(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    hook: Hook<'_>,
) -> Result<Copied, TreeError> {
    let fail = |fault: Fault| fault.at(name_path(STAGING));
    let staging = make_dir(target, STAGING).map_err(fail)?;
    let tree = make_dir(staging.as_fd(), TREE).map_err(fail)?;
    let own = make_dir(staging.as_fd(), OWN).map_err(fail)?;
    hook(Point::Staged);
    copy_own_attributes(source, own.as_fd()).map_err(at_root)?;
    let progress = |_: &Copied| {
        hook(Point::CopiedEntry);
        ControlFlow::Continue(())
    };
    let options = CopyOptions {
        own_attributes: false,
        progress: Some(&progress),
        ..Default::default()
    };
    let copied = copy_tree(source, tree.as_fd(), &options)?;
    hook(Point::CopiedAll);
    sys::sync_tree(staging.as_fd())
        .step(Step::Syncing)
        .map_err(fail)?;
    hook(Point::Synced);
    sys::rename_no_replace(target, STAGING, target, PUBLISHING)
        .step(Step::Renaming)
        .map_err(fail)?;
    sys::sync_dir(target).step(Step::Syncing).map_err(at_root)?;
    hook(Point::Committed);
    Ok(copied)
}

/// Moves everything in place. May be repeated from any point on.
fn publish(target: BorrowedFd<'_>, hook: Hook<'_>) -> Result<(), TreeError> {
    let fail = |fault: Fault| fault.at(name_path(PUBLISHING));
    let staging = sys::open_dir(target, PUBLISHING)
        .step(Step::Opening)
        .map_err(fail)?;
    if let Some(tree) = open_if_there(staging.as_fd(), TREE).map_err(fail)? {
        publish_entries(tree.as_fd(), target, hook)?;
        sys::sync_dir(target).step(Step::Syncing).map_err(at_root)?;
    }
    hook(Point::PublishedAll);
    let own = open_if_there(staging.as_fd(), OWN).map_err(fail)?;
    let mut times = None;
    if let Some(own) = own {
        copy_own_attributes(own.as_fd(), target).map_err(at_root)?;
        times = Some(Meta::of(&own).step(Step::Reading).map_err(fail)?.times);
    }
    hook(Point::Attributed);
    remove_tree(target, name_path(PUBLISHING))?;
    // Removing the staging directory has changed the target's times again.
    if let Some(times) = times {
        attributes::set_times(target, times).map_err(at_root)?;
    }
    hook(Point::Removed);
    sys::sync_dir(target).step(Step::Syncing).map_err(at_root)
}

/// Renames the entries into the target. What somebody else has made there meanwhile wins.
fn publish_entries(
    tree: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    hook: Hook<'_>,
) -> Result<(), TreeError> {
    for entry in sys::entries(tree).step(Step::Reading).map_err(at_root)? {
        let name = entry.name.as_c_str();
        // Should we be killed between two system calls, the entry comes without the flags that it had, or
        // (on FreeBSD) with another time.
        match flags::renamed(tree, name, target, name, || rename(tree, target, name)) {
            Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
            Err(errno) => {
                return Err(TreeError::new(Step::Renaming, name_path(name), errno));
            }
        }
        hook(Point::PublishedEntry);
    }
    Ok(())
}

/// Renames an entry. A directory's new `..` is a change of it on FreeBSD: so its times are set again.
fn rename(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let before = if cfg!(target_os = "linux") {
        None
    } else {
        let dir = sys::open_dir(from, name).ok();
        dir.and_then(|dir| Some((Meta::of(&dir).ok()?.times, dir)))
    };
    sys::rename_no_replace(from, name, to, name)?;
    match before {
        Some((times, dir)) => rustix::fs::futimens(dir, &times.stamps()),
        None => Ok(()),
    }
}

fn copy_own_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Fault> {
    // Without file flags: a directory that is to be filled, and written to, can't have them.
    let meta = Meta {
        flags: 0,
        ..Meta::of(from).step(Step::Reading)?
    };
    attributes::clear_default_acl(to)?;
    attributes::apply_open(Xattrs::Of(Node::Open(from)), to, &meta).map(drop)
}

fn make_dir(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Fault> {
    rustix::fs::mkdirat(parent, name, Mode::RWXU).step(Step::Creating)?;
    let dir = sys::open_dir(parent, name).step(Step::Creating)?;
    attributes::clear_default_acl(dir.as_fd())?;
    Ok(dir)
}

fn open_if_there(parent: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>, Fault> {
    match sys::open_dir(parent, name) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => Ok(None),
        Err(errno) => Err(Fault {
            step: Step::Opening,
            errno,
        }),
    }
}

/// Whether the target has a staging directory of ours by this name: root's, private, and with
/// nothing in it but what staging makes. Anything else of that name is somebody's data.
fn is_ours(target: BorrowedFd<'_>, name: &CStr) -> Result<bool, TreeError> {
    let fail = |fault: Fault| fault.at(name_path(name));
    let Some(staging) = open_if_there(target, name).map_err(fail)? else {
        return Ok(false);
    };
    let meta = Meta::of(&staging).step(Step::Reading).map_err(fail)?;
    if meta.uid != 0 || meta.mode.as_raw_mode() & 0o7777 != 0o700 {
        return Ok(false);
    }
    let entries = sys::entries(staging.as_fd()).step(Step::Reading);
    let known = [TREE, OWN];
    Ok(entries
        .map_err(fail)?
        .iter()
        .all(|entry| known.contains(&entry.name.as_c_str())))
}

/// Whether the directory's owner and mode are those that it was made with. Others are somebody's
/// choice, such as that of an application which already uses the volume.
fn is_fresh(dir: BorrowedFd<'_>) -> Result<bool, TreeError> {
    let meta = Meta::of(dir).step(Step::Reading).map_err(at_root)?;
    let mode = meta.mode.as_raw_mode() & 0o7777;
    Ok((meta.uid, meta.gid, mode) == (0, 0, 0o755))
}

/// Whether nothing is in the directory that anybody could miss.
fn is_empty(dir: BorrowedFd<'_>) -> Result<bool, TreeError> {
    for entry in sys::entries(dir).step(Step::Reading).map_err(at_root)? {
        let ours = is_staging_name(&entry.name) && is_ours(dir, &entry.name)?;
        let nothing = ours || (entry.name.as_c_str() == LOST_AND_FOUND && is_unused(dir)?);
        if !nothing {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `lost+found` is as the file system's maker left it.
fn is_unused(dir: BorrowedFd<'_>) -> Result<bool, TreeError> {
    let fail = |fault: Fault| fault.at(name_path(LOST_AND_FOUND));
    let Some(lost) = open_if_there(dir, LOST_AND_FOUND).map_err(fail)? else {
        return Ok(false);
    };
    let owner = Meta::of(&lost).step(Step::Reading).map_err(fail)?.uid;
    Ok(owner == 0
        && sys::entries(lost.as_fd())
            .step(Step::Reading)
            .map_err(fail)?
            .is_empty())
}

fn name_path(name: &CStr) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()))
}

fn at_root(fault: Fault) -> TreeError {
    fault.at(".")
}

/// The targets that this process is populating.
static POPULATING: Mutex<Option<HashSet<Id>>> = Mutex::new(None);
/// Signalled when a target is taken out of [`POPULATING`].
static DONE: Condvar = Condvar::new();

/// Runs `work` as the only one of this process on this target, however long it takes. Other
/// processes are kept away by the lock on the Kleene root; a lock on the target itself would be one
/// that containers can take, too.
fn with_lock<T>(
    target: BorrowedFd<'_>,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<T, TreeError>,
) -> Result<T, TreeError> {
    let target = sys::reopen(target).step(Step::Opening).map_err(at_root)?;
    let id = Meta::of(&target).step(Step::Reading).map_err(at_root)?.id;
    let _turn = Turn::wait_for(id);
    work(target.as_fd())
}

/// Being the only one in this process who works on a target.
struct Turn(Id);

impl Turn {
    fn wait_for(id: Id) -> Self {
        let mut list = populating();
        while !list.get_or_insert_default().insert(id) {
            list = DONE.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
        Self(id)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        populating().get_or_insert_default().remove(&self.0);
        DONE.notify_all();
    }
}

fn populating() -> MutexGuard<'static, Option<HashSet<Id>>> {
    POPULATING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
mod tests;
