//! The crate's error type, and what inner functions return before the path is known.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What was being done to an entry when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Opening a file or directory, or resolving its path.
    Opening,
    /// Reading an entry, a directory or the archive.
    Reading,
    /// Creating an entry.
    Creating,
    /// Writing a file's content.
    Writing,
    /// Making a hard link.
    Linking,
    /// Changing the owner.
    SettingOwner,
    /// Changing the mode.
    SettingMode,
    /// Changing the times.
    SettingTimes,
    /// Reading extended attributes.
    ReadingAttributes,
    /// Writing extended attributes.
    SettingAttributes,
    /// Setting file flags.
    SettingFlags,
    /// Taking away file flags that stand in the way.
    ClearingFlags,
    /// Removing an entry.
    Removing,
    /// Renaming an entry.
    Renaming,
    /// Waiting for data to be durable.
    Syncing,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "opening",
            Self::Reading => "reading",
            Self::Creating => "creating",
            Self::Writing => "writing",
            Self::Linking => "making the hard link",
            Self::SettingOwner => "setting the owner of",
            Self::SettingMode => "setting the mode of",
            Self::SettingTimes => "setting the times of",
            Self::ReadingAttributes => "reading the extended attributes of",
            Self::SettingAttributes => "setting the extended attributes of",
            Self::SettingFlags => "setting the file flags of",
            Self::ClearingFlags => "clearing the file flags of",
            Self::Removing => "removing",
            Self::Renaming => "renaming",
            Self::Syncing => "syncing",
        })
    }
}

/// Why an operation on a tree failed. Paths are relative to the tree's root, which itself is `.`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The path (or a directory on the way to it) doesn't exist.
    #[error("{path:?} doesn't exist")]
    NotFound {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The path, or something on the way to it, is no directory.
    #[error("{path:?} isn't a directory")]
    NotADirectory {
        /// The offending path.
        path: PathBuf,
    },
    /// A directory is where a file is wanted.
    #[error("{path:?} is a directory")]
    IsADirectory {
        /// The offending path.
        path: PathBuf,
    },
    /// The target already has an entry of this name, and it may not be replaced.
    #[error("{path:?} already exists in the target")]
    Exists {
        /// The offending path.
        path: PathBuf,
    },
    /// The path leads out of its root, or isn't a name at all.
    #[error("{path:?} leads out of its root")]
    OutsideRoot {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// Too many symbolic links on the way.
    #[error("{path:?} has too many levels of symbolic links")]
    LoopedLinks {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The file system is full, or a quota is used up.
    #[error("no space left while {step} {path:?}")]
    NoSpace {
        /// What was being done.
        step: Step,
        /// The entry it was done to.
        path: PathBuf,
        /// `ENOSPC` or `EDQUOT`.
        #[source]
        source: io::Error,
    },
    /// An archive's entry is malformed, or would do harm.
    #[error("the archive's entry {entry:?} is refused: {reason}")]
    Hostile {
        /// The entry's name as the archive gives it.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The source of a copy names nothing.
    #[error("there is no {pattern:?} to copy, or it is left out")]
    NoSource {
        /// The source as it was given, or what of it is missing.
        pattern: String,
    },
    /// A layer of an image would take the entry for something else.
    #[error(
        "{path:?} can't be in a layer of an image: names that begin with .wh. stand for what is gone"
    )]
    NotInLayers {
        /// The entry.
        path: PathBuf,
    },
    /// The stream isn't a tar archive.
    #[error("not a tar archive: {reason}")]
    NotAnArchive {
        /// What shows it.
        reason: String,
    },
    /// The archive ends too early.
    #[error("the archive is cut short {after}")]
    Truncated {
        /// Where, in words: `in entry "x"`, `after entry "x"`.
        after: String,
    },
    /// The caller's progress function asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Something is mounted inside a tree that is to be removed.
    #[error("something is mounted on {path:?}: unmount it first")]
    MountInside {
        /// The mount point.
        path: PathBuf,
    },
    /// An entry was moved or replaced while it was worked on.
    #[error("{path:?} was replaced while {step} it")]
    Changed {
        /// What was being done.
        step: Step,
        /// The entry.
        path: PathBuf,
    },
    /// An entry's file flags keep it from being removed or replaced, and can't be cleared.
    #[error(
        "{path:?} has file flags (schg, uchg and the like) that can't be cleared: that takes root, \
         kern.securelevel not above 0, and in a jail allow.chflags"
    )]
    Locked {
        /// The entry.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Any other failure.
    #[error("{step} {path:?} failed")]
    Io {
        /// What was being done.
        step: Step,
        /// The entry it was done to.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl TreeError {
    /// The error for a failed system call on `path`.
    pub(crate) fn new(step: Step, path: impl AsRef<Path>, errno: Errno) -> Self {
        let path = match path.as_ref() {
            empty if empty.as_os_str().is_empty() => PathBuf::from("."),
            path => path.to_owned(),
        };
        let source = io::Error::from(errno);
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace { step, path, source },
            Errno::NOENT if step == Step::Opening => Self::NotFound { path },
            Errno::NOTDIR if step == Step::Opening => Self::NotADirectory { path },
            Errno::LOOP if step == Step::Opening => Self::LoopedLinks { path },
            Errno::XDEV if step == Step::Opening => Self::OutsideRoot { path },
            Errno::EXIST if step == Step::Creating => Self::Exists { path },
            Errno::ISDIR => Self::IsADirectory { path },
            Errno::PERM if step == Step::ClearingFlags => Self::Locked { path, source },
            _ => Self::Io { step, path, source },
        }
    }

    /// The system's error code, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::NoSpace { source, .. } | Self::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A failed step whose path only the caller knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub step: Step,
    pub errno: Errno,
}

impl Fault {
    /// A step that failed with this error.
    pub fn new(step: Step, errno: Errno) -> Self {
        Self { step, errno }
    }

    /// Completes the fault with the path it happened at.
    pub fn at(self, path: impl AsRef<Path>) -> TreeError {
        TreeError::new(self.step, path, self.errno)
    }
}

/// Names the step that a system call belongs to.
pub(crate) trait InStep<T> {
    /// Turns the error code into a [`Fault`].
    fn step(self, step: Step) -> Result<T, Fault>;
}

impl<T> InStep<T> for rustix::io::Result<T> {
    fn step(self, step: Step) -> Result<T, Fault> {
        self.map_err(|errno| Fault { step, errno })
    }
}
