//! Starts monitors, talks to them, and reaps them.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kleene_command::spawn::{Companion, spawn};
use kleene_doors::frames::Frame;
use kleene_monitor::process::NOBODYS;
use kleene_monitor::proto::StartMessage;
use rustix::event::{EventfdFlags, PollFd, PollFlags, epoll, eventfd, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use crate::shared::monitors::{Monitored, Refused, tell, wait_for_start};

/// How long after a start the next spare monitor is made: by then the process runs, or has ended, and
/// whoever waited for it has heard.
const PAUSE: Duration = Duration::from_millis(3);

/// Starts monitors, and keeps one that is ready: its program need not be loaded when somebody waits
/// for a process to start.
pub struct Monitors {
    shared: Arc<Kept>,
}

struct Kept {
    program: OwnedFd,
    reaper: Reaper,
    state: Mutex<KeptState>,
    changed: Condvar,
}

#[derive(Default)]
struct KeptState {
    spare: Option<Waiting>,
    /// One more is to be started.
    wanted: bool,
    over: bool,
}

impl Monitors {
    /// Starts the threads that reap monitors and start spare ones. `program` is the monitor's, open.
    ///
    /// # Errors
    /// Threads or descriptors are used up.
    pub fn new(program: OwnedFd) -> io::Result<Self> {
        let shared = Arc::new(Kept {
            program,
            reaper: Reaper::new()?,
            state: Mutex::new(KeptState {
                wanted: true,
                ..KeptState::default()
            }),
            changed: Condvar::new(),
        });
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("spare".to_owned())
            .stack_size(128 << 10);
        thread.spawn(move || its.keep_one())?;
        Ok(Self { shared })
    }

    /// Has a monitor start a process. If that fails, the monitor has ended when this returns.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn start(&self, message: &StartMessage) -> Result<Monitored, Refused> {
        let order = serde_json::to_vec(message).map_err(io::Error::other)?;
        let order = Frame::Start(order).encode();
        let monitor = self.told(&order)?;
        let answer = wait_for_start(&monitor.control);
        self.shared.want_one();
        match answer {
            Ok(pid) => Ok(Monitored {
                pid,
                control: monitor.control,
                attached: message.request.attach.then_some(monitor.attached),
            }),
            Err(refused) => {
                // It has ended or is ending by itself, or hangs; its process dies with it.
                monitor.end()?;
                Err(refused)
            }
        }
    }

    /// A monitor that has its order.
    fn told(&self, order: &[u8]) -> io::Result<Waiting> {
        if let Some(spare) = self.shared.lock().spare.take() {
            match tell(&spare.control, order) {
                Ok(()) => return Ok(spare),
                // Somebody has ended it while it waited. It has understood nothing of the order.
                Err(problem) => {
                    tracing::debug!(%problem, "a spare monitor is of no use");
                    spare.end()?;
                }
            }
        }
        let monitor = self.shared.make()?;
        match tell(&monitor.control, order) {
            Ok(()) => Ok(monitor),
            Err(error) => {
                monitor.end()?;
                Err(error)
            }
        }
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        // It ends when its control stream does.
        state.spare = None;
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, KeptState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> io::Result<Waiting> {
        Waiting::new(&self.program, &self.reaper)
    }

    fn want_one(&self) {
        self.lock().wanted = true;
        self.changed.notify_all();
    }

    /// Starts a monitor whenever there is none to spare, until nobody needs any.
    fn keep_one(&self) {
        let mut state = self.lock();
        while !state.over {
            if !std::mem::take(&mut state.wanted) || state.spare.is_some() {
                let waited = self.changed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            // Its making takes no time from others.
            thread::sleep(PAUSE);
            let made = self.make();
            state = self.lock();
            match made {
                Ok(_) if state.over => {}
                Ok(monitor) => state.spare = Some(monitor),
                // Whoever needs one then learns of it, or has more luck.
                Err(problem) => tracing::debug!(%problem, "there is no spare monitor"),
            }
        }
    }
}

/// A monitor that waits for its order. Without one it ends when this is dropped.
struct Waiting {
    process: OwnedFd,
    control: UnixStream,
    attached: UnixStream,
}

impl Waiting {
    fn new(program: &OwnedFd, reaper: &Reaper) -> io::Result<Self> {
        let (control, theirs) = UnixStream::pair()?;
        let (attached, their_attached) = UnixStream::pair()?;
        let mut monitor = spawn(Companion {
            program: Path::new(&format!("/proc/self/fd/{}", program.as_raw_fd())),
            argv: &["kleene-monitor", NOBODYS],
            // It goes to the execution instance's directory when it knows it.
            directory: Path::new("/"),
            stdin: theirs.into(),
            stdout: their_attached.into(),
        })?;
        match open(&monitor).and_then(|process| Ok((reaper.adopt(&monitor)?, process))) {
            Ok(((), process)) => Ok(Self {
                process,
                control,
                attached,
            }),
            Err(error) => {
                drop(monitor.kill());
                monitor.wait()?;
                Err(error)
            }
        }
    }

    /// Ends it, and waits until it has.
    fn end(self) -> io::Result<()> {
        match pidfd_send_signal(&self.process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        while let Err(errno) = poll(&mut ended, None) {
            if errno != Errno::INTR {
                return Err(errno.into());
            }
        }
        Ok(())
    }
}

/// A descriptor of a child that hasn't been reaped: its id can't have changed its meaning.
fn open(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no such process"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Reaps monitors when they end: one thread that sleeps until then.
struct Reaper {
    shared: Arc<Shared>,
}

struct Shared {
    epoll: OwnedFd,
    /// Written to when the thread is to end.
    wake: OwnedFd,
    monitors: Mutex<Adopted>,
}

/// Process descriptors by numbers that are never used again: a descriptor's own number may come to
/// mean another process while news of the first one is still on its way.
#[derive(Default)]
struct Adopted {
    last: u64,
    processes: HashMap<u64, OwnedFd>,
}

/// The number of [`Shared::wake`].
const WAKE: u64 = 0;

impl Reaper {
    /// Starts the thread.
    ///
    /// # Errors
    /// Threads or descriptors are used up.
    fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared {
            epoll,
            wake,
            monitors: Mutex::default(),
        });
        shared.await_readable(&shared.wake, WAKE)?;
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("reaper".to_owned())
            .stack_size(64 << 10);
        thread.spawn(move || its.reap())?;
        Ok(Self { shared })
    }

    /// Takes over a monitor that nobody else reaps.
    fn adopt(&self, monitor: &Child) -> io::Result<()> {
        let process = open(monitor)?;
        let mut monitors = self.shared.lock();
        monitors.last += 1;
        let key = monitors.last;
        self.shared.await_readable(&process, key)?;
        monitors.processes.insert(key, process);
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
    fn lock(&self) -> MutexGuard<'_, Adopted> {
        self.monitors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_readable(&self, fd: &OwnedFd, key: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key);
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
                if errno == Errno::INTR {
                    continue;
                }
                tracing::error!(%errno, "monitors aren't reaped any more");
                return;
            }
            for event in events {
                let ready = event.data.u64();
                if ready == WAKE {
                    return;
                }
                let ended = self.lock().processes.remove(&ready);
                if let Some(monitor) = ended {
                    self.take(&monitor);
                }
            }
        }
    }

    /// Reaps a process that has ended.
    fn take(&self, monitor: &OwnedFd) {
        // Closing the descriptor isn't enough: a program that is being started at this moment has a
        // copy of it, and would keep the waiting alive.
        if let Err(problem) = epoll::delete(&self.epoll, monitor) {
            tracing::debug!(%problem, "a monitor that has ended is still waited for");
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        if let Err(problem) = waitid(WaitId::PidFd(monitor.as_fd()), options) {
            tracing::debug!(%problem, "a monitor that has ended isn't reaped");
        }
    }
}
