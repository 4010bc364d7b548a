//! Differences between trees in the words of the storage door.

use std::path::PathBuf;

use kleene_doors::storage::{Change, ChangeKind};
use kleene_tree::Difference;

pub(crate) fn as_changes(found: Vec<(PathBuf, Difference)>) -> Vec<Change> {
    let changes = found.into_iter().map(|(path, difference)| Change {
        path,
        kind: match difference {
            Difference::Added => ChangeKind::Added,
            Difference::Changed => ChangeKind::Changed,
            Difference::Deleted => ChangeKind::Deleted,
        },
    });
    changes.collect()
}
