//! What a container has made of its image.
//!
//! The snapshot that the container is a clone of is cloned once more, read-only, and the two trees are
//! compared. Where there is `zfs diff` (OpenZFS) it says where to look, so that the rest of the trees
//! needn't be read; what differs there is for the comparison to find, since `zfs diff` speaks of
//! objects: it lists what was changed and changed back, renames a directory without a word about what
//! is in it, and leaves out new names of files that have others.
//!
//! The second clone, `zroot/kleene/comparing-CONTAINER-NUMBER`, is destroyed at once; one that a crash
//! leaves behind is destroyed at the next start.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use kleene_doors::storage::{Change, Dataset, Storage as _, StorageError};
use kleene_tree::{Comparison, Stacking};
use kleene_types::ContainerId;
use rustix::fs::{CWD, Mode, OFlags, openat};

use super::{ZfsStorage, zfs_argv};
use crate::changes::as_changes;

/// What the names of second clones begin with.
const PREFIX: &str = "comparing-";

/// Both have to read what differs.
const DIFF_LIMIT: Duration = Duration::from_secs(600);

/// See [`kleene_doors::storage::Storage::changes`].
pub(super) fn changes(
    storage: &ZfsStorage,
    container: &ContainerId,
) -> Result<Vec<Change>, StorageError> {
    let dataset = Dataset::Container(container.clone());
    storage.ensure_mounted(&dataset)?;
    let name = storage.name(&dataset);
    let mountpoint = storage.mountpoint(&dataset);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StorageError::Failed {
        action: "comparing",
        dataset: name.clone(),
        source,
    };
    let origin = storage.property("origin", &name)?;
    let only = if origin == "-" {
        None
    } else {
        where_to_look(storage, &origin, &name, &mountpoint)
    };
    if only.as_ref().is_some_and(BTreeSet::is_empty) {
        return Ok(Vec::new());
    }
    let clone = match origin.as_str() {
        "-" => None,
        origin => Some(SecondClone::make(storage, origin, container)?),
    };
    let old = match &clone {
        Some(clone) => vec![open(&clone.mountpoint()).map_err(|error| failed(error.into()))?],
        None => Vec::new(),
    };
    let new = [open(&mountpoint).map_err(|error| failed(error.into()))?];
    let comparison = Comparison {
        old: &old,
        new: &new,
        stacking: Stacking::Apart,
        only: only.as_ref(),
    };
    let found = kleene_tree::changes(&comparison).map_err(|error| failed(error.into()));
    // An open directory would keep the second clone from being destroyed.
    drop(old);
    drop(clone);
    found.map(as_changes)
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// A clone of a container's origin, for as long as this lives.
struct SecondClone<'s> {
    storage: &'s ZfsStorage,
    leaf: String,
}

impl<'s> SecondClone<'s> {
    fn make(
        storage: &'s ZfsStorage,
        origin: &str,
        container: &ContainerId,
    ) -> Result<Self, StorageError> {
        // Several clients may ask for the changes of one container at once.
        let number = storage.comparisons.fetch_add(1, Ordering::Relaxed);
        let clone = Self {
            storage,
            leaf: format!("{PREFIX}{container}-{number}"),
        };
        let name = clone.name();
        // Should this fail half-way, dropping the clone destroys what there is of it.
        let made = storage.run(&["clone", "-o", "readonly=on", origin, &name]);
        if let Err(error) = made {
            return Err(storage.failed("cloning", origin.to_owned(), error));
        }
        storage.wait_for_mount_on(&name, &clone.mountpoint())?;
        Ok(clone)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.storage.root, self.leaf)
    }

    fn mountpoint(&self) -> PathBuf {
        self.storage.places.root.join(&self.leaf)
    }
}

impl Drop for SecondClone<'_> {
    fn drop(&mut self) {
        // What can't be destroyed now is at the next start.
        let _left = self.storage.destroy_name(&self.name());
    }
}

/// Whether a dataset right beneath the root, of this name, is a second clone.
pub(super) fn is_second_clone(leaf: &str) -> bool {
    let rest = leaf.strip_prefix(PREFIX);
    let parts = rest.and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(id, number)| {
        id.parse::<ContainerId>().is_ok() && number.parse::<u64>().is_ok()
    })
}

/// The paths that `zfs diff` names, relative to the root; `None` where it doesn't exist, fails, or
/// says something unknown.
fn where_to_look(
    storage: &ZfsStorage,
    origin: &str,
    name: &str,
    mountpoint: &Path,
) -> Option<BTreeSet<PathBuf>> {
    let argv = zfs_argv(&["diff", "-H", origin, name]).time_limit(DIFF_LIMIT);
    let output = storage.runner.run(&argv).ok()?;
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let mut only = BTreeSet::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let mut fields = line.split(|byte| *byte == b'\t');
        let paths = match (fields.next()?, fields.next()?, fields.next()) {
            ([b'M' | b'+' | b'-'], path, None) => [Some(path), None],
            // Another number of names.
            ([b'M'], path, Some([b'(', ..])) => [Some(path), None],
            ([b'R'], path, Some(new)) => [Some(path), Some(new)],
            _ => return None,
        };
        for path in paths.into_iter().flatten() {
            let path = PathBuf::from(OsString::from_vec(unescape(path)?));
            only.insert(path.strip_prefix(mountpoint).ok()?.to_owned());
        }
    }
    Some(only)
}

/// Takes the escapes out of a path: `\` and four octal digits stand for a byte.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(4)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 8).ok()?);
        rest = after;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_taken_out() {
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            (b"/c/plain", Some(b"/c/plain")),
            (
                b"/c/a\\0040b\\0134\\0303\\0251",
                Some("/c/a b\\é".as_bytes()),
            ),
            (b"/c/short\\004", None),
            (b"/c/odd\\0zzz", None),
            (b"/c/large\\0777", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(unescape(text).as_deref(), bytes);
        }
    }

    #[test]
    fn only_our_own_clones_are_ours() {
        assert!(is_second_clone("comparing-0123456789ab-0"));
        for other in [
            "comparing-0123456789ab",
            "comparing-0123456789ab-x",
            "comparing-precious-1",
            "comparing-",
            "volumes",
        ] {
            assert!(!is_second_clone(other), "{other}");
        }
    }
}
