//! Process 1 of a container with an init of its own: [`kleene_types::Init`].
//!
//! It is a copy of the monitor, confined as the container's main process is. It executes nothing: it
//! has no file open, its memory is out of reach for the container's processes (it isn't dumpable),
//! and what they may find as its program is a sealed copy (see [`crate::linux::sealed`]).
//!
//! Signals are blocked and waited for. `SIGKILL` and `SIGSTOP` alone can't be passed on.

use std::io;
use std::ops::Range;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::failure::{OrFail, SETUP, Started};
use crate::linux::sys;

/// Its name in lists of processes.
const NAME: &std::ffi::CStr = c"kleene-init";

/// How often it looks whether processes are left that have joined the container: they aren't its
/// children, so nobody tells it.
const PAUSE: Duration = Duration::from_millis(100);

/// Whose end is that of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// The main process's.
    Main,
    /// The last process's.
    All,
}

/// What is to become process 1.
pub(crate) struct FirstProcess {
    lifetime: Lifetime,
    /// Where in memory the process's arguments lie.
    arguments: Range<usize>,
}

impl FirstProcess {
    /// Looks around, while `/proc` is the host's.
    pub(crate) fn new(lifetime: Lifetime) -> io::Result<Self> {
        Ok(Self {
            lifetime,
            arguments: own_arguments()?,
        })
    }

    /// Splits the calling process in two: it becomes process 1 for good, and a new one, its child in
    /// a session of its own, returns from here.
    pub(crate) fn split(&self) -> Started<()> {
        let failed = || "making the container's main process beside its init".to_owned();
        self.take_cover().or_fail(failed)?;
        // SAFETY: the process has one thread.
        match unsafe { sys::fork() }.or_fail(failed)? {
            None => {
                rustix::process::setsid().or_fail(failed)?;
                sys::reset_signals().or_fail(failed)
            }
            Some(main) => {
                withdraw();
                Household::new(self.lifetime, main).keep()
            }
        }
    }

    /// Makes the process what process 1 is to be. The new one is so, too, until it executes its
    /// program.
    fn take_cover(&self) -> io::Result<()> {
        sys::hide_from_others()?;
        rustix::thread::set_name(NAME)?;
        // SAFETY: they lie there, and nothing reads them any more.
        unsafe { sys::rename(self.arguments.clone(), NAME.to_bytes()) };
        sys::catch_signals()
    }
}

/// Gives up whatever the main process has need of, or others could make use of.
fn withdraw() {
    // It is as good anywhere in the container.
    let _ = rustix::process::chdir(c"/");
    // SAFETY: this process never returns to where its descriptors are owned.
    if unsafe { sys::close_range(0, false) }.is_err() {
        sys::exit(SETUP);
    }
}

/// Where in memory this process's arguments lie; `/proc` must be the host's.
pub(crate) fn own_arguments() -> io::Result<Range<usize>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    Ok(arguments(&stat).unwrap_or_default())
}

/// Fields 48 and 49 of `/proc/PID/stat`, see `proc_pid_stat(5)`.
fn arguments(stat: &str) -> Option<Range<usize>> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_whitespace().skip(45);
    let start = fields.next()?.parse().ok()?;
    Some(start..fields.next()?.parse().ok()?)
}

/// The container's processes, as process 1 sees them.
struct Household {
    lifetime: Lifetime,
    main: Pid,
    /// How the main process has ended, as an exit code.
    ended: Option<i32>,
    /// Whether children are left.
    has_children: bool,
    /// Whether the container has been asked to end.
    asked: bool,
}

impl Household {
    fn new(lifetime: Lifetime, main: Pid) -> Self {
        Self {
            lifetime,
            main,
            ended: None,
            has_children: true,
            asked: false,
        }
    }

    /// Passes signals on and reaps, until the container's end. The kernel ends what is left then.
    fn keep(mut self) -> ! {
        loop {
            self.reap();
            if let Some(code) = self.ended
                && self.is_over()
            {
                sys::exit(code);
            }
            let limit = (!self.has_children).then_some(PAUSE);
            match sys::wait_for_signal(limit) {
                None | Some(libc::SIGCHLD) => {}
                Some(signal) => self.pass_on(signal),
            }
        }
    }

    /// Takes notice of every child that has ended: its own and the orphans.
    fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                // Later, its id may come to be another one's.
                Ok(Some((child, status))) if child == self.main && self.ended.is_none() => {
                    self.ended = Some(code(status));
                    if self.asked && self.lifetime == Lifetime::All {
                        // What the main process has left behind is to end, too.
                        drop(sys::kill_others(libc::SIGTERM));
                    }
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                left => {
                    self.has_children = left.is_ok();
                    return;
                }
            }
        }
    }

    /// Whether nobody is left whose end is waited for, once the main process has ended.
    fn is_over(&self) -> bool {
        let nobody = |error: io::Error| error.raw_os_error() == Some(libc::ESRCH);
        match self.lifetime {
            Lifetime::Main => true,
            Lifetime::All => sys::kill_others(0).is_err_and(nobody),
        }
    }

    /// To the main process; once it has ended, to all.
    fn pass_on(&mut self, signal: i32) {
        self.asked |= signal == libc::SIGTERM;
        // They may have ended meanwhile.
        drop(match self.ended {
            None => sys::kill(self.main, signal),
            Some(_) => sys::kill_others(signal),
        });
    }
}

/// As shells count: 128 and the signal's number when a signal ended the process.
fn code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_found_in_memory() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let found = arguments(&stat).unwrap();
        let length = std::fs::read("/proc/self/cmdline").unwrap().len();
        assert_eq!(found.end - found.start, length);
        assert_eq!(arguments("1 (a) S 1"), None);
    }
}
