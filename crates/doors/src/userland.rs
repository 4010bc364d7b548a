//! The userland door: fills the tree of a new base image.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use kleene_types::EnvVar;

/// Where a base image's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A tar archive, plain or compressed, at a `file://`, `http://` or `https://` URL.
    Archive {
        /// The URL as the user gave it.
        url: String,
    },
    /// The host's own programs with the libraries that they need.
    Host {
        /// Further programs, files or directories of the host.
        add: Vec<PathBuf>,
    },
    /// The operating system's own release archive, found out from the host.
    Auto,
}

/// How far filling has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, for a person: `downloading`, `unpacking`, `copying /bin/sh`…
    pub step: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, when known.
    pub total: Option<u64>,
}

/// Told now and then how far filling has come; `Break` cancels it.
pub type ProgressSink<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// What to put into the tree beside the source's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extras {
    /// Copy the host's `/etc/resolv.conf` in.
    pub resolv_conf: bool,
    /// Copy the host's `/etc/localtime` in.
    pub localtime: bool,
}

/// What the image starts with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Defaults {
    /// The default command; empty: none.
    pub cmd: Vec<String>,
    /// The default environment.
    pub env: Vec<EnvVar>,
    /// A name for the image where the user asked for one to be found (`FreeBSD-14.2`).
    pub name: Option<String>,
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum UserlandError {
    /// What the user gave can't be used: a bad URL, a missing file, a hostile or damaged archive.
    /// The message says what to do.
    #[error("{0}")]
    Invalid(String),
    /// The method isn't there on this host; the message names the others.
    #[error("{0}")]
    Unsupported(String),
    /// The disk is full.
    #[error("no space left while {0}: free some space and try again")]
    NoSpace(String),
    /// The one who asked went away.
    #[error("cancelled")]
    Cancelled,
    /// Anything else.
    #[error("{action} failed")]
    Failed {
        /// What was being done.
        action: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The userland door.
pub trait Userland: Send + Sync {
    /// Fills the empty directory `into`, the root of a new image.
    ///
    /// # Errors
    /// See [`UserlandError`]; `into` may hold a part of the files then, and the caller throws the
    /// dataset away.
    fn fill(
        &self,
        source: &Source,
        extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError>;
}
