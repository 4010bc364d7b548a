//! Which execution instances live: by what is recorded of them, in this boot of the machine.

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_monitor::status::{SOCKET, Status, start_time};
use kleene_types::ExecId;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::shared::instances::Instances;

/// The execution instances, in this boot of the machine.
#[derive(Debug)]
pub struct State {
    instances: Instances,
    boot_id: String,
}

/// A living process, by a descriptor that can't come to mean another one.
#[derive(Debug)]
pub struct Living {
    /// Process descriptor.
    pub process: OwnedFd,
    /// What is recorded of it.
    pub status: Status,
}

impl State {
    /// Opens the directory, which is made (0700) if it is missing.
    ///
    /// # Errors
    /// It can't be made, or `/proc` can't be read.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned();
        Ok(Self {
            instances: Instances::open(directory)?,
            boot_id,
        })
    }

    /// The machine's current boot.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Where containers of outside runtimes are recorded.
    pub fn outside(&self) -> PathBuf {
        self.instances.beside("outside")
    }

    /// The instance's process, if it lives: by its recorded start time, in the same boot.
    ///
    /// # Errors
    /// The record or `/proc` can't be read.
    pub fn living(&self, exec: &ExecId) -> io::Result<Option<Living>> {
        let Some(status) = self.status(exec)? else {
            return Ok(None);
        };
        if status.exit.is_some() || status.boot_id != self.boot_id {
            return Ok(None);
        }
        let Some(pid) = i32::try_from(status.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
            return Ok(None);
        };
        // Opened first, compared then: in between the id can't change its meaning any more.
        let same = start_time(status.pid)? == Some(status.start_time);
        Ok(same.then_some(Living { process, status }))
    }

    /// Connects to an instance's monitor.
    ///
    /// # Errors
    /// There is none (any more).
    pub fn connect(&self, exec: &ExecId) -> io::Result<UnixStream> {
        // A socket's path has at most 108 bytes: this one is short wherever the directory lies.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(self.path(exec), flags, Mode::empty())?;
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
    }
}

impl Deref for State {
    type Target = Instances;

    fn deref(&self) -> &Instances {
        &self.instances
    }
}
