//! The userland room and what can be set of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kleene_command::{Runner, System};

/// FreeBSD's own server. It sends people to a mirror near them.
const FREEBSD_MIRROR: &str = "https://download.freebsd.org/ftp";

/// A build that wants a larger file probably has the wrong URL.
const MAX_DOWNLOAD: u64 = 16 << 30;

/// A minimal system is some 60 MB to download and 200 MB to install.
const BOOTSTRAP_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What this host is. Tests make others up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// The system's name, as `uname -s` prints it.
    pub system: String,
    /// Its release, as `uname -r` prints it: `14.2-RELEASE-p1`, `6.12.9`.
    pub release: String,
    /// The machine, as `uname -m` prints it: `amd64`, `x86_64`.
    pub machine: String,
    /// Where `etc/os-release` and `etc/apt` are.
    pub root: PathBuf,
}

impl Host {
    /// The host that this runs on.
    pub fn this() -> Self {
        let uname = rustix::system::uname();
        let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
        Self {
            system: text(uname.sysname()),
            release: text(uname.release()),
            machine: text(uname.machine()),
            root: "/".into(),
        }
    }

    pub(crate) fn is_freebsd(&self) -> bool {
        self.system == "FreeBSD"
    }
}

/// The userland room of this system.
#[derive(Clone)]
pub struct SystemUserland {
    pub(crate) cache_dir: PathBuf,
    pub(crate) host: Host,
    pub(crate) runner: Arc<dyn Runner>,
    pub(crate) freebsd_mirror: String,
    /// Where bootstrapping programs are; `None`: in the system's directories.
    pub(crate) programs: Option<PathBuf>,
    pub(crate) max_download: u64,
    pub(crate) bootstrap_limit: Duration,
}

impl SystemUserland {
    /// Keeps unfinished downloads and trees in `cache_dir`, which is made when it is needed.
    pub fn new(cache_dir: PathBuf) -> Self {
        Self {
            cache_dir,
            host: Host::this(),
            runner: Arc::new(System),
            freebsd_mirror: FREEBSD_MIRROR.to_owned(),
            programs: None,
            max_download: MAX_DOWNLOAD,
            bootstrap_limit: BOOTSTRAP_LIMIT,
        }
    }

    /// Takes FreeBSD's releases from this `http://` or `https://` URL instead of FreeBSD's own server.
    /// It is what `releases` is below.
    #[must_use]
    pub fn freebsd_mirror(mut self, url: impl Into<String>) -> Self {
        self.freebsd_mirror = url.into();
        self
    }

    /// The largest file that [`kleene_doors::userland::Userland::download`] takes, in bytes; 16 GiB
    /// otherwise.
    #[must_use]
    pub fn max_download(mut self, bytes: u64) -> Self {
        self.max_download = bytes;
        self
    }

    /// How long a bootstrap may take; 30 minutes otherwise.
    #[must_use]
    pub fn bootstrap_limit(mut self, limit: Duration) -> Self {
        self.bootstrap_limit = limit;
        self
    }

    /// Works for another host.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Starts programs with this.
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn Runner>) -> Self {
        self.runner = runner;
        self
    }

    /// Looks for bootstrapping programs in this directory alone.
    #[must_use]
    pub fn programs(mut self, dir: PathBuf) -> Self {
        self.programs = Some(dir);
        self
    }
}
