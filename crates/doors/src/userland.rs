//! The userland door: fills the tree of a new base image, and fetches files for builds.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kleene_types::{Checksum, EnvVar};

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
    /// The host's own release without a registry: on FreeBSD its release archive, elsewhere what
    /// [`Source::Bootstrap`] does.
    Auto,
    /// The minimal system of the host's own Linux distribution, installed from its packages.
    Bootstrap,
}

/// What the host runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// A name for images of it: `Debian-12`, `FreeBSD-14.2`. Fit for an image's name.
    pub name: String,
    /// `freebsd`, or the `ID` in os-release(5): `debian`, `alpine`.
    pub id: String,
    /// `14.2`, `12`; rolling distributions have none.
    pub version: Option<String>,
    /// `bookworm`.
    pub codename: Option<String>,
    /// The image that stands for it in the usual registry, such as `debian:12` or
    /// `opensuse/leap:15.6`; `None` where there is no official one.
    pub registry_reference: Option<String>,
    /// Whether [`Source::Auto`] has a method for it. Programs that the method needs may be missing.
    pub can_fill: bool,
}

/// A file that was downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where it is: `name` in the directory that was given. Mode 0600.
    pub path: PathBuf,
    /// What it is called: the last part of the URL's path, else what the server says, else
    /// `download`. Never empty, `.` or `..`; without slashes and control characters; at most 255
    /// bytes.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, whatever the expected checksum was.
    pub sha256: Checksum,
    /// When it was last changed, as the server says.
    pub last_modified: Option<SystemTime>,
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
    /// Install the operating system's updates (FreeBSD only; an error elsewhere).
    pub update: bool,
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

    /// Fills the empty directory `into` from a tar archive, plain or compressed, that arrives as a
    /// stream. What is wrong with it is told as for [`Source::Archive`]; progress has no total.
    /// Little or nothing behind the archive's end is read.
    ///
    /// # Errors
    /// See [`Userland::fill`]. Those of `from` are [`UserlandError::Failed`].
    fn fill_from(
        &self,
        from: &mut dyn Read,
        extras: Extras,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Defaults, UserlandError>;

    /// What the host runs.
    ///
    /// # Errors
    /// [`UserlandError::Unsupported`] when it doesn't say; the message names the methods that need
    /// not know.
    fn release(&self) -> Result<Release, UserlandError>;

    /// Downloads `url` (`http://`, `https://`) into the directory `into`, which nobody else writes to.
    /// A file of the same name is replaced. The file gets its name when it is complete and has the
    /// wanted checksum. What has arrived of a download that fails is kept elsewhere for the next try.
    ///
    /// # Errors
    /// [`UserlandError::Invalid`] for a bad URL, a server that doesn't have it, a file that is too
    /// large, another checksum.
    fn download(
        &self,
        url: &str,
        checksum: Option<&Checksum>,
        into: &Path,
        progress: ProgressSink<'_>,
    ) -> Result<Downloaded, UserlandError>;
}
