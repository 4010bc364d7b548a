//! Errors that every room words in the same way.

use kleene_doors::storage::StorageError;

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
