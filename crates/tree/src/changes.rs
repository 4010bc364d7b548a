//! Tells what differs between two trees, of which one may be layers of an overlay over the other.

pub(crate) mod layers;
mod walk;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::error::TreeError;
use walk::Walk;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Difference {
    /// It is new.
    Added,
    /// It is another now: its kind, mode, owner, extended attributes; a file's size or modification
    /// time, a link's text, a node's device number, the names in a directory.
    Changed,
    /// It is gone.
    Deleted,
}

/// How the newer tree lies over the older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stacking {
    /// Neither has to do with the other: each is one directory.
    Apart,
    /// The layers of the newer one are upper layers of an overlay over those of the older one.
    Over,
    /// Both are overlays of their own.
    Beside,
}

/// Two trees to be compared. Layers come with the topmost first, as `lowerdir` has them.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The older tree's layers; none when it is empty.
    pub old: &'a [OwnedFd],
    /// The newer tree's layers: all of them, or those that are on top of the older one's.
    pub new: &'a [OwnedFd],
    /// How they lie.
    pub stacking: Stacking,
    /// Where to look, if that is known already: paths relative to the root, which itself is the empty
    /// path. What is in none of these directories, or is none of these entries, is taken to be the
    /// same.
    pub only: Option<&'a BTreeSet<PathBuf>>,
}

/// What differs, by path (absolute, as a container sees it) and sorted by that.
///
/// Of a directory that is new everything in it is listed; of one that is gone only itself. A
/// directory in which entries came or went has changed; the root alone isn't listed for that, as it
/// says nothing. Files whose size and modification time are the same count as the same, and so do
/// links with the same text. Links aren't followed, and mounts inside aren't entered.
///
/// Empty directories `/dev`, `/proc` and `/sys` that the older tree lacks aren't listed: containers
/// need them as mount points, and get them when they start.
///
/// Only directories that upper layers have are looked into when they lie over the older tree, so the
/// cost depends on what has changed, not on the size of the trees.
///
/// # Errors
/// Names the first entry that couldn't be looked at. Entries that vanish meanwhile are left out.
pub fn changes(comparison: &Comparison<'_>) -> Result<Vec<(PathBuf, Difference)>, TreeError> {
    let mut found = Walk::new(comparison).run()?;
    found.sort_unstable();
    Ok(found)
}

/// The directories that a container's own file systems are mounted on.
const SYSTEM: [&str; 3] = ["dev", "proc", "sys"];

/// Whether an entry of the root is one of them by its name.
pub(crate) fn is_system(name: &OsStr) -> bool {
    SYSTEM.iter().any(|system| name == *system)
}

/// An absolute path from one that is relative to the root.
fn absolute(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}
