//! The process's working directory.

use std::os::fd::BorrowedFd;

use kleene_doors::host::StartFailure;
use kleene_tree::{Open, TreeError, create_dirs_in_root, open_in_root};
use kleene_types::ContainerPath;

use crate::failure::{OrFail, Started, setup};

/// A directory in a container, where a process is to start.
pub(crate) struct WorkingDirectory<'a> {
    root: BorrowedFd<'a>,
    /// `None`: the root, which the process is in already.
    path: Option<&'a ContainerPath>,
}

impl<'a> WorkingDirectory<'a> {
    /// That of a process in a running container, where nothing is made: a misspelt path must not leave
    /// a directory behind.
    pub(crate) fn existing(root: BorrowedFd<'a>, path: Option<&'a ContainerPath>) -> Self {
        Self { root, path }
    }

    /// That of a container's first process. Makes the directory if it is missing: beneath the root,
    /// wherever links lead.
    pub(crate) fn ensure(root: BorrowedFd<'a>, path: Option<&'a ContainerPath>) -> Started<Self> {
        if let Some(path) = path {
            create_dirs_in_root(root, path.beneath(), 0o755)
                .or_fail(|| format!("making the working directory '{path}'"))?;
        }
        Ok(Self { root, path })
    }

    /// Makes it the working directory. The whole way to it must be open to the user that the process
    /// has become; magic links of procfs, which lead out of the container, are none.
    pub(crate) fn enter(&self) -> Started<()> {
        let Some(path) = self.path else {
            return Ok(());
        };
        let directory = open_in_root(self.root, path.beneath(), Open::Handle);
        let directory = directory.map_err(|error| match error {
            TreeError::NotFound { .. } => setup(format!(
                "the working directory '{path}' is not in the container: check the path, or make it \
                 first"
            )),
            error => not_entered(path, &error),
        })?;
        rustix::process::fchdir(directory).map_err(|errno| not_entered(path, &errno))
    }
}

fn not_entered(path: &ContainerPath, error: &dyn std::error::Error) -> StartFailure {
    let error = crate::failure::whole(error);
    setup(format!(
        "entering the working directory '{path}' failed: {error}; may the process's user enter it?"
    ))
}
