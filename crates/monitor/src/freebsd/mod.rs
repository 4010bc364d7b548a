//! FreeBSD: containers are jails, which the daemon makes and the new process attaches itself to.
//!
//! The process is known by a descriptor (`pdfork(2)`): its id can't come to mean another one, its end
//! can be awaited, and it dies with the monitor.

pub mod sys;

mod child;
mod jail;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use kleene_doors::host::{Place, StartRequest};
use kleene_types::{ExecId, Init};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::channel;
use crate::failure::{OrFail, Started, setup};
use crate::pipes;
use crate::process::Running;
pub(crate) use crate::proto::JailStart as Message;
use crate::status::Status;
use jail::Jail;
use sys::Forked;

/// A process, by a descriptor that can't come to mean another one.
pub(crate) struct Process {
    descriptor: OwnedFd,
    pid: Pid,
}

impl Process {
    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        sys::pdkill(&self.descriptor, signal)
    }

    /// The exit code, once the process has ended; then it is reaped. As shells count: 128 and the
    /// signal's number when a signal ended it.
    pub(crate) fn exit_code(&self) -> io::Result<Option<i32>> {
        let ended = loop {
            match waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        Ok(ended.map(
            |(_, status)| match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => code,
                (None, Some(signal)) => 128 + signal,
                (None, None) => -1,
            },
        ))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What is around the process: the jail, if its end is this process's affair.
pub(crate) struct Surroundings {
    jail: Option<Jail>,
    init: Init,
}

impl Surroundings {
    fn of(request: &StartRequest, jail: Jail) -> Self {
        match &request.place {
            Place::New(setup) => Self {
                jail: Some(jail),
                init: setup.init,
            },
            Place::Running { .. } => Self {
                jail: None,
                init: Init::None,
            },
        }
    }

    /// Takes notice of the process's end: where it is the container's, nothing else goes on there.
    pub(crate) fn process_has_ended(&mut self) -> io::Result<()> {
        match (&self.jail, self.init) {
            (Some(jail), Init::None | Init::Main) => jail.remove(),
            _ => Ok(()),
        }
    }

    /// Whether all has ended that the process's end was to wait for: the kernel removes a jail with its
    /// last process.
    pub(crate) fn are_over(&self) -> io::Result<bool> {
        self.jail
            .as_ref()
            .map_or(Ok(true), |jail| Ok(!jail.is_there()?))
    }

    /// Memory that a limit denies is an error to the process, which isn't killed: see rctl(8).
    pub(crate) fn out_of_memory(&self) -> bool {
        false
    }
}

/// Makes the monitor uninteresting to others.
pub(crate) fn settle() -> io::Result<()> {
    sys::refuse_tracing()
}

/// Shows in lists of processes which execution instance this is.
pub(crate) fn show(exec: &ExecId) {
    sys::set_title(exec.as_str());
}

/// Starts the process in its jail.
pub(crate) fn start(message: Message, listener: UnixListener) -> Started<Running> {
    let Message {
        request,
        jid,
        devfs,
        persists,
        ..
    } = message;
    if request.process.tty && !devfs {
        return Err(setup(
            "a terminal needs a /dev, which the container has not got: leave out the jail parameter \
             mount.nodevfs, or the terminal",
        ));
    }
    let jail = Jail::new(jid);
    let is_new = matches!(request.place, Place::New(_));
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .or_fail(|| "opening /dev/null".to_owned())?;
    let (streams, pipes) = pipes::make(&request.process)?;
    let (ours, theirs) = channel::pair().or_fail(|| "making a channel".to_owned())?;
    // SAFETY: the monitor has one thread.
    let forked = unsafe { sys::pdfork() }.or_fail(|| "making a process".to_owned())?;
    let process = match forked {
        Forked::Child => {
            drop((ours, pipes, listener));
            let prepared = child::Prepared {
                jail,
                process: request.process,
                streams,
                null,
                is_new,
            };
            child::run(prepared, &theirs)
        }
        // From here on an early end closes the descriptor, and the kernel kills and reaps.
        Forked::Parent { pid, descriptor } => Process { descriptor, pid },
    };
    drop((theirs, streams, null));
    let status = Status {
        container: request.container.clone(),
        pid: process.pid.as_raw_nonzero().get().cast_unsigned(),
        start_time: 0,
        boot_id: String::new(),
        exit: None,
        left: false,
    };
    status
        .write(Path::new(""))
        .or_fail(|| "recording the new process".to_owned())?;
    let terminal = channel::wait(&ours)?;
    let surroundings = Surroundings::of(&request, jail);
    if is_new && !persists {
        jail.end_with_last_process()
            .or_fail(|| "binding the jail to its processes".to_owned())?;
    }
    let streams = pipes
        .relayed(process, terminal)
        .or_fail(|| "relaying the standard streams".to_owned())?;
    Ok(Running {
        streams,
        listener,
        status,
        surroundings,
    })
}
