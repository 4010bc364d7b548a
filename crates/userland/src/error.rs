//! Turns the errors of the system and of other crates into the door's.

use std::io::{self, ErrorKind};

use kleene_doors::userland::UserlandError;
use kleene_tree::TreeError;

/// The error of an input or output operation that belongs to `action` ("copying /bin/ls").
pub(crate) fn io_error(action: impl Into<String>, error: io::Error) -> UserlandError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => UserlandError::NoSpace(action.into()),
        _ => failed(action, error),
    }
}

/// The error of an operation on a tree.
pub(crate) fn tree_error(action: impl Into<String>, error: TreeError) -> UserlandError {
    match error {
        TreeError::Cancelled => UserlandError::Cancelled,
        TreeError::NoSpace { .. } => UserlandError::NoSpace(action.into()),
        other => failed(action, other),
    }
}

/// Any other error.
pub(crate) fn failed(
    action: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> UserlandError {
    UserlandError::Failed {
        action: action.into(),
        source: source.into(),
    }
}
