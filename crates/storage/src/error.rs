//! Errors that every room words in the same way.

use std::path::Path;

use kleene_doors::storage::StorageError;
use kleene_types::{ByteSize, ContainerId};

/// Clones that depend on a dataset stand in the way of destroying it.
pub(crate) fn has_clones(dataset: String, clones: &[String]) -> StorageError {
    let (depend, those) = if clones.len() == 1 {
        ("depends", "that")
    } else {
        ("depend", "those")
    };
    StorageError::InUse {
        dataset,
        reason: format!("{} {depend} on it: remove {those} first", clones.join(", ")),
    }
}

/// A mount stands in the way of destroying a dataset.
pub(crate) fn mounted(dataset: String, on: &Path) -> StorageError {
    StorageError::InUse {
        dataset,
        reason: format!(
            "there is a mount of it or in it on '{}': unmount that first",
            on.display()
        ),
    }
}

/// A container has more data than it is to be limited to.
pub(crate) fn too_small(container: &ContainerId, quota: ByteSize, used: u64) -> StorageError {
    StorageError::Invalid(format!(
        "the storage of container '{container}' can't be limited to {} bytes: {used} bytes are in use \
         already; choose a higher limit, or remove files first",
        quota.bytes()
    ))
}
