//! Waiting for what happens a little later.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long a dataset may take to be mounted or released.
const LONGEST: Duration = Duration::from_secs(5);

/// The longest single wait.
const LONGEST_STEP: Duration = Duration::from_millis(100);

/// Waits that grow, up to a limit.
#[derive(Debug)]
pub(super) struct Patience {
    step: Duration,
    until: Instant,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            step: Duration::from_millis(1),
            until: Instant::now() + LONGEST,
        }
    }

    /// Waits a little; `false`, at once, when the limit is reached.
    pub(super) fn wait(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        thread::sleep(self.step);
        self.step = (self.step * 2).min(LONGEST_STEP);
        true
    }
}

/// Whether something is mounted on the directory. A directory that isn't there is no mount.
pub(super) fn is_mounted(path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else {
        return Ok(true);
    };
    match (rustix::fs::lstat(path), rustix::fs::lstat(parent)) {
        (Ok(it), Ok(parent)) => Ok(it.st_dev != parent.st_dev),
        (Err(rustix::io::Errno::NOENT), _) => Ok(false),
        (Err(errno), _) | (_, Err(errno)) => Err(errno.into()),
    }
}
