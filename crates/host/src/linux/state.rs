//! The directory of running execution instances: one directory each, as `kleene_monitor::status`
//! describes it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kleene_monitor::status::{MONITOR_LOG, SOCKET, Status, start_time};
use kleene_types::ExecId;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Characters of a monitor's log that are quoted.
const QUOTED: u64 = 2000;

/// All execution instances that a monitor was started for and that weren't forgotten yet.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
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
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned();
        // Monitors have working directories of their own.
        Ok(Self {
            directory: fs::canonicalize(directory)?,
            boot_id,
        })
    }

    /// The machine's current boot.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Where containers of outside runtimes are recorded: no instance has such a name.
    pub fn outside(&self) -> PathBuf {
        self.directory.join("outside")
    }

    /// An instance's directory.
    pub fn path(&self, exec: &ExecId) -> PathBuf {
        self.directory.join(exec.as_str())
    }

    /// Every instance that has a directory.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn instances(&self) -> io::Result<Vec<ExecId>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().into_string().ok();
            let exec = name.and_then(|name| name.parse().ok());
            if let Some(exec) = exec
                && entry.file_type()?.is_dir()
            {
                found.push(exec);
            }
        }
        Ok(found)
    }

    /// Makes an instance's directory.
    ///
    /// # Errors
    /// It can't be made, or is there already.
    pub fn create(&self, exec: &ExecId) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.path(exec))
    }

    /// Removes an instance's directory. Missing is success.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove(&self, exec: &ExecId) -> io::Result<()> {
        match fs::remove_dir_all(self.path(exec)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// What is recorded of an instance.
    ///
    /// # Errors
    /// The record can't be read.
    pub fn status(&self, exec: &ExecId) -> io::Result<Option<Status>> {
        Status::read(&self.path(exec))
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

    /// What the instance's monitor has complained about.
    pub fn complaints(&self, exec: &ExecId) -> String {
        let mut text = String::new();
        let read = File::open(self.path(exec).join(MONITOR_LOG))
            .and_then(|log| log.take(QUOTED).read_to_string(&mut text));
        match read {
            Ok(1..) => text.trim().to_owned(),
            _ => "it left no message".to_owned(),
        }
    }
}
