//! Which room to open.

use std::path::Path;
use std::sync::Arc;

use kleene_command::{Runner, System};
use kleene_doors::storage::{Storage, StorageError};
use serde::{Deserialize, Serialize};

use crate::{DirStorage, ZfsStorage};

/// The configuration's `storage_driver`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Told from the form of `kleene_root`: a directory begins with `/`, a dataset doesn't.
    #[default]
    Auto,
    /// `kleene_root` is a dataset of ZFS.
    Zfs,
    /// `kleene_root` is a directory.
    Dir,
}

/// Opens the storage room for a Kleene root, an absolute path or a ZFS dataset's name.
///
/// # Errors
/// [`StorageError::Invalid`] when the driver and the root don't go together, or the root can't be
/// used; the message says what to do.
pub fn open(driver: Driver, kleene_root: &str) -> Result<Arc<dyn Storage>, StorageError> {
    open_with(Arc::new(System), driver, kleene_root)
}

/// As [`open`], with programs started by `runner`.
///
/// # Errors
/// As [`open`].
pub fn open_with(
    runner: Arc<dyn Runner>,
    driver: Driver,
    kleene_root: &str,
) -> Result<Arc<dyn Storage>, StorageError> {
    check(driver, kleene_root)?;
    if kleene_root.starts_with('/') {
        Ok(Arc::new(DirStorage::open(Path::new(kleene_root))?))
    } else {
        Ok(Arc::new(ZfsStorage::open(runner, kleene_root)?))
    }
}

/// Whether a driver and a Kleene root go together, without looking at the machine.
///
/// # Errors
/// [`StorageError::Invalid`] when they don't; the message says what to do.
pub fn check(driver: Driver, kleene_root: &str) -> Result<(), StorageError> {
    let is_path = kleene_root.starts_with('/');
    let invalid = |reason: &str| {
        Err(StorageError::Invalid(format!(
            "kleene_root: '{kleene_root}' {reason}"
        )))
    };
    match driver {
        _ if kleene_root.is_empty() => {
            invalid("is empty: name a directory such as /var/lib/kleene, or a ZFS dataset")
        }
        Driver::Zfs if is_path => invalid(
            "is a directory, but storage_driver is 'zfs': name a dataset such as zroot/kleene, or \
             use the driver 'dir'",
        ),
        Driver::Dir if !is_path => invalid(
            "is no absolute path, but storage_driver is 'dir': name a directory such as \
             /var/lib/kleene, or use the driver 'zfs'",
        ),
        _ if kleene_root.starts_with('.') => {
            invalid("is a relative path: a directory is named by its absolute path")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_command::Scripted;

    fn refusal(driver: Driver, root: &str) -> String {
        let runner = Arc::new(Scripted::new());
        match open_with(runner.clone(), driver, root) {
            Ok(_) => panic!("{root} was opened"),
            Err(error) => {
                assert_eq!(runner.finish(), Ok(()), "no program may run for {root}");
                error.to_string()
            }
        }
    }

    #[test]
    fn contradictions_are_explained() {
        let cases = [
            (Driver::Zfs, "/var/lib/kleene", "use the driver 'dir'"),
            (Driver::Dir, "zroot/kleene", "use the driver 'zfs'"),
            (Driver::Auto, "", "is empty"),
            (Driver::Auto, "./kleene", "absolute path"),
            (Driver::Auto, "/", "whole file system"),
            (Driver::Auto, "zroot/../kleene", "not a dataset's name"),
            (Driver::Auto, "zroot/k@snapshot", "not a dataset's name"),
            (Driver::Auto, "-r", "not a dataset's name"),
            (Driver::Auto, "/var/lib/../kleene", "must not contain '..'"),
        ];
        for (driver, root, expected) in cases {
            let message = refusal(driver, root);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn the_form_tells_the_room() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("kleene");
        let storage = open(Driver::Auto, root.to_str().unwrap()).unwrap();
        assert_eq!(storage.info().driver, "dir");
    }
}
