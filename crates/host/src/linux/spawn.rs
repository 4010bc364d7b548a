//! Starts monitors, talks to them, and reaps them.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kleene_command::spawn::{Companion, spawn};
use kleene_doors::frames::Frame;
use kleene_doors::host::StartFailure;
use kleene_monitor::proto::StartMessage;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// How long a monitor may take to start a process: mounts may lie on slow disks.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running monitor whose process runs.
pub struct Monitored {
    /// The process.
    pub pid: u32,
    /// The monitor's control stream.
    pub control: UnixStream,
    /// The attached client's stream.
    pub attached: Option<UnixStream>,
}

/// Why a monitor didn't start a process.
pub enum Refused {
    /// It said so.
    Failure(StartFailure),
    /// Something went wrong with the monitor itself.
    Broken(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Starts a monitor in an instance's directory and has it start a process. If that fails, the
/// monitor has ended when this returns.
///
/// # Errors
/// See [`Refused`].
pub fn start(
    program: &OwnedFd,
    directory: &Path,
    log: File,
    message: &StartMessage,
    reaper: &Reaper,
) -> Result<Monitored, Refused> {
    let (mut control, theirs) = UnixStream::pair()?;
    let (attached, their_attached) = if message.request.attach {
        let (ours, theirs) = UnixStream::pair()?;
        (Some(ours), Some(theirs.into()))
    } else {
        (None, None)
    };
    let mut monitor = spawn(Companion {
        program: program.as_fd(),
        argv: &["kleene-monitor", message.request.exec.as_str()],
        directory,
        stdin: theirs.into(),
        stdout: their_attached,
        stderr: log,
    })?;
    match negotiate(&mut control, message) {
        Ok(pid) => {
            reaper.adopt(&monitor)?;
            Ok(Monitored {
                pid,
                control,
                attached,
            })
        }
        Err(refused) => {
            // It has ended or is ending by itself, or hangs; its process dies with it.
            drop(monitor.kill());
            monitor.wait()?;
            Err(refused)
        }
    }
}

fn negotiate(control: &mut UnixStream, message: &StartMessage) -> Result<u32, Refused> {
    control.set_read_timeout(Some(START_LIMIT))?;
    control.set_write_timeout(Some(START_LIMIT))?;
    let message = serde_json::to_vec(message).map_err(io::Error::other)?;
    Frame::Start(message).write(control)?;
    let pid = match Frame::read(control)? {
        Some(Frame::Started(pid)) => pid,
        Some(Frame::Failed(failure)) => return Err(Refused::Failure(failure)),
        Some(_) => return Err(io::Error::other("the monitor has sent something else").into()),
        None => return Err(io::Error::other("the monitor has ended").into()),
    };
    control.set_read_timeout(None)?;
    control.set_write_timeout(None)?;
    Ok(pid)
}

/// Reaps monitors when they end: one thread that sleeps until then.
pub struct Reaper {
    shared: Arc<Shared>,
}

struct Shared {
    epoll: OwnedFd,
    /// Written to when the thread is to end.
    wake: OwnedFd,
    /// Process descriptors by their numbers.
    monitors: Mutex<HashMap<u64, OwnedFd>>,
}

impl Reaper {
    /// Starts the thread.
    ///
    /// # Errors
    /// Threads or descriptors are used up.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared {
            epoll,
            wake,
            monitors: Mutex::default(),
        });
        shared.await_readable(&shared.wake)?;
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("reaper".to_owned())
            .stack_size(64 << 10);
        thread.spawn(move || its.reap())?;
        Ok(Self { shared })
    }

    /// Takes over a monitor.
    fn adopt(&self, monitor: &Child) -> io::Result<()> {
        let pid = i32::try_from(monitor.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no such process"))?;
        // Nobody else reaps it, so the id can't have changed its meaning.
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        let key = key(&process);
        let mut monitors = self
            .shared
            .monitors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.shared.await_readable(&process)?;
        monitors.insert(key, process);
        Ok(())
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        // It can only fail if the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
    }
}

impl Shared {
    fn await_readable(&self, fd: &OwnedFd) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key(fd));
        Ok(epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)?)
    }

    fn reap(&self) {
        loop {
            let mut events = Vec::with_capacity(16);
            if let Err(errno) = epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                None,
            ) {
                if errno == rustix::io::Errno::INTR {
                    continue;
                }
                tracing::error!(%errno, "monitors aren't reaped any more");
                return;
            }
            for event in events {
                let ready = event.data.u64();
                if ready == key(&self.wake) {
                    return;
                }
                let mut monitors = self.monitors.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(monitor) = monitors.remove(&ready) {
                    // Closing the descriptor ends the waiting for it.
                    let _ = waitid(WaitId::PidFd(monitor.as_fd()), WaitIdOptions::EXITED);
                }
            }
        }
    }
}

fn key(fd: &OwnedFd) -> u64 {
    u64::from(fd.as_raw_fd().unsigned_abs())
}
