//! One `zfs-fuse` for all tests of a machine, where the kernel has no ZFS.
//!
//! Only one can run at a time. Whoever needs it holds a shared lock on one file; starting and
//! stopping happens under an exclusive lock on another. The last user stops it, if tests started it:
//! its process id is in a file of ours then. Locks go with the processes that hold them, so tests
//! that were killed are not in the way.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::run;

/// Where the locks are; the same for every test on the machine, whatever its `TMPDIR`.
const STATE: &str = "/run/kleene-testkit";

/// The program, and its process's name.
const ZFS_FUSE: &str = "zfs-fuse";

/// How long it may take to answer.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The right to use ZFS.
#[derive(Debug)]
pub(super) struct Daemon {
    users: Option<File>,
}

impl Daemon {
    /// Waits for ZFS to be usable, starting `zfs-fuse` if need be. `prepare` runs while nobody else
    /// starts or stops it.
    pub(super) fn acquire(prepare: impl FnOnce() -> Result<(), String>) -> Result<Self, String> {
        fs::create_dir_all(STATE).map_err(|error| format!("{STATE}: {error}"))?;
        let _starting = Starting::lock()?;
        let users = open(&state("users"))?;
        flock(&users, FlockOperation::LockShared).map_err(|errno| format!("flock: {errno}"))?;
        if let Err(error) = run(&["zpool", "list", "-H"]) {
            start(&error)?;
        }
        prepare()?;
        Ok(Self { users: Some(users) })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Ok(_starting) = Starting::lock() else {
            return;
        };
        self.users = None;
        let alone = open(&state("users"))
            .is_ok_and(|users| flock(&users, FlockOperation::NonBlockingLockExclusive).is_ok());
        if alone && let Err(error) = stop() {
            eprintln!("zfs-fuse was left running: {error}");
        }
    }
}

/// Held while the daemon is started or stopped.
struct Starting {
    _lock: File,
}

impl Starting {
    fn lock() -> Result<Self, String> {
        let lock = open(&state("starting"))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| format!("flock: {errno}"))?;
        Ok(Self { _lock: lock })
    }
}

fn state(name: &str) -> PathBuf {
    Path::new(STATE).join(name)
}

fn open(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Starts `zfs-fuse`; `why` is what ZFS said without it.
fn start(why: &str) -> Result<(), String> {
    if !Path::new("/dev/fuse").exists() {
        return Err(format!(
            "ZFS can't be used ({why}), and zfs-fuse can't be started without /dev/fuse"
        ));
    }
    let pid_file = state("pid");
    // It doesn't start while the file is there.
    let _stale = fs::remove_file(&pid_file);
    let path = pid_file.display().to_string();
    run(&[ZFS_FUSE, "--pidfile", &path, "--no-kstat-mount"]).map_err(|error| {
        format!("the tests of ZFS need the Debian package zfs-fuse, or ZFS in the kernel: {error}")
    })?;
    let until = Instant::now() + START_LIMIT;
    while let Err(error) = run(&["zpool", "list", "-H"]) {
        if Instant::now() > until {
            return Err(format!("zfs-fuse was started, but doesn't answer: {error}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Stops the daemon, if tests started it and it has nothing to do.
fn stop() -> Result<(), String> {
    let pid_file = state("pid");
    let Some(pid) = fs::read_to_string(&pid_file)
        .ok()
        .and_then(|text| Pid::from_raw(text.trim().parse().ok()?))
    else {
        return Ok(());
    };
    if !run(&["zpool", "list", "-H", "-o", "name"])?
        .trim()
        .is_empty()
    {
        return Err("there are pools".to_owned());
    }
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| errno.to_string())?;
    // The descriptor stands for this process, so its name can't change hands any more.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.trim() != ZFS_FUSE {
        return Err(format!("process {pid} is none"));
    }
    // Without pools there is nothing to lose, and asking politely takes five seconds.
    pidfd_send_signal(&process, Signal::KILL).map_err(|errno| errno.to_string())?;
    wait(&process)?;
    fs::remove_file(&pid_file).map_err(|error| error.to_string())
}

fn wait(process: &OwnedFd) -> Result<(), String> {
    loop {
        match poll(&mut [PollFd::new(process, PollFlags::IN)], None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
    }
}
