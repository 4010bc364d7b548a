//! The lock that keeps a second daemon away from a Kleene root.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long the lock may be taken before somebody else has it for good. A program that is just being
/// started by a daemon that has ended holds it for a moment, until its own code runs.
const PATIENCE: Duration = Duration::from_millis(500);

/// Locks the open directory until its last descriptor is closed.
///
/// # Errors
/// `WOULDBLOCK` when another process has locked it, and those of `flock(2)`.
pub(crate) fn lock(directory: impl AsFd) -> rustix::io::Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                thread::sleep(Duration::from_millis(10));
            }
            other => return other,
        }
    }
}
