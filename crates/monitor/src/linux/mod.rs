//! Linux: containers are made of namespaces and control groups.

pub mod nursery;
pub mod root;
pub mod sealed;
pub mod sys;

mod cgroup;
mod child;
mod confine;
mod dev;
mod init;
mod mounts;
mod oci;
mod outside;
mod prepare;
mod start;
mod view;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kleene_types::ExecId;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

pub use self::dev::is_device;
pub(crate) use self::start::start;
pub(crate) use crate::proto::StartMessage as Message;

/// A process, by a descriptor that can't come to mean another one.
pub(crate) struct Process(OwnedFd);

impl Process {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(&self.0, signal)
    }

    /// The exit code, once the process has ended; then it is reaped. As shells count: 128 and the
    /// signal's number when a signal ended it.
    pub(crate) fn exit_code(&self) -> io::Result<Option<i32>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.0.as_fd()), options)?;
        Ok(status.as_ref().map(code))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn code(status: &WaitIdStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => -1,
    }
}

/// What is around the process: process 1's end is its container's, which the kernel sees to.
pub(crate) struct Surroundings(cgroup::OutOfMemory);

impl Surroundings {
    /// Takes notice of the process's end.
    pub(crate) fn process_has_ended(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether all has ended that the process's end was to wait for.
    pub(crate) fn are_over(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Whether a process of the container was killed for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.0.has_happened()
    }
}

/// Makes the monitor small and uninteresting to containers.
pub(crate) fn settle() -> io::Result<()> {
    sys::frugal_allocator();
    rustix::thread::set_name(c"kleene-monitor")?;
    sys::hide_from_others()
}

/// Shows in lists of processes which execution instance this is, and gives back what starting has
/// needed.
pub(crate) fn show(exec: &ExecId) {
    // Without `/proc` there are no lists.
    let arguments = init::own_arguments().unwrap_or_default();
    // SAFETY: they lie there, and nothing reads them any more.
    unsafe { sys::rename(arguments, format!("kleene-monitor {exec}").as_bytes()) };
    sys::trim_memory();
}
