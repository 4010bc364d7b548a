//! Stopping all processes of a container in their tracks.
//!
//! The unified hierarchy does it in every group (Linux 5.2 and later), and its frozen processes can
//! be killed. In version 1 there is a controller for it, and `SIGKILL` waits until they are thawed.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use kleene_types::ContainerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Controller, Hierarchies};

/// How long the processes of a container may take to stop: they finish the system call that they
/// are in, unless it waits for something that can be interrupted.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between two looks where the kernel announces nothing.
const PAUSE: Duration = Duration::from_millis(2);

/// What stops a container's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freezer {
    /// The container's group of version 2.
    Unified(PathBuf),
    /// The container's group of the controller `freezer`.
    Legacy(PathBuf),
}

impl Hierarchies {
    /// What stops a running container's processes, if anything can.
    pub fn freezer(&self, container: &ContainerId) -> Option<Freezer> {
        let unified = self.unified_group(container);
        if let Some(group) = unified.filter(|group| group.join("cgroup.freeze").exists()) {
            return Some(Freezer::Unified(group));
        }
        let group = self.home(Controller::Freezer)?.group(container);
        let state = group.join("freezer.state");
        state.exists().then_some(Freezer::Legacy(group))
    }

    /// Whether a container's processes are stopped, or being stopped.
    ///
    /// # Errors
    /// The group can't be read.
    pub fn is_frozen(&self, container: &ContainerId) -> io::Result<bool> {
        self.freezer(container)
            .map_or(Ok(false), |freezer| freezer.is_frozen())
    }

    /// Lets stopped processes go on, so that they can take notice of signals. Nothing to do it with
    /// is success.
    ///
    /// # Errors
    /// The group refuses.
    pub fn thaw(&self, container: &ContainerId) -> io::Result<()> {
        match self.freezer(container) {
            Some(freezer) if freezer.is_frozen()? => freezer.thaw(),
            _ => Ok(()),
        }
    }

    /// Lets stopped processes take notice of `SIGKILL`, which they do anyway in version 2.
    ///
    /// # Errors
    /// The group refuses.
    pub fn let_die(&self, container: &ContainerId) -> io::Result<()> {
        match self.freezer(container) {
            Some(freezer @ Freezer::Legacy(_)) if freezer.is_frozen()? => freezer.thaw(),
            _ => Ok(()),
        }
    }
}

impl Freezer {
    /// Stops the processes; returns when they are stopped. If they don't within some time, they go
    /// on.
    ///
    /// # Errors
    /// The group refuses; [`io::ErrorKind::TimedOut`].
    pub fn freeze(&self) -> io::Result<()> {
        let frozen = match self {
            Self::Unified(group) => {
                fs::write(group.join("cgroup.freeze"), "1")?;
                await_event(File::open(group.join("cgroup.events"))?)
            }
            Self::Legacy(group) => await_state(group.join("freezer.state")),
        };
        if frozen.is_err() {
            self.thaw()?;
        }
        frozen
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// The group refuses.
    pub fn thaw(&self) -> io::Result<()> {
        match self {
            Self::Unified(group) => fs::write(group.join("cgroup.freeze"), "0"),
            Self::Legacy(group) => fs::write(group.join("freezer.state"), "THAWED"),
        }
    }

    /// Whether the processes are stopped, or being stopped.
    ///
    /// # Errors
    /// The group can't be read.
    pub fn is_frozen(&self) -> io::Result<bool> {
        let read = |path: PathBuf| match fs::read_to_string(path) {
            // The container has ended meanwhile.
            Err(error) if is_gone(&error) => Ok(String::new()),
            other => other,
        };
        Ok(match self {
            Self::Unified(group) => read(group.join("cgroup.freeze"))?.trim() == "1",
            Self::Legacy(group) => {
                let state = read(group.join("freezer.state"))?;
                matches!(state.trim(), "FROZEN" | "FREEZING")
            }
        })
    }
}

/// Whether a group's file couldn't be read because the group is gone, or about to be.
pub fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn too_slow() -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!(
            "some of its processes didn't stop within {} s (they may be waiting for a disk or the \
             network): all of them go on",
            PATIENCE.as_secs()
        ),
    )
}

/// Waits for the announcement `frozen 1`.
fn await_event(mut events: File) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut text = String::new();
        events.rewind()?;
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(too_slow());
        }
        let timeout = Timespec::try_from(left).ok();
        match poll(
            &mut [PollFd::new(&events, PollFlags::PRI)],
            timeout.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Asks for `FROZEN` until that is the state: a process that was made meanwhile may need to be told
/// again.
fn await_state(state: PathBuf) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        fs::write(&state, "FROZEN")?;
        if fs::read_to_string(&state)?.trim() == "FROZEN" {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(too_slow());
        }
        thread::sleep(PAUSE);
    }
}
